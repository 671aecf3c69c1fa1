"""The public names, their signatures and their docstrings, held as data."""

import ast
import inspect
import pkgutil
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from numpydoc.validate import validate

import bayesgmm as bg
from bayesgmm import names
from bayesgmm.tree.schema import ATTRIBUTES, SCHEMA

SPECIFICATIONS = {
    "GaussianMixture": ("n_components", "weights", "means", "covariance", "noise"),
    "StudentTMixture": ("n_components", "weights", "means", "covariance", "df", "noise"),
    "GammaDegrees": ("shape", "rate", "shared"),
    "UniformNoise": ("concentration", "low", "high"),
    "Dirichlet": ("concentration",),
    "NormalMeans": ("location", "scale"),
    "LKJCovariance": ("eta", "scale", "structure", "floor"),
    "FactorCovariance": ("n_factors", "scale", "loading_scale", "structure", "floor"),
    "MixtureClassifier": ("spec", "concentration"),
    "PriorOnComponents": ("family", "parameters", "concentration", "dynamic"),
    "SparseDirichlet": ("concentration",),
    "StickBreaking": ("concentration", "truncation"),
    "Gamma": ("shape", "rate"),
}
"""The frozen dataclasses and their fields, in order."""

FUNCTIONS: Mapping[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "prior_clusters": (("spec", "n_obs"), {}),
    "build_model": (("spec", "X"), {}),
    "simulate": (("spec", "n_obs"), {"n_features": None, "draws": None, "random_seed": None}),
    "em_path": (("X", "spec"), {"method": "map", "start": "random", "random_seed": None}),
    "calibrate": (
        ("spec", "method", "n_simulations"),
        {"n_obs": 50, "n_features": None, "random_seed": None, "progressbar": True},
    ),
    "fit": (
        ("X", "spec"),
        {
            "measurement_error": None,
            "method": "nuts",
            "engine": "auto",
            "draws": 1000,
            "tune": None,
            "chains": 4,
            "random_seed": None,
            "progressbar": True,
        },
    ),
    "update": (
        ("tree", "X_new"),
        {"forgetting": 0.9, "births": True, "min_rows": None, "drift": False, "progressbar": True},
    ),
    "fit_online": (
        ("batches", "spec"),
        {"decay": 0.6, "random_seed": None, "progressbar": True},
    ),
    "save": (("tree", "path"), {}),
    "load": (("path",), {}),
    "align": (("tree", "method"), {"pivot": None, "labels": None}),
    "alignment_report": (("tree",), {}),
    "summary": (("tree",), {}),
    "check": (("tree",), {}),
    "mode_audit": (("tree",), {}),
    "predict_proba": (("tree", "X_new"), {}),
    "predict": (("tree", "X_new"), {}),
    "score_samples": (("tree", "X_new"), {}),
    "sample_posterior_predictive": (("tree", "n_obs"), {"random_seed": None}),
    "project": (("tree", "X"), {}),
    "marginal": (("tree", "features"), {}),
    "conditional": (("tree", "given"), {}),
    "regress": (("tree", "given"), {"probability": 0.9}),
    "cdf": (("tree", "x"), {"feature": None, "probability": 0.9}),
    "quantile": (("tree", "q"), {"feature": None, "probability": 0.9}),
    "outlier_score": (("tree", "X_new"), {"random_seed": None}),
    "flag_outliers": (("scores",), {"rate": None, "fdr": None}),
    "unstack": (("tree", "values"), {}),
    "impute": (("tree", "X_new"), {"draws": 20, "random_seed": None}),
    "pool": (("estimates", "variances"), {"df": None, "probability": 0.9}),
    "confusion": (("classifier", "X_new", "y"), {"shares": None, "random_seed": None}),
    "reliability": (("probability", "y"), {"random_seed": None}),
    "merge_components": (("tree",), {"criterion": "entropy", "threshold": 0.025}),
    "overlap": (("tree",), {}),
    "density": (("tree", "grid"), {"probability": 0.9}),
    "density_modes": (("tree",), {}),
    "sample_allocations": (("tree", "X_new"), {"random_seed": None}),
    "similarity": (("source",), {"rows": None, "method": None, "random_seed": None}),
    "partition": (
        ("source", "loss"),
        {"a": 1.0, "max_clusters": None, "n_runs": 16, "random_seed": None},
    ),
    "n_clusters": (("source",), {"random_seed": None}),
    "credible_ball": (("source", "partition"), {"loss": "vi", "level": 0.95, "random_seed": None}),
    "representative_partitions": (("source", "n_partitions"), {"loss": "vi", "random_seed": None}),
    "confident_subset": (("source", "probability"), {"random_seed": None}),
    "uncertainty": (("tree", "X_new"), {}),
    "loo": (("tree",), {"pointwise": True, "bad_rows": "match"}),
    "reloo": (("tree",), {"random_seed": None, "progressbar": True}),
    "kfold": (
        ("tree",),
        {"folds": 10, "stratify": None, "random_seed": None, "progressbar": True},
    ),
    "waic": (("tree",), {}),
    "compare": (("trees",), {}),
    "log_evidence": (("tree",), {"random_seed": None}),
    "posterior_over_components": (("fits",), {"prior": None, "random_seed": None}),
    "bic": (("tree",), {}),
    "aic": (("tree",), {}),
    "icl": (("tree",), {}),
    "select": (
        ("X", "n_components"),
        {
            "spec": None,
            "structures": None,
            "criteria": ("loo", "evidence", "icl", "bic", "aic"),
            "measurement_error": None,
            "method": "nuts",
            "draws": 1000,
            "tune": None,
            "chains": 4,
            "keep": "all",
            "folder": None,
            "random_seed": None,
            "progressbar": True,
        },
    ),
    "average": (("trees", "weights"), {"random_seed": None}),
    "plot_alignment": (("tree",), {"ax": None}),
    "plot_components": (("tree",), {"ax": None}),
    "plot_uncertainty": (("tree",), {"ax": None}),
    "plot_density": (("tree",), {"ax": None}),
    "plot_merge": (("tree",), {"ax": None}),
    "plot_modes": (("tree",), {"ax": None}),
    "plot_similarity": (("source", "partition"), {"ax": None, "random_seed": None}),
    "plot_partition": (("tree", "partition"), {"ax": None, "random_seed": None}),
    "plot_credible_ball": (("tree", "ball"), {"ax": None, "random_seed": None}),
    "plot_select": (("selection",), {"ax": None}),
    "plot_em_path": (("path",), {"ax": None, "iterations": None, "animate": False}),
    "plot_calibration": (("calibration",), {"ax": None}),
    "plot_reliability": (("reliability",), {"ax": None}),
}
"""The functions: their positional arguments, and the keywords that are binding.

A function may have other keywords, with a default, after the positional ones.
"""

