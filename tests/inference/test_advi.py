"""ADVI: the nearest Normal of a family, how it is found, and when it is not."""

from typing import Any

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import halfnorm, norm

import bayesgmm as bg
from bayesgmm.data import prepare
from bayesgmm.errors import ConvergenceWarning
from bayesgmm.inference import advi
from bayesgmm.inference.advi import Maximum, maximise, paired_draws
from bayesgmm.inference.approximation import Normal
from bayesgmm.inference.families import Family, FullRank, MeanField
from bayesgmm.inference.laplace import find_frame
from bayesgmm.inference.progress import Progress
from bayesgmm.posterior_density import Density
from bayesgmm.problem import Problem
from tests.inference.test_families import N, frame

type Array = np.ndarray

SILENT = Progress(False)
BOTH = pytest.mark.parametrize("kind", [MeanField, FullRank])
METHODS = pytest.mark.parametrize("method", ["advi", "fullrank_advi"])
SHORT = {"draws": 250, "random_seed": 5, "progressbar": False}


def clusters(n_obs: int = 200, n_components: int = 2, **given: Any) -> Array:
    arguments = {"separation": 5.0, "random_seed": 2, **given}
    return bg.datasets.make_mixture(n_obs, n_components, 2, **arguments)["X"].values


def quadratic(center: Array, precision: Array, log_mass: float) -> Density:
    """A Normal density that integrates to a given mass."""
    log_volume = 0.5 * (np.linalg.slogdet(precision)[1] - center.size * np.log(2.0 * np.pi))

    def density(vectors: Array) -> tuple[Array, Array]:
        gap = vectors - center
        slopes = -gap @ precision
        return 0.5 * np.sum(gap * slopes, axis=1) + log_volume + log_mass, slopes

    return density


# The draws that the ELBO is averaged over


