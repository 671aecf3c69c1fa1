"""EM: its objective, its M-step and its fixed points, for every structure."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp

from bayesgmm.kernels.cholesky import Layout, fill_cholesky, fill_log_weights, unconstrain
from bayesgmm.kernels.matrices import factorise
from bayesgmm.kernels.mstep import Penalty, em_map, m_step, run_em
from bayesgmm.kernels.patterns import NO_GROUPS
from bayesgmm.kernels.posterior import log_posterior, pack_problem
from tests.kernels.oracle import STRUCTURES, Mixture, layout, random_mixture, run_pass, sample
from tests.kernels.vectors import length, split

type Array = np.ndarray

UNWEIGHTED = np.empty(0)
every_structure = pytest.mark.parametrize("structure", STRUCTURES)
every_penalty = pytest.mark.parametrize("penalised", [False, True])


def penalty_of(which: Layout, penalised: bool) -> Penalty:
    """Return no penalty, or one whose numbers are all different."""
    k, d = which.n_components, which.n_features
    if not penalised:
        return Penalty(np.zeros(k), np.zeros(d), 0.0, np.zeros(d), 0.0)
    return Penalty(
        np.linspace(0.5, 2.0, k), np.linspace(-0.3, 0.4, d), 0.7, np.linspace(0.2, 0.5, d), 1.3
    )


def parameters(which: Layout, vector: Array) -> Mixture:
    """Return the mixture that a vector without a floor stands for."""
    k, d = which.n_components, which.n_features
    log_weights, cholesky = np.empty(k), np.empty((k, d, d))
    fill_log_weights(vector, log_weights)
    fill_cholesky(which, np.zeros(which.scale_columns), vector, np.empty((k, d)), cholesky)
    return Mixture(log_weights, split(which, vector).means.copy(), cholesky)


def log_joint(rows: Array, mixture: Mixture) -> Array:
    """Return log weight + log density, shape (K, N)."""
    result = np.empty((len(mixture.means), rows.shape[1]))
    for k, factor in enumerate(mixture.cholesky):
        y = np.linalg.solve(factor, rows - mixture.means[k][:, None])
        constant = np.log(np.diag(factor)).sum() + 0.5 * len(rows) * np.log(2.0 * np.pi)
        result[k] = mixture.log_weights[k] - constant - 0.5 * (y**2).sum(axis=0)
    return result


def penalty_value(which: Layout, penalty: Penalty, mixture: Mixture) -> float:
    """Return the penalty as the docstring of the module states it."""
    value = float(penalty.concentration @ mixture.log_weights)
    for k, factor in enumerate(mixture.cholesky):
        covariance = factor @ factor.T
        inverse = np.linalg.inv(covariance)
        gap = mixture.means[k] - penalty.location
        value -= 0.5 * penalty.strength * gap @ inverse @ gap
        if k < which.scale_rows:  # once for every distinct covariance
            value -= 0.5 * penalty.freedom * np.linalg.slogdet(covariance)[1]
            value -= 0.5 * np.trace(np.diag(penalty.scatter) @ inverse)
    return value


def start(rng: np.random.Generator, which: Layout) -> Array:
    """Return a vector near the standardised data, with components that overlap."""
    return 0.6 * rng.normal(size=length(which))


def blobs(rng: np.random.Generator, n_features: int, n_rows: int = 150) -> Array:
    """Return rows of three overlapping clusters, standardised."""
    mixture = random_mixture(rng, 3, n_features, decades=0.1)
    mixture = mixture._replace(log_weights=np.log([0.5, 0.3, 0.2]))
    rows = sample(rng, mixture, n_rows)
    rows -= rows.mean(axis=1, keepdims=True)
    return np.ascontiguousarray(rows / rows.std(axis=1, keepdims=True))


def climb(
    which: Layout, penalty: Penalty, rows: Array, vector: Array, passes: int = 3000,
    tolerance: float = 1e-11, row_weights: Array = UNWEIGHTED,
) -> tuple[int, Array, Array]:  # fmt: skip
    return run_em(which, penalty, rows, row_weights, NO_GROUPS, vector, passes, tolerance)


def one_step(which: Layout, penalty: Penalty, rows: Array, vector: Array) -> tuple[float, Array]:
    value, ok, after = em_map(which, penalty, rows, UNWEIGHTED, NO_GROUPS, vector)
    assert ok
    return value, after


@every_structure
@every_penalty
@pytest.mark.parametrize("n_features", [1, 2, 4])
def test_the_objective_is_what_it_says_and_never_falls(
    structure: str, penalised: bool, n_features: int, rng: np.random.Generator
) -> None:
    which = layout(structure, 3, n_features)
    penalty, rows = penalty_of(which, penalised), blobs(rng, n_features)
    vector, reached = start(rng, which), -np.inf
    for step in range(40):
        value, after = one_step(which, penalty, rows, vector)
        if step < 3:
            mixture = parameters(which, vector)
            wanted = logsumexp(log_joint(rows, mixture), axis=0).sum()
            wanted += penalty_value(which, penalty, mixture)
            assert value == pytest.approx(wanted, rel=1e-12)
        # a sum of 150 log densities of order ten, each rounded
        assert value >= reached - 1e-12 * max(1.0, abs(reached))
        vector, reached = after, value


@every_structure
@every_penalty
def test_where_it_stops_nothing_can_be_gained(
    structure: str, penalised: bool, rng: np.random.Generator
) -> None:
    """The gradient at the end, in units of the curvature, is nothing; BFGS gains nothing."""
    which = layout(structure, 2, 3)
    penalty, rows = penalty_of(which, penalised), blobs(rng, 3)
    status, vector, trace = climb(which, penalty, rows, start(rng, which), tolerance=1e-12)
    assert status == 0
    assert trace[-1] > trace[0] + 1.0

    def objective(x: Array) -> float:
        return em_map(which, penalty, rows, UNWEIGHTED, NO_GROUPS, x)[0]

    assert objective(vector) == trace[-1]
    h = 1e-4
    for p in range(vector.size):
        step = h * np.eye(vector.size)[p]
        above, below = objective(vector + step), objective(vector - step)
        slope, curvature = (above - below) / (2 * h), (above + below - 2 * trace[-1]) / h**2
        assert curvature < 0.0
        assert slope**2 < 1e-6 * abs(curvature)  # a gain of 5e-7 nats, were it to be taken
    found = minimize(lambda x: -objective(x), vector, method="BFGS")
    assert -found.fun - trace[-1] < 1e-6


@every_structure
def test_maximum_likelihood_is_where_the_gradient_of_the_likelihood_is_zero(
    structure: str, rng: np.random.Generator
) -> None:
    which = layout(structure, 3, 2)
    rows = blobs(rng, 2)
    status, vector, trace = climb(which, penalty_of(which, False), rows, start(rng, which))
    assert status == 0
    packed = pack_problem(
        which, rows, concentration=np.ones(3), sticks=False, location=np.zeros(2), scale=np.ones(2),
        tau=np.ones(which.scale_columns), floor=np.zeros(which.scale_columns), eta=1.0,
        unit=np.ones(2), row_weights=UNWEIGHTED, prior=False,
    )  # fmt: skip
    gradient = np.empty(vector.size)
    assert log_posterior(vector, packed, gradient) == pytest.approx(trace[-1], rel=1e-13)
    assert np.abs(gradient).max() < 1e-3


@every_structure
@every_penalty
def test_one_component_has_a_closed_form(
    structure: str, penalised: bool, rng: np.random.Generator
) -> None:
    which = layout(structure, 1, 3)
    penalty, rows = penalty_of(which, penalised), blobs(rng, 3)
    status, vector, trace = climb(which, penalty, rows, start(rng, which))
    assert status == 0
    assert len(trace) <= 6
    n, kappa = rows.shape[1], penalty.strength
    average = rows.mean(axis=1)
    mean = (n * average + kappa * penalty.location) / (n + kappa)
    gap = average - penalty.location
    scatter = n * np.cov(rows, bias=True) + np.diag(penalty.scatter)
    scatter += n * kappa / (n + kappa) * np.outer(gap, gap)
    covariance = scatter / (n + penalty.freedom)
    if which.correlation_sets == 0:
        covariance = np.diag(np.diag(covariance))
    if which.scale_columns == 1:
        covariance = np.eye(3) * np.trace(covariance) / 3.0
    mixture = parameters(which, vector)
    np.testing.assert_allclose(mixture.means[0], mean, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(
        mixture.cholesky[0] @ mixture.cholesky[0].T, covariance, rtol=1e-10, atol=1e-12
    )


class Expected:
    """The expected objective given responsibilities, and the kernel's M-step on it."""

    def __init__(self, which: Layout, penalty: Penalty, rows: Array, vector: Array) -> None:
        self.which, self.penalty, self.rows = which, penalty, rows
        joint = log_joint(rows, parameters(which, vector))
        self.share = np.exp(joint - logsumexp(joint, axis=0))

    def __call__(self, vector: Array) -> float:
        mixture = parameters(self.which, vector)
        value = float((self.share * log_joint(self.rows, mixture)).sum())
        return value + penalty_value(self.which, self.penalty, mixture)

    def step(self, vector: Array) -> Array:
        """Return where the M-step leads, its moments taken with the given responsibilities."""
        log_weights, means, cholesky = parameters(self.which, vector)
        first, second = np.empty_like(means), np.empty_like(cholesky)
        for k, factor in enumerate(cholesky):
            y = np.linalg.solve(factor, self.rows - means[k][:, None])
            first[k], second[k] = y @ self.share[k], (self.share[k] * y) @ y.T
        ok = m_step(
            self.which, self.penalty, self.share.sum(axis=1), first, second,
            log_weights, means, cholesky,
        )  # fmt: skip
        assert ok
        floor = np.zeros(self.which.scale_columns)
        return unconstrain(self.which, floor, log_weights, means, cholesky)


