"""Tables in files."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

UNNAMED: Final = "Unnamed: 0"  # what pandas calls a first column without a name


def open_table(path: str | os.PathLike[str], argument: str) -> Any:
    """Return the table in a file, read as its name says it should be.

    Parameters
    ----------
    path : str or path-like
        Ends in ``.csv``, ``.parquet``, ``.feather``, ``.arrow`` (Arrow IPC) or ``.npy``.
    argument : str
        What the user passed is called in messages.

    Returns
    -------
    DataFrame or array
        An array is mapped from the file, not read into memory.

    Raises
    ------
    ValueError
        If the name ends otherwise, there is no such file, or it cannot be read.
    """
    text = os.fspath(path)
    place = Path(text).expanduser()
    reader = _READERS.get(place.suffix.lower())
    if reader is None:
        remedy = "Save it as one of these."
        if place.suffix.lower() == ".nc":
            remedy = "Open it first: `xarray.open_dataset(path)`."
        elif place.suffix.lower() == ".zarr":
            remedy = "There is no Zarr array here: check the path, or open it with xarray first."
        elif place.is_dir():
            remedy = "Of folders only Zarr arrays, and those with .parquet files, are read."
        raise ValueError(
            f"`{argument}` must be a .csv, .parquet, .feather, .arrow or .npy file; got {text!r}. "
            f"{remedy}"
        )
    if not place.is_file():
        raise ValueError(
            f"`{argument}` must be a file; got {text!r}, and there is none. Check the path."
        )
    try:
        return reader(place)
    except (ValueError, OSError) as error:  # Arrow's errors are among them
        raise ValueError(
            f"`{argument}` must be a readable file; got {text!r}: {error}. Write it anew."
        ) from error


def _read_csv(path: Path) -> pd.DataFrame:
    """Read a CSV file; a first column without a name holds the labels of the rows."""
    table = pd.read_csv(path)
    if table.columns[0] == UNNAMED:
        table = table.set_index(UNNAMED).rename_axis(None)
    text = len(table.columns) == 1 and not pd.api.types.is_numeric_dtype(table.iloc[:, 0])
    first = table.columns[0] if text else ""
    if between := next((sign for sign in ";\t|" if sign in first), ""):
        raise ValueError(
            f"commas must stand between columns, points before decimals, but the first line reads "
            f"{first!r}. Pass pandas.read_csv(path, sep={between!r}, decimal=',')"
        )
    if len(table.columns) and all(_is_number(name) for name in table.columns):
        raise ValueError(
            f"the first line must name the columns, but reads {', '.join(table.columns)}. "
            "Add a line of names that are not numbers"
        )
    return table


def _is_number(text: str) -> bool:
    """Return whether a name reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_arrow(path: Path) -> pd.DataFrame:
    """Read an Arrow file, mapped where it holds floats without gaps."""
    from pyarrow import feather

    return feather.read_table(path, memory_map=True).to_pandas(split_blocks=True)


def _read_npy(path: Path) -> Any:
    """Map an array."""
    return np.load(path, mmap_mode="r", allow_pickle=False)


_READERS: Final[dict[str, Callable[[Path], Any]]] = {
    ".csv": _read_csv,
    ".parquet": pd.read_parquet,
    ".feather": _read_arrow,
    ".arrow": _read_arrow,
    ".npy": _read_npy,
}
