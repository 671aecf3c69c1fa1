"""Which mode every chain sits in, and what the modes weigh against one another."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.comparison import compare
from bayesgmm.crossvalidation import check_draws
from bayesgmm.kernels.cholesky import offsets, unconstrain
from bayesgmm.packing import layout_of
from bayesgmm.prediction import mixtures
from bayesgmm.problem import Problem
from bayesgmm.summaries import require_draws
from bayesgmm.symptoms import label_free, never_moved
from bayesgmm.tree import require, specification

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]

SEPARATION: Final = 0.95
"""Probability that a draw of one chain exceeds one of another from which both lie apart."""
TELLING: Final = 20
"""Draws of a chain from which on that is hardly chance: 2 in a million for one quantity."""
COMPARED_DRAWS: Final = 500
"""Draws of a chain, about, that are compared with those of another."""
BY_MODE: Final = (names.LOG_POSTERIOR, names.LOG_MASS, names.STACKING_WEIGHT)
DRAWS_PER_PARAMETER: Final = 2
"""Draws of a mode, at least, from which its volume is estimated."""


def mode_audit(tree: xr.DataTree) -> xr.Dataset:
    r"""Say which chains sit in which mode of the posterior, and how much each mode is worth.

    Chains sit in the same mode unless some quantity that does not depend on labels keeps them
    apart: a draw of the one exceeds a draw of the other with a probability above 0.95. So chains
    that differ by the names of components alone are one, and a chain that visits two modes joins
    those that stay. No chain is left out of anything: what follows from the modes is for the
    reader to decide.

    Parameters
    ----------
    tree : DataTree
        A fit by a method with chains that move.

    Returns
    -------
    Dataset, dims (chain, mode)
        ``mode_of_chain`` (chain): 0 is the mode with the highest log posterior. By mode:
        ``n_chains``; ``log_posterior``, the mean over its draws less that of mode 0, in nats, at
        most 0; ``log_mass``, what the posterior integrates to around it by Laplace's method from
        its draws, less that of mode 0, in nats,

        .. math:: \overline{\log p} + \tfrac{P}{2} (1 + \log 2 \pi) + \tfrac12 \log |\Sigma|,

        with the covariance :math:`\Sigma` of the P unconstrained parameters, NaN where there are
        fewer than 2 P draws or parameters of the user's own; and ``stacking_weight``, the weights
        with which the modes together predict rows left out best (Yao, Vehtari & Gelman 2022): a
        chain counts with its mode's divided by ``n_chains``. They are not probabilities: a mode
        that hardly holds mass has a large one if it predicts what the others do not. The attribute
        ``verdict`` says in words where chains sit, and how much lower.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit, its number of components has a prior, or a mode has too few draws
        or chains that never moved.

    See Also
    --------
    check : Whether chains agree.

    Notes
    -----
    Laplace's evidence from draws takes a mode for a Normal distribution (Lewis & Raftery 1997);
    where labels are nearly tied within a mode it is too large. Stacking costs a leave-one-out,
    O(S N), and is left out where there is one mode.

    References
    ----------
    Yao, Vehtari & Gelman (2022), Stacking for non-mixing Bayesian computations: the curse and
    blessing of multimodal posteriors, Journal of Machine Learning Research 23 (79).

    Lewis & Raftery (1997), Estimating Bayes factors via posterior simulation with the
    Laplace-Metropolis estimator, J. American Statistical Association 92.
    doi:10.1080/01621459.1997.10474016

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, draws=200, random_seed=1)
    >>> audit = bg.mode_audit(tree)
    >>> audit["mode_of_chain"].values, audit.attrs["verdict"]
    (array([0, 0, 0, 0]), 'All 4 chains sit in one mode.')
    """
    require_draws(tree, names.POSTERIOR, names.SAMPLE_STATS, function="mode_audit")
    require(tree, names.OBSERVED_DATA, names.CONSTANT_DATA, function="mode_audit")
    check_draws(tree, "tree", "mode_audit")
    if names.N_CLUSTERS in tree[names.POSTERIOR].dataset:
        raise ValueError(
            "`tree` must have a known number of clusters for `mode_audit`; got a fit whose draws "
            "have different numbers of them, and so of parameters: no mode has a mass. "
            "See bayesgmm.check(tree), or fit each number alone with Dirichlet weights."
        )
    stuck = never_moved(tree[names.SAMPLE_STATS].dataset)
    if stuck:
        raise ValueError(
            f"`tree` must hold chains that move for `mode_audit`; got {stuck} of "
            f"{tree[names.POSTERIOR].sizes[names.CHAIN]} with the same draw throughout. See "
            f"bayesgmm.check(tree), and fit again."
        )
    lp = _log_posterior(tree)
    of_chain = modes_of_chains(label_free(tree)[1], lp)
    chains = [np.flatnonzero(of_chain == mode) for mode in range(of_chain.max() + 1)]
    height = heights(of_chain, lp)
    mass = np.array([_log_mass(tree.isel({names.CHAIN: members})) for members in chains])
    by_mode = {
        names.N_CHAINS: np.array([len(members) for members in chains]),
        names.LOG_POSTERIOR: height - height[0],
        names.LOG_MASS: mass - mass[0],
        names.STACKING_WEIGHT: _stacked(tree, chains),
    }
    chain = tree[names.POSTERIOR].dataset[names.CHAIN].variable
    result = xr.Dataset(
        {
            names.MODE_OF_CHAIN: (names.CHAIN, of_chain),
            **{name: (names.MODE, values) for name, values in by_mode.items()},
        },
        coords={names.CHAIN: chain, names.MODE: np.arange(len(chains))},
    )
    result.attrs["verdict"] = " ".join(_sentences(result))
    return result


def modes_of_chains(free: Array, lp: Array) -> Labels:
    """Return the mode of every chain, 0 that with the highest mean log posterior.

    Too few draws tell no modes apart: then it is one.

    Parameters
    ----------
    free : array, shape (Q, chains, draws)
        Label-free quantities.
    lp : array, shape (chains, draws)

    Returns
    -------
    array of int, shape (chains,)
    """
    n_chains, n_draws = lp.shape
    if n_draws < TELLING:
        return np.zeros(n_chains, dtype=np.int64)
    some = np.sort(free[:, :, :: -(-n_draws // COMPARED_DRAWS)], axis=2)
    mode = np.arange(n_chains)
    for one in range(n_chains):
        for other in range(one):
            if mode[one] != mode[other] and not _apart(some[:, one], some[:, other]):
                mode[mode == mode[one]] = mode[other]
    numbered = np.unique(mode, return_inverse=True)[1]
    rank = np.argsort(np.argsort(-heights(numbered, lp), kind="stable"))
    return np.asarray(rank[numbered], dtype=np.int64)


def heights(of_chain: Labels, lp: Array) -> Array:
    """Return the mean log posterior of every mode."""
    return np.array([lp[of_chain == mode].mean() for mode in range(of_chain.max() + 1)])


def lower_modes(tree: xr.DataTree, label_free: Array) -> tuple[list[float], str]:
    """Return how far below the highest mode others are that chains sit in, and which chains do."""
    lp = tree[names.SAMPLE_STATS].dataset[names.LP].transpose(names.CHAIN, names.DRAW)
    of_chain = modes_of_chains(label_free, lp.values)
    height, labels = heights(of_chain, lp.values), tree[names.POSTERIOR].dataset[names.CHAIN].values
    below = (height[0] - height[1:]).tolist()
    sitting = [
        f"{chains_sit_in(labels[of_chain == mode].tolist())} a mode {nats:.1f} nats lower"
        for mode, nats in enumerate(below, 1)
    ]
    return below, ", ".join(sitting)


def chains_sit_in(labels: list[Any]) -> str:
    """Return some chains with the verb that goes with them."""
    if len(labels) == 1:
        return f"chain {labels[0]} sits in"
    return f"chains {', '.join(map(str, labels[:-1]))} and {labels[-1]} sit in"


def _apart(one: Array, other: Array) -> bool:
    """Return whether any quantity, sorted draws of shape (Q, n), keeps two chains apart."""
    for a, b in zip(one, other, strict=True):
        below = np.searchsorted(a, b, "left").mean() + np.searchsorted(a, b, "right").mean()
        if abs(below / a.size - 1.0) > 2.0 * SEPARATION - 1.0:
            return True
    return False


def _log_posterior(tree: xr.DataTree) -> Array:
    """Return the log posterior, shape (chains, draws)."""
    lp = tree[names.SAMPLE_STATS].dataset[names.LP]
    return np.asarray(lp.transpose(names.CHAIN, names.DRAW).values)


def _log_mass(tree: xr.DataTree) -> float:
    """Return the logarithm of what the posterior integrates to around the draws of a mode."""
    spec = specification(tree)
    draws = mixtures(tree)
    layout = layout_of(spec, draws.means.shape[2])
    length = int(offsets(layout)[3])
    n_draws = len(draws.means)
    if tree.attrs.get("n_parameters") != length or n_draws < DRAWS_PER_PARAMETER * length:
        return float("nan")
    if layout.n_factors:
        vectors = Problem.of_tree(tree).vectors_of(tree)
        return laplace_mass(vectors, _log_posterior(tree).ravel())
    floor = np.broadcast_to(np.asarray(spec.covariance.floor), draws.unit.shape) / draws.unit
    floor = floor[: layout.scale_columns].copy()
    # with noise its log density is added to the last weight of all draws, and moves them alike
    vectors = np.stack([unconstrain(layout, floor, *draw) for draw in zip(*draws[:3], strict=True)])
    return laplace_mass(vectors, _log_posterior(tree).ravel())


def laplace_mass(vectors: Array, log_density: Array) -> float:
    """Return the log integral of a density around a mode, from draws of it.

    Parameters
    ----------
    vectors : array, shape (S, P)
    log_density : array, shape (S,)

    Returns
    -------
    float
        Exact, up to Monte Carlo error, for a Normal distribution and independent draws.
    """
    n_draws, n_dim = vectors.shape
    _, log_determinant = np.linalg.slogdet(np.atleast_2d(np.cov(vectors.T)))
    half = 0.5 * (n_draws - 1.0 - np.arange(n_dim))
    digamma = np.log(half) - 0.5 / half - 1.0 / (12.0 * half**2)
    log_determinant -= (digamma - np.log(half[0])).sum()  # a Wishart matrix's, on average
    volume = 0.5 * (n_dim * (1.0 + np.log(2.0 * np.pi)) + log_determinant)
    return float(log_density.mean() + volume)


def _stacked(tree: xr.DataTree, chains: list[NDArray[np.int64]]) -> Array:
    """Return the stacking weight of every mode."""
    if len(chains) == 1:
        return np.ones(1)
    parts = {f"{i}": tree.isel({names.CHAIN: members}) for i, members in enumerate(chains)}
    for part in parts.values():
        check_draws(part, "tree", "mode_audit")
    weight = compare(parts)["weight"]
    return np.array([weight[name] for name in parts])


def _sentences(audit: xr.Dataset) -> Iterator[str]:
    """Yield what an audit found, in words."""
    of_chain, labels = audit[names.MODE_OF_CHAIN].values, audit[names.CHAIN].values
    if audit.sizes[names.MODE] == 1:
        who = "The only chain sits" if len(of_chain) == 1 else f"All {len(of_chain)} chains sit"
        yield f"{who} in one mode."
        return
    for mode in range(audit.sizes[names.MODE]):
        one = {name: audit[name].values[mode] for name in BY_MODE}
        lower = "the highest"
        if mode > 0:
            lower = f"{-one[names.LOG_POSTERIOR]:.1f} nats lower in log posterior"
            if np.isfinite(one[names.LOG_MASS]):
                lower += f" and {-one[names.LOG_MASS]:.1f} in log mass"
        members = chains_sit_in(labels[of_chain == mode].tolist())
        yield f"{members.capitalize()} mode {mode}, {lower}."
