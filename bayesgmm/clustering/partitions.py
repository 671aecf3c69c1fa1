"""One partition for a whole posterior: the one that is wrong by least on average."""

from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.background import NOISE_LABEL
from bayesgmm.clustering.allocations import label_draws, noise_shares, tells_noise
from bayesgmm.errors import check_choice, check_integer
from bayesgmm.kernels.agreement import agreements
from bayesgmm.kernels.allocation_costs import BATCH, make_task
from bayesgmm.kernels.partition_loss import (
    BINDER,
    LOSSES,
    VI,
    Labels,
    all_partitions,
    compacted,
    expected_losses,
)
from bayesgmm.kernels.salso import search
from bayesgmm.kernels.threads import over_draws

type Array = NDArray[np.float64]

MOST_ENUMERATED: Final = 9
"""Rows of which all partitions are tried: there are 21,147 of nine."""
MOST_LINKED: Final = 5_000
"""Rows of which the similarity matrix is made for a start."""
FEWEST_CUTS: Final = 50
"""Of the trees that linkage gives, into 1, 2, ... clusters: as many as a draw has, or so many."""
COMPARED: Final = 3 * 10**7
"""Labels that are read to find the best of some starts."""
SHORTLIST: Final = 4
"""Starts that are compared by all draws where there are too many to do so with all."""
CELL_BYTES: Final = 12
LARGEST_TABLES: Final = 2**31
"""Bytes of the tables of one search, so many for each cell, beyond which it is refused."""
ALIKE: Final = 1e-9
"""Expected losses that differ by less are equal."""


def partition(
    source: Any,
    loss: str = "vi",
    *,
    a: float = 1.0,
    max_clusters: int | None = None,
    n_runs: int = 16,
    random_seed: int | None = None,
) -> xr.DataArray:
    """Return the partition of the rows with the least posterior expected loss.

    Parameters
    ----------
    source : DataTree, DataArray, DataFrame or array of int, shape (n_draws, n_obs)
        A fit, whose allocations are sampled (`sample_allocations`); or the labels that any other
        sampler gave. A DataArray has the dimensions ``draw``, ``obs`` and maybe ``chain``.
        Labels need no alignment: only who is with whom is looked at.
    loss : str, default "vi"
        What is lost by choosing a partition c where z is true, with entropies H in bits, mutual
        information I, and N rows:

        - ``"vi"``: variation of information, a H(c | z) + (2 - a) H(z | c).
        - ``"binder"``: ordered pairs of rows that c separates and z does not, times a, and those
          that z separates and c does not, times 2 - a, over N^2.
        - ``"omari"``: one minus the adjusted Rand index.
        - ``"nvi"``: VI with a = 1 over the joint entropy, 1 - I(c, z) / H(c, z).
        - ``"id"``: information distance, max(H(c), H(z)) - I(c, z).
        - ``"nid"``: that over its largest value, 1 - I(c, z) / max(H(c), H(z)).

        These are the definitions of R's salso.
    a : float, default 1.0
        In [0, 2]; of VI and Binder only. The larger, the dearer it is to separate rows that
        belong together, and the fewer are the clusters.
    max_clusters : int, optional
        Clusters that there may be, noise being one of them; by default as many as are best.
    n_runs : int, default 16
        Searches from random orders of the rows, beside those from good starts.
    random_seed : int, optional
        The same seed gives the same partition, however many cores there are.

    Returns
    -------
    DataArray of int, dims (obs,)
        Clusters 0, 1, ..., the largest first; of a fit with noise -1 where the rows of a group are
        noise with a probability of more than 1/2, on average. Its attributes: ``expected_loss``,
        ``loss``, ``a``, ``n_clusters``, noise not counted; ``enumerated``, 1 if all partitions were
        tried, so that none is better; ``n_runs`` and ``n_runs_at_best``, how many of them came to
        this loss. Few of many say that more might come to a lower one.

    Raises
    ------
    TypeError, ValueError
        If `source` holds no draws of labels, `loss` is unknown (the nearest is named), or `a`,
        `max_clusters` or `n_runs` is out of range.

    Notes
    -----
    Up to nine rows all partitions are tried. More are searched by SALSO, from random orders and
    from the best of: the sampled partitions, and the cuts of average and complete linkage of the
    similarity matrix, into up to 50 clusters, or as many as a draw has (without the latter beyond
    5,000 rows). Where these starts are too many to be compared by all draws, some draws choose
    four that are. The result is no worse than its starts. Losses are exact averages over the
    draws, never approximated from the similarity matrix.

    O(N S K) operations a sweep for S draws and K clusters, and tens of sweeps a run, in as many
    threads as there are cores; memory 8 N S bytes and 12 K bytes a thread for every cluster of
    every draw.

    References
    ----------
    Dahl, Johnson & Mueller (2022), Search algorithms and loss functions for Bayesian clustering,
    J. Computational and Graphical Statistics 31. doi:10.1080/10618600.2022.2069779
    Wade & Ghahramani (2018), Bayesian cluster analysis: point estimation and credible balls,
    Bayesian Analysis 13. doi:10.1214/17-BA1073
    Meila (2007), Comparing clusterings: an information based distance, J. Multivariate Analysis
    98. doi:10.1016/j.jmva.2006.11.013
    Vinh, Epps & Bailey (2010), Information theoretic measures for clusterings comparison, J.
    Machine Learning Research 11, 2837-2854.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> best = bg.partition([[0, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 1]])
    >>> best.values, round(best.attrs["expected_loss"], 2)
    (array([0, 0, 1, 1]), 0.4)
    """
    check_choice(loss, "loss", LOSSES)
    a = _check_a(a, loss)
    n_runs = check_integer(n_runs, "n_runs", 1, "16 are usual.")
    if max_clusters is not None:
        max_clusters = check_integer(max_clusters, "max_clusters", 1, "Leave it out for no bound.")
    draws = label_draws(source, random_seed=random_seed, function="partition")
    labels = draws.values
    n = labels.shape[1]
    most = min(n, max_clusters or n)
    attrs: dict[str, Any] = {names.LOSS: loss, "a": a}
    if n <= MOST_ENUMERATED:
        best, least = _enumerated(labels, LOSSES[loss], a, most)
        attrs |= {names.ENUMERATED: 1}
    else:
        rng = np.random.default_rng(random_seed)
        best, least, hits = _searched(labels, LOSSES[loss], a, most, n_runs, rng)
        attrs |= {names.ENUMERATED: 0, names.RUNS: n_runs, names.RUNS_AT_BEST: hits}
    found = named(best, draws)
    if (found < 0).any():  # several groups may be noise
        least = float(expected_losses(labels, numbered(found)[None], LOSSES[loss], a)[0])
    attrs |= {names.EXPECTED_LOSS: least, names.N_CLUSTERS: int(found.max()) + 1}
    coords = draws[names.OBS].coords
    return xr.DataArray(found, dims=names.OBS, coords=coords, attrs=attrs, name="partition")


