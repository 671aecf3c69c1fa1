"""What was estimated: every parameter in a table, with the quality of its estimate."""

from itertools import product
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.degrees_of_freedom import GammaDegrees
from bayesgmm.kernels.diagnostics import diagnose
from bayesgmm.mixture import StudentTMixture
from bayesgmm.tree import require, specification

type Array = NDArray[np.float64]

FEWEST_DRAWS: Final = 4
"""Draws per chain that the diagnostics need."""
_OURS: Final = (
    *(names.PARAMETER_DIMS | names.FACTOR_DIMS), names.DF, names.NOISE_WEIGHT, names.N_COMPONENTS,
    names.N_CLUSTERS, names.CONCENTRATION, names.LOG_WEIGHTS,
)  # fmt: skip
"""Variables of a posterior that no user has added."""


def summary(tree: xr.DataTree | xr.Dataset | xr.DataArray) -> pd.DataFrame:
    """Return a table of every parameter: estimate, spread, and the quality of its estimate.

    Parameters
    ----------
    tree : DataTree, Dataset or DataArray
        A fit; or what follows from its draws, as `overlap` and `density_modes` return it: every
        variable with ``chain`` and ``draw``, one row per entry.

    Returns
    -------
    DataFrame
        One row per parameter, ``weights[0]``, ``means[0, height]``, ``scales[...]``,
        ``correlations[0, height, weight]`` (below the diagonal), of Student's t ``df[0]`` if they
        are learnt, with noise ``noise_weight``; what components or features share stands once, as
        ``scales[all, height]``. Where the number of components has a prior: first
        ``n_components``, ``n_clusters`` and ``concentration``, then as many components as the
        median draw has clusters, those of the largest mean weights; where a draw has none of them
        they stand for its prior. Last what you added to a PyMC model, entry by entry. Columns
        ``mean``, ``sd``, an equal-tailed interval, ``mcse_mean``, ``ess_bulk``, ``ess_tail``,
        ``r_hat``, in the data's units. A fit with a single draw has one column, ``estimate``.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit, or was taken apart along ``chain`` or ``draw``.

    Notes
    -----
    Diagnostics are those of Vehtari et al. (2021, doi:10.1214/20-BA1221), as in ArviZ, of the
    aligned draws; NaN of what does not vary. The interval holds
    ``arviz_stats.rcParams["stats.ci_prob"]``.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, method="map", random_seed=1)
    >>> bg.summary(tree).loc["means[0, waiting]"].round(1).to_dict()
    {'estimate': 54.5}
    """
    if isinstance(tree, xr.Dataset | xr.DataArray):
        labels, draws = _entries(tree)
    else:
        require_draws(tree, names.POSTERIOR, function="summary")
        labels, draws = distinct_parameters(tree)
        added = tree[names.POSTERIOR].to_dataset().drop_vars(_OURS, errors="ignore")
        if added.data_vars:
            more, further = _entries(added)
            labels, draws = labels + more, np.concatenate([draws, further])
    index = pd.Index(labels, name="parameter")
    samples = draws.reshape(len(labels), -1)
    if samples.shape[1] == 1:
        return pd.DataFrame({"estimate": samples[:, 0]}, index=index)
    from arviz_base import rcParams

    prob = rcParams["stats.ci_prob"]
    tails = np.quantile(samples, [0.5 - prob / 2, 0.5 + prob / 2], axis=1)
    quality = diagnostics(draws)
    sd = samples.std(axis=1, ddof=1)
    return pd.DataFrame(
        {
            "mean": samples.mean(axis=1),
            "sd": sd,
            f"eti{100 * prob:.0f}_lb": tails[0],
            f"eti{100 * prob:.0f}_ub": tails[1],
            "mcse_mean": sd / np.sqrt(quality["ess_mean"]),
            "ess_bulk": quality["ess_bulk"],
            "ess_tail": quality["ess_tail"],
            "r_hat": quality["r_hat"],
        },
        index=index,
    )


