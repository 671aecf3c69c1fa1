"""What a plot shows of a fit: some features of some rows, and the draws of all components."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.imputation import imputed
from bayesgmm.plots.geometry import Array
from bayesgmm.tree import (
    NoisyParameters,
    TailedParameters,
    parameters,
    specification,
    with_covariances,
)


@dataclass(frozen=True, eq=False)
class Scene:
    """Points and components in a few dimensions, in the units of the axes.

    Parameters
    ----------
    points : array, shape (n_points, n_axes)
        The rows that are drawn.
    probability : array, shape (n_points, n_parts)
        Of each component, and of noise, for these rows.
    labels : list of str
        What each axis says.
    ranges : array, shape (2, n_axes)
        Smallest and largest value of all rows.
    weights : array, shape (n_draws, n_components)
    means : array, shape (n_draws, n_components, n_axes)
    covariances : array, shape (n_draws, n_components, n_axes, n_axes)
        Or scale matrices.
    df : array, shape (n_draws, n_components), or None
        Degrees of freedom, if components are Student's t.
    noise_weight : array, shape (n_draws,), or None
        Weight of background noise, if there is any; the last of the probabilities is its own.
    box : array, shape (2, n_axes), or None
        The corners of its box, where axes are features.
    """

    points: Array
    probability: Array
    labels: list[str]
    ranges: Array
    weights: Array
    means: Array
    covariances: Array
    df: Array | None = None
    noise_weight: Array | None = None
    box: Array | None = None

    @property
    def n_parts(self) -> int:
        """Number of components, and one for noise."""
        return self.n_components + (self.noise_weight is not None)

    def noise_along(self, axis: int, places: Array, draws: NDArray[np.int64]) -> Array:
        """Return the weighted density of noise along an axis, under some draws (S, n_places)."""
        if self.noise_weight is None or self.box is None:
            return np.zeros((len(draws), places.size))
        low, high = self.box[:, axis]
        inside = (places >= low) & (places <= high)
        return np.asarray(self.noise_weight[draws, None] * (inside / (high - low)))

    @property
    def typical_df(self) -> Array | None:
        """Degrees of freedom of every component, their geometric mean over draws."""
        return None if self.df is None else np.exp(np.log(self.df).mean(axis=0))

    @property
    def n_components(self) -> int:
        """Number of components."""
        return int(self.weights.shape[1])

    @property
    def n_draws(self) -> int:
        """Number of draws; one is a point estimate."""
        return len(self.weights)

    def along(self, axes: list[int]) -> tuple[Array, Array, Array]:
        """Return points, means and covariances along some axes."""
        return (
            self.points[:, axes],
            self.means[..., axes],
            self.covariances[..., axes, :][..., axes],
        )


def whole_rows(tree: xr.DataTree) -> tuple[xr.DataArray, str]:
    """Return the rows that were fitted, and what to say of them, if anything.

    In place of missing cells is one draw of them, always the same: they lie where such rows do.
    """
    X = tree[names.OBSERVED_DATA].dataset[names.X]
    if not np.isnan(X.values).any():
        return X, ""
    last = tree.isel({names.CHAIN: [0], names.DRAW: [-1]})
    drawn = imputed(last, None, 1, 0)[1][names.X].isel({names.IMPUTATION: 0}, drop=True)
    return drawn, "missing cells drawn from the fit"


def view(
    tree: xr.DataTree,
    X: xr.DataArray,
    center: Array,
    directions: Array,
    labels: list[str],
    rows: NDArray[np.int64],
    probability: Array,
) -> Scene:
    """Return some rows of a fit and its components, seen along a few directions.

    Parameters
    ----------
    tree : DataTree
        A fit.
    X : DataArray, dims (obs, feature)
        All of its rows, as `whole_rows` returns them.
    center : array, shape (n_features,)
        What is zero on every axis.
    directions : array, shape (n_features, n_axes)
        Columns of the identity matrix are features themselves.
    labels : list of str
        What each axis says.
    rows : array of int, shape (n_points,)
        Those drawn.
    probability : array, shape (n_points, n_parts)
        Of each component, and of noise, for these rows.
    """
    values = (X.values - center) @ directions
    drawn, noise = with_covariances(parameters(tree)), specification(tree).noise
    box = None
    if noise is not None and (np.count_nonzero(directions, axis=0) == 1).all():
        box = (np.stack(noise.corners) - center) @ directions
    return Scene(
        points=values[rows],
        probability=probability,
        labels=labels,
        ranges=np.stack([values.min(axis=0), values.max(axis=0)]),
        weights=drawn.weights,
        means=(drawn.means - center) @ directions,
        covariances=directions.T @ drawn.covariances @ directions,
        df=drawn.df if isinstance(drawn, TailedParameters) else None,
        noise_weight=drawn.noise_weight if isinstance(drawn, NoisyParameters) else None,
        box=box,
    )


def choose_features(labels: list[Any], features: Any, at_most: int) -> list[int]:
    """Return the positions of the features to draw.

    Parameters
    ----------
    labels : list of str or int
        Of the fitted features.
    features : object
        What the user asked for: a label or several; None is the first `at_most`.
    at_most : int
    """
    if features is None:
        return list(range(min(len(labels), at_most)))
    wanted = np.asarray(features, dtype=object).ravel().tolist()
    listed = ", ".join(repr(label) for label in labels[:20]) + ", ..." * (len(labels) > 20)
    if not wanted:
        raise ValueError(
            f"`features` must name at least one of {listed}; got {features!r}. Leave it out to "
            f"draw the first {at_most}."
        )
    for place, label in enumerate(wanted):
        if not isinstance(label, str | int | np.integer) or label not in labels:
            near = get_close_matches(str(label), [str(one) for one in labels], n=1)
            remedy = f"Did you mean {near[0]!r}?" if near else "Choose some of these."
            raise ValueError(f"`features` must be among {listed}; got {label!r}. {remedy}")
        if label in wanted[:place]:
            raise ValueError(
                f"`features` must name each feature once; got {label!r} more than once. "
                f"Drop the repeated ones."
            )
    return [labels.index(label) for label in wanted]
