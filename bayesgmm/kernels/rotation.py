"""Loadings turned to agree from draw to draw."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

type Array = NDArray[np.float64]

ROUNDS: Final = 20
"""Times that draws are turned to their mean, at the most."""
SETTLED: Final = 1e-10
"""Relative change of the mean under which it stands."""


def turned_to_agree(loadings: Array, noise_scales: Array) -> Array:
    """Return loadings that mean the same in every draw.

    Every draw's loadings, in units of the noise, are turned (or mirrored) to be as near as can be
    to the mean of all that were so turned (orthogonal Procrustes; Schoenemann 1966); all together
    then so that the columns of the mean are its principal axes, the longest first, the largest
    entry of each positive.

    Parameters
    ----------
    loadings : array, shape (S, K, D, q)
    noise_scales : array, shape (S, K, D)

    Returns
    -------
    array, shape (S, K, D, q)
        Each (D, q) times an orthogonal matrix.

    Notes
    -----
    O(S K D q^2) operations, some times over.
    """
    result = np.empty_like(loadings)
    for k in range(loadings.shape[1]):
        own, unit = loadings[:, k], noise_scales[:, k].mean(axis=0)[:, None]
        scaled = own / unit
        mean = scaled[0]
        rotations = np.tile(np.eye(own.shape[-1]), (len(own), 1, 1))
        for _ in range(ROUNDS):
            left, _, right = np.linalg.svd(scaled.transpose(0, 2, 1) @ mean)
            rotations = left @ right
            before, mean = mean, np.einsum("sdi,sij->dj", scaled, rotations) / len(own)
            if np.abs(mean - before).max() <= SETTLED * np.abs(mean).max():
                break
        axes = np.linalg.svd(mean, full_matrices=False)[2].T
        turned = mean @ axes
        largest = np.abs(turned).argmax(axis=0)
        signs = np.where(turned[largest, np.arange(len(largest))] < 0.0, -1.0, 1.0)
        result[:, k] = own @ (rotations @ (axes * signs))
    return result
