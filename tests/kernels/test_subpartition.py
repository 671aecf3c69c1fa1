"""Growing a subset, against the same search with everything counted anew at every step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesgmm.kernels.partition_loss import compacted
from bayesgmm.kernels.subpartition import grow_subset


def same(draw: list[int], labels: list[int]) -> bool:
    """Whether two lists of labels are one partition."""
    return len(set(zip(draw, labels, strict=True))) == len(set(draw)) == len(set(labels))


def naive(draws: np.ndarray, order: np.ndarray) -> tuple[list[int], list[int], list[int]]:
    rows: list[int] = []
    labels: list[int] = []
    agreeing: list[int] = []
    left = order.tolist()
    while left:
        n_open = max(labels, default=-1) + 1
        best = (-1, -1, -1)
        for row in left:
            for label in range(n_open + 1):
                count = sum(same([*draw[rows], draw[row]], [*labels, label]) for draw in draws)
                if count > best[0]:
                    best = (count, row, label)
        agreeing.append(best[0])
        rows.append(best[1])
        labels.append(best[2])
        left.remove(best[1])
    return rows, labels, agreeing


@given(
    shape=st.tuples(st.integers(1, 7), st.integers(1, 6)), n_labels=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_the_search_is_the_naive_one(shape: tuple[int, int], n_labels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    draws = compacted(rng.integers(0, n_labels, shape), n_labels)
    order = rng.permutation(shape[1])
    found = grow_subset(draws, order)
    for array, expected in zip(found, naive(draws, order), strict=True):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("n_draws", [1, 5])
def test_draws_that_all_agree_give_all_rows(n_draws: int) -> None:
    draws = np.tile(np.array([0, 1, 0, 2, 1], dtype=np.int32), (n_draws, 1))
    rows, labels, agreeing = grow_subset(draws, np.array([3, 0, 1, 2, 4]))
    assert agreeing.tolist() == [n_draws] * 5
    assert rows.tolist() == [3, 0, 1, 2, 4]
    assert labels.tolist() == [0, 1, 2, 1, 2]
