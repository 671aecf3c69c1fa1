"""Weights broken off a stick: their density, and the sampler against sums over all allocations."""

import itertools
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import integrate
from scipy.special import betaln, gammaln, logsumexp
from scipy.stats import beta, gamma

from bayesgmm.inference.telescoping import overfitted_prior
from bayesgmm.kernels.diagnostics import diagnose
from bayesgmm.kernels.splitting import (
    CONCENTRATION,
    N_CLUSTERS,
    N_COMPONENTS,
    State,
    split_or_merge,
)
from bayesgmm.kernels.sticks import (
    add_sticks,
    log_allocation,
    move_stick_concentration,
    swap_sticks,
    update_stick_weights,
)
from bayesgmm.kernels.telescoping import cluster_sizes, put_occupied_first, sweep
from bayesgmm.overfitted import Gamma, SparseDirichlet, StickBreaking
from tests.kernels.test_telescoping import ROWS, log_evidence, nodes, normal_prior, numbered

type Array = NDArray[np.float64]
type Labels = tuple[int, ...]

CHAINS, DRAWS = 4, 1500


def log_density(weights: Array, alpha: float) -> float:
    """Log density of weights, written as that of their pieces."""
    left = np.append(1.0, 1.0 - np.cumsum(weights))[: len(weights) - 1]
    pieces = weights[:-1] / left
    return float(beta.logpdf(pieces, 1.0, alpha).sum() - np.log(left).sum())


def on_the_scale(weights: Array, shape: float, rate: float) -> tuple[float, Array]:
    slopes = np.zeros(len(weights))
    return add_sticks(shape, rate, np.log(weights), slopes), slopes


@pytest.mark.parametrize("n", [2, 3, 6])
def test_the_density_is_that_of_the_pieces(n: int, rng: np.random.Generator) -> None:
    """Up to a constant, and times all weights: the Jacobian of the simplex transform."""
    alpha, prior = 0.7, Gamma(1.5, 0.8)
    some = rng.dirichlet(np.ones(n), size=4)
    due = [log_density(w, alpha) + np.log(w).sum() for w in some]
    found = [on_the_scale(w, alpha, 0.0)[0] for w in some]
    np.testing.assert_allclose(np.diff(found), np.diff(due), rtol=1e-10)
    learnt = []
    for w in some:
        whole = integrate.quad(
            lambda a, w=w: np.exp(log_density(w, a)) * gamma.pdf(a, 1.5, scale=1 / 0.8), 0, np.inf
        )[0]
        learnt.append(np.log(whole) + np.log(w).sum())
    found = [on_the_scale(w, prior.shape, prior.rate)[0] for w in some]
    np.testing.assert_allclose(np.diff(found), np.diff(learnt), rtol=1e-6)


@pytest.mark.parametrize(("shape", "rate"), [(0.7, 0.0), (1.5, 0.8)])
def test_slopes_are_those_of_differences(
    shape: float, rate: float, rng: np.random.Generator
) -> None:
    """Along log-weights that are moved and made to sum to 1 again, as the gradient uses them."""
    free = rng.normal(size=5)

    def value(free: Array) -> float:
        return add_sticks(shape, rate, free - logsumexp(free), np.zeros(5))

    slopes = np.full(5, 2.0)  # they are added
    log_weights = free - logsumexp(free)
    add_sticks(shape, rate, log_weights, slopes)
    slopes -= 2.0
    due = [(value(free + h) - value(free - h)) / 2e-6 for h in 1e-6 * np.eye(5)]
    np.testing.assert_allclose(slopes - np.exp(log_weights) * slopes.sum(), due, rtol=1e-6)


def test_weights_far_below_the_smallest_number_have_a_density() -> None:
    log_weights = np.array([0.0, -800.0, -3000.0, -2000.0])
    slopes = np.zeros(4)
    value = add_sticks(0.01, 0.0, log_weights, slopes)
    # of the pieces: log v_1 = 0, log v_2 = 0, log v_3 = -1000
    assert value == pytest.approx(-1000.0 - 0.01 * 2000.0, rel=1e-12)
    np.testing.assert_allclose(slopes, [0.0, 0.0, 1.0, -1.0 + 0.01], atol=1e-9)


def log_p(labels: Labels, n: int, alpha: float) -> float:
    """Log probability of an allocation, weights integrated out."""
    rows = np.bincount(labels, minlength=n)
    beyond = len(labels) - np.cumsum(rows)
    pieces = betaln(1.0 + rows[:-1], alpha + beyond[:-1]) - betaln(1.0, alpha)
    return float(pieces.sum())


