"""Classical criteria of a fit by maximum likelihood, or of a posterior mode."""

from typing import Any, Final

import xarray as xr

from bayesgmm import names
from bayesgmm.criteria import criteria_at
from bayesgmm.problem import Problem
from bayesgmm.summaries import require_draws
from bayesgmm.tree import parameters, require

POINTS: Final = ("ml", "map")
"""Methods that give a point at which the criteria are defined."""


def bic(tree: xr.DataTree) -> float:
    r"""Return the Bayesian information criterion of a fit; less is better.

    .. math:: BIC = p \log N - 2 \ell

    Parameters
    ----------
    tree : DataTree
        A fit by ``"ml"``; or by ``"map"``, whose likelihood takes the place of the maximum
        (Fraley & Raftery 2007).

    Returns
    -------
    float
        With the log-likelihood l in nats, of p free parameters and N rows.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit, or one by another method.

    See Also
    --------
    log_evidence : What it approximates: minus half of it, for the prior that is worth one row.

    Notes
    -----
    The mclust package for R has the opposite sign. One pass over the data, O(N K D^2).

    References
    ----------
    Schwarz (1978), Estimating the dimension of a model, Annals of Statistics 6.
    doi:10.1214/aos/1176344136

    Fraley & Raftery (2007), Bayesian regularization for normal mixture estimation and model-based
    clustering, J. Classification 24. doi:10.1007/s00357-007-0004-5

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, method="ml", random_seed=1)
    >>> round(bg.bic(tree), 1)
    2322.2
    """
    return _criteria(tree, "bic")


def aic(tree: xr.DataTree) -> float:
    r"""Return Akaike's information criterion of a fit; less is better.

    .. math:: AIC = 2 p - 2 \ell

    Parameters
    ----------
    tree : DataTree
        A fit by ``"ml"``; or by ``"map"``, whose likelihood takes the place of the maximum.

    Returns
    -------
    float
        With the log-likelihood l in nats, of p free parameters.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit, or one by another method.

    See Also
    --------
    loo : What it approximates: minus half of it, for regular models, which mixtures are not.

    Notes
    -----
    One pass over the data, O(N K D^2).

    References
    ----------
    Akaike (1974), A new look at the statistical model identification, IEEE Transactions on
    Automatic Control 19. doi:10.1109/TAC.1974.1100705

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, method="ml", random_seed=1)
    >>> round(bg.aic(tree), 1)
    2282.5
    """
    return _criteria(tree, "aic")


def icl(tree: xr.DataTree) -> float:
    r"""Return the integrated completed likelihood of a fit; less is better.

    .. math:: ICL = BIC - 2 \sum_i \log \max_k r_{ik}

    Parameters
    ----------
    tree : DataTree
        A fit by ``"ml"``; or by ``"map"``, whose likelihood takes the place of the maximum.

    Returns
    -------
    float
        The BIC of rows completed by their most probable components, in which overlap, the
        responsibilities r below 1, counts against a fit: it looks for clusters that are apart.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit, or one by another method.

    Notes
    -----
    The mclust package for R has the opposite sign. One pass over the data, O(N K D^2).

    References
    ----------
    Biernacki, Celeux & Govaert (2000), Assessing a mixture model for clustering with the
    integrated completed likelihood, IEEE Transactions on Pattern Analysis and Machine
    Intelligence 22. doi:10.1109/34.865189

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, method="ml", random_seed=1)
    >>> round(bg.icl(tree), 1)
    2322.7
    """
    return _criteria(tree, "icl")


def _criteria(tree: Any, name: str) -> float:
    """Return one of the criteria, refusing what is no fit by a method that gives a point."""
    require_draws(tree, names.POSTERIOR, function=name)
    require(tree, names.OBSERVED_DATA, function=name)
    method = tree.attrs.get(names.METHOD)
    if method not in POINTS:
        raise ValueError(
            f"`tree` must be a fit by 'ml' or 'map' for `{name}`; got one by {method!r}. It is "
            f"defined at the maximum of the likelihood: fit with method='ml'."
        )
    return criteria_at(Problem.of_tree(tree), parameters(tree))[name]
