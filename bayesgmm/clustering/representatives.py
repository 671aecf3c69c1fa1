"""A few partitions that stand for a posterior with several modes."""

import math
from typing import Any, Final, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.clustering import partitions
from bayesgmm.clustering.allocations import label_draws
from bayesgmm.clustering.credibility import matched
from bayesgmm.errors import check_choice, check_integer
from bayesgmm.kernels.partition_loss import LOSSES, distances

type Array = NDArray[np.float64]
type Labels = NDArray[np.int32]

CANDIDATES: Final = 1000
"""Draws that starts are sought among, at most: all distances between them are held."""
COMPARED: Final = 2 * 10**9
"""Labels that are read for these distances, about; of many rows fewer draws are candidates."""
STARTS: Final = 20
"""Starts for each number of partitions."""
ROUNDS: Final = 50
"""Alternations of regions and their centres, at most; a handful is usual."""
GAIN: Final = 1e-9
"""Smallest decrease of the distance that is one."""


def representative_partitions(
    source: Any, n_partitions: int, *, loss: str = "vi", random_seed: int | None = None
) -> xr.Dataset:
    """Return a few weighted partitions that approximate the posterior of the partition best.

    One point estimate between two modes describes neither. Here the draws are divided into
    regions around partitions that each are the point estimate of their region, so that the
    average distance of a draw from the nearest of them is as small as possible: the Wasserstein
    distance between the posterior and the weighted partitions.

    Parameters
    ----------
    source : DataTree, DataArray, DataFrame or array of int
        A fit, or labels, draws by rows, of this or any other sampler.
    n_partitions : int
        How many; all smaller numbers are tried as well.
    loss : str, default "vi"
        The distance, as in `partition`.
    random_seed : int, optional
        Of the allocations of a fit, and of the search.

    Returns
    -------
    Dataset
        ``labels`` (representative, obs): the partitions, the heaviest first; its clusters are
        numbered by size, those of the others as the ones of it that they overlap most with;
        noise is -1, as in `partition`.
        ``weights`` (representative,): share of the draws in the region of each.
        ``expected_loss`` (representative,): average distance of these draws. ``nearest``
        (draw,): the region of every draw. ``path`` (n_partitions,): the Wasserstein distance
        reached with 1 to `n_partitions` partitions, which never increases: take as many as it
        falls clearly with. The attribute ``wasserstein`` is its last value; ``loss`` says in
        which distance.

    Raises
    ------
    TypeError, ValueError
        If `source` is neither a fit nor a matrix of integers, `loss` is unknown, or there are
        not so many different draws.

    Notes
    -----
    WASABI (Balocchi & Wade 2025). For each number the starts are medoids among at most 1,000
    different draws, from 20 seedings in the manner of k-means++, and the result for one partition
    less with the draw added that helps most. From the best of them two steps alternate: every
    draw goes to its nearest partition, and each partition gives way to the one of least expected
    loss over its draws. It is a local optimum.

    A few searches of `partition` for each number, and O(C^2 N) operations and O(C^2) memory for
    C candidates.

    References
    ----------
    Balocchi & Wade (2025), Understanding uncertainty in Bayesian cluster analysis.
    arXiv:2506.16295

    Examples
    --------
    >>> import bayesgmm as bg
    >>> draws = [[0, 0, 1, 1, 1]] * 6 + [[0, 0, 0, 0, 1]] * 3 + [[0, 0, 0, 1, 1]]
    >>> two = bg.representative_partitions(draws, 2, random_seed=1)
    >>> two.weights.values, two.path.values.round(2)
    (array([0.6, 0.4]), array([0.52, 0.1 ]))
    """
    check_choice(loss, "loss", LOSSES)
    n_partitions = check_integer(n_partitions, "n_partitions", 1, "A handful is usual.")
    draws = label_draws(source, random_seed=random_seed, function="representative_partitions")
    rng = np.random.default_rng(random_seed)
    drawn = Drawn.of(draws, loss, n_partitions, rng)
    covers: list[Cover] = []
    for number in range(1, n_partitions + 1):
        starts = [_cover(drawn, _medoids(drawn, number, rng))]
        if covers:
            starts.append(_cover(drawn, _widened(drawn, covers[-1].centers)))
        start = min(starts, key=lambda cover: float(cover.distance.sum()))
        covers.append(_improved(drawn, start, rng))
    return _dataset(draws, covers, loss)


