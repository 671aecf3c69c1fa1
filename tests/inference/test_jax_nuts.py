"""Fits by JAX: the same posterior, schema and promises as the fused engine's."""

import dataclasses
import re
import sys
from typing import Any

import jax
import numpy as np
import pytest
import xarray as xr
from arviz_stats import ess, mcse

import bayesgmm as bg
from bayesgmm import inference
from bayesgmm.inference import jax_nuts

OPTIONS = {"chains": 2, "random_seed": 5, "progressbar": False}
X = bg.datasets.make_mixture(60, 2, 2, separation=6.0, random_seed=2)["X"].values


def fit(engine: str = "jax", **given: Any) -> xr.DataTree:
    return bg.fit(X, 2, engine=engine, **{"draws": 500, **OPTIONS, **given})


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    with jax.enable_x64(False):  # what users have who did not ask for anything
        return fit()


@pytest.fixture(scope="module")
def fused() -> xr.DataTree:
    return fit("fused")


def test_the_posterior_is_that_of_the_fused_engine(tree: xr.DataTree, fused: xr.DataTree) -> None:
    names = list(tree["posterior"].data_vars)
    assert names == list(fused["posterior"].data_vars)
    for name in ("weights", "means", "scales"):
        one, other = (
            np.moveaxis(t["posterior"][name].values, (0, 1), (-2, -1)) for t in (tree, fused)
        )
        for a, b in zip(one.reshape(-1, 2, 500), other.reshape(-1, 2, 500), strict=True):
            assert min(ess(a), ess(b)) > 300
            assert abs(a.mean() - b.mean()) < 5.0 * np.hypot(mcse(a), mcse(b))


def test_the_schema_is_that_of_the_fused_engine(tree: xr.DataTree, fused: xr.DataTree) -> None:
    assert set(tree.children) == set(fused.children)
    for name, variable in fused["sample_stats"].data_vars.items():
        found = tree["sample_stats"][name]
        assert found.dims == variable.dims
        assert found.dtype.kind == variable.dtype.kind.replace("u", "i")
    assert not tree["sample_stats"]["diverging"].any()
    assert tree["sample_stats"]["acceptance_rate"].mean() == pytest.approx(0.8, abs=0.15)
    np.testing.assert_array_equal(tree["modes"]["objective"], fused["modes"]["objective"])


def test_attributes_say_what_made_it(tree: xr.DataTree) -> None:
    attrs = tree.attrs
    assert (attrs["engine"], attrs["method"], attrs["integrator"]) == ("jax", "nuts", "leapfrog")
    assert (attrs["tuning_steps"], attrs["target_accept"]) == (100, 0.8)
    assert attrs["jax_version"] == jax.__version__
    assert attrs["blackjax_version"]
    assert attrs["device"] == jax.devices()[0].device_kind


def test_lp_is_the_log_posterior_of_the_draw(tree: xr.DataTree) -> None:
    from bayesgmm.problem import Problem

    problem = Problem.of_tree(tree)
    vectors = problem.vectors_of(bg.align(tree, "none"))
    due = [problem.log_posterior(vector)[0] for vector in vectors[:20]]
    np.testing.assert_allclose(tree["sample_stats"]["lp"].values.ravel()[:20], due, rtol=1e-8)


def test_the_configuration_of_jax_is_left_alone(tree: xr.DataTree) -> None:
    before = jax.config.jax_enable_x64
    with jax.enable_x64(False):
        fit(draws=4)
        assert jax.numpy.ones(1).dtype == np.float32
    assert jax.config.jax_enable_x64 == before


def test_a_seed_repeats_the_draws_and_nothing_is_compiled_again(tree: xr.DataTree) -> None:
    compiled = jax_nuts._advance._cache_size()
    again = fit()
    other = fit(draws=77, tune=41, random_seed=6, target_accept=0.9)
    assert jax_nuts._advance._cache_size() == compiled
    xr.testing.assert_identical(again["posterior"].dataset, tree["posterior"].dataset)
    assert other["posterior"].sizes["draw"] == 77
    assert other.attrs["tuning_steps"] == 41
    assert other["sample_stats"]["acceptance_rate"].mean() > 0.8


def test_step_sizes_are_tuned_and_then_stay(tree: xr.DataTree) -> None:
    steps = tree["sample_stats"]["step_size"]
    assert (steps == steps[:, :1]).all()
    assert (steps[0, 0] != steps[1, 0]).item()
    assert ((steps > 0.1) & (steps < 2.0)).all()


def test_an_interrupted_fit_keeps_its_draws(
    tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance, calls = jax_nuts._advance, []

    def interrupted(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == stop:
            raise KeyboardInterrupt
        return advance(*given)

    monkeypatch.setattr(jax_nuts, "_advance", interrupted)
    stop = 4
    with pytest.warns(bg.ConvergenceWarning, match="interrupted: 50 of 500 draws"):
        partial = fit()
    assert partial.attrs["interrupted"] == 1
    np.testing.assert_array_equal(partial["sample_stats"]["lp"], tree["sample_stats"]["lp"][:, :50])
    calls.clear()
    stop = 2
    with pytest.raises(bg.FitError, match="got 0 draws after it") as caught:
        fit()
    assert caught.value.status == "interrupted"


# Refusals


def refused(match: str, error: type[Exception] = ValueError, **given: Any) -> None:
    with pytest.raises(error, match=re.compile(match, re.DOTALL)):
        bg.fit(**{"X": X, "spec": 2, "engine": "jax", "progressbar": False, **given})


@pytest.mark.parametrize("method", ["map", "ml", "laplace", "advi", "fullrank_advi"])
def test_other_methods_are_refused(method: str) -> None:
    refused(rf"`engine` must be 'auto' or 'fused' for method '{method}'; got 'jax'", method=method)


def test_cells_that_are_not_seen_exactly_are_refused() -> None:
    holes = X.copy()
    holes[3, 1] = np.nan
    match = r"`engine` must be .*missing cells.*got JAX's engine.*Use engine='auto'"
    refused(match, X=holes)
    refused(match, measurement_error=np.full(X.shape, 0.1))


def test_an_unknown_number_and_pymc_models_are_refused() -> None:
    refused(
        "`spec` must have a number of components", spec=bg.GaussianMixture(bg.PriorOnComponents())
    )
    refused("`spec` must be a GaussianMixture.*'jax'; got a PyMC model", spec=bg.build_model(2, X))


@dataclasses.dataclass(frozen=True)
class OtherCovariance(bg.LKJCovariance):
    """A prior that has something of its own."""


@dataclasses.dataclass(frozen=True, repr=False)
class OtherMixture(bg.GaussianMixture):
    """A mixture that has something of its own."""

    tail: float = 0.0


def test_what_the_density_in_jax_does_not_have_is_refused() -> None:
    other = bg.GaussianMixture(2, covariance=OtherCovariance())
    refused(r"`covariance` must be LKJCovariance for engine 'jax'; got Other.*'auto'", spec=other)
    refused(r"`tail` must be 0\.0 for engine 'jax'; got 3\.0", spec=OtherMixture(2, tail=3.0))


def test_a_missing_package_is_named_before_anything_is_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(inference, "jax_nuts")
    monkeypatch.delitem(sys.modules, "bayesgmm.inference.jax_nuts")
    monkeypatch.setitem(sys.modules, "blackjax", None)
    monkeypatch.setattr("bayesgmm.inference.fit.prepare", None)
    refused(r"must have JAX and BlackJAX.*pip install \"bayesgmm\[jax\]\"", ImportError)
