"""PyMC's engine: what it refuses, where chains start, and that it samples what fused does."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
import xarray as xr
from arviz_stats import ess, mcse
from numpy.typing import NDArray

import bayesgmm as bg
from bayesgmm import names
from bayesgmm.data import prepare
from bayesgmm.errors import ConvergenceWarning, FitError
from bayesgmm.inference import pymc_engine
from bayesgmm.inference.assemble import Draws, assemble
from bayesgmm.inference.em import find_modes
from bayesgmm.inference.mode import Target
from bayesgmm.inference.nuts import STARTS_PER_CHAIN, NutsResult
from bayesgmm.inference.progress import Progress
from bayesgmm.inference.pymc_engine import specification_of
from bayesgmm.inference.pymc_starts import free_values, place, start_near
from bayesgmm.model import build_model
from bayesgmm.priors import STRUCTURES
from bayesgmm.problem import Problem
from tests.pymc_models import PYTHON

type Array = NDArray[np.float64]

SILENT = Progress(False)


def clusters(rng: np.random.Generator, n_features: int = 2) -> Array:
    """Return 60 rows of two clusters, the features in different units."""
    rows = rng.normal(size=(60, n_features))
    rows[:25] += 6.0
    return rows * 10.0 ** np.arange(n_features)


def slow(model: pm.Model) -> Any:
    """Return what nutpie would compile, evaluated without compiling."""
    shapes = model.eval_rv_shapes()
    parts, at = [], 0
    point = pt.vector("point", dtype="float64")
    for variable in model.value_vars:
        size = int(np.prod(shapes[variable.name]))
        parts.append(point[at : at + size].reshape(shapes[variable.name]))
        at += size
    log_density = model.logp()
    slopes = pt.concatenate([slope.ravel() for slope in pt.grad(log_density, model.value_vars)])
    replace = dict(zip(model.value_vars, parts, strict=True))
    graph = pytensor.graph.clone_replace([log_density, slopes], replace)
    return SimpleNamespace(
        shapes=shapes,
        initial_point=lambda seed: np.zeros(at),
        log_posterior=pytensor.function([point], graph, mode=PYTHON),
    )


def best_mode(problem: Problem, rng: np.random.Generator) -> Any:
    return find_modes(problem, Target.MAP, rng, n_starts=4, hierarchical=False).best


@pytest.mark.parametrize("floor", [0.0, 0.2])
@pytest.mark.parametrize("structure", list(STRUCTURES))
def test_values_of_the_fused_vector_are_put_where_they_belong(
    rng: np.random.Generator, structure: str, floor: float
) -> None:
    X = clusters(rng, 3)
    spec = bg.GaussianMixture(3, covariance=bg.LKJCovariance(structure=structure, floor=floor))
    problem = Problem.make(spec, prepare(X))
    model = build_model(spec, X)
    compiled = slow(model)
    vector = rng.normal(size=problem.n_parameters)
    due, _ = problem.log_posterior(vector)
    point = np.full(problem.n_parameters, np.nan)
    for order in (np.arange(3), np.array([2, 0, 1])):
        placed = place(model, compiled, point, free_values(problem, vector, order))
        value, _ = compiled.log_posterior(placed)
        assert value == pytest.approx(due, rel=1e-8)


@pytest.mark.parametrize("n_components", [1, 2])
def test_chains_start_around_the_mode_and_never_at_it(
    rng: np.random.Generator, n_components: int
) -> None:
    X = clusters(rng, 1)
    problem = Problem.make(bg.GaussianMixture(n_components), prepare(X))
    model = build_model(n_components, X)
    compiled = slow(model)
    mode = best_mode(problem, rng)
    one, two = (start_near(model, compiled, problem, mode, rng) for _ in range(2))
    assert (one != two).all()
    value, slopes = compiled.log_posterior(one)
    assert mode.objective - 5 * problem.n_parameters < value < mode.objective
    assert np.abs(slopes).max() > 0.01


@pytest.mark.parametrize("sign", [1, -1])
def test_components_are_reordered_until_a_hard_constraint_holds(
    rng: np.random.Generator, sign: int
) -> None:
    X = clusters(rng)
    with build_model(2, X) as model:
        first, second = model["means"][0, 0], model["means"][1, 0]
        pm.Potential("order", pt.switch(sign * (first - second) > 0, 0.0, -np.inf))
        pm.Normal("added", shape=3)
    problem = Problem.make(specification_of(model), prepare(X))
    compiled = slow(model)
    start = start_near(model, compiled, problem, best_mode(problem, rng), rng)
    assert np.isfinite(compiled.log_posterior(start)[0])
    means = start[1:5].reshape(2, 2)
    assert sign * (means[0, 0] - means[1, 0]) > 0
    assert (start[-3:] == 0.0).all()  # what was added starts where the model has it


def test_a_model_that_is_finite_nowhere_is_a_failed_fit(rng: np.random.Generator) -> None:
    X = clusters(rng)
    with build_model(2, X) as model:
        pm.Potential("never", pt.switch(model["means"][0, 0] > 1e9, 0.0, -np.inf))
    problem = Problem.make(specification_of(model), prepare(X))
    with pytest.raises(FitError, match=r"not finite .*; got none in 20 tries\. Give") as caught:
        start_near(model, slow(model), problem, best_mode(problem, rng), rng)
    assert caught.value.status == "sampler"


def test_the_specification_is_that_of_the_model(rng: np.random.Generator) -> None:
    X = clusters(rng)
    spec = bg.GaussianMixture(2, covariance=bg.LKJCovariance(structure="tied"))
    assert specification_of(build_model(spec, X)) == spec.resolve(X)
    with pm.Model() as other:
        pm.Dirichlet("weights", np.ones(4))
        pm.Normal("means", shape=(4, 2))
        pm.Deterministic("covariances", pt.ones((4, 2, 2)))
    assert specification_of(other) == bg.GaussianMixture(4)


@pytest.mark.parametrize("name", pymc_engine.NEEDED)
def test_models_without_a_needed_variable_are_refused(rng: np.random.Generator, name: str) -> None:
    dims = {"weights": (2,), "means": (2, 2), "covariances": (2, 2, 2)}
    with pm.Model() as model:
        for other, shape in dims.items():
            if other != name:
                pm.Deterministic(other, pt.ones(shape))
    with pytest.raises(ValueError, match=rf"`spec` must be .* weights, .* without '{name}'"):
        bg.fit(clusters(rng), model)
    with model:
        pm.Deterministic(name, pt.ones((2, 2, 2, 2)))
    with pytest.raises(ValueError, match=rf"{name}' has the dimensions .*; got 4 dimensions"):
        bg.fit(clusters(rng), model)


def test_other_data_than_the_models_are_refused(rng: np.random.Generator) -> None:
    X = clusters(rng)
    model = build_model(2, X)
    message = r"`X` must be the data .* built for; got shape \(60, 2\) .* 'X' of shape \(60, 2\)"
    with pytest.raises(ValueError, match=message):
        bg.fit(X + 1.0, model)
    with pytest.raises(ValueError, match=r"got shape \(59, 2\)"):
        bg.fit(X[:-1], model)
    with pm.Model() as blind:
        for name in pymc_engine.NEEDED:
            pm.Deterministic(name, model[name])
    with pytest.raises(ValueError, match=r"than the model observes, nothing"):
        bg.fit(X, blind)


def test_variables_of_another_shape_are_refused(rng: np.random.Generator) -> None:
    problem = Problem.make(bg.GaussianMixture(2), prepare(clusters(rng)))
    shapes = {"weights": (2,), "means": (2, 2), "scales": (2, 1), "covariances": (2, 2, 2)}
    message = r"`spec` must .* 'scales' has the shape \(2, 2\) \(component, feature\); got \(2, 1\)"
    with pytest.raises(ValueError, match=message):
        pymc_engine._check_shapes(shapes, problem)


def test_what_follows_from_covariances_is_computed(rng: np.random.Generator) -> None:
    square = rng.normal(size=(10, 3, 2, 4))
    covariances = square @ np.swapaxes(square, -1, -2)
    given = {
        names.WEIGHTS: rng.dirichlet(np.ones(3), 10),
        names.MEANS: rng.normal(size=(10, 3, 2)),
        names.COVARIANCES: covariances,
    }
    got = pymc_engine.all_parameters(given)
    np.testing.assert_array_equal(got.covariances, covariances)
    np.testing.assert_allclose(got.scales**2, np.einsum("...ii->...i", covariances), rtol=1e-12)
    for s in range(10):
        for k in range(3):
            outer = np.outer(got.scales[s, k], got.scales[s, k])
            correlations = covariances[s, k] / outer
            np.testing.assert_allclose(got.correlations[s, k], correlations, rtol=1e-12)
    assert (np.einsum("...ii->...i", got.correlations) == 1.0).all()


def test_what_runs_along_components_is_aligned_with_them(rng: np.random.Generator) -> None:
    problem = Problem.make(bg.GaussianMixture(2), prepare(clusters(rng)))
    mode = best_mode(problem, rng).parameters
    swapped = type(mode)(*(array[:, ::-1] for array in mode))
    parameters = type(mode)(*map(np.concatenate, zip(mode, swapped, mode, strict=True)))
    sample = (names.CHAIN, names.DRAW)
    others = {
        "shares": xr.Variable((*sample, names.COMPONENT), parameters.weights[None]),
        "centers": xr.Variable(
            (*sample, names.FEATURE, names.COMPONENT), parameters.means[None].swapaxes(2, 3)
        ),
        "number": xr.Variable(sample, np.arange(3.0)[None]),
    }
    drawn = Draws(parameters, {names.LP: np.zeros((1, 3))}, (), {}, others)
    tree = assemble(problem, drawn, {}, sharing=1)
    permutation = tree["alignment"]["permutation"].values[0]
    assert (permutation[1] == permutation[0, ::-1]).all()
    assert (permutation[2] == permutation[0]).all()
    posterior = tree["posterior"].to_dataset()
    for name, due in (("shares", names.WEIGHTS), ("centers", names.MEANS)):
        xr.testing.assert_identical(
            posterior[name].transpose(*posterior[due].dims).rename(due), posterior[due]
        )
    assert posterior["number"].values.tolist() == [[0.0, 1.0, 2.0]]


def test_an_interrupted_fit_says_so(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = clusters(rng)
    vectors = rng.normal(size=(2, 7, 11))
    statistics = {names.LP: np.zeros((2, 7))}
    result = NutsResult(vectors, statistics, (), ("leapfrog",), 800, 1.0, 1.0, True)
    monkeypatch.setattr(pymc_engine, "to_the_end", lambda run, progress: result)
    with pytest.warns(ConvergenceWarning, match=r"interrupted: 7 of 50 draws per chain"):
        tree = bg.fit(X, build_model(2, X), draws=50, random_seed=1, progressbar=False)
    assert tree.attrs[names.INTERRUPTED] == 1
    assert tree["posterior"].sizes[names.DRAW] == 7


def agree(one: xr.DataTree, two: xr.DataTree) -> None:
    """Hold the posterior means of two fits to five combined standard errors."""
    for name in (names.WEIGHTS, names.MEANS, names.SCALES, names.COVARIANCES):
        a, b = one["posterior"][name], two["posterior"][name]
        assert min(ess(a).min(), ess(b).min()) > 400
        gap = np.abs(a.mean(("chain", "draw")) - b.mean(("chain", "draw")))
        assert (gap < 5 * np.sqrt(mcse(a) ** 2 + mcse(b) ** 2)).all()


def test_a_changed_model_is_sampled_as_it_is(rng: np.random.Generator) -> None:
    X = clusters(rng)
    with build_model(2, X) as model:
        means = model["means"]
        pm.Potential("order", pt.switch(means[0, 0] > means[1, 0], 0.0, -np.inf))
        added = pm.Normal("added", 3.0, 2.0)
        pm.Deterministic("twice", 2.0 * added)
        pm.Deterministic("gap", means[0] - means[1])
        pm.Deterministic("residuals", X - means[0], dims=("obs", "feature"))
        pm.Deterministic("relative", model["weights"] / added, dims="component")
    fits = [bg.fit(X, model, random_seed=5, draws=600, progressbar=False) for _ in range(2)]
    tree = fits[0]
    assert tree.attrs[names.ENGINE] == "pymc"
    posterior = tree["posterior"].to_dataset()
    assert set(posterior.data_vars) == {
        *names.PARAMETER_DIMS, "added", "twice", "gap", "relative",
    }  # fmt: skip
    assert posterior.identical(fits[1]["posterior"].to_dataset())  # the same seed
    # the constraint halves a symmetric posterior, which alignment makes whole again
    agree(tree, bg.fit(X, 2, random_seed=6, draws=600, progressbar=False))
    assert (posterior["gap"][..., 0] > 0).all()
    np.testing.assert_array_equal(posterior["twice"], 2.0 * posterior["added"])
    xr.testing.assert_allclose(posterior["relative"] * posterior["added"], posterior["weights"])
    error = mcse(posterior["added"]).item()
    assert abs(posterior["added"].mean().item() - 3.0) < 5 * error < 1.0
    assert set(tree["sample_stats"].data_vars) >= {names.LP, names.DIVERGING, names.N_STEPS}
    assert tree["sample_stats"][names.DIVERGING].mean() < 0.05
    assert tree["modes"]["starts"].sum() == 4 * STARTS_PER_CHAIN
    bg.predict(tree, X[:3])


def test_one_component_of_one_feature_is_sampled(rng: np.random.Generator) -> None:
    X = clusters(rng, 1)
    tree = bg.fit(X, 1, engine="pymc", random_seed=5, draws=500, progressbar=False)
    assert (tree["posterior"]["weights"] == 1.0).all()
    assert (tree["posterior"]["correlations"] == 1.0).all()
    other = bg.fit(X, 1, random_seed=6, draws=500, progressbar=False)
    for name in (names.MEANS, names.SCALES):
        a, b = tree["posterior"][name], other["posterior"][name]
        gap = abs(a.mean().item() - b.mean().item())
        assert gap < 5 * np.hypot(mcse(a).item(), mcse(b).item())
