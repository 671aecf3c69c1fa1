"""Files of fits give them back to the last bit."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import bayesgmm as bg
from bayesgmm import tree as trees
from bayesgmm.tree import storage
from tests.synthetic import assert_same, random_fit

SUFFIXES = (".nc", ".zarr")
N = 12

every_format = pytest.mark.parametrize("suffix", SUFFIXES)

INDEXES = {
    "range": pd.RangeIndex(N),
    "strings": pd.Index([f"row {i} é" for i in range(N)]),
    "objects": pd.Index([f"r{i}" for i in range(N)], dtype=object),
    "repeated": pd.Index(["a", "b"] * (N // 2)),
    "dates": pd.date_range("2020-02-28", periods=N, freq="D"),
    "nanoseconds": pd.date_range("2020-01-01", periods=N).as_unit("ns") + pd.Timedelta(7, "ns"),
    "seconds": pd.date_range("2500-01-01", periods=N).as_unit("s"),
    "durations": pd.timedelta_range("1h", periods=N),
    "floats": pd.Index(np.linspace(-0.1, 1e300, N)),
    "int32": pd.Index(np.arange(N, dtype=np.int32)),
    "booleans": pd.Index([True, False] * (N // 2)),
}


@pytest.fixture
def X(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(N, 2))


@pytest.fixture
def fit(X: np.ndarray, rng: np.random.Generator) -> xr.DataTree:
    return random_fit(pd.DataFrame(X, columns=["a", "b"], index=INDEXES["strings"]), rng)


def entries(folder: Path) -> list[str]:
    """Everything in a folder, hidden or not."""
    return sorted(os.listdir(folder))


@every_format
@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES)
def test_round_trip_is_exact(
    X: np.ndarray, rng: np.random.Generator, tmp_path: Path, suffix: str, index: pd.Index
) -> None:
    frame = pd.DataFrame(X, columns=["length", "weight"], index=index.rename("when"))
    tree = random_fit(frame, rng)
    bg.save(tree, tmp_path / f"fit{suffix}")
    loaded = bg.load(tmp_path / f"fit{suffix}")
    assert_same(loaded, tree)
    assert loaded["observed_data"].indexes["obs"].equals(index)
    assert entries(tmp_path) == [f"fit{suffix}"]


@every_format
def test_round_trip_of_integer_columns_and_odd_numbers(
    X: np.ndarray, rng: np.random.Generator, tmp_path: Path, suffix: str
) -> None:
    tree = random_fit(pd.DataFrame(X, columns=[10, 20]), rng)
    odd = [np.nan, -np.nan, np.inf, -0.0, 5e-324, np.nextafter(1.0, 2.0)]
    tree["sample_stats"]["lp"].values[0, :6] = odd
    tree["sample_stats"]["halves"] = tree["sample_stats"]["lp"].astype(np.float32)
    bg.save(tree, str(tmp_path / f"fit{suffix}"))
    loaded = bg.load(str(tmp_path / f"fit{suffix}"))
    assert_same(loaded, tree)
    assert trees.features(loaded) == [10, 20]


@every_format
def test_round_trip_of_attributes_and_groups_that_were_added(
    fit: xr.DataTree, tmp_path: Path, suffix: str
) -> None:
    fit.attrs["note"] = "x" * 100_000  # more than HDF5 takes as an attribute
    fit.attrs["seed of 128 bits"] = 2**127
    fit.attrs["flag"] = True
    fit.attrs["nothing"] = None
    fit["observed_data/X"].attrs |= {
        "units": "days since 2000-01-01",
        "scale_factor": 2.0,
        "coordinates": "obs",
        "nested": {"a": [1, (2.5, "b")]},
        "single": np.float32(0.1),
        "empty": "",
    }
    fit["notes/deeper"] = xr.Dataset(
        {"text": ("line", np.array(["", "é", "日本"]))},
        {"line": pd.Index(["a", "b", "c"], dtype="str")},
    )
    fit["notes"].attrs["by"] = "me"
    bg.save(fit, tmp_path / f"fit{suffix}")
    assert_same(bg.load(tmp_path / f"fit{suffix}"), fit)


@settings(max_examples=20)
@given(labels=st.lists(st.text(), min_size=3, max_size=6), suffix=st.sampled_from(SUFFIXES))
def test_any_text_is_given_back_or_refused(
    tmp_path_factory: pytest.TempPathFactory, labels: list[str], suffix: str
) -> None:
    rng = np.random.default_rng(3)
    index = pd.Index(labels, dtype=object)
    tree = random_fit(pd.DataFrame(rng.normal(size=(len(labels), 1)), index=index), rng)
    path = tmp_path_factory.mktemp("labels") / f"fit{suffix}"
    if any("\0" in label for label in labels):
        with pytest.raises(TypeError, match=r"^`tree` must hold numbers, strings or dates"):
            bg.save(tree, path)
        return
    bg.save(tree, path)
    assert_same(bg.load(path), tree)


@every_format
def test_a_loaded_fit_is_in_memory(fit: xr.DataTree, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"fit{suffix}"
    bg.save(fit, path)
    loaded = bg.load(path)
    loaded.attrs["note"] = "changed"
    bg.save(loaded, path)  # over the file it came from
    again = bg.load(path)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert_same(again, loaded)
    assert entries(tmp_path) == []


@every_format
def test_other_programs_can_read_the_files(
    X: np.ndarray, rng: np.random.Generator, tmp_path: Path, suffix: str
) -> None:
    tree = random_fit(pd.DataFrame(X, columns=["a", "b"], index=INDEXES["dates"]), rng)
    bg.save(tree, tmp_path / f"fit{suffix}")
    options = {"consolidated": False} if suffix == ".zarr" else {}
    with xr.open_datatree(tmp_path / f"fit{suffix}", **options) as seen:
        assert seen["observed_data"].indexes["obs"].equals(INDEXES["dates"].as_unit("ns"))
        assert seen["posterior"]["feature"].values.tolist() == ["a", "b"]
        assert np.array_equal(seen["posterior/means"].values, tree["posterior/means"].values)
        assert seen.attrs["method"] == "nuts"


def test_a_tree_that_xarray_wrote_can_be_loaded(
    X: np.ndarray, rng: np.random.Generator, tmp_path: Path
) -> None:
    tree = random_fit(pd.DataFrame(X, columns=["a", "b"], index=INDEXES["dates"]), rng)
    tree.to_netcdf(tmp_path / "fit.nc", engine="h5netcdf")
    loaded = bg.load(tmp_path / "fit.nc")
    xr.testing.assert_equal(loaded, tree)
    assert trees.specification(loaded) == trees.specification(tree)


def test_who_reads_the_old_file_meanwhile_reads_it_whole(fit: xr.DataTree, tmp_path: Path) -> None:
    path = tmp_path / "fit.nc"
    bg.save(fit, path)
    old = path.read_bytes()
    with path.open("rb") as reader:
        bg.save(fit.isel(draw=slice(3)), path)
        assert reader.read() == old
    assert bg.load(path)["posterior"].sizes["draw"] == 3


def test_a_link_is_followed(fit: xr.DataTree, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link, real = tmp_path / "link.nc", tmp_path / "there" / "0123abcd"  # a cache, say
    link.symlink_to(real)
    bg.save(fit, link)
    assert link.is_symlink()
    assert real.is_file()
    assert_same(bg.load(link), fit)


def test_permissions_are_the_usual_ones(fit: xr.DataTree, tmp_path: Path) -> None:
    (tmp_path / "usual").write_text("")
    bg.save(fit, tmp_path / "fit.nc")
    assert (tmp_path / "fit.nc").stat().st_mode == (tmp_path / "usual").stat().st_mode


# Paths and places that will not do


@pytest.mark.parametrize("function", ["save", "load"])
@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("fit.pkl", ValueError, r"^`path` must end in \.nc .*; got 'fit\.pkl'\. Write.*'fit\.nc'"),
        ("fit", ValueError, r"got 'fit'\. Write, for example, 'fit\.nc'"),
        ("", ValueError, r"got ''\. Write, for example, 'fit\.nc'"),
        (3, TypeError, r"^`path` must be a string or a Path; got 3 of type int\."),
        (None, TypeError, r"got None of type NoneType\."),
    ],
)
def test_other_paths_are_refused(
    fit: xr.DataTree, function: str, path: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        bg.save(fit, path) if function == "save" else bg.load(path)


@every_format
def test_a_missing_folder_is_named(fit: xr.DataTree, tmp_path: Path, suffix: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"^`path` must be in an existing folder; .*absent"):
        bg.save(fit, tmp_path / "absent" / f"fit{suffix}")
    assert entries(tmp_path) == []


@every_format
def test_a_missing_file_is_named(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(
        FileNotFoundError, match=rf"^`path` must be an existing file; got .*no\{suffix}"
    ):
        bg.load(tmp_path / f"no{suffix}")


def test_places_taken_by_something_else_are_left_alone(fit: xr.DataTree, tmp_path: Path) -> None:
    (tmp_path / "a.nc").mkdir()
    (tmp_path / "b.zarr").mkdir()
    (tmp_path / "b.zarr" / "thesis.txt").write_text("all of it")
    (tmp_path / "c.zarr").write_text("a file")
    with pytest.raises(ValueError, match=r"^`path` must not be a folder .*; got '.*a\.nc'"):
        bg.save(fit, tmp_path / "a.nc")
    for name in ("b.zarr", "c.zarr"):
        with pytest.raises(ValueError, match=rf"^`path` must be free or a zarr folder.*'.*{name}'"):
            bg.save(fit, tmp_path / name)
    assert (tmp_path / "b.zarr" / "thesis.txt").read_text() == "all of it"
    assert entries(tmp_path) == ["a.nc", "b.zarr", "c.zarr"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (pd.date_range("2020", periods=N, tz="UTC"), r"dtype datetime64\[us, UTC\]"),
        (pd.Index(["a", 1] * (N // 2), dtype=object), r"got 1 of type int in 'observed_data/obs'"),
        (pd.Index([f"\0{i}" for i in range(N)]), r"got '\\x000' of type str"),
    ],
    ids=["time zone", "mixed", "NUL"],
)
def test_labels_that_a_file_cannot_hold_are_refused(
    fit: xr.DataTree, tmp_path: Path, labels: pd.Index, message: str
) -> None:
    storage.write(fit, storage.target(tmp_path / "fit.nc"))
    dataset = fit["observed_data"].to_dataset().assign_coords(obs=labels)
    odd = xr.DataTree.from_dict({"observed_data": dataset})
    with pytest.raises(TypeError, match=rf"^`tree` must hold numbers, strings or dates.*{message}"):
        storage.write(odd, storage.target(tmp_path / "fit.nc"))
    assert_same(bg.load(tmp_path / "fit.nc"), fit)


@pytest.mark.parametrize(
    "value",
    [object(), {1: 2}, np.datetime64("2020"), [object()]],
    ids=["object", "dict", "date", "list"],
)
def test_attributes_that_a_file_cannot_hold_are_refused(
    fit: xr.DataTree, tmp_path: Path, value: Any
) -> None:
    fit["observed_data/X"].attrs["odd"] = value
    with pytest.raises(TypeError, match=r"^`tree` must have attributes .*'observed_data/X'"):
        bg.save(fit, tmp_path / "fit.nc")
    assert entries(tmp_path) == []
