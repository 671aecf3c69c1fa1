"""The confident subset: the probability it states is that of its partition."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import xarray as xr

import bayesgmm as bg
from tests.synthetic import random_fit


def agree(draws: np.ndarray, labels: np.ndarray) -> float:
    """Share of draws whose partition of the rows that have a label is that of the labels."""
    rows = labels >= 0
    one = labels[rows][:, None] == labels[rows]
    return float(np.mean([np.array_equal(x[rows][:, None] == x[rows], one) for x in draws]))


def noisy(rng: np.random.Generator, n_draws: int, n_obs: int, n_clusters: int) -> np.ndarray:
    """Draws around one partition, some rows of it more doubtful than others."""
    truth = rng.integers(0, n_clusters, n_obs)
    doubt = rng.random(n_obs) ** 4
    moved = rng.random((n_draws, n_obs)) < doubt
    return np.where(moved, rng.integers(0, n_clusters, (n_draws, n_obs)), truth)


@pytest.mark.parametrize("probability", [0.3, 0.8, 0.95])
def test_the_probability_is_that_of_the_partition(
    rng: np.random.Generator, probability: float
) -> None:
    draws = noisy(rng, 200, 40, 4)
    found = bg.confident_subset(draws, probability, random_seed=1)
    assert found.probability == agree(draws, found.labels.values) >= probability
    assert found.n_confident == (found.labels >= 0).sum() > 1
    inside = found.labels.values[found.labels.values >= 0]
    assert (np.diff(np.bincount(inside)) <= 0).all()


def test_the_path_goes_through_every_probability(rng: np.random.Generator) -> None:
    draws = noisy(rng, 100, 15, 3)
    found = bg.confident_subset(draws, 0.9, random_seed=1)
    assert found.n_rows.values.tolist() == list(range(1, 16))
    assert found.path[0] == 1.0
    assert (np.diff(found.path) <= 0.0).all()
    np.testing.assert_array_equal(-np.sort(-found.joint_probability.values), found.path)
    inside = found.joint_probability.values >= found.probability
    np.testing.assert_array_equal(inside, found.labels.values >= 0)


def test_no_subset_of_few_rows_is_larger(rng: np.random.Generator) -> None:
    """Against all subsets of 7 rows with all their partitions: greedy, but rarely short of it."""
    short = 0
    for _ in range(20):
        draws = noisy(rng, 30, 7, 3)
        best = 0
        for size in range(1, 8):
            for rows in combinations(range(7), size):
                part = draws[:, rows]
                same = (part[:, :, None] == part[:, None, :]).reshape(30, -1)
                if np.unique(same, axis=0, return_counts=True)[1].max() >= 0.8 * 30:
                    best = size
        found = bg.confident_subset(draws, 0.8, random_seed=1)
        assert found.n_confident <= best
        short += int(found.n_confident < best)
    assert short <= 1


def test_a_seed_repeats_and_labels_are_kept(rng: np.random.Generator) -> None:
    tree = random_fit(rng.normal(size=(10, 2)), rng, n_components=3)
    found = bg.confident_subset(tree, 0.5, random_seed=5)
    xr.testing.assert_identical(found, bg.confident_subset(tree, 0.5, random_seed=5))
    xr.testing.assert_equal(found["obs"], tree["observed_data"]["obs"])


@pytest.mark.parametrize("draws", [[[0]], [[0, 0, 0]] * 4, [[3]] * 5])
def test_no_doubt(draws: list[list[int]]) -> None:
    found = bg.confident_subset(draws)
    assert found.labels.values.tolist() == [0] * len(draws[0])
    assert found.probability == 1.0


def test_a_share_of_draws_met_exactly_is_enough() -> None:
    draws = [[0, 0]] * 57 + [[0, 1]] * 3
    assert bg.confident_subset(draws, 0.95, random_seed=1).n_confident == 2
    assert bg.confident_subset(draws, 0.951, random_seed=1).n_confident == 1


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"probability": 1.0}, ValueError, r"`probability` must lie between 0 and 1; got 1\.0"),
        ({"probability": "a"}, TypeError, r"`probability` must be a number; got 'a' of type str"),
        ({"random_seed": -1}, ValueError, r"`random_seed` must be at least 0; got -1"),
        ({"source": [[0.5]]}, TypeError, r"`source` must hold integers"),
        ({"source": [[0, 1], [0]]}, ValueError, r"`source` must have as many labels"),
    ],
)
def test_bad_arguments_are_refused(
    given: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        bg.confident_subset(**{"source": [[0, 1]], **given})
