"""Copies and linear combinations are found within rounding, near ones are let pass."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesgmm.data import prepare
from bayesgmm.dependence import basis, first_combination, first_copy

DOUBLE = np.finfo(np.float64).eps


def copies(values: np.ndarray) -> list[int]:
    return first_copy(values, values.std(axis=0), np.full(values.shape[1], DOUBLE))


def combinations(values: np.ndarray) -> list[int]:
    return first_combination(values, values.std(axis=0), np.full(values.shape[1], DOUBLE))


magnitudes = st.floats(-6.0, 6.0)


@given(
    log_scale=magnitudes, log_shift=magnitudes, sign=st.sampled_from([-1.0, 1.0]),
    log_offset=magnitudes, seed=st.integers(0, 1000), n_obs=st.integers(3, 200),
)  # fmt: skip
def test_every_affine_copy_is_found(
    log_scale: float, log_shift: float, sign: float, log_offset: float, seed: int, n_obs: int
) -> None:
    rng = np.random.default_rng(seed)
    column = rng.normal(size=n_obs) + 10.0**log_offset
    other = rng.normal(size=n_obs)
    copy = sign * 10.0**log_scale * column + 10.0**log_shift
    found = copies(np.column_stack([other, column, copy]))
    assert found == [1, 2]


@pytest.mark.parametrize("noise", [1e-9, 1e-6, 1e-3])
@pytest.mark.parametrize("n_obs", [10, 1000])
def test_columns_that_differ_by_more_than_rounding_pass(
    noise: float, n_obs: int, rng: np.random.Generator
) -> None:
    a, b = rng.normal(size=(2, n_obs))
    near = np.column_stack([a, b, a + noise * rng.normal(size=n_obs)])
    mix = np.column_stack([a, b, a + b + noise * rng.normal(size=n_obs)])
    assert copies(near) == []
    assert combinations(near) == []
    assert combinations(mix) == []


@given(n_features=st.integers(2, 6), seed=st.integers(0, 1000), log_offset=st.floats(-2.0, 6.0))
def test_every_combination_is_found_and_its_columns_named(
    n_features: int, seed: int, log_offset: float
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(40, n_features)) + 10.0**log_offset
    used = np.sort(rng.choice(n_features, 2, replace=False))
    total = values[:, used] @ rng.uniform(0.5, 2.0, 2) + 3.0
    free = rng.normal(size=40)
    assert combinations(np.column_stack([values, free])) == []
    assert combinations(np.column_stack([values, free, total])) == [*used, n_features + 1]


def test_indicators_of_all_levels_are_dependent(rng: np.random.Generator) -> None:
    level = rng.permutation(np.repeat([0, 1, 2], 20))
    indicators = (level[:, None] == np.arange(3)).astype(float)
    assert copies(indicators) == []
    assert combinations(indicators) == [0, 1, 2]
    assert combinations(np.column_stack([indicators[:, :2], rng.normal(size=60)])) == []


def test_single_precision_copies_are_judged_by_their_own_rounding(
    rng: np.random.Generator,
) -> None:
    celsius = rng.normal(12.0, 8.0, 500).astype(np.float32)
    fahrenheit = np.float32(1.8) * celsius + np.float32(32.0)
    values = np.column_stack([celsius, fahrenheit])
    with pytest.raises(ValueError, match="'x1', a copy, up to shift and scale, of 'x0'"):
        prepare(values)
    assert prepare(values.astype(np.float64)).n_features == 2  # what are digits there is noise


def test_correlated_columns_far_from_zero_pass(rng: np.random.Generator) -> None:
    a = rng.normal(size=300)
    values = 1e8 + np.column_stack([a, a + 1e-5 * rng.normal(size=300)])
    assert prepare(values).n_features == 2


@given(
    seed=st.integers(0, 1000), n_obs=st.integers(8, 60), n_free=st.integers(1, 4),
    kinds=st.lists(st.sampled_from(["constant", "copy", "sum"]), max_size=4),
    log_scale=magnitudes,
)  # fmt: skip
def test_a_basis_gives_all_columns_back(
    seed: int, n_obs: int, n_free: int, kinds: list[str], log_scale: float
) -> None:
    rng = np.random.default_rng(seed)
    free = rng.normal(size=(n_obs, n_free))
    made = {
        "constant": lambda: np.full(n_obs, rng.normal()),
        "copy": lambda: free[:, 0] * rng.uniform(1.0, 2.0) - rng.normal(),
        "sum": lambda: free @ rng.uniform(0.5, 2.0, n_free) + rng.normal(),
    }
    scale = 10.0 ** (log_scale * rng.uniform(-1.0, 1.0, n_free + len(kinds)))
    values = scale * np.column_stack([free, *(made[kind]() for kind in kinds)])
    found = basis(values, DOUBLE)
    assert found.kept == list(range(n_free))
    again = found.offset + values[:, found.kept] @ found.factors.T
    np.testing.assert_allclose(again / scale, values / scale, atol=1e-9)
    np.testing.assert_array_equal(again[:, :n_free], values[:, :n_free])


def test_a_basis_of_a_copy_of_what_is_left_out(rng: np.random.Generator) -> None:
    a, b = rng.normal(size=(2, 30))
    values = np.column_stack([a, b, a + b, 3.0 - 2.0 * (a + b)])
    found = basis(values, DOUBLE)
    assert found.kept == [0, 1]
    np.testing.assert_allclose(found.factors[3], [-2.0, -2.0])
    np.testing.assert_allclose(found.offset[3], 3.0)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_a_basis_in_any_unit(scale: float, rng: np.random.Generator) -> None:
    a, b = rng.normal(size=(2, 30))
    assert basis(scale * np.column_stack([a, b, 1.0 - a]), DOUBLE).kept == [0, 1]
    assert basis(np.ones((5, 2)), DOUBLE).kept == []
