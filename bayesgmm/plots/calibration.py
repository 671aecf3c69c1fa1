"""Ranks of simulation-based calibration, against what uniform ones would be."""

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from bayesgmm import names
from bayesgmm.plots.canvas import (
    DARK,
    GREY,
    check_axes,
    colour,
    fit_texts,
    line,
    new_axes,
    require_matplotlib,
)
from bayesgmm.plots.legend import place_legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NEEDED: Final = (names.RANKS, names.P_VALUE, names.ECDF, names.BAND)


def plot_calibration(calibration: xr.Dataset, *, ax: "Axes | None" = None) -> "Axes":
    """Plot how far the ranks of a calibration are from uniform.

    Each curve is the empirical distribution of the ranks of one quantity, less that of uniform
    ranks. All of them stay in the band with probability 95 % if the method is right. Those that
    leave it have a colour and a name: a curve below zero says that draws are too low (the truth
    ranks high among them), one above that they are too high; one that is above first and then
    below that they vary too little, the reverse that they vary too much.

    Parameters
    ----------
    calibration : Dataset
        As `calibrate` returns it.
    ax : Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        If `calibration` is none, or `ax` no Axes.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> from matplotlib.figure import Figure
    >>> prior = {"means": bg.NormalMeans(0.0, 5.0), "covariance": bg.LKJCovariance(scale=1.0)}
    >>> spec = bg.GaussianMixture(1, **prior)
    >>> found = bg.calibrate(spec, "laplace", 20, n_features=1, random_seed=1, progressbar=False)
    >>> ax = bg.plot_calibration(found, ax=Figure().subplots())
    >>> ax.get_title()
    'laplace, 20 simulations: 0 of 5 quantities leave the band'
    """
    require_matplotlib("plot_calibration")
    _check(calibration)
    check_axes(ax, 1)
    single = new_axes(7.0, 4.5) if ax is None else ax
    level = calibration[names.LEVEL].values
    places = np.concatenate([[0.0], level, [1.0]])
    band = np.pad(calibration[names.BAND].values - level[:, None], ((1, 1), (0, 0)))
    curves = np.pad(calibration[names.ECDF].values - level, ((0, 0), (1, 1)))
    single.fill_between(places, *band.T, color="0.9", linewidth=0.0, zorder=0)
    single.plot(places, band, color=GREY, linewidth=0.8, zorder=1)
    single.axhline(0.0, color=DARK, linewidth=0.8, zorder=1)
    outside = ((curves < band[:, 0] - 1e-12) | (curves > band[:, 1] + 1e-12)).any(axis=1)
    p_values = calibration[names.P_VALUE].values
    handles = _draw(single, places, curves, outside, calibration, p_values)
    single.set_xlim(0.0, 1.0)
    single.set_xlabel("rank of the truth among the draws, 0 below all and 1 above all")
    single.set_ylabel("ECDF of ranks less uniform")
    n_ranked = int((calibration[names.N_KEPT].values > 0).sum())
    single.set_title(
        f"{calibration.attrs[names.METHOD]}, {n_ranked} simulations: {outside.sum()} of "
        f"{outside.size} quantities leave the band",
        fontsize="medium",
    )
    fit_texts([single])
    if handles:
        entries = {"handles": handles, "fontsize": "small"}
        place_legend(single, entries, wider=2.0 if ax is None else 0.0)
    return single


def _draw(
    ax: "Axes",
    places: Any,
    curves: Any,
    outside: Any,
    calibration: xr.Dataset,
    p_values: Any,
) -> list[Any]:
    """Draw the curves; return those with a name, the worst first."""
    for curve in curves[~outside]:
        ax.plot(places, curve, color=GREY, linewidth=1.0, zorder=2)
    handles = []
    for number, q in enumerate(np.flatnonzero(outside)[np.argsort(p_values[outside])].tolist()):
        name = calibration[names.QUANTITY].values[q]
        label = f"{name}, p = {p_values[q]:.1g}"
        handles += ax.plot(
            places, curves[q], color=colour(number), linestyle=line(number), linewidth=1.8,
            zorder=3, label=label,
        )  # fmt: skip
    return handles


def _check(calibration: Any) -> None:
    """Refuse what is no calibration."""
    remedy = "Pass what bayesgmm.calibrate returns."
    if not isinstance(calibration, xr.Dataset):
        raise TypeError(
            f"`calibration` must be a Dataset; got {calibration!r} of type "
            f"{type(calibration).__name__}. {remedy}"
        )
    missing = [name for name in NEEDED if name not in calibration]
    if missing:
        raise ValueError(
            f"`calibration` must hold {missing[0]!r}; got a Dataset with "
            f"{list(calibration.data_vars)}. {remedy}"
        )
