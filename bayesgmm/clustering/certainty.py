"""How sure it is to which component a row belongs, and why it is not surer."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import entr

from bayesgmm import names
from bayesgmm.kernels.draws import fill_draws
from bayesgmm.kernels.relabel import NO_ARRAY, NO_CUBE
from bayesgmm.kernels.threads import over_draws
from bayesgmm.prediction import Mixtures, fitted_rows, mixtures, probability_of
from bayesgmm.tree import require

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]

BLOCK_BYTES: Final = 2**24
"""Memory for the responsibilities of some rows under every draw, in each thread."""


def uncertainty(tree: xr.DataTree, X_new: Any = None, *, exemplars: bool = True) -> xr.Dataset:
    """Return how uncertain the allocation of each row is, and which part more data would remove.

    A draw of the parameters gives a row probabilities of the components, r. The entropy of their
    average over the draws is the total uncertainty of its allocation. The average of their
    entropies is what would remain if the parameters were known (aleatoric: components overlap);
    the rest is what the parameters, being uncertain, add to it (epistemic: more data removes it).

    Parameters
    ----------
    tree : DataTree
        A fit.
    X_new : array, DataFrame or DataArray, shape (n_new, n_features), optional
        The fitted features, in the fitted order; by default the rows that were fitted.
    exemplars : bool, default True
        Whether to find the row that stands for each cluster. That looks at all fitted rows: leave
        it out for a few new rows, or of a fit that did not keep its rows.

    Returns
    -------
    Dataset, dims (obs,) with component and ci_bound
        ``probability`` (obs, component), as `predict_proba`, and ``probability_interval`` (obs,
        component, ci_bound), an equal-tailed interval of r over the draws that holds the
        attribute ``ci_prob`` of them. ``error_probability`` (obs,): that the row is not of its
        most probable component; `plot_uncertainty` draws it. ``total_entropy``,
        ``aleatoric_entropy`` and ``epistemic_entropy`` (obs,), in nats, at least 0 and at most
        log K, the first the sum of the others. With `exemplars` ``exemplar`` (obs,), the label of
        the fitted row that stands for the row's cluster, and ``with_exemplar`` (obs,), the
        probability that the row shares its component.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit or `X_new` has other columns than it.

    Notes
    -----
    ``total = H(E r)``, ``aleatoric = E H(r)``, ``epistemic = total - aleatoric = E KL(r || E r)``,
    the mutual information of allocation and parameters (Depeweg et al. 2018). They are of the
    aligned draws: where labels switch, the switching counts as epistemic.

    A row's cluster is its most probable component. Its exemplar is the fitted row of that cluster
    with the highest average posterior similarity to the rows of it, as in the summaries of Dahl,
    Johnson & Mueller (2022); of a component that is no row's most probable, the row most likely
    to belong to it. The similarity of two rows is the average over the draws of the sum over the
    components of the products of their responsibilities; that of a row with itself is 1. Unlike
    ``probability``, ``with_exemplar`` does not depend on the alignment of the draws beyond the
    choice of the exemplar. Background noise counts as a component, the last: a row may be noise or
    not, noise has an exemplar, and entropies are at most log(K + 1).

    O(S N K D^2) operations for S draws, in as many threads as there are cores; some 40 MiB of
    memory for each of them beside O((S + N) K^2). Intervals hold
    ``arviz_stats.rcParams["stats.ci_prob"]``, as those of `summary`.

    References
    ----------
    Depeweg, Hernandez-Lobato, Doshi-Velez & Udluft (2018), Decomposition of uncertainty in
    Bayesian deep learning for efficient and risk-sensitive learning, Proceedings of the 35th
    International Conference on Machine Learning. arXiv:1710.07283

    Dahl, Johnson & Mueller (2022), Search algorithms and loss functions for Bayesian clustering,
    J. Computational and Graphical Statistics 31. doi:10.1080/10618600.2022.2069779

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, draws=100, chains=2, random_seed=1)
    >>> sure = bg.uncertainty(tree, [[2.0, 55.0], [3.0, 65.0]])
    >>> sure.total_entropy.values.round(1), sure.with_exemplar.values.round(1)
    (array([0. , 0.6]), array([1. , 0.7]))
    """
    from arviz_base import rcParams

    if exemplars:
        require(tree, names.OBSERVED_DATA, function="uncertainty")  # they are fitted rows
    data, probability = probability_of(tree, X_new, "uncertainty")
    ci_prob = float(rcParams["stats.ci_prob"])
    draws = mixtures(tree)
    standing = None
    if exemplars:
        of_fitted = probability
        if X_new is not None:
            of_fitted = probability_of(tree, None, "uncertainty")[1]
        every = fitted_rows(tree, draws)
        chosen = _exemplars(draws, every, of_fitted.values)
        standing = every[:, chosen]
    cluster = probability.values.argmax(axis=1)
    aleatoric, interval, shared = _summarise(
        draws, draws.rows(data.values, data.errors, data.allowed), standing, cluster, ci_prob
    )
    total = entr(probability.values).sum(axis=1)
    aleatoric = np.minimum(aleatoric, total)  # as it is but for rounding
    along = names.OBS
    found = xr.Dataset(
        {
            names.PROBABILITY: probability,
            names.PROBABILITY_INTERVAL: ((along, names.COMPONENT, names.CI_BOUND), interval),
            names.ERROR_PROBABILITY: (along, error_probability(probability.values)),
            names.TOTAL_ENTROPY: (along, total),
            names.ALEATORIC_ENTROPY: (along, aleatoric),
            names.EPISTEMIC_ENTROPY: (along, total - aleatoric),
        },
        coords={names.CI_BOUND: ["lower", "upper"]},
        attrs={names.CI_PROB: ci_prob},
    )
    if exemplars:
        mine = chosen[cluster]
        if X_new is None:
            shared[mine == np.arange(data.n_obs)] = 1.0
        labels = tree[names.OBSERVED_DATA].dataset[names.OBS].values
        found[names.EXEMPLAR] = (along, labels[mine])
        found[names.WITH_EXEMPLAR] = (along, shared)
    return data.laid_out(found)


def error_probability(probability: Array) -> Array:
    """Return the probability that rows are not of their most probable component, shape (n_obs,).

    Parameters
    ----------
    probability : array, shape (n_obs, K)
    """
    return np.asarray(1.0 - probability.max(axis=1))


def _exemplars(draws: Mixtures, rows: Array, probability: Array) -> Labels:
    """Return the row that stands for each component, shape (K,).

    Parameters
    ----------
    draws : Mixtures
    rows : array, shape (D', n_obs)
        Those that were fitted.
    probability : array, shape (n_obs, K)
        Of each component.
    """
    n_draws, n_components = draws.log_weights.shape
    cluster = probability.argmax(axis=1)
    sums = np.empty((n_draws, n_components, n_components))

    def add(part: slice) -> None:
        fill_draws(
            rows, draws.log_weights[part], draws.means[part], draws.cholesky[part],
            NO_ARRAY, NO_CUBE, cluster, sums[part],
        )  # fmt: skip

    over_draws(add, n_draws)
    similarity = np.empty(rows.shape[1])

    def compare(block: slice, shares: Array) -> None:
        squares = np.einsum("an,an->n", shares, shares)
        similarity[block] = _of_own(sums, shares, cluster[block]) - squares

    _over_rows(draws, rows, compare)
    chosen = probability.argmax(axis=0)
    for k in np.unique(cluster):
        mine = np.flatnonzero(cluster == k)
        chosen[k] = mine[similarity[mine].argmax()]
    return chosen


def _summarise(
    draws: Mixtures, rows: Array, exemplars: Array | None, cluster: Labels, ci_prob: float
) -> tuple[Array, Array, Array]:
    """Return what is to be said of responsibilities beyond their mean.

    Parameters
    ----------
    draws : Mixtures
    rows : array, shape (D', n_obs)
    exemplars : array, shape (D', K), or None
        The row that stands for each component; None if nobody wants to know.
    cluster : array of int, shape (n_obs,)
        The component that each row is compared with the exemplar of.
    ci_prob : float
        Share of the draws that the intervals hold.

    Returns
    -------
    entropy : array, shape (n_obs,)
        Mean over the draws.
    interval : array, shape (n_obs, K, 2)
    shared : array, shape (n_obs,)
        Probability of sharing the exemplar's component; 0 where there are none.
    """
    n_draws, n_components = draws.log_weights.shape
    theirs = np.zeros((n_draws, n_components, n_components))
    if exemplars is not None:
        draws.fill(np.ascontiguousarray(exemplars), NO_ARRAY, theirs)
    tails = np.array([0.5 - 0.5 * ci_prob, 0.5 + 0.5 * ci_prob])
    n_obs = rows.shape[1]
    entropy, shared = np.empty(n_obs), np.empty(n_obs)
    interval = np.empty((n_obs, n_components, 2))

    def summarise(block: slice, shares: Array) -> None:
        entropy[block] = entr(shares).sum(axis=0) / n_draws
        quantiles = _quantiles(shares.reshape(n_draws, n_components, -1), tails)
        interval[block] = quantiles.T
        shared[block] = _of_own(theirs, shares, cluster[block]) / n_draws

    _over_rows(draws, rows, summarise)
    return entropy, interval, shared


def _quantiles(values: Array, shares: Array) -> Array:
    """Return quantiles along the first axis as `np.quantile` does, which takes thrice as long."""
    ordered = np.sort(values, axis=0)
    places = shares * (len(values) - 1)
    below = np.floor(places).astype(np.int64)
    above = np.minimum(below + 1, len(values) - 1)
    weight = (places - below)[:, None, None]
    return np.asarray((1.0 - weight) * ordered[below] + weight * ordered[above])


def _of_own(others: Array, shares: Array, cluster: Labels) -> Array:
    """Return the products with the responsibilities of others of a row's cluster, summed.

    Parameters
    ----------
    others : array, shape (S, K, K)
        Of component k under each draw, in total, for what belongs to each cluster.
    shares : array, shape (S K, n)
    cluster : array of int, shape (n,)
    """
    own = others.reshape(len(shares), -1)[:, cluster]
    return np.asarray(np.einsum("an,an->n", own, shares))  # not BLAS, which has threads of its own


def _over_rows(draws: Mixtures, rows: Array, use: Callable[[slice, Array], None]) -> None:
    """Compute the responsibilities of some rows at a time, shape (S K, n), and use them."""
    n_draws, n_components = draws.log_weights.shape
    step = max(1, BLOCK_BYTES // (8 * n_draws * n_components))

    def run(part: slice) -> None:
        for start in range(part.start, part.stop, step):
            block = slice(start, min(start + step, part.stop))
            some = np.ascontiguousarray(rows[:, block])
            shares = np.zeros((n_draws, n_components, some.shape[1]))
            draws.fill(some, NO_ARRAY, shares)
            use(block, shares.reshape(n_draws * n_components, -1))

    over_draws(run, rows.shape[1])
