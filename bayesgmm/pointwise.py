"""The log-likelihood of every row under every draw, where it is too large to be held at once."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.kernels.draws import fill_draws
from bayesgmm.kernels.relabel import NO_CUBE, NO_LABELS
from bayesgmm.kernels.threads import over_draws
from bayesgmm.prediction import Mixtures, mixtures

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
        In nats, chains one after another; the reader may overwrite it.

    Notes
    -----
    O(S N K D^2) operations for S draws, in as many threads as there are cores; 64 MiB of memory.
    """
    draws = mixtures(tree)
    values = tree[names.OBSERVED_DATA].dataset[names.X].transpose(names.OBS, names.FEATURE).values
    n_draws, n_obs = len(draws.log_weights), len(values)
    step = max(1, BLOCK_BYTES // (8 * n_draws))
    for start in range(0, n_obs, step):
        block = slice(start, min(start + step, n_obs))
        yield block, log_densities(draws, draws.rows(values[block]))


def log_densities(draws: Mixtures, rows: Array) -> Array:
    """Return the log density of standardised rows (D, n) under every draw, in the data's units."""
    log_weights, means, cholesky, _, unit = draws
    result = np.empty((len(log_weights), rows.shape[1]))

    def fill(part: slice) -> None:
        fill_draws(
            rows, log_weights[part], means[part], cholesky[part],
            result[part], NO_CUBE, NO_LABELS, NO_CUBE,
        )  # fmt: skip
        result[part] -= np.log(unit).sum()

    over_draws(fill, len(result))
    return result
