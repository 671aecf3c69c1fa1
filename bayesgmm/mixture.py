"""The specification of a mixture: how many components, and the priors of all that is unknown."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesgmm import names
from bayesgmm.background import UniformNoise, check_noise
from bayesgmm.component_prior import PriorOnComponents
from bayesgmm.degrees_of_freedom import GammaDegrees, checked_df, df_lines, df_symbol
from bayesgmm.errors import check_integer, got
from bayesgmm.factor_prior import FactorCovariance
from bayesgmm.moments import column_ranges
from bayesgmm.notation import Line, Textbook
from bayesgmm.overfitted import StickBreaking, weights_from_dict, weights_to_dict
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
class GaussianMixture(Textbook):
    """A Gaussian mixture with its priors.

    Parameters
    ----------
    n_components : int or PriorOnComponents
        Number of components, at least 1; or its prior, if it is to be learnt.
    weights : Dirichlet, SparseDirichlet or StickBreaking, optional
        Prior of the weights; uniform if left out. A `PriorOnComponents` holds its own.
    means : NormalMeans, optional
        Prior of the means; scaled to the data if left out.
    covariance : LKJCovariance or FactorCovariance, optional
        Prior of the covariance matrices, and what they share; scaled to the data, and nothing,
        if left out.
    noise : UniformNoise, optional
        Background that rows may be of in place of a component, by keyword; none if left out.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type, or a number is out of range.

    See Also
    --------
    StudentTMixture : With heavy tails, for data with outliers.

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

    n_components: int | PriorOnComponents
    weights: Dirichlet | StickBreaking = field(default_factory=Dirichlet)
    means: NormalMeans = field(default_factory=NormalMeans)
    covariance: LKJCovariance | FactorCovariance = field(default_factory=LKJCovariance)
    noise: UniformNoise | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.n_components, PriorOnComponents):
            n = check_integer(
                self.n_components, "n_components", 1, "Give the number of components, e.g. 3."
            )
            object.__setattr__(self, "n_components", n)
        for name, kinds, write in (
            ("weights", (Dirichlet, StickBreaking), "Dirichlet(1.0)"),
            ("means", (NormalMeans,), "NormalMeans()"),
            ("covariance", (LKJCovariance, FactorCovariance), "LKJCovariance(structure='full')"),
        ):
            value = getattr(self, name)
            if not isinstance(value, kinds):
                raise TypeError(
                    f"`{name}` must be a {' or a '.join(kind.__name__ for kind in kinds)}; got "
                    f"{got(value)}. Write {name}=bg.{write}."
                )
        check_noise(self.noise, self.n_components, self.weights, self.covariance)
        if isinstance(self.n_components, PriorOnComponents):
            self._refuse_what_cannot_vary()
            return
        if isinstance(self.weights, StickBreaking):
            object.__setattr__(self, "weights", self.weights.cut(n))
            return
        concentration = self.weights.concentration
        if isinstance(concentration, tuple) and len(concentration) != n:
            raise ValueError(
                f"`concentration` must hold one number per component, {n}; got "
                f"{len(concentration)}: {concentration}. Give one number for all."
            )

    def _refuse_what_cannot_vary(self) -> None:
        """Refuse what does not go with a prior on the number of components."""
        if self.weights != Dirichlet():
            raise ValueError(
                f"`weights` must be left out where `n_components` is a PriorOnComponents; got "
                f"{self.weights!r}. Give its own argument `concentration`."
            )
        if self.structure.shared_scales or self.structure.correlations == "shared":
            raise ValueError(
                f"`structure` must share nothing between components where `n_components` is a "
                f"PriorOnComponents; got {self.covariance.structure!r}. Choose 'full', 'diag' or "
                f"'spherical'."
            )

    def refuse_noise(self, where: str) -> None:
        """Refuse background noise where it is not known."""
        if self.noise is not None:
            self.noise.refuse(where)

    @property
    def concentration(self) -> NDArray[np.float64]:
        """Of the Dirichlet prior of all weights, shape (K,); with noise (K + 1,), its own last."""
        of_noise = [] if self.noise is None else [self.noise.concentration]
        return np.append(self.weights.per_component(self.known_number), of_noise)

    @property
    def known_number(self) -> int:
        """The number of components, refused where it has a prior instead."""
        if isinstance(self.n_components, PriorOnComponents):
            raise ValueError(
                f"`n_components` must be an integer here; got {self.n_components!r}. Only bg.fit "
                f"learns the number of components, by method 'nuts'."
            )
        return self.n_components

    @property
    def structure(self) -> Structure:
        """What the components' covariance matrices share."""
        if isinstance(self.covariance, FactorCovariance):
            return self.covariance.sharing
        return STRUCTURES[self.covariance.structure]

    @property
    def resolved(self) -> bool:
        """Whether every hyperparameter is a number."""
        means, covariance = self.means, self.covariance
        numbers: list[Any] = [means.location, means.scale, covariance.scale, covariance.floor]
        if isinstance(covariance, FactorCovariance):
            numbers.append(covariance.loading_scale)
        numbers += [] if self.noise is None else [self.noise.low, self.noise.high]
        return None not in numbers

    def resolve(self, values: ArrayLike, sample_weight: NDArray[np.float64] | None = None) -> Self:
        """Return the specification with every hyperparameter a number, taken from the data.

        Parameters
        ----------
        values : array of float, shape (n_obs, n_features)
            The data, in the user's units; no feature constant. NaN are left out.
        sample_weight : array of float, shape (n_obs,), optional
            How many rows each stands for, above 0.

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
        covariance = self.covariance.resolve(values, sample_weight)
        return self.resolve_to(*column_ranges(values), covariance)

    def resolve_to(
        self,
        low: NDArray[np.float64],
        high: NDArray[np.float64],
        covariance: LKJCovariance | FactorCovariance,
    ) -> Self:
        """Return the specification with numbers from the data's ranges, and a resolved prior."""
        location = resolved(self.means.location, 0.5 * low + 0.5 * high, "means.location")
        scale = resolved(self.means.scale, high - low, "means.scale")
        noise, means = self.noise and self.noise.resolve(low, high), NormalMeans(location, scale)
        return dataclasses.replace(self, means=means, covariance=covariance, noise=noise)

    def to_dict(self) -> dict[str, Any]:
        """Return the specification as nested dictionaries of plain Python values."""
        fields = dataclasses.asdict(self) | {names.WEIGHTS: weights_to_dict(self.weights)}
        return {name: fields[name] for name in fields if name != names.NOISE or fields[name]}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Make the specification that `to_dict` turned into `fields`."""
        n, tails = fields["n_components"], {}
        kind: Any = cls
        covariance = fields["covariance"]
        structured: Any = FactorCovariance if "n_factors" in covariance else LKJCovariance
        if names.DF in fields:
            kind, df = StudentTMixture, fields[names.DF]
            tails = {names.DF: GammaDegrees(**df) if isinstance(df, Mapping) else df}
        made: Self = kind(
            n_components=PriorOnComponents(**n) if isinstance(n, Mapping) else n,
            weights=weights_from_dict(fields["weights"]),
            means=NormalMeans(**fields["means"]),
            covariance=structured(**covariance),
            noise=UniformNoise.from_dict(fields.get(names.NOISE)),
            **tails,
        )
        return made

    def textbook(self) -> tuple[Line, ...]:
        """Return the model as lines of a textbook: priors, then the rows."""
        n = self.n_components
        weights: Textbook = n if isinstance(n, PriorOnComponents) else self.weights
        number = rf",\, K = {n}" if weights is self.weights else ""
        covariances = self.covariance.textbook()
        law = self._law(covariances[-1].left)
        return (
            *weights.textbook(),
            *self.means.textbook(),
            *covariances,
            *self._tails(),
            Line("z_i", r"\operatorname{Categorical}(w)", r"\text{component of row } i"),
            Line(r"x_i \mid z_i = k", law, rf"\text{{row }} i{number}"),
            *(() if self.noise is None else self.noise.textbook()),
        )

    def _law(self, covariance: str) -> str:
        """Return the law of a row of component k, for a textbook."""
        return rf"\operatorname{{Normal}}(\mu_k, {covariance})"

    def _tails(self) -> tuple[Line, ...]:
        """Return what there is to say about tails, for a textbook: nothing."""
        return ()

    def _shown_rows(self) -> list[str]:
        """Return the last lines of what is printed."""
        rows = "  X             ~ sum over components of weight * Normal(mean, covariance)"
        return [rows] if self.noise is None else [self.noise.as_line(), f"{rows} + noise"]

    def __repr__(self) -> str:
        location = shown(self.means.location, "midpoint")
        scale = shown(self.means.scale, "range")
        number, weights = self._shown_weights()
        kind = f"structure {self.covariance.structure!r}"
        if isinstance(self.covariance, FactorCovariance):
            kind = f"factor analysers, {kind}"
        lines = [
            f"{type(self).__name__}: {number}, {kind}",
            f"  weights       ~ {weights}",
            f"  means         ~ Normal(location = {location}, scale = {scale})",
            *self.covariance.lines(),
            *self._shown_rows(),
        ]
        return "\n".join(lines)

    def _shown_weights(self) -> tuple[str, str]:
        """Return how many components there are, and the prior of their weights, in words."""
        n = self.n_components
        if isinstance(n, PriorOnComponents):
            return f"K components, {n}", n.shown_weights
        number = f"{n} component{'s' * (n != 1)}"
        if isinstance(self.weights, StickBreaking):
            return number, str(self.weights)
        name = type(self.weights).__name__
        return number, f"{name}({shown(self.weights.concentration, '')})"


@dataclass(frozen=True, repr=False)
class StudentTMixture(GaussianMixture):
    r"""A mixture of Student's t distributions with its priors: outliers do not move components.

    The tails of a component are the heavier the fewer its degrees of freedom are; with many it is
    Normal. A row far from all components counts for less in their means and scales, where a
    Gaussian mixture has to stretch a component, or spend one, to reach it.

    Parameters
    ----------
    n_components : int
        Number of components, at least 1.
    weights, means : optional
        As of a `GaussianMixture`.
    covariance : LKJCovariance, optional
        Prior of the scale matrices, which have the place of covariance matrices everywhere, under
        the same names: the covariance within a component is ``df / (df - 2)`` times its scale
        matrix if ``df`` is more than 2, and does not exist otherwise.
    df : float, sequence of float or GammaDegrees, optional
        Degrees of freedom, above 0: known, one number for all components or one for each; or their
        prior, by default ``GammaDegrees(2, 0.1)`` for each component.
    noise : None
        Not there beside these tails.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type, or a number is out of range.

    Notes
    -----
    The density of a row of component k, with d features, is

    .. math:: t(x \mid \nu, \mu, \Sigma) = \frac{\Gamma((\nu + d) / 2)}
              {\Gamma(\nu / 2) (\nu \pi)^{d/2} |\Sigma|^{1/2}} \left(1 +
              \frac{(x - \mu)^\top \Sigma^{-1} (x - \mu)}{\nu}\right)^{-(\nu + d)/2}.

    Measurement errors cannot be added to it in closed form, and `fit` refuses them; what else is
    for Normal components alone says so.

    References
    ----------
    Peel & McLachlan (2000), Robust mixture modelling using the t distribution, Statistics and
    Computing 10. doi:10.1023/A:1008981510081

    Liu & Rubin (1995), ML estimation of the t distribution using EM and its extensions, ECM and
    ECME, Statistica Sinica 5.

    Examples
    --------
    >>> StudentTMixture(2, df=4)
    StudentTMixture: 2 components, structure 'full'
      weights       ~ Dirichlet(1)
      means         ~ Normal(location = midpoint, scale = range)
      scales        ~ HalfNormal(scale = standard deviation)
      correlations  ~ LKJ(eta = 2)
      df            = 4
      X             ~ sum over components of weight * t(df, mean, scale matrix)
    """

    df: float | tuple[float, ...] | GammaDegrees = field(default_factory=GammaDegrees)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.n_components, PriorOnComponents):
            raise ValueError(
                f"`n_components` must be an integer for a StudentTMixture; got "
                f"{self.n_components!r}. Only of a GaussianMixture is the number of components "
                f"learnt: compare fits by bg.select."
            )
        if isinstance(self.covariance, FactorCovariance):
            raise ValueError(
                f"`covariance` must be an LKJCovariance for a StudentTMixture; got "
                f"{self.covariance!r}. Factor analysers have Normal noise: use that, or a "
                f"GaussianMixture."
            )
        self.refuse_noise("for a StudentTMixture, whose tails are for outliers")
        object.__setattr__(self, "df", checked_df(self.df, self.n_components))

    def _law(self, covariance: str) -> str:
        return rf"t_{{{df_symbol(self.df)}}}(\mu_k, {covariance})"

    def _tails(self) -> tuple[Line, ...]:
        return df_lines(self.df)

    def textbook(self) -> tuple[Line, ...]:
        """Return the model as lines of a textbook, covariances being scale matrices."""
        matrices = r"\text{scale matrices}"
        return tuple(
            one._replace(about=one.about.replace(r"\text{covariances}", matrices))
            for one in super().textbook()
        )

    def _shown_rows(self) -> list[str]:
        df = f"~ {self.df}" if isinstance(self.df, GammaDegrees) else f"= {shown(self.df, '')}"
        return [
            f"  df            {df}",
            "  X             ~ sum over components of weight * t(df, mean, scale matrix)",
        ]
