"""The order of numbers: NumPy's, equal ones in their order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesgmm.kernels.sorting import argsort


@given(st.lists(st.floats(allow_nan=False) | st.sampled_from([0.0, 1.0, -1.0]), max_size=60))
def test_the_order_is_that_of_numpy(values: list[float]) -> None:
    array = np.array(values) + 0.0  # no minus zero, which comes before zero here
    np.testing.assert_array_equal(argsort(array), np.argsort(array, kind="stable"))


@pytest.mark.parametrize("size", [0, 1, 2, 1000, 40_000])
def test_any_number_of_them(size: int, rng: np.random.Generator) -> None:
    values = np.round(rng.standard_t(1.0, size), 1) + 0.0
    np.testing.assert_array_equal(argsort(values), np.argsort(values, kind="stable"))


def test_minus_zero_and_nan_have_their_places() -> None:
    values = np.array([np.inf, np.nan, 0.0, -1e-308, -0.0, -np.inf])
    assert argsort(values).tolist() == [5, 3, 4, 2, 0, 1]