def test_allocations_have_probabilities(rng: np.random.Generator) -> None:
    n, alpha = 3, 0.6
    everything = list(itertools.product(range(n), repeat=4))
    assert sum(np.exp(log_p(z, n, alpha)) for z in everything) == pytest.approx(1.0, rel=1e-12)
    for labels in everything[::5]:
        rows = np.bincount(labels, minlength=n)
        sticks = np.append(np.flatnonzero(rows), np.flatnonzero(rows == 0))
        order = rng.permutation(np.count_nonzero(rows))
        sticks[: len(order)] = sticks[order]
        found = log_allocation(rows[sticks[: len(order)]], sticks, n, alpha)
        ways = gammaln(n + 1) - gammaln(n - len(order) + 1)
        assert found - ways == pytest.approx(log_p(labels, n, alpha), abs=1e-12)


def test_the_concentration_moves_by_the_ratio_of_densities() -> None:
    counts, sticks, old, step = np.array([5, 2]), np.array([1, 0, 3, 2]), 0.8, 0.4
    new = old * np.exp(step)

    def log_joint(value: float) -> float:
        prior = gamma.logpdf(value, 1.5, scale=1 / 0.8) + np.log(value)
        return float(prior) + log_allocation(counts, sticks, 4, value)

    ratio = np.exp(log_joint(new) - log_joint(old))
    assert 0.0 < ratio < 1.0
    arguments = (old, counts, sticks, 4, np.array([1.5, 0.8]), step)
    assert move_stick_concentration(*arguments, ratio * (1.0 - 1e-9)) == pytest.approx(new)
    assert move_stick_concentration(*arguments, ratio * (1.0 + 1e-9)) == old


def test_weights_are_drawn_given_the_rows() -> None:
    rng = np.random.default_rng(4)
    counts, sticks, alpha = np.array([3, 6]), np.array([2, 0, 3, 1]), 0.7
    rows = np.array([6.0, 0.0, 3.0, 0.0])
    draws = np.empty((20_000, 4))
    for draw in draws:
        update_stick_weights(counts, sticks, alpha, draw, rng)
    np.testing.assert_allclose(np.exp(draws).sum(axis=1), 1.0, rtol=1e-12)
    beyond = np.array([3.0, 3.0, 0.0])
    pieces = (1.0 + rows[:3]) / (1.0 + alpha + rows[:3] + beyond)
    due = np.append(pieces, 1.0) * np.append(1.0, np.cumprod(1.0 - pieces))
    found = np.exp(draws)[:, np.argsort(sticks)]
    error = found.std(axis=0) / np.sqrt(len(found))
    assert (np.abs(found.mean(axis=0) - due) < 5.0 * error).all()


def test_a_tiny_concentration_gives_weights_that_are_not_zero() -> None:
    rng, log_weights = np.random.default_rng(2), np.empty(6)
    lowest = 0.0
    for _ in range(50):
        update_stick_weights(np.array([9]), np.arange(6), 0.001, log_weights, rng)
        assert np.isfinite(log_weights).all()
        lowest = min(lowest, log_weights.min())
    assert lowest < -800.0


class Case(NamedTuple):
    """A prior of the weights, and the allocations that it makes as likely as it does."""

    n_dim: int
    n_components: int
    prior: SparseDirichlet | StickBreaking
    log_probability: Callable[[Labels], float]


def of_dirichlet(n: int, share: float) -> Callable[[Labels], float]:
    def log_probability(labels: Labels) -> float:
        rows = np.bincount(labels, minlength=n)
        result = gammaln(rows + share).sum() - n * gammaln(share)
        return float(result + gammaln(n * share) - gammaln(n * share + len(labels)))

    return log_probability


def of_learnt(n: int, prior: Gamma) -> Callable[[Labels], float]:
    alphas = gamma.ppf((np.arange(2000) + 0.5) / 2000, prior.shape, scale=1.0 / prior.rate)

    def log_probability(labels: Labels) -> float:
        rows = np.bincount(labels, minlength=n)
        beyond = (len(labels) - np.cumsum(rows))[:-1, None]
        pieces = betaln(1.0 + rows[:-1, None], alphas + beyond) - betaln(1.0, alphas)
        return float(logsumexp(pieces.sum(axis=0)) - np.log(len(alphas)))

    return log_probability


CASES: Final = {
    "sparse": Case(1, 3, SparseDirichlet(0.3), of_dirichlet(3, 0.3)),
    "stick": Case(1, 3, StickBreaking(0.8), lambda labels: log_p(labels, 3, 0.8)),
    "learnt": Case(1, 4, StickBreaking(Gamma(2.0, 1.5)), of_learnt(4, Gamma(2.0, 1.5))),
    "two features": Case(2, 3, StickBreaking(1.4), lambda labels: log_p(labels, 3, 1.4)),
}


