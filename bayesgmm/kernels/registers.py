"""The inner loops of rows that are seen like few others: see `kernels.alone`."""

import math
from functools import reduce
from typing import Any, Final

from llvmlite import ir
from numba.core import cgutils
from numba.core.cgutils import for_range

from bayesgmm.kernels.elementary import logarithm
from bayesgmm.kernels.lanes import (
    INTEGER,
    LANES,
    VECTOR,
    ZERO,
    Builder,
    Sum,
    Table,
    Value,
    compiled,
    integer,
    like,
    multiply_add,
    plus,
    splat,
)
from bayesgmm.kernels.tiles import PADDING, WIDTH

LOG_2PI: Final = math.log(2.0 * math.pi)
_FIRST: Final = integer(0)
_LANES: Final = integer(LANES)

ABREAST: Final = 2
"""Registers of rows that are whitened side by side: a divisor of `WIDTH`."""

# What is said of errors: nothing, standard deviations, or Cholesky factors
EXACT, DEVIATIONS, FACTORS = 0, 1, 2
HEAVY: Final = 3  # nothing, of components with heavy tails


def _triangle(builder: Builder, row: Value) -> Value:
    """Return the place where a row of a packed lower triangle starts."""
    return builder.lshr(builder.mul(row, plus(builder, row, 1)), integer(1))


def _basis(builder: Builder, bases: Value, part: Value, n_dim: Value) -> Table:
    """Return the triangle B, by rows, of a part: a register of rows for one component."""
    size = builder.mul(_triangle(builder, n_dim), _LANES)
    return Table(builder, bases, _LANES, builder.mul(part, size))


def _whitened(builder: Builder, y: Value, part: Value, n_dim: Value) -> Table:
    """Return y, below it z = B' y, and below that |y|^2 where tails are heavy, of a part."""
    size = builder.mul(plus(builder, builder.mul(n_dim, integer(2)), 1), _LANES)
    return Table(builder, y, _LANES, builder.mul(part, size))


def _square_root(builder: Builder, value: Value) -> Value:
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(VECTOR, [VECTOR]), f"llvm.sqrt.v{LANES}f64"
    )
    return builder.call(function, [value])


class _Rows:
    """The rows of Q of some registers: of each the half of the component and that of the errors."""

    def __init__(self, builder: Builder, halves: list[list[Table]]) -> None:
        self._builder, self._halves = builder, halves

    def products(self, one: Value, other: Value, length: Value) -> list[Value]:
        """Return the inner products of two rows that start at these places."""
        builder = self._builder
        sums = [[Sum(builder) for _ in halves] for halves in self._halves]
        with for_range(builder, length, intp=INTEGER) as loop:
            left, right = builder.add(one, loop.index), builder.add(other, loop.index)
            for halves, totals in zip(self._halves, sums, strict=True):
                for half, total in zip(halves, totals, strict=True):
                    total.add_product(half.load(left, _FIRST), half.load(right, _FIRST))
        return [reduce(builder.fadd, (total.get() for total in totals)) for totals in sums]

    def take_off(self, row: Value, other: Value, factors: list[Value], length: Value) -> None:
        """Subtract multiples of another row."""
        builder = self._builder
        negative = [builder.fneg(factor) for factor in factors]
        with for_range(builder, length, intp=INTEGER) as loop:
            place, at = builder.add(row, loop.index), builder.add(other, loop.index)
            for halves, factor in zip(self._halves, negative, strict=True):
                for half in halves:
                    taken, value = half.load(at, _FIRST), half.load(place, _FIRST)
                    half.store(multiply_add(builder, factor, taken, value), place, _FIRST)

    def scale(self, row: Value, factors: list[Value], length: Value) -> None:
        """Multiply a row."""
        builder = self._builder
        with for_range(builder, length, intp=INTEGER) as loop:
            place = builder.add(row, loop.index)
            for halves, factor in zip(self._halves, factors, strict=True):
                for half in halves:
                    half.store(builder.fmul(factor, half.load(place, _FIRST)), place, _FIRST)


