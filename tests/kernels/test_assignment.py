"""Matchings, against SciPy's and against all of them."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from bayesgmm.kernels.assignment import assign

type Array = np.ndarray


def all_totals(gain: Array) -> list[float]:
    """Return the total gains of all matchings, the largest first."""
    n = len(gain)
    totals = [sum(gain[p[j], j] for j in range(n)) for p in permutations(range(n))]
    return sorted((float(total) for total in totals), reverse=True)


def check_matching(gain: Array, total: float, row_of: Array) -> None:
    n = len(gain)
    assert sorted(row_of.tolist()) == list(range(n))
    assert total == pytest.approx(gain[row_of, np.arange(n)].sum(), rel=1e-13)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 20, 50])
def test_as_good_as_scipy(n: int, rng: np.random.Generator) -> None:
    for scale in (1.0, 1e-9, 1e9):
        for _ in range(10):
            gain = scale * rng.normal(size=(n, n))
            total, row_of = assign(gain)
            check_matching(gain, total, row_of)
            rows, columns = linear_sum_assignment(gain, maximize=True)
            assert total == pytest.approx(gain[rows, columns].sum(), rel=1e-12)


@given(st.integers(1, 5).flatmap(
    lambda n: st.lists(st.integers(-20, 20), min_size=n * n, max_size=n * n)))  # fmt: skip
def test_the_best_of_all(entries: list[int]) -> None:
    """With whole numbers, many of them ties, exactly."""
    n = round(len(entries) ** 0.5)
    gain = np.array(entries, dtype=float).reshape(n, n)
    total, row_of = assign(gain)
    check_matching(gain, total, row_of)
    assert total == all_totals(gain)[0]


def test_a_planted_permutation_is_returned_column_by_column() -> None:
    """Row 2 belongs to column 0, and so on: `row_of` is read by column."""
    planted = np.array([2, 0, 1])
    gain = np.zeros((3, 3))
    gain[planted, [0, 1, 2]] = 1.0
    assert assign(gain)[1].tolist() == planted.tolist()


def test_forbidden_pairs_are_avoided_or_the_total_says_so() -> None:
    gain = np.array([[-np.inf, 1.0], [5.0, 100.0]])
    total, row_of = assign(gain)
    assert total == 6.0
    assert row_of.tolist() == [1, 0]
    gain[1, 0] = -np.inf
    assert assign(gain)[0] == -np.inf
