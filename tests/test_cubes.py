"""Cubes are fitted as their cells are, and what is said of cells comes back as maps."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib import pyplot

import bayesgmm as bg
from bayesgmm.cubes import feature_dim_of
from bayesgmm.data import prepare

SHAPE = (3, 4, 5)
CELLS = bg.datasets.make_mixture(60, 2, 2, separation=8.0, random_seed=3)["X"].values
FIT: dict[str, Any] = {"method": "laplace", "draws": 20, "random_seed": 1, "progressbar": False}


def cube(cells: np.ndarray = CELLS) -> xr.DataArray:
    return xr.DataArray(
        cells.reshape(*SHAPE, 2),
        dims=("time", "y", "x", "band"),
        coords={
            "time": ("time", pd.date_range("2024-01-01", periods=3), {"axis": "T"}),
            "y": [30.0, 20.0, 10.0, 0.0],
            "band": ["red", "green"],
            "lat": (("y", "x"), np.arange(20.0).reshape(4, 5), {"units": "degrees"}),
            "wavelength": ("band", [650.0, 550.0]),
            "sensor": "A",
        },
        attrs={"units": "K"},
        name="scene",
    )


def with_holes() -> xr.DataArray:
    cells = CELLS.copy()
    cells[[0, 7, 59]] = np.nan
    cells[5, 0] = np.nan
    return cube(cells)


def fit(X: Any, **others: Any) -> xr.DataTree:
    return bg.fit(X, 2, feature_dim="band", **FIT | others)


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    return fit(cube())


@pytest.mark.parametrize("order", [("band", "time", "y", "x"), ("time", "band", "y", "x")])
def test_the_order_of_dimensions_does_not_matter(order: tuple[str, ...], tree: xr.DataTree) -> None:
    moved = cube().transpose(*order)
    table = bg.fit(CELLS, 2, **FIT)
    for name, values in table["posterior"].data_vars.items():
        np.testing.assert_array_equal(tree["posterior"][name], values)
        np.testing.assert_array_equal(fit(moved)["posterior"][name], values)
    assert bg.predict_proba(tree, moved).identical(bg.predict_proba(tree))


def test_a_dataset_is_a_cube_whose_variables_are_features(tree: xr.DataTree) -> None:
    source = cube().to_dataset(dim="band").drop_attrs(deep=False)
    found = bg.fit(source, 2, **FIT)
    for name, values in tree["posterior"].data_vars.items():
        np.testing.assert_array_equal(found["posterior"][name], values)
    assert found["posterior"]["feature"].values.tolist() == ["red", "green"]
    assert bg.predict(found).drop_attrs().equals(bg.predict(tree).drop_attrs())
    xr.testing.assert_identical(bg.predict(tree, source).variable, bg.predict(tree).variable)


def test_variables_of_a_dataset_are_broadcast_and_keep_their_units() -> None:
    source = xr.Dataset(
        {
            "depth": ("y", [1.0, 5.0, 2.0], {"units": "m"}),
            "heat": (("x", "y"), CELLS[:12, 0].reshape(4, 3), {"units": "K"}),
        }
    )
    data = prepare(source)
    np.testing.assert_array_equal(data.values[:, 0], np.repeat([1.0, 5.0, 2.0], 4))
    np.testing.assert_array_equal(data.values[:, 1], CELLS[:12, 0].reshape(4, 3).T.ravel())
    assert data.coords["units"].values.tolist() == ["m", "K"]


def test_predictions_are_maps_with_the_coordinates_of_the_cube(tree: xr.DataTree) -> None:
    found = {
        "predict_proba": (bg.predict_proba(tree), ("component",)),
        "predict": (bg.predict(tree), ()),
        "score_samples": (bg.score_samples(tree), ()),
        "entropy": (bg.uncertainty(tree)["total_entropy"], ()),
        "score": (bg.outlier_score(tree, random_seed=1)["score"], ()),
        "flags": (bg.flag_outliers(bg.outlier_score(tree, random_seed=1), rate=0.1), ()),
        "imputed": (bg.impute(tree, draws=2)["X"], ("imputation", "feature")),
        "allocations": (bg.sample_allocations(tree), ("chain", "draw")),
        "new": (bg.predict(tree, cube()[1:, :2]), ()),
    }
    for what, (result, before) in found.items():
        assert result.dims == (*before, "time", "y", "x"), what
        where = cube()[1:, :2] if what == "new" else cube()
        for name in ("time", "y", "lat", "sensor"):
            assert result[name].identical(where[name]), (what, name)
        assert "x" not in result.coords
    values = bg.predict_proba(bg.fit(CELLS, 2, **FIT)).values
    np.testing.assert_array_equal(
        found["predict_proba"][0].transpose(..., "component").values.reshape(60, 2), values
    )
    assert found["predict"][0].dtype == np.int64
    chosen = bg.predict_proba(tree, cube().sel(time=["2024-01-02"], y=[20.0]))
    expected = bg.predict_proba(tree).sel(time=["2024-01-02"], y=[20.0])
    np.testing.assert_allclose(chosen, expected, rtol=1e-12)


@pytest.mark.parametrize("backend", ["nc", "zarr"])
def test_a_saved_cube_gives_the_same_maps(backend: str, tmp_path: Path) -> None:
    fitted = fit(with_holes())
    bg.save(fitted, tmp_path / f"fit.{backend}")
    loaded = bg.load(tmp_path / f"fit.{backend}")
    assert loaded.identical(fitted)
    assert bg.predict_proba(loaded).identical(bg.predict_proba(fitted))
    assert bg.predict(loaded, with_holes()).identical(bg.predict(fitted))


def test_cells_with_nothing_in_them_are_left_out_and_missing_in_maps() -> None:
    holed = with_holes()
    fitted = fit(holed)
    rows = np.delete(holed.values.reshape(60, 2), [0, 7, 59], axis=0)
    plain = bg.fit(rows, 2, **FIT)
    for name, values in plain["posterior"].data_vars.items():
        np.testing.assert_array_equal(fitted["posterior"][name], values)
    shares, labels = bg.predict_proba(fitted), bg.predict(fitted)
    nothing = holed.isnull().all("band")
    assert shares.isnull().all("component").equals(nothing)
    assert labels.isnull().values.sum() == 3
    np.testing.assert_array_equal(labels.values[~nothing.values], bg.predict(plain).values)
    assert bg.score_samples(fitted, holed).isnull().values.sum() == 3
    filled = bg.impute(fitted, draws=2, random_seed=1)["mean"]
    assert filled.isnull().values.sum() == 6
    scores = bg.outlier_score(fitted, holed.isel(y=slice(2, None)), random_seed=1)
    flags = bg.flag_outliers(scores, fdr=0.5)
    assert (flags.dtype, flags.dims) == (bool, ("time", "y", "x"))
    assert not flags.values[scores["score"].isnull().values].any()


def test_cells_without_names_of_features_may_be_left_out_too(tree: xr.DataTree) -> None:
    holed = with_holes()
    unnamed = xr.DataArray(holed.values, dims=("time", "y", "x", "feature"))
    np.testing.assert_array_equal(bg.predict_proba(tree, unnamed), bg.predict_proba(tree, holed))


def test_results_along_rows_are_laid_out_on_request(tree: xr.DataTree) -> None:
    parts = bg.partition(tree, random_seed=1)
    laid = bg.unstack(tree, parts)
    assert laid.dims == ("time", "y", "x")
    np.testing.assert_array_equal(laid.values.ravel(), parts.values)
    fitted = fit(with_holes())
    rows = fitted["observed_data"].dataset
    back = bg.unstack(fitted, rows)["X"].transpose("time", "y", "x", "feature")
    np.testing.assert_array_equal(back.values, with_holes().values)
    few = bg.unstack(fitted, rows["X"].isel(obs=slice(3, 6)))
    assert few.notnull().any("feature").values.sum() == 3
    with pytest.raises(TypeError, match="`values` must be a DataArray or a Dataset along 'obs'"):
        bg.unstack(tree, laid)
    with pytest.raises(ValueError, match="`values` must have the labels of 'obs' that the fit has"):
        bg.unstack(tree, parts.assign_coords(obs=parts["obs"] + 1))


def test_what_is_said_of_cells_may_be_maps() -> None:
    holed = with_holes()
    whole = ~holed.isnull().all("band").values.ravel()
    rows = holed.values.reshape(60, 2)[whole]
    weights = np.arange(60) % 3 + 1.0
    known = np.where(np.arange(60) % 4 == 0, np.arange(60) % 2, -1)
    errors = np.full((60, 2), 0.1)
    for what, said in (
        ("sample_weight", weights), ("labels", known), ("measurement_error", errors),
        ("labels", np.maximum(np.eye(2)[known], (known < 0)[:, None])),
    ):  # fmt: skip
        expected = bg.fit(rows, 2, **{what: said[whole]}, method="map", random_seed=1)
        whole_map = said.reshape(*SHAPE, *said.shape[1:])
        labelled = xr.DataArray(whole_map, dims=("time", "y", "x", "last")[: whole_map.ndim])
        for given in (whole_map, labelled.transpose(..., "x", "time"), said):
            found = fit(holed, **{what: given}, method="map")
            for name, values in expected["posterior"].data_vars.items():
                np.testing.assert_array_equal(found["posterior"][name], values, err_msg=what)


def test_a_fit_of_a_table_predicts_cubes_of_its_features() -> None:
    table = bg.fit(pd.DataFrame(CELLS, columns=["red", "green"]), 2, **FIT)
    assert bg.predict(table, cube().transpose("band", ...)).dims == ("time", "y", "x")
    assert feature_dim_of(cube(), ["red", "green"], None) == "band"
    assert feature_dim_of(cube(), ["red", "blue"], None) is None
    assert feature_dim_of(CELLS, ["red", "green"], "band") is None
    table = bg.marginal(bg.update(fit(cube()), cube(), progressbar=False), ["green"])
    assert bg.predict(table).dims == ("time", "y", "x")


def test_classes_of_cells_are_maps() -> None:
    truth = (bg.predict(fit(cube())) > 0).astype(int)
    given: dict[str, Any] = {"method": "map", "random_seed": 1, "progressbar": False}
    fitted = bg.MixtureClassifier(1).fit(cube(), truth.T, feature_dim="band", **given)
    rows = bg.MixtureClassifier(1).fit(
        pd.DataFrame(CELLS, columns=["red", "green"]), truth.values.ravel(), **given
    )
    for one in (fitted, rows):
        found = one.predict(cube())
        assert found.dims == ("time", "y", "x")
        assert (found == truth).mean() > 0.95
        assert one.predict(with_holes()).isnull().values.sum() == 3
    np.testing.assert_array_equal(fitted.shares, rows.shares)


def test_two_dimensions_are_rows_and_features_whichever_is_named() -> None:
    X = cube()[0, 0]
    assert prepare(X.T, feature_dim="band").features.tolist() == ["red", "green"]
    assert bg.fit(X.T, 2, feature_dim="band", **FIT)["observed_data"].sizes["obs"] == 5


@pytest.mark.filterwarnings("ignore:2 of 2 fits are not to be trusted:UserWarning")
def test_refits_and_plots_take_cubes(tree: xr.DataTree) -> None:
    drawn = fit(with_holes(), method="nuts", draws=30, chains=2)
    assert bg.loo(drawn).elpd_i.sizes == {"obs": 57}
    assert bg.unstack(drawn, bg.loo(drawn).pareto_k).dims == ("time", "y", "x")
    assert bg.kfold(drawn, folds=2, random_seed=1, progressbar=False).elpd_i.sizes == {"obs": 57}
    with matplotlib.rc_context({"backend": "agg"}):
        for plot in (bg.plot_components, bg.plot_uncertainty, bg.plot_partition):
            plot(drawn)
        pyplot.close("all")
    selection = bg.select(
        cube(), [1, 2], feature_dim="band", draws=30, random_seed=1, progressbar=False,
        criteria=["bic"],
    )  # fmt: skip
    assert bg.predict(selection.fits[selection.recommended]).dims == ("time", "y", "x")


@pytest.mark.parametrize(
    ("X", "feature_dim", "error", "message"),
    [
        (cube(), None, ValueError, r"`feature_dim` must name .* where `X` has 4; got None and the "
         r"dimensions 'time', 'y', 'x', 'band'. Pass it to `fit`, e.g. `feature_dim='band'`"),
        (cube(), "bands", ValueError, r"`feature_dim` must be a dimension of `X`, 'time', 'y', "
         r"'x', 'band'; got 'bands'. Did you mean 'band'\?"),
        (CELLS, "band", TypeError, "`feature_dim` must be left out unless `X` is a DataArray; got "
         "'band' and a ndarray"),
        (cube().rename(y="draw"), "band", ValueError, r"results do not use; got 'draw'. Rename "
         r"the dimension: `X.rename\({'draw': ...}\)`"),
        (cube().where(lambda X: X.y > 90.0), "band", ValueError, r"nothing but missing cells \(NaN"
         r"\) in cell \(time=0, y=0, x=0\)"),
        (cube().where(lambda X: X.x > 2, np.inf), "band", ValueError, r"\(inf\) at cell \(time=0, "
         r"y=0, x=0\), column 'red'"),
        (xr.Dataset({"a": 1.0}), None, ValueError, "must have variables along some dimension; got"),
    ],
)  # fmt: skip
def test_what_is_no_cube_is_refused(
    X: Any, feature_dim: str | None, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        prepare(X, feature_dim=feature_dim)
