"""Draws of a Normal approximation: their densities, their k-hat, and resampling by importance."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from bayesgmm.errors import ConvergenceWarning, FitError
from bayesgmm.inference import approximation
from bayesgmm.inference.approximation import (
    FEWEST_PROPOSALS,
    Normal,
    Proposals,
    Settled,
    _systematic,
    propose,
    settle,
)
from bayesgmm.inference.assemble import Options
from bayesgmm.inference.progress import Progress
from bayesgmm.posterior_density import Density

type Array = np.ndarray

SILENT = Progress(False)


def options(draws: int = 1000, chains: int = 4) -> Options:
    return Options.checked(draws=draws, tune=None, chains=chains, target_accept=0.8, random_seed=1)


def one_dimension(center: float, scale: float) -> Normal:
    return Normal(np.array([center]), np.array([scale]), 0.0)


def density_of(law: Any, shift: float = 0.0) -> Density:
    """A log density of one dimension, known up to a constant; its gradient is not asked for."""

    def density(vectors: Array) -> tuple[Array, Array]:
        return law.logpdf(vectors[:, 0]) + shift, np.full(vectors.shape, np.nan)

    return density


def settled(normal: Normal, density: Density, asked: Options, seed: int = 3) -> Settled:
    rng = np.random.default_rng(seed)
    wanted = max(FEWEST_PROPOSALS, asked.chains * asked.draws)
    proposals = propose(normal, density, wanted, rng, SILENT)
    return settle(normal, density, proposals, asked, rng, SILENT)


@pytest.mark.parametrize("dense", [True, False])
def test_densities_of_a_normal(dense: bool, rng: np.random.Generator) -> None:
    center, square = rng.normal(size=4), rng.normal(size=(4, 4))
    factor = square if dense else np.abs(square[0])
    covariance = factor @ factor.T if dense else np.diag(factor**2)
    law = multivariate_normal(center, covariance)
    z = rng.normal(size=(6, 4))
    normal = Normal(center, factor, 0.0)
    np.testing.assert_allclose(normal.log_density(z), law.logpdf(normal.vectors(z)), rtol=1e-12)
    assert normal.entropy == pytest.approx(law.entropy(), rel=1e-12)
    in_other_units = Normal(center, factor, 2.5)
    np.testing.assert_allclose(in_other_units.log_density(z), normal.log_density(z) - 2.5)
    assert in_other_units.entropy == pytest.approx(law.entropy() + 2.5, rel=1e-12)


@pytest.mark.parametrize("dense", [True, False])
def test_draws_have_the_mean_and_covariance(dense: bool, rng: np.random.Generator) -> None:
    center, square = np.array([3.0, -1.0]), np.array([[2.0, 0.0], [-1.5, 0.5]])
    normal = Normal(center, square if dense else np.array([2.0, 0.5]), 0.0)
    covariance = square @ square.T if dense else np.diag([4.0, 0.25])

    def density(vectors: Array) -> tuple[Array, Array]:
        return vectors[:, 0] - vectors[:, 1], np.zeros(vectors.shape)

    n = 40_000
    proposals = propose(normal, density, n, rng, SILENT)
    error = np.sqrt(np.diagonal(covariance) / n)
    assert (np.abs(proposals.vectors.mean(axis=0) - center) < 5 * error).all()
    spread = np.outer(*[np.sqrt(np.diagonal(covariance))] * 2)
    gap = np.abs(np.cov(proposals.vectors.T) - covariance) / spread
    assert gap.max() < 5 * np.sqrt(2.0 / n)
    np.testing.assert_array_equal(
        proposals.log_p, proposals.vectors[:, 0] - proposals.vectors[:, 1]
    )
    due = multivariate_normal(center, covariance).logpdf(proposals.vectors)
    np.testing.assert_allclose(proposals.log_q, due, rtol=1e-9)
    np.testing.assert_array_equal(proposals.log_ratios, proposals.log_p - proposals.log_q)


def test_where_the_density_is_not_a_number_there_is_none(rng: np.random.Generator) -> None:
    def density(vectors: Array) -> tuple[Array, Array]:
        return np.where(vectors[:, 0] > 0.0, 1.0, np.nan), np.zeros(vectors.shape)

    proposals = propose(one_dimension(0.0, 1.0), density, 50, rng, SILENT)
    assert set(proposals.log_p) == {1.0, -np.inf}


def test_an_approximation_that_is_exact_keeps_its_draws() -> None:
    normal = one_dimension(2.0, 3.0)
    result = settled(normal, density_of(norm(2.0, 3.0), shift=-7.0), options())
    assert result.attrs["resampled"] == 1
    assert result.attrs["pareto_k"] <= 0.0
    assert np.unique(result.vectors).size == 4000
    law = norm(2.0, 3.0).logpdf(result.vectors[:, 0]).reshape(4, 1000)
    np.testing.assert_allclose(result.statistics["log_q"], law, rtol=1e-12)
    np.testing.assert_allclose(result.statistics["lp"], law - 7.0, rtol=1e-12)


def test_resampling_corrects_an_approximation_that_is_near() -> None:
    """Wider and off, so that k-hat is small: the draws are those of the target."""
    asked = options(draws=5000)
    result = settled(one_dimension(0.5, 1.3), density_of(norm(0.0, 1.0)), asked)
    x = result.vectors[:, 0]
    assert result.attrs["pareto_k"] < 0.5
    assert result.attrs["resampled"] == 1
    counts = np.unique(x, return_counts=True)[1]
    effective = x.size**2 / np.square(counts).sum()
    assert effective > 0.5 * x.size  # repeats are few
    assert counts.max() <= 5
    error = 1.0 / np.sqrt(effective)
    assert abs(x.mean()) < 5 * error < 0.5
    assert abs(x.std() - 1.0) < 5 * error / np.sqrt(2.0) < 0.3
    assert abs(np.mean(np.abs(x) > 2.0) - 2.0 * norm.sf(2.0)) < 5 * 0.21 * error


def test_draws_are_worth_their_number_whatever_the_weights() -> None:
    """From a target three times as narrow, few proposals count: three times as many are made."""
    made: list[int] = []

    def target(scale: float) -> Density:
        def density(vectors: Array) -> tuple[Array, Array]:
            made.append(len(vectors))
            return density_of(norm(0.0, scale))(vectors)

        return density

    normal, asked = one_dimension(0.0, 1.0), options(draws=2000)
    x = settled(normal, target(1.0 / 3.0), asked).vectors[:, 0]
    efficiency = np.sqrt(17.0) / 9.0  # 1 / E w^2 of these two Normals
    assert sum(made) == pytest.approx(8000 / efficiency, rel=0.1)
    assert np.unique(x).size > 0.4 * x.size
    made.clear()
    settled(normal, target(0.02), asked)
    assert sum(made) == 4 * 8000  # but never more than that


def test_an_approximation_that_misses_the_tails_is_told_and_left() -> None:
    """p / q of Normals with scales 1 and s has a Pareto tail of shape 1 - s^2."""
    normal = one_dimension(0.0, 0.3)
    result = settled(normal, density_of(norm(0.0, 1.0)), options(draws=10_000))
    assert 0.7 < result.attrs["pareto_k"] < 1.0
    assert result.attrs["resampled"] == 0
    z = np.random.default_rng(3).normal(size=(40_000, 1))
    np.testing.assert_array_equal(result.vectors, normal.vectors(z))  # as they were drawn


def test_few_draws_are_taken_from_proposals_enough_for_k_hat() -> None:
    result = settled(one_dimension(0.0, 1.0), density_of(norm(0.0, 0.9)), options(4, 2))
    assert np.isfinite(result.attrs["pareto_k"])
    assert result.vectors.shape == (8, 1)
    assert result.statistics["lp"].shape == (2, 4)


def test_the_same_seed_gives_the_same_draws() -> None:
    arguments = one_dimension(0.0, 1.2), density_of(norm(0.0, 1.0)), options(50)
    one, two, other = (settled(*arguments, seed=seed).vectors for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, two)
    assert not np.isin(other, one).any()


def test_systematic_resampling_takes_each_as_often_as_its_weight(rng: np.random.Generator) -> None:
    weights = rng.dirichlet(np.full(60, 0.3))
    for total in (1.0, 7.0):
        chosen = _systematic(total * weights, 1000, rng)
        counts = np.bincount(chosen, minlength=60)
        assert (np.abs(counts - 1000 * weights) < 1.0).all()
        assert (np.diff(chosen) < 0).any()  # in no order


def test_no_draw_without_weight_is_taken(rng: np.random.Generator) -> None:
    weights = np.array([0.0, 0.5, 0.0, 0.5, 0.0])
    for _ in range(20):
        assert set(_systematic(weights, 10, rng)) == {1, 3}


def interrupting(after: int) -> Callable[[Array], tuple[Array, Array]]:
    """A density that the user interrupts after some evaluations."""
    calls = []

    def density(vectors: Array) -> tuple[Array, Array]:
        if len(calls) == after:
            raise KeyboardInterrupt
        calls.append(1)
        return density_of(norm(0.0, 1.0))(vectors)

    return density


def test_an_interruption_keeps_what_was_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approximation, "TOGETHER", 100)
    normal = one_dimension(0.0, 1.1)
    with pytest.warns(ConvergenceWarning, match=r"interrupted: 75 of 1000 draws per chain"):
        result = settled(normal, interrupting(3), options())
    assert result.attrs["interrupted"] == 1
    assert result.statistics["lp"].shape == (4, 75)
    assert np.isfinite(result.vectors).all()
    with pytest.raises(FitError, match=r"too early; got 0 draws per chain\. Let") as caught:
        settled(normal, interrupting(0), options())
    assert caught.value.status == "interrupted"


def test_proposals_are_joined_in_order(rng: np.random.Generator) -> None:
    parts = [Proposals(rng.normal(size=(n, 2)), rng.normal(size=n), rng.normal(size=n))
             for n in (3, 2)]  # fmt: skip
    both = parts[0].joined(parts[1])
    np.testing.assert_array_equal(both.vectors[3:], parts[1].vectors)
    np.testing.assert_array_equal(both.log_p[:3], parts[0].log_p)
    np.testing.assert_array_equal(both.log_q[3:], parts[1].log_q)
