"""Work that can be done draw by draw, spread over the cores of the machine."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise


def n_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux: a container may allow fewer than there are
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def over_draws(task: Callable[[slice], None], n_draws: int) -> None:
    """Do a task for all draws, a thread per core, each with draws of its own.

    Parameters
    ----------
    task : callable
        Given a slice of the draws, does them; what it calls must be free of the interpreter's
        lock, as kernels are, and write to these draws alone.
    n_draws : int
    """
    n_threads = max(1, min(n_cores(), n_draws))
    bounds = [n_draws * i // n_threads for i in range(n_threads + 1)]
    parts = [slice(*pair) for pair in pairwise(bounds)]
    if n_threads == 1:
        task(parts[0])
        return
    with ThreadPoolExecutor(n_threads) as pool:
        for done in [pool.submit(task, part) for part in parts]:
            done.result()
