"""A component more, from a mode of one fewer."""

import numpy as np
import pytest

import bayesgmm as bg
from bayesgmm.data import prepare
from bayesgmm.inference import growth
from bayesgmm.inference.em import Sample, find_modes
from bayesgmm.inference.growth import grow
from bayesgmm.inference.mode import Mode, Target
from bayesgmm.kernels.cholesky import standardise
from bayesgmm.kernels.relabel import partition_of
from bayesgmm.problem import Problem


def problem(X: object, n_components: int, structure: str = "full") -> Problem:
    spec = bg.GaussianMixture(n_components, covariance=bg.LKJCovariance(structure=structure))
    return Problem.make(spec, prepare(X))


def best(of: Problem) -> Mode:
    found = find_modes(of, Target.MAP, np.random.default_rng(1), n_starts=20, hierarchical=True)
    return found.best


def clusters(n_components: int, n_obs: int = 60) -> np.ndarray:
    made = bg.datasets.make_mixture(
        n_obs * n_components, n_components, 2, separation=9.0, random_seed=3
    )
    return made["X"].values


@pytest.mark.parametrize("structure", ["full", "tied", "spherical", "tied_correlation"])
@pytest.mark.parametrize("n_components", [2, 4])
def test_the_missing_cluster_is_found(n_components: int, structure: str) -> None:
    X = clusters(n_components)
    of = problem(X, n_components, structure)
    (grown,) = grow(of, best(problem(X, n_components - 1, structure)).parameters)
    assert grown.converged
    assert grown.objective == pytest.approx(best(of).objective, abs=1e-3)
    assert of.log_posterior(grown.vector)[0] == pytest.approx(grown.objective, rel=1e-12)


def test_many_rows_are_searched_by_some_and_climbed_by_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    X = clusters(3)
    of, smaller = problem(X, 3), best(problem(X, 2))
    seen, climb = [], growth.climb

    def spy(problem: Problem, target: Target, sample: Sample, labels: np.ndarray) -> Mode | None:
        seen.append(sample.rows.shape[1])
        return climb(problem, target, sample, labels)

    monkeypatch.setattr(growth, "climb", spy)
    monkeypatch.setattr(growth, "most_screened", lambda problem: 40)
    (grown,) = grow(of, smaller.parameters)
    assert seen == [36] * 3  # every fifth of 180
    assert grown.objective == pytest.approx(best(of).objective, abs=1e-3)


def test_cuts_make_one_cluster_more_and_leave_the_others() -> None:
    of = problem(clusters(3), 3)
    mixture = standardise(*best(of).parameters[:4], of.center, of.unit)
    partition = partition_of(of.rows, *(part[0] for part in mixture))
    cuts = list(growth._cuts(of.rows, *mixture))
    assert len(cuts) == 4
    for k, labels in enumerate(cuts):
        moved = labels != partition
        assert (labels[moved] == 3).all()
        assert 0 < moved.sum() < len(labels) / 2
        if k < 3:
            assert (partition[moved] == k).all()
            side = of.rows[:, moved].mean(axis=1) - of.rows[:, labels == k].mean(axis=1)
            axis = np.linalg.eigh(mixture[2][0, k] @ mixture[2][0, k].T)[1][:, -1]
            assert abs(axis @ side) > 0.9 * np.linalg.norm(side)  # across the longest axis


def test_components_that_collapse_are_not_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    of, smaller = problem(clusters(3), 3), best(problem(clusters(3), 2))
    with monkeypatch.context() as patched:
        patched.setattr(growth, "is_degenerate", lambda *given: True)
        assert grow(of, smaller.parameters) == ()
    monkeypatch.setattr(growth, "climb", lambda *given: None)
    assert grow(of, smaller.parameters) == ()
