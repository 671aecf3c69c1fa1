"""`plot_em_path`: which steps are drawn, and what is in each panel."""

from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib import pyplot
from matplotlib.animation import FuncAnimation
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import bayesgmm as bg
from bayesgmm.plots.canvas import colour
from bayesgmm.plots.geometry import ellipses


@pytest.fixture(scope="module")
def path() -> xr.Dataset:
    return bg.em_path(bg.datasets.load_faithful(), 2, random_seed=1)


def outlines(ax: Axes) -> list[Any]:
    lines = [artist for artist in ax.get_children() if isinstance(artist, Line2D)]
    return [one.get_xydata() for one in lines if len(one.get_xdata()) == 101]


def test_each_panel_is_a_step_and_the_last_the_objective(path: xr.Dataset) -> None:
    panels = bg.plot_em_path(path, iterations=[0, 3], ax=Figure().subplots(1, 3))
    for panel, step in zip(panels[:-1], (0, 3), strict=True):
        due = ellipses(path["means"].values[step], path["covariances"].values[step], 0.9)
        np.testing.assert_allclose(outlines(panel), due)
        labels = path["responsibilities"].values[step].argmax(axis=1)
        sizes = [len(points.get_offsets()) for points in panel.collections]
        assert sorted(sizes) == sorted(np.bincount(labels).tolist())
    assert [panel.get_title() for panel in panels[:-1]] == ["start", "iteration 3"]
    curve, marks = panels[-1].lines
    np.testing.assert_array_equal(curve.get_ydata(), path["objective"])
    np.testing.assert_array_equal(marks.get_xdata(), [0, 3])
    n = path.sizes["iteration"] - 1
    assert panels[-1].get_title() == f"converged after {n} iterations"
    assert panels[-1].get_ylabel() == "penalised log-likelihood (nats)"


def test_points_have_the_colour_of_their_component(path: xr.Dataset) -> None:
    last = path.sizes["iteration"] - 1
    panel, _ = bg.plot_em_path(path, iterations=last, ax=Figure().subplots(1, 2))
    labels = path["responsibilities"].values[last].argmax(axis=1)
    for points in panel.collections:
        assert isinstance(points, PathCollection)
        edge = points.get_edgecolor()[0, :3]
        (k,) = (
            k for k in range(2)
            if np.allclose(edge, [int(colour(k)[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        )  # fmt: skip
        np.testing.assert_array_equal(points.get_offsets(), path["X"].values[labels == k])


def test_five_steps_are_chosen_the_first_and_the_last_among_them(path: xr.Dataset) -> None:
    panels = bg.plot_em_path(path)
    assert len(panels) == 6
    assert panels[0].figure is pyplot.figure(1)
    assert len(pyplot.figure(1).axes) == 6
    steps = panels[-1].lines[1].get_xdata()
    assert steps[0] == 0
    assert steps[-1] == path.sizes["iteration"] - 1
    assert (np.diff(steps, 2) >= 0).all()


def test_steps_share_their_limits(path: xr.Dataset) -> None:
    panels = bg.plot_em_path(path)[:-1]
    assert len({(panel.get_xlim(), panel.get_ylim()) for panel in panels}) == 1


def test_one_feature_is_drawn_as_densities(path: xr.Dataset) -> None:
    panels = bg.plot_em_path(path, features="waiting", iterations=[0], ax=Figure().subplots(1, 2))
    assert panels[0].get_xlabel() == "waiting (min)"
    assert not outlines(panels[0])


def test_a_short_path_has_few_panels() -> None:
    short = bg.em_path(bg.datasets.load_galaxies(), 2, random_seed=1, n_iterations=1)
    assert len(bg.plot_em_path(short)) == 3


def test_many_rows_are_sampled(path: xr.Dataset) -> None:
    panels = bg.plot_em_path(path, max_points=50, iterations=[0, 1], ax=Figure().subplots(1, 3))
    assert panels[0].get_title() == "start\n50 of 272 rows drawn"
    assert sum(len(points.get_offsets()) for points in panels[1].collections) == 50


def test_an_animation_has_a_frame_for_every_step(path: xr.Dataset) -> None:
    animation = bg.plot_em_path(path, iterations=[0, 2], animate=True)
    assert isinstance(animation, FuncAnimation)
    left, right = pyplot.figure(1).axes
    assert animation.to_jshtml().count('frames[1] = "data:image/png') == 1
    assert left.get_title() == "iteration 2"
    np.testing.assert_array_equal(right.lines[1].get_xdata(), [2])
    due = ellipses(path["means"].values[2], path["covariances"].values[2], 0.9)
    np.testing.assert_allclose(outlines(left), due)


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no path": ({"path": 3}, TypeError, "`path` must be a Dataset; got an object of type int"),
    "another": ({"path": xr.Dataset()}, ValueError, r"`path` must hold 'X'; got a Dataset with"),
    "step": (
        {"iterations": [0, 99]},
        ValueError,
        r"`iterations` must be in the path; got 99\. The",
    ),
    "no step": ({"iterations": []}, ValueError, "`iterations` must name at least one"),
    "half": ({"iterations": 0.5}, TypeError, r"`iterations` must be an integer; got 0\.5"),
    "feature": ({"features": "wating"}, ValueError, "Did you mean 'waiting'"),
    "ax": ({"ax": "here"}, TypeError, "`ax` must be an array of 6 matplotlib Axes.*got 1 of type"),
}


@pytest.mark.parametrize(("arguments", "error", "match"), BAD.values(), ids=BAD)
def test_what_makes_no_sense_is_refused(
    arguments: dict[str, Any], error: type[Exception], match: str, path: xr.Dataset
) -> None:
    with pytest.raises(error, match=match):
        bg.plot_em_path(**{"path": path} | arguments)
