"""What was estimated: every parameter in a table, with the quality of its estimate."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.tree import require, specification

type Array = NDArray[np.float64]


def summary(tree: xr.DataTree) -> pd.DataFrame:
    """Return a table of every parameter: estimate, spread, and the quality of its estimate.

    Parameters
    ----------
    tree : DataTree
        A fit.

    Returns
    -------
    DataFrame
        One row per parameter, ``weights[0]``, ``means[0, height]``, ``scales[...]``,
        ``correlations[0, height, weight]`` (below the diagonal); what components or features
        share stands once, as ``scales[all, height]``. Columns ``mean``, ``sd``, an equal-tailed
        interval, ``mcse_mean``, ``ess_bulk``, ``ess_tail``, ``r_hat``, in the data's units. A fit
        with a single draw has one column, ``estimate``.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit.

    Notes
    -----
    Diagnostics are ArviZ's, of the aligned draws (Vehtari et al. 2021,
    doi:10.1214/20-BA1221). The interval holds ``arviz_stats.rcParams["stats.ci_prob"]``.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, method="map", random_seed=1)
    >>> bg.summary(tree).loc["means[0, waiting]"].round(1).to_dict()
    {'estimate': 54.5}
    """
    require(tree, names.POSTERIOR, function="summary")
    labels, draws = distinct_parameters(tree)
    index = pd.Index(labels, name="parameter")
    if draws.shape[0] * draws.shape[1] == 1:
        return pd.DataFrame({"estimate": draws[0, 0]}, index=index)
    from arviz_base import rcParams

    prob = rcParams["stats.ci_prob"]
    tails = np.quantile(draws, [0.5 - prob / 2, 0.5 + prob / 2], axis=(0, 1))
    diagnosed = diagnose(draws)
    return pd.DataFrame(
        {
            "mean": draws.mean(axis=(0, 1)),
            "sd": draws.std(axis=(0, 1), ddof=1),
            f"eti{100 * prob:.0f}_lb": tails[0],
            f"eti{100 * prob:.0f}_ub": tails[1],
            "mcse_mean": diagnosed["mcse_mean"],
            "ess_bulk": diagnosed["ess_bulk"],
            "ess_tail": diagnosed["ess_tail"],
            "r_hat": diagnosed["r_hat"],
        },
        index=index,
    )


def diagnose(draws: Array) -> dict[str, Array]:
    """Return ArviZ's diagnostics of many quantities.

    Parameters
    ----------
    draws : array, shape (chains, draws, Q)

    Returns
    -------
    dict of str to array, shape (Q,)
        ``mcse_mean``, ``ess_bulk``, ``ess_tail``, ``r_hat`` (rank-normalised, split); NaN where a
        quantity does not vary.
    """
    from arviz_stats.base import array_stats

    axes = {"chain_axis": 0, "draw_axis": 1}
    varies = np.ptp(draws, axis=(0, 1)) > 0
    result = {
        name: np.full(draws.shape[2], np.nan)
        for name in ("mcse_mean", "ess_bulk", "ess_tail", "r_hat")
    }
    if varies.any():
        kept = draws[:, :, varies]
        # a chain that is stuck has variance 0: its R-hat is infinite, not an error
        with np.errstate(divide="ignore", invalid="ignore"):
            result["mcse_mean"][varies] = array_stats.mcse(kept, method="mean", **axes)
            result["ess_bulk"][varies] = array_stats.ess(kept, method="bulk", **axes)
            result["ess_tail"][varies] = array_stats.ess(
                kept, method="tail", prob=(0.05, 0.95), **axes
            )
            result["r_hat"][varies] = array_stats.rhat(kept, method="rank", **axes)
    return result


def distinct_parameters(tree: xr.DataTree) -> tuple[list[str], Array]:
    """Return names and draws, shape (chains, draws, Q), of the parameters, each once."""
    posterior = tree[names.POSTERIOR].dataset
    structure = specification(tree).structure
    sample = (names.CHAIN, names.DRAW)
    components = posterior[names.COMPONENT].values.tolist()
    features = posterior[names.FEATURE].values.tolist()
    labels: list[str] = []
    parts: list[Array] = []

    def values(name: str) -> Array:
        variable = posterior[name]
        return np.asarray(variable.transpose(*sample, *names.PARAMETER_DIMS[name]).values)

    def add(name: str, index: str, draws: NDArray[Any]) -> None:
        labels.append(f"{name}[{index}]")
        parts.append(draws)

    weights, means = values(names.WEIGHTS), values(names.MEANS)
    scales, correlations = values(names.SCALES), values(names.CORRELATIONS)
    for k, component in enumerate(components):
        add(names.WEIGHTS, f"{component}", weights[..., k])
    for k, component in enumerate(components):
        for d, feature in enumerate(features):
            add(names.MEANS, f"{component}, {feature}", means[..., k, d])
    own_scales = not structure.shared_scales
    for k, component in enumerate(components[: None if own_scales else 1]):
        for d, feature in enumerate(features[: 1 if structure.common_scale else None]):
            which = f"{component if own_scales else 'all'}"
            of = "all" if structure.common_scale else feature
            add(names.SCALES, f"{which}, {of}", scales[..., k, d])
    sets = {"none": 0, "shared": 1, "component": len(components)}[structure.correlations]
    for k, component in enumerate(components[:sets]):
        which = f"{component if structure.correlations == 'component' else 'all'}"
        for i, feature in enumerate(features):
            for j in range(i):
                label = f"{which}, {features[j]}, {feature}"
                add(names.CORRELATIONS, label, correlations[..., k, i, j])
    return labels, np.stack(parts, axis=-1)
