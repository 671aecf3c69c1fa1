"""Which cluster every row is in, draw by draw: sampled from a fit, or given by the user."""

import math
import os
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.background import NOISE_LABEL
from bayesgmm.data import Data
from bayesgmm.errors import check_integer
from bayesgmm.kernels.partition_loss import compacted
from bayesgmm.kernels.relabel import NO_ARRAY
from bayesgmm.kernels.threads import over_draws
from bayesgmm.labels import listed
from bayesgmm.prediction import LARGEST_RESULT, Mixtures, mixtures, rows_asked
from bayesgmm.tree import noisy, require

type Array = NDArray[np.float64]

BLOCK_BYTES: Final = 2**26
"""Memory for the responsibilities of some rows under every draw."""
WIDEST: Final = 2**16
"""Range of labels that are looked up in a table rather than sorted."""


def sample_allocations(
    tree: xr.DataTree, X_new: Any = None, *, random_seed: int | None = None
) -> xr.DataArray:
    """Draw the component that each row came from, once for every posterior draw.

    Together with the parameters these are draws from the joint posterior: what a sampler with
    latent allocations would have stored.

    Parameters
    ----------
    tree : DataTree
        A fit.
    X_new : array, DataFrame or DataArray, shape (n_new, n_features), optional
        The fitted features, in the fitted order; by default the rows that were fitted.
    random_seed : int, optional
        The same seed gives the same allocations.

    Returns
    -------
    DataArray of int32, dims (chain, draw, obs)
        Labels of components, drawn with the responsibilities of the draw as probabilities. Of a fit
        with noise -1 is a row of noise, and the coordinate ``noise`` says so to functions of
        partitions.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit, `X_new` has other columns than it, or the result would take more
        than 2 GiB.

    Notes
    -----
    O(S N K D^2) operations for S draws, in as many threads as there are cores; memory S N
    integers of 4 bytes and 128 MiB.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, method="map", random_seed=1)
    >>> bg.sample_allocations(tree, [[2.0, 55.0], [4.5, 80.0]], random_seed=1).values
    array([[[0, 1]]], dtype=int32)
    """
    data, labels = _allocations(tree, X_new, random_seed)
    return data.laid_out(labels)


def _allocations(
    tree: xr.DataTree, X_new: Any, random_seed: int | None
) -> tuple[Data, xr.DataArray]:
    """Return rows and the component of each under every draw, along ``obs``."""
    _check_seed(random_seed)
    data = rows_asked(tree, X_new, "sample_allocations")
    draws = mixtures(tree)
    size = 4 * len(draws.log_weights) * data.n_obs
    if size > LARGEST_RESULT:
        raise ValueError(
            f"`tree` must have draws times rows of allocations that fit in 2 GiB; got "
            f"{len(draws.log_weights)} draws of {data.n_obs} rows, {size / 2**30:.1f} GiB. Thin "
            f"the draws, tree.isel(draw=slice(None, None, 10)), or pass some of the rows as "
            f"`X_new`."
        )
    labels = _sampled(draws, data, np.random.default_rng(random_seed))
    of_noise = {names.NOISE: NOISE_LABEL} if noisy(tree) else {}
    labels[labels == draws.means.shape[1]] = NOISE_LABEL
    posterior = tree[names.POSTERIOR].dataset
    sample = (names.CHAIN, names.DRAW)
    shape = tuple(posterior.sizes[dim] for dim in sample)
    return data, xr.DataArray(
        labels.reshape(*shape, data.n_obs), dims=(*sample, names.OBS),
        coords={
            **{dim: posterior[dim].variable for dim in sample}, **data.obs_coords, **of_noise,
        },
        name=names.LABELS,
    )  # fmt: skip