def by_size(labels: Labels) -> NDArray[np.int64]:
    """Return a partition with its clusters numbered by their sizes, the largest first.

    Parameters
    ----------
    labels : array of int, shape (N,)
        In 0, 1, ... without gaps; of clusters of one size the lower comes first.
    """
    order = np.argsort(-np.bincount(labels), kind="stable")
    return np.asarray(np.argsort(order)[labels], dtype=np.int64)


def named(labels: Labels, draws: xr.DataArray) -> NDArray[np.int64]:
    """Return a partition with its clusters numbered by their sizes, and -1 of rows of noise.

    Parameters
    ----------
    labels : array of int, shape (N,)
        In 0, 1, ... without gaps.
    draws : DataArray of int, dims (draw, obs)
        As `label_draws` returns them: groups that in most of them are noise, on average, are noise.
    """
    noise = 2.0 * np.bincount(labels, noise_shares(draws)) > np.bincount(labels)
    found = np.full(labels.shape, NOISE_LABEL, dtype=np.int64)
    clusters = ~noise[labels]
    found[clusters] = by_size(numbered(labels[clusters]))
    return found


def numbered(labels: NDArray[Any]) -> Labels:
    """Return labels, whatever they are, as 0, 1, ... without gaps, as the kernels take them."""
    return np.unique(labels, return_inverse=True)[1].astype(np.int32)


def given_or_best(draws: xr.DataArray, given: Any, random_seed: int | None) -> NDArray[np.int64]:
    """Return a partition that a user gave for the rows of some draws, else the best one.

    Parameters
    ----------
    draws : DataArray of int, dims (draw, obs)
        As `label_draws` returns them.
    given : object
        None, or labels of all rows.
    random_seed : int, optional

    Returns
    -------
    array of int, shape (N,)
        Clusters 0, 1, ..., the largest first, and noise -1, if the draws have any.
    """
    if given is None:
        return np.asarray(partition(draws, random_seed=random_seed).values, dtype=np.int64)
    values, n = np.asarray(given), draws.sizes[names.OBS]
    if values.shape != (n,):
        raise ValueError(
            f"`partition` must hold one label for each of {n} rows; got shape {values.shape}. "
            f"Pass what bayesgmm.partition returned for these rows."
        )
    if values.dtype.kind not in "iu":
        raise TypeError(
            f"`partition` must hold integers; got {values.dtype} labels. Number the clusters."
        )
    found = values.astype(np.int64)
    clusters = (found != NOISE_LABEL) | (not tells_noise(draws))
    found[clusters] = by_size(numbered(found[clusters]))
    return found


