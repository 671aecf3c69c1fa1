"""Probabilities of classes, against the share of them that is true."""

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from bayesgmm import names
from bayesgmm.plots.canvas import (
    COLOURS,
    DARK,
    GREY,
    check_axes,
    fit_texts,
    new_axes,
    require_matplotlib,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NEEDED: Final = (names.SHARE, names.BAND, names.COUNTS, names.P_VALUE)
BINS: Final = 25
"""Of the small histogram of probabilities."""
TALLEST: Final = 0.12
"""Of its bars, as a share of the plot."""


def plot_reliability(reliability: xr.Dataset, *, ax: "Axes | None" = None) -> "Axes":
    """Plot whether probabilities of classes are right.

    Where they are, the line stays near the diagonal, within the band, which holds it at each place
    in 90 % of what could have happened. A line below says that a class was rarer than was said:
    too sure where that is at large probabilities and the line above at small ones. Bars at the
    bottom count statements, on a scale of square roots, for most are near 0 and 1.

    Parameters
    ----------
    reliability : Dataset
        As `bayesgmm.reliability` returns it.
    ax : Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        If `reliability` is none, or `ax` no Axes.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> from matplotlib.figure import Figure
    >>> iris = bg.datasets.load_iris()
    >>> X, y = iris.drop(columns="species"), iris["species"]
    >>> fitted = bg.MixtureClassifier().fit(X[::2], y[::2], method="map", random_seed=1)
    >>> found = bg.reliability(fitted.predict_proba(X[1::2]), y[1::2], random_seed=1)
    >>> ax = bg.plot_reliability(found, ax=Figure().subplots())
    >>> ax.get_xlabel()
    'probability given'
    """
    require_matplotlib("plot_reliability")
    _check(reliability)
    check_axes(ax, 1)
    single = new_axes(5.0, 4.8) if ax is None else ax
    level, counts = reliability[names.LEVEL].values, reliability[names.COUNTS].values
    band = reliability[names.BAND].transpose(names.LEVEL, names.CI_BOUND).values
    edges = np.linspace(0.0, 1.0, BINS + 1)
    height = np.sqrt(np.histogram(level, edges, weights=counts)[0])
    single.bar(edges[:-1], TALLEST * height / height.max(), 1.0 / BINS, align="edge", color="0.75",
               edgecolor="white", linewidth=0.5, zorder=0)  # fmt: skip
    single.fill_between(level, *band.T, color="0.9", linewidth=0.0, zorder=1)
    single.plot(level, band, color=GREY, linewidth=0.8, zorder=2)
    single.plot([0.0, 1.0], [0.0, 1.0], color=DARK, linewidth=0.8, zorder=2)
    single.plot(level, reliability[names.SHARE].values, color=COLOURS[0], linewidth=2.0, zorder=3)
    single.set(xlim=(0.0, 1.0), ylim=(0.0, 1.0))
    single.set_xlabel("probability given")
    single.set_ylabel("share that is true")
    p = reliability[names.P_VALUE].item()
    single.set_title(
        f"{reliability.attrs[names.N_ROWS]:,} rows, {counts.sum():,} probabilities, "
        f"p = {p:.1g} if they are right",
        fontsize="medium",
    )
    fit_texts([single])
    return single


def _check(reliability: Any) -> None:
    """Refuse what `reliability` did not make."""
    remedy = "Pass what bayesgmm.reliability returns."
    if not isinstance(reliability, xr.Dataset):
        raise TypeError(
            f"`reliability` must be a Dataset; got {reliability!r} of type "
            f"{type(reliability).__name__}. {remedy}"
        )
    missing = [name for name in NEEDED if name not in reliability]
    if missing:
        raise ValueError(
            f"`reliability` must hold {missing[0]!r}; got a Dataset with "
            f"{list(reliability.data_vars)}. {remedy}"
        )
