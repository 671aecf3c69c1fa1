"""Missing cells, measurement errors, weights and labels of the same rows, all at once."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import bayesgmm as bg
from bayesgmm.data import prepare
from bayesgmm.kernels.posterior import log_posterior
from bayesgmm.known_labels import with_labels
from bayesgmm.problem import Problem
from bayesgmm.tree import Parameters

type Array = NDArray[np.float64]

N, D, K = 40, 3, 2


def told(rng: np.random.Generator, errors: str) -> dict[str, Array | None]:
    """Return rows of two clusters, and all that can be said of them."""
    which = rng.integers(K, size=N)
    X = rng.normal(size=(N, D)) + 3.0 * which[:, None]
    X[rng.random(X.shape) < 0.2] = np.nan
    X[np.isnan(X).all(axis=1)] = 1.0
    labels = np.where(rng.random(N) < 0.3, which, -1)
    deviations = rng.uniform(0.1, 0.5, size=(1, D)) * rng.integers(3, size=(N, 1))
    given: Array | None = deviations
    if errors == "covariances":
        given = np.einsum("nd,de,ne->nde", deviations + 0.1, np.full((D, D), 0.3), deviations + 0.1)
        given[:, np.arange(D), np.arange(D)] = np.square(deviations + 0.1)
    weight = rng.integers(4, size=N).astype(float)
    return {
        "X": X,
        "measurement_error": None if errors == "none" else given,
        "sample_weight": weight,
        "labels": labels,
    }


def oracle(rows: dict[str, Array | None], mixture: Parameters) -> float:
    """Return the weighted log-likelihood, row by row."""
    X, errors, weight, labels = rows.values()
    assert X is not None
    assert weight is not None
    assert labels is not None
    total = 0.0
    for i in range(N):
        o = ~np.isnan(X[i])
        noise = np.zeros((D, D))
        if errors is not None:
            noise = np.diag(np.square(errors[i])) if errors.ndim == 2 else errors[i]
        terms = [
            np.log(mixture.weights[0, k])
            + multivariate_normal.logpdf(
                X[i, o], mixture.means[0, k, o], (mixture.covariances[0, k] + noise)[np.ix_(o, o)]
            )
            for k in range(K)
            if labels[i] in (-1, k)
        ]
        total += weight[i] * float(logsumexp(terms))
    return total


@pytest.mark.parametrize("errors", ["none", "deviations", "covariances"])
def test_log_likelihood_is_that_of_a_sum_row_by_row(errors: str) -> None:
    rng = np.random.default_rng(5)
    rows = told(rng, errors)
    data = prepare(
        rows["X"], measurement_error=rows["measurement_error"], sample_weight=rows["sample_weight"]
    )
    problem = Problem.make(bg.GaussianMixture(K), with_labels(data, rows["labels"], K))
    vectors = rng.normal(size=(2, problem.n_parameters))
    values = [problem.log_posterior(vector) for vector in vectors]
    nothing = problem.pack(problem.rows, np.zeros(N))
    prior = [log_posterior(vector, nothing, np.empty_like(vector)) for vector in vectors]
    expected = [oracle(rows, problem.constrain(vector[None])) for vector in vectors]
    found = [value - p for (value, _), p in zip(values, prior, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    step = 1e-6
    for vector, (_, gradient) in zip(vectors, values, strict=True):
        for p in range(vector.size):
            ends = [vector.copy(), vector.copy()]
            ends[0][p] -= step
            ends[1][p] += step
            low, high = (problem.log_posterior(end)[0] for end in ends)
            assert gradient[p] == pytest.approx((high - low) / (2 * step), rel=1e-5, abs=1e-4)


@pytest.mark.filterwarnings("ignore:The Pareto shape")  # few rows, and some stand for three
@pytest.mark.parametrize("method", ["ml", "map", "nuts", "laplace", "fullrank_advi"])
def test_every_method_fits_them_and_all_is_said_of_the_fit(method: str) -> None:
    # with errors the likelihood alone may have its top where a covariance is singular
    rows = told(np.random.default_rng(6), "none" if method == "ml" else "covariances")
    tree = bg.fit(
        rows["X"], K, measurement_error=rows["measurement_error"],
        sample_weight=rows["sample_weight"], labels=rows["labels"],
        method=method, draws=100, chains=2, random_seed=1, progressbar=False,
    )  # fmt: skip
    problem = Problem.of_tree(tree)
    raw = bg.align(tree, "none")
    raw = raw if method in ("map", "ml") else raw.isel(chain=[0], draw=[0])
    expected = oracle(rows, Parameters(*(
        raw.posterior[name].values[0, :1]
        for name in ("weights", "means", "scales", "correlations", "covariances")
    )))  # fmt: skip
    assert float(raw.log_likelihood["X"].sum()) == pytest.approx(expected, rel=1e-9)
    assert problem.n_counted == rows["sample_weight"].sum()
    probability = bg.predict_proba(tree).values
    known = rows["labels"] >= 0
    assert (probability[known].argmax(axis=1) == rows["labels"][known]).all()
    assert np.isfinite(bg.impute(tree, random_seed=1)["mean"]).all()
    if method == "nuts":
        assert bg.loo(tree).n_data_points == N
        bg.partition(tree, random_seed=1)
        assert np.isfinite(bg.log_evidence(tree, random_seed=1).value)
