"""Approximations of PyMC models: PyMC's ADVI is ours, and what a user added is kept."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pymc as pm
import pytest
import xarray as xr

import bayesgmm as bg
from bayesgmm import names
from bayesgmm.data import prepare
from bayesgmm.errors import ConvergenceWarning, FitError
from bayesgmm.inference import advi, pymc_advi
from bayesgmm.inference.approximation import Normal
from bayesgmm.inference.families import FullRank, MeanField
from bayesgmm.inference.laplace import find_frame
from bayesgmm.inference.progress import Progress
from bayesgmm.model import build_model
from bayesgmm.problem import Problem
from bayesgmm.tree import check_schema

type Array = np.ndarray

SILENT = Progress(False)
METHODS = ("laplace", "advi", "fullrank_advi")
each = pytest.mark.parametrize("method", METHODS)
DATA = 30.0 * bg.datasets.make_mixture(60, 2, 1, separation=4.0, random_seed=1)["X"].values
"""Rows in units in which nothing is near 1."""


def changed() -> pm.Model:
    """A mixture with something added that does not depend on it."""
    with build_model(2, DATA) as model:
        added = pm.Normal("added", 3.0, 2.0)
        pm.Deterministic("twice", 2.0 * added)
    return model


class Case(NamedTuple):
    """A fit of a changed model, and the distribution that was drawn from."""

    tree: xr.DataTree
    normal: Normal


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    result: dict[str, Case] = {}
    drawn: list[Normal] = []
    propose = pymc_advi.propose

    def spy(normal: Normal, *args: Any) -> Any:
        drawn.append(normal)
        return propose(normal, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pymc_advi, "propose", spy)
        for method in METHODS:
            tree = bg.fit(
                DATA, changed(), method=method, draws=1000, random_seed=3, progressbar=False
            )
            result[method] = Case(tree, drawn[-1])
    return result


def fused(method: str) -> tuple[Normal, Normal]:
    """The nearest Normal by our own density, on PyMC's scale, and where its search starts."""
    problem = Problem.make(bg.GaussianMixture(2), prepare(DATA))
    frame, _, _ = find_frame(problem, np.random.default_rng(1), SILENT)
    start = normal = frame.normal
    if method != "laplace":
        family = (MeanField if method == "advi" else FullRank)(frame)
        z = advi.paired_draws(8192, problem.n_parameters, np.random.default_rng(2))
        zero = np.zeros(family.size)
        top = advi.maximise(family, advi.whole(problem), z, [zero], SILENT)
        start, normal = family.normal(zero), family.normal(top.t)
    unit, center = problem.unit.item(), problem.center.item()
    # a weight, two means, two logarithms of scales
    units = np.array([1.0, unit, unit, 1.0, 1.0])
    shift = np.array([0.0, center, center, np.log(unit), np.log(unit)])
    return tuple(Normal(shift + units * q.center, (units * q.factor.T).T, 0.0)
                 for q in (normal, start))  # fmt: skip


def moments(normal: Normal, n: int) -> tuple[Array, Array]:
    """Mean and covariance of the first numbers."""
    factor = normal.factor if normal.factor.ndim == 2 else np.diag(normal.factor)
    return normal.center[:n], (factor @ factor.T)[:n, :n]


def ordered(mean: Array, covariance: Array) -> tuple[Array, Array]:
    """The components in the order of their means: PyMC may have found the other of two modes."""
    swap = np.diag([-1.0, 1.0, 1.0, 1.0, 1.0])[:, [0, 2, 1, 4, 3]]
    if mean[1] > mean[2]:
        return swap @ mean, swap @ covariance @ swap.T
    return mean, covariance


@each
def test_both_engines_find_the_same_normal(cases: dict[str, Case], method: str) -> None:
    """PyMC's averages 1,000 steps of one draw each: 0.03 of a standard deviation is its error."""
    mean, covariance = ordered(*moments(cases[method].normal, 5))
    (due, wanted), (at_start, of_start) = (ordered(*moments(q, 5)) for q in fused(method))
    scales = np.sqrt(np.diagonal(wanted))
    tolerance = 1e-3 if method == "laplace" else 5 * 0.03
    assert np.abs((mean - due) / scales).max() < tolerance
    gap = np.sqrt(np.diagonal(covariance)) / scales - 1.0
    assert np.abs(gap).max() < tolerance
    between = np.outer(scales, scales)
    assert np.abs((covariance - wanted) / between).max() < 2.0 * tolerance
    if method != "laplace":  # it has come a long way
        far = (np.sqrt(np.diagonal(of_start)) / scales - 1.0, (at_start - due) / scales)
        assert np.abs(far).max() > 2.0 * tolerance


