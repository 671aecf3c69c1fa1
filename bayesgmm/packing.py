"""How the parameters of a specification lie in the unconstrained vector."""

from bayesgmm.kernels.cholesky import Layout
from bayesgmm.mixture import GaussianMixture


def layout_of(specification: GaussianMixture, n_features: int) -> Layout:
    """Return the layout of the unconstrained vector."""
    structure = specification.structure
    k = specification.known_number
    sets = {"none": 0, "shared": 1, "component": k}[structure.correlations]
    return Layout(
        n_components=k,
        n_features=n_features,
        scale_rows=1 if structure.shared_scales else k,
        scale_columns=1 if structure.common_scale else n_features,
        correlation_sets=sets if n_features > 1 else 0,
    )
