"""The prior of covariance matrices of low rank plus a diagonal: mixtures of factor analysers."""

import dataclasses
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from bayesgmm.errors import check_choice, check_integer
from bayesgmm.notation import Line, Textbook, numbers
from bayesgmm.priors import (
    POSITIVE,
    LKJCovariance,
    PerFeature,
    Structure,
    per_feature,
    resolved,
    shown,
)

FACTOR_STRUCTURES: Final[dict[str, Structure]] = {
    "full": Structure(False, False, "factors"),
    "tied": Structure(True, False, "factors"),
    "spherical": Structure(False, True, "factors"),
}
_SCALES: Final = {"full": "diag", "tied": "tied_diag", "spherical": "spherical"}
"""Structures of `LKJCovariance` whose scales are shared as these noise scales are."""


@dataclass(frozen=True)
class FactorCovariance(Textbook):
    r"""Prior of covariance matrices of low rank plus a diagonal.

    Every component is a factor analyser: a row is its mean, a few factors that all features share,
    and noise of each feature's own,

    .. math:: x = \mu_k + W_k z + \psi_k \epsilon, \qquad
              \Sigma_k = W_k W_k^\top + \operatorname{diag}(\psi_k)^2,

    z and epsilon standard Normal, W of shape (n_features, n_factors): D (q + 1) numbers in place
    of D (D + 1) / 2, and passes over the data that are linear in D. For dozens to hundreds of
    features, and to see in which directions a component extends (`project`).

    Parameters
    ----------
    n_factors : int
        q, at least 1. No more than the covariances can tell: (D - q)^2 >= D + q.
    scale : float, sequence of float or None
        Scale parameter of the half-normal prior of the noise scales psi (standard deviations), in
        the data's units; one number or one per feature. None: the feature's standard deviation.
    loading_scale : float, sequence of float or None
        Standard deviation of the loadings, independent Normals about 0, in the data's units; one
        number or one per feature. None: the feature's standard deviation / sqrt(n_factors), so that
        factors and noise explain as much of a feature, whatever their number.
    structure : str, default "full"
        What noise scales share; loadings are every component's own. ``"full"`` nothing; ``"tied"``
        all components have the same; ``"spherical"`` all features of a component have (mixtures of
        probabilistic principal components, Tipping & Bishop 1999).
    floor : float, sequence of float or None
        Smallest noise scale, in the data's units, as in `LKJCovariance`.

    Raises
    ------
    TypeError, ValueError
        If a number is not positive and finite, or `structure` is unknown.

    Notes
    -----
    Loadings are known up to a rotation. The prior is the same for all of them, so that neither the
    order of the features nor that of the factors matters, and the sampler moves in coordinates of
    which there is one for every covariance: a triangle, its entries Normal and chi (Leung & Drton
    2016). Reported loadings are rotated to agree: see ``loadings`` in the schema of a fit.

    Missing cells, and measurement errors of known standard deviations, are integrated out: O(D q^2)
    operations for such a row and component, O(D q) for a whole one.

    References
    ----------
    Ghahramani & Hinton (1997), The EM algorithm for mixtures of factor analyzers, Technical Report
    CRG-TR-96-1, University of Toronto.

    Tipping & Bishop (1999), Mixtures of probabilistic principal component analyzers, Neural
    Computation 11. doi:10.1162/089976699300016728

    McLachlan & Peel (2000), Finite mixture models. doi:10.1002/0471721182

    Leung & Drton (2016), Order-invariant prior specification in Bayesian factor analysis,
    Statistics & Probability Letters 111. doi:10.1016/j.spl.2016.01.006

    Examples
    --------
    >>> FactorCovariance(2)
    FactorCovariance(n_factors=2, scale=None, loading_scale=None, structure='full', floor=None)
    """

    n_factors: int
    scale: PerFeature = None
    loading_scale: PerFeature = None
    structure: str = "full"
    floor: PerFeature = None

    def __post_init__(self) -> None:
        q = check_integer(self.n_factors, "n_factors", 1, "1 to 5 are usual.")
        object.__setattr__(self, "n_factors", q)
        check_choice(self.structure, "structure", FACTOR_STRUCTURES)
        remedy = "Leave it None to take it from the data."
        loadings = per_feature(self.loading_scale, "loading_scale", remedy, lowest=POSITIVE)
        object.__setattr__(self, "loading_scale", loadings)
        noise = LKJCovariance(
            scale=self.scale, floor=self.floor, structure=_SCALES[self.structure]
        )  # fmt: skip
        object.__setattr__(self, "scale", noise.scale)
        object.__setattr__(self, "floor", noise.floor)

    @property
    def sharing(self) -> Structure:
        """What noise scales share."""
        return FACTOR_STRUCTURES[self.structure]

    def resolve(
        self, values: NDArray[np.float64], sample_weight: NDArray[np.float64] | None = None
    ) -> Self:
        """Return the prior with numbers from the data, shape (n_obs, n_features)."""
        noise = LKJCovariance(scale=self.scale, floor=self.floor, structure=_SCALES[self.structure])
        spread = LKJCovariance(structure="diag").resolve(values, sample_weight).scale
        noise = noise.resolve(values, sample_weight)
        default = np.asarray(spread) / np.sqrt(self.n_factors)
        loadings = resolved(self.loading_scale, default, "covariance.loading_scale")
        return dataclasses.replace(
            self, scale=noise.scale, floor=noise.floor, loading_scale=loadings
        )

    def check_features(self, n_features: int) -> None:
        """Refuse more factors than the covariances of so many features can tell."""
        d, q = n_features, self.n_factors
        if q < d and (d - q) ** 2 >= d + q:
            return
        most = int(np.floor(0.5 * (2 * d + 1 - np.sqrt(8 * d + 1))))
        remedy = f"Give at most {most}, or " if most > 0 else "Use "
        raise ValueError(
            f"`n_factors` must satisfy (D - n_factors)^2 >= D + n_factors for D = {d} features, or "
            f"loadings and noise have more free numbers than a covariance matrix; got {q}. "
            f"{remedy}LKJCovariance()."
        )

    def textbook(self) -> tuple[Line, ...]:
        """Return the prior of the covariances as lines of a textbook."""
        k = "" if self.sharing.shared_scales else "k"
        d = "" if self.sharing.common_scale else "d"
        noise = rf"\psi_{{{k}{d}}}"
        about = rf"\text{{noise scales, }} \tau = {numbers(self.scale, 'standard deviation')}"
        if self.floor is not None and np.any(np.asarray(self.floor) > 0):
            about += rf",\, {noise} \ge {numbers(self.floor, '')}"
        tau = r"\tau_d" if d else r"\tau"
        own = rf"\psi_{k}" if k else r"\psi"
        spread = numbers(self.loading_scale, "standard deviation / root of q")
        about_loadings = rf"\text{{loadings, }} q = {self.n_factors},\, \lambda = {spread}"
        added = rf"{noise}^2 I" if not d else rf"\operatorname{{diag}}({own})^2"
        return (
            Line(noise, rf"\operatorname{{HalfNormal}}({tau})", about),
            Line(r"W_{kdj}", r"\operatorname{Normal}(0, \lambda_d^2)", about_loadings),
            Line(r"\Sigma_k", rf"W_k W_k^T + {added}", r"\text{covariances}", "="),
        )

    def lines(self) -> list[str]:
        """Return the prior of the covariances as lines of a printed specification."""
        floor = self.floor
        truncated = floor is not None and np.any(np.asarray(floor, dtype=float) > 0)
        tau = shown(self.scale, "standard deviation")
        noise = f"HalfNormal(scale = {tau}{f', floor = {shown(floor, "")}' if truncated else ''})"
        shared = {"full": "", "tied": "all components", "spherical": "all features"}[self.structure]
        spread = shown(self.loading_scale, "standard deviation / sqrt(n_factors)")
        factors = f"{self.n_factors} factor{'s' * (self.n_factors != 1)}"
        return [
            f"  noise_scales  ~ {noise}{f', shared by {shared}' if shared else ''}",
            f"  loadings      ~ Normal(0, scale = {spread}), {factors}",
        ]
