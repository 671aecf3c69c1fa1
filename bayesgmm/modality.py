"""The modes of a mixture's density: how many clusters there are that are peaks."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.kernels.ascent import fill_modes
from bayesgmm.kernels.factor_loadings import dense
from bayesgmm.kernels.threads import over_draws
from bayesgmm.prediction import Mixtures, mixtures
from bayesgmm.summaries import require_draws
from bayesgmm.tree import require

type Array = NDArray[np.float64]


def density_modes(tree: xr.DataTree) -> xr.Dataset:
    """Return the modes of the density, in every draw, and which component belongs to which.

    From the mean of each component the density is climbed; components that come to the same mode
    are one peak, however many of them it takes to describe its shape.

    Parameters
    ----------
    tree : DataTree
        A fit.

    Returns
    -------
    Dataset, dims (chain, draw), with (component) and (component, feature)
        ``n_modes`` (chain, draw): the number of modes, at most that of components.
        ``location`` (chain, draw, component, feature): the mode that the component's mean climbs
        to, in the data's units. ``log_density`` (chain, draw, component): the log density there,
        in nats. ``labels`` (chain, draw, component): the number of the mode, from 0; components
        with the same number share it. `summary` makes a table of them.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit, or was taken apart along ``chain`` or ``draw``.

    Notes
    -----
    Carreira-Perpinan's fixed point, and Newton's steps near the top. Means closer than 0.001
    standard deviations are one mode. A mixture in two or more dimensions may have modes that no
    mean climbs to (Ray & Lindsay 2005): rare, and not found. The number of modes and where they
    are do not depend on labels of components; which component belongs to which does.
    Background noise makes no mode, and raises the density of those in its box.
    O(S K^2 D^2) operations for S draws, a dozen times.

    References
    ----------
    Carreira-Perpinan (2000), Mode-finding for mixtures of Gaussian distributions, IEEE Trans.
    Pattern Analysis and Machine Intelligence 22. doi:10.1109/34.888716

    Ray & Lindsay (2005), The topography of multivariate normal mixtures, Annals of Statistics
    33. doi:10.1214/009053605000000417

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_galaxies(), 4, method="map", random_seed=1)
    >>> modes = bg.density_modes(tree).isel(chain=0, draw=0)
    >>> int(modes["n_modes"]), modes["labels"].values
    (3, array([0, 1, 2, 2]))
    """
    require(tree, names.CONSTANT_DATA, function="density_modes")
    require_draws(tree, names.POSTERIOR, function="density_modes")
    whole = mixtures(tree)
    draws = whole.components  # noise is flat: it moves no mode
    cholesky = dense(draws.cholesky, draws.means.shape[2])
    n_draws, n_components, n_dim = draws.means.shape
    locations = np.empty((n_draws, n_components, n_dim))
    log_density = np.empty((n_draws, n_components))
    labels = np.empty((n_draws, n_components), dtype=np.int64)

    def fill(part: slice) -> None:
        fill_modes(
            draws.log_weights[part], draws.means[part], cholesky[part],
            locations[part], log_density[part], labels[part],
        )  # fmt: skip

    over_draws(fill, n_draws)
    posterior = tree[names.POSTERIOR].dataset
    sample = (names.CHAIN, names.DRAW)
    shape = (posterior.sizes[names.CHAIN], posterior.sizes[names.DRAW])
    each = (*sample, names.COMPONENT)
    log_density = _with_noise(whole, locations, log_density) - np.log(draws.unit).sum()
    locations = locations * draws.unit + draws.center
    return xr.Dataset(
        {
            names.N_MODES: (sample, labels.max(axis=1).reshape(shape) + 1),
            names.LOCATION: ((*each, names.FEATURE), locations.reshape(*shape, -1, n_dim)),
            names.LOG_DENSITY: (each, log_density.reshape(*shape, -1)),
            names.LABELS: (each, labels.reshape(*shape, -1)),
        },
        coords={dim: posterior[dim].variable for dim in (*each, names.FEATURE)},
    )


def _with_noise(draws: Mixtures, places: Array, log_density: Array) -> Array:
    """Return log densities of components at places (S, K, D) with that of noise, shape (S, K)."""
    if not len(draws.box):
        return log_density
    rows = places.reshape(-1, places.shape[2]).T
    outside = draws.outside(rows).reshape(log_density.shape)
    raised = np.logaddexp(log_density, draws.log_weights[:, -1:])
    return np.where(outside, log_density, raised)
