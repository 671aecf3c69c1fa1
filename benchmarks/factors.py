"""Mixtures of factor analysers: what a gradient costs as features become many, and a fit."""

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.runs import ONE_THREAD, Job, Result
from benchmarks.timing import duration

FEATURES = (10, 25, 50, 100, 200, 400)
DENSE = 100
"""Features up to which whole covariance matrices are timed beside."""
ROWS, COMPONENTS, FACTORS = 2000, 3, 3
FITTED = 200


def jobs(quick: bool) -> list[Job]:
    """Return a job per number of features, and a fit, one thread each."""
    features, rows, fitted = ((10, 25), 200, 25) if quick else (FEATURES, ROWS, FITTED)
    seconds = 0.2 if quick else 2.0
    return [
        *(
            Job(f"gradient {d}", "factors:gradient", {"n": rows, "d": d, "seconds": seconds},
                240.0, ONE_THREAD)
            for d in features
        ),
        Job(f"fit {fitted}", "factors:fit", {"n": rows, "d": fitted}, 240.0, ONE_THREAD),
    ]  # fmt: skip


def rows_of(n: int, d: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return simulated rows (n, d) of factor analysers, and the true loadings (K, d, q)."""
    rng = np.random.default_rng(2)
    means = 3.0 * rng.normal(size=(COMPONENTS, d))
    loadings = rng.normal(size=(COMPONENTS, d, FACTORS))
    noise = rng.uniform(0.3, 0.6, (COMPONENTS, d))
    labels = rng.integers(COMPONENTS, size=n)
    X = means[labels] + np.einsum("ndq,nq->nd", loadings[labels], rng.normal(size=(n, FACTORS)))
    return X + noise[labels] * rng.normal(size=X.shape), loadings


def gradient(n: int, d: int, seconds: float) -> dict[str, Any]:
    """Return the least seconds of a log posterior with its gradient, and the free parameters."""
    import bayesgmm as bg
    from bayesgmm.data import prepare
    from bayesgmm.kernels.target import log_target
    from bayesgmm.problem import Problem

    data = prepare(rows_of(n, d)[0])
    found: dict[str, Any] = {}
    for name, covariance in (
        ("factors", bg.FactorCovariance(FACTORS)), ("full", bg.LKJCovariance())
    )[: 1 + (d <= DENSE)]:  # fmt: skip
        problem = Problem.make(bg.GaussianMixture(COMPONENTS, covariance=covariance), data)
        vector = 0.1 * np.random.default_rng(1).normal(size=problem.n_parameters)
        call = partial(log_target, vector, problem.flat, np.empty_like(vector))
        found |= {name: _least(call, seconds), f"{name} parameters": vector.size}
    return found


def _least(function: Callable[[], object], seconds: float) -> float:
    """Return the least seconds of this thread that a call took: what others do is not in it."""
    function()
    times, stop = [], time.perf_counter() + seconds
    while time.perf_counter() < stop or len(times) < 5:
        began = time.thread_time()
        function()
        times.append(time.thread_time() - began)
    return min(times)


def fit(n: int, d: int) -> dict[str, Any]:
    """Return seconds of the search for the mode, and how far true loadings are from its own."""
    import bayesgmm as bg

    X, loadings = rows_of(n, d)
    spec = bg.GaussianMixture(COMPONENTS, covariance=bg.FactorCovariance(FACTORS))
    settings: dict[str, Any] = {"method": "map", "random_seed": 1, "progressbar": False}
    bg.fit(X[:100, :10], spec, **settings)  # kernels are loaded
    began = time.process_time()
    tree = bg.fit(X, spec, **settings)
    seconds = time.process_time() - began
    angles = [
        min(_angle(true, one) for one in tree["posterior"]["loadings"].values[0, 0])
        for true in loadings
    ]
    return {"seconds": seconds, "angles": angles, "ok": bg.check(tree).ok}


def _angle(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the largest angle between what two matrices' columns span, in degrees."""
    cosines = np.linalg.svd(np.linalg.qr(one)[0].T @ np.linalg.qr(other)[0])[1]
    return math.degrees(math.acos(min(1.0, cosines.min())))


def _seconds(results: Mapping[str, Result], name: str) -> dict[int, float]:
    """Return the seconds of a gradient by the number of features."""
    return {
        int(job.split()[1]): result[name]
        for job, result in results.items()
        if job.startswith("gradient") and result and name in result.value
    }


def _slope(seconds: Mapping[int, float]) -> float:
    """Return the power of D that seconds grow with, by least squares of logarithms."""
    return float(np.polyfit(np.log(list(seconds)), np.log(list(seconds.values())), 1)[0])


def report(results: Mapping[str, Result], quick: bool) -> str:
    """Return the section of the page."""
    lines, fitted = [], ""
    for name, result in results.items():
        kind, d = name.split()
        if kind == "fit":
            fitted = _fit_line(int(d), result)
        elif result:
            lines.append(f"| {d} | {_gradient_line(result)}")
        else:
            lines.append(f"| {d} | not measured: {result.missing} | | | |")
    told = " and ".join(
        f"D^{_slope(seconds):.2f} {what}"
        for name, what in (("factors", "with factors"), ("full", "with whole matrices"))
        if len(seconds := _seconds(results, name)) > 1
    )
    return f"""
## Many features: mixtures of factor analysers, one thread

The log posterior with its gradient at N = {200 if quick else ROWS:,}, K = {COMPONENTS}, {FACTORS}
factors, beside that of whole covariance matrices: the least time of the thread.

| D | factors | parameters | whole matrices | parameters |
|---|---|---|---|---|
{chr(10).join(lines)}

{f"Times grow as {told}." if told else "How times grow is not known."}

![Seconds of a gradient against the number of features](images/performance-factors.svg)

{fitted}
"""


def _gradient_line(result: Result) -> str:
    whole = "| |"
    if "full" in result.value:
        whole = f"{duration(result['full'])} | {result['full parameters']:,} |"
    return f"{duration(result['factors'])} | {result['factors parameters']:,} | {whole}"


def _fit_line(d: int, result: Result) -> str:
    if not result:
        return f"The mode of {d} features: not measured: {result.missing}."
    angles = ", ".join(f"{angle:.1f}" for angle in result["angles"])
    ok = "trustworthy" if result["ok"] else "doubtful"
    return (
        f'The mode of {d} features (`method="map"`, 20 starts) takes '
        f"{duration(result['seconds'])} of one core, and is {ok}; the largest angles between what "
        f"its loadings span and what the true ones do are {angles} degrees."
    )


def plots(results: Mapping[str, Result], folder: Path) -> None:
    """Draw the cost of a gradient against the number of features."""
    from benchmarks.drawing import axes, save

    figure, axis = axes()
    axis.set(xlabel="features", ylabel="seconds per gradient")
    for name, label, style in (
        ("factors", f"{FACTORS} factors", "o-"), ("full", "whole matrices", "s--")
    ):  # fmt: skip
        seconds = _seconds(results, name)
        if len(seconds) > 1:
            label = f"{label}: slope {_slope(seconds):.2f}"
            axis.loglog(list(seconds), list(seconds.values()), style, label=label)
    seconds = _seconds(results, "factors")
    if seconds:
        d = list(seconds)
        axis.loglog(d, [seconds[d[0]] * x / d[0] for x in d], ":", color="0.6",
                    label="in proportion to D")  # fmt: skip
        axis.set_xticks(d, map(str, d))
        axis.minorticks_off()
        axis.legend(frameon=False)
    save(figure, folder / "performance-factors.svg")
