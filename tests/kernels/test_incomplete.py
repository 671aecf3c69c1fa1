"""Rows of which a part is seen: their expected moments, and EM, against textbook formulae."""

import numpy as np
import pytest

from bayesgmm.kernels.cholesky import constrain, unconstrain
from bayesgmm.kernels.incomplete import expected_moments
from bayesgmm.kernels.mstep import Penalty, em_map
from bayesgmm.kernels.patterns import FEW, pack_groups
from tests.kernels.oracle import Mixture, Pass, layout, random_mixture, whiten
from tests.kernels.partly_seen import KINDS, Seen, naive_moments, partly_seen

UNWEIGHTED = np.empty(0)


def moments(seen: Seen, mixture: Mixture, row_weights: np.ndarray) -> Pass:
    """Return what the kernel computes, its outputs filled with NaN beforehand."""
    k_all, n_dim = mixture.means.shape
    order, n_complete, groups = pack_groups(seen.rows(k_all), n_dim, k_all)
    counts, first = np.full(k_all, np.nan), np.full((k_all, n_dim), np.nan)
    second = np.full((k_all, n_dim, n_dim), np.nan)
    value = expected_moments(
        np.ascontiguousarray(seen.cells[order[:n_complete]].T),
        row_weights[order] if row_weights.size else row_weights,
        groups, *mixture, *whiten(mixture), counts, first, second,
    )  # fmt: skip
    return Pass(value, counts, first, second)


def assert_same(got: Pass, wanted: Pass, tolerance: float) -> None:
    for name, one, other in zip(Pass._fields, got, wanted, strict=True):
        scale = tolerance * np.abs(other).max()
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=scale, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n_features", "n_components"), [(1, 2), (2, 3), (4, 2), (11, 2)])
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_the_conditional_moments_of_every_row(
    kind: str, n_features: int, n_components: int, weighted: bool, rng: np.random.Generator
) -> None:
    mixture = random_mixture(rng, n_components, n_features, decades=0.3)
    seen = partly_seen(rng, mixture, 150, kind)
    row_weights = rng.uniform(0.2, 3.0, 150) if weighted else UNWEIGHTED
    wanted, _ = naive_moments(seen, mixture, row_weights)
    assert_same(moments(seen, mixture, row_weights), wanted, 1e-10)


@pytest.mark.parametrize("n_rows", [1, FEW - 1, FEW, FEW + 1, 300])
def test_few_and_many_rows_alike_are_the_same_sum(n_rows: int, rng: np.random.Generator) -> None:
    """Few go row by row, more through the tiles of the pass."""
    mixture = random_mixture(rng, 3, 3, decades=0.3)
    cells = partly_seen(rng, mixture, n_rows, "same").cells
    cells[:, 1] = np.nan
    row_weights = rng.uniform(0.2, 3.0, n_rows)
    wanted, _ = naive_moments(Seen(cells, None), mixture, row_weights)
    assert_same(moments(Seen(cells, None), mixture, row_weights), wanted, 1e-10)


def test_complete_rows_are_what_they_were(rng: np.random.Generator) -> None:
    mixture = random_mixture(rng, 2, 3)
    complete = Seen(partly_seen(rng, mixture, 90, "same").cells, None)
    apart = Seen(complete.cells, np.zeros((90, 3)))
    assert pack_groups(apart.rows(2), 3, 2)[2].size == 0
    wanted = naive_moments(complete, mixture, UNWEIGHTED)[0]
    assert_same(moments(apart, mixture, UNWEIGHTED), wanted, 1e-10)


def test_thin_components_lose_nothing(rng: np.random.Generator) -> None:
    """The covariance of what is seen would have the square of this condition: 1e20."""
    factor = np.array([[1.0, 0.0, 0.0], [1.0, 1e-10, 0.0], [0.5, 0.3, 1.0]])
    mixture = Mixture(np.zeros(1), np.zeros((1, 3)), factor[None])
    z = rng.normal(size=(2, 40))
    cells = np.column_stack([factor[0, 0] * z[0], factor[1, :2] @ z, np.full(40, np.nan)])
    got = moments(Seen(cells, None), mixture, UNWEIGHTED)
    np.testing.assert_allclose(got.first[0], [*z.sum(axis=1), 0.0], rtol=1e-5, atol=1e-6)
    wanted = np.zeros((3, 3))
    wanted[:2, :2], wanted[2, 2] = z @ z.T, 40.0
    np.testing.assert_allclose(got.second[0], wanted, rtol=1e-5, atol=1e-4)


def naive_em_step(seen: Seen, mixture: Mixture) -> Mixture:
    """Return the mixture after a step of EM, as textbooks write it."""
    (_, counts, first, second), _ = naive_moments(seen, mixture, UNWEIGHTED)
    factor = mixture.cholesky
    shift = np.einsum("kde,ke->kd", factor, first) / counts[:, None]
    about_old = factor @ second @ np.swapaxes(factor, 1, 2) / counts[:, None, None]
    covariances = about_old - shift[:, :, None] * shift[:, None, :]
    return Mixture(
        np.log(counts / counts.sum()), mixture.means + shift, np.linalg.cholesky(covariances)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_em_takes_the_textbook_step_and_never_falls(kind: str, rng: np.random.Generator) -> None:
    which, mixture = layout("full", 2, 3), random_mixture(rng, 2, 3, decades=0.1)
    seen = partly_seen(rng, mixture, 120, kind)
    none = Penalty(np.zeros(2), np.zeros(3), 0.0, np.zeros(3), 0.0)
    order, n_complete, groups = pack_groups(seen.rows(2), 3, 2)
    rows = np.ascontiguousarray(seen.cells[order[:n_complete]].T)
    mixture = mixture._replace(means=mixture.means + 0.5)
    vector = unconstrain(which, np.zeros(3), *mixture)
    before, ok, vector = em_map(which, none, rows, UNWEIGHTED, groups, vector)
    assert ok
    wanted = naive_em_step(seen, mixture)
    weights, means, _, _, covariances = constrain(
        which, np.zeros(3), vector[None], np.zeros(3), np.ones(3)
    )
    np.testing.assert_allclose(np.log(weights[0]), wanted.log_weights, rtol=1e-9)
    np.testing.assert_allclose(means[0], wanted.means, rtol=1e-9)
    np.testing.assert_allclose(
        covariances[0], wanted.cholesky @ np.swapaxes(wanted.cholesky, 1, 2), rtol=1e-9, atol=1e-12
    )
    for _ in range(20):
        after, ok, vector = em_map(which, none, rows, UNWEIGHTED, groups, vector)
        assert ok
        assert after >= before - 1e-9
        before = after
