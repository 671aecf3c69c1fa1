"""The evidence against sums over all allocations, integrals over the prior, and itself."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import xarray as xr

import bayesgmm as bg
from bayesgmm import evidence, names, posterior_density
from bayesgmm.evidence import Evidence
from bayesgmm.posterior_density import Density
from bayesgmm.priors import STRUCTURES
from bayesgmm.problem import Problem
from tests import exact_evidence
from tests.synthetic import random_fit

type Array = np.ndarray

LOCATION, WIDTH, TAU = 0.3, 2.0, 1.5
"""Hyperparameters of the priors in all tests."""


def rows(n_obs: int, n_features: int = 1) -> Array:
    """Two groups, not far apart."""
    rng = np.random.default_rng(5)
    return rng.normal(size=(n_obs, n_features)) + 3.0 * (np.arange(n_obs)[:, None] % 3 == 0)


def specification(
    n_components: int, structure: str = "full", concentration: Any = 1.0
) -> bg.GaussianMixture:
    return bg.GaussianMixture(
        n_components,
        weights=bg.Dirichlet(concentration),
        means=bg.NormalMeans(LOCATION, WIDTH),
        covariance=bg.LKJCovariance(2.0, TAU, structure, floor=0.0),
    )


def fitted(X: Array, spec: bg.GaussianMixture, **options: Any) -> xr.DataTree:
    given = {"random_seed": 3, "progressbar": False, **options}
    return bg.fit(X, spec, **given)


def assert_near(found: Evidence, wanted: float, largest: float) -> None:
    """Five standard errors, which must be small."""
    assert found.error < largest
    assert abs(found.value - wanted) < 5.0 * found.error


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    return fitted(rows(40), specification(2), draws=100)


@pytest.mark.parametrize(
    ("n_obs", "concentration"),
    [(20, (1.0,)), (18, (1.0, 1.0)), (10, (0.7, 0.7, 0.7)), (10, (1.0, 2.0)), (8, (1.0, 3.0, 1.0))],
)
def test_the_sum_over_all_allocations(n_obs: int, concentration: tuple[float, ...]) -> None:
    """Where components overlap, and priors tell none, all or some of them apart."""
    X, k = rows(n_obs), len(concentration)
    wanted = exact_evidence.own_scales(X[:, 0], np.array(concentration), LOCATION, WIDTH, TAU)
    found = bg.log_evidence(fitted(X, specification(k, concentration=concentration)), random_seed=1)
    assert_near(found, wanted, 0.06)


def test_a_shared_scale() -> None:
    X = rows(10)
    wanted = exact_evidence.shared_scale(X[:, 0], np.ones(3), LOCATION, WIDTH, TAU)
    found = bg.log_evidence(fitted(X, specification(3, "tied_spherical")), random_seed=1)
    assert_near(found, wanted, 0.06)


def test_the_exact_sum_is_right(rng: np.random.Generator) -> None:
    """Against draws of the prior; and a component more that prior and data do not want."""
    x = np.array([0.1, -0.6, 1.9])
    n = 200_000
    concentration = np.array([0.7, 1.1, 2.0])
    weights = rng.dirichlet(concentration, n)
    means = LOCATION + WIDTH * rng.normal(size=(n, 3))
    scales = TAU * np.abs(rng.normal(size=(n, 3)))
    z = (x[:, None, None] - means) / scales
    density = (weights / scales * np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)).sum(axis=2)
    likelihood = density.prod(axis=0)
    wanted = np.exp(exact_evidence.own_scales(x, concentration, LOCATION, WIDTH, TAU))
    error = likelihood.std() / n**0.5
    assert error < 0.02 * wanted
    assert abs(likelihood.mean() - wanted) < 5.0 * error


@pytest.mark.parametrize("n_features", [2, 3])
def test_correlations_against_an_integral_over_the_prior(
    n_features: int, rng: np.random.Generator
) -> None:
    """LKJ by its definition: det(R)**(eta - 1) over all matrices that are one."""
    X = rows(4, n_features) @ np.linalg.cholesky(0.6 + 0.4 * np.eye(n_features)).T
    n = 400_000
    R = np.tile(np.eye(n_features), (n, 1, 1))
    for i in range(n_features):
        for j in range(i):
            R[:, i, j] = R[:, j, i] = rng.uniform(-1.0, 1.0, n)
    minors = [np.linalg.det(R[:, :d, :d]) for d in range(2, n_features + 1)]
    lkj = np.where(np.min(minors, axis=0) > 0.0, minors[-1], 0.0)  # eta is 2
    scales = TAU * np.abs(rng.normal(size=(n, n_features)))
    kept = lkj > 0.0
    covariances = (scales[:, :, None] * scales[:, None] * R)[kept]
    # means integrated out: rows less their mean, and the mean itself
    mean, n_obs = X.mean(axis=0) - LOCATION, len(X)
    scatter = (X - X.mean(axis=0)).T @ (X - X.mean(axis=0))
    of_mean = covariances / n_obs + WIDTH**2 * np.eye(n_features)
    log_likelihood = -0.5 * (
        (n_obs - 1) * np.linalg.slogdet(2.0 * np.pi * covariances)[1]
        + np.einsum("sij,ji->s", np.linalg.inv(covariances), scatter)
        + n_features * np.log(n_obs)
        + np.linalg.slogdet(2.0 * np.pi * of_mean)[1]
        + np.einsum("i,sij,j->s", mean, np.linalg.inv(of_mean), mean)
    )
    weights, ratio = lkj[kept] / lkj[kept].sum(), np.exp(log_likelihood - log_likelihood.max())
    estimate = float(weights @ ratio)
    wanted = np.log(estimate) + log_likelihood.max()
    error = float(np.sqrt(weights**2 @ (ratio - estimate) ** 2)) / estimate
    found = bg.log_evidence(fitted(X, specification(1)), random_seed=1)
    assert error < 0.04
    assert found.error < 0.06
    assert abs(found.value - wanted) < 5.0 * np.hypot(found.error, error)


def test_two_features_without_correlations(tree: xr.DataTree) -> None:
    """Subsets factor over features: the sum over allocations again."""
    X, scales = rows(10, 2), np.exp(exact_evidence.LOG_SCALES)
    every = exact_evidence.all_subsets(10)
    of_subset = sum(
        np.logaddexp.reduce(
            exact_evidence.log_marginals(x, every, LOCATION, WIDTH, scales)
            + exact_evidence.log_prior_mass(scales, TAU),
            axis=1,
        )
        for x in X.T
    )
    wanted = float(exact_evidence.log_sum_over_allocations(np.asarray(of_subset), np.ones(2)))
    found = bg.log_evidence(fitted(X, specification(2, "diag")), random_seed=1)
    assert_near(found, wanted, 0.06)


@pytest.mark.parametrize("structure", sorted(set(STRUCTURES) - {"full"}))
def test_one_component_shares_nothing(structure: str) -> None:
    """With one component, tied is not; with one feature, nothing is correlated or common."""
    X = rows(30)
    alone = bg.log_evidence(fitted(X, specification(1), draws=300), random_seed=1)
    found = bg.log_evidence(fitted(X, specification(1, structure), draws=300), random_seed=1)
    assert abs(found.value - alone.value) < 5.0 * np.hypot(found.error, alone.error)
    assert found.error < 0.1


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_two_estimates_agree_where_the_posterior_is_nearly_normal(structure: str) -> None:
    X = np.concatenate([rows(150, 2), rows(150, 2) + 30.0])
    found = bg.log_evidence(fitted(X, specification(2, structure), draws=100), random_seed=1)
    assert found.error < 0.1
    assert found.laplace == pytest.approx(found.value, abs=0.5)


def test_units_only_multiply_the_density() -> None:
    """Of data in other units, under priors in them, the density is in them too."""
    X, k = rows(60), 2
    spec = dataclasses.replace(
        specification(k),
        means=bg.NormalMeans(1000.0 * LOCATION - 7.0, 1000.0 * WIDTH),
        covariance=bg.LKJCovariance(2.0, 1000.0 * TAU, floor=0.0),
    )
    found = [
        bg.log_evidence(fitted(*given, draws=200), random_seed=1)
        for given in ((X, specification(k)), (1000.0 * X - 7.0, spec))
    ]
    errors = np.hypot(found[0].error, found[1].error)
    assert found[0].value - found[1].value - 60 * np.log(1000.0) == pytest.approx(
        0.0, abs=5.0 * errors
    )


def test_a_floor_under_the_scales_is_no_obstacle() -> None:
    """Draws down to rounding error from the floor count as they are."""
    X = np.round(rows(40), 1)
    covariance = bg.LKJCovariance(2.0, TAU, floor=(1e-3,))
    truncated = dataclasses.replace(specification(1), covariance=covariance)
    with_floor, without = (
        bg.log_evidence(fitted(X, spec, draws=300), random_seed=1)
        for spec in (truncated, specification(1))
    )
    assert abs(with_floor.value - without.value) < 5.0 * with_floor.error + 2e-3


def test_names_of_components_do_not_count(tree: xr.DataTree) -> None:
    """Only rounding and ties can tell draws with names as drawn from renamed ones."""
    found = bg.log_evidence(tree, random_seed=1)
    renamed = bg.log_evidence(bg.align(tree, "none"), random_seed=1)
    assert abs(renamed.value - found.value) < 5.0 * found.error
    swapped = tree.copy()
    posterior = tree["posterior"].to_dataset().isel(component=[1, 0])
    swapped["posterior"] = xr.DataTree(posterior.assign_coords(component=[0, 1]))
    assert abs(bg.log_evidence(swapped, random_seed=1).value - found.value) < 5.0 * found.error


def test_proposals_whose_density_overflows_count_as_zero(
    tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    lowest = tree["sample_stats"]["lp"].values.min() - 0.1

    def whole(problem: Problem) -> Density:
        def broken(vectors: Array) -> tuple[Array, Array]:
            values, gradients = posterior_density.whole(problem)(vectors)
            return np.where(values < lowest, np.nan, values), gradients

        return broken

    found = bg.log_evidence(tree, random_seed=1)
    monkeypatch.setattr(evidence, "whole", whole)
    without = bg.log_evidence(tree, random_seed=1)
    assert without != found
    assert abs(without.value - found.value) < 5.0 * found.error


def test_the_same_seed_gives_the_same_estimate(tree: xr.DataTree) -> None:
    found = bg.log_evidence(tree, random_seed=7)
    assert bg.log_evidence(tree, random_seed=7) == found
    assert bg.log_evidence(tree, random_seed=8) != found


@pytest.mark.parametrize("method", ["laplace", "fullrank_advi"])
def test_resampled_draws_of_an_approximation_serve(method: str) -> None:
    X = np.concatenate([rows(60), rows(60) + 30.0])
    near, found = (
        bg.log_evidence(fitted(X, specification(2), draws=500, method=how), random_seed=1)
        for how in (method, "nuts")
    )
    assert near.error < 0.1
    assert abs(near.value - found.value) < 5.0 * np.hypot(near.error, found.error)


def test_what_is_printed() -> None:
    found = Evidence(value=-1168.0234, error=0.0123, laplace=-1168.15, n_components=2, data="")
    assert repr(found) == (
        "Evidence: -1168.02 nats, standard error 0.01, of 2 components (Laplace -1168.2)"
    )
    bare = dataclasses.replace(found, laplace=np.nan, n_components=1)
    assert repr(bare) == "Evidence: -1168.02 nats, standard error 0.01, of 1 component"


def test_a_fit_without_modes_has_no_laplace(tree: xr.DataTree) -> None:
    found = bg.log_evidence(tree.filter(lambda node: node.name != "modes"), random_seed=1)
    assert np.isnan(found.laplace)
    assert np.isfinite(found.value)


@pytest.mark.parametrize(
    ("off", "message"),
    [(30.0, "a mode that no chain has visited"), (-30.0, "far from Normal, around")],
)
def test_disagreement_is_told(
    off: float, message: str, tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    laplace = evidence._laplace
    monkeypatch.setattr(evidence, "_laplace", lambda *given: laplace(*given) + off)
    with pytest.warns(bg.ConvergenceWarning, match=rf"Laplace's approximation: .*{message}"):
        bg.log_evidence(tree, random_seed=1)


def test_a_large_error_is_told(tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "LARGE", 0.0)
    with pytest.warns(
        bg.ConvergenceWarning, match=r"of `tree` has a standard error of 0\.\d\d nats"
    ):
        bg.log_evidence(tree, random_seed=1)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("map", r"`tree` must hold at least 30 draws .* `log_evidence`; got 1 x 1 .* 'map'"),
        (
            "approximation",
            r"draws of the posterior .* 'advi', too far .*pareto_k 1\.20\)\. Fit with",
        ),
        ("stuck", r"must hold chains that move for `log_evidence`; got 1 of 4"),
        ("few", r"at least 4 draws for every parameter; got 40 for 11 parameters"),
        ("other density", r"log posterior is that of its specification .* by 3 nats"),
        ("other rows", r"log posterior is that of its specification and rows"),
        ("no weight", r"must hold weights and scales above 0, .* chain 3, draw 7, where"),
        ("learnt", r"known number of components for `log_evidence`; got a fit in which it has a"),
        ("chain", r"`tree` must have the dimensions 'chain' and 'draw' for `log_evidence`"),
    ],
)
def test_what_has_no_evidence_is_refused(fault: str, message: str, tree: xr.DataTree) -> None:
    broken = tree.copy(deep=True)
    if fault == "map":
        broken = fitted(rows(40), specification(2), method="map")
    if fault == "approximation":
        broken.attrs = {**tree.attrs, names.METHOD: "advi", names.RESAMPLED: 0, names.PARETO_K: 1.2}
    if fault == "stuck":
        broken["sample_stats"]["lp"].values[2] = -50.0
    if fault == "few":
        broken = fitted(rows(40, 2), specification(2), draws=10)
    if fault == "other density":
        broken["sample_stats"]["lp"].values[:] += 3.0
    if fault == "other rows":
        broken = tree.isel(obs=slice(30))
    if fault == "no weight":
        broken["posterior"]["weights"].values[3, 7] = [1.0, 0.0]
    if fault == "learnt":
        learnt = bg.GaussianMixture(bg.PriorOnComponents())
        broken = bg.fit(rows(40), learnt, draws=20, random_seed=1, progressbar=False)
    if fault == "chain":
        broken = tree.isel(chain=0)
    with pytest.raises(ValueError, match=message):
        bg.log_evidence(broken)


def test_arguments_are_checked(tree: xr.DataTree, rng: np.random.Generator) -> None:
    with pytest.raises(TypeError, match=r"`tree` must be a fit, .* got an object of type int"):
        bg.log_evidence(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`random_seed` must be at least 0; got -1"):
        bg.log_evidence(tree, random_seed=-1)
    with pytest.raises(ValueError, match=r"'lp' that differs from it by"):
        bg.log_evidence(random_fit(rng.normal(size=(30, 1)), rng))
