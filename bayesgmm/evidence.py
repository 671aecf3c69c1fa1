"""The evidence of a fit: the density of the data under the model, parameters integrated out."""

import warnings
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import logsumexp

from bayesgmm import names
from bayesgmm.bridge import Bridge, Proposal, bridge
from bayesgmm.crossvalidation import check_draws
from bayesgmm.errors import ConvergenceWarning, check_integer
from bayesgmm.overfitted import StickBreaking
from bayesgmm.posterior_density import Density, curvature, whole
from bayesgmm.problem import Problem
from bayesgmm.records import fingerprint
from bayesgmm.summaries import require_draws
from bayesgmm.symmetry import Domain, groups_of, log_copies
from bayesgmm.symptoms import gap_in_density, never_moved
from bayesgmm.tree import require, specification
from bayesgmm.tree.mixtures import of_modes

type Array = NDArray[np.float64]

DRAWS_PER_PARAMETER: Final = 4
"""Draws, at least, from halves of which a proposal is fitted."""
MOST_PROPOSALS: Final = 16
"""Draws of the proposal for one of the posterior, at the most."""
ENOUGH: Final = 0.01
"""Error, in nats, that the proposals may add without being more."""
LARGE: Final = 0.5
"""Error, in nats, from which the evidence is not to be relied on."""
WIDEST: Final = 10.0
"""Standard deviation, on the unconstrained scale, that a curvature is believed for."""
PLAUSIBLE: Final = 2.0
"""Nats by which Laplace's approximation may well be off, and for every parameter besides:"""
ABOVE: Final = 0.1
"""where it is larger than the evidence,"""
BELOW: Final = 0.5
"""and where it is smaller: of components that the data do not need it sees little."""


@dataclass(frozen=True, repr=False)
class Evidence:
    """The logarithm of the evidence of a fit, with its error.

    Parameters
    ----------
    value : float
        In nats, of a density in the data's units.
    error : float
        Its standard error, in nats.
    laplace : float
        The same by Laplace's approximation at the modes of the fit, whose error is not known; NaN
        where the fit has none.
    n_components : int
    data : str
        A digest of the rows, by which fits of other rows are refused.
    """

    value: float
    error: float
    laplace: float
    n_components: int
    data: str = field(repr=False)

    def __repr__(self) -> str:
        beside = "" if np.isnan(self.laplace) else f" (Laplace {self.laplace:.1f})"
        return (
            f"Evidence: {self.value:.2f} nats, standard error {self.error:.1g}, of "
            f"{self.n_components} component{'s' * (self.n_components != 1)}{beside}"
        )


def log_evidence(tree: xr.DataTree, *, random_seed: int | None = None) -> Evidence:
    r"""Estimate the log evidence: the log density of the data, all parameters integrated out.

    .. math:: \log p(X) = \log \int p(X \mid \theta) \, p(\theta) \, d\theta

    By bridge sampling, between the draws of the fit and those of a mixture of Normal distributions
    that is fitted to half of them, on the unconstrained scale; with the halves swapped, and both
    averaged. All K! namings of the components count, however the draws are named: the integral is
    taken over one of the equal copies of the posterior, and multiplied.

    Parameters
    ----------
    tree : DataTree
        A fit by ``"nuts"``, or by an approximation whose draws were resampled.
    random_seed : int, optional
        The same seed gives the same estimate.

    Returns
    -------
    Evidence
        With ``value`` and its standard ``error``, in nats, and ``laplace``, the approximation at
        the modes of the fit.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit; holds a point, draws of an approximation, fewer than four for
        every parameter, or a stuck chain; or if its draws are not those of its specification and
        rows, because a PyMC model was changed or rows were taken out.

    Warns
    -----
    ConvergenceWarning
        If the error exceeds 0.5 nats; or if Laplace's approximation is further away than is
        plausible: by 2 nats, five standard errors, and for every parameter 0.1 nats where it is
        larger, 0.5 where it is smaller, as it is with components that the data do not need.

    See Also
    --------
    posterior_over_components : Probabilities of numbers of components.
    check : Whether the draws are to be believed, without which the evidence is not.

    Notes
    -----
    The error accounts for the autocorrelation of draws, and is at least half the difference
    between the estimates from both halves. A mode that no chain has visited is in neither, but may
    be in ``laplace``.

    Passes over the data, O(N K D^2) each: one for every draw, and 1 to 16 times as many for draws
    of the proposal, until these contribute less to the error than the others. O(S P^2) operations
    and O(S P) numbers besides, for S draws of P parameters.

    References
    ----------
    Meng & Wong (1996), Simulating ratios of normalizing constants via a simple identity: a
    theoretical exploration, Statistica Sinica 6.

    Fruehwirth-Schnatter (2004), Estimating marginal likelihoods for mixture and Markov switching
    models using bridge sampling techniques, Econometrics Journal 7.
    doi:10.1111/j.1368-423X.2004.00125.x

    Gronau, Sarafoglou, Matzke, Ly, Boehm, Marsman, Leslie, Forster, Wagenmakers & Steingroever
    (2017), A tutorial on bridge sampling, J. Mathematical Psychology 81.
    doi:10.1016/j.jmp.2017.09.005

    Celeux, Kamary, Malsiner-Walli, Marin & Robert (2018), Computational solutions for Bayesian
    inference in mixture models. arXiv:1812.07240

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, draws=500, random_seed=1)
    >>> found = bg.log_evidence(tree, random_seed=1)
    >>> round(found.value), found.error < 0.1
    (-1168, True)
    """
    check_posterior(tree, "tree", "log_evidence")
    if random_seed is not None:
        check_integer(random_seed, "random_seed", 0, "Give an integer such as 1, or None.")
    return evidence_of(tree, "tree", np.random.default_rng(random_seed))


