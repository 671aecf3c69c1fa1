"""Many rows: time and memory of the modes, cost of a draw; and many fits of the same rows."""

import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.runs import Job, Result
from benchmarks.timing import duration

MODES = ((1_000_000, 2, 3), (100_000, 10, 8))
DRAWN = {1000: 400, 10_000: 400, 100_000: 100, 1_000_000: 40}
"""Draws of each of two chains, by rows; as many for tuning."""
MOST = 8
"""Components that the sweep goes up to."""
SWEPT = ("Old Faithful", "1,000, 2, 3")


def jobs(quick: bool) -> list[Job]:
    """Return a job per mode, per number of rows, and per sweep."""
    modes = [(20_000, 2, 3)] if quick else MODES
    drawn = {1000: 20, 10_000: 20} if quick else DRAWN
    return [
        *(
            Job(f"mode {n:,}, {d}, {k}", "large:mode", {"n": n, "d": d, "k": k})
            for n, d, k in modes
        ),
        *(
            Job(f"draws {n}", "large:draws", {"n": n, "draws": number}, 300.0)
            for n, number in drawn.items()
        ),
        *(
            Job(f"sweep {case}", "large:sweep", {"case": case, "most": 2 if quick else MOST}, 300.0)
            for case in (SWEPT[:1] if quick else SWEPT)
        ),
    ]


def _peak() -> int:
    """Return the most bytes that this process has held."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _held() -> int:
    """Return the bytes that this process holds, or has held at most where that is not told."""
    table = Path("/proc/self/statm")
    if not table.exists():
        return _peak()
    return int(table.read_text(encoding="utf-8").split()[1]) * resource.getpagesize()


def mode(n: int, d: int, k: int) -> dict[str, Any]:
    """Return seconds and bytes of the search for the mode, once kernels are loaded."""
    import bayesgmm as bg
    from benchmarks.cases import many_rows

    bg.fit(many_rows(1000, d, k), k, method="map", random_seed=1, progressbar=False)
    X = many_rows(n, d, k)
    before, began = _held(), time.perf_counter()
    tree = bg.fit(X, k, method="map", random_seed=1, progressbar=False)
    seconds = time.perf_counter() - began
    report = bg.check(tree)
    return {"seconds": seconds, "bytes": _peak() - before, "data": X.nbytes, "ok": report.ok}


def draws(n: int, draws: int) -> dict[str, Any]:
    """Return what a draw of NUTS costs with n rows of two features, three components."""
    import bayesgmm as bg
    from benchmarks.cases import many_rows

    settings = {"chains": 2, "random_seed": 1, "progressbar": False}
    bg.fit(many_rows(1000, 2, 3), 3, draws=20, tune=20, **settings)
    X = many_rows(n, 2, 3)
    before, began = _held(), time.perf_counter()
    tree = bg.fit(X, 3, draws=draws, tune=draws, **settings)
    return {
        "draw": tree.attrs["sampling_time"] / (2 * draws),
        "gradients": float(tree.sample_stats["n_steps"].mean()),
        "preparing": tree.attrs["tuning_time"],
        "all": time.perf_counter() - began,
        "bytes": _peak() - before,
        "data": X.nbytes,
        "log likelihood": 2 * draws * n * 8 if "log_likelihood" in tree.children else 0,
    }


def sweep(case: str, most: int) -> dict[str, float]:
    """Return the seconds of a sweep, and of its fits one by one."""
    import bayesgmm as bg
    from benchmarks.cases import load

    X, settings = load(case).X, {"random_seed": 1, "progressbar": False}
    bg.select(X, range(1, 3), draws=50, **settings)
    began = time.perf_counter()
    selection = bg.select(X, range(1, most + 1), **settings)
    swept = time.perf_counter() - began
    began = time.perf_counter()
    trees = [bg.fit(X, k, **settings) for k in range(1, most + 1)]
    fitted = time.perf_counter() - began
    return {
        "sweep": swept,
        "fits": fitted,
        "sampling": sum(tree.attrs["sampling_time"] for tree in trees),
        "preparing": sum(tree.attrs["tuning_time"] for tree in trees),
        "best": int(selection.best[0]),
    }


def headline(results: Mapping[str, Result]) -> str:
    """Return the section in a sentence."""
    told = [
        f"the mode of ({name.removeprefix('mode ')}) in {duration(result['seconds'])}"
        for name, result in results.items()
        if name.startswith("mode") and result
    ]
    told += [
        f"K = 1 to {MOST} on {name.removeprefix('sweep ')} in {duration(result['sweep'])}"
        for name, result in results.items()
        if name.startswith("sweep") and result
    ]
    return f"**Many rows, many fits**: {'; '.join(told) or 'not measured'}."


def report(results: Mapping[str, Result], quick: bool) -> str:
    """Return the section of the page."""
    parts = {"mode": [], "draws": [], "sweep": []}  # type: dict[str, list[str]]
    lines = {"mode": _mode_line, "draws": _draws_line, "sweep": _sweep_line}
    for name, result in results.items():
        kind, what = name.split(" ", 1)
        told = lines[kind](result) if result else f"not measured: {result.missing} | | | | |"
        parts[kind].append(f"| {what} | {told}")
    return f"""
