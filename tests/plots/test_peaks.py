"""`plot_modes`: what is in the picture, not its pixels."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

import bayesgmm as bg
from bayesgmm.plots.canvas import colour
from tests.synthetic import random_fit


def axes() -> Axes:
    return Figure(figsize=(7.0, 5.0), layout="constrained").subplots()


def marks(ax: Axes, k: int) -> np.ndarray:
    """Where the modes of a component are drawn."""
    rgb = [int(colour(k)[i : i + 2], 16) / 255.0 for i in (1, 3, 5)]
    found = [
        np.asarray(one.get_offsets())
        for one in ax.collections
        if type(one) is PathCollection and one.get_facecolor()[0, :3] == pytest.approx(rgb)
    ]
    return np.concatenate(found) if found else np.empty((0, 2))


def test_each_mode_of_each_draw_is_marked_once(tree: xr.DataTree) -> None:
    modes = bg.density_modes(tree)
    ax = bg.plot_modes(tree, ax=axes())
    location = modes["location"].values.reshape(-1, 3, 2)
    labels = modes["labels"].values.reshape(-1, 3)
    total = 0
    for k in range(3):
        first = (labels[:, :k] != labels[:, k : k + 1]).all(axis=1)
        np.testing.assert_array_equal(marks(ax, k), location[first, k])
        total += len(marks(ax, k))
    assert total == int(modes["n_modes"].sum())


def test_the_title_counts_all_draws(tree: xr.DataTree) -> None:
    ax = bg.plot_modes(tree, ax=axes(), draws=3)
    n_modes = bg.density_modes(tree)["n_modes"].values.ravel()
    for number in np.unique(n_modes):
        share = 100.0 * (n_modes == number).mean()
        assert f"{number} mode{'s' if number > 1 else ''}: {share:.0f} %" in ax.get_title()
    assert ax.get_title().endswith("of the draws")


def test_modes_of_one_feature_stand_on_the_curve(rng: np.random.Generator) -> None:
    X = np.concatenate([rng.normal(-4.0, 1.0, 40), rng.normal(4.0, 0.5, 40)])
    tree = bg.fit(X, 2, method="laplace", draws=30, chains=1, random_seed=1)
    ax = bg.plot_modes(tree, ax=axes())
    assert ax.get_title() == "2 modes: 100 % of the draws"
    for k in (0, 1):
        places = marks(ax, k)
        assert len(places) == 30
        expected = np.exp(bg.score_samples(tree, places[:, :1]).values)
        np.testing.assert_allclose(places[:, 1], expected, rtol=0.02)


def test_modes_out_of_sight_are_counted(rng: np.random.Generator) -> None:
    tree = random_fit(rng.normal(size=(60, 2)), rng, n_components=2)
    tree["posterior"]["means"].values[:, :, 1] = 1e3
    ax = bg.plot_modes(tree, ax=axes())
    assert "\n60 of 120 marks are out of sight" in ax.get_title()
    assert max(ax.get_xlim()) < 100.0


@pytest.mark.parametrize("n_features", [1, 2, 3])
def test_a_point_estimate_with_one_component(rng: np.random.Generator, n_features: int) -> None:
    tree = random_fit(
        rng.normal(size=(30, n_features)), rng, n_components=1, chains=1, draws=1, method="map"
    )
    ax = bg.plot_modes(tree, ax=axes())
    assert ax.get_title().splitlines()[0] == "1 mode"
    ax.figure.draw_without_rendering()


def test_rare_numbers_are_not_rounded_away() -> None:
    from bayesgmm.plots.canvas import percent

    assert [percent(share) for share in (0.0, 0.001, 0.5, 0.9999, 1.0)] == [
        "0 %", "< 1 %", "50 %", "> 99 %", "100 %",
    ]  # fmt: skip
