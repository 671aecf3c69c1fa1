"""Every mixture is in a domain once, whatever its components are called."""

from itertools import permutations

import numpy as np
import pytest

import bayesgmm as bg
from bayesgmm.data import prepare
from bayesgmm.posterior_density import whole
from bayesgmm.priors import STRUCTURES
from bayesgmm.problem import Problem
from bayesgmm.symmetry import Domain, groups_of, log_copies
from bayesgmm.tree import Parameters

type Array = np.ndarray


def problem(
    rng: np.random.Generator, structure: str, concentration: object = 1.0, n_features: int = 2
) -> Problem:
    spec = bg.GaussianMixture(
        3, weights=bg.Dirichlet(concentration), covariance=bg.LKJCovariance(structure=structure)
    )
    return Problem.make(spec, prepare(rng.normal(size=(20, n_features))))


def namings(of: Problem, vectors: Array) -> list[tuple[tuple[int, ...], Array]]:
    """Return vectors under all names of their components, by way of their parameters."""
    parameters = of.constrain(vectors)
    return [
        (order, of.vectors(Parameters(*(values[:, list(order)] for values in parameters))))
        for order in permutations(range(3))
    ]


@pytest.mark.parametrize("n_features", [1, 2])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_one_naming_of_every_mixture_is_in_the_domain(
    structure: str, n_features: int, rng: np.random.Generator
) -> None:
    of = problem(rng, structure, n_features=n_features)
    vectors = rng.normal(size=(50, of.n_parameters))
    groups = groups_of(of.specification)
    domain = Domain.around(of.layout, groups, rng.normal(size=vectors.shape), 0)
    moved, density = domain.moved(vectors), whole(of)
    assert domain.holds(moved).all()
    held = np.zeros(50, dtype=int)
    for _, renamed in namings(of, vectors):
        here = domain.holds(renamed)
        held += here
        np.testing.assert_allclose(renamed[here], moved[here], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(density(renamed)[0], density(vectors)[0], rtol=1e-9)
    assert (held == 1).all()
    assert np.exp(log_copies(groups)) == pytest.approx(6.0)


def test_components_with_other_priors_keep_their_names(rng: np.random.Generator) -> None:
    of = problem(rng, "full", (2.0, 1.0, 2.0))
    groups = groups_of(of.specification)
    assert np.exp(log_copies(groups)) == pytest.approx(2.0)
    vectors = rng.normal(size=(40, of.n_parameters))
    domain = Domain.around(of.layout, groups, vectors, 0)
    moved, density = domain.moved(vectors), whole(of)
    np.testing.assert_allclose(density(moved)[0], density(vectors)[0], rtol=1e-9)
    np.testing.assert_array_equal(
        of.constrain(moved).means[:, 1], of.constrain(vectors).means[:, 1]
    )
    held = sum(
        domain.holds(renamed).astype(int)
        for order, renamed in namings(of, vectors)
        if order[1] == 1
    )
    assert (held == 1).all()


def test_clusters_that_are_apart_are_recognised(rng: np.random.Generator) -> None:
    """Draws under random names end up under the same, wherever the search began."""
    of = problem(rng, "diag")
    typical = np.array([0.2, -0.5, -6.0, 0.0, 0.0, 5.0, 7.0, 1.0, 0, 0, 0.5, 0, 0, 1.0])
    vectors = typical + 0.3 * rng.normal(size=(200, 14))
    every = np.stack([renamed for _, renamed in namings(of, vectors)])
    mixed = every[rng.integers(6, size=200), np.arange(200)]
    domain = Domain.around(of.layout, np.zeros(3, dtype=np.int64), mixed, 17)
    means = of.constrain(domain.moved(mixed)).means
    assert means.std(axis=0).max() < 0.4 * of.unit.max()


def test_one_component_has_one_name(rng: np.random.Generator) -> None:
    of = Problem.make(bg.GaussianMixture(1), prepare(rng.normal(size=(20, 2))))
    vectors = rng.normal(size=(30, of.n_parameters))
    domain = Domain.around(of.layout, groups_of(of.specification), vectors, 0)
    assert domain.holds(vectors).all()
    np.testing.assert_array_equal(domain.moved(vectors), vectors)
    assert log_copies(groups_of(of.specification)) == 0.0
