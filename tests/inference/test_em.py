"""Modes: no worse than other software's, and never a collapsed component."""

from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from bayesgmm.data import prepare
from bayesgmm.datasets import load_faithful, make_mixture
from bayesgmm.errors import FitError
from bayesgmm.inference import em
from bayesgmm.inference.em import (
    SAME_MODE,
    distinct,
    find_modes,
    is_degenerate,
    polish,
)
from bayesgmm.inference.mode import EMResult, Mode, Target
from bayesgmm.inference.starts import (
    HIERARCHICAL_ROWS,
    SCREENED_ROWS,
    Sample,
    are_many,
    most_screened,
    screened_rows,
    ward_labels,
)
from bayesgmm.mixture import GaussianMixture
from bayesgmm.priors import LKJCovariance
from bayesgmm.problem import Problem
from tests.kernels.oracle import STRUCTURES
from tests.reference.modes import CASES, MCLUST, sklearn_best, values_of

type Array = np.ndarray

every_structure = pytest.mark.parametrize("structure", STRUCTURES)


def problem_of(X: Array | pd.DataFrame, n_components: int, structure: str = "full") -> Problem:
    spec = GaussianMixture(n_components, covariance=LKJCovariance(structure=structure))
    return Problem.make(spec, prepare(X))


def search(
    problem: Problem, target: Target, n_starts: int = 20, seed: int = 1, hierarchical: bool = True
) -> EMResult:
    rng = np.random.default_rng(seed)
    return find_modes(problem, target, rng, n_starts=n_starts, hierarchical=hierarchical)


def log_likelihood(X: Array, mode: Mode) -> float:
    """Return the log-likelihood of a mode's parameters, with `scipy.stats`."""
    p = mode.parameters
    joint = [
        np.log(p.weights[0, k]) + multivariate_normal(p.means[0, k], p.covariances[0, k]).logpdf(X)
        for k in range(p.weights.shape[1])
    ]
    return float(logsumexp(joint, axis=0).sum())


@pytest.mark.parametrize("name", CASES)
def test_maximum_likelihood_is_no_worse_than_scikit_learns_best_of_fifty(name: str) -> None:
    _, n_components, structure = CASES[name]
    X = values_of(name)
    best = search(problem_of(X, n_components, structure), Target.ML).best
    assert best.objective >= sklearn_best(name)[0]["log_likelihood"] - 1e-5
    assert best.converged
    assert log_likelihood(X, best) == pytest.approx(best.objective, abs=1e-6)


@pytest.mark.parametrize("name", MCLUST)
def test_maximum_likelihood_is_mclusts(name: str) -> None:
    """Which stops at a gain of 1e-5, relative, and prints seven digits."""
    _, n_components, structure = CASES[name]
    best = search(problem_of(values_of(name), n_components, structure), Target.ML).best
    assert best.objective == pytest.approx(MCLUST[name], abs=0.011)
    assert best.objective >= MCLUST[name] - 5e-4


