"""Densities and responsibilities under many draws, against decimal arithmetic."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesgmm.kernels.draws import fill_draws
from tests.kernels.oracle import Mixture, exact_pass, random_mixture, sample

N_DRAWS = 3
UNWEIGHTED = np.empty(0)


class Filled(NamedTuple):
    densities: np.ndarray
    responsibilities: np.ndarray
    confusion: np.ndarray


def fill(
    rows: np.ndarray, draws: list[Mixture], labels: np.ndarray, asked: str, summed: bool = False
) -> Filled:
    """Return what is asked for by initials, everything filled with NaN beforehand."""
    n, n_rows, k = len(draws), rows.shape[1], len(draws[0].means)
    n_labels = int(labels.max()) + 1
    densities = np.full((n, n_rows) if "d" in asked else (0, 0), np.nan)
    shares = np.full((n, k, n_rows) if "r" in asked else (0, 0, 0), np.nan)
    confusion = np.full((n, k, n_labels) if "c" in asked else (0, 0, 0), np.nan)
    if summed:
        shares = np.zeros((1, k, n_rows))
    stacked = (np.ascontiguousarray(np.stack(part)) for part in zip(*draws, strict=True))
    labels = labels if "c" in asked else np.empty(0, dtype=np.int64)
    fill_draws(rows, *stacked, densities, shares, labels, confusion)
    return Filled(densities, shares, confusion)


def some_draws(rng: np.random.Generator, n_components: int, n_features: int) -> list[Mixture]:
    return [random_mixture(rng, n_components, n_features) for _ in range(N_DRAWS)]


@pytest.mark.parametrize("n_rows", [1, 255, 256, 257, 520])
@pytest.mark.parametrize(("n_components", "n_features"), [(1, 1), (3, 2), (2, 5), (7, 4)])
def test_everything_equals_the_pass_in_decimals(
    n_components: int, n_features: int, n_rows: int, rng: np.random.Generator
) -> None:
    draws = some_draws(rng, n_components, n_features)
    rows = sample(rng, draws[0], n_rows)
    labels = rng.integers(0, 2, n_rows)
    labels[0] = 1
    got = fill(rows, draws, labels, "drc")
    few = slice(max(0, n_rows - 30), n_rows)  # the last block has the odd length
    for s, draw in enumerate(draws):
        exact = exact_pass(np.ascontiguousarray(rows[:, few]), draw, UNWEIGHTED)
        np.testing.assert_allclose(got.densities[s, few], exact.densities, rtol=1e-12)
        np.testing.assert_allclose(got.responsibilities[s][:, few].T, exact.responsibilities,
                                   rtol=0, atol=1e-12)  # fmt: skip
    for label in (0, 1):
        chosen = got.responsibilities[:, :, labels == label].sum(axis=2)
        np.testing.assert_allclose(got.confusion[:, :, label], chosen, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("asked", ["d", "r", "c", "dc"])
def test_what_is_asked_for_does_not_depend_on_what_else_is(
    asked: str, rng: np.random.Generator
) -> None:
    draws = some_draws(rng, 3, 2)
    rows = sample(rng, draws[0], 300)
    labels = rng.integers(0, 3, 300)
    everything, part = fill(rows, draws, labels, "drc"), fill(rows, draws, labels, asked)
    for one, other in zip(everything, part, strict=True):
        if other.size:
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("n_features", [2, 14])
@pytest.mark.parametrize("n_rows", [100, 300])
def test_rows_may_lie_anyhow_in_memory(
    n_rows: int, n_features: int, rng: np.random.Generator
) -> None:
    draws = some_draws(rng, 2, n_features)
    rows = sample(rng, draws[0], n_rows)
    wide = np.full((n_features, 2 * n_rows), np.nan)
    wide[:, ::2] = rows
    due = fill(np.ascontiguousarray(rows), draws, np.zeros(n_rows, dtype=np.int64), "dr")
    for lying in (np.asfortranarray(rows), wide[:, ::2]):
        got = fill(lying, draws, np.zeros(n_rows, dtype=np.int64), "dr")
        np.testing.assert_array_equal(got.densities, due.densities)
        np.testing.assert_array_equal(got.responsibilities, due.responsibilities)


def test_one_place_along_the_draws_holds_their_sum(rng: np.random.Generator) -> None:
    draws = some_draws(rng, 3, 4)
    rows = sample(rng, draws[0], 300)
    labels = rng.integers(0, 3, 300)
    each = fill(rows, draws, labels, "r").responsibilities
    together = fill(rows, draws, labels, "", summed=True).responsibilities
    np.testing.assert_allclose(together[0], each.sum(axis=0), rtol=1e-14)


@given(log_weight=st.floats(-1e4, 0.0), decade=st.floats(-6.0, 6.0), far=st.floats(-6.0, 6.0))
def test_extremes(log_weight: float, decade: float, far: float) -> None:
    mixture = Mixture(
        np.array([log_weight, 0.0]),
        np.array([[0.0], [10.0**far]]),
        np.array([[[10.0**decade]], [[1.0]]]),
    )
    rows = np.array([[0.0, 10.0**decade, -1e6, 10.0**far]])
    exact = exact_pass(rows, mixture, UNWEIGHTED)
    got = fill(rows, [mixture], np.zeros(4, dtype=np.int64), "dc")
    np.testing.assert_allclose(got.densities[0], exact.densities, rtol=2e-14, atol=1e-15)
    total = got.confusion[0, :, 0]
    np.testing.assert_allclose(total, exact.moments.counts, rtol=0, atol=exact.bounds.counts.max())
    assert total.sum() == pytest.approx(4.0, rel=1e-14)


def test_a_needle_in_one_draw_costs_no_digits(rng: np.random.Generator) -> None:
    broad = random_mixture(rng, 2, 5, decades=0.1)
    needle = broad._replace(cholesky=broad.cholesky * 1e-7)
    rows = sample(rng, broad, 40)
    got = fill(rows, [broad, needle, broad], np.zeros(40, dtype=np.int64), "d")
    np.testing.assert_array_equal(got.densities[0], got.densities[2])
    for s, draw in enumerate([broad, needle]):
        exact = exact_pass(rows, draw, UNWEIGHTED)
        np.testing.assert_allclose(got.densities[s], exact.densities, rtol=1e-12)


def test_a_weight_of_zero_is_no_component(rng: np.random.Generator) -> None:
    for n_features in (1, 5):
        mixture = random_mixture(rng, 2, n_features, decades=0.1)
        without = mixture._replace(log_weights=np.array([0.0, -np.inf]))
        rows = sample(rng, mixture, 30)
        got = fill(rows, [without, without], np.zeros(30, dtype=np.int64), "dr")
        alone = Mixture(*(np.ascontiguousarray(part[:1]) for part in without))
        exact = exact_pass(rows, alone, UNWEIGHTED)
        np.testing.assert_allclose(got.densities[0], exact.densities, rtol=1e-12)
        np.testing.assert_array_equal(got.responsibilities[0, 1], 0.0)
