"""The rows whose partition is nearly certain."""

from typing import Any, Final

import numpy as np
import xarray as xr

from bayesgmm import names
from bayesgmm.clustering.allocations import label_draws
from bayesgmm.clustering.partitions import named
from bayesgmm.errors import check_share
from bayesgmm.kernels.subpartition import grow_subset
from bayesgmm.kernels.threads import over_draws

RUNS: Final = 64
"""Searches, each from another row and with ties broken in another order."""
LEFT_OUT: Final = -1
"""Label of a row that is not in the subset."""


def confident_subset(
    source: Any, probability: float = 0.95, *, random_seed: int | None = None
) -> xr.Dataset:
    """Return a large subset of the rows whose joint partition has at least some probability.

    The probability that all rows are partitioned just as a point estimate has them is tiny, even
    where clusters are plain. Leave out the rows in doubt, and of the rest the whole partition is
    known with a probability worth stating.

    Parameters
    ----------
    source : DataTree, DataArray, DataFrame or array of int
        A fit, or labels, draws by rows, of this or any other sampler.
    probability : float, default 0.95
        Of the joint partition of the subset, at least; in (0, 1).
    random_seed : int, optional
        Of the allocations of a fit, and of the order in which searches look at the rows.

    Returns
    -------
    Dataset
        ``labels`` (obs,): clusters of the rows in the subset, the largest first, -1 for the others.
        ``confident`` (obs,): which rows are in it: of a fit with noise -1 may be one of them too,
        that is surely noise.
        ``joint_probability`` (obs,): the posterior probability of the partition of the row and
        all that were added before it, so that those with at least `p` are the subset that the
        same search has for `p`. ``path`` (n_rows,): that probability by the number of rows.
        Attributes ``probability``, achieved, and ``n_confident``, how many rows the subset has.

    Raises
    ------
    TypeError, ValueError
        If `source` is neither a fit nor a matrix of integers, or `probability` no number between
        0 and 1.

    Notes
    -----
    CHiPS (Barrientos, Page, Dahl & Dunson 2024): from one row on, the row and label are added
    with which most of the draws agree that agree so far. Of 64 such searches the result is that
    of most rows, then of the highest probability. Larger subsets may exist; and a probability
    that was maximised over the draws is a little too high, by less the more draws there are.

    O((S + N) N K) operations for each search over S draws, in as many threads as there are cores;
    memory O(S N).

    References
    ----------
    Barrientos, Page, Dahl & Dunson (2024), as implemented in Dahl's R package salso, `chips`.
    https://CRAN.R-project.org/package=salso

    Examples
    --------
    >>> import bayesgmm as bg
    >>> draws = [[0, 0, 1, 1]] * 5 + [[0, 0, 0, 1]] * 5
    >>> sure = bg.confident_subset(draws, 0.9, random_seed=1)
    >>> sure.labels.values, sure.probability
    (array([ 0,  0, -1,  1]), 1.0)
    """
    least = check_share(probability, "probability", "0.95 is usual.")
    draws = label_draws(source, random_seed=random_seed, function="confident_subset")
    n_draws, n_obs = draws.shape
    rng = np.random.default_rng(random_seed)
    orders = [rng.permutation(n_obs) for _ in range(RUNS)]
    found: dict[int, Any] = {}

    def search(part: slice) -> None:
        for run in range(part.start, part.stop):
            found[run] = grow_subset(draws.values, orders[run])

    over_draws(search, RUNS)
    needed = least * n_draws * (1.0 - 1e-12)
    sizes = [int((found[run][2] >= needed).sum()) for run in range(RUNS)]
    best = max(range(RUNS), key=lambda run: (sizes[run], found[run][2][sizes[run] - 1]))
    (rows, clusters, agreeing), size = found[best], sizes[best]
    labels, joint = np.full(n_obs, LEFT_OUT), np.empty(n_obs)
    confident = np.isin(np.arange(n_obs), rows[:size])
    labels[rows[:size]] = named(clusters[:size], draws[:, rows[:size]])
    joint[rows] = agreeing / n_draws
    return xr.Dataset(
        {
            names.LABELS: (names.OBS, labels),
            names.CONFIDENT: (names.OBS, confident),
            names.JOINT_PROBABILITY: (names.OBS, joint),
            names.PATH: (names.N_ROWS, agreeing / n_draws),
        },
        coords={**draws[names.OBS].coords, names.N_ROWS: np.arange(1, n_obs + 1)},
        attrs={
            names.PROBABILITY: float(agreeing[size - 1] / n_draws),
            names.N_CONFIDENT: size,
        },
    )
