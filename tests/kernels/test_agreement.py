"""Counts of draws in which rows share a cluster, against a loop."""

import numpy as np
import pytest

from bayesgmm.kernels.agreement import agreements


@pytest.mark.parametrize(
    ("n_draws", "n_obs", "n_clusters"),
    [(1, 1, 1), (3, 5, 2), (64, 7, 3), (65, 9, 256), (40, 6, 257), (20_000, 3, 2), (3, 4, 70_000)],
)
def test_agreements_are_counted(
    rng: np.random.Generator, n_draws: int, n_obs: int, n_clusters: int
) -> None:
    labels = rng.integers(0, n_clusters, (n_draws, n_obs)).astype(np.int32)
    labels[0, 0] = n_clusters - 1
    rows = np.array([n_obs - 1, 0])
    expected = (labels[:, rows, None] == labels[:, None, :]).sum(axis=0)
    np.testing.assert_array_equal(agreements(labels, rows), expected)
