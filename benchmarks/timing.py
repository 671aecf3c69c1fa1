"""Timing: medians of calls that take turns, so that a drifting machine cancels."""

import statistics
import time
from collections.abc import Callable, Sequence

BURST = 2e-3
"""Seconds that a function is called for before it is the next one's turn."""


def in_turn(
    functions: Sequence[Callable[[], object]], seconds: float = 1.0, fewest: int = 5
) -> list[float]:
    """Return the median seconds of a call of each function, called in turn for some time.

    Short calls are made in bursts, the mean of each counted, so that a function finds in the
    caches what it left there, not what the others did. `seconds` is per function; `fewest` bursts
    are made whatever they take.
    """
    lengths = []
    for function in functions:
        function()
        lengths.append(max(1, int(BURST / max(once(function), 1e-7))))
    times: list[list[float]] = [[] for _ in functions]
    stop = time.perf_counter() + seconds * len(functions)
    while time.perf_counter() < stop or len(times[0]) < fewest:
        for function, length, kept in zip(functions, lengths, times, strict=True):
            if length > 1:
                function()
            start = time.perf_counter()
            for _ in range(length):
                function()
            kept.append((time.perf_counter() - start) / length)
    return [statistics.median(kept) for kept in times]


def once(function: Callable[[], object]) -> float:
    """Return the seconds of a call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def middle(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def shown(values: Sequence[float]) -> str:
    """Return median and range as they are printed."""
    return f"{statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})"


def duration(seconds: float) -> str:
    """Return seconds in the unit that suits them."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} us" if seconds < 1e-4 else f"{seconds * 1e6:.0f} us"
    if seconds < 0.1:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
