"""Arcs, on densities that are known, reached through the address of a Python function."""

import ctypes
import math
from collections.abc import Callable
from typing import Any

import arviz_stats
import numpy as np
import pytest
from scipy.stats import gamma, kstest, truncnorm

from bayesgmm.inference.arcs import _DENSITY
from bayesgmm.kernels import arcs
from bayesgmm.kernels.arcs import sample_arcs

Density = Callable[[np.ndarray], tuple[float, np.ndarray]]


def sample(
    density: Density, n_dim: int, draws: int, *, tune: int = 50, target: float = 0.8, seed: int = 1,
    start: float = 0.1,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Return the draws, their statistics, and what is told of the chain."""

    def call(length: int, point: Any, gradient: Any, value: Any, _: Any) -> int:
        value[0], slopes = density(np.ctypeslib.as_array(point, (length,)))
        np.ctypeslib.as_array(gradient, (length,))[:] = slopes
        return 0 if math.isfinite(value[0]) else 3

    function = _DENSITY(call)
    address = ctypes.cast(function, ctypes.c_void_p).value
    made = np.empty((draws, n_dim))
    statistics = np.empty((draws, arcs.STATISTICS))
    told = np.zeros(arcs.TOLD, dtype=np.int64)
    z = np.full(n_dim, start)
    sample_arcs(
        address, 0, z, tune, target, np.random.default_rng(seed), made, statistics, told
    )  # fmt: skip
    return made, statistics, told


def normal(z: np.ndarray) -> tuple[float, np.ndarray]:
    return -0.5 * float(z @ z), -z


def log_gamma(z: np.ndarray) -> tuple[float, np.ndarray]:
    """Of the logarithm of a Gamma variable of shape 4, in units of its scale: skewed."""
    x = 0.53 * z + math.log(4.0)
    return float((4.0 * x - np.exp(x)).sum()), 0.53 * (4.0 - np.exp(x))


def half(z: np.ndarray) -> tuple[float, np.ndarray]:
    return (-0.5 * float(z @ z) if z[0] > 0.0 else math.nan), -z


def independent(draws: np.ndarray) -> np.ndarray:
    """Every tenth draw, as good as independent of the last."""
    return draws[::10]


def test_a_standard_normal_is_never_refused() -> None:
    draws, statistics, told = sample(normal, 3, 4000)
    np.testing.assert_allclose(statistics[:, arcs.ACCEPTANCE_RATE], 1.0, atol=1e-12)
    assert (statistics[:, arcs.N_STEPS] == 1).all()
    assert told.tolist() == [4050, 0, 0, 0]
    turn = np.mean(draws[1:] * draws[:-1])
    angles = arcs.ARC * np.array([1.0 - arcs.SPREAD, 1.0 + arcs.SPREAD])
    expected = np.diff(np.sin(angles))[0] / np.diff(angles)[0]
    assert abs(turn - expected) < 5.0 / math.sqrt(draws.size)
    assert kstest(independent(draws).ravel(), "norm").pvalue > 1e-4


@pytest.mark.parametrize("target", [0.3, 0.8, 0.99])
def test_a_skewed_density_is_sampled_exactly(target: float) -> None:
    """Whatever the steps, the draws are those of the density: by its own distribution function."""
    draws, statistics, _ = sample(log_gamma, 2, 30_000, target=target)
    uniform = gamma(4.0).cdf(np.exp(0.53 * draws + math.log(4.0)))
    for column in uniform.T:
        for values, expected in ((column, 0.5), (column**2, 1.0 / 3.0), (column < 0.05, 0.05)):
            chain = values[None].astype(float)
            error = arviz_stats.mcse(chain, method="mean")
            assert abs(chain.mean() - expected) < 5.0 * error
    assert statistics[:, arcs.ACCEPTANCE_RATE].mean() > target - 0.05


def test_a_wall_is_no_more_than_refusals() -> None:
    draws, statistics, told = sample(half, 2, 20_000)
    assert (draws[:, 0] > 0.0).all()
    assert statistics[:, arcs.DIVERGING].sum() > 100
    assert told[arcs.DIVERGENCES] >= statistics[:, arcs.DIVERGING].sum()
    uniform = truncnorm(0.0, np.inf).cdf(draws[:, 0])[None]
    error = arviz_stats.mcse(uniform, method="mean")
    assert abs(uniform.mean() - 0.5) < 5.0 * error


def test_statistics_are_those_of_the_draws() -> None:
    draws, statistics, _ = sample(log_gamma, 2, 500)
    values = [log_gamma(z)[0] for z in draws]
    np.testing.assert_allclose(statistics[:, arcs.LP], values, rtol=1e-12)
    assert (statistics[:, arcs.ENERGY] >= -statistics[:, arcs.LP]).all()
    moved = np.any(np.diff(draws, axis=0) != 0.0, axis=1)
    rates = statistics[1:, arcs.ACCEPTANCE_RATE]
    assert abs(moved.mean() - rates.mean()) < 5.0 * math.sqrt((rates * (1.0 - rates)).mean() / 499)


def test_steps_become_more_until_enough_is_accepted() -> None:
    """Along one direction the density is 5 times as narrow as it should be."""

    def narrow(z: np.ndarray) -> tuple[float, np.ndarray]:
        return -12.5 * float(z @ z), -25.0 * z

    _, coarse, _ = sample(narrow, 1, 200, tune=0)
    _, fine, _ = sample(narrow, 1, 200, tune=100)
    assert (coarse[:, arcs.N_STEPS] == 1).all()
    assert np.unique(fine[:, arcs.N_STEPS]).size == 1  # settled
    assert fine[0, arcs.N_STEPS] > 3
    assert fine[:, arcs.ACCEPTANCE_RATE].mean() > 0.75


def test_the_same_seed_gives_the_same_draws() -> None:
    one, other, third = (sample(log_gamma, 2, 20, seed=seed)[0] for seed in (5, 5, 6))
    np.testing.assert_array_equal(one, other)
    assert not np.isin(one, third).any()


def test_a_start_without_a_density_is_a_failure() -> None:
    _, _, told = sample(half, 2, 10, start=-1.0)
    assert told[arcs.FAILURE] == 1
    assert told[arcs.MADE] == 0