def exact(case: Case) -> dict[Labels, float]:
    """Return the posterior probability of every allocation."""
    rows, (covariances, weights) = ROWS[case.n_dim], nodes(case.n_dim)
    subsets: dict[Labels, float] = {}
    result = {}
    for labels in itertools.product(range(case.n_components), repeat=rows.shape[1]):
        value = case.log_probability(labels)
        for k in set(labels):
            members = tuple(i for i, label in enumerate(labels) if label == k)
            if members not in subsets:
                subsets[members] = log_evidence(rows[:, list(members)], covariances, weights)
            value += subsets[members]
        result[labels] = value
    total = logsumexp(list(result.values()))
    return {labels: float(np.exp(value - total)) for labels, value in result.items()}


def start(case: Case, rng: np.random.Generator) -> State:
    n_dim, n = case.n_dim, case.n_components
    n_rows = ROWS[n_dim].shape[1]
    learnt = isinstance(case.prior.concentration, Gamma)
    first = 1.0 if learnt else case.prior.concentration
    return State(
        rng.integers(n, size=n_rows),
        np.zeros((n, 2 * n_dim + n_dim * (n_dim - 1) // 2)),
        np.zeros(n),
        np.array([n, 1, first, 0.0]),
        rng.permutation(n),
    )


def assert_exact(case: Case, found: NDArray[np.object_]) -> None:
    """Compare allocations drawn with their posterior: partitions, and where the first row is."""
    due = exact(case)
    events: dict[str, set[Labels]] = {}
    for labels in due:
        events.setdefault(f"partition {numbered(np.array(labels))}", set()).add(labels)
        if isinstance(case.prior, StickBreaking):
            events.setdefault(f"first row on {labels[0]}", set()).add(labels)
        events.setdefault(f"{len(set(labels))} clusters", set()).add(labels)
    drawn = np.array([[[z in event for z in row] for row in found] for event in events.values()])
    effective = diagnose(drawn.astype(float))[3]
    enough = 0
    for event, draws, n_effective in zip(events, drawn, effective, strict=True):
        p = sum(due[labels] for labels in events[event])
        if p * drawn[0].size < 100:  # too rare for a Normal error
            continue
        enough += 1
        assert n_effective > 400, event
        error = np.sqrt(p * (1.0 - p) / n_effective)
        assert abs(draws.mean() - p) < 5.0 * error, (event, draws.mean(), p, error)
    assert enough > 10


@pytest.mark.parametrize("name", ["sparse", "learnt", "two features"])
def test_allocations_have_their_exact_posterior(name: str) -> None:
    case = CASES[name]
    rows, normal = ROWS[case.n_dim], normal_prior(case.n_dim)
    components = overfitted_prior(case.prior, case.n_components)
    found = np.empty((CHAINS, DRAWS), dtype=object)
    for chain in range(CHAINS):
        rng = np.random.default_rng([21, chain])
        state = start(case, rng)
        sweep(rows, state, normal, components, 50, rng)
        for draw in range(DRAWS):
            sweep(rows, state, normal, components, 2, rng)
            found[chain, draw] = tuple(state.sticks[state.labels].tolist())
        assert state.numbers[N_COMPONENTS] == case.n_components
        assert sorted(state.sticks) == list(range(case.n_components))
        varies = isinstance(case.prior.concentration, Gamma)
        assert varies or state.numbers[CONCENTRATION] == case.prior.concentration
    assert_exact(case, found)


@pytest.mark.parametrize("name", ["sparse", "stick"])
def test_splits_merges_and_swaps_alone_have_the_exact_posterior(name: str) -> None:
    """Without the step that draws rows one by one, which would hide what is wrong with them."""
    case = CASES[name]
    rows, normal = ROWS[case.n_dim], normal_prior(case.n_dim)
    components = overfitted_prior(case.prior, case.n_components)
    found = np.empty((CHAINS, DRAWS), dtype=object)
    for chain in range(CHAINS):
        rng = np.random.default_rng([22, chain])
        state = start(case, rng)
        put_occupied_first(state)
        for draw in range(-100, DRAWS):
            for _ in range(5):
                split_or_merge(rows, state, normal, components, rng)
            counts = cluster_sizes(state)
            if components.sticks:
                swap_sticks(counts, state.sticks, case.n_components, 0.8, rng)
            if draw >= 0:
                found[chain, draw] = tuple(state.sticks[state.labels].tolist())
        assert state.numbers[N_CLUSTERS] == len(counts)
    assert_exact(case, found)
