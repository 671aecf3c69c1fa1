"""The result of every fit, an xarray.DataTree: how it is built, checked, saved, loaded and read."""

import json
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.cubes import cell_coords
from bayesgmm.data import Data
from bayesgmm.mixture import GaussianMixture
from bayesgmm.tree import schema, storage
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

_LIBRARIES: Final = ("numpy", "xarray", "numba", "nutpie", "pymc", "jax", "blackjax")
"""Whose versions are noted, if they are loaded when the tree is built."""


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

_OF_NOISE: Final = frozenset(
    {
        "save", "summary", "check", "predict_proba", "predict", "score_samples",
        "sample_posterior_predictive", "loo", "waic", "compare",
    }
)  # fmt: skip
"""The same of background noise."""


def build(
    *,
    data: Data,
    specification: GaussianMixture,
    posterior: Mapping[str, NDArray[Any]],
    sample_stats: Mapping[str, NDArray[Any]],
    log_likelihood: NDArray[np.float64] | None,
    center: NDArray[np.float64],
    unit: NDArray[np.float64],
    alignment: Mapping[str, Any] | None,
    modes: Mapping[str, NDArray[Any]] | None,
    optimization: Mapping[str, NDArray[Any]] | None,
    attrs: Mapping[str, str | int | float],
    components: NDArray[np.int64] | None = None,
    further: Mapping[str, Mapping[str, Any]] | None = None,
) -> xr.DataTree:
    """Put the results of a fit under one schema, with labels.

    Parameters
    ----------
    data : Data
        What was fitted; without rows if they are not kept.
    specification : GaussianMixture
        With every hyperparameter resolved.
    posterior : dict of str to array, shape (n_chains, n_draws, ...)
        The parameters, aligned, in the user's units and broadcast to their full shapes. Other
        variables are kept, with their own dimensions or with such as ArviZ gives.
    sample_stats : dict of str to array, shape (n_chains, n_draws)
        With ``lp`` at least.
    log_likelihood : array, shape (n_chains, n_draws, n_obs), or None
        Of every row, in nats.
    center, unit : array, shape (n_features,)
        How the data were standardised inside.
    alignment : dict or None
        ``permutation`` (n_chains, n_draws, n_components), ``margin`` (n_chains, n_draws) and
        ``attrs``, a dict.
    modes : dict of str to array or None
        The modes that EM found, along the first dimension.
    optimization : dict of str to array, shape (n_iterations,), or None
        How the ELBO grew.
    attrs : dict
        Attributes of the whole: method, engine, seed, time, and what else is worth keeping.
    components : array of int, shape (n_components,), optional
        Labels of the components, if they are not 0 to n_components - 1.
    further : dict of str to dict, optional
        Further groups of the schema, and their variables.

    Returns
    -------
    DataTree
        It shares the memory of the arrays.
    """
    n_chains, n_draws, n_components = posterior[names.WEIGHTS].shape
    feature = data.feature_coord
    coords: dict[str, xr.Variable] = {
        names.CHAIN: xr.Variable(names.CHAIN, np.arange(n_chains)),
        names.DRAW: xr.Variable(names.DRAW, np.arange(n_draws)),
        names.COMPONENT: xr.Variable(
            names.COMPONENT, np.arange(n_components) if components is None else components
        ),
        **data.obs_coords,
        **data.feature_coords,
        names.FEATURE2: xr.Variable(names.FEATURE2, feature.values, feature.attrs),
    }
    if names.LOADINGS in posterior:
        n_factors = posterior[names.LOADINGS].shape[-1]
        coords[names.FACTOR] = xr.Variable(names.FACTOR, np.arange(n_factors))
    groups: dict[str, Mapping[str, Any]] = {
        names.POSTERIOR: posterior,
        names.SAMPLE_STATS: sample_stats,
        names.CONSTANT_DATA: {names.CENTER: center, names.UNIT: unit, **_said(data)},
        **(further or {}),
    }
    if log_likelihood is not None:
        groups[names.LOG_LIKELIHOOD] = {names.X: log_likelihood}
    if alignment is not None:
        groups[names.ALIGNMENT] = {key: alignment[key] for key in alignment if key != "attrs"}
    if modes is not None:
        groups[names.MODES] = modes
        coords[names.MODE] = xr.Variable(names.MODE, np.arange(len(modes[names.OBJECTIVE])))
    if optimization is not None:
        groups[names.OPTIMIZATION] = optimization
        iterations = np.arange(len(optimization[names.ELBO]))
        coords[names.ITERATION] = xr.Variable(names.ITERATION, iterations)
    datasets = {group: _dataset(group, arrays, coords) for group, arrays in groups.items()}
    if data.n_obs:
        observed = data.labelled(data.values).to_dataset()
        datasets[names.OBSERVED_DATA] = observed.assign_coords(cell_coords(data.coords))
    if alignment is not None:
        datasets[names.ALIGNMENT].attrs.update(alignment["attrs"])
    root = xr.Dataset(attrs=_provenance(specification) | dict(attrs))
    ordered = {group: datasets[group] for group in schema.SCHEMA if group in datasets}
    return xr.DataTree.from_dict({"/": root, **ordered})


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


def _said(data: Data) -> dict[str, Any]:
    """Return what was said of the rows beside their cells."""
    said: dict[str, Any] = {names.SAMPLE_WEIGHT: data.sample_weight, names.ALLOWED: data.allowed}
    if data.errors is not None:
        dims = (names.OBS, names.FEATURE, names.FEATURE2)[: data.errors.ndim]
        said[names.MEASUREMENT_ERROR] = xr.Variable(dims, data.errors)
    return {name: values for name, values in said.items() if values is not None}


def _dataset(
    group: str, arrays: Mapping[str, Any], coords: Mapping[str, xr.Variable]
) -> xr.Dataset:
    """Return labelled arrays, dimensions from the schema, else ``(chain, draw)`` and ArviZ's."""
    variables: dict[str, xr.Variable] = {}
    for name, array in arrays.items():
        if isinstance(array, xr.Variable):
            variables[name] = array
            continue
        further = (f"{name}_dim_{i}" for i in range(np.ndim(array) - len(schema.SAMPLE)))
        usual = schema.Due((*schema.SAMPLE, *further))
        due = (schema.SCHEMA[group] | schema.OPTIONAL.get(group, {})).get(name, usual)
        variables[name] = xr.Variable(due.dims, array)
    used = {dim for variable in variables.values() for dim in variable.dims}
    return xr.Dataset(
        variables, {name: coord for name, coord in coords.items() if used.issuperset(coord.dims)}
    )


def _provenance(specification: GaussianMixture) -> dict[str, str | int | float]:
    """Return the attributes that say when, by what and under which model a tree was made."""
    package = __name__.partition(".")[0]
    versions = {
        f"{name}_version": str(getattr(sys.modules[name], "__version__", "unknown"))
        for name in _LIBRARIES
        if name in sys.modules
    }
    return {
        names.SCHEMA_VERSION: schema.VERSION,
        names.SPECIFICATION: json.dumps(specification.to_dict()),
        names.CREATED_AT: datetime.now(UTC).isoformat(timespec="seconds"),
        names.INFERENCE_LIBRARY: package,
        names.LIBRARY_VERSION: sys.modules[package].__version__,
        "python_version": sys.version.partition(" ")[0],
        **versions,
    }
