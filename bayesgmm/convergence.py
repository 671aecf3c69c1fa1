"""Whether to believe a fit, on what evidence, and what to do if not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names, symptoms
from bayesgmm.kernels.psis import LARGEST_PARETO_K
from bayesgmm.modes import lower_modes
from bayesgmm.summaries import FEWEST_DRAWS, diagnostics, distinct_parameters, require_draws

type Array = NDArray[np.float64]

LARGEST_RHAT: Final = 1.01
"""Vehtari et al. (2021)."""
DISAGREEMENT: Final = 1.05
"""R-hat above which chains disagree, rather than being short."""
SMALLEST_ESS: Final = 100
"""Effective draws per chain below which R-hat and intervals are not to be trusted (same)."""
SMALLEST_BFMI: Final = 0.3
"""Betancourt (2016)."""
SMALLEST_SHARE: Final = 0.95
"""Of the mass of the modes that were found, held by the one that is approximated."""
MANY_TIES: Final = 0.05
"""Share of draws nearly tied in labels from which aligned marginals are called ambiguous."""
OFTEN: Final = 0.05
"""Share of the draws with a scale at its floor from which that is said."""
POINTS: Final = ("map", "ml")
"""Methods whose result is a single point."""
APPROXIMATIONS: Final = ("advi", "fullrank_advi", "laplace")
"""Methods whose draws are independent, of something near the posterior."""


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

    For draws: R-hat and effective sample sizes of the aligned parameters, and of quantities that no
    permutation of components changes (the log posterior, sorted weights, the number of occupied
    components, the log density at some rows, whether random pairs of rows share a component), so
    that label switching is not mistaken for failure nor failure for label switching; in how many
    modes chains sit, and the mass of those that none visited, where masses were measured;
    divergences, saturated trees and energy of NUTS; how often the alignment was nearly a tie. For
    an approximation, whose draws are independent: the Pareto k-hat of its importance weights, which
    tells whether the posterior has what the draws have not, but not of modes where no draw is. For
    a single point: whether the optimiser arrived, and how many starts agreed.

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
        If `tree` is not a fit, or was taken apart along ``chain`` or ``draw``.

    See Also
    --------
    mode_audit : What the modes that chains sit in are worth.
    alignment_report : Which components can be read.

    References
    ----------
    Vehtari, Gelman, Simpson, Carpenter & Buerkner (2021), Rank-normalization, folding, and
    localization: an improved R-hat, Bayesian Analysis 16. doi:10.1214/20-BA1221

    Yao, Vehtari, Simpson & Gelman (2018), Yes, but did it work? Evaluating variational
    inference, Proceedings of Machine Learning Research 80.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, method="map", random_seed=1)
    >>> bg.check(tree).ok
    True
    """
    require_draws(tree, names.POSTERIOR, names.SAMPLE_STATS, function="check")
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
    if tree.attrs.get(names.METHOD) in APPROXIMATIONS:
        return _check_approximation(tree)
    return _check_draws(tree)


def _check_point(tree: xr.DataTree) -> Report:
    """Check a fit that is a single point."""
    attrs = tree.attrs
    if names.MODES not in tree.children:
        return _check_carried(tree)
    objective = tree[names.MODES].dataset[names.OBJECTIVE].values
    agreeing = int(tree[names.MODES].dataset[names.STARTS].values[0])
    starts = int(attrs.get("starts", agreeing))
    degenerate = int(attrs.get("degenerate_starts", 0))
    converged = bool(attrs.get(names.CONVERGED, 1))
    evidence = {
        "starts": float(starts),
        "starts at the best mode": float(agreeing),
        "distinct modes": float(len(objective)),
        "degenerate starts": float(degenerate),
    }
    reached = f"{agreeing} of {starts} starts reached the best of {len(objective)} modes."
    found = []
    if not converged:
        found.append((
            f"Doubtful: the optimiser did not converge, and {reached}",
            "The optimiser stopped short of the top. Use fewer components, or a structure with "
            "fewer parameters such as 'tied'.",
        ))  # fmt: skip
    if agreeing == 1 and starts > 1:
        found.append((
            f"Doubtful: another mode may be higher, as only {reached}",
            "Only one start found the best mode, so a better one may exist: use fewer components, "
            "or method='nuts' to see the posterior around it.",
        ))  # fmt: skip
    good = f"Trustworthy: the optimiser converged, and {reached}"
    return _report(tree, good, evidence, found)


