"""Large data are fitted in little more memory than they take: a copy, and one standardised."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bayesgmm as bg
from bayesgmm.data import prepare
from bayesgmm.mixture import GaussianMixture
from bayesgmm.problem import Problem

N_OBS = 400_000


def rows(n_features: int, rounded: bool) -> np.ndarray:
    made = bg.datasets.make_mixture(N_OBS, 2, n_features, separation=6.0, random_seed=1)
    return made["X"].values.round(3 if rounded else 15)


def peak(work: Callable[[], Any], size: int) -> float:
    """Return the most memory that NumPy held at a time, in units of the data."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / size
    finally:
        tracemalloc.stop()


def test_the_measure_sees_an_array() -> None:
    assert peak(lambda: np.ones(10**6), 8 * 10**6) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("n_features", [2, 5])
def test_data_are_made_ready_in_two_copies(n_features: int, rounded: bool) -> None:
    X = rows(n_features, rounded)
    assert peak(lambda: prepare(X), X.nbytes) < 2.1
    data = prepare(X)
    spec = GaussianMixture(2)
    assert peak(lambda: Problem.make(spec, data), X.nbytes) < 1.2
    problem = Problem.make(spec, data)
    assert peak(lambda: problem.penalty(1.0), X.nbytes) < 0.1


@pytest.mark.parametrize("method", ["nuts", "map"])
def test_a_fit_takes_two_copies_and_the_draws(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bayesgmm.inference.assemble.LARGEST_LOG_LIKELIHOOD", 0)
    X = rows(2, rounded=False)
    arguments = {"draws": 4, "tune": 20, "chains": 2, "random_seed": 1, "progressbar": False}
    bg.fit(X[:500], 2, method=method, **arguments)  # what is imported and compiled stays
    trees = []
    assert peak(lambda: trees.append(bg.fit(X, 2, method=method, **arguments)), X.nbytes) < 2.2
    (tree,) = trees
    assert tree.attrs["log_likelihood_bytes"] == 8 * N_OBS * tree["sample_stats"]["lp"].size
    observed = tree["observed_data"]["X"]
    np.testing.assert_array_equal(observed.values, X)
    assert observed["obs"].values[-1] == N_OBS - 1
