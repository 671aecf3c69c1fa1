"""The prior of a mixture whose number of components is not known."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesgmm.errors import check_choice, check_integer, check_positive
from bayesgmm.notation import Line, Textbook

type Array = NDArray[np.float64]

LARGEST: Final = 200
"""Most components that any prior allows."""


class Family(NamedTuple):
    """Distributions of the number of components K.

    Parameters
    ----------
    parameters : dict of str to float
        Their names, and values from the literature.
    log_weights : callable
        Of K - 1, shape (n,), and the parameters: log probabilities up to a constant.
    """

    parameters: dict[str, float]
    log_weights: Callable[..., Array]


def _log_gamma(values: Array) -> Array:
    return np.array([math.lgamma(value) for value in values])


def _beta_negative_binomial(extra: Array, shape: float, a: float, b: float) -> Array:
    ratio = _log_gamma(extra + b) - _log_gamma(extra + shape + a + b)  # of the beta function
    return _log_gamma(extra + shape) - _log_gamma(extra + 1.0) + ratio


FAMILIES: Final = {
    "beta_negative_binomial": Family({"shape": 1.0, "a": 4.0, "b": 3.0}, _beta_negative_binomial),
    "poisson": Family({"rate": 1.0}, lambda n, rate: n * np.log(rate) - _log_gamma(n + 1.0)),
    "geometric": Family({"p": 0.1}, lambda n, p: n * np.log1p(-p)),
    "uniform": Family({"largest": 30}, lambda n, largest: np.where(n < largest, 0.0, -np.inf)),
}


@dataclass(frozen=True)
class PriorOnComponents(Textbook):
    r"""Prior of the number of components K, and of the weights given K.

    Take it for `n_components` of a `GaussianMixture`. The weights are Dirichlet, the same for all
    components. Components that no row was drawn from exist too: the number of clusters, which are
    components with rows, is smaller than K, and it is what data tell about.

    Parameters
    ----------
    family : str, default "beta_negative_binomial"
        Of K: ``"beta_negative_binomial"``, ``"poisson"`` or ``"geometric"`` of K - 1, or
        ``"uniform"`` of K.
    parameters : float or sequence of float, optional
        Of the family. Beta-negative-binomial: (shape, a, b), a priori

        .. math:: p(K) \propto \frac{\Gamma(\text{shape} + K - 1)}{\Gamma(K)}
                  B(\text{shape} + a, K - 1 + b),

        by default (1, 4, 3), for which the mean of K is 2 (Fruehwirth-Schnatter et al. 2021).
        Poisson: the mean of K - 1, by default 1 (Nobile 2005). Geometric: the probability p of
        p (1 - p)^(K - 1), by default 0.1 (Miller & Harrison 2018). Uniform: the largest K, by
        default 30 (Richardson & Green 1997).
    concentration : float or (float, float), default (6.0, 3.0)
        A number is fixed; a pair holds the degrees of freedom of an F distribution, from which
        the concentration is learnt.
    dynamic : bool, default True
        Whether the weights are Dirichlet(concentration / K), so that more components leave more
        of them empty, rather than Dirichlet(concentration).

    Raises
    ------
    TypeError, ValueError
        If the family is unknown, or a number is out of range.

    Notes
    -----
    K is 200 at most: the prior is cut there, where the default has a tail of 1e-7.

    References
    ----------
    Fruehwirth-Schnatter, Malsiner-Walli & Gruen (2021), Generalized mixtures of finite mixtures
    and telescoping sampling, Bayesian Analysis 16. doi:10.1214/21-BA1294

    Miller & Harrison (2018), Mixture models with a prior on the number of components, J. American
    Statistical Association 113. doi:10.1080/01621459.2016.1255636

    Nobile (2005), Bayesian finite mixtures: a note on prior specification and posterior
    computation. arXiv:0711.0458

    Richardson & Green (1997), On Bayesian analysis of mixtures with an unknown number of
    components, J. Royal Statistical Society B 59. doi:10.1111/1467-9868.00095

    Examples
    --------
    >>> prior = PriorOnComponents("poisson", 2.0, concentration=1.0, dynamic=False)
    >>> prior
    PriorOnComponents(family='poisson', parameters=(2.0,), concentration=1.0, dynamic=False)
    >>> prior.probabilities()[:3].round(3)
    array([0.135, 0.271, 0.271])
    """

    family: str = "beta_negative_binomial"
    parameters: float | tuple[float, ...] | None = None
    concentration: float | tuple[float, float] = (6.0, 3.0)
    dynamic: bool = True

    def __post_init__(self) -> None:
        check_choice(self.family, "family", FAMILIES)
        object.__setattr__(self, "parameters", self._checked_parameters())
        object.__setattr__(self, "concentration", _checked_concentration(self.concentration))
        if not isinstance(self.dynamic, bool):
            raise TypeError(
                f"`dynamic` must be True or False; got {self.dynamic!r} of type "
                f"{type(self.dynamic).__name__}. True divides the concentration by K."
            )

    def _checked_parameters(self) -> tuple[float, ...]:
        """Return the parameters of the family as a tuple of numbers."""
        due = FAMILIES[self.family].parameters
        given = tuple(due.values()) if self.parameters is None else _listed(self.parameters)
        example = f"Its defaults are {tuple(due.values())}."
        if len(given) != len(due):
            raise ValueError(
                f"`parameters` must hold {', '.join(due)} for the family {self.family!r}; got "
                f"{len(given)}: {self.parameters!r}. {example}"
            )
        if self.family == "uniform":
            largest = check_integer(given[0], "parameters", 1, "Give the largest number, e.g. 30.")
            if largest > LARGEST:
                raise ValueError(
                    f"`parameters` must be at most {LARGEST} for the family 'uniform'; got "
                    f"{largest}. Give a smaller largest number of components, e.g. 30."
                )
            return (largest,)
        numbers = tuple(check_positive(value, "parameters", example) for value in given)
        if self.family == "geometric" and numbers[0] >= 1.0:
            raise ValueError(
                f"`parameters` must be less than 1 for the family 'geometric'; got {numbers[0]}. "
                f"{example}"
            )
        return numbers

    def log_probabilities(self) -> Array:
        """Return the logarithms of the prior probabilities of K = 1, 2, ..., shape (largest,)."""
        numbers = np.atleast_1d(np.asarray(self.parameters, dtype=float))
        n = int(numbers[0]) if self.family == "uniform" else LARGEST
        weights = FAMILIES[self.family].log_weights(np.arange(n, dtype=float), *numbers)
        weights = weights - weights.max()
        return np.asarray(weights - np.log(np.exp(weights).sum()))

    def probabilities(self) -> Array:
        """Return the prior probabilities of K = 1, 2, ..., shape (largest,)."""
        return np.exp(self.log_probabilities())

    def draw(
        self, n_draws: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], Array, Array]:
        """Draw from the prior.

        Parameters
        ----------
        n_draws : int
        rng : numpy.random.Generator

        Returns
        -------
        numbers : array of int, shape (n_draws,)
            Of components.
        concentration : array, shape (n_draws,)
            Of all components together if it is dynamic, else of each.
        weights : array, shape (n_draws, largest number)
            0 where there is no component.
        """
        probabilities = self.probabilities()
        p = probabilities / probabilities.sum()
        numbers = 1 + rng.choice(p.size, size=n_draws, p=p)
        if isinstance(self.concentration, tuple):
            concentration = rng.f(*self.concentration, size=n_draws)
        else:
            concentration = np.full(n_draws, self.concentration)
        weights = np.zeros((n_draws, numbers.max()))
        for row, k, total in zip(weights, numbers, concentration, strict=True):
            row[:k] = rng.dirichlet(np.full(k, total / k if self.dynamic else total))
        return numbers, concentration, weights

    def __str__(self) -> str:
        what, family, numbers = self._law()
        return f"{what} ~ {family}({numbers})"

    def _law(self) -> tuple[str, str, str]:
        """Return what has a distribution, its name and its parameters."""
        numbers = ", ".join(f"{value:g}" for value in _listed(self.parameters))
        shift = "" if self.family == "uniform" else " - 1"
        return f"K{shift}", self.family.replace("_", " ").title().replace(" ", ""), numbers

    def textbook(self) -> tuple[Line, ...]:
        """Return the priors of the number of components and of the weights, as in a textbook."""
        what, family, numbers = self._law()
        law = rf"\operatorname{{{family}}}({numbers})"
        lines = [Line(what, law, r"\text{number of components}")]
        each = r"\alpha"
        if isinstance(self.concentration, tuple):
            a, b = self.concentration
            lines.append(Line(each, rf"\operatorname{{F}}({a:g}, {b:g})", r"\text{concentration}"))
        else:
            each = f"{self.concentration:g}"
        each += " / K" if self.dynamic else ""
        law = rf"\operatorname{{Dirichlet}}({each}, \ldots, {each})"
        return (*lines, Line(r"w \mid K", law, r"\text{weights}"))

    @property
    def shown_weights(self) -> str:
        """The prior of the weights as it is printed."""
        share = " / K" if self.dynamic else ""
        if isinstance(self.concentration, tuple):
            a, b = self.concentration
            return f"Dirichlet(concentration{share}), concentration ~ F({a:g}, {b:g})"
        return f"Dirichlet({self.concentration:g}{share})"


def _listed(value: Any) -> tuple[Any, ...]:
    """Return one thing or several as a tuple."""
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)


def _checked_concentration(value: Any) -> float | tuple[float, float]:
    """Return a positive number, or two of them."""
    remedy = "Give a number, or the two degrees of freedom of an F distribution, e.g. (6, 3)."
    numbers = tuple(check_positive(one, "concentration", remedy) for one in _listed(value))
    if len(numbers) == 2:
        return numbers
    if len(numbers) != 1 or isinstance(value, Sequence):
        raise ValueError(
            f"`concentration` must be a number or a pair of them; got {value!r}. {remedy}"
        )
    return numbers[0]
