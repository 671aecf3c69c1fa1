"""A tree made of what a fit found."""

import json
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
from bayesgmm.tree import schema

_LIBRARIES: Final = ("numpy", "xarray", "numba", "nutpie", "pymc", "jax", "blackjax")
"""Whose versions are noted, if they are loaded when the tree is built."""


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
        names.CONSTANT_DATA: {names.CENTER: center, names.UNIT: unit, **_said(data, n_components)},
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


def _said(data: Data, n_components: int) -> dict[str, Any]:
    """Return what was said of the rows beside their cells."""
    said: dict[str, Any] = {names.SAMPLE_WEIGHT: data.sample_weight}
    if data.allowed is not None:
        said[names.ALLOWED] = data.allowed[:, :n_components]
        if data.allowed.shape[1] > n_components:
            said[names.NOISE_ALLOWED] = data.allowed[:, n_components]
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
