"""`plot_similarity`: what is in the picture, not its pixels."""

from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import bayesgmm as bg


def axes() -> Axes:
    return Figure(figsize=(6.4, 5.2), layout="constrained").subplots()


def frames(ax: Axes) -> list[tuple[float, float]]:
    return [(one.get_x() + 0.5, one.get_width()) for one in ax.patches if type(one) is Rectangle]


@pytest.fixture
def labels(rng: np.random.Generator) -> np.ndarray:
    """Forty draws of 30 rows: 18, 8 and 4 that belong together, and some astray."""
    middle = rng.permutation(np.repeat([5, 9, 2], [18, 8, 4]))
    astray = rng.random((40, 30)) < 0.1
    return np.where(astray, rng.choice([2, 5, 9], (40, 30)), middle)


def test_rows_are_ordered_by_cluster_and_framed(labels: np.ndarray) -> None:
    ax = bg.plot_similarity(labels, ax=axes(), random_seed=1)
    assert frames(ax) == [(0.0, 18.0), (18.0, 8.0), (26.0, 4.0)]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["0 (18)", "1 (8)", "2 (4)"]
    assert ax.get_title().splitlines() == [
        "probability that two of 30 rows are in one cluster",
        "frames: a partition into 3 clusters",
    ]


def test_the_matrix_is_that_of_similarity(labels: np.ndarray) -> None:
    ax = bg.plot_similarity(labels, ax=axes(), random_seed=1)
    drawn = np.asarray(ax.images[0].get_array())
    expected = bg.similarity(labels).values
    np.testing.assert_allclose(drawn, drawn.T)
    np.testing.assert_allclose(np.sort(drawn.sum(axis=0)), np.sort(expected.sum(axis=0)))
    best = bg.partition(labels, random_seed=1).values
    for k, block in enumerate((slice(0, 18), slice(18, 26), slice(26, 30))):
        within = expected[np.ix_(best == k, best == k)]
        np.testing.assert_allclose(np.sort(drawn[block, block].ravel()), np.sort(within.ravel()))


def test_a_given_partition_is_framed(labels: np.ndarray) -> None:
    mine = np.repeat([3, 7], [10, 20])
    assert frames(bg.plot_similarity(labels, mine, ax=axes())) == [(0.0, 20.0), (20.0, 10.0)]


def test_a_fit_is_drawn_on_a_new_figure(tree: xr.DataTree) -> None:
    ax = bg.plot_similarity(tree, random_seed=1)
    assert pyplot.get_fignums() == [1]
    assert ax.figure is pyplot.figure(1)


def test_a_sample_of_rows_is_drawn_and_said(labels: np.ndarray) -> None:
    ax = bg.plot_similarity(labels, ax=axes(), max_points=12, random_seed=1)
    assert ax.images[0].get_array().shape == (12, 12)
    assert ax.get_title().splitlines()[2] == "12 of 30 rows drawn"


@pytest.mark.parametrize("n_obs", [1, 2, 4])
def test_few_rows(n_obs: int) -> None:
    ax = bg.plot_similarity(np.zeros((3, n_obs), dtype=int), ax=axes())
    assert frames(ax) == [(0.0, float(n_obs))]
    assert "a partition into 1 cluster" in ax.get_title()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"ax": 3}, TypeError, r"`ax` must be a matplotlib Axes; got an object of type int"),
        ({"max_points": 0}, ValueError, r"`max_points` must be at least 1; got 0"),
        ({"partition": [0, 1]}, ValueError, r"`partition` must hold one label for each of 30 rows"),
        ({"partition": np.zeros(30)}, TypeError, r"`partition` must hold integers; got float64"),
    ],
)
def test_bad_arguments_are_refused(
    labels: np.ndarray, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        bg.plot_similarity(labels, **arguments)
