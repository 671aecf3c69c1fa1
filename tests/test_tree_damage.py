"""Damaged files are refused, and a disk that fills up leaves the old file as it was."""

import errno
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesgmm as bg
from bayesgmm.tree import storage
from tests.synthetic import assert_same, random_fit

SUFFIXES = (".nc", ".zarr")
N = 12

every_format = pytest.mark.parametrize("suffix", SUFFIXES)


@pytest.fixture
def X(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(N, 2))


@pytest.fixture
def fit(X: np.ndarray, rng: np.random.Generator) -> xr.DataTree:
    return random_fit(pd.DataFrame(X, columns=["a", "b"], index=[f"r{i}" for i in range(N)]), rng)


def entries(folder: Path) -> list[str]:
    """Everything in a folder, hidden or not."""
    return sorted(os.listdir(folder))


# Damage


def damage_text(path: Path) -> None:
    path.write_text("x0,x1\n1,2\n")


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def damage_head_only(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def damage_netcdf3(path: Path) -> None:
    path.write_bytes(b"CDF\x01" + bytes(100))


def damage_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage",
    [damage_text, damage_empty, damage_truncated, damage_head_only, damage_netcdf3, damage_folder],
)
def test_a_damaged_netcdf_file_is_refused(
    fit: xr.DataTree, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    bg.save(fit, tmp_path / "fit.nc")
    damage(tmp_path / "fit.nc")
    message = r"^`path` must be a fit saved by bayesgmm\.save; got '.*fit\.nc', no netCDF file .*: "
    with pytest.raises(ValueError, match=message) as caught:
        bg.load(tmp_path / "fit.nc")
    assert "\n" not in str(caught.value)


def test_one_changed_bit_is_noticed(fit: xr.DataTree, tmp_path: Path) -> None:
    path = tmp_path / "fit.nc"
    bg.save(fit, path)
    whole = bytearray(path.read_bytes())
    place = whole.find(fit["posterior/means"].values.tobytes())
    assert place > 0
    whole[place + 100] ^= 1
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"'means' in the group 'posterior' is not what was"):
        bg.load(path)


def lose_chunk(path: Path) -> None:
    shutil.rmtree(path / "posterior" / "means" / "c")


def lose_group(path: Path) -> None:
    shutil.rmtree(path / "posterior")


def lose_variable(path: Path) -> None:
    shutil.rmtree(path / "posterior" / "means")


def lose_root(path: Path) -> None:
    (path / "zarr.json").unlink()


def garble_chunk(path: Path) -> None:
    chunk = next(file for file in (path / "posterior" / "means" / "c").rglob("*") if file.is_file())
    chunk.write_bytes(chunk.read_bytes()[:50])


def become_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("not a folder")


@pytest.mark.parametrize(
    "damage", [lose_chunk, lose_group, lose_variable, lose_root, garble_chunk, become_file]
)
def test_a_damaged_zarr_folder_is_refused(
    fit: xr.DataTree, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    bg.save(fit, tmp_path / "fit.zarr")
    damage(tmp_path / "fit.zarr")
    with pytest.raises(ValueError, match=r"^`path` must be a fit .*fit\.zarr', no zarr file"):
        bg.load(tmp_path / "fit.zarr")


@every_format
def test_a_file_of_something_else_is_refused(tmp_path: Path, suffix: str) -> None:
    other = xr.DataTree(xr.Dataset({"temperature": ("time", [1.0, 2.0])}))
    if suffix == ".nc":
        other.to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    else:
        other.to_zarr(tmp_path / "other.zarr", zarr_format=3, consolidated=False)
    message = (
        r"^`path` must be a fit saved by bayesgmm\.save; got '.*other.*', a .* file without the "
        r"group 'posterior', not a fit"
    )
    with pytest.raises(ValueError, match=message):
        bg.load(tmp_path / f"other{suffix}")


# Full disks


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let the operating system refuse to write more than `size` bytes to any file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@every_format
def test_the_old_file_survives_when_there_is_no_room(
    fit: xr.DataTree, rng: np.random.Generator, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"fit{suffix}"
    bg.save(fit, path)
    large = random_fit(rng.normal(size=(200, 2)), rng, draws=100)
    message = r"`path` must be a place that can be written to; got '.*fit.*': .* Nothing there was"
    with pytest.raises(OSError, match=message) as caught, files_of_at_most(20_000):
        bg.save(large, path)
    assert caught.value.errno == errno.EFBIG
    assert entries(tmp_path) == [path.name]
    assert_same(bg.load(path), fit)
    bg.save(large, path)
    assert_same(bg.load(path), large)


@every_format
@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_the_old_file_survives_a_writer_that_stops_half_way(
    fit: xr.DataTree,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    failure: BaseException,
) -> None:
    path = tmp_path / f"fit{suffix}"
    bg.save(fit, path)

    def half(_: xr.DataTree, new: Path) -> None:
        if suffix == ".zarr":
            new.mkdir()
            new /= "zarr.json"
        new.write_text("half of")
        raise failure

    monkeypatch.setattr(storage, "_write_netcdf", half)
    monkeypatch.setattr(storage, "_write_zarr", half)
    changed = fit.copy()
    changed.attrs["note"] = "new"
    message = "No space left. Nothing there was changed: make room" if failure.args else None
    with pytest.raises(type(failure), match=message) as caught:
        bg.save(changed, path)
    assert getattr(caught.value, "errno", None) == getattr(failure, "errno", None)
    assert entries(tmp_path) == [path.name]
    assert_same(bg.load(path), fit)


def test_the_old_folder_comes_back_if_the_new_one_cannot_take_its_place(
    fit: xr.DataTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "fit.zarr"
    bg.save(fit, path)
    rename = Path.rename

    def refuse_new(self: Path, goal: Path) -> Path:
        if self.parent != tmp_path:
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, goal)

    monkeypatch.setattr(Path, "rename", refuse_new)
    with pytest.raises(OSError, match=r"Input/output error\. Nothing there was changed"):
        bg.save(fit, path)
    monkeypatch.undo()
    assert entries(tmp_path) == ["fit.zarr"]
    assert_same(bg.load(path), fit)


def test_nothing_is_left_where_nothing_could_be_written(fit: xr.DataTree, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"`path` must be a place"), files_of_at_most(1_000):
        bg.save(fit, tmp_path / "fit.nc")
    assert entries(tmp_path) == []
