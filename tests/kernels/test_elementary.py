"""The exponential and the logarithm: a unit or two in the last place, nothing odd at the ends."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesgmm.kernels import elementary
from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.elementary import SMALLEST_NORMAL, UNDERFLOW


@kernel
def exp_nonpositive(x: float) -> float:
    """Call what only kernels can call."""
    return elementary.exp_nonpositive(x)


@kernel
def log_positive(x: float) -> float:
    """Call what only kernels can call."""
    return elementary.log_positive(x)


def error_in_ulp(x: float) -> float:
    """Return how far the kernel is from exp(x), in units in the last place of exp(x)."""
    with localcontext() as context:
        context.prec = 50
        exact = Decimal(x).exp()
        unit = Decimal(math.ulp(float(exact)))
        return float(abs(Decimal(float(exp_nonpositive(x))) - exact) / unit)


def test_two_units_in_the_last_place_everywhere(rng: np.random.Generator) -> None:
    near_zero = -(10.0 ** rng.uniform(-20.0, 0.0, 2000))
    halves = -(np.arange(1, 1000) + 0.5) * math.log(2.0)  # where the range reduction changes sides
    points = np.concatenate(
        [rng.uniform(UNDERFLOW, 0.0, 8000), near_zero, halves, np.nextafter(halves, 0.0)]
    )
    points = points[points >= UNDERFLOW]
    assert max(error_in_ulp(float(x)) for x in points) <= 2.0


@given(st.floats(UNDERFLOW, 0.0))
def test_two_units_in_the_last_place_at_any_number(x: float) -> None:
    assert error_in_ulp(x) <= 2.0


def test_exact_at_zero() -> None:
    assert exp_nonpositive(0.0) == 1.0
    assert exp_nonpositive(-0.0) == 1.0


@given(st.floats(max_value=UNDERFLOW, exclude_max=True, allow_infinity=True))
def test_zero_below_the_smallest_normal_number(x: float) -> None:
    result = exp_nonpositive(x)
    assert result == 0.0
    assert math.copysign(1.0, result) == 1.0


def test_minus_infinity_is_zero() -> None:
    assert exp_nonpositive(-math.inf) == 0.0


def test_the_edge_itself_is_a_normal_number() -> None:
    assert exp_nonpositive(UNDERFLOW) >= np.finfo(np.float64).tiny


def test_nan_stays_nan() -> None:
    assert math.isnan(exp_nonpositive(math.nan))
    assert math.isnan(exp_nonpositive(-math.nan))


@pytest.mark.parametrize("payload", [0, 2, 1954, 1955, 2**51 - 1])
def test_nan_stays_nan_whatever_its_payload(payload: int) -> None:
    """The missing value of R carries 1954 in its bits, and other tools other numbers."""
    bits = np.array([0x7FF8000000000000 + payload], dtype=np.uint64)
    assert math.isnan(exp_nonpositive(bits.view(np.float64)[0]))


def test_never_rises_where_the_argument_falls(rng: np.random.Generator) -> None:
    """Within rounding: the order of two responsibilities that differ is kept."""
    x = np.sort(rng.uniform(UNDERFLOW, 0.0, 5000))
    values = np.array([exp_nonpositive(float(t)) for t in x])
    assert np.all(np.diff(values) >= -2.0 * np.spacing(values[1:]))


def log_error_in_ulp(x: float) -> float:
    """Return how far the kernel is from log(x), in units in the last place of log(x)."""
    with localcontext() as context:
        context.prec = 50
        exact = Decimal(x).ln()
        unit = Decimal(math.ulp(float(exact)))
        return float(abs(Decimal(float(log_positive(x))) - exact) / unit)


def test_logarithm_within_one_unit_in_the_last_place(rng: np.random.Generator) -> None:
    near_one = 1.0 + 10.0 ** rng.uniform(-16.0, 0.0, 3000)
    anywhere = np.exp(rng.uniform(-708.0, 709.0, 3000))
    edges = math.sqrt(0.5) * 2.0 ** np.arange(-4.0, 5.0)  # where the exponent changes sides
    points = np.concatenate(
        [near_one, 2.0 - near_one[near_one < 1.5], anywhere, edges, np.nextafter(edges, 0.0)]
    )
    assert max(log_error_in_ulp(float(x)) for x in points if x != 1.0) <= 1.0


@given(st.floats(SMALLEST_NORMAL, 1e308))
def test_logarithm_within_one_unit_at_any_number(x: float) -> None:
    assert x == 1.0 or log_error_in_ulp(x) <= 1.0


def test_logarithm_at_the_ends() -> None:
    assert log_positive(1.0) == 0.0
    assert log_positive(0.0) == -math.inf
    for outside in (-1.0, math.inf, math.nan, 5e-324):
        assert math.isnan(log_positive(outside))