@every_structure
@every_penalty
def test_the_m_step_maximises_the_expected_objective(
    structure: str, penalised: bool, rng: np.random.Generator
) -> None:
    """In one step; where there is no closed form, by repeating it, most of the way at once."""
    which = layout(structure, 2, 3)
    vector = start(rng, which)
    expected = Expected(which, penalty_of(which, penalised), blobs(rng, 3), vector)
    top = minimize(lambda x: -expected(x), vector, method="BFGS", options={"gtol": 1e-6})
    after = expected.step(vector)
    if structure == "tied_correlation":
        before, once = expected(vector), expected(after)
        assert once - before > 0.9 * (-top.fun - before)
        for _ in range(60):
            following = expected.step(after)
            assert expected(following) >= expected(after) - 1e-10
            after = following
    assert expected(after) == pytest.approx(-top.fun, abs=1e-6)


def test_row_weights_are_copies_of_rows(rng: np.random.Generator) -> None:
    which = layout("full", 2, 2)
    rows, vector = blobs(rng, 2), start(rng, which)
    copies = rng.integers(1, 4, rows.shape[1])
    penalty = penalty_of(which, True)
    repeated = np.ascontiguousarray(np.repeat(rows, copies, axis=1))
    weighted = climb(which, penalty, rows, vector, row_weights=copies.astype(float))
    np.testing.assert_allclose(weighted[1], climb(which, penalty, repeated, vector)[1], atol=1e-5)


