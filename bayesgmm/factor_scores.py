"""Where rows are in the directions that a component extends in: the scores of its factors."""

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.kernels.factor_cells import pack_lines
from bayesgmm.kernels.factor_draws import add_scores
from bayesgmm.prediction import Mixtures, mixtures, predict_proba, rows_asked
from bayesgmm.tree import parameters
from bayesgmm.tree.mixtures import FactorParameters

type Array = NDArray[np.float64]


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
    scores are given the cells that are seen, and of fitted rows their measurement errors are known.
    Weights of rows matter to the fit alone: of how many rows one stands for its scores say nothing.
    O(S N K D q^2) operations for S draws, whatever is missing.

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
    drawn = mixtures(tree)
    mean, sd = _scores(drawn, drawn.rows(data.values, data.errors))
    dims = (names.OBS, names.COMPONENT, names.FACTOR)
    coords = {**probability.coords, names.FACTOR: posterior[names.FACTOR].variable}
    return xr.Dataset(
        {names.MEAN: (dims, mean), names.SD: (dims, sd), names.PROBABILITY: probability},
        coords=coords,
    )


def _scores(drawn: Mixtures, rows: Array) -> tuple[Array, Array]:
    """Return mean and standard deviation of the scores of rows, shape (N, K, q)."""
    n_components, n_dim, width = drawn.cholesky.shape[1:]
    every = np.arange(rows.shape[1])
    sums = np.zeros((3, n_components, width - 1, every.size))
    packed = pack_lines(rows, every, n_dim, n_components)
    add_scores(packed, drawn.means, drawn.cholesky, sums)
    mean, square, within = np.moveaxis(sums / len(drawn.means), 3, 1)
    return mean, np.sqrt(np.maximum(square - mean**2, 0.0) + within)
