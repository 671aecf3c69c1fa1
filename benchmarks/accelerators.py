"""The log posterior with its gradient in JAX, against our own kernels; and what compiling costs."""

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.runs import ONE_THREAD, Job, Result
from benchmarks.timing import duration, in_turn

CASES = ("1,000, 2, 3", "5,000, 5, 4", "100,000, 10, 8", "1,000,000, 2, 3")
"""Rows, features, components."""
TOGETHER = 4
"""Chains whose gradients JAX computes in one call."""
FITS = "Old Faithful, K = 2"
ENGINES = ("fused", "jax")


def jobs(quick: bool) -> list[Job]:
    """Return a job per case, on one core, and one of whole fits."""
    seconds = 0.2 if quick else 2.0
    cases = CASES[:1] if quick else CASES
    alone = [
        Job(case, "accelerators:measure", {"case": case, "seconds": seconds}, 400.0, ONE_THREAD)
        for case in cases
    ]
    return [*alone, Job(FITS, "accelerators:fits", {"draws": 100 if quick else 1000}, 400.0)]


def measure(case: str, seconds: float) -> dict[str, Any]:
    """Return the seconds of a gradient of each, in turn, and of compiling; and the device."""
    if hasattr(os, "sched_setaffinity"):  # XLA takes as many threads as there are cores
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import jax

    ours, (one, compiling), (several, _) = calls(case)
    spent = in_turn([ours, one, several], seconds)
    return {
        "ours": spent[0],
        "JAX": spent[1],
        "together": spent[2] / TOGETHER,
        "compiling": compiling,
        "device": jax.devices()[0].device_kind,
    }


def calls(
    case: str,
) -> tuple[Callable[[], object], *tuple[tuple[Callable[[], object], float], ...]]:
    """Return a call of our gradient; of JAX's, one and several, with the seconds of compiling."""
    from bayesgmm.data import prepare
    from bayesgmm.mixture import GaussianMixture
    from bayesgmm.problem import Problem
    from benchmarks.cases import many_rows

    n, d, k = (int(number.replace(",", "")) for number in case.split(", "))
    problem = Problem.make(GaussianMixture(k), prepare(many_rows(n, d, k)))
    vectors = 0.1 * np.random.default_rng(1).normal(size=(TOGETHER, problem.n_parameters))
    found = [_in_jax(problem, vectors[:1]), _in_jax(problem, vectors)]
    return lambda: problem.log_posterior(vectors[0]), *found


def _in_jax(problem: Any, vectors: Any) -> tuple[Callable[[], object], float]:
    import jax

    from bayesgmm.inference.jax_posterior import log_posterior, unpack

    with jax.enable_x64(True):
        kind, numbers = unpack(problem.flat, len(vectors))
        each = jax.vmap(jax.value_and_grad(log_posterior), in_axes=(0, None, None))
        began = time.perf_counter()
        function = jax.jit(each, static_argnums=2).lower(vectors, numbers, kind).compile()
        compiling = time.perf_counter() - began
        given = jax.numpy.asarray(vectors)
    return lambda: jax.block_until_ready(function(given, numbers)), compiling


def fits(draws: int) -> dict[str, list[float]]:
    """Return the seconds of two fits by each engine, one after the other."""
    from bayesgmm.datasets import load_faithful
    from bayesgmm.inference.fit import fit

    found: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    for seed in (1, 2):
        for engine in ENGINES:
            began = time.perf_counter()
            fit(load_faithful(), 2, engine=engine, draws=draws, random_seed=seed, progressbar=False)
            found[engine].append(time.perf_counter() - began)
    return found


def headline(results: Mapping[str, Result]) -> str:
    """Return the section in a sentence."""
    told = [
        f"{result['JAX'] / result['ours']:.1f} at ({case})"
        for case, result in results.items()
        if result and case != FITS
    ]
    return f"**JAX**: our kernels are as many times as fast: {', '.join(told) or 'not measured'}."


def report(results: Mapping[str, Result], quick: bool) -> str:
    """Return the section of the page."""
    rows = []
    for case in CASES:
        result = results.get(case)
        if not result:
            missing = result.missing if result is not None else "left out of the quick run"
            rows.append(f"| {case} | not measured: {missing} | | | | |")
            continue
        n, _, k = (int(number.replace(",", "")) for number in case.split(", "))
        rates = [n * k / result[name] / 1e6 for name in ("ours", "JAX", "together")]
        shown = " | ".join(f"{rate:.0f}" for rate in rates)
        rows.append(f"| {case} | {shown} | {duration(result['compiling'])} | {result['device']} |")
    return f"""
## The same in JAX

Millions of rows times components per second, log posterior and gradient on one core: bayesgmm's
kernels, JAX, and JAX for {TOGETHER} chains together; and what it takes to compile the gradient,
for every shape of the data and in every process.

| N, D, K | bayesgmm | JAX | JAX, {TOGETHER} chains | compiling | device of JAX |
|---|---|---|---|---|---|
{chr(10).join(rows)}

{_of_fits(results.get(FITS))}
"""


def _of_fits(result: Result | None) -> str:
    if not result:
        return f"Whole fits: not measured: {result.missing if result is not None else 'not run'}."
    first, second = ([result[engine][i] for engine in ENGINES] for i in (0, 1))
    return (
        f"A whole fit of {FITS}, 4 chains, all cores: {duration(first[0])} and then "
        f"{duration(second[0])} with engine 'fused'; {duration(first[1])}, compiling included, and "
        f"then {duration(second[1])} with 'jax'."
    )
