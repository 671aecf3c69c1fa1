"""Known labels of rows: discriminant analysis where all are, names of components where some are."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import approx_fprime
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import bayesgmm as bg
from bayesgmm.data import prepare
from bayesgmm.inference.em import find_modes
from bayesgmm.inference.mode import Target
from bayesgmm.inference.starts import SCREENED_ROWS, screened_rows
from bayesgmm.known_labels import told, with_labels
from bayesgmm.problem import Problem
from bayesgmm.symmetry import groups_of
from bayesgmm.tree.rows import observed
from tests.test_model import density, split, to_pymc

type Array = np.ndarray

QUICK: dict[str, Any] = {"draws": 200, "chains": 2, "random_seed": 1, "progressbar": False}


def clusters(rng: np.random.Generator, n_obs: int = 90, apart: float = 6.0) -> tuple[Array, Array]:
    """Return rows of three clusters, and of which each is."""
    labels = np.arange(n_obs) % 3
    centers = apart * np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    return rng.normal(size=(n_obs, 2)) + centers[labels], labels


def allowed_of(labels: Any, n_components: int = 3) -> Array | None:
    """Return what labels of as many rows allow."""
    X = np.column_stack([np.arange(len(labels)), np.arange(len(labels)) ** 2])
    return with_labels(prepare(X), labels, n_components).allowed


def some_labels(rng: np.random.Generator) -> Array:
    """Return labels of 90 rows of every kind, as what they allow."""
    allowed = np.ones((90, 3))
    allowed[:30] = np.eye(3)[np.arange(30) % 3]
    allowed[30:45, 0] = 0.0
    allowed[45:60] = rng.uniform(0.1, 1.0, (15, 3))
    return allowed


@pytest.mark.parametrize(
    "labels",
    [
        [0, 2, -1, 1],
        [0.0, 2.0, np.nan, 1.0],
        [0, 2, None, 1],
        pd.Series([0, 2, pd.NA, 1], dtype="Int64"),
        [[True, False, False], [False, False, True], [True] * 3, [False, True, False]],
        [[1.0, 0, 0], [0, 0, 1.0], [1.0, 1.0, 1.0], [0, 1.0, 0]],
    ],
)
def test_labels_may_be_given_in_many_ways(labels: Any) -> None:
    wanted = [[1, 0, 0], [0, 0, 1], [1, 1, 1], [0, 1, 0]]
    np.testing.assert_array_equal(allowed_of(labels), wanted)


def test_as_many_labels_are_due_as_there_are_rows(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match=r"`labels` must have an entry for each of the 90 rows"):
        bg.fit(clusters(rng)[0], 3, labels=[0, 1, 0])


def test_labels_of_no_row_are_none() -> None:
    assert allowed_of([-1, -1, -1, -1]) is None
    assert allowed_of(np.ones((4, 3))) is None
    data = prepare(np.random.default_rng(0).normal(size=(4, 2)))
    assert with_labels(data, None, 3) is data
    assert told(data.allowed, 4).tolist() == [-1] * 4
    assert told(with_labels(data, [1, -1, 0, 0], 5).allowed, 4).tolist() == [1, -1, 0, 0]
    assert told(with_labels(data, np.full((4, 2), 0.5), 2).allowed, 4).shape == (4, 2)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 3, 0, 0], r"`labels` must lie in 0 to 2, or be -1 or missing .* got 3 at row 1"),
        ([0, -2, 0, 0], r"got -2 at row 1"),
        (np.ones((4, 2)), r"must have shape \(4,\), or \(4, 3\) .* got \(4, 2\)"),
        (np.full((4, 3), 1.5), r"must lie in \[0, 1\] .* got 1.5 at row 0, component 0"),
        (np.full((4, 3), np.nan), r"got nan at row 0, component 0"),
        (np.eye(4, 3, dtype=bool), r"must allow every row a component; got none for row 3"),
    ],
)
def test_labels_that_name_no_component_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        allowed_of(labels)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", "b", "a", "b"], r"`labels` must hold integers.* got 'a' of type str at row 0. Numb"),
        ([0.5, 1, 0, 0], r"got 0.5 of type float at row 0"),
        ([True, False, True, True], r"got True of type bool at row 0"),
        (np.full((4, 3), "a"), r"`labels` must be True or False, or numbers .* got <U1"),
    ],
)
def test_labels_of_other_kinds_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        allowed_of(labels)


@pytest.mark.parametrize("structure", ["full", "tied", "spherical"])
def test_the_density_is_that_of_scipy(structure: str, rng: np.random.Generator) -> None:
    X, _ = clusters(rng)
    allowed, weights = some_labels(rng), rng.uniform(0.0, 3.0, 90)
    spec = bg.GaussianMixture(3, covariance=bg.LKJCovariance(structure=structure)).resolve(X)

    def problem(times: float) -> Problem:
        # priors, and units inside, are the same whatever the weights are multiplied by
        return Problem.make(
            spec, with_labels(prepare(X, sample_weight=times * weights), allowed, 3)
        )

    once, twice = problem(1.0), problem(2.0)
    for _ in range(3):
        vector = 0.5 * rng.normal(size=once.n_parameters)
        drawn = once.constrain(vector[None])
        joint = np.stack([
            np.log(drawn.weights[0, k])
            + multivariate_normal(drawn.means[0, k], drawn.covariances[0, k]).logpdf(X)
            for k in range(3)
        ])  # fmt: skip
        with np.errstate(divide="ignore"):
            wanted = float(weights @ logsumexp(joint + np.log(allowed.T), axis=0))
        value, gradient = once.log_posterior(vector)
        assert twice.log_posterior(vector)[0] - value == pytest.approx(wanted, rel=1e-10)
        numeric = approx_fprime(vector, lambda x: once.log_posterior(x)[0], 1e-6)
        np.testing.assert_allclose(gradient, numeric, rtol=1e-4, atol=1e-3 * abs(value) ** 0.5)


@pytest.mark.parametrize("structure", ["full", "tied", "diag", "spherical"])
def test_all_labels_known_is_discriminant_analysis(
    structure: str, rng: np.random.Generator
) -> None:
    X, labels = clusters(rng, apart=1.0)
    labels[:10] = 0
    spec = bg.GaussianMixture(3, covariance=bg.LKJCovariance(structure=structure))
    tree = bg.fit(X, spec, labels=labels, method="ml", random_seed=1)
    shares = np.bincount(labels) / 90
    own = np.stack([np.cov(X[labels == k].T, bias=True) for k in range(3)])
    wanted = {
        "full": own,
        "tied": np.tile(np.einsum("k,kij->ij", shares, own), (3, 1, 1)),
        "diag": own * np.eye(2),
        "spherical": np.einsum("kii->k", own)[:, None, None] / 2 * np.eye(2),
    }[structure]
    found = tree.posterior.isel(chain=0, draw=0)
    means = np.stack([X[labels == k].mean(axis=0) for k in range(3)])
    np.testing.assert_allclose(found["weights"], shares, rtol=1e-12)
    np.testing.assert_allclose(found["means"], means, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found["covariances"], wanted, rtol=1e-10, atol=1e-12)
    assert (bg.predict(tree) == labels).all()  # as they are known
    free = bg.predict(tree, X).values
    normal = [multivariate_normal(means[k], wanted[k]).logpdf(X) for k in range(3)]
    np.testing.assert_array_equal(free, np.argmax(np.log(shares)[:, None] + normal, axis=0))
    assert (free != labels).any()


def test_a_posterior_of_labelled_rows_centres_on_the_conjugate_one(
    rng: np.random.Generator,
) -> None:
    X, labels = clusters(rng, 300, apart=1.0)
    tree = bg.fit(X, 3, labels=labels, **{**QUICK, "draws": 500})
    weights = tree.posterior["weights"].stack(s=("chain", "draw"))
    table = bg.summary(tree)
    error = 5.0 * table["mcse_mean"].filter(like="weights").to_numpy()
    wanted = (100 + 1.0) / (300 + 3.0)  # Dirichlet(1 + n)
    assert (np.abs(weights.mean("s") - wanted) < error).all()
    np.testing.assert_allclose(weights.std("s"), (wanted * (1 - wanted) / 304) ** 0.5, rtol=0.25)


def test_components_that_labels_name_are_not_renamed(rng: np.random.Generator) -> None:
    X, labels = clusters(rng, apart=9.0)
    few = np.where(np.arange(90) < 9, labels, -1)
    tree = bg.fit(X, 3, labels=few, **QUICK)
    assert tree.alignment.attrs["method"] == "none"
    np.testing.assert_array_equal(tree.alignment["permutation"][0, 0], [0, 1, 2])
    np.testing.assert_array_equal(bg.predict(tree), labels)  # 0 is not the leftmost
    np.testing.assert_array_equal(bg.predict(tree, X), labels)
    centers = tree.modes["means"].isel(mode=0).values
    np.testing.assert_allclose(centers[0], X[labels == 0].mean(axis=0), atol=0.5)
    assert bg.align(tree).posterior.identical(tree.posterior)
    assert bg.align(tree).alignment.attrs["method"] == "none"
    assert bg.check(tree).evidence["draws nearly tied in labels"] == 0
    assert (bg.alignment_report(tree)["trusted"]).all()


@pytest.mark.parametrize("method", ["stephens", "ecr", "ecr_iterative", "parameters"])
def test_only_components_without_names_are_renamed(method: str, rng: np.random.Generator) -> None:
    X, labels = clusters(rng)
    few = np.where((np.arange(90) < 9) & (labels == 0), 0, -1)
    tree = bg.fit(X, 3, labels=few, method="laplace", draws=60, random_seed=1)
    assert tree.alignment.attrs["method"] == "stephens"
    raw = bg.align(tree, "none")
    swapped = raw.copy(deep=True)
    for name in ("weights", "means", "scales", "correlations", "covariances"):
        values = swapped.posterior[name].values
        values[:, ::2] = values[:, ::2][:, :, [0, 2, 1]]
    found = bg.align(swapped, method)
    means = found.posterior["means"].values[0]
    assert (np.abs(means[:, 0] - X[labels == 0].mean(axis=0)) < 2.0).all()
    assert np.ptp(means[:, 1:], axis=0).max() < 4.0  # 6 if they were mixed up
    assert means[:, 1].mean(axis=0)[0] <= means[:, 2].mean(axis=0)[0]
    assert (found.alignment["permutation"].values[..., 0] == 0).all()


def test_components_that_labels_name_cannot_be_named_again(rng: np.random.Generator) -> None:
    X, labels = clusters(rng)
    few = np.where(np.arange(90) < 9, labels, -1)
    tree = bg.fit(X, 3, labels=few, method="laplace", draws=60, random_seed=1)
    with pytest.raises(ValueError, match=r"`labels` must be left out where those that the fit was"):
        bg.align(tree, labels=np.roll(labels, 1))


def test_components_are_alike_where_neither_prior_nor_labels_differ() -> None:
    spec = bg.GaussianMixture(4)
    allowed = np.array([[1, 0, 0, 0], [0, 1, 1, 1], [1, 1, 1, 1.0]])
    first = groups_of(spec, allowed)
    assert first[1] == first[2] == first[3] != first[0]
    assert np.unique(groups_of(spec)).size == 1
    unequal = bg.GaussianMixture(4, weights=bg.Dirichlet((1.0, 1.0, 1.0, 2.0)))
    second = groups_of(unequal, allowed)
    assert second[1] == second[2] != second[3] != second[0]


def test_the_engines_agree_on_labels_and_weights(rng: np.random.Generator) -> None:
    X, _ = clusters(rng, 60)
    allowed, weights = some_labels(rng)[:60], rng.integers(0, 3, 60)
    model = bg.build_model(3, X, sample_weight=weights, labels=allowed)
    of = Problem.make(
        bg.GaussianMixture(3), with_labels(prepare(X, sample_weight=weights), allowed, 3)
    )
    vector = rng.normal(size=of.n_parameters)
    point, stretch = to_pymc(of, vector)
    got, slopes = density(model, split(model, point))
    value, gradient = of.log_posterior(vector)
    assert got == pytest.approx(value, rel=1e-10)
    np.testing.assert_allclose(slopes * stretch, gradient, rtol=1e-8, atol=1e-8)
    with pytest.raises(ValueError, match=r"`labels` must be left out where `spec` is a PyMC model"):
        bg.fit(X, model, labels=allowed)


def test_of_many_rows_those_with_labels_are_looked_at(rng: np.random.Generator) -> None:
    n_obs = 2 * SCREENED_ROWS + 500
    X, labels = clusters(rng, n_obs, apart=8.0)
    few = np.where(np.arange(n_obs) < 6, labels, -1)
    of = Problem.make(bg.GaussianMixture(3), with_labels(prepare(X), few, 3))
    sample = screened_rows(of, rng)
    assert np.isinf(sample.rows[2:]).any(axis=0).sum() == 6
    assert sample.weights.sum() == pytest.approx(n_obs)
    assert sample.weights[:6].tolist() == [1.0] * 6
    best = find_modes(of, Target.MAP, rng, n_starts=3, hierarchical=True).best
    means = np.stack([X[labels == k].mean(axis=0) for k in range(3)])
    np.testing.assert_allclose(best.parameters.means[0], means, atol=0.1)


def test_labels_are_kept_with_the_fit(tmp_path: Path, rng: np.random.Generator) -> None:
    X, labels = clusters(rng)
    few = np.where(np.arange(90) < 9, labels, -1)
    tree = bg.fit(X, 3, labels=few, **QUICK)
    bg.save(tree, tmp_path / "fit.zarr")
    loaded = bg.load(tmp_path / "fit.zarr")
    assert loaded.identical(tree)
    np.testing.assert_array_equal(told(observed(loaded).allowed, len(few)), few)
    assert bg.predict_proba(loaded).identical(bg.predict_proba(tree))
    assert bg.predict_proba(loaded, X[:2]).sizes["component"] == 3


def test_what_is_said_of_labelled_rows_keeps_to_their_labels(rng: np.random.Generator) -> None:
    X, labels = clusters(rng, apart=2.0)
    known = np.where(np.arange(90) < 45, labels, -1)
    tree = bg.fit(X, 3, labels=known, **QUICK)
    mine = known >= 0
    allocations = bg.sample_allocations(tree, random_seed=1)
    assert (allocations.values[..., mine] == known[mine]).all()
    assert (allocations.values[..., ~mine].std(axis=(0, 1)) > 0).any()
    proba = bg.predict_proba(tree).values
    np.testing.assert_allclose(proba[mine], np.eye(3)[known[mine]], atol=1e-12)
    sure = bg.uncertainty(tree)
    assert sure["total_entropy"].values[mine].max() < 1e-9
    together = bg.similarity(tree).values[np.ix_(mine, mine)]
    np.testing.assert_allclose(together, known[mine][:, None] == known[mine], atol=1e-9)
    assert not np.allclose(bg.predict_proba(tree, X).values[mine], proba[mine])


def test_labels_count_in_the_evidence_and_in_comparisons(rng: np.random.Generator) -> None:
    X, labels = clusters(rng, 60, apart=3.0)
    few = np.where(np.arange(60) % 3 == 0, labels, -1)
    trees = {
        "two": bg.fit(X, 2, labels=few, **QUICK),
        "three": bg.fit(X, 3, labels=few, **QUICK),
        "none": bg.fit(X, 3, **QUICK),
    }
    bg.compare({name: trees[name] for name in ("two", "three")})
    with pytest.raises(ValueError, match=r"differ: the labels of rows that are known"):
        bg.compare({name: trees[name] for name in ("three", "none")})
    one, other = (bg.log_evidence(trees[name], random_seed=1) for name in ("two", "three"))
    assert one.data == other.data != bg.log_evidence(trees["none"], random_seed=1).data
