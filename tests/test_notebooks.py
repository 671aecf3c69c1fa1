"""Every notebook runs from top to bottom, cell by cell, as it stands."""

import json
from pathlib import Path

import matplotlib
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore:Pareto k:UserWarning")
def test_a_notebook_runs(path: Path) -> None:
    matplotlib.use("Agg")
    namespace: dict[str, object] = {}
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert cells[0]["cell_type"] == "markdown"
    assert "Running time" in "".join(cells[0]["source"])
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), namespace)
    matplotlib.pyplot.close("all")


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS
