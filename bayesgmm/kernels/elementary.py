"""An exponential that the compiler turns into vector instructions."""

from typing import Any, Final

from numba import types
from numba.extending import intrinsic

from bayesgmm.kernels.compiled import kernel

LOG2_E: Final = 1.4426950408889634
LN2_HIGH: Final = 0.6931471805598903  # the upper bits of log 2: n * LN2_HIGH is exact
LN2_LOW: Final = 5.497923018708371e-14
ROUND: Final = 6755399441055744.0  # 1.5 * 2**52: adding it rounds to an integer in the low bits
UNDERFLOW: Final = -708.0  # exp of less is below the smallest normal number and counts as 0

# Chebyshev fit of exp on [-log(2) / 2, log(2) / 2], relative error 3.2e-18.
P2: Final = 0.5000000000000019
P3: Final = 0.1666666666666668
P4: Final = 0.0416666666664881
P5: Final = 0.008333333333319601
P6: Final = 0.0013888888952314775
P7: Final = 0.00019841269890047113
P8: Final = 2.4801485482328494e-05
P9: Final = 2.755724091857897e-06
P10: Final = 2.763263963904103e-07
P11: Final = 2.5110037605963777e-08


@intrinsic
def _bits(typingctx: Any, value: Any) -> Any:
    """Return the bit pattern of a float64 as an int64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.int64))

    return types.int64(types.float64), codegen


@intrinsic
def _float(typingctx: Any, value: Any) -> Any:
    """Return the float64 whose bit pattern is an int64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.float64))

    return types.float64(types.int64), codegen


# "contract" allows fused multiply-adds and nothing else: reassociation would undo the rounding.
@kernel(fastmath=frozenset({"contract"}))
def exp_nonpositive(x: float) -> float:
    """Return exp(x) for x <= 0, within 2 units in the last place; 0 below -708; NaN stays NaN.

    Range reduction x = n log 2 + r with |r| <= log(2) / 2 (Cody & Waite 1980), a polynomial of
    degree 11 in r, and n added to the exponent bits. No branch and no table, so that a loop over
    an array becomes vector code.
    """
    clipped = UNDERFLOW if x < UNDERFLOW else x
    shifted = clipped * LOG2_E + ROUND
    n = shifted - ROUND
    r = (clipped - n * LN2_HIGH) - n * LN2_LOW
    r2 = r * r
    r4 = r2 * r2
    low = (1.0 + r) + r2 * (P2 + r * P3)
    middle = (P4 + r * P5) + r2 * (P6 + r * P7)
    high = (P8 + r * P9) + r2 * (P10 + r * P11)
    p = low + r4 * (middle + r4 * high)
    scaled = _float(_bits(p) + (_bits(shifted) << 52))
    # a NaN may carry bits of its own that the sum of bit patterns would turn into a number
    return 0.0 if x < UNDERFLOW else (scaled if x == x else x)
