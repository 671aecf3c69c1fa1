"""How a specification is handed to the kernels: where parameters lie, and concentrations."""

import numpy as np
from numpy.typing import NDArray

from bayesgmm.degrees_of_freedom import GammaDegrees
from bayesgmm.factor_prior import FactorCovariance
from bayesgmm.kernels.cholesky import Layout
from bayesgmm.kernels.tails import NO_DF
from bayesgmm.mixture import GaussianMixture, StudentTMixture
from bayesgmm.overfitted import Gamma, StickBreaking


def layout_of(specification: GaussianMixture, n_features: int) -> Layout:
    """Return the layout of the unconstrained vector."""
    structure = specification.structure
    k = specification.known_number
    sets = {"none": 0, "shared": 1, "component": k, "factors": 0}[structure.correlations]
    covariance = specification.covariance
    return Layout(
        n_components=k,
        n_features=n_features,
        scale_rows=1 if structure.shared_scales else k,
        scale_columns=1 if structure.common_scale else n_features,
        correlation_sets=sets if n_features > 1 else 0,
        df_sets=_df_sets(specification),
        n_factors=covariance.n_factors if isinstance(covariance, FactorCovariance) else 0,
        n_noise=0 if specification.noise is None else 1,
    )


def _df_sets(specification: GaussianMixture) -> int:
    """Return how many degrees of freedom are to be learnt."""
    df = specification.df if isinstance(specification, StudentTMixture) else None
    if not isinstance(df, GammaDegrees):
        return 0
    return 1 if df.shared else specification.known_number


def packed_df(specification: GaussianMixture) -> NDArray[np.float64]:
    """Return the degrees of freedom, or numbers of their prior, that `pack_problem` takes."""
    if not isinstance(specification, StudentTMixture):
        return NO_DF
    df = specification.df
    if isinstance(df, GammaDegrees):
        return np.array([df.shape, df.rate])
    return np.broadcast_to(np.asarray(df, dtype=float), specification.known_number).copy()


def packed(
    specification: GaussianMixture,
) -> tuple[NDArray[np.float64], bool]:
    """Return the concentrations that `pack_problem` takes, and whether they are of a stick."""
    weights = specification.weights
    if not isinstance(weights, StickBreaking):
        return specification.concentration, False
    alpha, result = weights.concentration, np.zeros(specification.known_number)
    result[:2] = (alpha.shape, alpha.rate) if isinstance(alpha, Gamma) else (alpha, 0.0)
    return result, True
