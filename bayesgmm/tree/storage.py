"""A DataTree to a file and back: nothing lost, and no file half written.

What netCDF or zarr would change (dtypes of labels, resolution of dates, types of attributes, the
order of things) is written down in one extra variable of the root, with a checksum of every
array, and restored when the file is read. Other programs read the files as they are.
"""

import json
import os
import re
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesgmm.tree.locks import own_locks

NOTES: Final = "bayesgmm_notes"
"""Variable of the root of a file with what is needed to restore the tree exactly."""

FORMATS: Final = {".nc": "netCDF", ".zarr": "zarr"}
"""What a path ends in, and the format that is meant by it."""

_CF_UNITS: Final = {
    "s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"
}  # fmt: skip
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")
"""Characters that HDF5 cuts strings at, or that UTF-8 cannot write."""

_HIDDEN: Final = frozenset(
    {
        "_FillValue", "_Unsigned", "missing_value", "scale_factor", "add_offset", "coordinates",
        "bounds", "dtype", "grid_mapping", "CLASS", "NAME", "DIMENSION_LIST", "DIMENSION_LABELS",
        "REFERENCE_LIST",
    }
)  # fmt: skip
"""Attributes that netCDF and CF use for themselves: kept in the notes only."""

_ENGINES: Final[dict[str, dict[str, Any]]] = {
    "netCDF": {"engine": "h5netcdf"},
    "zarr": {"engine": "zarr", "consolidated": False},
}
_AS_STORED: Final[dict[str, Any]] = {
    "decode_times": False, "decode_timedelta": False, "mask_and_scale": False
}  # fmt: skip
_FAULTS: Final = (OSError, ValueError, TypeError, LookupError, RuntimeError, AttributeError)
"""What reading a file that is damaged, or of another kind, may raise."""


class Place(NamedTuple):
    """Where a file is, links followed, and the format that its name said, a value of `FORMATS`."""

    path: Path
    kind: str


