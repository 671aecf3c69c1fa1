"""Vectors of rows as LLVM sees them: what the innermost loops are built of.

Numba's loops become vector code by themselves, but keep few running sums in registers: the rest
goes through memory, row by row. The tiles of the pass hold many, so they are built here, one
instruction after the other. Every function takes the builder of the code that is being made.
"""

import inspect
from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic

type Builder = ir.IRBuilder
type Value = ir.Value

_FEATURES: Final = (
    get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
).split(",")

LANES: Final = 8 if "+avx512f" in _FEATURES else 4 if "+avx2" in _FEATURES else 2
"""Doubles in a vector register."""

MANY_REGISTERS: Final = "+avx512f" in _FEATURES or "+neon" in _FEATURES
"""Whether there are 32 vector registers, rather than 16."""

FLOAT: Final = ir.DoubleType()
INTEGER: Final = ir.IntType(64)
VECTOR: Final = ir.VectorType(FLOAT, LANES)
ZERO: Final = ir.Constant(VECTOR, [0.0] * LANES)


def integer(value: int) -> Value:
    """Return a constant index."""
    return ir.Constant(INTEGER, value)


def like(value: Value, number: float) -> Value:
    """Return a constant of the type of a value: a number, or a vector of it."""
    kind = value.type
    if isinstance(kind, ir.VectorType):
        return ir.Constant(kind, [number] * kind.count)
    return ir.Constant(kind, number)


def as_integers(builder: Builder, value: Value) -> Value:
    """Return the bits of a float, or of a vector of them, as integers."""
    kind = value.type
    vector = isinstance(kind, ir.VectorType)
    return builder.bitcast(value, ir.VectorType(INTEGER, kind.count) if vector else INTEGER)


def splat(builder: Builder, number: Value) -> Value:
    """Return a vector of one number, or integer."""
    undefined = ir.Constant(ir.VectorType(number.type, LANES), ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, undefined, zeros)


def plus(builder: Builder, index: Value, step: int) -> Value:
    """Return an index some steps further on."""
    return builder.add(index, integer(step))


class Table:
    """An array of rows in memory, and the instructions that read and write it.

    Parameters
    ----------
    builder : IRBuilder
    pointer : Value
        Where entry 0 of row 0 is.
    stride : Value
        Numbers from one row to the next.
    start : Value, optional
        What is added to all places within a row.
    """

    def __init__(
        self, builder: Builder, pointer: Value, stride: Value, start: Value | None = None
    ) -> None:
        self._builder, self._stride = builder, stride
        self._pointer = pointer if start is None else builder.gep(pointer, [start])

    def _at(self, row: Value, column: Value, kind: Any = FLOAT) -> Value:
        """Return the address of an entry."""
        builder = self._builder
        index = builder.add(builder.mul(row, self._stride), column)
        return builder.bitcast(builder.gep(self._pointer, [index]), kind.as_pointer())

    def load(self, row: Value, column: Value) -> Value:
        """Return the vector that starts at an entry."""
        return self._builder.load(self._at(row, column, VECTOR), align=8)

    def store(self, vector: Value, row: Value, column: Value) -> None:
        """Write a vector from an entry on."""
        self._builder.store(vector, self._at(row, column, VECTOR), align=8)

    def load_splat(self, row: Value, column: Value) -> Value:
        """Return a vector of one entry."""
        return splat(self._builder, self._builder.load(self._at(row, column)))

    def add(self, number: Value, row: Value, column: Value) -> None:
        """Add a number to an entry."""
        at = self._at(row, column)
        self._builder.store(self._builder.fadd(self._builder.load(at), number), at)


def multiply_add(builder: Builder, a: Value, b: Value, c: Value) -> Value:
    """Return a * b + c, in one instruction where the machine has it."""
    kind = c.type
    suffix = f"v{kind.count}f64" if isinstance(kind, ir.VectorType) else "f64"
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, [kind] * 3), f"llvm.fmuladd.{suffix}"
    )
    return builder.call(function, [a, b, c])


def add_lanes(builder: Builder, vector: Value) -> Value:
    """Return the sum of the lanes of a vector."""
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(FLOAT, [FLOAT, VECTOR]),
        f"llvm.vector.reduce.fadd.v{LANES}f64",
    )
    return builder.call(function, [ir.Constant(FLOAT, -0.0), vector], fastmath=("reassoc",))


class Sum:
    """A running sum, in a register for as long as the loops around it last."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder
        self._place = cgutils.alloca_once(builder, VECTOR)
        self.set(ZERO)

    def set(self, vector: Value) -> None:
        """Replace the sum."""
        self._builder.store(vector, self._place)

    def get(self) -> Value:
        """Return the sum."""
        return self._builder.load(self._place)

    def add(self, vector: Value) -> None:
        """Add a vector."""
        self.set(self._builder.fadd(self.get(), vector))

    def add_product(self, a: Value, b: Value) -> None:
        """Add the product of two vectors."""
        self.set(multiply_add(self._builder, a, b, self.get()))


def compiled(emit: Callable[..., Value | None], returns: Any = types.void) -> Any:
    """Return a function for kernels to call, whose code a function of its arguments emits.

    Parameters
    ----------
    emit : callable
        Called with the builder and the arguments: pointers to the first entry of arrays, and
        numbers. Returns the result, or None for nothing.
    returns : type of Numba's
    """

    def tile(typingctx: Any, *kinds: Any) -> Any:
        def codegen(context: Any, builder: Builder, signature: Any, values: Any) -> Any:
            arguments = [
                context.make_array(kind)(context, builder, value).data
                if isinstance(kind, types.Array)
                else value
                for kind, value in zip(signature.args, values, strict=True)
            ]
            result = emit(builder, *arguments)
            return context.get_dummy_value() if result is None else result

        return returns(*map(types.unliteral, kinds)), codegen

    # Numba matches calls to the signature that it sees: that of `emit`
    tile.__signature__ = inspect.signature(emit)  # type: ignore[attr-defined]
    return intrinsic(tile)


def _pointer_to(kind: Any) -> Any:
    """Return a function for kernels that makes an address a pointer."""
    pointer = ir.PointerType(FLOAT if kind is types.float64 else INTEGER)
    return compiled(
        lambda builder, address: builder.inttoptr(address, pointer), types.CPointer(kind)
    )


floats_at = _pointer_to(types.float64)
integers_at = _pointer_to(types.int64)


@intrinsic
def borrowed(typingctx: Any, array: Any) -> Any:
    """Return an array without a share in its memory, which makes views of it cost nothing.

    A view counts those who hold the memory, in two atomic instructions: as long as a small
    product takes. Who borrows keeps the array until the end, by `keep`.
    """

    def codegen(context: Any, builder: Builder, signature: Any, values: Any) -> Any:
        view = context.make_array(array)(context, builder, values[0])
        view.meminfo = ir.Constant(view.meminfo.type, None)
        view.parent = ir.Constant(view.parent.type, None)
        return view._getvalue()

    return array(array), codegen


@intrinsic
def keep(typingctx: Any, array: Any) -> Any:
    """Do nothing: an array lives until its last use, which this is."""
    return types.void(array), lambda context, *_: context.get_dummy_value()
