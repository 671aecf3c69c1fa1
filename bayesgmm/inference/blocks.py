"""Sums over blocks of rows: on a cluster, from a disk, or in memory."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from threading import Condition
from typing import Any, Final

import dask
import numpy as np
from numpy.typing import NDArray

from bayesgmm.blockwise import Mixture, densities, moments, pack_block
from bayesgmm.chunked import Chunked
from bayesgmm.chunked_rows import Reader, Rows, Source
from bayesgmm.inference.survey import checksum
from bayesgmm.kernels.threads import over_draws
from bayesgmm.problem import Problem

type Array = NDArray[np.float64]
type Scheduler = Callable[..., Any] | None

FAN_IN: Final = 16
"""Results that one task of a tree adds up."""
KEPT: Final = 2**28
"""Bytes of rows up to which one process holds them all: this one, or the worker of a chain."""
TOGETHER: Final = 2**25
"""Bytes of blocks that are packed as one; on a cluster it is an equal part for every thread."""


class ChangedError(Exception):
    """Rows are not what they were when they were first read."""


def active() -> tuple[Scheduler, Any]:
    """Return the scheduler that Dask would use now, None for its threads, and its cluster's client.

    The answer holds for other threads, too, which might have none.
    """
    scheduler = dask.base.get_scheduler()
    client = getattr(scheduler, "__self__", None)
    return scheduler, client if hasattr(client, "scheduler_info") else None


def cluster() -> Any:
    """Return the client of the cluster that is active, None without one, or in one of its tasks."""
    import distributed

    with suppress(ValueError):  # in a task, which would hold a worker while it waits for others
        distributed.get_worker()
        return None
    _, client = active()
    if client is not None:
        refuse_strangers(client)
    return client


def refuse_strangers(client: Any) -> None:
    """Refuse a cluster that has not this version of the package on every worker."""
    package = __name__.partition(".")[0]

    def version() -> str | None:  # travels by value: what is not there cannot be imported
        try:
            return str(import_module(package).__version__)
        except ImportError:
            return None

    ours = version()
    other = {worker: found for worker, found in client.run(version).items() if found != ours}
    if other:
        told = ", ".join(f"{found or 'none'} on {worker}" for worker, found in other.items())
        raise ImportError(
            f"`X` must be fitted by a cluster that has {package} {ours} on every worker, as here; "
            f"got {told}. Install it there, or close the client to fit here."
        )


def computed(task: Any, scheduler: Scheduler) -> Any:
    """Return what a task gives."""
    return dask.compute(task, scheduler=scheduler)[0]


def tree_of(parts: list[Any], add: Callable[[list[Any]], Any]) -> Any:
    """Return the task that adds up others, in their order, some at a time."""
    while len(parts) > 1:
        groups = [parts[at : at + FAN_IN] for at in range(0, len(parts), FAN_IN)]
        parts = [dask.delayed(add, pure=False)(group) for group in groups]
    return parts[0]


def added(parts: Iterable[Array]) -> Array:
    """Return the sum of arrays, in their order."""
    total: Any = 0.0
    for part in parts:
        total = total + part
    return np.asarray(total)


def pack_blocks(
    recipe: Problem, reader: Reader, blocks: list[Any], sums: list[int], first: int
) -> Array:
    """Return blocks packed as one, refused if they are not those that were surveyed."""
    parts = [reader.read(*block) for block in blocks]
    for number, (part, expected) in enumerate(zip(parts, sums, strict=True), first):
        if checksum(part) != expected:
            raise ChangedError(
                f"`X` must not change while it is fitted; got other numbers in block {number} "
                f"than when it was first read. Fit a copy, or wait until it is written."
            )
    return pack_block(recipe, Rows.joined(parts))


@dataclass(frozen=True, eq=False)
class Kept:
    """Blocks in the memory of this process.

    Parameters
    ----------
    packed : list of array
        Each of some blocks.
    """

    packed: list[Array]

    def densities(self, vectors: Array) -> Array:
        """Return the sum over all blocks of what `blockwise.densities` makes of each."""
        result = np.empty((len(vectors), 1 + vectors.shape[1]))

        def fill(part: slice) -> None:
            result[part] = added(densities(one, vectors[part]) for one in self.packed)

        over_draws(fill, len(vectors))
        return result

    def moments(self, mixture: Mixture) -> Array:
        """Return the sum over all blocks of what `blockwise.moments` makes of each."""
        return added(moments(one, mixture) for one in self.packed)


@dataclass(eq=False)
class Turn:
    """Vectors that wait for a pass, and what it gave."""

    vectors: Array
    result: Array | None = None
    failure: BaseException | None = None


@dataclass(frozen=True, eq=False)
class Away:
    """Blocks in the memory of workers, or read in every pass.

    Where several ask at a time, as chains do, those that wait share the next pass.

    Parameters
    ----------
    packed : list of Delayed
        Arrays, each of some blocks.
    places : list of dict
        Annotations that keep the tasks of each where it is, as long as it is there: without,
        Dask sends blocks to where there is less to do.
    scheduler : callable or None
    """

    packed: list[Any]
    places: list[dict[str, Any]]
    scheduler: Scheduler
    _free: Condition = field(default_factory=Condition)
    _waiting: list[Turn] = field(default_factory=list)
    _passing: list[Turn] = field(default_factory=list)

    def _total(self, task: Callable[..., Array], argument: Any) -> Array:
        run = dask.delayed(task, pure=False)
        parts = []
        for packed, place in zip(self.packed, self.places, strict=True):
            with dask.annotate(**place):
                parts.append(run(packed, argument))
        return np.asarray(computed(tree_of(parts, added), self.scheduler))

    def moments(self, mixture: Mixture) -> Array:
        """Return the sum over all blocks of what `blockwise.moments` makes of each."""
        return self._total(moments, mixture)

    def densities(self, vectors: Array) -> Array:
        """Return the sum over all blocks of what `blockwise.densities` makes of each."""
        mine = Turn(vectors)
        with self._free:
            self._waiting.append(mine)
            self._free.wait_for(lambda: not self._passing or mine not in self._waiting)
            leads = mine in self._waiting
            if leads:
                self._passing.extend(self._waiting)
                self._waiting.clear()
            else:
                self._free.wait_for(lambda: mine not in self._passing)
        if leads:
            self._pass()
        if mine.failure is not None:
            raise mine.failure
        return np.asarray(mine.result)

    def _pass(self) -> None:
        """Make the pass of all that take part in it."""
        turns = list(self._passing)
        try:
            total = self._total(densities, np.concatenate([turn.vectors for turn in turns]))
            for turn in turns:
                turn.result, total = np.split(total, [len(turn.vectors)])
        except BaseException as failure:
            for turn in turns:
                turn.failure = failure
        finally:
            with self._free:
                self._passing.clear()
                self._free.notify_all()


def is_small(table: Chunked) -> bool:
    """Tell whether one process may hold all rows of a table."""
    return 8 * table.n_rows * table.n_features <= KEPT


def gather(
    source: Source, recipe: Problem, sums: tuple[int, ...], scheduler: Scheduler, client: Any
) -> Kept | Away:
    """Return blocks of rows packed, where they can stay.

    Parameters
    ----------
    source : Source
    recipe : Problem
        With the origin, the unit and the layout.
    sums : tuple of int
        Checksums of the blocks.
    scheduler : callable or None
    client : distributed.Client or None
    """
    n_blocks, size = len(source.table.blocks), 8 * source.table.n_rows * source.width
    n_packed = -(-size // TOGETHER) if client is None else sum(client.nthreads().values())
    pack, parts = dask.delayed(pack_blocks, pure=False), source.parts
    held = [dask.delayed(one, traverse=False) for one in (recipe, source.reader)]
    packed = [
        pack(*held, [parts[i] for i in part], [sums[i] for i in part], int(part[0]))
        for part in np.array_split(np.arange(n_blocks), min(n_packed, n_blocks))
    ]
    if client is not None:
        packed = list(client.persist(packed))
        return Away(packed, _places(packed, client), scheduler)
    if size <= KEPT:
        return Kept(list(dask.compute(*packed, scheduler=scheduler)))
    return Away(packed, [{} for _ in packed], scheduler)


def _places(packed: list[Any], client: Any) -> list[dict[str, Any]]:
    """Wait until blocks are packed, and return annotations that name the workers that hold them."""
    from distributed import futures_of, wait

    wait(packed)
    for future in futures_of(packed):
        if future.status == "error":
            raise future.exception()
    found = client.who_has(packed)
    return [
        {"workers": list(found[one.key]), "allow_other_workers": True} if found[one.key] else {}
        for one in packed
    ]
