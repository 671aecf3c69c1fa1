"""What a build is to fail for beside what Sphinx warns of; warnings are errors.

- a public name has no entry in the reference;
- the example of a documented name does not run, or prints something else;
- a term of the glossary is used on no other page.

Dead links are warnings of MyST and, ``nitpicky`` being set, of Sphinx.
"""

import doctest
import sys
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

import bayesgmm

logger = logging.getLogger(__name__)

BEFORE_NUMPYDOC = 100
"""Priority: numpydoc, at 500, takes docstrings apart."""
MODULES = ("datasets",)
"""Public names that are modules: what is in them is documented, not they."""


def public_names() -> set[str]:
    """Return the full names that the reference must have."""
    names = {name for name in bayesgmm.__all__ if name not in MODULES}
    for module in MODULES:
        names |= {f"{module}.{name}" for name in getattr(bayesgmm, module).__all__}
    return {f"bayesgmm.{name}" for name in names}


def run_example(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Run the examples of a docstring that is about to be documented."""
    home = sys.modules.get(getattr(obj, "__module__", ""), bayesgmm)
    known = dict(vars(home))
    example = doctest.DocTestParser().get_doctest("\n".join(lines), known, name, None, None)
    told: list[str] = []
    doctest.DocTestRunner(verbose=False).run(example, out=told.append)
    if told:
        logger.warning("the example of %s fails:\n%s", name, "".join(told))


def note_terms(app: Sphinx, doctree: nodes.document) -> None:
    """Remember which terms of the glossary a page uses."""
    links = doctree.findall(addnodes.pending_xref)
    used = {link["reftarget"].lower() for link in links if link["reftype"] == "term"}
    terms_used(app.env)[app.env.docname] = used


def forget_terms(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    """Forget a page that is read anew or was deleted."""
    terms_used(env).pop(docname, None)


def terms_used(env: BuildEnvironment) -> dict[str, set[str]]:
    """Return which terms each page uses; kept between builds."""
    if not hasattr(env, "terms_used"):
        env.terms_used = {}
    return env.terms_used


def look_for_gaps(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of public names without an entry, and of terms that no other page uses."""
    documented = set(env.domains.python_domain.objects)
    for name in sorted(public_names() - documented):
        logger.warning("the public name %s has no entry: add it to api.md", name)
    for (kind, term), (home, _) in sorted(env.domains.standard_domain.objects.items()):
        others = (used for page, used in terms_used(env).items() if page != home)
        if kind == "term" and not any(term.lower() in used for used in others):
            logger.warning("the term %r is used on no page: link it, or drop it", term)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the checks."""
    app.connect("autodoc-process-docstring", run_example, priority=BEFORE_NUMPYDOC)
    app.connect("doctree-read", note_terms)
    app.connect("env-purge-doc", forget_terms)
    app.connect("env-check-consistency", look_for_gaps)
    return {"parallel_read_safe": False}