@every_structure
def test_one_component_of_maximum_likelihood_is_mean_and_covariance(
    structure: str, rng: np.random.Generator
) -> None:
    X = 100.0 + rng.normal(size=(60, 3)) @ rng.normal(size=(3, 3))
    result = search(problem_of(X, 1, structure), Target.ML, n_starts=2)
    parameters = result.best.parameters
    wanted = np.cov(X.T, bias=True)
    if structure not in ("full", "tied", "tied_correlation"):
        wanted = np.diag(np.diag(wanted))
    if "spherical" in structure:
        wanted = np.eye(3) * np.trace(wanted) / 3.0
    assert len(result.modes) == 1
    assert result.best.starts == 2
    np.testing.assert_allclose(parameters.weights, 1.0)
    np.testing.assert_allclose(parameters.means[0, 0], X.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(parameters.covariances[0, 0], wanted, rtol=1e-7, atol=1e-9)


@every_structure
@pytest.mark.parametrize("target", Target)
def test_modes_are_sorted_distinct_and_add_up(
    structure: str, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(em, "TRAILING", np.inf)
    problem = problem_of(values_of("simulated near"), 4, structure)
    result = search(problem, target, n_starts=12)
    objectives = [mode.objective for mode in result.modes]
    assert np.all(-np.diff(objectives) >= SAME_MODE)
    assert sum(mode.starts for mode in result.modes) + result.degenerate == 12
    assert result.best is result.modes[0]
    assert result.best.converged
    for mode in result.modes:
        assert np.all(np.diff(mode.trace) >= -1e-10 * np.abs(mode.trace[1:]))
        for part in mode.parameters:
            assert part.shape[0] == 1
            assert np.isfinite(part).all()


@every_structure
def test_the_mode_of_the_posterior_is_one(structure: str, rng: np.random.Generator) -> None:
    problem = problem_of(load_faithful(), 2, structure)
    for mode in search(problem, Target.MAP, n_starts=6).modes:
        value, gradient = problem.log_posterior(mode.vector)
        assert mode.objective == pytest.approx(value, rel=1e-12)
        assert np.abs(gradient).max() < 1e-3
        wanted = problem.constrain(mode.vector[None])
        for one, other in zip(mode.parameters, wanted, strict=True):
            np.testing.assert_array_equal(one, other)
        for _ in range(10):
            nearby = mode.vector + 0.01 * rng.normal(size=mode.vector.size)
            assert problem.log_posterior(nearby)[0] < value


def test_the_polish_never_ends_lower(rng: np.random.Generator) -> None:
    problem = problem_of(load_faithful(), 3)
    for _ in range(5):
        start = rng.normal(size=problem.n_parameters)
        vector, height, converged = polish(problem, start)
        assert height >= problem.log_posterior(start)[0]
        assert height == pytest.approx(problem.log_posterior(vector)[0], rel=1e-14)
        assert converged == (np.abs(problem.log_posterior(vector)[1]).max() < 1e-3 * 272**0.5)


def test_the_same_random_numbers_give_the_same_modes() -> None:
    problem = problem_of(values_of("simulated near"), 4)
    one, other = (search(problem, Target.MAP, seed=5) for _ in range(2))
    assert [mode.starts for mode in one.modes] == [mode.starts for mode in other.modes]
    for a, b in zip(one.modes, other.modes, strict=True):
        np.testing.assert_array_equal(a.vector, b.vector)
        assert a.objective == b.objective


@pytest.mark.parametrize("target", Target)
def test_different_random_numbers_find_the_same_best(target: Target) -> None:
    problem = problem_of(load_faithful(), 2)
    best = [search(problem, target, seed=seed, hierarchical=False).best for seed in range(5)]
    assert np.ptp([mode.objective for mode in best]) < 1e-6


def test_of_many_rows_some_are_clustered_and_the_others_join_them() -> None:
    made = make_mixture(5 * HIERARCHICAL_ROWS, 4, 3, separation=12.0, random_seed=3)
    rows = np.ascontiguousarray(made["X"].values.T)
    labels = ward_labels(rows, 4, np.random.default_rng(1))
    pairs = set(zip(labels.tolist(), made["labels"].values.tolist(), strict=True))
    assert len(pairs) == 4  # each cluster is one of the simulated


def test_a_mode_is_named_by_the_first_start_that_found_it() -> None:
    found = search(problem_of(load_faithful(), 2), Target.MAP, n_starts=4).best
    higher = replace(found, objective=found.objective + 0.5 * SAME_MODE, starts=1)
    lower = replace(found, objective=found.objective - 10.0, starts=1)
    first = replace(found, starts=1)
    kept = distinct([lower, first, higher])
    assert [mode.objective for mode in kept] == [first.objective, lower.objective]
    assert [mode.starts for mode in kept] == [2, 1]


def test_a_hierarchical_start_needs_no_random_numbers() -> None:
    problem = problem_of(values_of("iris 3"), 3)
    one, other = (search(problem, Target.ML, n_starts=1, seed=seed) for seed in (1, 2))
    np.testing.assert_array_equal(one.best.vector, other.best.vector)
    assert one.best.objective == pytest.approx(MCLUST["iris 3"], abs=1e-3)


def test_rows_in_another_order_and_unit_have_the_same_modes(rng: np.random.Generator) -> None:
    """Units change the log-likelihood by the constant of the density, and nothing else."""
    X = load_faithful().to_numpy()
    turned = rng.permutation(X) * [60.0, 0.5] - [1.0, 1e3]
    one, other = (search(problem_of(data, 2), Target.ML).best for data in (X, turned))
    assert other.objective == pytest.approx(one.objective - 272 * np.log(30.0), abs=1e-6)
    order, reorder = (np.argsort(mode.parameters.weights[0]) for mode in (one, other))
    means = one.parameters.means[0, order] * [60.0, 0.5] - [1.0, 1e3]
    np.testing.assert_allclose(other.parameters.means[0, reorder], means, rtol=1e-5)


COLLAPSING = {
    "as many components as rows": (6, np.array([[i, (7 * i) % 5] for i in range(6)], dtype=float)),
    "three rows repeated": (3, np.repeat([[0.0, 1.0], [5.0, -1.0], [2.0, 3.0]], 20, axis=0)),
}


@pytest.mark.parametrize("name", COLLAPSING)
def test_maximum_likelihood_that_does_not_exist_is_refused(name: str) -> None:
    n_components, X = COLLAPSING[name]
    with pytest.raises(FitError, match=r"likelihood is unbounded; got \d components") as caught:
        search(problem_of(X, n_components), Target.ML)
    assert caught.value.status == "degenerate"
    told = (f"{len(X)} rows", f"{n_components} components", "'full'", "method='map'", "'tied'")
    assert [part for part in told if part not in str(caught.value)] == []


@pytest.mark.parametrize("name", COLLAPSING)
def test_what_has_no_maximum_likelihood_has_a_posterior_mode(name: str) -> None:
    n_components, X = COLLAPSING[name]
    problem = problem_of(X, n_components)
    best = search(problem, Target.MAP, n_starts=5).best
    assert np.isfinite(best.objective)
    floor = np.broadcast_to(problem.specification.covariance.floor, 2)
    assert np.all(best.parameters.scales >= floor)


def test_shared_scales_keep_a_likelihood_bounded(rng: np.random.Generator) -> None:
    """The advice that the refusal gives, followed."""
    X = np.concatenate([rng.normal(size=(12, 2)), np.repeat([[5.0, 5.0]], 12, axis=0)])
    with pytest.raises(FitError, match="or a structure that shares scales, such as 'tied'"):
        search(problem_of(X, 2), Target.ML)
    assert np.isfinite(search(problem_of(X, 2, "tied"), Target.ML).best.objective)


def test_a_component_on_few_rows_is_refused_where_others_are_not(rng: np.random.Generator) -> None:
    """A pile of three rows draws a component to it, with more likelihood than any sound fit."""
    X = make_mixture(150, 2, 2, random_seed=4)["X"].values
    X[:3] = X[3] + 1e-7 * rng.normal(size=(3, 2))
    result = search(problem_of(X, 3), Target.ML, n_starts=40)
    for mode in result.modes:
        assert mode.parameters.weights[0].min() * 150 >= 3
        assert mode.parameters.scales.min() > 1e-3


def test_a_component_as_thin_as_a_line_is_refused(rng: np.random.Generator) -> None:
    """Four rows at one place and a fifth elsewhere: five rows, two wide scales, no area."""
    X = make_mixture(150, 2, 2, random_seed=4)["X"].values
    X[:3] = X[3] + 1e-7 * rng.normal(size=(3, 2))
    for mode in search(problem_of(X, 6), Target.ML, n_starts=40).modes:
        thinnest = np.linalg.eigvalsh(mode.parameters.covariances[0]).min()
        assert thinnest > 1e-6


def test_starts_that_collapse_on_the_way_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    going, number = em.advance, count()
    monkeypatch.setattr(em, "advance", lambda *given: going(*given) if next(number) % 3 else None)
    result = search(problem_of(load_faithful(), 2), Target.ML, n_starts=9)
    assert result.degenerate == 3
    assert [mode.starts for mode in result.modes] == [6]


def test_a_collapse_during_the_last_climb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """However sound the point looks at which the pass before the collapse had come."""
    run = em._em

    def collapses_when_tight(*given: Any) -> Any:
        status, vector, trace = run(*given)
        return 2 if given[-1] == em.TIGHT else status, vector, trace

    monkeypatch.setattr(em, "_em", collapses_when_tight)
    with pytest.raises(FitError, match="Every one of 20 starts ended with a component"):
        search(problem_of(load_faithful(), 2), Target.ML)


def test_all_starts_are_accounted_for() -> None:
    X = make_mixture(150, 2, 2, random_seed=4)["X"].values
    X[:5] = X[5]
    result = search(problem_of(X, 4), Target.ML, n_starts=40)
    assert len(result.modes) > 1
    assert sum(mode.starts for mode in result.modes) + result.degenerate == 40


def altered(mode: Mode, *, rows: float | None = None, scale: float | None = None) -> Mode:
    """Return a mode of 272 rows whose first component has other rows, or another scale."""
    weights, scales = mode.parameters.weights.copy(), mode.parameters.scales.copy()
    if rows is not None:
        weights[0] = [rows / 272, 1.0 - rows / 272]
    if scale is not None:
        scales[0, 0, 1] = scale
    return replace(mode, parameters=mode.parameters._replace(weights=weights, scales=scales))


@pytest.mark.parametrize(
    ("structure", "fewest"),
    [
        ("full", 3), ("tied", 0), ("diag", 2), ("tied_diag", 0), ("spherical", 2),
        ("tied_correlation", 2),
    ],
)  # fmt: skip
def test_a_likelihood_needs_more_rows_than_correlated_features(structure: str, fewest: int) -> None:
    problem = problem_of(load_faithful(), 2, structure)
    mode = search(problem, Target.ML, n_starts=2).best
    assert not is_degenerate(problem, Target.ML, mode)
    for rows in (0.5, 1.5, 2.5, 3.5):
        assert is_degenerate(problem, Target.ML, altered(mode, rows=rows)) == (rows < fewest)
        assert not is_degenerate(problem, Target.MAP, altered(mode, rows=rows))


@pytest.mark.parametrize("target", Target)
def test_no_scale_and_no_number_is_a_collapse(target: Target) -> None:
    problem = problem_of(load_faithful(), 2)
    mode = search(problem, target, n_starts=2).best
    for scale in (0.0, 1e-10, np.nan):
        assert is_degenerate(problem, target, altered(mode, scale=scale))
    assert is_degenerate(problem, target, replace(mode, objective=np.nan))


def test_starts_are_compared_on_rows_enough_for_their_covariances() -> None:
    rng = np.random.default_rng(1)
    small = problem_of(rng.normal(size=(2 * SCREENED_ROWS + 1, 3)), 2)
    assert are_many(small)
    assert most_screened(small) == SCREENED_ROWS
    wide = problem_of(rng.normal(size=(13_000, 50)), 12)
    assert are_many(wide)
    assert screened_rows(wide, rng).rows.shape == (50, 10 * 50 * 12)
    assert not are_many(problem_of(rng.normal(size=(12_000, 50)), 12))


@pytest.mark.parametrize("target", Target)
def test_many_rows_are_screened_but_all_are_used(target: Target) -> None:
    data = make_mixture(2 * SCREENED_ROWS + 500, 3, 2, random_seed=2)
    X = data["X"].values
    problem = problem_of(X, 3)
    result = search(problem, target, n_starts=6)
    best = result.best
    if target is Target.ML:
        assert best.objective == pytest.approx(log_likelihood(X, best), rel=1e-10)
    else:
        assert best.objective == pytest.approx(problem.log_posterior(best.vector)[0], rel=1e-12)
    order = np.argsort(best.parameters.means[0, :, 0])
    truth = data["means"].values[np.argsort(data["means"].values[:, 0])]
    # standard errors are near 1 / sqrt(3500)
    np.testing.assert_allclose(best.parameters.means[0, order], truth, atol=5.0 / 3500**0.5 * 1.5)


def test_one_wild_row_does_not_hide_the_clusters(rng: np.random.Generator) -> None:
    near = np.concatenate([rng.normal(0.0, 1.0, 500), rng.normal(5.0, 1.0, 500)])
    best = search(problem_of(np.append(near, 1e4)[:, None], 3), Target.MAP).best
    means = np.sort(best.parameters.means[0, :, 0])
    np.testing.assert_allclose(means[:2], [0.0, 5.0], atol=0.3)


@pytest.mark.parametrize("structure", ["full", "tied", "tied_correlation"])
def test_columns_that_are_almost_equal_give_no_nan(
    structure: str, rng: np.random.Generator
) -> None:
    x = rng.normal(size=200)
    X = np.column_stack([x, x + 1e-9 * rng.normal(size=200)])
    try:
        modes = search(problem_of(X, 2, structure), Target.MAP, n_starts=4).modes
    except FitError as error:
        assert error.status == "degenerate"
        return
    for mode in modes:
        assert np.isfinite(mode.objective)


def test_starts_that_trail_are_left_unless_all_others_collapse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = problem_of(make_mixture(600, 3, 2, separation=8.0, random_seed=2)["X"].values, 3)
    found = search(problem, Target.MAP)
    assert len(found.modes) == 1
    monkeypatch.setattr(em, "TRAILING", np.inf)
    every = search(problem, Target.MAP)
    assert every.best.objective == pytest.approx(found.best.objective, abs=SAME_MODE)
    assert every.best.starts == found.best.starts
    lower = every.modes[1:]
    assert lower
    assert all(every.best.objective - mode.objective > 50.0 for mode in lower)
    monkeypatch.undo()
    degenerate = em.is_degenerate
    monkeypatch.setattr(
        em, "is_degenerate",
        lambda p, t, mode: mode.objective > lower[0].objective + 1.0 or degenerate(p, t, mode),
    )  # fmt: skip
    rest = search(problem, Target.MAP)
    assert rest.best.objective == pytest.approx(lower[0].objective, abs=SAME_MODE)
    assert rest.degenerate == found.best.starts


def test_of_many_rows_only_modes_that_may_be_the_best_are_climbed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Clusters far apart: a mode in which two share a component is lower beyond doubt."""
    monkeypatch.setattr(em, "TRAILING", np.inf)
    values = make_mixture(3 * SCREENED_ROWS, 3, 2, separation=8.0, random_seed=2)["X"].values
    few = search(problem_of(values[:SCREENED_ROWS], 3), Target.MAP)
    assert len(few.modes) > 1
    found = search(problem_of(values, 3), Target.MAP)
    assert len(found.modes) == 1
    assert found.best.converged
    again = problem_of(values, 3)
    kept = em._contenders(again, Sample.whole(again).some(slice(SCREENED_ROWS)), list(few.modes))
    assert kept == [few.best]


def test_modes_that_rows_cannot_tell_apart_all_go_on(rng: np.random.Generator) -> None:
    problem = problem_of(rng.normal(size=(500, 2)), 2)
    best = search(problem, Target.MAP).best
    other = best.vector + 0.02 * rng.normal(size=best.vector.size)
    close = replace(best, vector=other, parameters=problem.constrain(other[None]))
    assert em._contenders(problem, Sample.whole(problem), [best, close]) == [best, close]
    assert em._contenders(problem, Sample.whole(problem), [best]) == [best]
