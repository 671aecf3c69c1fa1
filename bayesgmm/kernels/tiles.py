"""The inner loops of the pass, with their running sums in registers.

Each works on a *tile*, some rows of a triangle by some vectors of data, as the products of BLAS
do, but leaves out the half of the triangle that is zero or known, and needs no copy of the data.
`PADDING` rows of data are read and written at a time.
"""

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.cgutils import for_range, for_range_slice
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.elementary import exponential, logarithm
from bayesgmm.kernels.lanes import (
    FLOAT,
    INTEGER,
    LANES,
    MANY_REGISTERS,
    ZERO,
    Builder,
    Sum,
    Table,
    Value,
    add_lanes,
    compiled,
    integer,
    like,
    multiply_add,
    plus,
    splat,
)

type Array = NDArray[np.float64]

HEIGHT: Final = 4 if MANY_REGISTERS else 3
"""Rows of a triangle in a tile, at most."""

WIDTH: Final = 4 if MANY_REGISTERS else 2
"""Vectors of data in a tile that is whitened, and whose exponentials are computed side by side."""

PADDING: Final = WIDTH * LANES
"""Blocks of data are padded to a multiple of this many rows."""

LOWEST: Final = -1.7e308
"""Least peak: a finite one, so that -inf less the peak is not NaN."""

_FIRST: Final = integer(0)


def _whiten_tile(height: int, on_top: bool) -> Any:
    """Return the tile of `whiten_block` that makes `height` features of y, the first or later."""

    def emit(
        builder: Builder, x: Value, x_start: Value, x_stride: Value, mean: Value,
        whitener: Value, n_dim: Value, first: Value, y: Value, stride: Value, lp: Value,
        constant: Value, n: Value,
    ) -> None:  # fmt: skip
        data, out = Table(builder, x, x_stride, x_start), Table(builder, y, stride)
        slopes, result = Table(builder, whitener, n_dim), Table(builder, lp, stride)
        centers = Table(builder, mean, n_dim)
        constant = splat(builder, constant)
        first = _FIRST if on_top else first
        with for_range_slice(builder, _FIRST, n, integer(PADDING), INTEGER) as (at, _):
            places = [plus(builder, at, v * LANES) for v in range(WIDTH)]
            sums = [[Sum(builder) for _ in places] for _ in range(height)]

            def add_feature(feature: Value, lowest: int) -> None:
                center = centers.load_splat(_FIRST, feature)
                centred = [builder.fsub(data.load(feature, place), center) for place in places]
                for row in range(lowest, height):
                    slope = slopes.load_splat(plus(builder, first, row), feature)
                    for v, value in enumerate(centred):
                        sums[row][v].add_product(slope, value)

            if not on_top:
                with for_range(builder, first, intp=INTEGER) as loop:
                    add_feature(loop.index, 0)
            for corner in range(height):
                add_feature(plus(builder, first, corner), corner)
            for v, place in enumerate(places):
                value = constant if on_top else result.load(_FIRST, place)
                for row in range(height):
                    entry = sums[row][v].get()
                    out.store(entry, plus(builder, first, row), place)
                    halved = builder.fmul(entry, like(entry, -0.5))
                    value = multiply_add(builder, halved, entry, value)
                result.store(value, _FIRST, place)

    return compiled(emit)


