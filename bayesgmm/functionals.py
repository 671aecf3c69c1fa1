"""What follows from the draws of a mixture: how components overlap, and its density on a grid."""

import math
from collections.abc import Hashable, Mapping
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.errors import check_share
from bayesgmm.kernels.factor_loadings import dense
from bayesgmm.kernels.pairs import fill_pairs
from bayesgmm.kernels.relabel import NO_CUBE
from bayesgmm.kernels.threads import over_draws
from bayesgmm.prediction import CHUNK_BYTES, LARGEST_RESULT, mixtures
from bayesgmm.summaries import require_draws
from bayesgmm.tree import features, require
from bayesgmm.tree.derived import restrict

type Array = NDArray[np.float64]

N_RAYS: Final = 512
"""Directions in which a component is left to see where others are denser."""

RESERVED: Final = (names.CHAIN, names.DRAW, names.STATISTIC)
"""Names of dimensions that a grid's cannot have."""


def overlap(tree: xr.DataTree) -> xr.Dataset:
    """Return how much any two components overlap, in every draw.

    Parameters
    ----------
    tree : DataTree
        A fit.

    Returns
    -------
    Dataset, dims (chain, draw, component, component2)
        ``overlap``: the area under both densities, the integral of min(f, f2), in [0, 1]; 1 for
        two equal components, which weights do not enter. ``misclassification``: the probability
        that a point of `component` is taken for one of `component2` where the choice is between
        the two, P(w2 f2 > w f | f), in [0, 1]. ``bhattacharyya``: the distance
        -log of the integral of sqrt(f f2), in nats; the coefficient is its exp(-). ``kl``: the
        Kullback-Leibler divergence of `component2` from `component`, the mean of log(f / f2)
        under f, in nats. `summary` makes a table of them.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit, or was taken apart along ``chain`` or ``draw``.

    Notes
    -----
    The last two have closed forms. The first two are integrated exactly along rays from the mean
    of a component and averaged over directions, always the same (Das & Geisler 2021): exact for
    one feature, to 1e-4 for two; for more the 512 directions are off by 0.003 in the root mean
    square where components overlap much, by less where they do not.
    O(S K^2 D^2) operations for S draws, a few hundred times; 4 S K^2 numbers.

    References
    ----------
    Das & Geisler (2021), A method to integrate and classify normal distributions, J. Vision 21.
    doi:10.1167/jov.21.10.1

    Inman & Bradley (1989), The overlapping coefficient as a measure of agreement between
    probability distributions, Communications in Statistics 18. doi:10.1080/03610928908830127

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 3, method="map", random_seed=1)
    >>> pair = bg.overlap(tree).isel(chain=0, draw=0, component=0, component2=1)
    >>> float(pair["overlap"].round(2)), float(pair["kl"].round(1))
    (0.26, 1.6)
    """
    require(tree, names.CONSTANT_DATA, function="overlap")
    require_draws(tree, names.POSTERIOR, function="overlap")
    draws = mixtures(tree).components
    cholesky = dense(draws.cholesky, draws.means.shape[2])
    n_draws, n_components, n_dim = draws.means.shape
    directions = rays(n_dim)
    results = np.empty((4, n_draws, n_components, n_components))

    def fill(part: slice) -> None:
        fill_pairs(
            draws.log_weights[part], draws.means[part], cholesky[part], directions,
            *(result[part] for result in results),
        )  # fmt: skip

    over_draws(fill, n_draws)
    misclassification, exceeded, kl, bhattacharyya = results
    both = np.minimum(exceeded + exceeded.swapaxes(1, 2) + np.eye(n_components), 1.0)
    posterior = tree[names.POSTERIOR].dataset
    sample = (names.CHAIN, names.DRAW)
    shape = tuple(posterior.sizes[dim] for dim in sample)
    component = posterior[names.COMPONENT].values
    dims = (*sample, names.COMPONENT, names.COMPONENT2)
    arrays = {
        names.OVERLAP: both, names.MISCLASSIFICATION: misclassification,
        names.BHATTACHARYYA: bhattacharyya, names.KL: kl,
    }  # fmt: skip
    return xr.Dataset(
        {name: (dims, array.reshape(*shape, *array.shape[1:])) for name, array in arrays.items()},
        coords={
            **{dim: posterior[dim].variable for dim in sample},
            names.COMPONENT: component,
            names.COMPONENT2: component,
        },
    )


