"""Weights of rows: a row of weight 2 is the row twice, in everything that is said of a fit."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesgmm as bg
from bayesgmm.crossvalidation import leave_one_out
from bayesgmm.data import prepare
from bayesgmm.known_labels import with_labels
from bayesgmm.pointwise import log_likelihood_blocks
from bayesgmm.posterior_density import curvature, subset, whole
from bayesgmm.priors import STRUCTURES, rounding
from bayesgmm.problem import Problem
from bayesgmm.sample_weights import effective_rows, per_row, read_weights, stand_ins

type Array = np.ndarray

OBS = np.arange(4)


def rows(rng: np.random.Generator, n_obs: int = 90) -> tuple[Array, Array]:
    """Return rows of three clusters, and how often each is to count."""
    X = rng.normal(size=(n_obs, 2)) + 7.0 * np.array([[0, 0], [1, 0], [0, 1]])[np.arange(n_obs) % 3]
    return X, rng.integers(0, 4, n_obs)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("labelled", [False, True])
def test_the_log_posterior_is_that_of_the_rows_repeated(
    structure: str, labelled: bool, rng: np.random.Generator
) -> None:
    X, times = rows(rng)
    labels = np.where(rng.random(90) < 0.3, np.arange(90) % 3, -1) if labelled else np.full(90, -1)
    spec = bg.GaussianMixture(3, covariance=bg.LKJCovariance(structure=structure))
    weighted = Problem.make(spec, with_labels(prepare(X, sample_weight=times), labels, 3))
    again = with_labels(prepare(np.repeat(X, times, axis=0)), np.repeat(labels, times), 3)
    repeated = Problem.make(spec, again)
    np.testing.assert_allclose(weighted.unit, repeated.unit, rtol=1e-14)
    assert weighted.specification.means == repeated.specification.means
    for _ in range(5):
        vector = rng.normal(size=weighted.n_parameters)
        one, other = weighted.log_posterior(vector), repeated.log_posterior(vector)
        assert one[0] == pytest.approx(other[0], rel=0, abs=1e-10 * max(1.0, abs(other[0])))
        np.testing.assert_allclose(one[1], other[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", ["map", "ml"])
def test_points_are_those_of_the_rows_repeated(method: str, rng: np.random.Generator) -> None:
    X, times = rows(rng)
    given: dict[str, Any] = {"method": method, "random_seed": 1}
    weighted = bg.fit(X, 3, sample_weight=times, **given)
    repeated = bg.fit(np.repeat(X, times, axis=0), 3, **given)
    for name in ("weights", "means", "covariances"):
        got, wanted = weighted.posterior[name].values, repeated.posterior[name].values
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
    assert weighted.sample_stats["lp"].item() == pytest.approx(repeated.sample_stats["lp"].item())
    for criterion in (bg.bic, bg.aic, bg.icl):
        assert criterion(weighted) == pytest.approx(criterion(repeated), rel=1e-6)
    assert float(weighted.log_likelihood["X"].sum()) == pytest.approx(
        float(repeated.log_likelihood["X"].sum()), rel=1e-8
    )


def test_draws_are_those_of_the_rows_repeated(rng: np.random.Generator) -> None:
    X, times = rows(rng)
    given: dict[str, Any] = {"draws": 400, "chains": 2, "random_seed": 1, "progressbar": False}
    weighted = bg.fit(X, 3, sample_weight=times, **given)
    repeated = bg.fit(np.repeat(X, times, axis=0), 3, **given)
    for name in ("weights", "means", "scales"):
        one, other = (bg.summary(tree) for tree in (weighted, repeated))
        assert (one["ess_bulk"] > 200).all()
        error = np.hypot(one["mcse_mean"], other["mcse_mean"])
        assert (np.abs(one["mean"] - other["mean"]) < 5.0 * error).all(), name
    assert bg.log_evidence(weighted, random_seed=1).value == pytest.approx(
        bg.log_evidence(repeated, random_seed=1).value, abs=0.5
    )


def test_rows_of_weight_0_are_only_predicted(rng: np.random.Generator) -> None:
    X, _ = rows(rng)
    far = np.append(X, [[60.0, 60.0]], axis=0)
    weights = np.append(np.ones(90), 0.0)
    with_it = Problem.make(bg.GaussianMixture(3), prepare(far, sample_weight=weights))
    without = Problem.make(bg.GaussianMixture(3), prepare(X))
    vector = rng.normal(size=without.n_parameters)
    assert with_it.log_posterior(vector)[0] == pytest.approx(without.log_posterior(vector)[0])
    tree = bg.fit(
        far[::-1], 3, sample_weight=weights[::-1], draws=200, chains=2, random_seed=1,
        progressbar=False,
    )  # fmt: skip
    assert bg.predict_proba(tree).sizes["obs"] == 91
    assert np.isfinite(list(bg.check(tree).evidence.values())).all()
    assert not tree.log_likelihood["X"].isel(obs=0).values.any()
    loo = leave_one_out(tree, "tree", "loo", repair=False)
    assert loo.elpd_i.values[0] == 0.0
    assert np.isfinite(loo.elpd)


def test_effective_rows_are_kishs(rng: np.random.Generator) -> None:
    assert effective_rows(np.array([1.0, 1.0, 0.0])) == 2.0
    X, times = rows(rng)
    tree = bg.fit(X, 2, sample_weight=times, method="ml", random_seed=1)
    wanted = times.sum() ** 2 / (times**2).sum()
    assert tree.attrs["effective_rows"] == pytest.approx(wanted)
    assert "effective_rows" not in bg.fit(X, 2, method="ml", random_seed=1).attrs


def test_values_repeat_where_they_stand_for_two_rows() -> None:
    values = np.array([[0.0], [1.0], [3.0]])
    assert rounding(values, np.ones(3)) == rounding(values) == 0.0
    assert rounding(values, np.array([1.0, 2.0, 1.0])) == rounding(values[[0, 1, 1, 2]]) == 0.75
    twice = values[[0, 0, 1, 2]]
    assert rounding(twice, np.array([0.5, 0.5, 1.0, 1.0])) == 0.0


def test_weights_are_kept_with_the_fit(tmp_path: Path, rng: np.random.Generator) -> None:
    X, times = rows(rng)
    frame = pd.DataFrame(X, index=[f"r{i}" for i in range(90)], columns=["a", "b"])
    tree = bg.fit(
        frame, 3, sample_weight=pd.Series(times, frame.index), method="laplace", draws=50,
        random_seed=1,
    )  # fmt: skip
    bg.save(tree, tmp_path / "fit.nc")
    loaded = bg.load(tmp_path / "fit.nc")
    assert loaded.identical(tree)
    again = Problem.of_tree(loaded)
    vectors = again.vectors(bg.tree.parameters(loaded))
    assert whole(again)(vectors)[0] == pytest.approx(tree.sample_stats["lp"].values.ravel())
    assert list(loaded.constant_data["sample_weight"].obs.values[:2]) == ["r0", "r1"]


def test_log_likelihoods_in_blocks_are_the_stored_ones(rng: np.random.Generator) -> None:
    X, times = rows(rng)
    tree = bg.fit(X, 3, sample_weight=times, method="laplace", draws=60, random_seed=1)
    (only,) = log_likelihood_blocks(tree)
    stored = tree.log_likelihood["X"].values.reshape(-1, 90)
    np.testing.assert_allclose(only[1], stored, rtol=1e-9, atol=1e-9)


def test_some_rows_stand_for_all_with_their_weights(rng: np.random.Generator) -> None:
    X = np.concatenate([rng.normal(size=(3000, 2)), rng.normal(size=(3000, 2)) + 9.0])
    times = rng.integers(1, 4, 6000).astype(float)
    problem = Problem.make(bg.GaussianMixture(2), prepare(X, sample_weight=times))
    tree = bg.fit(X, 2, sample_weight=times, method="map", random_seed=1)
    mode = problem.unconstrain(bg.tree.parameters(tree))
    hessian = curvature(problem, mode)
    part, _ = subset(problem, mode, hessian, 500, rng)
    near = mode + 1e-3 * rng.normal(size=(1, mode.size))
    assert part(near)[0] == pytest.approx(whole(problem)(near)[0], abs=1e-2)


def test_fits_of_other_weights_are_not_compared(rng: np.random.Generator) -> None:
    X, times = rows(rng)
    given: dict[str, Any] = {"method": "laplace", "draws": 60, "random_seed": 1}
    trees = {"a": bg.fit(X, 2, **given), "b": bg.fit(X, 2, sample_weight=times, **given)}
    with pytest.raises(ValueError, match=r"differ: the weights of rows"):
        bg.compare(trees)


@pytest.fixture(scope="module")
def overlapping() -> tuple[Array, Array, xr.DataTree, xr.DataTree]:
    """Rows, how often each counts, and the same draws as of a fit to these and to them repeated."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(80, 2)) + np.where(np.arange(80) % 2, 1.7, 0.0)[:, None]
    times = rng.integers(0, 4, 80)
    given: dict[str, Any] = {"draws": 40, "chains": 2, "random_seed": 1, "progressbar": False}
    weighted = bg.fit(X, 3, sample_weight=times, **given)
    repeated = bg.fit(np.repeat(X, times, axis=0), 3, **given)
    for group in ("posterior", "alignment", "sample_stats"):
        repeated[group] = weighted[group]
    return X, times, weighted, repeated