def _corner_tile(height: int) -> Any:
    """Return the tile of `add_moments` on the diagonal, with the sums of r and r y beside it."""

    def emit(
        builder: Builder, y: Value, stride: Value, first: Value, r: Value, count: Value,
        sums: Value, products: Value, n_dim: Value, n: Value,
    ) -> None:  # fmt: skip
        data, shares = Table(builder, y, stride), Table(builder, r, stride)
        total = Sum(builder)
        linear = [Sum(builder) for _ in range(height)]
        square = [[Sum(builder) for _ in range(row + 1)] for row in range(height)]
        with for_range_slice(builder, _FIRST, n, integer(LANES), INTEGER) as (at, _):
            share = shares.load(_FIRST, at)
            total.add(share)
            values = [data.load(plus(builder, first, row), at) for row in range(height)]
            for row in range(height):
                weighted = builder.fmul(share, values[row])
                linear[row].add(weighted)
                for column in range(row + 1):
                    square[row][column].add_product(weighted, values[column])
        on_top = builder.icmp_signed("==", first, _FIRST)
        counted = builder.select(on_top, add_lanes(builder, total.get()), ir.Constant(FLOAT, 0.0))
        Table(builder, count, n_dim).add(counted, _FIRST, _FIRST)
        for row in range(height):
            place = plus(builder, first, row)
            Table(builder, sums, n_dim).add(add_lanes(builder, linear[row].get()), _FIRST, place)
            for column in range(row + 1):
                value = add_lanes(builder, square[row][column].get())
                Table(builder, products, n_dim).add(value, place, plus(builder, first, column))

    return compiled(emit)


def _inner_tile(height: int) -> Any:
    """Return the tile of `add_moments` below the diagonal, `HEIGHT` columns wide."""

    def emit(
        builder: Builder, y: Value, stride: Value, first: Value, left: Value, r: Value,
        products: Value, n_dim: Value, n: Value,
    ) -> None:  # fmt: skip
        data, shares = Table(builder, y, stride), Table(builder, r, stride)
        square = [[Sum(builder) for _ in range(HEIGHT)] for _ in range(height)]
        with for_range_slice(builder, _FIRST, n, integer(LANES), INTEGER) as (at, _):
            share = shares.load(_FIRST, at)
            values = [data.load(plus(builder, left, column), at) for column in range(HEIGHT)]
            for row in range(height):
                weighted = builder.fmul(share, data.load(plus(builder, first, row), at))
                for column in range(HEIGHT):
                    square[row][column].add_product(weighted, values[column])
        for row in range(height):
            for column in range(HEIGHT):
                value = add_lanes(builder, square[row][column].get())
                place = plus(builder, left, column)
                Table(builder, products, n_dim).add(value, plus(builder, first, row), place)

    return compiled(emit)


def _responsibilities(
    builder: Builder, data: Table, n_components: Value, places: list[Value],
    peaks: list[Sum], totals: list[Sum],
) -> None:  # fmt: skip
    """Emit the exponentials of log joint densities less their peaks, and the totals of these."""
    for peak, total in zip(peaks, totals, strict=True):
        peak.set(like(ZERO, LOWEST))
        total.set(ZERO)
    with for_range(builder, n_components, intp=INTEGER) as loop:
        for peak, place in zip(peaks, places, strict=True):
            value, highest = data.load(loop.index, place), peak.get()
            above = builder.fcmp_ordered(">", highest, value)
            peak.set(builder.select(above, highest, value))
    with for_range(builder, n_components, intp=INTEGER) as loop:
        for peak, total, place in zip(peaks, totals, places, strict=True):
            value = builder.fsub(data.load(loop.index, place), peak.get())
            value = exponential(builder, value)
            data.store(value, loop.index, place)
            total.add(value)


def _rescale(
    builder: Builder, data: Table, n_components: Value, places: list[Value], factors: list[Value]
) -> None:
    """Emit the products of all components with the factors of the rows."""
    with for_range(builder, n_components, intp=INTEGER) as loop:
        for factor, place in zip(factors, places, strict=True):
            value = builder.fmul(factor, data.load(loop.index, place))
            data.store(value, loop.index, place)


