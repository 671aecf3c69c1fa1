"""`simulate`: what is drawn from the prior has the distributions that the prior says."""

from typing import Any

import numpy as np
import pymc as pm
import pytest
from scipy.stats import beta, chisquare, f, ks_2samp, kstest, norm, truncnorm

import bayesgmm as bg
from bayesgmm.priors import STRUCTURES
from tests.contract.test_refusals import FORM

BUDGET = 1e-6
"""Probability that a test of this file that compares distributions fails by chance."""
N_DRAWS = 4000


def specification(
    n_components: Any = 2, structure: str = "full", **covariance: Any
) -> bg.GaussianMixture:
    settings: dict[str, Any] = {"eta": 1.5, "scale": 2.0, "structure": structure, **covariance}
    means = bg.NormalMeans(-1.0, 3.0)
    return bg.GaussianMixture(n_components, means=means, covariance=bg.LKJCovariance(**settings))


def many(
    spec: bg.GaussianMixture, n_features: int, n_obs: int = 1, n_draws: int = N_DRAWS
) -> dict[str, np.ndarray]:
    """Draws as plain arrays."""
    drawn = bg.simulate(spec, n_obs, n_features=n_features, draws=n_draws, random_seed=1)
    return {str(name): array.values[0] for name, array in drawn.items()}


# Labels


def test_one_draw_is_labelled_as_simulated_data_are() -> None:
    data = bg.simulate(specification(3), 20, n_features=2, random_seed=1)
    other = bg.datasets.make_mixture(20, 3, 2, random_seed=1)
    for name, array in other.items():
        assert data[name].dims == array.dims
        assert data[name].shape == array.shape
        for dim in array.dims:
            np.testing.assert_array_equal(data[name][dim], array[dim])
    assert data["scales"].dims == data["means"].dims
    assert data["correlations"].dims == data["covariances"].dims


def test_draws_have_the_dimensions_of_a_posterior() -> None:
    data = bg.simulate(specification(), 5, n_features=2, draws=7, random_seed=1)
    tree = bg.fit(data["X"].isel(chain=0, draw=0, drop=True), 1, method="map", random_seed=1)
    for name, array in tree["posterior"].data_vars.items():
        assert data[name].dims == array.dims
    assert data["X"].dims == ("chain", "draw", "obs", "feature")
    assert data["labels"].dims == ("chain", "draw", "obs")
    assert dict(data.sizes)["draw"] == 7


def test_a_seed_repeats() -> None:
    one, again, other = (
        bg.simulate(specification(), 9, n_features=2, random_seed=seed) for seed in (3, 3, 4)
    )
    assert one.identical(again)
    assert not np.isin(one["X"], other["X"]).any()


def test_a_resolved_specification_knows_its_features() -> None:
    X = bg.datasets.load_faithful()
    assert bg.simulate(bg.GaussianMixture(2).resolve(X), 5, random_seed=1).sizes["feature"] == 2
    one = bg.GaussianMixture(2, covariance=bg.LKJCovariance(structure="spherical"))
    assert bg.simulate(one.resolve(X), 5, random_seed=1).sizes["feature"] == 2


# Distributions


def test_weights_means_and_scales_follow_their_priors() -> None:
    spec = bg.GaussianMixture(
        3,
        weights=bg.Dirichlet((0.5, 1.0, 2.5)),
        means=bg.NormalMeans((0.0, 10.0), (1.0, 5.0)),
        covariance=bg.LKJCovariance(scale=(1.0, 4.0), floor=(0.5, 20.0)),
    )
    drawn = many(spec, 2)
    for k, a in enumerate((0.5, 1.0, 2.5)):
        assert kstest(drawn["weights"][:, k], beta(a, 4.0 - a).cdf).pvalue > BUDGET
    for d, (location, scale) in enumerate(((0.0, 1.0), (10.0, 5.0))):
        assert kstest(drawn["means"][:, 1, d], norm(location, scale).cdf).pvalue > BUDGET
    for d, (tau, floor) in enumerate(((1.0, 0.5), (4.0, 20.0))):
        law = truncnorm(floor / tau, np.inf, scale=tau)
        assert kstest(drawn["scales"][:, 2, d], law.cdf).pvalue > BUDGET


def test_correlations_are_lkj() -> None:
    drawn = many(specification(1), 4, n_draws=15_000)["correlations"][:, 0]
    law = beta(1.5 + 1.0, 1.5 + 1.0)
    for i, j in zip(*np.tril_indices(4, -1), strict=True):
        assert kstest(0.5 + 0.5 * drawn[:, i, j], law.cdf).pvalue > BUDGET
        squares = drawn[:, i, j] ** 2
        assert abs(squares.mean() - 4.0 * law.var()) < 5.0 * squares.std() / len(squares) ** 0.5
    np.testing.assert_array_equal(drawn, drawn.mT)
    assert (np.linalg.eigvalsh(drawn) > 0.0).all()


