"""The likelihood of the readable model: the density of rows, and rows that are drawn from it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.basic import Constant

from bayesgmm.data import Data, center_and_unit
from bayesgmm.known_labels import log_allowed
from bayesgmm.mixture import GaussianMixture
from bayesgmm.op import mixture_log_density, with_df
from bayesgmm.row_op import row_weighted_log_density


def log_weights_of_rows(log_weights: Callable[[Any], Any], weights: Any, data: Data) -> Any:
    """Return the log-weights of every row, (obs, component), as a user's function says."""
    if not callable(log_weights):
        raise TypeError(
            f"`log_weights` must be a function of the variable 'weights'; got an object of type "
            f"{type(log_weights).__name__}. Write lambda weights: pm.math.log(weights) + ..."
        )
    found = pt.as_tensor_variable(log_weights(weights))
    due = (data.n_obs, weights.type.shape[0])
    known = found.type.shape
    if len(known) != 2 or any(a not in (None, b) for a, b in zip(known, due, strict=True)):
        raise ValueError(
            f"`log_weights` must return a tensor of shape {due}, rows by components; got {known}. "
            f"Write pm.math.log(weights) + z[:, None] * slope, with a z for every row."
        )
    return pt.special.log_softmax(found, axis=1)


def log_density_of(data: Data, specification: GaussianMixture) -> Callable[..., Any]:
    """Return the log density of rows, for which they are centred and scaled as these data are.

    If the rows of the data have weights and known labels, rows must be as many, and have the same.
    """
    values, counts = data.counted
    center, unit = center_and_unit(values, specification.structure.common_scale, counts)
    offsets = [] if data.allowed is None else [log_allowed(data.allowed)]
    row_weights, noise = data.sample_weight, specification.noise
    log_volume, per_unit = np.log(unit).sum(keepdims=True), 1.0 / unit

    def rows_of(value: Any, below: list[Any]) -> Any:
        """Return rows as the pass reads them."""
        if isinstance(value, Constant):
            return np.concatenate([((value.data - center) / unit).T, *below])
        rows = ((value - center) / unit).T
        return pt.concatenate([rows, *below]) if below else rows

    def beside_noise(density: Any, value: Any, weight: Any) -> Any:
        """Return the log density of rows that may be noise, by that as rows of components."""
        assert noise is not None
        low, high = noise.corners
        inside = pt.all((value >= low) & (value <= high), axis=1)
        return pt.switch(inside, pt.logaddexp(density, pt.log(weight) + noise.log_density), density)

    def log_density(value: Any, weights: Any, means: Any, cholesky: Any, *further: Any) -> Any:
        """Return the log density of every row, shape (obs,), in nats."""
        if weights.type.ndim == 1:
            rows, log_weights, of = rows_of(value, offsets), pt.log(weights), mixture_log_density
        else:  # rows have log-weights of their own
            rows, log_weights = rows_of(value, []), sum(offsets, start=weights.T)
            of = row_weighted_log_density
        standardised = (means - center) * per_unit
        factors = cholesky * per_unit[:, None]
        if further and noise is None:
            factors = with_df(factors, further[0])
        density = of(rows, log_weights, standardised, factors) - log_volume
        if noise is not None:
            density = beside_noise(density, value, further[0])
        if row_weights is None:
            return density
        return pt.switch(pt.eq(row_weights, 0.0), 0.0, row_weights * density)

    return log_density


def random_rows(weights: Any, means: Any, cholesky: Any, *df_and_size: Any) -> Any:
    """Return rows drawn from the mixture: a component each, then a Normal or a t."""
    *df, size = df_and_size
    component = pm.Categorical.dist(weights, size=size)
    shape = pt.concatenate([component.shape, means.shape[-1:]])
    z = pm.Normal.dist(0.0, 1.0, size=shape)
    if df:
        of_row = df[0][component]
        z = z * pt.sqrt(of_row / pm.ChiSquared.dist(of_row))[..., None]
    return means[component] + (cholesky[component] * z[..., None, :]).sum(axis=-1)


def random_rows_of_their_weights(log_weights: Any, *further: Any) -> Any:
    """Return rows drawn from mixtures of log-weights of their own."""
    return random_rows(pt.exp(log_weights), *further)


def random_rows_of(specification: GaussianMixture, *, own_weights: bool) -> Callable[..., Any]:
    """Return what draws rows of a specification, those of log-weights of their own too."""
    noise = specification.noise

    def beside_noise(weights: Any, means: Any, cholesky: Any, of_noise: Any, size: Any) -> Any:
        assert noise is not None
        rows = random_rows(weights / weights.sum(), means, cholesky, size)
        low, high = noise.corners
        is_noise = pm.Bernoulli.dist(of_noise, size=rows.shape[:-1])
        anywhere = pm.Uniform.dist(low, high, size=rows.shape)
        return pt.switch(is_noise[..., None], anywhere, rows)

    if noise is not None:
        return beside_noise
    return random_rows_of_their_weights if own_weights else random_rows
