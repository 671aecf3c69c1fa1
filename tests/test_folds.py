"""Which rows are left out together: sizes, shares, and what is refused."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from bayesgmm.folds import folds_of

OBS = pd.Index([f"r{i}" for i in range(10)])


@given(n_obs=st.integers(2, 60), count=st.integers(2, 60), seed=st.integers(0, 10**6))
def test_folds_are_of_equal_size(n_obs: int, count: int, seed: int) -> None:
    count = min(count, n_obs)
    folds = folds_of(count, None, pd.RangeIndex(n_obs), np.random.default_rng(seed))
    sizes = np.bincount(folds)
    assert sizes.size == count
    assert sizes.max() - sizes.min() <= 1


@given(
    strata=st.lists(st.sampled_from("abc"), min_size=6, max_size=60),
    count=st.integers(2, 6),
    seed=st.integers(0, 10**6),
)
def test_every_fold_has_its_share_of_every_stratum(
    strata: list[str], count: int, seed: int
) -> None:
    index = pd.RangeIndex(len(strata))
    folds = folds_of(count, strata, index, np.random.default_rng(seed))
    sizes = np.bincount(folds, minlength=count)
    assert sizes.max() - sizes.min() <= 1
    for stratum in set(strata):
        share = np.bincount(folds[np.array(strata) == stratum], minlength=count)
        assert share.max() - share.min() <= 1


def test_rows_are_in_folds_at_random(rng: np.random.Generator) -> None:
    one, other = (folds_of(5, None, OBS, rng) for _ in range(2))
    assert one.tolist() != other.tolist() != sorted(other)
    again = folds_of(5, None, OBS, np.random.default_rng(20261121))
    np.testing.assert_array_equal(again, one)


def test_folds_that_are_given_are_kept(rng: np.random.Generator) -> None:
    given_labels = ["b", "a"] * 5
    for folds in (
        given_labels,
        pd.Series(given_labels, index=OBS),
        xr.DataArray(given_labels, coords={"obs": OBS}),
        xr.DataArray(given_labels, dims="row"),
    ):
        assert folds_of(folds, None, OBS, rng).tolist() == given_labels


WRONG: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "one": (1, None, ValueError, r"^`folds` must be at least 2; got 1\. 10 is usual"),
    "none": (0, None, ValueError, r"^`folds` must be at least 2; got 0\."),
    "many": (11, None, ValueError, r"^`folds` must be at most 10, the rows; got 11\."),
    "float": (2.5, None, TypeError, r"^`folds` must be an integer; got 2\.5 of type float\."),
    "bool": (True, None, TypeError, r"^`folds` must be an integer; got True"),
    "word": ("ten", None, TypeError, r"^`folds` must be an integer; got 'ten'"),
    "same": (["a"] * 10, None, ValueError, r"at least two different labels; got 'a' alone\."),
    "short": ([1, 2, 3], None, ValueError, r"`folds` .* every row, shape \(10,\); got .* \(3,\)\."),
    "table": (np.ones((10, 2)), None, ValueError, r"shape \(10,\); got shape \(10, 2\)\."),
    "missing": ([1.0] * 9 + [np.nan], None, ValueError, r"of every row; got nan at row 'r9'\."),
    "index": (
        pd.Series([1, 2] * 5, index=OBS[::-1]),
        None,
        ValueError,
        r"^`folds` must have the labels .*; got 'r9' for 'r0' at place 0\. Reindex it",
    ),
    "both": ([1, 2] * 5, [1, 2] * 5, ValueError, r"^`stratify` must be None where `folds` says"),
    "strata": (2, [1, 2], ValueError, r"^`stratify` must hold a label of every row"),
}


@pytest.mark.parametrize(("folds", "stratify", "error", "message"), WRONG.values(), ids=WRONG)
def test_what_makes_no_folds_is_refused(
    folds: Any, stratify: Any, error: type[Exception], message: str, rng: np.random.Generator
) -> None:
    with pytest.raises(error, match=message):
        folds_of(folds, stratify, OBS, rng)
