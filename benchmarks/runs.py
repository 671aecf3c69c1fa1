"""Jobs: each in a process of its own, with a time limit, and its result kept as JSON."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
ONE_THREAD = dict.fromkeys(THREADS, "1")


class NotMeasured(Exception):
    """Why a peer could not be measured."""


@dataclass(frozen=True)
class Job:
    """A function, as "module:function" in this package, and what it is called with.

    `{folder}` in a value of the environment stands for a new, empty folder.
    """

    name: str
    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    limit: float = 120.0  # seconds
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What the function returned, or why there is nothing; seconds and bytes of its process."""

    value: Any
    missing: str | None
    seconds: float
    peak: int
    made: str

    def __getitem__(self, key: str) -> Any:
        return self.value[key]

    def __bool__(self) -> bool:
        return self.missing is None


def _environment(job: Job, empty: Path) -> dict[str, str]:
    """Return the variables of a job's process: Python's bytecode is kept, as it is by default."""
    found = {name: v.replace("{folder}", str(empty)) for name, v in job.environment.items()}
    kept = {name: v for name, v in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | found


def run(job: Job) -> Result:
    """Run a job in a process of its own and return its result."""
    with tempfile.TemporaryDirectory() as folder:
        answer, errors, empty = (Path(folder, name) for name in ("answer", "errors", "empty"))
        arguments = [job.function, json.dumps(dict(job.arguments)), str(answer)]
        empty.mkdir()
        with errors.open("wb") as stream:
            began = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "benchmarks.runs", *arguments],
                cwd=ROOT,
                env=_environment(job, empty),
                stdout=subprocess.DEVNULL,
                stderr=stream,
                start_new_session=True,  # so that the limit stops what it started, too
            )
            timer = threading.Timer(job.limit, _stop, [process.pid])
            timer.start()
            try:
                _, status, usage = os.wait4(process.pid, 0)
            except KeyboardInterrupt:
                _stop(process.pid)
                raise
            finally:
                timer.cancel()
            seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        value, missing = None, None
        if answer.exists():
            value, missing = json.loads(answer.read_text(encoding="utf-8"))
        elif seconds >= job.limit:
            missing = f"stopped after {job.limit:.0f} s"
        else:
            lines = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            missing = f"failed: {lines[-1] if lines else process.returncode}"
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Result(value, missing, seconds, peak, time.strftime("%Y-%m-%d %H:%M"))


def _stop(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


class Store:
    """A folder with the result of every job, by section."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, section: str, name: str) -> Path:
        safe = "".join(c if c.isalnum() or c in "-." else "_" for c in name)
        return self.folder / section / f"{safe}.json"

    def read(self, section: str, name: str) -> Result | None:
        """Return a result that was kept, or None."""
        path = self._path(section, name)
        return Result(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None

    def keep(self, section: str, name: str, result: Result) -> None:
        """Keep a result."""
        path = self._path(section, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(result)), encoding="utf-8")


def main() -> None:
    """Call the function that a job names and write its answer: what `run` starts."""
    function, arguments, path = sys.argv[1:]
    module, name = function.split(":")
    value, missing = None, None
    try:
        value = getattr(import_module(f"benchmarks.{module}"), name)(**json.loads(arguments))
    except NotMeasured as reason:
        missing = str(reason)
    except ModuleNotFoundError as error:
        missing = f"{error.name} is not installed"
    Path(path).write_text(json.dumps([value, missing]), encoding="utf-8")


if __name__ == "__main__":
    # under its own name, so that `NotMeasured` is the class that the jobs raise
    import_module("benchmarks.runs").main()
