"""Measurement errors of cells, as the user knows them: standard deviations or covariances."""

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesgmm.labels import Given, listed
from bayesgmm.tables import read

type Array = NDArray[np.float64]

ARGUMENT = "measurement_error"
REMEDY = (
    "Pass standard deviations, in the units of `X`, of the same shape as `X`; or a covariance "
    "matrix for every row, shape (n_obs, n_features, n_features). Of errors that all rows share: "
    "`numpy.broadcast_to(errors, X.shape)`."
)


def read_errors(measurement_error: Any, values: Array, given: Given) -> Array:
    """Check the errors of the cells that a mixture is to be fitted to.

    Parameters
    ----------
    measurement_error : array, DataFrame or DataArray
        Standard deviations, shape (n_obs, n_features), or covariance matrices, shape (n_obs,
        n_features, n_features), in the user's units. 0 is a cell without error. What is said of
        missing cells does not matter.
    values : array, shape (n_obs, n_features)
        The cells, NaN where missing.
    given : Given
        What the user passed as data.

    Returns
    -------
    array, shape (n_obs, n_features) or (n_obs, n_features, n_features)
        A copy, with 0 for missing cells.

    Raises
    ------
    TypeError
        If it holds anything but real numbers.
    ValueError
        If its shape or its labels are not those of the data, a standard deviation is negative or
        not finite, or a covariance matrix is not symmetric and positive definite, but for
        features of variance 0.
    """
    if isinstance(measurement_error, Real) or np.ndim(measurement_error) == 3:
        errors = _cells(measurement_error)
    else:
        other = read(measurement_error, ARGUMENT)
        if given.named and other.named and other.features != given.features:
            raise ValueError(
                f"`{ARGUMENT}` must have the columns of `X`, {listed(given.features)}; got "
                f"{listed(other.features)}. Order them as `X`."
            )
        errors = _cells(other.cells)
    n_obs, n_features = values.shape
    if errors.shape not in ((n_obs, n_features), (n_obs, n_features, n_features)):
        raise ValueError(
            f"`{ARGUMENT}` must have the shape {(n_obs, n_features)} or "
            f"{(n_obs, n_features, n_features)}; got {errors.shape}. {REMEDY}"
        )
    try:
        errors = _floats(measurement_error, errors)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{ARGUMENT}` must hold real numbers; got {error}. {REMEDY}") from None
    missing = np.isnan(values)
    if errors.ndim == 2:
        errors[missing] = 0.0
        _refuse_deviations(errors, given)
    else:
        errors[missing] = 0.0
        np.swapaxes(errors, 1, 2)[missing] = 0.0
        _refuse_covariances(errors, given)
    return errors


def _cells(given: Any) -> NDArray[Any]:
    """Return an array of numbers as it is, and any other as one of objects."""
    plain = isinstance(given, np.ndarray) and given.dtype.kind in "iuf"
    return np.asarray(given) if plain else np.array(given, dtype=object)


def _floats(given: Any, cells: Any) -> Array:
    """Return a copy as float64, NaN for what pandas calls missing."""
    if hasattr(given, "to_numpy") and np.ndim(given) == 2 and hasattr(given, "columns"):
        return np.array(given.to_numpy(dtype=np.float64, na_value=np.nan))
    return np.array(cells, dtype=np.float64)


def _refuse_deviations(errors: Array, given: Given) -> None:
    """Refuse standard deviations that are none, naming the first."""
    wrong = ~(np.isfinite(errors) & (errors >= 0.0))
    if wrong.any():
        i, j = divmod(int(wrong.argmax()), errors.shape[1])
        raise ValueError(
            f"`{ARGUMENT}` must hold standard deviations, finite and at least 0; got "
            f"{errors[i, j]} at {given.row(i)}, column {given.features[j]!r}. Correct it, or "
            f"set the cell of `X` to NaN if nothing is known of it."
        )


def _refuse_covariances(errors: Array, given: Given) -> None:
    """Refuse covariance matrices that are none, naming the first row."""
    finite = np.isfinite(errors).all(axis=(1, 2))
    sound = np.where(finite[:, None, None], errors, 0.0)
    scale = np.sqrt(np.abs(np.diagonal(sound, axis1=1, axis2=2)))
    scale = np.where(scale > 0.0, scale, 1.0)
    ratio = sound / (scale[:, :, None] * scale[:, None, :])
    symmetric = (np.abs(ratio - np.swapaxes(ratio, 1, 2)) <= 1e-8).all(axis=(1, 2))
    exact = np.diagonal(sound, axis1=1, axis2=2) == 0.0
    lowest = np.linalg.eigvalsh(ratio + exact[:, :, None] * np.eye(errors.shape[1]))[:, 0]
    alone = (ratio[exact] == 0.0).all(axis=1)  # an exact cell goes with no other
    definite = lowest > 1e-12
    np.logical_and.at(definite, np.nonzero(exact)[0], alone)
    for holds, what in ((finite, "a number that is not finite"), (symmetric, "one that is not")):
        if not holds.all():
            i = int(holds.argmin())
            raise ValueError(
                f"`{ARGUMENT}` must hold symmetric, finite covariance matrices; got {what} at "
                f"{given.row(i)}: {errors[i].tolist()}. Correct it."
            )
    if not definite.all():
        i = int(definite.argmin())
        raise ValueError(
            f"`{ARGUMENT}` must hold positive definite covariance matrices; got one with the "
            f"smallest eigenvalue {np.linalg.eigvalsh(errors[i])[0]:.3g} at {given.row(i)}: "
            f"{errors[i].tolist()}. Correct it; a cell without error has zeros in its row and "
            f"column."
        )
