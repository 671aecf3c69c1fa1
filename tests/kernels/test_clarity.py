"""How clear components are, against the formulas written out."""

import numpy as np
import pytest

from bayesgmm.kernels.clarity import (
    add_overlap,
    clarity,
    entropy,
    fill_vacancy,
    shared,
    vacancies,
)
from tests.kernels.test_stephens import all_shares, cost, draws_of

type Array = np.ndarray


def naive_overlap(share: Array) -> Array:
    """Return the sums over rows and draws of r s / (r + s), shape (K, K)."""
    n_components = share.shape[1]
    overlap = np.zeros((n_components, n_components))
    for k, j in np.ndindex(n_components, n_components):
        one, other = share[:, k], share[:, j]
        overlap[k, j] = 0.0 if k == j else (one * other / (one + other)).sum()
    return overlap


def test_the_loops_against_numpy(rng: np.random.Generator) -> None:
    share = rng.dirichlet(np.ones(3), (5, 20)).transpose(0, 2, 1).copy()
    vacancy, overlap = np.empty((5, 3)), np.zeros((3, 3))
    fill_vacancy(share, vacancy)
    np.testing.assert_allclose(vacancy, np.prod(1.0 - share, axis=2), rtol=1e-12)
    add_overlap(share, overlap)
    np.testing.assert_allclose(overlap, naive_overlap(share), rtol=1e-12)
    flat = share.reshape(-1)
    assert entropy(flat) == pytest.approx(-(flat * np.log(flat)).sum(), rel=1e-12)


def test_nothing_shared_and_nothing_there(rng: np.random.Generator) -> None:
    share = np.zeros((2, 3, 4))
    share[:, 0] = 1.0
    vacancy, overlap = np.empty((2, 3)), np.zeros((3, 3))
    fill_vacancy(share, vacancy)
    np.testing.assert_array_equal(vacancy, [[0.0, 1.0, 1.0]] * 2)
    add_overlap(share, overlap)
    assert (overlap == 0.0).all()
    assert entropy(share.reshape(-1)) == 0.0


def test_all_of_it_from_draws(rng: np.random.Generator) -> None:
    rows, draws = draws_of(rng)
    share = all_shares(rows, draws)
    found = clarity(rows, draws)
    identity = np.tile(np.arange(3), (len(share), 1))
    np.testing.assert_allclose(found.mean, share.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(found.overlap, naive_overlap(share) / len(share), rtol=1e-9)
    np.testing.assert_allclose(found.vacancy, np.prod(1 - share, axis=2), rtol=1e-6)
    np.testing.assert_array_equal(found.vacancy, vacancies(rows, draws))
    assert found.cost == pytest.approx(cost(share, identity), rel=1e-9)
    labels = share.mean(axis=0).argmax(axis=0)
    kept = np.array([share[:, j, labels == j].sum(axis=1) for j in range(3)]).T
    assert (found.lead >= 0.0).all()
    assert (found.lead <= kept.sum(axis=1)[:, None]).all()


def test_pairs_of_rows_share_a_component(rng: np.random.Generator) -> None:
    rows, draws = draws_of(rng)
    share = all_shares(rows, draws)
    expected = (share[:, :, ::2] * share[:, :, 1::2]).sum(axis=1)
    np.testing.assert_allclose(shared(rows, draws), expected, rtol=1e-9)
