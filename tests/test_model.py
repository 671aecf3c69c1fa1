"""PyMC's program of a mixture: the same density as the fused one and as scipy.stats has it."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit, logsumexp

import bayesgmm as bg
from bayesgmm import names
from bayesgmm.data import prepare
from bayesgmm.kernels.cholesky import offsets
from bayesgmm.model import build_model
from bayesgmm.priors import STRUCTURES
from bayesgmm.problem import Problem
from tests.pymc_models import PYTHON, data_of, value_of

type Array = NDArray[np.float64]

every_structure = pytest.mark.parametrize("structure", list(STRUCTURES))


def specification(
    structure: str, n_components: int, floor: float | None = 0.0
) -> bg.GaussianMixture:
    return bg.GaussianMixture(
        n_components,
        weights=bg.Dirichlet(tuple(np.linspace(0.5, 2.0, n_components))),
        covariance=bg.LKJCovariance(eta=1.7, structure=structure, floor=floor),
    )


def to_pymc(problem: Problem, vector: Array) -> tuple[Array, Array]:
    """Return PyMC's unconstrained point, and the derivatives by the fused vector of its entries."""
    layout = problem.layout
    means, scales, correlations, length = offsets(layout)
    point, slopes = vector.copy(), np.ones(length)
    point[means:scales] = (
        problem.center + problem.unit * vector[means:scales].reshape(-1, layout.n_features)
    ).ravel()
    slopes[means:scales] = np.tile(problem.unit, layout.n_components)
    shift = np.log(problem.unit[: layout.scale_columns])
    point[scales:correlations] += np.tile(shift, layout.scale_rows)
    return point, slopes


def split(model: pm.Model, point: Array) -> dict[str, Array]:
    """Return the parts of an unconstrained point by the names of the value variables."""
    parts, at = {}, 0
    for variable in model.value_vars:
        shape = model.eval_rv_shapes()[variable.name]
        size = int(np.prod(shape))
        parts[variable.name] = point[at : at + size].reshape(shape)
        at += size
    assert at == point.size
    return parts


def density(model: pm.Model, parts: Mapping[str, Array]) -> tuple[float, Array]:
    """Return PyMC's log density and gradient, constants and Jacobians included."""
    log_density = model.logp()
    slopes = pt.grad(log_density, model.value_vars)
    outputs = [log_density, pt.concatenate([slope.ravel() for slope in slopes])]
    function = pytensor.function(model.value_vars, outputs, mode=PYTHON)
    value, gradient = function(*(parts[variable.name] for variable in model.value_vars))
    return float(value), gradient


def agree_with_the_fused_density(rng: np.random.Generator, X: Array, spec: Any) -> None:
    problem = Problem.make(spec, prepare(X))
    vector = rng.normal(size=problem.n_parameters)
    due, due_slopes = problem.log_posterior(vector)
    model = build_model(spec, X)
    point, stretch = to_pymc(problem, vector)
    got, slopes = density(model, split(model, point))
    assert got == pytest.approx(due, rel=1e-8)
    np.testing.assert_allclose(
        slopes * stretch, due_slopes, rtol=1e-7, atol=1e-9 * np.abs(due_slopes).max()
    )


@every_structure
@pytest.mark.parametrize("n_features", [1, 2, 5])
@pytest.mark.parametrize("n_components", [1, 2, 7])
def test_density_and_gradient_are_the_fused_ones(
    rng: np.random.Generator, structure: str, n_features: int, n_components: int
) -> None:
    X = data_of(rng, n_features)
    agree_with_the_fused_density(rng, X, specification(structure, n_components))


@every_structure
def test_density_is_the_fused_one_where_scales_have_a_floor(
    rng: np.random.Generator, structure: str
) -> None:
    X = data_of(rng, 2)
    X[:, 0] = np.round(X[:, 0])  # the other feature does not repeat itself
    common = STRUCTURES[structure].common_scale
    spec = specification(structure, 2, floor=0.3 if common else None)
    floor = np.atleast_1d(spec.resolve(X).covariance.floor)
    assert floor.max() > 0
    assert common or floor.min() == 0
    agree_with_the_fused_density(rng, X, spec)


