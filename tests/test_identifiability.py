"""Which components can be read, on fits that are made to be clear or not."""

import warnings
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.stats import multivariate_normal

import bayesgmm as bg
from tests.synthetic import random_fit


def around(
    rng: np.random.Generator,
    X: np.ndarray,
    means: list[list[float]],
    weights: list[float],
    noise: float = 0.01,
) -> xr.DataTree:
    """Return a fit of 40 draws around components of unit scale."""
    shape, n_components = (2, 20), len(means)
    unit = np.broadcast_to(np.eye(2), (*shape, n_components, 2, 2)).copy()
    posterior = {
        "weights": np.broadcast_to(weights, (*shape, n_components)).copy(),
        "means": np.array(means) + noise * rng.normal(size=(*shape, n_components, 2)),
        "scales": np.ones((*shape, n_components, 2)),
        "correlations": unit,
        "covariances": unit.copy(),
    }
    return random_fit(
        X, rng, n_components=n_components, chains=2, draws=20, posterior=posterior
    )


@pytest.fixture
def X(rng: np.random.Generator) -> np.ndarray:
    """Forty rows around (-5, 0), and sixty around (5, 0)."""
    return np.vstack([rng.normal(size=(40, 2)) - [5, 0], rng.normal(size=(60, 2)) + [5, 0]])


def warned(tree: xr.DataTree) -> tuple[xr.Dataset, str]:
    """Return a report and the warning that came with it."""
    with pytest.warns(bg.IdentifiabilityWarning, match="Single components are not to be") as caught:
        report = bg.alignment_report(tree)
    return report, str(caught[0].message)


def test_clear_components_are_trusted(X: np.ndarray, rng: np.random.Generator) -> None:
    report = bg.alignment_report(around(rng, X, [[-5, 0], [5, 0]], [0.4, 0.6]))
    assert report["trusted"].values.all()
    np.testing.assert_allclose(report["expected_rows"], [40, 60], rtol=1e-3)
    np.testing.assert_array_equal(report["nearest"], [1, 0])
    assert report["overlap"].values.max() < 1e-3
    assert report["occupied"].values.min() > 0.999
    assert (report["tied"] == 0).all()
    np.testing.assert_allclose(report["margin"], 1.0)
    assert report.attrs["rows"] == 100


def test_components_on_one_cluster_are_named(X: np.ndarray, rng: np.random.Generator) -> None:
    report, message = warned(around(rng, X, [[-5, 0], [5, 0], [5, 0.1]], [0.4, 0.4, 0.2], 0.3))
    assert "components 1 and 2 share one cluster (overlap" in message
    assert message.count("share one cluster") == 1
    np.testing.assert_array_equal(report["trusted"], [True, False, False])
    np.testing.assert_array_equal(report["nearest"].values[1:], [2, 1])
    assert report["overlap"].values[1] > 0.8
    assert "component 0" not in message


@pytest.mark.parametrize("n_components", [2, 3, 5])
@pytest.mark.parametrize("share", [0.5, 0.1])
def test_overlap_is_one_for_components_that_are_the_same(
    n_components: int, share: float, rng: np.random.Generator
) -> None:
    rest = (1.0 - share) / (n_components - 1)
    weights = [share, *[rest] * (n_components - 1)]
    tree = around(rng, rng.normal(size=(50, 2)), [[0, 0]] * n_components, weights, noise=0.0)
    report, _ = warned(tree)
    np.testing.assert_allclose(report["overlap"], 1.0, rtol=1e-9)


def test_overlap_against_the_formula(X: np.ndarray, rng: np.random.Generator) -> None:
    tree = around(rng, X, [[-1, 0], [2, 0], [0, 2]], [0.5, 0.3, 0.2], noise=0.2)
    report, _ = warned(tree)
    posterior = tree["posterior"].dataset.stack(sample=("chain", "draw"))
    share = np.empty((40, 3, 100))
    for s, k in np.ndindex(40, 3):
        of = posterior.isel(sample=s, component=k)
        share[s, k] = of["weights"].item() * multivariate_normal(of["means"].values).pdf(X)
    share /= share.sum(axis=1, keepdims=True)
    rows = share.sum(axis=2).mean(axis=0)
    np.testing.assert_allclose(report["expected_rows"], rows, rtol=1e-9)
    both = np.array([
        [(share[:, j] * share[:, k] / (share[:, j] + share[:, k])).sum() / 40 for k in range(3)]
        for j in range(3)
    ])  # fmt: skip
    overlap = both * (1.0 / rows[:, None] + 1.0 / rows)
    np.fill_diagonal(overlap, 0.0)
    np.testing.assert_allclose(report["overlap"], overlap.max(axis=1), rtol=1e-9)
    np.testing.assert_array_equal(report["nearest"], overlap.argmax(axis=1))
    np.testing.assert_allclose(
        report["occupied"], 1.0 - np.prod(1.0 - share, axis=2).mean(axis=0), rtol=1e-9
    )