def _emit_softmax(
    builder: Builder, lp: Value, stride: Value, n_components: Value, weights: Value,
    densities: Value, n: Value,
) -> Value:  # fmt: skip
    """Emit `softmax_block`."""
    data = Table(builder, lp, stride)
    row_weights, out = Table(builder, weights, stride), Table(builder, densities, stride)
    result = Sum(builder)
    peaks = [Sum(builder) for _ in range(WIDTH)]
    totals = [Sum(builder) for _ in range(WIDTH)]
    with for_range_slice(builder, _FIRST, n, integer(PADDING), INTEGER) as (at, _):
        places = [plus(builder, at, v * LANES) for v in range(WIDTH)]
        _responsibilities(builder, data, n_components, places, peaks, totals)
        factors = []
        for peak, total, place in zip(peaks, totals, places, strict=True):
            weight = row_weights.load(_FIRST, place)
            density = builder.fadd(peak.get(), logarithm(builder, total.get()))
            out.store(density, _FIRST, place)
            # 0 times a log density of -inf is 0 here
            unused = builder.fcmp_ordered("==", weight, ZERO)
            result.add(builder.select(unused, ZERO, builder.fmul(weight, density)))
            factor = builder.fdiv(weight, total.get())
            factors.append(builder.select(unused, ZERO, factor))
        _rescale(builder, data, n_components, places, factors)
    return add_lanes(builder, result.get())


def _emit_plain_softmax(
    builder: Builder, lp: Value, stride: Value, n_components: Value, used: Value, n: Value
) -> Value:
    """Emit `plain_softmax_block`."""
    data, one = Table(builder, lp, stride), like(ZERO, 1.0)
    last = builder.sub(used, integer(1))
    result = Sum(builder)
    peaks = [Sum(builder) for _ in range(WIDTH)]
    totals = [Sum(builder) for _ in range(WIDTH)]
    products = [Sum(builder) for _ in range(WIDTH)]
    lanes = ir.Constant(ir.VectorType(INTEGER, LANES), list(range(LANES)))
    for product in products:
        product.set(one)
    with for_range_slice(builder, _FIRST, n, integer(PADDING), INTEGER) as (at, _):
        places = [plus(builder, at, v * LANES) for v in range(WIDTH)]
        _responsibilities(builder, data, n_components, places, peaks, totals)
        factors = []
        for peak, total, product, place in zip(peaks, totals, products, places, strict=True):
            rows = builder.add(splat(builder, place), lanes)
            unused = builder.icmp_signed(">", rows, splat(builder, last))
            result.add(builder.select(unused, ZERO, peak.get()))
            factor = builder.select(unused, one, total.get())
            product.set(builder.fmul(product.get(), factor))
            factors.append(builder.select(unused, ZERO, builder.fdiv(one, factor)))
        _rescale(builder, data, n_components, places, factors)
    for product in products:
        result.add(logarithm(builder, product.get()))
    return add_lanes(builder, result.get())


_top1, _top2, _top3, _top4 = (_whiten_tile(height, True) for height in (1, 2, 3, 4))
_whiten1, _whiten2, _whiten3, _whiten4 = (_whiten_tile(height, False) for height in (1, 2, 3, 4))
_corner1, _corner2, _corner3, _corner4 = (_corner_tile(height) for height in (1, 2, 3, 4))
_inner1, _inner2, _inner3, _inner4 = (_inner_tile(height) for height in (1, 2, 3, 4))
_softmax = compiled(_emit_softmax, types.float64)
_plain_softmax = compiled(_emit_plain_softmax, types.float64)