## Many rows

The mode (`method="map"`, 20 starts), kernels loaded; memory is what the process took on top of what
it held, the data among it, before the call:

| N, D, K | seconds | memory, of the data's size | check |
|---|---|---|---|
{chr(10).join(parts["mode"])}

NUTS, D = 2, K = 3, two chains side by side on two cores; short runs, tuning counted with the draws.
Memory leaves out the pointwise log-likelihood where it is stored.

| N | per draw | gradients a draw | finding and whitening the modes | 1,000 draws after 100 tuning would take | memory, of the data's size |
|---|---|---|---|---|---|
{chr(10).join(parts["draws"])}

![Seconds per draw against the number of rows](images/performance-rows.svg)

## Many fits

`select` over K = 1 to {2 if quick else MOST}, four chains of 1,000 draws each, with checks, LOO,
evidence and criteria of all; against the same fits one by one, and what the samplers in them took.

| data | the sweep | sampling alone, added up | ratio | searching modes, added up | the fits one by one |
|---|---|---|---|---|---|
{chr(10).join(parts["sweep"])}
"""  # noqa: E501


def _mode_line(result: Result) -> str:
    ok = "trustworthy" if result["ok"] else "doubtful"
    return f"{duration(result['seconds'])} | {result['bytes'] / result['data']:.1f} | {ok} |"


def _draws_line(result: Result) -> str:
    extra = (result["bytes"] - result["log likelihood"]) / result["data"]
    whole = result["preparing"] + 1100 * result["draw"]
    return (
        f"{duration(result['draw'])} | {result['gradients']:.1f} | "
        f"{duration(result['preparing'])} | {duration(whole)} | {max(extra, 0.0):.1f} |"
    )


def _sweep_line(result: Result) -> str:
    return (
        f"{duration(result['sweep'])} | {duration(result['sampling'])} | "
        f"{result['sweep'] / result['sampling']:.2f} | {duration(result['preparing'])} | "
        f"{duration(result['fits'])} |"
    )


def plots(results: Mapping[str, Result], folder: Path) -> None:
    """Draw the cost of a draw against the number of rows."""
    from benchmarks.drawing import axes, save

    found = {
        int(name.split()[1]): result["draw"]
        for name, result in results.items()
        if name.startswith("draws") and result
    }
    figure, axis = axes()
    axis.set(xlabel="rows", ylabel="seconds per draw")
    if found:
        rows, seconds = list(found), list(found.values())
        axis.loglog(rows, seconds, "o-", label="measured")
        line = [seconds[-1] * n / rows[-1] for n in rows]
        axis.loglog(rows, line, "--", color="0.6", label="in proportion to N")
        axis.legend(frameon=False)
    save(figure, folder / "performance-rows.svg")
