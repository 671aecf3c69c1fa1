"""Label switching undone: planted permutations come back, and margins mean what they say."""

from itertools import permutations

import numpy as np
import pytest

from bayesgmm.kernels import relabel
from bayesgmm.kernels.relabel import align_draws, match_to_partition, order_of, partition_of
from tests.kernels.oracle import Mixture, random_mixture, sample
from tests.kernels.test_mstep import log_joint

type Array = np.ndarray


def noisy(rng: np.random.Generator, mixture: Mixture, n_draws: int, noise: float) -> Mixture:
    """Return draws around a mixture, stacked."""
    k, d = mixture.means.shape
    return Mixture(
        mixture.log_weights + noise * rng.normal(size=(n_draws, k)),
        mixture.means + noise * rng.normal(size=(n_draws, k, d)),
        mixture.cholesky * np.exp(noise * rng.normal(size=(n_draws, k, 1, 1))),
    )


def permuted(draws: Mixture, order: Array) -> Mixture:
    """Return draws whose component j is what was component order[s, j]."""
    which = np.arange(len(order))[:, None]
    return Mixture(*(np.ascontiguousarray(part[which, order]) for part in draws))


def shares(rows: Array, mixture: Mixture) -> Array:
    """Return responsibilities, shape (K, N)."""
    joint = log_joint(rows, mixture)
    weight = np.exp(joint - joint.max(axis=0))
    return weight / weight.sum(axis=0)


def separated(
    rng: np.random.Generator, n_components: int, n_features: int
) -> tuple[Mixture, Array]:
    """Return a mixture of clusters far apart, and rows of it."""
    mixture = random_mixture(rng, n_components, n_features, decades=0.1)
    means = 12.0 * np.arange(n_components)[:, None] + rng.normal(size=mixture.means.shape)
    mixture = mixture._replace(
        means=rng.permutation(means), log_weights=np.full(n_components, -np.log(n_components))
    )
    return mixture, sample(rng, mixture, 40 * n_components)


@pytest.mark.parametrize(("n_components", "n_features"), [(1, 1), (2, 1), (3, 2), (5, 5), (8, 2)])
def test_planted_permutations_are_all_undone(
    n_components: int, n_features: int, rng: np.random.Generator
) -> None:
    mixture, rows = separated(rng, n_components, n_features)
    draws = noisy(rng, mixture, 60, 0.1)
    planted = rng.permuted(np.tile(np.arange(n_components), (60, 1)), axis=1)
    switched = permuted(draws, planted)
    permutation, margin = align_draws(rows, *switched, pivot=7)
    order = order_of(draws.means.mean(axis=0))
    np.testing.assert_array_equal(
        np.take_along_axis(planted, permutation, axis=1), np.tile(order, (60, 1))
    )
    aligned = permuted(switched, permutation)
    np.testing.assert_array_equal(aligned.means, permuted(draws, np.tile(order, (60, 1))).means)
    assert np.all(np.diff(aligned.means.mean(axis=0)[:, 0]) > 0)
    smallest = np.sort(np.bincount(shares(rows, mixture).argmax(axis=0), minlength=n_components))
    wanted = 1.0 if n_components == 1 else smallest[:2].sum() / rows.shape[1]
    np.testing.assert_allclose(margin, wanted, atol=1e-3)


def test_the_pivot_only_names_the_partition(rng: np.random.Generator) -> None:
    mixture, rows = separated(rng, 3, 2)
    planted = rng.permuted(np.tile(np.arange(3), (20, 1)), axis=1)
    draws = permuted(noisy(rng, mixture, 20, 0.1), planted)
    one, other = (permuted(draws, align_draws(rows, *draws, pivot)[0]) for pivot in (0, 13))
    np.testing.assert_array_equal(one.means, other.means)


def test_margins_by_brute_force(rng: np.random.Generator) -> None:
    """On components that overlap: best total probability minus second best, over the rows."""
    mixture = random_mixture(rng, 4, 2, decades=0.1)
    rows = sample(rng, mixture, 90)
    draws = noisy(rng, mixture, 25, 0.5)
    labels = rng.integers(0, 4, 90)
    permutation, margin = match_to_partition(rows, *draws, labels.astype(np.int64))
    assert margin.min() < 0.02  # ambiguous ones are among them
    for s in range(25):
        share = shares(rows, Mixture(*(part[s] for part in draws)))
        totals = {
            order: sum(share[order[label], i] for i, label in enumerate(labels))
            for order in permutations(range(4))
        }
        best, second = sorted(totals.values(), reverse=True)[:2]
        assert totals[tuple(permutation[s])] == pytest.approx(best, abs=1e-9)
        assert margin[s] == pytest.approx((best - second) / 90, abs=1e-9)
        assert 0.0 <= margin[s] <= 1.0


@pytest.mark.parametrize("n_features", [1, 4])
def test_the_partition_is_the_most_probable_component(
    n_features: int, rng: np.random.Generator
) -> None:
    mixture = random_mixture(rng, 4, n_features, decades=0.1)
    rows = sample(rng, mixture, 300)
    labels = partition_of(rows, *mixture)
    np.testing.assert_array_equal(labels, log_joint(rows, mixture).argmax(axis=0))


def test_components_are_ordered_by_the_first_feature_then_the_next() -> None:
    means = np.array([[2.0, 0.0], [1.0, 5.0], [1.0, -5.0], [0.0, 9.0]])
    assert order_of(means).tolist() == [3, 2, 1, 0]


def test_some_of_many_rows_stand_for_all(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixture, rows = separated(rng, 3, 2)  # 120 rows
    draws = noisy(rng, mixture, 40, 2.0)
    expected = align_draws(np.ascontiguousarray(rows[:, ::3]), *draws, pivot=0)
    whole = align_draws(rows, *draws, pivot=0)
    monkeypatch.setattr(relabel, "MATCHED_ROWS", 40)
    some = align_draws(rows, *draws, pivot=0)
    np.testing.assert_array_equal(some[0], expected[0])
    np.testing.assert_array_equal(some[1], expected[1])
    assert (some[1] != whole[1]).any()
