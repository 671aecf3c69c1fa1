"""From frame to frame: EM under what is remembered, identities, births and deaths."""

import time
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.special import chdtri

from bayesgmm import names
from bayesgmm.data import prepare_new, refuse_missing
from bayesgmm.errors import FitError, check_positive
from bayesgmm.inference.carry import (
    carried,
    components_of,
    n_tracks_of,
    refuse_far,
    refuse_told,
    require_number,
)
from bayesgmm.inference.crew import helpers
from bayesgmm.inference.progress import Progress
from bayesgmm.inference.sufficient import (
    Ground,
    Mixture,
    Sufficient,
    expect,
    log_density,
    mixtures_of,
    statistics_of,
)
from bayesgmm.tree import features, parameters, with_covariances

type Array = NDArray[np.float64]

MAX_PASSES: Final = 1000
GAIN: Final = 1e-4
"""Change of the objective in one pass, in nats, under which EM stops."""
STRANGE: Final = 1e-3
"""Share of a component's own rows that lie as far from it as a row that it does not explain."""
MOST_STRANGERS: Final = 1000
"""Rows that no component explains, evenly spaced, among which a new one is looked for."""


@dataclass(frozen=True, eq=False)
class Reached:
    """Where EM has come on a frame.

    Parameters
    ----------
    ground : Ground
    past : Sufficient
        What was remembered.
    mixture : Mixture
    frame : Sufficient
        Of the rows of the frame alone.
    value : float
        Log-likelihood of the frame, and log density of what was remembered; in nats.
    converged : bool
    """

    ground: Ground
    past: Sufficient
    mixture: Mixture
    frame: Sufficient
    value: float
    converged: bool

    @property
    def total(self) -> Sufficient:
        """What was remembered and the frame, together."""
        return self.past.plus(self.frame)


