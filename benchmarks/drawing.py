"""Figures of the page: small, alike, and the same bytes for the same numbers."""

from pathlib import Path
from typing import Any


def axes(height: float = 3.0) -> tuple[Any, Any]:
    """Return a figure and its axes."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    style = {"svg.hashsalt": "bayesgmm", "svg.fonttype": "none", "font.family": "sans-serif"}
    pyplot.rcParams.update(style | {"font.size": 9})
    figure, axis = pyplot.subplots(figsize=(6.4, height), layout="constrained")
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def save(figure: Any, path: Path) -> None:
    """Write a figure and forget it."""
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
