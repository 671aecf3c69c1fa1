"""The C function equals the log posterior of an affine map, and says when it is not finite."""

import ctypes

import numpy as np
import pytest

from bayesgmm.kernels.pointer import HEAD, expand_c, log_posterior_c, pack_user
from tests.kernels.oracle import layout
from tests.kernels.test_posterior import Given, problem
from tests.kernels.vectors import length

type Array = np.ndarray

DOUBLES = ctypes.POINTER(ctypes.c_double)


def pointer(array: Array) -> object:
    return array.ctypes.data_as(DOUBLES)


def call(user: Array, z: Array) -> tuple[int, float, Array]:
    """Return code, value and gradient of the function at the address, as a sampler calls it."""
    prototype = ctypes.CFUNCTYPE(
        ctypes.c_int64, ctypes.c_uint64, DOUBLES, DOUBLES, DOUBLES, ctypes.c_void_p
    )
    value, gradient, z = np.full(1, 7.0), np.full(z.size, 7.0), np.ascontiguousarray(z)
    code = prototype(log_posterior_c.address)(
        z.size, pointer(z), pointer(gradient), pointer(value), user.ctypes.data
    )
    return code, float(value[0]), gradient


@pytest.fixture
def given(rng: np.random.Generator) -> Given:
    return problem(rng, layout("full", 2, 3), lowest=0.01)


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize(("n_components", "n_features"), [(1, 1), (2, 3)])
def test_the_density_of_an_affine_map(
    n_components: int, n_features: int, dense: bool, rng: np.random.Generator
) -> None:
    which = layout("full" if n_features > 1 else "tied_spherical", n_components, n_features)
    given = problem(rng, which)
    n = length(which)
    shift = 0.5 * rng.normal(size=n)
    factor = 0.2 * rng.normal(size=(n, n)) if dense else rng.uniform(0.1, 0.5, n)
    user = pack_user(given.packed, shift, factor)
    for _ in range(3):
        z = rng.normal(size=n)
        code, value, gradient = call(user, z)
        matrix = factor if dense else np.diag(factor)
        wanted, slopes = given(shift + matrix @ z)
        assert code == 0
        assert value == pytest.approx(wanted, rel=1e-12)
        np.testing.assert_allclose(gradient, matrix.T @ slopes, rtol=1e-9, atol=1e-9)


def test_one_parameter_takes_a_matrix_too(rng: np.random.Generator) -> None:
    given = problem(rng, layout("full", 1, 1))
    wanted = call(pack_user(given.packed, np.zeros(2), np.array([2.0, 3.0])), np.ones(2))
    got = call(pack_user(given.packed, np.zeros(2), np.diag([2.0, 3.0])), np.ones(2))
    assert got[:2] == pytest.approx(wanted[:2], rel=1e-14)


@pytest.mark.parametrize("value", [-1e5, 1e5, np.nan, np.inf])
def test_what_is_not_finite_has_a_code(given: Given, value: float) -> None:
    """No exception can leave the function: the code is all that a sampler gets."""
    n = length(given.which)
    user = pack_user(given.packed, np.zeros(n), np.ones(n))
    for p in range(n):
        z = np.zeros(n)
        z[p] = value
        code, reached, gradient = call(user, z)
        finite = np.isfinite(reached) and np.isfinite(gradient).all()
        assert (code == 0) == finite
        assert (code == 4) == (not np.isfinite(reached))
        if not np.isfinite(value):
            assert code != 0
    scale = np.zeros(n)
    scale[1 + 6] = 1e5
    assert call(user, scale)[0] != 0


def test_the_address_survives_a_float(given: Given) -> None:
    n = length(given.which)
    user = pack_user(given.packed, np.zeros(n), np.ones(n))
    assert given.packed.ctypes.data < 2**53
    assert int(user[0]) == given.packed.ctypes.data
    assert user.size == HEAD + n + n
    assert pack_user(given.packed, np.zeros(n), np.eye(n)).size == HEAD + n + n * n


def test_the_data_are_not_copied(given: Given) -> None:
    """A change of the problem is seen through what was packed before it."""
    n = length(given.which)
    user = pack_user(given.packed, np.zeros(n), np.ones(n))
    before = call(user, np.zeros(n))[1]
    given.packed[-1] += 1.0
    assert call(user, np.zeros(n))[1] != before


def test_a_draw_expands_to_one_number() -> None:
    prototype = ctypes.CFUNCTYPE(
        ctypes.c_int64, ctypes.c_uint64, ctypes.c_uint64, DOUBLES, DOUBLES, ctypes.c_void_p
    )
    z, out = np.ones(3), np.full(2, 7.0)
    assert prototype(expand_c.address)(3, 1, pointer(z), pointer(out), None) == 0
    assert out.tolist() == [0.0, 7.0]
