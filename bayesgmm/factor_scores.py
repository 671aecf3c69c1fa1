"""Where rows are in the directions that a component extends in: the scores of its factors."""

from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.kernels.factor_loadings import joined
from bayesgmm.kernels.factor_pass import fill_gains
from bayesgmm.prediction import predict_proba, rows_asked
from bayesgmm.tree import parameters
from bayesgmm.tree.mixtures import FactorParameters

type Array = NDArray[np.float64]

BLOCK: Final = 2**14
"""Rows that are worked on at a time."""


def project(tree: xr.DataTree, X: Any = None) -> xr.Dataset:
    r"""Return the factor scores of rows, for every component, if they are of it.

    In a mixture of factor analysers a row of component k is :math:`x = \mu_k + W_k z + \psi_k
    \epsilon`: its scores z, as many as there are factors, say where it is within the component,
    in a few numbers in place of all features.

    .. math:: z \mid x, k \sim \operatorname{Normal}(V_k W_k^\top \Psi_k^{-1} (x - \mu_k), V_k),
              \qquad V_k = (1 + W_k^\top \Psi_k^{-1} W_k)^{-1}.

    Parameters
    ----------
    tree : DataTree
        A fit with a `FactorCovariance`.
    X : array, DataFrame or DataArray, shape (n_obs, n_features), optional
        The fitted features, in the fitted order, NaN where missing; by default the rows that were
        fitted.

    Returns
    -------
    Dataset
        ``mean`` and ``sd`` (obs, component, factor): of the scores given that the row is of the
        component, over all draws; 1 is a standard deviation of the component. The sd holds what
        the row leaves unknown and what the data leave unknown of the parameters. ``probability``
        (obs, component): of the component, as `predict_proba` gives it.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit with a `FactorCovariance`, or `X` has other columns than it.

    See Also
    --------
    predict_proba : To which component a row belongs.

    Notes
    -----
    Loadings are known up to rotation: those of all draws are turned to agree, so that a factor is
    the same in every draw, and along principal axes, the longest first. Of rows with missing cells
    scores are given the cells that are seen. O(S N K D q) operations for S draws, O(S K D q^2) for
    every pattern of missing cells.

    References
    ----------
    Ghahramani & Hinton (1997), The EM algorithm for mixtures of factor analyzers, Technical Report
    CRG-TR-96-1, University of Toronto.

    Papastamoulis & Ntzoufras (2022), On the identifiability of Bayesian factor analytic models,
    Statistics and Computing 32. doi:10.1007/s11222-022-10084-4

    Examples
    --------
    >>> import bayesgmm as bg
    >>> X = bg.datasets.load_iris().drop(columns="species")
    >>> spec = bg.GaussianMixture(2, covariance=bg.FactorCovariance(1))
    >>> tree = bg.fit(X, spec, method="map", random_seed=1)
    >>> scores = bg.project(tree)
    >>> dict(scores["mean"].sizes)
    {'obs': 150, 'component': 2, 'factor': 1}
    """
    data = rows_asked(tree, X, "project")
    found = parameters(tree)
    posterior = tree[names.POSTERIOR].dataset
    if not isinstance(found, FactorParameters):
        what = "a part of one" if names.LOADINGS in posterior else "other covariances"
        raise ValueError(
            f"`tree` must be a fit with a FactorCovariance for `project`; got one with {what}. Fit "
            f"bg.GaussianMixture(k, covariance=bg.FactorCovariance(2))."
        )
    probability = predict_proba(tree, X)
    mean, sd = _scores(found, data.values)
    dims = (names.OBS, names.COMPONENT, names.FACTOR)
    coords = {**probability.coords, names.FACTOR: posterior[names.FACTOR].variable}
    return xr.Dataset(
        {names.MEAN: (dims, mean), names.SD: (dims, sd), names.PROBABILITY: probability},
        coords=coords,
    )


def _scores(found: FactorParameters, values: Array) -> tuple[Array, Array]:
    """Return mean and standard deviation of the scores of rows, shape (N, K, q)."""
    n_components, _, n_factors = found.loadings.shape[1:]
    total = np.zeros((2, len(values), n_components, n_factors))
    missing = np.isnan(values)
    patterns, of_row = np.unique(missing, axis=0, return_inverse=True)
    for p, pattern in enumerate(patterns):
        rows, seen = np.flatnonzero(of_row == p), np.flatnonzero(~pattern)
        for start in range(0, rows.size, BLOCK):
            some = rows[start : start + BLOCK]
            total[:, some] = _of_seen(found, values[np.ix_(some, seen)], seen)
    return total[0], np.sqrt(total[1])


def _of_seen(found: FactorParameters, values: Array, seen: NDArray[np.intp]) -> Array:
    """Return means and variances, shape (2, n, K, q), of rows of which the same is seen."""
    factors = joined(found.loadings[:, :, seen], found.noise_scales[:, :, seen])
    n_draws, n_components, n_dim, width = factors.shape
    gains = np.empty((n_components, width - 1, n_dim))
    room = np.empty((n_components, n_dim)), np.empty(n_components)
    sums = np.zeros((3, len(values), n_components, width - 1))  # of means, squares and variances
    for s in range(n_draws):
        fill_gains(np.ascontiguousarray(factors[s]), gains, *room)
        for k in range(n_components):
            scores = (values - found.means[s, k, seen]) @ gains[k].T
            sums[0, :, k] += scores
            sums[1, :, k] += np.square(scores)
            sums[2, :, k] += 1.0 - np.einsum("jd,dj->j", gains[k], factors[s, k, :, :-1])
    mean, square, within = sums / n_draws
    between = np.maximum(square - mean**2, 0.0)
    return np.stack([mean, between + np.maximum(within, 0.0)])
