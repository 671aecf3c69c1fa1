"""What the Laplace approximation at each chain's mode is worth to NUTS."""

import statistics
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.cases import Case, Mixture, prior_of
from benchmarks.runs import Job, Result
from benchmarks.timing import duration

DATA = ("Old Faithful, K = 2", "iris, K = 2", "simulated (1,000, 2, 3)", "simulated (2,000, 5, 4)")
VARIANTS = {
    "Laplace covariance, geodesic, 50 tuning": (True, "diag", "geodesic", 50),
    "the same, 200 tuning": (True, "diag", "geodesic", 200),
    "Laplace covariance, then diagonal, leapfrog, 100 tuning": (True, "diag", "leapfrog", 100),
    "Laplace covariance, then low rank, leapfrog, 200 tuning": (True, "low_rank", "leapfrog", 200),
    "none, low rank, leapfrog, 800 tuning": (False, "low_rank", "leapfrog", 800),
    "none, diagonal, leapfrog, 800 tuning": (False, "diag", "leapfrog", 800),
}


def jobs(quick: bool) -> list[Job]:
    """Return a job per data set."""
    seeds = [1] if quick else [1, 2, 3]
    names = DATA[:1] if quick else DATA
    return [Job(name, "whitening:measure", {"name": name, "seeds": seeds}) for name in names]


def measure(name: str, seeds: list[int]) -> dict[str, list[dict[str, float]]]:
    """Return what every variant gives, a run per seed."""
    from threadpoolctl import threadpool_limits

    problem = _problem(name)
    with threadpool_limits(limits=1):
        _run(problem, *next(iter(VARIANTS.values())), 0)
        return {
            label: [_run(problem, *variant, seed) for seed in seeds]
            for label, variant in VARIANTS.items()
        }


def _problem(name: str) -> Any:
    from bayesgmm import datasets
    from bayesgmm.data import prepare
    from bayesgmm.mixture import GaussianMixture
    from bayesgmm.problem import Problem

    iris = datasets.load_iris().drop(columns="species")
    data = {
        DATA[0]: (datasets.load_faithful(), 2),
        DATA[1]: (iris, 2),
        DATA[2]: (datasets.make_mixture(1000, 3, 2, separation=3.0, random_seed=3)["X"], 3),
        DATA[3]: (datasets.make_mixture(2000, 4, 5, separation=4.0, random_seed=3)["X"], 4),
    }
    X, n_components = data[name]
    return Problem.make(GaussianMixture(n_components), prepare(X))


def _run(
    problem: Any, whitened: bool, adaptation: Any, integrator: Any, tune: int, seed: int
) -> dict[str, float]:
    """Return seconds, the smallest ESS of the aligned parameters, and the largest R-hat."""
    from bayesgmm.inference.chains import Settings
    from bayesgmm.inference.coordinates import Coordinates, Start
    from bayesgmm.inference.em import find_modes
    from bayesgmm.inference.laplace import whitening
    from bayesgmm.inference.mode import Target
    from benchmarks.effective import summarise

    settings = Settings(1000, tune, 0.8, adaptation)
    prepared = []
    for child in np.random.SeedSequence(seed).spawn(4):
        rng = np.random.default_rng(child)
        mode = find_modes(problem, Target.MAP, rng, n_starts=8, hierarchical=False).best.vector
        laplace, z = whitening(problem, mode), rng.normal(size=mode.size)
        prepared.append((mode, laplace, z, int(rng.integers(2**62))))
    began = time.perf_counter()
    chains = []
    for mode, laplace, z, number in prepared:
        factor = laplace if whitened else np.ones(mode.size)
        start = z if whitened else laplace @ z
        around = Coordinates(mode, factor, integrator)
        chains.append(Start(around, start, settings, number).chain_of(problem))
    for chain in chains:
        while not chain.finished:
            chain.wait(0.1)
    seconds = time.perf_counter() - began
    vectors = np.stack([chain.result()[0] for chain in chains])
    X, mode = problem.data.values, _mixture(problem, prepared[0][0][None])
    k = mode.weights.shape[-1]
    case = Case(X, k, prior_of(X, k), Mixture(*(values[0] for values in mode)))
    draws = _mixture(problem, vectors.reshape(-1, vectors.shape[-1]))
    shaped = Mixture(*(v.reshape(*vectors.shape[:2], *v.shape[1:]) for v in draws))
    summary = summarise(case, shaped)
    return {"seconds": seconds, "ess": summary["ess"], "r_hat": summary["r_hat"]}


def _mixture(problem: Any, vectors: np.ndarray) -> Mixture:
    made = problem.constrain(vectors)
    return Mixture(made.weights, made.means, made.scales, np.linalg.cholesky(made.correlations))


def report(results: Mapping[str, Result], quick: bool) -> str:
    """Return the section of the page."""
    rows = []
    for name, result in results.items():
        if not result:
            rows.append(f"| {name} | not measured: {result.missing} | | | | |")
            continue
        for label, runs in result.value.items():
            seconds = duration(statistics.median(run["seconds"] for run in runs))
            ess = statistics.median(run["ess"] for run in runs)
            rate = statistics.median(run["ess"] / run["seconds"] for run in runs)
            r_hat = max(run["r_hat"] for run in runs)
            rows.append(
                f"| {name} | {label} | {seconds} | {ess:,.0f} | {r_hat:.3f} | {rate:,.0f} |"
            )
    return f"""
## Mass matrix and integrator

Four chains of 1,000 draws from the same starts; the smallest bulk ESS, of the same quantities as
above, medians of three seeds; the largest R-hat of all.

| data | whitening, adaptation, integrator | tuning and sampling | ESS | R-hat | ESS per second |
|---|---|---|---|---|---|
{chr(10).join(rows)}
"""
