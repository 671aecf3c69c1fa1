"""Known labels in the pass: logarithms of what they allow, below the rows, against a naive loop."""

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from bayesgmm.kernels.blocks import add_offsets, copy_block, gather
from bayesgmm.kernels.draws import fill_draws
from tests.kernels.oracle import Mixture, Pass, random_mixture, run_pass, sample
from tests.kernels.test_estep import UNWEIGHTED, assert_close

type Array = np.ndarray

NOTHING = np.empty((0, 0, 0))


def naive_pass(rows: Array, mixture: Mixture, row_weights: Array, offsets: Array) -> Pass:
    """Return the pass as a textbook writes it, with `scipy.stats`."""
    joint = offsets + mixture.log_weights[:, None]
    for k, factor in enumerate(mixture.cholesky):
        joint[k] += multivariate_normal(mixture.means[k], factor @ factor.T).logpdf(rows.T)
    density = logsumexp(joint, axis=0)
    weights = row_weights if row_weights.size else np.ones(rows.shape[1])
    share = np.exp(joint - density) * weights
    y = np.linalg.solve(mixture.cholesky, rows - mixture.means[:, :, None])
    return Pass(
        float(weights @ density),
        share.sum(axis=1),
        np.einsum("kn,kdn->kd", share, y),
        np.einsum("kn,kdn,ken->kde", share, y, y),
    )


def offsets_of(rng: np.random.Generator, n_components: int, n_rows: int) -> Array:
    """Return what labels of every kind allow: one component, some, all, each to a degree."""
    allowed = rng.uniform(size=(n_components, n_rows))
    allowed[:, ::3] = np.eye(n_components)[:, rng.integers(n_components, size=len(allowed[0, ::3]))]
    allowed[:, 1::3] = 1.0
    allowed[0, 4::6] = 0.0
    with np.errstate(divide="ignore"):
        return np.log(allowed)


@pytest.mark.parametrize("n_features", [1, 2, 5, 14])
@pytest.mark.parametrize("weighted", [False, True])
def test_labels_are_added_to_the_log_densities_of_components(
    n_features: int, weighted: bool, rng: np.random.Generator
) -> None:
    mixture = random_mixture(rng, 3, n_features, decades=0.2)
    for n_rows in (7, 256, 700):
        rows = sample(rng, mixture, n_rows)
        offsets = offsets_of(rng, 3, n_rows)
        weights = rng.uniform(0.0, 2.0, n_rows) if weighted else UNWEIGHTED
        got = run_pass(np.concatenate([rows, offsets]), mixture, weights)
        wanted = naive_pass(rows, mixture, weights, offsets)
        assert_close(got, wanted, n_rows, 1e-12)


def test_draws_know_labels_too(rng: np.random.Generator) -> None:
    mixture = random_mixture(rng, 3, 2)
    rows = sample(rng, mixture, 300)
    offsets = offsets_of(rng, 3, 300)
    densities, shares = np.empty((1, 300)), np.zeros((1, 3, 300))
    given = [part[None] for part in mixture]
    none = np.empty(0, dtype=np.int64)
    fill_draws(np.concatenate([rows, offsets]), *given, densities, shares, none, NOTHING)
    plain, free = np.empty((1, 300)), np.zeros((1, 3, 300))
    fill_draws(rows, *given, plain, free, none, NOTHING)
    joint = plain + np.log(free[0]) + offsets
    np.testing.assert_allclose(densities[0], logsumexp(joint, axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(shares[0], np.exp(joint - densities), atol=1e-12)
    assert (shares[0][np.isinf(offsets)] == 0.0).all()


def test_a_block_is_copied_with_zeros_beyond_it_and_told_its_labels(
    rng: np.random.Generator,
) -> None:
    rows = rng.normal(size=(5, 20))  # two features, three components
    x, lp = np.full(16, np.nan), np.arange(24.0)
    copy_block(rows.ravel(), 20, 4, 6, 8, 2, x)
    wanted = np.zeros((2, 8))
    wanted[:, :6] = rows[:2, 4:10]
    np.testing.assert_array_equal(x.reshape(2, 8), wanted)
    add_offsets(rows, 4, 6, 8, 2, lp)
    after = np.arange(24.0).reshape(3, 8)
    after[:, :6] += rows[2:, 4:10]
    np.testing.assert_array_equal(lp.reshape(3, 8), after)


def test_rows_with_a_share_are_gathered_if_they_are_few(rng: np.random.Generator) -> None:
    y, r = rng.normal(size=2 * 64), np.zeros(64)
    r[[3, 40, 41]] = 0.5
    index, gathered = np.empty(64, dtype=np.int64), np.full(3 * 64, np.nan)
    kept = gather(y, 64, r, 1e-30, 64, 2, index, gathered)
    assert 3 <= kept < 16
    table = gathered.reshape(3, 64)[:, :kept]
    np.testing.assert_array_equal(table[:, :3], [r[[3, 40, 41]], *y.reshape(2, 64)[:, [3, 40, 41]]])
    assert not table[:, 3:].any()
    assert gather(y, 64, np.ones(64), 1e-30, 64, 2, index, gathered) == -1
