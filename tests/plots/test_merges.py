"""`plot_merge`: what is in the picture, not its pixels."""

import numpy as np
import pytest
import xarray as xr
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import bayesgmm as bg
from bayesgmm.plots.canvas import DARK
from tests.synthetic import random_fit


def axes() -> Axes:
    return Figure(figsize=(7.0, 5.0), layout="constrained").subplots()


def test_paths_of_draws_and_their_mean(tree: xr.DataTree) -> None:
    ax = bg.plot_merge(tree, ax=axes(), draws=25)
    paths = bg.merge_components(tree)["entropy"].values.reshape(-1, 3)
    thin = ax.lines[:25]
    np.testing.assert_array_equal(thin[0].get_ydata(), paths[0])
    np.testing.assert_array_equal(thin[-1].get_ydata(), paths[-1])
    assert ax.lines[25].get_color() == DARK
    np.testing.assert_allclose(ax.lines[25].get_xydata()[:, 0], [1, 2, 3])
    np.testing.assert_allclose(ax.lines[25].get_ydata(), paths.mean(axis=0))
    assert ax.get_ylabel() == "entropy of the clusters (nats)"


@pytest.mark.parametrize("criterion", ["entropy", "misclassification"])
def test_the_number_of_clusters_is_marked_and_its_probability_told(
    tree: xr.DataTree, criterion: str
) -> None:
    ax = bg.plot_merge(tree, ax=axes(), criterion=criterion)
    merged = bg.merge_components(tree, criterion=criterion)
    chosen = merged.attrs["n_clusters"]
    ring = next(one for one in ax.lines if one.get_markersize() > 10.0)
    path = merged["entropy" if criterion == "entropy" else "criterion"]
    height = path.sel(n_clusters=chosen).mean().fillna(0.0)
    assert ring.get_xydata().ravel() == pytest.approx([chosen, float(height)])
    assert ax.get_title().startswith(f"3 components, {chosen} cluster")
    assert ("misclassification below 2.5 %" in ax.get_title()) == (criterion != "entropy")
    ticks = [text.get_text() for text in ax.get_xticklabels()]
    for n, share in enumerate(merged["probability"].values, 1):
        assert ticks[n - 1].split("\n")[0] == str(n)
        assert ("%" in ticks[n - 1]) == (share > 0.0)


def test_misclassification_is_held_against_its_threshold(tree: xr.DataTree) -> None:
    ax = bg.plot_merge(tree, ax=axes(), criterion="misclassification", draws=10)
    paths = bg.merge_components(tree, criterion="misclassification")["criterion"].values
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), paths[0, 0])
    assert ax.lines[-1].get_ydata() == [0.025, 0.025]
    assert ax.get_ylabel() == "misclassified by the next two"
    assert ax.get_xlim()[0] < 1.0


def test_each_step_says_what_it_merges(tree: xr.DataTree) -> None:
    ax = bg.plot_merge(tree, ax=axes())
    cluster = bg.merge_components(tree)["cluster"].sel(n_clusters=2).values
    pair = np.flatnonzero(cluster == np.bincount(cluster).argmax()).tolist()
    (alone,) = set(range(3)) - set(pair)
    texts = [text.get_text() for text in ax.texts]
    assert texts[0] == f"{pair[0]} + {pair[1]}"
    both = f"{pair[0]},{pair[1]}"
    assert texts[1] in (f"{both} + {alone}", f"{alone} + {both}")


def test_a_point_estimate_has_one_path(rng: np.random.Generator) -> None:
    tree = random_fit(rng.normal(size=(30, 2)), rng, n_components=4, chains=1, draws=1)
    ax = bg.plot_merge(tree, ax=axes())
    assert len(ax.lines) == 2
    assert "%" not in "".join(text.get_text() for text in ax.get_xticklabels())
    assert ax.get_xlabel() == "clusters"


@pytest.mark.parametrize("n_components", [1, 15])
def test_few_and_many_components(rng: np.random.Generator, n_components: int) -> None:
    tree = random_fit(rng.normal(size=(30, 2)), rng, n_components=n_components, draws=5)
    ax = bg.plot_merge(tree)
    ax.figure.draw_without_rendering()
    assert pyplot.get_fignums() == [1]
    bg.plot_merge(tree, ax=axes(), criterion="misclassification").figure.draw_without_rendering()
    assert ax.get_title().startswith(f"{n_components} component")
    assert len(ax.texts) == 0


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"ax": "here"}, TypeError, r"`ax` must be a matplotlib Axes; got an object of type str"),
        ({"draws": 0}, ValueError, r"`draws` must be at least 1; got 0\. A hundred"),
        ({"criterion": "icl"}, ValueError, r"`criterion` must be one of 'entropy', .*got 'icl'"),
    ],
)
def test_bad_arguments_are_refused(
    tree: xr.DataTree, arguments: dict[str, object], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        bg.plot_merge(tree, **arguments)
    assert pyplot.get_fignums() == []