def label_draws(source: Any, *, random_seed: int | None = None, function: str) -> xr.DataArray:
    """Return draws of a partition from whatever a user passes as such.

    Parameters
    ----------
    source : DataTree, DataArray, DataFrame or array of int
        A fit, whose allocations are sampled; or labels, draws by rows. A DataArray has the
        dimensions ``draw``, ``obs`` and maybe ``chain``, in any order.
    random_seed : int, optional
        For the allocations of a fit.
    function : str
        The public name of the function, for messages.

    Returns
    -------
    DataArray of int32, dims (draw, obs)
        Chains one after another. The clusters of every draw are numbered 0, 1, ... in the order
        of their first rows; the coordinates of the rows are kept. Rows of noise are one of them:
        where there may be some, the coordinate ``noise`` (draw,) is its number, -1 where there
        are none.

    Raises
    ------
    TypeError, ValueError
        If there are no such draws in `source`; see the messages below.
    """
    _check_seed(random_seed)
    if isinstance(source, xr.DataTree | str | os.PathLike):
        require(
            source, names.POSTERIOR, names.CONSTANT_DATA, names.OBSERVED_DATA,
            function=function, argument="source",
        )  # fmt: skip
    if isinstance(source, xr.DataTree):
        source = _allocations(source, None, random_seed)[1]
    values, coords = _read(source)
    labels = _compact(values)
    if isinstance(source, xr.DataArray) and tells_noise(source):
        of_noise, _ = _read_xarray((source == source.coords[names.NOISE]).astype(np.int8))
        number = labels[np.arange(len(labels)), of_noise.argmax(axis=1)]
        coords[names.NOISE] = names.DRAW, np.where(of_noise.any(axis=1), number, NOISE_LABEL)
    return xr.DataArray(labels, dims=(names.DRAW, names.OBS), coords=coords, name=names.LABELS)


def tells_noise(draws: xr.DataArray) -> bool:
    """Tell whether draws of labels say which label is noise."""
    return names.NOISE in draws.coords and names.OBS not in draws.coords[names.NOISE].dims


def noise_shares(draws: xr.DataArray) -> Array:
    """Return the share of the draws in which each row is noise, shape (N,), of `label_draws`."""
    if not tells_noise(draws):
        return np.zeros(draws.sizes[names.OBS])
    return np.asarray((draws.values == draws[names.NOISE].values[:, None]).mean(axis=0))


def without_noise(draws: xr.DataArray, draw: int) -> NDArray[np.int64]:
    """Return the clusters of a draw, numbered without gaps, and -1 of its noise, shape (N,)."""
    labels: NDArray[np.int64] = draws.values[draw].astype(np.int64)
    number = int(draws[names.NOISE].values[draw]) if tells_noise(draws) else NOISE_LABEL
    if number >= 0:
        labels -= labels > number
        labels[draws.values[draw] == number] = NOISE_LABEL
    return labels


def count_clusters(draws: xr.DataArray) -> NDArray[np.int64]:
    """Return how many clusters each draw has, shape (S,): noise is none."""
    found = np.asarray(draws.values.max(axis=1), dtype=np.int64) + 1
    if tells_noise(draws):
        found -= draws[names.NOISE].values >= 0
    return found


def _check_seed(random_seed: int | None) -> None:
    """Refuse what is no seed."""
    if random_seed is not None:
        check_integer(random_seed, "random_seed", 0, "Give an integer such as 1, or None.")


def shares_of(draws: Mixtures, rows: Array) -> Array:
    """Return the responsibilities of all components for some rows under every draw.

    Parameters
    ----------
    draws : Mixtures
    rows : array, shape (D, n_rows)
        Standardised.

    Returns
    -------
    array, shape (S, K, n_rows)
        With noise, which comes last, (S, K + 1, n_rows).
    """
    # zeros: to a single draw `fill_draws` adds
    shares = np.zeros((*draws.log_weights.shape, rows.shape[1]))
    over_draws(lambda part: draws.of(part).fill(rows, NO_ARRAY, shares[part]), len(shares))
    return shares