def test_empty_components_are_named(X: np.ndarray, rng: np.random.Generator) -> None:
    """In every draw; the others can be read."""
    report, message = warned(around(rng, X, [[-5, 0], [0, 900], [5, 0]], [0.39, 0.01, 0.6]))
    assert "component 1 has no rows in 100% of the allocations" in message
    np.testing.assert_array_equal(report["trusted"], [True, False, True])
    assert report["occupied"].values[1] == 0.0
    assert report["expected_rows"].values[1] == 0.0
    assert all(np.isfinite(report[name].values).all() for name in report.data_vars)


def test_all_components_but_one_are_empty(X: np.ndarray, rng: np.random.Generator) -> None:
    tree = around(rng, X, [[0, 900], [0, 0], [900, 0]], [0.01, 0.98, 0.01])
    report, message = warned(tree)
    assert message.count("has no rows in 100%") == 2
    np.testing.assert_array_equal(report["trusted"], [False, True, False])


def test_ties_are_named(X: np.ndarray, rng: np.random.Generator) -> None:
    """Half the draws have the components the other way round, and were not aligned."""
    tree = around(rng, X, [[-5, 0], [5, 0]], [0.4, 0.6])
    means = tree["posterior"]["means"].values
    means[1, :8] = means[1, :8, ::-1].copy()
    report, message = warned(tree)
    assert "component 0 is nearly a tie in 20% of the draws" in message
    np.testing.assert_allclose(report["tied"], 0.2)
    assert bg.alignment_report(bg.align(tree))["trusted"].values.all()


def test_a_small_cluster_can_be_clear(rng: np.random.Generator) -> None:
    """Margins are of a component's own rows: two clusters of a hundredth are no tie."""
    X = rng.normal(size=(400, 2))
    X[:3] += [30, 0]
    X[3:6] -= [30, 0]
    tree = bg.align(around(rng, X, [[-30, 0], [0, 0], [30, 0]], [0.01, 0.98, 0.01]))
    assert tree["alignment"]["margin"].values.max() < 0.02
    assert bg.alignment_report(tree)["trusted"].values.all()


@pytest.mark.parametrize("n_obs", [1, 30])
def test_one_component_is_always_clear(n_obs: int, rng: np.random.Generator) -> None:
    tree = random_fit(rng.normal(size=(30, 2)), rng, n_components=1).isel(obs=slice(n_obs))
    report = bg.alignment_report(tree)
    assert report["trusted"].values.all()
    assert report["overlap"].values == 0.0
    assert report["nearest"].values == 0
    assert report["margin"].values == 1.0


def test_points_that_are_all_the_same(X: np.ndarray, rng: np.random.Generator) -> None:
    tree = around(rng, X, [[-5, 0], [5, 0]], [0.4, 0.6])
    tree["observed_data"]["X"].values[:] = 0.0
    report, _ = warned(tree)
    assert not report["trusted"].values.any()


def test_labels_of_components_and_large_data(X: np.ndarray, rng: np.random.Generator) -> None:
    tree = around(rng, np.tile(X, (60, 1)), [[-5, 0], [5, 0]], [0.4, 0.6])
    report = bg.alignment_report(tree)
    assert report.attrs["rows"] == 3000
    np.testing.assert_allclose(report["expected_rows"], [2400, 3600], rtol=0.01)
    assert list(report.sizes) == ["component"]


@pytest.mark.parametrize("group", ["alignment", "observed_data", "constant_data"])
def test_what_is_needed_is_asked_for(group: str, X: np.ndarray, rng: np.random.Generator) -> None:
    tree = around(rng, X, [[-5, 0], [5, 0]], [0.4, 0.6])
    bare = tree.copy()
    del bare[group]
    with pytest.raises(ValueError, match=f"must hold the group '{group}' for `alignment_report`"):
        bg.alignment_report(bare)
    with pytest.raises(ValueError, match=r"`alignment_report`; .* by a list: isel\(draw=\[0\]\)"):
        bg.alignment_report(tree.isel(draw=0))


@pytest.mark.parametrize("method", ["map", "ml"])
def test_a_point_has_a_report_too(method: Any, X: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = bg.fit(X, 2, method=method, random_seed=1, progressbar=False)
        assert bg.alignment_report(tree)["trusted"].values.all()
