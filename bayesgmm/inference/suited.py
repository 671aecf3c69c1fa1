"""What was said of rows, and what a specification asks for, that a way of fitting does not suit."""

from typing import TYPE_CHECKING, Any

import numpy as np

from bayesgmm import names
from bayesgmm.data import Data
from bayesgmm.factor_prior import FactorCovariance
from bayesgmm.mixture import GaussianMixture

if TYPE_CHECKING:
    import pymc


def held_by(model: "pymc.Model", sample_weight: Any, labels: Any) -> tuple[Any, Any]:
    """Return the weights and labels that a PyMC model was built with, refusing any others."""
    given = {"sample_weight": sample_weight, "labels": labels}
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"`{name}` must be left out where `spec` is a PyMC model, which holds them; got an "
                f"object of type {type(value).__name__}. Pass them to bg.build_model."
            )
    return getattr(model, names.SAMPLE_WEIGHT, None), getattr(model, names.ALLOWED, None)


def refuse_incomplete() -> None:
    """Refuse missing cells and measurement errors where they cannot be integrated out."""
    raise ValueError(
        "`engine` must be 'auto' or 'fused', and `spec` no PyMC model, for data with missing cells "
        "(NaN) or `measurement_error`; got PyMC's engine, which would need a parameter for each. "
        "Use engine='auto'."
    )


def refuse_unallocated(prior: Any, data: Data, labels: Any) -> None:
    """Refuse what the samplers that allocate rows to components do not know of."""
    what = f"where components may be empty by their prior, {prior!r}: every row is one and whole"
    for name, value in (
        ("sample_weight", data.sample_weight), ("labels", labels),
        ("measurement_error", data.errors),
    ):  # fmt: skip
        if value is not None:
            raise ValueError(
                f"`{name}` must be left out {what}; got an object of type "
                f"{type(value).__name__}. Fit a number of components with Dirichlet weights."
            )
    if not data.complete:
        raise ValueError(
            f"`X` must have a number in every cell {what}; got {np.isnan(data.values).sum()} "
            f"missing. Fit a number of components with Dirichlet weights, which integrates them "
            f"out; or let bayesgmm.select compare several."
        )


def without_factors(specification: GaussianMixture, where: str) -> GaussianMixture:
    """Return a specification, refusing factor analysers where they are not known."""
    if isinstance(specification.covariance, FactorCovariance):
        raise ValueError(
            f"`covariance` must be an LKJCovariance {where}; got {specification.covariance!r}. Use "
            f"that, or bayesgmm.fit with a number of components and Dirichlet weights."
        )
    return specification


def refuse_what_is_shared(specification: GaussianMixture) -> None:
    """Refuse a structure that components cannot be drawn one by one with."""
    structure = specification.structure
    if structure.shared_scales or structure.correlations == "shared":
        raise ValueError(
            f"`structure` must share nothing between components where `weights` is a "
            f"{type(specification.weights).__name__} and method 'nuts'; got "
            f"{specification.covariance.structure!r}. Choose 'full', 'diag' or 'spherical', or "
            f"Dirichlet weights."
        )
