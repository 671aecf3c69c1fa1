"""An iteration of EM, full covariances, against scikit-learn's and mclust's."""

import json
import shutil
import statistics
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.runs import ONE_THREAD, Job, NotMeasured, Result
from benchmarks.timing import duration, in_turn

FEATURES, COMPONENTS, ROWS = (1, 2, 5, 10, 32, 64), (2, 4, 8, 16), (1000, 100_000)
THREADS = {"one thread": ONE_THREAD, "default threads": {}}
HEAVY = 1e8
"""Products of rows, squared features and components from which a few passes are enough."""
MCLUST = "mclust"


def jobs(quick: bool) -> list[Job]:
    """Return a job per number of rows and threads, and one for R."""
    rows = ROWS[:1] if quick else ROWS
    features, components = ((2, 10), (2, 8)) if quick else (FEATURES, COMPONENTS)
    grid = {"features": features, "components": components, "seconds": 0.02 if quick else 0.1}
    found = [
        Job(f"{n} {name}", "em:measure", {"n": n, "threads": name, **grid}, 400.0, environment)
        for n in rows
        for name, environment in THREADS.items()
    ]
    sizes = {"rows": rows, "features": features, "components": components}
    return [*found, Job(MCLUST, "em:measure_mclust", sizes, 400.0)]


def measure(
    n: int, threads: str, features: list[int], components: list[int], seconds: float
) -> dict[str, dict[str, float]]:
    """Return the seconds of an iteration of each at every size."""
    alone = threads == "one thread"
    return {f"{d} {k}": _cell(n, d, k, alone, seconds) for d in features for k in components}


def _cell(n: int, d: int, k: int, alone: bool, seconds: float) -> dict[str, float]:
    from benchmarks.cases import many_rows

    values = many_rows(n, d, k)
    passes = 3 if n * d**2 * k > HEAVY else 10
    if alone:
        calls = _ours(values, k, passes, alone), _sklearn(values, k)
        ours, peer = in_turn(calls, seconds, fewest=3)
    else:  # not in turn: BLAS lets its threads spin for a while after every product
        (ours,) = in_turn([_ours(values, k, passes, alone)], seconds, fewest=3)
        (peer,) = in_turn([_sklearn(values, k)], seconds, fewest=3)
    return {"ours": ours / passes, "scikit-learn": peer}


def _ours(values: NDArray[np.float64], k: int, n_passes: int, alone: bool) -> Callable[[], object]:
    """Return a call of some passes of EM from k-means; none is left out.

    With the weak conjugate penalty that keeps covariances from being singular: what scikit-learn
    has `reg_covar` for.
    """
    from bayesgmm.data import prepare
    from bayesgmm.inference.crew import crew
    from bayesgmm.kernels.mstep import run_em
    from bayesgmm.kernels.seeding import kmeans_labels, vector_from_labels
    from bayesgmm.mixture import GaussianMixture
    from bayesgmm.problem import Problem

    problem = Problem.make(GaussianMixture(k), prepare(values))
    penalty, none = problem.penalty(1.0), np.empty(0)
    uniforms = np.random.default_rng(1).random(k)
    labels = kmeans_labels(problem.rows, np.empty((0, 0)), none, uniforms, 1)
    _, start = vector_from_labels(problem.layout, penalty, problem.rows, none, labels)

    def passes() -> None:
        # tolerance -inf: every pass is made
        with nullcontext() if alone else crew(problem, 1):
            status, _, _ = run_em(
                problem.layout, penalty, problem.rows, none, start, n_passes, -np.inf
            )
        if status != 1:
            raise ValueError(f"EM did not make all passes at {values.shape}, K = {k}")

    return passes


def _sklearn(values: NDArray[np.float64], k: int) -> Callable[[], object]:
    """Return a call of an iteration as `fit` makes it: E-step, M-step and bound."""
    import warnings

    from sklearn.mixture import GaussianMixture

    warnings.simplefilter("ignore")
    model = GaussianMixture(k, init_params="random_from_data", max_iter=1, random_state=1)
    model.fit(values)

    def iteration() -> float:
        log_density, log_shares = model._e_step(values)
        model._m_step(values, log_shares)
        return model._compute_lower_bound(log_shares, log_density)

    return iteration


