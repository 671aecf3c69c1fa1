"""Representative partitions: planted modes found, and small cases against all choices."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import xarray as xr

import bayesgmm as bg
from bayesgmm.clustering.allocations import label_draws
from bayesgmm.clustering.representatives import Drawn, _cover, _improved
from bayesgmm.kernels.partition_loss import LOSSES, distances
from tests.synthetic import random_fit


def around(rng: np.random.Generator, center: list[int], n_draws: int, doubt: float) -> np.ndarray:
    """Draws that differ from one partition in a row here and there."""
    moved = rng.random((n_draws, len(center))) < doubt
    return np.where(moved, rng.integers(0, max(center) + 2, (n_draws, len(center))), center)


def same(one: Any, other: Any) -> bool:
    one, other = np.asarray(one), np.asarray(other)
    return bool(((one[:, None] == one) == (other[:, None] == other)).all())


def all_partitions(n: int) -> np.ndarray:
    """Every partition of n rows, clusters numbered in the order of their first rows."""
    found = [[0]]
    for _ in range(n - 1):
        found = [[*one, k] for one in found for k in range(max(one) + 2)]
    return np.array(found, dtype=np.int32)


@pytest.mark.parametrize("loss", ["vi", "binder"])
def test_planted_modes_are_found(rng: np.random.Generator, loss: str) -> None:
    modes = [[0] * 10 + [1] * 10 + [2] * 10, [0] * 20 + [1] * 10, [0] * 5 + [1] * 25]
    shares = (250, 100, 50)
    draws = np.concatenate([
        around(rng, mode, n, 0.02) for mode, n in zip(modes, shares, strict=True)
    ])  # fmt: skip
    found = bg.representative_partitions(rng.permutation(draws), 3, loss=loss, random_seed=1)
    for labels, mode in zip(found.labels.values, modes, strict=True):
        assert same(labels, mode)
    np.testing.assert_allclose(found.weights, np.array(shares) / 400, atol=0.01)


def test_the_numbers_are_those_of_the_partitions(rng: np.random.Generator) -> None:
    draws = around(rng, [0] * 6 + [1] * 6, 120, 0.15)
    found = bg.representative_partitions(draws, 4, random_seed=2)
    compact = np.array([list(map(list(dict.fromkeys(one)).index, one)) for one in draws.tolist()])
    centers = np.array([
        list(map(list(dict.fromkeys(one)).index, one)) for one in found.labels.values.tolist()
    ])  # fmt: skip
    away = distances(compact.astype(np.int32), centers.astype(np.int32), LOSSES["vi"])
    np.testing.assert_allclose(away[np.arange(120), found.nearest], away.min(axis=1), atol=1e-9)
    assert found.wasserstein == pytest.approx(away.min(axis=1).mean()) == found.path[-1]
    np.testing.assert_array_equal(found.weights, np.bincount(found.nearest, minlength=4) / 120)
    assert found.wasserstein == pytest.approx(float(found.weights @ found.expected_loss))
    assert (np.diff(found.weights) <= 0.0).all()
    assert (np.diff(found.path) < 0.0).all()
    assert found.n_partitions.values.tolist() == [1, 2, 3, 4]


def test_one_partition_is_the_point_estimate(rng: np.random.Generator) -> None:
    """Which need not be among the draws."""
    center = [0] * 12 + [1] * 12
    draws = around(rng, center, 100, 0.3)
    assert not any(same(draw, center) for draw in draws)
    found = bg.representative_partitions(draws, 1, random_seed=3)
    center = bg.partition(draws, random_seed=3)
    assert same(found.labels[0], center)
    assert found.wasserstein == pytest.approx(center.attrs["expected_loss"])


@pytest.mark.parametrize("number", [2, 3])
def test_no_choice_of_small_partitions_is_better(rng: np.random.Generator, number: int) -> None:
    """Against all sets of so many of the 15 partitions of 4 rows: local optima are rare."""
    every = all_partitions(4)
    worse = 0
    for _ in range(15):
        draws = every[rng.choice(len(every), 40, p=rng.dirichlet(np.full(len(every), 0.5)))]
        if len(np.unique(draws, axis=0)) < number:
            continue
        away = distances(draws, every, LOSSES["vi"])
        best = min(
            away[:, list(some)].min(axis=1).mean()
            for some in combinations(range(len(every)), number)
        )
        found = bg.representative_partitions(draws, number, random_seed=1).wasserstein
        assert found > best - 1e-9
        worse += int(found > best + 1e-9)
    assert worse <= 1


def test_a_bad_start_is_made_good(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One partition more is never worse, and none of them is left without draws."""
    draws = label_draws(around(rng, [0] * 6 + [1] * 6, 80, 0.2), function="x")
    monkeypatch.setattr(
        "bayesgmm.clustering.representatives._medoids",
        lambda drawn, number, rng: drawn.candidates[[0] * number],
    )
    found = bg.representative_partitions(draws, 4, random_seed=1)
    assert (np.diff(found.path) < 0.0).all()
    with monkeypatch.context() as patch:
        patch.setattr(
            "bayesgmm.clustering.representatives._improved", lambda drawn, cover, rng: cover
        )
        widened = bg.representative_partitions(draws, 4, random_seed=1)
        assert (np.diff(widened.path) < 0.0).all()
    drawn = Drawn.of(draws, "vi", 3, rng)
    start = _cover(drawn, drawn.candidates[[0, 0, 0]])
    assert set(start.nearest) == {0}
    assert set(_improved(drawn, start, rng).nearest) == {0, 1, 2}


