"""Names beside points: none covers another, none leaves the picture."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from bayesgmm.plots.annotation import name_points


def axes(width: float = 5.0, height: float = 4.0) -> Axes:
    ax = Figure(figsize=(width, height), layout="constrained").subplots()
    ax.set(xlim=(0.0, 1.0), ylim=(0.0, 1.0))
    return ax


def boxes(ax: Axes) -> list[Bbox]:
    ax.figure.canvas.figure.draw_without_rendering()
    return [Text.get_window_extent(artist) for artist in ax.texts if isinstance(artist, Annotation)]


@pytest.mark.parametrize("where", ["spread", "crowded", "corner", "one place"])
def test_names_neither_overlap_nor_leave(rng: np.random.Generator, where: str) -> None:
    points = {
        "spread": rng.random((15, 2)),
        "crowded": 0.5 + 0.02 * rng.normal(size=(15, 2)),
        "corner": 1.0 - 0.02 * rng.random((15, 2)),
        "one place": np.full((15, 2), 0.3),
    }[where]
    ax = axes()
    texts = [f"2026-11-{i:02d}" for i in range(1, 16)]
    written = name_points(ax, points, texts, rng.random((500, 2)))
    found = boxes(ax)
    assert len(found) == written
    assert written >= 3
    assert not any(one.overlaps(other) for one, other in combinations(found, 2))
    frame = ax.get_window_extent()
    for box in found:
        assert frame.x0 <= box.x0 < box.x1 <= frame.x1
        assert frame.y0 <= box.y0 < box.y1 <= frame.y1


def test_the_first_names_are_those_kept() -> None:
    ax = axes(1.2, 1.0)
    texts = [f"a long name {i}" for i in range(30)]
    written = name_points(ax, np.full((30, 2), 0.5), texts, np.empty((0, 2)))
    assert written < 30
    assert all(box.width > 0 for box in boxes(ax))


def test_points_outside_are_not_named() -> None:
    ax = axes()
    assert name_points(ax, np.array([[2.0, 0.5]]), ["far"], np.empty((0, 2))) == 0
    assert len(ax.texts) == 0


def test_a_name_stands_beside_its_point_and_not_on_others() -> None:
    ax = axes()
    points = np.array([[0.5, 0.5], [0.53, 0.53]])
    assert name_points(ax, points, ["one", "two"], points) == 2
    places = ax.transData.transform(points)
    for box in boxes(ax):
        assert box.count_contains(places) == 0


def test_names_keep_off_the_markers_of_other_points() -> None:
    ax = axes()
    ax.figure.canvas.figure.draw_without_rendering()
    steps = np.array([[0.0, 0.0], [12.0, 0.0], [24.0, 0.0], [12.0, 12.0], [12.0, -12.0]])
    start = ax.transData.transform((0.5, 0.5))
    points = ax.transData.inverted().transform(start + steps * ax.figure.dpi / 72.0)
    assert name_points(ax, points, [f"row {i}" for i in range(5)], points) == 5
    for box in boxes(ax):
        assert box.padded(3.9 * ax.figure.dpi / 72.0).count_contains(start + steps) <= 1


def test_names_keep_off_the_crowd() -> None:
    ax = axes()
    side = np.linspace(0.5, 1.0, 30)
    crowd = np.stack(np.meshgrid(side, np.linspace(0.0, 1.0, 60)), axis=-1).reshape(-1, 2)
    name_points(ax, np.array([[0.5, 0.5]]), ["name"], crowd)
    assert boxes(ax)[0].x1 < ax.transData.transform((0.5, 0.5))[0]


def test_names_keep_off_the_legend() -> None:
    ax = axes()
    ax.plot([], [], label="a long entry of the legend")
    legend = ax.legend(loc="center")
    name_points(ax, np.array([[0.5, 0.5], [0.5, 0.9]]), ["under", "above"], np.empty((0, 2)))
    assert not any(box.overlaps(legend.get_window_extent()) for box in boxes(ax))


def test_dollars_in_names_are_dollars() -> None:
    ax = axes()
    name_points(ax, np.array([[0.5, 0.5]]), ["$a$"], np.empty((0, 2)))
    assert [text.get_text() for text in ax.texts] == ["$a$"]
    assert not any(text.get_parse_math() for text in ax.texts)
