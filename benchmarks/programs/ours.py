"""bayesgmm, on its fused density."""

import time
from collections.abc import Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.cases import Case, Mixture
from benchmarks.programs import Run, Sampled

VARIANTS = {"defaults": "bayesgmm"}


def sample(
    case: Case, variant: str, start: str, seeds: Sequence[int], chains: int, draws: int
) -> Sampled:
    """Return draws; compiled kernels are read from the disk before the clock starts."""
    run = _from_truth if start == "truth" else _from_nothing
    began = time.perf_counter()
    run(case, 0, chains, 20)
    compiling = time.perf_counter() - began
    return Sampled([run(case, seed, chains, draws) for seed in seeds], compiling)


def _from_nothing(case: Case, seed: int, chains: int, draws: int) -> Run:
    """Sample as every user does; the search for the modes is counted, too."""
    import bayesgmm as bg

    tree = bg.fit(
        case.X, case.n_components, chains=chains, draws=draws, random_seed=seed, progressbar=False
    )
    raw = bg.align(tree, "none").posterior
    return Run(
        Mixture(
            raw["weights"].values,
            raw["means"].values,
            raw["scales"].values,
            np.linalg.cholesky(raw["correlations"].values),
        ),
        tree.attrs["tuning_time"] + tree.attrs["sampling_time"],
        float(tree.sample_stats["n_steps"].mean()),
        int(tree.sample_stats["diverging"].sum()),
    )


def _from_truth(case: Case, seed: int, chains: int, draws: int) -> Run:
    """Sample as `fit` does but for the search; climbing from the truth and whitening count."""
    from bayesgmm.inference.chains import Settings
    from bayesgmm.inference.em import polish
    from bayesgmm.inference.nuts import TUNE_ARCS, TUNE_WHITENED, Coordinates, Start

    problem = _problem(case)
    vector = problem.unconstrain(_parameters(case.truth))
    with threadpool_limits(limits=1, user_api="blas"):
        began = time.perf_counter()
        mode, _, _ = polish(problem, vector)
        around = Coordinates.at(problem, mode)
        tune = TUNE_ARCS if around.integrator == "geodesic" else TUNE_WHITENED
        settings = Settings(draws, tune, 0.8, "diag")
        running = []
        for child in np.random.SeedSequence(seed).spawn(chains):
            rng = np.random.default_rng(child)
            z, number = rng.normal(size=mode.size), int(rng.integers(2**62))
            running.append(Start(around, z, settings, number).chain_of(problem))
        for chain in running:
            while not chain.finished:
                chain.wait(0.1)
        results = [chain.result() for chain in running]
        made = problem.constrain(np.concatenate([vectors for vectors, _ in results]))
        seconds = time.perf_counter() - began
    shape = (chains, draws)
    values = made.weights, made.means, made.scales, np.linalg.cholesky(made.correlations)
    statistics = [kept for _, kept in results]
    return Run(
        Mixture(*(array.reshape(*shape, *array.shape[1:]) for array in values)),
        seconds,
        float(np.mean([kept["n_steps"] for kept in statistics])),
        int(np.sum([kept["diverging"] for kept in statistics])),
    )


def log_densities(case: Case, variant: str, points: Mixture) -> list[float]:
    """Return the log density of bayesgmm's vector, less the logarithm of the Jacobian."""
    problem = _problem(case)
    return [
        problem.log_posterior(problem.unconstrain(_parameters(point)))[0] - _log_jacobian(point)
        for point in map(Mixture._make, zip(*points, strict=True))
    ]


def _problem(case: Case):  # type: ignore[no-untyped-def]
    from bayesgmm.data import prepare
    from bayesgmm.mixture import GaussianMixture
    from bayesgmm.problem import Problem

    return Problem.make(GaussianMixture(case.n_components), prepare(case.X))


def _parameters(point: Mixture):  # type: ignore[no-untyped-def]
    from bayesgmm.tree import Parameters

    correlations = point.factors @ np.swapaxes(point.factors, -1, -2)
    covariances = point.scales[:, :, None] * point.scales[:, None, :] * correlations
    parts = point.weights, point.means, point.scales, correlations, covariances
    return Parameters(*(part[None] for part in parts))


def _log_jacobian(point: Mixture) -> float:
    """Return log |d(weights, means, scales, factors) / d(vector)|.

    Weights are a softmax of a vector that sums to 0, scales exponentials; a factor's entry is
    c r, with c = 2 sigmoid(x) - 1 and r squared the length that its row has left.
    """
    value = np.log(len(point.weights)) + np.log(point.weights).sum() + np.log(point.scales).sum()
    for factor in point.factors:
        for i, row in enumerate(factor):
            left = 1.0
            for entry in row[:i]:
                c = entry / np.sqrt(left)
                value += np.log((1.0 - c * c) / 2.0) + 0.5 * np.log(left)
                left -= entry * entry
    return float(value)
