"""How sure allocations are, against the formulas written out."""

import numpy as np
import pytest
import xarray as xr
from arviz_base import rcParams
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import bayesgmm as bg
from tests.synthetic import random_fit


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    """Draws without any order: random mixtures, so that everything is uncertain."""
    rng = np.random.default_rng(3)
    return random_fit(rng.normal(0.0, 1.5, (30, 2)), rng, n_components=3, chains=2, draws=25)


@pytest.fixture(scope="module")
def fitted() -> xr.DataTree:
    X = bg.datasets.make_mixture(90, 2, 2, separation=2.5, random_seed=2)["X"]
    return bg.fit(X, 2, draws=200, random_seed=1, progressbar=False)


def shares(tree: xr.DataTree, X: np.ndarray) -> np.ndarray:
    """Responsibilities by SciPy, shape (draws, components, rows)."""
    weights, means, covariances = (
        tree["posterior"][name].values for name in ("weights", "means", "covariances")
    )
    joint = np.empty((*weights.shape, len(X)))
    for index in np.ndindex(weights.shape):
        law = multivariate_normal(means[index], covariances[index])
        joint[index] = np.log(weights[index]) + law.logpdf(X)
    joint = joint.reshape(-1, *joint.shape[2:])
    return np.exp(joint - logsumexp(joint, axis=1, keepdims=True))


def entropy(p: np.ndarray, axis: int) -> np.ndarray:
    return -(p * np.log(p)).sum(axis=axis)


@pytest.mark.parametrize("which", ["tree", "fitted"])
def test_entropies_are_those_of_the_formulas(which: str, request: pytest.FixtureRequest) -> None:
    tree = request.getfixturevalue(which)
    r = shares(tree, tree["observed_data"]["X"].values)
    found = bg.uncertainty(tree)
    mean = r.mean(axis=0)
    np.testing.assert_allclose(found.total_entropy, entropy(mean, 0), rtol=1e-8)
    np.testing.assert_allclose(found.aleatoric_entropy, entropy(r, 1).mean(axis=0), rtol=1e-8)
    information = (r * np.log(r / mean)).sum(axis=1).mean(axis=0)
    np.testing.assert_allclose(found.epistemic_entropy, information, rtol=1e-7, atol=1e-13)
    assert (information > 0.0).all()


@pytest.mark.parametrize("which", ["tree", "fitted"])
def test_the_total_is_the_sum_of_its_parts(which: str, request: pytest.FixtureRequest) -> None:
    tree = request.getfixturevalue(which)
    found = bg.uncertainty(tree)
    parts = found.aleatoric_entropy + found.epistemic_entropy
    np.testing.assert_allclose(parts, found.total_entropy, rtol=4e-16)
    assert found.aleatoric_entropy.min() >= 0.0
    assert found.epistemic_entropy.min() >= 0.0
    assert found.total_entropy.max() <= np.log(tree["posterior"].sizes["component"]) + 1e-12


def test_probabilities_are_those_of_predict_proba(tree: xr.DataTree) -> None:
    found = bg.uncertainty(tree)
    xr.testing.assert_equal(found.probability, bg.predict_proba(tree))


def test_the_error_probability_is_that_of_all_other_components(tree: xr.DataTree) -> None:
    found = bg.uncertainty(tree)
    others = np.sort(found.probability.values, axis=1)[:, :-1].sum(axis=1)
    np.testing.assert_allclose(found.error_probability, others, atol=1e-12)


def test_intervals_are_quantiles_over_draws(tree: xr.DataTree) -> None:
    r = shares(tree, tree["observed_data"]["X"].values)
    found = bg.uncertainty(tree)
    assert found.ci_prob == rcParams["stats.ci_prob"]
    for bound, tail in (("lower", 0.5 - found.ci_prob / 2), ("upper", 0.5 + found.ci_prob / 2)):
        interval = found.probability_interval.sel(ci_bound=bound).transpose("component", "obs")
        np.testing.assert_allclose(interval, np.quantile(r, tail, axis=0), rtol=1e-8)


