"""`em_path`: the steps are those of textbook EM."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import bayesgmm as bg
from bayesgmm.priors import STRUCTURES
from tests.contract.test_refusals import FORM

FAITHFUL = bg.datasets.load_faithful()


@pytest.fixture(scope="module")
def path() -> xr.Dataset:
    return bg.em_path(FAITHFUL, 2, method="ml", random_seed=1)


def test_every_step_is_that_of_plain_em(path: xr.Dataset) -> None:
    X = FAITHFUL.to_numpy()
    w, means, covariances = (path[name].values for name in ("weights", "means", "covariances"))
    for t in range(path.sizes["iteration"] - 1):
        logs = np.stack([
            np.log(w[t, k]) + multivariate_normal(means[t, k], covariances[t, k]).logpdf(X)
            for k in range(2)
        ], axis=1)  # fmt: skip
        total = logsumexp(logs, axis=1)
        r = np.exp(logs - total[:, None])
        assert path["objective"].values[t] == pytest.approx(total.sum(), rel=1e-10)
        assert path["log_likelihood"].values[t] == pytest.approx(total.sum(), rel=1e-10)
        np.testing.assert_allclose(path["responsibilities"].values[t], r, rtol=1e-7, atol=1e-12)
        n = r.sum(axis=0)
        np.testing.assert_allclose(w[t + 1], n / len(X), rtol=1e-7)
        np.testing.assert_allclose(means[t + 1], (r.T @ X) / n[:, None], rtol=1e-7)
        for k in range(2):
            centred = X - means[t + 1, k]
            due = (r[:, k, None] * centred).T @ centred / n[k]
            np.testing.assert_allclose(covariances[t + 1, k], due, rtol=1e-6)


def test_it_ends_where_fit_ends(path: xr.Dataset) -> None:
    tree = bg.fit(FAITHFUL, 2, method="ml", random_seed=1)
    assert path.attrs["status"] == "converged"
    best = tree["sample_stats"]["lp"].item()
    assert path["objective"].values[-1] == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("method", ["map", "ml"])
def test_the_objective_never_falls(structure: str, method: str) -> None:
    spec = bg.GaussianMixture(3, covariance=bg.LKJCovariance(structure=structure))
    path = bg.em_path(FAITHFUL, spec, method=method, random_seed=3, n_iterations=40)
    objective = path["objective"].values
    assert len(objective) > 5
    assert (np.diff(objective) > -1e-8).all()
    same = np.isclose(objective, path["log_likelihood"], rtol=1e-12, atol=0.0)
    assert (same if method == "ml" else ~same).all()


def test_labels_are_those_of_the_data() -> None:
    frame = FAITHFUL.rename(index=lambda i: f"eruption {i}")
    path = bg.em_path(frame, 2, random_seed=1, n_iterations=3)
    assert path["X"].dims == ("obs", "feature")
    assert path["responsibilities"].dims == ("iteration", "obs", "component")
    assert path["means"].dims == ("iteration", "component", "feature")
    assert path["obs"].values[:2].tolist() == ["eruption 0", "eruption 1"]
    assert path["feature"].values.tolist() == path["feature2"].values.tolist() == list(frame)
    np.testing.assert_array_equal(path["X"], frame)
    assert path.sizes["iteration"] == 4
    assert path.attrs["status"] == "stopped"


def test_starts() -> None:
    X = FAITHFUL.to_numpy()
    given = [[2.0, 80.0], [2.5, 85.0]]
    path = bg.em_path(X, 2, start=given, n_iterations=1)
    np.testing.assert_allclose(path["means"][0], given)
    np.testing.assert_allclose(path["weights"][0], 0.5)
    np.testing.assert_allclose(path["covariances"][0, 1], np.diag(X.var(axis=0)), rtol=1e-9)
    random = bg.em_path(X, 3, random_seed=1, n_iterations=1)["means"].values[0]
    assert all(np.isclose(mean, X).all(axis=1).any() for mean in random)
    one, again, other = (
        bg.em_path(X, 3, start="kmeans", random_seed=seed, n_iterations=1) for seed in (1, 1, 2)
    )
    assert one.identical(again)
    assert not np.array_equal(one["means"], other["means"])
    tight = one["objective"].values[0]
    assert tight > bg.em_path(X, 3, random_seed=1, n_iterations=1)["objective"].values[0]


def test_a_component_that_collapses_ends_the_path(rng: np.random.Generator) -> None:
    X = np.concatenate([rng.normal(size=30), [1000.0]])
    path = bg.em_path(X, 2, method="ml", start=[[0.0], [1000.0]])
    assert path.attrs["status"] == "collapsed"
    assert np.isfinite(path["objective"]).all()
    kept = bg.em_path(X, 2, method="map", start=[[0.0], [1000.0]])
    assert kept.attrs["status"] == "converged"


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "method": ({"method": "nuts"}, ValueError, "`method` must be one of 'map', 'ml'; got 'nuts'"),
    "start": ({"start": "kmean"}, ValueError, "`start` must be one of .*Did you mean 'kmeans'"),
    "few means": ({"start": [[1.0, 2.0]]}, ValueError, r"shape \(2, 2\); got shape \(1, 2\)"),
    "words": ({"start": [["a", "b"]]}, TypeError, "`start` must be 'random', 'kmeans' or an array"),
    "nan": (
        {"start": [[1.0, 2.0], [3.0, np.nan]]}, ValueError, "got nan at component 1, feature 1",
    ),
    "iterations": ({"n_iterations": 0}, ValueError, "`n_iterations` must be at least 1; got 0"),
    "spec": ({"spec": "two"}, TypeError, "`spec` must be a GaussianMixture or a number"),
    "learnt": (
        {"spec": bg.GaussianMixture(bg.PriorOnComponents())}, ValueError,
        "`n_components` must be an integer here",
    ),
    "rows": ({"X": FAITHFUL[:1]}, ValueError, "`X` must"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "error", "match"), BAD.values(), ids=BAD)
def test_what_makes_no_sense_is_refused(
    arguments: dict[str, Any], error: type[Exception], match: str
) -> None:
    good: dict[str, Any] = {"X": pd.DataFrame(FAITHFUL), "spec": 2}
    with pytest.raises(error, match=match) as caught:
        bg.em_path(**good | arguments)
    assert FORM.match(str(caught.value))
