"""Every specification, fitted by every method, through one protocol."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import bayesgmm as bg
from bayesgmm import names
from bayesgmm.priors import STRUCTURES
from bayesgmm.tree import check_schema
from tests.synthetic import assert_same

APPROXIMATIONS = ("fullrank_advi", "advi", "laplace")
DRAWING = ("nuts", *APPROXIMATIONS)
METHODS = (*DRAWING, "map", "ml")
DRAWS, CHAINS = 12, 2
SEED = 7

CASES = [(s, d, k, None) for s in STRUCTURES for d in (1, 2, 4) for k in (1, 2, 3)]
CASES += [(s, 2, 3, (0.5, 2.0, 4.0)) for s in ("full", "tied_spherical")]
CASES += [("diag", 1, 2, (3.0, 3.0))]
"""Structure, number of features, number of components, concentration."""

ALL = [(*case, method) for case in CASES for method in METHODS]
TWO = [case for case in ALL if case[1:3] == (2, 2)]
"""One fit of every structure by every method, for what costs more than looking."""


def name_of(value: Any) -> str:
    return str(value)


def data(n_features: int, n_components: int) -> np.ndarray:
    """Rows of well separated clusters, in units of their own."""
    made = bg.datasets.make_mixture(
        30 * n_components, n_components, n_features, separation=8.0, random_seed=n_features
    )
    return made["X"].values * 10.0 ** np.arange(n_features) + 3.0


def specification(
    structure: str, n_components: int, concentration: tuple[float, ...] | None
) -> bg.GaussianMixture:
    return bg.GaussianMixture(
        n_components,
        weights=bg.Dirichlet(1.0 if concentration is None else concentration),
        covariance=bg.LKJCovariance(structure=structure),
    )


def fit(
    structure: str,
    n_features: int,
    n_components: int,
    concentration: tuple[float, ...] | None,
    method: str,
    seed: int = SEED,
) -> xr.DataTree:
    return bg.fit(
        data(n_features, n_components),
        specification(structure, n_components, concentration),
        method=method,
        draws=DRAWS,
        tune=40,
        chains=CHAINS,
        random_seed=seed,
        progressbar=False,
    )


@functools.cache
def fitted(*case: Any) -> xr.DataTree:
    """The fit of a case, made once. No test may change it."""
    return fit(*case)


def shared(array: np.ndarray, axis: int) -> bool:
    """Whether all entries along an axis are the same to the last bit."""
    return bool((array == array.take([0], axis=axis)).all())


each = pytest.mark.parametrize("case", ALL, ids=name_of)
some = pytest.mark.parametrize("case", TWO, ids=name_of)


@each
def test_schema(case: tuple[Any, ...]) -> None:
    structure, n_features, n_components, concentration, method = case
    tree = fitted(*case)
    check_schema(tree)
    drawing = method in DRAWING
    sizes = {
        "chain": CHAINS if drawing else 1,
        "draw": DRAWS if drawing else 1,
        "component": n_components,
        "feature": n_features,
        "feature2": n_features,
    }
    posterior = tree["posterior"].dataset
    assert dict(posterior.sizes) == sizes
    assert list(posterior.data_vars) == list(names.PARAMETER_DIMS)
    features = [f"x{j}" for j in range(n_features)]
    assert posterior["feature"].values.tolist() == features
    assert posterior["feature2"].values.tolist() == features
    for dim in ("chain", "draw", "component"):
        assert posterior[dim].values.tolist() == list(range(sizes[dim]))
    for variable in posterior.data_vars.values():
        assert variable.dtype == np.float64
        assert np.isfinite(variable.values).all()
    assert tree["observed_data"]["X"].values.tobytes() == data(n_features, n_components).tobytes()
    assert tree["log_likelihood"]["X"].dims == ("chain", "draw", "obs")
    assert tree["alignment"]["permutation"].dtype == np.int64
    assert tree.attrs["method"] == method
    assert tree.attrs["engine"] == "fused"
    assert tree.attrs["random_seed"] == SEED
    assert type(tree.attrs["random_seed"]) is int
    stats = tree["sample_stats"].dataset
    diagnostics = {
        "nuts": {"diverging", "energy", "tree_depth", "n_steps", "step_size", "acceptance_rate"},
        **{name: {"log_q"} for name in APPROXIMATIONS},
    }
    assert set(stats.data_vars) == {"lp"} | diagnostics.get(method, set())
    for variable in stats.data_vars.values():
        assert np.isfinite(variable.values).all()


@pytest.mark.parametrize("case", [case for case in ALL if case[-1] in APPROXIMATIONS], ids=name_of)
def test_an_approximation_says_how_near_it_is(case: tuple[Any, ...]) -> None:
    tree = fitted(*case)
    attrs = tree.attrs
    assert (attrs["converged"], attrs["interrupted"]) == (1, 0)
    assert attrs["resampled"] == int(attrs["pareto_k"] <= 0.7)
    assert 0.0 < attrs["mode_share"] <= 1.0
    n_parameters = attrs["n_parameters"]
    peak = tree["modes"]["objective"].values[0]
    assert (tree["sample_stats"]["lp"] > peak - 5 * (n_parameters + 5)).all()  # around the mode
    assert ("optimization" in tree.children) is (case[-1] != "laplace")
    if "optimization" in tree.children:
        optimization = tree["optimization"].dataset
        assert set(optimization.data_vars) == {"elbo", "n_draws", "n_obs"}
        assert (optimization["n_obs"] == 30 * case[2]).all()
        assert (optimization["n_draws"] >= max(256, 4 * n_parameters)).all()
        assert optimization["elbo"].values[-1] >= optimization["elbo"].values[0]


@each
def test_specification_is_kept_resolved(case: tuple[Any, ...]) -> None:
    structure, n_features, n_components, concentration, _ = case
    kept = bg.GaussianMixture.from_dict(json.loads(fitted(*case).attrs["specification"]))
    given = specification(structure, n_components, concentration)
    assert kept.resolved
    assert not given.resolved
    assert kept == given.resolve(data(n_features, n_components))


@each
def test_parameters_are_a_mixture(case: tuple[Any, ...]) -> None:
    structure, n_features, n_components, _, _ = case
    posterior = fitted(*case)["posterior"].dataset
    weights, means, scales, correlations, covariances = (
        posterior[name].values for name in names.PARAMETER_DIMS
    )
    assert means.shape[2:] == (n_components, n_features)
    assert (weights > 0).all()
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0, rtol=0, atol=1e-14)
    assert (scales > 0).all()
    np.testing.assert_allclose(
        covariances, correlations * scales[..., :, None] * scales[..., None, :], rtol=1e-14
    )
    assert (covariances == np.swapaxes(covariances, -1, -2)).all()
    assert (np.einsum("...ii->...i", correlations) == 1.0).all()
    assert np.linalg.eigvalsh(correlations).min() > 0
    rule = STRUCTURES[structure]
    own_scales = n_components > 1 and not rule.shared_scales
    assert shared(scales, axis=-2) is not own_scales
    if n_features > 1:
        unequal = not rule.common_scale
        assert shared(scales, axis=-1) is not unequal
        identity = bool((correlations == np.eye(n_features)).all())
        assert identity is (rule.correlations == "none")
        spread = np.ptp(correlations, axis=-3).max()
        own = n_components > 1 and rule.correlations == "component"
        assert spread > 1e-3 if own else spread < 1e-14


@each
def test_log_likelihood_is_that_of_the_reported_parameters(case: tuple[Any, ...]) -> None:
    _, n_features, n_components, _, method = case
    tree = fitted(*case)
    X = data(n_features, n_components)
    posterior = tree["posterior"].dataset.isel(draw=slice(None, None, 5))
    reported = tree["log_likelihood"]["X"].isel(draw=slice(None, None, 5)).values
    weights, means, covariances = (
        posterior[name].values for name in ("weights", "means", "covariances")
    )
    for index in np.ndindex(weights.shape[:2]):
        joint = [
            np.log(weights[index][k])
            + multivariate_normal(means[index][k], covariances[index][k]).logpdf(X)
            for k in range(n_components)
        ]
        np.testing.assert_allclose(reported[index], logsumexp(joint, axis=0), rtol=1e-8, atol=1e-8)
    if method == "ml":  # the objective is the log-likelihood itself
        lp = tree["sample_stats"]["lp"].item()
        np.testing.assert_allclose(reported.sum(), lp, rtol=1e-9)


@each
def test_components_are_ordered_by_the_first_feature(case: tuple[Any, ...]) -> None:
    _, _, _, concentration, _ = case
    tree = fitted(*case)
    alignment = tree["alignment"]
    if concentration is not None and len(set(concentration)) > 1:
        assert alignment.attrs["method"] == "none"  # labels have a meaning: nothing to undo
        raw = np.arange(len(concentration))
        assert (alignment["permutation"].values == raw).all()
        return
    assert alignment.attrs["method"] == "stephens"
    first = tree["posterior"]["means"].mean(("chain", "draw")).isel(feature=0).values
    assert (np.diff(first) > 0).all()


@each
def test_the_method_is_checked_and_summarised(case: tuple[Any, ...]) -> None:
    structure, n_features, n_components, concentration, method = case
    rule = STRUCTURES[structure]
    rows = n_components if not rule.shared_scales else 1
    sets = {"none": 0, "shared": 1, "component": n_components}[rule.correlations]
    count = n_components * (1 + n_features)
    count += rows * (1 if rule.common_scale else n_features)
    count += sets * n_features * (n_features - 1) // 2
    tree = fitted(*case)
    table = bg.summary(tree)
    assert len(table) == count
    assert table.index.is_unique
    assert tree.attrs["n_parameters"] == count - 1  # weights sum to 1
    if method not in DRAWING and concentration is None:  # a dozen draws are too few to be trusted
        assert bg.check(tree).ok


@some
@pytest.mark.parametrize("ending", [".nc", ".zarr"])
def test_files_give_the_fit_and_its_predictions_back(
    case: tuple[Any, ...], ending: str, tmp_path: Path
) -> None:
    tree = fitted(*case)
    path = tmp_path / f"fit{ending}"
    bg.save(tree, path)
    loaded = bg.load(path)
    assert_same(loaded, tree)
    new = data(2, 2)[:5] + 1.0
    for function in (bg.predict_proba, bg.predict, bg.score_samples):
        xr.testing.assert_identical(function(loaded, new), function(tree, new))
        xr.testing.assert_identical(function(loaded), function(tree))
    xr.testing.assert_identical(
        bg.sample_posterior_predictive(loaded, 3, random_seed=1),
        bg.sample_posterior_predictive(tree, 3, random_seed=1),
    )
    assert bg.summary(loaded).equals(bg.summary(tree))


@some
def test_the_same_seed_gives_the_same_fit(case: tuple[Any, ...]) -> None:
    tree, again = fitted(*case), fit(*case)
    for group in ("posterior", "sample_stats", "log_likelihood", "alignment", "modes"):
        xr.testing.assert_identical(again[group].dataset, tree[group].dataset)


@some
def test_another_seed_gives_other_draws_and_the_same_modes(case: tuple[Any, ...]) -> None:
    tree, other = fitted(*case), fit(*case, seed=SEED + 1)
    if case[-1] in DRAWING:
        means, others = tree["posterior"]["means"].values, other["posterior"]["means"].values
        assert not np.isin(others, means).any()
    highest = tree["modes"]["objective"].values[0]
    np.testing.assert_allclose(other["modes"]["objective"].values[0], highest, atol=1e-3)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_mode_is_the_highest_point(structure: str) -> None:
    tops = {method: fitted(structure, 2, 2, None, method) for method in METHODS}
    lp = {method: tree["sample_stats"]["lp"].values for method, tree in tops.items()}
    likelihood = {
        method: tree["log_likelihood"]["X"].sum("obs").values for method, tree in tops.items()
    }
    assert likelihood["ml"].item() > likelihood["map"].item()
    for method in DRAWING:
        assert lp["map"].item() > lp[method].max()
        assert likelihood["ml"].item() > likelihood[method].max()


@pytest.mark.parametrize("method", METHODS)
def test_a_symmetric_vector_of_concentrations_is_the_number(method: str) -> None:
    one = fitted("diag", 1, 2, (3.0, 3.0), method)
    number = specification("diag", 2, None)
    X = data(1, 2)
    spec = bg.GaussianMixture(2, weights=bg.Dirichlet(3.0), covariance=number.covariance)
    other = bg.fit(
        X, spec, method=method, draws=DRAWS, tune=40, chains=CHAINS, random_seed=SEED,
        progressbar=False,
    )  # fmt: skip
    assert one["alignment"].attrs["method"] == "stephens"
    xr.testing.assert_identical(other["posterior"].dataset, one["posterior"].dataset)
