"""A problem whose rows stay in blocks, wherever these are: what is known of them are sums."""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, Protocol, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.chunked_rows import Rows
from bayesgmm.data import Data
from bayesgmm.kernels.batch import fill_log_posteriors
from bayesgmm.kernels.cholesky import (
    Layout,
    fill_cholesky,
    fill_log_weights,
    offsets,
    unconstrain,
)
from bayesgmm.kernels.estep import fill_whiteners
from bayesgmm.kernels.incomplete import expected_moments
from bayesgmm.kernels.mstep import Penalty, em_map, m_step
from bayesgmm.kernels.patterns import NO_GROUPS
from bayesgmm.kernels.posterior import N_OFFSETS, N_ROWS, N_WEIGHTS
from bayesgmm.kernels.target import address_of
from bayesgmm.problem import Problem
from bayesgmm.records import rows_of

type Array = NDArray[np.float64]

NO_WEIGHTS = np.empty(0)
NOTHING = np.zeros(1)
"""Weights of a row that counts for none: a pass takes one row at least."""


def rowless(data: Data) -> Data:
    """Return data without rows: the labels of the features."""
    obs = xr.Variable(names.OBS, np.arange(0))
    coords = {names.OBS: obs, **data.feature_coords}
    return Data(np.empty((0, data.n_features)), coords, data.attrs)


class Totals(NamedTuple):
    """What is known of all rows besides the sums that are asked for.

    Parameters
    ----------
    n_rows : int
    cells : array, shape (D,)
        How many of them are seen of every feature, by their weights.
    weight : float
        Sum of the weights.
    effective : float
        How many rows of equal weight tell as much.
    named : array of int, shape (K,)
        As `known_labels.named_apart` returns it.
    """

    n_rows: int
    cells: Array
    weight: float
    effective: float
    named: NDArray[np.int64]


