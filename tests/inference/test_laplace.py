"""The curvature at a mode, and the map that makes it one."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from arviz_stats import ess, mcse
from scipy.special import logsumexp

import bayesgmm as bg
from bayesgmm.data import prepare
from bayesgmm.datasets import load_faithful, load_galaxies, make_mixture
from bayesgmm.errors import ConvergenceWarning, FitError
from bayesgmm.inference import approximation, laplace
from bayesgmm.inference.approximation import Normal, propose
from bayesgmm.inference.em import find_modes
from bayesgmm.inference.laplace import (
    LARGEST_DENSE,
    WIDEST,
    WIDEST_DRAWN,
    factor_of,
    find_frame,
    whitening,
)
from bayesgmm.inference.mode import EMResult, Target
from bayesgmm.inference.progress import Progress
from bayesgmm.mixture import GaussianMixture
from bayesgmm.posterior_density import curvature, whole
from bayesgmm.priors import LKJCovariance, NormalMeans
from bayesgmm.problem import Problem
from tests.kernels.oracle import STRUCTURES

type Array = np.ndarray

SILENT = Progress(False)


def clusters(n_obs: int = 300, n_components: int = 2, **given: Any) -> Array:
    arguments = {"separation": 5.0, "random_seed": 2, **given}
    return make_mixture(n_obs, n_components, 2, **arguments)["X"].values


def mode_of(problem: Problem, rng: np.random.Generator) -> Array:
    found = find_modes(problem, Target.MAP, rng, n_starts=4, hierarchical=True)
    return found.best.vector


def second_differences(problem: Problem, vector: Array, h: float = 1e-3) -> Array:
    """Return minus the Hessian from values alone, extrapolated from two steps."""
    n = vector.size

    def once(h: float) -> Array:
        e = h * np.eye(n)
        hessian = np.empty((n, n))

        def value(x: Array) -> float:
            return problem.log_posterior(x)[0]

        for i in range(n):
            for j in range(i + 1):
                total = value(vector + e[i] + e[j]) - value(vector + e[i] - e[j])
                total += value(vector - e[i] - e[j]) - value(vector - e[i] + e[j])
                hessian[i, j] = hessian[j, i] = -total / (4.0 * h * h)
        return hessian

    return (4.0 * once(h) - once(2.0 * h)) / 3.0


@pytest.mark.parametrize("floor", [0.0, 0.4])
def test_one_normal_has_a_hessian_on_paper(floor: float, rng: np.random.Generator) -> None:
    """log p = sum log N(x | m, s) + log N(m | l, S) + log half-normal(s | t) + u, s = f + e^u."""
    X = rng.normal(3.0, 2.0, (50, 1))
    spec = GaussianMixture(
        1, means=NormalMeans(1.0, 7.0), covariance=LKJCovariance(scale=3.0, floor=floor)
    )
    problem = Problem.make(spec, prepare(X))
    for vector in (mode_of(problem, rng), np.array([0.3, -0.8])):
        x, unit = problem.rows[0], problem.unit[0]
        m, u = vector
        tau, lowest, spread = 3.0 / unit, floor / unit, 7.0 / unit
        excess = np.exp(u)
        s, square = lowest + excess, ((x - m) ** 2).sum()
        by_s = -50 / s + square / s**3 - s / tau**2
        by_ss = 50 / s**2 - 3.0 * square / s**4 - 1.0 / tau**2
        wanted = -np.array([
            [-50 / s**2 - 1.0 / spread**2, -2.0 * (x - m).sum() / s**3 * excess],
            [-2.0 * (x - m).sum() / s**3 * excess, by_ss * excess**2 + by_s * excess],
        ])  # fmt: skip
        np.testing.assert_allclose(curvature(problem, vector), wanted, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_curvature_is_that_of_the_values(structure: str, rng: np.random.Generator) -> None:
    X = make_mixture(120, 2, 2, random_seed=3)["X"].values
    spec = GaussianMixture(2, covariance=LKJCovariance(structure=structure))
    problem = Problem.make(spec, prepare(X))
    vector = mode_of(problem, rng)
    got, wanted = curvature(problem, vector), second_differences(problem, vector)
    np.testing.assert_array_equal(got, got.T)
    np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max(), rtol=0)
    assert np.linalg.eigvalsh(got).min() > 0.0  # it is a mode


def narrow_and_overlapping(rng: np.random.Generator) -> Array:
    """Return two overlapping clusters, and a row so far away that they are narrow beside it."""
    near = np.concatenate([rng.normal(0.0, 1.0, 300), rng.normal(3.0, 1.0, 300)])
    return np.append(near, 3e6)[:, None]


def test_curvature_of_narrow_components(rng: np.random.Generator) -> None:
    X = narrow_and_overlapping(rng)
    problem = Problem.make(GaussianMixture(3), prepare(X))
    start = problem.constrain(np.zeros((1, problem.n_parameters)))._replace(
        weights=np.array([[0.499, 0.499, 0.002]]),
        means=np.array([0.0, 3.0, 3e6]).reshape(1, 3, 1),
        scales=np.array([1.0, 1.0, 50.0]).reshape(1, 3, 1),
    )
    vector = problem.unconstrain(start)
    got = curvature(problem, vector)
    narrow = [2, 3]  # the means of the two
    step = 0.02 / problem.unit[0] * np.eye(vector.size)
    for i in narrow:
        above, below = (problem.log_posterior(vector + sign * step[i])[1] for sign in (1, -1))
        wanted = (below - above)[narrow] / (0.04 / problem.unit[0])
        np.testing.assert_allclose(got[i, narrow], wanted, rtol=1e-3)


def test_whitened_the_mode_has_unit_curvature(rng: np.random.Generator) -> None:
    problem = Problem.make(GaussianMixture(2), prepare(load_faithful()))
    vector = mode_of(problem, rng)
    factor = whitening(problem, vector)
    assert factor.shape == (vector.size, vector.size)
    hessian = curvature(problem, vector)
    np.testing.assert_allclose(factor @ factor.T @ hessian, np.eye(vector.size), atol=1e-6)
    top, h = problem.log_posterior(vector)[0], 1e-2
    for direction in np.eye(vector.size):
        around = [
            problem.log_posterior(vector + sign * h * factor @ direction)[0] for sign in (1, -1)
        ]
        assert (2.0 * top - sum(around)) / h**2 == pytest.approx(1.0, abs=1e-2)


def test_directions_that_the_data_do_not_know_are_held(rng: np.random.Generator) -> None:
    """At a saddle, where curvature has the wrong sign, standard deviations stop at 3."""
    problem = Problem.make(GaussianMixture(3), prepare(rng.normal(size=(30, 2))))
    vector = np.zeros(problem.n_parameters)  # all components equal
    assert np.linalg.eigvalsh(curvature(problem, vector)).min() < WIDEST**-2.0
    factor = whitening(problem, vector)
    spread = np.sqrt(np.linalg.eigvalsh(factor @ factor.T))
    assert spread.max() == pytest.approx(WIDEST, rel=1e-9)
    assert spread.min() > 0.0


def test_too_many_parameters_are_not_whitened(rng: np.random.Generator) -> None:
    problem = Problem.make(GaussianMixture(2), prepare(rng.normal(size=(60, 31))))
    assert problem.n_parameters > LARGEST_DENSE
    factor = whitening(problem, np.zeros(problem.n_parameters))
    np.testing.assert_array_equal(factor, np.ones(problem.n_parameters))


def test_the_heaviest_tail_is_measured(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of densities with unit curvature at a mode: Normal along all axes but one."""
    center, factor = rng.normal(size=3), rng.normal(size=(3, 3))

    def tail(log_density: Callable[[np.ndarray], np.ndarray]) -> float:
        def density(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            z = np.linalg.solve(factor, (vectors - center).T)
            return 7.0 + log_density(z[1]) - 0.5 * (z[0] ** 2 + z[2] ** 2), vectors

        monkeypatch.setattr(laplace, "whole", lambda problem: density)
        return laplace.heaviest_tail(None, center, factor)  # type: ignore[arg-type]

    assert tail(lambda z: -0.5 * z**2) == pytest.approx(0.0, abs=1e-12)
    assert tail(lambda z: -0.5 * z**2 - z**4) == pytest.approx(0.0, abs=1e-12)
    student = tail(lambda z: -3.0 * np.log1p(z**2 / 6.0))
    assert student == pytest.approx(4.5 - 3.0 * np.log1p(1.5), abs=1e-12)
    # heavier on one side alone
    skewed = tail(lambda z: -0.5 * z**2 - 0.1 * z**3)
    assert skewed == pytest.approx(2.7, abs=1e-12)


# The approximation


def test_a_factor_inverts_a_hessian_but_is_held(rng: np.random.Generator) -> None:
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    for values, spread in (
        ((4.0, 0.25, 1e-4), (0.5, 2.0, 100.0)),
        ((1.0, 1e-9, -2.0), (1.0, 200.0, 200.0)),
    ):
        factor = factor_of((axes * values) @ axes.T, 200.0)
        got = axes.T @ (factor @ factor.T) @ axes
        np.testing.assert_allclose(got, np.diag(np.square(spread)), rtol=1e-7, atol=1e-7)


def test_draws_have_the_exact_curvature(monkeypatch: pytest.MonkeyPatch) -> None:
    """One Normal, whose mode and Hessian are known on paper; without resampling."""
    monkeypatch.setattr(approximation, "LARGEST_PARETO_K", -np.inf)
    X = np.random.default_rng(1).normal(3.0, 2.0, (25, 1))
    spec = GaussianMixture(
        1, means=NormalMeans(1.0, 7.0), covariance=LKJCovariance(scale=3.0, floor=0.0)
    )
    tree = bg.fit(X, spec, method="laplace", draws=5000, random_seed=1, progressbar=False)
    assert tree.attrs["resampled"] == 0
    m, s = X.mean(), X.std()
    for _ in range(100):  # the mode, one coordinate after the other
        m = (X.sum() / s**2 + 1.0 / 49.0) / (25 / s**2 + 1.0 / 49.0)
        square = np.square(X - m).sum()
        # -24 + square / s^2 - s^2 / 9 = 0, for log s
        s = np.sqrt(4.5 * (-24.0 + np.sqrt(24.0**2 + 4.0 * square / 9.0)))
    hessian = np.array([
        [25 / s**2 + 1.0 / 49.0, 2.0 * (X - m).sum() / s**2],
        [2.0 * (X - m).sum() / s**2, 2.0 * square / s**2 + 2.0 * s**2 / 9.0],
    ])  # fmt: skip
    posterior = tree["posterior"]
    draws = np.stack([
        posterior["means"].values.ravel(), np.log(posterior["scales"].values.ravel())
    ])  # fmt: skip
    wanted = np.linalg.inv(hessian)
    scales, n = np.sqrt(np.diagonal(wanted)), draws.shape[1]
    assert (np.abs(draws.mean(axis=1) - [m, np.log(s)]) < 5 * scales / np.sqrt(n)).all()
    gap = np.abs(np.cov(draws) - wanted) / np.outer(scales, scales)
    assert gap.max() < 5 * np.sqrt(2.0 / n)
    law = Normal(np.array([m, np.log(s)]), np.linalg.cholesky(wanted), 0.0)
    z = np.linalg.solve(law.factor, draws - law.center[:, None]).T
    np.testing.assert_allclose(
        tree["sample_stats"]["log_q"].values.ravel(), law.log_density(z), atol=1e-4
    )


@pytest.mark.parametrize("method", ["laplace", "fullrank_advi", "advi"])
def test_resampled_draws_are_those_of_nuts(method: str) -> None:
    X = clusters()
    given = {"draws": 2000, "random_seed": 3, "progressbar": False}
    tree, nuts = bg.fit(X, 2, method=method, **given), bg.fit(X, 2, **given)
    assert tree.attrs["resampled"] == 1
    assert bg.check(tree).ok
    different = np.unique(tree["sample_stats"]["lp"]).size
    assert different > 2000
    for name in ("weights", "means", "scales", "covariances"):
        a, b = tree["posterior"][name], nuts["posterior"][name]
        assert ess(b).min() > 400
        of_a = a.std(("chain", "draw")) / np.sqrt(0.5 * different)
        gap = np.abs(a.mean(("chain", "draw")) - b.mean(("chain", "draw")))
        assert (gap < 5 * np.hypot(of_a, mcse(b))).all()
        spread = a.std(("chain", "draw")) / b.std(("chain", "draw"))
        assert np.abs(spread - 1.0).max() < 0.15


def test_the_mode_that_holds_the_most_mass_is_taken() -> None:
    """Of the galaxies' modes with five components the highest is not it."""
    problem = Problem.make(GaussianMixture(5), prepare(load_galaxies()))
    frame, share, modes = find_frame(problem, np.random.default_rng(1), SILENT)
    assert modes[0].objective > frame.mode.objective + 0.5
    log_masses = []
    for mode in modes:
        factor = factor_of(curvature(problem, mode.vector), WIDEST_DRAWN)
        normal = Normal(mode.vector, factor, frame.normal.log_unit)
        rng = np.random.default_rng(2)
        ratios = propose(normal, whole(problem), 20_000, rng, SILENT).log_ratios
        log_masses.append(logsumexp(ratios) - np.log(ratios.size))
    which = next(i for i, mode in enumerate(modes) if mode is frame.mode)
    assert which == np.argmax(log_masses) > 0
    masses = np.exp(log_masses - np.max(log_masses))
    assert share == pytest.approx(1.0 / masses.sum(), abs=0.2)


def test_a_single_mode_holds_all_mass() -> None:
    problem = Problem.make(GaussianMixture(2), prepare(load_faithful()))
    frame, share, modes = find_frame(problem, np.random.default_rng(1), SILENT)
    assert (len(modes), share) == (1, 1.0)
    np.testing.assert_array_equal(frame.normal.center, modes[0].vector)


def test_k_hat_tells_a_good_fit_from_a_bad_one() -> None:
    good = bg.fit(clusters(), 2, method="laplace", random_seed=1, progressbar=False)
    bad = bg.fit(clusters(20), 3, method="laplace", random_seed=1, progressbar=False)
    assert good.attrs["pareto_k"] < 0.5 < 0.7 < bad.attrs["pareto_k"]
    assert (good.attrs["resampled"], bad.attrs["resampled"]) == (1, 0)
    assert bg.check(good).ok
    assert not bg.check(bad).ok


def test_a_mode_that_was_not_reached_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def unfinished(*args: Any, **kwargs: Any) -> EMResult:
        found = find_modes(*args, **kwargs)
        return EMResult(tuple(replace(mode, converged=False) for mode in found.modes), 0)

    monkeypatch.setattr(laplace, "find_modes", unfinished)
    with pytest.warns(ConvergenceWarning, match="The mode was not reached to the tolerance"):
        tree = bg.fit(clusters(), 2, method="laplace", draws=50, random_seed=1, progressbar=False)
    assert tree.attrs["converged"] == 0
    assert not bg.check(tree).ok


def test_an_interrupted_fit_keeps_what_was_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def interrupted_after(most: int) -> Any:
        calls.clear()

        def of(problem: Problem) -> Any:
            density = whole(problem)

            def counting(vectors: Array) -> tuple[Array, Array]:
                if len(vectors) == approximation.TOGETHER:
                    calls.append(1)
                if len(calls) > most:
                    raise KeyboardInterrupt
                return density(vectors)

            return counting

        return of

    given = {"method": "laplace", "random_seed": 1, "progressbar": False}
    monkeypatch.setattr(laplace, "whole", interrupted_after(3))
    with pytest.warns(ConvergenceWarning, match=r"interrupted: 192 of 1000 draws per chain"):
        tree = bg.fit(clusters(), 2, **given)
    assert tree["posterior"].sizes["draw"] == 3 * approximation.TOGETHER // 4
    assert (tree.attrs["interrupted"], tree.attrs["converged"]) == (1, 1)
    monkeypatch.setattr(laplace, "whole", interrupted_after(0))
    with pytest.raises(FitError, match="interrupted too early; got 0 draws") as caught:
        bg.fit(clusters(), 2, **given)
    assert caught.value.status == "interrupted"