def update(
    tree: xr.DataTree,
    X_new: Any,
    *,
    forgetting: float = 0.9,
    births: bool = True,
    min_rows: float | None = None,
    drift: bool = False,
    progressbar: bool = True,
) -> xr.DataTree:
    r"""Fit the next frame of data, with the last fit half forgotten as its prior.

    Components keep their labels from frame to frame. One that has lost its rows dies, one that
    new rows ask for is born under a label that none had before.

    Parameters
    ----------
    tree : DataTree
        A fit, of the first frame by any method, or what `update` or `fit_online` returned.
    X_new : array, DataFrame or DataArray, shape (n_new, n_features)
        The next frame: the fitted features, in the fitted order. One row is enough.
    forgetting : float, default 0.9
        What a row counts for a frame later, in (0, 1]. 1 forgets nothing; with less a steady
        stream is remembered as long as 1 / (1 - forgetting) frames.
    births : bool, default True
        Whether components may be born.
    min_rows : float, optional
        Rows, counted with forgetting, that a component needs, or it dies; in the frame, or it is
        not born. By default 2 (n_features + 1); 0 lets none die.
    drift : bool, default False
        Whether components move. Each then has a velocity, by which what is remembered of it moves
        ahead of every frame: means do not lag behind, and components that cross keep their labels.
    progressbar : bool, default True
        Say on standard error that kernels are compiled, if they have to be.

    Returns
    -------
    DataTree
        A point, of method ``"map"``, in the schema of every fit, with the frame as
        ``observed_data``. Labels along ``component`` are identities: integers, not always 0 to
        K - 1. Further groups: ``sufficient_statistics``, what is remembered from now on, and
        ``tracks``: ``status`` (track) is ``"kept"``, ``"born"`` or ``"died"``;
        ``expected_rows`` and ``velocities`` (per frame).

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit with a known number of components, `X_new` has other columns than
        it, or an argument is out of range.
    FitError
        If a component collapses; status ``"degenerate"``.

    Notes
    -----
    Rows with known components are summed up by their number, mean and covariance in each: the
    sufficient statistics T. Those of the past, times f (`forgetting`), are pseudo-observations, a
    conjugate prior that matches the moments of all rows before. EM climbs

    .. math:: \sum_i \log \sum_k w_k N(x_i; \mu_k, \Sigma_k)
              + \log p(f T \mid w, \mu, \Sigma),

    with the penalty of `fit` against collapse, and the statistics of the frame at the top are
    added to f T. Of a fit that carries none T is expected under the fit, and averaged over 100 of
    its draws. It counts allocations as known: where components overlap, the past is trusted
    more than it should be.

    Rows beyond the 0.999 quantile of the distance from every component are strangers. The
    tightest quarter of them starts a new component, which is born if it ends with `min_rows` rows
    of the frame and the objective rises by more than half the logarithm of the number of rows for
    each of its parameters (BIC). Then the next is looked for. A component of n rows that gets no
    more dies after log(n / min_rows) / log(1 / f) frames.

    The gain a of a mean is its share of new rows; a velocity gains a / (2 - a) times what the mean
    was off (Benedict & Bordner 1962). Two components that stay on top of one another for many
    frames are not told apart by it.

    O(N K D^2) operations a pass, some ten passes; a frame of some hundred rows takes milliseconds.

    References
    ----------
    Benedict & Bordner (1962), Synthesis of an optimal set of radar track-while-scan smoothing
    equations, IRE Transactions on Automatic Control 7. doi:10.1109/TAC.1962.1105477

    Neal & Hinton (1998), A view of the EM algorithm that justifies incremental, sparse, and other
    variants, in Learning in Graphical Models. doi:10.1007/978-94-011-5014-9_12

    Examples
    --------
    >>> import bayesgmm as bg
    >>> X = bg.datasets.load_faithful()
    >>> tree = bg.fit(X[:200], 2, method="map", random_seed=1)
    >>> later = bg.update(tree, X[200:])
    >>> later["tracks"]["status"].values
    array(['kept', 'kept'], dtype='<U4')
    """
    require_number(tree, "update", "tree")
    forgetting = check_positive(forgetting, "forgetting", "0.9 remembers ten frames.")
    if forgetting > 1.0:
        raise ValueError(f"`forgetting` must be at most 1; got {forgetting}. 1 forgets nothing.")
    ground = Ground.of_tree(tree)
    least = _least_rows(min_rows, ground.center.size)
    if not ground.specification.weights.exchangeable and (births or least > 0.0):
        raise ValueError(
            f"`tree` must have the same concentration for all components if these may be born or "
            f"die; got {ground.specification.weights}. Pass births=False and min_rows=0."
        )
    refuse_told(tree, "update", "tree")
    data = prepare_new(X_new, features(tree))
    refuse_missing(data, "X_new", "Drop those rows, or impute them first: bg.impute(tree, X_new).")
    rows = ground.rows(data.values)
    refuse_far(rows, data, "X_new")
    velocities = _velocities(tree) / ground.unit
    began = time.perf_counter()
    with Progress(progressbar), helpers(ground.layout, data.n_obs, 1):
        past = statistics_of(tree, ground).times(forgetting)
        if drift:
            past = past.shift(velocities)
        cholesky = mixtures_of(with_covariances(parameters(tree)), ground)[0].cholesky
        reached = _climbed(ground, past, rows, past, cholesky)
        if births:
            reached = _with_born(reached, rows, max(least, rows.shape[0] + 1.0))
        reached, kept = _without_dead(reached, rows, least)
    n_tracks, before = n_tracks_of(tree), components_of(tree)
    born = np.arange(n_tracks, n_tracks + len(kept) - len(before))
    labels = np.concatenate((before, born))
    new = labels >= n_tracks
    moving = np.zeros((len(kept), rows.shape[0]))
    moving[: len(velocities)] = velocities
    moving = moving[kept] + (_acceleration(reached) if drift else 0.0)
    tracks = {
        names.TRACK: xr.Variable(names.TRACK, labels),
        names.STATUS: np.where(kept, np.where(new, "born", "kept"), "died"),
        names.EXPECTED_ROWS: reached.frame.counts,
        names.VELOCITIES: moving * ground.unit,
    }
    attrs: dict[str, str | int | float] = {
        "forgetting": forgetting,
        "min_rows": least,
        "drift": int(drift),
        names.CONVERGED: int(reached.converged),
        "fit_time": time.perf_counter() - began,
    }
    return carried(
        reached.ground,
        reached.mixture,
        reached.total,
        data,
        components=labels[kept],
        n_tracks=n_tracks + len(born),
        value=reached.value,
        further={names.TRACKS: tracks},
        attrs=attrs,
    )


def _least_rows(min_rows: float | None, n_features: int) -> float:
    """Return how many rows a component needs."""
    if min_rows is None:
        return 2.0 * (n_features + 1)
    if min_rows == 0 and not isinstance(min_rows, bool):
        return 0.0
    return check_positive(min_rows, "min_rows", "0 lets no component die.")


def _climbed(
    ground: Ground, past: Sufficient, rows: Array, start: Sufficient, cholesky: Array
) -> Reached:
    """Return where EM leads from some statistics, refused if a component collapses."""
    reached = _climb(ground, past, rows, start, cholesky)
    if reached is None:
        raise FitError(
            f"A component collapsed: of {len(past.counts)} components one has no rows, or a "
            f"singular covariance, in a frame of {rows.shape[1]} rows. Let components die "
            f"(`min_rows`), or forget less.",
            status="degenerate",
        )
    return reached


