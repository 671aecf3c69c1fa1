"""Background noise from the specification to the density, fits, and what is refused."""

from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy import special, stats

import bayesgmm as bg
from bayesgmm import names
from bayesgmm.data import prepare
from bayesgmm.inference.em import MAX_PASSES
from bayesgmm.kernels.draws import fill_draws
from bayesgmm.kernels.estep import e_step, fill_whiteners
from bayesgmm.kernels.mstep import em_map, run_em
from bayesgmm.kernels.patterns import NO_GROUPS
from bayesgmm.kernels.posterior import log_posterior
from bayesgmm.kernels.relabel import NO_LABELS
from bayesgmm.mixture import GaussianMixture
from bayesgmm.prediction import mixtures
from bayesgmm.problem import Problem
from bayesgmm.tree import _OF_NOISE, parameters

type Array = NDArray[np.float64]

QUIET: dict[str, Any] = {"progressbar": False, "random_seed": 1}
SHORT = QUIET | {"draws": 500, "chains": 2}
NOISE = bg.UniformNoise()
BOX = bg.UniformNoise(0.7, [-10.0, -10.0], [15.0, 14.0])
SAMPLE = ["chain", "draw"]
COVARIANCES = np.array([[[1.0, 0.5], [0.5, 1.0]], [[0.5, -0.2], [-0.2, 0.4]]])


def two_clusters(rng: np.random.Generator, n_each: int = 100) -> Array:
    factors = np.linalg.cholesky(COVARIANCES)
    first, second = (rng.normal(size=(n_each, 2)) @ factor.T for factor in factors)
    return np.concatenate([first, second + np.array([5.0, 4.0])])


def spoilt(rng: np.random.Generator, n_each: int = 150, share: float = 0.08) -> Array:
    """Return two clusters and background."""
    X = two_clusters(rng, n_each)
    n_noise = round(share / (1.0 - share) * len(X))
    return np.concatenate([X, rng.uniform([-10.0, -10.0], [15.0, 14.0], (n_noise, 2))])


def with_noise(n_components: int, noise: bg.UniformNoise = NOISE, **parts: Any) -> GaussianMixture:
    return bg.GaussianMixture(n_components, noise=noise, **parts)


@pytest.fixture(scope="module")
def X() -> Array:
    return spoilt(np.random.default_rng(3))


@pytest.fixture(scope="module")
def tree(X: Array) -> xr.DataTree:
    return bg.fit(X, with_noise(2, BOX), **SHORT)


def naive(tree: xr.DataTree, X: Array, draw: int) -> Array:
    """Return log joint densities of rows and components, those of the noise last, (K + 1, N)."""
    one = tree.posterior.isel(chain=0, draw=draw)
    rows = []
    for k in range(one.sizes["component"]):
        law = stats.multivariate_normal(one["means"].values[k], one["covariances"].values[k])
        rows.append(np.log(one["weights"].values[k]) + np.atleast_1d(law.logpdf(X)))
    inside = ((X >= [-10.0, -10.0]) & (X <= [15.0, 14.0])).all(axis=1)
    with np.errstate(divide="ignore"):
        density = np.log(np.where(inside, one["noise_weight"].item() / (25.0 * 24.0), 0.0))
    return np.stack([*rows, density])


