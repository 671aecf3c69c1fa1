"""The credible ball: what it says it holds, and its extremes, against all draws looked at."""

from typing import Any

import numpy as np
import pytest
import xarray as xr

import bayesgmm as bg
from bayesgmm.clustering.credibility import BOUNDS, matched
from tests.synthetic import random_fit

LOSSES = ("vi", "binder", "omari", "nvi", "id", "nid")


@pytest.fixture
def draws(rng: np.random.Generator) -> np.ndarray:
    """Partitions of 12 rows around one of them, many of them drawn more than once."""
    truth = np.repeat([0, 1, 2], 4)
    moved = rng.random((300, 12)) < 0.08
    return np.where(moved, rng.integers(0, 4, (300, 12)), truth)


def vi(one: np.ndarray, other: np.ndarray) -> float:
    """Variation of information in bits, from its definition."""
    total = 0.0
    for i in range(len(one)):
        same, alike = one == one[i], other == other[i]
        both = (same & alike).sum()
        total += np.log2(same.sum()) + np.log2(alike.sum()) - 2.0 * np.log2(both)
    return float(total / len(one))


@pytest.mark.parametrize("level", [0.3, 0.9, 0.95])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_ball_holds_its_level_and_no_smaller_one_does(
    draws: np.ndarray, loss: str, level: float
) -> None:
    ball = bg.credible_ball(draws, loss=loss, level=level, random_seed=1)
    inside = ball.draw_distance.values <= ball.radius + 1e-9
    assert ball.mass == inside.mean() >= level
    assert (ball.draw_distance.values < ball.radius - 1e-9).mean() < level
    assert ball.expected_loss == pytest.approx(ball.draw_distance.values.mean())
    assert (ball.loss, ball.level) == (loss, level)


def test_distances_are_exact(draws: np.ndarray) -> None:
    ball = bg.credible_ball(draws, random_seed=1)
    expected = [vi(draw, ball.partition.values) for draw in draws]
    np.testing.assert_allclose(ball.draw_distance, expected, atol=1e-12)


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_bounds_are_the_extremes(draws: np.ndarray, level: float) -> None:
    center = np.repeat([5, 1, 9], 4)
    ball = bg.credible_ball(draws, center, level=level)
    np.testing.assert_array_equal(ball.partition, np.repeat([1, 0, 2], 4))
    distance = np.array([vi(draw, center) for draw in draws])
    number = np.array([len(set(draw)) for draw in draws.tolist()])
    inside = distance <= ball.radius + 1e-9
    among = {
        "horizontal": inside,
        "upper": inside & (number == number[inside].min()),
        "lower": inside & (number == number[inside].max()),
    }
    assert ball.bound.values.tolist() == list(BOUNDS)
    for bound, some in among.items():
        found = ball.sel(bound=bound)
        assert found.distance == pytest.approx(distance[some].max(), abs=1e-12)
        assert vi(found.labels.values, center) == pytest.approx(float(found.distance), abs=1e-12)
        assert found.n_clusters == len(set(found.labels.values)) == number[some].min() or (
            bound == "horizontal"
        )
        far = draws[some & (distance > distance[some].max() - 1e-9)]
        pairs = {(draw[:, None] == draw).tobytes() for draw in far}
        assert found.n_tied == len(pairs)
        assert (found.labels.values[:, None] == found.labels.values).tobytes() in pairs


def test_bounds_are_inside_the_ball() -> None:
    """Fewer and more clusters than in it were drawn, but too far away."""
    center = [0] * 6 + [1] * 6
    near = [[0] * 5 + [1] * 7, [0] * 6 + [1] * 5 + [2]]
    far = [[0] * 12, list(range(12))]
    ball = bg.credible_ball([center] * 30 + near * 4 + far, center, level=0.9)
    assert ball.mass == 38 / 40
    assert ball.n_clusters.sel(bound=["upper", "lower"]).values.tolist() == [2, 3]
    assert (ball.distance <= ball.radius).all()


def test_of_bounds_as_extreme_the_most_frequent_stands_for_them() -> None:
    center = [0, 0, 1, 1]
    ball = bg.credible_ball([center] * 5 + [[0, 0, 1, 2]] + [[0, 2, 1, 1]] * 2, center)
    assert ball.sel(bound="lower").labels.values.tolist() in ([0, 2, 1, 1], [2, 0, 1, 1])
    assert ball.n_tied.values.tolist() == [2, 1, 2]


def test_matching_keeps_as_many_labels_as_can_be(rng: np.random.Generator) -> None:
    center = rng.integers(0, 3, 50)
    center[:3] = [0, 1, 2]
    renamed = np.array([2, 0, 1])[center]
    np.testing.assert_array_equal(matched(renamed, center), center)
    split = np.where(rng.random(50) < 0.3, 3, renamed)
    found = matched(split, center)
    assert set(found) == {0, 1, 2, 3}
    np.testing.assert_array_equal(found[split != 3], center[split != 3])
    one = matched(np.zeros(50, dtype=int), center)
    assert set(one) == {np.bincount(center).argmax()}


def test_the_default_centre_is_the_point_partition(draws: np.ndarray) -> None:
    for loss in ("vi", "binder"):
        ball = bg.credible_ball(draws, loss=loss, random_seed=4)
        center = bg.partition(draws, loss=loss, random_seed=4)
        np.testing.assert_array_equal(ball.partition, center)
        assert ball.expected_loss == pytest.approx(center.attrs["expected_loss"])


def test_a_fit_is_its_allocations(rng: np.random.Generator) -> None:
    labels = list("abcdefgh")
    X = xr.DataArray(rng.normal(size=(8, 1)), dims=("obs", "feature"), coords={"obs": labels})
    tree = random_fit(X, rng, n_components=3)
    ball = bg.credible_ball(tree, random_seed=2)
    xr.testing.assert_identical(ball, bg.credible_ball(tree, random_seed=2))
    allocations = bg.sample_allocations(tree, random_seed=2)
    xr.testing.assert_identical(ball, bg.credible_ball(allocations, random_seed=2))
    assert ball["obs"].values.tolist() == labels


@pytest.mark.parametrize("draws", [[[0]], [[4, 4, 4]] * 3, [[0, 1], [5, 3]]])
def test_no_doubt_has_no_radius(draws: list[list[int]]) -> None:
    ball = bg.credible_ball(draws, random_seed=1)
    assert (ball.radius, ball.mass) == (0.0, 1.0)
    assert (ball.labels == ball.partition).all()
    assert (ball.distance == 0.0).all()


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"loss": "bindr"}, ValueError, r"`loss` must be one of .*got 'bindr'\. Did you mean 'bin"),
        ({"level": 1.0}, ValueError, r"`level` must lie between 0 and 1; got 1\.0\. 0\.95 is"),
        ({"level": 0}, ValueError, r"`level` must be positive and finite; got 0"),
        ({"partition": [0.0, 1.0]}, TypeError, r"`partition` must hold integers; got float64"),
        ({"partition": [0, 1, 1]}, ValueError, r"one label for each of 2 rows; got shape \(3,\)"),
        ({"random_seed": 0.5}, TypeError, r"`random_seed` must be an integer; got 0\.5"),
        ({"source": [[0.0, 1.5]]}, TypeError, r"`source` must hold integers; got .* 1\.5"),
        ({"source": [[0, 1], [0]]}, ValueError, r"`source` must have as many labels in every draw"),
        ({"source": xr.DataTree()}, ValueError, r"`source` must be a fit, the DataTree"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused(
    given: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        bg.credible_ball(**{"source": [[0, 1], [0, 0]], **given})
