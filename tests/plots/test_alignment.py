"""`plot_alignment`: what is in the picture, not its pixels."""

from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

import bayesgmm as bg
from bayesgmm.plots.canvas import colour
from tests.synthetic import random_fit


@pytest.fixture
def switching(tree: xr.DataTree) -> xr.DataTree:
    """The fit with its components turned round in ten draws of the second chain, and aligned."""
    for name in tree["posterior"].data_vars:
        drawn = tree["posterior"][name].values
        drawn[1, :10] = drawn[1, :10, ::-1].copy()
    return bg.align(tree, "parameters")


def axes() -> Axes:
    return Figure(figsize=(9.0, 6.0), layout="constrained").subplots()


def traces(ax: Axes) -> dict[str, np.ndarray]:
    return {
        str(line.get_label()): np.asarray(line.get_ydata())
        for line in ax.lines
        if line.get_marker() not in ("", "None")
    }


def test_a_new_figure_is_made_where_none_is_given(switching: xr.DataTree) -> None:
    panels = bg.plot_alignment(switching)
    assert panels.shape == (2, 2)
    assert pyplot.get_fignums() == [1]


def test_the_given_axes_are_drawn_on_and_returned(switching: xr.DataTree) -> None:
    ax = axes()
    panels = bg.plot_alignment(switching, ax=ax)
    assert not ax.axison
    assert all(panel in ax.child_axes for panel in panels.flat)
    given = Figure(figsize=(9.0, 6.0)).subplots(2, 2)
    assert (bg.plot_alignment(switching, ax=given) == given).all()
    assert pyplot.get_fignums() == []


def test_draws_before_and_after(switching: xr.DataTree) -> None:
    panels = bg.plot_alignment(switching, ax=axes())
    after = traces(panels[1, 0])
    for k in range(3):
        drawn = switching["posterior"]["means"].values[..., k, 0].ravel()
        np.testing.assert_array_equal(after[f"{k}"], drawn)
    before = traces(panels[0, 0])
    moved = [np.flatnonzero(before[f"{k}"] != after[f"{k}"]) for k in range(3)]
    assert set(np.concatenate(moved).tolist()) == set(range(30, 40))
    everything = np.sort(np.stack([*before.values()]), axis=0)
    np.testing.assert_array_equal(everything, np.sort(np.stack([*after.values()]), axis=0))
    title = 'Aligned by "parameters": 10 of 60 draws renamed'
    assert panels[1, 0].get_title(loc="left") == title
    assert panels[0, 0].get_title(loc="left") == "As sampled"


def test_distributions_lie_beside_them(switching: xr.DataTree) -> None:
    panels = bg.plot_alignment(switching, ax=axes(), variable="weights")
    for row in (0, 1):
        drawn = traces(panels[row, 0])
        curves = [patch for patch in panels[row, 1].patches if isinstance(patch, StepPatch)]
        assert len(curves) == 3
        for k, curve in enumerate(curves):
            heights, edges, _ = curve.get_data()
            counts, _ = np.histogram(drawn[f"{k}"], edges, density=True)
            np.testing.assert_allclose(heights, counts)
            assert curve.orientation == "horizontal"
    assert panels[1, 0].get_ylabel() == "weights"


def test_chains_are_named_and_told_apart(switching: xr.DataTree) -> None:
    some = switching.isel(chain=[1, 0])
    panel = bg.plot_alignment(some, ax=axes())[0, 0]
    assert [text.get_text() for text in panel.get_xticklabels()] == ["chain 1", "chain 0"]
    (border,) = [line for line in panel.lines if len(line.get_xdata()) == 2]
    assert border.get_xdata()[0] == 29.5


def test_units_legend_and_colours(switching: xr.DataTree) -> None:
    panels = bg.plot_alignment(switching, ax=axes(), variable="scales", feature="width")
    assert panels[0, 0].get_ylabel() == "scales, width (mm)"
    legend = panels[0, 1].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["0", "1", "2"]
    for row in (0, 1):
        shown = [line for line in panels[row, 0].lines if line.get_label() in "012"]
        assert [line.get_color() for line in shown] == [colour(k) for k in range(3)]


def test_not_all_draws_need_be_drawn(switching: xr.DataTree) -> None:
    panels = bg.plot_alignment(switching, ax=axes(), max_draws=20)
    assert {len(drawn) for drawn in traces(panels[0, 0]).values()} == {20}
    assert panels[0, 0].get_xlim() == (-0.5, 59.5)


@pytest.mark.parametrize(("chains", "draws"), [(1, 1), (2, 30)])
def test_one_component(chains: int, draws: int, rng: np.random.Generator) -> None:
    tree = random_fit(
        rng.normal(size=(20, 1)), rng, n_components=1, chains=chains, draws=draws
    )
    panels = bg.plot_alignment(tree, ax=axes())
    assert panels[0, 1].get_legend() is None
    assert " 0 of " in panels[1, 0].get_title(loc="left")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"variable": "mean"}, r"`variable` must be one of 'weights', 'means', 'scales'; got 'mean'"),
        ({"variable": "covariances"}, r"`variable` must be one of .*; got 'covariances'\."),
        ({"feature": "widt"}, r"`feature` must be one of 'length', 'width'; got 'widt'\. Did you"),
        ({"max_draws": 0}, r"`max_draws` must be at least 1; got 0\."),
    ],
)
def test_bad_arguments_are_refused(
    given: dict[str, Any], message: str, tree: xr.DataTree
) -> None:
    with pytest.raises(ValueError, match=message):
        bg.plot_alignment(tree, **given)
    with pytest.raises(ValueError, match=r"`tree` must have .* for `plot_alignment`;.*draw=\[0\]"):
        bg.plot_alignment(tree.isel(draw=0))
    with pytest.raises(TypeError, match=r"`ax` must be .* 2 x 2 of them; got an array of shape"):
        bg.plot_alignment(tree, ax=Figure().subplots(1, 2))
    assert pyplot.get_fignums() == []
