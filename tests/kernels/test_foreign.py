"""The C function equals the density at an address, and says when that has no finite result."""

import ctypes
from typing import Any

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from bayesgmm.kernels.foreign import ARGUMENTS, FAILED, RESULT, foreign_density_c, pack_foreign

type Array = NDArray[np.float64]

DOUBLES = ctypes.POINTER(ctypes.c_double)


@njit
def density(*arguments):  # type: ignore[no-untyped-def]
    """Return the value and the gradient of a sum of squares, as PyTensor would."""
    vector, numbers, rows = arguments
    if vector[0] > 100.0:
        raise ValueError("too far")
    result = np.empty(1 + vector.size)
    result[0] = numbers[0] * (vector**2).sum() + rows[1, 2]
    result[1:] = 2.0 * numbers[0] * vector
    result[2] += numbers[1]
    return (result,)


def call(user: NDArray[np.int64], point: Array) -> tuple[int, float, Array]:
    """Return code, value and gradient, as a sampler gets them."""
    prototype = ctypes.CFUNCTYPE(
        ctypes.c_int64, ctypes.c_uint64, DOUBLES, DOUBLES, DOUBLES, ctypes.c_void_p
    )
    value, gradient = np.full(1, 7.0), np.full(point.size, 7.0)
    arrays = (point, gradient, value)
    pointers = [array.ctypes.data_as(DOUBLES) for array in arrays]
    code = prototype(foreign_density_c.address)(point.size, *pointers, user.ctypes.data)
    return code, float(value[0]), gradient


@pytest.fixture(scope="module")
def address() -> int:
    density(np.zeros(3), np.zeros(2), np.zeros((2, 3)))
    (overload,) = density.overloads.values()
    assert (overload.signature.args, overload.signature.return_type) == (ARGUMENTS, RESULT)
    address: int = overload.library.get_pointer_to_function(overload.fndesc.llvm_func_name)
    return address


def given(address: int, **changed: float) -> tuple[NDArray[np.int64], Any]:
    """Return what the C function reads, and what has to be kept."""
    numbers, rows = np.array([0.5, changed.get("slope", 0.0)]), np.arange(6.0).reshape(2, 3)
    rows[1, 2] = changed.get("value", rows[1, 2])
    return pack_foreign(address, numbers, rows), (numbers, rows)


def test_value_and_gradient_are_those_of_the_density(
    address: int, rng: np.random.Generator
) -> None:
    user, _alive = given(address)
    for _ in range(3):
        point = rng.normal(size=3)
        code, value, gradient = call(user, point)
        assert code == 0
        assert value == pytest.approx(0.5 * (point**2).sum() + 5.0, rel=1e-14)
        np.testing.assert_allclose(gradient, point, rtol=1e-14)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_has_a_code(address: int, bad: float) -> None:
    """No exception can leave the function: the code is all that a sampler gets."""
    for changed, due in (({"value": bad}, 4), ({"slope": bad}, 3)):
        user, _alive = given(address, **changed)
        assert call(user, np.ones(3))[0] == due


def test_an_exception_has_a_code_too(address: int, capfd: pytest.CaptureFixture[str]) -> None:
    user, _alive = given(address)
    for _ in range(2):
        assert call(user, np.full(3, 101.0))[0] == FAILED
    assert call(user, np.ones(3))[0] == 0
    assert capfd.readouterr() == ("", "")
