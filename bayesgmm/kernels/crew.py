"""Boards on which threads find the parts of a job.

A pass is the sum of its parts. Its caller, the master, posts a job of some parts on a *board* and
sets to work on them; idle threads that watch the board claim parts as well. The master never waits
for a part that nobody has claimed, and adds up the results in the order of the parts, so that the
result does not depend on who helped.

A board is some entries of an array of int64. Its *ticket* holds the number of the job and how many
of its parts are left in one word, claimed by compare-and-swap: a thread that slept through a job
cannot claim a part of the next one by mistake.
"""

from typing import Final

import numpy as np
from llvmlite import ir
from numba import carray, types
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import callback, kernel, linked
from bayesgmm.kernels.lanes import INTEGER, Builder, Value, compiled, integer, integers_at

type Boards = NDArray[np.int64]

N_BOARDS: Final = 16

# Places on a board, a cache line apart, and its states
TICKET: Final = 0
DONE: Final = 8
JOB: Final = 16
STATE: Final = 24
BOARD: Final = 32
SHUT, OPEN, TAKEN = 0, 1, 2

MOST_PARTS: Final = 1 << 20
"""More than any job has."""

_ORDER: Final = "seq_cst"


def _read(builder: Builder, boards: Value, place: Value) -> Value:
    return builder.load_atomic(builder.gep(boards, [place]), _ORDER, 8)


def _write(builder: Builder, boards: Value, place: Value, value: Value) -> None:
    builder.store_atomic(value, builder.gep(boards, [place]), _ORDER, 8)


def _increase(builder: Builder, boards: Value, place: Value) -> None:
    builder.atomic_rmw("add", builder.gep(boards, [place]), integer(1), _ORDER)


def _swap(builder: Builder, boards: Value, place: Value, old: Value, new: Value) -> Value:
    pair = builder.cmpxchg(builder.gep(boards, [place]), old, new, _ORDER, _ORDER)
    return builder.extract_value(pair, 1)


def _address(builder: Builder) -> Value:
    """Return where the boards of this process are: a variable of the function that asks."""
    kind = ir.ArrayType(INTEGER, N_BOARDS * BOARD)
    boards = ir.GlobalVariable(builder.module, kind, "bayesgmm_board_entries")
    boards.linkage, boards.initializer, boards.align = "internal", ir.Constant(kind, None), 64
    return builder.ptrtoint(boards, INTEGER)


read = compiled(_read, types.int64)
write = compiled(_write)
increase = compiled(_increase)
swap = compiled(_swap, types.boolean)
_boards = compiled(_address, types.int64)


@callback(types.int64())
def boards_c() -> int:
    """Return the address of the boards, the same whoever asks."""
    return _boards()


boards_x: Final = linked("boards", boards_c, types.int64())


@kernel
def take_board(boards: Boards) -> int:
    """Take an open board, and return where it begins; -1 if there is none."""
    for board in range(0, boards.size, BOARD):
        if swap(boards, board + STATE, OPEN, TAKEN):
            return board
    return -1


@kernel
def post(boards: Boards, board: int, job: int, n_parts: int) -> None:
    """Put up a job, the address of what describes it, for all to see."""
    write(boards, board + DONE, 0)
    write(boards, board + JOB, job)
    number = read(boards, board + TICKET) // MOST_PARTS + 1
    write(boards, board + TICKET, number * MOST_PARTS + n_parts)


@kernel
def claim(boards: Boards, board: int) -> int:
    """Return a part of the job that is now one's own to do, or -1 if none is left."""
    while True:
        ticket = read(boards, board + TICKET)
        left = ticket % MOST_PARTS
        if left == 0:
            return -1
        if swap(boards, board + TICKET, ticket, ticket - 1):
            return left - 1


@kernel
def change_state(board: int, old: int, new: int) -> bool:
    """Change the state of a board, if it is as expected; return whether it was."""
    return swap(carray(integers_at(boards_x()), N_BOARDS * BOARD), board + STATE, old, new)
