"""The log posterior and its gradient, against `scipy.stats`, differences and integrals."""

from decimal import localcontext
from typing import NamedTuple

import numpy as np
import pytest
from scipy import stats
from scipy.linalg import solve_triangular
from scipy.special import expit, gammaln, logsumexp

from bayesgmm.kernels.cholesky import Layout
from bayesgmm.kernels.posterior import HEADER, log_posterior, pack_problem, read_layout
from tests.kernels.oracle import DIGITS, STRUCTURES, layout
from tests.kernels.vectors import decode, length, split

type Array = np.ndarray

every_structure = pytest.mark.parametrize("structure", STRUCTURES)
every_dim = pytest.mark.parametrize("n_features", [1, 2, 5])
every_size = pytest.mark.parametrize("n_components", [1, 2, 7])
every_floor = pytest.mark.parametrize("lowest", [0.0, 0.2])


class Given(NamedTuple):
    """A made-up problem: data and hyperparameters in the user's units, and the packed array."""

    which: Layout
    X: Array
    center: Array
    unit: Array
    concentration: Array
    location: Array
    scale: Array
    tau: Array
    floor: Array
    eta: float
    row_weights: Array
    prior: bool
    packed: Array

    def __call__(self, vector: Array) -> tuple[float, Array]:
        gradient = np.full(vector.size, np.nan)
        return log_posterior(vector, self.packed, gradient), gradient


def problem(
    rng: np.random.Generator,
    which: Layout,
    *,
    lowest: float = 0.0,
    prior: bool = True,
    n_rows: int = 23,
    row_weights: Array | None = None,
    eta: float = 1.7,
) -> Given:
    """Return a problem whose hyperparameters are all different."""
    k, d, columns = which.n_components, which.n_features, which.scale_columns
    unit = np.full(d, 2.5) if columns < d else rng.uniform(0.1, 10.0, d)
    center = 100.0 * rng.normal(size=d)
    X = center + unit * rng.normal(size=(n_rows, d))
    location, scale = center + rng.normal(size=d), unit * rng.uniform(0.5, 4.0, d)
    tau = rng.uniform(0.5, 2.0, columns)
    floor = lowest * rng.uniform(0.5, 1.5, columns)
    concentration = rng.uniform(0.4, 3.0, k)
    weights = np.empty(0) if row_weights is None else row_weights
    packed = pack_problem(
        which,
        np.ascontiguousarray(((X - center) / unit).T),
        concentration=concentration,
        sticks=False,
        location=(location - center) / unit,
        scale=scale / unit,
        tau=tau,
        floor=floor,
        eta=eta,
        unit=unit,
        row_weights=weights,
        prior=prior,
    )
    return Given(
        which, X, center, unit, concentration, location, scale, tau, floor, eta, weights, prior,
        packed,
    )  # fmt: skip


def log_jacobian_of_weights(vector: Array) -> float:
    """Return log |d (w_1 .. w_{K-1}) / d (v_1 .. v_{K-1})|, by the matrix itself."""
    k = vector.size + 1
    y = np.append(vector, -vector.sum())
    w = np.exp(y - logsumexp(y))
    by_y = np.diag(w) - np.outer(w, w)
    y_by_v = np.vstack([np.eye(k - 1), -np.ones(k - 1)])
    return float(np.linalg.slogdet((by_y @ y_by_v)[:-1])[1])


def log_prior(given: Given, vector: Array) -> dict[str, float]:
    """Return the log prior densities of the unconstrained parts, from `scipy.stats`."""
    which = given.which
    parts = split(which, vector)
    y = np.append(parts.weights, -parts.weights.sum())
    w = np.exp(y - logsumexp(y))
    weights = 0.0
    if which.n_components > 1:
        weights = stats.dirichlet(given.concentration).logpdf(w / w.sum())
        weights += log_jacobian_of_weights(parts.weights)
    means = given.center + given.unit * parts.means
    normal = stats.norm(scale=given.tau)  # the tail of a half-normal is its density, the 2s cancel
    scales = normal.logpdf(given.floor + np.exp(parts.log_excess)) - normal.logsf(given.floor)
    columns = [j for i in range(which.n_features) for j in range(i)]
    shape = given.eta + 0.5 * (which.n_features - 2 - np.array(columns))
    b = expit(parts.log_odds)
    odds = stats.beta(shape, shape).logpdf(b) + np.log(b) + np.log(expit(-parts.log_odds))
    return {
        "weights": float(weights),
        "means": float(stats.norm(given.location, given.scale).logpdf(means).sum()),
        "scales": float((scales + parts.log_excess).sum()),
        "correlations": float(odds.sum()),
    }


