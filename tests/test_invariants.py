"""Functions of mixtures that do not see the names of components."""

import numpy as np
import pytest
from scipy.special import logsumexp, softmax
from scipy.stats import multivariate_normal

import bayesgmm as bg
from bayesgmm.invariants import invariants
from bayesgmm.simulation import with_numbers
from bayesgmm.tree import Parameters


def specification(n_components: int | bg.PriorOnComponents = 3) -> bg.GaussianMixture:
    means, covariance = bg.NormalMeans((1.0, -2.0), (3.0, 1.5)), bg.LKJCovariance(scale=(1.0, 2.0))
    return with_numbers(bg.GaussianMixture(n_components, means=means, covariance=covariance), None)


def mixtures(spec: bg.GaussianMixture, n_draws: int = 4) -> Parameters:
    drawn = bg.simulate(spec, 1, draws=n_draws, random_seed=1)
    return Parameters(*(drawn[name].values[0] for name in Parameters._fields))


def test_every_order_of_components_gives_the_same(rng: np.random.Generator) -> None:
    spec = specification()
    of, X = mixtures(spec), rng.normal(size=(20, 2))
    one = invariants(spec, X, of)
    other = invariants(spec, X, Parameters(*(part[:, [2, 0, 1]] for part in of)))
    assert len(one) == 10
    for name, values in one.items():
        np.testing.assert_allclose(other[name], values, rtol=1e-10, err_msg=name)
        assert np.ptp(values) > 1e-6


def test_values_are_those_of_plain_formulae(rng: np.random.Generator) -> None:
    spec = specification()
    of, X = mixtures(spec), rng.normal(size=(20, 2))
    found = invariants(spec, X, of)
    location, spread = np.array([1.0, -2.0]), np.array([3.0, 1.5])
    for s, (w, means, scales, correlations, covariances) in enumerate(zip(*of, strict=True)):
        logs = np.stack([
            np.log(w[k]) + multivariate_normal(means[k], covariances[k]).logpdf([*X, location])
            for k in range(3)
        ])  # fmt: skip
        total = logsumexp(logs, axis=0) + np.log(spread).sum()
        r = softmax(logs[:, :-1], axis=0)
        pairs = [r[:, i] @ r[:, j] for i in range(20) for j in range(i)]
        mean = w @ means
        covariance = sum(
            w[k] * (covariances[k] + np.outer(means[k] - mean, means[k] - mean)) for k in range(3)
        )
        standard = means / spread
        gaps = [np.linalg.norm(standard[k] - standard[j]) for k in range(3) for j in range(k)]
        due = {
            "log_likelihood": total[:-1].sum(),
            "log_density": total[-1],
            "mean": ((mean - location) / spread).mean(),
            "log_volume": np.linalg.slogdet(covariance / np.outer(spread, spread))[1],
            "average_scale": w @ (scales / [1.0, 2.0]).mean(axis=1),
            "average_correlation": w @ correlations[:, 0, 1],
            "largest_weight": w.max(),
            "together": np.mean(pairs),
            "smallest_scale": (scales / [1.0, 2.0]).min(),
            "smallest_distance": min(gaps),
        }
        assert found.keys() == due.keys()
        for name, value in due.items():
            assert found[name][s] == pytest.approx(value, rel=1e-9), name


def test_components_of_weight_zero_do_not_count(rng: np.random.Generator) -> None:
    spec = specification(bg.PriorOnComponents())
    of, X = mixtures(spec), rng.normal(size=(20, 2))
    wider = Parameters(*(np.concatenate([part, part[:, :1]], axis=1) for part in of))
    wider.weights[:, -1] = 0.0
    one, other = invariants(spec, X, of), invariants(spec, X, wider)
    assert "smallest_scale" not in one
    for name, values in one.items():
        np.testing.assert_allclose(other[name], values, rtol=1e-10, err_msg=name)


def test_one_component_has_fewer() -> None:
    spec = specification(1)
    found = invariants(spec, np.zeros((3, 2)), mixtures(spec))
    assert {"largest_weight", "together", "smallest_distance"}.isdisjoint(found)
