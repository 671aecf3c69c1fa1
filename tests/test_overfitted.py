"""Priors that leave components empty: what they are, and what they refuse."""

import json
from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate
from scipy.special import expit
from scipy.stats import gamma

import bayesgmm as bg
from bayesgmm.data import prepare
from bayesgmm.problem import Problem
from tests.test_model import agree_with_the_fused_density

PRIORS = (
    bg.SparseDirichlet(),
    bg.StickBreaking(0.7),
    bg.StickBreaking(bg.Gamma(2.0, 4.0)),
)
every_prior = pytest.mark.parametrize("prior", PRIORS, ids=str)


@every_prior
def test_a_prior_is_printed_and_kept(prior: bg.SparseDirichlet | bg.StickBreaking) -> None:
    spec = bg.GaussianMixture(6, weights=prior)
    again = bg.GaussianMixture.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert type(again.weights) is type(prior)
    names = {one.__name__: one for one in (bg.SparseDirichlet, bg.StickBreaking, bg.Gamma)}
    assert eval(repr(spec.weights), names) == spec.weights


def test_what_is_printed() -> None:
    def line(prior: bg.SparseDirichlet | bg.StickBreaking) -> str:
        return repr(bg.GaussianMixture(6, weights=prior)).splitlines()[1].split("~ ", 1)[1]

    assert line(bg.SparseDirichlet(0.02)) == "SparseDirichlet(0.02)"
    assert line(bg.StickBreaking(1)) == "StickBreaking(1, cut off after 6)"
    learnt = "StickBreaking(alpha, cut off after 6), alpha ~ Gamma(2, 4)"
    assert line(bg.StickBreaking()) == learnt


def test_a_sparse_dirichlet_is_a_dirichlet(rng: np.random.Generator) -> None:
    X = prepare(rng.normal(size=(12, 2)))
    one, other = (
        Problem.make(bg.GaussianMixture(3, weights=weights), X)
        for weights in (bg.SparseDirichlet(0.2), bg.Dirichlet(0.2))
    )
    np.testing.assert_array_equal(one.flat, other.flat)
    assert bg.SparseDirichlet(0.2) != bg.Dirichlet(0.2)


@every_prior
def test_both_engines_have_the_same_density(
    prior: bg.SparseDirichlet | bg.StickBreaking, rng: np.random.Generator
) -> None:
    spec = bg.GaussianMixture(4, weights=prior)
    agree_with_the_fused_density(rng, rng.normal(size=(20, 2)), spec)


@pytest.mark.parametrize("prior", PRIORS[1:], ids=str)
def test_the_density_of_two_weights_integrates_to_one(prior: bg.StickBreaking) -> None:
    """Two mixtures of the same components, that differ by their weights alone."""
    X = np.linspace(-1.0, 1.0, 5)
    alike = Problem.make(bg.GaussianMixture(2, weights=bg.Dirichlet((1.0, 1.0))), prepare(X))
    problem = Problem.make(bg.GaussianMixture(2, weights=prior), prepare(X))
    vector = np.zeros(problem.n_parameters)

    def ratio(log_odds: float) -> float:
        vector[0] = 0.5 * log_odds  # half the difference: log-weights less their mean
        given = problem.log_posterior(vector)[0] - alike.log_posterior(vector)[0]
        return float(np.exp(given) * expit(log_odds) * expit(-log_odds))

    total = sum(integrate.quad(ratio, *ends)[0] for ends in pairwise((-600, -20, 0, 20, 600)))
    assert total == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize("alpha", [0.7, bg.Gamma(2.0, 1.5)], ids=str)
def test_the_truncation_error_is_that_of_rows(alpha: float | bg.Gamma) -> None:
    """Against the mean of (1 - w_T)^n, w_T = prod (1 - v): moments of one piece after another."""
    broken, n = 6, 3

    def exact(a: float) -> float:
        # E (1 - w)^3 = 1 - 3 E w + 3 E w^2 - E w^3, and E (1 - v)^m = a / (a + m)
        first, second, third = ((a / (a + m)) ** broken for m in (1, 2, 3))
        return 3.0 * first - 3.0 * second + third

    due = exact(alpha) if isinstance(alpha, float) else 0.0
    if isinstance(alpha, bg.Gamma):
        law = gamma(alpha.shape, scale=1.0 / alpha.rate)
        due = integrate.quad(lambda a: exact(a) * law.pdf(a), 0.0, 60.0)[0]
    prior = bg.StickBreaking(alpha, truncation=broken + 1)
    assert prior.truncation_error(n) == pytest.approx(due, rel=1e-6)
    assert bg.StickBreaking(alpha, truncation=400).truncation_error(1) < 1e-9


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: bg.SparseDirichlet(0.0), ValueError, r"`concentration` must be positive .* got 0"),
        (lambda: bg.SparseDirichlet((1, 2)), TypeError, r"`concentration` must be a number; got"),
        (lambda: bg.StickBreaking(-1.0), ValueError, r"`concentration` must be positive .* -1"),
        (lambda: bg.StickBreaking((2, 4)), TypeError, r"must be a number; .*bg.Gamma\(shape, rate"),
        (lambda: bg.StickBreaking(1.0, 1), ValueError, r"`truncation` must be at least 2; got 1"),
        (lambda: bg.StickBreaking(1.0, 9.5), TypeError, r"`truncation` must be an integer; got 9"),
        (lambda: bg.Gamma(2.0, 0.0), ValueError, r"`rate` must be positive and finite; got 0"),
        (lambda: bg.Gamma("2", 1.0), TypeError, r"`shape` must be a number; got '2'"),
        (
            lambda: bg.GaussianMixture(5, weights=bg.StickBreaking(1.0, truncation=20)),
            ValueError,
            r"`truncation` must be the number of components, 5; got 20. Leave it out",
        ),
        (
            lambda: bg.GaussianMixture(1, weights=bg.StickBreaking(1.0)),
            ValueError,
            r"`n_components` must be at least 2; got 1. A stick is broken",
        ),
        (
            lambda: bg.GaussianMixture(bg.PriorOnComponents(), weights=bg.SparseDirichlet()),
            ValueError,
            r"`weights` must be left out .*SparseDirichlet",
        ),
        (
            lambda: bg.StickBreaking(1.0).truncation_error(9),
            ValueError,
            r"`truncation` must be known here; got None",
        ),
        (
            lambda: bg.StickBreaking(1.0, 5).truncation_error(0),
            ValueError,
            r"`n_obs` must be at least 1; got 0",
        ),
    ],
)
def test_what_makes_no_prior_is_refused(make: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()  # type: ignore[operator]