class Blocks(Protocol):
    """Packed blocks of rows, of which sums are asked for."""

    def densities(self, vectors: Array) -> Array:
        """Return the sum over all blocks of what `densities` makes of each."""

    def moments(self, mixture: "Mixture") -> Array:
        """Return the sum over all blocks of what `moments` makes of each."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """The parameters of one mixture of standardised data, as the pass reads them.

    Parameters
    ----------
    log_weights, means, cholesky, whiteners, log_determinants : arrays
        Shapes (K,), (K, D), (K, D, D), (K, D, D), (K,).
    start : int
        Where the weights of the rows begin in a packed block, and with none the rows.
    """

    log_weights: Array
    means: Array
    cholesky: Array
    whiteners: Array
    log_determinants: Array
    start: int

    @classmethod
    def of_vector(cls, layout: Layout, vector: Array, start: int) -> Self:
        """Return the mixture that a vector of EM stands for."""
        k, d = layout.n_components, layout.n_features
        first, last, _, _ = offsets(layout)
        log_weights, log_determinants = np.empty((2, k))
        scales, (cholesky, whiteners) = np.empty((k, d)), np.empty((2, k, d, d))
        fill_log_weights(vector, log_weights)
        fill_cholesky(layout, np.zeros(layout.scale_columns), vector, scales, cholesky)
        fill_whiteners(cholesky, whiteners, log_determinants)
        means = vector[first:last].reshape(k, d).copy()
        return cls(log_weights, means, cholesky, whiteners, log_determinants, start)


def pack_block(recipe: Problem, rows: Rows) -> Array:
    """Return a block as `kernels.posterior.log_posterior` reads it, without the priors.

    Parameters
    ----------
    recipe : Problem
        Of any rows.
    rows : Rows
        In the data's units. Where there are none, one that counts for none.
    """
    values, _, weights, allowed, errors = rows
    if not len(values):
        return recipe.pack(np.zeros((recipe.layout.n_features, 1)), NOTHING, prior=False)
    weights = NO_WEIGHTS if weights is None else weights
    if errors is not None or allowed is not None:
        k = recipe.layout.n_components
        lines = rows_of(values, errors, allowed, k, recipe.center, recipe.unit, recipe.box)
        return recipe.pack(lines, weights, prior=False)
    lines = np.empty((recipe.layout.n_features, len(values)))
    for d, line in enumerate(lines):  # in place: there may be many rows
        np.subtract(values[:, d], recipe.center[d], out=line)
        line /= recipe.unit[d]
    return recipe.pack(lines, weights, prior=False)


def densities(block: Array, vectors: Array) -> Array:
    """Return the log-likelihood of a block under many vectors, and gradients: (S, 1 + P)."""
    values, gradients = np.empty(len(vectors)), np.empty(vectors.shape)
    vectors = np.ascontiguousarray(vectors)
    fill_log_posteriors(address_of(block), vectors, block, values, gradients)
    return np.column_stack([values, gradients])


def moments(block: Array, mixture: Mixture) -> Array:
    """Return the E-step of a block: log-likelihood, counts, first and second moments, in a row."""
    k, d = mixture.means.shape
    n_rows, n_lines = int(block[N_ROWS]), d + int(block[N_OFFSETS])
    begin = mixture.start + int(block[N_WEIGHTS])
    end = begin + n_lines * n_rows
    rows, weights = block[begin:end].reshape(n_lines, n_rows), block[mixture.start : begin]
    counts, first, second = np.empty(k), np.empty((k, d)), np.empty((k, d, d))
    value = expected_moments(
        rows, weights, block[end:], mixture.log_weights, mixture.means, mixture.cholesky,
        mixture.whiteners, mixture.log_determinants, counts, first, second,
    )  # fmt: skip
    return np.concatenate([[value], counts, first.ravel(), second.ravel()])


@dataclass(frozen=True, eq=False)
class RowlessProblem(Problem):
    """A problem whose rows are not kept with the fit."""

    @property
    def kept(self) -> Data:
        """What a fit keeps of the data: the labels of the features."""
        return rowless(self.data)


@dataclass(frozen=True, eq=False)
class BlockProblem(RowlessProblem):
    """A resolved specification, a sample of the rows, and all of them as blocks.

    What is a `Problem`'s is the sample's, where starts are looked for and draws aligned; the log
    posterior, EM and the numbers of rows are those of all.

    Parameters
    ----------
    blocks : Blocks
    totals : Totals
        Of all of them.
    """

    blocks: Blocks = field(kw_only=True)
    totals: Totals = field(kw_only=True)

    @classmethod
    def over(cls, sample: Problem, blocks: Blocks, totals: Totals) -> Self:
        """Return the problem of all rows of which some are a sample."""
        fields = {name: getattr(sample, name) for name in Problem.__dataclass_fields__}
        return cls(**fields, blocks=blocks, totals=totals)

    @cached_property
    def prior(self) -> Array:
        """The problem of a row that counts for none: priors and Jacobians alone."""
        return self.pack(np.zeros((self.layout.n_features, 1)), NOTHING, prior=True)

    @property
    def n_counted(self) -> float:
        """Number of rows that the rows stand for."""
        return self.totals.weight

    @property
    def n_effective(self) -> float:
        """How many rows of equal weight tell as much."""
        return self.totals.effective

    def named(self, n_components: int) -> NDArray[np.int64]:
        """Return a number for every component, shape (K,), the same where labels do not differ."""
        return self.totals.named

    @property
    def log_volume(self) -> float:
        """What the log density of all rows is less than that of the standardised."""
        return float(self.totals.cells @ np.log(self.unit))

    def log_posteriors(self, vectors: Array) -> tuple[Array, Array]:
        """Return the log posterior densities, shape (S,), of vectors, and gradients, (S, P)."""
        total = densities(self.prior, vectors) + self.blocks.densities(vectors)
        return total[:, 0].copy(), np.ascontiguousarray(total[:, 1:])

    def log_posterior(self, vector: Array) -> tuple[float, Array]:
        """Return the log posterior density at an unconstrained vector, and its gradient."""
        (value,), (gradient,) = self.log_posteriors(np.ascontiguousarray(vector)[None])
        return float(value), gradient

    def run_em(
        self, penalty: Penalty, vector: Array, max_passes: int, tolerance: float
    ) -> tuple[int, Array, Array]:
        """Climb by EM on all rows, step by step as `kernels.mstep.run_em` does."""
        trace: list[float] = []
        older = old = vector
        step = np.zeros_like(vector)
        began, phase = -np.inf, 0  # of a cycle: its start, one step on, the extrapolated point
        for _ in range(max_passes):
            value, following = self._em_step(penalty, vector)
            if phase == 2 and not (following is not None and value >= trace[-1]):
                vector, phase = old, 0
                continue
            trace.append(value)
            if following is None:
                return 2, vector, np.array(trace)
            if phase == 0:
                if value - began <= tolerance:
                    return 0, vector, np.array(trace)
                began, older, vector, phase = value, vector, following, 1
            elif phase == 1:
                old = following
                step = vector - older
                bend = following - vector - step
                length = math.sqrt(float(step @ step) / max(float(bend @ bend), 1e-300))
                vector, phase = following, 0
                if length > 1.0:
                    vector = older + 2.0 * length * step + length * length * bend
                    phase = 2
            else:
                vector, phase = following, 0
        return 1, old if phase == 2 else vector, np.array(trace)

    def _em_step(self, penalty: Penalty, vector: Array) -> tuple[float, Array | None]:
        """Return EM's objective at a vector, and where the M-step leads, if anywhere."""
        layout = self.layout
        k, d = layout.n_components, layout.n_features
        start = self.prior.size - NOTHING.size - d  # of the weights: blocks have the same header
        mixture = Mixture.of_vector(layout, vector, start)
        total = self.blocks.moments(mixture)
        counts, first = total[1 : k + 1].copy(), total[k + 1 : k + 1 + k * d].reshape(k, d).copy()
        second = total[k + 1 + k * d :].reshape(k, d, d).copy()
        row = np.zeros((d, 1))  # of which, as it counts for none, the objective is the penalty
        value = em_map(layout, penalty, row, NOTHING, NO_GROUPS, vector)[0]
        log_weights, means, cholesky = mixture.log_weights, mixture.means, mixture.cholesky
        found = m_step(layout, penalty, counts, first, second, log_weights, means, cholesky)
        if not found:
            return float(total[0] + value), None
        floor = np.zeros(layout.scale_columns)
        return float(total[0] + value), unconstrain(layout, floor, log_weights, means, cholesky)
