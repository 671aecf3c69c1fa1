"""Files of the command line: tables to read, and places to write to."""

import csv
import os
import shlex
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def read(text: str) -> "pd.DataFrame":
    """Read a file, whichever its name says; the columns of an array are x0, x1, ..."""
    import pandas as pd

    from bayesgmm.labels import default_features
    from bayesgmm.table_files import open_table

    table = open_table(text, "data")
    if isinstance(table, pd.DataFrame):
        return table
    if table.ndim != 2:
        raise ValueError(
            f"`data` must hold rows and columns; got {text!r} of shape {table.shape}. Reshape it."
        )
    return pd.DataFrame(table, columns=default_features(table.shape[1]))


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
