"""The result of every fit, an xarray.DataTree: how it is built, checked, saved, loaded and read."""

import json
import os
from typing import Any, Final

import numpy as np
import xarray as xr

from bayesgmm import names
from bayesgmm.mixture import GaussianMixture
from bayesgmm.tree import schema, storage
from bayesgmm.tree.building import build
from bayesgmm.tree.mixtures import (
    FactorParameters,
    NoisyParameters,
    Parameters,
    TailedParameters,
    each,
    parameters_of,
    stacked,
    with_covariances,
)

__all__ = [
    "FactorParameters", "NoisyParameters", "Parameters", "TailedParameters", "build",
    "check_schema", "each", "features", "load", "noisy", "parameters", "parameters_of", "require",
    "save", "specification", "stacked", "with_covariances",
]  # fmt: skip

_OF_THE_POSTERIOR: Final = frozenset(
    {
        "loo", "reloo", "kfold", "waic", "compare", "log_evidence", "posterior_over_components",
        "bic", "aic", "icl", "mode_audit", "average", "update", "fit_online",
    }
)  # fmt: skip
"""Functions that need draws of the posterior given the data that the tree holds."""

_OF_HEAVY_TAILS: Final = frozenset(
    {
        "save", "align", "alignment_report", "summary", "check", "mode_audit", "predict_proba",
        "predict", "score_samples", "sample_posterior_predictive", "marginal", "density",
        "outlier_score", "sample_allocations", "similarity", "partition", "n_clusters",
        "credible_ball", "impute", "representative_partitions", "confident_subset", "uncertainty",
        "loo", "reloo", "kfold", "waic", "compare", "log_evidence", "posterior_over_components",
        "bic", "aic", "icl", "plot_alignment", "plot_components", "plot_uncertainty",
        "plot_density", "plot_similarity", "plot_partition", "plot_credible_ball",
    }
)  # fmt: skip
"""Functions that know of Student-t components: all others are refused to take them for Normal."""

_OF_POINTWISE: Final = frozenset({"loo", "waic", "compare"})
"""Functions of the log-likelihood that a tree holds, whosever it is."""
_OF_ANY_LIKELIHOOD: Final = _OF_POINTWISE | {
    "save", "unstack", "align", "alignment_report", "summary", "check", "overlap",
    "plot_alignment", "plot_components",
}  # fmt: skip
"""Functions that are about the parameters: all others would take rows for those of the mixture."""

_OF_NOISE: Final = frozenset(
    {
        "save", "summary", "check", "predict_proba", "predict", "score_samples",
        "sample_posterior_predictive", "loo", "waic", "compare",
        "bic", "aic", "icl", "log_evidence", "posterior_over_components", "mode_audit",
        "reloo", "kfold", "average", "impute",
        "align", "alignment_report", "overlap", "density_modes", "marginal", "density", "cdf",
        "quantile", "outlier_score", "sample_allocations", "similarity", "partition", "n_clusters",
        "credible_ball", "representative_partitions", "confident_subset", "uncertainty",
        "merge_components", "plot_alignment", "plot_components", "plot_uncertainty",
        "plot_density", "plot_similarity", "plot_partition", "plot_credible_ball", "plot_merge",
        "plot_modes",
    }
)  # fmt: skip
"""Functions that know of background noise, as `_OF_HEAVY_TAILS` of heavy tails."""


def save(tree: xr.DataTree, path: str | os.PathLike[str]) -> None:
    """Save a fit to a file, from which `load` gives it back exactly as it is.

    Parameters
    ----------
    tree : DataTree
        As `bayesgmm.fit` returns it.
    path : str or Path
        Where to: ``.nc`` is one netCDF file, ``.zarr`` a folder (zarr 3). What was saved there
        before is replaced once the new one is complete; if that fails it stays as it was.

    Raises
    ------
    TypeError
        If `tree` is no DataTree, or something was added to it that a file cannot give back.
    ValueError
        If `tree` is not a fit, or `path` ends otherwise or is taken by something else.
    FileNotFoundError
        If the folder is not there.
    OSError
        If the file cannot be written: a full disk, say.

    Notes
    -----
    Any program that reads netCDF-4 or zarr 3 can read the file. While it is written it takes as
    much memory once more as the tree does.

    Examples
    --------
    >>> import tempfile
    >>> import bayesgmm as bg
    >>> tree = bg.fit([[0.1], [0.3], [0.2], [5.1], [5.2], [5.4]], 2, method="map", random_seed=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     bg.save(tree, f"{folder}/fit.nc")
    ...     bg.load(f"{folder}/fit.nc").identical(tree)
    True
    """
    place = storage.target(path)
    require(tree, function="save")
    require(tree, *schema.required(tree), function="save")
    check_schema(tree)
    storage.write(tree, place)


