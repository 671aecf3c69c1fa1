"""How many clusters there are: the components that hold a row."""

from typing import Any

import numpy as np
import xarray as xr

from bayesgmm import names
from bayesgmm.clustering.allocations import count_clusters, label_draws
from bayesgmm.partition_prior import MOST_STATES, n_states, prior_clusters
from bayesgmm.tree import specification
from bayesgmm.tree.rows import observed


def n_clusters(source: Any, *, random_seed: int | None = None) -> xr.Dataset:
    """Return the posterior of the number of clusters, components that hold a row, and its prior.

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
        draw, and ``occupied`` (draw,), the number in each draw, chains one after another. Of a fit
        also ``prior_probability`` (n_clusters,): what the prior of the weights alone says of as
        many rows, by `prior_clusters`, if it does not refuse the prior, as that with noise. Noise
        is no cluster; where all rows are noise in a draw there are 0.

    Raises
    ------
    TypeError, ValueError
        If `source` is neither a fit nor a matrix of integers.

    Notes
    -----
    Counted, not computed: the rows of a fit are allocated once for each draw of its parameters,
    as `sample_allocations` does, so the probabilities are shares of draws of the exact posterior.
    O(S N K D^2) operations for a fit with S draws, O(S N) for labels; memory O(S N). The prior
    besides takes what `prior_clusters` takes.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> bg.n_clusters([[0, 0, 1], [0, 0, 0], [0, 1, 1], [0, 1, 2]]).probability.values
    array([0.25, 0.5 , 0.25])
    """
    draws = label_draws(source, random_seed=random_seed, function="n_clusters")
    weights = observed(source).weights if isinstance(source, xr.DataTree) else None
    if weights is not None:  # rows of weight 0 are only predicted
        draws = label_draws(draws[:, weights > 0.0], function="n_clusters")
    occupied = count_clusters(draws)
    least, most = min(1, int(occupied.min())), int(occupied.max())
    prior = {}
    if isinstance(source, xr.DataTree):
        most = source[names.POSTERIOR].sizes[names.COMPONENT]
    if isinstance(source, xr.DataTree) and _has_prior(source):
        expected = prior_clusters(specification(source), draws.sizes[names.OBS])
        known = expected.values[:most]
        prior[names.PRIOR_PROBABILITY] = names.N_CLUSTERS, np.pad(known, (0, most - known.size))
    return xr.Dataset(
        {
            names.PROBABILITY: (
                names.N_CLUSTERS,
                np.bincount(occupied, minlength=most + 1)[least:] / len(occupied),
            ),
            **prior,
            names.OCCUPIED: (names.DRAW, occupied),
        },
        coords={names.N_CLUSTERS: np.arange(least, most + 1)},
    )


def _has_prior(tree: xr.DataTree) -> bool:
    """Tell whether `prior_clusters` knows the prior of a fit."""
    spec = specification(tree)
    return spec.noise is None and n_states(spec) <= MOST_STATES
