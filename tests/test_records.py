"""Rows as the passes read them."""

import numpy as np
import pytest

from bayesgmm.kernels.draws import fill_draws
from bayesgmm.kernels.relabel import NO_ARRAY, NO_CUBE, NO_LABELS
from bayesgmm.records import filled, log_volumes, rows_of
from tests.kernels.oracle import random_mixture
from tests.kernels.partly_seen import KINDS, naive_moments, partly_seen


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_features", [1, 3])
def test_units_do_not_matter(kind: str, n_features: int, rng: np.random.Generator) -> None:
    """The density of rows in other units is that of the same rows, volumes taken off."""
    mixture = random_mixture(rng, 2, n_features)
    seen = partly_seen(rng, mixture, 60, kind)
    center, unit = rng.normal(size=n_features), 10.0 ** rng.uniform(-3, 3, n_features)
    cells, errors = center + unit * seen.cells, seen.errors
    if errors is not None:
        errors = errors * (unit if errors.ndim == 2 else np.multiply.outer(unit, unit))
    rows = rows_of(cells, errors, None, 2, center, unit, np.empty((0, unit.size)))
    np.testing.assert_allclose(rows, seen.rows(2), rtol=1e-9, atol=1e-9)
    _, wanted = naive_moments(seen, mixture, np.empty(0))
    densities = np.empty((1, 60))
    stacked = [np.ascontiguousarray(part[None]) for part in mixture]
    fill_draws(rows, *stacked, densities, NO_CUBE, NO_LABELS, NO_CUBE)
    there = ~np.isnan(cells)
    np.testing.assert_allclose(log_volumes(rows, unit), there @ np.log(unit), rtol=1e-12)
    np.testing.assert_allclose(densities[0], wanted, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_everything_asked_about_rows_is_of_what_is_seen(
    kind: str, rng: np.random.Generator
) -> None:
    draws = [random_mixture(rng, 3, 2, decades=0.2) for _ in range(4)]
    seen = partly_seen(rng, draws[0], 50, kind)
    stacked = [np.ascontiguousarray(np.stack(part)) for part in zip(*draws, strict=True)]
    labels = rng.integers(3, size=50)
    shares, total = np.full((4, 3, 50), np.nan), np.ones((1, 3, 50))
    confusion = np.full((4, 3, 3), np.nan)
    fill_draws(seen.rows(3), *stacked, NO_ARRAY, shares, labels, confusion)
    fill_draws(seen.rows(3), *stacked, NO_ARRAY, total, NO_LABELS, NO_CUBE)
    for s, mixture in enumerate(draws):
        for i in (0, 17, 49):
            one = seen._replace(
                cells=seen.cells[i : i + 1],
                errors=None if seen.errors is None else seen.errors[i : i + 1],
            )
            wanted = naive_moments(one, mixture, np.empty(0))[0].counts
            np.testing.assert_allclose(shares[s, :, i], wanted, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(total[0], 1.0 + shares.sum(axis=0), rtol=1e-12)
    wanted = np.einsum("skn,nl->skl", shares, np.eye(3)[labels])
    np.testing.assert_allclose(confusion, wanted, rtol=1e-10, atol=1e-12)


def test_missing_cells_are_filled_with_medians() -> None:
    rows = np.array([[1.0, np.nan, 3.0, 8.0], [0.0, 1.0, 2.0, 3.0], [0.1, 0.1, 0.1, 0.1]])
    np.testing.assert_array_equal(filled(rows, 2), [[1.0, 3.0, 3.0, 8.0], [0.0, 1.0, 2.0, 3.0]])
    assert filled(rows[1:2], 1).flags.c_contiguous