@every_structure
def test_the_trace_never_falls_and_ends_where_the_vector_is(
    structure: str, rng: np.random.Generator
) -> None:
    which = layout(structure, 4, 2)
    rows = blobs(rng, 2)
    for penalised in (False, True):
        for _ in range(3):
            penalty = penalty_of(which, penalised)
            status, vector, trace = climb(which, penalty, rows, start(rng, which), tolerance=1e-3)
            assert np.all(np.diff(trace) >= -1e-12 * np.abs(trace[1:]))
            assert one_step(which, penalty, rows, vector)[0] == trace[-1] if status == 0 else True


def test_extrapolation_reaches_the_same_top_in_fewer_passes(rng: np.random.Generator) -> None:
    which = layout("full", 2, 2)
    rows = sample(rng, random_mixture(rng, 2, 2, decades=0.1)._replace(
        means=np.array([[0.0, 0.0], [1.8, 0.5]]), log_weights=np.log([0.5, 0.5])), 400)  # fmt: skip
    penalty, vector = penalty_of(which, True), start(rng, which)
    plain, before, passes = vector, -np.inf, 0
    while True:
        value, plain = one_step(which, penalty, rows, plain)
        passes += 1
        if value - before < 1e-12:
            break
        before = value
    status, reached, trace = climb(which, penalty, rows, vector, tolerance=1e-12)
    assert status == 0
    assert trace[-1] == pytest.approx(value, abs=1e-7)
    np.testing.assert_allclose(parameters(which, reached).means, parameters(which, plain).means,
                               atol=1e-3)  # fmt: skip
    assert 1.5 * len(trace) < passes / 2  # at most half of its passes are rejected


