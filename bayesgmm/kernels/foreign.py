"""A log density that PyTensor compiled, as the C function that samplers call.

Linking its code into a function of ours would optimise all of it once more, seconds for every
model. Its address and types are enough to call it: what does so is compiled once per machine.
"""

import math
from typing import Any, Final

import numpy as np
from numba import carray, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import callback
from bayesgmm.kernels.lanes import floats_at
from bayesgmm.kernels.pointer import DENSITY

type Array = NDArray[np.float64]

_VECTOR: Final = types.Array(types.float64, 1, "C")
_MATRIX: Final = types.Array(types.float64, 2, "C")
ARGUMENTS: Final = (types.Tuple((_VECTOR, _VECTOR, _MATRIX)),)
"""Of a density: where, its numbers, and the rows of the data."""
RESULT: Final = types.UniTuple(_VECTOR, 1)
"""What it returns: the value, followed by the gradient."""
FAILED: Final = 2
"""Code for a density that could not be computed there."""


@intrinsic
def _call(typingctx: Any, address: Any, arguments: Any) -> Any:
    """Call the density at an address; return whether that succeeded, and its result."""
    returned = types.Tuple((types.boolean, RESULT))

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        convention = context.call_conv
        function = convention.get_function_type(RESULT, ARGUMENTS)
        callee = builder.inttoptr(args[0], function.as_pointer())
        status, result = convention.call_function(builder, callee, RESULT, ARGUMENTS, [args[1]])
        # a failed call leaves its result undefined
        nothing = context.get_constant_null(RESULT)
        kept = builder.select(status.is_ok, result, nothing)
        ok = context.cast(builder, status.is_ok, types.boolean, types.boolean)
        return context.make_tuple(builder, returned, [ok, kept])

    return returned(types.int64, arguments), codegen


def pack_foreign(address: int, numbers: Array, rows: Array) -> NDArray[np.int64]:
    """Return what the C function reads.

    Parameters
    ----------
    address : int
        Of the density, compiled for `ARGUMENTS` and `RESULT` in Numba's calling convention.
    numbers : array, shape (M,)
        Must be kept alive as long as the result is used, as must the rows.
    rows : array, shape (D, N)

    Returns
    -------
    array of int, shape (6,)
    """
    return np.array([address, numbers.ctypes.data, numbers.size, rows.ctypes.data, *rows.shape])


@callback(DENSITY)
def foreign_density_c(dim, point_, gradient_, value_, user_):  # type: ignore[no-untyped-def]
    """Write value and gradient at a point; return 0, or a code if they are not finite."""
    n = int(dim)
    user = carray(user_, 6, np.int64)
    numbers = carray(floats_at(user[1]), user[2])
    rows = carray(floats_at(user[3]), (user[4], user[5]))
    ok, (result,) = _call(user[0], (carray(point_, n), numbers, rows))
    if not ok:
        return FAILED
    gradient = carray(gradient_, n)
    carray(value_, 1)[0] = result[0]
    if not math.isfinite(result[0]):
        return 4
    for i in range(n):
        gradient[i] = result[1 + i]
        if not math.isfinite(gradient[i]):
            return 3
    return 0
