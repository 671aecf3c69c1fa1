"""The page of the documentation that says what was measured, and on what."""

import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

from benchmarks.runs import Result

PACKAGES = (
    "numpy", "numba", "pymc", "pytensor", "nutpie", "arviz-stats", "scikit-learn", "numpyro",
    "jax", "blackjax", "pystan",
)  # fmt: skip


def machine() -> str:
    """Return what the figures were measured on."""
    model = platform.processor() or platform.machine()
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), model)
    return (
        f"{model}, {os.cpu_count()} cores, {platform.system()}, Python "
        f"{platform.python_version()}, {', '.join(_packages())}"
    )


def _packages() -> list[str]:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    return found


def write(
    folder: Path,
    modules: Mapping[str, ModuleType],
    results: Mapping[str, Mapping[str, Result]],
    quick: bool,
) -> Path:
    """Write the page and its figures into a folder; return the page's path."""
    times = sorted(result.made for section in results.values() for result in section.values())
    spent = sum(result.seconds for section in results.values() for result in section.values())
    headlines = [m.headline(results[n]) for n, m in modules.items() if hasattr(m, "headline")]
    parts = [
        f"""# Performance

{chr(10).join(f"- {line}" for line in headlines)}

Made by `make bench` from {times[0]} to {times[-1]}, {spent / 60:.0f} minutes of work, on
{machine()}.
Every job ran in a process of its own, one after the other; calls that are compared took turns in
one process.
"""
    ]
    for name, module in modules.items():
        parts.append(module.report(results[name], quick))
        if hasattr(module, "plots"):
            module.plots(results[name], folder / "images")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "performance.md"
    path.write_text("\n".join(parts), encoding="utf-8")
    return path
