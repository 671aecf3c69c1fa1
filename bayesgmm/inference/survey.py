"""The first look at rows in blocks: all that priors, origin and units depend on, and a sample."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from bayesgmm.blockwise import Totals
from bayesgmm.chunked_rows import Reader, Rows
from bayesgmm.mixture import GaussianMixture
from bayesgmm.priors import LKJCovariance

type Array = NDArray[np.float64]

DISTINCT: Final = 2**16
"""Distinct values of a feature of which more are not looked at to see what it was rounded to."""
SAMPLE_ROWS: Final = 50_000
"""Rows, drawn at random, or all: starts are compared on them, and draws aligned."""
LABELLED_ROWS: Final = 5_000
"""Rows with labels that are in the sample at the least, if there are so many."""
NONE: Final = (0, 0, 0)
"""How many were found, and where the first."""


class Values(NamedTuple):
    """All distinct values of a feature that lie in an interval.

    Parameters
    ----------
    values : array
        In ascending order.
    times : array
        How many rows have each.
    low, high : float
        The interval; infinite where nothing was left out.
    """

    values: Array
    times: Array
    low: float
    high: float

    @classmethod
    def of(cls, values: Array, times: Array, low: float, high: float) -> Self:
        """Return those in the middle, if there are too many."""
        start = (values.size - DISTINCT) // 2
        if start <= 0:
            return cls(values, times, low, high)
        some = slice(start, start + DISTINCT)
        values, times = values[some].copy(), times[some].copy()
        return cls(values, times, float(values[0]), float(values[-1]))

    @classmethod
    def of_column(cls, column: Array, weights: Array | None) -> tuple[Self, bool]:
        """Return those of a column that are not NaN, and whether one stands for two rows."""
        there = column == column
        if weights is None:
            values, times = np.unique(column[there], return_counts=True)
        else:
            values, which = np.unique(column[there], return_inverse=True)
            times = np.bincount(which, weights[there], values.size)
        repeats = bool((times >= 2.0).any())
        return cls.of(values, times.astype(np.float64), -np.inf, np.inf), repeats

    def and_of(self, other: Self) -> tuple[Self, bool]:
        """Return the values of both, and whether one of them stands for two rows."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        if low > high:  # sorted rows
            return max(self, other, key=lambda one: one.values.size), False
        values = np.concatenate([self.values, other.values])
        there = (values >= low) & (values <= high)
        both, which = np.unique(values[there], return_inverse=True)
        times = np.concatenate([self.times, other.times])[there]
        times = np.bincount(which, times, both.size)
        return self.of(both, times, low, high), bool((times >= 2.0).any())

    @property
    def gap(self) -> float:
        """Median distance between neighbours."""
        return float(np.median(np.diff(self.values))) if self.values.size > 1 else 0.0


class Picked(NamedTuple):
    """Rows drawn at random: those of the smallest keys.

    Parameters
    ----------
    keys : array, shape (n,)
        Random numbers that a row has however rows are cut into blocks.
    rows : Rows
    """

    keys: Array
    rows: Rows

    def fewest(self, most: int) -> Self:
        """Return so many at most, in the order of all rows."""
        which = np.arange(self.keys.size)
        if which.size > most:
            which = np.argpartition(self.keys, most)[:most]
        which = which[np.argsort(self.rows.numbers[which])]
        return type(self)(self.keys[which], self.rows.some(which))

    def and_of(self, other: Self, most: int) -> Self:
        """Return those of both."""
        keys = np.concatenate([self.keys, other.keys])
        return type(self)(keys, Rows.joined([self.rows, other.rows])).fewest(most)


