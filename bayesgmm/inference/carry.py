"""The tree of a fit that carries sufficient statistics on to the next."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.component_prior import PriorOnComponents
from bayesgmm.data import Data
from bayesgmm.inference.sufficient import Ground, Mixture, Sufficient
from bayesgmm.kernels.draws import fill_draws
from bayesgmm.kernels.relabel import NO_CUBE, NO_LABELS
from bayesgmm.tree import build, require, specification

type Array = NDArray[np.float64]

FARTHEST: Final = 1e100
"""Distance from the first data, in standard deviations, that is refused."""

TOLD: Final = {
    names.SAMPLE_WEIGHT: "sample_weight",
    names.ALLOWED: "labels",
    names.MEASUREMENT_ERROR: "measurement_error",
}
"""What may be said of rows, as `fit` calls it."""


def require_number(tree: Any, function: str, argument: str) -> None:
    """Refuse anything that is not a fit with a known number of components."""
    groups = [names.POSTERIOR, names.CONSTANT_DATA, names.OBSERVED_DATA]
    require(tree, *groups[:2], function=function, argument=argument)
    if names.SUFFICIENT_STATISTICS not in tree.children:
        require(tree, *groups, function=function, argument=argument)
    number = specification(tree).n_components
    if isinstance(number, PriorOnComponents):
        raise ValueError(
            f"`{argument}` must be a fit with a number of components for `{function}`; got one "
            f"with {number!r}, whose draws differ in it. Fit the number that it found."
        )


def refuse_told(tree: xr.DataTree, function: str, argument: str) -> None:
    """Refuse a fit of rows of which more, or less, is known than their cells."""
    constant = tree[names.CONSTANT_DATA].dataset
    said = [called for name, called in TOLD.items() if name in constant]
    if names.OBSERVED_DATA in tree.children:
        missing = np.isnan(tree[names.OBSERVED_DATA].dataset[names.X].values).any()
        said += ["missing cells"] * bool(missing)
    if said:
        raise ValueError(
            f"`{argument}` must be a fit of complete rows, each counted once, for `{function}`; "
            f"got one with {', '.join(said)}. Fit without, or fit the next rows together with "
            f"these."
        )


def components_of(tree: xr.DataTree) -> NDArray[np.int64]:
    """Return the labels of the components of a fit."""
    labels = tree[names.POSTERIOR].dataset[names.COMPONENT].values
    return np.asarray(labels, dtype=np.int64)


def n_tracks_of(tree: xr.DataTree) -> int:
    """Return how many labels were ever given to components, on the way to a fit."""
    if names.SUFFICIENT_STATISTICS in tree.children:
        return int(tree[names.SUFFICIENT_STATISTICS].dataset[names.N_TRACKS])
    return int(components_of(tree).max()) + 1


def refuse_far(rows: Array, data: Data, argument: str) -> None:
    """Refuse rows whose squared distance would overflow."""
    if not np.abs(rows).max() < FARTHEST:
        j, i = divmod(int(np.abs(rows).argmax()), rows.shape[1])
        raise ValueError(
            f"`{argument}` must lie within {FARTHEST:g} standard deviations of the first data, or "
            f"squares overflow; got {data.values[i, j]} at row {data.obs.tolist()[i]!r}, column "
            f"{data.features.tolist()[j]!r}. Check its units."
        )


def variables_of(ground: Ground, statistics: Sufficient) -> dict[str, Array]:
    """Return statistics as variables of a group, in the data's units."""
    held = ground.to_units(statistics)
    return dict(zip((names.COUNTS, names.MEANS, names.COVARIANCES), held, strict=True))


def carried(
    ground: Ground,
    mixture: Mixture,
    statistics: Sufficient,
    data: Data,
    *,
    components: NDArray[np.int64],
    n_tracks: int,
    value: float,
    further: Mapping[str, Mapping[str, Any]],
    attrs: Mapping[str, str | int | float],
) -> xr.DataTree:
    """Return the tree of a point, with the statistics that it carries.

    Parameters
    ----------
    ground : Ground
    mixture : Mixture
    statistics : Sufficient
        Standardised.
    data : Data
        The rows that it is said to be a fit of; none if they are not kept.
    components : array of int, shape (K,)
        Labels of the components.
    n_tracks : int
        How many labels were ever given.
    value : float
        Of the objective, in nats, of standardised data.
    further : dict of str to dict
        Further groups, and their variables.
    attrs : dict
    """
    parameters = ground.parameters(mixture)
    log_unit = float(np.log(ground.unit).sum())
    log_likelihood = None
    if data.n_obs:
        densities = np.empty((1, data.n_obs))
        rows = ground.rows(data.values)
        log_weights, means, cholesky = (part[None] for part in mixture)
        fill_draws(rows, log_weights, means, cholesky, densities, NO_CUBE, NO_LABELS, NO_CUBE)
        log_likelihood = densities[None] - log_unit
    return build(
        data=data,
        specification=ground.specification,
        posterior={name: part[None] for name, part in parameters._asdict().items()},
        sample_stats={names.LP: np.array([[value - log_unit * statistics.counts.sum()]])},
        log_likelihood=log_likelihood,
        center=ground.center,
        unit=ground.unit,
        alignment=None,
        modes=None,
        optimization=None,
        attrs={
            names.METHOD: "map",
            names.ENGINE: "fused",
            "n_parameters": ground.n_parameters,
            **attrs,
        },
        components=components,
        further={
            names.SUFFICIENT_STATISTICS: {
                **variables_of(ground, statistics),
                names.N_TRACKS: np.array(n_tracks),
            },
            **further,
        },
    )
