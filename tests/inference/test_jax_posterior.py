"""The log posterior in JAX against that of the kernels."""

import itertools
from typing import Any

import jax
import numpy as np
import pytest

import bayesgmm as bg
from bayesgmm.data import prepare
from bayesgmm.inference.jax_posterior import log_posterior, unpack
from bayesgmm.known_labels import with_labels
from bayesgmm.priors import STRUCTURES
from bayesgmm.problem import Problem

WEIGHTS = {
    "Dirichlet": bg.Dirichlet(1.3),
    "stick": bg.StickBreaking(2.0),
    "learnt stick": bg.StickBreaking(),
}


def problem(
    rng: np.random.Generator,
    structure: str = "full",
    n_components: int = 3,
    n_features: int = 3,
    weights: Any = WEIGHTS["Dirichlet"],
    *,
    floor: float = 0.2,
    labels: Any = None,
    sample_weight: Any = None,
) -> Problem:
    """Return 30 rows far from the origin and a specification of numbers that are no defaults."""
    X = 100.0 + rng.uniform(0.1, 10.0, n_features) * rng.normal(size=(30, n_features))
    covariance = bg.LKJCovariance(eta=1.7, structure=structure, floor=floor)
    specification = bg.GaussianMixture(n_components, weights=weights, covariance=covariance)
    data = with_labels(prepare(X, sample_weight=sample_weight), labels, n_components)
    return Problem.make(specification, data)


def check(given: Problem, rng: np.random.Generator) -> None:
    """Hold value and gradient against those of the kernels, at vectors near and far."""
    vectors = np.array([0.0, 0.5, 3.0])[:, None] * rng.normal(size=(3, given.n_parameters))
    with jax.enable_x64(True):
        kind, numbers = unpack(given.flat, 3)
        both = jax.value_and_grad(log_posterior)
        values, slopes = jax.jit(jax.vmap(lambda vector: both(vector, numbers, kind)))(vectors)
    for value, slope, vector in zip(values, slopes, vectors, strict=True):
        due, gradient = given.log_posterior(vector)
        assert value == pytest.approx(due, rel=1e-10)
        np.testing.assert_allclose(slope, gradient, rtol=1e-10, atol=1e-10 * abs(gradient).max())


@pytest.mark.parametrize(
    ("structure", "weights"), list(zip(STRUCTURES, itertools.cycle(WEIGHTS), strict=False))
)
def test_structures(structure: str, weights: str, rng: np.random.Generator) -> None:
    check(problem(rng, structure, weights=WEIGHTS[weights]), rng)


def test_weighted_and_labelled_rows_of_one_feature(rng: np.random.Generator) -> None:
    labels = np.where(np.arange(30) < 10, np.arange(30) % 2, -1)
    counts = rng.uniform(0.0, 3.0, 30)
    check(problem(rng, "full", 2, 1, floor=0.0, labels=labels, sample_weight=counts), rng)


@pytest.mark.slow
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_all_sizes(structure: str, weights: str, rng: np.random.Generator) -> None:
    for n_components, n_features in itertools.product((1, 2, 7), (1, 2, 5)):
        if n_components > 1 or weights == "Dirichlet":
            check(problem(rng, structure, n_components, n_features, WEIGHTS[weights]), rng)
