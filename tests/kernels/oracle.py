"""What the kernels compute, computed slowly: in decimal arithmetic, by formulae of its own."""

from decimal import Decimal, localcontext
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.cholesky import Layout
from bayesgmm.kernels.estep import e_step, fill_whiteners

type Array = NDArray[np.float64]

EPS = float(np.finfo(np.float64).eps)
DIGITS = 60
UNDERFLOW = 1e-307
"""Responsibilities smaller than this are 0."""
LOG_2PI = Decimal("1.83787706640934548356065947281123527972279494727556682563430308096553")

STRUCTURES = (
    "full", "tied", "diag", "tied_diag", "spherical", "tied_spherical", "tied_correlation",
)  # fmt: skip


def layout(structure: str, n_components: int, n_features: int) -> Layout:
    """Return the sizes of the parts of the unconstrained vector, from the words of the design."""
    shared_scales = structure in {"tied", "tied_diag", "tied_spherical"}
    common_scale = structure in {"spherical", "tied_spherical"}
    sets = {"full": n_components, "tied": 1, "tied_correlation": 1}.get(structure, 0)
    return Layout(
        n_components,
        n_features,
        1 if shared_scales else n_components,
        1 if common_scale else n_features,
        sets if n_features > 1 else 0,
    )


class Mixture(NamedTuple):
    """Log-weights (K,), means (K, D) and lower Cholesky factors (K, D, D)."""

    log_weights: Array
    means: Array
    cholesky: Array


def random_mixture(
    rng: np.random.Generator, n_components: int, n_features: int, decades: float = 0.5
) -> Mixture:
    """Return a mixture whose scales spread over some decades on each side of 1."""
    shape = (n_components, n_features)
    log_weights = np.log(rng.dirichlet(np.ones(n_components)))
    cholesky = np.tril(0.3 * rng.normal(size=(*shape, n_features)), -1)
    cholesky += np.eye(n_features) * rng.uniform(0.5, 1.5, shape)[:, None]
    scales = 10.0 ** rng.uniform(-decades, decades, shape)
    return Mixture(log_weights, 2.0 * rng.normal(size=shape), cholesky * scales[..., None])


def sample(rng: np.random.Generator, mixture: Mixture, n_rows: int) -> Array:
    """Return rows of a mixture, shape (D, N)."""
    label = rng.choice(len(mixture.means), n_rows, p=np.exp(mixture.log_weights))
    noise = rng.normal(size=(n_rows, mixture.means.shape[1]))
    rows = mixture.means[label] + np.einsum("nde,ne->nd", mixture.cholesky[label], noise)
    return np.ascontiguousarray(rows.T)


class Pass(NamedTuple):
    """What a pass returns, or bounds of the rounding errors of all that."""

    value: float
    counts: Array
    first: Array
    second: Array


def run_pass(rows: Array, mixture: Mixture, row_weights: Array) -> Pass:
    """Return what the kernel computes, its outputs filled with NaN beforehand."""
    n_components, n_dim = mixture.means.shape
    whiteners, log_determinants = whiten(mixture)
    counts = np.full(n_components, np.nan)
    first = np.full((n_components, n_dim), np.nan)
    second = np.full((n_components, n_dim, n_dim), np.nan)
    value = e_step(
        rows, row_weights, mixture.log_weights, mixture.means, whiteners, log_determinants,
        counts, first, second,
    )  # fmt: skip
    return Pass(value, counts, first, second)


def whiten(mixture: Mixture) -> tuple[Array, Array]:
    """Return whiteners and log determinants as the kernel writes them."""
    whiteners = np.full_like(mixture.cholesky, np.nan)
    log_determinants = np.full(len(mixture.means), np.nan)
    fill_whiteners(mixture.cholesky, whiteners, log_determinants)
    return whiteners, log_determinants


def decimals(array: Array) -> NDArray[np.object_]:
    """Return floats as the decimal numbers that they are, exactly."""
    return np.vectorize(Decimal, otypes=[object])(array)