@pytest.mark.parametrize("which", ["tree", "fitted"])
def test_the_exemplar_is_the_row_most_similar_to_its_cluster(
    which: str, request: pytest.FixtureRequest
) -> None:
    tree = request.getfixturevalue(which)
    r = shares(tree, tree["observed_data"]["X"].values)
    similarity = np.einsum("ski,skj->ij", r, r) / len(r)
    np.fill_diagonal(similarity, 1.0)
    found = bg.uncertainty(tree)
    cluster = r.mean(axis=0).argmax(axis=0)
    assert len(np.unique(cluster)) > 1
    for k in np.unique(cluster):
        rows = np.flatnonzero(cluster == k)
        exemplar = rows[similarity[np.ix_(rows, rows)].mean(axis=1).argmax()]
        assert set(found.exemplar.values[rows]) == {exemplar}
        np.testing.assert_allclose(found.with_exemplar[rows], similarity[rows, exemplar], rtol=1e-8)


def test_without_exemplars_the_rest_is_the_same_and_fitted_rows_are_not_needed(
    tree: xr.DataTree,
) -> None:
    new = tree["observed_data"]["X"].values[:7]
    whole = bg.uncertainty(tree, new)
    found = bg.uncertainty(tree, new, exemplars=False)
    xr.testing.assert_identical(found, whole.drop_vars(["exemplar", "with_exemplar"]))
    part = bg.marginal(tree, [tree["observed_data"]["feature"].values[0]]).drop_nodes(
        "observed_data"
    )
    assert bg.uncertainty(part, new[:, :1], exemplars=False).sizes["obs"] == 7
    with pytest.raises(ValueError, match=r"'observed_data'"):
        bg.uncertainty(part, new[:, :1])


@pytest.mark.parametrize("seed", range(10))
def test_a_row_is_as_similar_to_itself_as_can_be(seed: int) -> None:
    """Not as two rows with its responsibilities would be: in small clusters this decides."""
    rng = np.random.default_rng(seed)
    tree = random_fit(rng.normal(size=(8, 1)), rng, draws=4)
    r = shares(tree, tree["observed_data"]["X"].values)
    similarity = np.einsum("ski,skj->ij", r, r) / len(r)
    np.fill_diagonal(similarity, 1.0)
    found = bg.uncertainty(tree)
    cluster = r.mean(axis=0).argmax(axis=0)
    for k in np.unique(cluster):
        rows = np.flatnonzero(cluster == k)
        typical = similarity[np.ix_(rows, rows)].mean(axis=1)
        (exemplar,) = np.unique(found.exemplar.values[rows])
        assert typical[rows == exemplar] > typical.max() - 1e-12


def test_new_rows_are_compared_with_fitted_ones(fitted: xr.DataTree) -> None:
    X = np.array([[0.0, 0.0], [2.0, -1.0], [-3.0, 40.0]])
    found, of_fitted = bg.uncertainty(fitted, X), bg.uncertainty(fitted)
    r = shares(fitted, X)
    np.testing.assert_allclose(found.total_entropy, entropy(r.mean(axis=0), 0), rtol=1e-8)
    exemplars = found.exemplar.values
    assert set(exemplars) <= set(of_fitted.exemplar.values)
    theirs = shares(fitted, fitted["observed_data"]["X"].sel(obs=exemplars).values)
    expected = np.einsum("ski,ski->i", r, theirs) / len(r)
    np.testing.assert_allclose(found.with_exemplar, expected, rtol=1e-8)
    copies = bg.uncertainty(fitted, fitted["observed_data"]["X"])
    exemplar = of_fitted["obs"] == of_fitted.exemplar
    np.testing.assert_array_equal(of_fitted.with_exemplar[exemplar], 1.0)
    assert (copies.with_exemplar[exemplar] < 1.0).all()
    xr.testing.assert_identical(copies.drop_vars("with_exemplar"),
                                of_fitted.drop_vars("with_exemplar"))  # fmt: skip


