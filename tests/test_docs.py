"""What the pages of the site promise: messages that exist, and checks that fail a build."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GAP = "\0"


def written(node: ast.AST) -> str | None:
    """Return a string as it is written in the code, a gap for every value in it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else GAP for part in node.values
        )
    return None


@cache
def trees() -> dict[Path, ast.Module]:
    """Return what every file of the package says."""
    paths = (ROOT / "bayesgmm").rglob("*.py")
    return {path: ast.parse(path.read_text("utf-8")) for path in paths}


@cache
def strings() -> set[str]:
    """Return all strings of the package."""
    nodes = chain.from_iterable(map(ast.walk, trees().values()))
    return {text for node in nodes if (text := written(node))}


def due() -> Iterator[str]:
    """Return what must be explained: verdicts of `check`, warnings, and errors of fits."""
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            called, said = ast.unparse(node.func), node.args[-1]
            if path.name == "convergence.py" and called in ("found.append", "found.insert"):
                assert isinstance(said, ast.Tuple)
                said = said.elts[0]
            elif called in ("warnings.warn", "FitError") and path.name != "cli.py":
                said = node.args[0]
            elif called == "Report":
                said = node.args[1]
            else:
                continue
            if text := written(said):
                yield text


def explained() -> list[list[str]]:
    """Return the messages of the page, each as the pieces between what varies."""
    page = (DOCS / "troubleshooting.md").read_text("utf-8")
    quoted = re.findall(r"^\*\*(.+)\*\*\n: ", page, re.MULTILINE)
    return [[piece for piece in re.split(r" ?\.\.\.,? ?", text) if piece] for text in quoted]


def fits(pieces: list[str], text: str) -> bool:
    """Return whether a string holds all pieces, in their order."""
    place = 0
    for piece in pieces:
        place = text.find(piece, place)
        if place < 0:
            return False
        place += len(piece)
    return True


def test_every_message_on_the_page_is_in_the_code() -> None:
    code = strings()
    gone = [pieces for pieces in explained() if not any(fits(pieces, text) for text in code)]
    assert gone == []


def test_every_verdict_warning_and_failure_is_on_the_page() -> None:
    pages = explained()
    assert [text for text in due() if not any(fits(pieces, text) for pieces in pages)] == []


def test_a_message_that_changed_would_be_seen() -> None:
    code = strings()
    assert len(explained()) > 60
    assert not any(fits(["Not converged", "chains disagree about nothing"], text) for text in code)
    assert len(list(due())) > 40


def test_every_reference_is_in_the_bibliography() -> None:
    known = (DOCS / "references.bib").read_text("utf-8").lower()
    paths = [*(ROOT / "bayesgmm").rglob("*.py"), *DOCS.glob("*.md")]
    identifier = re.compile(
        r"doi(?::|\.org/)\s*(10\.\d{4,5}/[^\s)\]\"`]*[\w-])|arxiv(?:\.org/abs/|:)(\d{4}\.\d{4,5})",
        re.IGNORECASE,
    )
    cited = {
        (doi or arxiv).lower()
        for path in paths
        for doi, arxiv in identifier.findall(path.read_text("utf-8"))
    }
    assert len(cited) > 50
    assert {one for one in cited if f"{{{one}}}" not in known} == set()


def test_a_build_fails_for_gaps_and_broken_examples(tmp_path: Path) -> None:
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    (tmp_path / "shaky.py").write_text(
        '"""A module."""\n\n\ndef double(x):\n    """Double.\n\n    >>> double(2)\n    5\n    """\n'
        '    return 2 * x\n\n\ndef halve(x):\n    """Halve.\n\n    >>> halve(2)\n    1.0\n    """\n'
        "    return x / 2\n",
        encoding="utf-8",
    )
    (tmp_path / "index.rst").write_text(
        "Title\n=====\n\n.. autofunction:: shaky.double\n.. autofunction:: shaky.halve\n\n"
        ".. toctree::\n\n   words\n\nA :term:`used` word, :doc:`nowhere`.\n",
        encoding="utf-8",
    )
    (tmp_path / "words.rst").write_text(
        "Words\n=====\n\n.. glossary::\n\n   used\n      See :term:`unused`.\n\n"
        "   unused\n      No.\n",
        encoding="utf-8",
    )
    (tmp_path / "conf.py").write_text(
        f"import sys\nsys.path[:0] = [{str(tmp_path)!r}, {str(DOCS)!r}]\n"
        "extensions = ['sphinx.ext.autodoc', 'checks']\n",
        encoding="utf-8",
    )
    warnings = tmp_path / "warnings"
    with patch_docutils(), docutils_namespace(), warnings.open("w", encoding="utf-8") as stream:
        folders = (tmp_path, tmp_path, tmp_path / "out", tmp_path / "trees")
        Sphinx(*map(str, folders), "dummy", status=None, warning=stream).build()
    said = warnings.read_text(encoding="utf-8")
    assert "the example of shaky.double fails" in said
    assert "the example of shaky.halve fails" not in said
    assert "the term 'unused' is used on no page" in said
    assert "the term 'used' is used on no page" not in said
    assert "the public name bayesgmm.fit has no entry" in said
    assert "unknown document: 'nowhere'" in said
