"""Timing helpers: medians of runs that take turns, so that a drifting machine cancels."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence


def process_seconds(
    code: str, runs: int, environment: Mapping[str, str] | None = None
) -> list[float]:
    """Return the wall seconds of whole Python processes that run `code`."""
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            env={**os.environ, **(environment or {})},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        seconds.append(time.perf_counter() - start)
    return seconds


def output(code: str, environment: Mapping[str, str] | None = None) -> str:
    """Return what a Python process prints last."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    return done.stdout.strip().splitlines()[-1]


def in_turn(functions: Sequence[Callable[[], object]], seconds: float = 1.0) -> list[float]:
    """Return the median seconds of a call of each function, called in turn for some time."""
    times: list[list[float]] = [[] for _ in functions]
    for function in functions:
        function()
    stop = time.perf_counter() + seconds * len(functions)
    while time.perf_counter() < stop or len(times[0]) < 5:
        for function, kept in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            kept.append(time.perf_counter() - start)
    return [statistics.median(kept) for kept in times]


def shown(values: Sequence[float]) -> str:
    """Return median and range as they are printed."""
    return f"{statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})"