def check_posterior(tree: Any, argument: str, function: str) -> None:
    """Refuse what has no draws of the posterior of its specification."""
    groups = (names.POSTERIOR, names.SAMPLE_STATS)
    require_draws(tree, *groups, function=function, argument=argument)
    check_draws(tree, argument, function)
    require(tree, names.CONSTANT_DATA, function=function, argument=argument)
    if names.N_COMPONENTS in tree[names.POSTERIOR].dataset:
        raise ValueError(
            f"`{argument}` must have a known number of components for `{function}`; got a fit in "
            f"which it has a prior. Its posterior is in `posterior['n_components']`; for the "
            f"evidence of each number, fit it alone."
        )
    if isinstance(specification(tree).weights, StickBreaking):
        raise ValueError(
            f"`{argument}` must have Dirichlet weights for `{function}`; got StickBreaking, under "
            f"which renaming components changes their prior: the copies of the posterior are not "
            f"alike. Take SparseDirichlet, or PriorOnComponents."
        )
    if not tree.attrs.get(names.RESAMPLED, 1):
        raise ValueError(
            f"`{argument}` must hold draws of the posterior for `{function}`; got those of the "
            f"approximation {tree.attrs.get(names.METHOD)!r}, too far from it to be resampled "
            f"(pareto_k {tree.attrs.get(names.PARETO_K, np.nan):.2f}). Fit with method='nuts'."
        )
    stuck = never_moved(tree[names.SAMPLE_STATS].dataset)
    if stuck:
        raise ValueError(
            f"`{argument}` must hold chains that move for `{function}`; got {stuck} of "
            f"{tree[names.POSTERIOR].sizes[names.CHAIN]} with the same draw throughout. See "
            f"bayesgmm.check(tree), and fit again."
        )


