"""What is known of rows beside their cells, and heavy tails: what they cost, against the pass."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.cases import Case, load
from benchmarks.runs import ONE_THREAD, Job, Result
from benchmarks.timing import duration, in_turn

CASES = ("1,000, 2, 3", "5,000, 5, 4", "5,000, 10, 8")
OPTIONS = ("weights", "labels", "weights and labels", "Student's t")


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
    given = ({}, {"sample_weight": weights}, {"allowed": allowed})
    calls = [_call(loaded, known) for known in (*given, {**given[1], **given[2]})]
    calls.append(_call(loaded, {}, tails=True))
    return dict(zip(("plain", *OPTIONS), in_turn(calls, seconds), strict=True))


def _call(case: Case, known: Mapping[str, Any], *, tails: bool = False) -> Callable[[], object]:
    from bayesgmm.data import prepare
    from bayesgmm.kernels.posterior import log_posterior
    from bayesgmm.mixture import GaussianMixture, StudentTMixture
    from bayesgmm.problem import Problem

    data = replace(prepare(case.X), **known)
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
## Weights of rows, known labels and heavy tails, one thread

The log posterior with its gradient, as multiples of what it takes without; a row in four is
labelled; degrees of freedom are learnt.

| N, D, K | plain | {" | ".join(OPTIONS)} |
|---|{"---|" * (1 + len(OPTIONS))}
{chr(10).join(lines)}
"""