@pytest.mark.parametrize("structure", STRUCTURES)
def test_what_is_shared_is_the_same(structure: str) -> None:
    shared_scales, common_scale, correlations = STRUCTURES[structure]
    drawn = bg.simulate(specification(3, structure), 5, n_features=3, random_seed=1)
    scales, matrices = drawn["scales"].values, drawn["correlations"].values
    assert np.unique(scales, axis=0).shape[0] == (1 if shared_scales else 3)
    assert np.unique(scales, axis=1).shape[1] == (1 if common_scale else 3)
    distinct = {"none": 1, "shared": 1, "component": 3}[correlations]
    assert np.unique(matrices, axis=0).shape[0] == distinct
    assert (matrices[0] == np.eye(3)).all() == (correlations == "none")
    np.testing.assert_allclose(
        drawn["covariances"], matrices * scales[:, :, None] * scales[:, None, :]
    )


def test_rows_follow_their_mixture() -> None:
    data = bg.simulate(specification(3), 30_000, n_features=3, random_seed=1)
    labels, weights = data["labels"].values, data["weights"].values
    counts = np.bincount(labels, minlength=3)
    assert chisquare(counts, weights * len(labels)).pvalue > BUDGET
    for k in range(3):
        factor = np.linalg.cholesky(data["covariances"].values[k])
        centred = data["X"].values[labels == k] - data["means"].values[k]
        white = np.linalg.solve(factor, centred.T)
        assert kstest(white.ravel(), norm.cdf).pvalue > BUDGET
        gap = np.abs(np.cov(white) - np.eye(3)).max()
        assert gap < 5.0 * np.sqrt(2.0 / counts[k])


def test_draws_are_those_of_pymc() -> None:
    spec = specification(2, floor=0.0).resolve([[0.0] * 3, [1.0] * 3])
    data = bg.simulate(spec, 30, random_seed=1)
    model = bg.build_model(spec, data["X"])
    names = ("weights", "means", "scales", "correlations", "covariances")
    theirs = dict(
        zip(
            names,
            pm.draw([model[name] for name in names], 1000, random_seed=1, mode="FAST_COMPILE"),
            strict=True,
        )
    )
    ours = many(spec, 3)
    for name in names:
        one, other = (of[name].reshape(len(of[name]), -1) for of in (ours, theirs))
        for direction in np.random.default_rng(1).normal(size=(3, one.shape[1])):
            found = ks_2samp(one @ direction, other @ direction)
            assert found.pvalue > BUDGET or np.ptp(one @ direction) < 1e-9


@pytest.mark.parametrize("dynamic", [True, False])
def test_a_prior_on_components(dynamic: bool) -> None:
    prior = bg.PriorOnComponents("poisson", 1.5, concentration=(6.0, 3.0), dynamic=dynamic)
    drawn = many(specification(prior, "diag"), 2, n_obs=15)
    numbers, weights = drawn["n_components"], drawn["weights"]
    expected = prior.probabilities()[:7] * N_DRAWS
    counts = np.bincount(numbers, minlength=200)[1:8]
    assert (
        chisquare([*counts, N_DRAWS - counts.sum()], [*expected, N_DRAWS - expected.sum()]).pvalue
        > BUDGET
    )
    assert kstest(drawn["concentration"], f(6, 3).cdf).pvalue > BUDGET
    there = np.arange(weights.shape[1]) < numbers[:, None]
    assert weights.shape[1] == numbers.max()
    assert (weights[~there] == 0.0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    assert (drawn["labels"] < numbers[:, None]).all()
    assert drawn["n_clusters"].tolist() == [len(np.unique(row)) for row in drawn["labels"]]
    two = numbers == 2  # where the first weight is Beta(a, a), given the concentration
    a = drawn["concentration"][two] / (2.0 if dynamic else 1.0)
    assert kstest(beta(a, a).cdf(weights[two, 0]), "uniform").pvalue > BUDGET


# What is refused

UNKNOWN = r"`spec` must have numbers .*; got None for means.location, means.scale, covariance.scale"
BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no specification": ({"spec": 3}, TypeError, "`spec` must be a GaussianMixture; got 3"),
    "no numbers": ({"spec": bg.GaussianMixture(2)}, ValueError, UNKNOWN),
    "no features": ({"n_features": None}, ValueError, "`n_features` must be given where"),
    "features = 0": ({"n_features": 0}, ValueError, "`n_features` must be at least 1; got 0"),
    "other features": (
        {"spec": specification(scale=(1.0, 2.0, 3.0))},
        ValueError,
        r"`covariance.scale` must hold one number, or one per feature, 2; got 3",
    ),
    "n_obs = 0": ({"n_obs": 0}, ValueError, "`n_obs` must be at least 1; got 0"),
    "draws = 0": ({"draws": 0}, ValueError, "`draws` must be at least 1; got 0"),
    "draws = 2.5": ({"draws": 2.5}, TypeError, "`draws` must be an integer; got 2.5"),
}


@pytest.mark.parametrize(("arguments", "error", "match"), BAD.values(), ids=BAD)
def test_what_makes_no_sense_is_refused(
    arguments: dict[str, Any], error: type[Exception], match: str
) -> None:
    good: dict[str, Any] = {"spec": specification(), "n_obs": 10, "n_features": 2}
    with pytest.raises(error, match=match) as caught:
        bg.simulate(**good | arguments)
    assert FORM.match(str(caught.value))
