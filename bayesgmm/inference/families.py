"""Families of Normal distributions, in coordinates in which the nearest is easy to find."""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bayesgmm.inference.approximation import Normal
from bayesgmm.inference.laplace import WIDEST_DRAWN, Frame

type Array = NDArray[np.float64]


class Family(ABC):
    """Normal distributions around a mode, each described by a vector t.

    The first P entries of t are the center, center = mode + W m, where W whitens the curvature at
    the mode; the others are the factor.

    Parameters
    ----------
    frame : Frame
    """

    dense: ClassVar[bool]
    """Whether the covariance is a full matrix."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.n = frame.mode.vector.size

    @property
    @abstractmethod
    def size(self) -> int:
        """Length of t."""

    @property
    @abstractmethod
    def log_scales(self) -> NDArray[np.int64]:
        """Where t holds logarithms of scales."""

    @abstractmethod
    def factor(self, t: Array) -> Array:
        """Return the factor, shape (P, P) or (P,)."""

    @abstractmethod
    def factor_slopes(self, t: Array, z: Array, gradients: Array) -> Array:
        """Return what `slopes` does, by the entries of t for the factor."""

    def normal(self, t: Array) -> Normal:
        """Return the distribution that a vector stands for."""
        frame = self.frame.normal
        center = frame.vectors(t[None, : self.n])[0]
        return Normal(center, self.factor(t), frame.log_unit)

    def slopes(self, t: Array, z: Array, gradients: Array) -> Array:
        """Return the derivatives by t of the average log density at draws, plus the entropy.

        Parameters
        ----------
        t : array, shape (size,)
        z : array, shape (M, P)
            Standard draws.
        gradients : array, shape (M, P)
            Of the log density, at the vectors that they are mapped to.
        """
        by_center = self.frame.normal.factor.T @ gradients.mean(axis=0)
        return np.concatenate([by_center, self.factor_slopes(t, z, gradients)])


class MeanField(Family):
    """Independent Normals: factor = diag(s exp(w)), t = (m, w).

    s is the standard deviation of each parameter given the others, at the mode.

    Parameters
    ----------
    frame : Frame
    """

    dense = False

    def __init__(self, frame: Frame) -> None:
        super().__init__(frame)
        self._scales = 1.0 / np.sqrt(np.maximum(np.diagonal(frame.hessian), WIDEST_DRAWN**-2.0))

    @property
    def size(self) -> int:
        """Length of t."""
        return 2 * self.n

    @property
    def log_scales(self) -> NDArray[np.int64]:
        """Where t holds logarithms of scales."""
        return np.arange(self.n, 2 * self.n)

    def factor(self, t: Array) -> Array:
        """Return the diagonal of the factor, shape (P,)."""
        return self._scales * np.exp(t[self.n :])

    def factor_slopes(self, t: Array, z: Array, gradients: Array) -> Array:
        """Return what `slopes` does, by w."""
        return np.einsum("sp,sp->p", gradients, z) / len(z) * self.factor(t) + 1.0


class FullRank(Family):
    """All Normals: factor = W A, A lower triangular.

    After m, t holds A row by row, with the logarithm of what is on its diagonal: t = 0 is the
    Laplace approximation.

    Parameters
    ----------
    frame : Frame
    """

    dense = True

    def __init__(self, frame: Frame) -> None:
        super().__init__(frame)
        self._triangle = np.tril_indices(self.n)
        self._diagonal = np.flatnonzero(self._triangle[0] == self._triangle[1])

    @property
    def size(self) -> int:
        """Length of t."""
        return self.n + self._triangle[0].size

    @property
    def log_scales(self) -> NDArray[np.int64]:
        """Where t holds logarithms of scales."""
        return self.n + self._diagonal

    def factor(self, t: Array) -> Array:
        """Return the factor, shape (P, P)."""
        entries = t[self.n :].copy()
        entries[self._diagonal] = np.exp(entries[self._diagonal])
        lower = np.zeros((self.n, self.n))
        lower[self._triangle] = entries
        return self.frame.normal.factor @ lower

    def factor_slopes(self, t: Array, z: Array, gradients: Array) -> Array:
        """Return what `slopes` does, by A and the logarithm of its diagonal."""
        by_lower = (self.frame.normal.factor.T @ (gradients.T @ z) / len(z))[self._triangle]
        by_lower[self._diagonal] *= np.exp(t[self.log_scales])
        by_lower[self._diagonal] += 1.0
        return by_lower
