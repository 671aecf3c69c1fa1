"""Fits averaged: the densities they weigh, what else is averaged, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.special import logsumexp

import bayesgmm as bg
from bayesgmm import averaging as module
from bayesgmm.averaging import _apportioned
from bayesgmm.selection import Selection
from tests.contract.test_refusals import FORM
from tests.synthetic import random_fit, random_parameters

X = np.random.default_rng(7).normal(size=(40, 2)) * [1.0, 3.0]
NEW = np.random.default_rng(8).normal(size=(9, 2)) * [2.0, 6.0]


def certain(n_components: int, chains: int = 2, draws: int = 40, **given: Any) -> xr.DataTree:
    """Return a fit whose draws are all the same, so that any of them stand for all."""
    rng = np.random.default_rng(n_components)
    drawn = random_parameters(rng, (1, 1), n_components, 2)
    posterior = {
        name: np.broadcast_to(values, (chains, draws, *values.shape[2:])).copy()
        for name, values in drawn.items()
    }
    arguments = {"n_components": n_components, "chains": chains, "draws": draws, **given}
    return random_fit(X, rng, posterior=posterior, **arguments)


@pytest.fixture(scope="module")
def trees() -> dict[Any, xr.DataTree]:
    return {(k, "full"): certain(k) for k in (1, 2, 3)}


@pytest.fixture(scope="module")
def averaged(trees: dict[Any, xr.DataTree]) -> xr.DataTree:
    return bg.average(trees, [0.25, 0.125, 0.625], random_seed=1)


def test_the_density_is_the_weighted_one(
    trees: dict[Any, xr.DataTree], averaged: xr.DataTree
) -> None:
    each = np.stack([bg.score_samples(tree, NEW).values for tree in trees.values()])
    expected = logsumexp(each + np.log([[0.25], [0.125], [0.625]]), axis=0)
    np.testing.assert_allclose(bg.score_samples(averaged, NEW), expected, rtol=1e-12)


def test_what_does_not_depend_on_labels_is_averaged_too(
    trees: dict[Any, xr.DataTree], averaged: xr.DataTree
) -> None:
    each = [bg.similarity(tree).values for tree in trees.values()]
    expected = np.tensordot([0.25, 0.125, 0.625], each, 1)
    np.testing.assert_allclose(bg.similarity(averaged), expected, rtol=1e-10)


def test_draws_say_what_they_are_of(averaged: xr.DataTree) -> None:
    posterior = averaged.posterior
    number = posterior["n_components"].values
    for row in number:  # of every chain
        assert np.bincount(row).tolist() == [0, 10, 5, 25]
    np.testing.assert_array_equal((posterior["weights"].values > 0.0).sum(axis=-1), number)
    np.testing.assert_allclose(posterior["weights"].sum("component"), 1.0)
    assert (posterior["n_clusters"] <= posterior["n_components"]).all()
    assert (posterior["n_clusters"] >= 1).all()
    assert json.loads(averaged.attrs["averaged"]) == {
        "1, full": 0.25, "2, full": 0.125, "3, full": 0.625,
    }  # fmt: skip
    assert averaged.attrs["method"] == "average"


def test_parameters_are_finite_where_weights_are_zero(averaged: xr.DataTree) -> None:
    for name in ("means", "scales", "correlations", "covariances"):
        assert np.isfinite(averaged.posterior[name].values).all()
    assert (averaged.posterior["scales"].values > 0.0).all()


def test_many_rows_are_counted_some_draws_at_a_time(
    trees: dict[Any, xr.DataTree], averaged: xr.DataTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LABEL_BYTES", 4 * 2 * 40 * 7)
    blocked = bg.average(trees, [0.25, 0.125, 0.625], random_seed=1)
    found, expected = (tree.posterior["n_clusters"] for tree in (blocked, averaged))
    number = averaged.posterior["n_components"].values
    np.testing.assert_array_equal(found.values[number == 1], 1)
    # the same law: each mean within five standard errors of a number between 1 and 3
    assert abs(float(found.mean() - expected.mean())) < 5.0 * 1.0 * np.sqrt(2.0 / 80)


def test_fits_are_mixed_evenly_along_every_chain() -> None:
    which = _apportioned(np.array([0.5, 0.5]), 3, 100)
    for start in (0, 50):
        assert np.bincount(which[:, start : start + 50].ravel()).tolist() == [75, 75]


@pytest.mark.parametrize("shares", [[1.0], [0.1, 0.9], [1e-9, 1.0 - 1e-9], [0.3, 0.3, 0.4]])
def test_weights_are_met_to_within_a_draw(shares: list[float]) -> None:
    which = _apportioned(np.array(shares), 3, 7)
    counts = np.bincount(which.ravel(), minlength=len(shares))
    assert np.abs(counts - 21.0 * np.array(shares)).max() <= 1.0
    for row in which:
        found = np.bincount(row, minlength=len(shares))
        assert np.abs(found - 7.0 * np.array(shares)).max() <= 1.0 + 1.0 / 3.0


def test_draws_are_spread_over_all_of_a_fit() -> None:
    rng = np.random.default_rng(1)
    trees = {k: random_fit(X, rng, n_components=1, draws=40) for k in (1, 2)}
    made = bg.average(trees, [0.5, 0.5])
    lp = [tree.sample_stats["lp"].values for tree in trees.values()]
    for chain in range(2):
        found = made.sample_stats["lp"].values[chain]
        assert set(found) == {*lp[0][chain, 1::2], *lp[1][chain, 1::2]}


def test_all_of_one_fit_is_that_fit(trees: dict[Any, xr.DataTree]) -> None:
    for weights in ([0.0, 1.0, 0.0], {**dict.fromkeys(trees, 0), (2, "full"): 1}):
        made = bg.average(trees, weights)
        assert made.posterior.sizes["component"] == 2
        np.testing.assert_array_equal(bg.score_samples(made), bg.score_samples(trees[2, "full"]))
    alone = bg.average({2: trees[2, "full"]})
    assert json.loads(alone.attrs["averaged"]) == {"2": 1.0}


def test_as_many_draws_as_the_fewest() -> None:
    made = bg.average({1: certain(1, chains=3, draws=90), 2: certain(2)}, [0.5, 0.5])
    assert (made.posterior.sizes["chain"], made.posterior.sizes["draw"]) == (2, 40)


def test_it_can_be_saved(averaged: xr.DataTree, tmp_path: Path) -> None:
    bg.save(averaged, tmp_path / "average.nc")
    assert bg.load(tmp_path / "average.nc").identical(averaged)


def test_structures_may_differ() -> None:
    rng = np.random.default_rng(1)
    spec = bg.GaussianMixture(2, covariance=bg.LKJCovariance(structure="tied"))
    tied = random_fit(X, rng, specification=spec.resolve(X))
    made = bg.average({"full": certain(2), "tied": tied}, [0.5, 0.5])
    assert json.loads(made.attrs["specification"])["covariance"]["structure"] == "full"
    same = bg.average({"a": tied, "b": tied}, [0.5, 0.5])
    assert json.loads(same.attrs["specification"])["covariance"]["structure"] == "tied"


def test_what_needs_a_number_of_components_refuses_it(averaged: xr.DataTree) -> None:
    with pytest.raises(ValueError, match="known number of components for `log_evidence`"):
        bg.log_evidence(averaged)
    with pytest.raises(ValueError, match="an average already"):
        bg.average({1: averaged}, [1.0])


@pytest.fixture(scope="module")
def selected() -> Selection:
    X = bg.datasets.make_mixture(60, 2, 2, separation=2.0, random_seed=2)["X"]
    return bg.select(X, [1, 2], draws=60, tune=60, chains=2, random_seed=5, progressbar=False)


def test_weights_by_name_are_those_of_their_functions(selected: Selection) -> None:
    table, fits = selected.table, selected.fits
    for name, column in (("stacking", "weight"), ("evidence", "probability")):
        made = bg.average(fits, name, random_seed=5)
        found = json.loads(made.attrs["averaged"])
        expected = {f"{k}, {structure}": table[column][k, structure] for k, structure in fits}
        assert found == pytest.approx(expected, abs=1e-6)
        given = bg.average(fits, table[column], random_seed=5)
        np.testing.assert_array_equal(bg.score_samples(given), bg.score_samples(made))


def one(**given: Any) -> dict[Any, xr.DataTree]:
    return {1: certain(1), 2: certain(2), **given}


BAD: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "a tree": (certain(1), "stacking", TypeError, "`trees` must be a dict of fits; got .*DataTree"),
    "none": ({}, "stacking", ValueError, "`trees` must hold at least one fit; got none"),
    "no fit": ({1: 3}, "stacking", TypeError, r"`trees\[1\]` must be a fit.*type int"),
    "a point": (
        {1: random_fit(X, np.random.default_rng(1), chains=1, draws=1, method="map")},
        [1.0], ValueError, r"`trees\[1\]` must hold at least 30 draws.*'map'",
    ),
    "other rows": (
        {1: certain(1), 2: random_fit(X + 1.0, np.random.default_rng(1), draws=40)},
        [0.5, 0.5], ValueError, "fits of the same data; got 1 and 2, whose rows differ",
    ),
    "other labels": (
        {1: certain(1), 2: random_fit(pd.DataFrame(X, columns=["a", "b"]),
                                      np.random.default_rng(1), draws=40)},
        [0.5, 0.5], ValueError, "fits of the same data; got 1 and 2",
    ),
    "a name": (one(), "stackin", ValueError, "`weights` must be one of .*got 'stackin'.*mean 's"),
    "too few": (one(), [1.0], ValueError, r"a number for each of 2 fits; got shape \(1,\)"),
    "text": (one(), ["a", "b"], ValueError, "a number for each of 2 fits; got shape"),
    "negative": (one(), [1.5, -0.5], ValueError, "at least 0; got -0.5 for 2"),
    "not known": (one(), [np.nan, 1.0], ValueError, "at least 0; got nan for 1"),
    "sum": (one(), [0.5, 0.4], ValueError, r"`weights` must sum to 1; got 0\.9"),
    "missing": (one(), {1: 1.0}, ValueError, "one for every fit; got none for 2"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case: str) -> None:
    trees, weights, error, match = BAD[case]
    with pytest.raises(error, match=match) as caught:
        bg.average(trees, weights)
    assert FORM.match(str(caught.value).replace("[1]", "")), caught.value


def test_the_advice_for_rows_that_matter_too_much_is_one_that_an_average_can_take() -> None:
    x = np.append(np.random.default_rng(20261121).normal(0.0, 1.0, 40), 9.0)[:, None]
    tree = bg.fit(x, 2, draws=500, random_seed=7, progressbar=False)
    averaged = bg.average({"a": tree, "b": tree}, [0.5, 0.5], random_seed=1)
    with pytest.warns(UserWarning, match=r"reloo or kfold on each of the fits that are averaged"):
        bg.loo(averaged)
