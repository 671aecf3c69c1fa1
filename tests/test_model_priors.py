"""The priors of PyMC's program: the LKJ law with its constant, and draws."""

from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
import xarray as xr
from pymc.pytensorf import rewrite_pregrad
from pytensor.compile.mode import Mode
from scipy import integrate, stats
from scipy.special import logit

import bayesgmm as bg
from bayesgmm import names
from bayesgmm.model import build_model, lkj_factors
from tests.pymc_models import PYTHON, data_of, value_of


@pytest.mark.parametrize("eta", [0.7, 1.0, 3.5])
def test_two_features_have_an_lkj_correlation(eta: float) -> None:
    # density proportional to det(R)**(eta - 1) = (1 - r**2)**(eta - 1)
    norm, _ = integrate.quad(lambda r: (1 - r * r) ** (eta - 1), -1, 1)
    r = np.linspace(-0.95, 0.95, 7)
    b = (1 + r) / 2
    factors = lkj_factors(pt.as_tensor(b[:, None]), 2).eval(mode=PYTHON)
    np.testing.assert_allclose(factors[:, 1, 0], r, rtol=1e-12)
    due = (eta - 1) * np.log1p(-r * r) - np.log(norm)
    np.testing.assert_allclose(stats.beta.logpdf(b, eta, eta) - np.log(2), due, rtol=1e-9)
    model = build_model(
        bg.GaussianMixture(1, covariance=bg.LKJCovariance(eta=eta)),
        np.random.default_rng(1).normal(size=(5, 2)),
    )
    variable = model[names.PARTIAL_CORRELATIONS]
    got = [pm.logp(variable, [[one]]).eval(mode=PYTHON).item() for one in b]
    np.testing.assert_allclose(np.array(got) - np.log(2), due, rtol=1e-9)


@pytest.mark.parametrize("eta", [1.0, 2.0])
def test_three_features_have_an_lkj_correlation(rng: np.random.Generator, eta: float) -> None:
    def determinant(r: float, s: float, t: float) -> float:
        return 1 - r * r - s * s - t * t + 2 * r * s * t

    def inner(s: float, t: float) -> float:
        half = np.sqrt((1 - s * s) * (1 - t * t))  # r lies within s t -+ half
        quantity = integrate.fixed_quad(
            lambda r: determinant(r, s, t) ** (eta - 1), s * t - half, s * t + half, n=5
        )
        return float(quantity[0])

    norm, error = integrate.dblquad(inner, -1, 1, -1, 1, epsabs=1e-9)
    assert error < 1e-6
    X = rng.normal(size=(5, 3))
    model = build_model(bg.GaussianMixture(1, covariance=bg.LKJCovariance(eta=eta)), X)
    for _ in range(3):
        b = rng.uniform(0.05, 0.95, 3)
        parts = {name: np.zeros(shape) for name, shape in model.eval_rv_shapes().items()}
        parts["partial_correlations_beta_logodds__"] = logit(b)[None]
        ((correlation,),) = value_of([model[names.CORRELATIONS]], model, parts)
        r, s, t = correlation[1, 0], correlation[2, 0], correlation[2, 1]
        jacobian = 8 * np.sqrt((1 - r * r) * (1 - s * s))  # of (r, s, t) by b
        variable = model[names.PARTIAL_CORRELATIONS]
        got = pm.logp(variable, b[None]).eval(mode=PYTHON).sum() - np.log(jacobian)
        due = (eta - 1) * np.log(determinant(r, s, t)) - np.log(norm)
        assert got == pytest.approx(due, rel=1e-6)
        np.testing.assert_allclose(np.diag(correlation), 1.0, rtol=1e-12)


def test_correlations_of_extreme_partial_correlations_are_finite() -> None:
    odds = pt.vector("odds", dtype="float64")
    factor = lkj_factors(pt.sigmoid(odds)[None], 3)
    slope = pt.grad(rewrite_pregrad(factor.sum()), odds)  # as PyMC and nutpie take gradients
    function = pytensor.function([odds], [factor, slope], mode=Mode("py", "fast_run"))
    for odd in (0.0, 30.0, 300.0):
        value, gradient = function(np.array([odd, -odd, 1.0]))
        np.testing.assert_allclose((value[0] ** 2).sum(axis=1), 1.0, rtol=1e-12)
        # beyond 36 the probability is 1 to the last digit, and PyMC's own Beta has no gradient
        assert odd > 36.0 or np.isfinite(gradient).all()


def test_prior_draws_follow_the_priors(rng: np.random.Generator) -> None:
    frame = pd.DataFrame(np.round(data_of(rng, 2)), columns=["a", "b"])
    spec = bg.GaussianMixture(2, weights=bg.Dirichlet((1.0, 3.0))).resolve(frame.to_numpy())
    model = build_model(spec, frame)
    with model:
        tree = pm.sample_prior_predictive(
            draws=1000, random_seed=3, compile_kwargs={"mode": "FAST_COMPILE"}
        )
    prior, rows = tree["prior"].isel(chain=0), tree["prior_predictive"]["X"].isel(chain=0)
    assert rows.dims == ("draw", "obs", "feature")
    assert list(rows["feature"].values) == ["a", "b"]
    assert set(names.PARAMETER_DIMS) <= set(prior.data_vars)
    location, scale = np.asarray(spec.means.location), np.asarray(spec.means.scale)

    def standard_errors(sample: xr.DataArray, due: Any) -> Any:
        return np.abs(sample.mean("draw") - due) / (sample.std("draw") / np.sqrt(1000))

    assert (standard_errors(prior["weights"], [0.25, 0.75]) < 5).all()
    assert (standard_errors(prior["means"], location) < 5).all()
    assert (standard_errors((prior["means"] - location) ** 2, scale**2) < 5).all()
    assert (prior["scales"].min(("draw", "component")) >= spec.covariance.floor).all()
    tau = np.asarray(spec.covariance.scale)
    floor = np.asarray(spec.covariance.floor) / tau
    due = stats.truncnorm.mean(floor, np.inf) * tau
    assert (standard_errors(prior["scales"], due) < 5).all()
    # given the parameters, a row has mean sum w mu and second moment sum w (Sigma + mu mu')
    weights = prior["weights"]
    centred = rows - (weights * prior["means"]).sum("component")
    assert (standard_errors(centred.mean("obs"), 0.0) < 5).all()
    off = prior["means"] - (weights * prior["means"]).sum("component")
    variance = (weights * (prior["scales"] ** 2 + off**2)).sum("component")
    assert (standard_errors((centred**2).mean("obs") / variance, 1.0) < 5).all()
    products = (centred.isel(feature=0) * centred.isel(feature=1)).mean("obs")
    mixed = prior["covariances"][..., 0, 1] + off[..., 0] * off[..., 1]
    assert standard_errors(products - (weights * mixed).sum("component"), 0.0) < 5
