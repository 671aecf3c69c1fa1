"""Specification and data turned into what the kernels read."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.background import standardised_box
from bayesgmm.data import Data, center_and_unit
from bayesgmm.factor_packing import Gauge, factor_parameters, factor_vectors
from bayesgmm.factor_prior import FactorCovariance
from bayesgmm.kernels.cholesky import Layout, constrain, offsets, unconstrain
from bayesgmm.kernels.factor_posterior import pack_factor_problem
from bayesgmm.kernels.mstep import Penalty
from bayesgmm.kernels.posterior import pack_problem
from bayesgmm.kernels.target import log_target
from bayesgmm.known_labels import log_allowed, named_apart
from bayesgmm.mixture import GaussianMixture
from bayesgmm.packing import layout_of, packed, packed_df
from bayesgmm.priors import LKJCovariance
from bayesgmm.records import log_volumes, rows_of
from bayesgmm.sample_weights import effective_rows
from bayesgmm.tree import (
    FactorParameters,
    NoisyParameters,
    Parameters,
    TailedParameters,
    each,
    parameters,
    specification,
)
from bayesgmm.tree.mixtures import scales_of
from bayesgmm.tree.rows import fitted_data

type Array = NDArray[np.float64]

ABOVE_FLOOR = 0.01
"""How far above the floor, as a share of it, a scale below it is moved."""
MEDIAN_ROWS = 10_000
"""Rows whose median stands for that of all."""
SHRINKAGE = 0.01
"""Scatter, as a share of the data's, that every component starts EM with."""


def refuse_correlated_errors(data: Data) -> None:
    """Refuse errors that are correlated, beside which factors and noise are no factor analyser."""
    if data.errors is not None and data.errors.ndim > 2:
        raise ValueError(
            f"`measurement_error` must be standard deviations, of the shape of `X`, where "
            f"`covariance` is a FactorCovariance; got covariance matrices, shape "
            f"{data.errors.shape}. Pass the roots of their diagonals, or use LKJCovariance()."
        )


