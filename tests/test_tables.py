"""The same numbers in any kind of table give the same fit, and come back under the same labels."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import xarray as xr
from pyarrow import feather

import bayesgmm as bg
from bayesgmm.data import prepare
from bayesgmm.tables import read

N = 60
ROWS = bg.datasets.make_mixture(N, 2, 2, separation=8.0, random_seed=3)["X"].values
HOLES = np.where(np.random.default_rng(1).random(ROWS.shape) < 0.1, np.nan, ROWS)
HOLES[np.isnan(HOLES).all(axis=1)] = ROWS[0]
NAMES = ["height", "width"]


class Stream:
    """Anything with Arrow's C stream, and nothing else."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


def frame(rows: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=NAMES)


def polars(rows: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=NAMES).fill_nan(None)


def mapped(rows: np.ndarray, folder: Path) -> np.memmap:
    file = np.memmap(folder / "rows.dat", dtype=np.float64, mode="w+", shape=rows.shape)
    file[:] = rows
    file.flush()
    return np.memmap(folder / "rows.dat", dtype=np.float64, mode="r", shape=rows.shape)


def written(rows: np.ndarray, folder: Path, ending: str) -> Path:
    path = folder / f"rows.{ending}"
    if ending == "npy":
        np.save(path, rows)
    elif ending == "csv":
        frame(rows).to_csv(path, index=False)
    elif ending == "parquet":
        frame(rows).to_parquet(path)
    else:
        feather.write_feather(polars(rows).to_arrow(), path, compression="uncompressed")
    return path


KINDS: dict[str, Callable[[np.ndarray, Path], Any]] = {
    "list": lambda rows, _: rows.tolist(),
    "masked": lambda rows, _: np.ma.masked_invalid(rows),
    "memmap": mapped,
    "pandas": lambda rows, _: frame(rows),
    "pandas, Arrow": lambda rows, _: frame(rows).convert_dtypes(dtype_backend="pyarrow"),
    "polars": lambda rows, _: polars(rows),
    "pyarrow table": lambda rows, _: polars(rows).to_arrow(),
    "record batch": lambda rows, _: polars(rows).to_arrow().combine_chunks().to_batches()[0],
    "Arrow's C stream": lambda rows, _: Stream(polars(rows).to_arrow()),
    "DataArray": lambda rows, _: xr.DataArray(rows, dims=("row", "kind"), coords={"kind": NAMES}),
    "Dataset": lambda rows, _: xr.Dataset(
        {name: ("row", rows[:, j]) for j, name in enumerate(NAMES)}
    ),
    **{
        f".{ending}": lambda rows, folder, ending=ending: written(rows, folder, ending)
        for ending in ("npy", "csv", "parquet", "feather", "arrow")
    },
}
UNNAMED = ("list", "masked", "memmap", ".npy")


@pytest.mark.parametrize("rows", [ROWS, HOLES], ids=["complete", "holes"])
def test_every_kind_gives_the_identical_fit(rows: np.ndarray, tmp_path: Path) -> None:
    def fit(X: Any) -> xr.DataTree:
        return bg.fit(X, 2, method="laplace", draws=20, random_seed=1, progressbar=False)

    expected = fit(frame(rows))
    same = bg.predict_proba(expected, frame(rows)).values
    scores = bg.score_samples(expected).values
    for kind, make in KINDS.items():
        X = make(rows, tmp_path)
        tree = fit(X)
        labels = ["x0", "x1"] if kind in UNNAMED else NAMES
        assert tree["posterior"]["feature"].values.tolist() == labels, kind
        for name, values in expected["posterior"].data_vars.items():
            np.testing.assert_array_equal(tree["posterior"][name], values, err_msg=kind)
        np.testing.assert_array_equal(bg.predict_proba(expected, X), same, err_msg=kind)
        np.testing.assert_array_equal(bg.score_samples(tree, X), scores, err_msg=kind)


