"""One gradient and one EM iteration, against PyTensor's and scikit-learn's."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.timing import in_turn

GRADIENTS = ((1000, 2, 3), (5000, 5, 4), (5000, 10, 8))
ITERATIONS = ((1000, 2, 3), (5000, 10, 8), (100_000, 2, 2), (20_000, 32, 8))


def report() -> str:
    """Return the section of the report; one thread throughout."""
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gradients = "\n".join(_gradient_row(*size) for size in GRADIENTS)
        iterations = "\n".join(_iteration_row(*size) for size in ITERATIONS)
    return f"""
## The pass, one thread

Log posterior with its gradient, against the same density as a graph of PyTensor compiled by Numba
(`pm.Mixture` of `MvNormal`):

| N, D, K | bayesgmm | PyTensor | ratio |
|---|---|---|---|
{gradients}

One EM iteration, full covariances, against scikit-learn's:

| N, D, K | bayesgmm | scikit-learn | ratio |
|---|---|---|---|
{iterations}
"""


def _data(n_obs: int, n_features: int, n_components: int) -> np.ndarray:
    from bayesgmm.datasets import make_mixture

    drawn = make_mixture(n_obs, n_components, n_features, separation=4.0, random_seed=1)
    return np.asarray(drawn["X"].values)


def _row(size: tuple[int, int, int], ours: float, theirs: float) -> str:
    return (
        f"| {size[0]:,}, {size[1]}, {size[2]} | {ours * 1e6:,.1f} us | {theirs * 1e6:,.0f} us | "
        f"{theirs / ours:.1f} |"
    )


def _gradient_row(n_obs: int, n_features: int, n_components: int) -> str:
    from bayesgmm.data import prepare
    from bayesgmm.inference.problem import Problem
    from bayesgmm.kernels.posterior import log_posterior
    from bayesgmm.mixture import GaussianMixture

    values = _data(n_obs, n_features, n_components)
    problem = Problem.make(GaussianMixture(n_components), prepare(values))
    vector = 0.1 * np.random.default_rng(1).normal(size=problem.n_parameters)
    gradient = np.empty_like(vector)
    peer = _pytensor_gradient(values, n_components)
    ours, theirs = in_turn([lambda: log_posterior(vector, problem.flat, gradient), peer])
    return _row((n_obs, n_features, n_components), ours, theirs)


def _pytensor_gradient(values: np.ndarray, n_components: int) -> Callable[[], Any]:
    """Return a call of the value and gradient of the plain program, inputs at their start."""
    import pymc as pm

    with pm.Model() as model:
        weights = pm.Dirichlet("weights", np.ones(n_components))
        means = pm.Normal("means", 0.0, np.ptp(values), shape=(n_components, values.shape[1]))
        parts = []
        for k in range(n_components):
            factor, _, _ = pm.LKJCholeskyCov(
                f"covariance{k}", n=values.shape[1], eta=2.0, sd_dist=pm.HalfNormal.dist(1.0)
            )
            parts.append(pm.MvNormal.dist(means[k], chol=factor))
        pm.Mixture("X", weights, parts, observed=values)
        function = model.logp_dlogp_function(ravel_inputs=True, mode="NUMBA")
    start = np.concatenate([np.ravel(value) for value in model.initial_point(1).values()])
    function.set_extra_values({})
    compiled = function._pytensor_function
    return lambda: compiled(start)


def _iteration_row(n_obs: int, n_features: int, n_components: int) -> str:
    from sklearn.mixture import GaussianMixture as Peer

    from bayesgmm.data import prepare
    from bayesgmm.inference.problem import Problem
    from bayesgmm.kernels.mstep import run_em
    from bayesgmm.kernels.seeding import kmeans_labels, vector_from_labels
    from bayesgmm.mixture import GaussianMixture

    values = _data(n_obs, n_features, n_components)
    problem = Problem.make(GaussianMixture(n_components), prepare(values))
    rows, none = problem.rows, np.empty(0)
    labels = kmeans_labels(rows, np.random.default_rng(1).random(n_components), 1)
    _, start = vector_from_labels(problem.layout, problem.penalty(1.0), rows, labels)
    penalty, passes = problem.penalty(0.0), 10

    def ours() -> None:
        # tolerance -inf: every pass is made
        run_em(problem.layout, penalty, rows, none, problem.reach, start, passes, -np.inf)

    def peer(iterations: int) -> Callable[[], object]:
        means = problem.constrain(start[None], np.zeros(problem.layout.scale_columns)).means[0]
        model = Peer(n_components, means_init=means, tol=0.0, max_iter=iterations)
        model.init_params = "random_from_data"
        return lambda: model.fit(values)

    fused, many, few = in_turn([ours, peer(11), peer(1)], seconds=2.0)
    return _row((n_obs, n_features, n_components), fused / passes, (many - few) / 10)