def wanted_value(given: Given, vector: Array) -> float:
    """Return the log posterior in the user's units, composed of `scipy.stats`."""
    with localcontext() as context:
        context.prec = DIGITS
        log_weights, means, _, cholesky = decode(given.which, given.floor, vector).floats()
    joint = np.empty((given.which.n_components, len(given.X)))
    for k, factor in enumerate(cholesky):
        factor = given.unit[:, None] * factor
        gap = given.X - given.center - given.unit * means[k]
        y = solve_triangular(factor, gap.T, lower=True)
        joint[k] = log_weights[k] + stats.norm.logpdf(y).sum(axis=0) - np.log(np.diag(factor)).sum()
    weights = given.row_weights if given.row_weights.size else np.ones(len(given.X))
    value = float(weights @ logsumexp(joint, axis=0))
    return value + sum(log_prior(given, vector).values()) * given.prior


def differences(given: Given, vector: Array) -> tuple[Array, Array]:
    """Return a gradient by Richardson's extrapolation, and a bound of its error."""
    steps = (2e-3, 1e-3)
    slopes = np.empty((2, vector.size))
    for number, h in enumerate(steps):
        for p in range(vector.size):
            step = np.zeros(vector.size)
            step[p] = h
            slopes[number, p] = (given(vector + step)[0] - given(vector - step)[0]) / (2.0 * h)
    extrapolated = (4.0 * slopes[1] - slopes[0]) / 3.0
    rounding = 1e-14 * abs(given(vector)[0]) / steps[1]
    return extrapolated, 1e-2 * np.abs(slopes[1] - slopes[0]) + rounding + 1e-9


@every_structure
@every_size
@every_dim
def test_value_and_gradient(
    structure: str, n_components: int, n_features: int, rng: np.random.Generator
) -> None:
    which = layout(structure, n_components, n_features)
    for lowest in (0.0, 0.2):
        for prior in (True, False):
            given = problem(rng, which, lowest=lowest, prior=prior)
            vector = 0.7 * rng.normal(size=length(which))
            value, gradient = given(vector)
            assert value == pytest.approx(wanted_value(given, vector), rel=1e-11)
            slopes, error = differences(given, vector)
            assert np.all(np.abs(gradient - slopes) <= error)


@every_structure
def test_value_far_from_the_mode(structure: str, rng: np.random.Generator) -> None:
    which = layout(structure, 3, 3)
    given = problem(rng, which, lowest=0.01)
    for _ in range(5):
        vector = 3.0 * rng.normal(size=length(which))
        assert given(vector)[0] == pytest.approx(wanted_value(given, vector), rel=1e-8)


@every_structure
def test_row_weights_multiply_the_log_likelihood(structure: str, rng: np.random.Generator) -> None:
    which = layout(structure, 2, 4)
    given = problem(rng, which, row_weights=rng.uniform(0.0, 3.0, 23))
    vector = 0.7 * rng.normal(size=length(which))
    value, gradient = given(vector)
    assert value == pytest.approx(wanted_value(given, vector), rel=1e-11)
    slopes, error = differences(given, vector)
    assert np.all(np.abs(gradient - slopes) <= error)


def prior_alone(rng: np.random.Generator, which: Layout, **options: float) -> Given:
    """Return a problem whose rows all have weight 0, so that the prior alone is left."""
    return problem(rng, which, n_rows=5, row_weights=np.zeros(5), **options)  # type: ignore[arg-type]


def integral(given: Given, free: dict[int, Array], fixed: Array) -> float:
    """Return the integral of exp(log posterior) over some entries, by the trapezoidal rule."""
    grids = np.meshgrid(*free.values(), indexing="ij")
    points = np.tile(fixed, (grids[0].size, 1))
    for p, grid in zip(free, grids, strict=True):
        points[:, p] = grid.ravel()
    gradient = np.empty(fixed.size)
    total = sum(np.exp(log_posterior(point, given.packed, gradient)) for point in points)
    return float(total * np.prod([grid[1] - grid[0] for grid in free.values()]))


