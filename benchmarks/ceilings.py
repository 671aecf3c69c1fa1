"""What the machine can do: products of matrices, exponentials, memory."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.cases import SIMULATED
from benchmarks.runs import ONE_THREAD, Job, Result
from benchmarks.timing import in_turn

ORDER = 1536
BLOCK = 256
"""Rows of a block that stays in cache."""
SHAPES = tuple(name for name in SIMULATED if name != "200, 2, 2")
GIB = 2**30


def jobs(quick: bool) -> list[Job]:
    """Return a job for one thread, and one for as many as BLAS takes."""
    quickly = {"quick": quick}
    return [
        Job("one thread", "ceilings:measure", quickly, environment=ONE_THREAD),
        Job("all threads", "ceilings:measure", quickly),
    ]


def features(d: int) -> int:
    """Return Q, the number of features of a row whose products with K vectors are a pass."""
    return 1 + d + d * (d + 1) // 2


def large_product(order: int = ORDER) -> Callable[[], object]:
    """Return a product of two large matrices: 2 order**3 operations."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, order, order))
    out = np.empty((order, order))
    return lambda: np.matmul(a, b, out=out)


def exponentials(n: int, ours: bool = True) -> Callable[[], object]:
    """Return the exponentials of n numbers that stay in cache."""
    x = -10.0 * np.random.default_rng(1).random(n)
    out = np.empty(n)
    if not ours:
        return lambda: np.exp(x, out=out)
    from numba import njit

    from bayesgmm.kernels.elementary import exp_nonpositive

    @njit(error_model="numpy", fastmath={"contract"})
    def fill(x, out):  # type: ignore[no-untyped-def]
        for i in range(x.shape[0]):
            out[i] = exp_nonpositive(x[i])

    return lambda: fill(x, out)


def measure(quick: bool) -> dict[str, Any]:
    """Return rates in operations, exponentials and bytes per second."""
    seconds = 0.2 if quick else 1.0
    order = 512 if quick else ORDER
    threads = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
    rates: dict[str, Any] = {"threads": threads}
    (product,) = in_turn([large_product(order)], seconds)
    rates["large product"] = 2.0 * order**3 / product
    rates["small products"] = {name: _small_products(name, seconds) for name in SHAPES}
    n = 4096
    ours, numpy = in_turn([exponentials(n), exponentials(n, ours=False)], seconds)
    rates["exp, ours"], rates["exp, NumPy"] = n / ours, n / numpy
    n = 2**23 if quick else 2**25
    (copied,) = in_turn([copies(n, threads)], seconds)
    rates["memory"] = 16.0 * n / copied
    return rates


def _small_products(name: str, seconds: float) -> float:
    """Return the rate of the two products of a pass by features, block by block."""
    _, d, k = (int(number.replace(",", "")) for number in name.split(", "))
    rng = np.random.default_rng(1)
    phi = rng.normal(size=(32, BLOCK, features(d)))
    theta, shares = rng.normal(size=(features(d), k)), rng.random((32, k, BLOCK))
    lp, moments = np.empty((32, BLOCK, k)), np.empty((32, k, features(d)))

    def both() -> None:
        np.matmul(phi, theta, out=lp)
        np.matmul(shares, phi, out=moments)

    (spent,) = in_turn([both], seconds)
    return 4.0 * phi.size * k / spent


def copies(n: int, threads: int = 1) -> Callable[[], object]:
    """Return a copy of n numbers, too many for the caches: 16 n bytes read and written."""
    source, target = np.ones(n), np.empty(n)
    if threads == 1:
        return lambda: np.copyto(target, source)
    parts = [slice(n * i // threads, n * (i + 1) // threads) for i in range(threads)]
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(lambda part: np.copyto(target[part], source[part]), parts))


def report(results: Mapping[str, Result], quick: bool) -> str:
    """Return the section of the page."""
    one, all_ = results["one thread"], results["all threads"]
    if not (one and all_):
        return f"\n## The machine\n\nNot measured: {one.missing or all_.missing}.\n"
    lines = [
        f"| {label} | {one[key] / unit:,.1f} | {all_[key] / unit:,.1f} | {name} |"
        for label, key, unit, name in (
            ("large product of matrices", "large product", 1e9, "GFLOP/s"),
            ("exponentials, as the kernels compute them", "exp, ours", 1e9, "billions per second"),
            ("exponentials, NumPy", "exp, NumPy", 1e9, "billions per second"),
            ("memory, read and written", "memory", GIB, "GiB/s"),
        )
    ]
    for name in reversed(SHAPES):
        label = f"products of a pass at (N, D, K) = ({name}), by BLAS, {BLOCK} rows at a time"
        small = "small products"
        rate = f"{one[small][name] / 1e9:,.1f} | {all_[small][name] / 1e9:,.1f}"
        lines.insert(1, f"| {label} | {rate} | GFLOP/s |")
    return f"""
## The machine

What a pass could reach at best.

| | one thread | {all_["threads"]} threads | |
|---|---|---|---|
{chr(10).join(lines)}

Exponentials are computed by one thread in either column.
"""
