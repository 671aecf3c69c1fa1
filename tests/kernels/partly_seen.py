"""Rows of which a part is seen, and what is known of them, row by row, by textbook formulae."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from bayesgmm.records import rows_of
from tests.kernels.oracle import Mixture, Pass, sample

type Array = NDArray[np.float64]

KINDS = ("missing", "deviations", "covariances", "same", "both")


class Seen(NamedTuple):
    """Cells (N, D), NaN where missing; errors as the user gives them, or None."""

    cells: Array
    errors: Array | None

    def rows(self, n_components: int) -> Array:
        """Return them as the kernels take them, shape (D', N)."""
        unit, no_box = np.ones(self.cells.shape[1]), np.empty((0, 1))
        return rows_of(self.cells, self.errors, None, n_components, 0.0 * unit, unit, no_box)


def partly_seen(rng: np.random.Generator, mixture: Mixture, n_rows: int, kind: str) -> Seen:
    """Return rows with holes or errors: of the last five nothing is missing and exact."""
    cells = sample(rng, mixture, n_rows).T.copy()
    n_dim = cells.shape[1]
    errors = None
    if kind in ("missing", "both"):
        holes = rng.random(cells.shape) < 0.4
        holes[np.arange(n_rows), rng.integers(n_dim, size=n_rows)] = False
        holes[-5:] = False
        cells[holes] = np.nan
    if kind == "deviations":
        errors = rng.uniform(0.1, 2.0, cells.shape)
        errors[:30] = errors[0]
        errors[30:60:7, 0] = 0.0
    if kind == "same":
        errors = np.tile(rng.uniform(0.1, 2.0, n_dim), (n_rows, 1))
    if kind in ("covariances", "both"):
        factors = rng.normal(size=(n_rows, n_dim, n_dim))
        factors[:20] = factors[0]
        errors = factors @ np.swapaxes(factors, 1, 2) + 0.01 * np.eye(n_dim)
        missing = np.isnan(cells)
        errors[missing] = 0.0
        np.swapaxes(errors, 1, 2)[missing] = 0.0
    if errors is not None:
        errors[-5:] = 0.0
    return Seen(cells, errors)


def naive_moments(seen: Seen, mixture: Mixture, row_weights: Array) -> tuple[Pass, Array]:
    """Return the log-likelihood and expected moments, and the log density of every row.

    By the conditional distributions of Ghahramani & Jordan (1994) and Bovy et al. (2011).
    """
    n_rows, n_dim = seen.cells.shape
    k_all = len(mixture.means)
    weights = row_weights if row_weights.size else np.ones(n_rows)
    counts, first = np.zeros(k_all), np.zeros((k_all, n_dim))
    second, densities = np.zeros((k_all, n_dim, n_dim)), np.empty(n_rows)
    for i, row in enumerate(seen.cells):
        o = np.flatnonzero(~np.isnan(row))
        noise = np.zeros((n_dim, n_dim))
        if seen.errors is not None:
            noise = np.diag(seen.errors[i] ** 2) if seen.errors.ndim == 2 else seen.errors[i]
        joint, given = np.empty(k_all), []
        for k, factor in enumerate(mixture.cholesky):
            covariance = factor @ factor.T
            seen_covariance = (covariance + noise)[np.ix_(o, o)]
            mean = mixture.means[k]
            joint[k] = mixture.log_weights[k]
            joint[k] += multivariate_normal(mean[o], seen_covariance).logpdf(row[o])
            gain = np.linalg.solve(seen_covariance, covariance[o]).T
            shift = gain @ (row[o] - mean[o])
            spread = covariance - gain @ covariance[o] + np.outer(shift, shift)
            inverse = np.linalg.inv(factor)
            given.append((inverse @ shift, inverse @ spread @ inverse.T))
        densities[i] = logsumexp(joint)
        for k, (one, two) in enumerate(given):
            r = weights[i] * np.exp(joint[k] - densities[i])
            counts[k] += r
            first[k] += r * one
            second[k] += r * two
    return Pass(float(weights @ densities), counts, first, second), densities
