"""The log posterior at many vectors."""

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.target import density_at

type Array = NDArray[np.float64]


@kernel
def fill_log_posteriors(
    address: int, vectors: Array, problem: Array, values: Array, gradients: Array
) -> None:
    """Write the log posterior density at every vector, and its gradient.

    Parameters
    ----------
    address : int
        As `kernels.target.address_of` returns it.
    vectors : array, shape (S, P)
        Unconstrained. This and all other arrays are C-contiguous.
    problem : array
        As `kernels.posterior.pack_problem` returns it.
    values, gradients : arrays, shapes (S,) and (S, P)
        Overwritten.

    Notes
    -----
    S passes, O(S N K D^2).
    """
    for s in range(vectors.shape[0]):
        values[s] = density_at(address, vectors[s], problem, gradients[s])
