"""The exponential and the logarithm, of numbers and of vectors of rows alike."""

from typing import Any, Final

from numba import types
from numba.extending import intrinsic

from bayesgmm.kernels.lanes import Builder, Value, as_integers, like, multiply_add

LOG2_E: Final = 1.4426950408889634
LN2_HIGH: Final = 0.6931471805598903  # the upper bits of log 2: n * LN2_HIGH is exact
LN2_LOW: Final = 5.497923018708371e-14
ROUND: Final = 1.5 * 2.0**52 + 1023.0  # adding it leaves a rounded, biased exponent in the low bits
UNDERFLOW: Final = -708.0  # exp of less is below the smallest normal number and counts as 0

# Chebyshev fit of exp on [-log(2) / 2, log(2) / 2], relative error 3.2e-18.
EXP: Final = (
    1.0, 1.0, 0.5000000000000019, 0.1666666666666668, 0.0416666666664881, 0.008333333333319601,
    0.0013888888952314775, 0.00019841269890047113, 2.4801485482328494e-05, 2.755724091857897e-06,
    2.763263963904103e-07, 2.5110037605963777e-08,
)  # fmt: skip

SQRT_HALF_BITS: Final = 0x3FE6A09E667F3BCD
MANTISSA_BITS: Final = 0x000FFFFFFFFFFFFF
SMALLEST_NORMAL: Final = 2.2250738585072014e-308

# log((1 + s) / (1 - s)) / s = 2 + z (LOG[0] + z (LOG[1] + ...)), z = s**2 < (3 - sqrt(8))**2:
# the minimax fit of Ng (1993), relative error below 2**-58.
LOG: Final = (
    0.6666666666666735130, 0.3999999999940941908, 0.2857142874366239149, 0.2222219843214978396,
    0.1818357216161805012, 0.1531383769920937332, 0.1479819860511658591,
)  # fmt: skip


def exponential(builder: Builder, x: Value) -> Value:
    """Return exp(x) for x <= 0, within 2 units in the last place; 0 below -708; NaN stays NaN.

    Range reduction x = n log 2 + r with |r| <= log(2) / 2 (Cody & Waite 1980), a polynomial of
    degree 11 in r, and a product with 2**n, made of its bits.
    """
    floor = like(x, UNDERFLOW)
    clipped = builder.select(builder.fcmp_ordered(">", floor, x), floor, x)
    shifted = multiply_add(builder, clipped, like(x, LOG2_E), like(x, ROUND))
    n = builder.fsub(shifted, like(x, ROUND))
    r = multiply_add(builder, n, like(x, -LN2_HIGH), clipped)
    r = multiply_add(builder, n, like(x, -LN2_LOW), r)
    square = builder.fmul(r, r)
    even, odd = like(x, EXP[-2]), like(x, EXP[-1])
    for k in range(len(EXP) - 4, -1, -2):
        even = multiply_add(builder, even, square, like(x, EXP[k]))
        odd = multiply_add(builder, odd, square, like(x, EXP[k + 1]))
    value = multiply_add(builder, odd, r, even)
    bits = as_integers(builder, shifted)
    power = builder.bitcast(builder.shl(bits, like(bits, 52)), x.type)
    scaled = builder.fmul(value, power)
    return builder.select(builder.fcmp_ordered("<", x, floor), like(x, 0.0), scaled)


def logarithm(builder: Builder, x: Value) -> Value:
    """Return log(x) within 1 unit in the last place; x is 0, or normal, positive and finite.

    Elsewhere it is NaN. x = 2**n m with m in [sqrt(1/2), sqrt(2)), and log(m) from s = f / (2 + f)
    of f = m - 1.
    """
    bits = as_integers(builder, x)
    # exponents counted from sqrt(1/2) on
    above = builder.sub(bits, like(bits, SQRT_HALF_BITS))
    n = builder.sitofp(builder.ashr(above, like(bits, 52)), x.type)
    mantissa = builder.and_(above, like(bits, MANTISSA_BITS))
    m = builder.bitcast(builder.add(mantissa, like(bits, SQRT_HALF_BITS)), x.type)
    f = builder.fsub(m, like(x, 1.0))
    s = builder.fdiv(f, builder.fadd(f, like(x, 2.0)))
    z = builder.fmul(s, s)
    tail = like(x, LOG[-1])
    for coefficient in LOG[-2::-1]:
        tail = multiply_add(builder, tail, z, like(x, coefficient))
    tail = builder.fmul(tail, z)
    half = builder.fmul(builder.fmul(f, f), like(x, 0.5))
    # log(1 + f) = f - (f**2 / 2 - s (f**2 / 2 + tail)), small terms first
    low = builder.fmul(n, like(x, LN2_LOW))
    low = multiply_add(builder, s, builder.fadd(half, tail), low)
    result = builder.fsub(f, builder.fsub(half, low))
    result = multiply_add(builder, n, like(x, LN2_HIGH), result)
    is_zero = builder.fcmp_ordered("==", x, like(x, 0.0))
    special = builder.select(is_zero, like(x, float("-inf")), like(x, float("nan")))
    regular = builder.fcmp_ordered(">=", x, like(x, SMALLEST_NORMAL))
    regular = builder.and_(regular, builder.fcmp_ordered("<", x, like(x, float("inf"))))
    return builder.select(regular, result, special)


@intrinsic
def exp_nonpositive(typingctx: Any, x: Any) -> Any:
    """Return what `exponential` does of a number."""
    return types.float64(types.float64), lambda _, builder, __, args: exponential(builder, args[0])


@intrinsic
def log_positive(typingctx: Any, x: Any) -> Any:
    """Return what `logarithm` does of a number."""
    return types.float64(types.float64), lambda _, builder, __, args: logarithm(builder, args[0])
