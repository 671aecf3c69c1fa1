"""Trees that follow from a fit: the draws of some of its features."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import xarray as xr

from bayesgmm import names
from bayesgmm.factor_prior import FactorCovariance
from bayesgmm.mixture import GaussianMixture

KEPT: Final = (
    names.POSTERIOR, names.SAMPLE_STATS, names.OBSERVED_DATA, names.CONSTANT_DATA, names.ALIGNMENT
)  # fmt: skip
"""Groups that hold of some features as they do of all."""

LOST: Final = ("log_likelihood_bytes", "n_parameters")
"""Attributes that do not."""


def restrict(tree: xr.DataTree, positions: Sequence[int], kind: str) -> xr.DataTree:
    """Return a fit's draws of some features, the others integrated out.

    Parameters
    ----------
    tree : DataTree
        A fit.
    positions : sequence of int
        Of the features, in the order they are to have.
    kind : str
        What the result is called: the attribute ``derived``.

    Returns
    -------
    DataTree
        Of the same schema. Its specification has the prior of these features, integrated over
        that of the others.
    """
    groups = {}
    for name in KEPT:
        if name in tree.children:
            group = tree[name].to_dataset()
            along = [dim for dim in (names.FEATURE, names.FEATURE2) if dim in group.dims]
            groups[name] = group.isel({dim: list(positions) for dim in along})
    fields = json.loads(tree.attrs[names.SPECIFICATION])
    prior = _restricted(GaussianMixture.from_dict(fields), positions, tree)
    attrs = {key: value for key, value in tree.attrs.items() if key not in LOST}
    attrs |= {names.SPECIFICATION: json.dumps(prior.to_dict()), names.DERIVED: kind}
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), **groups})


def _restricted(
    specification: GaussianMixture, positions: Sequence[int], tree: xr.DataTree
) -> GaussianMixture:
    """Return the prior of some features.

    A block of an LKJ correlation matrix is LKJ too: its shape grows by 1/2 for each feature less
    (Lewandowski, Kurowicka & Joe 2009).
    """

    def chosen(value: Any) -> Any:
        per_feature = isinstance(value, tuple) and len(value) > 1
        return tuple(np.asarray(value)[list(positions)].tolist()) if per_feature else value

    means, covariance = specification.means, specification.covariance
    fewer = tree[names.CONSTANT_DATA].sizes[names.FEATURE] - len(positions)
    own: dict[str, Any]
    if isinstance(covariance, FactorCovariance):
        own = {"loading_scale": chosen(covariance.loading_scale)}
    else:
        own = {"eta": covariance.eta + 0.5 * fewer}
    noise = specification.noise
    if noise is not None:
        noise = dataclasses.replace(noise, low=chosen(noise.low), high=chosen(noise.high))
    return dataclasses.replace(
        specification,
        noise=noise,
        means=dataclasses.replace(
            means, location=chosen(means.location), scale=chosen(means.scale)
        ),
        covariance=dataclasses.replace(
            covariance,
            **own,
            scale=chosen(covariance.scale),
            floor=chosen(covariance.floor),
        ),
    )