@every_floor
def test_the_prior_integrates_to_one(lowest: float, rng: np.random.Generator) -> None:
    """Mean and scale of one component; the density is that of the mean in the user's units."""
    given = prior_alone(rng, layout("full", 1, 1), lowest=lowest)
    z = (given.location[0] - given.center[0]) / given.unit[0]
    spread = given.scale[0] / given.unit[0]
    means = np.linspace(z - 9.0 * spread, z + 9.0 * spread, 61)
    logs = np.linspace(-34.0, 4.0, 600)
    total = integral(given, {0: means, 1: logs}, np.zeros(2))
    assert total * given.unit[0] == pytest.approx(1.0, rel=1e-9)


def test_the_prior_of_the_weights_integrates_to_one(rng: np.random.Generator) -> None:
    which = layout("full", 2, 1)
    given = prior_alone(rng, which)
    fixed = rng.normal(size=length(which))
    rest = log_prior(given, fixed)
    wanted = np.exp(rest["means"] + rest["scales"])
    tail = 40.0 / given.concentration.min()
    total = integral(given, {0: np.linspace(-tail, tail, 2001)}, fixed)
    assert total == pytest.approx(wanted, rel=1e-9)


def test_the_prior_of_three_weights_integrates_to_one(rng: np.random.Generator) -> None:
    which = layout("tied_spherical", 3, 1)
    given = prior_alone(rng, which)
    fixed = rng.normal(size=length(which))
    rest = log_prior(given, fixed)
    grid = np.linspace(-60.0, 60.0, 301)
    total = integral(given, {0: grid, 1: grid}, fixed)
    assert total == pytest.approx(np.exp(rest["means"] + rest["scales"]), rel=1e-6)


@pytest.mark.parametrize("eta", [0.7, 1.0, 2.0])
@pytest.mark.parametrize("n_features", [2, 3])
def test_the_prior_of_the_correlations_integrates_to_one(
    n_features: int, eta: float, rng: np.random.Generator
) -> None:
    which = layout("full", 1, n_features)
    given = prior_alone(rng, which, eta=eta)
    fixed = rng.normal(size=length(which))
    rest = log_prior(given, fixed)
    n_pairs = n_features * (n_features - 1) // 2
    grid = np.linspace(-30.0, 30.0, 67) if n_features == 3 else np.linspace(-45.0, 45.0, 401)
    free = {length(which) - 1 - p: grid for p in range(n_pairs)}
    assert integral(given, free, fixed) == pytest.approx(
        np.exp(rest["means"] + rest["scales"]), rel=2e-5 if n_features == 3 else 1e-9
    )


def lkj_without_constant(which: Layout, vector: Array, eta: float) -> tuple[float, float]:
    """Return log det(R)**(eta - 1), and the log Jacobian of R, taken numerically."""
    n_features = which.n_features
    below = np.tril_indices(n_features, -1)

    def correlations(log_odds: Array) -> Array:
        everything = np.append(vector[: -log_odds.size], log_odds)
        factor = decode(which, np.zeros(n_features), everything).cholesky[0].astype(float)
        covariance = factor @ factor.T
        spread = np.sqrt(np.diag(covariance))
        return (covariance / np.outer(spread, spread))[below]

    log_odds = split(which, vector).log_odds[0]
    steps = 1e-5 * np.eye(log_odds.size)
    jacobian = [correlations(log_odds + h) - correlations(log_odds - h) for h in steps]
    _, log_volume = np.linalg.slogdet(np.array(jacobian) / 2e-5)
    matrix = np.eye(n_features)
    matrix[below] = correlations(log_odds)
    determinant = np.linalg.det(np.tril(matrix) + np.tril(matrix, -1).T)
    return (eta - 1.0) * float(np.log(determinant)), float(log_volume)


@pytest.mark.parametrize("eta", [0.7, 1.0, 2.0])
@pytest.mark.parametrize("n_features", [2, 3])
def test_the_prior_of_the_correlations_is_the_lkj_density(
    n_features: int, eta: float, rng: np.random.Generator
) -> None:
    """det(R)**(eta - 1) over its integral, times the Jacobian of R taken numerically."""
    which = layout("full", 1, n_features)
    given = prior_alone(rng, which, eta=eta)
    vector = 0.8 * rng.normal(size=length(which))
    rest = log_prior(given, vector)
    if n_features == 2:
        log_z = 0.5 * np.log(np.pi) + gammaln(eta) - gammaln(eta + 0.5)
    else:  # integrate out r_23 given r_12 and r_13, then the other two
        x, w = np.polynomial.legendre.leggauss(400)
        angle, w = 0.25 * np.pi * (x + 1.0), 0.25 * np.pi * w  # r = sin of twice it less pi / 2
        cosine = np.sin(2.0 * angle)
        one = 2.0 * np.sum(w * cosine ** (2.0 * eta))  # of (1 - r**2)**(eta - 1/2) dr
        inner = 2.0 * np.sum(w * cosine ** (2.0 * eta - 1.0))  # of (1 - r**2)**(eta - 1) dr
        log_z = 2.0 * np.log(one) + np.log(inner)
    wanted, log_volume = lkj_without_constant(which, vector, eta)
    got = given(vector)[0] - rest["means"] - rest["scales"]
    assert got == pytest.approx(wanted - log_z + log_volume, rel=1e-6, abs=1e-6)


