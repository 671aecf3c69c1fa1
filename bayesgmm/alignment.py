"""Label switching, undone and done again."""

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.errors import check_choice
from bayesgmm.kernels.matching import DEFAULT, match_draws
from bayesgmm.kernels.occupied import occupied_first
from bayesgmm.kernels.rotation import turned_to_agree
from bayesgmm.known_labels import named_apart
from bayesgmm.prediction import fitted_rows, mixtures
from bayesgmm.records import standing
from bayesgmm.summaries import require_draws
from bayesgmm.tree import require, specification
from bayesgmm.tree.rows import observed

type Labels = NDArray[np.int64]

FROM_PARTITION = ("stephens", "ecr", "ecr_iterative")
METHODS = (*FROM_PARTITION, "parameters", "labels", "none")


def align(
    tree: xr.DataTree, method: str | None = None, *, pivot: Any = None, labels: Any = None
) -> xr.DataTree:
    r"""Return a fit whose components mean the same in every draw.

    A mixture's likelihood does not change when its components swap names, and the draws of a
    posterior do swap them, within chains and between them. `fit` aligns by default; this
    function aligns anew, or gives the raw draws back.

    Parameters
    ----------
    tree : DataTree
        A fit.
    method : str, optional
        ``"stephens"``: the total Kullback-Leibler divergence of all draws' responsibilities
        :math:`r` from their mean :math:`q`, :math:`\sum_s \sum_{ij} r_{sij} \log (r_{sij} /
        q_{ij})`, is made as small as renaming can (Stephens 2000).
        ``"ecr"``: every draw is matched to the clusters of one draw, that with the highest log
        posterior, so that rows keep the largest total probability of their own cluster
        (Papastamoulis & Iliopoulos 2010, with responsibilities for allocations).
        ``"ecr_iterative"``: the same to the clusters that follow from the draws so matched, until
        nothing changes.
        ``"parameters"``: to the Normal distributions of that one draw, by the Bhattacharyya
        distance, which no change of units and no rotation of the data alters; rows are not
        looked at.
        ``"labels"``: to `labels`, which are known. ``"none"``: the draws as they were sampled.
        By default ``"stephens"``, as `fit` does, or what `pivot` or `labels` are for; but
        ``"none"`` where unequal concentrations of the weights, or known labels of rows, give the
        components their names. Only components that known labels do not tell apart change names.
    pivot : array or DataArray of int, shape (n_obs,), optional
        A partition of the rows that ``"ecr"`` matches all draws to, in place of that of one draw;
        the other methods by responsibilities begin with it. At most as many clusters as
        components; components beyond them are not told apart by it.
    labels : array or DataArray of int, shape (n_obs,), optional
        What is known for ``"labels"``: the component of a row, 0 to K - 1, or -1.

    Returns
    -------
    DataTree
        A copy in which every variable with the dimension ``component`` in ``posterior`` is
        permuted. Components are in the order of their posterior means in the first feature; with
        `labels`, component j is label j. The group ``alignment`` holds ``permutation``
        (``aligned[j] = raw[permutation[j]]``) and ``margin``, the share of the rows, in [0, 1], by
        which the matching of a draw beats the best other one: near 0 the labels of that draw mean
        little. Background noise keeps its name, and rows are compared as if none were noise.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit, `method` is unknown, or `pivot` or `labels` are no partition of
        the rows or not for this method.

    See Also
    --------
    alignment_report : How far single components are to be trusted.

    Notes
    -----
    O(S N K (D^2 + K) + S K^4) operations for S draws, a few times over, in a thread per core;
    memory O(S K^2 + N K). Of more than 5,000 rows as many, evenly spaced, stand for all. Weighted
    rows count as often as their weights say: up to 5,000 are repeated, evenly spaced in the sum of
    the weights.

    References
    ----------
    Stephens (2000), Dealing with label switching in mixture models, J. Royal Statistical Society
    B 62. doi:10.1111/1467-9868.00265

    Papastamoulis & Iliopoulos (2010), An artificial allocations based solution to the label
    switching problem, J. Computational and Graphical Statistics 19. doi:10.1198/jcgs.2010.09008

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, draws=100, chains=2, random_seed=1)
    >>> raw = bg.align(tree, "none")
    >>> bg.align(raw).posterior.identical(tree.posterior)
    True
    """
    groups = (names.POSTERIOR, names.ALIGNMENT, names.SAMPLE_STATS)
    require_draws(tree, *groups, function="align")
    require(tree, names.OBSERVED_DATA, function="align")
    method = _method(tree, method, pivot, labels)
    partition = None
    if pivot is not None:
        partition = _clusters(_of_rows(tree, pivot, "pivot"), _n_components(tree))
    if labels is not None:
        partition = _known(_of_rows(tree, labels, "labels"), _n_components(tree))
    before = tree[names.ALIGNMENT].dataset[names.PERMUTATION].values
    raw = _permuted(tree, np.argsort(before, axis=-1))
    permutation = np.broadcast_to(np.arange(before.shape[-1]), before.shape).copy()
    margin = np.ones(before.shape[:-1])
    best = int(np.argmax(tree[names.SAMPLE_STATS].dataset[names.LP].values))
    if method != "none":
        draws = mixtures(raw).components
        rows, said = fitted_rows(raw, draws), partition
        if method != "labels":  # of which a row of weight 0 may tell one
            rows, which = standing(rows, observed(raw).weights)
            said = None if partition is None else partition[which]
        apart = named_apart(observed(raw).allowed, _n_components(raw))
        matched, margins = match_draws(rows, draws[:3], best, method, said, apart)
        if names.N_CLUSTERS in raw[names.POSTERIOR].dataset and not apart.any():
            matched, margins = occupied_first(rows, draws[:3], matched)
        permutation, margin = matched.reshape(before.shape), margins.reshape(margin.shape)
    result = _agreeing(_permuted(raw, permutation))
    group = result[names.ALIGNMENT].to_dataset()
    group[names.PERMUTATION] = group[names.PERMUTATION].copy(data=permutation)
    group[names.MARGIN] = group[names.MARGIN].copy(data=margin)
    group.attrs = {names.METHOD: method}
    if partition is None:
        chain, draw = np.unravel_index(best, before.shape[:-1])
        group.attrs |= {"pivot_chain": int(chain), "pivot_draw": int(draw)}
    result[names.ALIGNMENT] = xr.DataTree(group)
    return result


