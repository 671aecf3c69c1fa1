"""Factor analysers: the pass, the coordinates of the loadings and the log posterior."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import chi, halfnorm, multivariate_normal, norm

from bayesgmm.kernels.cholesky import Layout, offsets
from bayesgmm.kernels.draws import fill_draws
from bayesgmm.kernels.factor_loadings import (
    covariance_of,
    dense,
    entries_of,
    fill_factors,
    is_factored,
    joined,
    loadings_of,
    reflected,
    reflectors_of,
)
from bayesgmm.kernels.factor_pass import factor_e_step, fill_gains
from bayesgmm.kernels.factor_posterior import pack_factor_problem
from bayesgmm.kernels.relabel import NO_CUBE, NO_LABELS
from bayesgmm.kernels.rotation import turned_to_agree
from bayesgmm.kernels.target import log_target

type Array = NDArray[np.float64]

SIZES = [(1, 3, 1, 40), (3, 7, 2, 101), (2, 12, 5, 300)]
"""Components, features, factors and rows."""


def mixture(rng: np.random.Generator, k: int, d: int, q: int) -> tuple[Array, Array, Array]:
    """Return log weights, means and [W psi]."""
    factors = joined(rng.normal(size=(k, d, q)), rng.uniform(0.2, 1.0, (k, d)))
    return np.log(rng.dirichlet(np.ones(k))), rng.normal(size=(k, d)), factors


def joint(rows: Array, log_weights: Array, means: Array, factors: Array) -> Array:
    """Return log weight plus log density of every row and component, by scipy.stats."""
    covariances = covariance_of(factors)
    return np.array(
        [
            log_weight + multivariate_normal(mean, covariance).logpdf(rows.T)
            for log_weight, mean, covariance in zip(log_weights, means, covariances, strict=True)
        ]
    )


@pytest.mark.parametrize(("k", "d", "q", "n"), SIZES)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_pass_is_the_dense_one(
    rng: np.random.Generator, k: int, d: int, q: int, n: int, weighted: bool
) -> None:
    rows = rng.normal(size=(d + k, n))
    row_weights = rng.uniform(0.0, 2.0, n) if weighted else np.empty(0)
    log_weights, means, factors = mixture(rng, k, d, q)
    gains, precisions, heights = np.empty((k, q, d)), np.empty((k, d)), np.empty(k)
    fill_gains(factors, gains, precisions, heights)
    counts, first, second = np.empty(k), np.empty((k, d)), np.empty((k, d))
    cross = np.empty((k, d, q))
    got = factor_e_step(
        rows, row_weights, log_weights, means, factors, gains, precisions, heights,
        counts, first, second, cross,
    )  # fmt: skip
    terms = joint(rows[:d], log_weights, means, factors) + rows[d:]
    each, of_rows = logsumexp(terms, axis=0), row_weights if weighted else np.ones(n)
    assert got == pytest.approx(float(of_rows @ each), rel=1e-12)
    shares = of_rows * np.exp(terms - each)
    np.testing.assert_allclose(counts, shares.sum(axis=1), rtol=1e-11)
    for j in range(k):
        centred = rows[:d] - means[j][:, None]
        solved = np.linalg.solve(covariance_of(factors[j]), centred)
        scores = factors[j, :, :q].T @ solved
        left = centred - factors[j, :, :q] @ scores
        np.testing.assert_allclose(first[j], left @ shares[j], rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(second[j], left**2 @ shares[j], rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(cross[j], (left * shares[j]) @ scores.T, rtol=1e-9, atol=1e-10)


def test_small_noise_cancels_nothing(rng: np.random.Generator) -> None:
    log_weights, means, factors = mixture(rng, 2, 5, 1)
    factors[..., -1] *= 1e-7
    rows = np.ascontiguousarray(
        means[0][:, None] + factors[0, :, :1] * rng.normal(size=30)
        + factors[0, :, 1:] * rng.normal(size=(5, 30))
    )  # fmt: skip
    densities = np.empty((1, 30))
    fill_draws(
        rows, log_weights[None], means[None], factors[None], densities, NO_CUBE, NO_LABELS, NO_CUBE
    )
    noise, loadings = factors[0, :, 1], factors[0, :, 0]
    scaled = (rows - means[0][:, None]) / noise[:, None]
    along = loadings / noise
    length = np.linalg.norm(along)
    on = along @ scaled / length
    off = np.square(scaled - np.outer(along / length, on)).sum(axis=0)
    due = -0.5 * (off + on**2 / (1.0 + length**2) + math.log1p(length**2))
    due += log_weights[0] - np.log(noise).sum() - 2.5 * math.log(2.0 * math.pi)
    np.testing.assert_allclose(densities[0], due, rtol=1e-7)


@pytest.mark.parametrize("missing", [False, True])
def test_draws_are_those_of_dense_factors(rng: np.random.Generator, missing: bool) -> None:
    drawn = [mixture(rng, 3, 6, 2) for _ in range(2)]
    log_weights, means, factors = (np.stack(parts) for parts in zip(*drawn, strict=True))
    rows = rng.normal(size=(6, 50))
    if missing:
        rows[2, :20] = np.nan
        rows[:4, 7] = np.nan
    found = []
    for kind in (factors, dense(factors, factors.shape[-2])):
        densities, shares = np.empty((2, 50)), np.empty((2, 3, 50))
        confusion, labels = np.empty((2, 3, 2)), (np.arange(50) % 2).astype(np.int64)
        fill_draws(rows, log_weights, means, kind, densities, shares, labels, confusion)
        found.append((densities, shares, confusion))
    for got, due in zip(*found, strict=True):
        np.testing.assert_allclose(got, due, rtol=1e-9, atol=1e-12)


def test_factored_and_dense_are_told_apart() -> None:
    assert is_factored(np.empty((3, 2, 5, 3)), 5)
    assert not is_factored(np.empty((3, 2, 5, 5)), 5)


def test_dense_factors_of_too_much_memory_are_refused() -> None:
    large = np.broadcast_to(1.0, (4000, 3, 400, 3))
    with pytest.raises(ValueError, match=r"under 2 GiB here.* got 400 features and 14\.3 GiB"):
        dense(large, large.shape[-2])


def test_reflections_are_orthogonal_and_span_the_basis(rng: np.random.Generator) -> None:
    basis = rng.normal(size=(6, 2))
    reflectors = reflectors_of(basis)
    whole = reflected(reflectors, np.eye(6))
    np.testing.assert_allclose(whole @ whole.T, np.eye(6), atol=1e-14)
    np.testing.assert_allclose(reflected(reflectors, np.eye(6), inverse=True), whole.T, atol=1e-14)
    np.testing.assert_allclose(whole[:, 2:].T @ basis, 0.0, atol=1e-13)


@pytest.mark.parametrize(("k", "d", "q", "n"), SIZES)
def test_every_covariance_has_one_vector(
    rng: np.random.Generator, k: int, d: int, q: int, n: int
) -> None:
    layout = Layout(k, d, k, d, 0, n_factors=q)
    spread, reflectors = rng.uniform(0.5, 2.0, d), reflectors_of(rng.normal(size=(d, q)))
    loadings = rng.normal(size=(4, k, d, q))
    entries = entries_of(loadings, spread, reflectors)
    _, _, start, length = offsets(layout)
    assert entries.shape == (4, length - start)
    found = loadings_of(layout, entries, spread, reflectors)
    np.testing.assert_allclose(found @ found.mT, loadings @ loadings.mT, rtol=1e-10, atol=1e-12)
    turn = np.linalg.qr(rng.normal(size=(q, q)))[0]
    np.testing.assert_allclose(
        entries_of(loadings @ turn, spread, reflectors), entries, rtol=1e-8, atol=1e-9
    )
    vector, factors = np.zeros(length), np.empty((k, d, q + 1))
    vector[start:] = entries[0]
    fill_factors(layout, np.full(d, 0.1), spread, reflectors, vector, factors)
    np.testing.assert_allclose(factors[..., :-1], found[0], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(factors[..., -1], 1.1)


@pytest.mark.parametrize(("k", "d", "q", "n"), SIZES)
@pytest.mark.parametrize("structure", ["full", "tied", "spherical"])
def test_log_posterior_is_that_of_scipy_and_its_gradient(
    rng: np.random.Generator, k: int, d: int, q: int, n: int, structure: str
) -> None:
    r, c = 1 if structure == "tied" else k, 1 if structure == "spherical" else d
    layout = Layout(k, d, r, c, 0, n_factors=q)
    rows, unit = rng.normal(size=(d, n)), rng.uniform(0.5, 2.0, d)
    parts = {
        "concentration": rng.uniform(0.5, 2.0, k), "sticks": False,
        "location": rng.normal(size=d), "scale": rng.uniform(1.0, 3.0, d),
        "tau": rng.uniform(0.5, 1.0, c), "floor": rng.uniform(0.01, 0.1, c),
        "spread": rng.uniform(0.3, 1.0, d), "reflectors": reflectors_of(rng.normal(size=(d, q))),
        "unit": unit, "row_weights": np.empty(0),
    }  # fmt: skip
    means_at, noise_at, loadings_at, length = offsets(layout)
    vector, gradient = 0.5 * rng.normal(size=length), np.empty(length)
    problem = pack_factor_problem(layout, rows, **parts, prior=True)
    value = log_target(vector, problem, gradient)

    logs = np.append(vector[: k - 1], -vector[: k - 1].sum())
    log_weights = logs - logsumexp(logs)
    means = vector[means_at:noise_at].reshape(k, d)
    excess = np.exp(vector[noise_at:loadings_at].reshape(r, c))
    noise = np.broadcast_to(parts["floor"] + excess, (k, d))
    loadings = loadings_of(
        layout, vector[None, loadings_at:], parts["spread"], parts["reflectors"]
    )[0]
    due = logsumexp(joint(rows, log_weights, means, joined(loadings, noise)), axis=0).sum()
    due -= n * np.log(unit).sum()
    assert log_target(
        vector, pack_factor_problem(layout, rows, **parts, prior=False), gradient
    ) == pytest.approx(due, rel=1e-12)  # fmt: skip

    alpha = parts["concentration"]
    due += math.lgamma(alpha.sum()) - sum(map(math.lgamma, alpha)) + alpha @ log_weights
    due += math.log(k)  # of the transform of the weights
    due += norm(parts["location"] * unit, parts["scale"] * unit).logpdf(means * unit).sum()
    of_noise = halfnorm(scale=parts["tau"])
    due += (of_noise.logpdf(parts["floor"] + excess) - of_noise.logsf(parts["floor"])).sum()
    due += np.log(excess).sum()
    for entries in vector[loadings_at:].reshape(k, -1):
        at = 0
        for row in range(d):
            for column in range(min(row + 1, q)):
                entry = entries[at]
                if row == column:
                    due += chi(q - row).logpdf(math.exp(entry)) + entry
                else:
                    due += norm.logpdf(entry)
                at += 1
    assert value == pytest.approx(due, rel=1e-11)

    log_target(vector, problem, gradient)
    nothing, step = np.empty(length), 1e-5
    for p in rng.choice(length, min(length, 25), replace=False):
        shift = step * np.eye(length)[p]
        above, below = (log_target(vector + s, problem, nothing) for s in (shift, -shift))
        slope = (above - below) / (2.0 * step)
        assert gradient[p] == pytest.approx(slope, rel=1e-6, abs=1e-5 * np.abs(gradient).max())


def test_the_prior_does_not_depend_on_the_order_of_features(rng: np.random.Generator) -> None:
    # of the triangle and of a Gaussian matrix, W W' has the same distribution: moments agree
    q, d, n = 2, 4, 40_000
    layout = Layout(1, d, 1, d, 0, n_factors=q)
    rows, columns = np.tril_indices(d, 0, q)
    entries = rng.normal(size=(n, rows.size))
    on = rows == columns
    entries[:, on] = np.log(np.sqrt(rng.chisquare(q - np.arange(q), (n, q))))
    loadings = loadings_of(layout, entries, np.ones(d), np.zeros((q, d)))[:, 0]
    products = loadings @ loadings.mT
    plain = rng.normal(size=(n, d, q))
    error = 5.0 * 2.0 * q / math.sqrt(n)
    np.testing.assert_allclose(products.mean(axis=0), q * np.eye(d), atol=error)
    np.testing.assert_allclose(
        np.square(products).mean(axis=0), np.square(plain @ plain.mT).mean(axis=0), atol=15 * error
    )


def test_turned_loadings_agree(rng: np.random.Generator) -> None:
    truth = rng.normal(size=(1, 2, 8, 3))
    noisy = truth + 0.05 * rng.normal(size=(200, 2, 8, 3))
    turns = np.linalg.qr(rng.normal(size=(200, 2, 3, 3)))[0]
    noise = np.full((200, 2, 8), 0.5)
    turned = turned_to_agree(noisy @ turns, noise)
    np.testing.assert_allclose(turned @ turned.mT, noisy @ noisy.mT, rtol=1e-9, atol=1e-10)
    # as far apart as loadings are that were never turned
    assert turned.std(axis=0).mean() < 1.1 * 0.05
    axes = turned.mean(axis=0)
    squares = axes.mT @ axes
    lengths = np.einsum("kjj->kj", squares)
    np.testing.assert_allclose(squares, lengths[:, :, None] * np.eye(3), atol=1e-8)
    assert (np.diff(lengths) <= 0.0).all()
    largest = np.abs(axes).argmax(axis=1)
    assert (np.take_along_axis(axes, largest[:, None], axis=1) > 0.0).all()
