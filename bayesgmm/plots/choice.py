"""What every criterion says of every number of components, on one page."""

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.plots.canvas import (
    DARK,
    GREY,
    check_axes,
    colour,
    fit_texts,
    line,
    marker,
    new_axes,
    require_matplotlib,
)
from bayesgmm.selection.answer import Selection
from bayesgmm.selection.criteria import CRITERIA, ranked

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS: Final = 2
GAPS: Final = (0.13, 0.09)
"""Between columns and between rows of panels, in shares of the whole."""
FAR: Final = 5.0
"""Fits behind the best by more than so many times the median are out of sight, and said to be."""
DODGE: Final = (0.2, 0.7)
"""Between structures, and between the first and the last at most, in components."""
TICKS: Final = 12
"""Numbers of components that are written below a panel, at most."""


def plot_select(selection: Selection, *, ax: Any = None) -> NDArray[Any]:
    """Plot what every criterion says of every number of components, one panel each.

    How far each fit is behind the best by a criterion, 0 the best, with the standard error of the
    difference: up is better in every panel. The grey band is what is too small to count whatever
    its error, and a ring marks what the criterion takes: the fewest parameters that cannot be told
    from its best. Fits far behind are triangles at the lower edge, with their number. The last
    panel has the number of components that hold rows, with its interval; on the dotted line all
    do. The vertical line is what is recommended, and hollow marks are fits that did not pass
    `check`.

    Parameters
    ----------
    selection : Selection
        As `select` returns it.
    ax : Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    array of Axes, shape (n_criteria + 1,)
        The panels, in the order of the criteria; that of the clusters is last.

    Raises
    ------
    TypeError, ValueError
        If `selection` is no Selection, or `ax` no Axes.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> from matplotlib.figure import Figure
    >>> X = bg.datasets.load_faithful()
    >>> given = {"method": "laplace", "criteria": ["icl", "bic"], "progressbar": False}
    >>> selection = bg.select(X, [1, 2], draws=100, random_seed=1, **given)
    >>> panels = bg.plot_select(selection, ax=Figure().subplots())
    >>> [panel.get_title() for panel in panels]
    ['ICL', 'BIC', 'Components that hold rows']
    """
    require_matplotlib("plot_select")
    if not isinstance(selection, Selection):
        raise TypeError(
            f"`selection` must be what bayesgmm.select returned; got an object of type "
            f"{type(selection).__name__}. Write plot_select(bg.select(X))."
        )
    check_axes(ax, 1)
    n_panels = len(selection.criteria) + 1
    n_rows = -(-n_panels // COLUMNS)
    single = new_axes(7.5, 0.6 + 2.1 * n_rows) if ax is None else ax
    panels = _panels(single, n_panels, n_rows)
    structures = list(dict.fromkeys(selection.table.index.get_level_values("structure")))
    for panel, name in zip(panels, selection.criteria, strict=False):
        _draw_criterion(panel, selection, name, structures)
    _draw_clusters(panels[-1], selection, structures)
    numbers = sorted(set(selection.table.index.get_level_values(names.N_COMPONENTS)))
    for number, panel in enumerate(panels):
        panel.axvline(selection.recommended.n_components, color=GREY, linewidth=0.8, zorder=0)
        panel.set_xticks(numbers[:: -(-len(numbers) // TICKS)])
        panel.set_xlim(min(numbers) - 0.5, max(numbers) + 0.5)
        if number >= n_panels - COLUMNS:
            panel.set_xlabel("components")
    _explain(single, selection, structures)
    fit_texts(panels)
    return panels


def _panels(ax: "Axes", n_panels: int, n_rows: int) -> NDArray[Any]:
    """Return Axes, row by row, that fill `ax`, which itself is not seen any more."""
    ax.set_axis_off()
    width, height = (
        (1.0 - gap * (n - 1)) / n for gap, n in zip(GAPS, (COLUMNS, n_rows), strict=True)
    )
    panels = np.empty(n_panels, dtype=object)
    for number in range(n_panels):
        row, column = divmod(number, COLUMNS)
        left = column * (width + GAPS[0])
        bottom = 1.0 - height - row * (height + GAPS[1])
        panels[number] = ax.inset_axes((left, bottom, width, height))
    return panels


def _draw_criterion(ax: "Axes", selection: Selection, name: str, structures: list[str]) -> None:
    """Draw how far all fits are behind the best by a criterion."""
    criterion = CRITERIA[name]
    order = ranked(selection.table, criterion).sort_index()
    title = criterion.name.removeprefix("the ")
    ax.set_title(title[0].upper() + title[1:], fontsize="medium")
    ax.set_ylabel("behind the best" + " (nats)" * (criterion.sign > 0))
    if not len(order):
        ax.text(0.5, 0.5, "not known", ha="center", transform=ax.transAxes, color=GREY)
        return
    reach = FAR * order["gap"].median() + 4.0 * criterion.small
    near = order[order["gap"] <= reach]
    lowest = float(np.maximum(near["gap"] + near["error"], criterion.small).max())
    ax.set_ylim(-1.18 * lowest, 0.12 * lowest)
    ax.axhspan(-criterion.small, 0.0, color="0.9", zorder=0)
    places = _places(order, structures)
    _draw_lines(ax, selection, near, places, structures)
    for label, gap in order["gap"][order["gap"] > reach].items():
        ax.plot(
            places[label], 0.03, marker="v", color=colour(structures.index(label[1])),
            transform=ax.get_xaxis_transform(), clip_on=False, zorder=3,
        )  # fmt: skip
        ax.annotate(
            f"{-gap:.0f}", (places[label], 0.03), xycoords=ax.get_xaxis_transform(),
            xytext=(0.0, 6.0), textcoords="offset points", fontsize="x-small", ha="center",
            rotation=90.0,
        )  # fmt: skip
    taken = selection.answers[name]
    if taken in near.index:
        ax.plot(
            places[taken], -near.loc[taken, "gap"], marker="o", color="none", zorder=4,
            markersize=14.0, markeredgecolor=colour(2), markeredgewidth=1.6,
        )  # fmt: skip


def _draw_lines(
    ax: "Axes",
    selection: Selection,
    near: pd.DataFrame,
    places: "pd.Series[float]",
    structures: list[str],
) -> None:
    """Draw a line of marks for every structure, with their errors."""
    for number, structure in enumerate(structures):
        mine = near[near.index.get_level_values("structure") == structure]
        if not len(mine):
            continue
        ax.errorbar(
            places[mine.index], -mine["gap"], mine["error"], linestyle=line(number),
            linewidth=1.2, elinewidth=1.2, capsize=2.5, zorder=2, color=colour(number),
        )  # fmt: skip
        _draw_marks(ax, places[mine.index], -mine["gap"], selection, number)


def _draw_marks(
    ax: "Axes",
    places: "pd.Series[float]",
    heights: "pd.Series[float]",
    selection: Selection,
    number: int,
) -> None:
    """Draw marks, hollow where a fit did not pass the check."""
    ok = selection.table.loc[heights.index, "ok"].to_numpy()
    faces = [colour(number) if passed else "white" for passed in ok]
    ax.scatter(
        places, heights, s=30.0, marker=marker(number), facecolors=faces,
        edgecolors=colour(number), linewidths=1.2, zorder=3,
    )  # fmt: skip


def _draw_clusters(ax: "Axes", selection: Selection, structures: list[str]) -> None:
    """Draw how many components hold rows."""
    table = selection.table[selection.table[names.N_CLUSTERS].notna()]
    places = _places(table, structures)
    numbers = np.array(sorted(set(table.index.get_level_values(names.N_COMPONENTS))))
    ax.plot(numbers, numbers, color=GREY, linestyle=":", linewidth=1.0, zorder=1)
    for number, structure in enumerate(structures):
        mine = table[table.index.get_level_values("structure") == structure]
        if not len(mine):
            continue
        mean = mine[names.N_CLUSTERS]
        low, high = (mine[f"n_clusters_{end}"].astype(float) for end in ("low", "high"))
        reach = np.stack([(mean - low).clip(lower=0.0), (high - mean).clip(lower=0.0)])
        ax.errorbar(
            places[mine.index], mean, reach, linestyle="none", color=colour(number),
            elinewidth=1.2, capsize=2.5, zorder=2,
        )  # fmt: skip
        _draw_marks(ax, places[mine.index], mean, selection, number)
    ax.locator_params(axis="y", integer=True)
    ax.set_title("Components that hold rows", fontsize="medium")
    ax.set_ylabel("mean, 90 %")


def _places(table: pd.DataFrame, structures: list[str]) -> "pd.Series[float]":
    """Return where each fit stands: its number of components, structures side by side."""
    middle = 0.5 * (len(structures) - 1)
    step = min(DODGE[0], DODGE[1] / max(2.0 * middle, 1.0))
    shifts = [step * (structures.index(structure) - middle) for _, structure in table.index]
    numbers = table.index.get_level_values(names.N_COMPONENTS).to_numpy(dtype=float)
    return pd.Series(numbers + shifts, index=table.index)


def _explain(ax: "Axes", selection: Selection, structures: list[str]) -> None:
    """Say above all panels what the marks are."""
    from matplotlib.lines import Line2D

    handles = []
    if len(structures) > 1:
        handles += [
            Line2D([], [], color=colour(i), marker=marker(i), linestyle=line(i), label=structure)
            for i, structure in enumerate(structures)
        ]
    handles.append(
        Line2D([], [], color="none", marker="o", markersize=11.0, markeredgecolor=colour(2),
               markeredgewidth=1.6, label="taken by the criterion"),
    )  # fmt: skip
    if not selection.table["ok"].all():
        handles.append(
            Line2D([], [], color="none", marker="o", markerfacecolor="white",
                   markeredgecolor=DARK, label="check failed"),
        )  # fmt: skip
    k, structure = selection.recommended
    handles.append(
        Line2D([], [], color=GREY, linewidth=0.8,
               label=f"recommended: {k}" + f", {structure}" * (len(structures) > 1)),
    )  # fmt: skip
    ax.legend(
        handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.05), ncols=len(handles),
        frameon=False, fontsize="small", handletextpad=0.5, columnspacing=1.5,
    )  # fmt: skip
