"""Background noise: rows that are of no component, anywhere in a box."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.errors import check_positive
from bayesgmm.notation import Line, Textbook
from bayesgmm.priors import (
    Dirichlet,
    LKJCovariance,
    PerFeature,
    per_feature,
    resolved,
    shown,
)

NOISE_LABEL: Final = -1
"""What noise is called where components are 0 to K - 1."""
CORNER: Final = "Give a corner of the box, or None."


@dataclass(frozen=True)
class UniformNoise(Textbook):
    r"""Background noise of a `GaussianMixture`: rows uniform over a box, of no component.

    Parameters
    ----------
    concentration : float, default 1.0
        Of the noise in the Dirichlet prior of all weights, beside those of the components.
        Positive.
    low, high : float, sequence of float or None
        Lower and upper corner of the box, in the data's units; one number or one per feature. None:
        the smallest and the largest number of the feature in the data.

    Raises
    ------
    TypeError, ValueError
        If a number is not finite, `concentration` is not positive, or `low` is not below `high`.

    Notes
    -----
    The density of a row x is, with V the volume of the box,

    .. math:: \frac{w_0}{V} [x \in \text{box}] + \sum_k w_k \operatorname{Normal}(x \mid \mu_k,
              \Sigma_k), \qquad w_0 + \sum_k w_k = 1.

    The box is kept with the fit: of rows outside of it noise has density 0. Its sides are along the
    features, so that data in a narrow band across them have more of it empty than not; where that
    is so, fit principal components in place of features.

    References
    ----------
    Banfield & Raftery (1993), Model-based Gaussian and non-Gaussian clustering, Biometrics 49.
    doi:10.2307/2532201

    Fraley & Raftery (1998), How many clusters? Which clustering method? Answers via model-based
    cluster analysis, The Computer Journal 41. doi:10.1093/comjnl/41.8.578

    Examples
    --------
    >>> UniformNoise(low=0.0, high=[5.0, 100.0])
    UniformNoise(concentration=1.0, low=0.0, high=(5.0, 100.0))
    """

    concentration: float = 1.0
    low: PerFeature = None
    high: PerFeature = None

    def __post_init__(self) -> None:
        remedy = "1 is usual; less for less noise."
        number = check_positive(self.concentration, "concentration", remedy)
        object.__setattr__(self, "concentration", number)
        for name in ("low", "high"):
            value = per_feature(getattr(self, name), name, CORNER, lowest=None)
            object.__setattr__(self, name, value)
        if self.low is None or self.high is None:
            return
        low, high = np.asarray(self.low), np.asarray(self.high)
        if low.size > 1 < high.size and low.size != high.size:
            raise ValueError(
                f"`high` must have as many numbers as `low`, {low.size}; got {high.size}: "
                f"{self.high}. Give one for all features, or one for each."
            )
        if not np.all(low < high):
            raise ValueError(
                f"`low` must be less than `high`; got {self.low} and {self.high}. Give the lower "
                f"corner of the box, then the upper."
            )

    def refuse(self, where: str) -> None:
        """Refuse background noise where it is not known."""
        raise ValueError(
            f"`noise` must be None {where}; got {self!r}. Leave it out, or use bg.fit with a "
            f"GaussianMixture of a number of components, Dirichlet weights and an LKJCovariance."
        )

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any] | None) -> Self | None:
        """Return the noise that was turned into a dictionary, if there was any."""
        return None if fields is None else cls(**fields)

    def resolve(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> Self:
        """Return noise in a box of numbers, those left out being the ranges of the data."""
        return type(self)(
            self.concentration,
            resolved(self.low, low, "noise.low"),
            resolved(self.high, high, "noise.high"),
        )

    @property
    def corners(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The lower and the upper corner of a resolved box, each of shape (D,)."""
        return np.asarray(self.low, dtype=float), np.asarray(self.high, dtype=float)

    @property
    def log_density(self) -> float:
        """Log density of a row in a resolved box: minus its log volume, in the data's units."""
        low, high = self.corners
        return -float(np.log(high - low).sum())

    def outside(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell which rows, shape (N, D), lie outside of a resolved box."""
        low, high = self.corners
        return np.asarray(((values < low) | (values > high)).any(axis=1))

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
        """Return rows drawn in a resolved box, of shape (*shape, D)."""
        low, high = self.corners
        return rng.uniform(low, high, (*shape, low.size))

    def textbook(self) -> tuple[Line, ...]:
        """Return the density of noise as a line of a textbook."""
        box = r"\operatorname{Uniform}(\text{box})"
        return (Line(r"x_i \mid z_i = 0", box, r"\text{noise}"),)

    def as_line(self) -> str:
        """Return the noise as a line of what is printed of a specification."""
        corners = f"low = {shown(self.low, 'smallest')}, high = {shown(self.high, 'largest')}"
        return f"  noise         ~ Uniform({corners}), concentration {self.concentration:g}"


def standardised_box(
    noise: UniformNoise | None, center: NDArray[np.float64], unit: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the corners of a resolved box as (x - center) / unit, (2, D); (0, D) without noise."""
    if noise is None:
        return np.empty((0, unit.size))
    return np.asarray((np.stack(noise.corners) - center) / unit)


def check_noise(noise: Any, n_components: Any, weights: Any, covariance: Any) -> None:
    """Refuse noise of another type, and beside what it does not go with."""
    if noise is None:
        return
    if not isinstance(noise, UniformNoise):
        raise TypeError(
            f"`noise` must be a UniformNoise; got {noise!r} of type {type(noise).__name__}. Write "
            f"noise=bg.UniformNoise()."
        )
    for name, value, known, verb in (
        (names.N_COMPONENTS, n_components, int, "is"),
        (names.WEIGHTS, weights, Dirichlet, "are"),
        ("covariance", covariance, LKJCovariance, "is"),
    ):
        if type(value) is not known:
            noise.refuse(f"where `{name}` {verb} a {type(value).__name__}")
