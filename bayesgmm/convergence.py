"""Whether to believe a fit, on what evidence, and what to do if not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.summaries import diagnose, distinct_parameters
from bayesgmm.tree import require, specification

type Array = NDArray[np.float64]

LARGEST_RHAT: Final = 1.01
"""Vehtari et al. (2021)."""
DISAGREEMENT: Final = 1.05
"""R-hat above which chains disagree, rather than being short."""
SMALLEST_ESS: Final = 100
"""Effective draws per chain below which R-hat and intervals are not to be trusted (same)."""
SMALLEST_BFMI: Final = 0.3
"""Betancourt (2016)."""
MAX_TREE_DEPTH: Final = 10
SMALL_MARGIN: Final = 0.02
"""A draw whose best matching wins by a smaller share of the rows is nearly a tie."""
MANY_TIES: Final = 0.05
"""Share of such draws from which aligned marginals are called ambiguous."""
NEAR_FLOOR: Final = 1.2
"""Ratio of a scale to its floor up to which it sits on rounded values rather than on a spread."""
OFTEN: Final = 0.05
"""Share of the draws from which that is said."""
FLAT: Final = 1e-6
"""Smallest eigenvalue of a correlation matrix at which features determine each other."""
LOOKED_AT: Final = 200
"""Draws of a chain whose correlation matrices are looked at."""
POINTS: Final = ("map", "ml")
"""Methods whose result is a single point."""
FEWEST_DRAWS: Final = 4
"""Draws per chain that the diagnostics need."""
HELD_POINTS: Final = 20
"""Rows at which the log density is monitored."""


@dataclass(frozen=True)
class Report:
    """Whether a fit can be trusted, why, and what to do.

    Parameters
    ----------
    ok : bool
        Whether nothing stands against using every number of the fit.
    verdict : str
        One sentence.
    evidence : dict of str to number
        What was measured.
    advice : tuple of str
        What to do about each thing found, worst first.
    """

    ok: bool
    verdict: str
    evidence: Mapping[str, float]
    advice: tuple[str, ...]

    def __str__(self) -> str:
        lines = [self.verdict]
        lines += [f"  {name:<28} {value:.6g}" for name, value in self.evidence.items()]
        lines += [f"  -> {advice}" for advice in self.advice]
        return "\n".join(lines)


def check(tree: xr.DataTree) -> Report:
    """Say whether a fit can be trusted, on what evidence, and what to do if it cannot.

    For draws: R-hat and effective sample sizes of the aligned parameters, and of quantities that
    no permutation of components changes (the log posterior, sorted weights, the log density at
    some rows), so that label switching is not mistaken for failure nor failure for label
    switching; divergences, saturated trees and energy of NUTS; how often the alignment was
    nearly a tie. For a single point: whether the optimiser arrived, and how many starts agreed.

    Parameters
    ----------
    tree : DataTree
        A fit.

    Returns
    -------
    Report
        ``ok``, ``verdict``, ``evidence`` and ``advice``; ``str`` of it is the text to read.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit.

    References
    ----------
    Vehtari, Gelman, Simpson, Carpenter & Buerkner (2021), Rank-normalization, folding, and
    localization: an improved R-hat, Bayesian Analysis 16. doi:10.1214/20-BA1221

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, method="map", random_seed=1)
    >>> bg.check(tree).ok
    True
    """
    require(tree, names.POSTERIOR, names.SAMPLE_STATS, function="check")
    if tree.attrs.get(names.METHOD) in POINTS:
        return _check_point(tree)
    draws = tree[names.POSTERIOR].sizes[names.DRAW]
    if draws < FEWEST_DRAWS:
        return Report(
            False,
            "Too few draws to say anything.",
            {"draws per chain": float(draws)},
            (f"Draw more: {FEWEST_DRAWS} a chain at the least, 1000 as a rule.",),
        )
    return _check_draws(tree)


def _check_point(tree: xr.DataTree) -> Report:
    """Check a fit that is a single point."""
    attrs = tree.attrs
    objective = tree[names.MODES].dataset[names.OBJECTIVE].values
    agreeing = int(tree[names.MODES].dataset[names.STARTS].values[0])
    starts = int(attrs.get("starts", agreeing))
    degenerate = int(attrs.get("degenerate_starts", 0))
    converged = bool(attrs.get("converged", 1))
    evidence = {
        "starts": float(starts),
        "starts at the best mode": float(agreeing),
        "distinct modes": float(len(objective)),
        "degenerate starts": float(degenerate),
    }
    advice = []
    if not converged:
        advice.append("The optimiser stopped short of the top: rescale `X`, or fit again.")
    if agreeing == 1 and starts > 1:
        advice.append(
            "Only one start found the best mode, so a better one may exist: use fewer components, "
            "or method='nuts' to see the posterior around it."
        )
    found = "the optimiser converged" if converged else "the optimiser did not converge"
    verdict = (
        f"{'Trustworthy' if not advice else 'Doubtful'}: {found}, and {agreeing} of {starts} "
        f"starts reached the best of {len(objective)} modes."
    )
    return Report(not advice, verdict, evidence, tuple(advice))


def _check_draws(tree: xr.DataTree) -> Report:
    """Check a fit that is made of draws."""
    posterior, stats = tree[names.POSTERIOR].dataset, tree[names.SAMPLE_STATS].dataset
    n_chains = posterior.sizes[names.CHAIN]
    labels, aligned = distinct_parameters(tree)
    free_labels, label_free = _label_free(tree)
    of_aligned, of_free = diagnose(aligned), diagnose(label_free)
    evidence = {
        "chains": float(n_chains),
        "draws per chain": float(posterior.sizes[names.DRAW]),
        "largest R-hat, aligned": _worst(of_aligned["r_hat"], np.nanmax),
        "largest R-hat, label-free": _worst(of_free["r_hat"], np.nanmax),
        "smallest ESS, aligned": _worst(
            np.minimum(of_aligned["ess_bulk"], of_aligned["ess_tail"]), np.nanmin
        ),
        "smallest ESS, label-free": _worst(
            np.minimum(of_free["ess_bulk"], of_free["ess_tail"]), np.nanmin
        ),
        "draws nearly tied in labels": float(
            (tree[names.ALIGNMENT].dataset[names.MARGIN].values < SMALL_MARGIN).mean()
            if names.ALIGNMENT in tree.children
            else 0.0
        ),
        "chains that never moved": float(_never_moved(stats)),
    } | _of_sampler(stats)
    at_floor, where = _at_floor(tree)
    if where is not None:
        evidence["draws at the rounding error"] = at_floor
    flat = _flat(tree)
    if flat is not None:
        evidence["draws flat along a line"] = flat
    failures = _failures(evidence, n_chains, labels, of_aligned, free_labels, of_free)
    if flat is not None and flat > 0.0:
        failures.insert(0, (
            "Not to be trusted: a component has collapsed onto rows that lie on a line.",
            f"In {flat:.0%} of the draws features of a component determine each other, as rounded "
            f"values can. Use structure 'diag' or 'tied', fewer components, or a larger `eta` in "
            f"LKJCovariance.",
        ))  # fmt: skip
    if at_floor > OFTEN:
        failures.append((
            "Doubtful: a component sits on rounded values rather than on a cluster.",
            f"In {at_floor:.0%} of the draws a component is as narrow in {where!r} as its values "
            f"are rounded. Use fewer components, a structure that shares scales such as 'tied', or "
            f"a larger `floor` in LKJCovariance.",
        ))  # fmt: skip
    verdict = "Trustworthy: chains agree, labels are clear and effective draws suffice."
    if failures:
        verdict = failures[0][0]
    return Report(not failures, verdict, evidence, tuple(advice for _, advice in failures))


def _failures(
    evidence: Mapping[str, float],
    n_chains: int,
    labels: list[str],
    of_aligned: Mapping[str, Array],
    free_labels: list[str],
    of_free: Mapping[str, Array],
) -> list[tuple[str, str]]:
    """Return what stands against a fit, worst first: verdicts, each with its remedy."""
    found = []
    stuck = evidence["chains that never moved"] > 0
    if stuck:
        found.append((
            "Not converged: chains that never moved say nothing.",
            f"{evidence['chains that never moved']:.0f} of {n_chains} chains stayed where they "
            f"started. Rescale `X`, or fit again with target_accept=0.95.",
        ))  # fmt: skip
    least = SMALLEST_ESS * n_chains
    r_hat, ess = evidence["largest R-hat, label-free"], evidence["smallest ESS, label-free"]
    if not stuck and r_hat > DISAGREEMENT:
        worst = free_labels[int(np.nanargmax(of_free["r_hat"]))]
        found.append((
            "Not converged: chains disagree about quantities that do not depend on labels.",
            f"R-hat is {r_hat:.3f} for the {worst}: chains sit in different modes or mix slowly. "
            f"Draw more, draws={_more_draws(evidence)}, or use fewer components or a structure "
            f"with fewer parameters.",
        ))  # fmt: skip
    elif not stuck and (r_hat > LARGEST_RHAT or ess < least):
        found.append((
            "Too few effective draws: estimates and diagnostics are not yet reliable.",
            f"R-hat reaches {r_hat:.3f}, and the smallest effective sample size is {ess:.0f}; "
            f"{LARGEST_RHAT} and {least} are wanted. Draw more: draws={_more_draws(evidence)}.",
        ))  # fmt: skip
    if n_chains == 1:
        found.append((
            "Unconfirmed: a single chain cannot show that it found the whole posterior.",
            "Fit with chains=4: that chains from different starts agree is the evidence.",
        ))  # fmt: skip
    if evidence.get("divergences", 0) > 0:
        found.append((
            "Biased by divergences: parts of the posterior were not reached.",
            f"{evidence['divergences']:.0f} draws diverged. Fit again with target_accept=0.95; if "
            f"some remain, use fewer components or a narrower prior of the scales.",
        ))  # fmt: skip
    if evidence.get("smallest E-BFMI", 1.0) < SMALLEST_BFMI or (
        evidence.get("draws at the largest tree", 0.0) > 0.01
    ):
        found.append((
            "Slow: the sampler does not move freely through the posterior.",
            "Trees hit their limit, or energy changes little from draw to draw. Draw more, or use "
            "fewer components.",
        ))  # fmt: skip
    tied = evidence["draws nearly tied in labels"] > MANY_TIES
    unclear = not found and (
        evidence["largest R-hat, aligned"] > LARGEST_RHAT
        or evidence["smallest ESS, aligned"] < least
    )
    if tied or unclear:
        worst = labels[int(np.nanargmax(of_aligned["r_hat"]))]
        found.append((
            "Labels are unclear: chains agree about the density, but not about single components.",
            f"Matching components to clusters was nearly a tie in "
            f"{evidence['draws nearly tied in labels']:.0%} of the draws, and R-hat is "
            f"{evidence['largest R-hat, aligned']:.3f} for {worst}. Density, predictions of it and "
            f"LOO stand; do not read single components. Use fewer components to get them.",
        ))  # fmt: skip
    return found


def _more_draws(evidence: Mapping[str, float]) -> int:
    """Return draws per chain that should give enough effective ones; twice as many at least."""
    needed = SMALLEST_ESS * evidence["chains"] / max(evidence["smallest ESS, label-free"], 1.0)
    factor = min(max(1.5 * needed, 2.0), 30.0)
    return int(np.ceil(factor * evidence["draws per chain"] / 500) * 500)


def _never_moved(stats: xr.Dataset) -> int:
    """Return the number of chains whose log posterior is the same in every draw."""
    lp = stats[names.LP].transpose(names.CHAIN, names.DRAW).values
    return int((np.ptp(lp, axis=1) == 0).sum())


def _of_sampler(stats: xr.Dataset) -> dict[str, float]:
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


def _at_floor(tree: xr.DataTree) -> tuple[float, Any]:
    """Return the largest share of draws with a scale near its floor, and of which feature."""
    floor = np.atleast_1d(np.asarray(specification(tree).covariance.floor, dtype=float))
    if not (floor > 0).any():
        return 0.0, None
    scales = tree[names.POSTERIOR].dataset[names.SCALES]
    near = NEAR_FLOOR * np.broadcast_to(floor, scales.sizes[names.FEATURE])
    narrow = scales <= xr.DataArray(near, dims=names.FEATURE)  # a scale is never 0
    shares = narrow.any(names.COMPONENT).mean((names.CHAIN, names.DRAW))
    return float(shares.max()), shares[names.FEATURE].values.tolist()[int(shares.values.argmax())]


def _flat(tree: xr.DataTree) -> float | None:
    """Return the share of draws with a component that is flat along some direction.

    None where the model has no correlations, or no scale has a floor: rows that were not rounded
    lie near a line because that is what they do. Some 200 draws of every chain are looked at.
    """
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


def _worst(values: Array, choose: Any) -> float:
    """Return the largest or smallest value, NaN if there is none."""
    return float(choose(values)) if np.isfinite(values).any() else float("nan")


def _label_free(tree: xr.DataTree) -> tuple[list[str], Array]:
    """Return names and draws, shape (chains, draws, Q), of what no permutation changes."""
    sample = (names.CHAIN, names.DRAW)
    lp = tree[names.SAMPLE_STATS].dataset[names.LP].transpose(*sample).values
    posterior = tree[names.POSTERIOR].dataset
    weights = posterior[names.WEIGHTS].transpose(*sample, names.COMPONENT).values
    labels = ["log posterior"]
    parts = [lp[..., None], np.sort(weights, axis=-1)[..., ::-1]]
    labels += [f"weight of rank {rank}" for rank in range(1, weights.shape[-1] + 1)]
    if names.LOG_LIKELIHOOD in tree.children:
        density = tree[names.LOG_LIKELIHOOD].dataset[names.X].transpose(*sample, names.OBS)
        held = np.unique(np.linspace(0, density.sizes[names.OBS] - 1, HELD_POINTS).astype(int))
        chosen = density.isel({names.OBS: held})
        parts.append(chosen.values)
        labels += [f"log density at row {label!r}" for label in chosen[names.OBS].values.tolist()]
    return labels, np.concatenate(parts, axis=-1)