def evidence_of(tree: xr.DataTree, argument: str, rng: np.random.Generator) -> Evidence:
    """Return the evidence of a fit that was checked."""
    problem = Problem.of_tree(tree)
    density = whole(problem)
    vectors, sizes = problem.vectors_of(tree), tree[names.POSTERIOR].sizes
    shape = (sizes[names.CHAIN], sizes[names.DRAW])
    if len(vectors) < DRAWS_PER_PARAMETER * problem.n_parameters:
        raise ValueError(
            f"`{argument}` must hold at least {DRAWS_PER_PARAMETER} draws for every parameter; got "
            f"{len(vectors)} for {problem.n_parameters} parameters. Fit again with more draws."
        )
    _refuse_infinite(vectors, argument, shape)
    lp = density(vectors)[0]
    _check_density(tree, argument, lp)
    groups = groups_of(problem.specification, problem.data.allowed)
    halves = []
    in_chains, lp = vectors.reshape(*shape, -1), lp.reshape(shape)
    first, second = slice(None, shape[1] // 2), slice(shape[1] // 2, None)
    for fitted, used in ((first, second), (second, first)):
        sample = in_chains[:, fitted].reshape(-1, vectors.shape[1])
        domain = Domain.around(problem.layout, groups, sample, int(lp[:, fitted].argmax()))
        proposal = Proposal.fit(domain.moved(sample), rng)
        halves.append(_half(density, domain, proposal, in_chains[:, used], lp[:, used], rng))
    data = problem.data
    said = data.values, data.errors, data.allowed, data.sample_weight
    volume = problem.layout.n_components * float(np.log(problem.unit).sum())  # of the means' units
    constant = volume + log_copies(groups)
    value, error = _averaged(*halves)
    result = Evidence(
        value=value + constant,
        error=error,
        laplace=_laplace(tree, problem, density) + constant,
        n_components=problem.layout.n_components,
        data=fingerprint(*said, noise=problem.specification.noise is not None),
    )
    _warn(result, argument, problem.n_parameters)
    return result


def _refuse_infinite(vectors: Array, argument: str, shape: tuple[int, int]) -> None:
    """Refuse draws that the unconstrained scale has no place for."""
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        chain, draw = divmod(int(finite.argmin()), shape[1])
        raise ValueError(
            f"`{argument}` must hold weights and scales above 0, and correlations within -1 and 1; "
            f"got others at chain {chain}, draw {draw}, where a number was too small to be kept. "
            f"Fit with a larger `concentration`, or weights=bg.SparseDirichlet(...)."
        )


def _check_density(tree: xr.DataTree, argument: str, lp: Array) -> None:
    """Refuse draws whose density is not that of the specification and the rows of the tree."""
    gap = gap_in_density(tree, lp)
    if gap != 0.0:
        raise ValueError(
            f"`{argument}` must hold draws whose log posterior is that of its specification and "
            f"rows; got 'lp' that differs from it by {gap:.4g} nats, median of all draws. The "
            f"evidence of a PyMC model that was changed, or of a part of the rows, is not known: "
            f"fit the specification to the rows."
        )


def _half(
    density: Density,
    domain: Domain,
    proposal: Proposal,
    draws: Array,
    lp: Array,
    rng: np.random.Generator,
) -> Bridge:
    """Return the integral over a domain by some draws, shape (chains, draws, P), and a proposal."""
    flat = draws.reshape(-1, draws.shape[2])
    at_draws = lp - proposal.log_density(domain.moved(flat)).reshape(lp.shape)
    at_proposals = np.empty(0)
    while True:
        new = proposal.draw(max(len(flat), at_proposals.size), rng)
        ratios = np.full(len(new), -np.inf)
        held = domain.holds(new)
        ratios[held] = density(new[held])[0] - proposal.log_density(new[held])
        ratios[np.isnan(ratios)] = -np.inf  # so far out that the density overflows
        at_proposals = np.concatenate([at_proposals, ratios])
        found = bridge(at_draws, at_proposals)
        enough = found.of_proposals <= max(found.of_draws, ENOUGH**2)
        if enough or at_proposals.size >= MOST_PROPOSALS * len(flat):
            return found


def _averaged(one: Bridge, other: Bridge) -> tuple[float, float]:
    """Return the mean of the estimates from both halves, and its standard error.

    How far a proposal that was fitted to one half is from draws of the other is the same for both,
    to first order: what draws contribute to the errors does not average out.
    """
    of_draws = 0.25 * (one.of_draws**0.5 + other.of_draws**0.5) ** 2
    error = (of_draws + 0.25 * (one.of_proposals + other.of_proposals)) ** 0.5
    return 0.5 * (one.value + other.value), max(error, 0.5 * abs(one.value - other.value))


def _laplace(tree: xr.DataTree, problem: Problem, density: Density) -> float:
    """Return the log integral around one copy of every mode of a fit, NaN if it has no modes."""
    if names.MODES not in tree.children:
        return float("nan")
    vectors = problem.vectors(of_modes(tree, problem.specification.noise))
    heights = density(vectors)[0]
    masses = []
    for vector, height in zip(vectors, heights, strict=True):
        if heights.max() - height > vector.size:  # it holds next to nothing
            continue
        widths = np.maximum(np.linalg.eigvalsh(curvature(problem, vector)), WIDEST**-2.0)
        masses.append(height + 0.5 * np.log(2.0 * np.pi / widths).sum())
    return float(logsumexp(masses))


def _warn(found: Evidence, argument: str, n_parameters: int) -> None:
    """Warn of an evidence that is not to be relied on."""
    if found.error > LARGE:
        warnings.warn(
            f"The log evidence of `{argument}` has a standard error of {found.error:.2f} nats: "
            f"chains move slowly between modes, or the posterior is far from Normal. Draw more.",
            ConvergenceWarning,
            stacklevel=4,
        )
    gap = found.laplace - found.value
    each = ABOVE if gap > 0.0 else BELOW
    if abs(gap) > PLAUSIBLE + each * n_parameters + 5.0 * found.error:
        why = "far from Normal, around its modes or between them"
        if gap > 0.0:
            why = "far from Normal, or has a mode that no chain has visited"
        warnings.warn(
            f"The log evidence of `{argument}` is {found.value:.1f} by bridge sampling and "
            f"{found.laplace:.1f} by Laplace's approximation: the posterior is {why}. See "
            f"bayesgmm.check(tree) and bayesgmm.mode_audit(tree).",
            ConvergenceWarning,
            stacklevel=4,
        )