def test_out_of_passes(rng: np.random.Generator) -> None:
    """What comes back is at least as good as all that was seen, wherever the passes ended."""
    which = layout("full", 4, 2)
    penalty = penalty_of(which, True)
    for _ in range(4):
        rows, vector = blobs(rng, 2), start(rng, which)
        for passes in range(1, 40):
            status, after, trace = climb(which, penalty, rows, vector, passes=passes)
            assert status == 1
            assert len(trace) <= passes
            assert one_step(which, penalty, rows, after)[0] >= trace.max() - 1e-10


COLLAPSING = {
    "copies of one row": (2, np.repeat([[0.0, 1.0], [3.0, -1.0]], [30, 1], axis=0)),
    "two piles of copies": (2, np.repeat([[0.0, 1.0], [3.0, -1.0]], 20, axis=0)),
    "rows on a line": (1, np.outer(np.linspace(-1.0, 1.0, 20), [1.0, 2.0])),
    "as many components as rows": (6, np.array([[i, (i * 7) % 5] for i in range(6)], dtype=float)),
}


@pytest.mark.parametrize("name", COLLAPSING)
def test_a_collapse_is_noticed(name: str, rng: np.random.Generator) -> None:
    n_components, X = COLLAPSING[name]
    rows = np.ascontiguousarray(X.T)
    which = layout("full", n_components, 2)
    vector = start(rng, which)
    for k in range(n_components):  # start at the rows, narrow
        at = n_components - 1 + 2 * k
        vector[at : at + 2] = X[(k * (len(X) - 1)) // max(n_components - 1, 1)]
    vector[n_components - 1 + 2 * n_components :][: 2 * n_components] = -1.0
    status, _, trace = climb(which, penalty_of(which, False), rows, vector)
    assert status == 2
    assert len(trace) >= 1
    assert climb(which, penalty_of(which, True), rows, vector)[0] == 0


def test_an_empty_component_is_noticed() -> None:
    which = layout("spherical", 2, 1)
    rows = np.linspace(-1.0, 1.0, 30)[None].copy()
    vector = np.array([0.0, 0.0, 1e3, 0.0, -3.0])  # the second is a thousand units away
    assert climb(which, penalty_of(which, False), rows, vector)[0] == 2


def test_nonsense_is_a_collapse_and_not_an_exception(rng: np.random.Generator) -> None:
    rows = blobs(rng, 2)
    for structure in STRUCTURES:
        which = layout(structure, 2, 2)
        for value in (-1e4, 1e4, np.nan):
            for p in range(length(which)):
                vector = start(rng, which)
                vector[p] = value
                status, _, _ = climb(which, penalty_of(which, False), rows, vector, passes=30)
                assert status in (0, 1, 2)
                if np.isnan(value):
                    assert status == 2


def test_the_moments_are_those_of_the_pass(rng: np.random.Generator) -> None:
    """The M-step from the kernel's own moments is the M-step from naive responsibilities."""
    which = layout("full", 3, 4)
    rows, vector = blobs(rng, 4), start(rng, which)
    expected = Expected(which, penalty_of(which, True), rows, vector)
    counts = run_pass(rows, parameters(which, vector), UNWEIGHTED).counts
    np.testing.assert_allclose(counts, expected.share.sum(axis=1), rtol=1e-11)
    after = one_step(which, penalty_of(which, True), rows, vector)[1]
    np.testing.assert_allclose(after, expected.step(vector), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n_features", [1, 2, 5])
def test_factorise(n_features: int, rng: np.random.Generator) -> None:
    half = rng.normal(size=(n_features, n_features + 2))
    matrix = half @ half.T
    factor = np.full((n_features, n_features), np.nan)
    assert factorise(matrix, factor)
    np.testing.assert_allclose(factor, np.linalg.cholesky(matrix), rtol=1e-10, atol=1e-13)
    singular = half[:, :1] @ half[:, :1].T
    assert factorise(singular, factor) == (n_features == 1)
    assert not factorise(-matrix, factor)
    assert not factorise(np.full_like(matrix, np.nan), factor)
    assert not factorise(1e-25 * matrix, factor)
