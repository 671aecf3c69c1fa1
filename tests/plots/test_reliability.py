"""`plot_reliability`: the line, the band and what it says."""

from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import bayesgmm as bg


def axes() -> Axes:
    return Figure().subplots()


@pytest.fixture
def found(rng: np.random.Generator) -> xr.Dataset:
    p = rng.uniform(size=200)
    y = np.where(rng.random(200) < p, "yes", "no")
    said = xr.DataArray(np.stack([p, 1 - p], 1), {"class": ["yes", "no"]}, ("obs", "class"))
    return bg.reliability(said, y, random_seed=1)


def test_the_shares_are_a_line_within_a_band(found: xr.Dataset) -> None:
    ax = bg.plot_reliability(found, ax=axes())
    thickest = max(ax.lines, key=lambda drawn: drawn.get_linewidth())
    np.testing.assert_allclose(thickest.get_xydata().T, [found["level"], found["share"]])
    (band,) = ax.collections
    assert band.get_paths()[0].vertices[:, 1].max() == pytest.approx(found["band"].values.max())
    assert any(np.array_equal(drawn.get_xydata(), [[0, 0], [1, 1]]) for drawn in ax.lines)


def test_bars_count_statements(found: xr.Dataset) -> None:
    ax = bg.plot_reliability(found, ax=axes())
    heights = np.array([bar.get_height() for bar in ax.patches])
    assert heights.max() == pytest.approx(0.12)
    squares = (heights / heights.max()) ** 2
    counted = np.histogram(found["level"], np.linspace(0, 1, 26), weights=found["counts"])[0]
    np.testing.assert_allclose(squares, counted / counted.max())


def test_the_title_says_how_many_and_how_probable(found: xr.Dataset) -> None:
    p = found["p_value"].item()
    title = bg.plot_reliability(found, ax=axes()).get_title()
    assert title == f"200 rows, 400 probabilities, p = {p:.1g} if they are right"


def test_a_new_figure_is_made_where_none_is_given(found: xr.Dataset) -> None:
    assert bg.plot_reliability(found).figure is pyplot.figure(1)


@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        (3, TypeError, "`reliability` must be a Dataset; got 3 of type int"),
        (xr.Dataset({"X": 1}), ValueError, r"`reliability` must hold 'share'; .*\['X'\]"),
    ],
)
def test_what_is_no_reliability_is_refused(wrong: Any, error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        bg.plot_reliability(wrong)


def test_what_are_no_axes_is_refused(found: xr.Dataset) -> None:
    with pytest.raises(TypeError, match="`ax` must be a matplotlib Axes; got .* str"):
        bg.plot_reliability(found, ax="here")  # type: ignore[arg-type]
