"""R-hat and effective sample sizes: ArviZ's, of chains good and bad."""

import numpy as np
import pytest
from arviz_stats.base import array_stats

from bayesgmm.kernels.diagnostics import diagnose

type Array = np.ndarray

AXES = {"chain_axis": 1, "draw_axis": 2}


def chains(
    rng: np.random.Generator, n_quantities: int, n_chains: int, n: int, correlation: float
) -> Array:
    """Draws (Q, C, n) of autoregressive chains; a correlation of 1 is a random walk."""
    draws = rng.normal(size=(n_quantities, n_chains, n))
    for i in range(1, n):
        draws[..., i] += correlation * draws[..., i - 1]
    return draws


def reference(draws: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.array([
            array_stats.rhat(draws, method="rank", **AXES),
            array_stats.ess(draws, method="bulk", **AXES),
            array_stats.ess(draws, method="tail", prob=(0.05, 0.95), **AXES),
            array_stats.ess(draws, method="mean", **AXES),
        ])  # fmt: skip


def as_they_are(draws: Array) -> Array:
    return draws


def with_ties(draws: Array) -> Array:
    return np.round(draws)


def apart(draws: Array) -> Array:
    return draws + 3.0 * np.arange(draws.shape[1])[:, None]


def one_stuck(draws: Array) -> Array:
    return np.concatenate([np.repeat(draws[:, :1, :1], draws.shape[2], 2), draws[:, 1:]], axis=1)


def skewed(draws: Array) -> Array:
    return np.exp(3.0 * draws)


@pytest.mark.parametrize("change", [as_they_are, with_ties, apart, one_stuck, skewed])
@pytest.mark.parametrize("correlation", [-0.9, -0.3, 0.0, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("n", [4, 5, 6, 7, 11, 100, 501])
def test_all_are_those_of_arviz(change, correlation: float, n: int) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng([n, int(100 * correlation) + 100])
    for n_chains in (2, 4, 7):
        draws = change(chains(rng, 3, n_chains, n, correlation))
        np.testing.assert_allclose(diagnose(draws), reference(draws), rtol=1e-10)


def test_two_values_are_all_there_is(rng: np.random.Generator) -> None:
    draws = (chains(rng, 5, 4, 400, 0.6) > 0.5).astype(float)
    np.testing.assert_allclose(diagnose(draws), reference(draws), rtol=1e-10)


def test_a_single_chain_has_no_r_hat(rng: np.random.Generator) -> None:
    draws = chains(rng, 3, 1, 300, 0.5)
    result = diagnose(draws)
    assert np.isnan(result[0]).all()
    np.testing.assert_allclose(result, reference(draws), rtol=1e-10)


def test_chains_that_are_all_stuck_are_infinitely_apart() -> None:
    draws = np.broadcast_to(np.arange(4.0)[:, None], (4, 50))[None].copy()
    r_hat, *ess = diagnose(draws)[:, 0]
    assert r_hat > 1e6
    assert max(ess) < 10.0
    np.testing.assert_allclose(ess, reference(draws)[1:, 0], rtol=1e-10)


@pytest.mark.parametrize("value", [2.5, np.nan, np.inf])
def test_what_does_not_vary_or_is_no_number_has_none(
    value: float, rng: np.random.Generator
) -> None:
    draws = chains(rng, 3, 4, 50, 0.5)
    expected = diagnose(draws)
    draws[1] = value
    result = diagnose(draws)
    assert np.isnan(result[:, 1]).all()
    np.testing.assert_array_equal(result[:, [0, 2]], expected[:, [0, 2]])


@pytest.mark.parametrize("place", [(0, 0), (2, 31), (3, 49)])
def test_one_draw_that_is_no_number_is_enough(
    place: tuple[int, int], rng: np.random.Generator
) -> None:
    for sign in (1.0, -1.0):
        draws = chains(rng, 1, 4, 50, 0.5)
        draws[0, place[0], place[1]] = np.copysign(np.nan, sign)
        assert np.isnan(diagnose(draws)).all()


def test_an_infinite_draw_has_a_rank_but_no_mean(rng: np.random.Generator) -> None:
    draws = chains(rng, 1, 4, 50, 0.5)
    draws[0, 2, 31] = np.inf
    result = diagnose(draws)[:, 0]
    assert np.isnan(result[3])
    np.testing.assert_allclose(result[:3], reference(draws)[:3, 0], rtol=1e-10)


@pytest.mark.parametrize("unit", [1e-20, 1e20])
def test_units_do_not_matter(unit: float, rng: np.random.Generator) -> None:
    """ArviZ takes a range below 1e-15 for a constant."""
    draws = chains(rng, 4, 4, 100, 0.5)
    np.testing.assert_allclose(diagnose(unit * draws), diagnose(draws), rtol=1e-10)


def test_many_quantities_are_done_one_by_one(rng: np.random.Generator) -> None:
    draws = chains(rng, 23, 3, 40, 0.3)
    together = diagnose(draws)
    alone = np.concatenate([diagnose(draws[q : q + 1]) for q in range(23)], axis=1)
    np.testing.assert_array_equal(together, alone)
    assert diagnose(draws[:0]).shape == (4, 0)


def test_layout_does_not_matter(rng: np.random.Generator) -> None:
    draws = rng.normal(size=(3, 4, 50))
    wanted = diagnose(draws)
    for other in (np.asfortranarray(draws), draws.T.copy().T, np.repeat(draws, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(diagnose(other), wanted)


def test_draws_are_not_changed(rng: np.random.Generator) -> None:
    draws = chains(rng, 3, 2, 40, 0.3)
    before = draws.copy()
    diagnose(draws)
    np.testing.assert_array_equal(draws, before)
