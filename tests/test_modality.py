"""The modes of the density of a fit."""

import numpy as np
import pytest
import xarray as xr

import bayesgmm as bg
from tests.synthetic import random_fit


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    rng = np.random.default_rng(8)
    X = rng.normal(2.0, 3.0, (40, 2)) * [1.0, 1e4]
    return random_fit(X, rng, n_components=4, chains=2, draws=20)


def test_modes_are_labelled(tree: xr.DataTree) -> None:
    modes = bg.density_modes(tree)
    assert modes["n_modes"].dims == ("chain", "draw")
    assert modes["location"].dims == ("chain", "draw", "component", "feature")
    assert modes["log_density"].dims == modes["labels"].dims == ("chain", "draw", "component")
    assert modes["feature"].values.tolist() == ["x0", "x1"]
    assert modes["n_modes"].dtype == modes["labels"].dtype == np.int64
    np.testing.assert_array_equal(modes["labels"].max("component") + 1, modes["n_modes"])


def test_the_density_there_is_that_of_the_draw(tree: xr.DataTree) -> None:
    modes = bg.density_modes(tree)
    assert len(np.unique(modes["n_modes"])) > 1
    for chain, draw in ((0, 0), (1, 13)):
        one = tree.isel(chain=[chain], draw=[draw])
        for k in range(4):
            at = modes["location"].values[chain, draw, k]
            height = bg.score_samples(one, at[None]).item()
            assert modes["log_density"].values[chain, draw, k] == pytest.approx(height, rel=1e-9)
            mean = one["posterior"]["means"].values[0, 0, k]
            assert height >= bg.score_samples(one, mean[None]).item() - 1e-9
            near = at + np.array([[0.01, 0.0], [-0.01, 0.0], [0.0, 0.01], [0.0, -0.01]])
            assert bg.score_samples(one, near).max() <= height + 1e-12


def test_labels_of_components_do_not_change_the_modes(tree: xr.DataTree) -> None:
    posterior = tree["posterior"].to_dataset()
    turned = tree.copy()
    turned["posterior"] = xr.DataTree(
        posterior.isel(component=[2, 0, 3, 1]).assign_coords(component=posterior["component"])
    )
    one, other = bg.density_modes(tree), bg.density_modes(turned)
    xr.testing.assert_identical(one["n_modes"], other["n_modes"])
    np.testing.assert_allclose(
        one["location"].isel(component=[2, 0, 3, 1]), other["location"], rtol=1e-6
    )


def test_one_component_has_its_mean_for_a_mode() -> None:
    rng = np.random.default_rng(1)
    tree = random_fit(rng.normal(size=(20, 2)), rng, n_components=1, draws=4)
    modes = bg.density_modes(tree)
    assert (modes["n_modes"] == 1).all()
    np.testing.assert_allclose(modes["location"], tree["posterior"]["means"], atol=1e-12)


def test_clusters_far_apart_are_modes() -> None:
    X = bg.datasets.make_mixture(120, 3, 2, separation=8.0, random_seed=3)["X"]
    tree = bg.fit(X, 3, method="laplace", draws=50, chains=1, random_seed=1)
    modes = bg.density_modes(tree)
    assert (modes["n_modes"] == 3).all()
    means = tree["posterior"]["means"]
    assert float(abs(modes["location"] - means).max()) < 0.1


def test_a_table_of_modes(tree: xr.DataTree) -> None:
    table = bg.summary(bg.density_modes(tree))
    assert table.index[0] == "n_modes"
    assert {"location[3, x1]", "log_density[0]", "labels[2]"} <= set(table.index)
    draws = bg.density_modes(tree)["n_modes"].values
    assert table.loc["n_modes", "mean"] == pytest.approx(draws.mean())