@each
def test_what_was_added_is_approximated_too(cases: dict[str, Case], method: str) -> None:
    tree, normal = cases[method]
    mean, covariance = moments(normal, 6)
    tolerance = 1e-3 if method == "laplace" else 5 * 0.03
    assert mean[5] == pytest.approx(3.0, abs=2.0 * tolerance)
    assert covariance[5, 5] == pytest.approx(4.0, rel=2.0 * tolerance)
    posterior = tree["posterior"].dataset
    assert set(posterior.data_vars) == {*names.PARAMETER_DIMS, "added", "twice"}
    np.testing.assert_array_equal(posterior["twice"], 2.0 * posterior["added"])
    x = posterior["added"].values.ravel()
    error = 2.0 / np.sqrt(0.5 * x.size)  # resampled draws repeat
    assert abs(x.mean() - 3.0) < 5 * error + 2.0 * tolerance
    assert abs(np.corrcoef(x, posterior["means"].values[..., 0, 0].ravel())[0, 1]) < 0.2


@each
def test_the_tree_is_that_of_every_fit(cases: dict[str, Case], method: str) -> None:
    tree, _ = cases[method]
    check_schema(tree)
    attrs, stats = tree.attrs, tree["sample_stats"].dataset
    assert (attrs["method"], attrs["engine"]) == (method, "pymc")
    assert (attrs["converged"], attrs["interrupted"]) == (1, 0)
    assert attrs["resampled"] == int(attrs["pareto_k"] <= 0.7)
    assert set(stats.data_vars) == {"lp", "log_q"}
    assert dict(stats.sizes) == {"chain": 4, "draw": 1000}
    assert ("optimization" in tree.children) is (method != "laplace")
    if method != "laplace":
        optimization = tree["optimization"].dataset
        assert set(optimization["n_draws"].values) == {1}
        assert set(optimization["n_obs"].values) == {60}
        last = optimization["elbo"].values[-1000:]
        ratios = (stats["lp"] - stats["log_q"]).values
        if not attrs["resampled"]:
            error = np.hypot(last.std() / 1000**0.5, ratios.std() / 4000**0.5)
            assert abs(ratios.mean() - last.mean()) < 5 * error + 0.1
    bg.check(tree)
    bg.predict(tree, DATA[:3])


def test_densities_are_those_of_the_fused_engine(cases: dict[str, Case]) -> None:
    """The log posterior, constants included, and what the draws were drawn from."""
    tree, normal = cases["laplace"]
    problem = Problem.make(bg.GaussianMixture(2), prepare(DATA))
    raw = bg.align(tree, "none")["posterior"].dataset.isel(chain=0, draw=slice(20))
    stats = tree["sample_stats"].dataset.isel(chain=0, draw=slice(20))
    parameters = type(problem.constrain(np.zeros((1, 5))))(
        *(raw[name].values for name in names.PARAMETER_DIMS)
    )
    for s in range(20):
        vector = problem.unconstrain(parameters, s)
        added = raw["added"].values[s]
        prior = -0.5 * ((added - 3.0) / 2.0) ** 2 - np.log(2.0 * np.sqrt(2.0 * np.pi))
        due = problem.log_posterior(vector)[0] + prior
        assert stats["lp"].values[s] == pytest.approx(due, rel=1e-9)


def test_the_same_seed_gives_the_same_draws() -> None:
    given = {"method": "laplace", "engine": "pymc", "draws": 50, "progressbar": False}
    one, two, other = (bg.fit(DATA, 2, random_seed=seed, **given) for seed in (4, 4, 5))
    xr.testing.assert_identical(one["posterior"].dataset, two["posterior"].dataset)
    assert not np.isin(other["posterior"]["means"], one["posterior"]["means"]).any()


def test_a_model_with_a_hard_constraint_keeps_to_it() -> None:
    with build_model(2, DATA) as model:
        means = model["means"]
        pm.Potential("order", pm.math.switch(means[0, 0] > means[1, 0], 0.0, -np.inf))
        pm.Deterministic("gap", means[0] - means[1])
    tree = bg.fit(DATA, model, method="laplace", draws=200, random_seed=1, progressbar=False)
    assert (tree["posterior"]["gap"] > 0.0).all()


@pytest.mark.parametrize("method", ["map", "ml"])
def test_points_of_a_model_are_refused(method: str) -> None:
    with pytest.raises(ValueError, match=rf"`spec` must be .* for method '{method}' .*PyMC model"):
        bg.fit(DATA, changed(), method=method)


# PyMC's ADVI from outside


def top(n: int = 3) -> pymc_advi.Top:
    square = np.array([[2.0, 0.3, 0.0], [0.3, 1.0, -0.4], [0.0, -0.4, 4.0]])
    units = np.array([1.0, 100.0, 1e-3])
    factor = units[:, None] * np.linalg.inv(np.linalg.cholesky(square)).T
    return pymc_advi.Top(square, units, Normal(np.arange(3.0), factor, 0.0), True)


