"""Effective draws, by one rule for every tool: labels undone, and quantities without labels."""

from itertools import permutations
from typing import Any

import numpy as np
from arviz_stats.base import array_stats
from numpy.typing import NDArray
from scipy.special import logsumexp

from benchmarks.cases import Case, Mixture

type Array = NDArray[np.float64]

HELD = 20


def summarise(case: Case, draws: Mixture) -> dict[str, Any]:
    """Return the smallest bulk ESS, the largest R-hat, and means with their standard errors.

    `draws` have dimensions chain and draw in front. The quantities are sorted weights and the log
    density at 20 rows, which no permutation of components changes, and weights, means and scales
    of the components, each draw's matched to the truth by their means.
    """
    free = [np.sort(draws.weights, axis=-1), _log_density(case, draws)]
    aligned = [values.reshape(*values.shape[:2], -1) for values in _aligned(case, draws)[:3]]
    values = np.concatenate([*free, *aligned], axis=-1)
    ess = np.array([_of(array_stats.ess, column, method="bulk") for column in _columns(values)])
    r_hat = np.array([_of(array_stats.rhat, column) for column in _columns(values)])
    error = np.array([_of(array_stats.mcse, column, method="mean") for column in _columns(values)])
    return {
        "ess": float(ess.min()),
        "r_hat": float(r_hat.max()),
        "mean": values.mean(axis=(0, 1)).tolist(),
        "error": error.tolist(),
    }


def _columns(values: Array) -> list[Array]:
    return list(np.moveaxis(values, -1, 0))


def _of(statistic: Any, column: Array, **options: str) -> float:
    return float(statistic(column, chain_axis=0, draw_axis=1, **options))


def _log_density(case: Case, draws: Mixture) -> Array:
    """Return the log density at rows held fixed, shape (chains, draws, 20)."""
    rows = case.X[np.linspace(0, len(case.X) - 1, HELD).astype(int)]
    cholesky = draws.scales[..., None] * draws.factors
    centred = np.swapaxes(rows - draws.means[..., None, :], -1, -2)
    white = np.linalg.solve(cholesky, centred)
    volume = np.log(np.diagonal(cholesky, axis1=-2, axis2=-1)).sum(axis=-1)
    constant = np.log(draws.weights) - volume - 0.5 * case.X.shape[1] * np.log(2.0 * np.pi)
    return logsumexp(constant[..., None] - 0.5 * (white**2).sum(axis=-2), axis=2)


def _aligned(case: Case, draws: Mixture) -> Mixture:
    """Return the draws with components in the order of the truth's, matched by their means."""
    orders = np.array(list(permutations(range(case.n_components))))
    gaps = draws.means[:, :, None] - case.truth.means[:, None]
    cost = ((gaps / case.truth.scales[:, None]) ** 2).sum(axis=-1)  # chain, draw, true, drawn
    total = cost[:, :, np.arange(case.n_components), orders].sum(axis=-1)
    best = orders[total.argmin(axis=-1)]
    return Mixture(*(
        np.take_along_axis(values, best.reshape(*best.shape, *[1] * (values.ndim - 3)), axis=2)
        for values in draws
    ))  # fmt: skip