def rays(n_dim: int) -> Array:
    """Return directions that, with their opposites, stand for all, shape (R, D): always the same.

    Evenly spread where two features allow it; orthogonal frames, turned at random, for more.
    """
    if n_dim == 1:
        return np.ones((1, 1))
    if n_dim == 2:
        angle = np.arange(N_RAYS // 4) * (4.0 * np.pi / N_RAYS)
        return np.stack([np.cos(angle), np.sin(angle)], axis=1)
    n_frames = -(-N_RAYS // n_dim)
    normal = np.random.default_rng(0).normal(size=(n_frames, n_dim, n_dim))
    return np.ascontiguousarray(np.linalg.qr(normal)[0].reshape(-1, n_dim))


def density(tree: xr.DataTree, grid: Any, *, probability: float | None = 0.9) -> xr.DataArray:
    """Return the density of the mixture on a grid, with how uncertain it is.

    Parameters
    ----------
    tree : DataTree
        A fit.
    grid : dict of feature to array, or array
        Values of one or two features, in their units: ``{"length": lengths}`` or ``{"length":
        lengths, "width": widths}``; the other features are integrated out. An array is enough
        where a single feature was fitted.
    probability : float or None, default 0.9
        Share of the draws that the band holds at every place. None gives the density of every
        draw instead.

    Returns
    -------
    DataArray, dims (statistic, feature) or (statistic, feature, feature)
        Dimensions are named as the features are and labelled by the grid. ``statistic`` is
        ``"predictive"``, the posterior predictive density: the mean over the draws, ``"lower"``
        and ``"upper"``, the ends of the equal-tailed pointwise credible band; with
        ``probability=None`` it is replaced by ``chain`` and ``draw``. In 1 / (units of the
        features).

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit, `grid` no grid of its features, or the densities of all draws
        would take more than 2 GiB.

    Notes
    -----
    O(S G K) operations for S draws and G places; 64 MiB of memory beyond the result. Labels of
    components do not matter to a density.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, method="map", random_seed=1)
    >>> curve = bg.density(tree, {"eruptions": [2.0, 3.0, 4.5]})
    >>> curve.sel(statistic="predictive").values.round(2)
    array([0.53, 0.01, 0.55])
    """
    require(tree, names.CONSTANT_DATA, function="density")
    require_draws(tree, names.POSTERIOR, function="density")
    axes = _axes(tree, grid)
    if probability is not None:
        probability = check_share(probability, "probability", "0.9 is usual.")
    shape = tuple(len(values) for values in axes.values())
    n_draws, n_places = math.prod(_sample_shape(tree)), math.prod(shape)
    if probability is None and 8 * n_draws * n_places > LARGEST_RESULT:
        raise ValueError(
            f"`grid` must leave the densities of all draws under 2 GiB; got {n_places} places for "
            f"each of {n_draws} draws. Give fewer places, or thin the draws: "
            f"tree.isel(draw=slice(None, None, 10))."
        )
    places = np.stack(np.meshgrid(*axes.values(), indexing="ij")).reshape(len(axes), -1)
    values = _on_places(tree, [features(tree).index(label) for label in axes], places, probability)
    dims = tuple(str(label) for label in axes)
    coords: dict[Hashable, Any] = dict(zip(dims, axes.values(), strict=True))
    if probability is None:
        posterior = tree[names.POSTERIOR].dataset
        sample = (names.CHAIN, names.DRAW)
        coords |= {dim: posterior[dim].variable for dim in sample}
        return xr.DataArray(
            values.reshape(*_sample_shape(tree), *shape), dims=(*sample, *dims), coords=coords,
            name="density",
        )  # fmt: skip
    coords[names.STATISTIC] = [names.PREDICTIVE, "lower", "upper"]
    return xr.DataArray(
        values.reshape(-1, *shape), dims=(names.STATISTIC, *dims), coords=coords, name="density",
        attrs={names.PROBABILITY: probability},
    )  # fmt: skip


def _sample_shape(tree: xr.DataTree) -> tuple[int, int]:
    """Return how many chains and draws there are."""
    sizes = tree[names.POSTERIOR].dataset.sizes
    return sizes[names.CHAIN], sizes[names.DRAW]


def _axes(tree: xr.DataTree, grid: Any) -> dict[Any, Array]:
    """Return the values of the features that a grid is made of."""
    labels = features(tree)
    if not isinstance(grid, Mapping):
        if len(labels) > 1:
            raise TypeError(
                f"`grid` must be a dictionary from features to values, as the fit has several; got "
                f"an object of type {type(grid).__name__}. Pass {{{labels[0]!r}: values}}."
            )
        grid = {labels[0]: grid}
    listed = ", ".join(repr(label) for label in labels[:20]) + ", ..." * (len(labels) > 20)
    if not 1 <= len(grid) <= 2:
        raise ValueError(
            f"`grid` must hold values of one or two features; got {len(grid)}. Choose among "
            f"{listed}."
        )
    axes = {}
    for label, given in grid.items():
        if label not in labels:
            raise ValueError(
                f"`grid` must hold features of the fit, {listed}; got {label!r}. Choose some of "
                f"these."
            )
        if label in RESERVED:
            raise ValueError(
                f"`grid` must not hold a feature named as a dimension of the result; got "
                f"{label!r}. Rename the column and fit again."
            )
        values = np.asarray(given)
        if values.ndim != 1 or values.size == 0 or values.dtype.kind not in "iuf":
            raise ValueError(
                f"`grid` must hold 1-D arrays of numbers; got shape {values.shape} and dtype "
                f"{values.dtype} for {label!r}. Try numpy.linspace(low, high, 200)."
            )
        if not np.isfinite(values).all():
            where = int(np.flatnonzero(~np.isfinite(values))[0])
            raise ValueError(
                f"`grid` must hold finite numbers; got {values[where]} for {label!r}, place "
                f"{where}. Leave it out."
            )
        axes[label] = values.astype(np.float64)
    return axes


def _on_places(
    tree: xr.DataTree, positions: list[int], places: Array, probability: float | None
) -> Array:
    """Return mean and band at some places (D, G), shape (3, G), or all draws, shape (S, G)."""
    draws = mixtures(restrict(tree, positions, "marginal"))
    rows = draws.rows(places.T)
    n_draws, n_places = len(draws.log_weights), places.shape[1]
    result = np.empty((3, n_places))
    step = n_places if probability is None else max(1, CHUNK_BYTES // (8 * n_draws))
    for start in range(0, n_places, step):
        block = np.ascontiguousarray(rows[:, start : start + step])
        drawn = np.empty((n_draws, block.shape[1]))
        draws.fill(block, drawn, NO_CUBE)
        drawn -= np.log(draws.unit).sum()
        np.exp(drawn, out=drawn)
        if probability is None:
            return drawn
        tail = 0.5 * (1.0 - probability)
        result[0, start : start + step] = drawn.mean(axis=0)
        result[1:, start : start + step] = np.quantile(drawn, [tail, 1.0 - tail], axis=0)
    return result
