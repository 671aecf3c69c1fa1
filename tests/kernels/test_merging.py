"""Merging clusters, against the definitions written out."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import xlogy

from bayesgmm.kernels.draws import fill_draws
from bayesgmm.kernels.merging import elbow, fill_paths, merge_path, stop
from bayesgmm.kernels.relabel import NO_ARRAY, NO_CUBE, NO_LABELS
from tests.kernels.oracle import random_mixture, sample


def entropy_of(shares: np.ndarray) -> float:
    return float(-xlogy(shares, shares).sum())


def misclassified(one: np.ndarray, other: np.ndarray) -> float:
    return max(one[one < other].sum() / one.sum(), other[one >= other].sum() / other.sum())


def naive_path(
    shares: np.ndarray, entropy: bool
) -> tuple[list[list[int]], list[float], list[float], list[float]]:
    """Clusters, gains, entropies and sizes of 1, 2, ..., K clusters."""
    groups = [[k] for k in range(len(shares))]
    clusters, gains, entropies, sizes = [], [], [], []
    while True:
        merged = np.stack([shares[group].sum(axis=0) for group in groups])
        label = {k: g for g, group in enumerate(groups) for k in group}
        clusters.append([label[k] for k in range(len(shares))])
        entropies.append(entropy_of(merged))
        if len(groups) == 1:
            return (
                clusters[::-1], [np.nan, *gains[::-1]], entropies[::-1], [np.nan, *sizes[::-1]],
            )  # fmt: skip
        found = {}
        for i, j in combinations(range(len(groups)), 2):
            pair = merged[[i, j]]
            if entropy:
                found[i, j] = entropy_of(pair) - entropy_of(pair.sum(axis=0))
            else:
                found[i, j] = misclassified(merged[i], merged[j])
        i, j = max(found, key=lambda pair: found[pair])
        gains.append(found[i, j])
        sizes.append(merged[[i, j]].sum())
        groups[i] += groups.pop(j)


def path_of(
    shares: np.ndarray, entropy: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    k = len(shares)
    clusters = np.full((k, k), -1)
    values, entropies, sizes = np.empty((3, k))
    occupied = merge_path(shares.copy(), entropy, clusters, values, entropies, sizes)
    return clusters, values, entropies, sizes, occupied


@pytest.mark.parametrize("entropy", [True, False])
@pytest.mark.parametrize("n_components", [1, 2, 3, 6])
def test_the_path_is_that_of_the_definition(
    n_components: int, entropy: bool, rng: np.random.Generator
) -> None:
    for _ in range(20):
        shares = rng.dirichlet(np.full(n_components, 0.3), 60).T
        clusters, values, entropies, sizes, occupied = path_of(shares, entropy)
        expected = naive_path(shares, entropy)
        np.testing.assert_array_equal(clusters, expected[0])
        np.testing.assert_allclose(values, expected[1], rtol=1e-10)
        np.testing.assert_allclose(entropies, expected[2], rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(sizes, expected[3], rtol=1e-12)
        assert occupied == n_components


def test_entropies_fall_by_what_the_merging_gains(rng: np.random.Generator) -> None:
    _, values, entropies, _, _ = path_of(rng.dirichlet(np.full(5, 0.5), 100).T, True)
    np.testing.assert_allclose(np.diff(entropies), values[1:], rtol=1e-10)
    assert entropies[0] == 0.0
    assert np.isnan(values[0])


def test_an_empty_component_is_merged_first(rng: np.random.Generator) -> None:
    shares = rng.dirichlet(np.full(4, 0.3), 80).T
    shares[2] = 0.0
    shares[1, 0] += 1e-9
    shares /= shares.sum(axis=0)
    for entropy in (True, False):
        clusters, _, entropies, _, occupied = path_of(shares, entropy)
        assert occupied == 3
        assert (clusters[2] == clusters[2, 2]).sum() == 2
        assert entropies[3] == pytest.approx(entropies[2], rel=1e-12)


def test_certain_rows_gain_nothing() -> None:
    shares = np.repeat(np.eye(3), 5, axis=1)
    for entropy in (True, False):
        _, values, entropies, _, _ = path_of(shares, entropy)
        np.testing.assert_array_equal(values[1:], 0.0)
        np.testing.assert_array_equal(entropies, 0.0)


def misfit_at(x: np.ndarray, entropies: np.ndarray, bend: int) -> float:
    """Sum of squares about two lines that share the point of `bend` clusters."""
    total = 0.0
    for part in (slice(0, bend), slice(bend - 1, None)):
        line = np.polynomial.Polynomial.fit(x[part], entropies[part], 1)
        total += ((entropies[part] - line(x[part])) ** 2).sum()
    return total


@given(
    steps=st.lists(
        st.tuples(st.floats(0.1, 50.0), st.floats(1.0, 300.0)), min_size=3, max_size=9,
        unique_by=lambda step: step[0],
    )
)  # fmt: skip
def test_the_elbow_is_where_two_lines_fit_best(steps: list[tuple[float, float]]) -> None:
    gains, sizes = np.transpose(steps)
    entropies = np.concatenate([[0.0], np.cumsum(np.sort(gains))])
    x = np.concatenate([[0.0], np.cumsum(sizes)])
    got = elbow(entropies, np.concatenate([[np.nan], sizes]), len(x))
    least = min(misfit_at(x, entropies, bend) for bend in range(2, len(x)))
    assert misfit_at(x, entropies, got) == pytest.approx(least, rel=1e-6, abs=1e-8)


def test_a_path_without_a_bend() -> None:
    sizes = np.array([np.nan, 30.0, 20.0, 10.0])
    assert elbow(np.array([0.0]), sizes[:1], 1) == 1
    assert elbow(np.array([0.0, 30.0]), sizes[:2], 2) == 2
    assert elbow(np.array([0.0, 0.1, 0.2, 0.3]), sizes, 4) == 4  # not one row is undecided
    assert elbow(np.array([0.0, 1.0, 2.0, 40.0]), sizes, 4) == 3
    assert elbow(np.array([0.0, 1.0, 40.0, 40.0]), sizes, 3) == 2  # the last component is empty


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
    shares = np.empty((3, 4, 70))
    fill_draws(rows, *stacked, NO_ARRAY, shares, NO_LABELS, NO_CUBE)
    fill_paths(shares, entropy, 0.1, clusters, values, entropies, proposed)
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
        occupied = expected[4]
        due = elbow(*expected[2:]) if entropy else stop(expected[1], occupied, 0.1)
        assert proposed[s] == due