def test_advi_starts_as_the_laplace_approximation() -> None:
    at = top()
    covariance = at.normal.factor @ at.normal.factor.T
    values, rates = pymc_advi._full_rank(at)
    factor = pymc_advi._factor(values)
    np.testing.assert_allclose(factor @ factor.T, covariance, rtol=1e-9, atol=0)
    assert (np.triu(factor, 1) == 0.0).all()
    assert values.keys() == rates.keys() == {"mu", "L_tril"}
    values, rates = pymc_advi._mean_field(at)
    precision = np.diagonal(np.linalg.inv(covariance))
    np.testing.assert_allclose(pymc_advi._factor(values), precision**-0.5, rtol=1e-9)
    assert values.keys() == rates.keys() == {"mu", "rho"}
    for name, rate in rates.items():  # a step changes the distribution by a hundredth
        moved = values | {name: values[name] + rate}
        change = (moved["mu"] - values["mu"]) / precision**-0.5
        change = change + np.log(pymc_advi._factor(moved) / pymc_advi._factor(values))
        np.testing.assert_allclose(change, 0.01, rtol=0.01)


class FakeParam:
    """A parameter of PyMC's approximation."""

    def __init__(self, name: str, size: int) -> None:
        self.name, self.value = name, np.zeros(size)

    def set_value(self, value: Array) -> None:
        self.value = value.copy()

    def get_value(self) -> Array:
        return self.value.copy()


def fake(losses: Callable[[int], float], stop: int, error: Exception | None = None) -> type:
    """PyMC's ADVI, whose center moves by 1 a step, and which the user stops."""

    class Fake:
        def __init__(self, model: Any, random_seed: int) -> None:
            self.approx = SimpleNamespace(params=[FakeParam("mu", 3), FakeParam("rho", 3)])
            self.hist = np.empty(0)

        def fit(self, n: int, *, progressbar: bool, callbacks: list[Any], **rest: Any) -> None:
            scores = np.full(n, np.nan)
            try:
                for i in range(min(n, stop)):
                    self.approx.params[0].value += 1.0
                    scores[i] = losses(i)
                    callbacks[0](self.approx, scores[: i + 1], i + 1)
                if error is not None:
                    raise error
            except StopIteration:
                pass
            self.hist = scores[: i + 1]

    return Fake


def run(fitter: type, monkeypatch: pytest.MonkeyPatch) -> pymc_advi.Fitted:
    monkeypatch.setattr(pm, "ADVI", fitter)
    rng = np.random.default_rng(1)
    ready: Any = SimpleNamespace(model=None)
    return pymc_advi._advi(ready, top(), "advi", rng, SILENT)


def test_advi_stops_when_the_elbo_grows_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = run(fake(lambda i: max(5.0 - 2e-3 * i, 0.0), 10**6), monkeypatch)
    assert fitted.converged
    assert not fitted.interrupted
    assert fitted.trace.size == 5000  # the first thousand that is no better than the one before
    assert (fitted.trace[[0, -1]] == [-5.0, 0.0]).all()
    np.testing.assert_allclose(fitted.normal.center, np.arange(3.0) + 4500.5)  # of that


def test_an_elbo_that_keeps_growing_has_not_converged(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = run(fake(lambda i: -1.0 * i, 10**6), monkeypatch)
    assert not fitted.converged
    assert not fitted.interrupted
    assert fitted.trace.size == pymc_advi.WINDOW * pymc_advi.MOST_WINDOWS


@pytest.mark.parametrize(("stop", "center"), [(300, 300.0), (1200, 500.5)])
def test_an_interruption_keeps_what_was_reached(
    stop: int, center: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = run(fake(lambda i: 1.0, stop), monkeypatch)
    assert fitted.interrupted
    assert not fitted.converged
    np.testing.assert_allclose(fitted.normal.center, np.arange(3.0) + center)


def test_advi_that_diverges_is_a_failed_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    error = FloatingPointError("NaN occurred in optimization. \nThe current approximation of")
    with pytest.raises(FitError, match=r"PyMC's ADVI diverged: NaN occurred .* Use") as caught:
        run(fake(lambda i: 1.0, 10, error), monkeypatch)
    assert caught.value.status == "not_converged"


def test_what_has_not_converged_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def unfinished(*args: Any) -> pymc_advi.Fitted:
        at = args[1].normal
        return pymc_advi.Fitted(at, np.array([-1.0]), False, False)

    monkeypatch.setattr(pymc_advi, "_advi", unfinished)
    given = {"engine": "pymc", "draws": 50, "random_seed": 1, "progressbar": False}
    with pytest.warns(ConvergenceWarning, match="ADVI did not converge"):
        tree = bg.fit(DATA, 2, method="advi", **given)
    assert tree.attrs["converged"] == 0
