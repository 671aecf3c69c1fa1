"""Priors on the number of components."""

import json

import numpy as np
import pytest
from scipy.stats import betanbinom, geom, poisson

import bayesgmm as bg
from bayesgmm.component_prior import LARGEST

K = np.arange(1, LARGEST + 1)


@pytest.mark.parametrize(
    ("prior", "due"),
    [
        (bg.PriorOnComponents(), betanbinom.pmf(K - 1, 1, 4, 3)),
        (bg.PriorOnComponents(parameters=(3, 2.5, 0.5)), betanbinom.pmf(K - 1, 3, 2.5, 0.5)),
        (bg.PriorOnComponents("poisson"), poisson.pmf(K - 1, 1.0)),
        (bg.PriorOnComponents("poisson", 7), poisson.pmf(K - 1, 7.0)),
        (bg.PriorOnComponents("geometric"), geom.pmf(K, 0.1)),
        (bg.PriorOnComponents("uniform"), np.full(30, 1 / 30)),
        (bg.PriorOnComponents("uniform", 1), np.ones(1)),
    ],
    ids=str,
)
def test_probabilities_are_those_of_scipy(prior: bg.PriorOnComponents, due: np.ndarray) -> None:
    np.testing.assert_allclose(prior.probabilities(), due / due.sum(), rtol=1e-10)


def test_a_prior_is_printed_and_kept() -> None:
    prior = bg.PriorOnComponents("poisson", 2, concentration=1, dynamic=False)
    assert (prior.parameters, prior.concentration) == ((2.0,), 1.0)
    assert eval(repr(prior), {"PriorOnComponents": bg.PriorOnComponents}) == prior
    spec = bg.GaussianMixture(bg.PriorOnComponents())
    assert "K - 1 ~ BetaNegativeBinomial(1, 4, 3)" in repr(spec)
    assert "Dirichlet(concentration / K), concentration ~ F(6, 3)" in repr(spec)
    assert "Dirichlet(1)" in repr(bg.GaussianMixture(prior))
    again = bg.GaussianMixture.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"family": "possion"}, ValueError, r"`family` must be .*'poisson'"),
        ({"parameters": (1.0, 4.0)}, ValueError, r"`parameters` must hold shape, a, b .* got 2"),
        ({"parameters": (1.0, -4.0, 1.0)}, ValueError, r"`parameters` must be positive .* -4"),
        ({"family": "poisson", "parameters": "2"}, TypeError, r"`parameters` must be a number"),
        ({"family": "geometric", "parameters": 1.0}, ValueError, r"less than 1 .* got 1.0"),
        ({"family": "uniform", "parameters": 2.5}, TypeError, r"must be an integer; got 2.5"),
        ({"family": "uniform", "parameters": 0}, ValueError, r"must be at least 1; got 0"),
        ({"family": "uniform", "parameters": 201}, ValueError, r"must be at most 200 .* got 201"),
        ({"concentration": 0.0}, ValueError, r"`concentration` must be positive .* got 0"),
        ({"concentration": (1, 2, 3)}, ValueError, r"must be a number or a pair .*\(1, 2, 3\)"),
        ({"concentration": "big"}, TypeError, r"`concentration` must be a number; got 'big'"),
        ({"dynamic": 1}, TypeError, r"`dynamic` must be True or False; got 1 of type int"),
    ],
    ids=str,
)
def test_what_makes_no_prior_is_refused(
    arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        bg.PriorOnComponents(**arguments)  # type: ignore[arg-type]


def test_specifications_refuse_what_cannot_vary() -> None:
    prior = bg.PriorOnComponents()
    with pytest.raises(ValueError, match=r"`weights` must be left out .*Dirichlet\(conc"):
        bg.GaussianMixture(prior, weights=bg.Dirichlet(0.5))
    for structure in ("tied", "tied_diag", "tied_spherical", "tied_correlation"):
        with pytest.raises(ValueError, match=rf"share nothing between components .*'{structure}'"):
            bg.GaussianMixture(prior, covariance=bg.LKJCovariance(structure=structure))
    with pytest.raises(ValueError, match=r"`n_components` must be an integer here; got Prior"):
        _ = bg.GaussianMixture(prior).known_number
