"""The likelihood of the program: rows with weights of their own, and rows drawn from them."""

from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from numpy.typing import NDArray

import bayesgmm as bg
from bayesgmm.likelihood import random_rows_of_their_weights
from tests.pymc_models import PYTHON

type Array = NDArray[np.float64]


def data() -> Array:
    return np.random.default_rng(1).normal(size=(8, 2))


def log_densities(model: pm.Model) -> Array:
    """Return the log density of every row at the initial point."""
    (graph,) = model.logp(vars=model.observed_RVs, sum=False)
    inputs = {value: model.initial_point()[value.name] for value in model.value_vars}
    return np.asarray(graph.eval(inputs, mode=PYTHON, on_unused_input="ignore"))


def said(spec: Any) -> dict[str, Any]:
    """Return what may be said of rows, by the kind of the components."""
    if isinstance(spec, bg.StudentTMixture):
        return {}
    return {"labels": [0, 1, -1, -1, -1, -1, -1, 0], "sample_weight": np.arange(8.0)}


@pytest.mark.parametrize("spec", [bg.GaussianMixture(2), bg.StudentTMixture(2)], ids=str)
def test_weights_that_all_rows_share_are_those_of_the_mixture(spec: Any) -> None:
    X, shift = data(), np.linspace(-3.0, 3.0, 8)[:, None]

    def the_same(weights: Any) -> Any:
        return pt.log(weights) + shift  # of each row a constant, which its weights do not know

    due = log_densities(bg.build_model(spec, X, **said(spec)))
    found = log_densities(bg.build_model(spec, X, **said(spec), log_weights=the_same))
    np.testing.assert_allclose(found, due, rtol=1e-12)


def test_a_row_has_the_density_of_its_own_weights() -> None:
    X = data()
    own = np.log(np.random.default_rng(2).dirichlet([1.0, 1.0], size=8))
    found = log_densities(bg.build_model(2, X, log_weights=lambda weights: own))
    for i in range(8):
        model = bg.build_model(2, X, log_weights=lambda weights, i=i: np.tile(own[i], (8, 1)))
        np.testing.assert_allclose(found[i], log_densities(model)[i], rtol=1e-12)


def test_what_is_added_within_belongs_to_the_model() -> None:
    def log_weights(weights: Any) -> Any:
        slope = pm.ZeroSumNormal("slope", sigma=1.0, dims="component")
        return pt.log(weights) + np.arange(8.0)[:, None] * slope

    model = bg.build_model(2, data(), log_weights=log_weights)
    assert "slope" in [variable.name for variable in model.free_RVs]
    assert model.named_vars_to_dims["X"] == ("obs", "feature")


def test_rows_are_drawn_by_their_weights() -> None:
    with np.errstate(divide="ignore"):
        log_weights = np.log(np.tile([[1.0, 0.0], [0.0, 1.0]], (4, 1)))
    means, cholesky = np.array([[0.0], [100.0]]), np.ones((2, 1, 1))
    drawn = pm.draw(
        random_rows_of_their_weights(*map(pt.as_tensor, (log_weights, means, cholesky)), (8,)),
        random_seed=1, mode="FAST_COMPILE",
    )  # fmt: skip
    np.testing.assert_array_equal(drawn[:, 0] > 50.0, np.tile([False, True], 4))


def test_what_are_no_weights_of_rows_is_refused() -> None:
    wrong: Any = np.zeros((8, 2))
    with pytest.raises(TypeError, match=r"`log_weights` must be a function.*type ndarray"):
        bg.build_model(2, data(), log_weights=wrong)
    for shape in ((2, 8), (8,), (7, 2)):
        with pytest.raises(ValueError, match=r"`log_weights` must return .* \(8, 2\).*; got \("):
            bg.build_model(2, data(), log_weights=lambda weights, s=shape: np.zeros(s))