@pytest.mark.parametrize("method", ["stephens", "ecr", "ecr_iterative", "parameters"])
def test_draws_are_aligned_as_with_the_rows_repeated(
    method: str, overlapping: tuple[Array, Array, xr.DataTree, xr.DataTree]
) -> None:
    _, times, weighted, repeated = overlapping
    one, other = bg.align(weighted, method), bg.align(repeated, method)
    xr.testing.assert_identical(one["posterior"].dataset, other["posterior"].dataset)
    margins = (tree["alignment"]["margin"] for tree in (one, other))
    np.testing.assert_allclose(*margins, rtol=1e-12, atol=1e-15)
    pivot = np.arange(80) % 3
    one, other = bg.align(weighted, pivot=pivot), bg.align(repeated, pivot=np.repeat(pivot, times))
    xr.testing.assert_identical(one["posterior"].dataset, other["posterior"].dataset)
    assert bg.align(weighted)["posterior"].dataset.identical(weighted["posterior"].dataset)


@pytest.mark.filterwarnings("ignore::bayesgmm.IdentifiabilityWarning")
def test_components_are_told_as_with_the_rows_repeated(
    overlapping: tuple[Array, Array, xr.DataTree, xr.DataTree],
) -> None:
    _, _, weighted, repeated = overlapping
    one, other = (bg.alignment_report(tree).drop_attrs() for tree in (weighted, repeated))
    xr.testing.assert_allclose(one, other, rtol=1e-9)
    for criterion in ("entropy", "misclassification"):
        one, other = (
            bg.merge_components(tree, criterion=criterion) for tree in (weighted, repeated)
        )
        xr.testing.assert_allclose(one, other, rtol=1e-9)


