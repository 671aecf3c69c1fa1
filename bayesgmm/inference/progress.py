"""A line that says how far long work has come."""

import sys
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from bayesgmm.kernels.compiled import telling

PATIENCE = 0.5
"""Seconds of work before anything is said."""
RATE, SLOW_RATE = 0.1, 10.0
"""Seconds between reports: where a line can be rewritten, and where each is a new one."""


class Progress:
    """One line on standard error, rewritten as work goes on; silent for short work.

    Meanwhile it is also what tells the user that kernels are compiled, should they have to be.

    Parameters
    ----------
    enabled : bool
    """

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled and sys.stderr is not None  # None: a program without a console
        self._start = self._last = time.perf_counter()
        self._width = 0
        self._telling = ExitStack()
        # A terminal and a notebook rewrite the line; a log file would keep every version of it.
        self._rewrites = self._enabled and (sys.stderr.isatty() or "ipykernel" in sys.modules)

    def __enter__(self) -> Self:
        self._telling.enter_context(telling(self.announce))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._telling.close()
        self._wipe()

    def _wipe(self) -> None:
        """Clear the line."""
        if self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()
            self._width = 0

    def announce(self, message: str) -> None:
        """Write a line of its own, at once."""
        if self._enabled:
            self._wipe()
            sys.stderr.write(f"{message}\n")
            sys.stderr.flush()

    def update(self, message: str) -> None:
        """Say how far the work has come, unless that was said a moment ago."""
        now = time.perf_counter()
        rate = RATE if self._rewrites else SLOW_RATE
        if not self._enabled or now - self._start < PATIENCE or now - self._last < rate:
            return
        self._last = now
        line = f"{message}, {now - self._start:.0f} s"
        if self._rewrites:
            sys.stderr.write("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()