def target(path: str | os.PathLike[str]) -> Place:
    """Return where `path` leads, after checking what it ends in.

    Parameters
    ----------
    path : str or path-like
        Where a tree is to be written or read.

    Returns
    -------
    Place
        Absolute, links followed.

    Raises
    ------
    TypeError
        If `path` is not a path.
    ValueError
        If it ends in anything but ``.nc`` or ``.zarr``.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(
            f"`path` must be a string or a Path; got {path!r} of type {type(path).__name__}. "
            f"Give the place of the file, e.g. 'fit.nc'."
        )
    place = Path(os.fsdecode(path)).expanduser()
    if place.suffix.lower() not in FORMATS:
        raise ValueError(
            f"`path` must end in .nc (netCDF) or .zarr; got {os.fspath(path)!r}. Write, for "
            f"example, {os.fspath(place.with_suffix('.nc')) if place.name else 'fit.nc'!r}."
        )
    return Place(place.resolve(), FORMATS[place.suffix.lower()])


def write(tree: xr.DataTree, place: Place) -> None:
    """Write `tree` beside a place, then put it in place of what was there.

    Parameters
    ----------
    tree : DataTree
        Labels and variables of numbers, booleans, strings or dates.
    place : Place
        As `target` returns it.

    Raises
    ------
    TypeError
        If the tree holds something that could not be given back as it was.
    ValueError
        If the place is taken by something that this format would not overwrite.
    OSError
        If it cannot be written; then whatever was there is as it was.
    """
    path, kind = place
    _refuse_place(path, kind)
    stored = _encode_tree(tree)
    try:
        with TemporaryDirectory(
            prefix=f".{path.name}.", dir=path.parent, ignore_cleanup_errors=True
        ) as folder:
            new = Path(folder) / path.name
            if kind == "netCDF":
                _write_netcdf(stored, new)
                os.replace(new, path)
            else:
                _write_zarr(stored, new)
                _swap_folders(new, path)
    except OSError as error:
        message = (
            f"`path` must be a place that can be written to; got {os.fspath(path)!r}: "
            f"{error.strerror or error}. Nothing there was changed: make room, or save elsewhere."
        )
        raise (OSError(error.errno, message) if error.errno else OSError(message)) from error


def read(place: Place) -> xr.DataTree:
    """Read a tree into memory, and close the file.

    Parameters
    ----------
    place : Place
        As `target` returns it.

    Returns
    -------
    DataTree
        As it was written; as xarray reads it if it was written by something else.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    ValueError
        If what is there is damaged, or not of the format that its name says.
    """
    path, kind = place
    name = os.fspath(path)
    if not path.exists():
        raise FileNotFoundError(
            f"`path` must be an existing file; got {name!r}, where there is none. Check the "
            f"spelling and the folder."
        )
    try:
        if path.is_dir() != (kind == "zarr"):
            raise ValueError("it is a folder" if path.is_dir() else "it is no folder")
        with xr.open_datatree(path, **_ENGINES[kind], **_AS_STORED) as stored:
            return _decode_tree(stored.load())
    except PermissionError:
        raise
    except _FAULTS as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"`path` must be a fit saved by bayesgmm.save; got {name!r}, no {kind} file that can "
            f"be read: {reason}. If it was copied, copy it again; otherwise fit and save again."
        ) from error


def _refuse_place(path: Path, kind: str) -> None:
    """Refuse a place without a folder, or one taken by something of another kind."""
    name = os.fspath(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"`path` must be in an existing folder; got {name!r}, and {os.fspath(path.parent)!r} "
            f"is not one. Make the folder first."
        )
    if not path.exists():
        return
    if kind == "netCDF" and path.is_dir():
        raise ValueError(
            f"`path` must not be a folder if it ends in .nc; got {name!r}, a folder. "
            f"Choose another name."
        )
    ours = (path / "zarr.json").is_file() or (path / ".zgroup").is_file()
    if kind == "zarr" and not ours:
        raise ValueError(
            f"`path` must be free or a zarr folder, which is then replaced; got {name!r}, which "
            f"is something else. Choose another name, or remove it."
        )


def _write_netcdf(stored: xr.DataTree, new: Path) -> None:
    """Write a netCDF file, by way of memory.

    HDF5 crashes the process (h5py issue 914), and with it the fit in memory, when the disk is
    full. So it writes to memory, and the bytes go to disk in a way that fails as Python does.
    """
    with own_locks(), stored.to_netcdf(None, engine="h5netcdf") as image, new.open("wb") as file:
        file.write(image)
        file.flush()
        os.fsync(file.fileno())


def _write_zarr(stored: xr.DataTree, new: Path) -> None:
    """Write a zarr folder (format 3), by way of memory.

    On a full disk zarr's other threads would go on writing while what they wrote is removed.
    """
    files: dict[str, Any] = {}
    stored.to_zarr(files, zarr_format=3, consolidated=False)
    for name, content in files.items():
        file = new / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.to_bytes())


def _swap_folders(new: Path, path: Path) -> None:
    """Move the folder `new` to `path`; what was there goes once the new one is in place."""
    if not path.exists():
        new.rename(path)
        return
    old = path.with_name(f"{new.parent.name}.old")
    path.rename(old)
    try:
        new.rename(path)
    except BaseException:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _encode_tree(tree: xr.DataTree) -> xr.DataTree:
    """Return the tree as a file can hold it, with the notes to undo that; arrays are shared."""
    groups: dict[str, xr.Dataset] = {}
    notes: dict[str, Any] = {}
    for node in tree.subtree:
        place = node.relative_to(tree)
        dataset = node.to_dataset(inherit=False)
        variables, noted = {}, {}
        for name, variable in dataset.variables.items():
            where = f"{place}/{name}".removeprefix("./")
            dtype = variable.dtype
            if dtype.kind in "OT":
                dtype = dataset.indexes[name].dtype if name in dataset.indexes else np.dtype("O")
            values = _encode(variable, dtype, where)
            noted[str(name)] = {
                "dtype": str(dtype),
                "crc32": _checksum(values),
                "attrs": _to_json(dict(variable.attrs), where),
            }
            shown = _visible(variable.attrs) | _meaning(dtype)
            variables[name] = xr.Variable(variable.dims, values, shown)
        notes[place] = {"attrs": _to_json(dict(dataset.attrs), place), "variables": noted}
        coords = {name: variables.pop(name) for name in dataset.coords}
        groups[place] = xr.Dataset(variables, coords, _visible(dataset.attrs))
    groups["."][NOTES] = xr.Variable((), json.dumps(notes))
    return xr.DataTree.from_dict({"/": groups.pop("."), **groups})


def _decode_tree(stored: xr.DataTree) -> xr.DataTree:
    """Return the tree that `_encode_tree` turned into `stored`."""
    found = {node.relative_to(stored): node.to_dataset(inherit=False) for node in stored.subtree}
    if NOTES in stored.variables:
        notes = json.loads(stored.variables[NOTES].values.item())
        groups = {place: _decode_group(found, place, noted) for place, noted in notes.items()}
    else:  # written by xarray itself
        groups = {place: xr.decode_cf(dataset) for place, dataset in found.items()}
    return xr.DataTree.from_dict({"/": groups.pop("."), **groups})


def _decode_group(
    found: Mapping[str, xr.Dataset], place: str, noted: Mapping[str, Any]
) -> xr.Dataset:
    """Return one group as it was, its variables in their order, after checking their sums."""
    if place not in found:
        raise ValueError(f"the group {place!r} is missing")
    dataset = found[place]
    variables: dict[str, xr.Variable] = {}
    coords: dict[str, xr.Variable] = {}
    for name, note in noted["variables"].items():
        if name not in dataset.variables:
            raise ValueError(f"{name!r} is missing in the group {place!r}")
        variable = dataset.variables[name]
        values = variable.values
        if _checksum(values) != note["crc32"]:
            raise ValueError(f"{name!r} in the group {place!r} is not what was written")
        part = coords if name in dataset.coords else variables
        part[name] = xr.Variable(
            variable.dims, _decode(values, note["dtype"]), _from_json(note["attrs"])
        )
    return xr.Dataset(variables, coords, _from_json(noted["attrs"]))


def _encode(variable: xr.Variable, dtype: Any, where: str) -> NDArray[Any]:
    """Return an array that both formats can hold, refusing what could not be given back."""
    kind = dtype.kind if isinstance(dtype, np.dtype) else "O"
    if kind in "biuf":
        return variable.values
    if kind in "Mm":
        return variable.values.view(np.int64)
    plain = isinstance(dtype, np.dtype | pd.StringDtype)
    texts = variable.values.ravel().tolist() if plain else [variable.to_index()[0]]
    for text in texts:
        if not isinstance(text, str) or _UNSTORABLE.search(text):
            raise TypeError(
                f"`tree` must hold numbers, strings or dates without a time zone to be saved; got "
                f"{text!r} of type {type(text).__name__} in {where!r}, dtype {dtype}. Turn these "
                f"into strings first, or drop them."
            )
    return np.array(texts, dtype=object).reshape(variable.shape)


def _decode(values: NDArray[Any], dtype: str) -> Any:
    """Return the array or index that `_encode` turned into `values`."""
    if dtype.startswith(("datetime64", "timedelta64")):
        return values.view(dtype)
    if values.dtype.kind in "biuf":
        return values.astype(dtype, copy=False)
    texts = values.astype(object)
    if dtype.startswith("<U"):
        return texts.astype(dtype)
    return pd.Index(texts, dtype=dtype) if texts.ndim == 1 else texts


def _checksum(values: NDArray[Any]) -> int:
    """Return the CRC-32 of an array: of its bytes in this machine's order, or of its strings."""
    if values.dtype.kind in "OUT":
        return zlib.crc32("\0".join(values.ravel().tolist()).encode())
    native = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
    return zlib.crc32(native.reshape(-1).view(np.uint8))