def test_every_different_draw_can_stand_for_itself() -> None:
    draws = [[0, 0, 1]] * 3 + [[0, 1, 1]] * 2 + [[0, 0, 0]]
    found = bg.representative_partitions(draws, 3, random_seed=1)
    assert found.wasserstein == 0.0
    np.testing.assert_allclose(found.weights, [1 / 2, 1 / 3, 1 / 6])
    with pytest.raises(ValueError, match=r"`n_partitions` must be at most .*, 3; got 4\."):
        bg.representative_partitions(draws, 4)


def test_of_many_rows_few_draws_are_candidates(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = label_draws(around(rng, [0] * 6 + [1] * 6, 80, 0.2), function="x")
    monkeypatch.setattr("bayesgmm.clustering.representatives.COMPARED", 12 * 7**2)
    drawn = Drawn.of(draws, "vi", 3, rng)
    assert drawn.between.shape == (7, 7)
    times = [sum(same(draw, one) for draw in draws.values) for one in drawn.candidates]
    np.testing.assert_array_equal(drawn.weights, times)
    counts = np.unique(draws.values, axis=0, return_counts=True)[1]
    np.testing.assert_array_equal(drawn.weights, -np.sort(-counts)[:7])
    assert len(Drawn.of(draws, "vi", 9, rng).candidates) == 9


def test_a_seed_repeats(rng: np.random.Generator) -> None:
    tree = random_fit(rng.normal(size=(10, 2)), rng, n_components=3)
    found = bg.representative_partitions(tree, 2, random_seed=5)
    xr.testing.assert_identical(found, bg.representative_partitions(tree, 2, random_seed=5))
    xr.testing.assert_equal(found["obs"], tree["observed_data"]["obs"])


@pytest.mark.parametrize("draws", [[[0]], [[4, 4, 4]] * 3])
def test_the_smallest_cases(draws: list[list[int]]) -> None:
    found = bg.representative_partitions(draws, 1)
    assert found.labels.values.tolist() == [[0] * len(draws[0])]
    assert found.path.values.tolist() == [0.0]


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"loss": "nvii"}, ValueError, r"`loss` must be one of .*Did you mean 'nvi'"),
        ({"n_partitions": 0}, ValueError, r"`n_partitions` must be at least 1; got 0"),
        ({"n_partitions": 2.0}, TypeError, r"`n_partitions` must be an integer; got 2\.0"),
        ({"source": [[0.5]]}, TypeError, r"`source` must hold integers"),
        ({"source": [[0, 1], [0]]}, ValueError, r"`source` must have as many labels"),
    ],
)
def test_bad_arguments_are_refused(
    given: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        bg.representative_partitions(**{"source": [[0, 1]], "n_partitions": 1, **given})
