"""What plots are drawn on and with: checks of ``ax``, figures, palette, axis labels."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS: Final = (
    "#004488", "#ddaa33", "#bb5566", "#44aa99", "#882255", "#88ccee", "#222222", "#999933",
    "#aa4499", "#117733",
)  # fmt: skip
"""Of components, after Tol's schemes for the colour-blind: neighbours differ in lightness."""
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
LINES: Final = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))
"""Line styles; with 10 colours and 7 markers, 70 components look different."""
NOISE_COLOUR: Final = "0.35"
NOISE_MARKER: Final = "x"
"""Of rows that are noise: a marker without a face, which no component has."""
GREY: Final = "0.55"
DARK: Final = "0.15"
SMALLEST: Final = 6.0
"""Size to which text shrinks, in typographic points."""
RASTER: Final = 2000
"""Points beyond which a vector graphic holds them as pixels."""
LONGEST_ROW: Final = 24
"""Characters of the label of a row that are shown."""
LONGEST_FEATURE: Final = 60
"""Characters of the label of a feature that are shown, at most."""


def require_matplotlib(function: str) -> None:
    """Refuse to plot without matplotlib, naming the way to get it."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"`{function}` must have matplotlib to draw with; got {error}. "
            f'Run `pip install "bayesgmm[plots]"`.'
        ) from error


def check_axes(ax: Any, n_panels: int) -> None:
    """Refuse what a plot cannot be drawn on.

    Parameters
    ----------
    ax : object
        What the user passed: None and an Axes serve every plot.
    n_panels : int
        Rows and columns of the plot; an array of so many Axes serves as well where there are
        more than one.
    """
    from matplotlib.axes import Axes

    wanted = "a matplotlib Axes"
    if n_panels > 1:
        wanted += f" or an array of {n_panels} x {n_panels} of them"
    shown = f"an object of type {type(ax).__name__}"
    panels = [ax]
    if isinstance(ax, np.ndarray):
        shown = f"an array of shape {ax.shape}"
        panels = list(ax.flat) if ax.shape == (n_panels, n_panels) and n_panels > 1 else [ax]
    if ax is not None and not all(isinstance(panel, Axes) for panel in panels):
        raise TypeError(
            f"`ax` must be {wanted}; got {shown}. Leave it out, or pass one made by "
            f"matplotlib.pyplot.subplots()."
        )
    for panel in panels:
        if ax is not None and panel.name != "rectilinear":
            raise ValueError(
                f"`ax` must have straight axes, two of them; got a projection {panel.name!r}. "
                f"Leave it out, or make it without `projection`."
            )


def new_axes(width: float, height: float) -> "Axes":
    """Return the Axes of a new figure, in inches, that leaves room for labels."""
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(width, height), layout="constrained")
    ax: Axes = figure.add_subplot()
    return ax


def panels_inside(ax: "Axes", n_panels: int) -> NDArray[Any]:
    """Return Axes in rows and columns that fill `ax`, which itself is not seen any more."""
    ax.set_axis_off()
    gap = 0.12 / n_panels**1.5
    side = (1.0 - gap * (n_panels - 1)) / n_panels
    panels = np.empty((n_panels, n_panels), dtype=object)
    for i, j in np.ndindex(n_panels, n_panels):
        left, bottom = j * (side + gap), (n_panels - 1 - i) * (side + gap)
        panels[i, j] = ax.inset_axes((left, bottom, side, side))
    return panels


def fit_texts(axes: Iterable["Axes"]) -> None:
    """Shrink titles and labels that are longer than their axes, and cut labels if need be."""
    axes = list(axes)
    labels = [axis.label for ax in axes for axis in (ax.xaxis, ax.yaxis)]
    for seen in (False, True):  # a label that is far too long would leave no room for the axes
        for label in labels:
            label.set_visible(seen)
        axes[0].figure.canvas.figure.draw_without_rendering()
        for label in labels:
            label.set_visible(True)
        for ax in axes:
            room = ax.get_window_extent()
            _fit(ax.xaxis.label, room.width, cut=True)
            _fit(ax.yaxis.label, room.height, cut=True)
            _fit(ax.title, 1.1 * room.width, cut=False)


def _fit(text: Any, length: float, *, cut: bool) -> None:
    """Shrink a text to a length in pixels, down to the smallest size; then cut it if told to."""
    while (excess := _excess(text, length)) > 1.0 and text.get_fontsize() > SMALLEST:
        text.set_fontsize(max(SMALLEST, 0.98 * text.get_fontsize() / excess))
    if cut and excess > 1.0:
        words = text.get_text()
        text.set_text(words[: max(0, int(len(words) / excess) - 3)] + "…")


def _excess(text: Any, length: float) -> float:
    """Return how many times a text is longer than a length in pixels."""
    box = text.get_window_extent()
    return float(max(box.width, box.height) / max(length, 1.0))


def colour(component: int) -> str:
    """Return the colour of a component."""
    return COLOURS[component % len(COLOURS)]


def marker(component: int) -> str:
    """Return the marker of a component."""
    return MARKERS[component % len(MARKERS)]


def line(component: int) -> Any:
    """Return the line style of a component."""
    return LINES[component % len(LINES)]


def draw_noise(ax: "Axes", places: NDArray[np.float64], size: Any, **given: Any) -> None:
    """Draw rows of noise, markers of areas `size`, thinner ones where there are many."""
    width = 0.9 if len(places) <= RASTER else 0.4
    style: dict[str, Any] = {"color": NOISE_COLOUR, "linewidths": width, "zorder": 2} | given
    ax.scatter(
        places[:, 0], places[:, 1], s=size, marker=NOISE_MARKER,
        rasterized=len(places) > RASTER, **style,
    )  # fmt: skip


def noise_handle(label: str) -> Any:
    """Return what stands for rows of noise in a legend."""
    from matplotlib.lines import Line2D

    return Line2D(
        [], [], color=NOISE_COLOUR, marker=NOISE_MARKER, linestyle="none", markersize=5.5,
        markeredgewidth=1.2, label=label,
    )  # fmt: skip


def halo(width: float) -> list[Any]:
    """Return the path effects that set a line or a text off from what lies under it."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=width, foreground="white", alpha=0.85)]