@pytest.mark.parametrize(("n_draws", "n"), [(64, 5), (20, 10), (256, 1)])
def test_draws_have_the_moments_of_a_normal(n_draws: int, n: int, rng: np.random.Generator) -> None:
    z = paired_draws(n_draws, n, rng)
    assert z.shape == (n_draws, n)
    np.testing.assert_allclose(z.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(z.T @ z / n_draws, np.eye(n), atol=1e-12)
    third = np.einsum("si,sj,sk->ijk", z, z, z)
    np.testing.assert_allclose(third, 0.0, atol=1e-9)


def test_fewer_draws_than_make_an_identity_have_its_diagonal(rng: np.random.Generator) -> None:
    z = paired_draws(16, 30, rng)
    np.testing.assert_allclose(z.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(np.mean(z**2, axis=0), 1.0)


def test_draws_are_normal_in_every_direction(rng: np.random.Generator) -> None:
    direction = np.array([0.6, 0.0, -0.8])
    x = np.concatenate([paired_draws(64, 3, rng) @ direction for _ in range(500)])
    for quantile in (0.05, 0.3, 0.9):
        share = np.mean(x < norm.ppf(quantile))
        assert abs(share - quantile) < 5 * np.sqrt(quantile * (1 - quantile) / x.size)


# The top of the ELBO


@pytest.mark.parametrize("n_draws", [64, 256])
def test_a_normal_is_found_exactly(n_draws: int, rng: np.random.Generator) -> None:
    """Whatever the draws; of independent Normals, the nearest has the conditional scales."""
    at = frame(rng, log_unit=0.0)
    square = rng.normal(size=(N, N))
    center, precision = rng.normal(size=N), square @ square.T + 0.5 * np.eye(N)
    density, z = quadratic(center, precision, 3.0), paired_draws(n_draws, N, rng)
    family = FullRank(at)
    top = maximise(family, density, z, [np.zeros(family.size)], SILENT)
    normal = family.normal(top.t)
    assert top.converged
    np.testing.assert_allclose(normal.center, center, atol=0.02)
    np.testing.assert_allclose(
        normal.factor @ normal.factor.T @ precision, np.eye(N), rtol=0, atol=0.03
    )
    assert top.elbo == pytest.approx(3.0, abs=1e-3)
    alone = MeanField(at)
    top = maximise(alone, density, z, [np.zeros(alone.size)], SILENT)
    normal = alone.normal(top.t)
    np.testing.assert_allclose(normal.center, center, atol=0.02)
    np.testing.assert_allclose(normal.factor, np.diagonal(precision) ** -0.5, rtol=0.02)
    correlated = 0.5 * (np.linalg.slogdet(precision)[1] - np.log(np.diagonal(precision)).sum())
    assert top.elbo == pytest.approx(3.0 + correlated, abs=1e-3)


@BOTH
def test_the_best_of_several_starts_is_climbed_from(
    kind: type[Family], rng: np.random.Generator
) -> None:
    family = kind(frame(rng))
    density = quadratic(np.zeros(N), np.eye(N), 0.0)
    z = paired_draws(64, N, rng)
    far = np.full(family.size, 3.0)
    once = maximise(family, density, z, [np.zeros(family.size)], SILENT)
    both = maximise(family, density, z, [far, np.zeros(family.size)], SILENT)
    assert both.trace[0] == once.trace[0]
    assert (np.diff(both.trace) > 0).all()


@BOTH
def test_a_start_without_a_density_is_narrowed(
    kind: type[Family], rng: np.random.Generator
) -> None:
    at = frame(rng)
    family = kind(at)
    inner = quadratic(at.mode.vector, 1e4 * np.eye(N), 0.0)

    def density(vectors: Array) -> tuple[Array, Array]:
        values, slopes = inner(vectors)
        return np.where(np.abs(vectors - at.mode.vector).max(axis=1) < 0.3, values, np.nan), slopes

    z = paired_draws(64, N, rng)
    top = maximise(family, density, z, [np.zeros(family.size)], SILENT)
    assert top.converged
    factor = family.normal(top.t).factor
    covariance = factor @ factor.T if kind is FullRank else np.diag(factor**2)
    np.testing.assert_allclose(covariance, 1e-4 * np.eye(N), rtol=0, atol=3e-6)


@BOTH
def test_a_density_that_is_nowhere_does_not_converge(
    kind: type[Family], rng: np.random.Generator
) -> None:
    def density(vectors: Array) -> tuple[Array, Array]:
        return np.full(len(vectors), -np.inf), np.zeros(vectors.shape)

    family = kind(frame(rng))
    top = maximise(family, density, paired_draws(16, N, rng), [np.zeros(family.size)], SILENT)
    assert not top.converged
    assert not top.interrupted


@BOTH
def test_an_interrupted_search_returns_the_best_point(
    kind: type[Family], rng: np.random.Generator
) -> None:
    family = kind(frame(rng))
    whole = quadratic(np.ones(N), np.diag([1.0, 4.0, 9.0, 16.0]), 0.0)
    seen: list[float] = []

    def density(vectors: Array) -> tuple[Array, Array]:
        if len(seen) == 4:
            raise KeyboardInterrupt
        seen.append(0.0)
        return whole(vectors)

    z = paired_draws(64, N, rng)
    top = maximise(family, density, z, [np.zeros(family.size)], SILENT)
    assert top.interrupted
    assert not top.converged
    normal = family.normal(top.t)
    assert top.elbo == pytest.approx(whole(normal.vectors(z))[0].mean() + normal.entropy)
    assert top.elbo > top.trace[0]


# On mixtures


def evidence_of_one_normal(X: Array, spec: bg.GaussianMixture) -> tuple[float, float, float]:
    """Log evidence, mean of the mean and mean of the scale, by the trapezoid rule."""
    resolved = spec.resolve(X)
    location, spread = resolved.means.location, resolved.means.scale
    prior = halfnorm(scale=np.asarray(resolved.covariance.scale).item())
    m = X.mean() + np.linspace(-1.0, 1.0, 400)[:, None] * 8 * X.std() / np.sqrt(len(X))
    s = np.exp(np.log(X.std()) + np.linspace(-1.0, 1.0, 300) * 8 / np.sqrt(2 * len(X)))
    log_p = norm(location, spread).logpdf(m) + prior.logpdf(s)
    log_p = log_p + norm.logpdf(X[:, None, :], m, s).sum(axis=0) + np.log(s)
    total = logsumexp(log_p)
    share = np.exp(log_p - total)
    cell = (m[1, 0] - m[0, 0]) * np.log(s[1] / s[0])
    return total + np.log(cell), float((share * m).sum()), float((share * s).sum())


@METHODS
def test_one_component_against_quadrature(method: str) -> None:
    """The ELBO bounds the log evidence, in the data's units; ratios of densities add up to it."""
    X = 40.0 + 7.0 * np.random.default_rng(3).normal(size=(30, 1))
    spec = bg.GaussianMixture(1, covariance=bg.LKJCovariance(floor=0.0))
    log_evidence, mean, scale = evidence_of_one_normal(X, spec)
    tree = bg.fit(X, spec, method=method, random_seed=1, progressbar=False)
    assert (tree.attrs["converged"], tree.attrs["resampled"]) == (1, 0)
    elbo = tree["optimization"]["elbo"].values[-1]
    assert log_evidence - 0.1 < elbo < log_evidence
    stats = tree["sample_stats"].dataset
    ratios = (stats["lp"] - stats["log_q"]).values.ravel()
    error = np.exp(ratios - log_evidence).std() / np.sqrt(ratios.size)
    assert abs(logsumexp(ratios) - np.log(ratios.size) - log_evidence) < 5 * error < 0.1
    share = np.exp(ratios - logsumexp(ratios))
    for name, exact in (("means", mean), ("scales", scale)):
        x = tree["posterior"][name].values.ravel()
        assert abs(share @ x - exact) < 5 * np.sqrt(np.sum((share * (x - exact)) ** 2))
        assert abs(x.mean() - exact) < 0.1 * x.std()  # without weights it is near


@METHODS
def test_the_elbo_knows_the_units_of_the_data(method: str) -> None:
    X, factor = clusters(), np.array([1e-3, 50.0])
    one = bg.fit(X, 2, method=method, **SHORT)
    other = bg.fit(X * factor + 7.0, 2, method=method, **SHORT)
    gap = other["optimization"]["elbo"].values[-1] - one["optimization"]["elbo"].values[-1]
    assert gap == pytest.approx(-len(X) * np.log(factor).sum(), abs=0.02)
    assert other.attrs["pareto_k"] == pytest.approx(one.attrs["pareto_k"], abs=0.1)


def problem(X: Array, n_components: int) -> Problem:
    return Problem.make(bg.GaussianMixture(n_components), prepare(X))


def nearest(given: Problem, kind: type[Family], n_draws: int, seed: int) -> tuple[Normal, Maximum]:
    """The best Normal by some draws of a seed."""
    at, _, _ = find_frame(given, np.random.default_rng(1), SILENT)
    family = kind(at)
    z = paired_draws(n_draws, given.n_parameters, np.random.default_rng(seed))
    top = maximise(family, advi.whole(given), z, [np.zeros(family.size)], SILENT)
    return family.normal(top.t), top


def divergence(q: Normal, p: Normal) -> float:
    """Kullback-Leibler divergence of two Normals, in nats."""
    of_q, of_p = (n.factor if n.factor.ndim == 2 else np.diag(n.factor) for n in (q, p))
    ratio, gap = np.linalg.solve(of_p, of_q), np.linalg.solve(of_p, q.center - p.center)
    square = np.sum(ratio**2) + gap @ gap - gap.size
    return float(0.5 * square - np.linalg.slogdet(ratio)[1])


@BOTH
def test_a_few_hundred_draws_give_the_nearest_normal(kind: type[Family]) -> None:
    given = problem(clusters(), 2)
    reference, _ = nearest(given, kind, 16_384, 9)
    for seed in range(3):
        normal, top = nearest(given, kind, 256, seed)
        assert top.converged
        assert divergence(normal, reference) < 0.01


@METHODS
def test_fresh_draws_tell_that_there_were_too_few(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advi, "FEWEST_DRAWS", 4)
    monkeypatch.setattr(advi, "DRAWS_PER_PARAMETER", 2 if method == "fullrank_advi" else 0)
    optimization = bg.fit(clusters(40), 2, method=method, **SHORT)["optimization"].dataset
    used = np.unique(optimization["n_draws"].values)
    assert used.size > 1
    assert used[1] == 4 * used[0]
    elbo = optimization["elbo"].values
    for n_draws in used:
        assert (np.diff(elbo[optimization["n_draws"].values == n_draws]) >= 0).all()


@METHODS
def test_an_elbo_that_fresh_draws_never_confirm_has_not_converged(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advi, "_confirmed", lambda *given: False)
    monkeypatch.setattr(advi, "GROWTH", 1)
    with pytest.warns(ConvergenceWarning, match="ADVI did not converge"):
        tree = bg.fit(clusters(40), 2, method=method, **SHORT)
    assert tree.attrs["converged"] == 0
    assert (np.diff(tree["optimization"]["elbo"]) < 0).sum() <= 2  # three rounds, no more


@METHODS
def test_an_optimiser_that_stops_short_has_not_converged(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    climb = advi.minimize

    def few_steps(*args: Any, **kwargs: Any) -> Any:
        kwargs["options"] |= {"maxiter": 1}
        return climb(*args, **kwargs)

    monkeypatch.setattr(advi, "minimize", few_steps)
    with pytest.warns(ConvergenceWarning, match="ADVI did not converge"):
        tree = bg.fit(clusters(40), 2, method=method, **SHORT)
    assert tree.attrs["converged"] == 0
    assert not bg.check(tree).ok


# Many rows


@METHODS
def test_some_rows_do_for_many(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    X = clusters(20_000, 3, separation=3.0)
    whole = bg.fit(X, 3, method=method, **SHORT)
    assert set(whole["optimization"]["n_obs"].values) == {20_000}
    monkeypatch.setattr(advi, "FEWEST_ROWS", 4500)
    seen: list[int] = []
    pack = Problem.pack

    def spy(self: Problem, rows: Array, row_weights: Array, *, prior: bool) -> Array:
        seen.append(rows.shape[1])
        return pack(self, rows, row_weights, prior=prior)

    monkeypatch.setattr(Problem, "pack", spy)
    some = bg.fit(X, 3, method=method, **SHORT)
    assert set(some["optimization"]["n_obs"].values) == {4500}
    assert seen == [20_000, 4500]  # of three components as many each
    assert some.attrs["converged"] == 1
    elbos = [tree["optimization"]["elbo"].values[-1] for tree in (some, whole)]
    assert elbos[0] == pytest.approx(elbos[1], abs=0.2)


def test_rows_that_do_not_stand_for_all_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A component of ten rows among 20,000, in the middle of another one."""
    rng = np.random.default_rng(5)
    X = np.concatenate([rng.normal(0.0, 1.0, 19_990), rng.normal(2.5, 0.1, 10)])[:, None]
    monkeypatch.setattr(advi, "FEWEST_ROWS", 500)
    tree = bg.fit(X, 2, method="advi", **SHORT)
    assert tree["optimization"]["n_obs"].values.min() > 500
    assert np.isfinite(tree["sample_stats"]["lp"].values).all()


# What is told


def test_k_hat_tells_a_good_fit_from_a_bad_one() -> None:
    good = bg.fit(clusters(500), 2, method="fullrank_advi", random_seed=1, progressbar=False)
    assert good.attrs["pareto_k"] < 0.5
    assert good.attrs["resampled"] == 1
    bad = bg.fit(clusters(20), 3, method="fullrank_advi", random_seed=1, progressbar=False)
    assert bad.attrs["pareto_k"] > 0.7
    assert bad.attrs["resampled"] == 0
    assert bg.check(good).ok
    assert not bg.check(bad).ok


def test_independence_is_told_by_k_hat() -> None:
    """Two features that depend on each other make the mean field a poor approximation."""
    rng = np.random.default_rng(4)
    X = rng.normal(size=(200, 3)) @ np.linalg.cholesky(np.full((3, 3), 0.98) + 0.02 * np.eye(3)).T
    k = {
        method: bg.fit(X, 1, method=method, random_seed=1, progressbar=False).attrs["pareto_k"]
        for method in ("advi", "fullrank_advi")
    }
    assert k["fullrank_advi"] < 0.5 < 0.7 < k["advi"]


def test_too_many_parameters_for_a_covariance_matrix(rng: np.random.Generator) -> None:
    X = rng.normal(size=(60, 31))
    message = r"`method` must be 'advi', .* more than 1000 free .*; got 'fullrank_advi' with 1055\."
    with pytest.raises(ValueError, match=message):
        bg.fit(X, 2, method="fullrank_advi")


@METHODS
def test_an_interrupted_fit_says_so(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def minimize(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(advi, "minimize", minimize)
    with pytest.warns(ConvergenceWarning, match=r"ADVI was interrupted: the ELBO may be some way"):
        tree = bg.fit(clusters(), 2, method=method, **SHORT)
    assert (tree.attrs["interrupted"], tree.attrs["converged"]) == (1, 0)
    assert tree["posterior"].sizes["draw"] == 250
    assert tree["optimization"].sizes["iteration"] == 1


@METHODS
def test_draws_that_are_interrupted_confirm_nothing(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    propose = advi.propose
    kept = 600

    def half(*args: Any) -> Any:
        made = propose(*args)
        return type(made)(made.vectors[:kept], made.log_p[:kept], made.log_q[:kept])

    monkeypatch.setattr(advi, "propose", half)
    with pytest.warns(ConvergenceWarning) as caught:
        tree = bg.fit(clusters(), 2, method=method, **SHORT)
    said = [str(one.message) for one in caught]
    assert said[0].startswith("ADVI was interrupted")
    assert said[1].startswith("Drawing was interrupted: 150 of 250")
    assert (tree.attrs["interrupted"], tree.attrs["converged"]) == (1, 0)
    kept = 0
    with (
        pytest.warns(ConvergenceWarning, match="ADVI was interrupted"),
        pytest.raises(bg.FitError, match="too early; got 0 draws"),
    ):
        bg.fit(clusters(), 2, method=method, **SHORT)


def test_draws_without_a_density_confirm_nothing(rng: np.random.Generator) -> None:
    ratios = rng.normal(size=1000)
    assert advi._confirmed(ratios.mean(), ratios)
    assert not advi._confirmed(ratios.mean() + 1.0, ratios)
    ratios[3] = -np.inf
    assert not advi._confirmed(-1e6, ratios)