def _entries(functionals: xr.Dataset | xr.DataArray) -> tuple[list[str], Array]:
    """Return names and draws, shape (Q, chains, draws), of all that varies over draws."""
    sample = (names.CHAIN, names.DRAW)
    if isinstance(functionals, xr.DataArray):
        functionals = functionals.to_dataset(name=functionals.name or "value")
    labels, parts = [], []
    for name, variable in functionals.data_vars.items():
        if not set(sample) <= set(variable.dims):
            continue
        moved = variable.transpose(*sample, ...)
        further = [moved[dim].values.tolist() for dim in moved.dims[len(sample) :]]
        for place, index in zip(np.ndindex(moved.shape[2:]), product(*further), strict=True):
            labels.append(f"{name}[{', '.join(map(str, index))}]" if index else str(name))
            parts.append(moved.values[:, :, *place].astype(np.float64))
    if not parts:
        raise ValueError(
            f"`tree` must be a fit, or hold a variable with the dimensions {names.CHAIN!r} and "
            f"{names.DRAW!r}; got the dimensions {tuple(functionals.dims)}. Pass what `overlap` or "
            f"`density_modes` returned."
        )
    return labels, np.stack(parts)


def diagnostics(draws: Array) -> dict[str, Array]:
    """Return the diagnostics of many quantities.

    Parameters
    ----------
    draws : array, shape (Q, chains, draws)

    Returns
    -------
    dict of str to array, shape (Q,)
        ``r_hat`` (rank-normalised, split), ``ess_bulk``, ``ess_tail`` (of the 5 % and the 95 %
        quantile, the smaller) and ``ess_mean``; NaN where a quantity does not vary, all of them
        where there are fewer than four draws to a chain, and ``r_hat`` of a single chain.
    """
    enough = draws.shape[2] >= FEWEST_DRAWS
    result = diagnose(draws) if enough else np.full((4, len(draws)), np.nan)
    return dict(zip(("r_hat", "ess_bulk", "ess_tail", "ess_mean"), result, strict=True))


def require_draws(tree: Any, *groups: str, function: str, argument: str = "tree") -> None:
    """Refuse anything that is not a fit with some groups, with chains and draws in them.

    Parameters
    ----------
    tree : object
        What the user passed.
    *groups : str
        Names of groups with the dimensions ``chain`` and ``draw``.
    function : str
        The public name of the function.
    argument : str
        What the user passed is called in messages.

    Raises
    ------
    TypeError
        If `tree` is not a DataTree.
    ValueError
        If it is not a fit, lacks a group, or was taken apart along ``chain`` or ``draw``.
    """
    require(tree, *groups, function=function, argument=argument)
    for group in groups:
        for dim in (names.CHAIN, names.DRAW):
            if dim not in tree[group].dims:
                raise ValueError(
                    f"`{argument}` must have the dimensions {names.CHAIN!r} and {names.DRAW!r} for "
                    f"`{function}`; got a group {group!r} with {tuple(tree[group].dims)}. A single "
                    f"{dim} keeps its dimension when it is chosen by a list: isel({dim}=[0])."
                )


def of_number(posterior: xr.Dataset) -> dict[str, Array]:
    """Return the draws, shape (1, chains, draws), of how many components there are, if unknown."""
    found = {
        name: posterior[name].transpose(names.CHAIN, names.DRAW).values[None].astype(float)
        for name in (names.N_COMPONENTS, names.N_CLUSTERS, names.CONCENTRATION)
        if name in posterior
    }
    return {name: draws for name, draws in found.items() if np.ptp(draws) > 0.0}


def drawable(tree: xr.DataTree) -> xr.DataTree:
    """Return a fit as it can be drawn: all of it, if its number of components is known.

    Else only components that expect a row at least; where a draw has not half a row of one it
    stands where it is on average, by its weights, rather than anywhere under the prior.
    """
    posterior = tree[names.POSTERIOR].dataset
    if names.N_CLUSTERS not in posterior:
        return tree
    sample = (names.CHAIN, names.DRAW)
    expected = posterior[names.WEIGHTS] * tree[names.OBSERVED_DATA].sizes[names.OBS]
    some = {names.COMPONENT: np.flatnonzero(expected.mean(sample).values >= 1.0)}
    shown, there = posterior.isel(some), expected.isel(some) >= 0.5
    for name in names.PARAMETER_DIMS:
        if name != names.WEIGHTS:
            typical = shown[name].weighted(shown[names.WEIGHTS]).mean(sample)
            where = shown[name].where(there, typical).transpose(*shown[name].dims)
            shown = shown.assign({name: where})
    result = tree.copy()
    result[names.POSTERIOR] = xr.DataTree(shown)
    return result