class Survey(NamedTuple):
    """What is known of some blocks of rows.

    Parameters
    ----------
    cells, low, high : arrays, shape (D,)
        How many cells are seen, and their range: of the rows of positive weight.
    shift, mean, square : arrays, shape (D,)
        Their mean is shift + mean; their squared distances from it add up to square.
    repeats : array of bool, shape (D,)
        Whether a value stands for two rows.
    distinct : tuple of Values
        Of every feature.
    infinite, empty : tuple of int
        How many infinite cells, the row and column of the first; how many rows without a number,
        and the first.
    weights : array, shape (4,)
        Number of rows; of those of positive weight; sums of weights and of their squares.
    apart : array of bool, shape (K, K)
        Whether what is known of the labels of some row differs between two components.
    sample, labelled : Picked
        Of all rows, and of those of whose labels something is known.
    sums : tuple of int
        A checksum of every block.
    """

    cells: Array
    low: Array
    high: Array
    shift: Array
    mean: Array
    square: Array
    repeats: NDArray[np.bool_]
    distinct: tuple[Values, ...]
    infinite: tuple[int, int, int]
    empty: tuple[int, int]
    weights: Array
    apart: NDArray[np.bool_]
    sample: Picked
    labelled: Picked
    sums: tuple[int, ...]

    @property
    def totals(self) -> Totals:
        """What the sums over all rows are divided by, and the names that labels give."""
        n_rows, _, weight, squares = self.weights.tolist()
        named = (~self.apart).argmax(axis=1)
        return Totals(int(n_rows), self.cells, weight, weight**2 / squares, named)

    @property
    def rows(self) -> Rows:
        """The sample, and with it some rows with labels, in the order of all rows."""
        both = Rows.joined([self.sample.rows, self.labelled.rows])
        return both.some(np.unique(both.numbers, return_index=True)[1])

    @property
    def spread(self) -> Array:
        """Standard deviation of every feature about its mean, dividing by the number of cells."""
        return np.asarray(np.sqrt(self.square / self.cells))

    @property
    def grain(self) -> Array:
        """Largest rounding error of every feature, as `priors.rounding` has it."""
        return np.where(self.repeats, [0.5 * one.gap for one in self.distinct], 0.0)

    def center_and_unit(self, common_unit: bool) -> tuple[Array, Array]:
        """Return origin and unit, as `data.center_and_unit` does."""
        unit = self.spread
        if common_unit:
            unit = np.full_like(unit, np.sqrt(np.mean(unit**2)))
        return 0.5 * self.low + 0.5 * self.high, unit

    def resolve(self, specification: GaussianMixture) -> GaussianMixture:
        """Return a specification with every hyperparameter a number, taken from the data."""
        prior = specification.covariance
        assert isinstance(prior, LKJCovariance)  # others are refused
        covariance = prior.resolve_to(self.spread, self.grain)
        return specification.resolve_to(self.low, self.high, covariance)


def checksum(rows: Rows) -> int:
    """Return a number that changes when a cell does, or what is said of it."""
    arrays = (rows.values, rows.sample_weight, rows.allowed, rows.errors)
    return sum(int(one.view(np.uint64).sum(dtype=np.uint64)) for one in arrays if one is not None)


def survey(
    block: Any, said: Mapping[str, Any], offsets: tuple[int, ...], reader: Reader, seed: int
) -> Survey | Exception:
    """Look at one block, and return what is known of it; or why it is refused.

    Parameters
    ----------
    block, said, offsets
        As `Reader.read` takes them.
    reader : Reader
    seed : int
        Of the sample.
    """
    try:
        rows = reader.read(block, said, offsets)
    except (TypeError, ValueError) as error:  # another block may have a row before this one's
        return error
    values, weights = rows.values, rows.sample_weight
    there, infinite = values == values, np.isinf(values)
    seen = np.where(there & ~infinite, values, np.nan)
    if weights is not None:
        seen[weights == 0.0] = np.nan

    def total(each: Array) -> Array:
        return np.nansum(each if weights is None else weights[:, None] * each, axis=0)

    cells = there.sum(axis=0) + 0.0 if weights is None else weights @ there
    low, high = np.fmin.reduce(seen, initial=np.nan), np.fmax.reduce(seen, initial=np.nan)
    shift = np.nan_to_num(0.5 * low + 0.5 * high)  # of a column without a cell it does not matter
    mean = total(seen - shift) / np.where(cells > 0.0, cells, 1.0)
    with np.errstate(over="ignore"):  # refused when all have been seen
        square = total(np.square(seen - shift - mean))
    found = [Values.of_column(column, weights) for column in seen.T]
    far, empty = np.argwhere(infinite), np.flatnonzero(~there.any(axis=1))
    sample, labelled = _picked(rows, seed)
    return Survey(
        cells, low, high, shift, mean, square,
        repeats=np.array([repeats for _, repeats in found]),
        distinct=tuple(one for one, _ in found),
        infinite=(len(far), int(rows.numbers[far[0, 0]]), int(far[0, 1])) if len(far) else NONE,
        empty=(empty.size, int(rows.numbers[empty[0]])) if empty.size else NONE[:2],
        weights=_counted(rows),
        apart=_told_apart(rows.allowed, reader.n_components),
        sample=sample,
        labelled=labelled,
        sums=(checksum(rows),),
    )  # fmt: skip


