"""Online EM: fits of data that come in batches, and are not kept."""

import os
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from bayesgmm import names
from bayesgmm.component_prior import PriorOnComponents
from bayesgmm.data import Data, check_enough_rows, prepare, prepare_new, refuse_missing
from bayesgmm.errors import ConvergenceWarning, FitError, check_integer, check_positive
from bayesgmm.inference.carry import (
    carried,
    components_of,
    n_tracks_of,
    refuse_far,
    refuse_told,
    require_number,
    variables_of,
)
from bayesgmm.inference.crew import crew, helpers
from bayesgmm.inference.em import find_modes
from bayesgmm.inference.fit import at_work
from bayesgmm.inference.methods import N_STARTS
from bayesgmm.inference.mode import Target
from bayesgmm.inference.progress import Progress
from bayesgmm.inference.sufficient import (
    Ground,
    Mixture,
    Sufficient,
    expect,
    held_in,
    mixtures_of,
    statistics_of,
)
from bayesgmm.inference.suited import plain
from bayesgmm.kernels.cholesky import offsets
from bayesgmm.kernels.relabel import order_of
from bayesgmm.mixture import GaussianMixture
from bayesgmm.packing import layout_of
from bayesgmm.problem import Problem
from bayesgmm.tables import opened, read
from bayesgmm.tree import Parameters, parameters, with_covariances

type Array = NDArray[np.float64]

FIRST_ROWS: Final = 10_000
"""Rows, at the least, to which the start is fitted; and ten for every parameter."""
READ_ROWS: Final = 65_536
"""Rows of an array that are read at a time."""
STEP_ROWS: Final = 1024
"""Rows of a batch, at most, from which one step is made."""


