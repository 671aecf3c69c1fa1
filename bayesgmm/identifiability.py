"""Whether single components of an aligned fit can be read."""

import warnings
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.errors import IdentifiabilityWarning
from bayesgmm.kernels.clarity import Clarity, clarity
from bayesgmm.kernels.matching import every_so_many
from bayesgmm.kernels.stephens import confusions, leads
from bayesgmm.prediction import Mixtures, fitted_rows, mixtures
from bayesgmm.records import standing
from bayesgmm.summaries import require_draws
from bayesgmm.tree import require
from bayesgmm.tree.rows import observed

type Array = NDArray[np.float64]

NEAR_TIE: Final = 0.05
"""Margin, in rows of the component's own, below which a matching is nearly a tie."""
MANY_TIES: Final = 0.05
"""Share of draws that are nearly ties from which a component is not to be read."""
SHARED: Final = 0.5
"""Overlap from which two components share a cluster.

Of two Normal components of equal scale it is reached where their sum loses its second peak: 0.45
to 0.67 at a distance of two standard deviations, for weights from equal to 0.05.
"""
SURELY: Final = 0.95
"""Probability of being occupied below which a component counts as empty."""


def alignment_report(tree: xr.DataTree) -> xr.Dataset:
    r"""Say of every component whether its aligned marginals can be read.

    Renaming gives every draw's components names, whether or not there are clusters to name. Where
    two components share a cluster, where a component has no rows, or where another naming of the
    draws would be as good, means and intervals of single components describe the renaming.
    Density, predictions of it and partitions do not depend on names.

    Parameters
    ----------
    tree : DataTree
        A fit, aligned by any method.

    Returns
    -------
    Dataset, dims (component)
        ``expected_rows``: rows allocated to the component, posterior mean. ``occupied``:
        probability that any row is. ``tied``: share of the draws in which giving its rows to
        another component would lose less than 5 % of them; ``margin``: the share that it would
        lose, median over draws, in [0, 1]. ``overlap``: with the component ``nearest`` to it, in
        [0, 1], 1 for two that share all their rows, by responsibilities :math:`r` with sums
        :math:`n`,

        .. math:: \sum_i \frac{r_{ij} r_{ik}}{r_{ij} + r_{ik}}
                  \left(\frac{1}{n_j} + \frac{1}{n_k}\right).

        ``trusted``: whether nothing stands against reading it. The attribute ``stephens_cost`` is
        the total Kullback-Leibler divergence of the draws' responsibilities from their mean, in
        nats, by which methods of `align` can be compared; ``rows`` says over how many rows.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit, or was taken apart along ``chain`` or ``draw``.

    Warns
    -----
    IdentifiabilityWarning
        If a component is not to be read: it shares a cluster with another, has no rows in more
        than 5 % of the allocations, or is nearly tied in more than 5 % of the draws.

    See Also
    --------
    align : The names of components.

    Notes
    -----
    O(S N K (D^2 + K) + S K^4) operations for S draws, in a thread per core. Of more than 5,000
    rows as many, evenly spaced, stand for all. Rows of background noise are no component's, and
    noise shares its name with none.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, draws=100, chains=2, random_seed=1)
    >>> bg.alignment_report(tree)["trusted"].values
    array([ True,  True])
    """
    require_draws(tree, names.POSTERIOR, names.ALIGNMENT, function="alignment_report")
    require(tree, names.OBSERVED_DATA, names.CONSTANT_DATA, function="alignment_report")
    report = _measured(tree)
    problems = _problems(report)
    if problems:
        warnings.warn(
            f"Single components are not to be read: {'; '.join(problems)}. Density, predictions "
            f"of it and partitions stand. Fit fewer components, or read those alone.",
            IdentifiabilityWarning,
            stacklevel=2,
        )
    return report


def _measured(tree: xr.DataTree) -> xr.Dataset:
    """Return the report."""
    draws = mixtures(tree)
    weights = observed(tree).weights
    every, _ = standing(fitted_rows(tree, draws), weights)
    n_rows = every.shape[1] if weights is None else weights.sum()
    some = np.ascontiguousarray(every[:, :: every_so_many(every.shape[1])])
    found = clarity(some, draws[:3])
    n_components = draws.means.shape[1]
    rows = found.mean[:n_components].sum(axis=1)
    lead = _lead(some, draws, found) if len(draws.box) else found.lead
    margin = np.minimum(lead / np.maximum(rows, 1.0), 1.0)
    share = 1.0 / np.maximum(rows, np.finfo(float).tiny)
    overlap = found.overlap[:n_components, :n_components]
    overlap = np.minimum(overlap * np.add.outer(share, share), 1.0)
    np.fill_diagonal(overlap, 0.0 if len(rows) == 1 else -1.0)  # itself is not another
    nearest, overlap = overlap.argmax(axis=1), overlap.max(axis=1)
    occupied = 1.0 - found.vacancy[:, :n_components].mean(axis=0)
    tied = (margin < NEAR_TIE).mean(axis=0)
    component = tree[names.POSTERIOR].dataset[names.COMPONENT]
    by_component = {
        names.EXPECTED_ROWS: rows * (n_rows / some.shape[1]),
        names.OCCUPIED: occupied,
        names.TIED: tied,
        names.MARGIN: np.median(margin, axis=0),
        names.OVERLAP: overlap,
        names.NEAREST: component.values[nearest],
        names.TRUSTED: (occupied >= SURELY) & (tied <= MANY_TIES) & (overlap < SHARED),
    }
    return xr.Dataset(
        {name: (names.COMPONENT, numbers) for name, numbers in by_component.items()},
        coords={names.COMPONENT: component.variable},
        attrs={
            names.METHOD: tree[names.ALIGNMENT].attrs.get(names.METHOD, "none"),
            "stephens_cost": found.cost,
            "rows": some.shape[1],
        },
    )


def _lead(rows: Array, draws: Mixtures, found: Clarity) -> Array:
    """Return by how many rows labels of components beat others, shape (S, K): noise has its own."""
    n_draws, n_components = draws.means.shape[:2]
    labels = np.asarray(found.mean.argmax(axis=0), dtype=np.int64)
    agreeing = confusions(rows, draws[:3], labels)[:, :n_components, :n_components]
    as_they_are = np.tile(np.arange(n_components), (n_draws, 1))
    return leads(np.ascontiguousarray(agreeing), as_they_are)


def _problems(report: xr.Dataset) -> list[str]:
    """Return what stands against reading single components, in words, each thing once."""
    found: list[str] = []
    pairs: set[frozenset[Any]] = set()
    for k in range(report.sizes[names.COMPONENT]):
        one = report.isel({names.COMPONENT: k})
        label, other = one[names.COMPONENT].item(), one[names.NEAREST].item()
        empty = 1.0 - one[names.OCCUPIED].item()
        if empty > 1.0 - SURELY:
            found.append(f"component {label} has no rows in {empty:.0%} of the allocations")
        elif one[names.OVERLAP].item() >= SHARED:
            if {label, other} not in pairs:
                found.append(
                    f"components {label} and {other} share one cluster (overlap "
                    f"{one[names.OVERLAP].item():.2f})"
                )
            pairs.add(frozenset({label, other}))
        elif one[names.TIED].item() > MANY_TIES:
            found.append(
                f"the name of component {label} is nearly a tie in {one[names.TIED].item():.0%} of "
                f"the draws"
            )
    return found
