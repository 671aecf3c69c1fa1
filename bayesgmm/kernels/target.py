"""The log posterior of whatever problem was packed, behind an address.

What calls an address holds no copy of the code behind it, which would be compiled once more with
every caller; and of the kinds of covariances only those that are asked for are compiled at all.
"""

from typing import Final

import numpy as np
from llvmlite import ir
from numba import carray, types
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import callback, kernel
from bayesgmm.kernels.factor_posterior import factor_log_posterior
from bayesgmm.kernels.lanes import FLOAT, INTEGER, Builder, Value, compiled
from bayesgmm.kernels.posterior import LAYOUT, LENGTH, log_posterior

type Array = NDArray[np.float64]

_FLOATS: Final = types.CPointer(types.float64)
_SIGNATURE: Final = types.float64(_FLOATS, types.int64, _FLOATS, _FLOATS)
"""Of a density: vector, its length, packed problem and gradient; returns the value."""


@callback(_SIGNATURE)
def _normal_c(vector_, n, problem_, gradient_):  # type: ignore[no-untyped-def]
    problem = carray(problem_, int(carray(problem_, 1)[LENGTH]))
    return log_posterior(carray(vector_, n), problem, carray(gradient_, n))


@callback(_SIGNATURE)
def _factors_c(vector_, n, problem_, gradient_):  # type: ignore[no-untyped-def]
    problem = carray(problem_, int(carray(problem_, 1)[LENGTH]))
    return factor_log_posterior(carray(vector_, n), problem, carray(gradient_, n))


def address_of(problem: Array) -> int:
    """Return where the log posterior of a packed problem is, compiled if it was not yet."""
    return (_factors_c if problem[LAYOUT + 4] < 0.0 else _normal_c).address


def _emit(
    builder: Builder, address: Value, vector: Value, n: Value, problem: Value, gradient: Value
) -> Value:
    floats = ir.PointerType(FLOAT)
    kind = ir.FunctionType(FLOAT, [floats, INTEGER, floats, floats])
    callee = builder.inttoptr(address, kind.as_pointer())
    return builder.call(callee, [vector, n, problem, gradient])


_call = compiled(_emit, types.float64)


@kernel
def density_at(address: int, vector: Array, problem: Array, gradient: Array) -> float:
    """Do what `log_target` says, of arrays without strides; `address_of` the problem is known."""
    return _call(address, vector, vector.shape[0], problem, gradient)


def log_target(vector: Array, problem: Array, gradient: Array) -> float:
    """Do what `kernels.posterior.log_posterior` says, of covariances of any kind."""
    if not gradient.flags.c_contiguous:
        raise ValueError("`gradient` must have no strides. Use a new array, np.empty(P).")
    given = np.ascontiguousarray(vector)
    return float(density_at(address_of(problem), given, problem, gradient))
