"""The partition that a mixture means, the order of its components; draws with switched labels."""

import numpy as np
import pytest

from bayesgmm.kernels.relabel import order_of, partition_of
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
