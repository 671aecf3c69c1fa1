"""What is known of rows beside whole, exact cells, and heavy tails: what it costs."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.cases import Case, load
from benchmarks.runs import ONE_THREAD, Job, Result
from benchmarks.timing import duration, in_turn

CASES = ("1,000, 2, 3", "5,000, 5, 4", "5,000, 10, 8")
OPTIONS = (
    "weights", "labels", "weights and labels", "missing cells", "errors", "shared errors",
    "Student's t",
)  # fmt: skip


def jobs(quick: bool) -> list[Job]:
    """Return a job per case, one thread each."""
    return [
        Job(case, "options:measure", {"case": case, "seconds": 0.2 if quick else 2.0}, 240.0,
            ONE_THREAD)
        for case in (CASES[:1] if quick else CASES)
    ]  # fmt: skip


def measure(case: str, seconds: float) -> dict[str, Any]:
    """Return the seconds of a log posterior with its gradient, all in turn."""
    loaded = load(case)
    rng = np.random.default_rng(1)
    weights = rng.integers(1, 4, len(loaded.X)).astype(float)
    allowed = np.ones((len(loaded.X), loaded.n_components))
    told = slice(None, None, 4)
    allowed[told] = np.eye(loaded.n_components)[
        rng.integers(loaded.n_components, size=len(allowed[told]))
    ]
    holes = loaded.X.copy()
    fewer = rng.choice(len(holes), len(holes) * 3 // 10, replace=False)
    holes[fewer, rng.integers(holes.shape[1], size=len(fewer))] = np.nan
    errors = 0.3 * loaded.X.std(axis=0) * rng.uniform(0.5, 1.0, loaded.X.shape)
    few = errors[rng.integers(5, size=len(errors))]
    calls = [
        _call(loaded),
        _call(loaded, sample_weight=weights),
        _call(loaded, allowed=allowed),
        _call(loaded, sample_weight=weights, allowed=allowed),
        _call(loaded._replace(X=holes)),
        _call(loaded, measurement_error=errors),
        _call(loaded, measurement_error=few),
        _call(loaded, tails=True),
    ]
    return dict(zip(("plain", *OPTIONS), in_turn(calls, seconds), strict=True))


def _call(
    case: Case,
    *,
    measurement_error: np.ndarray | None = None,
    tails: bool = False,
    **known: np.ndarray,
) -> Callable[[], object]:
    from bayesgmm.data import prepare
    from bayesgmm.kernels.posterior import log_posterior
    from bayesgmm.mixture import GaussianMixture, StudentTMixture
    from bayesgmm.problem import Problem

    data = replace(prepare(case.X, measurement_error=measurement_error), **known)
    kind = StudentTMixture if tails else GaussianMixture
    problem = Problem.make(kind(case.n_components), data)
    vector = 0.1 * np.random.default_rng(1).normal(size=problem.n_parameters)
    gradient = np.empty_like(vector)
    return lambda: log_posterior(vector, problem.flat, gradient)


def report(results: Mapping[str, Result], quick: bool) -> str:
    """Return the section of the page."""
    lines = []
    for case, result in results.items():
        if not result:
            lines.append(f"| {case} | not measured: {result.missing} |{' |' * len(OPTIONS)}")
            continue
        ratios = " | ".join(f"{result[name] / result['plain']:.2f}" for name in OPTIONS)
        lines.append(f"| {case} | {duration(result['plain'])} | {ratios} |")
    return f"""
## What else is known of rows, and heavy tails, one thread

The log posterior with its gradient, as multiples of what it takes without: weights of rows;
labels of a row in four; a cell missing in three rows of ten; standard errors of all cells,
each row with its own, or one of five; degrees of freedom that are learnt.

| N, D, K | plain | {" | ".join(OPTIONS)} |
|{"---|" * (2 + len(OPTIONS))}
{chr(10).join(lines)}
"""
