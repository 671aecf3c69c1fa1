"""Exceptions, warnings, and the checks that arguments go through before any computing."""

from collections.abc import Collection
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any


class FitError(RuntimeError):
    """A fit that could not be brought to an end that deserves trust.

    Parameters
    ----------
    message : str
        What happened and what to do about it.
    status : str
        One word for programs: ``"degenerate"``, ``"not_converged"``, ``"sampler"``,
        ``"interrupted"`` or ``"changed"``.
    result : object, optional
        What had been reached when the fit stopped, if there is anything.
    """

    def __init__(self, message: str, *, status: str, result: Any = None) -> None:
        super().__init__(message)
        self.status = status
        self.result = result


class ConvergenceWarning(UserWarning):
    """The sampler or the optimiser has not shown that it converged."""


class IdentifiabilityWarning(UserWarning):
    """A quantity that is reported is not identified by model and data."""


class UnitsWarning(UserWarning):
    """Features share a scale, and are measured in units too different for that."""


def got(value: Any) -> str:
    """Return what a user passed as a message says it: on one line, a long one cut, and its type."""
    text = " ".join(repr(value).split())
    return f"{text if len(text) <= 60 else f'{text[:57]}...'} of type {type(value).__name__}"


def check_integer(value: Any, name: str, minimum: int, remedy: str) -> int:
    """Return `value` as an int, refusing anything that is not an integer of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"`{name}` must be an integer; got {got(value)}. {remedy}")
    if value < minimum:
        raise ValueError(f"`{name}` must be at least {minimum}; got {value}. {remedy}")
    return int(value)


def check_positive(value: Any, name: str, remedy: str) -> float:
    """Return `value` as a float, refusing anything that is not a positive finite number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"`{name}` must be a number; got {got(value)}. {remedy}")
    number = float(value)
    if not 0.0 < number < float("inf"):
        raise ValueError(f"`{name}` must be positive and finite; got {value}. {remedy}")
    return number


def check_share(value: Any, name: str, remedy: str) -> float:
    """Return `value` as a float, refusing anything that does not lie between 0 and 1."""
    share = check_positive(value, name, remedy)
    if share >= 1.0:
        raise ValueError(f"`{name}` must lie between 0 and 1; got {value}. {remedy}")
    return share


def check_choice(value: Any, name: str, choices: Collection[str]) -> str:
    """Return `value` if it is one of `choices`; name the nearest choice if it is not."""
    if isinstance(value, str) and value in choices:
        return value
    listed = ", ".join(repr(choice) for choice in choices)
    near = get_close_matches(str(value), list(choices), n=1)
    remedy = f"Did you mean {near[0]!r}?" if near else f"Choose one of {listed}."
    raise ValueError(f"`{name}` must be one of {listed}; got {value!r}. {remedy}")