@kernel
def whiten_block(
    x: Array, x_start: int, x_stride: int, mean: Array, whitener: Array, constant: float,
    y: Array, stride: int, lp: Array, n: int,
) -> None:  # fmt: skip
    """Whiten a block of rows for one component.

    Parameters
    ----------
    x : array
        Feature d of row i of the block is entry ``x_start + d * x_stride + i``.
    x_start, x_stride : int
    mean, whitener : arrays, shapes (D,) and (D, D)
    constant : float
        The log density of the component at its mean, plus its log-weight.
    y : array
        Overwritten with whitener @ (x - mean): feature d of row i at ``d * stride + i``.
    stride : int
    lp : array
        Overwritten with constant - |y|^2 / 2.
    n : int
        Rows, a multiple of `PADDING`.

    Notes
    -----
    The mean is taken off before anything is multiplied, so that nothing cancels. Costs
    D (D + 1) / 2 multiplications and additions a row, and two more by D.
    """
    n_dim = mean.shape[0]
    n_tiles = (n_dim + HEIGHT - 1) // HEIGHT
    first = n_dim // n_tiles
    if first == 1:
        _top1(x, x_start, x_stride, mean, whitener, n_dim, 0, y, stride, lp, constant, n)
    elif first == 2:
        _top2(x, x_start, x_stride, mean, whitener, n_dim, 0, y, stride, lp, constant, n)
    elif first == 3:
        _top3(x, x_start, x_stride, mean, whitener, n_dim, 0, y, stride, lp, constant, n)
    else:
        _top4(x, x_start, x_stride, mean, whitener, n_dim, 0, y, stride, lp, constant, n)
    n_tiles -= 1
    while n_tiles > 0:
        height = (n_dim - first) // n_tiles
        if height == 1:
            _whiten1(x, x_start, x_stride, mean, whitener, n_dim, first, y, stride, lp, constant, n)
        elif height == 2:
            _whiten2(x, x_start, x_stride, mean, whitener, n_dim, first, y, stride, lp, constant, n)
        elif height == 3:
            _whiten3(x, x_start, x_stride, mean, whitener, n_dim, first, y, stride, lp, constant, n)
        else:
            _whiten4(x, x_start, x_stride, mean, whitener, n_dim, first, y, stride, lp, constant, n)
        first += height
        n_tiles -= 1


@kernel
def softmax_block(
    lp: Array, stride: int, n_components: int, row_weights: Array, densities: Array, n: int
) -> float:
    """Turn log joint densities into weighted responsibilities.

    Parameters
    ----------
    lp : array
        Component k of row i at ``k * stride + i``: overwritten with the row's weight times the
        component's responsibility.
    stride : int
    n_components : int
    row_weights : array, shape (n,)
    densities : array, shape (n,)
        Overwritten with the log density of every row.
    n : int
        Rows, a multiple of `PADDING`.

    Returns
    -------
    float
        The sum of weight times log density; rows of weight 0 count 0, whatever their density.
    """
    return _softmax(lp, stride, n_components, row_weights, densities, n)


@kernel
def plain_softmax_block(lp: Array, stride: int, n_components: int, used: int, n: int) -> float:
    """Turn log joint densities into responsibilities.

    What `softmax_block` does of rows of weight 1, with the logarithm of a product in place of one
    for every row: of at most `n` / `PADDING` factors, each between 1 and the number of components.

    Parameters
    ----------
    lp : array
        Component k of row i at ``k * stride + i``: overwritten with the responsibility.
    stride : int
    n_components : int
    used : int
        Rows that count; the others get responsibilities of 0.
    n : int
        Rows, a multiple of `PADDING`, at most 512.

    Returns
    -------
    float
        The sum of the log densities.
    """
    return _plain_softmax(lp, stride, n_components, used, n)


@kernel
def add_moments(
    y: Array, stride: int, r: Array, count: Array, first: Array, second: Array, n: int
) -> None:
    """Add a block's sums of r, r y and r y y' (lower triangle) to those of one component.

    Parameters
    ----------
    y : array
        Feature d of row i at ``d * stride + i``.
    stride : int
    r : array, shape (n,)
    count, first, second : arrays, shapes (1,), (D,), (D, D)
    n : int
        Rows, a multiple of `LANES`.
    """
    n_dim = first.shape[0]
    for top in range(0, n_dim, HEIGHT):
        height = min(HEIGHT, n_dim - top)
        for left in range(0, top, HEIGHT):
            if height == 1:
                _inner1(y, stride, top, left, r, second, n_dim, n)
            elif height == 2:
                _inner2(y, stride, top, left, r, second, n_dim, n)
            elif height == 3:
                _inner3(y, stride, top, left, r, second, n_dim, n)
            else:
                _inner4(y, stride, top, left, r, second, n_dim, n)
        if height == 1:
            _corner1(y, stride, top, r, count, first, second, n_dim, n)
        elif height == 2:
            _corner2(y, stride, top, r, count, first, second, n_dim, n)
        elif height == 3:
            _corner3(y, stride, top, r, count, first, second, n_dim, n)
        else:
            _corner4(y, stride, top, r, count, first, second, n_dim, n)
