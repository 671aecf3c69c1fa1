"""The log-likelihood of every row under every draw, where it is too large to be held at once."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.kernels.relabel import NO_CUBE
from bayesgmm.kernels.threads import over_draws
from bayesgmm.prediction import Mixtures, fitted_rows, mixtures
from bayesgmm.records import log_volumes
from bayesgmm.sample_weights import weigh

type Array = NDArray[np.float64]

BLOCK_BYTES: Final = 2**26
"""Memory for the log-likelihood of some rows under every draw."""


def log_likelihood_blocks(tree: xr.DataTree) -> Iterator[tuple[slice, Array]]:
    """Yield the log-likelihood of the rows that were fitted, some rows at a time.

    Parameters
    ----------
    tree : DataTree
        A fit; its group ``log_likelihood``, which large fits do without, is not read.

    Yields
    ------
    rows : slice
        Which rows: all of them, in their order, come once.
    log_likelihood : array, shape (S, n_rows)
        In nats, chains one after another; the reader may overwrite it. Of weighted rows, weight
        times log density.

    Notes
    -----
    O(S N K D^2) operations for S draws, in as many threads as there are cores; 64 MiB of memory.
    """
    draws = mixtures(tree)
    rows = fitted_rows(tree, draws)
    weights = tree[names.CONSTANT_DATA].dataset.get(names.SAMPLE_WEIGHT)
    n_draws, n_obs = len(draws.log_weights), rows.shape[1]
    step = max(1, BLOCK_BYTES // (8 * n_draws))
    for start in range(0, n_obs, step):
        block = slice(start, min(start + step, n_obs))
        found = log_densities(draws, np.ascontiguousarray(rows[:, block]))
        weigh(found, None if weights is None else weights.values[block])
        yield block, found


def log_densities(draws: Mixtures, rows: Array) -> Array:
    """Return the log density of rows under every draw, shape (S, n), in the data's units.

    Parameters
    ----------
    draws : Mixtures
    rows : array, shape (D', n)
        As `Mixtures.rows` returns them.
    """
    result = np.empty((len(draws.log_weights), rows.shape[1]))
    volumes = log_volumes(rows, draws.unit)

    def fill(part: slice) -> None:
        draws.of(part).fill(rows, result[part], NO_CUBE)
        result[part] -= volumes

    over_draws(fill, len(result))
    return result