@dataclass(frozen=True, eq=False)
class Stream:
    """How far online EM has come.

    Parameters
    ----------
    ground : Ground
    components : array of int, shape (K,)
        Labels of the components.
    n_tracks : int
        How many labels were ever given.
    decay : float
    n_rows : float
        Seen so far.
    last : Sufficient
        Per row: the counts are shares.
    average : Sufficient
        Of the last at every step, weighted by the rows seen by then.
    mixture : Mixture
        That of the last: where the next E-step is made.
    """

    ground: Ground
    components: NDArray[np.int64]
    n_tracks: int
    decay: float
    n_rows: float
    last: Sufficient
    average: Sufficient
    mixture: Mixture

    def after(self, rows: Array) -> tuple[Self, float]:
        """Return where a batch leads, and its mean log density on the way.

        Parameters
        ----------
        rows : array, shape (D, n)
            Standardised.
        """
        stream, total, n_rows = self, 0.0, rows.shape[1]
        for block in np.array_split(rows, -(-n_rows // STEP_ROWS), axis=1):
            value, found = expect(np.ascontiguousarray(block), stream.mixture)
            total += value
            stream = stream._step(found, block.shape[1])
        return stream, total / n_rows - float(np.log(self.ground.unit).sum())

    def _step(self, found: Sufficient, n: int) -> Self:
        """Return where the statistics of n rows lead."""
        n_rows = self.n_rows + n
        gain = (n / n_rows) ** self.decay
        last = self.last.times(1.0 - gain).plus(found.times(gain / n))
        share = 2.0 * n / (n_rows + n)
        average = self.average.times(1.0 - share).plus(last.times(share))
        stream = replace(self, n_rows=n_rows, last=last, average=average)
        return replace(stream, mixture=stream.maximised(last))

    def maximised(self, shares: Sufficient) -> Mixture:
        """Return the mixture of statistics per row."""
        mixture = self.ground.maximise(shares.times(self.n_rows), self.mixture.cholesky)
        if mixture is None:
            raise FitError(
                f"A component collapsed after {self.n_rows:.0f} rows: it has no rows, or a "
                f"singular covariance. Use fewer components, or shuffle the rows.",
                status="degenerate",
            )
        return mixture


def fit_online(
    batches: Any,
    spec: "GaussianMixture | int | xr.DataTree",
    *,
    decay: float = 0.6,
    random_seed: int | None = None,
    progressbar: bool = True,
) -> xr.DataTree:
    r"""Fit a Gaussian mixture to data that come in batches, or do not fit in memory.

    Every batch is looked at once and forgotten (online EM; Cappe & Moulines 2009).

    Parameters
    ----------
    batches : iterable of tables, or one table, shape (n_obs, n_features)
        Tables or paths as `fit` takes them, with the same columns in the same order: a list, or a
        generator. A single one that gives rows by slices, a memory-mapped array, say, is read
        65,536 rows at a time. Rows must come in no order, as if shuffled.
    spec : GaussianMixture, int or DataTree
        The model, or a number of components with default priors. Or a fit to go on from: what
        this function returned, before more batches came, or any other of complete rows without
        errors, weights and labels.
    decay : float, default 0.6
        Steps shrink as the number of rows to this power, in (0.5, 1].
    random_seed : int, optional
        Of the search for a start.
    progressbar : bool, default True
        Report on standard error, for work that takes longer than half a second.

    Returns
    -------
    DataTree
        A point, of method ``"map"``, in the schema of every fit but without ``observed_data``:
        prediction takes ``X_new``, and what needs the fitted rows says so. Further groups:
        ``sufficient_statistics``, with which `update` goes on, and ``online``: ``log_score`` and
        ``n_rows`` of every batch. A log score is the mean log density of a batch before anything
        was learnt from it, in nats a row: what the fit is worth, and where it drops, the rows
        have changed. ``lp`` is not known, and NaN.

    Raises
    ------
    TypeError, ValueError
        If an argument is refused, or one of the first batches.
    FitError
        If reading a later batch fails, or it is refused; status ``"interrupted"``, the fit of all
        before it in ``result``. If a component collapses; status ``"degenerate"``.

    Warns
    -----
    ConvergenceWarning
        If it was interrupted: the fit so far is returned.

    Notes
    -----
    The start is the posterior mode of the first 10,000 rows, or ten for every parameter if that is
    more; priors, origin and units are resolved from these. Then, from every 1,024 rows or so, n of
    N so far, sufficient statistics per row T and mixtures theta follow

    .. math:: T \leftarrow (1 - \gamma) T + \gamma \, E[T \mid x, \theta] / n, \quad
              \gamma = (n / N)^{\text{decay}}, \qquad \theta \leftarrow \text{M-step}(N T),

    and the result is the M-step of the average of all T, each weighted by the N it came at (Polyak
    & Ruppert; of statistics rather than parameters, which is the same to first order, and the
    average of covariances is one). It comes as near to the maximum for all rows as their own
    sampling error, for any decay, where components are apart. Where they overlap EM is slow, and a
    row may have to be seen more than once: pass more batches, or the same again.

    O(N K D^2) operations, one pass; memory for the first rows and one batch.

    References
    ----------
    Cappe & Moulines (2009), Online expectation-maximization algorithm for latent data models,
    J. Royal Statistical Society B 71. doi:10.1111/j.1467-9868.2009.00698.x

    Polyak & Juditsky (1992), Acceleration of stochastic approximation by averaging, SIAM J.
    Control and Optimization 30. doi:10.1137/0330046

    Examples
    --------
    >>> import numpy as np
    >>> import bayesgmm as bg
    >>> rng = np.random.default_rng(1)
    >>> days = (rng.normal([[0.0], [5.0]], 1.0, size=(2, 500)).reshape(-1, 1) for _ in range(20))
    >>> tree = bg.fit_online(days, 2, random_seed=1)
    >>> tree.posterior["weights"].values.round(2)
    array([[[0.5, 0.5]]])
    """
    decay = check_positive(decay, "decay", "0.6 suits.")
    if not 0.5 < decay <= 1.0:
        raise ValueError(f"`decay` must lie in (0.5, 1]; got {decay}. 0.6 suits.")
    if random_seed is None:
        random_seed = int(np.random.SeedSequence().generate_state(1)[0])
    remedy = "Give an integer such as 1, or None."
    random_seed = check_integer(random_seed, "random_seed", 0, remedy)
    source = enumerate(_tables(batches))
    began = time.perf_counter()
    attrs: dict[str, str | int | float] = {names.RANDOM_SEED: random_seed, "decay": decay}
    history: list[tuple[float, int]] = []
    with at_work(progressbar) as progress:
        if isinstance(spec, xr.DataTree):
            stream = _resumed(spec, decay, history)
        else:
            rng = np.random.default_rng(random_seed)
            stream = _started(source, _specified(spec), decay, rng, progress)
        try:
            with helpers(stream.ground.layout, STEP_ROWS, 1):
                for number, batch in source:
                    rows = _rows(number, batch, stream.ground)
                    stream, score = stream.after(rows)
                    history.append((score, rows.shape[1]))
                    progress.update(f"{stream.n_rows:,.0f} rows in {len(history)} batches")
        except KeyboardInterrupt:
            attrs[names.INTERRUPTED] = 1
            warnings.warn(
                f"Interrupted: the fit of {stream.n_rows:.0f} rows so far is returned.",
                ConvergenceWarning,
                stacklevel=2,
            )
        except Exception as error:  # whatever a generator may raise: what was learnt is kept
            raise FitError(
                f"After {len(history)} batches one could not be learnt from: {error} The fit of "
                f"{stream.n_rows:.0f} rows so far is the `result` of this error; pass it as `spec` "
                f"to go on.",
                status=getattr(error, "status", "interrupted"),
                result=_tree(stream, history, attrs),
            ) from error
    attrs["fit_time"] = time.perf_counter() - began
    return _tree(stream, history, attrs)


def _tables(batches: Any) -> Iterator[Any]:
    """Return the batches one by one, those of a single table as slices of it."""
    batches = opened(batches, "batches") if isinstance(batches, str | os.PathLike) else batches
    shape = getattr(batches, "shape", None)
    if isinstance(batches, Mapping) or (shape is None and not isinstance(batches, Iterable)):
        raise TypeError(
            f"`batches` must be an iterable of tables, or a table that gives rows by slices; got "
            f"type {type(batches).__name__}. Pass a list, or a generator that reads files."
        )
    if shape is None:
        return (opened(batch, f"batches[{number}]") for number, batch in enumerate(batches))
    if len(shape) != 2 or 0 in shape:
        raise ValueError(
            f"`batches` must have rows and columns if it is one table; got shape {tuple(shape)}. "
            f"Pass a list of tables, or one."
        )
    return (batches[start : start + READ_ROWS] for start in range(0, shape[0], READ_ROWS))


def _specified(spec: Any) -> GaussianMixture:
    """Return the specification, its number of components known."""
    if isinstance(spec, int | np.integer) and not isinstance(spec, bool):
        spec = GaussianMixture(int(spec))
    if not isinstance(spec, GaussianMixture):
        raise TypeError(
            f"`spec` must be a GaussianMixture, a number of components or a fit; got {spec!r} of "
            f"type {type(spec).__name__}. Write bg.fit_online(batches, 3)."
        )
    if isinstance(spec.n_components, PriorOnComponents):
        raise ValueError(
            f"`spec` must have a number of components; got {spec.n_components!r}. Learn it from "
            f"some of the rows: bg.fit(X, spec)."
        )
    return plain(spec, "where rows come in batches or frames")


def _rows(number: int, batch: Any, ground: Ground) -> Array:
    """Return a batch standardised, refused if it is no table with the columns of those before."""
    data = _table(number, batch, ground.features[names.FEATURE].values)
    rows = ground.rows(data.values)
    refuse_far(rows, data, f"batches[{number}]")
    return rows


def _table(number: int, batch: Any, labels: ArrayLike) -> Data:
    """Return a batch, refused if it is no table with columns of these labels."""
    argument = f"batches[{number}]"
    if getattr(batch, "ndim", 2) != 2:
        raise ValueError(
            f"`{argument}` must be 2-D, rows by features; got shape {batch.shape}. Pass a single "
            f"table as `numpy.asarray(batches)`."
        )
    data = prepare_new(batch, labels, argument)
    refuse_missing(data, argument, "Drop those rows.")
    return data


def _started(
    source: Iterator[tuple[int, Any]],
    spec: GaussianMixture,
    decay: float,
    rng: np.random.Generator,
    progress: Progress,
) -> Stream:
    """Fit the first batches, and return where online EM sets out."""
    parts: list[Data] = []
    needed = 1
    while sum(part.n_obs for part in parts) < needed:
        number, batch = next(source, (len(parts), None))
        if batch is None:
            break
        labels = parts[0].features if parts else read(batch, "batches[0]").features
        parts.append(_table(number, batch, labels))
        n_parameters = offsets(layout_of(spec, parts[0].n_features))[3]
        needed = max(FIRST_ROWS, 10 * n_parameters)
        progress.update("Reading the first batches")
    if not parts:
        raise ValueError("`batches` must hold a batch at least; got none. Is it used up?")
    values = np.concatenate([part.values for part in parts])
    obs = xr.Variable(names.OBS, np.arange(len(values)))
    first = Data(values, {names.OBS: obs, **parts[0].feature_coords}, parts[0].attrs)
    data = prepare(first.labelled(values))
    check_enough_rows(data, spec.known_number)
    problem = Problem.make(spec, data)
    progress.update("Climbing from many starts")
    with crew(problem, 1):
        best = find_modes(problem, Target.MAP, rng, n_starts=N_STARTS, hierarchical=True).best
    ground = Ground(problem.specification, problem.center, problem.unit, data.feature_coords)
    components = order = np.arange(spec.known_number)
    if spec.weights.exchangeable:
        order = order_of(best.parameters.means[0])
    mixture = mixtures_of(Parameters(*(part[:, order] for part in best.parameters)), ground)[0]
    shares = expect(problem.rows, mixture)[1].times(1.0 / data.n_obs)
    n_rows = float(data.n_obs)
    return Stream(ground, components, len(components), decay, n_rows, shares, shares, mixture)


def _resumed(tree: xr.DataTree, decay: float, history: list[tuple[float, int]]) -> Stream:
    """Return where online EM goes on from a fit; its batches are added to the history."""
    require_number(tree, "fit_online", "spec")
    refuse_told(tree, "fit_online", "spec")
    ground = Ground.of_tree(tree)
    average = statistics_of(tree, ground)
    n_rows = float(average.counts.sum())
    last = average
    if names.ONLINE in tree.children:
        online = tree[names.ONLINE].dataset
        last = held_in(tree, names.ONLINE, ground)
        scores, sizes = (online[name].values.tolist() for name in (names.LOG_SCORE, names.N_ROWS))
        history.extend(zip(scores, sizes, strict=True))
    average, last = (statistics.times(1.0 / n_rows) for statistics in (average, last))
    mixture = mixtures_of(with_covariances(parameters(tree)), ground)[0]
    stream = Stream(
        ground, components_of(tree), n_tracks_of(tree), decay, n_rows, last, average, mixture
    )
    return replace(stream, mixture=stream.maximised(last))


def _tree(
    stream: Stream, history: Sequence[tuple[float, int]], attrs: Mapping[str, str | int | float]
) -> xr.DataTree:
    """Return the tree of the average."""
    ground, obs = stream.ground, xr.Variable(names.OBS, np.arange(0))
    average, last = (part.times(stream.n_rows) for part in (stream.average, stream.last))
    return carried(
        ground,
        stream.maximised(stream.average),
        average,
        Data(np.empty((0, ground.center.size)), {names.OBS: obs, **ground.features}, {}),
        components=stream.components,
        n_tracks=stream.n_tracks,
        value=np.nan,
        further={
            names.ONLINE: {
                names.BATCH: xr.Variable(names.BATCH, np.arange(len(history))),
                names.LOG_SCORE: np.array([score for score, _ in history], dtype=np.float64),
                names.N_ROWS: np.array([size for _, size in history], dtype=np.int64),
                **variables_of(ground, last),
            }
        },
        attrs=attrs,
    )
