"""The table of notebooks: what each asks, and how long it runs, as its first cell says."""

import json
from pathlib import Path
from typing import Final

HEAD: Final = ["| notebook | question | running time |", "|---|---|---|"]


def table(folder: Path, first: str, last: str) -> str:
    """Return a table in Markdown of the notebooks whose numbers are in a range.

    Parameters
    ----------
    folder : Path
        Where the notebooks are.
    first, last : str
        Numbers of two digits, both included.
    """
    paths = sorted(folder.glob("*.ipynb"))
    return "\n".join(HEAD + [_row(path) for path in paths if first <= path.name[:2] <= last])


def _row(path: Path) -> str:
    """Return the line of a notebook."""
    opening = json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]
    title, question, time = (
        next(line.removeprefix(mark) for line in "".join(opening).splitlines() if mark in line)
        for mark in ("# ", "**Question.** ", "Running time: ")
    )
    link = f"{{doc}}`{path.name[:2]} {title} <notebooks/{path.stem}>`"
    return f"| {link} | {question} | {time.partition(',')[0].rstrip('.')} |"