@pytest.mark.parametrize("structure", ["full", "tied", "tied_correlation", "diag", "spherical"])
@pytest.mark.parametrize("n_components", [1, 2])
def test_the_gradient_is_that_of_a_difference(
    structure: str, n_components: int, rng: np.random.Generator
) -> None:
    X = spoilt(rng, 15, 0.2)
    spec = with_noise(n_components, BOX, covariance=bg.LKJCovariance(structure=structure))
    problem = Problem.make(spec, prepare(X, sample_weight=rng.random(len(X))))
    vector = 0.3 * rng.normal(size=problem.n_parameters)
    _, gradient = problem.log_posterior(vector)
    due = [
        (problem.log_posterior(vector + step)[0] - problem.log_posterior(vector - step)[0]) / 2e-5
        for step in 1e-5 * np.eye(vector.size)
    ]
    np.testing.assert_allclose(gradient, due, rtol=1e-6, atol=1e-6)
    found = problem.constrain(vector[None])
    np.testing.assert_allclose(problem.vectors(found)[0], vector, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(problem.unconstrain(found), vector, rtol=1e-9, atol=1e-9)
    total = found.weights.sum() + found.noise_weight  # type: ignore[union-attr]
    np.testing.assert_allclose(total, 1.0)


def test_the_density_is_the_naive_one(rng: np.random.Generator) -> None:
    X = spoilt(rng, 200, 0.2)  # more rows than one block
    spec = with_noise(2, BOX)
    problem = Problem.make(spec, prepare(X))
    vectors = 0.3 * rng.normal(size=(2, problem.n_parameters))
    values = []
    for vector in vectors:
        found = problem.constrain(vector[None])
        law = stats.multivariate_normal
        parts = [
            np.log(found.weights[0, k]) + law(found.means[0, k], cov).logpdf(X)
            for k, cov in enumerate(found.covariances[0])
        ]
        density = np.full(len(X), np.log(found.noise_weight[0] / 600.0))  # type: ignore[union-attr]
        likelihood = special.logsumexp([*parts, density], axis=0).sum()
        shares = [*found.weights[0], *found.noise_weight]  # type: ignore[union-attr]
        prior = stats.dirichlet([1.0, 1.0, 0.7]).logpdf(np.array(shares) / sum(shares))
        jacobian = np.log(shares).sum() + np.log(3.0)
        plain = Problem.make(bg.GaussianMixture(2), prepare(X))
        other = np.concatenate([[0.0], vector[2:]])  # the same of all but weights
        rest = plain.log_posterior(other)[0] - plain_likelihood(plain, other, X)
        rest -= stats.dirichlet([1.0, 1.0]).logpdf([0.5, 0.5]) + np.log(0.25) + np.log(2.0)
        values.append(likelihood + prior + jacobian + rest)
    found_values = [problem.log_posterior(vector)[0] for vector in vectors]
    np.testing.assert_allclose(found_values, values, rtol=1e-11)


def plain_likelihood(problem: Problem, vector: Array, X: Array) -> float:
    found = problem.constrain(vector[None])
    parts = [
        np.log(found.weights[0, k]) + stats.multivariate_normal(mean, cov).logpdf(X)
        for k, (mean, cov) in enumerate(zip(found.means[0], found.covariances[0], strict=True))
    ]
    return float(special.logsumexp(parts, axis=0).sum())


@pytest.mark.parametrize("n_dim", [1, 2, 14])  # the last are copied, and gathered
@pytest.mark.parametrize("weighted", [False, True])
def test_the_pass_counts_the_noise(n_dim: int, weighted: bool, rng: np.random.Generator) -> None:
    k, n = 2, 300
    rows = 2.0 * rng.normal(size=(n_dim, n))
    weights = rng.random(n) if weighted else np.empty(0)
    log_weights = np.array([-1.0, -1.5, -2.0 * n_dim])
    means, cholesky = rng.normal(size=(k, n_dim)), np.zeros((k, n_dim, n_dim))
    cholesky[:] = np.eye(n_dim) * 1.3
    whiteners, determinants = np.empty_like(cholesky), np.empty(k)
    fill_whiteners(cholesky, whiteners, determinants)
    counts, first, second = np.empty(k + 1), np.empty((k, n_dim)), np.empty_like(cholesky)
    value = e_step(
        rows, weights, log_weights, means, whiteners, determinants, counts, first, second
    )
    lp = np.stack([
        log_weights[j] + stats.norm(means[j][:, None], 1.3).logpdf(rows).sum(axis=0)
        for j in range(k)
    ] + [np.full(n, log_weights[k])])  # fmt: skip
    density = special.logsumexp(lp, axis=0)
    times = weights if weighted else np.ones(n)
    shares = np.exp(lp - density)
    np.testing.assert_allclose(value, density @ times, rtol=1e-12)
    np.testing.assert_allclose(counts, shares @ times, rtol=1e-10)
    y = (rows[None] - means[:, :, None]) / 1.3
    np.testing.assert_allclose(first, np.einsum("kn,kdn,n->kd", shares[:k], y, times), atol=1e-9)
    due = np.einsum("kn,kdn,ken,n->kde", shares[:k], y, y, times)
    np.testing.assert_allclose(second, due, atol=1e-8)
    densities, found = np.empty((1, n)), np.zeros((1, k + 1, n))
    fill_draws(
        rows, log_weights[None], means[None], cholesky[None], densities, found, NO_LABELS,
        np.empty((0, 0, 0)),
    )  # fmt: skip
    np.testing.assert_allclose(densities[0], density, rtol=1e-12)
    np.testing.assert_allclose(found[0], shares, atol=1e-12)


@pytest.mark.parametrize("strength", [0.0, 1.0])
@pytest.mark.parametrize("structure", ["full", "tied", "tied_correlation", "spherical"])
def test_em_never_falls(strength: float, structure: str, rng: np.random.Generator) -> None:
    spec = with_noise(2, covariance=bg.LKJCovariance(structure=structure))
    problem = Problem.make(spec, prepare(spoilt(rng, 60)))
    penalty, nothing = problem.penalty(strength), np.empty(0)
    vector = 0.3 * rng.normal(size=problem.n_parameters)
    values = []
    for _ in range(40):
        value, ok, vector = em_map(
            problem.layout, penalty, problem.rows, nothing, NO_GROUPS, vector
        )
        assert ok
        values.append(value)
    assert np.diff(values).min() > -1e-9
    assert values[-1] > values[0] + 1.0
    status, best, trace = run_em(
        problem.layout, penalty, problem.rows, nothing, NO_GROUPS, vector, MAX_PASSES, 1e-10
    )
    assert status == 0
    assert np.diff(trace).min() > -1e-9
    if strength == 0.0:  # the maximum likelihood is a point without slopes
        gradient = np.empty_like(best)
        flat = problem.pack(problem.rows, nothing, prior=False)
        log_posterior(problem.on_prior_scale(best), flat, gradient)
        assert np.abs(gradient).max() < 1e-2


def test_noise_recovers_what_a_plain_fit_does_not(X: Array, tree: xr.DataTree) -> None:
    def furthest(fitted: xr.DataTree) -> float:
        found = fitted.posterior["covariances"]
        gap = np.abs(found.mean(SAMPLE).values - COVARIANCES)
        return float((gap / found.std(SAMPLE).values).max())

    assert furthest(tree) < 3.0  # of six
    assert furthest(bg.fit(X, 2, **SHORT)) > 5.0
    weight = tree.posterior["noise_weight"]
    assert abs(weight.mean() - 0.08) < 3.0 * weight.std()
    assert bg.check(tree).ok


def test_the_weight_of_noise_covers_the_truth_in_simulation() -> None:
    rng, covered = np.random.default_rng(5), 0
    for seed in range(20):
        n_noise = rng.binomial(150, 0.1)
        rows = [rng.normal(size=(150 - n_noise, 2)), rng.uniform(-8.0, 8.0, (n_noise, 2))]
        spec = with_noise(1, bg.UniformNoise(low=-8.0, high=8.0))
        options = QUIET | {"random_seed": seed, "draws": 200, "chains": 1}
        found = bg.fit(np.concatenate(rows), spec, **options).posterior["noise_weight"]
        low, high = np.quantile(found, [0.05, 0.95])
        covered += low < 0.1 < high
    assert 14 <= covered <= 20  # of 20, of which 18 are expected: five in a thousand are beyond


@pytest.mark.parametrize("method", ["ml", "map", "laplace", "advi", "fullrank_advi"])
def test_all_methods_find_the_noise(method: str, X: Array) -> None:
    tree = bg.fit(X, with_noise(2, BOX), method=method, **SHORT)
    assert abs(float(tree.posterior["noise_weight"].mean()) - 0.08) < 0.05
    total = tree.posterior["weights"].sum("component") + tree.posterior["noise_weight"]
    np.testing.assert_allclose(total, 1.0)
    assert names.NOISE_WEIGHT in bg.summary(tree).index


def test_predictions_are_the_naive_ones(tree: xr.DataTree, X: Array) -> None:
    some = tree.isel(chain=[0], draw=[0, 1])
    new = np.concatenate([X[:20], X[-3:], [[40.0, 0.0], [16.0, 14.0]]])
    joint = np.stack([naive(some, new, draw) for draw in range(2)])
    density = special.logsumexp(joint, axis=1)
    shares = np.exp(joint - density[:, None]).mean(axis=0)
    found = bg.predict_proba(some, new)
    assert found["component"].values.tolist() == [0, 1, -1]
    np.testing.assert_allclose(found.values, shares.T, atol=1e-10)
    due = special.logsumexp(density, axis=0) - np.log(2.0)
    np.testing.assert_allclose(bg.score_samples(some, new), due, rtol=1e-9)
    labels = bg.predict(some, new)
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, np.array([0, 1, -1])[shares.argmax(axis=0)])
    assert labels.values[-2] != -1  # however far out: noise has no density there
    stored = some.log_likelihood["X"].values[0]
    np.testing.assert_allclose(stored[:, :20], density[:, :20], rtol=1e-9)