def test_the_prior_of_five_features_has_the_constant_of_the_lkj_density(
    rng: np.random.Generator,
) -> None:
    """det(R)**(eta - 1) over its integral by uniform draws of the ten correlations."""
    n_features, eta, n_draws = 5, 2.0, 1_000_000
    below = np.tril_indices(n_features, -1)
    matrices = np.tile(np.eye(n_features), (n_draws, 1, 1))
    values = rng.uniform(-1.0, 1.0, (n_draws, below[0].size))
    matrices[:, below[0], below[1]] = matrices[:, below[1], below[0]] = values
    valid = np.ones(n_draws, dtype=bool)
    for d in range(2, n_features + 1):
        valid[valid] = np.linalg.det(matrices[valid, :d, :d]) > 0.0
    density = np.zeros(n_draws)
    density[valid] = np.linalg.det(matrices[valid]) ** (eta - 1.0)
    log_z = np.log(density.mean()) + below[0].size * np.log(2.0)
    error = density.std() / density.mean() / n_draws**0.5
    assert error < 0.02

    which = layout("full", 1, n_features)
    given = prior_alone(rng, which, eta=eta)
    vector = 0.8 * rng.normal(size=length(which))
    rest = log_prior(given, vector)
    got = given(vector)[0] - rest["means"] - rest["scales"]
    wanted, log_volume = lkj_without_constant(which, vector, eta)
    assert got == pytest.approx(wanted - log_z + log_volume, abs=5.0 * error)


def test_a_floor_far_above_the_scale_has_a_finite_constant(rng: np.random.Generator) -> None:
    """The mass of the half-normal beyond it underflows; its logarithm does not."""
    which = layout("diag", 2, 2)
    given = problem(rng, which, lowest=100.0)
    vector = rng.normal(size=length(which)) - 5.0
    assert given(vector)[0] == pytest.approx(wanted_value(given, vector), rel=1e-9)


def test_overflow_is_not_finite_and_not_an_exception(rng: np.random.Generator) -> None:
    which = layout("full", 2, 2)
    given = problem(rng, which)
    start = rng.normal(size=length(which))
    for p in range(length(which)):
        for value in (-1e5, 1e5, np.nan, np.inf):
            vector = start.copy()
            vector[p] = value
            reached, gradient = given(vector)
            assert not reached > given(start)[0] + 1e4
            if np.isnan(value):
                assert np.isnan(reached)


def test_the_array_holds_the_layout_and_its_length(rng: np.random.Generator) -> None:
    which = layout("tied_correlation", 3, 4)
    given = problem(rng, which, row_weights=np.ones(23))
    assert tuple(read_layout(given.packed)) == tuple(which)
    assert given.packed[0] == given.packed.size
    assert given.packed.size == HEADER + 3 + 2 * 4 + 2 * 4 + 6 + 23 * 4 + 23


@every_structure
def test_permuted_components_have_the_same_density(
    structure: str, rng: np.random.Generator
) -> None:
    which = layout(structure, 3, 3)
    given = problem(rng, which)
    packed = given.packed.copy()
    packed[HEADER : HEADER + 3] = 1.3  # an exchangeable Dirichlet
    vector = rng.normal(size=length(which))
    parts = split(which, vector)
    y = np.append(parts.weights, -parts.weights.sum())
    order = np.array([2, 0, 1])
    permuted = np.concatenate([
        y[order][:-1],
        parts.means[order].ravel(),
        (parts.log_excess[order] if which.scale_rows > 1 else parts.log_excess).ravel(),
        (parts.log_odds[order] if which.correlation_sets > 1 else parts.log_odds).ravel(),
    ])  # fmt: skip
    gradient = np.empty(vector.size)
    one = log_posterior(vector, packed, gradient)
    assert log_posterior(permuted, packed, gradient) == pytest.approx(one, rel=1e-13)