def _agreeing(tree: xr.DataTree) -> xr.DataTree:
    """Return a fit whose loadings, if it has any, agree between the draws of each component."""
    posterior = tree[names.POSTERIOR].to_dataset()
    if names.LOADINGS not in posterior:
        return tree
    loadings, noise = (
        posterior[name].transpose(names.CHAIN, names.DRAW, *names.FACTOR_DIMS[name])
        for name in (names.LOADINGS, names.NOISE_SCALES)
    )
    flat = (one.values.reshape(-1, *one.shape[2:]) for one in (loadings, noise))
    turned = turned_to_agree(*flat).reshape(loadings.shape)
    posterior[names.LOADINGS] = loadings.copy(data=turned)
    tree[names.POSTERIOR] = xr.DataTree(posterior)
    return tree


def _method(tree: xr.DataTree, method: str | None, pivot: Any, labels: Any) -> str:
    """Return the method that is asked for, refusing what does not go with it."""
    apart = named_apart(observed(tree).allowed, _n_components(tree))
    named = 1 < apart.size == np.unique(apart).size
    if method is None:
        method = "none" if named or specification(tree).weights.naming else DEFAULT
        if pivot is not None:
            method = "ecr"
        if labels is not None:
            method = "labels"
    check_choice(method, "method", METHODS)
    if pivot is not None and method not in FROM_PARTITION:
        raise ValueError(
            f"`pivot` must be left out where `method` is {method!r}; got a partition. Leave it "
            f"out, or choose 'ecr'."
        )
    if (labels is not None) != (method == "labels"):
        raise ValueError(
            f"`labels` must be given for the method 'labels' and for no other; got `labels` "
            f"{'of ' + str(np.shape(labels)) if labels is not None else None} and `method` "
            f"{method!r}. Give the known component of every row, -1 where it is not known."
        )
    if method == "labels" and named:
        raise ValueError(
            f"`labels` must be left out where those that the fit was given name every component; "
            f"got labels of shape {np.shape(labels)}. The components are the classes."
        )
    return method


def _n_components(tree: xr.DataTree) -> int:
    """Return K."""
    return int(tree[names.POSTERIOR].sizes[names.COMPONENT])


def _of_rows(tree: xr.DataTree, values: Any, name: str) -> Labels:
    """Return a label for every row, refusing what is not one integer for each of them."""
    observed = tree[names.OBSERVED_DATA].dataset
    n_obs = observed.sizes[names.OBS]
    theirs = values.indexes.get(names.OBS) if isinstance(values, xr.DataArray) else None
    if theirs is not None and not theirs.equals(observed.indexes[names.OBS]):
        raise ValueError(
            f"`{name}` must have the labels of {names.OBS!r} that the fit has; got others, or "
            f"another order. Select them: {name}.sel(obs=tree['observed_data'].obs)."
        )
    found = np.asarray(values)
    if found.dtype.kind not in "iu":
        raise TypeError(
            f"`{name}` must hold integers, a label for every row; got {found.dtype}. Number them: "
            f"np.unique(values, return_inverse=True)[1]."
        )
    if found.shape != (n_obs,):
        raise ValueError(
            f"`{name}` must hold a label for each of the {n_obs} rows; got shape {found.shape}. "
            f"Give a single partition."
        )
    return found.astype(np.int64)


def _clusters(found: Labels, n_components: int) -> Labels:
    """Return a partition with its clusters numbered from 0, refusing more than components."""
    clusters, numbered = np.unique(found, return_inverse=True)
    if len(clusters) > n_components:
        raise ValueError(
            f"`pivot` must have at most {n_components} clusters, as many as there are components; "
            f"got {len(clusters)}. Merge some, or fit more components."
        )
    return np.asarray(numbered, dtype=np.int64)


def _known(found: Labels, n_components: int) -> Labels:
    """Return known labels, refusing those that name no component."""
    wrong = (found < -1) | (found >= n_components)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"`labels` must lie in 0 to {n_components - 1}, or be -1 where nothing is known; got "
            f"{found[row]} at place {row}. Number the components from 0."
        )
    if (found < 0).all():
        raise ValueError(
            "`labels` must hold one that is known; got -1 of all rows. Choose another method."
        )
    return found


def _permuted(tree: xr.DataTree, permutation: Labels) -> xr.DataTree:
    """Return a copy of the tree with the components of every draw permuted."""
    result = tree.copy()
    posterior = tree[names.POSTERIOR].to_dataset()
    chains, draws = (np.arange(n) for n in permutation.shape[:2])
    for name, variable in posterior.data_vars.items():
        if names.COMPONENT not in variable.dims:
            continue
        front = (names.CHAIN, names.DRAW, names.COMPONENT)
        moved = variable.transpose(*front, ...)
        values = moved.values[chains[:, None, None], draws[:, None], permutation]
        posterior[name] = moved.copy(data=values).transpose(*variable.dims)
    result[names.POSTERIOR] = xr.DataTree(posterior)
    return result
