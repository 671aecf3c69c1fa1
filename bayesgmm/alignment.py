"""Label switching, undone and done again."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.errors import check_choice
from bayesgmm.kernels.relabel import align_draws
from bayesgmm.prediction import mixtures
from bayesgmm.tree import require, specification

METHODS = ("ecr", "none")


def align(tree: xr.DataTree, method: str | None = None) -> xr.DataTree:
    """Return a fit whose components mean the same in every draw.

    A mixture's likelihood does not change when its components swap names, and the draws of a
    posterior do swap them, within chains and between them. `fit` aligns by default; this
    function aligns anew, or gives the raw draws back.

    Parameters
    ----------
    tree : DataTree
        A fit.
    method : str, optional
        ``"ecr"``: every draw's components are matched to the clusters of one draw, that with the
        highest log posterior, so that rows keep the largest total probability of their own
        cluster (Papastamoulis & Iliopoulos 2010, with responsibilities for allocations).
        Components are then ordered by their posterior mean in the first feature. ``"none"``: the
        draws as they were sampled. By default ``"ecr"``, as `fit` does, but ``"none"`` where
        unequal concentrations of the weights give the components their names.

    Returns
    -------
    DataTree
        A copy in which every variable with the dimension ``component`` in ``posterior`` is
        permuted. The group ``alignment`` holds ``permutation`` (``aligned[j] =
        raw[permutation[j]]``) and ``margin``, the share of the rows, in [0, 1], by which the
        best matching of a draw beats the second best: near 0 the labels of that draw mean little.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit, or `method` is unknown.

    Notes
    -----
    O(S N K D^2 + S K^4) operations for S draws.

    References
    ----------
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
    require(
        tree, names.POSTERIOR, names.ALIGNMENT, names.OBSERVED_DATA, names.SAMPLE_STATS,
        function="align",
    )  # fmt: skip
    if method is None:
        method = "ecr" if specification(tree).weights.exchangeable else "none"
    check_choice(method, "method", METHODS)
    before = tree[names.ALIGNMENT].dataset[names.PERMUTATION].values
    raw = _permuted(tree, np.argsort(before, axis=-1))
    permutation = np.broadcast_to(np.arange(before.shape[-1]), before.shape).copy()
    margin = np.ones(before.shape[:-1])
    pivot = int(np.argmax(tree[names.SAMPLE_STATS].dataset[names.LP].values))
    if method == "ecr":
        permutation, margin = _ecr(raw, pivot, before.shape)
    result = _permuted(raw, permutation)
    group = result[names.ALIGNMENT].to_dataset()
    group[names.PERMUTATION] = group[names.PERMUTATION].copy(data=permutation)
    group[names.MARGIN] = group[names.MARGIN].copy(data=margin)
    chain, draw = np.unravel_index(pivot, before.shape[:-1])
    group.attrs = {names.METHOD: method, "pivot_chain": int(chain), "pivot_draw": int(draw)}
    result[names.ALIGNMENT] = xr.DataTree(group)
    return result


def _ecr(
    raw: xr.DataTree, pivot: int, shape: tuple[int, ...]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return permutations and margins of all draws, with chains and draws as in `shape`."""
    draws = mixtures(raw)
    rows = draws.rows(raw[names.OBSERVED_DATA].dataset[names.X].values)
    permutation, margin = align_draws(rows, *draws[:3], pivot)
    return permutation.reshape(shape), margin.reshape(shape[:-1])


def _permuted(tree: xr.DataTree, permutation: NDArray[np.int64]) -> xr.DataTree:
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
