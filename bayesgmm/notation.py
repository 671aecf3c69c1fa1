r"""A model written down as in a textbook: a line for each thing that is drawn.

Lines are written once, in the little LaTeX that `HTML` lists, and shown as LaTeX or as a table.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

LONGEST: Final = 6
"""Numbers of a vector that are shown."""
HTML: Final = {
    r"\\(?:operatorname|text)\{([^{}]*)\}": r"\1",
    r"_\{([^{}]*)\}|_(\w)": r"<sub>\1\2</sub>",
    r"\^\{([^{}]*)\}|\^(\w)": r"<sup>\1\2</sup>",
    r"\\(alpha|eta|lambda|mu|nu|psi|sigma|tau|Sigma|sim|ge)": r"&\1;",
    r"\\mid": "|", r"\\ldots": "&hellip;", r"\\,": " ", " - ": " &minus; ", "  +": " ",
}  # fmt: skip
"""What may stand in a line, and what becomes of it in HTML, in this order."""
LEFT: Final = ' style="text-align: left"'


class Line(NamedTuple):
    """One line of a model, in LaTeX.

    Parameters
    ----------
    left : str
        What is drawn, or computed.
    right : str
        Its distribution, or what it is.
    about : str
        What it is in words, and the numbers.
    relation : str
        That of left and right.
    """

    left: str
    right: str
    about: str
    relation: str = r"\sim"


class Textbook(ABC):
    """Something that notebooks show as lines of a textbook."""

    @abstractmethod
    def textbook(self) -> tuple[Line, ...]:
        """Return the lines."""

    def _repr_latex_(self) -> str:
        """Return the lines as LaTeX, for documents."""
        return as_latex(self.textbook())

    def _repr_html_(self) -> str:
        """Return the lines as a table, for notebooks: it needs no MathJax."""
        return as_html(self.textbook())


def as_latex(lines: Iterable[Line]) -> str:
    """Return lines as an aligned display."""
    rows = [f"{one.left} &{one.relation} {one.right} && {one.about}" for one in lines]
    return "$$\\begin{aligned}\n" + " \\\\\n".join(rows) + "\n\\end{aligned}$$"


def as_html(lines: Iterable[Line]) -> str:
    """Return lines as a table."""
    rows = []
    for one in lines:
        cells = (one.left, f"{one.relation} {one.right}", one.about)
        rows.append("<tr>" + "".join(f"<td{LEFT}>{_html(cell)}</td>" for cell in cells) + "</tr>")
    return "<table>\n" + "\n".join(rows) + "\n</table>"


def numbers(value: float | Sequence[float] | None, default: str) -> str:
    """Return a number, a vector of them, or in words where it will come from."""
    if value is None:
        return rf"\text{{{default}}}"
    if isinstance(value, int | float):
        return f"{value:.4g}"
    if len(value) == 1:
        return f"{value[0]:.4g}"
    shown = [f"{number:.4g}" for number in value]
    if len(shown) > LONGEST:
        shown[LONGEST - 2 : -1] = [r"\ldots"]
    return f"({', '.join(shown)})"


def _html(latex: str) -> str:
    """Return a piece of a line as HTML."""
    for pattern, replacement in HTML.items():
        latex = re.sub(pattern, replacement, latex)
    return latex
