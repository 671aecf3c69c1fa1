"""The partitions around a point estimate that hold most of the posterior."""

from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from bayesgmm import names
from bayesgmm.background import NOISE_LABEL
from bayesgmm.clustering import partitions
from bayesgmm.clustering.allocations import count_clusters, label_draws, without_noise
from bayesgmm.errors import check_choice, check_share
from bayesgmm.kernels.partition_loss import LOSSES, distances

type Array = NDArray[np.float64]
type Labels = NDArray[np.int32]
type Numbers = NDArray[np.int64]

BOUNDS: Final = ("horizontal", "upper", "lower")
"""Farthest of all; farthest of those with the fewest clusters; with the most."""
ROUNDING: Final = 1e-9
"""Distances that differ by less are equal."""


def credible_ball(
    source: Any,
    partition: Any = None,
    *,
    loss: str = "vi",
    level: float = 0.95,
    random_seed: int | None = None,
) -> xr.Dataset:
    """Return the ball around a partition that holds most of the posterior, and its extremes.

    Parameters
    ----------
    source : DataTree, DataArray, DataFrame or array of int
        A fit, or labels, draws by rows, of this or any other sampler.
    partition : DataArray or array of int, shape (n_obs,), optional
        The centre; by default what `partition` gives for the same draws and loss.
    loss : str, default "vi"
        The distance, as in `partition`: ``"vi"``, ``"binder"``, ``"omari"``, ``"nvi"``, ``"id"``
        or ``"nid"``.
    level : float, default 0.95
        Posterior probability of the ball, at least; in (0, 1).
    random_seed : int, optional
        Of the allocations of a fit, and of the search for the centre.

    Returns
    -------
    Dataset
        ``partition`` (obs,): the centre, the largest cluster first. ``labels`` (bound, obs): the
        extremes of the ball among the draws, their clusters numbered as those of the centre
        that they overlap most with; what has none gets a number of its own. They are
        ``"horizontal"``, the farthest from the centre; ``"upper"``, the farthest of those with
        the fewest clusters; ``"lower"``, the farthest of those with the most. ``distance`` and
        ``n_clusters`` (bound,) are theirs, and ``n_tied`` counts the different partitions that
        are as extreme: the one drawn most often stands for them. ``draw_distance`` (draw,) is
        that of every draw.

        Attributes: ``radius``, the largest distance in the ball; ``mass``, the share of the
        draws in it, at least `level`; ``level``; ``loss``; ``expected_loss`` of the centre. VI
        and ID are in bits, the others pure numbers.

    Raises
    ------
    TypeError, ValueError
        If `source` is neither a fit nor a matrix of integers, `partition` no partition of its
        rows, `level` no number between 0 and 1, or `loss` unknown.

    Notes
    -----
    The ball is ``{c : d(centre, c) <= radius}`` with the smallest radius for which it holds
    `level` of the draws (Wade & Ghahramani 2018). All draws at the radius are in it, so it can
    hold more. Rows of background noise are a group of any partition, labelled -1, and no cluster.
    Every distance is exact. All losses but ``"omari"`` are metrics.

    O(S N) operations and memory for S draws, beside the search for a centre.

    References
    ----------
    Wade & Ghahramani (2018), Bayesian cluster analysis: point estimation and credible balls,
    Bayesian Analysis 13. doi:10.1214/17-BA1073

    Examples
    --------
    >>> import bayesgmm as bg
    >>> draws = [[0, 0, 1, 1]] * 8 + [[0, 0, 0, 1], [0, 0, 1, 2]]
    >>> ball = bg.credible_ball(draws, [0, 0, 1, 1], level=0.9)
    >>> ball.labels.sel(bound="lower").values, ball.radius, ball.mass
    (array([0, 0, 1, 2]), 0.5, 0.9)
    """
    check_choice(loss, "loss", LOSSES)
    level = check_share(level, "level", "0.95 is usual.")
    draws = label_draws(source, random_seed=random_seed, function="credible_ball")
    if partition is None:
        partition = partitions.partition(draws, loss=loss, random_seed=random_seed)
    center = partitions.given_or_best(draws, partition, random_seed)
    groups = partitions.numbered(center)[None]
    distance = distances(draws.values, groups, LOSSES[loss])[:, 0]
    needed = int(np.ceil(level * len(distance) * (1.0 - 1e-12)))
    radius = float(np.partition(distance, needed - 1)[needed - 1])
    inside = np.flatnonzero(distance <= radius + ROUNDING)
    n_clusters = count_clusters(draws)
    few, many = n_clusters[inside].min(), n_clusters[inside].max()
    among = (inside, inside[n_clusters[inside] == few], inside[n_clusters[inside] == many])
    chosen, n_tied = zip(*(_farthest(draws.values, distance, some) for some in among), strict=True)
    labels = np.stack([matched(without_noise(draws, draw), center) for draw in chosen])
    at = list(chosen)
    return xr.Dataset(
        {
            names.PARTITION: (names.OBS, center),
            names.LABELS: ((names.BOUND, names.OBS), labels),
            names.DISTANCE: (names.BOUND, distance[at]),
            names.N_CLUSTERS: (names.BOUND, n_clusters[at]),
            names.N_TIED: (names.BOUND, list(n_tied)),
            names.DRAW_DISTANCE: (names.DRAW, distance),
        },
        coords={**draws[names.OBS].coords, names.BOUND: list(BOUNDS)},
        attrs={
            names.RADIUS: radius,
            names.MASS: len(inside) / len(distance),
            names.LEVEL: level,
            names.LOSS: loss,
            names.EXPECTED_LOSS: float(distance.mean()),
        },
    )


def matched(labels: NDArray[Any], center: NDArray[Any]) -> Numbers:
    """Return a partition with clusters numbered as those of another that they overlap most with.

    Parameters
    ----------
    labels, center : array of int, shape (N,)
        Clusters numbered 0, 1, ... without gaps, and noise -1, which keeps its name.

    Returns
    -------
    array of int, shape (N,)
        The rows that keep their number are as many as can be; clusters without a counterpart
        are numbered on from those of `center`.
    """
    n_clusters, n_others = int(labels.max()) + 1, int(center.max()) + 1
    shared = np.zeros((n_clusters, n_others), dtype=np.int64)
    both = (labels >= 0) & (center >= 0)
    np.add.at(shared, (labels[both], center[both]), 1)
    mine, theirs = linear_sum_assignment(shared, maximize=True)
    kept = shared[mine, theirs] > 0
    number = np.full(n_clusters, -1, dtype=np.int64)
    number[mine[kept]] = theirs[kept]
    new = number < 0
    number[new] = n_others + np.arange(new.sum())
    return np.asarray(np.append(number, NOISE_LABEL)[labels])


def _farthest(labels: Labels, distance: Array, some: Numbers) -> tuple[int, int]:
    """Return the farthest of some draws, and how many partitions are as far.

    Of those the one that was drawn most often, then first.
    """
    far = some[distance[some] >= distance[some].max() - ROUNDING]
    _, first, counts = np.unique(labels[far], axis=0, return_index=True, return_counts=True)
    often = first[counts == counts.max()]
    return int(far[often.min()]), len(first)