def load(path: str | os.PathLike[str]) -> xr.DataTree:
    """Load a fit that `save` wrote.

    Parameters
    ----------
    path : str or Path
        A netCDF file (``.nc``) or a zarr folder (``.zarr``).

    Returns
    -------
    DataTree
        In memory, the same to the last bit; the file is closed.

    Raises
    ------
    TypeError
        If `path` is not a path.
    FileNotFoundError
        If nothing is there.
    ValueError
        If what is there is damaged, is not a fit, or was saved by a later version.

    Examples
    --------
    >>> import tempfile
    >>> import bayesgmm as bg
    >>> tree = bg.fit([[0.1], [0.3], [0.2], [5.1], [5.2], [5.4]], 2, method="map", random_seed=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     bg.save(tree, f"{folder}/fit.zarr")
    ...     loaded = bg.load(f"{folder}/fit.zarr")
    >>> bg.predict(loaded, [[0.0], [5.0]]).shape
    (2,)
    """
    place = storage.target(path)
    tree = storage.read(place)
    fault = schema.first_fault(tree)
    if fault is not None:
        raise ValueError(
            f"`path` must be a fit saved by bayesgmm.save; got {os.fspath(place.path)!r}, a "
            f"{place.kind} file {fault}"
        )
    return tree


def check_schema(tree: xr.DataTree) -> None:
    """Refuse a tree that does not follow the schema of a fit.

    Parameters
    ----------
    tree : DataTree
        Its groups, variables, dimensions, dtypes and labels are looked at, and whether these
        agree with each other; not the numbers.

    Raises
    ------
    ValueError
        Naming the first thing that is wrong.
    """
    fault = schema.first_fault(tree)
    if fault is not None:
        raise ValueError(f"`tree` must be a fit made by bayesgmm.fit; got a DataTree {fault}")


def require(tree: Any, *groups: str, function: str, argument: str = "tree") -> None:
    """Refuse anything that is not a fit with the groups that a function needs.

    Parameters
    ----------
    tree : object
        What the user passed.
    *groups : str
        Names of groups.
    function : str
        The public name of the function.
    argument : str
        What the user passed is called in messages.

    Raises
    ------
    TypeError
        If `tree` is not a DataTree.
    ValueError
        If it is not a fit, is no more than what follows from one, or lacks a group.
    """
    if not isinstance(tree, xr.DataTree):
        what, remedy = f"an object of type {type(tree).__name__}", "Pass that tree."
        if isinstance(tree, str | os.PathLike):
            what, remedy = f"{os.fspath(tree)!r}", "Load it first: bayesgmm.load(path)."
        raise TypeError(
            f"`{argument}` must be a fit, the DataTree that bayesgmm.fit returns; got {what}. "
            f"{remedy}"
        )
    there = ", ".join(repr(name) for name in tree.children) or "no groups"
    if names.SCHEMA_VERSION not in tree.attrs:
        raise ValueError(
            f"`{argument}` must be a fit, the DataTree that bayesgmm.fit returns; got a DataTree "
            f"without the attribute {names.SCHEMA_VERSION!r}, with {there}. Pass the whole tree of "
            f"a fit."
        )
    if names.DERIVED in tree.attrs and function in _OF_THE_POSTERIOR:
        raise ValueError(
            f"`{argument}` must be a fit for `{function}`, which is about the posterior given the "
            f"data; got a {tree.attrs[names.DERIVED]} of one. Pass the fit itself."
        )
    if function not in _OF_HEAVY_TAILS and tailed(tree):
        raise ValueError(
            f"`{argument}` must be a fit of Normal components for `{function}`, which is not there "
            f"for Student's t; got a fit of a StudentTMixture. Fit a GaussianMixture."
        )
    if names.LIKELIHOOD in tree.attrs:
        _refuse_own_likelihood(tree, function, argument)
    if function not in _OF_NOISE and noisy(tree):
        raise ValueError(
            f"`{argument}` must be a fit without background noise for `{function}`, which is not "
            f"there for it; got a fit with {names.NOISE_WEIGHT!r}. Fit a GaussianMixture without "
            f"`noise`."
        )
    missing = [name for name in groups if name not in tree.children]
    if missing:
        remedy = "Pass the tree as bayesgmm.fit returned it, or fit again."
        if missing[0] == names.OBSERVED_DATA and schema.rows_are_gone(tree):
            what = "Batches" if names.ONLINE in tree.children else "Rows"
            remedy = f"{what} are not kept: pass rows, if it takes `X_new`, or fit some of them."
        raise ValueError(
            f"`{argument}` must hold the group {missing[0]!r} for `{function}`; got a fit with "
            f"{there}. {remedy}"
        )


