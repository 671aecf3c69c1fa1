"""Missing cells, measurement errors, weights and labels of the same rows, all at once."""

import warnings

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import bayesgmm as bg
from bayesgmm.data import prepare
from bayesgmm.kernels.posterior import log_posterior
from bayesgmm.known_labels import with_labels
from bayesgmm.pointwise import log_likelihood_blocks
from bayesgmm.problem import Problem
from bayesgmm.tree import Parameters

type Array = NDArray[np.float64]

N, D, K = 40, 3, 2
WHICH = np.repeat([0, 1], 20)
CLUSTERS = np.random.default_rng(9).normal(size=(40, 2)) + 5.0 * WHICH[:, None]


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
    nothing = problem.pack(problem.rows, np.zeros(N), prior=True)
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


def of_labels(n_components: int, draws: int = 40, **told: object) -> xr.DataTree:
    """Return a fit of rows of which something is known."""
    return bg.fit(
        CLUSTERS, n_components,
        draws=draws, tune=60, chains=2, random_seed=1, progressbar=False, **told,
    )  # fmt: skip


def test_an_average_keeps_what_was_said_of_rows() -> None:
    rng = np.random.default_rng(4)
    rows = {
        "measurement_error": rng.uniform(0.1, 0.5, size=CLUSTERS.shape),
        "sample_weight": rng.integers(1, 4, size=len(CLUSTERS)).astype(float),
        "labels": 1 - WHICH,  # so that names are not in the order of the means
    }
    trees = {k: of_labels(k, **rows) for k in (2, 4)}
    averaged = bg.average(trees, [0.5, 0.5], random_seed=1)
    assert (bg.predict(averaged).values == rows["labels"]).all()
    means = averaged.posterior["means"].mean(("chain", "draw", "feature")).values
    assert means[0] > 3.0 > 1.0 > means[1]
    found = bg.align(averaged, "none")
    for k, tree in trees.items():
        raw, chosen = bg.align(tree, "none"), found.posterior["n_components"].values == k
        expected = raw.log_likelihood["X"].sum("obs").values
        blocks = np.concatenate([block for _, block in log_likelihood_blocks(found)], axis=1)
        mine = blocks.sum(axis=1).reshape(chosen.shape)[chosen]
        assert all(np.isclose(expected, one, rtol=1e-9).any() for one in mine)
    other = of_labels(2, **{**rows, "labels": WHICH})
    with pytest.raises(ValueError, match="same data; got 2 and 'b'.*labels of rows that are known"):
        bg.average({2: trees[2], "b": other}, [0.5, 0.5])
    for function in (bg.kfold, bg.reloo):
        with pytest.raises(ValueError, match="`tree` must be a single fit for .*; got an average"):
            function(averaged, progressbar=False)


def test_the_density_of_labelled_rows_is_that_of_their_features() -> None:
    tree = of_labels(2, labels=WHICH)
    np.testing.assert_allclose(bg.score_samples(tree), bg.score_samples(tree, CLUSTERS))


@pytest.mark.parametrize("told", ["sample_weight", "labels", "measurement_error", "missing cells"])
def test_a_stream_does_not_go_on_from_what_it_cannot_carry(told: str) -> None:
    X = CLUSTERS.copy()
    X[0, 0] = np.nan if told == "missing cells" else X[0, 0]
    said = {"sample_weight": WHICH + 1.0, "labels": WHICH, "measurement_error": 0.1 + 0.0 * X}
    given = {told: said[told]} if told in said else {}
    tree = bg.fit(X, 2, method="map", random_seed=1, **given)
    with pytest.raises(ValueError, match=f"`spec` must be a fit of complete rows.*with {told}"):
        bg.fit_online([CLUSTERS], tree, progressbar=False)


def test_a_stream_does_not_go_on_from_what_follows_from_a_fit() -> None:
    tree = bg.marginal(bg.fit(CLUSTERS, 2, method="map", random_seed=1), ["x0"])
    with pytest.raises(ValueError, match="`spec` must be a fit for `fit_online`.*got a marginal"):
        bg.fit_online([CLUSTERS[:, :1]], tree, progressbar=False)


def test_what_compares_with_fitted_rows_says_that_a_stream_has_none() -> None:
    tree = bg.fit_online([CLUSTERS], 2, random_seed=1, progressbar=False)
    with pytest.raises(ValueError, match="`tree` must hold the group 'observed_data' for `uncert"):
        bg.uncertainty(tree, CLUSTERS)


def test_rows_of_which_a_marginal_has_no_cell_are_told_by_the_weights() -> None:
    X = CLUSTERS.copy()
    X[[3, 30], 0] = np.nan
    tree = bg.fit(X, 2, draws=40, tune=60, chains=2, random_seed=1, progressbar=False)
    part = bg.marginal(tree, ["x0"])
    weights = part.posterior["weights"].mean(("chain", "draw"))
    np.testing.assert_allclose(bg.predict_proba(part)[[3, 30]], [weights] * 2, rtol=1e-10)
    np.testing.assert_allclose(bg.score_samples(part)[[3, 30]], 0.0, atol=1e-12)
    drawn = bg.impute(part, draws=2, random_seed=1)
    spread = part.posterior["covariances"].values[..., 0, 0]
    means, shares = (part.posterior[name].values for name in ("means", "weights"))
    mean = (shares * means[..., 0]).sum(-1)
    expected = (shares * (spread + means[..., 0] ** 2)).sum(-1).mean() - mean.mean() ** 2
    error = 5.0 * np.sqrt(expected / 1000)  # of a mean of as many draws
    np.testing.assert_allclose(drawn["mean"][[3, 30], 0], mean.mean(), atol=error)
    bg.partition(part, random_seed=1)
    bg.uncertainty(part)


@pytest.mark.parametrize("weights", [bg.StickBreaking(), bg.SparseDirichlet(1e-5)])
def test_fits_whose_components_may_be_empty_are_fitted_again(weights: bg.Dirichlet) -> None:
    spec = bg.GaussianMixture(4, weights=weights)
    tree = bg.fit(CLUSTERS, spec, draws=40, chains=2, random_seed=1, progressbar=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bg.ConvergenceWarning)  # few draws
        found = bg.kfold(tree, folds=2, random_seed=1, progressbar=False)
    assert np.isfinite(found.elpd_i).all()