def by_hand(spec: bg.GaussianMixture, X: Array, values: Mapping[str, Array]) -> float:
    """Return the log density of unconstrained values from scipy.stats, loops and Jacobians."""
    k, d = spec.n_components, X.shape[1]
    structure = spec.structure
    v = values.get("weights_simplex__", np.zeros(0))
    y = np.append(v, -v.sum())
    weights = np.exp(y - logsumexp(y))
    total = 0.0
    if k > 1:
        total += stats.dirichlet.logpdf(weights, spec.weights.per_component(k))
        total += np.log(k) + np.log(weights).sum()  # Jacobian of the simplex transform
    means = values["means"]
    total += stats.norm.logpdf(means, spec.means.location, spec.means.scale).sum()
    (name,) = [name for name in values if name.startswith(("scales", "shared"))]
    tau, floor = np.asarray(spec.covariance.scale), np.asarray(spec.covariance.floor)
    free = floor + np.exp(values[name])
    total += (stats.halfnorm.logpdf(free, scale=tau) - stats.halfnorm.logsf(floor, scale=tau)).sum()
    total += values[name].sum()
    along = free[:, None] if structure.common_scale and not structure.shared_scales else free
    scales = np.broadcast_to(along, (k, d))
    correlations = np.tile(np.eye(d), (k, 1, 1))
    if structure.correlations != "none" and d > 1:
        odds = values["partial_correlations_beta_logodds__"].reshape(-1, d * (d - 1) // 2)
        for which in range(k):
            own = odds[which if len(odds) > 1 else 0]
            factor = np.eye(d)
            rows, columns = np.tril_indices(d, -1)
            partial = dict(zip(zip(rows, columns, strict=True), 2 * expit(own) - 1, strict=True))
            for i in range(d):
                for j in range(i + 1):
                    left = np.prod([np.sqrt(1 - partial[i, m] ** 2) for m in range(j)])
                    factor[i, j] = left * (partial[i, j] if j < i else 1.0)
            correlations[which] = factor @ factor.T
            if which < len(odds):
                shape = spec.covariance.eta + (d - 2 - columns) / 2
                total += stats.beta.logpdf(expit(own), shape, shape).sum()
                total += np.log(expit(own) * expit(-own)).sum()
    for x in X:
        total += logsumexp(
            [
                np.log(weight)
                + stats.multivariate_normal.logpdf(x, mean, correlation * np.outer(scale, scale))
                for weight, mean, scale, correlation in zip(
                    weights, means, scales, correlations, strict=True
                )
            ]
        )
    return float(total)


@pytest.mark.parametrize(
    ("structure", "n_features", "n_components", "floor"),
    [
        ("full", 3, 2, 0.0),
        ("full", 2, 3, 0.5),
        ("full", 1, 1, 0.0),
        ("tied", 3, 2, 0.0),
        ("tied_correlation", 3, 2, 0.0),
        ("diag", 2, 2, 0.1),
        ("spherical", 2, 3, 0.0),
        ("tied_spherical", 2, 2, 0.2),
    ],
)
def test_density_is_that_of_scipy(
    rng: np.random.Generator, structure: str, n_features: int, n_components: int, floor: float
) -> None:
    X = data_of(rng, n_features)
    spec = specification(structure, n_components, floor).resolve(X)
    model = build_model(spec, X)
    problem = Problem.make(spec, prepare(X))
    point, _ = to_pymc(problem, 0.5 * rng.normal(size=problem.n_parameters))
    parts = split(model, point)
    got, _ = density(model, parts)
    assert got == pytest.approx(by_hand(spec, X, parts), rel=1e-8)


def test_every_row_has_its_log_density(rng: np.random.Generator) -> None:
    X = data_of(rng, 2)
    model = build_model(2, X)
    parts = {
        name: rng.normal(size=shape)
        for name, shape in model.eval_rv_shapes().items()
        if name in {variable.name for variable in model.value_vars}
    }
    variables = [model[name] for name in (names.WEIGHTS, names.MEANS, names.COVARIANCES)]
    weights, means, covariances = value_of(variables, model, parts)
    (rows,) = model.logp(vars=[model[names.X]], sum=False, jacobian=False)
    function = pytensor.function(model.value_vars, rows, mode=PYTHON, on_unused_input="ignore")
    got = function(*(parts[variable.name] for variable in model.value_vars))
    due = logsumexp(
        [
            np.log(weight) + stats.multivariate_normal.logpdf(X, mean, covariance)
            for weight, mean, covariance in zip(weights, means, covariances, strict=True)
        ],
        axis=0,
    )
    np.testing.assert_allclose(got, due, rtol=1e-9)
    new = pt.matrix("new", dtype="float64")  # the distribution holds for any rows, not only ours
    again = pytensor.function(
        [new, *model.value_vars],
        model.replace_rvs_by_values([pm.logp(model[names.X], new)]),
        mode=PYTHON,
        on_unused_input="ignore",
    )
    (shifted,) = again(X[:3], *(parts[variable.name] for variable in model.value_vars))
    np.testing.assert_allclose(shifted, due[:3], rtol=1e-9)


@every_structure
def test_variables_are_labelled_and_belong_together(
    rng: np.random.Generator, structure: str
) -> None:
    frame = pd.DataFrame(
        data_of(rng, 3), columns=["a", "b", "c"], index=list("uvwxyzabcdefghijklmn")
    )
    model = build_model(specification(structure, 2), frame)
    assert {name: list(labels) for name, labels in model.coords.items() if labels is not None} == {
        "component": [0, 1],
        "feature": ["a", "b", "c"],
        "feature2": ["a", "b", "c"],
        "obs": list(frame.index),
        "pair": ["b, a", "c, a", "c, b"],
    }
    for name, dims in names.PARAMETER_DIMS.items():
        assert tuple(model.named_vars_to_dims[name]) == dims
    assert tuple(model.named_vars_to_dims["X"]) == ("obs", "feature")
    parts = {name: rng.normal(size=shape) for name, shape in model.eval_rv_shapes().items()}
    weights, means, scales, correlations, covariances = value_of(
        [model[name] for name in names.PARAMETER_DIMS], model, parts
    )
    assert weights.shape == (2,)
    assert weights.sum() == pytest.approx(1.0)
    assert means.shape == scales.shape == (2, 3)
    due = correlations * scales[:, :, None] * scales[:, None, :]
    np.testing.assert_allclose(covariances, due, rtol=1e-12)
    shared = STRUCTURES[structure]
    assert (scales[0] == scales[1]).all() == shared.shared_scales
    assert (scales[:, 0] == scales[:, 1]).all() == shared.common_scale
    assert (correlations[0] == correlations[1]).all() == (shared.correlations != "component")
    assert (correlations[0] == np.eye(3)).all() == (shared.correlations == "none")


@pytest.mark.parametrize(
    "index",
    [pd.date_range("2024-01-01", periods=20), pd.Index([1] * 20), pd.Index(range(5, 25))],
    ids=["dates", "repeated", "numbers"],
)
def test_rows_may_have_any_labels(rng: np.random.Generator, index: pd.Index) -> None:
    model = build_model(2, pd.DataFrame(data_of(rng, 1), columns=[2024], index=index))
    assert len(model.coords["obs"]) == 20
    assert list(model.coords["feature"]) == [2024]
    assert "pair" not in model.coords


def test_a_number_of_components_stands_for_all_defaults(rng: np.random.Generator) -> None:
    X = data_of(rng, 2)
    one, two = build_model(np.int64(3), X), build_model(bg.GaussianMixture(3), X)
    parts = split(one, rng.normal(size=17))
    assert density(one, parts)[0] == density(two, parts)[0]


def test_numba_gives_the_same_density(rng: np.random.Generator) -> None:
    # an Op without a native implementation would warn, and warnings are errors
    X = data_of(rng, 2)
    problem = Problem.make(specification("full", 2), prepare(X))
    model = build_model(problem.specification, X)
    function = model.logp_dlogp_function(ravel_inputs=True, mode="NUMBA")
    function.set_extra_values({})
    for _ in range(3):
        vector = rng.normal(size=problem.n_parameters)
        due, slopes = problem.log_posterior(vector)
        point, stretch = to_pymc(problem, vector)
        got, got_slopes = function(point)
        assert got == pytest.approx(due, rel=1e-10)
        np.testing.assert_allclose(got_slopes * stretch, slopes, rtol=1e-8, atol=1e-9)


def test_the_model_can_be_extended(rng: np.random.Generator) -> None:
    X = data_of(rng, 2)
    with build_model(2, X) as model:
        apart = pm.Exponential("apart", 1.0)
        pm.Potential(
            "repulsion", -apart * pt.exp(-pt.abs(model["means"][0, 0] - model["means"][1, 0]))
        )
    plain = build_model(2, X)
    parts = split(plain, rng.normal(size=11))
    extended = density(model, {**parts, "apart_log__": np.array(0.0)})[0]
    means = parts["means"]
    due = -np.exp(-abs(means[0, 0] - means[1, 0])) - 1.0  # Exponential(1) at 1, Jacobian 0
    assert extended - density(plain, parts)[0] == pytest.approx(due, rel=1e-6)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("3", "`spec` must be a GaussianMixture or a number of components; got '3' of type str"),
        (True, "`spec` must be a GaussianMixture or a number of components; got True of type bool"),
        (2.0, "`spec` must be a GaussianMixture or a number of components; got 2.0 of type float"),
        (None, "`spec` must be a GaussianMixture or a number of components; got None"),
    ],
)
def test_other_specifications_are_refused(spec: Any, message: str) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        build_model(spec, [[0.0], [1.0], [3.0]])