def test_rows_are_summarised_one_by_one(tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bg.uncertainty(tree)
    monkeypatch.setattr("bayesgmm.clustering.certainty.BLOCK_BYTES", 8 * 50 * 3 * 4)
    xr.testing.assert_allclose(bg.uncertainty(tree), whole, rtol=1e-12)
    monkeypatch.setattr("bayesgmm.clustering.certainty.BLOCK_BYTES", 1)
    xr.testing.assert_allclose(bg.uncertainty(tree), whole, rtol=1e-12)


def test_known_parameters_leave_no_epistemic_uncertainty(rng: np.random.Generator) -> None:
    tree = random_fit(rng.normal(size=(20, 2)), rng, chains=1, draws=1, method="map")
    found = bg.uncertainty(tree)
    np.testing.assert_array_equal(found.epistemic_entropy, 0.0)
    np.testing.assert_allclose(found.total_entropy, entropy(found.probability.values, 1))
    for bound in ("lower", "upper"):
        interval = found.probability_interval.sel(ci_bound=bound, drop=True)
        np.testing.assert_allclose(interval, found.probability, rtol=1e-12)


def test_draws_that_are_all_the_same_have_no_epistemic_part(rng: np.random.Generator) -> None:
    """But for rounding, which must not make it negative."""
    tree = random_fit(rng.normal(size=(40, 2)), rng, n_components=3, draws=7)
    posterior = tree["posterior"].to_dataset()
    tree["posterior"] = xr.DataTree(posterior.isel(draw=[0] * 7, chain=[0] * 2))
    found = bg.uncertainty(tree)
    assert (found.epistemic_entropy >= 0.0).all()
    np.testing.assert_allclose(found.epistemic_entropy, 0.0, atol=1e-14)


def test_one_component_leaves_no_doubt(rng: np.random.Generator) -> None:
    found = bg.uncertainty(random_fit(rng.normal(size=(9, 3)), rng, n_components=1))
    np.testing.assert_allclose(found.total_entropy, 0.0, atol=1e-12)
    np.testing.assert_allclose(found.with_exemplar, 1.0)
    np.testing.assert_allclose(found.probability_interval, 1.0)


def test_a_component_of_no_row_has_an_exemplar(rng: np.random.Generator) -> None:
    """A new row in a component that is no fitted row's most probable."""
    tree = random_fit(rng.normal(0.0, 0.1, (10, 1)), rng, draws=5)
    posterior = tree["posterior"].to_dataset()
    posterior["means"][..., 0, :], posterior["means"][..., 1, :] = 0.0, 50.0
    tree["posterior"] = xr.DataTree(posterior)
    found = bg.uncertainty(tree, [[50.0]])
    assert found.exemplar.item() == bg.predict_proba(tree).values[:, 1].argmax()
    assert found.with_exemplar < 1e-6


def test_labels_of_rows_are_kept(rng: np.random.Generator) -> None:
    X = xr.DataArray(rng.normal(size=(4, 1)), dims=("obs", "feature"), coords={"obs": list("abcd")})
    found = bg.uncertainty(random_fit(X, rng))
    assert found["obs"].values.tolist() == list("abcd")
    assert set(found.exemplar.values) <= set("abcd")


def test_what_is_no_fit_is_refused(tree: xr.DataTree) -> None:
    with pytest.raises(TypeError, match=r"`tree` must be a fit, the DataTree .* got an object"):
        bg.uncertainty([[0, 1]])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"must hold the group 'posterior' for `uncertainty`"):
        bg.uncertainty(tree.filter(lambda node: node.name != "posterior"))
    with pytest.raises(ValueError, match="`X_new` must "):
        bg.uncertainty(tree, np.zeros((2, 3)))