def _whiten(kind: int) -> Any:
    """Return what whitens `ABREAST` registers of rows for a component, whose errors are of a kind.

    Several at a time, so that none waits for the sums of another.
    """

    def emit(
        builder: Builder, lines: Value, at: Value, means: Value, cholesky: Value,
        n_lines: Value, n_dim: Value, k: Value, constant: Value, bases: Value, errors: Value,
        y: Value, part: Value, lp: Value, to: Value,
    ) -> None:  # fmt: skip
        abreast = range(ABREAST)
        places = [integer(v * LANES) for v in abreast]
        cells = Table(builder, lines, integer(PADDING), at)
        skipped = builder.mul(k, n_dim)
        centers = Table(builder, means, n_dim, skipped)
        factor = Table(builder, cholesky, n_dim, builder.mul(skipped, n_lines))
        parts = [plus(builder, part, v) for v in abreast]
        of_z = [_basis(builder, bases, one, n_dim) for one in parts]
        of_errors = [_basis(builder, errors, integer(v), n_dim) for v in abreast]
        out = [_whitened(builder, y, one, n_dim) for one in parts]
        halves = [[one] for one in of_z]
        if kind in (DEVIATIONS, FACTORS):
            halves = [list(both) for both in zip(of_z, of_errors, strict=True)]
        rows = _Rows(builder, halves)
        one, given = like(ZERO, 1.0), builder.mul(n_dim, integer(2))
        squares, logarithms, n_seen = ([Sum(builder) for _ in abreast] for _ in range(3))
        with for_range(builder, n_dim, intp=INTEGER) as loop:
            i = loop.index
            row, length = _triangle(builder, i), plus(builder, i, 1)
            there = [cells.load(builder.add(n_dim, i), place) for place in places]
            center, entries = centers.load_splat(_FIRST, i), [Sum(builder) for _ in abreast]
            for v, place in enumerate(places):
                n_seen[v].add(there[v])
                centred = builder.fsub(cells.load(i, place), center)
                entries[v].set(builder.fmul(there[v], centred))
            with for_range(builder, length, intp=INTEGER) as inner:
                at_m, entry = builder.add(row, inner.index), factor.load_splat(i, inner.index)
                for v, place in enumerate(places):
                    of_z[v].store(builder.fmul(there[v], entry), at_m, _FIRST)
                    if kind == DEVIATIONS:
                        of_errors[v].store(ZERO, at_m, _FIRST)
                    if kind == FACTORS:
                        value = cells.load(builder.add(given, at_m), place)
                        of_errors[v].store(value, at_m, _FIRST)
            if kind == DEVIATIONS:
                for v, place in enumerate(places):
                    value = cells.load(builder.add(given, i), place)
                    of_errors[v].store(value, builder.add(row, i), _FIRST)
            with for_range(builder, i, intp=INTEGER) as inner:
                other, width = _triangle(builder, inner.index), plus(builder, inner.index, 1)
                products = rows.products(row, other, width)
                rows.take_off(row, other, products, width)
                for v in abreast:
                    taken = builder.fneg(out[v].load(inner.index, _FIRST))
                    entries[v].add_product(products[v], taken)
            inverses = []
            for v, length_squared in enumerate(rows.products(row, row, length)):
                square = builder.fadd(length_squared, builder.fsub(one, there[v]))
                inverses.append(builder.fdiv(one, _square_root(builder, square)))
                value = builder.fmul(inverses[v], entries[v].get())
                out[v].store(value, i, _FIRST)
                squares[v].add_product(value, value)
                logarithms[v].add(logarithm(builder, square))
            rows.scale(row, inverses, length)
        result = Table(builder, lp, integer(PADDING), to)
        for v, place in enumerate(places):
            value = logarithms[v].get()  # log|T|, of the squares of its diagonal
            if kind == HEAVY:
                out[v].store(squares[v].get(), given, _FIRST)
            else:
                value = builder.fadd(value, squares[v].get())
                value = multiply_add(builder, n_seen[v].get(), like(ZERO, LOG_2PI), value)
            value = multiply_add(builder, value, like(ZERO, -0.5), splat(builder, constant))
            result.store(value, _FIRST, place)

    return compiled(emit)