def _meaning(dtype: Any) -> dict[str, str]:
    """Return the attributes that tell other programs that integers are dates or durations."""
    if not isinstance(dtype, np.dtype) or dtype.kind not in "Mm":
        return {}
    unit = _CF_UNITS[np.datetime_data(dtype)[0]]
    if dtype.kind == "m":
        return {"units": unit}
    return {"units": f"{unit} since 1970-01-01", "calendar": "proleptic_gregorian"}


def _visible(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the attributes that other programs are shown; the notes hold all of them."""
    return {
        key: value
        for key, value in attrs.items()
        if key not in _HIDDEN
        and key.isidentifier()
        and (
            (type(value) is str and len(value) < 10_000 and not _UNSTORABLE.search(value))
            or type(value) is float
            or (type(value) is int and abs(value) < 2**63)
        )
    }


def _to_json(value: Any, where: str) -> Any:
    """Return an attribute as JSON can hold it, its type with it."""
    if value is None or type(value) in (str, bool, int, float):
        return value
    if type(value) is list:
        return [_to_json(entry, where) for entry in value]
    if type(value) is tuple:
        return {"type": "tuple", "value": [_to_json(entry, where) for entry in value]}
    if type(value) is dict and all(type(key) is str for key in value):
        entries = {key: _to_json(entry, where) for key, entry in value.items()}
        return {"type": "dict", "value": entries}
    if isinstance(value, np.generic | np.ndarray) and value.dtype.kind in "biufU":
        return {"type": value.dtype.str, "value": value.tolist()}
    raise TypeError(
        f"`tree` must have attributes that are numbers, strings, or lists of them to be saved; got "
        f"{value!r} of type {type(value).__name__} in {where!r}. Turn it into a string first, or "
        f"drop it."
    )


def _from_json(value: Any) -> Any:
    """Return the attribute that `_to_json` turned into `value`."""
    if isinstance(value, list):
        return [_from_json(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    if value["type"] == "tuple":
        return tuple(_from_json(entry) for entry in value["value"])
    if value["type"] == "dict":
        return {key: _from_json(entry) for key, entry in value["value"].items()}
    return np.array(value["value"], dtype=value["type"])[()]
