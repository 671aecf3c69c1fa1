"""Covariances of factor analysers as variables of a PyMC model."""

from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pymc.distributions.transforms import log

from bayesgmm import names
from bayesgmm.factor_packing import Gauge
from bayesgmm.factor_prior import FactorCovariance
from bayesgmm.kernels.factor_loadings import places_of, reflected
from bayesgmm.mixture import GaussianMixture


def factor_covariances(specification: GaussianMixture, gauge: Gauge, noise: Any) -> Any:
    """Return the covariance matrices, (component, feature, feature2), of loadings and noise.

    Parameters
    ----------
    specification : GaussianMixture
        Resolved.
    gauge : Gauge
        Coordinates of the loadings.
    noise : TensorVariable, shape (K, D)
        Noise scales.

    Notes
    -----
    Free are the entries of the triangle that `kernels.factor_loadings` describes: those below its
    diagonal standard Normal, those on it chi with q, q - 1, ... degrees of freedom.
    """
    prior, k = specification.covariance, specification.known_number
    assert isinstance(prior, FactorCovariance)
    d, q = gauge.spread.size, prior.n_factors
    rows, columns = places_of(d, q)
    below = rows != columns
    shape = (k, int(below.sum()))
    lower = pm.Normal(names.LOADINGS_BELOW, 0.0, 1.0, shape=shape)
    heads = pm.CustomDist(
        names.LOADINGS_DIAGONAL,
        np.broadcast_to(q - np.arange(q, dtype=float), (k, q)),
        dist=_random_chi,
        logp=_log_chi,
        signature="()->()",
        transform=log,
    )
    triangles = pt.zeros((k, d, q))
    triangles = triangles[:, rows[below], columns[below]].set(lower)
    triangles = triangles[:, np.arange(q), np.arange(q)].set(heads)
    directions = reflected(gauge.reflectors, np.eye(d))
    spread = np.asarray(prior.loading_scale)[:, None]
    loadings = pm.Deterministic(
        names.LOADINGS, spread * pt.matmul(directions, triangles),
        dims=(names.COMPONENT, names.FEATURE, names.FACTOR),
    )  # fmt: skip
    own = pt.eye(d) * (noise**2)[:, :, None]
    return pt.matmul(loadings, loadings.mT) + own


def _log_chi(value: Any, freedom: Any) -> Any:
    """Return the log density of the chi distribution."""
    constant = (0.5 * freedom - 1.0) * np.log(2.0) + pt.gammaln(0.5 * freedom)
    return (freedom - 1.0) * pt.log(value) - 0.5 * value**2 - constant


def _random_chi(freedom: Any, size: Any) -> Any:
    """Return chi variables."""
    return pt.sqrt(pm.ChiSquared.dist(freedom, size=size))
