"""Information criteria against closed forms and against mclust."""

import numpy as np
import pytest

import bayesgmm as bg
from bayesgmm import criteria as at_a_point
from bayesgmm.data import prepare
from bayesgmm.inference.em import find_modes
from bayesgmm.inference.information import criteria
from bayesgmm.inference.mode import Mode, Target
from bayesgmm.problem import Problem


def problem(X: object, n_components: int, structure: str = "full") -> Problem:
    spec = bg.GaussianMixture(n_components, covariance=bg.LKJCovariance(structure=structure))
    return Problem.make(spec, prepare(X))


def modes(of: Problem) -> tuple[Mode, ...]:
    found = find_modes(of, Target.MAP, np.random.default_rng(1), n_starts=8, hierarchical=True)
    return found.modes


@pytest.mark.parametrize("n_features", [1, 3])
def test_one_component_is_in_closed_form(n_features: int, rng: np.random.Generator) -> None:
    X = rng.normal(size=(50, n_features)) * 7.0 + 100.0
    of = problem(X, 1)
    covariance = np.cov(X.T, ddof=0).reshape(n_features, n_features)
    spread = n_features * (1.0 + np.log(2 * np.pi)) + np.linalg.slogdet(covariance)[1]
    log_likelihood = -0.5 * 50 * spread
    p = n_features + n_features * (n_features + 1) // 2
    found = criteria(of, modes(of))
    assert found["bic"] == pytest.approx(p * np.log(50) - 2 * log_likelihood, rel=1e-9)
    assert found["aic"] == pytest.approx(2 * p - 2 * log_likelihood, rel=1e-9)
    assert found["icl"] == found["bic"]


# mclust 6.0 (Scrucca et al. 2016): Mclust(faithful, G = 3, modelNames = "EEE"),
# which it prints in its documentation, and G = 2, "VVV"; its signs are the opposite of ours.
MCLUST = {(3, "tied"): (2314.316, 2357.824), (2, "full"): (2322.192, None)}


@pytest.mark.parametrize(("n_components", "structure"), MCLUST)
def test_old_faithful_as_mclust_has_it(n_components: int, structure: str) -> None:
    of = problem(bg.datasets.load_faithful(), n_components, structure)
    found = criteria(of, modes(of))
    bic, icl = MCLUST[n_components, structure]
    assert bic - 0.05 < found["bic"] < bic + 1e-3  # mclust stops a little short of the top
    if icl is not None:
        assert found["icl"] == pytest.approx(icl, abs=1.0)


def test_blocks_of_rows_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    of = problem(bg.datasets.load_faithful(), 3)
    whole = criteria(of, modes(of))
    monkeypatch.setattr(at_a_point, "BLOCK", 50)
    assert criteria(of, modes(of)) == pytest.approx(whole, rel=1e-12)


def test_the_best_of_several_maxima_counts() -> None:
    X = bg.datasets.make_mixture(90, 3, 2, separation=40.0, random_seed=4)["X"]
    of = problem(X, 3)
    good = modes(of)[0]
    means = good.parameters.means.copy()
    means[0, 2], means[0, 1] = means[0, 1:].mean(axis=0), means[0, 0] + 0.1
    merged = good.parameters._replace(means=means)
    bad = Mode(of.unconstrain(merged), merged, 0.0, 1, np.empty(0), True)
    best = criteria(of, [good])["bic"]
    assert criteria(of, [bad])["bic"] > best + 10.0
    assert criteria(of, [bad, good])["bic"] == pytest.approx(best, rel=1e-9)


def test_collapsed_maxima_have_no_criteria() -> None:
    of = problem(bg.datasets.make_mixture(8, 2, 2, separation=6.0, random_seed=2)["X"], 4)
    found = find_modes(
        of, Target.MAP, np.random.default_rng(1), n_starts=4, hierarchical=False, fallback=True
    )
    assert all(np.isnan(value) for value in criteria(of, found.modes).values())
