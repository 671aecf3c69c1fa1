"""What is measured of a fit to judge it: of its draws, of its sampler, of its components."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.kernels.clarity import shared, vacancies
from bayesgmm.kernels.draws import fill_draws
from bayesgmm.kernels.relabel import NO_CUBE, NO_LABELS
from bayesgmm.pointwise import log_likelihood_blocks
from bayesgmm.prediction import fitted_rows, mixtures
from bayesgmm.summaries import of_number
from bayesgmm.tree import specification
from bayesgmm.tree.mixtures import of_modes

type Array = NDArray[np.float64]

MAX_TREE_DEPTH: Final = 10
SMALL_MARGIN: Final = 0.02
"""A draw whose best matching wins by a smaller share of the rows is nearly a tie."""
NEAR_FLOOR: Final = 1.2
"""Ratio of a scale to its floor up to which it sits on rounded values rather than on a spread."""
FLAT: Final = 1e-6
"""Smallest eigenvalue of a correlation matrix at which features determine each other."""
LOOKED_AT: Final = 200
"""Draws of a chain whose correlation matrices are looked at."""
HELD_POINTS: Final = 20
"""Rows at which the log density is monitored."""
PAIRS: Final = 20
"""Pairs of rows of which it is monitored whether they share a cluster."""
COUNTED_ROWS: Final = 1000
"""Rows, about, that tell whether a component is occupied."""
LIGHT: Final = 0.01
"""Share of the mass of all modes under which it does not matter whether one was visited."""
SAME_DENSITY: Final = (1e-3, 1e-8)
"""Differences, in nats and relative, between a log density and the same computed anew."""
ROUNDING: Final = 1e-6
"""Range of a probability, or of a number of components, that is none."""


def label_free(tree: xr.DataTree) -> tuple[list[str], Array]:
    """Return names and draws, shape (Q, chains, draws), of what no permutation changes."""
    sample = (names.CHAIN, names.DRAW)
    lp = tree[names.SAMPLE_STATS].dataset[names.LP].transpose(*sample).values
    posterior = tree[names.POSTERIOR].dataset
    weights = posterior[names.WEIGHTS].transpose(names.COMPONENT, *sample).values
    labels = ["log posterior"]
    labels += [f"weight of rank {rank}" for rank in range(1, len(weights) + 1)]
    kept, own = names.OBSERVED_DATA in tree.children, names.LIKELIHOOD in tree.attrs
    nothing: tuple[list[str], Array] = [], np.empty((0, *lp.shape))
    (where, density), (more, allocated) = nothing, nothing
    if not own or names.LOG_LIKELIHOOD in tree.children:
        where, density = (_at_rows if kept else _at_means)(tree, lp)
    if kept and not own:  # of another likelihood rows have other probabilities
        more, allocated = _allocations(tree, lp.shape)
    weights = np.sort(weights, axis=0)[::-1]
    scalars = of_number(posterior)
    return (
        labels + where + more + [name.replace("n_", "number of ") for name in scalars],
        np.concatenate([lp[None], weights, density, allocated, *scalars.values()]),
    )


def _at_rows(tree: xr.DataTree, lp: Array) -> tuple[list[str], Array]:
    """Return the log density at some rows under every draw, (n, chains, draws), and its names."""
    rows = tree[names.OBSERVED_DATA].dataset[names.OBS].values
    counts = tree[names.CONSTANT_DATA].dataset.get(names.SAMPLE_WEIGHT, np.ones(rows.size))
    counted = np.flatnonzero(np.asarray(counts))
    held = counted[np.unique(np.linspace(0, counted.size - 1, HELD_POINTS).astype(int))]
    labels = [f"log density at row {label!r}" for label in rows[held].tolist()]
    if names.LOG_LIKELIHOOD in tree.children:
        stored = tree[names.LOG_LIKELIHOOD].dataset[names.X].isel({names.OBS: held})
        return labels, stored.transpose(names.OBS, names.CHAIN, names.DRAW).values
    blocks = log_likelihood_blocks(tree.isel({names.OBS: held}))
    return labels, np.concatenate([block.T for _, block in blocks]).reshape(-1, *lp.shape)


def _at_means(tree: xr.DataTree, lp: Array) -> tuple[list[str], Array]:
    """Return the same at the means of the draw of highest density, where no rows are kept."""
    draws = mixtures(tree)
    points = np.ascontiguousarray(draws.means[lp.argmax()].T)
    density = _densities(points, draws[:3])
    labels = [f"log density at mean {k}" for k in range(points.shape[1])]
    return labels, np.ascontiguousarray(density.T).reshape(-1, *lp.shape)


def _allocations(tree: xr.DataTree, shape: tuple[int, ...]) -> tuple[list[str], Array]:
    """Return the label-free quantities of allocations that vary, and their names.

    How many components are occupied, and whether random pairs of rows share one: expectations
    given the draw.
    """
    rows, draws = tree[names.OBSERVED_DATA].dataset[names.OBS].values, mixtures(tree)
    every = fitted_rows(tree, draws)
    labels = ["number of occupied components"]
    some = np.ascontiguousarray(every[:, :: -(-len(rows) // COUNTED_ROWS)])
    n_components = draws.means.shape[1]
    values = [(1.0 - vacancies(some, draws[:3]))[:, :n_components].sum(axis=1)]
    if len(rows) > 1:
        pairs = _pairs(len(rows))
        labels += [f"co-clustering of rows {a!r} and {b!r}" for a, b in rows[pairs].tolist()]
        paired = np.ascontiguousarray(every[:, pairs.ravel()])
        values += list(shared(paired, draws[:3]).T)
    found = np.stack(values).reshape(-1, *shape)
    varying = np.ptp(found, axis=(1, 2)) > ROUNDING
    return [label for label, kept in zip(labels, varying, strict=True) if kept], found[varying]


def _pairs(n_rows: int) -> NDArray[np.int64]:
    """Return random pairs of different rows, always the same, shape (pairs, 2)."""
    rng = np.random.default_rng(0)
    first = rng.integers(n_rows, size=PAIRS)
    other = (first + rng.integers(1, n_rows, size=PAIRS)) % n_rows
    return np.unique(np.sort(np.stack([first, other], axis=1), axis=1), axis=0)


def nearly_tied(tree: xr.DataTree) -> float:
    """Return the share of the draws whose labels were nearly a tie; 0 where there is no such."""
    if names.ALIGNMENT not in tree.children:
        return 0.0
    margin = tree[names.ALIGNMENT].dataset[names.MARGIN].values
    return float((margin < SMALL_MARGIN).mean())


def never_moved(stats: xr.Dataset) -> int:
    """Return the number of chains whose log posterior is the same in every draw."""
    lp = stats[names.LP].transpose(names.CHAIN, names.DRAW).values
    return int((np.ptp(lp, axis=1) == 0).sum())


def unvisited(tree: xr.DataTree) -> float | None:
    """Return the share of the modes without a draw in the mass of all that were found.

    A draw is at the mode whose log density at some rows is nearest to its own. None where masses
    were not measured. Without rows it is looked at where the means of the modes are.
    """
    if names.MODES not in tree.children or names.LOG_MASS not in tree[names.MODES].dataset:
        return None
    mass = np.nan_to_num(np.exp(tree[names.MODES].dataset[names.LOG_MASS].values))
    shares = mass / mass.sum()
    heavy = np.flatnonzero(shares > LIGHT)
    if heavy.size == 1:
        return 0.0
    draws = mixtures(tree)
    found = of_modes(tree, specification(tree).noise)
    modes = [one[heavy] for one in found.standardised(draws.center, draws.unit)]
    if names.OBSERVED_DATA in tree.children:
        every = fitted_rows(tree, draws)
        points = np.ascontiguousarray(every[:, :: -(-every.shape[1] // LOOKED_AT)])
    else:
        points = np.ascontiguousarray(modes[1].reshape(-1, modes[1].shape[2]).T)
    at_draws = _densities(points, draws[:3])
    gaps = [np.abs(at_draws - mode).mean(axis=1) for mode in _densities(points, modes)]
    empty = np.setdiff1d(np.arange(heavy.size), np.argmin(gaps, axis=0))
    return float(shares[heavy[empty]].sum())


def _densities(points: Array, parts: Sequence[Array]) -> Array:
    """Return the log density of every mixture at every point, shape (S, n)."""
    log_weights, means, cholesky = parts
    density = np.empty((len(means), points.shape[1]))
    fill_draws(points, log_weights, means, cholesky, density, NO_CUBE, NO_LABELS, NO_CUBE)
    return density


def gap_in_density(tree: xr.DataTree, log_p: Array) -> float:
    """Return how far the log posterior in a tree is from the same computed anew, in nats.

    The median over draws, 0 where it is rounding: more means that the draws are not those of the
    specification and the rows in the tree. A draw with a weight too small to be kept has NaN for
    what is computed anew, and does not count.
    """
    stored = tree[names.SAMPLE_STATS].dataset[names.LP].transpose(names.CHAIN, names.DRAW).values
    known = ~np.isnan(log_p)
    if not known.any():
        return float("inf")
    gap = float(np.median(np.abs(log_p - stored.ravel())[known]))
    nats, relative = SAME_DENSITY
    return 0.0 if gap <= nats + relative * float(np.median(np.abs(log_p[known]))) else gap


def of_quantities(kind: str, quality: Mapping[str, Array]) -> dict[str, float]:
    """Return the worst R-hat and effective sample size of some quantities, NaN if all are."""
    r_hat, ess = quality["r_hat"], np.minimum(quality["ess_bulk"], quality["ess_tail"])
    return {
        f"largest R-hat, {kind}": float(np.nanmax(r_hat)) if np.isfinite(r_hat).any() else np.nan,
        f"smallest ESS, {kind}": float(np.nanmin(ess)) if np.isfinite(ess).any() else np.nan,
    }


def of_sampler(stats: xr.Dataset) -> dict[str, float]:
    """Return the evidence that NUTS itself gives."""
    evidence = {}
    if names.DIVERGING in stats:
        evidence["divergences"] = float(stats[names.DIVERGING].sum())
    if names.TREE_DEPTH in stats:
        saturated = stats[names.TREE_DEPTH].values >= MAX_TREE_DEPTH
        evidence["draws at the largest tree"] = float(saturated.mean())
    if names.ENERGY in stats:
        energy = stats[names.ENERGY].transpose(names.CHAIN, names.DRAW).values
        steps, spread = np.square(np.diff(energy, axis=1)).mean(axis=1), energy.var(axis=1)
        evidence["smallest E-BFMI"] = float(
            np.divide(steps, spread, out=np.zeros_like(steps), where=spread > 0).min()
        )
    return evidence


def at_floor(tree: xr.DataTree) -> tuple[float, Any]:
    """Return the largest share of draws with a scale near its floor, and of which feature."""
    floor = np.atleast_1d(np.asarray(specification(tree).covariance.floor, dtype=float))
    if not (floor > 0).any():
        return 0.0, None
    posterior = tree[names.POSTERIOR].dataset
    scales = posterior.get(names.NOISE_SCALES, posterior[names.SCALES])
    near = NEAR_FLOOR * np.broadcast_to(floor, scales.sizes[names.FEATURE])
    narrow = scales <= xr.DataArray(near, dims=names.FEATURE)  # a scale is never 0
    weights = tree[names.CONSTANT_DATA].dataset.get(names.SAMPLE_WEIGHT)
    n_rows = tree.attrs.get(names.N_ROWS) if weights is None else float(weights.sum())
    if n_rows is None:
        n_rows = tree[names.OBSERVED_DATA].sizes[names.OBS]
    narrow &= posterior[names.WEIGHTS] * n_rows >= 1.0  # what has no row sits on none
    shares = narrow.any(names.COMPONENT).mean((names.CHAIN, names.DRAW))
    return float(shares.max()), shares[names.FEATURE].values.tolist()[int(shares.values.argmax())]


def flat(tree: xr.DataTree) -> float | None:
    """Return the share of draws with a component that is flat along some direction.

    None where the model has no correlations, or no scale has a floor: rows that were not rounded
    lie near a line because that is what they do. Some 200 draws of every chain are looked at.
    """
    if names.CORRELATIONS not in tree[names.POSTERIOR].dataset:
        return None  # noise scales have a floor in every direction
    correlations = tree[names.POSTERIOR].dataset[names.CORRELATIONS]
    spec = specification(tree)
    rounded = np.any(np.asarray(spec.covariance.floor) > 0)
    if spec.structure.correlations == "none" or not rounded or correlations.shape[-1] == 1:
        return None
    every = -(-correlations.sizes[names.DRAW] // LOOKED_AT)
    looked_at = correlations.isel({names.DRAW: slice(None, None, every)}).transpose(
        ..., names.COMPONENT, names.FEATURE, names.FEATURE2
    )
    thinnest = np.linalg.eigvalsh(looked_at.values)[..., 0].min(axis=-1)
    return float((thinnest < FLAT).mean())
