"""Run the benchmarks and write what they measured to benchmarks/results.md."""

import argparse
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks import kernel, old_faithful, whitening

SECTIONS = {
    "old_faithful": old_faithful.report,
    "whitening": whitening.report,
    "kernel": kernel.report,
}
RESULTS = Path(__file__).parent / "results.md"
PACKAGES = ("numpy", "numba", "pymc", "pytensor", "nutpie", "arviz-stats", "scikit-learn")


def machine() -> str:
    """Return what the figures were measured on."""
    model = platform.processor() or platform.machine()
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), model)
    cores = subprocess.run(
        [sys.executable, "-c", "import os; print(os.cpu_count())"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {model}, {cores} cores, {platform.system()}, "
        f"Python {platform.python_version()}, {packages}."
    )


def main() -> None:
    """Run the chosen sections, print them, and keep them if all were run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS)}; all by default")
    chosen = parser.parse_args().sections or list(SECTIONS)
    unknown = [name for name in chosen if name not in SECTIONS]
    if unknown:
        parser.error(f"unknown section {unknown[0]!r}; choose from {', '.join(SECTIONS)}")
    parts = [f"# Measured\n\nMade by `make bench`. {machine()}\n"]
    parts += [SECTIONS[name]() for name in chosen]
    text = "\n".join(parts)
    sys.stdout.write(text)
    if chosen == list(SECTIONS):
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
