"""Who is with whom."""

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.clustering.allocations import label_draws
from bayesgmm.clustering.coclustering import ordered, similarity
from bayesgmm.clustering.partitions import given_or_best
from bayesgmm.errors import check_integer
from bayesgmm.plots.canvas import (
    check_axes,
    drawn_rows,
    fit_texts,
    halo,
    new_axes,
    note_of_rows,
    require_matplotlib,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS: Final = ("#ffffff", "#b9cfe4", "#5b8fbe", "#004488", "#001a33")
"""From apart to together: ever darker, so that it reads in grey as well."""
BORDER: Final = "#d08a2e"
SMALLEST_LABELLED: Final = 0.03
"""Share of the rows below which a cluster is not labelled."""


def plot_similarity(
    source: Any,
    partition: Any = None,
    *,
    ax: "Axes | None" = None,
    max_points: int = 1000,
    random_seed: int | None = None,
) -> "Axes":
    """Plot how probable it is that rows belong together, ordered by a partition.

    The darker, the more probable. Rows of a cluster stand together, the largest cluster first,
    with a frame around what they share; within it those that are most alike are neighbours. Dark
    squares are clusters that the posterior is sure of; what is lighter within a frame may have to
    be parted, and what is darker beyond one may belong together. Noise is the last group.

    Parameters
    ----------
    source : DataTree, DataArray, DataFrame or array of int, shape (n_draws, n_obs)
        A fit, whose allocations are sampled, or labels, as `partition` takes them.
    partition : DataArray or array of int, shape (n_obs,), optional
        As `partition` returns it; by default what it returns for the variation of information.
    ax : Axes, optional
        Where to draw; by default on a new figure. The colour bar takes its room from it.
    max_points : int, default 1000
        Rows drawn, a random sample if there are more; the title says so.
    random_seed : int, optional
        For the allocations and the search of a partition.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        If `source` holds no draws of labels, `partition` is none of its rows, or `ax` no Axes.
    ImportError
        If matplotlib is not installed.

    Notes
    -----
    `partition` takes most of the time where it is not given.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> from matplotlib.figure import Figure
    >>> draws = [[0, 0, 0, 1, 1], [0, 0, 0, 1, 1], [0, 0, 1, 1, 1]]
    >>> ax = bg.plot_similarity(draws, ax=Figure().subplots())
    >>> ax.get_title().splitlines()[1]
    'frames: a partition into 2 clusters'
    """
    require_matplotlib("plot_similarity")
    check_axes(ax, 1)
    max_points = check_integer(max_points, "max_points", 1, "A thousand are usual.")
    draws = label_draws(source, random_seed=random_seed, function="plot_similarity")
    labels = given_or_best(draws, partition, random_seed)
    n_obs = len(labels)
    rows = drawn_rows(n_obs, max_points)
    values = similarity(draws.isel({names.OBS: rows})).values
    order = ordered(values, labels[rows])
    ax = new_axes(6.4, 5.2) if ax is None else ax
    bar = _draw_matrix(ax, values[np.ix_(order, order)])
    _draw_frames(ax, labels[rows][order])
    n_clusters = int(labels.max()) + 1
    title = [
        f"probability that two of {n_obs:,} rows are in one cluster",
        f"frames: a partition into {n_clusters} cluster{'' if n_clusters == 1 else 's'}"
        + " and noise" * bool((labels < 0).any()),
        note_of_rows(len(rows), n_obs),
    ]
    ax.set_title("\n".join(filter(None, title)), fontsize="medium")
    fit_texts([ax, bar])
    return ax


def _draw_matrix(ax: "Axes", values: NDArray[np.float64]) -> "Axes":
    """Draw the matrix, and return the colour bar."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("similarity", COLOURS)
    image = ax.imshow(values, vmin=0.0, vmax=1.0, cmap=colours, interpolation_stage="data")
    bar = ax.figure.colorbar(image, ax=ax, pad=0.02)
    bar.set_label("probability")
    axis: Axes = bar.ax
    return axis


def _draw_frames(ax: "Axes", labels: NDArray[np.int64]) -> None:
    """Draw a frame around each cluster, and write its number and size beside it."""
    from matplotlib.patches import Rectangle

    clusters, firsts, sizes = np.unique(labels, return_index=True, return_counts=True)
    for first, size in zip(firsts.tolist(), sizes.tolist(), strict=True):
        frame = Rectangle(
            (first - 0.5, first - 0.5), size, size, fill=False, edgecolor=BORDER, linewidth=1.6,
            path_effects=halo(2.8),
        )  # fmt: skip
        ax.add_patch(frame)
    shown = sizes >= SMALLEST_LABELLED * len(labels)
    ax.set_yticks(
        (firsts + 0.5 * (sizes - 1))[shown],
        [
            f"{'noise' if k < 0 else k} ({m:,})"
            for k, m in zip(clusters[shown], sizes[shown], strict=True)
        ],
    )
    ax.set_xticks([])
    ax.set_ylabel("cluster (rows)")
    ax.set_xlabel("the same rows")
