"""Threads that help with the passes over many rows where cores would be idle."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from bayesgmm.kernels.cholesky import Layout
from bayesgmm.kernels.crew import BOARD, N_BOARDS, OPEN, SHUT, change_state
from bayesgmm.kernels.estep import lend_a_hand, n_parts
from bayesgmm.kernels.threads import n_cores
from bayesgmm.problem import Problem

NAP = 0.001
"""Seconds that a helper sleeps when there has been no work for a while."""


@contextmanager
def crew(problem: Problem, n_masters: int) -> Iterator[None]:
    """Let cores that are left over help those that make passes over the data.

    Parameters
    ----------
    problem : Problem
        Where its passes are too short to be worth dividing nothing is done.
    n_masters : int
        How many passes are made at the same time: one, or as many as there are chains.

    Notes
    -----
    Results do not depend on it, to the last bit.
    """
    with helpers(problem.layout, problem.data.n_obs, n_masters):
        yield


@contextmanager
def helpers(layout: Layout, n_rows: int, n_masters: int) -> Iterator[None]:
    """Do what `crew` does, for passes over so many rows."""
    n_helpers = n_cores() // n_masters - 1
    if n_helpers < 1 or n_parts(n_rows, layout.n_components, layout.n_features) == 1:
        yield
        return
    finished = Event()
    boards: list[int] = []
    threads: list[Thread] = []
    try:
        for board in range(0, N_BOARDS * BOARD, BOARD):
            if len(boards) < n_masters and change_state(board, SHUT, OPEN):
                boards.append(board)
        for board in boards:
            for _ in range(n_helpers):
                threads.append(Thread(target=_help, args=(board, finished), daemon=True))
                threads[-1].start()
        yield
    finally:
        for board in boards:
            while not change_state(board, OPEN, SHUT):  # a pass is being made
                time.sleep(NAP)
        finished.set()
        for thread in threads:
            thread.join()


def _help(board: int, finished: Event) -> None:
    """Watch a board until all is finished."""
    while not finished.is_set():
        lend_a_hand(board)
        finished.wait(NAP)