class Drawn(NamedTuple):
    """The draws, and those of them that starts are sought among.

    Parameters
    ----------
    draws : DataArray, dims (draw, obs)
    loss : str
    candidates : array of int32, shape (C, N)
        Different partitions, those drawn most often.
    weights : array, shape (C,)
        How often each was drawn.
    between : array, shape (C, C)
        Distances between them.
    """

    draws: xr.DataArray
    loss: str
    candidates: Labels
    weights: Array
    between: Array

    @classmethod
    def of(
        cls, draws: xr.DataArray, loss: str, n_partitions: int, rng: np.random.Generator
    ) -> "Drawn":
        """Choose the candidates; refuse fewer different draws than partitions are wanted."""
        different, counts = np.unique(draws.values, axis=0, return_counts=True)
        if n_partitions > min(len(different), CANDIDATES):
            raise ValueError(
                f"`n_partitions` must be at most {CANDIDATES}, and at most the number of different "
                f"partitions among the draws, {len(different)}; got {n_partitions}. Ask for fewer."
            )
        most = min(CANDIDATES, math.isqrt(COMPARED // draws.sizes[names.OBS]))
        order = np.lexsort((rng.random(len(counts)), -counts))[: max(most, n_partitions)]
        candidates = np.ascontiguousarray(different[order])
        between = distances(candidates, candidates, LOSSES[loss])
        return cls(draws, loss, candidates, counts[order].astype(float), between)


class Cover(NamedTuple):
    """Partitions, the nearest of them to every draw, and its distance."""

    centers: Labels
    nearest: NDArray[np.int64]
    distance: Array


def _cover(drawn: Drawn, centers: Labels) -> Cover:
    """Assign every draw to the nearest of some partitions."""
    every = distances(drawn.draws.values, centers, LOSSES[drawn.loss])
    nearest = every.argmin(axis=1)
    return Cover(centers, nearest, every[np.arange(len(every)), nearest])


def _medoids(drawn: Drawn, number: int, rng: np.random.Generator) -> Labels:
    """Return the candidates that are nearest to all, shape (number, N), the best of some tries."""
    between, weights = drawn.between, drawn.weights
    least, best = np.inf, np.arange(number)
    for _ in range(STARTS):
        chosen = np.array([rng.choice(len(weights), p=weights / weights.sum())])
        while len(chosen) < number:
            far = weights * between[:, chosen].min(axis=1)
            chosen = np.append(chosen, rng.choice(len(weights), p=far / far.sum()))
        total = np.inf
        while (weights @ between[:, chosen].min(axis=1)) < total - GAIN:
            total = float(weights @ between[:, chosen].min(axis=1))
            nearest = between[:, chosen].argmin(axis=1)
            for region in range(number):
                mine = np.flatnonzero(nearest == region)
                cost = weights[mine] @ between[np.ix_(mine, mine)]
                chosen[region] = mine[cost.argmin()]
        if total < least:
            least, best = total, chosen
    return drawn.candidates[best]


def _widened(drawn: Drawn, centers: Labels) -> Labels:
    """Return some partitions and the candidate that brings most of the draws nearer."""
    near = distances(drawn.candidates, centers, LOSSES[drawn.loss]).min(axis=1)
    total = drawn.weights @ np.minimum(near[:, None], drawn.between)
    return np.concatenate([centers, drawn.candidates[[total.argmin()]]])


def _improved(drawn: Drawn, cover: Cover, rng: np.random.Generator) -> Cover:
    """Alternate between the centres of regions and the regions of centres until nothing gains."""
    for _ in range(ROUNDS):
        centers = cover.centers.copy()
        for region in range(len(centers)):
            mine = cover.nearest == region
            if not mine.any():
                centers[region] = drawn.draws.values[cover.distance.argmax()]
                continue
            found = partitions.partition(
                drawn.draws[mine], loss=drawn.loss, random_seed=int(rng.integers(2**32))
            )
            if found.attrs[names.EXPECTED_LOSS] < cover.distance[mine].mean() - GAIN:
                centers[region] = partitions.numbered(found.values)
        better = _cover(drawn, centers)
        if better.distance.mean() > cover.distance.mean() - GAIN:
            break
        cover = better
    return cover


def _dataset(draws: xr.DataArray, covers: list[Cover], loss: str) -> xr.Dataset:
    """Return the last cover with labels, the heaviest partition first, and the way to it."""
    best = covers[-1]
    number = len(covers)
    order = np.argsort(-np.bincount(best.nearest, minlength=number), kind="stable")
    nearest = order.argsort()[best.nearest]
    counts = np.bincount(nearest, minlength=number)
    sums = np.bincount(nearest, weights=best.distance, minlength=number)
    shown = [
        partitions.named(center, draws[mine] if (mine := best.nearest == i).any() else draws)
        for i, center in enumerate(best.centers)
    ]
    first = shown[order[0]]
    path = [float(cover.distance.mean()) for cover in covers]
    of = names.REPRESENTATIVE
    return xr.Dataset(
        {
            names.LABELS: (
                (of, names.OBS), np.stack([matched(shown[i], first) for i in order])
            ),
            names.WEIGHTS: (of, counts / len(nearest)),
            names.EXPECTED_LOSS: (of, sums / np.maximum(counts, 1)),
            names.NEAREST: (names.DRAW, nearest),
            names.PATH: (names.N_PARTITIONS, path),
        },
        coords={
            **draws[names.OBS].coords,
            of: np.arange(number),
            names.N_PARTITIONS: np.arange(1, number + 1),
        },
        attrs={names.WASSERSTEIN: path[-1], names.LOSS: loss},
    )  # fmt: skip
