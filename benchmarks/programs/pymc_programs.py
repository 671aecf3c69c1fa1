"""PyMC, sampled by nutpie on PyTensor's Numba backend."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.cases import Case, Mixture
from benchmarks.programs import Run, Sampled

VARIANTS = {
    "defaults": "PyMC + nutpie",
    "by hand": "PyMC + nutpie, by hand",
}


def program(case: Case, by_hand: bool = False) -> Any:
    """Return the model; by hand, its density is two products of matrices and a logsumexp."""
    import pymc as pm
    import pytensor.tensor as pt

    k, d, prior = case.n_components, case.X.shape[1], case.prior
    with pm.Model() as model:
        weights = pm.Dirichlet("weights", prior.concentration)
        means = pm.Normal("means", prior.location, prior.scale, shape=(k, d))
        factors = []
        for j in range(k):
            scales = pm.HalfNormal.dist(prior.tau, shape=d)
            factor, _, _ = pm.LKJCholeskyCov(f"factor{j}", n=d, eta=prior.eta, sd_dist=scales)
            factors.append(factor)
        if not by_hand:
            parts = [pm.MvNormal.dist(means[j], chol=factor) for j, factor in enumerate(factors)]
            pm.Mixture("X", weights, parts, observed=case.X)
            return model
        joint = []
        for j, factor in enumerate(factors):
            inverse = pt.linalg.solve_triangular(factor, np.eye(d), lower=True)
            white = inverse @ case.X.T - (inverse @ means[j])[:, None]
            volume = pt.log(pt.diag(factor)).sum()
            joint.append(pt.log(weights[j]) - volume - 0.5 * (white**2).sum(axis=0))
        constant = 0.5 * d * np.log(2.0 * np.pi) * len(case.X)
        pm.Potential("X", pt.logsumexp(pt.stack(joint), axis=0).sum() - constant)
    return model


def starts(case: Case) -> dict[str, Any]:
    """Return the truth as the values of the model's variables."""
    lower = np.tril_indices(case.X.shape[1])
    cholesky = case.truth.scales[..., None] * case.truth.factors
    packed = {f"factor{j}": factor[lower] for j, factor in enumerate(cholesky)}
    return {"weights": case.truth.weights, "means": case.truth.means} | packed


def sample(
    case: Case, variant: str, start: str, seeds: Sequence[int], chains: int, draws: int
) -> Sampled:
    """Return draws; compiling is counted apart."""
    import nutpie

    began = time.perf_counter()
    model = program(case, variant == "by hand")
    chosen = {"initial_points": starts(case), "jitter_rvs": set()} if start == "truth" else {}
    compiled = nutpie.compile_pymc_model(model, **chosen)
    compiling = time.perf_counter() - began
    options = {"adaptation": "low_rank", "tune": 300} if variant == "by hand" else {}
    runs = []
    for seed in seeds:
        began = time.perf_counter()
        tree = nutpie.sample(
            compiled, draws=draws, chains=chains, seed=seed, progress_bar=False, **options
        )
        seconds = time.perf_counter() - began
        stats = tree["sample_stats"]
        divergences = int(stats["diverging"].sum())
        runs.append(Run(_drawn(case, tree), seconds, float(stats["n_steps"].mean()), divergences))
    return Sampled(runs, compiling)


def _drawn(case: Case, tree: Any) -> Mixture:
    posterior = tree["posterior"]
    d = case.X.shape[1]
    packed = np.stack([posterior[f"factor{j}"].values for j in range(case.n_components)], axis=2)
    cholesky = np.zeros((*packed.shape[:3], d, d))
    cholesky[..., *np.tril_indices(d)] = packed
    scales = np.linalg.norm(cholesky, axis=-1)
    factors = cholesky / scales[..., None]
    return Mixture(posterior["weights"].values, posterior["means"].values, scales, factors)


def log_densities(case: Case, variant: str, points: Mixture) -> list[float]:
    """Return PyMC's log density, of packed Cholesky factors turned into one of scales and factors.

    Row i of a factor of a covariance is s l, with l of length 1: its volume is s^i / l_i times
    that of s and of l without its last entry, counted from 0.
    """
    from pytensor.compile.mode import Mode

    model = program(case, variant == "by hand")
    function = model.compile_logp(jacobian=False, mode=Mode(linker="py", optimizer="fast_compile"))
    lower = np.tril_indices(case.X.shape[1])
    diagonal = np.arange(case.X.shape[1])
    values = []
    for point in map(Mixture._make, zip(*points, strict=True)):
        centred = np.log(point.weights)
        place = {"weights_simplex__": (centred - centred.mean())[:-1], "means": point.means}
        volume = 0.0
        for j, (scales, factor) in enumerate(zip(point.scales, point.factors, strict=True)):
            cholesky = scales[:, None] * factor
            cholesky[diagonal, diagonal] = np.log(cholesky[diagonal, diagonal])
            place[f"factor{j}_cholesky-cov-packed__"] = cholesky[lower]
            volume += (diagonal * np.log(scales) - np.log(factor[diagonal, diagonal])).sum()
        values.append(float(function(place)) + float(volume))
    return values
