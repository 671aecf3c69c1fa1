"""How heavy the tails of components are: degrees of freedom that are known, or their prior."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bayesgmm.errors import check_positive
from bayesgmm.notation import Line, Textbook, numbers

type Degrees = float | Sequence[float] | GammaDegrees
"""One number for all components, one for each, or a prior."""


@dataclass(frozen=True)
class GammaDegrees(Textbook):
    """Prior of the degrees of freedom of Student-t components: a Gamma distribution.

    Parameters
    ----------
    shape : float, default 2.0
        Positive.
    rate : float, default 0.1
        Positive; the mean is ``shape / rate``.
    shared : bool, default False
        Whether all components have the same degrees of freedom.

    Raises
    ------
    TypeError, ValueError
        If a number is not positive and finite, or `shared` is not True or False.

    Notes
    -----
    Data say little about large degrees of freedom, where a t is as good as Normal, and a flat
    prior has no proper posterior. The default (Juarez & Steel 2010) has its mode at 10 and 90 %
    of its mass between 3.6 and 47.

    References
    ----------
    Juarez & Steel (2010), Model-based clustering of non-Gaussian panel data based on skew-t
    distributions, J. Business & Economic Statistics 28. doi:10.1198/jbes.2009.07145

    Examples
    --------
    >>> GammaDegrees(shared=True)
    GammaDegrees(shape=2.0, rate=0.1, shared=True)
    """

    shape: float = 2.0
    rate: float = 0.1
    shared: bool = False

    def __post_init__(self) -> None:
        for name in ("shape", "rate"):
            number = check_positive(getattr(self, name), name, "The mean is shape / rate.")
            object.__setattr__(self, name, number)
        if not isinstance(self.shared, bool):
            raise TypeError(
                f"`shared` must be True or False; got {self.shared!r} of type "
                f"{type(self.shared).__name__}. True gives all components the same."
            )

    def __str__(self) -> str:
        return f"Gamma({self.shape:g}, {self.rate:g}){', shared by all components' * self.shared}"

    def textbook(self) -> tuple[Line, ...]:
        """Return the prior of the degrees of freedom as a line of a textbook."""
        law = rf"\operatorname{{Gamma}}({self.shape:g}, {self.rate:g})"
        return (Line(df_symbol(self), law, r"\text{degrees of freedom}"),)


def df_symbol(df: Degrees) -> str:
    """Return what degrees of freedom are called in a textbook."""
    own = not df.shared if isinstance(df, GammaDegrees) else isinstance(df, tuple)
    return r"\nu_k" if own else r"\nu"


def df_lines(df: Degrees) -> tuple[Line, ...]:
    """Return degrees of freedom, known or not, as lines of a textbook."""
    if isinstance(df, GammaDegrees):
        return df.textbook()
    return (Line(df_symbol(df), numbers(df, ""), r"\text{degrees of freedom}", "="),)


def checked_df(df: Any, n_components: int) -> float | tuple[float, ...] | GammaDegrees:
    """Return degrees of freedom as numbers above 0, one or as many as components, or a prior."""
    remedy = "Give a number such as 4.0, one for each component, or bg.GammaDegrees()."
    if isinstance(df, GammaDegrees):
        return df
    if isinstance(df, str) or not hasattr(df, "__len__") or getattr(df, "ndim", 1) == 0:
        return check_positive(df, "df", remedy)
    values = tuple(check_positive(value, f"df[{k}]", remedy) for k, value in enumerate(df))
    if len(values) != n_components:
        raise ValueError(
            f"`df` must hold one number per component, {n_components}; got {len(values)}: "
            f"{values}. Give one number for all."
        )
    return values