def test_data_that_cannot_be_fitted_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`n_components` must be at least 1; got 0"):
        build_model(0, [[0.0], [1.0]])
    with pytest.raises(ValueError, match=r"at least as many rows as there are components, 3; got"):
        build_model(3, [[0.0], [1.0]])
    with pytest.raises(ValueError, match=r"the first at row 1, column 'x0'. Fit a"):
        build_model(2, [[0.0, 2.0], [np.nan, 0.5], [4.0, 1.0]])
    spec = bg.GaussianMixture(2, means=bg.NormalMeans(location=(1.0, 2.0, 3.0)))
    with pytest.raises(ValueError, match=r"one per feature, 2; got 3"):
        build_model(spec, [[0.0, 2.0], [1.0, 0.5], [4.0, 1.0]])


def test_noise_is_in_the_program(rng: np.random.Generator) -> None:
    X = rng.normal(size=(30, 2)) * [1.0, 3.0] + [0.0, 5.0]
    X[:2] = [[9.0, 0.0], [-20.0, 5.0]]  # outside of the box
    noise = bg.UniformNoise(0.7, [-5.0, -12.0], [5.0, 20.0])
    spec = dataclasses.replace(specification("full", 2), noise=noise)
    agree_with_the_fused_density(rng, X, spec)
    with build_model(spec, X):
        drawn = pm.sample_prior_predictive(200, random_seed=1)
    rows, weight = drawn.prior_predictive["X"].values[0], drawn.prior["noise_weight"].values[0]
    assert rows.shape == (200, 30, 2)
    total = drawn.prior["weights"].sum("component").values[0] + weight
    np.testing.assert_allclose(total, 1.0)
    inside = ((rows >= [-5.0, -12.0]) & (rows <= [5.0, 20.0])).all(axis=-1).mean(axis=1)
    assert (inside[weight > 0.9] > 0.7).all()
    with pytest.raises(ValueError, match="`noise` must be None in a PyMC model with `log_weights`"):
        build_model(spec, X, labels=np.zeros(30, dtype=int))
    with pytest.raises(ValueError, match="`noise` must be None for PyMC's engine"):
        bg.fit(X, build_model(spec, X))