def exact_log_joint(
    rows: Array, mixture: Mixture
) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    """Return lp, shape (N, K), and y, shape (N, K, D), given the kernel's whiteners."""
    whiteners, log_determinants = (decimals(array) for array in whiten(mixture))
    log_weights, means, x = decimals(mixture.log_weights), decimals(mixture.means), decimals(rows.T)
    n_dim = means.shape[1]
    y = np.einsum("kde,nke->nkd", whiteners, x[:, None, :] - means)
    half = Decimal("0.5")
    lp = log_weights - log_determinants - half * n_dim * LOG_2PI - half * (y * y).sum(axis=2)
    return lp, y


class Exact(NamedTuple):
    """The pass to 60 digits, rounded to float64 at the end, and bounds of honest rounding."""

    moments: Pass
    densities: Array
    responsibilities: Array
    bounds: Pass


def exact_pass(rows: Array, mixture: Mixture, row_weights: Array) -> Exact:
    """Return the pass in decimal arithmetic, and what rounding may do to it.

    A sum of terms t loses about eps * sum |t|. The terms of y are W_de (x_e - mu_e). An error e
    of lp_ik changes r_ik by the factor 1 + e. Everything below is that, written out.
    """
    weights = row_weights if row_weights.size else np.ones(rows.shape[1])
    with localcontext() as context:
        context.prec = DIGITS
        lp, y = exact_log_joint(rows, mixture)
        peak = lp.max(axis=1)
        e = np.vectorize(Decimal.exp, otypes=[object])(lp - peak[:, None])
        total = e.sum(axis=1)
        density = peak + np.vectorize(Decimal.ln, otypes=[object])(total)
        r = e / total[:, None]
        share = decimals(weights)[:, None] * r
        moments = Pass(
            float((decimals(weights) * density).sum()),
            share.sum(axis=0).astype(float),
            np.einsum("nk,nkd->kd", share, y).astype(float),
            np.einsum("nk,nkd,nke->kde", share, y, y).astype(float),
        )
    r, y = r.astype(float), y.astype(float)
    density = density.astype(float)
    bounds = _bounds(rows, mixture, weights, lp.astype(float), density, r, y)
    return Exact(moments, density, r, bounds)


def _bounds(
    rows: Array, mixture: Mixture, weights: Array,
    lp: Array, density: Array, r: Array, y: Array,
) -> Pass:  # fmt: skip
    """Return the rounding errors of `exact_pass`, each the sum of its terms times eps."""
    whiteners, log_determinants = whiten(mixture)
    size = np.abs(whiteners)
    n_components, n_dim = mixture.means.shape
    far = np.abs(rows.T[:, None] - mixture.means)
    reach = np.einsum("kde,nke->nkd", size, far)  # at least |y|
    parts = np.abs(mixture.log_weights) + np.abs(log_determinants) + n_dim
    of_lp = EPS * (parts + (reach**2).sum(axis=2) + np.abs(lp))
    relevant = r > 1e-25
    of_density = np.where(relevant, of_lp, 0.0).max(axis=1) + EPS * np.abs(density) + EPS
    w = np.abs(weights)
    lost = w[:, None] * (r * (of_lp + of_density[:, None] + EPS) + UNDERFLOW)
    held = w[:, None] * r * EPS
    y = np.abs(y)
    return Pass(
        float((w * of_density).sum()),
        (lost + held).sum(axis=0),
        np.einsum("nk,nkd->kd", lost, y) + np.einsum("nk,nkd->kd", held, reach),
        np.einsum("nk,nkd,nke->kde", lost, y, y) + np.einsum("nk,nkd,nke->kde", held, reach, reach),
    )


def assert_pass(got: Pass, exact: Exact, slack: float = 1.0) -> None:
    """Every number of the pass lies within its bound."""
    for name, number, wanted, bound in zip(
        Pass._fields, got, exact.moments, exact.bounds, strict=True
    ):
        error = np.abs(number - wanted) - slack * np.asarray(bound)
        assert np.all(error <= 1e-300), (name, float(np.max(error)), float(np.max(bound)))
