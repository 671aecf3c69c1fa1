"""EM step by step: some steps side by side, or all of them one after the other."""

import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.errors import check_integer, check_share
from bayesgmm.plots.canvas import (
    DARK,
    GREY,
    drawn_rows,
    feature_labels,
    fit_texts,
    note_of_rows,
    require_matplotlib,
)
from bayesgmm.plots.panels import draw_density, draw_plane
from bayesgmm.plots.scene import Scene, choose_features

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation
    from matplotlib.axes import Axes

FRAMES: Final = 5
"""Steps that are drawn where the user does not choose."""
COLUMNS: Final = 3
PANEL: Final = (3.4, 3.0)
"""Width and height of a panel, in inches."""
INTERVAL: Final = 250
"""Milliseconds between frames of an animation."""
NEEDED: Final = (
    names.X, names.OBJECTIVE, names.RESPONSIBILITIES, names.WEIGHTS, names.MEANS, names.COVARIANCES
)  # fmt: skip
OBJECTIVES: Final = {"ml": "log-likelihood (nats)", "map": "penalised log-likelihood (nats)"}


def plot_em_path(
    path: xr.Dataset,
    *,
    iterations: Any = None,
    features: Any = None,
    ax: "NDArray[Any] | None" = None,
    animate: bool = False,
    probability: float = 0.9,
    max_points: int = 2000,
) -> "NDArray[Any] | FuncAnimation":
    """Plot how EM moved components from its start to where it ended, and how the objective rose.

    Each panel is a step: points have the colour and the marker of their most probable component,
    and are filled as far as that is certain; components are ellipses, or densities where one
    feature is drawn. The last panel is the objective, with a mark for every step that is drawn.

    Parameters
    ----------
    path : Dataset
        As `em_path` returns it.
    iterations : int or sequence of int, optional
        Steps to draw; by default five, early ones closer together, as they move more; all where
        they are animated.
    features : str, int or sequence of them, optional
        Labels of one or two features to draw; by default the first two.
    ax : array of Axes, optional
        One for every step and one for the objective; by default on a new figure.
    animate : bool, default False
        Whether steps are frames of an animation.
    probability : float, default 0.9
        Share of a component that its ellipse holds.
    max_points : int, default 2000
        Rows drawn, a random sample if there are more; the title says so.

    Returns
    -------
    array of Axes, shape (n_steps + 1,), or matplotlib.animation.FuncAnimation
        An animation is shown in a notebook by ``IPython.display.HTML(animation.to_jshtml())``, and
        saved by ``animation.save("em.gif")``.

    Raises
    ------
    TypeError, ValueError
        If `path` is none, a step is not in it, or `ax` does not hold as many Axes as there are
        panels.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> from matplotlib.figure import Figure
    >>> path = bg.em_path(bg.datasets.load_faithful(), 2, random_seed=1)
    >>> axes = bg.plot_em_path(path, iterations=[0, 5], ax=Figure().subplots(1, 3))
    >>> [ax.get_title() for ax in axes]
    ['start', 'iteration 5', 'converged after 9 iterations']
    """
    require_matplotlib("plot_em_path")
    _check(path)
    probability = check_share(probability, "probability", "0.9 is usual.")
    max_points = check_integer(max_points, "max_points", 1, "Some thousands are usual.")
    steps = _steps(path.sizes[names.ITERATION], iterations, animate)
    labels = path[names.FEATURE].values.tolist()
    positions = choose_features(labels, features, 2)
    if len(positions) > 2:
        raise ValueError(
            f"`features` must name one or two features; got {len(positions)}. Draw them pair by "
            f"pair."
        )
    scenes = [_scene(path, step, positions, max_points) for step in steps]
    note = note_of_rows(len(scenes[0].points), path.sizes[names.OBS])
    if animate:
        return _animation(path, steps, scenes, probability, note, ax)
    panels = _panels(len(steps) + 1, ax)
    for number, (panel, step, scene) in enumerate(zip(panels, steps, scenes, strict=False)):
        _draw_step(panel, step, scene, probability, note if number == 0 else "")
    _draw_objective(panels[-1], path, steps)
    _share_limits(panels[:-1])
    fit_texts(panels)
    return panels


def _check(path: Any) -> None:
    """Refuse what is no path."""
    remedy = "Pass what bayesgmm.em_path returns."
    if not isinstance(path, xr.Dataset):
        raise TypeError(
            f"`path` must be a Dataset; got an object of type {type(path).__name__}. {remedy}"
        )
    missing = [name for name in NEEDED if name not in path]
    if missing:
        raise ValueError(
            f"`path` must hold {missing[0]!r}; got a Dataset with {list(path.data_vars)}. {remedy}"
        )


def _steps(n_steps: int, iterations: Any, animate: bool) -> list[int]:
    """Return the steps to draw."""
    if iterations is None:
        if animate:
            return list(range(n_steps))
        return sorted({round(step) - 1 for step in np.geomspace(1, n_steps, FRAMES)})
    steps = np.asarray(iterations).ravel().tolist()
    remedy = f"The path has 0 to {n_steps - 1}."
    for step in steps:
        if check_integer(step, "iterations", 0, remedy) >= n_steps:
            raise ValueError(f"`iterations` must be in the path; got {step}. {remedy}")
    if not steps:
        raise ValueError(f"`iterations` must name at least one; got {iterations!r}. {remedy}")
    return [int(step) for step in steps]


