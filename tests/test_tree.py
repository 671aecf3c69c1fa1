"""The tree: its schema, its labels, and files that give it back to the last bit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesgmm as bg
from bayesgmm import names
from bayesgmm import tree as trees
from bayesgmm.mixture import GaussianMixture
from bayesgmm.tree import schema, storage
from tests.synthetic import assert_same, random_fit

N = 12
ROWS = pd.Index([f"row {i} é" for i in range(N)])


@pytest.fixture
def X(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(N, 2))


@pytest.fixture
def fit(X: np.ndarray, rng: np.random.Generator) -> xr.DataTree:
    return random_fit(pd.DataFrame(X, columns=["a", "b"], index=ROWS), rng)


# Building


def test_schema_of_a_fit(fit: xr.DataTree, X: np.ndarray) -> None:
    expected = {
        "posterior": {
            "weights": ("chain", "draw", "component"),
            "means": ("chain", "draw", "component", "feature"),
            "scales": ("chain", "draw", "component", "feature"),
            "correlations": ("chain", "draw", "component", "feature", "feature2"),
            "covariances": ("chain", "draw", "component", "feature", "feature2"),
        },
        "sample_stats": {
            "lp": ("chain", "draw"),
            "diverging": ("chain", "draw"),
            "n_steps": ("chain", "draw"),
        },
        "log_likelihood": {"X": ("chain", "draw", "obs")},
        "observed_data": {"X": ("obs", "feature")},
        "constant_data": {"center": ("feature",), "unit": ("feature",)},
        "alignment": {"permutation": ("chain", "draw", "component"), "margin": ("chain", "draw")},
        "modes": {
            "objective": ("mode",),
            "starts": ("mode",),
            "weights": ("mode", "component"),
            "means": ("mode", "component", "feature"),
            "covariances": ("mode", "component", "feature", "feature2"),
        },
    }
    found = {
        group: {name: variable.dims for name, variable in node.data_vars.items()}
        for group, node in fit.children.items()
    }
    assert found == expected
    assert np.array_equal(fit["observed_data/X"].values, X)
    trees.check_schema(fit)


def test_labels_come_from_the_data(fit: xr.DataTree) -> None:
    for group in ("log_likelihood", "observed_data"):
        assert fit[group].indexes["obs"].equals(ROWS)
    for dim in ("feature", "feature2"):
        assert fit["posterior"].indexes[dim].tolist() == ["a", "b"]
    assert fit["posterior"].indexes["component"].tolist() == [0, 1]
    assert trees.features(fit) == ["a", "b"]


def test_units_and_further_coordinates_are_kept(
    X: np.ndarray, rng: np.random.Generator, tmp_path: Path
) -> None:
    data = xr.DataArray(
        X,
        dims=("plant", "feature"),
        coords={
            "plant": np.arange(N) * 10,
            "species": ("plant", np.array(["s", "v"] * (N // 2))),
            "unit_of": ("feature", ["cm", "kg"]),
            "site": 3.5,
        },
        attrs={"units": "cm", "seen": [1, 2], "pair": ("a", "b"), "grid": np.arange(3.0)},
    )
    data["plant"].attrs["long_name"] = "number of the plant"
    tree = random_fit(data, rng)
    assert tree["log_likelihood"]["species"].values.tolist() == ["s", "v"] * (N // 2)
    assert tree["posterior"]["unit_of"].values.tolist() == ["cm", "kg"]
    assert tree["observed_data/X"].attrs["units"] == "cm"
    assert tree["observed_data"]["obs"].attrs["long_name"] == "number of the plant"
    for suffix in storage.FORMATS:
        bg.save(tree, tmp_path / f"fit{suffix}")
        assert_same(bg.load(tmp_path / f"fit{suffix}"), tree)


def test_provenance(fit: xr.DataTree, X: np.ndarray) -> None:
    attrs = fit.attrs
    assert attrs["bayesgmm_schema"] == 1
    assert attrs["inference_library"] == "bayesgmm"
    assert attrs["inference_library_version"] == bg.__version__
    assert attrs["numpy_version"] == np.__version__
    assert attrs["method"] == "nuts"
    assert pd.Timestamp(attrs["created_at"]).utcoffset() == pd.Timedelta(0)
    assert trees.specification(fit) == GaussianMixture(2).resolve(X)
    assert trees.specification(fit).resolved


def test_building_copies_no_array(X: np.ndarray, rng: np.random.Generator) -> None:
    log_likelihood = rng.normal(size=(2, 30, N))
    tree = random_fit(X, rng, log_likelihood=log_likelihood)
    assert np.shares_memory(tree["log_likelihood/X"].values, log_likelihood)


def test_optional_groups_may_be_absent(X: np.ndarray, rng: np.random.Generator) -> None:
    tree = random_fit(X, rng, log_likelihood=None, alignment=None, modes=None)
    assert set(tree.children) == {"posterior", "sample_stats", "observed_data", "constant_data"}
    trees.check_schema(tree)


def test_one_draw_of_one_feature(rng: np.random.Generator, tmp_path: Path) -> None:
    tree = random_fit(rng.normal(size=N), rng, chains=1, draws=1, method="map", n_components=1)
    trees.check_schema(tree)
    bg.save(tree, tmp_path / "fit.nc")
    assert_same(bg.load(tmp_path / "fit.nc"), tree)


def test_further_variables_get_dimensions_of_their_own(
    X: np.ndarray, rng: np.random.Generator
) -> None:
    plain = random_fit(X, rng)
    posterior = {name: plain["posterior"][name].values for name in names.PARAMETER_DIMS}
    tree = random_fit(X, rng, posterior={**posterior, "slope": rng.normal(size=(2, 30, 4))})
    assert tree["posterior/slope"].dims == ("chain", "draw", "slope_dim_0")
    trees.check_schema(tree)


# Reading


def test_parameters_are_stacked(fit: xr.DataTree) -> None:
    parameters = trees.parameters(fit)
    for name in names.PARAMETER_DIMS:
        stacked = getattr(parameters, name)
        assert stacked.dtype == np.float64
        assert stacked.flags.c_contiguous
        assert np.array_equal(stacked[30 + 7], fit["posterior"][name].values[1, 7])
        assert stacked.shape == (60, *fit["posterior"][name].shape[2:])


def test_parameters_of_a_transposed_tree(fit: xr.DataTree) -> None:
    turned = fit.copy()
    turned["posterior"] = xr.DataTree(
        fit["posterior"].to_dataset().transpose("feature", "draw", "component", ...)
    )
    for one, other in zip(trees.parameters(turned), trees.parameters(fit), strict=True):
        assert np.array_equal(one, other)
        assert one.flags.c_contiguous


@pytest.mark.parametrize(
    ("thing", "error", "message"),
    [
        ("fit.nc", TypeError, r"^`tree` must be a fit, .*; got 'fit\.nc'\. Load it first"),
        (Path("fit.nc"), TypeError, r"got 'fit\.nc'\. Load it first: bayesgmm\.load"),
        (None, TypeError, r"got an object of type NoneType\. Pass that tree\."),
        (xr.Dataset(), TypeError, r"got an object of type Dataset\."),
        (xr.DataTree(), ValueError, r"without the attribute 'bayesgmm_schema', with no groups\."),
    ],
)
def test_what_is_no_fit_is_refused(thing: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        trees.require(thing, function="loo")
    with pytest.raises(error, match=message):
        bg.save(thing, "fit.nc")


def test_a_group_that_is_missing_is_named(fit: xr.DataTree) -> None:
    del fit["log_likelihood"]
    message = (
        r"^`trees\['a'\]` must hold the group 'log_likelihood' for `loo`; got a fit with "
        r"'posterior', 'sample_stats', .*'modes'\. Pass the tree"
    )
    with pytest.raises(ValueError, match=message):
        trees.require(fit, "posterior", "log_likelihood", function="loo", argument="trees['a']")
    trees.require(fit, "posterior", function="loo")


def broken_group(tree: xr.DataTree) -> None:
    del tree["sample_stats"]


def broken_variable(tree: xr.DataTree) -> None:
    del tree["posterior"]["scales"]


def broken_dims(tree: xr.DataTree) -> None:
    tree["posterior"] = xr.DataTree(tree["posterior"].to_dataset().transpose("draw", ...))


def broken_dtype(tree: xr.DataTree) -> None:
    tree["posterior"]["means"] = tree["posterior"]["means"].astype(np.float32)


def broken_labels(tree: xr.DataTree) -> None:
    dataset = tree["log_likelihood"].to_dataset()
    tree["log_likelihood"] = xr.DataTree(dataset.assign_coords(obs=np.arange(N)))


def no_labels(tree: xr.DataTree) -> None:
    tree["posterior"] = xr.DataTree(tree["posterior"].to_dataset().drop_vars("component"))


def other_draws(tree: xr.DataTree) -> None:
    tree["sample_stats"] = xr.DataTree(tree["sample_stats"].to_dataset().isel(draw=slice(5)))


def other_feature2(tree: xr.DataTree) -> None:
    dataset = tree["posterior"].to_dataset()
    tree["posterior"] = xr.DataTree(dataset.assign_coords(feature2=["b", "a"]))
    tree["modes"] = xr.DataTree(tree["modes"].to_dataset().assign_coords(feature2=["b", "a"]))


def other_number_of_components(tree: xr.DataTree) -> None:
    tree.attrs["specification"] = json.dumps(GaussianMixture(3).to_dict())


def broken_specification(tree: xr.DataTree) -> None:
    tree.attrs["specification"] = "{"


def no_method(tree: xr.DataTree) -> None:
    del tree.attrs["method"]


def newer(tree: xr.DataTree) -> None:
    tree.attrs["bayesgmm_schema"] = 2


def foreign(tree: xr.DataTree) -> None:
    del tree.attrs["bayesgmm_schema"]


BREAKAGES: dict[Callable[[xr.DataTree], None], str] = {
    broken_group: r"without the group 'sample_stats'\. Take the tree as",
    broken_variable: r"without the variable 'scales' in the group 'posterior'",
    broken_dims: r"'weights' in the group 'posterior' of dimensions \('draw', 'chain', 'compo",
    broken_dtype: r"'means' in the group 'posterior' of .* and dtype float32, where .* float64 are",
    broken_labels: r"labels of 'obs' in .* 'log_likelihood' are not .* 12, \[0, 1, 2\]\.\.\. and",
    no_labels: r"without labels of 'component' in the group 'posterior'",
    other_draws: r"labels of 'draw' in .* 'sample_stats' are not .* 5, \[0, 1, 2\]\.\.\. and 30, ",
    other_feature2: r"whose labels of 'feature' and 'feature2' differ",
    other_number_of_components: r"of 2 components where its specification has 3",
    broken_specification: r"whose attribute 'specification' cannot be read",
    no_method: r"without the attribute 'method'",
    newer: r"of schema 2, where this bayesgmm knows 1\. Upgrade bayesgmm\.",
    foreign: r"without the attribute 'bayesgmm_schema'",
}


@pytest.mark.parametrize("break_it", BREAKAGES, ids=lambda function: function.__name__)
def test_the_schema_check_names_what_is_wrong(
    fit: xr.DataTree, tmp_path: Path, break_it: Callable[[xr.DataTree], None]
) -> None:
    break_it(fit)
    fault = BREAKAGES[break_it]
    with pytest.raises(ValueError, match=rf"^`tree` must be a fit .* a DataTree .*{fault}"):
        trees.check_schema(fit)
    with pytest.raises(ValueError, match=r"^`tree` must "):
        bg.save(fit, tmp_path / "fit.nc")
    assert list(tmp_path.iterdir()) == []
    storage.write(fit, storage.target(tmp_path / "fit.nc"))
    message = rf"^`path` must be a fit saved by bayesgmm\.save; got .*, a netCDF file .*{fault}"
    with pytest.raises(ValueError, match=message):
        bg.load(tmp_path / "fit.nc")


def test_every_group_of_the_schema_has_a_name() -> None:
    assert set(schema.REQUIRED) < set(schema.SCHEMA)
    written = {value for value in vars(names).values() if isinstance(value, str)}
    assert set(schema.SCHEMA) <= written