@dataclass(frozen=True, eq=False)
class Problem:
    """A resolved specification and standardised data, ready for the kernels.

    Parameters
    ----------
    specification : GaussianMixture
        Resolved: every hyperparameter a number.
    data : Data
    center, unit : arrays, shape (D,)
        The kernels see (x - center) / unit.
    layout : Layout
        Of the unconstrained vector.
    floor : array, shape (C,)
        Smallest standardised scale under the prior; vectors of EM have none.
    flat : array
        What `kernels.target.log_target` reads, the priors included.
    gauge : Gauge, optional
        Coordinates of the loadings of factor analysers.
    """

    specification: GaussianMixture
    data: Data
    center: Array
    unit: Array
    layout: Layout
    floor: Array
    flat: Array
    gauge: Gauge | None = None

    @classmethod
    def make(cls, specification: GaussianMixture, data: Data) -> Self:
        """Resolve the specification and standardise the data; costs O(N D)."""
        values, weights = data.counted
        resolved = specification.resolve(values, weights)
        common_unit = specification.structure.common_scale
        return cls.of_units(resolved, data, *center_and_unit(values, common_unit, weights))

    @classmethod
    def of_units(cls, resolved: GaussianMixture, data: Data, center: Array, unit: Array) -> Self:
        """Standardise the data by a known origin and unit; costs O(N D)."""
        layout = layout_of(resolved, data.n_features)
        floor = np.broadcast_to(np.asarray(resolved.covariance.floor), unit.shape) / unit
        floor = floor[: layout.scale_columns].copy()
        gauge = None
        if isinstance(resolved.covariance, FactorCovariance):
            resolved.covariance.check_features(data.n_features)
            refuse_correlated_errors(data)
            gauge = Gauge.make(
                resolved.covariance, layout.n_components, *data.counted, center, unit
            )  # fmt: skip
        bare = cls(resolved, data, center, unit, layout, floor, np.empty(0), gauge)
        if not bare.plain:
            return replace(bare, flat=bare.pack(bare.rows, bare.row_weights, prior=True))
        room = np.broadcast_to(0.0, (bare.n_lines, data.n_obs))
        problem = replace(bare, flat=bare.pack(room, bare.row_weights, prior=True))
        rows = problem.rows
        for d in range(data.n_features):  # in place: there may be many rows
            np.subtract(data.values[:, d], center[d], out=rows[d])
            rows[d] /= unit[d]
        if data.allowed is not None:
            rows[data.n_features :] = log_allowed(data.allowed)
        return problem

    @classmethod
    def of_tree(cls, tree: xr.DataTree) -> Self:
        """Return the problem that a fit has solved."""
        return cls.make(specification(tree), fitted_data(tree))

    def pack(self, rows: Array, row_weights: Array, *, prior: bool) -> Array:
        """Return what `kernels.target.log_target` reads, of some rows.

        Parameters
        ----------
        rows : array, shape (D', n)
            As the property has them.
        row_weights : array, shape (n,) or (0,)
            How many rows each stands for; empty for one.
        prior : bool
            False leaves out priors and Jacobians: the log-likelihood alone.
        """
        resolved, unit = self.specification, self.unit
        concentration, sticks = packed(resolved)
        tau = np.broadcast_to(np.asarray(resolved.covariance.scale), unit.shape) / unit
        parts: dict[str, Any] = {
            "concentration": concentration,
            "sticks": sticks,
            "location": (np.asarray(resolved.means.location) - self.center) / unit,
            "scale": np.asarray(resolved.means.scale) / unit,
            "tau": tau[: self.layout.scale_columns],
            "floor": self.floor,
            "unit": unit,
            "row_weights": row_weights,
            "prior": prior,
        }
        if self.gauge is not None:
            return pack_factor_problem(self.layout, rows, **parts, **self.gauge._asdict())
        assert isinstance(resolved.covariance, LKJCovariance)
        return pack_problem(
            self.layout, rows, **parts, eta=resolved.covariance.eta, df=self.df, noise=self.noise
        )

    @property
    def kept(self) -> Data:
        """What a fit keeps of the data."""
        return self.data

    @property
    def n_parameters(self) -> int:
        """Length of the unconstrained vector."""
        return int(offsets(self.layout)[3])

    @cached_property
    def plain(self) -> bool:
        """Whether all cells are seen as they are, and all rows in the box of the noise."""
        noise = self.specification.noise
        beyond = noise is not None and bool(noise.outside(self.data.values).any())
        return self.data.complete and not beyond

    @property
    def n_lines(self) -> int:
        """Lines of `rows`: one for every feature, and if labels are known for every component."""
        allowed = self.data.allowed
        return self.data.n_features + (0 if allowed is None else allowed.shape[1])

    @property
    def rows(self) -> Array:
        """The standardised data, shape (D', N), as `kernels.patterns` has them.

        A view of `flat`, shape (D, N) or (D + K, N), if they are plain.
        """
        if not self.plain:
            return self._incomplete
        size = self.n_lines * self.data.n_obs
        return self.flat[self.flat.size - size :].reshape(self.n_lines, self.data.n_obs)

    @cached_property
    def _incomplete(self) -> Array:
        data = self.data
        return rows_of(
            data.values, data.errors, data.allowed, self.layout.n_components,
            self.center, self.unit, self.box,
        )  # fmt: skip

    @property
    def box(self) -> Array:
        """Standardised corners of the box of the noise, (2, D); (0, D) where there is none."""
        return standardised_box(self.specification.noise, self.center, self.unit)

    @property
    def row_weights(self) -> Array:
        """How many rows each stands for, shape (N,), or (0,) where it is one."""
        weights = self.data.sample_weight
        return np.empty(0) if weights is None else weights

    @property
    def n_counted(self) -> float:
        """Number of rows that the rows stand for."""
        weights = self.data.sample_weight
        return float(self.data.n_obs if weights is None else weights.sum())

    @property
    def n_effective(self) -> float:
        """How many rows of equal weight tell as much."""
        weights = self.data.sample_weight
        return float(self.data.n_obs) if weights is None else effective_rows(weights)

    def named(self, n_components: int) -> NDArray[np.int64]:
        """Return what `known_labels.named_apart` does of what is known of all labels."""
        return named_apart(self.data.allowed, n_components)

    @cached_property
    def log_volumes(self) -> Array:
        """What the log density of each row, shape (N,), is less than that of the standardised."""
        if self.data.complete:  # there may be many rows
            return np.broadcast_to(np.log(self.unit).sum(), self.data.n_obs)
        return log_volumes(self.rows, self.unit)

    @property
    def log_volume(self) -> float:
        """What the log density of all rows is less than that of the standardised."""
        weights = self.row_weights
        return float(self.log_volumes @ weights if weights.size else self.log_volumes.sum())

    @cached_property
    def middle(self) -> Array:
        """Median of the standardised data, shape (D,), where a wild row does not show.

        Of more than 10,000 rows, that of as many, evenly spaced.
        """
        some = slice(None, None, -(-self.data.n_obs // MEDIAN_ROWS) if self.data.complete else 1)
        cells, weights = self.rows[: self.data.n_features, some], self.row_weights[some]
        if not weights.any():
            return np.nanmedian(cells, axis=1)
        weights = np.broadcast_to(weights, cells.shape)
        return np.nanquantile(cells, 0.5, axis=1, weights=weights, method="inverted_cdf")

    @cached_property
    def df(self) -> Array:
        """What `kernels.posterior.pack_problem` has of degrees of freedom."""
        return packed_df(self.specification)

    @property
    def noise(self) -> float:
        """Log density of a standardised row that is noise; 0 where there is none."""
        noise = self.specification.noise
        return 0.0 if noise is None else noise.log_density + float(np.log(self.unit).sum())

    def log_posterior(self, vector: Array) -> tuple[float, Array]:
        """Return the log posterior density at an unconstrained vector, and its gradient."""
        gradient = np.empty_like(vector)
        return log_target(vector, self.flat, gradient), gradient

    def penalty(self, strength: float) -> Penalty:
        """Return the conjugate stand-in for the priors that EM works with; 0 is none."""
        k, d = self.layout.n_components, self.layout.n_features
        scatter = SHRINKAGE * k ** (-2.0 / d)
        return Penalty(
            concentration=strength * self.specification.concentration,
            location=self.middle,
            strength=strength * SHRINKAGE,
            scatter=np.full(d, strength * scatter),
            freedom=strength,
            df=self.df * strength if self.layout.df_sets else self.df,
            noise=self.noise,
        )

    def constrain(
        self, vectors: Array, floor: Array | None = None
    ) -> Parameters | FactorParameters:
        """Return the parameters of unconstrained vectors, shape (S, P); EM's have floor 0."""
        floor = self.floor if floor is None else floor
        vectors = np.ascontiguousarray(vectors)
        if self.gauge is not None:
            found = factor_parameters(self.layout, floor, self.gauge, vectors)
            noise, loadings = found[2] * self.unit, found[3] * self.unit[:, None]
            return FactorParameters(
                np.exp(found[0]), found[1] * self.unit + self.center, noise, loadings,
                scales_of(noise, loadings),
            )  # fmt: skip
        normal = constrain(self.layout, floor, vectors, self.center, self.unit)
        background = self.specification.noise
        if background is not None:
            return NoisyParameters.of_all(*normal, log_density=background.log_density)
        if not self.df.size:
            return Parameters(*normal)
        learnt = np.exp(vectors[:, self.n_parameters - self.layout.df_sets :])
        df = np.broadcast_to(learnt if self.layout.df_sets else self.df, normal[0].shape)
        return TailedParameters(*normal, df.copy())

    def on_prior_scale(self, vector: Array) -> Array:
        """Return a vector of EM as one under the floor of the prior."""
        layout = self.layout
        _, start, end, _ = offsets(layout)
        result = vector.copy()
        scales = np.exp(vector[start:end]).reshape(layout.scale_rows, layout.scale_columns)
        excess = np.maximum(scales - self.floor, ABOVE_FLOOR * self.floor)
        result[start:end] = np.log(excess).ravel()
        return result

    def units_of(self, vector: Array) -> Array:
        """Return what a small change of every entry is, shape (P,).

        1 for logarithms and log-odds; for a mean the component's own scale if it is less than 1.
        """
        means, scales, _, _ = offsets(self.layout)
        units = np.ones(vector.size)
        units[means:scales] = np.minimum(
            self.constrain(vector[None]).scales[0] / self.unit, 1
        ).ravel()
        return units

    def vectors(
        self, parameters: Parameters | FactorParameters, log_weights: Array | None = None
    ) -> Array:
        """Return the vectors, shape (S, P), that draws stand for, however near the floor.

        Logarithms of weights, shape (S, K), are needed where weights are too small to be kept.
        """
        layout = self.layout
        logs, *others = parameters.standardised(self.center, self.unit)
        logs[:, layout.n_components :] -= self.noise
        mixtures = logs if log_weights is None else log_weights, *others
        if self.gauge is not None:
            return factor_vectors(self.layout, self.floor, self.gauge, *mixtures)
        result: Array = np.stack(
            [unconstrain(layout, self.floor, *one) for one in zip(*mixtures, strict=True)]
        )
        _, start, end, _ = offsets(layout)
        free = parameters.scales[:, : layout.scale_rows, : layout.scale_columns]
        excess = free / self.unit[: layout.scale_columns] - self.floor
        least = np.finfo(np.float64).eps * self.floor  # that is left where rounding took it all
        result[:, start:end] = np.log(np.maximum(excess, least)).reshape(len(result), -1)
        return result

    def vectors_of(self, tree: xr.DataTree) -> Array:
        """Return the vectors, shape (S, P), of the draws of a fit, as `vectors` does."""
        posterior, log_weights = tree[names.POSTERIOR].dataset, None
        if names.LOG_WEIGHTS in posterior:
            kept = posterior[names.LOG_WEIGHTS].transpose(names.CHAIN, names.DRAW, names.COMPONENT)
            log_weights = kept.values.reshape(-1, kept.sizes[names.COMPONENT])
        return self.vectors(parameters(tree), log_weights)

    def unconstrain(self, parameters: Parameters | FactorParameters, index: int = 0) -> Array:
        """Return the vector of one of several mixtures, under the floor of the prior."""
        if self.gauge is not None:
            one = each(parameters, lambda values: values[index : index + 1])
            found: Array = self.vectors(one)[0]
            return found
        log_weights, means, cholesky = (
            np.ascontiguousarray(array[index])
            for array in parameters.standardised(self.center, self.unit)
        )
        log_weights[self.layout.n_components :] -= self.noise
        vector: Array = unconstrain(self.layout, self.floor, log_weights, means, cholesky)
        return vector