@pytest.mark.filterwarnings("ignore::bayesgmm.IdentifiabilityWarning")
def test_rows_of_weight_zero_count_nowhere(
    overlapping: tuple[Array, Array, xr.DataTree, xr.DataTree],
) -> None:
    X, times, weighted, _ = overlapping
    far = np.concatenate([X, X.mean(axis=0) + 30.0 * np.eye(2)[np.arange(50) % 2]])
    further = bg.fit(
        far, 3, sample_weight=np.append(times, np.zeros(50)), draws=40, chains=2, random_seed=1,
        progressbar=False,
    )  # fmt: skip
    for group in ("posterior", "alignment"):
        further[group] = weighted[group]
    assert bg.alignment_report(further).equals(bg.alignment_report(weighted))
    xr.testing.assert_identical(bg.merge_components(further), bg.merge_components(weighted))
    kept = np.flatnonzero(times)
    expected = bg.prior_clusters(bg.tree.specification(weighted), kept.size)
    for tree in (weighted, further):
        found = bg.n_clusters(tree, random_seed=1)
        np.testing.assert_allclose(found["prior_probability"], expected.values[:3])
        labels = bg.sample_allocations(tree, random_seed=1).values.reshape(80, -1)[:, kept]
        np.testing.assert_array_equal(found["occupied"], [len(set(draw)) for draw in labels])


def test_what_stands_for_weighted_rows() -> None:
    times = np.array([3.0, 0.0, 1.0, 2.0])
    assert stand_ins(times, 10).tolist() == [0, 0, 0, 2, 3, 3]
    assert stand_ins(times, 3).tolist() == [0, 0, 3]  # every other of them
    many = np.random.default_rng(1).gamma(0.5, size=400)
    for most in (400, 100):
        counts = np.bincount(stand_ins(many, most), minlength=400)
        assert counts.sum() == most
        assert np.abs(counts - many * most / many.sum()).max() < 1.0


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            [1.0, -1.0, 1.0, 1.0],
            r"must be finite and at least 0; got -1.0 at row 1",
        ),
        ([1.0, 1.0, np.nan, 1.0], r"got nan at row 2"),
        ([0.0, 0.0, 0.0, 0.0], r"must be positive for two rows at least; got 0 of 4"),
        ([1.0, 0.0, 0.0, 0.0], r"got 1 of 4"),
        ([1.0, 2.0], r"must have an entry for each of the 4 rows of `X`; got shape \(2,\)"),
        (3.0, r"got shape \(\)"),
        (np.ones((4, 1)), r"must hold one number for each of the 4 rows; got shape \(4, 1\)"),
    ],
)
def test_what_is_no_weight_is_refused(weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_weights(weights, OBS)


def test_weights_must_be_numbers() -> None:
    with pytest.raises(TypeError, match=r"`sample_weight` must hold numbers; got <U1"):
        read_weights(["a", "b", "c", "d"], OBS)


def test_what_is_given_per_row_must_have_the_labels_of_the_rows() -> None:
    named = np.array(["a", "b", "c"])
    right = pd.Series([1, 2, 3], index=list("abc"))
    np.testing.assert_array_equal(per_row(right, "labels", named), [1, 2, 3])
    with pytest.raises(ValueError, match=r"got 'b' at place 0, where `X` has 'a'. Reorder it"):
        per_row(right[["b", "a", "c"]], "labels", named)
    shuffled = xr.DataArray([1, 2, 3], dims="obs", coords={"obs": [2, 1, 0]})
    with pytest.raises(ValueError, match=r"`labels` must have the labels of the rows of `X`"):
        per_row(shuffled, "labels", np.arange(3))
    # rows of an array have no names that could differ
    np.testing.assert_array_equal(per_row(right, "labels", np.arange(3)), [1, 2, 3])


def test_a_number_that_is_to_be_learnt_takes_no_weights(rng: np.random.Generator) -> None:
    X, times = rows(rng)
    spec = bg.GaussianMixture(bg.PriorOnComponents())
    with pytest.raises(ValueError, match=r"`sample_weight` must be left out where components"):
        bg.fit(X, spec, sample_weight=times)
