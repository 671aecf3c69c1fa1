"""The directive ``notebooks``: every notebook with the question that it opens with."""

import json
import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FOLDER = Path(__file__).parents[1] / "notebooks"


def entries() -> list[tuple[str, str, str]]:
    """Return file name, title and question of every notebook, in the order of their numbers."""
    found = []
    for path in sorted(FOLDER.glob("*.ipynb")):
        opening = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
        title = re.search(r"^# (.+)$", opening, re.MULTILINE)
        question = re.search(r"\*\*Question\.\*\* (.+)$", opening, re.MULTILINE)
        if title is None or question is None:
            raise ValueError(f"{path.name} must open with a title and a **Question.**")
        found.append((path.name, title[1], question[1]))
    return found


class Notebooks(SphinxDirective):
    """List the notebooks, each to download."""

    def run(self) -> list[nodes.Node]:
        """Return the list."""
        lines = [
            f"- **{title}** ({{download}}`{name} <../notebooks/{name}>`). {question}"
            for name, title, question in entries()
        ]
        for name, _, _ in entries():
            self.env.note_dependency(str(FOLDER / name))
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("notebooks", Notebooks)
    return {"parallel_read_safe": True}
