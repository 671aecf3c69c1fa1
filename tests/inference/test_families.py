"""Families of Normals: what a vector stands for, and the slopes of the ELBO by it."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from bayesgmm.inference.approximation import Normal
from bayesgmm.inference.families import Family, FullRank, MeanField
from bayesgmm.inference.laplace import Frame, factor_of
from bayesgmm.inference.mode import Mode
from bayesgmm.tree import Parameters

type Array = np.ndarray

N = 4
BOTH = pytest.mark.parametrize("kind", [MeanField, FullRank])


def frame(rng: np.random.Generator, log_unit: float = 0.7) -> Frame:
    """The frame of a quadratic around a point."""
    square = rng.normal(size=(N, N))
    hessian, center = square @ square.T + np.eye(N), rng.normal(size=N)
    empty = np.empty((1, 1))
    mode = Mode(center, Parameters(*[empty] * 5), 0.0, 1, empty, True)
    return Frame(mode, hessian, Normal(center, factor_of(hessian, 10.0), log_unit))


def density(vectors: Array) -> tuple[Array, Array]:
    """A log density that is not quadratic: minus the sum of log cosh, and a product."""
    pair = vectors[:, :1] * vectors[:, 1:2]
    slopes = -np.tanh(vectors)
    slopes[:, :2] -= np.cos(pair) * vectors[:, 1::-1]
    return -np.log(np.cosh(vectors)).sum(axis=1) - np.sin(pair)[:, 0], slopes


@BOTH
def test_slopes_are_those_of_the_elbo(kind: type[Family], rng: np.random.Generator) -> None:
    family = kind(frame(rng))
    z = rng.normal(size=(15, N))

    def elbo(t: Array) -> float:
        normal = family.normal(t)
        return float(density(normal.vectors(z))[0].mean()) + normal.entropy

    for _ in range(3):
        t = 0.5 * rng.normal(size=family.size)
        got = family.slopes(t, z, density(family.normal(t).vectors(z))[1])
        np.testing.assert_allclose(got, approx_fprime(t, elbo, 1e-7), atol=1e-5)


def test_a_full_rank_starts_as_the_laplace_approximation(rng: np.random.Generator) -> None:
    at = frame(rng)
    normal = FullRank(at).normal(np.zeros(N + N * (N + 1) // 2))
    np.testing.assert_array_equal(normal.center, at.mode.vector)
    covariance = normal.factor @ normal.factor.T
    np.testing.assert_allclose(covariance @ at.hessian, np.eye(N), atol=1e-12)


def test_a_mean_field_starts_with_what_is_known_given_the_others(rng: np.random.Generator) -> None:
    at = frame(rng)
    normal = MeanField(at).normal(np.zeros(2 * N))
    np.testing.assert_array_equal(normal.center, at.mode.vector)
    np.testing.assert_allclose(normal.factor, 1.0 / np.sqrt(np.diagonal(at.hessian)))


@BOTH
def test_scales_are_where_they_are_said_to_be(kind: type[Family], rng: np.random.Generator) -> None:
    family = kind(frame(rng))
    t = 0.5 * rng.normal(size=family.size)
    before = family.normal(t)
    t[family.log_scales] += np.log(2.0)
    after = family.normal(t)
    assert after.log_volume == pytest.approx(before.log_volume + N * np.log(2.0), rel=1e-12)
    np.testing.assert_array_equal(after.center, before.center)
    assert before.log_unit == after.log_unit == 0.7


def test_every_normal_is_in_the_full_family(rng: np.random.Generator) -> None:
    """As many numbers as a mean and a covariance have, and none does what another does."""
    family = FullRank(frame(rng))
    assert family.size == N + N * (N + 1) // 2
    t = 0.3 * rng.normal(size=family.size)

    def covariance(t: Array) -> Array:
        factor = family.factor(t)
        return (factor @ factor.T)[np.tril_indices(N)]

    jacobian = np.array([
        (covariance(t + 1e-6 * e) - covariance(t - 1e-6 * e)) / 2e-6 for e in np.eye(t.size)[N:]
    ])  # fmt: skip
    assert np.linalg.matrix_rank(jacobian, tol=1e-6) == N * (N + 1) // 2
