"""NUTS against posteriors that are known exactly, and what it owes whoever runs it."""

import dataclasses
import itertools
from typing import Any

import arviz_stats
import numpy as np
import pytest
import xarray as xr
from scipy.special import betainc, betaln, logsumexp
from scipy.stats import norm

import bayesgmm as bg
from bayesgmm.data import prepare
from bayesgmm.inference import coordinates, nuts
from bayesgmm.inference.assemble import Options
from bayesgmm.inference.laplace import WIDEST
from bayesgmm.inference.mode import Mode
from bayesgmm.inference.progress import Progress
from bayesgmm.kernels.arcs import ARC
from bayesgmm.posterior_density import curvature
from bayesgmm.problem import Problem

PARAMETERS = ("weights", "means", "scales", "correlations")


def assert_expectation(draws: np.ndarray, expected: float, what: str) -> None:
    """The mean of draws (chain, draw) is within five standard errors of an exact number."""
    assert arviz_stats.ess(draws, method="bulk") > 400, what
    error = arviz_stats.mcse(draws, method="mean")
    assert abs(draws.mean() - expected) < 5.0 * error, (what, draws.mean(), expected, error)


# The advertised fit


def test_old_faithful_with_all_defaults() -> None:
    tree = bg.fit(bg.datasets.load_faithful(), 2, random_seed=2026, progressbar=False)
    table = bg.summary(tree)
    assert dict(tree["posterior"].sizes)["chain"] == 4
    assert dict(tree["posterior"].sizes)["draw"] == 1000
    assert len(table) == 12
    assert table["r_hat"].max() < 1.01
    assert table["ess_bulk"].min() > 1000
    assert table["ess_tail"].min() > 400
    assert not tree["sample_stats"]["diverging"].values.any()
    assert bg.check(tree).ok


# One component: quadrature

FEW = np.array(
    [[1.2, 0.1], [0.7, -0.4], [2.9, 1.1], [0.2, 0.3], [1.9, 1.6], [1.1, -0.9], [2.2, 0.4]]
)
LOCATION, SPREAD, TAU, FLOOR, ETA = (0.5, -0.5), (1.5, 2.0), (0.8, 1.3), 0.3, 1.5


