"""Merging clusters, against the definitions written out."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import xlogy

from bayesgmm.kernels.merging import elbow, fill_paths, merge_path, stop
from tests.kernels.oracle import random_mixture, sample


def entropy_of(shares: np.ndarray) -> float:
    return float(-xlogy(shares, shares).sum())


def misclassified(one: np.ndarray, other: np.ndarray) -> float:
    return max(one[one < other].sum() / one.sum(), other[one >= other].sum() / other.sum())


def naive_path(
    shares: np.ndarray, entropy: bool
) -> tuple[list[list[int]], list[float], list[float]]:
    """Clusters, gains and entropies of 1, 2, ..., K clusters."""
    groups = [[k] for k in range(len(shares))]
    clusters, gains, entropies = [], [], []
    while True:
        merged = np.stack([shares[group].sum(axis=0) for group in groups])
        label = {k: g for g, group in enumerate(groups) for k in group}
        clusters.append([label[k] for k in range(len(shares))])
        entropies.append(entropy_of(merged))
        if len(groups) == 1:
            return clusters[::-1], [np.nan, *gains[::-1]], entropies[::-1]
        found = {}
        for i, j in combinations(range(len(groups)), 2):
            pair = merged[[i, j]]
            if entropy:
                found[i, j] = entropy_of(pair) - entropy_of(pair.sum(axis=0))
            else:
                found[i, j] = misclassified(merged[i], merged[j])
        i, j = max(found, key=lambda pair: found[pair])
        gains.append(found[i, j])
        groups[i] += groups.pop(j)


def path_of(shares: np.ndarray, entropy: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    k = len(shares)
    clusters, values, entropies = np.full((k, k), -1), np.empty(k), np.empty(k)
    occupied = merge_path(shares.copy(), entropy, clusters, values, entropies)
    return clusters, values, entropies, occupied


@pytest.mark.parametrize("entropy", [True, False])
@pytest.mark.parametrize("n_components", [1, 2, 3, 6])
def test_the_path_is_that_of_the_definition(
    n_components: int, entropy: bool, rng: np.random.Generator
) -> None:
    for _ in range(20):
        shares = rng.dirichlet(np.full(n_components, 0.3), 60).T
        clusters, values, entropies, occupied = path_of(shares, entropy)
        expected = naive_path(shares, entropy)
        np.testing.assert_array_equal(clusters, expected[0])
        np.testing.assert_allclose(values, expected[1], rtol=1e-10)
        np.testing.assert_allclose(entropies, expected[2], rtol=1e-10, atol=1e-10)
        assert occupied == n_components


def test_entropies_fall_by_what_the_merging_gains(rng: np.random.Generator) -> None:
    _, values, entropies, _ = path_of(rng.dirichlet(np.full(5, 0.5), 100).T, True)
    np.testing.assert_allclose(np.diff(entropies), values[1:], rtol=1e-10)
    assert entropies[0] == 0.0
    assert np.isnan(values[0])


def test_an_empty_component_is_merged_first(rng: np.random.Generator) -> None:
    shares = rng.dirichlet(np.full(4, 0.3), 80).T
    shares[2] = 0.0
    shares[1, 0] += 1e-9
    shares /= shares.sum(axis=0)
    for entropy in (True, False):
        clusters, _, entropies, occupied = path_of(shares, entropy)
        assert occupied == 3
        assert (clusters[2] == clusters[2, 2]).sum() == 2
        assert entropies[3] == pytest.approx(entropies[2], rel=1e-12)


def test_certain_rows_gain_nothing() -> None:
    shares = np.repeat(np.eye(3), 5, axis=1)
    for entropy in (True, False):
        _, values, entropies, _ = path_of(shares, entropy)
        np.testing.assert_array_equal(values[1:], 0.0)
        np.testing.assert_array_equal(entropies, 0.0)


def naive_elbow(entropies: np.ndarray) -> int:
    x = np.arange(1, len(entropies) + 1)
    misfit = {}
    for bend in range(2, len(x)):
        misfit[bend] = 0.0
        for part in (slice(0, bend), slice(bend - 1, None)):
            line = np.polynomial.Polynomial.fit(x[part], entropies[part], 1)
            misfit[bend] += ((entropies[part] - line(x[part])) ** 2).sum()
    return min(misfit, key=lambda bend: misfit[bend])


@given(
    steps=st.lists(st.floats(0.1, 50.0), min_size=3, max_size=9, unique=True),
)
def test_the_elbow_is_where_two_lines_fit_best(steps: list[float]) -> None:
    entropies = np.concatenate([[0.0], np.cumsum(np.sort(steps))])
    got, expected = elbow(entropies, len(entropies)), naive_elbow(entropies)
    if got != expected:  # a tie
        np.testing.assert_allclose(
            [misfit_at(entropies, got)], [misfit_at(entropies, expected)], atol=1e-9
        )


def misfit_at(entropies: np.ndarray, bend: int) -> float:
    x = np.arange(len(entropies))
    total = 0.0
    for part in (slice(0, bend), slice(bend - 1, None)):
        fit = np.polynomial.Polynomial.fit(x[part], entropies[part], 1)
        total += ((entropies[part] - fit(x[part])) ** 2).sum()
    return total


def test_a_path_without_a_bend() -> None:
    assert elbow(np.array([0.0]), 1) == 1
    assert elbow(np.array([0.0, 30.0]), 2) == 2
    assert elbow(np.array([0.0, 0.1, 0.2, 0.3]), 4) == 4  # not one row is undecided
    assert elbow(np.array([0.0, 1.0, 2.0, 40.0]), 4) == 3
    assert elbow(np.array([0.0, 1.0, 40.0, 40.0]), 3) == 2  # the last component is empty


def test_merging_stops_below_the_threshold() -> None:
    values = np.array([np.nan, 0.01, 0.3, 0.2])
    assert stop(values, 4, 0.025) == 2
    assert stop(values, 4, 0.25) == 4
    assert stop(values, 3, 0.25) == 2
    assert stop(values, 4, 0.001) == 1


@pytest.mark.parametrize("entropy", [True, False])
def test_every_draw_has_its_own_path(entropy: bool, rng: np.random.Generator) -> None:
    draws = [random_mixture(rng, 4, 2, decades=0.1) for _ in range(3)]
    rows = sample(rng, draws[0], 70)
    stacked = [np.ascontiguousarray(np.stack(part)) for part in zip(*draws, strict=True)]
    clusters, values, entropies = (
        np.empty((3, 4, 4), dtype=np.int64),
        np.empty((3, 4)),
        np.empty((3, 4)),
    )
    proposed = np.empty(3, dtype=np.int64)
    fill_paths(rows, *stacked, entropy, 0.1, clusters, values, entropies, proposed)
    log_weights, means, cholesky = stacked
    for s in range(3):
        y = np.linalg.solve(cholesky[s][:, None], (rows.T[None] - means[s][:, None])[..., None])
        joint = log_weights[s][:, None] - 0.5 * (y[..., 0] ** 2).sum(axis=2)
        joint -= np.log(np.einsum("kdd->kd", cholesky[s])).sum(axis=1)[:, None]
        shares = np.exp(joint - joint.max(axis=0))
        expected = path_of(shares / shares.sum(axis=0), entropy)
        np.testing.assert_array_equal(clusters[s], expected[0])
        np.testing.assert_allclose(values[s], expected[1], rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(entropies[s], expected[2], rtol=1e-8, atol=1e-10)
        occupied = expected[3]
        due = elbow(expected[2], occupied) if entropy else stop(expected[1], occupied, 0.1)
        assert proposed[s] == due
