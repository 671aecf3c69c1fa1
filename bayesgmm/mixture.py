"""The specification of a mixture: how many components, and the priors of all that is unknown."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from bayesgmm.errors import check_integer
from bayesgmm.priors import (
    STRUCTURES,
    Dirichlet,
    LKJCovariance,
    NormalMeans,
    Structure,
    resolved,
    shown,
)


@dataclass(frozen=True, repr=False)
class GaussianMixture:
    """A Gaussian mixture with its priors.

    Parameters
    ----------
    n_components : int
        Number of components, at least 1.
    weights : Dirichlet, optional
        Prior of the weights; uniform if left out.
    means : NormalMeans, optional
        Prior of the means; scaled to the data if left out.
    covariance : LKJCovariance, optional
        Prior of the covariance matrices, and what they share; scaled to the data, and nothing,
        if left out.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type, or a number is out of range.

    Examples
    --------
    >>> GaussianMixture(2)
    GaussianMixture: 2 components, structure 'full'
      weights       ~ Dirichlet(1)
      means         ~ Normal(location = midpoint, scale = range)
      scales        ~ HalfNormal(scale = standard deviation)
      correlations  ~ LKJ(eta = 2)
      X             ~ sum over components of weight * Normal(mean, covariance)
    """

    n_components: int
    weights: Dirichlet = field(default_factory=Dirichlet)
    means: NormalMeans = field(default_factory=NormalMeans)
    covariance: LKJCovariance = field(default_factory=LKJCovariance)

    def __post_init__(self) -> None:
        n = check_integer(
            self.n_components, "n_components", 1, "Give the number of components, e.g. 3."
        )
        object.__setattr__(self, "n_components", n)
        for name, kind in (
            ("weights", Dirichlet), ("means", NormalMeans), ("covariance", LKJCovariance)
        ):  # fmt: skip
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise TypeError(
                    f"`{name}` must be a {kind.__name__}; got {value!r} of type "
                    f"{type(value).__name__}. Write {name}=bg.{kind.__name__}(...)."
                )
        concentration = self.weights.concentration
        if isinstance(concentration, tuple) and len(concentration) != n:
            raise ValueError(
                f"`concentration` must hold one number per component, {n}; got "
                f"{len(concentration)}: {concentration}. Give one number for all."
            )

    @property
    def structure(self) -> Structure:
        """What the components' covariance matrices share."""
        return STRUCTURES[self.covariance.structure]

    @property
    def resolved(self) -> bool:
        """Whether every hyperparameter is a number."""
        means, covariance = self.means, self.covariance
        return None not in (means.location, means.scale, covariance.scale, covariance.floor)

    def resolve(self, values: ArrayLike) -> Self:
        """Return the specification with every hyperparameter a number, taken from the data.

        Parameters
        ----------
        values : array of float, shape (n_obs, n_features)
            The data, in the user's units; finite, no feature constant.

        Returns
        -------
        GaussianMixture
            Location, scales and floors are tuples of one number per feature (those of the
            half-normal single numbers where all features share it).

        Raises
        ------
        ValueError
            If `values` are not 2-D, or a hyperparameter has another number of entries than
            there are features.
        """
        values = np.asarray(values, dtype=float)
        if values.ndim != 2:
            raise ValueError(
                f"`values` must be 2-D, rows by features; got shape {values.shape}. Write one "
                f"feature as a column, `values[:, None]`."
            )
        low, high = values.min(axis=0), values.max(axis=0)
        location = resolved(self.means.location, 0.5 * low + 0.5 * high, "means.location")
        scale = resolved(self.means.scale, high - low, "means.scale")
        return dataclasses.replace(
            self,
            means=NormalMeans(location, scale),
            covariance=self.covariance.resolve(values),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the specification as nested dictionaries of plain Python values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Make the specification that `to_dict` turned into `fields`."""
        return cls(
            n_components=fields["n_components"],
            weights=Dirichlet(**fields["weights"]),
            means=NormalMeans(**fields["means"]),
            covariance=LKJCovariance(**fields["covariance"]),
        )

    def __repr__(self) -> str:
        n, structure = self.n_components, self.structure
        location = shown(self.means.location, "midpoint")
        scale = shown(self.means.scale, "range")
        tau = shown(self.covariance.scale, "standard deviation")
        floor = self.covariance.floor
        truncated = np.any(np.asarray(floor, dtype=float) > 0) if floor is not None else False
        scales = f"HalfNormal(scale = {tau}{f', floor = {shown(floor, "")}' if truncated else ''})"
        notes = [
            note
            for shared, note in (
                (structure.shared_scales, "all components"),
                (structure.common_scale, "all features"),
            )
            if shared
        ]
        if notes:
            scales += f", shared by {' and '.join(notes)}"
        lines = [
            f"GaussianMixture: {n} component{'s' * (n != 1)}, "
            f"structure {self.covariance.structure!r}",
            f"  weights       ~ Dirichlet({shown(self.weights.concentration, '')})",
            f"  means         ~ Normal(location = {location}, scale = {scale})",
            f"  scales        ~ {scales}",
        ]
        if structure.correlations != "none":
            shared = ", shared by all components" * (structure.correlations == "shared")
            lines.append(f"  correlations  ~ LKJ(eta = {self.covariance.eta:g}){shared}")
        lines.append("  X             ~ sum over components of weight * Normal(mean, covariance)")
        return "\n".join(lines)