OTHERS = (
    "datasets", "FitError", "ConvergenceWarning", "IdentifiabilityWarning", "UnitsWarning"
)  # fmt: skip

DATASETS = (
    "load_airquality",
    "load_banknote",
    "load_faithful",
    "load_galaxies",
    "load_iris",
    "load_wholesale",
    "make_mixture",
)

DOCUMENTED = {
    "GL08": "has a docstring",
    "SS03": "its summary ends with a period",
    "SS06": "its summary is one line",
    "PR01": "documents every parameter",
    "PR02": "documents no parameter that is not there",
    "PR03": "documents them in order",
    "PR04": "gives the type of each",
    "PR07": "describes each",
    "RT01": "says what it returns",
    "EX01": "shows an example",
}
WITHOUT_EXAMPLE = {
    "build_model",
    "FitError",
    "ConvergenceWarning",
    "IdentifiabilityWarning",
    "UnitsWarning",
}
"""PyMC takes longer to import than an example may; the rest is raised, not called."""

documented_names = [*SPECIFICATIONS, *FUNCTIONS, *OTHERS[1:]]
documented_names += [f"datasets.{name}" for name in DATASETS]


def get(name: str) -> Callable[..., Any]:
    found: Any = bg
    for part in name.split("."):
        found = getattr(found, part)
    return found


def test_public_names() -> None:
    assert sorted(bg.__all__) == sorted([*SPECIFICATIONS, *FUNCTIONS, *OTHERS])
    assert sorted(dir(bg)) == sorted([*bg.__all__, "__version__"])


@pytest.mark.parametrize("name", [*SPECIFICATIONS, *FUNCTIONS, *OTHERS])
def test_every_public_name_can_be_imported(name: str) -> None:
    found = getattr(bg, name)
    assert getattr(found, "__name__", "").split(".")[-1] == name


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match=r"'bayesgmm' has no attribute 'fti'"):
        _ = bg.fti


def test_type_checkers_see_what_is_imported() -> None:
    source = ast.parse(Path(bg.__file__).read_text(encoding="utf-8"))
    block = next(node for node in source.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {**bg._HOME, "datasets": "bayesgmm"}


def test_no_public_name_shadows_a_module() -> None:
    modules = {module.name for module in pkgutil.iter_modules(bg.__path__)}
    assert modules & set(bg.__all__) == {"datasets"}


@pytest.mark.parametrize(("name", "fields"), SPECIFICATIONS.items())
def test_specification_signatures(name: str, fields: tuple[str, ...]) -> None:
    assert tuple(inspect.signature(get(name)).parameters) == fields


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_signatures(name: str) -> None:
    positional, keywords = FUNCTIONS[name]
    parameters = inspect.signature(get(name)).parameters
    found = [item.name for item in parameters.values() if item.kind is item.POSITIONAL_OR_KEYWORD]
    assert tuple(found) == positional
    others = {key: item for key, item in parameters.items() if key not in positional}
    assert {item.kind for item in others.values()} <= {inspect.Parameter.KEYWORD_ONLY}
    defaults = {key: item.default for key, item in others.items()}
    assert inspect.Parameter.empty not in defaults.values()
    assert keywords.items() <= defaults.items()


@pytest.mark.parametrize("name", [*FUNCTIONS, *(f"datasets.{name}" for name in DATASETS)])
def test_functions_are_annotated(name: str) -> None:
    signature = inspect.signature(get(name))
    assert signature.return_annotation is not signature.empty
    missing = [item.name for item in signature.parameters.values() if item.annotation is item.empty]
    assert missing == []


@pytest.mark.parametrize("name", documented_names)
def test_docstrings_say_what_is_due(name: str) -> None:
    problems = [
        f"not: {DOCUMENTED[code]} ({message})"
        for code, message in validate(f"bayesgmm.{name}")["errors"]
        if code in DOCUMENTED and not (code == "EX01" and name in WITHOUT_EXAMPLE)
    ]
    assert problems == []


def test_the_docstring_check_can_fail() -> None:
    codes = {code for code, _ in validate("bayesgmm.cli.run_fit")["errors"]}
    assert {"PR01", "EX01"} <= codes


def test_the_schema_page_names_everything_in_a_fit() -> None:
    page = (Path(__file__).parents[1] / "docs" / "schema.md").read_text(encoding="utf-8")
    due = {name for group, variables in SCHEMA.items() for name in (group, *variables)}
    due |= {dim for item in SCHEMA.values() for variable in item.values() for dim in variable.dims}
    due |= {*ATTRIBUTES, names.SCHEMA_VERSION}
    said = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", page))))
    assert due - said == set()
