"""The modes of the density, over the density."""

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.errors import check_integer, check_share
from bayesgmm.modality import density_modes
from bayesgmm.plots.canvas import DARK, colour, fit_texts, halo, marker, new_axes, percent
from bayesgmm.plots.contours import INNER, draw_band, draw_contours, prepare
from bayesgmm.plots.geometry import Array, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_modes(
    tree: xr.DataTree,
    *,
    features: Any = None,
    ax: "Axes | None" = None,
    probability: float = 0.9,
    draws: int = 200,
    max_points: int = 5000,
) -> "Axes":
    """Plot the modes of the density, and how sure it is that there are so many.

    Each small mark is a mode of one draw, with the colour and the marker of the component that
    climbs to it (of several the first); the lines are the density, as `plot_density` draws it.
    The title says how probable each number of modes is.

    Parameters
    ----------
    tree : DataTree
        A fit.
    features : str, int or sequence of them, optional
        Labels of one or two features to draw; by default the first two. Modes are those of the
        density of all features.
    ax : Axes, optional
        Where to draw; by default on a new figure.
    probability : float, default 0.9
        Share of the draws that the band holds, or of the mass within the outer contour.
    draws : int, default 200
        Whose modes are drawn, spread evenly over all chains; all draws are counted.
    max_points : int, default 5000
        Rows drawn as points, a random sample if there are more; the title says so.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit, `ax` no Axes, or `features` not one or two of its features.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> from matplotlib.figure import Figure
    >>> tree = bg.fit(bg.datasets.load_galaxies(), 4, method="map", random_seed=1)
    >>> ax = bg.plot_modes(tree, ax=Figure().subplots())
    >>> ax.get_title()
    '3 modes'
    """
    plane = prepare(tree, features, ax, max_points, "plot_modes")
    probability = check_share(probability, "probability", "0.9 is usual.")
    draws = check_integer(draws, "draws", 1, "Some hundreds are usual.")
    modes = density_modes(tree)
    single = new_axes(7.0, 5.0) if ax is None else ax
    location = modes[names.LOCATION].values[..., plane.positions]
    location = location.reshape(-1, *location.shape[-2:])
    labels = modes[names.LABELS].values.reshape(len(location), -1)
    chosen = spread(len(location), draws)
    if len(plane.positions) == 1:
        curve = draw_band(single, plane, probability).sel({names.STATISTIC: names.PREDICTIVE})
        height = np.interp(location[..., 0], curve[str(plane.labels[0])].values, curve.values)
        places = np.stack([location[..., 0], height], axis=-1)
    else:
        draw_contours(single, plane, [INNER, probability], 0, bold=1.0)
        places = location
    note = _draw_marks(single, places[chosen], labels[chosen])
    counts = np.bincount(modes[names.N_MODES].values.ravel())
    title = "\n".join(filter(None, [_title(counts), plane.note, note]))
    single.set_title(title, fontsize="medium")
    fit_texts([single])
    return single


def _draw_marks(ax: "Axes", places: Array, labels: Array) -> str:
    """Draw the modes of some draws, each once; return what to say of those out of sight."""
    first = np.ones(labels.shape, dtype=bool)
    for k in range(1, labels.shape[1]):
        first[:, k] = (labels[:, :k] != labels[:, k : k + 1]).all(axis=1)
    low, high = np.transpose([ax.get_xlim(), ax.get_ylim()])
    seen = ((places >= low) & (places <= high)).all(axis=-1)
    opacity = float(np.clip(8.0 / np.sqrt(len(places)), 0.3, 1.0))
    for k in range(labels.shape[1]):
        mine = places[first[:, k] & seen[:, k], k]
        if len(mine) > 0:
            ax.scatter(
                mine[:, 0], mine[:, 1], marker=marker(k), s=36.0 if len(places) > 1 else 80.0,
                facecolor=colour(k), edgecolor=DARK, linewidth=0.5, alpha=opacity, zorder=4,
                path_effects=halo(2.0) if len(places) == 1 else None,
            )  # fmt: skip
    ax.set_xlim(low[0], high[0])
    ax.set_ylim(low[1], high[1])
    hidden = int((first & ~seen).sum())
    return f"{hidden} of {int(first.sum())} marks are out of sight" if hidden else ""


def _title(counts: NDArray[np.int64]) -> str:
    """Return how probable each number of modes is."""
    numbers = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)].tolist()
    words = [f"{n} mode{'s' if n > 1 else ''}" for n in numbers]
    if counts.sum() == 1:
        return words[0]
    share = counts / counts.sum()
    said = [f"{word}: {percent(share[n])}" for word, n in zip(words, numbers, strict=True)]
    return ", ".join(said[:4]) + (", ..." if len(said) > 4 else "") + " of the draws"