def nodes(low: float, high: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the Gauss-Legendre rule on an interval."""
    x, w = np.polynomial.legendre.leggauss(count)
    return low + 0.5 * (x + 1.0) * (high - low), 0.5 * (high - low) * w


def expectations(X: np.ndarray, covariances: np.ndarray, log_prior: np.ndarray) -> Any:
    """Posterior weights of covariances (G, D, D), and the expected mean under each, (G, D).

    The mean is integrated out: its prior is Normal, independent of the covariance.
    """
    n, n_dim = X.shape
    location, prior = np.array(LOCATION[:n_dim]), np.diag(np.square(SPREAD[:n_dim]))
    average = X.mean(axis=0)
    scatter = (X - average).T @ (X - average)
    marginal = prior + covariances / n
    gap = average - location
    solved = np.linalg.solve(marginal, np.broadcast_to(gap[:, None], (*marginal.shape[:2], 1)))
    log_weight = log_prior - 0.5 * np.linalg.slogdet(marginal)[1] - 0.5 * (solved[..., 0] @ gap)
    log_weight -= 0.5 * (n - 1) * np.linalg.slogdet(covariances)[1]
    log_weight -= 0.5 * np.trace(np.linalg.solve(covariances, scatter[None]), axis1=1, axis2=2)
    weight = np.exp(log_weight - log_weight.max())
    return weight / weight.sum(), location + (solved[..., 0] @ prior)


def half_normal(scale: np.ndarray, tau: float) -> np.ndarray:
    return -0.5 * np.square(scale / tau)


def grid_of(structure: str, n_dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scales (G, D) and correlations (G,) on a grid, and the log prior with the rule's weights."""
    s, w = nodes(FLOOR, 6.0, 60)
    if n_dim == 1 or structure == "spherical":
        tau = TAU[0]
        return np.repeat(s[:, None], n_dim, axis=1), np.zeros(60), half_normal(s, tau) + np.log(w)
    r, v = nodes(-1.0, 1.0, 60)
    first, second, last = (a.ravel() for a in np.meshgrid(s, s, r, indexing="ij"))
    log_rule = sum(np.log(a).ravel() for a in np.meshgrid(w, w, v, indexing="ij"))
    log_prior = half_normal(first, TAU[0]) + half_normal(second, TAU[1])
    log_prior = log_prior + (ETA - 1.0) * np.log1p(-np.square(last)) + log_rule
    return np.stack([first, second], axis=1), last, log_prior


@pytest.mark.parametrize(
    ("structure", "n_dim"), [("full", 1), ("spherical", 2), ("tied_correlation", 2)]
)
def test_one_component_against_quadrature(structure: str, n_dim: int) -> None:
    X = FEW[:, :n_dim]
    tau = TAU[:n_dim] if structure != "spherical" else TAU[0]
    spec = bg.GaussianMixture(
        1,
        means=bg.NormalMeans(LOCATION[:n_dim], SPREAD[:n_dim]),
        covariance=bg.LKJCovariance(ETA, tau, structure, FLOOR),
    )
    posterior = bg.fit(X, spec, draws=2000, random_seed=1, progressbar=False)["posterior"]
    scales, correlation, log_prior = grid_of(structure, n_dim)
    matrix = np.tile(np.eye(n_dim), (len(scales), 1, 1))
    if n_dim > 1:
        matrix[:, 0, 1] = matrix[:, 1, 0] = correlation
    covariances = matrix * scales[:, :, None] * scales[:, None, :]
    weight, means = expectations(X, covariances, log_prior)
    for d in range(n_dim):
        mean = posterior["means"].values[..., 0, d]
        scale = posterior["scales"].values[..., 0, d]
        assert scale.min() > FLOOR
        assert_expectation(mean, weight @ means[:, d], f"mean {d}")
        assert_expectation(scale, weight @ scales[:, d], f"scale {d}")
        assert_expectation(scale**2, weight @ scales[:, d] ** 2, f"variance {d}")
    if n_dim > 1 and structure != "spherical":
        drawn = posterior["correlations"].values[..., 0, 0, 1]
        assert_expectation(drawn, weight @ correlation, "correlation")
        assert_expectation(drawn**2, weight @ correlation**2, "square of the correlation")


# Two components: the sum over all allocations

TEN = np.array([-2.9, -2.1, -1.8, -1.2, -0.3, 0.4, 1.3, 1.5, 2.4, 3.3])
SUBSETS = np.array(list(itertools.product((False, True), repeat=len(TEN))))
MEAN, WIDTH, BREADTH = 0.2, 3.0, 1.5


def log_group(X: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Log marginal likelihood of the members (Z, N) of a component, the mean and scale integrated.

    The mean in closed form, the scale by quadrature in its logarithm.
    """
    log_s = np.linspace(np.log(1e-4), np.log(9.0 * BREADTH), 600)
    s2 = np.exp(2.0 * log_s)
    n = members.sum(axis=1)[:, None]
    average = (members @ X)[:, None] / np.maximum(n, 1)
    scatter = (members @ X**2)[:, None] - n * average**2
    total = s2 + n * WIDTH**2
    value = -0.5 * n * np.log(2 * np.pi * s2) + 0.5 * np.log(s2 / total)
    value = value - 0.5 * scatter / s2 - 0.5 * n * (average - MEAN) ** 2 / total
    prior = 0.5 * np.log(2 / np.pi) - np.log(BREADTH) - 0.5 * s2 / BREADTH**2 + log_s
    return logsumexp(value + prior, axis=1) + np.log(log_s[1] - log_s[0])


def log_joint(X: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Log probability of every allocation (Z, N) and the data, uniform prior of the weight."""
    n = members.sum(axis=1)
    weights = betaln(1.0 + n, 1.0 + members.shape[1] - n)
    return log_group(X, members) + log_group(X, ~members) + weights


@pytest.fixture(scope="module")
def ten() -> xr.DataTree:
    """Ten rows and two components: overlapping, so that chains must switch labels."""
    spec = bg.GaussianMixture(
        2,
        means=bg.NormalMeans(MEAN, WIDTH),
        covariance=bg.LKJCovariance(scale=BREADTH, floor=0.0),
    )
    return bg.fit(
        TEN, spec, draws=10_000, tune=500, target_accept=0.95, random_seed=4, progressbar=False
    )


def densities(tree: xr.DataTree, X: np.ndarray) -> np.ndarray:
    """Joint densities of component and row, shape (chain, draw, component, len(X))."""
    posterior = tree["posterior"]
    weights, means, scales = (posterior[name].values[..., None] for name in PARAMETERS[:3])
    return weights * norm.pdf(X, means[..., 0, :], scales[..., 0, :])


def test_two_components_predict_as_the_sum_over_allocations(ten: xr.DataTree) -> None:
    evidence = logsumexp(log_joint(TEN, SUBSETS))
    places = np.array([-2.0, 0.0, 0.9, 5.0])
    drawn = densities(ten, places).sum(axis=2)
    for i, place in enumerate(places):
        with_it = np.append(TEN, place)
        both = np.vstack([
            np.column_stack([SUBSETS, np.full(len(SUBSETS), side)]) for side in (True, False)
        ])  # fmt: skip
        exact = np.exp(logsumexp(log_joint(with_it, both)) - evidence)
        assert_expectation(drawn[..., i], exact, f"density at {place}")
    np.testing.assert_allclose(
        bg.score_samples(ten, places[:, None]), np.log(drawn.mean(axis=(0, 1))), rtol=1e-10
    )


def test_two_components_cluster_as_the_sum_over_allocations(ten: xr.DataTree) -> None:
    log_probability = log_joint(TEN, SUBSETS)
    probability = np.exp(log_probability - logsumexp(log_probability))
    joint = densities(ten, TEN)
    shares = joint / joint.sum(axis=2, keepdims=True)
    for i, j in ((0, 1), (0, 4), (4, 5), (0, 9), (7, 8)):
        exact = probability @ (SUBSETS[:, i] == SUBSETS[:, j])
        assert_expectation((shares[..., i] * shares[..., j]).sum(axis=2), exact, f"{i} with {j}")


def test_two_components_have_the_exact_weights(ten: xr.DataTree) -> None:
    log_probability = log_joint(TEN, SUBSETS)
    probability = np.exp(log_probability - logsumexp(log_probability))
    a = 1.0 + SUBSETS.sum(axis=1)
    b = 1.0 + (~SUBSETS).sum(axis=1)
    above = a / (a + b) * (1.0 - betainc(a + 1.0, b, 0.5))
    below = b / (a + b) * betainc(a, b + 1.0, 0.5)  # E[1 - w; w < 1/2]
    larger = ten["posterior"]["weights"].max("component").values
    assert_expectation(larger, probability @ (above + below), "larger weight")


# Reproducible, whatever runs beside it


def problem() -> Problem:
    made = bg.datasets.make_mixture(60, 2, 2, separation=6.0, random_seed=1)
    return Problem.make(bg.GaussianMixture(2), prepare(made["X"]))


def options(seed: int = 5, **given: Any) -> Options:
    arguments = {"draws": 30, "tune": 40, "chains": 2, "target_accept": 0.8, **given}
    return Options.checked(random_seed=seed, **arguments)


def sample(seed: int, **given: Any) -> nuts.NutsResult:
    with Progress(False) as progress:
        return nuts.sample(problem(), options(seed, **given), progress)


def test_a_chain_does_not_depend_on_how_many_run_beside_it() -> None:
    two, four = sample(5, chains=2), sample(5, chains=4)
    np.testing.assert_array_equal(two.vectors, four.vectors[:2])
    for name, values in two.statistics.items():
        np.testing.assert_array_equal(values, four.statistics[name][:2])
    for a, b in itertools.combinations(range(4), 2):
        assert not np.isin(four.vectors[a], four.vectors[b]).any()


def test_a_longer_run_begins_as_a_shorter_one() -> None:
    np.testing.assert_array_equal(sample(5, draws=60).vectors[:, :30], sample(5).vectors)


def test_draws_and_their_densities_belong_together() -> None:
    result, reference = sample(5), problem()
    values = [[reference.log_posterior(x)[0] for x in chain] for chain in result.vectors]
    np.testing.assert_allclose(result.statistics["lp"], values, rtol=1e-10)
    assert result.vectors.shape == (2, 30, reference.n_parameters)
    assert result.statistics["diverging"].dtype == bool
    assert not result.interrupted


def test_a_target_nearer_to_one_takes_smaller_steps() -> None:
    steps = [
        np.mean([
            sample(seed, tune=200, target_accept=target).statistics["step_size"].mean()
            for seed in range(4)
        ])
        for target in (0.6, 0.99)
    ]  # fmt: skip
    assert steps[1] < 0.7 * steps[0]


def canonical(mode: Mode) -> np.ndarray:
    """Return means and scales in an order that does not depend on the components' names."""
    means, scales = mode.parameters.means[0], mode.parameters.scales[0]
    return np.concatenate([means, scales], axis=1)[np.argsort(means[:, 0])]


def test_every_chain_starts_around_the_mode_that_it_searched_for_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    searched, starts = [], []
    find, begin = nuts.find_modes, nuts.point_near

    def spy_on_search(*args: Any, **kwargs: Any) -> Any:
        searched.append(find(*args, **kwargs))
        return searched[-1]

    def spy_on_start(*args: Any) -> np.ndarray:
        starts.append((args[1].center, begin(*args)))
        return starts[-1][1]

    monkeypatch.setattr(nuts, "find_modes", spy_on_search)
    monkeypatch.setattr(nuts, "point_near", spy_on_start)
    sample(5, chains=3)
    assert len(searched) == len(starts) == 3
    for found, (center, z) in zip(searched, starts, strict=True):
        where = problem().constrain(center[None])
        np.testing.assert_allclose(
            canonical(dataclasses.replace(found.best, parameters=where)),
            canonical(found.best), rtol=0, atol=0.02,
        )  # fmt: skip
        assert 0.1 < np.linalg.norm(z) / np.sqrt(z.size) < 3.0  # not at the mode, and not far
    assert not np.isin(starts[0][1], starts[1][1]).any()


# Chains prepared by others


def run(warm: tuple[Mode, ...] = (), **given: Any) -> nuts.Run:
    return nuts.Run(problem(), options(**given), warm)


def raised(mode: Mode, by: float) -> Mode:
    """Return a mode elsewhere, said to be higher."""
    return dataclasses.replace(
        mode, vector=mode.vector + 0.1, objective=mode.objective + by, log_mass=np.nan
    )


def test_a_mode_is_whitened_once_whatever_its_components_are_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    whiten = coordinates.whitening

    def counted(*args: Any) -> np.ndarray:
        calls.append(args)
        return whiten(*args)

    monkeypatch.setattr(coordinates, "whitening", counted)
    prepared = run(chains=4)
    starts = [prepared.prepare() for _ in range(4)]
    assert len(calls) == 1
    assert all(start.coordinates is starts[0].coordinates for start in starts)
    assert len({start.seed for start in starts}) == 4
    swapped = prepared.modes[0]
    order = [1, 0]
    renamed = type(swapped.parameters)(*(values[:, order] for values in swapped.parameters))
    unit = prepared.problem.unit
    assert nuts._same(swapped, dataclasses.replace(swapped, parameters=renamed), unit)
    moved = swapped.parameters._replace(means=swapped.parameters.means + 0.05 * unit)
    assert not nuts._same(swapped, dataclasses.replace(swapped, parameters=moved), unit)
    assert not nuts._same(swapped, raised(swapped, 0.01), unit)


def test_a_much_higher_mode_found_elsewhere_is_where_every_second_chain_starts() -> None:
    alone = run(chains=4)
    own = [alone.prepare() for _ in range(4)]
    higher, lower = (raised(alone.best, by) for by in (30.0, -30.0))
    warmed = run((higher,), chains=4)
    starts = [warmed.prepare() for _ in range(4)]
    np.testing.assert_array_equal(warmed.best.vector, higher.vector)
    for number, (start, before) in enumerate(zip(starts, own, strict=True)):
        assert start.seed == before.seed
        if number % 2 == 0:
            np.testing.assert_array_equal(start.coordinates.center, higher.vector)
        else:  # its own, whatever its components are called
            height = problem().log_posterior(start.coordinates.center)[0]
            assert height == pytest.approx(
                problem().log_posterior(before.coordinates.center)[0], abs=1e-3
            )
            assert height > problem().log_posterior(higher.vector)[0] + 0.01
    unchanged = run((lower,), chains=4)
    for start, before in zip([unchanged.prepare() for _ in range(4)], own, strict=True):
        np.testing.assert_array_equal(start.coordinates.center, before.coordinates.center)
        np.testing.assert_array_equal(start.z, before.z)


def test_modes_are_weighed_by_laplaces_method() -> None:
    prepared = run(chains=2)
    for _ in range(2):
        prepared.prepare()
    weighed = [mode for mode in prepared.modes if not np.isnan(mode.log_mass)]
    assert len(weighed) > 0
    for mode in weighed:
        hessian = curvature(prepared.problem, mode.vector)
        assert np.linalg.eigvalsh(hessian).min() > 1.0 / WIDEST**2
        expected = mode.objective - 0.5 * np.linalg.slogdet(hessian)[1]
        assert mode.log_mass == pytest.approx(expected, abs=1e-2)
    far = raised(weighed[0], -nuts.NEAR - 1.0)
    (same,) = prepared._weighed((weighed[0], far))[1:]
    assert same is far


def test_chains_draw_the_same_whenever_they_start() -> None:
    expected = sample(5)
    late = run()
    starts = [late.prepare() for _ in range(2)]
    assert not late.complete
    for start in starts:
        late.launch(start)
        late.chains[-1].wait(60.0)
    assert late.complete
    np.testing.assert_array_equal(late.result(interrupted=False).vectors, expected.vectors)


# The integrator


def integrator_of(X: Any, n_components: int) -> str:
    run = nuts.Run(
        Problem.make(bg.GaussianMixture(n_components), prepare(X)), options(chains=1), ()
    )
    return run.prepare().coordinates.integrator


def test_the_integrator_is_geodesic_where_tails_are_light() -> None:
    assert integrator_of(bg.datasets.load_faithful(), 2) == "geodesic"
    assert integrator_of(bg.datasets.load_galaxies(), 3) == "leapfrog"


def test_a_geodesic_draw_takes_two_gradients() -> None:
    tree = bg.fit(bg.datasets.load_faithful(), 2, random_seed=1, progressbar=False)
    assert tree.attrs["integrator"] == "geodesic"
    assert tree.attrs["tuning_steps"] == nuts.TUNE_ARCS
    assert tree["sample_stats"]["n_steps"].mean() <= 2.0
    arcs = tree["sample_stats"]["n_steps"] * tree["sample_stats"]["step_size"]
    np.testing.assert_allclose([arcs.min(), arcs.max()], [0.9 * ARC, 1.1 * ARC], rtol=1e-2)


def test_steps_are_as_short_as_the_acceptance_asked_for() -> None:
    X = bg.datasets.load_iris().drop(columns="species")
    steps = []
    for target in (0.6, 0.95):
        tree = bg.fit(X, 2, target_accept=target, random_seed=1, progressbar=False)
        assert tree.attrs["integrator"] == "geodesic"
        assert tree["sample_stats"]["acceptance_rate"].mean() > target - 0.05
        steps.append(tree["sample_stats"]["n_steps"].mean())
    assert steps[0] < steps[1]


def test_both_integrators_sample_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a posterior of few rows, so that it is not Normal, but light in its tails."""
    X = bg.datasets.make_mixture(40, 2, 1, separation=5.0, random_seed=2)["X"].values
    draws = {}
    for integrator, light in (("geodesic", np.inf), ("leapfrog", -np.inf)):
        monkeypatch.setattr(coordinates, "LIGHT", light)
        tree = bg.fit(X, 2, draws=4000, random_seed=5, progressbar=False)
        assert tree.attrs["integrator"] == integrator
        draws[integrator] = [
            np.sort(tree["posterior"]["weights"].values)[..., 0],
            *np.moveaxis(np.sort(tree["posterior"]["means"].values[..., 0]), -1, 0),
            *np.moveaxis(np.log(np.sort(tree["posterior"]["scales"].values[..., 0])), -1, 0),
        ]
    for one, other in zip(*draws.values(), strict=True):
        for power in (1, 2):
            a, b = one**power, other**power
            assert min(arviz_stats.ess(a), arviz_stats.ess(b)) > 400
            error = np.hypot(*(arviz_stats.mcse(values, method="mean") for values in (a, b)))
            assert abs(a.mean() - b.mean()) < 5.0 * error
