"""How many clusters there are: the components that hold a row."""

from typing import Any

import numpy as np
import xarray as xr

from bayesgmm import names
from bayesgmm.clustering.allocations import label_draws


def n_clusters(source: Any, *, random_seed: int | None = None) -> xr.Dataset:
    """Return the posterior of the number of clusters: of components that hold a row.

    A mixture of K components may describe fewer clusters, for a component may be empty. That is
    a statement about the rows that were seen; how many components the population has is another
    question, for `select`.

    Parameters
    ----------
    source : DataTree, DataArray, DataFrame or array of int
        A fit, or labels, draws by rows, of this or any other sampler.
    random_seed : int, optional
        Of the allocations of a fit.

    Returns
    -------
    Dataset
        ``probability`` (n_clusters,) of 1 to K clusters, for labels to the largest number in a
        draw, and ``occupied`` (draw,), the number in each draw, chains one after another.

    Raises
    ------
    TypeError, ValueError
        If `source` is neither a fit nor a matrix of integers.

    Notes
    -----
    Counted, not computed: the rows of a fit are allocated once for each draw of its parameters,
    as `sample_allocations` does, so the probabilities are shares of draws of the exact posterior.
    O(S N K D^2) operations for a fit with S draws, O(S N) for labels; memory O(S N).

    Examples
    --------
    >>> import bayesgmm as bg
    >>> bg.n_clusters([[0, 0, 1], [0, 0, 0], [0, 1, 1], [0, 1, 2]]).probability.values
    array([0.25, 0.5 , 0.25])
    """
    draws = label_draws(source, random_seed=random_seed, function="n_clusters")
    occupied = draws.values.max(axis=1).astype(np.int64) + 1
    most = int(occupied.max())
    if isinstance(source, xr.DataTree):
        most = source[names.POSTERIOR].sizes[names.COMPONENT]
    return xr.Dataset(
        {
            names.PROBABILITY: (
                names.N_CLUSTERS,
                np.bincount(occupied, minlength=most + 1)[1:] / len(occupied),
            ),
            names.OCCUPIED: (names.DRAW, occupied),
        },
        coords={names.N_CLUSTERS: np.arange(1, most + 1)},
    )
