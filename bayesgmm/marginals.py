"""Some of the features of a fit, the others integrated out."""

from collections.abc import Hashable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any

import xarray as xr

from bayesgmm import names
from bayesgmm.labels import listed
from bayesgmm.summaries import require_draws
from bayesgmm.tree import features as fitted_features
from bayesgmm.tree import require
from bayesgmm.tree.derived import restrict


def marginal(tree: xr.DataTree, features: Any) -> xr.DataTree:
    """Return the mixture of some features, the others integrated out: a tree again.

    Parameters
    ----------
    tree : DataTree
        A fit.
    features : str, int or sequence of them
        Labels of the features to keep, in the order they are to have.

    Returns
    -------
    DataTree
        Of the schema of a fit, with the same draws: sub-vectors of the means and scales,
        sub-blocks of the correlations and covariances, the same weights, and these features of
        the data. What takes a fit takes it, but for what is about the posterior given the data,
        as `loo`, `log_evidence` or `bic`. The attribute ``derived`` is ``"marginal"``.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit, or `features` are not some of its features, each once.

    See Also
    --------
    conditional : The mixture of the other features where some are known.

    Notes
    -----
    These are not the draws that a fit to these features alone would give: the other features took
    part in telling the components apart. A fitted row that has none of these features is told
    by the weights alone. Log-likelihood, modes and the path of an optimiser were
    of all features and are left out; ``sample_stats`` and ``alignment`` are those of the fit. The
    prior of the attribute ``specification`` is integrated too: a block of LKJ correlations of
    shape eta is LKJ of shape eta + (D - d) / 2 for d of D features. Costs O(S K d^2) for S draws.

    References
    ----------
    Lewandowski, Kurowicka & Joe (2009), Generating random correlation matrices based on vines
    and extended onion method, J. Multivariate Analysis 100. doi:10.1016/j.jmva.2009.04.008

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, method="map", random_seed=1)
    >>> bg.predict(bg.marginal(tree, "waiting"), [[50.0], [80.0]]).values
    array([0, 1])
    """
    require(tree, names.CONSTANT_DATA, function="marginal")
    require_draws(tree, names.POSTERIOR, function="marginal")
    single = isinstance(features, str) or not isinstance(features, Iterable)
    chosen = [features] if single else list(features)
    positions = positions_of(fitted_features(tree), chosen, "features")
    if not positions:
        raise ValueError(
            f"`features` must name a feature at least; got none. Choose among "
            f"{listed(fitted_features(tree))}."
        )
    return restrict(tree, positions, "marginal")


def positions_of(fitted: list[Any], chosen: Sequence[Hashable], argument: str) -> list[int]:
    """Return where some features are among the fitted ones, refusing unknown and repeated ones.

    Parameters
    ----------
    fitted : list
        Labels of the fitted features.
    chosen : sequence
        What the user named.
    argument : str
        What the user passed is called in messages.
    """
    for place, label in enumerate(chosen):
        if label not in fitted:
            near = get_close_matches(str(label), [str(one) for one in fitted], n=1)
            names_given = next((one for one in fitted if near and str(one) == near[0]), None)
            remedy = f"Did you mean {names_given!r}?" if near else "Choose some of these."
            raise ValueError(
                f"`{argument}` must name features of the fit, {listed(fitted)}; got {label!r}. "
                f"{remedy}"
            )
        if label in chosen[:place]:
            raise ValueError(
                f"`{argument}` must name each feature once; got {label!r} twice. Leave one out."
            )
    return [fitted.index(label) for label in chosen]