def _check_a(a: Any, loss: str) -> float:
    """Return `a`, refusing what is out of range or means nothing to a loss."""
    if isinstance(a, bool) or not isinstance(a, int | float | np.number):
        raise TypeError(f"`a` must be a number; got {a!r} of type {type(a).__name__}. 1 is usual.")
    if not 0.0 <= a <= 2.0:
        raise ValueError(f"`a` must lie between 0 and 2; got {a}. 1 is usual.")
    if LOSSES[loss] not in (VI, BINDER) and a != 1.0:
        raise ValueError(
            f"`a` must be 1 for the loss {loss!r}, which weighs both mistakes alike; got {a}. "
            f"Leave it out, or take 'vi' or 'binder'."
        )
    return float(a)


def _enumerated(labels: Labels, loss: int, a: float, most: int) -> tuple[Labels, float]:
    """Return the best of all partitions, the first of equals, and its expected loss."""
    different, times = np.unique(labels, axis=0, return_counts=True)
    candidates = all_partitions(labels.shape[1], most)
    losses = expected_losses(different, candidates, loss, a, times.astype(np.float64))
    best = candidates[np.argmax(losses <= losses.min() + ALIKE)]
    return best, float(expected_losses(labels, best[None], loss, a)[0])


def _searched(
    labels: Labels, loss: int, a: float, most: int, n_runs: int, rng: np.random.Generator
) -> tuple[Labels, float, int]:
    """Return the best partition found, its expected loss, and how many runs came to it."""
    starts = _starts(labels, loss, a, most)
    task, n_lines = make_task(labels, loss, a, most)
    seeds = rng.integers(1, 2**63, size=(len(starts) + n_runs, 1), dtype=np.uint64)
    widest = max(int(labels.max()) + 1, *(int(start.max()) + 1 for start in starts))
    room = (min(widest, most) // BATCH + 1) * BATCH
    _refuse_wide(n_lines, room)
    found = np.empty((len(seeds), labels.shape[1]), dtype=np.int32)

    def run(part: slice) -> None:
        n_columns = room
        for r in range(part.start, part.stop):
            start = starts[r - n_runs] if r >= n_runs else np.empty(0, dtype=np.int32)
            while not search(task, n_lines, n_columns, start, seeds[r].copy(), found[r]):
                n_columns *= 2
                _refuse_wide(n_lines, n_columns)

    over_draws(run, len(found))
    found = compacted(found.astype(np.int64), int(found.max()) + 1)
    different, places = np.unique(
        np.concatenate([found, starts]), axis=0, return_inverse=True
    )  # fmt: skip
    losses = expected_losses(labels, different, loss, a)
    best = int(np.argmin(losses))
    hits = int((losses[places.ravel()[:n_runs]] <= losses[best] + ALIKE).sum())
    return different[best], float(losses[best]), hits


def _refuse_wide(n_lines: int, n_columns: int) -> None:
    """Refuse a search among so many clusters that its tables would not fit."""
    size = CELL_BYTES * n_lines * n_columns
    if size > LARGEST_TABLES:
        raise ValueError(
            f"`max_clusters` must leave the tables of a search under 2 GiB; got {n_columns} "
            f"clusters that might be wanted, with {n_lines} in all draws together, "
            f"{size / 2**30:.1f} GiB. Give fewer, e.g. 50, or thin the draws."
        )


def _starts(labels: Labels, loss: int, a: float, most: int) -> Labels:
    """Return the best sampled partition and the best cut of each linkage, shape (n_starts, N)."""
    few = labels[labels.max(axis=1) < most]
    starts = [_best(labels, few, loss, a)] if len(few) else []
    n_draws, n = labels.shape
    if n <= MOST_LINKED:
        counts = agreements(labels, np.arange(n))
        n_cuts = max(FEWEST_CUTS, int(labels.max()) + 1)
        apart = 1.0 - counts[np.triu_indices(n, 1)] / n_draws
        for method in ("average", "complete"):
            starts.append(_best(labels, _cuts(apart, method, min(most, n_cuts)), loss, a))
    return np.stack(starts or [np.zeros(n, dtype=np.int32)])


def _cuts(apart: Array, method: str, most: int) -> Labels:
    """Return the cuts of a linkage into 1, 2, ... clusters, shape (n_cuts, N).

    Parameters
    ----------
    apart : array, shape (N (N - 1) / 2,)
        Share of the draws in which two rows are not together.
    method : str
        Of SciPy's.
    most : int
        Clusters of the last cut.
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    tree = linkage(apart, method)
    cuts = np.stack([fcluster(tree, k, "maxclust") for k in range(1, most + 1)])
    return compacted(cuts.astype(np.int64), int(cuts.max()) + 1)


def _best(labels: Labels, candidates: Labels, loss: int, a: float) -> Labels:
    """Return the candidate with the least expected loss, by some draws first if they are many."""
    n_draws, n = labels.shape
    judges = max(1, COMPARED // (len(candidates) * n))
    if judges < n_draws:
        some = labels[np.linspace(0, n_draws - 1, judges).round().astype(np.int64)]
        order = np.argsort(expected_losses(some, candidates, loss, a), kind="stable")
        candidates = candidates[order[:SHORTLIST]]
    best: Labels = candidates[np.argmin(expected_losses(labels, candidates, loss, a))]
    return best
