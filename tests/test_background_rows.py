"""Rows beside background noise: parts of them missing, outside of the box, known, and simulated."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy import special, stats

import bayesgmm as bg
from bayesgmm.data import prepare
from bayesgmm.inference.em import find_modes
from bayesgmm.inference.mode import Target
from bayesgmm.kernels.posterior import log_posterior
from bayesgmm.known_labels import told, with_labels
from bayesgmm.problem import Problem
from bayesgmm.tree.rows import observed

type Array = NDArray[np.float64]

QUIET: dict[str, Any] = {"progressbar": False, "random_seed": 1}
LOW, HIGH = np.array([-4.0, -9.0, -8.0]), np.array([9.0, 12.0, 10.0])
NOISE = bg.UniformNoise(0.7, LOW.tolist(), HIGH.tolist())
K = 2


def rows(rng: np.random.Generator, n_obs: int, n_dim: int = 3, share: float = 0.3) -> Array:
    """Two groups and background, with holes; some rows are outside of the box."""
    X = rng.normal(size=(n_obs, n_dim)) + 4.0 * (np.arange(n_obs)[:, None] % 2)
    n_noise = n_obs // 8
    X[:n_noise] = rng.uniform(-7.0, 9.0, (n_noise, n_dim))
    holes = rng.random(X.shape) < share
    holes[np.arange(n_obs), rng.integers(n_dim, size=n_obs)] = False
    X[holes] = np.nan
    return X


def joint(X: Array, parts: tuple[Array, ...], allowed: Array) -> Array:
    """Return log joint densities of the cells that are seen, (N, K + 1), those of noise last."""
    weights, means, covariances, of_noise = parts
    result = np.empty((len(X), len(weights) + 1))
    with np.errstate(divide="ignore"):
        for i, row in enumerate(X):
            o = np.flatnonzero(~np.isnan(row))
            for k, weight in enumerate(weights):
                law = stats.multivariate_normal(means[k][o], covariances[k][np.ix_(o, o)])
                result[i, k] = np.log(weight) + law.logpdf(row[o])
            inside = np.all((row[o] >= LOW[o]) & (row[o] <= HIGH[o]))
            result[i, -1] = np.log(inside * of_noise / np.prod((HIGH - LOW)[o]))
        return result + np.log(allowed)


def drawn(tree: xr.DataTree, draw: int) -> tuple[Array, ...]:
    one = tree.posterior.isel(chain=0, draw=draw)
    return tuple(one[name].values for name in ("weights", "means", "covariances", "noise_weight"))


def some_labels(rng: np.random.Generator, n_obs: int) -> Array:
    """Return labels of every kind, as what they allow."""
    allowed = np.ones((n_obs, K + 1))
    allowed[::5] = np.eye(K + 1)[np.arange(len(allowed[::5])) % (K + 1)]
    allowed[1::5, 0] = 0.0
    allowed[2::5] = rng.uniform(0.1, 1.0, allowed[2::5].shape)
    return allowed


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("n_obs", [40, 400])  # the first are seen like few others
def test_the_density_and_its_gradient_are_the_naive_ones(
    n_obs: int, labelled: bool, rng: np.random.Generator
) -> None:
    X = rows(rng, n_obs)
    # of an outlying row known to be noise nothing is left
    X = X[~((X < LOW) | (X > HIGH)).any(axis=1)] if labelled else X
    allowed = some_labels(rng, len(X)) if labelled else np.ones((len(X), K + 1))
    data = prepare(X, sample_weight=rng.integers(3, size=len(X)))
    data = with_labels(data, allowed, K, noise=True)
    problem = Problem.make(bg.GaussianMixture(K, noise=NOISE), data)
    vector = 0.3 * rng.normal(size=problem.n_parameters)
    found = problem.constrain(vector[None])
    parts = found.weights[0], found.means[0], found.covariances[0], found[-2][0]
    lp = joint(X, parts, allowed)
    likelihood = problem.pack(problem.rows, problem.row_weights, prior=False)
    gradient = np.empty_like(vector)
    value = log_posterior(vector, likelihood, gradient)
    np.testing.assert_allclose(
        value, special.logsumexp(lp, axis=1) @ problem.row_weights, rtol=1e-11
    )
    steps = 1e-5 * np.eye(vector.size)
    due = [
        (log_posterior(vector + step, likelihood, np.empty_like(vector))
         - log_posterior(vector - step, likelihood, np.empty_like(vector))) / 2e-5
        for step in steps
    ]  # fmt: skip
    np.testing.assert_allclose(gradient, due, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_rows_are_predicted_as_what_is_seen_of_them(share: float, rng: np.random.Generator) -> None:
    X = rows(rng, 60, share=share)
    X[0] = [9.5, 0.0, 0.0]  # outside
    tree = bg.fit(X, bg.GaussianMixture(K, noise=NOISE), draws=60, chains=1, **QUIET)
    lp = np.stack([joint(X, drawn(tree, draw), np.ones(K + 1)) for draw in range(60)])
    density = special.logsumexp(lp, axis=2)
    np.testing.assert_allclose(tree.log_likelihood["X"][0], density, rtol=1e-9)
    np.testing.assert_allclose(
        bg.score_samples(tree, X), special.logsumexp(density, axis=0) - np.log(60.0), rtol=1e-9
    )
    shares = np.exp(lp - density[..., None]).mean(axis=0)
    for found in (bg.predict_proba(tree), bg.predict_proba(tree, X)):
        np.testing.assert_allclose(found, shares, atol=1e-10)
    assert shares[0, -1] == 0.0


def test_missing_cells_of_noise_are_anywhere_in_the_box(rng: np.random.Generator) -> None:
    X = rows(rng, 120, n_dim=2, share=0.0)
    noise = bg.UniformNoise(0.7, [-9.0, -9.0], [9.0, 9.0])
    tree = bg.fit(X, bg.GaussianMixture(K, noise=noise), draws=100, chains=1, **QUIET)
    found = bg.impute(tree, [[-8.5, np.nan], [4.0, np.nan]], draws=2000, random_seed=1)
    of_noise = found["X"].values[:, 0, 1]
    assert stats.kstest(of_noise[:: len(of_noise) // 500], stats.uniform(-9, 18).cdf).pvalue > 1e-4
    np.testing.assert_allclose(found["mean"][1, 1], 4.0, atol=1.5)
    assert (found["X"].values[:, :, 0] == [-8.5, 4.0]).all()


def test_em_finds_what_full_rows_say(rng: np.random.Generator) -> None:
    X = rows(rng, 600, share=0.15)
    problem = Problem.make(bg.GaussianMixture(K, noise=NOISE), prepare(X))
    found = find_modes(problem, Target.ML, rng, n_starts=6, hierarchical=True).modes[0]
    np.testing.assert_allclose(np.sort(found.parameters.means[0, :, 0]), [0.0, 4.0], atol=0.4)
    assert 0.06 < found.parameters[-2][0] < 0.2


def test_rows_that_are_noise_are_told() -> None:
    X = np.column_stack([np.arange(5.0), np.arange(5.0) ** 2])
    given = [0, -1, None, 1, np.nan]
    data = with_labels(prepare(X), given, K, noise=True)
    due = [[1, 0, 0], [0, 0, 1], [1, 1, 1], [0, 1, 0], [1, 1, 1]]
    np.testing.assert_array_equal(data.allowed, due)
    assert told(data.allowed, 5, noise=True).tolist() == [0, -2, -1, 1, -1]
    again = with_labels(prepare(X), np.array(due, dtype=bool), K, noise=True)
    np.testing.assert_array_equal(again.allowed, due)
    with pytest.raises(ValueError, match="0 to 1, or be -1 where a row is noise, or missing where"):
        with_labels(prepare(X), [0, 1, 2, 0, -1], K, noise=True)
    with pytest.raises(ValueError, match=r"\(5, 3\) for a column per component, and one for noise"):
        with_labels(prepare(X), np.ones((5, 2)), K, noise=True)


def test_noise_is_in_its_box_alone(rng: np.random.Generator) -> None:
    X, labels = rows(rng, 30, share=0.0), np.full(30, np.nan)
    X[3], labels[3] = [9.5, 0.0, 0.0], -1
    with pytest.raises(ValueError, match=r"noise in its box alone; got it at row 3, with \[9.5"):
        bg.fit(X, bg.GaussianMixture(K, noise=NOISE), labels=labels, **QUIET)


def test_labels_name_noise_in_a_fit(tmp_path: Path, rng: np.random.Generator) -> None:
    X = rows(rng, 90, n_dim=2, share=0.1)
    labels = np.full(90, None, dtype=object)
    labels[:11], labels[11:50:2], labels[12:50:2] = -1, 1, 0
    labels[5] = None
    spec = bg.GaussianMixture(K, noise=bg.UniformNoise())
    tree = bg.fit(X, spec, labels=labels, draws=100, chains=2, **QUIET)
    assert (bg.predict(tree)[:5] == -1).all()
    assert (bg.predict_proba(tree)[:5] == [0.0, 0.0, 1.0]).all()
    assert tree.posterior["means"].mean(["chain", "draw"])[1, 0] > 3.0  # named, not in order
    assert bg.align(tree).alignment.attrs["method"] == "none"
    bg.save(tree, tmp_path / "fit.nc")
    loaded = bg.load(tmp_path / "fit.nc")
    np.testing.assert_array_equal(observed(loaded).allowed, observed(tree).allowed)
    due = np.array([-1 if one is None else -2 if one == -1 else one for one in labels])
    assert told(observed(loaded).allowed, 90, noise=True).tolist() == due.tolist()
    three = bg.GaussianMixture(3, noise=bg.UniformNoise())
    more = bg.fit(X, three, labels=labels, draws=100, chains=2, **QUIET)
    assert len(bg.compare({"two": tree, "three": more})) == 2
    some = np.where(np.arange(90) < 11, labels, None)
    unnamed = bg.fit(X, spec, labels=some, draws=100, chains=2, **QUIET)
    assert bg.align(unnamed, "ecr").alignment.attrs["method"] == "ecr"


def test_classes_may_have_noise(rng: np.random.Generator) -> None:
    X = np.concatenate([rng.normal(size=(60, 2)), rng.normal(5.0, 1.0, (60, 2))])
    X[::10] = rng.uniform(-6.0, 11.0, (12, 2))
    y = np.repeat(["a", "b"], 60)
    spec = bg.GaussianMixture(1, noise=bg.UniformNoise(low=-7.0, high=12.0))
    fitted = bg.MixtureClassifier(spec).fit(X, y, method="map", **QUIET)
    new = np.array([[0.0, 0.0], [5.0, 5.0], [-5.0, 11.0], [20.0, 20.0]])
    lp = np.stack([bg.score_samples(tree, new).values for tree in fitted.fits.values()], axis=1)
    due = special.softmax(lp + np.log(fitted.shares[0]), axis=1)
    np.testing.assert_allclose(fitted.predict_proba(new)["probability"], due, atol=1e-12)
    assert fitted.predict(new)[:2].values.tolist() == ["a", "b"]


def test_ranks_are_those_of_the_weight_of_noise_too() -> None:
    spec = bg.GaussianMixture(
        1, means=bg.NormalMeans(0.0, 3.0), covariance=bg.LKJCovariance(scale=1.0),
        noise=bg.UniformNoise(2.0, -5.0, 5.0),
    )  # fmt: skip
    found = bg.calibrate(
        spec, n_simulations=20, n_features=1, n_obs=40, draws=100, chains=2, **QUIET
    )
    assert "noise_weight" in found["quantity"]
    assert found["p_value"].min() * found["p_value"].size > 1e-3
    assert found.attrs["n_failed"] == 0


@pytest.mark.parametrize("start", ["random", "kmeans"])
def test_steps_of_em_are_kept(start: str, rng: np.random.Generator) -> None:
    X = rows(rng, 80, share=0.0)
    path = bg.em_path(X, bg.GaussianMixture(K, noise=NOISE), start=start, random_seed=1)
    assert (path["objective"].diff("iteration") > -1e-9).all()
    assert path.attrs["status"] == "converged"
    last = path.isel(iteration=-1)
    parts = tuple(last[name].values for name in ("weights", "means", "covariances", "noise_weight"))
    lp = joint(X, parts, np.ones(K + 1))
    density = special.logsumexp(lp, axis=1)
    np.testing.assert_allclose(last["log_likelihood"], density.sum(), rtol=1e-10)
    shares = np.exp(lp - density[:, None])[:, :K]
    np.testing.assert_allclose(last["responsibilities"], shares, atol=1e-9)
    assert len(np.ravel(bg.plot_em_path(path, features=["x0", "x1"], iterations=[0, 3]))) == 3