def _moments(heavy: bool) -> Any:
    """Return what adds the moments of `WIDTH` registers of rows to a register for every sum."""

    def emit(
        builder: Builder, bases: Value, y: Value, part: Value, r: Value, pulls: Value, at: Value,
        n_dim: Value, sums: Value, k: Value,
    ) -> None:  # fmt: skip
        parts = [plus(builder, part, v) for v in range(WIDTH)]
        rows = [_basis(builder, bases, one, n_dim) for one in parts]
        out = [_whitened(builder, y, one, n_dim) for one in parts]
        given = Table(builder, r, integer(PADDING), at)
        shares = [given.load(_FIRST, integer(v * LANES)) for v in range(WIDTH)]
        pulled = Table(builder, pulls, integer(PADDING), at)
        first = plus(builder, n_dim, 1)  # of the sums: r, r z, r z z'
        length = builder.add(first, _triangle(builder, n_dim))
        totals = Table(builder, sums, _LANES, builder.mul(builder.mul(k, length), _LANES))

        def pull(v: int, value: Value) -> Value:
            if not heavy:
                return value
            return builder.fmul(pulled.load(_FIRST, integer(v * LANES)), value)

        def add(place: Value, values: list[Value]) -> None:
            total = totals.load(place, _FIRST)
            for share, value in zip(shares, values, strict=True):
                total = multiply_add(builder, share, value, total)
            totals.store(total, place, _FIRST)

        add(_FIRST, [like(ZERO, 1.0)] * WIDTH)
        with for_range(builder, n_dim, intp=INTEGER) as loop:
            expected = [Sum(builder) for _ in parts]
            with for_range(builder, n_dim, start=loop.index, intp=INTEGER) as inner:
                place = builder.add(_triangle(builder, inner.index), loop.index)
                for v, total in enumerate(expected):
                    total.add_product(rows[v].load(place, _FIRST), out[v].load(inner.index, _FIRST))
            values = [total.get() for total in expected]
            for v, value in enumerate(values):
                out[v].store(value, builder.add(n_dim, loop.index), _FIRST)
            moved = [pull(v, value) for v, value in enumerate(values)]
            add(plus(builder, loop.index, 1), moved)
        with for_range(builder, n_dim, intp=INTEGER) as loop:
            d = loop.index
            at_d = builder.add(n_dim, d)
            with for_range(builder, plus(builder, d, 1), intp=INTEGER) as inner:
                e = inner.index
                products = [Sum(builder) for _ in parts]
                with for_range(builder, n_dim, start=d, intp=INTEGER) as innermost:
                    row = _triangle(builder, innermost.index)
                    one, other = builder.add(row, d), builder.add(row, e)
                    for v, total in enumerate(products):
                        total.add_product(rows[v].load(one, _FIRST), rows[v].load(other, _FIRST))
                at_e, values = builder.add(n_dim, e), []
                for v, total in enumerate(products):
                    square = builder.fmul(out[v].load(at_d, _FIRST), out[v].load(at_e, _FIRST))
                    values.append(builder.fsub(pull(v, square), total.get()))
                add(builder.add(builder.add(first, _triangle(builder, d)), e), values)

    return compiled(emit)


whiten_exact, whiten_deviations = _whiten(EXACT), _whiten(DEVIATIONS)
whiten_factors, whiten_heavy = _whiten(FACTORS), _whiten(HEAVY)
add_moments, add_heavy_moments = _moments(False), _moments(True)
