"""The first look at rows in blocks: all that priors, origin and units depend on, and a sample."""

from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from bayesgmm.chunked import block_values
from bayesgmm.mixture import GaussianMixture
from bayesgmm.moments import column_ranges
from bayesgmm.priors import LKJCovariance

type Array = NDArray[np.float64]

DISTINCT: Final = 2**16
"""Distinct values of a feature of which more are not looked at to see what it was rounded to."""


class Values(NamedTuple):
    """All distinct values of a feature that lie in an interval.

    Parameters
    ----------
    values : array
        In ascending order.
    low, high : float
        The interval; infinite where nothing was left out.
    """

    values: Array
    low: float
    high: float

    @classmethod
    def of(cls, values: Array, low: float, high: float) -> Self:
        """Return those in the middle, if there are too many."""
        start = (values.size - DISTINCT) // 2
        if start <= 0:
            return cls(values, low, high)
        some = values[start : start + DISTINCT].copy()
        return cls(some, float(some[0]), float(some[-1]))

    def and_of(self, other: Self) -> tuple[Self, bool]:
        """Return the values of both, and whether they share one."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        if low > high:  # sorted rows
            return max(self, other, key=lambda one: one.values.size), False
        one, two = (part[(part >= low) & (part <= high)] for part in (self.values, other.values))
        both = np.union1d(one, two)
        return self.of(both, low, high), both.size < one.size + two.size

    @property
    def gap(self) -> float:
        """Median distance between neighbours."""
        return float(np.median(np.diff(self.values))) if self.values.size > 1 else 0.0


class Survey(NamedTuple):
    """What is known of some blocks of rows.

    Parameters
    ----------
    cells, low, high : arrays, shape (D,)
        How many cells are seen, and their range.
    shift, mean, square : arrays, shape (D,)
        Their mean is shift + mean; their squared distances from it add up to square.
    repeats : array of bool, shape (D,)
        Whether a value was met twice.
    distinct : tuple of Values
        Of every feature.
    infinite, empty : tuple of int
        How many infinite cells, the row and column of the first; how many rows without a number,
        and the first.
    sample : array, shape (n, D)
        The rows that were asked for.
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
    sample: Array
    sums: tuple[int, ...]

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


def checksum(values: Array) -> int:
    """Return a number that changes when a cell does."""
    return int(values.view(np.uint64).sum(dtype=np.uint64))


def survey(block: Any, start: int, picked: NDArray[np.int64]) -> Survey:
    """Look at one block.

    Parameters
    ----------
    block : array or DataFrame, shape (n, D)
    start : int
        How many rows there are before it.
    picked : array of int
        Rows of it for the sample.
    """
    values = block_values(block)
    there, infinite = values == values, np.isinf(values)
    cells = there.sum(axis=0).astype(np.float64)
    seen = np.where(there & ~infinite, values, np.nan)
    low, high = column_ranges(seen)
    shift = np.nan_to_num(0.5 * low + 0.5 * high)  # of a column without a cell it does not matter
    mean = np.nansum(seen - shift, axis=0) / np.maximum(cells, 1.0)
    with np.errstate(over="ignore"):  # refused when all have been seen
        square = np.nansum(np.square(seen - shift - mean), axis=0)
    found = [np.unique(column[column == column]) for column in seen.T]
    empty = np.flatnonzero(~there.any(axis=1))
    row, column = divmod(int(infinite.argmax()), values.shape[1])
    return Survey(
        cells, low, high, shift, mean, square,
        repeats=np.array([one.size < n for one, n in zip(found, cells, strict=True)]),
        distinct=tuple(Values.of(one, -np.inf, np.inf) for one in found),
        infinite=(int(infinite.sum()), start + row, column),
        empty=(empty.size, start + int(empty[0]) if empty.size else 0),
        sample=values[picked],
        sums=(checksum(values),),
    )  # fmt: skip


def merged(surveys: list[Survey]) -> Survey:
    """Return what is known of blocks together, in their order (Chan et al. 1983)."""
    result = surveys[0]
    for other in surveys[1:]:
        result = _joined(result, other)
    return result


def _joined(one: Survey, other: Survey) -> Survey:
    """Return what is known of blocks and those after them."""
    cells = one.cells + other.cells
    share = other.cells / np.maximum(cells, 1.0)
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
        sample=np.concatenate([one.sample, other.sample]),
        sums=one.sums + other.sums,
    )  # fmt: skip


def _first(one: tuple[int, ...], other: tuple[int, ...]) -> Any:
    """Return where the first of two counts has its first."""
    return one[1:] if one[0] else other[1:]
