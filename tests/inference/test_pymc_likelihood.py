"""Whose likelihood a PyMC model has, and what is refused of fits where it is the user's own."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import norm

import bayesgmm as bg
from bayesgmm import names
from bayesgmm.data import prepare
from bayesgmm.inference.assemble import Draws, OwnLikelihood, assemble
from bayesgmm.inference.progress import Progress
from bayesgmm.inference.pymc_engine import all_parameters, make_ready, specification_of
from bayesgmm.inference.pymc_likelihood import along_rows
from bayesgmm.known_labels import with_labels
from bayesgmm.model import build_model
from bayesgmm.problem import Problem
from bayesgmm.symptoms import label_free
from bayesgmm.tree import _OF_ANY_LIKELIHOOD

type Array = NDArray[np.float64]

SHAPE = (2, 150)
"""Chains and draws."""


def data(n_features: int = 1) -> Array:
    """Return 30 rows of two clusters."""
    rows = np.random.default_rng(1).normal(size=(30, n_features))
    rows[:12] += 5.0
    return rows


def drawn(X: Array, model: pm.Model, problem: Problem | None = None) -> tuple[Problem, Draws]:
    """Return what a method would hand over of a model: draws from nowhere in particular."""
    problem = problem or Problem.make(specification_of(model), prepare(X))
    ready = make_ready(problem, model, Progress(False))
    n_draws = int(np.prod(SHAPE))
    vectors = 0.01 * np.random.default_rng(2).normal(size=(n_draws, ready.compiled.n_parameters))
    variables = ready.compiled.expand(vectors)
    parameters = all_parameters({name: variables[name] for name in ready.stored})
    own = ready.own_likelihood(problem, vectors, parameters)
    statistics = {names.LP: np.random.default_rng(3).normal(size=SHAPE)}
    others = ready.labelled(variables, SHAPE)
    return problem, Draws(parameters, statistics, (), {}, others, own_likelihood=own)


def own_of(X: Array, model: pm.Model) -> OwnLikelihood | None:
    return drawn(X, model)[1].own_likelihood


def as_built(X: Array) -> pm.Model:
    return build_model(2, X)


def with_other_priors(X: Array) -> pm.Model:
    with build_model(2, X) as model:
        means, scales = model["means"], model["scales"]
        pm.Potential("order", pt.switch(means[0, 0] < means[1, 0], 0.0, -np.inf))
        ratio = pm.Gamma("ratio", 2.0, 1.0)
        pm.Potential("alike", pm.logp(pm.Normal.dist(0.0, ratio), pt.log(scales).sum()))
        pm.Normal("seen elsewhere", means[0, 0], 1.0, observed=4.8)
        pm.Normal("other geysers", means[1, 0], 1.0, observed=np.ones(7))
    return model


def written_by_hand(X: Array) -> pm.Model:
    """The same mixture without any of our functions."""
    with pm.Model() as model:
        weights = pm.Dirichlet("weights", np.ones(2))
        means = pm.Normal("means", 0.0, 5.0, shape=(2, 1))
        scales = pm.HalfNormal("scales", 2.0, shape=(2, 1))
        pm.Deterministic("covariances", scales[:, :, None] ** 2)
        pm.NormalMixture("X", weights, means[:, 0], sigma=scales[:, 0], observed=X[:, 0])
    return model


@pytest.mark.parametrize(
    ("build", "n_features"),
    [(as_built, 2), (with_other_priors, 1), (written_by_hand, 1)],
)
def test_the_mixtures_likelihood_is_known_whatever_the_priors(
    build: Callable[[Array], pm.Model], n_features: int
) -> None:
    X = data(n_features)
    model = build(X)
    assert own_of(X, model) is None
    if n_features == 1:
        assert own_of(X, model.copy()) is None


def test_weights_and_labels_of_rows_are_part_of_ours() -> None:
    X = data()
    labels = np.full(len(X), -1)
    labels[0] = 1
    model = build_model(2, X, sample_weight=np.linspace(0.5, 1.5, len(X)), labels=labels)
    told = prepare(X, sample_weight=getattr(model, names.SAMPLE_WEIGHT))
    problem = Problem.make(specification_of(model), with_labels(told, labels, 2))
    assert drawn(X, model, problem)[1].own_likelihood is None
    # and a problem that was told of no label has another likelihood
    problem = Problem.make(specification_of(model), told)
    assert drawn(X, model, problem)[1].own_likelihood is not None


def with_another_observed(X: Array) -> pm.Model:
    with build_model(2, X) as model:
        pm.Normal("y", model["means"][0, 0], 1.0, observed=np.zeros(len(X)))
    return model


def with_a_term_of_rows(X: Array) -> pm.Model:
    with build_model(2, X) as model:
        pm.Potential("pull", -0.1 * pt.abs(X - model["means"][0]).sum())
    return model


def with_a_latent_of_rows(X: Array) -> pm.Model:
    with build_model(2, X) as model:
        latent = pm.Normal("latent", 0.0, 1.0, dims="obs")
        pm.Potential("pull", -0.1 * pt.sqr(latent - model["means"][0, 0]).sum())
    return model


def with_shared_data(X: Array) -> pm.Model:
    with build_model(2, X) as model:
        shared = pm.Data("shared", X[:, 0])
        pm.Potential("pull", -0.1 * pt.abs(shared - model["means"][0, 0]).sum())
    return model


@pytest.mark.parametrize(
    "build",
    [with_another_observed, with_a_term_of_rows, with_a_latent_of_rows, with_shared_data],
)
def test_a_further_term_of_the_rows_leaves_none_of_each(
    build: Callable[[Array], pm.Model],
) -> None:
    X = data()
    model = build(X)
    (term,) = [*model.potentials, *(one for one in model.observed_RVs if one.name != "X")]
    assert along_rows(model, term, X.shape)
    if build is with_a_term_of_rows:
        own = own_of(X, model)
        assert own is not None
        assert own.pointwise is None


def test_terms_of_parameters_alone_are_priors() -> None:
    X = data()
    model = with_other_priors(X)
    terms = [*model.potentials, *(one for one in model.observed_RVs if one.name != "X")]
    assert len(terms) == 4
    assert not any(along_rows(model, term, X.shape) for term in terms)


def of_own_weights(X: Array) -> tuple[pm.Model, Array]:
    """Return a model whose rows have weights of their own, and these."""
    first = np.linspace(0.1, 0.9, len(X))
    own = np.stack([first, 1.0 - first], axis=1)
    with pm.Model(coords={"obs": np.arange(len(X))}) as model:
        pm.Dirichlet("weights", np.ones(2))
        means = pm.Normal("means", 0.0, 5.0, shape=(2, 1))
        scales = pm.HalfNormal("scales", 2.0, shape=(2, 1))
        pm.Deterministic("covariances", scales[:, :, None] ** 2)
        law = {"mu": means[:, 0], "sigma": scales[:, 0]}
        pm.NormalMixture("seen", own, **law, observed=X[:, 0], dims="obs")
    return model, own


@pytest.fixture(scope="module")
def own() -> tuple[xr.DataTree, Array]:
    """A fit of rows with weights of their own, and its log-likelihood."""
    X = data()
    model, weights = of_own_weights(X)
    problem, found = drawn(X, model)
    means, scales = found.parameters.means, found.parameters.scales
    by_component = norm.logpdf(X[None], means[:, None, :, 0], scales[:, None, :, 0])
    due = logsumexp(np.log(weights) + by_component, axis=2)
    return assemble(problem, found, {names.METHOD: "nuts", names.ENGINE: "pymc"}, sharing=1), due


@pytest.fixture(scope="module")
def unknown(own: tuple[xr.DataTree, Array]) -> xr.DataTree:
    """The same where the likelihood is not known for every row."""
    tree = own[0].copy()
    del tree["log_likelihood"]
    return tree


def test_a_likelihood_of_each_row_is_stored_as_it_is(own: tuple[xr.DataTree, Array]) -> None:
    tree, due = own
    assert tree.attrs[names.LIKELIHOOD] == "own"
    stored = tree["log_likelihood"]["X"]
    np.testing.assert_allclose(stored.values.reshape(due.shape), due, rtol=1e-9)
    np.testing.assert_allclose(bg.waic(tree).elpd, watanabe(due), rtol=1e-9)
    np.testing.assert_allclose(bg.loo(tree).elpd, watanabe(due), atol=0.05)


def watanabe(log_likelihood: Array) -> float:
    terms = logsumexp(log_likelihood, axis=0) - np.log(len(log_likelihood))
    return float((terms - log_likelihood.var(axis=0, ddof=1)).sum())


def test_what_is_said_of_the_parameters_stands(
    own: tuple[xr.DataTree, Array], unknown: xr.DataTree, tmp_path: Any
) -> None:
    tree, _ = own
    for fit in (tree, unknown):
        bg.summary(fit)
        bg.check(fit)
        bg.align(fit)
        bg.overlap(fit)
        title = bg.plot_components(fit, ax=Figure().subplots()).get_title()
        assert "not by the model's own likelihood" in title
        bg.save(fit, tmp_path / "fit.nc")
        assert bg.load(tmp_path / "fit.nc").identical(fit)
    labels, _ = label_free(tree)
    assert any("log density at row" in label for label in labels)
    labels, quantities = label_free(unknown)
    assert labels == ["log posterior", "weight of rank 1", "weight of rank 2"]
    assert quantities.shape == (3, *SHAPE)


def test_what_is_said_of_rows_is_refused(own: tuple[xr.DataTree, Array]) -> None:
    tree, _ = own
    X = data()
    further: dict[str, tuple[Any, ...]] = {
        "marginal": (["x0"],), "conditional": ({"x0": 1.0},), "regress": ({"x0": 1.0},),
        "density": ([0.0],), "cdf": ([0.0],), "quantile": ([0.5],), "update": (X,),
        "representative_partitions": (2,), "plot_partition": (np.zeros(30),),
        "plot_credible_ball": (None,),
    }  # fmt: skip
    asked = 0
    for name in bg.__all__:
        function = getattr(bg, name)
        if not inspect.isfunction(function) or name in _OF_ANY_LIKELIHOOD:
            continue
        if next(iter(inspect.signature(function).parameters)) not in ("tree", "source"):
            continue
        asked += 1
        needed = further.get(name, ())
        with pytest.raises(ValueError, match="likelihood is that of the mixture for `"):
            function(tree, *needed)
    assert asked > 20
    with pytest.raises(ValueError, match="for `average`"):
        bg.average({"a": tree, "b": tree}, weights={"a": 0.5, "b": 0.5})
    with pytest.raises(ValueError, match="for `posterior_over_components`"):
        bg.posterior_over_components({2: tree})


def test_a_likelihood_that_is_not_known_for_rows_is_not_made_up(unknown: xr.DataTree) -> None:
    for function in (bg.loo, bg.waic):
        with pytest.raises(ValueError, match=r"must hold the group 'log_likelihood'.*put it in"):
            function(unknown)


def test_what_knows_of_other_likelihoods_is_public() -> None:
    assert set(bg.__all__) >= _OF_ANY_LIKELIHOOD