def _counted(rows: Rows) -> Array:
    """Return how many rows there are, how many count, and the sums of weights and squares."""
    n, weights = len(rows.values), rows.sample_weight
    if weights is None:
        return np.full(4, float(n))
    return np.array([n, np.count_nonzero(weights), weights.sum(), np.square(weights).sum()])


def _told_apart(allowed: Array | None, n_components: int) -> NDArray[np.bool_]:
    """Return whether labels differ between two components, shape (K, K)."""
    if allowed is None:
        return np.zeros((n_components, n_components), dtype=bool)
    return np.stack([(allowed != one[:, None]).any(axis=0) for one in allowed.T])


def _picked(rows: Rows, seed: int) -> tuple[Picked, Picked]:
    """Return some rows at random, and some with labels; those of weight 0 if there are no other."""
    keys = random_keys(rows.numbers, seed)
    if rows.sample_weight is not None:
        keys = np.where(rows.sample_weight > 0.0, keys, 1.0 + keys)
    told = np.zeros(keys.size, dtype=bool)
    if rows.allowed is not None:
        told = (rows.allowed != rows.allowed[:, :1]).any(axis=1)
    labelled = Picked(keys[told], rows.some(told)).fewest(LABELLED_ROWS)
    return Picked(keys, rows).fewest(SAMPLE_ROWS), labelled


def random_keys(numbers: NDArray[np.int64], seed: int) -> Array:
    """Return a number in [0, 1) for each of some whole numbers (Steele, Lea & Flood 2014)."""
    z = numbers.astype(np.uint64) + np.uint64(seed % 2**63 + 1)
    z *= np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return np.asarray((z >> np.uint64(11)) * 2.0**-53)


def merged(surveys: list[Survey | Exception]) -> Survey | Exception:
    """Return what is known of blocks together, in their order (Chan et al. 1983)."""
    result = surveys[0]
    for other in surveys[1:]:
        if isinstance(result, Exception):
            break
        result = other if isinstance(other, Exception) else _joined(result, other)
    return result


def _joined(one: Survey, other: Survey) -> Survey:
    """Return what is known of blocks and those after them."""
    cells = one.cells + other.cells
    share = other.cells / np.where(cells > 0.0, cells, 1.0)
    known = one.cells > 0.0
    shift, mean = np.where(known, one.shift, other.shift), np.where(known, one.mean, other.mean)
    gap = np.where(known, (other.shift - one.shift) + (other.mean - one.mean), 0.0)
    with np.errstate(over="ignore"):
        square = one.square + other.square + share * one.cells * gap**2
    distinct, repeats = [], one.repeats | other.repeats
    for j, (a, b) in enumerate(zip(one.distinct, other.distinct, strict=True)):
        both, repeated = a.and_of(b)
        repeats[j] |= repeated
        distinct.append(both)
    return Survey(
        cells, np.fmin(one.low, other.low), np.fmax(one.high, other.high),
        shift, mean + share * gap, square,
        repeats, tuple(distinct),
        infinite=(one.infinite[0] + other.infinite[0], *_first(one.infinite, other.infinite)),
        empty=(one.empty[0] + other.empty[0], *_first(one.empty, other.empty)),
        weights=one.weights + other.weights,
        apart=one.apart | other.apart,
        sample=one.sample.and_of(other.sample, SAMPLE_ROWS),
        labelled=one.labelled.and_of(other.labelled, LABELLED_ROWS),
        sums=one.sums + other.sums,
    )  # fmt: skip


def _first(one: tuple[int, ...], other: tuple[int, ...]) -> Any:
    """Return where the first of two counts has its first."""
    return one[1:] if one[0] else other[1:]
