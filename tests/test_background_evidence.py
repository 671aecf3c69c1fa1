"""Background noise in the evidence, criteria, folds and audits of a fit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special, stats

import bayesgmm as bg
from bayesgmm.data import prepare
from bayesgmm.inference.growth import grow
from bayesgmm.problem import Problem
from bayesgmm.symmetry import Domain
from tests import exact_evidence

type Array = NDArray[np.float64]

LOCATION, WIDTH, TAU = 0.3, 2.0, 1.5
"""Hyperparameters of the priors in all tests."""
LOW, HIGH = -6.0, 9.0
QUIET: dict[str, Any] = {"progressbar": False, "random_seed": 3}


def rows(n_obs: int) -> Array:
    """Two groups, not far apart, and a row of neither."""
    x = np.random.default_rng(5).normal(size=(n_obs, 1))
    x += 3.0 * (np.arange(n_obs)[:, None] % 3 == 0)
    x[-1] = 7.5
    return x


def specification(
    n_components: int, of_noise: float = 0.8, concentration: Any = 1.0
) -> bg.GaussianMixture:
    return bg.GaussianMixture(
        n_components,
        weights=bg.Dirichlet(concentration),
        means=bg.NormalMeans(LOCATION, WIDTH),
        covariance=bg.LKJCovariance(2.0, TAU, floor=0.0),
        noise=bg.UniformNoise(of_noise, LOW, HIGH),
    )


def exact(x: Array, concentration: tuple[float, ...]) -> float:
    """Return the log evidence, the concentration of the noise being the last."""
    density = -np.log(HIGH - LOW)
    return exact_evidence.own_scales(x, np.array(concentration), LOCATION, WIDTH, TAU, density)


def test_the_exact_sum_is_right(rng: np.random.Generator) -> None:
    """Against draws of the prior."""
    x, n = np.array([0.1, -0.6, 1.9]), 200_000
    concentration = (0.7, 1.1, 0.8)
    weights = rng.dirichlet(concentration, n)
    means, scales = (
        LOCATION + WIDTH * rng.normal(size=(n, 2)),
        TAU * np.abs(rng.normal(size=(n, 2))),
    )
    density = np.exp(stats.norm(means, scales).logpdf(x[:, None, None]))
    likelihood = ((weights[:, :2] * density).sum(axis=2) + weights[:, 2] / 15.0).prod(axis=0)
    error = likelihood.std() / n**0.5
    assert error < 0.02 * likelihood.mean()
    assert abs(likelihood.mean() - np.exp(exact(x, concentration))) < 5.0 * error


@pytest.mark.parametrize("concentration", [(1.0, 0.7), (1.0, 1.0, 0.5), (1.0, 2.0, 0.8)])
def test_the_evidence_is_the_sum_over_all_allocations(concentration: tuple[float, ...]) -> None:
    X, (*of_components, of_noise) = rows(12), concentration
    spec = specification(len(of_components), of_noise, of_components)
    found = bg.log_evidence(bg.fit(X, spec, **QUIET), random_seed=1)
    assert found.error < 0.06
    assert abs(found.value - exact(X[:, 0], concentration)) < 5.0 * found.error
    assert abs(found.laplace - found.value) < 6.0


@pytest.mark.filterwarnings("ignore:.* fits are not to be trusted")  # with so few rows
def test_rows_left_out_are_predicted_as_the_evidences_say() -> None:
    X = rows(7)
    tree = bg.fit(X, specification(1), **QUIET)
    whole = exact(X[:, 0], (1.0, 0.8))
    due = [whole - exact(np.delete(X[:, 0], i), (1.0, 0.8)) for i in range(len(X))]
    found = bg.kfold(tree, folds=len(X), **QUIET)
    np.testing.assert_allclose(found.elpd_i, due, atol=0.05)
    np.testing.assert_allclose(bg.loo(tree).elpd_i, due, atol=0.1)
    again = bg.reloo(tree, **QUIET)
    assert not again.warning
    np.testing.assert_allclose(again.elpd_i, due, atol=0.1)


def test_numbers_of_components_have_probabilities() -> None:
    X = rows(10)
    fits = {k: bg.fit(X, specification(k), **QUIET) for k in (1, 2)}
    found = bg.posterior_over_components(fits, random_seed=1)
    due = np.array([exact(X[:, 0], (*[1.0] * k, 0.8)) for k in fits])
    error = 5.0 * found["probability_error"].values + 1e-3
    assert (np.abs(found["probability"].values - special.softmax(due)) < error).all()


@pytest.mark.parametrize("n_components", [1, 2])
def test_criteria_count_the_weight_of_noise(n_components: int, rng: np.random.Generator) -> None:
    X = np.concatenate([rng.normal(size=(80, 2)), rng.normal(6.0, 1.0, size=(80, 2))])
    X = np.concatenate([X, rng.uniform(-8.0, 14.0, size=(20, 2))])
    spec = bg.GaussianMixture(n_components, noise=bg.UniformNoise(low=-9.0, high=15.0))
    tree = bg.fit(X, spec, method="ml", **QUIET)
    one = tree.posterior.isel(chain=0, draw=0)
    parts = [
        np.log(one["weights"].values[k])
        + stats.multivariate_normal(one["means"].values[k], one["covariances"].values[k]).logpdf(X)
        for k in range(n_components)
    ]
    lp = np.stack([*parts, np.full(len(X), np.log(one["noise_weight"].item() / 24.0**2))])
    density = special.logsumexp(lp, axis=0)
    p = n_components * 6  # two means, three of a covariance matrix and a weight each
    bic = p * np.log(len(X)) - 2.0 * density.sum()
    certainty = (lp.max(axis=0) - density).sum()
    np.testing.assert_allclose(bg.bic(tree), bic, rtol=1e-10)
    np.testing.assert_allclose(bg.aic(tree), 2.0 * p - 2.0 * density.sum(), rtol=1e-10)
    np.testing.assert_allclose(bg.icl(tree), bic - 2.0 * certainty, rtol=1e-10)


def test_chains_are_audited(rng: np.random.Generator) -> None:
    X = np.concatenate([rng.normal(size=(60, 1)), rng.uniform(-9.0, 9.0, size=(6, 1))])
    tree = bg.fit(X, bg.GaussianMixture(1, noise=bg.UniformNoise()), chains=2, draws=200, **QUIET)
    found = bg.mode_audit(tree)
    assert found.attrs["verdict"] == "All 2 chains sit in one mode."


def test_the_domain_leaves_the_weight_of_noise_in_its_place(rng: np.random.Generator) -> None:
    problem = Problem.make(specification(3), prepare(rows(12)))
    vectors = rng.normal(size=(50, problem.n_parameters))
    domain = Domain.around(problem.layout, np.zeros(3, dtype=np.int64), vectors, 0)
    moved = domain.moved(vectors)
    assert domain.holds(moved).all()
    before, after = (problem.constrain(one) for one in (vectors, moved))
    np.testing.assert_allclose(after[-2], before[-2])
    np.testing.assert_allclose(np.sort(after.weights), np.sort(before.weights))
    np.testing.assert_allclose(
        [problem.log_posterior(one)[0] for one in moved],
        [problem.log_posterior(one)[0] for one in vectors],
    )


def test_a_mode_grows_beside_noise(rng: np.random.Generator) -> None:
    groups = [rng.normal(at, 1.0, size=(60, 2)) for at in (0.0, 8.0)]
    X = np.concatenate([*groups, rng.uniform(-10.0, 18.0, size=(12, 2))])
    one, two = (
        Problem.make(bg.GaussianMixture(k, noise=bg.UniformNoise()), prepare(X)) for k in (1, 2)
    )
    smaller = one.constrain(np.zeros((1, one.n_parameters)))
    (mode,) = grow(two, smaller)
    np.testing.assert_allclose(np.sort(mode.parameters.means[0, :, 0]), [0.0, 8.0], atol=0.6)
    assert 0.03 < mode.parameters[-2][0] < 0.2


@pytest.fixture(scope="module")
def spoilt() -> Array:
    rng = np.random.default_rng(4)
    groups = [rng.normal(at, 1.0, size=(40, 2)) for at in (0.0, 7.0)]
    return np.concatenate([*groups, rng.uniform(-9.0, 15.0, size=(8, 2))])


def test_numbers_are_selected_beside_noise(spoilt: Array, tmp_path: Path) -> None:
    noise = bg.UniformNoise(low=-10.0, high=16.0)
    options: dict[str, Any] = {
        "spec": bg.GaussianMixture(1, noise=noise), "draws": 200, "chains": 2, **QUIET,
    }  # fmt: skip
    found = bg.select(spoilt, [1, 2], folder=tmp_path, **options)
    assert found.recommended.n_components == 2
    assert found.table.loc[(2, "full"), "n_parameters"] == 12
    tree = found.fits[2, "full"]
    evidence = bg.log_evidence(tree, random_seed=QUIET["random_seed"])
    np.testing.assert_allclose(found.table.loc[(2, "full"), "log_evidence"], evidence.value)
    again = bg.select(spoilt, [1, 2], folder=tmp_path, **options)
    np.testing.assert_array_equal(again.table["elpd_loo"], found.table["elpd_loo"])
    assert len(np.ravel(bg.plot_select(found))) == 6
    plain = bg.fit(spoilt, 2, draws=200, chains=2, **QUIET)
    assert bg.compare({"noise": tree, "plain": plain}).index[0] == "noise"


def test_fits_with_noise_and_without_are_averaged(spoilt: Array) -> None:
    noise = bg.UniformNoise(low=-10.0, high=16.0)
    specs = [bg.GaussianMixture(1, noise=noise), bg.GaussianMixture(2, noise=noise), 3]
    trees = {
        str(k): bg.fit(spoilt, spec, method="laplace", draws=50, chains=2, **QUIET)
        for k, spec in enumerate(specs, 1)
    }
    found = bg.average(trees, [0.25, 0.25, 0.5], random_seed=1)
    posterior = found.posterior
    number = posterior["n_components"].values
    of_noise = posterior["noise_weight"].values
    assert (of_noise[number == 3] == 0.0).all()
    assert (of_noise[number < 3] > 0.0).all()
    np.testing.assert_allclose(posterior["weights"].sum("component") + of_noise, 1.0)
    new = np.array([[0.0, 0.0], [7.0, 6.0], [-9.0, 15.0], [40.0, 0.0]])
    density = bg.score_samples(found, new)
    shares = bg.predict_proba(found, new)
    assert shares["component"].values.tolist() == [0, 1, 2, -1]
    np.testing.assert_allclose(shares.sum("component"), 1.0)
    assert shares[3, -1] == 0.0
    assert np.isfinite(density).all()
    other = bg.GaussianMixture(1, noise=bg.UniformNoise(low=-20.0, high=16.0))
    trees["wide"] = bg.fit(spoilt, other, method="laplace", draws=50, chains=2, **QUIET)
    with pytest.raises(ValueError, match="in the same box, where they have any; got .* for 'wide'"):
        bg.average(trees, [0.25] * 4)