def _climb(
    ground: Ground, past: Sufficient, rows: Array, start: Sufficient, cholesky: Array
) -> Reached | None:
    """Return where EM leads from some statistics, or None if a component collapses."""
    mixture = ground.maximise(start, cholesky)
    before = -np.inf
    for _ in range(MAX_PASSES):
        if mixture is None:
            return None
        value, frame = expect(rows, mixture)
        value += log_density(past, mixture)
        mixture = ground.maximise(past.plus(frame), mixture.cholesky)
        if mixture is not None and abs(value - before) < GAIN:
            return Reached(ground, past, mixture, frame, value, True)
        before = value
    return None if mixture is None else Reached(ground, past, mixture, frame, value, False)


def _with_born(reached: Reached, rows: Array, needed: float) -> Reached:
    """Return where EM leads with as many components more as pay.

    Strangers are looked for under what was remembered: EM may have stretched a component over
    them.
    """
    known = reached.ground.maximise(reached.past, reached.mixture.cholesky)
    start = reached.past
    while known is not None:
        clump = _clump(rows[:, _strangers(rows, known)], int(np.ceil(needed)))
        if clump is None:
            break
        mean, covariance = clump.mean(axis=1), np.atleast_2d(np.cov(clump, bias=True))
        start = start.and_another(clump.shape[1], mean, covariance)
        factors = reached.mixture.cholesky
        grown = _climb(
            reached.ground.resized(len(factors) + 1),
            reached.past.and_another(0.0, mean, covariance),
            rows,
            start,
            np.concatenate((factors, factors[:1])),
        )
        if grown is None or grown.frame.counts[-1] < needed or not _pays(grown, reached):
            break
        reached = grown
        newborn = (part[-1:] for part in grown.mixture)
        known = Mixture(*map(np.concatenate, zip(known, newborn, strict=True)))
    return reached


def _pays(grown: Reached, reached: Reached) -> bool:
    """Tell whether one component more is worth its parameters (BIC)."""
    added = grown.ground.n_parameters - reached.ground.n_parameters
    price = 0.5 * added * np.log(reached.frame.counts.sum())
    return bool(grown.value - reached.value > price)


def _without_dead(reached: Reached, rows: Array, least: float) -> tuple[Reached, NDArray[np.bool_]]:
    """Return where EM leads without the components that lack rows, and which are left."""
    kept = np.ones(len(reached.past.counts), dtype=bool)
    while True:
        counts = reached.total.counts
        alive = counts >= least
        alive[counts.argmax()] = True
        if alive.all():
            return reached, kept
        kept[kept] = alive
        reached = _climbed(
            reached.ground.resized(int(alive.sum())),
            reached.past.of(alive),
            rows,
            reached.total.of(alive),
            reached.mixture.cholesky[alive],
        )


def _strangers(rows: Array, mixture: Mixture) -> NDArray[np.bool_]:
    """Return which rows are farther from every component than its own rows ever are."""
    strange = np.ones(rows.shape[1], dtype=bool)
    farthest = chdtri(rows.shape[0], STRANGE)
    for mean, cholesky in zip(mixture.means, mixture.cholesky, strict=True):
        whitened = np.linalg.solve(cholesky, rows[:, strange] - mean[:, None])
        strange[strange] = (whitened * whitened).sum(axis=0) > farthest
    return strange


def _clump(strangers: Array, needed: int) -> Array | None:
    """Return the quarter of some rows, shape (D, n), that lie closest together; None if too few."""
    if strangers.shape[1] < needed:
        return None
    some = strangers[:, :: -(-strangers.shape[1] // MOST_STRANGERS)]
    n = some.shape[1]
    size = min(n, max(needed, -(-n // 4)))
    distances = cdist(some.T, some.T)
    reach = np.partition(distances, size - 1, axis=1)[:, size - 1]
    return np.asarray(some[:, distances[reach.argmin()].argsort()[:size]])


def _acceleration(reached: Reached) -> Array:
    """Return what is added to the velocities: of newborn components nothing."""
    past, total = reached.past, reached.total
    gain = (reached.frame.counts / total.counts)[:, None]
    off = np.where(past.counts[:, None] > 0.0, total.means - past.means, 0.0)
    return np.asarray(gain / (2.0 - gain) * off)


def _velocities(tree: xr.DataTree) -> Array:
    """Return the velocities that a fit carries, else none, in the data's units."""
    if names.TRACKS in tree.children:
        return np.asarray(tree[names.TRACKS].dataset[names.VELOCITIES].values)
    posterior = tree[names.POSTERIOR]
    return np.zeros((posterior.sizes[names.COMPONENT], posterior.sizes[names.FEATURE]))