def test_draws_of_the_predictive_have_noise(tree: xr.DataTree) -> None:
    new = bg.sample_posterior_predictive(tree, 100, random_seed=1)
    noise = new["labels"].values == -1
    assert abs(noise.mean() - float(tree.posterior["noise_weight"].mean())) < 0.01
    rows = new["X"].values[noise]
    assert stats.kstest(rows[:, 0], stats.uniform(-10.0, 25.0).cdf).pvalue > 1e-4
    assert set(np.unique(new["labels"])) == {-1, 0, 1}


def test_loo_and_files_know_of_it(tree: xr.DataTree, X: Array, tmp_path: Any) -> None:
    plain = bg.fit(X, 2, **SHORT)
    table = bg.compare({"plain": plain, "noise": tree})
    assert table.index[0] == "noise"
    assert bg.loo(tree).elpd > bg.loo(plain).elpd + 20.0
    for ending in ("nc", "zarr"):
        bg.save(tree, tmp_path / f"fit.{ending}")
        loaded = bg.load(tmp_path / f"fit.{ending}")
        assert loaded.identical(tree)
        xr.testing.assert_identical(bg.predict_proba(loaded, X[:5]), bg.predict_proba(tree, X[:5]))
    np.testing.assert_array_equal(mixtures(loaded).log_weights, mixtures(tree).log_weights)
    del loaded.posterior["noise_weight"]
    with pytest.raises(ValueError, match="specification has noise .* without 'noise_weight'"):
        bg.save(loaded, tmp_path / "other.nc")


