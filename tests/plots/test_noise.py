"""Background noise in the plots of a fit: its rows, its box, its weight, its density."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle
from numpy.typing import NDArray

import bayesgmm as bg
from bayesgmm.plots.canvas import NOISE_COLOUR, NOISE_MARKER
from tests.synthetic import random_fit
from tests.test_noise_of_fits import given_noise

LOW, HIGH = np.array([-6.0, -5.0]), np.array([6.0, 7.0])


@pytest.fixture(scope="module")
def plain() -> xr.DataTree:
    rng = np.random.default_rng(2)
    X = np.concatenate([rng.normal(size=(40, 2)), rng.uniform(LOW, HIGH, (8, 2))])
    tree = random_fit(X, rng, draws=10)
    posterior = tree["posterior"].to_dataset()
    posterior["means"] = 0.2 * posterior["means"]
    tree["posterior"] = xr.DataTree(posterior)
    return tree


@pytest.fixture(scope="module")
def noisy(plain: xr.DataTree) -> xr.DataTree:
    return given_noise(plain, 0.2, LOW, HIGH)


def axes() -> Axes:
    return Figure(figsize=(7.0, 5.0), layout="constrained").subplots()


def crosses(ax: Axes) -> NDArray[np.float64]:
    """Return where rows of noise are drawn."""
    cross = MarkerStyle(NOISE_MARKER)
    path = cross.get_path().transformed(cross.get_transform()).vertices
    found = [
        np.asarray(drawn.get_offsets())
        for drawn in ax.collections
        if isinstance(drawn, PathCollection) and np.array_equal(drawn.get_paths()[0].vertices, path)
    ]
    return np.concatenate(found) if found else np.empty((0, 2))


def boxes(ax: Axes) -> list[NDArray[np.float64]]:
    """Return the corners of the boxes of noise."""
    drawn = [one.get_xydata() for one in ax.lines if one.get_color() == NOISE_COLOUR]
    return [np.asarray(one) for one in drawn if len(one) == 5]


def words(ax: Axes) -> list[str]:
    """Return what the legend says."""
    return [text.get_text() for text in ax.get_legend().get_texts()]  # type: ignore[union-attr]


def by_place(places: NDArray[np.float64]) -> NDArray[np.float64]:
    return places[np.lexsort(places.T)]


def rows_of_noise(tree: xr.DataTree) -> NDArray[np.float64]:
    return np.asarray(tree["observed_data"]["X"].values[bg.predict(tree).values == -1])


def test_rows_of_noise_are_crosses_within_the_box(noisy: xr.DataTree) -> None:
    ax = bg.plot_components(noisy, ax=axes())
    assert isinstance(ax, Axes)
    np.testing.assert_array_equal(by_place(crosses(ax)), by_place(rows_of_noise(noisy)))
    assert len(crosses(ax)) > 3
    (box,) = boxes(ax)
    np.testing.assert_array_equal([box.min(axis=0), box.max(axis=0)], [LOW, HIGH])
    assert words(ax)[2].startswith(f"noise: {noisy['posterior']['noise_weight'].mean():.2f} [0.1")
    assert ax.get_title() == "2 components and noise, 90 % ellipses: mean and 20 draws"
    panels = bg.plot_components(
        given_noise(random_fit(np.random.default_rng(1).normal(size=(30, 3)),
                               np.random.default_rng(1)), 0.1, [-5.0] * 3, [5.0] * 3),
        ax=Figure(figsize=(9.0, 9.0)).subplots(3, 3),
    )  # fmt: skip
    assert isinstance(panels, np.ndarray)
    assert len(boxes(panels[2, 0])) == 1
    assert words(panels[0, 2])[2].startswith("noise: 0.1")


def test_the_curve_of_a_mixture_has_its_noise(noisy: xr.DataTree) -> None:
    ax = bg.plot_components(noisy, features="x1", ax=axes())
    assert isinstance(ax, Axes)
    *_, curve = [line for line in ax.lines if len(line.get_xdata()) > 2]
    x, y = np.asarray(curve.get_xydata()).T
    due = bg.density(noisy, {"x1": x}).sel(statistic="predictive")
    np.testing.assert_allclose(y, due, rtol=1e-8, atol=1e-15)
    assert words(ax)[2].startswith("noise: 0.")
    (flat,) = (line for line in ax.lines if line.get_color() == NOISE_COLOUR)
    height = float(noisy["posterior"]["noise_weight"].mean()) / 12.0
    np.testing.assert_allclose(np.max(flat.get_ydata()), height)
    strip = bg.plot_uncertainty(bg.marginal(noisy, "x1"), ax=axes())
    np.testing.assert_allclose(
        max(np.max(line.get_ydata()) for line in strip.lines),
        bg.density(noisy, {"x1": x}).sel(statistic="predictive").max(), rtol=1e-2,
    )  # fmt: skip
    band = bg.plot_density(noisy, features="x1", ax=axes())
    assert np.min(band.lines[-1].get_ydata()) > 0.0


def test_rows_of_noise_may_be_uncertain_too(noisy: xr.DataTree) -> None:
    ax = bg.plot_uncertainty(noisy, ax=axes())
    np.testing.assert_array_equal(by_place(crosses(ax)), by_place(rows_of_noise(noisy)))
    assert words(ax) == ["noise"]
    assert "no component, nor noise, has a probability above 0.9" in ax.get_title()
    assert len(boxes(ax)) == 1
    count = int((bg.uncertainty(noisy)["error_probability"] >= 0.1).sum())
    assert ax.get_title().startswith(f"{count} of 48 rows")
    four = random_fit(np.random.default_rng(1).normal(size=(30, 4)), np.random.default_rng(1))
    plane = bg.plot_uncertainty(given_noise(four, 0.1, [-5.0] * 4, [5.0] * 4), ax=axes())
    assert boxes(plane) == []  # its sides are not along principal axes


def test_partitions_show_noise_as_no_cluster(noisy: xr.DataTree) -> None:
    best = bg.partition(noisy, random_seed=1)
    X, of_noise = noisy["observed_data"]["X"].values, best.values == -1
    ax = bg.plot_partition(noisy, best, ax=axes(), random_seed=1)
    np.testing.assert_array_equal(by_place(crosses(ax)), by_place(X[of_noise]))
    assert f"noise: {of_noise.sum()} rows" in words(ax)
    plural = "" if best.attrs["n_clusters"] == 1 else "s"
    shown = f"{best.attrs['n_clusters']} cluster{plural} and noise of 48 rows"
    assert ax.get_title().startswith(shown)
    ball = bg.credible_ball(noisy, random_seed=1)
    panels = bg.plot_credible_ball(noisy, ball, ax=Figure().subplots(2, 2))
    of_noise = ball["partition"].values == -1
    np.testing.assert_array_equal(by_place(crosses(panels[0, 0])), by_place(X[of_noise]))
    assert panels[0, 0].get_title().endswith("and noise (crosses)")
    of_noise = ball["labels"].sel(bound="horizontal").values == -1
    np.testing.assert_array_equal(by_place(crosses(panels[0, 1])), by_place(X[of_noise]))


def test_the_last_frame_is_that_of_noise(noisy: xr.DataTree) -> None:
    ax = bg.plot_similarity(noisy, ax=axes(), random_seed=1)
    best = bg.partition(noisy, random_seed=1)
    labels = [text.get_text() for text in ax.get_yticklabels()]
    places = ax.get_yticks()
    assert labels[int(np.argmax(places))] == f"noise ({int((best == -1).sum())})"
    assert ax.get_title().endswith("and noise")


def test_other_plots_draw_components_and_density(noisy: xr.DataTree) -> None:
    ax = bg.plot_density(noisy, ax=axes())
    assert len(boxes(ax)) == 1
    assert len(boxes(bg.plot_modes(noisy, ax=axes()))) == 1
    assert bg.plot_merge(noisy, ax=axes()).get_title().startswith("2 components, ")
    panels = bg.plot_alignment(noisy, ax=Figure().subplots(2, 2))
    assert "renamed" in panels[1, 0].get_title(loc="left")


def test_no_contour_is_drawn_where_the_density_is_flat(plain: xr.DataTree) -> None:
    narrow, posterior = plain.copy(), plain["posterior"].to_dataset()
    posterior["scales"], posterior["covariances"] = (
        factor * posterior[name] for name, factor in (("scales", 0.3), ("covariances", 0.09))
    )
    narrow["posterior"] = xr.DataTree(posterior)

    def drawn(share: float) -> set[int]:
        ax = bg.plot_density(given_noise(narrow, share, LOW, HIGH), ax=axes(), probability=0.95)
        return {len(one.levels) for one in ax.collections if isinstance(one, ContourSet)}

    assert drawn(0.001) == {2}
    assert drawn(0.2) == {1}  # 95 % are of noise too