def _scene(path: xr.Dataset, step: int, positions: list[int], max_points: int) -> Scene:
    """Return a step as a scene of one draw."""
    X = path[names.X].transpose(names.OBS, names.FEATURE)
    rows = drawn_rows(X.sizes[names.OBS], max_points if len(positions) == 2 else len(X))
    values = X.values[:, positions]
    one = path.isel({names.ITERATION: [step]})
    covariances = one[names.COVARIANCES].values
    probability = one[names.RESPONSIBILITIES].values[0, rows]
    box = None
    if names.NOISE_WEIGHT in one:
        noise = json.loads(path.attrs[names.SPECIFICATION])[names.NOISE]
        box = np.array([noise["low"], noise["high"]])[:, positions]
        probability = np.column_stack((probability, 1.0 - probability.sum(axis=1)))
    return Scene(
        points=values[rows],
        probability=probability,
        labels=[feature_labels(X)[position] for position in positions],
        ranges=np.stack([values.min(axis=0), values.max(axis=0)]),
        weights=one[names.WEIGHTS].values,
        means=one[names.MEANS].values[..., positions],
        covariances=covariances[..., positions, :][..., positions],
        df=one[names.DF].values if names.DF in one else None,
        noise_weight=None if box is None else one[names.NOISE_WEIGHT].values,
        box=box,
    )


def _panels(n_panels: int, ax: Any) -> NDArray[Any]:
    """Return Axes for all panels, those given or new ones."""
    from matplotlib import pyplot
    from matplotlib.axes import Axes

    if ax is None:
        columns = min(n_panels, COLUMNS)
        rows = -(-n_panels // columns)
        figure = pyplot.figure(figsize=(PANEL[0] * columns, PANEL[1] * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for unused in axes[n_panels:]:
            unused.remove()
        return np.asarray(axes[:n_panels])
    given = np.asarray(ax, dtype=object).ravel()
    if len(given) != n_panels or not all(isinstance(panel, Axes) for panel in given):
        raise TypeError(
            f"`ax` must be an array of {n_panels} matplotlib Axes, one for every step and one for "
            f"the objective; got {len(given)} of type {type(given[0]).__name__}. Leave it out, or "
            f"pass those made by matplotlib.pyplot.subplots(1, {n_panels})."
        )
    return given


def _draw_step(ax: "Axes", step: int, scene: Scene, probability: float, note: str) -> None:
    """Draw one step."""
    if len(scene.labels) == 1:
        draw_density(ax, scene, 0, probability, bold=1.4)
        ax.set_yticks([])
    else:
        draw_plane(ax, scene, [0, 1], probability, 1, size=0.8)
    title = f"iteration {step}" if step else "start"
    ax.set_title("\n".join(filter(None, [title, note])), fontsize="medium")


def _share_limits(axes: NDArray[Any]) -> None:
    """Let all steps have the same limits, wide enough for each."""
    x = np.array([ax.get_xlim() for ax in axes])
    y = np.array([ax.get_ylim() for ax in axes])
    for ax in axes:
        ax.set_xlim(x[:, 0].min(), x[:, 1].max())
        ax.set_ylim(y[:, 0].min(), y[:, 1].max())


def _draw_objective(ax: "Axes", path: xr.Dataset, steps: list[int]) -> Any:
    """Draw the objective of all steps, and return the marks of some."""
    objective = path[names.OBJECTIVE].values
    ax.plot(objective, color=GREY, linewidth=1.5)
    (marks,) = ax.plot(
        steps, objective[steps], color=DARK, marker="o", markersize=5, linestyle="none"
    )
    ax.set_xlabel("iteration")
    ax.set_ylabel(OBJECTIVES[path.attrs[names.METHOD]])
    n = len(objective) - 1
    ax.set_title(
        f"{path.attrs[names.STATUS]} after {n} iteration{'s' * (n != 1)}", fontsize="medium"
    )
    return marks


def _animation(
    path: xr.Dataset, steps: list[int], scenes: list[Scene], probability: float, note: str, ax: Any
) -> "FuncAnimation":
    """Return an animation of steps beside the objective."""
    from matplotlib.animation import FuncAnimation

    panels = _panels(2, ax)
    left, right = panels
    marks = _draw_objective(right, path, steps[:1])
    limits = []
    for step, scene in zip(steps, scenes, strict=True):
        left.clear()
        _draw_step(left, step, scene, probability, note)
        limits.append((*left.get_xlim(), *left.get_ylim()))
    low, high = np.min(limits, axis=0), np.max(limits, axis=0)

    def draw(number: int) -> list[Any]:
        left.clear()
        _draw_step(left, steps[number], scenes[number], probability, note)
        left.set_xlim(low[0], high[1])
        left.set_ylim(low[2], high[3])
        marks.set_data([steps[number]], path[names.OBJECTIVE].values[[steps[number]]])
        return [left, marks]

    draw(0)
    fit_texts(panels)
    if ax is None:
        left.figure.set_layout_engine("none")  # frames stand still, and cost less
    return FuncAnimation(left.figure, draw, frames=len(steps), interval=INTERVAL, repeat=False)