def measure_mclust(
    rows: list[int], features: list[int], components: list[int]
) -> dict[str, dict[str, float]]:
    """Return the seconds of an iteration of mclust's EM, by rows and then size."""
    if shutil.which("Rscript") is None:
        raise NotMeasured("R is not installed")
    program = str(Path(__file__).with_name("mclust.R"))
    sizes = [",".join(map(str, values)) for values in (rows, features, components)]
    done = subprocess.run(["Rscript", program, *sizes], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotMeasured(f"R says: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def report(results: Mapping[str, Result], quick: bool) -> str:
    """Return the section of the page."""
    sizes = ROWS[:1] if quick else ROWS
    mclust = results[MCLUST]
    told = [f"With {name}: {_told(results, sizes, [name], mclust)}" for name in THREADS]
    told.append(f"Each with what is faster for it: {_told(results, sizes, THREADS, mclust)}")
    if not mclust:
        told.append(f"mclust: not measured, {mclust.missing}.")
    parts = [_table(n, name, results[f"{n} {name}"], mclust) for n in sizes for name in THREADS]
    return f"""
## An iteration of EM

Full covariances, simulated data, the mean of some passes from a k-means start, against one
iteration of scikit-learn's loop (E-step, M-step, bound) and of mclust's `em`. "Default threads" is
what each tool takes by itself: bayesgmm and scikit-learn's BLAS all cores, mclust one.

{(chr(10) * 2).join(told)}

![Time of an iteration of scikit-learn's over bayesgmm's](images/performance-em.svg)
{"".join(parts)}"""


def headline(results: Mapping[str, Result]) -> str:
    """Return the section in a sentence."""
    sizes = [n for n in ROWS if f"{n} one thread" in results]
    told = _told(results, sizes, THREADS, results[MCLUST])
    return f"**EM**: for an iteration, each tool with the threads that suit it, {told}"


def _told(
    results: Mapping[str, Result], sizes: Sequence[int], threads: Iterable[str], mclust: Result
) -> str:
    """Return in words how the tools compare over the grid, each with its best of some settings."""
    ratios, others = [], []
    for n in sizes:
        measured = [results[f"{n} {name}"] for name in threads]
        if not all(measured):
            return "not measured."
        for size in measured[0].value:
            ours, peer = (
                min(result[size][tool] for result in measured) for tool in ("ours", "scikit-learn")
            )
            ratios.append(peer / ours)
            if mclust and size in mclust[str(n)]:
                others.append(mclust[str(n)][size] / ours)
    text = f"scikit-learn takes {_spread(ratios)}"
    return f"{text}; mclust {_spread(others)}." if others else f"{text}."


def _spread(ratios: Sequence[float]) -> str:
    return (
        f"{statistics.median(ratios):.1f} times as long at the median of the grid, "
        f"{min(ratios):.1f} at the least and {max(ratios):,.0f} at the most (bayesgmm is slower in "
        f"{sum(ratio < 1 for ratio in ratios)} of {len(ratios)} cells)"
    )


def _table(n: int, threads: str, result: Result, mclust: Result) -> str:
    if not result:
        return f"\nN = {n:,}, {threads}: not measured, {result.missing}.\n"
    lines = []
    for size, cell in result.value.items():
        d, k = size.split()
        line = f"| {d} | {k} | {duration(cell['ours'])} | {duration(cell['scikit-learn'])} | "
        line += f"{cell['scikit-learn'] / cell['ours']:.1f} | "
        other = mclust[str(n)].get(size) if mclust else None
        ratio = f"{other / cell['ours']:.1f}" if other else ""
        lines.append(line + f"{duration(other) if other else ''} | {ratio} |")
    return f"""
### N = {n:,}, {threads}

| D | K | bayesgmm | scikit-learn | ratio | mclust | ratio |
|---|---|---|---|---|---|---|
{chr(10).join(lines)}
"""


def plots(results: Mapping[str, Result], folder: Path) -> None:
    """Draw the ratio to scikit-learn over the grid, one thread each."""
    from benchmarks.drawing import axes, save

    figure, axis = axes()
    for n, style in zip(ROWS, ("-", "--"), strict=True):
        result = results.get(f"{n} one thread")
        if not result:
            continue
        sizes = [tuple(map(int, size.split())) for size in result.value]
        for i, k in enumerate(sorted({k for _, k in sizes})):
            points = {
                d: result[f"{d} {k}"]["scikit-learn"] / result[f"{d} {k}"]["ours"]
                for d, other in sizes
                if other == k
            }
            label = f"N = {n:,}, K = {k}"
            axis.loglog(
                list(points), list(points.values()), f"o{style}", color=f"C{i}", label=label
            )
    axis.axhline(1.0, color="0.6", linewidth=0.8)
    axis.set(xlabel="features", ylabel="times as fast as scikit-learn")
    if len(axis.lines) > 1:
        axis.legend(frameon=False, fontsize=7, ncols=2)
    save(figure, folder / "performance-em.svg")
