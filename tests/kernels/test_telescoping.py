"""The sampler over the number of components against exact sums over all partitions."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp
from scipy.stats import beta, f, halfnorm

from bayesgmm.component_prior import PriorOnComponents
from bayesgmm.inference.telescoping import component_prior
from bayesgmm.kernels.cholesky import Layout
from bayesgmm.kernels.component import NormalPrior
from bayesgmm.kernels.diagnostics import diagnose
from bayesgmm.kernels.splitting import CONCENTRATION, N_COMPONENTS, State, sides, split_or_merge
from bayesgmm.kernels.telescoping import cluster_sizes, put_occupied_first, sweep

type Array = NDArray[np.float64]
type Partition = tuple[int, ...]

ROWS: Final = {
    1: np.array([[-1.3, -1.1, 0.1, 0.9, 1.4]]),
    2: np.array([[-1.2, -0.9, 1.0, 1.1], [-0.4, -0.9, 0.8, -0.2]]),
}
"""Standardised data of one feature and of two, shape (D, N)."""
SCALE, TAU, FLOOR, ETA = 1.5, 0.6, 0.1, 1.5
CHAINS, DRAWS = 4, 4000


def normal_prior(n_dim: int) -> NormalPrior:
    return NormalPrior(
        layout=Layout(1, n_dim, 1, n_dim, 1 if n_dim > 1 else 0),
        location=np.full(n_dim, 0.2),
        scale=np.full(n_dim, SCALE),
        tau=np.full(n_dim, TAU),
        floor=np.full(n_dim, FLOOR),
        eta=ETA,
    )


def partitions(n: int) -> Iterator[Partition]:
    """Yield all partitions of n rows, clusters numbered as they appear."""

    def extend(labels: Partition) -> Iterator[Partition]:
        if len(labels) == n:
            yield labels
            return
        for label in range(max(labels) + 2):
            yield from extend((*labels, label))

    yield from extend((0,))


def numbered(labels: NDArray[np.int64]) -> Partition:
    seen: dict[int, int] = {}
    return tuple(seen.setdefault(int(label), len(seen)) for label in labels)


def nodes(n_dim: int) -> tuple[Array, Array]:
    """Return covariances, shape (G, D, D), and their weights under the prior, shape (G,)."""
    points, weights = np.polynomial.legendre.leggauss(200 if n_dim == 1 else 48)
    below = halfnorm.cdf(FLOOR, scale=TAU)
    s = halfnorm.ppf(below + (1.0 - below) * 0.5 * (points + 1.0), scale=TAU)
    weights = 0.5 * weights
    if n_dim == 1:
        return s[:, None, None] ** 2, weights
    few, few_weights = np.polynomial.legendre.leggauss(24)
    c = 2.0 * beta.ppf(0.5 * (few + 1.0), ETA, ETA) - 1.0
    first, second, r = (grid.ravel() for grid in np.meshgrid(s, s, c, indexing="ij"))
    covariances = np.array([[first**2, r * first * second], [r * first * second, second**2]])
    products = np.einsum("i,j,k->ijk", weights, weights, 0.5 * few_weights)
    return np.moveaxis(covariances, -1, 0), products.ravel()


def log_evidence(x: Array, covariances: Array, weights: Array) -> float:
    """Log density of the rows of one cluster, shape (D, n), by quadrature."""
    n_dim, n = x.shape
    whole = np.einsum("gde,ij->gdiej", covariances, np.eye(n)) + np.einsum(
        "de,ij->diej", SCALE**2 * np.eye(n_dim), np.ones((n, n))
    )
    whole = whole.reshape(len(covariances), n_dim * n, n_dim * n)
    d = np.broadcast_to((x - 0.2).ravel()[None, :, None], (len(whole), n_dim * n, 1))
    quadratic = (d * np.linalg.solve(whole, d)).sum(axis=(1, 2))
    log_density = -0.5 * (quadratic + np.linalg.slogdet(2.0 * np.pi * whole)[1])
    return float(logsumexp(log_density, b=weights))


def log_prior_of_partition(
    partition: Partition, n_components: int, prior: PriorOnComponents, concentration: float
) -> float:
    counts = np.bincount(partition)
    g = concentration / n_components if prior.dynamic else concentration
    if len(counts) > n_components:
        return -np.inf
    return float(
        gammaln(n_components + 1)
        - gammaln(n_components - len(counts) + 1)
        + gammaln(n_components * g)
        - gammaln(n_components * g + counts.sum())
        + (gammaln(counts + g) - gammaln(g)).sum()
    )


def exact(rows: Array, prior: PriorOnComponents) -> dict[tuple[Partition, int], float]:
    """Return the posterior probability of every partition with every number of components."""
    covariances, weights = nodes(len(rows))
    subsets: dict[tuple[int, ...], float] = {}
    if isinstance(prior.concentration, tuple):
        steps = np.linspace(0.0005, 0.9995, 1000)
        concentrations = f.ppf(steps, *prior.concentration).tolist()
    else:
        concentrations = [prior.concentration]
    of_number = prior.log_probabilities()
    result = {}
    for partition in partitions(rows.shape[1]):
        evidence = 0.0
        for cluster in range(max(partition) + 1):
            members = tuple(i for i, label in enumerate(partition) if label == cluster)
            if members not in subsets:
                subsets[members] = log_evidence(rows[:, list(members)], covariances, weights)
            evidence += subsets[members]
        for k in range(1, len(of_number) + 1):
            of_partition = logsumexp(
                [log_prior_of_partition(partition, k, prior, g) for g in concentrations]
            )
            result[partition, k] = evidence + of_number[k - 1] + of_partition
    total = logsumexp(list(result.values()))
    return {key: float(np.exp(value - total)) for key, value in result.items()}


def start(rows: Array, largest: int, concentration: float, rng: np.random.Generator) -> State:
    n_dim, n_rows = rows.shape
    k = int(rng.integers(1, min(largest, n_rows) + 1))
    return State(
        rng.integers(k, size=n_rows),
        np.zeros((largest, 2 * n_dim + n_dim * (n_dim - 1) // 2)),
        np.zeros(largest),
        np.array([k, k, concentration, 0.0]),
        np.arange(largest),
    )


PRIORS: Final = {
    "static": (1, PriorOnComponents("geometric", 0.3, concentration=0.8, dynamic=False)),
    "dynamic": (1, PriorOnComponents(concentration=2.0)),
    "learnt": (1, PriorOnComponents("uniform", 6)),
    "two features": (2, PriorOnComponents("poisson", 1.5, concentration=1.5, dynamic=False)),
}


@pytest.mark.parametrize("name", PRIORS)
def test_partitions_and_numbers_have_their_exact_posterior(name: str) -> None:
    n_dim, prior = PRIORS[name]
    rows, normal, components = ROWS[n_dim], normal_prior(n_dim), component_prior(prior)
    due = exact(rows, prior)
    first = 1.0 if isinstance(prior.concentration, tuple) else prior.concentration
    found = np.empty((CHAINS, DRAWS), dtype=object)
    for chain in range(CHAINS):
        rng = np.random.default_rng([17, chain])
        state = start(rows, components.log_probability.size, first, rng)
        sweep(rows, state, normal, components, 50, rng)
        for draw in range(DRAWS):
            sweep(rows, state, normal, components, 2, rng)
            found[chain, draw] = numbered(state.labels), int(state.numbers[N_COMPONENTS])
    events = {
        f"partition {p}": ({key for key in due if key[0] == p}) for p in partitions(rows.shape[1])
    }
    events |= {f"K = {k}": ({key for key in due if key[1] == k}) for k in range(1, 9)}
    drawn = np.array(
        [[[key in event for key in row] for row in found] for event in events.values()], dtype=float
    )
    effective = diagnose(drawn)[3]
    enough = 0
    for event, draws, n_effective in zip(events, drawn, effective, strict=True):
        p = sum(due[key] for key in events[event])
        error = np.sqrt(
            p * (1.0 - p) / (n_effective if np.isfinite(n_effective) else drawn[0].size)
        )
        if p * drawn[0].size < 100:  # too rare for a Normal error
            continue
        enough += 1
        assert n_effective > 400, event
        assert abs(draws.mean() - p) < 5.0 * error, (event, draws.mean(), p, error)
    assert enough > 10


@pytest.mark.parametrize("n_dim", [1, 2])
def test_splits_and_merges_alone_have_their_exact_distribution(n_dim: int) -> None:
    """They keep the number of components without rows: here one."""
    prior = PriorOnComponents("geometric", 0.3, concentration=0.8, dynamic=False)
    rows, normal, components = ROWS[n_dim], normal_prior(n_dim), component_prior(prior)
    due = {p: mass for (p, k), mass in exact(rows, prior).items() if k == max(p) + 2}
    total = sum(due.values())
    found = np.empty((CHAINS, DRAWS), dtype=object)
    for chain in range(CHAINS):
        rng = np.random.default_rng([18, chain])
        state = start(rows, components.log_probability.size, 0.8, rng)
        put_occupied_first(state)
        state.numbers[N_COMPONENTS] = cluster_sizes(state).size + 1
        for draw in range(-100, DRAWS):
            for _ in range(8):
                split_or_merge(rows, state, normal, components, rng)
            if draw >= 0:
                found[chain, draw] = numbered(state.labels)
        assert state.numbers[N_COMPONENTS] == cluster_sizes(state).size + 1
    drawn = np.array([[[key == p for key in row] for row in found] for p in due], dtype=float)
    effective = diagnose(drawn)[3]
    assert effective[list(due).index((0,) * rows.shape[1])] > 400
    for (partition, mass), draws, n_effective in zip(due.items(), drawn, effective, strict=True):
        p = mass / total
        if p * n_effective < 50:  # too rare for a Normal error
            continue
        error = np.sqrt(p * (1.0 - p) / n_effective)
        assert abs(draws.mean() - p) < 5.0 * error, (partition, draws.mean(), p, error)


@pytest.mark.parametrize("n_rows", [20, 1000])
def test_rows_are_told_apart_from_any_two_of_them(n_rows: int, rng: np.random.Generator) -> None:
    truth = rng.random(n_rows) < 0.3
    x = rng.normal(size=(n_rows, 2)) + np.where(truth[:, None], 9.0, 0.0)
    first, second = int(np.argmin(truth)), int(np.argmax(truth))
    shares = sides(x, first, second)
    assert (shares[first], shares[second]) == (0.0, 1.0)
    np.testing.assert_array_equal(shares > 0.5, truth)
    others = np.delete(shares, [first, second])
    assert others.min() >= 0.5 / n_rows
    assert others.max() <= 1.0 - 0.5 / n_rows


def test_a_fixed_concentration_stays() -> None:
    prior = PriorOnComponents(concentration=2.0)
    rng = np.random.default_rng(3)
    state = start(ROWS[1], 200, 2.0, rng)
    sweep(ROWS[1], state, normal_prior(1), component_prior(prior), 20, rng)
    assert state.numbers[CONCENTRATION] == 2.0