def rows_in_a_block(draws: Mixtures) -> int:
    """Return for how many rows responsibilities under every draw are held at once."""
    return max(1, BLOCK_BYTES // (8 * draws.log_weights.size))


def _sampled(draws: Mixtures, data: Data, rng: np.random.Generator) -> NDArray[np.int32]:
    """Return one allocation for every draw and row, shape (S, N)."""
    n_draws, n_components = draws.log_weights.shape
    labels = np.zeros((n_draws, data.n_obs), dtype=np.int32)
    step = rows_in_a_block(draws)
    rows = draws.rows(data.values, data.errors, data.allowed)
    for start in range(0, data.n_obs, step):
        shares = shares_of(draws, np.ascontiguousarray(rows[:, start : start + step]))
        uniform = rng.random((shares.shape[2], n_draws))  # whatever the step, the same
        bound = np.cumsum(shares, axis=1, out=shares)
        drawn = uniform.T * bound[:, -1]
        for k in range(n_components - 1):
            labels[:, start : start + step] += drawn >= bound[:, k]
    return labels


def _read(source: Any) -> tuple[NDArray[Any], dict[str, Any]]:
    """Return labels, draws by rows, and the coordinates along ``obs``."""
    if isinstance(source, xr.DataArray):
        return _read_xarray(source)
    if isinstance(source, xr.Dataset):
        raise TypeError(
            f"`source` must be a fit or an array of labels, draws by rows; got a Dataset. Pass "
            f"one of its variables ({listed(source.data_vars) or 'it has none'})."
        )
    coords: dict[str, Any] = {}
    if isinstance(source, pd.DataFrame):
        if isinstance(source.columns, pd.MultiIndex):
            raise TypeError(
                f"`source.columns` must hold one label for each row of the data; got a MultiIndex "
                f"of {source.columns.nlevels} levels. Pass `source.to_numpy()`."
            )
        coords[names.OBS] = source.columns.to_numpy()
        source = source.to_numpy()
    values = _array(source)
    coords.setdefault(names.OBS, pd.RangeIndex(values.shape[1]))
    return values, coords


def _read_xarray(source: xr.DataArray) -> tuple[NDArray[Any], dict[str, Any]]:
    """Read a DataArray: chains, if there are any, one after another."""
    sample = tuple(dim for dim in (names.CHAIN, names.DRAW) if dim in source.dims)
    if names.DRAW not in sample or {*sample, names.OBS} != set(source.dims):
        raise ValueError(
            f"`source` must have the dimensions {names.DRAW!r} and {names.OBS!r}, and maybe "
            f"{names.CHAIN!r}; got {listed(source.dims) or 'none'}. Rename them, "
            f"`source.rename(...)`, or pass `source.values`, draws by rows."
        )
    values = source.transpose(*sample, names.OBS).values
    coords = {
        str(name): coord.variable
        for name, coord in source.coords.items()
        if coord.dims == (names.OBS,)
    }
    return _array(values.reshape(math.prod(values.shape[:-1]), values.shape[-1])), coords


def _array(source: Any) -> NDArray[Any]:
    """Return labels as a rectangle of integers, or say what they are instead."""
    masked = np.ma.getmaskarray(source) if isinstance(source, np.ma.MaskedArray) else None
    try:
        values: NDArray[Any] = np.asarray(source)
    except ValueError:
        raise ValueError(_ragged(source)) from None
    if values.ndim == 0:
        raise TypeError(
            f"`source` must be a fit or an array of labels, draws by rows; got an object of type "
            f"{type(source).__name__}. Pass what bayesgmm.fit returned, or an integer array."
        )
    if values.ndim != 2:
        remedy = {
            1: "A single partition is `source[None, :]`.",
            3: "Put the chains one after another: `source.reshape(-1, source.shape[-1])`.",
        }.get(values.ndim, "Reshape it to one row for every draw.")
        raise ValueError(f"`source` must be 2-D, draws by rows; got shape {values.shape}. {remedy}")
    if 0 in values.shape:
        raise ValueError(
            f"`source` must hold at least one draw and one row; got shape {values.shape}. Look at "
            f"how it was read or thinned."
        )
    if masked is not None and masked.any():
        draw, row = np.argwhere(masked)[0]
        raise ValueError(
            f"`source` must have a label for every row; got none at draw {draw}, row {row}. Drop "
            f"these draws or rows."
        )
    if values.dtype.kind not in "iu":
        raise _not_integers(values)
    return values


def _ragged(source: Iterable[Any]) -> str:
    """Return what is wrong with draws that are not all of one length."""
    lengths = [np.size(draw) for draw in source]
    odd = next((s for s, length in enumerate(lengths) if length != lengths[0]), 0)
    return (
        f"`source` must have as many labels in every draw; got {lengths[0]} in draw 0 and "
        f"{lengths[odd]} in draw {odd}. Label every row in every draw."
    )


def _not_integers(values: NDArray[Any]) -> TypeError:
    """Return the error for labels of another type, with the first that is no integer."""
    shown, remedy = f"{values.dtype} labels", "Number the clusters: `pandas.factorize`."
    if values.dtype.kind == "f":
        missing = np.isnan(values)
        odd = missing if missing.any() else values != np.floor(values)
        remedy = "Convert it: `source.astype(int)`."
        if odd.any():
            draw, row = np.argwhere(odd)[0]
            shown += f", {values[draw, row]} at draw {draw}, row {row}"
            remedy = "Drop these draws or rows." if missing.any() else "Pass cluster labels."
    elif values.dtype.kind == "b":
        remedy = "Convert it: `source.astype(int)`."
    return TypeError(f"`source` must hold integers; got {shown}. {remedy}")


def _compact(values: NDArray[Any]) -> NDArray[np.int32]:
    """Return labels numbered 0, 1, ... within every draw."""
    low, high = int(values.min()), int(values.max())
    if high - low < WIDEST:
        return compacted(values.astype(np.int64) - low, high - low + 1)
    different, places = np.unique(values, return_inverse=True)
    return compacted(places.reshape(values.shape), len(different))
