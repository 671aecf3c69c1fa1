"""Priors of the weights of more components than there are clusters."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from bayesgmm.errors import check_integer, check_positive
from bayesgmm.notation import Line, Textbook
from bayesgmm.priors import Dirichlet

type Array = NDArray[np.float64]

KIND: Final = "prior"
"""The key of the name of a prior of the weights that is no plain Dirichlet."""
SMALLEST: Final = 1e-10
"""Of the concentrations of a Dirichlet that stands for a stick."""


@dataclass(frozen=True)
class Gamma:
    """A Gamma distribution, of a concentration that is to be learnt.

    Parameters
    ----------
    shape : float
        Positive.
    rate : float
        Positive; the mean is ``shape / rate``.

    Raises
    ------
    TypeError, ValueError
        If a number is not positive and finite.

    Examples
    --------
    >>> Gamma(2, 4)
    Gamma(shape=2.0, rate=4.0)
    """

    shape: float
    rate: float

    def __post_init__(self) -> None:
        for name in ("shape", "rate"):
            number = check_positive(getattr(self, name), name, "The mean is shape / rate.")
            object.__setattr__(self, name, number)

    def __str__(self) -> str:
        return f"Gamma({self.shape:g}, {self.rate:g})"


@dataclass(frozen=True)
class SparseDirichlet(Dirichlet):
    r"""Prior of the weights of an overfitted mixture, which leaves components empty.

    A Dirichlet whose concentration is so small that a component without rows is worth having:
    take more components than there can be clusters, and count those that hold rows
    (`n_clusters`; `prior_clusters` says what the prior expects).

    Parameters
    ----------
    concentration : float, default 0.01
        Positive, one number for all components. If it is less than half the number of parameters
        of a component, components that are not needed empty as rows become many (Rousseau &
        Mengersen 2011); for that to be seen with some hundred rows it has to be much smaller.

    Raises
    ------
    TypeError, ValueError
        If the concentration is not a positive finite number.

    See Also
    --------
    StickBreaking : A Dirichlet process.
    PriorOnComponents : The number of components itself learnt.

    Notes
    -----
    The density is that of ``Dirichlet(concentration)``. What differs is how `fit` draws from the
    posterior by ``method="nuts"``: which components are empty is a choice, so rows are allocated
    to components, and clusters split and merged, rather than weights moved along gradients
    (attribute ``method`` of the tree: ``"gibbs"``).

    Logarithms of weights are what is drawn. A weight of less than 1e-308 is stored as 0.

    References
    ----------
    Malsiner-Walli, Fruehwirth-Schnatter & Gruen (2016), Model-based clustering based on sparse
    finite Gaussian mixtures, Statistics and Computing 26. doi:10.1007/s11222-014-9500-2

    Rousseau & Mengersen (2011), Asymptotic behaviour of the posterior distribution in overfitted
    mixture models, J. Royal Statistical Society B 73. doi:10.1111/j.1467-9868.2011.00781.x

    Examples
    --------
    >>> from bayesgmm import GaussianMixture
    >>> GaussianMixture(10, weights=SparseDirichlet(0.01)).weights
    SparseDirichlet(concentration=0.01)
    """

    concentration: float = 0.01

    def __post_init__(self) -> None:
        number = check_positive(
            self.concentration,
            "concentration",
            "Give one small number, e.g. 0.01; Dirichlet takes one for each component.",
        )
        object.__setattr__(self, "concentration", number)


@dataclass(frozen=True)
class StickBreaking(Textbook):
    r"""Prior of the weights of a Dirichlet process, cut off after some components.

    Weights are broken off a stick of length 1, one after another, for k < T:

    .. math:: v_k \sim \mathrm{Beta}(1, \alpha), \quad w_k = v_k \prod_{l < k} (1 - v_l), \quad
              w_T = \prod_{l < T} (1 - v_l).

    Parameters
    ----------
    concentration : float or Gamma, default Gamma(2, 4)
        Alpha: a positive number, or the Gamma distribution from which it is learnt (by default
        that of Escobar & West 1995). The larger, the more clusters: about
        ``alpha * log(1 + n / alpha)`` of n rows.
    truncation : int, optional
        T, at least 2; by default, and necessarily, the number of components of the mixture.

    Raises
    ------
    TypeError, ValueError
        If the concentration is neither a positive finite number nor a Gamma, or `truncation` is
        no integer of at least 2.

    See Also
    --------
    prior_clusters : What it says about the number of clusters.

    Notes
    -----
    On the unconstrained scale of the weights alpha is integrated out, in closed form; it is in the
    tree as ``concentration`` where rows are allocated (``method="nuts"``). Pieces of the stick are
    not alike a priori, but clusters move freely between them, and components are named by their
    rows.

    References
    ----------
    Ishwaran & James (2001), Gibbs sampling methods for stick-breaking priors, J. American
    Statistical Association 96. doi:10.1198/016214501750332758

    Escobar & West (1995), Bayesian density estimation and inference using mixtures, J. American
    Statistical Association 90. doi:10.1080/01621459.1995.10476550

    Examples
    --------
    >>> prior = StickBreaking(1.0, truncation=20)
    >>> prior.truncation_error(100) < 1e-3
    True
    """

    concentration: float | Gamma = field(default_factory=lambda: Gamma(2.0, 4.0))
    truncation: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.concentration, Gamma):
            number = check_positive(
                self.concentration, "concentration", "Give a number, or bg.Gamma(shape, rate)."
            )
            object.__setattr__(self, "concentration", number)
        if self.truncation is not None:
            number = check_integer(self.truncation, "truncation", 2, "20 is usual.")
            object.__setattr__(self, "truncation", number)

    def cut(self, n_components: int) -> Self:
        """Return the prior of a mixture, cut off after as many components as that has."""
        if self.truncation not in (None, n_components):
            raise ValueError(
                f"`truncation` must be the number of components, {n_components}; got "
                f"{self.truncation}. Leave it out."
            )
        check_integer(n_components, "n_components", 2, "A stick is broken at least once.")
        return replace(self, truncation=n_components)

    @property
    def exchangeable(self) -> bool:
        """Whether the prior treats all components alike: it does not."""
        return False

    @property
    def naming(self) -> bool:
        """Whether the prior gives components their names: places on a stick are none."""
        return False

    @property
    def known_truncation(self) -> int:
        """The number of components, refused where it is not known."""
        if self.truncation is None:
            raise ValueError(
                "`truncation` must be known here; got None. Give it, or take the weights of a "
                "GaussianMixture."
            )
        return self.truncation

    def per_component(self, n_components: int) -> Array:
        """Return concentrations, shape (n_components,), of a Dirichlet somewhat like it."""
        alpha = self.concentration
        mean = alpha.shape / alpha.rate if isinstance(alpha, Gamma) else alpha
        shares = mean * np.power(mean / (1.0 + mean), np.arange(float(n_components)))
        return np.asarray(np.maximum(shares, SMALLEST))

    def draw(self, n_components: int, n_draws: int, rng: np.random.Generator) -> Array:
        """Return weights drawn from the prior, shape (n_draws, n_components)."""
        alpha: float | Array
        if isinstance(self.concentration, Gamma):
            alpha = rng.gamma(self.concentration.shape, 1.0 / self.concentration.rate, (n_draws, 1))
        else:
            alpha = self.concentration
        log_left = -rng.exponential(size=(n_draws, n_components - 1)) / alpha  # log(1 - v)
        before = np.exp(np.pad(log_left.cumsum(axis=1), ((0, 0), (1, 0))))
        broken = np.pad(-np.expm1(log_left), ((0, 0), (0, 1)), constant_values=1.0)
        return np.asarray(broken * before)

    def textbook(self) -> tuple[Line, ...]:
        """Return the prior of the weights as lines of a textbook."""
        alpha, lines = self.concentration, []
        if isinstance(alpha, Gamma):
            law = rf"\operatorname{{Gamma}}({alpha.shape:g}, {alpha.rate:g})"
            lines = [Line(r"\alpha", law, r"\text{concentration}")]
        of_piece = r"\alpha" if lines else f"{alpha:g}"
        last = "" if self.truncation is None else rf",\, v_{{{self.truncation}}} = 1"
        piece = Line("v_k", rf"\operatorname{{Beta}}(1, {of_piece})", rf"\text{{pieces}}{last}")
        whole = r"v_k (1 - v_{k - 1}) \ldots (1 - v_1)"
        return (*lines, piece, Line("w_k", whole, r"\text{weights}", "="))

    def truncation_error(self, n_obs: int) -> float:
        r"""Return how far rows may be from those of the Dirichlet process that is not cut off.

        Parameters
        ----------
        n_obs : int
            Rows, n.

        Returns
        -------
        float
            The prior probability that one of them, at least, lies beyond the first T - 1 pieces:

            .. math:: 1 - E[(1 - w_T)^n] \approx n E[w_T].

            The total variation distance between the laws of n rows with and without the cut is no
            larger.
        """
        n_obs = check_integer(n_obs, "n_obs", 1, "Give the number of rows.")
        broken, alpha = self.known_truncation - 1, self.concentration
        log_left, step = np.linspace(-30.0, 30.0, 12_001, retstep=True)  # of g = -log w_T
        left = np.exp(log_left)
        if isinstance(alpha, Gamma):
            log_density = broken * (log_left - math.log(alpha.rate))
            log_density -= (alpha.shape + broken) * np.log1p(left / alpha.rate)
            log_density += math.lgamma(alpha.shape + broken) - math.lgamma(alpha.shape)
        else:
            log_density = broken * (log_left + math.log(alpha)) - alpha * left
        log_density -= math.lgamma(broken)
        beyond = -np.expm1(n_obs * np.log1p(-np.exp(-left)))
        return float(step * (np.exp(log_density) * beyond).sum())

    def __str__(self) -> str:
        alpha = self.concentration
        learnt = isinstance(alpha, Gamma)
        cut = f", cut off after {self.truncation}" if self.truncation is not None else ""
        return f"StickBreaking({'alpha' if learnt else f'{alpha:g}'}{cut})" + (
            f", alpha ~ {alpha}" if learnt else ""
        )


def weights_to_dict(prior: Dirichlet | StickBreaking) -> dict[str, Any]:
    """Return a prior of the weights as nested dictionaries, with its name if need be."""
    fields = asdict(prior)
    return fields if type(prior) is Dirichlet else {KIND: type(prior).__name__} | fields


def weights_from_dict(fields: Mapping[str, Any]) -> Dirichlet | StickBreaking:
    """Make the prior of the weights that `weights_to_dict` turned into `fields`."""
    given = dict(fields)
    kind = given.pop(KIND, Dirichlet.__name__)
    if isinstance(given["concentration"], Mapping):
        given["concentration"] = Gamma(**given["concentration"])
    kinds = {one.__name__: one for one in (Dirichlet, SparseDirichlet, StickBreaking)}
    prior: Dirichlet | StickBreaking = kinds[kind](**given)
    return prior