def test_simulated_mixtures_are_of_the_prior() -> None:
    prior = {"means": bg.NormalMeans(0.0, 5.0), "covariance": bg.LKJCovariance(scale=1.0)}
    spec = with_noise(2, bg.UniformNoise(2.0, -20.0, 20.0), **prior)
    data = bg.simulate(spec, 30, n_features=2, draws=2000, random_seed=1)
    weight = data["noise_weight"].values.ravel()
    assert stats.kstest(weight, stats.beta(2.0, 2.0).cdf).pvalue > 1e-4
    np.testing.assert_allclose(data["weights"].sum("component").values.ravel() + weight, 1.0)
    first = data["weights"].values[..., 0].ravel()
    assert stats.kstest(first, stats.beta(1.0, 3.0).cdf).pvalue > 1e-4
    noise = data["labels"].values == -1
    assert abs(noise.mean() - weight.mean()) < 5.0 * 0.5 / np.sqrt(noise.size)
    assert stats.kstest(data["X"].values[noise][:, 1], stats.uniform(-20, 40).cdf).pvalue > 1e-4


def test_the_box_is_that_of_the_data_unless_given(X: Array) -> None:
    spec = with_noise(2).resolve(X)
    assert spec.noise is not None
    assert spec.resolved
    assert not with_noise(2).resolved
    low, high = spec.noise.corners
    np.testing.assert_array_equal([low, high], [X.min(axis=0), X.max(axis=0)])
    assert GaussianMixture.from_dict(spec.to_dict()) == spec
    assert "noise" not in bg.GaussianMixture(2).to_dict()
    np.testing.assert_allclose(spec.noise.log_density, -np.log(high - low).sum())
    assert "noise         ~ Uniform(low = smallest, high = largest)" in repr(with_noise(2))
    assert r"\operatorname{Uniform}" in with_noise(2)._repr_latex_()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"concentration": 0.0}, ValueError, "`concentration` must be positive"),
        ({"low": np.nan}, ValueError, "`low` must be finite"),
        ({"high": "wide"}, TypeError, "`high` must be a number"),
        ({"low": 1.0, "high": 1.0}, ValueError, "`low` must be less than `high`; got 1.0 and 1.0"),
        (
            {"low": [0.0, 0.0], "high": [1.0, 1.0, 1.0]},
            ValueError,
            "`high` must have as many numbers as `low`, 2; got 3",
        ),
    ],
)
def test_other_boxes_are_refused(arguments: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        bg.UniformNoise(**arguments)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"weights": bg.SparseDirichlet()}, "where `weights` are a SparseDirichlet"),
        ({"weights": bg.StickBreaking()}, "where `weights` are a StickBreaking"),
        ({"n_components": bg.PriorOnComponents()}, "where `n_components` is a PriorOnComponents"),
        ({"covariance": bg.FactorCovariance(1)}, "where `covariance` is a FactorCovariance"),
    ],
)
def test_what_noise_does_not_go_with_is_refused(parts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"`noise` must be None {message}; got UniformNoise"):
        bg.GaussianMixture(**({"n_components": 2, "noise": NOISE} | parts))
    with pytest.raises(ValueError, match="`noise` must be None for a StudentTMixture"):
        bg.StudentTMixture(2, noise=NOISE)
    with pytest.raises(TypeError, match="`noise` must be a UniformNoise; got True of type bool"):
        bg.GaussianMixture(2, noise=True)  # type: ignore[arg-type]