def test_other_functions_take_every_kind(tmp_path: Path) -> None:
    tree = bg.fit(frame(ROWS), 2, draws=30, chains=2, random_seed=1, progressbar=False)
    expected = {
        "outliers": bg.outlier_score(tree, frame(ROWS[:9]), random_seed=1),
        "imputed": bg.impute(tree, frame(HOLES[:9]), draws=2, random_seed=1),
        "updated": bg.update(tree, frame(ROWS[:30]), progressbar=False)["posterior"].to_dataset(),
    }
    for kind in ("memmap", "polars", "Arrow's C stream", "DataArray", "Dataset", ".parquet"):
        make = KINDS[kind]
        found = {
            "outliers": bg.outlier_score(tree, make(ROWS[:9], tmp_path), random_seed=1),
            "imputed": bg.impute(tree, make(HOLES[:9], tmp_path), draws=2, random_seed=1),
            "updated": bg.update(tree, make(ROWS[:30], tmp_path), progressbar=False)[
                "posterior"
            ].to_dataset(),
        }
        for what, dataset in expected.items():
            assert found[what].drop_attrs().equals(dataset.drop_attrs()), (kind, what)


def test_a_stream_that_can_be_read_once_is_enough() -> None:
    table = polars(ROWS).to_arrow()
    tree = bg.fit(pa.RecordBatchReader.from_stream(table), 2, method="map", random_seed=1)
    found = bg.uncertainty(tree, pa.RecordBatchReader.from_stream(table))
    assert found.drop_attrs().equals(bg.uncertainty(tree, table).drop_attrs())
    classifier = bg.MixtureClassifier(1).fit(table, np.arange(N) % 2, method="map", random_seed=1)
    classes = classifier.predict(pa.RecordBatchReader.from_stream(table))
    assert classes.equals(classifier.predict(table))


def test_batches_may_be_files_and_tables_of_arrow(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).permutation(np.tile(ROWS, (40, 1)))
    paths = [tmp_path / "a.npy", tmp_path / "b.parquet"]
    np.save(paths[0], rows[:1200])
    frame(rows[1200:]).set_axis(["x0", "x1"], axis=1).to_parquet(paths[1])
    np.save(tmp_path / "all.npy", rows)

    def means(batches: Any) -> np.ndarray:
        tree = bg.fit_online(batches, 2, random_seed=1, progressbar=False)
        return tree["posterior"]["means"].values

    np.testing.assert_array_equal(means(paths), means([rows[:1200], rows[1200:]]))
    np.testing.assert_array_equal(means(tmp_path / "all.npy"), means(rows))
    np.testing.assert_array_equal(means(pl.DataFrame(rows)), means(rows))


def test_what_is_said_of_rows_may_be_of_polars() -> None:
    weights, labels = np.arange(N) % 3 + 1.0, np.arange(N) % 2
    arguments = {"method": "map", "random_seed": 1, "progressbar": False}
    expected = bg.fit(ROWS, 2, sample_weight=weights, **arguments)
    found = bg.fit(ROWS, 2, sample_weight=pl.Series(weights), **arguments)
    assert found["posterior"].to_dataset().equals(expected["posterior"].to_dataset())
    expected = bg.fit(ROWS, 2, labels=labels, **arguments)
    found = bg.fit(polars(ROWS), 2, labels=pl.Series(labels), **arguments)
    np.testing.assert_array_equal(found["posterior"]["means"], expected["posterior"]["means"])


def test_a_series_is_one_feature_of_its_name() -> None:
    given = read(pl.Series("depth", [1.0, None, 3.0]), "X")
    assert (given.features, given.named, given.cells.shape) == (["depth"], True, (3, 1))
    assert not read(pl.Series([1.0, 2.0]), "X").named
    assert read(pa.chunked_array([[1.0, 2.0], [3.0]]), "X").cells.shape == (3, 1)
    assert read(pa.array([1, None]), "X").cells.shape == (2, 1)


