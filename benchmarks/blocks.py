"""Rows in blocks: the mode of rows on a disk, and what a gradient costs a cluster."""

import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.large import _held, _peak
from benchmarks.runs import Job, Result
from benchmarks.timing import duration

STORED = (1_000_000, 10_000_000, 100_000_000)
"""Rows of two features that are read from a disk."""
BLOCK = 1_000_000
"""Rows of a block."""
CLUSTERS = ((1, 200_000, 2, 3), (2, 200_000, 2, 3), (2, 2_000_000, 2, 3), (2, 200_000, 10, 8))
"""Workers, rows, features, components."""


def jobs(quick: bool) -> list[Job]:
    """Return a job per number of rows on the disk, and per cluster."""
    stored = (20_000,) if quick else STORED
    clusters = ((2, 2000, 2, 3),) if quick else CLUSTERS
    return [
        *(Job(f"stored {n:,}", "blocks:stored", {"n": n}, 3600.0) for n in stored),
        *(
            Job(
                f"cluster {workers}, {n:,}, {d}, {k}", "blocks:cluster",
                {"workers": workers, "n": n, "d": d, "k": k}, 300.0,
            )
            for workers, n, d, k in clusters
        ),
    ]  # fmt: skip


def _write(path: Path, n: int) -> None:
    """Write simulated rows to a Zarr store, uncompressed, block by block."""
    import zarr

    from benchmarks.cases import many_rows

    block = many_rows(min(n, BLOCK), 2, 3)
    store = zarr.create_array(
        path, shape=(n, 2), chunks=(len(block), 2), dtype="f8", compressors=None
    )
    for start in range(0, n, len(block)):  # the same rows, a hair apart
        store[start : start + len(block)] = block * (1.0 + 1e-9 * start / n)


def stored(n: int) -> dict[str, Any]:
    """Return seconds and bytes of the search for the mode of rows on a disk."""
    import bayesgmm as bg
    from bayesgmm.inference.blocks import Away
    from benchmarks.cases import many_rows

    settings: dict[str, Any] = {"method": "map", "random_seed": 1, "progressbar": False}
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCHMARK_FOLDER")) as folder:
        path = Path(folder, "rows.zarr")
        _write(path, n)
        import dask.array

        bg.fit(dask.array.from_array(many_rows(1000, 2, 3)), 3, **settings)  # kernels are loaded
        passes, total = [0], Away._total

        def counted(self: Away, task: Any, argument: Any) -> Any:
            passes[0] += 1
            return total(self, task, argument)

        Away._total = counted  # type: ignore[method-assign]
        before, began = _held(), time.perf_counter()
        tree = bg.fit(path, 3, **settings)
        seconds = time.perf_counter() - began
    ok = bg.check(tree).ok
    return {
        "seconds": seconds, "bytes": _peak() - before, "data": 16 * n, "ok": ok,
        "passes": passes[0],
    }  # fmt: skip


def cluster(workers: int, n: int, d: int, k: int) -> dict[str, Any]:
    """Return seconds and bytes of a gradient on a cluster of this machine."""
    import dask.array
    import numpy as np
    import psutil
    from distributed import Client, LocalCluster

    import bayesgmm as bg
    from bayesgmm.inference.blocks import Away
    from benchmarks.cases import many_rows

    X = dask.array.from_array(many_rows(n, d, k), chunks=(n // (4 * workers), d))
    settings: dict[str, Any] = {"method": "map", "random_seed": 1, "progressbar": False}
    held: list[Away] = []
    densities = Away.densities

    def remembered(self: Away, vectors: Any) -> Any:
        held[:] = [self]
        return densities(self, vectors)

    Away.densities = remembered  # type: ignore[method-assign]
    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as local,
        Client(local),
    ):
        began = time.perf_counter()
        tree = bg.fit(X, k, **settings)
        fitted = time.perf_counter() - began
        vector = np.zeros((1, int(tree.attrs["n_parameters"])))
        loopback = next(name for name in psutil.net_io_counters(pernic=True) if name[:2] == "lo")
        densities(held[0], vector)
        seconds, sent = [], psutil.net_io_counters(pernic=True)[loopback].bytes_sent
        for _ in range(50):
            began = time.perf_counter()
            densities(held[0], vector)
            seconds.append(time.perf_counter() - began)
        sent = psutil.net_io_counters(pernic=True)[loopback].bytes_sent - sent
    return {
        "best": min(seconds), "median": float(np.median(seconds)), "bytes": sent / 50,
        "fit": fitted, "packed": len(held[0].packed), "parameters": vector.size,
    }  # fmt: skip


def report(results: Mapping[str, Result], quick: bool) -> str:
    """Return the section of the page."""
    parts: dict[str, list[str]] = {"stored": [], "cluster": []}
    for name, result in results.items():
        kind, what = name.split(" ", 1)
        line = _stored_line if kind == "stored" else _cluster_line
        told = line(result) if result else f"not measured: {result.missing} | | | |"
        parts[kind].append(f"| {what} | {told}")
    return f"""
## Rows in blocks

The mode (`method="map"`, 20 starts) of rows of two features in a Zarr store, uncompressed, in
blocks of a million; memory is what the process took on top of what it held before. Up to 256 MiB
of rows are kept in memory, more are read in every pass.

| rows | seconds | passes over the disk | memory, MiB | data, MiB | check |
|---|---|---|---|---|---|
{chr(10).join(parts["stored"])}

![Seconds of the search for the mode against the number of rows](images/performance-blocks.svg)

A gradient on a cluster of processes on this machine, one thread each; bytes are all that crossed
the loopback interface, there and back.

| workers, N, D, K | best | median | bytes | packed blocks | parameters |
|---|---|---|---|---|---|
{chr(10).join(parts["cluster"])}
"""


def plots(results: Mapping[str, Result], folder: Path) -> None:
    """Draw the time of the search for the mode against the number of rows on the disk."""
    from benchmarks.drawing import axes, save

    seconds = {
        int(name.removeprefix("stored ").replace(",", "")): result["seconds"]
        for name, result in results.items()
        if result and name.startswith("stored ")
    }
    figure, axis = axes()
    axis.set(xlabel="rows", ylabel="seconds to the mode")
    if seconds:
        n = list(seconds)
        axis.loglog(n, list(seconds.values()), "o-", label="from a Zarr store")
        most = seconds[n[-1]]
        axis.loglog(n, [most * x / n[-1] for x in n], ":", color="0.6", label="in proportion to N")
        axis.legend(frameon=False)
    save(figure, folder / "performance-blocks.svg")


def _stored_line(result: Result) -> str:
    ok = "trustworthy" if result["ok"] else "doubtful"
    return (
        f"{duration(result['seconds'])} | {result['passes']} | {result['bytes'] / 2**20:.0f} | "
        f"{result['data'] / 2**20:.0f} | {ok} |"
    )


def _cluster_line(result: Result) -> str:
    return (
        f"{duration(result['best'])} | {duration(result['median'])} | {result['bytes']:,.0f} | "
        f"{result['packed']} | {result['parameters']} |"
    )
