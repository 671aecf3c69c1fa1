"""Every notebook runs from top to bottom, cell by cell, as it stands but for its draws.

What samples or simulates makes fewer draws here than a cell asks for, so that all notebooks
together take a minute or two; `make notebooks` runs them at full length.
"""

import functools
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from runpy import run_path
from typing import Any, Final

import matplotlib
import pytest

import bayesgmm as bg

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST: Final = {"draws": 150, "n_simulations": 20}
"""What the functions that take longest may be asked for, and how much of it they get here."""
SHORTENED: Final = ("fit", "select", "calibrate")

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def shortened(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that asks for no more draws and simulations than `MOST`."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Any, **given: Any) -> Any:
        asked = signature.bind(*args, **given)
        asked.apply_defaults()
        for name in MOST.keys() & asked.arguments.keys():
            asked.arguments[name] = min(asked.arguments[name], MOST[name])
        return function(*asked.args, **asked.kwargs)

    return call


def cells_of(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


@every_notebook
@pytest.mark.filterwarnings("ignore:The Pareto shape k:UserWarning")
@pytest.mark.filterwarnings("ignore:The log-likelihood of:UserWarning")
@pytest.mark.filterwarnings("ignore::bayesgmm.IdentifiabilityWarning")
def test_a_notebook_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib.use("Agg")
    for name in SHORTENED:
        monkeypatch.setattr(bg, name, shortened(getattr(bg, name)))
    namespace: dict[str, object] = {}
    for number, cell in enumerate(cells_of(path)):
        if cell["cell_type"] == "code":
            code = compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec")
            exec(code, namespace)
    matplotlib.pyplot.close("all")


@every_notebook
def test_a_notebook_asks_says_how_long_it_takes_and_ends_with_what_to_try(path: Path) -> None:
    cells = cells_of(path)
    first, last = ("".join(cell["source"]) for cell in (cells[0], cells[-1]))
    assert first.startswith("# ")
    assert "\n**Question.** " in first
    assert "\nRunning time: " in first
    assert "**What to try next.**" in last


@every_notebook
def test_a_notebook_is_stored_without_what_it_printed(path: Path) -> None:
    code = [cell for cell in cells_of(path) if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


def test_every_notebook_is_listed_in_the_docs_with_its_question() -> None:
    gallery = run_path(str(ROOT / "docs" / "gallery.py"))
    lines = gallery["table"](ROOT / "docs" / "notebooks", "00", "99").splitlines()[2:]
    assert len(lines) == len(NOTEBOOKS)
    for notebook, line in zip(NOTEBOOKS, lines, strict=True):
        link, question, time = line.strip("| ").split(" | ")
        first = "".join(cells_of(notebook)[0]["source"])
        assert f"<notebooks/{notebook.stem}>" in link
        assert f"\n**Question.** {question}\n" in first
        assert f"\nRunning time: {time}" in first