def test_the_index_of_a_parquet_file_comes_back(tmp_path: Path) -> None:
    X = frame(ROWS).set_axis([f"plant {i}" for i in range(N)])
    X.to_parquet(tmp_path / "rows.parquet")
    assert prepare(tmp_path / "rows.parquet").obs.tolist() == X.index.tolist()


@pytest.mark.parametrize("backend", ["nc", "zarr"])
def test_an_index_of_several_levels_comes_back(backend: str, tmp_path: Path) -> None:
    sites = [["north", "south", "west"], pd.date_range("2024-01-01", periods=N // 3)]
    index = pd.MultiIndex.from_product(sites, names=["site", None])
    X = frame(ROWS).set_axis(index)
    tree = bg.fit(X, 2, method="map", random_seed=1)
    bg.save(tree, tmp_path / f"fit.{backend}")
    loaded = bg.load(tmp_path / f"fit.{backend}")
    assert loaded.identical(tree)
    shares = bg.predict_proba(loaded)
    assert shares.indexes["obs"].equals(index)
    assert shares.indexes["obs"].names == ["site", "obs_level_1"]
    assert bg.predict(tree, X.iloc[::7]).indexes["obs"].equals(index[::7])
    chosen = bg.predict_proba(tree).sel(site="south")
    np.testing.assert_array_equal(chosen, bg.predict_proba(tree, X.loc["south"]))
    weights = pd.Series(np.arange(N) % 3 + 1.0, index=index)
    weighed = bg.fit(X, 2, sample_weight=weights, method="map", random_seed=1)
    assert weighed["constant_data"]["sample_weight"].values.tolist() == weights.tolist()
    with pytest.raises(ValueError, match=r"`sample_weight` must have the labels .*'west'"):
        bg.fit(X, 2, sample_weight=weights[::-1], method="map")
    parts = bg.unstack(tree, bg.partition(tree, random_seed=1))
    assert parts.indexes["obs"].equals(index)


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "plan": (pl.LazyFrame({"a": [1.0]}), TypeError, r"got a LazyFrame.*Run it: `X.collect\(\)`"),
    "text": (
        pl.DataFrame({"a": [1.0, 2.0], "b": ["u", "v"]}),
        TypeError,
        r"got text in 'b'. Drop them, `X.drop\(\['b'\]\)`",
    ),
    "text of Arrow": (
        pa.table({"a": [1.0, 2.0], "b": ["u", "v"]}),
        TypeError,
        r"got text in 'b'. Drop them, `X.drop_columns\(\['b'\]\)`",
    ),
    "records": (
        np.array([(1.0, 2.0)], dtype=[("a", float), ("b", float)]),
        TypeError,
        r"got records in 'x0'. Make a table of them: `pandas.DataFrame\(X\)`",
    ),
    "categories": (
        pl.DataFrame({"a": [1.0, 2.0], "b": ["u", "v"]}).cast({"b": pl.Categorical}),
        TypeError,
        "got categories in 'b'",
    ),
    "dates": (pa.table({"a": pa.array([1, 2], pa.date32())}), TypeError, "got dates in 'a'"),
    "moments": (
        pa.table({"a": pa.array([1, 2], pa.timestamp("us"))}),
        TypeError,
        "got dates in 'a'",
    ),
    "booleans": (pl.DataFrame({"a": [True, None]}), TypeError, "got booleans in 'a'"),
    "lists": (pl.DataFrame({"a": [[1.0], [2.0]]}), TypeError, r"got objects \(.*\) in 'a'"),
    "complex": (np.ones((3, 2), complex), TypeError, "got complex numbers in 'x0'"),
    "twice": (
        pa.Table.from_arrays([pa.array([1.0]), pa.array([2.0])], ["a", "a"]),
        ValueError,
        "must have unique column names; got 'a' more than once",
    ),
    "dates in a Dataset": (
        xr.Dataset({"a": ("t", [1.0, 2.0]), "b": ("t", pd.date_range("2024", periods=2))}),
        TypeError,
        r"got dates in 'b'. Drop them, `X.drop_vars\(\['b'\]\)`",
    ),
    "sheet": ("rows.xlsx", ValueError, r"must be a .csv, .*; got 'rows.xlsx'. Save it as one"),
    "netCDF": ("rows.nc", ValueError, r"got 'rows.nc'. Open it first: `xarray.open_dataset"),
    "store": ("none.zarr", ValueError, r"got 'none.zarr'. There is no Zarr array here: check the"),
    "folder of others": (
        Path(__file__).parent,
        ValueError,
        r"Of folders only Zarr arrays, and those",
    ),
    "nothing in a row of levels": (
        frame(np.full((2, 2), np.nan)).set_axis(
            pd.MultiIndex.from_arrays([["a", "b"], pd.date_range("2024", periods=2)])
        ),
        ValueError,
        r"nothing but missing cells \(NaN\) in row \('a', 2024-01-01T.*\), row \('b',",
    ),
    "folder": (Path("none") / "rows.npy", ValueError, "must be a file; got 'none.rows.npy'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_holds_no_numbers_is_refused_by_name(case: str) -> None:
    X, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        prepare(X)


@pytest.mark.parametrize("ending", ["npy", "csv", "parquet", "feather"])
def test_damaged_files_are_refused(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{ending}"
    path.write_bytes(b'"')
    with pytest.raises(ValueError, match=rf"`X` must be a readable file; got '.*rows.{ending}'"):
        prepare(path)


def test_text_in_a_file_is_dropped_after_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,u\n2,v\n", encoding="utf-8")
    with pytest.raises(TypeError, match=r"`pandas.read_csv\(X\).drop\(columns=\['b'\]\)`"):
        prepare(path)


@pytest.mark.parametrize("between", [";", "\t", "|"])
def test_columns_that_commas_do_not_part_are_refused(between: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"a{between}b\n1,5{between}2\n3,5{between}4\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"`X` must be a readable file.* the first line reads 'a"):
        prepare(path)


def test_a_lone_column_may_be_named_as_it_likes(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("P(a|b)\n0.1\n0.2\n", encoding="utf-8")
    assert prepare(path).features.tolist() == ["P(a|b)"]


def test_decimals_are_numbers_and_a_column_of_nothing_is_named() -> None:
    cells = pl.DataFrame({"a": ["1.5", None, "3"], "b": [1, 2, 4]}).cast({"a": pl.Decimal(9, 2)})
    np.testing.assert_array_equal(prepare(cells).values[:, 0], [1.5, np.nan, 3.0])
    with pytest.raises(ValueError, match=r"nothing but missing cells \(NaN\) in 'a'"):
        prepare(cells.with_columns(a=pl.lit(None)))


@pytest.mark.parametrize("kind", ["memmap", "polars", ".npy", "Dataset", "bands first"])
def test_data_are_copied_once(kind: str, tmp_path: Path) -> None:
    rows = np.tile(ROWS, (2000, 1)) + np.random.default_rng(1).normal(size=(2000 * N, 2))
    if kind == "bands first":
        X = xr.DataArray(rows.T.copy()[:, None], dims=("band", "y", "x"))
        along = "band"
    else:
        X, along = KINDS[kind](rows, tmp_path), None
    fit = {"method": "map", "random_seed": 1, "progressbar": False}
    bg.fit(rows[:99], 2, **fit)  # what is imported and compiled stays
    tracemalloc.start()
    try:
        bg.fit(X, 2, feature_dim=along, **fit)
        peak = tracemalloc.get_traced_memory()[1] / rows.nbytes
    finally:
        tracemalloc.stop()
    assert peak < 3.0
