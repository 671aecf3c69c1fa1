"""How the site is built. Warnings are errors; nothing is fetched from the network."""

import sys
from pathlib import Path

import bayesgmm

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # checks.py, gallery.py
from gallery import table  # noqa: E402

project = "bayesgmm"
author = "The bayesgmm developers"
copyright = "2026, The bayesgmm developers"
version = release = bayesgmm.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinxcontrib.bibtex",
    "myst_nb",
    "numpydoc",
    "checks",
]
exclude_patterns = ["_build", "jupyter_execute", "notebooks/executed"]
nitpicky = True
html_theme = "furo"
html_title = "bayesgmm"
html_static_path = ["_static"]
html_css_files = ["site.css"]

# The pages' code is run at every build, so that it cannot rot.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_execution_in_temp = True
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "substitution"]
myst_heading_anchors = 3
# `docs/notebooks` links to the folder of notebooks; docs/notebooks.md lists them.
myst_substitutions = {
    "notebooks_to_learn": table(HERE / "notebooks", "01", "09"),
    "notebooks_of_uses": table(HERE / "notebooks", "10", "99"),
}

bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "plain"
bibtex_reference_style = "author_year"

autodoc_typehints = "none"  # numpydoc's sections give the types
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
