"""The log posterior with its gradient, against PyTensor's, and against the machine."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.cases import Case, load
from benchmarks.ceilings import ORDER, copies, exponentials, features, large_product
from benchmarks.runs import ONE_THREAD, Job, Result
from benchmarks.timing import duration, in_turn

CASES = ("1,000, 2, 3", "5,000, 5, 4", "5,000, 10, 8")
COPIED = 2**24
WANTED = {"1,000, 2, 3": 12, "5,000, 5, 4": 15, "5,000, 10, 8": 15}


def jobs(quick: bool) -> list[Job]:
    """Return a job per case, one thread each."""
    return [
        Job(case, "gradient:measure", {"case": case, "seconds": 0.2 if quick else 2.0}, 240.0,
            ONE_THREAD)
        for case in (CASES[:1] if quick else CASES)
    ]  # fmt: skip


def measure(case: str, seconds: float) -> dict[str, Any]:
    """Return the seconds of a call of each, all in turn, and how far their values differ."""
    loaded = load(case)
    n = 4096
    ours, peer = _ours(loaded), _pytensor(loaded)
    calls = [ours, peer, large_product(), exponentials(n), copies(COPIED)]
    spent = in_turn(calls, seconds)
    return {
        "ours": spent[0],
        "PyTensor": spent[1],
        "product rate": 2.0 * ORDER**3 / spent[2],
        "exp rate": n / spent[3],
        "memory rate": 16.0 * COPIED / spent[4],
    }


def _ours(case: Case) -> Callable[[], object]:
    from bayesgmm.data import prepare
    from bayesgmm.kernels.posterior import log_posterior
    from bayesgmm.mixture import GaussianMixture
    from bayesgmm.problem import Problem

    problem = Problem.make(GaussianMixture(case.n_components), prepare(case.X))
    vector = 0.1 * np.random.default_rng(1).normal(size=problem.n_parameters)
    gradient = np.empty_like(vector)
    return lambda: log_posterior(vector, problem.flat, gradient)


def _pytensor(case: Case) -> Callable[[], object]:
    """Return a call of the value and gradient of the plain program, inputs at their start."""
    from benchmarks.programs.pymc_programs import program

    model = program(case)
    function = model.logp_dlogp_function(ravel_inputs=True, mode="NUMBA")
    start = np.concatenate([np.ravel(value) for value in model.initial_point(1).values()])
    function.set_extra_values({})
    compiled = function._pytensor_function
    compiled.trust_input = True  # its checks of the input are not its density
    return lambda: compiled(start)


def headline(results: Mapping[str, Result]) -> str:
    """Return the section in a sentence."""
    told = [
        f"{result['PyTensor'] / result['ours']:.1f} at ({case})"
        for case, result in results.items()
        if result
    ]
    ratios = ", ".join(told) or "not measured"
    return f"**Gradient**: times as fast as PyTensor's of the same posterior: {ratios}."


def report(results: Mapping[str, Result], quick: bool) -> str:
    """Return the section of the page."""
    against, limits = [], []
    for case, result in results.items():
        if not result:
            against.append(f"| {case} | not measured: {result.missing} | | | |")
            continue
        ratio = result["PyTensor"] / result["ours"]
        times = f"{duration(result['ours'])} | {duration(result['PyTensor'])}"
        against.append(f"| {case} | {times} | {ratio:.1f} | {WANTED[case]} |")
        limits.append(_limits(case, result))
    return f"""
## The log posterior and its gradient, one thread

Against the plain program (`pm.Mixture` of `MvNormal`, the same priors) as PyTensor compiles it with
Numba, which is what nutpie samples:

| N, D, K | bayesgmm | PyTensor | ratio | aim |
|---|---|---|---|---|
{chr(10).join(against)}

Against the machine, measured in turn with it. A pass is counted as 4 N K Q operations, those of two
products of matrices with Q = 1 + D + D (D + 1) / 2 features of a row, and N K exponentials; a form
of the pass that needs fewer can exceed the rate of the products.

| N, D, K | counted operations | GFLOP/s | share of a large product's rate | exponentials | reading the data |
|---|---|---|---|---|---|
{chr(10).join(limits)}

The last two columns are shares of the time of the call: what as many exponentials take at their own
rate, and what reading the data from memory would take, which they leave only at the first call.
"""  # noqa: E501


def _limits(case: str, result: Result) -> str:
    n, d, k = (int(number.replace(",", "")) for number in case.split(", "))
    counted = 4.0 * n * k * features(d)
    rate = counted / result["ours"]
    exp_share = n * k / result["exp rate"] / result["ours"]
    memory_share = 8.0 * n * d / result["memory rate"] / result["ours"]
    return (
        f"| {case} | {counted / 1e6:,.2f} million | {rate / 1e9:.1f} | "
        f"{rate / result['product rate']:.0%} | {exp_share:.0%} | {memory_share:.0%} |"
    )
