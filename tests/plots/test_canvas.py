"""What plots are drawn on and with."""

import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import bayesgmm as bg
from bayesgmm.plots import canvas
from bayesgmm.plots.canvas import colour, feature_labels, fit_texts, line, marker, row_labels


def lightness(component: int) -> float:
    """Return L* of CIE Lab of the colour of a component."""
    channels = np.array(to_rgb(colour(component)))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ [0.2126, 0.7152, 0.0722])
    return 116.0 * luminance ** (1.0 / 3.0) - 16.0


def test_the_first_components_differ_in_grey() -> None:
    assert all(abs(lightness(i) - lightness(i + 1)) > 12.0 for i in range(5))
    assert abs(lightness(0) - lightness(2)) > 12.0
    assert all(lightness(i) < 85.0 for i in range(10)), "too light on white"


def test_seventy_components_look_different() -> None:
    looks = [(colour(k), marker(k), line(k)) for k in range(70)]
    assert len({look[:2] for look in looks}) == 70
    assert all(one[1:] != other[1:] for one, other in pairwise(looks))


@pytest.mark.parametrize(
    "name",
    [
        "plot_alignment",
        "plot_components",
        "plot_uncertainty",
        "plot_similarity",
        "plot_partition",
    ],
)
def test_matplotlib_is_asked_for(
    tree: xr.DataTree, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(
        ImportError,
        match=rf'`{name}` must have matplotlib .*; got .* Run `pip install "bayesgmm\[plots\]"`',
    ):
        getattr(bg, name)(tree)


def observed(attrs: dict[str, Any], of_features: dict[str, Any]) -> xr.DataArray:
    X = xr.DataArray(np.eye(3)[:, :2], dims=("obs", "feature"), attrs=attrs)
    coords = {"obs": np.arange(3), "feature": ("feature", ["a", "b"], of_features)}
    return X.assign_coords(coords)


@pytest.mark.parametrize(
    ("attrs", "of_features", "expected"),
    [
        ({}, {}, ["a", "b"]),
        ({"units": "mm"}, {}, ["a (mm)", "b (mm)"]),
        ({"units": ["mm", "kg"]}, {}, ["a (mm)", "b (kg)"]),
        ({"units": "mm"}, {"units": ["m", ""]}, ["a (m)", "b"]),
        ({"units": {"b": "kg", "c": "s"}}, {}, ["a", "b (kg)"]),
        ({"units": ["mm", "kg", "s"]}, {}, ["a", "b"]),
        ({"units": 3}, {}, ["a", "b"]),
    ],
)
def test_axes_say_the_units(
    attrs: dict[str, Any], of_features: dict[str, Any], expected: list[str]
) -> None:
    assert feature_labels(observed(attrs, of_features)) == expected


def test_axes_say_the_units_of_the_variables_of_a_dataset() -> None:
    X = observed({"units": "mm"}, {}).assign_coords(units=("feature", ["m", ""]))
    assert feature_labels(X) == ["a (m)", "b"]
    assert feature_labels(X.assign_coords(units="K")) == ["a (mm)", "b (mm)"]


def test_labels_of_rows_are_short() -> None:
    X = observed({}, {})
    days = X.assign_coords(obs=np.array(["2026-11-21", "2026-11-22", "2026-11-23"], "M8[ns]"))
    assert row_labels(days, [2, 0]) == ["2026-11-23", "2026-11-21"]
    assert row_labels(X, [1]) == ["1"]
    names = X.assign_coords(obs=["x" * 24, "y" * 25, "z"])
    assert row_labels(names, [0, 1, 2]) == ["x" * 24, "y" * 23 + "…", "z"]


def test_long_texts_shrink_and_are_cut() -> None:
    ax = Figure(figsize=(3.0, 2.0), layout="constrained").subplots()
    ax.set_xlabel("short")
    ax.set_ylabel("y" * 24)
    ax.set_title("a title that is somewhat longer than the axes")
    before = ax.xaxis.label.get_fontsize()
    fit_texts([ax])
    assert ax.xaxis.label.get_fontsize() == before
    assert ax.get_ylabel() == "y" * 24
    ax.set_ylabel("y" * 300)
    fit_texts([ax])
    assert ax.get_ylabel().endswith("y…")
    assert ax.yaxis.label.get_fontsize() == canvas.SMALLEST
    assert ax.yaxis.label.get_window_extent().height <= ax.get_window_extent().height
    assert ax.title.get_window_extent().width <= 1.1 * ax.get_window_extent().width + 1.0


@pytest.mark.parametrize("plot", [bg.plot_components, bg.plot_uncertainty])
@pytest.mark.parametrize(
    ("ax", "kind", "message"),
    [
        (Figure(), TypeError, r"`ax` must be a matplotlib Axes; got an object of type Figure\. Le"),
        ("axes", TypeError, r"`ax` must be a matplotlib Axes; got an object of type str\. "),
        (
            Figure().subplots(2, 2),
            TypeError,
            r"`ax` must be a matplotlib Axes; got an array of shape \(2, 2\)\. ",
        ),
        (
            Figure().add_subplot(projection="polar"),
            ValueError,
            r"`ax` must have straight axes, two of them; got a projection 'polar'\. ",
        ),
        (
            Figure().add_subplot(projection="3d"),
            ValueError,
            r"`ax` must have straight axes, two of them; got a projection '3d'\. ",
        ),
    ],
)
def test_what_is_no_axes_is_refused(
    tree: xr.DataTree, plot: Any, ax: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        plot(tree, ax=ax)


@pytest.mark.parametrize("plot", [bg.plot_components, bg.plot_uncertainty])
def test_what_is_no_fit_is_refused(tree: xr.DataTree, plot: Any) -> None:
    with pytest.raises(TypeError, match=r"`tree` must be a fit.*; got an object of type list"):
        plot([1, 2])
    with pytest.raises(ValueError, match=r"`tree` must be a fit.*; got a DataTree without"):
        plot(xr.DataTree())
    del tree["observed_data"]
    name = plot.__name__
    with pytest.raises(
        ValueError, match=rf"`tree` must hold the group 'observed_data' for `{name}`; got a fit"
    ):
        plot(tree)