def _refuse_own_likelihood(tree: xr.DataTree, function: str, argument: str) -> None:
    """Refuse a fit of a PyMC model with a likelihood of its own, where that is asked for."""
    if function not in _OF_ANY_LIKELIHOOD:
        raise ValueError(
            f"`{argument}` must be a fit whose likelihood is that of the mixture for `{function}`; "
            f"got one of a PyMC model with a likelihood of its own, under which rows have other "
            f"densities and probabilities. Compute them from `tree.posterior`."
        )
    if function in _OF_POINTWISE and names.LOG_LIKELIHOOD not in tree.children:
        raise ValueError(
            f"`{argument}` must hold the group {names.LOG_LIKELIHOOD!r} for `{function}`; got a "
            f"fit of a PyMC model whose own likelihood is not known for every row. Compute it from "
            f"`tree.posterior` along chain, draw and obs, and put it in: "
            f"tree['log_likelihood'] = xarray.Dataset({{'X': ...}})."
        )


def tailed(tree: xr.DataTree) -> bool:
    """Tell whether the components of a fit are Student's t."""
    return names.POSTERIOR in tree.children and names.DF in tree[names.POSTERIOR].data_vars


def noisy(tree: xr.DataTree) -> bool:
    """Tell whether rows of a fit may be background noise."""
    posterior = tree.children.get(names.POSTERIOR)
    return posterior is not None and names.NOISE_WEIGHT in posterior.data_vars


def specification(tree: xr.DataTree) -> GaussianMixture:
    """Return the resolved specification that was fitted."""
    return GaussianMixture.from_dict(json.loads(tree.attrs[names.SPECIFICATION]))


def parameters(tree: xr.DataTree) -> Parameters | FactorParameters:
    """Return the draws of all parameters with chain and draw stacked.

    Parameters
    ----------
    tree : DataTree
        A fit.

    Returns
    -------
    Parameters or FactorParameters of arrays
        C-contiguous float64. They share memory with the tree where they can: not to be changed.
        Of factor analysers, where they say it in fewer numbers, without covariance matrices.
    """
    posterior = tree[names.POSTERIOR].dataset
    arrays = {}
    factored = names.LOADINGS in posterior
    dues = schema.FACTOR_PARAMETERS if factored else schema.PARAMETERS
    further = schema.TAILS if names.DF in posterior else {}
    further = schema.BACKGROUND if names.NOISE_WEIGHT in posterior else further
    for name, due in (dues | further).items():
        values = posterior[name].transpose(*due.dims).values
        stacked = values.reshape(-1, *values.shape[len(schema.SAMPLE) :])
        arrays[name] = np.ascontiguousarray(stacked, dtype=due.dtype)
    noise = specification(tree).noise if further is schema.BACKGROUND else None
    if noise is not None:
        density = np.full(len(arrays[names.WEIGHTS]), noise.log_density)
        return parameters_of(*arrays.values(), density)
    if not factored:
        return parameters_of(*arrays.values())
    found = FactorParameters(**arrays)
    n_features, n_factors = found.loadings.shape[2:]
    return found if n_factors + 1 < n_features else with_covariances(found)


def features(tree: xr.DataTree) -> list[Any]:
    """Return the labels of the fitted features, strings or ints, in their order."""
    labels: list[Any] = tree[names.CONSTANT_DATA].dataset[names.FEATURE].values.tolist()
    return labels


def feature_dim(tree: xr.DataTree) -> str | None:
    """Return what the dimension of the features was called by the user, if it had a name."""
    attrs = tree[names.CONSTANT_DATA].dataset[names.FEATURE].attrs
    return attrs.get(names.GIVEN_NAME)
