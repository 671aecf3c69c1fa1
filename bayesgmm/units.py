"""A hint where features share a scale and are measured in units too different for that."""

import warnings
from typing import Final

from bayesgmm.data import Data, center_and_unit
from bayesgmm.errors import UnitsWarning
from bayesgmm.mixture import GaussianMixture

RATIO: Final = 1e6
"""Of the largest standard deviation to the smallest, from which nothing is said by both."""


def hint_at_units(specification: GaussianMixture, data: Data) -> None:
    """Warn if features share what their units make different by a factor of a million or more.

    A scale for each feature, with its prior taken from the data, is the same model in any units:
    then nothing is said, whatever these are.

    Parameters
    ----------
    specification : GaussianMixture
        As it was given: what is None is taken from the data, for each feature its own.
    data : Data

    Warns
    -----
    UnitsWarning
        Naming what is shared, and the two features furthest apart.
    """
    shared = _shared(specification)
    if data.n_features == 1 or not shared:
        return
    values, weights = data.counted
    spread = center_and_unit(values, False, weights)[1]
    low, high = int(spread.argmin()), int(spread.argmax())
    if spread[high] < RATIO * spread[low]:
        return
    features = data.features.tolist()
    warnings.warn(
        f"`X` has features in units so different that what they share fits some of them only: "
        f"{', '.join(shared)}; got standard deviations from {spread[low]:.3g} in "
        f"{features[low]!r} to {spread[high]:.3g} in {features[high]!r}. Measure them in "
        f"comparable units, or give each its own: a structure such as 'diag', priors of None or "
        f"one number per feature.",
        UnitsWarning,
        stacklevel=3,
    )


def _shared(specification: GaussianMixture) -> list[str]:
    """Return what all features share of the prior, as a message names it."""
    means, covariance = specification.means, specification.covariance
    if specification.structure.common_scale:
        shared = [f"the scale of structure {covariance.structure!r}"]
    else:
        shared = [
            f"LKJCovariance({name}={value:g})"
            for name, value in (("scale", covariance.scale), ("floor", covariance.floor))
            if isinstance(value, int | float) and value > 0.0
        ]
    if isinstance(means.scale, int | float):
        shared.append(f"NormalMeans(scale={means.scale:g})")
    return shared