def _check_carried(tree: xr.DataTree) -> Report:
    """Check a point that was carried on from another, with no search for other modes."""
    rows = float(tree[names.SUFFICIENT_STATISTICS].dataset[names.COUNTS].sum())
    if tree.attrs.get(names.CONVERGED, 1):
        verdict = "Trustworthy if its start was: no other modes were looked for since."
        return Report(True, verdict, {"rows": rows}, ())
    advice = "Components overlap, or are too many: use fewer."
    return Report(False, "Doubtful: EM stopped short of the top.", {"rows": rows}, (advice,))


def _check_approximation(tree: xr.DataTree) -> Report:
    """Check a fit whose draws are of an approximation."""
    attrs, lp = tree.attrs, tree[names.SAMPLE_STATS].dataset[names.LP]
    n_chains, different = lp.sizes[names.CHAIN], np.unique(lp.values).size
    pareto_k = float(attrs.get(names.PARETO_K, np.nan))
    evidence = {
        "draws": float(lp.size),
        "different draws": float(different),
        "Pareto k-hat": pareto_k,
        "draws resampled": float(attrs.get(names.RESAMPLED, 0)),
        "draws nearly tied in labels": symptoms.nearly_tied(tree),
    }
    if names.MODE_SHARE in attrs:
        evidence["share of the mode"] = float(attrs[names.MODE_SHARE])
    found = []
    if names.PARETO_K not in attrs:
        found.append((
            "Unconfirmed: how far the approximation is from the posterior was not measured.",
            "Compare it with method='nuts', or fit a GaussianMixture, for which it is measured.",
        ))  # fmt: skip
    elif not pareto_k <= LARGEST_PARETO_K:
        found.append((
            "Not to be trusted: the approximation is too far from the posterior.",
            f"Pareto k-hat is {pareto_k:.2f}, where {LARGEST_PARETO_K} is the most that lets draws "
            f"be reweighted to the posterior: they are not, their means may be off, and their "
            f"spreads and tails more so. Fit with method='nuts'.",
        ))  # fmt: skip
    if not attrs.get(names.CONVERGED, 1):
        found.append((
            "Doubtful: the optimiser of the approximation did not converge.",
            "Use fewer components, or fit with method='nuts'.",
        ))  # fmt: skip
    share = evidence.get("share of the mode", 1.0)
    if share < SMALLEST_SHARE:
        found.append((
            "Doubtful: other modes hold a part of the posterior.",
            f"The mode that is approximated holds {share:.0%} of the mass of those that were "
            f"found, and k-hat does not see the others. Fit with method='nuts', or use fewer "
            f"components.",
        ))  # fmt: skip
    least = min(SMALLEST_ESS * n_chains, lp.size // 2)
    if different < least:
        found.append((
            "Too few different draws: a few carry most of the weight.",
            f"{different} of {lp.size} draws differ, and {least} are wanted. Draw more, or fit "
            f"with method='nuts'.",
        ))  # fmt: skip
    if evidence["draws nearly tied in labels"] > MANY_TIES:
        found.append((
            "Labels are unclear: which component is which changes from draw to draw.",
            f"Matching components to clusters was nearly a tie in "
            f"{evidence['draws nearly tied in labels']:.0%} of the draws. Density, predictions of "
            f"it and LOO do not depend on it; do not read single components.",
        ))  # fmt: skip
    good = "Trustworthy: the draws were near enough the posterior to be reweighted to it."
    return _report(tree, good, evidence, found)


def _check_draws(tree: xr.DataTree) -> Report:
    """Check a fit that is made of draws."""
    posterior, stats = tree[names.POSTERIOR].dataset, tree[names.SAMPLE_STATS].dataset
    n_chains = posterior.sizes[names.CHAIN]
    labels, aligned = distinct_parameters(tree)
    free_labels, label_free = symptoms.label_free(tree)
    quality = diagnostics(np.concatenate([aligned, label_free]))
    below, sitting = lower_modes(tree, label_free)
    of_aligned = {name: values[: len(labels)] for name, values in quality.items()}
    of_free = {name: values[len(labels) :] for name, values in quality.items()}
    evidence = {
        "chains": float(n_chains),
        "draws per chain": float(posterior.sizes[names.DRAW]),
        **symptoms.of_quantities("aligned", of_aligned),
        **symptoms.of_quantities("label-free", of_free),
        "modes that chains sit in": float(len(below) + 1),
        "draws nearly tied in labels": symptoms.nearly_tied(tree),
        "chains that never moved": float(symptoms.never_moved(stats)),
    } | symptoms.of_sampler(stats)
    if below:
        evidence["nats to the lowest mode"] = max(below)
    missing = symptoms.unvisited(tree)
    if missing is not None:
        evidence["mass of modes not visited"] = missing
    found = _failures(evidence, n_chains, labels, of_aligned, free_labels, of_free, sitting)
    good = "Trustworthy: chains agree, labels are clear and effective draws suffice."
    return _report(tree, good, evidence, found)


def _report(
    tree: xr.DataTree, good: str, evidence: dict[str, float], found: list[tuple[str, str]]
) -> Report:
    """Return the report, after a look for components that rounding made; `good` if all is well."""
    at_floor, where = symptoms.at_floor(tree)
    if where is not None:
        evidence["draws at the rounding error"] = at_floor
    flat = symptoms.flat(tree)
    if flat is not None:
        evidence["draws flat along a line"] = flat
    if flat is not None and flat > 0.0:
        found.insert(0, (
            "Not to be trusted: a component has collapsed onto rows that lie on a line.",
            f"In {flat:.0%} of the draws features of a component determine each other, as rounded "
            f"values can. Use structure 'diag' or 'tied', fewer components, or a larger `eta` in "
            f"LKJCovariance.",
        ))  # fmt: skip
    if at_floor > OFTEN:
        found.append((
            "Doubtful: a component sits on rounded values rather than on a cluster.",
            f"In {at_floor:.0%} of the draws a component is as narrow in {where!r} as its values "
            f"are rounded. Use fewer components, a structure that shares scales such as 'tied', or "
            f"a larger `floor` in LKJCovariance.",
        ))  # fmt: skip
    verdict = found[0][0] if found else good
    return Report(not found, verdict, evidence, tuple(advice for _, advice in found))


def _failures(
    evidence: Mapping[str, float],
    n_chains: int,
    labels: list[str],
    of_aligned: Mapping[str, Array],
    free_labels: list[str],
    of_free: Mapping[str, Array],
    sitting: str,
) -> list[tuple[str, str]]:
    """Return what stands against a fit, worst first: verdicts, each with its remedy."""
    found = []
    stuck = evidence["chains that never moved"] > 0
    if stuck:
        found.append((
            "Not converged: chains that never moved say nothing.",
            f"{evidence['chains that never moved']:.0f} of {n_chains} chains stayed where they "
            f"started. Fit again with target_accept=0.95; give priors in the units of `X`.",
        ))  # fmt: skip
    least = SMALLEST_ESS * n_chains
    r_hat, ess = evidence["largest R-hat, label-free"], evidence["smallest ESS, label-free"]
    if not stuck and r_hat > DISAGREEMENT:
        worst = free_labels[int(np.nanargmax(of_free["r_hat"]))]
        found.append((
            "Not converged: chains disagree about quantities that do not depend on labels.",
            f"R-hat is {_shown(r_hat)} for the {worst}: {sitting or 'chains mix slowly'}. "
            f"{_remedy(sitting, evidence)} Fewer components, or a structure with fewer "
            f"parameters, are easier.",
        ))  # fmt: skip
    elif not stuck and (r_hat > LARGEST_RHAT or ess < least):
        found.append((
            "Too few effective draws: estimates and diagnostics are not yet reliable.",
            f"R-hat reaches {_shown(r_hat)}, and the smallest effective sample size is {ess:.0f}; "
            f"{LARGEST_RHAT} and {least} are wanted. Draw more: draws={_more_draws(evidence)}.",
        ))  # fmt: skip
    found += _unseen(evidence, n_chains)
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
    tied = evidence["draws nearly tied in labels"]
    r_hat, ess = evidence["largest R-hat, aligned"], evidence["smallest ESS, aligned"]
    if tied > MANY_TIES or (not found and r_hat > DISAGREEMENT):
        worst = labels[int(np.nanargmax(of_aligned["r_hat"]))]
        found.append((
            "Labels are unclear: chains agree about the density, but not about single components.",
            f"Matching components to clusters was nearly a tie in {tied:.0%} of the draws, and "
            f"R-hat is {_shown(r_hat)} for {worst}. Density, predictions of it and LOO stand; do "
            f"not read single components. Use fewer components to get them.",
        ))  # fmt: skip
    elif not found and (r_hat > LARGEST_RHAT or ess < least):
        found.append((
            "Too few effective draws of single components.",
            f"R-hat reaches {_shown(r_hat)}, and the smallest effective sample size is {ess:.0f}; "
            f"{LARGEST_RHAT} and {least} are wanted. Draw more.",
        ))  # fmt: skip
    return found


def _unseen(evidence: Mapping[str, float], n_chains: int) -> list[tuple[str, str]]:
    """Return what the draws cannot show, though it is known or to be feared."""
    found = []
    missing = evidence.get("mass of modes not visited", 0.0)
    if missing > 1.0 - SMALLEST_SHARE:
        found.append((
            "Doubtful: no chain visited modes that hold a part of the posterior.",
            f"By Laplace's method they may hold {missing:.0%} of it: `log_mass` in `tree.modes`. "
            f"Use another number of components, or fit with another random_seed and more chains, "
            f"chains={2 * n_chains}, and see what the modes are worth: bayesgmm.mode_audit(tree).",
        ))  # fmt: skip
    if n_chains == 1:
        found.append((
            "Unconfirmed: a single chain cannot show that it found the whole posterior.",
            "Fit with chains=4: that chains from different starts agree is the evidence.",
        ))  # fmt: skip
    return found


def _remedy(sitting: str, evidence: Mapping[str, float]) -> str:
    """Return what to do about chains that disagree: those in modes of their own, or all."""
    if not sitting:
        return f"Draw more: draws={_more_draws(evidence)}."
    return (
        "All chains count alike in every number. Fit again with another random_seed, or see what "
        "the modes are worth: bayesgmm.mode_audit(tree)."
    )


def _more_draws(evidence: Mapping[str, float]) -> int:
    """Return draws per chain that should give enough effective ones; twice as many at least."""
    needed = SMALLEST_ESS * evidence["chains"] / max(evidence["smallest ESS, label-free"], 1.0)
    factor = min(max(1.5 * needed, 2.0), 30.0)
    return int(np.ceil(factor * evidence["draws per chain"] / 500) * 500)


def _shown(r_hat: float) -> str:
    """Return R-hat as it is read: it is not bounded where chains do not move."""
    return f"{r_hat:.3f}" if r_hat <= 100.0 else "above 100"
