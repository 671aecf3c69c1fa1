"""What was said of rows, and what a specification asks for, that a way of fitting does not suit."""

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bayesgmm import names
from bayesgmm.component_prior import PriorOnComponents
from bayesgmm.data import Data, check_enough_rows
from bayesgmm.factor_prior import FactorCovariance
from bayesgmm.mixture import GaussianMixture, StudentTMixture
from bayesgmm.overfitted import SparseDirichlet, StickBreaking
from bayesgmm.priors import Dirichlet, LKJCovariance, NormalMeans
from bayesgmm.sample_weights import row_named

if TYPE_CHECKING:
    import pymc

KNOWN_TO_JAX: Final[dict[str, tuple[type, ...]]] = {
    "n_components": (int,),
    "weights": (Dirichlet, SparseDirichlet, StickBreaking),
    "means": (NormalMeans,),
    "covariance": (LKJCovariance,),
}
"""Parts of a specification, and what of them `jax_posterior` computes."""


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


def refuse_unsuited(
    specification: GaussianMixture, data: Data, labels: Any, engine: str, *, allocated: bool
) -> None:
    """Refuse data and parts of a specification that an engine, or allocating rows, does not know.

    Parameters
    ----------
    specification : GaussianMixture
    data : Data
    labels : object
        As `fit` was given them.
    engine : str
    allocated : bool
        Whether rows are allocated to components, which may be empty.
    """
    number = specification.n_components
    if engine == "pymc":
        specification.refuse_noise("for PyMC's engine")
        without_factors(specification, "for PyMC's engine; a program of it samples pm.sample")
    if allocated:
        without_factors(specification, "where components may be empty by their prior")
        learnt = isinstance(number, PriorOnComponents)
        refuse_unallocated(number if learnt else specification.weights, data, labels)
    if isinstance(number, PriorOnComponents):
        return
    if not data.complete and engine in ("pymc", "jax"):
        refuse_incomplete("JAX's" if engine == "jax" else "PyMC's")
    refuse_errors_of_tails(specification, data)
    refuse_errors_beside_noise(specification, data)
    check_enough_rows(data, number)
    if allocated:
        refuse_what_is_shared(specification)


def refuse_incomplete(engine: str) -> None:
    """Refuse missing cells and measurement errors where they cannot be integrated out."""
    raise ValueError(
        f"`engine` must be 'auto' or 'fused', and `spec` no PyMC model, for data with missing "
        f"cells (NaN) or `measurement_error`; got {engine} engine, which does not integrate them "
        f"out. Use engine='auto'."
    )


def refuse_unknown_to_jax(specification: GaussianMixture) -> None:
    """Refuse what a specification may hold besides what the density in JAX has."""
    if isinstance(specification, StudentTMixture):
        raise ValueError(
            "`spec` must be a GaussianMixture for engine 'jax'; got a StudentTMixture. "
            "Use engine='auto'."
        )
    plain = GaussianMixture(1)
    for part in fields(specification):
        value, known = getattr(specification, part.name), KNOWN_TO_JAX.get(part.name)
        usual = getattr(plain, part.name, part.default)
        if type(value) in known if known else value == usual:
            continue
        listed = " or ".join(kind.__name__ for kind in known) if known else repr(usual)
        raise ValueError(
            f"`{part.name}` must be {listed} for engine 'jax'; got {value!r}. Use engine='auto'."
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


def refuse_errors_of_tails(specification: GaussianMixture, data: Data) -> None:
    """Refuse measurement errors of a t: their sum has no density in closed form."""
    if isinstance(specification, StudentTMixture) and data.errors is not None:
        raise ValueError(
            "`measurement_error` must be left out for a StudentTMixture, whose sum with Normal "
            f"errors has no density in closed form; got errors of shape {data.errors.shape}. Fit a "
            "GaussianMixture, or leave the errors to the tails."
        )


def refuse_errors_beside_noise(specification: GaussianMixture, data: Data) -> None:
    """Refuse measurement errors of noise, which would blur the sides of its box."""
    if data.errors is not None:
        specification.refuse_noise("where there is a `measurement_error`")


def refuse_noise_outside(specification: GaussianMixture, data: Data) -> None:
    """Refuse rows that are known to be noise where there is none."""
    if specification.noise is None or data.allowed is None:
        return
    noise = specification.resolve(*data.counted).noise
    assert noise is not None
    wrong = ~data.allowed[:, :-1].any(axis=1) & noise.outside(data.values)
    if wrong.any():
        i = int(wrong.argmax())
        raise ValueError(
            f"`labels` must name noise in its box alone; got it at {row_named(data.obs, i)}, with "
            f"{data.values[i].tolist()}, outside of {noise!r}. Widen the box, or leave its corners "
            f"None."
        )


def without_factors(specification: GaussianMixture, where: str) -> GaussianMixture:
    """Return a specification, refusing factor analysers where they are not known."""
    if isinstance(specification.covariance, FactorCovariance):
        raise ValueError(
            f"`covariance` must be an LKJCovariance {where}; got {specification.covariance!r}. Use "
            f"that, or bayesgmm.fit with a number of components and Dirichlet weights."
        )
    return specification


def without_tails(specification: GaussianMixture) -> GaussianMixture:
    """Return a specification, refused if tails are heavy: then no sums stand for rows."""
    if isinstance(specification, StudentTMixture):
        raise ValueError(
            "`spec` must be a GaussianMixture, whose batches sums stand for; got a "
            "StudentTMixture. Fit some of the rows: bg.fit(X, spec)."
        )
    return specification


def plain(specification: GaussianMixture, where: str) -> GaussianMixture:
    """Return a specification of Normal components and nothing else, refusing all others."""
    specification.refuse_noise(where)
    return without_tails(without_factors(specification, where))


def refuse_what_is_shared(specification: GaussianMixture) -> None:
    """Refuse tails and structures that components cannot be drawn one by one with."""
    if isinstance(specification, StudentTMixture):
        raise ValueError(
            f"`weights` must be a Dirichlet for a StudentTMixture and method 'nuts'; got "
            f"{specification.weights!r}, where rows are allocated to components, Normal ones. Use "
            f"another method, or a GaussianMixture."
        )
    structure = specification.structure
    if structure.shared_scales or structure.correlations == "shared":
        raise ValueError(
            f"`structure` must share nothing between components where `weights` is a "
            f"{type(specification.weights).__name__} and method 'nuts'; got "
            f"{specification.covariance.structure!r}. Choose 'full', 'diag' or 'spherical', or "
            f"Dirichlet weights."
        )