def test_data_that_noise_is_not_known_of_are_refused(X: Array) -> None:
    with pytest.raises(ValueError, match="None where there is a `measurement_error`"):
        bg.fit(X, with_noise(2), measurement_error=np.full(X.shape, 0.1))
    with pytest.raises(ValueError, match="None for PyMC's engine"):
        bg.fit(X, with_noise(2), engine="pymc")
    with pytest.raises(ValueError, match="`noise` must be None for engine 'jax'"):
        bg.fit(X, with_noise(2), engine="jax")


def test_functions_of_plain_specifications_refuse_it(X: Array) -> None:
    import dask.array

    spec = with_noise(2).resolve(X)
    for call, where in (
        (lambda: bg.fit(X, bg.build_model(spec, X)), "for PyMC's engine"),
        (lambda: bg.fit_online([X], spec), "where rows come in batches"),
        (lambda: bg.prior_clusters(spec, 10), "for `prior_clusters`"),
        (lambda: bg.fit(dask.array.from_array(X), spec), "where `X` is in blocks of rows"),
    ):
        with pytest.raises(ValueError, match=f"`noise` must be None {where}"):
            call()


@pytest.mark.parametrize(
    "call",
    [
        bg.project,
        lambda tree: bg.update(tree, np.zeros((3, 2))),
        lambda tree: bg.conditional(tree, {"x0": 1.0}),
        lambda tree: bg.regress(tree, {"x0": [1.0]}),
    ],
)
def test_other_functions_of_a_fit_refuse_it(call: Any, tree: xr.DataTree) -> None:
    with pytest.raises(ValueError, match="must be a fit without background noise for"):
        call(tree)


def test_what_knows_of_noise_is_public() -> None:
    assert set(bg.__all__) >= _OF_NOISE


def test_parameters_are_read_with_their_density(tree: xr.DataTree) -> None:
    found = parameters(tree)
    assert found._fields[-2:] == (names.NOISE_WEIGHT, names.NOISE_LOG_DENSITY)
    np.testing.assert_allclose(found[-1], -np.log(600.0))