def _told_of(posterior: xr.Dataset) -> xr.Dataset:
    """Return the posterior of the components that are worth a line."""
    if names.N_CLUSTERS not in posterior:
        return posterior
    weights = posterior[names.WEIGHTS].mean((names.CHAIN, names.DRAW)).values
    n_clusters = int(np.median(posterior[names.N_CLUSTERS].values))
    return posterior.isel({names.COMPONENT: np.sort(np.argsort(-weights)[:n_clusters])})


def distinct_parameters(tree: xr.DataTree) -> tuple[list[str], Array]:
    """Return names and draws, shape (Q, chains, draws), of the parameters, each once."""
    posterior = _told_of(tree[names.POSTERIOR].dataset)
    spec = specification(tree)
    structure = spec.structure
    sample = (names.CHAIN, names.DRAW)
    components = posterior[names.COMPONENT].values.tolist()
    features = posterior[names.FEATURE].values.tolist()
    labels: list[str] = []
    parts: list[Array] = []

    def values(name: str) -> Array:
        variable, dims = posterior[name], names.PARAMETER_DIMS | names.FACTOR_DIMS
        return np.asarray(variable.transpose(*sample, *dims[name]).values)

    def add(name: str, index: str, draws: NDArray[Any]) -> None:
        labels.append(f"{name}[{index}]")
        parts.append(draws)

    for name, draws in of_number(posterior).items():
        labels.append(name)
        parts.append(draws[0])
    factored = names.LOADINGS in posterior
    weights, means = values(names.WEIGHTS), values(names.MEANS)
    of_scales = names.NOISE_SCALES if factored else names.SCALES
    scales = values(of_scales)
    for k, component in enumerate(components):
        add(names.WEIGHTS, f"{component}", weights[..., k])
    if names.NOISE_WEIGHT in posterior:
        labels.append(names.NOISE_WEIGHT)
        parts.append(posterior[names.NOISE_WEIGHT].transpose(*sample).values)
    for k, component in enumerate(components):
        for d, feature in enumerate(features):
            add(names.MEANS, f"{component}, {feature}", means[..., k, d])
    own_scales = not structure.shared_scales
    for k, component in enumerate(components[: None if own_scales else 1]):
        for d, feature in enumerate(features[: 1 if structure.common_scale else None]):
            which = f"{component if own_scales else 'all'}"
            of = "all" if structure.common_scale else feature
            add(of_scales, f"{which}, {of}", scales[..., k, d])
    if factored:
        loadings = values(names.LOADINGS)
        for k, component in enumerate(components):
            for d, feature in enumerate(features):
                for j, factor in enumerate(posterior[names.FACTOR].values.tolist()):
                    index = f"{component}, {feature}, {factor}"
                    add(names.LOADINGS, index, loadings[..., k, d, j])
        return labels, np.stack(parts)
    correlations = values(names.CORRELATIONS)
    sets = {"none": 0, "shared": 1}.get(structure.correlations, len(components))
    for k, component in enumerate(components[:sets]):
        which = f"{'all' if structure.correlations == 'shared' else component}"
        for i, feature in enumerate(features):
            for j in range(i):
                label = f"{which}, {features[j]}, {feature}"
                add(names.CORRELATIONS, label, correlations[..., k, i, j])
    if isinstance(spec, StudentTMixture) and isinstance(spec.df, GammaDegrees):
        df = posterior[names.DF].transpose(*sample, names.COMPONENT).values
        for k, component in enumerate(["all"] if spec.df.shared else components):
            add(names.DF, f"{component}", df[..., k])
    return labels, np.stack(parts)
