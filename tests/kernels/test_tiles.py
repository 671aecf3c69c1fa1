"""The inner loops, on machines with other vectors than this one has."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.tiles import (
    HEIGHT,
    PADDING,
    add_moments,
    plain_softmax_block,
    softmax_block,
    whiten_block,
)

SCRIPT = """
import numpy as np
from bayesgmm.kernels.estep import e_step
from bayesgmm.kernels.lanes import LANES
from tests.kernels.oracle import assert_pass, exact_pass, random_mixture, run_pass, sample

rng = np.random.default_rng(1)
print(LANES)
for n_features in (1, 2, 3, 4, 7, 14):
    mixture = random_mixture(rng, 3, n_features)
    rows = sample(rng, mixture, 37)
    for weights in (np.empty(0), rng.uniform(-1.0, 2.0, 37)):
        assert_pass(run_pass(rows, mixture, weights), exact_pass(rows, mixture, weights))
"""

PROCESSORS = {"x86-64": ("+sse2", 2), "x86-64-v3": ("+sse2,+avx,+avx2,+fma", 4)}


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="of this processor")
@pytest.mark.parametrize("processor", PROCESSORS)
def test_the_pass_on_older_processors(processor: str, tmp_path: Path) -> None:
    features, lanes = PROCESSORS[processor]
    environment = os.environ | {
        "NUMBA_CPU_NAME": processor,
        "NUMBA_CPU_FEATURES": features,
        "NUMBA_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{lanes}\n"


@kernel
def whiten(x, mean, whitener, constant, y, lp):  # type: ignore[no-untyped-def]
    """Call what only kernels can call."""
    whiten_block(x.ravel(), 0, x.shape[1], mean, whitener, constant, y.ravel(), x.shape[1], lp,
                 x.shape[1])  # fmt: skip


@pytest.mark.parametrize("n_features", [*range(1, 3 * HEIGHT + 2), 32])
def test_tiles_of_every_height(n_features: int, rng: np.random.Generator) -> None:
    n = 3 * PADDING
    x, mean = rng.normal(size=(n_features, n)), rng.normal(size=n_features)
    whitener = np.tril(rng.normal(size=(n_features, n_features)))
    y, lp = np.full((n_features, n), np.nan), np.full(n, np.nan)
    whiten(x, mean, whitener, 1.5, y, lp)
    wanted = whitener @ (x - mean[:, None])
    np.testing.assert_allclose(y, wanted, rtol=1e-12, atol=1e-13 * n_features)
    np.testing.assert_allclose(lp, 1.5 - 0.5 * (wanted**2).sum(axis=0), rtol=1e-12)
    count, first, second = np.ones(1), np.ones(n_features), np.ones((n_features, n_features))
    r = rng.uniform(-1.0, 1.0, n)
    add_moments(y.ravel(), n, r, count, first, second, n)
    np.testing.assert_allclose(count, 1.0 + r.sum(), rtol=1e-12)
    np.testing.assert_allclose(first, 1.0 + y @ r, rtol=1e-12, atol=1e-12 * n)
    below = np.tril_indices(n_features)
    np.testing.assert_allclose(
        second[below], (1.0 + (y * r) @ y.T)[below], rtol=1e-12, atol=1e-12 * n
    )
    assert np.all(second[np.triu_indices(n_features, 1)] == 1.0)  # not touched


@pytest.mark.parametrize("n_components", [1, 2, 9])
def test_softmax(n_components: int, rng: np.random.Generator) -> None:
    n = 2 * PADDING
    lp = rng.normal(size=(n_components, n)) * 10.0 ** rng.uniform(-3.0, 4.0, n)
    lp[:-1, 3], lp[:, 4] = -np.inf, -np.inf
    weights = rng.choice([-1.0, 0.0, 1.0, 2.5], n)
    weights[4] = 0.0
    with np.errstate(divide="ignore"):
        peak = np.maximum(lp.max(axis=0), -1e308)
        density = peak + np.log(np.exp(lp - peak).sum(axis=0))
    used = weights != 0.0
    wanted = np.zeros_like(lp)
    wanted[:, used] = weights[used] * np.exp(lp[:, used] - density[used])
    shares, densities = lp.ravel().copy(), np.full(n, np.nan)
    total = softmax_block(shares, n, n_components, weights, densities, n)
    np.testing.assert_allclose(shares.reshape(n_components, n), wanted, rtol=1e-11, atol=1e-300)
    np.testing.assert_allclose(densities, density, rtol=1e-14, atol=1e-14)
    assert total == pytest.approx(weights[used] @ density[used], rel=1e-13)


@pytest.mark.parametrize("n_components", [1, 2, 7, 300])
@pytest.mark.parametrize("unused", [0, 1, PADDING + 1])
def test_plain_softmax(n_components: int, unused: int, rng: np.random.Generator) -> None:
    """As with weights of 1, and of 0 for the rows that are not used; equal shares are the most."""
    n = 8 * PADDING
    lp = rng.normal(size=(n_components, n)) * 10.0 ** rng.uniform(-3.0, 4.0, n)
    lp[:, : n // 2] = 5.0
    lp[:-1, 3] = -np.inf
    weights = np.ones(n)
    weights[n - unused :] = 0.0
    wanted, densities = lp.ravel().copy(), np.empty(n)
    expected = softmax_block(wanted, n, n_components, weights, densities, n)
    shares = lp.ravel().copy()
    total = plain_softmax_block(shares, n, n_components, n - unused, n)
    np.testing.assert_allclose(shares, wanted, rtol=1e-15, atol=0.0)
    assert total == pytest.approx(expected, rel=1e-13, abs=1e-10)


def test_rows_without_a_density_are_told(rng: np.random.Generator) -> None:
    for hopeless, told in ((-np.inf, -np.inf), (np.nan, np.nan)):
        lp = rng.normal(size=(2, PADDING))
        lp[:, 1] = hopeless
        total = plain_softmax_block(lp.ravel().copy(), PADDING, 2, PADDING, PADDING)
        np.testing.assert_equal(total, told)
        lp[:, 1] = 0.0
        lp[:, -1] = hopeless  # not used
        assert np.isfinite(plain_softmax_block(lp.ravel(), PADDING, 2, PADDING - 1, PADDING))