def feature_labels(X: xr.DataArray) -> list[str]:
    """Return what the axis of each feature says: its label, with the units if they are known.

    Parameters
    ----------
    X : DataArray, dims (obs, feature)
        Units are the attribute ``units`` of the labels of features, else of the whole; a string,
        one per feature, or a dictionary by feature, which holds whichever columns are taken.
    """
    labels = [_cut(label, LONGEST_FEATURE) for label in X[names.FEATURE].values.tolist()]
    units = X[names.FEATURE].attrs.get("units", X.attrs.get("units"))
    if isinstance(units, str):
        units = [units] * len(labels)
    elif isinstance(units, Mapping):
        units = [units.get(label, "") for label in X[names.FEATURE].values.tolist()]
    if not isinstance(units, list | tuple) or len(units) != len(labels):
        return labels
    pairs = zip(labels, units, strict=True)
    return [f"{label} ({unit})" if str(unit) else label for label, unit in pairs]


def row_labels(X: xr.DataArray, rows: Sequence[int] | NDArray[np.int64]) -> list[str]:
    """Return the labels of some rows, long ones cut."""
    return [_cut(label, LONGEST_ROW) for label in X.indexes[names.OBS][rows].astype(str)]


def _cut(label: Any, longest: int) -> str:
    """Return a label as text of at most so many characters."""
    text = str(label)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def point_size(n_points: int) -> float:
    """Return the area of a marker, in square points, smaller for many."""
    return float(np.clip(6000.0 / max(n_points, 1), 5.0, 26.0))


def drawn_rows(n_obs: int, max_points: int) -> NDArray[np.int64]:
    """Return the rows that are drawn: all, or a random sample, always the same, of `max_points`."""
    if n_obs <= max_points:
        return np.arange(n_obs)
    return np.sort(np.random.default_rng(0).choice(n_obs, max_points, replace=False))


def note_of_rows(n_drawn: int, n_obs: int) -> str:
    """Return what to say where not all rows are drawn, else an empty string."""
    return f"{n_drawn:,} of {n_obs:,} rows drawn" if n_drawn < n_obs else ""


def percent(share: float) -> str:
    """Return a share in percent, never rounding to none or to all what is neither."""
    if 0.0 < share < 0.01:
        return "< 1 %"
    if 0.99 < share < 1.0:
        return "> 99 %"
    return f"{100.0 * share:.0f} %"
