"""What the Laplace covariance at each chain's mode is worth to NUTS."""

import statistics
import time
import warnings

import numpy as np
from threadpoolctl import threadpool_limits

DATA = ("Old Faithful, K = 2", "iris, K = 2", "simulated (1,000, 2, 3)", "simulated (2,000, 5, 4)")
VARIANTS = (
    ("Laplace covariance, then diagonal, 200 tuning", True, "diag", 200),
    ("Laplace covariance, then low rank, 200 tuning", True, "low_rank", 200),
    ("none, low rank, 800 tuning", False, "low_rank", 800),
    ("none, diagonal, 800 tuning", False, "diag", 800),
)
SEEDS = (1, 2, 3)


def report() -> str:
    """Return the section of the report."""
    rows = []
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in DATA:
            problem = _problem(name)
            for label, whitened, adaptation, tune in VARIANTS:
                runs = [_run(problem, whitened, adaptation, tune, seed) for seed in SEEDS]
                seconds = statistics.median(run[0] for run in runs)
                ess = statistics.median(run[1] for run in runs)
                r_hat = max(run[2] for run in runs)
                rate = statistics.median(run[1] / run[0] for run in runs)
                figures = f"{seconds:.2f} s | {ess:,.0f} | {r_hat:.3f} | {rate:,.0f}"
                rows.append(f"| {name} | {label} | {figures} |")
    table = "\n".join(rows)
    return f"""
## Mass matrix

Four chains of 1,000 draws from the same starts; smallest bulk or tail ESS of the aligned
parameters, medians of {len(SEEDS)} seeds; the largest R-hat of all.

| data | whitening and adaptation | tuning and sampling | ESS | R-hat | ESS per second |
|---|---|---|---|---|---|
{table}
"""


def _problem(name: str):  # type: ignore[no-untyped-def]
    from bayesgmm import datasets
    from bayesgmm.data import prepare
    from bayesgmm.inference.problem import Problem
    from bayesgmm.mixture import GaussianMixture

    iris = datasets.load_iris().drop(columns="species")
    data = {
        DATA[0]: (datasets.load_faithful(), 2),
        DATA[1]: (iris, 2),
        DATA[2]: (datasets.make_mixture(1000, 3, 2, separation=3.0, random_seed=3)["X"], 3),
        DATA[3]: (datasets.make_mixture(2000, 4, 5, separation=4.0, random_seed=3)["X"], 4),
    }
    X, n_components = data[name]
    return Problem.make(GaussianMixture(n_components), prepare(X))


def _run(problem, whitened: bool, adaptation: str, tune: int, seed: int):  # type: ignore[no-untyped-def]
    """Return seconds, the smallest ESS of the aligned parameters, and the largest R-hat."""
    from bayesgmm import check
    from bayesgmm.inference.assemble import Draws, assemble
    from bayesgmm.inference.chains import Chain, Settings
    from bayesgmm.inference.em import Target, find_modes
    from bayesgmm.inference.laplace import whitening

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
        chains.append(Chain(problem, mode, factor, start, settings, seed=number))
    for chain in chains:
        while not chain.finished:
            chain.wait(0.1)
    seconds = time.perf_counter() - began
    results = [chain.result() for chain in chains]
    vectors = np.concatenate([vectors for vectors, _ in results])
    names = results[0][1]
    drawn = Draws(
        parameters=problem.constrain(vectors),
        statistics={name: np.stack([kept[name] for _, kept in results]) for name in names},
        modes=(),
        attrs={},
    )
    evidence = check(assemble(problem, drawn, {"method": "nuts"})).evidence
    return seconds, evidence["smallest ESS, aligned"], evidence["largest R-hat, aligned"]
