"""Measurement errors as the user gives them, and what is refused."""

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bayesgmm.data import prepare
from bayesgmm.records import rows_of

CELLS = np.array([[1.0, 2.0], [3.0, np.nan], [5.0, 7.5], [6.0, 1.0]])
FRAME = pd.DataFrame(CELLS, columns=["a", "b"], index=["Ann", "Bo", "Cy", "Di"])
DEVIATIONS = np.array([[0.1, 0.2], [0.3, np.nan], [0.0, 0.5], [0.1, 0.1]])


def changed(values: np.ndarray, place: Any, value: float) -> np.ndarray:
    result = values.copy()
    result[place] = value
    return result


def covariances() -> np.ndarray:
    result = np.tile([[2.0, 1.0], [1.0, 2.0]], (4, 1, 1))
    result[1, 1] = result[1, :, 1] = np.nan  # of a missing cell
    result[3] = [[0.0, 0.0], [0.0, 1.0]]  # an exact cell
    return result


@pytest.mark.parametrize(
    "given",
    [DEVIATIONS, DEVIATIONS.tolist(), FRAME * 0 + DEVIATIONS],
)
def test_standard_deviations_are_kept_but_for_missing_cells(given: Any) -> None:
    data = prepare(FRAME, measurement_error=given)
    np.testing.assert_array_equal(data.errors, changed(DEVIATIONS, (1, 1), 0.0))
    assert not data.complete
    rows = rows_of(data.values, data.errors, None, 1, np.zeros(2), np.ones(2), np.empty((0, 2)))
    np.testing.assert_array_equal(rows.T, np.column_stack([CELLS, np.zeros(4), data.errors]))


def test_covariances_become_factors() -> None:
    data = prepare(FRAME, measurement_error=covariances())
    rows = rows_of(data.values, data.errors, None, 1, np.zeros(2), np.ones(2), np.empty((0, 2)))
    factors = np.zeros((4, 2, 2))
    factors[:, *np.tril_indices(2)] = rows[3:].T
    products = factors @ np.swapaxes(factors, 1, 2)
    wanted = covariances()
    wanted[1] = [[2.0, 0.0], [0.0, 0.0]]
    np.testing.assert_allclose(products, wanted, atol=1e-14)


def test_what_was_given_is_not_changed() -> None:
    given = DEVIATIONS.copy()
    prepare(FRAME, measurement_error=given)
    np.testing.assert_array_equal(given, DEVIATIONS)


NOT_DEFINITE = covariances()
NOT_DEFINITE[2] = [[1.0, 2.0], [2.0, 1.0]]
NOT_SYMMETRIC = covariances()
NOT_SYMMETRIC[2, 0, 1] = 0.5
EXACT_BUT_CORRELATED = covariances()
EXACT_BUT_CORRELATED[3, 0, 1] = EXACT_BUT_CORRELATED[3, 1, 0] = 0.1
DUE = r"`measurement_error` must hold "
REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "negative": (
        changed(DEVIATIONS, (2, 0), -0.5), ValueError,
        DUE + r"standard deviations, finite and at least 0; got -0.5 at row 'Cy', column 'a'.",
    ),
    "unknown": (
        changed(DEVIATIONS, (0, 1), np.nan), ValueError,
        DUE + r"standard deviations, .*; got nan at row 'Ann', column 'b'. .* set the cell of `X`",
    ),
    "one column": (
        DEVIATIONS[:, :1], ValueError,
        r"must have the shape \(4, 2\) or \(4, 2, 2\); got \(4, 1\). Pass standard deviations",
    ),
    "one row": (DEVIATIONS[:3], ValueError, r"must have the shape \(4, 2\) or .* got \(3, 2\)"),
    "a matrix for all": (np.eye(2), ValueError, r"must have the shape .* got \(2, 2\)"),
    "other columns": (
        pd.DataFrame(DEVIATIONS, columns=["b", "a"]), ValueError,
        r"must have the columns of `X`, 'a', 'b'; got 'b', 'a'. Order them as `X`.",
    ),
    "text": (
        [["small", "large"]] * 4, TypeError, r"must hold real numbers; got .* Pass standard",
    ),
    "not definite": (
        NOT_DEFINITE, ValueError,
        DUE + r"positive definite covariance matrices; got one with the smallest eigenvalue -1 at "
        r"row 'Cy': \[\[1.0, 2.0\], \[2.0, 1.0\]\].",
    ),
    "exact but correlated": (EXACT_BUT_CORRELATED, ValueError, DUE + r"positive .* row 'Di'"),
    "not symmetric": (
        NOT_SYMMETRIC, ValueError, DUE + r"symmetric, finite .*; got one that is not at row 'Cy'",
    ),
    "not finite": (
        changed(covariances(), (0, 0, 0), np.inf), ValueError,
        DUE + r"symmetric, finite .*; got a number that is not finite at row 'Ann'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_error_is_refused_with_its_place(case: str) -> None:
    given, kind, message = REFUSED[case]
    with pytest.raises(kind, match=message) as caught:
        prepare(FRAME, measurement_error=given)
    assert re.match(r"^`measurement_error` must .+; got .+\. \S.*\.$", str(caught.value), re.DOTALL)


@pytest.mark.parametrize("errors", [0.1, [0.1, 0.2], np.array([0.1, 0.2])])
def test_errors_that_rows_share_must_be_written_for_each(errors: Any) -> None:
    X = np.random.default_rng(0).normal(size=(20, 2))
    match = r"must have the shape \(20, 2\) or .*`numpy.broadcast_to\(errors, X.shape\)`"
    with pytest.raises(ValueError, match=match):
        prepare(X, measurement_error=errors)
    shared = np.broadcast_to(errors, X.shape)
    np.testing.assert_array_equal(prepare(X, measurement_error=shared).errors, shared)
