"""Rows by what is seen of them."""

import numpy as np
import pytest

from bayesgmm.kernels.patterns import groups_of, is_complete, pack_groups
from tests.kernels.oracle import random_mixture
from tests.kernels.partly_seen import KINDS, partly_seen


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_in_one_group_of_its_likes(kind: str, rng: np.random.Generator) -> None:
    seen = partly_seen(rng, random_mixture(rng, 2, 3), 100, kind)
    rows = seen.rows(2)
    assert not is_complete(rows, 3, 2)
    there = np.zeros(100, dtype=int)
    found = set()
    for members, features, errors, lines in groups_of(rows, 3, 2):
        there[members] += 1
        assert (np.diff(members) > 0).all()
        key = (tuple(features.tolist()), errors.tobytes())
        assert key not in found
        found.add(key)
        known = [3, 4] if seen.errors is not None else []
        assert lines.tolist() == features.tolist() + known
        for i in members:
            np.testing.assert_array_equal(np.flatnonzero(~np.isnan(seen.cells[i])), features)
            if seen.errors is not None:
                wanted = np.diag(seen.errors[i] ** 2)
                wanted = wanted if seen.errors.ndim == 2 else seen.errors[i]
                np.testing.assert_allclose(
                    errors @ errors.T, wanted[np.ix_(features, features)], rtol=1e-12, atol=1e-14
                )
    assert (there == 1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_complete_rows_come_first(kind: str, rng: np.random.Generator) -> None:
    seen = partly_seen(rng, random_mixture(rng, 2, 3), 100, kind)
    complete = ~np.isnan(seen.cells).any(axis=1)
    if seen.errors is not None:
        complete &= ~seen.errors.reshape(100, -1).any(axis=1)
    order, n_complete, _ = pack_groups(seen.rows(2), 3, 2)
    assert n_complete == complete.sum() >= 5
    assert complete[order[:n_complete]].all()
    np.testing.assert_array_equal(np.sort(order), np.arange(100))


def test_complete_rows_are_told(rng: np.random.Generator) -> None:
    rows = rng.normal(size=(2, 5))
    assert is_complete(rows, 2, 4)
    labelled = np.concatenate([rows, np.full((4, 5), -np.inf)])
    assert is_complete(labelled, 2, 4)
    assert not is_complete(np.concatenate([labelled, np.zeros((2, 5))]), 2, 4)
    rows[1, 3] = np.nan
    assert not is_complete(rows, 2, 4)
