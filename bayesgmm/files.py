"""Files of the command line: tables to read, and places to write to."""

import csv
import os
import shlex
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pandas as pd

UNNAMED: Final = "Unnamed: 0"  # what pandas calls a first column without a name


def read(text: str) -> "pd.DataFrame":
    """Read a CSV or Parquet file, whichever its name says."""
    import pandas as pd

    path = Path(text).expanduser()
    readers = {".csv": _read_csv, ".parquet": pd.read_parquet}
    if path.suffix.lower() not in readers:
        raise ValueError(
            f"`data` must be a .csv or .parquet file; got {text!r}. Save it as one of the two."
        )
    if not path.is_file():
        raise ValueError(f"`data` must be a file; got {text!r}, and there is none. Check the path.")
    try:
        return readers[path.suffix.lower()](path)
    except (ValueError, OSError) as error:
        raise ValueError(f"`data` must be a readable file; got {text!r}: {error}") from error


def _read_csv(path: Path) -> "pd.DataFrame":
    """Read a CSV file; a first column without a name holds the labels of the rows."""
    import pandas as pd

    table = pd.read_csv(path)
    if table.columns[0] == UNNAMED:
        table = table.set_index(UNNAMED).rename_axis(None)
    if len(table.columns) and all(_is_number(name) for name in table.columns):
        raise ValueError(
            f"the first line must name the columns, but reads {', '.join(table.columns)}. "
            "Add a line of names that are not numbers."
        )
    return table


def _is_number(text: str) -> bool:
    """Return whether a name reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def chosen(table: "pd.DataFrame", columns: Sequence[str] | None, source: str) -> "pd.DataFrame":
    """Return the columns asked for, refusing those that are absent or hold no numbers."""
    from pandas.api.types import is_numeric_dtype

    if columns is not None:
        table = table[[_column(table, name, source) for name in columns]]
    numeric = [is_numeric_dtype(kind) for kind in table.dtypes]
    if all(numeric):
        return table
    bad = [repr(name) for name, good in zip(table, numeric, strict=True) if not good]
    good = [str(name) for name, good in zip(table, numeric, strict=True) if good]
    remedy = f"Choose: --columns {shlex.quote(_joined(good))}" if good else "None of them does."
    raise ValueError(f"`--columns` must hold numbers; got {', '.join(bad)} of {source}. {remedy}")


def _column(table: "pd.DataFrame", name: str, source: str) -> Any:
    """Return the label of the column with this name."""
    for label in table.columns:
        if str(label) == name:
            return label
    known = [str(label) for label in table.columns]
    near = get_close_matches(name, known, n=1)
    remedy = f"Did you mean {near[0]!r}?" if near else "Check the name."
    raise ValueError(
        f"A column {name!r} must be in {source}; got the columns {_joined(known)}. {remedy}"
    )


def split(columns: str | None) -> list[str] | None:
    """Return the names in a comma-separated list; a name with a comma stands in quotes."""
    if columns is None:
        return None
    found = [name.strip() for name in next(csv.reader([columns], skipinitialspace=True), [])]
    if not all(found) or not found:
        raise ValueError(
            f"`--columns` must be names with commas between them; got {columns!r}. "
            "Leave it out to use every column."
        )
    return found


def _joined(columns: Sequence[str]) -> str:
    """Return a comma-separated list that `split` takes apart again."""
    return ",".join(f'"{name}"' if "," in name else name for name in columns)


def output(text: str, suffixes: Sequence[str]) -> Path:
    """Return the path to write to, refusing before any computing what could not be written."""
    path = Path(text).expanduser()
    if path.suffix.lower() not in suffixes:
        raise ValueError(
            f"`--out` must end in {' or '.join(suffixes)}; got {text!r}. Change its ending."
        )
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(
            f"`--out` must be in a folder that exists and can be written; got {text!r}, where "
            f"{str(path.parent)!r} is not. Make the folder, or choose another."
        )
    return path


def made_folder(text: str) -> Path:
    """Return a folder to write to, made if there is none."""
    path = Path(text).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"`--out-dir` must be a folder; got {text!r}: {error.strerror}. Choose another."
        ) from error
    return path
