"""Fits of mixtures with more components than clusters, through the public face."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import bayesgmm as bg
from bayesgmm.problem import Problem
from bayesgmm.summaries import diagnostics
from bayesgmm.tree import check_schema, parameters
from tests import exact_evidence

SPARSE = bg.GaussianMixture(6, weights=bg.SparseDirichlet())
STICK = bg.GaussianMixture(8, weights=bg.StickBreaking())


def fit(X: object, spec: bg.GaussianMixture, seed: int = 3, **options: object) -> xr.DataTree:
    given = {"draws": 150, "tune": 50, "chains": 2} | options
    return bg.fit(X, spec, random_seed=seed, progressbar=False, **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def X() -> np.ndarray:
    rng = np.random.default_rng(5)
    return np.concatenate([rng.normal(-4.0, 1.0, (40, 2)), rng.normal(4.0, 1.0, (30, 2))])


@pytest.fixture(scope="module")
def sparse(X: np.ndarray) -> xr.DataTree:
    return fit(X, SPARSE)


@pytest.fixture(scope="module")
def stick(X: np.ndarray) -> xr.DataTree:
    return fit(X, STICK)


def log_weights(tree: xr.DataTree) -> np.ndarray:
    kept = tree["posterior"]["log_weights"]
    assert kept.dims == ("chain", "draw", "component")
    return np.asarray(kept.values.reshape(-1, kept.sizes["component"]))


def test_every_draw_is_a_mixture(sparse: xr.DataTree, stick: xr.DataTree) -> None:
    for tree, n_components in ((sparse, 6), (stick, 8)):
        check_schema(tree)
        posterior = tree["posterior"].dataset
        assert posterior.sizes["component"] == n_components
        for variable in posterior.data_vars.values():
            assert np.isfinite(variable.values).all()
        assert "n_components" not in posterior
        logs = posterior["log_weights"].values
        np.testing.assert_allclose(np.exp(logs), posterior["weights"].values, rtol=1e-12)
        np.testing.assert_allclose(np.exp(logs).sum(axis=-1), 1.0, rtol=1e-12)
        attrs = tree.attrs
        assert (attrs["method"], attrs["engine"], attrs["interrupted"]) == ("gibbs", "fused", 0)
        assert attrs["n_parameters"] == 6 * n_components - 1
        assert "pooled_weight" not in attrs
    assert log_weights(sparse).min() < -100.0  # of components without rows
    assert "concentration" not in sparse["posterior"]
    assert (stick["posterior"]["concentration"].values > 0.0).all()
    assert "truncation_error" not in sparse.attrs
    assert stick.attrs["truncation_error"] == STICK.weights.truncation_error(70)


def test_lp_is_the_density_of_the_draw(sparse: xr.DataTree, stick: xr.DataTree) -> None:
    """As of any other method; of pieces of a stick in their own order, which is the raw one."""
    for tree in (sparse, stick):
        raw = bg.align(tree, "none")
        problem = Problem.of_tree(raw)
        vectors = problem.vectors(parameters(raw), log_weights(raw))
        due = [problem.log_posterior(vector)[0] for vector in vectors[::29]]
        np.testing.assert_allclose(raw["sample_stats"]["lp"].values.ravel()[::29], due, rtol=1e-8)


def test_pieces_of_a_stick_become_shorter(X: np.ndarray) -> None:
    """A priori, before they are named by their rows."""
    raw = bg.align(fit(X[:2], bg.GaussianMixture(2, weights=bg.StickBreaking(0.2))), "none")
    first, last = raw["posterior"]["weights"].mean(("chain", "draw")).values
    assert first > last + 0.2


def test_two_clusters_are_found_and_named(
    sparse: xr.DataTree, stick: xr.DataTree, X: np.ndarray
) -> None:
    truth = np.repeat([0, 1], [40, 30])
    for tree in (sparse, stick):
        clusters = tree["posterior"]["n_clusters"].values
        assert (clusters == 2).mean() > 0.5
        labels = bg.predict(tree).values
        assert sorted(np.unique(labels)) == [0, 1]  # components with rows come first
        assert all(len(np.unique(labels[truth == k])) == 1 for k in range(2))
        assert bg.check(tree).evidence["draws nearly tied in labels"] < 0.05
        table = bg.summary(tree)
        assert table.index[0] == "n_clusters"
        assert table.index.str.startswith("weights").sum() == 2
        assert bg.align(bg.align(tree, "none")).posterior.identical(tree.posterior)


def test_the_prior_of_clusters_is_beside_the_posterior(sparse: xr.DataTree) -> None:
    found = bg.n_clusters(sparse, random_seed=1)
    due = bg.prior_clusters(SPARSE, 70)
    np.testing.assert_array_equal(found["prior_probability"], due)
    assert found["probability"].sel(n_clusters=2) > 2.0 * due.sel(n_clusters=2)
    assert "prior_probability" not in bg.n_clusters([[0, 0, 1]])


def test_what_the_tree_is_used_for(stick: xr.DataTree, tmp_path: Path) -> None:
    bg.save(stick, tmp_path / "fit.nc")
    loaded = bg.load(tmp_path / "fit.nc")
    assert loaded.identical(stick)
    density = bg.score_samples(loaded, [[0.0, 0.0], [4.0, 4.0]]).values
    assert density[1] > density[0] + 2.0
    with pytest.raises(ValueError, match=r"Dirichlet weights for `log_evidence`; got StickBreak"):
        bg.log_evidence(stick)
    with pytest.raises(ValueError, match=r"known number of clusters for `mode_audit`"):
        bg.mode_audit(stick)


def test_the_same_seed_gives_the_same_draws(X: np.ndarray) -> None:
    one, again, other = (fit(X, STICK, seed, draws=10) for seed in (1, 1, 2))
    for group in ("posterior", "sample_stats", "log_likelihood", "alignment"):
        xr.testing.assert_identical(one[group].dataset, again[group].dataset)
    assert not np.isin(other["posterior"]["concentration"], one["posterior"]["concentration"]).any()


def test_the_sampler_of_gradients_agrees(rng: np.random.Generator) -> None:
    """Where components are empty now and then, and both samplers move."""
    X = np.concatenate([rng.normal(0.0, 1.0, 12), rng.normal(3.0, 0.5, 8)])[:, None]
    one, other = (
        fit(X, bg.GaussianMixture(3, weights=weights), draws=1500, tune=200)
        for weights in (bg.SparseDirichlet(0.4), bg.Dirichlet(0.4))
    )
    assert (one.attrs["method"], other.attrs["method"]) == ("gibbs", "nuts")
    found = []
    for tree in (one, other):
        occupied = bg.n_clusters(tree, random_seed=1)["occupied"].values.reshape(2, -1)
        largest = tree["posterior"]["weights"].max("component").values
        lp = tree["log_likelihood"]["X"].sum("obs").values
        quantities = np.array([occupied == 1, occupied == 3, largest, lp], dtype=float)
        n_effective = diagnostics(quantities)["ess_mean"]
        assert n_effective.min() > 200
        flat = quantities.reshape(4, -1)
        found.append((flat.mean(axis=1), flat.std(axis=1) / np.sqrt(n_effective)))
    (mean, error), (due, its_error) = found
    assert (np.abs(mean - due) < 5.0 * np.hypot(error, its_error)).all()


@pytest.mark.parametrize("concentration", [0.3, 0.01])
def test_the_evidence_is_the_sum_over_all_allocations(concentration: float) -> None:
    """Even where weights are too small to be kept."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(9, 1)) + 3.0 * (np.arange(9)[:, None] % 3 == 0)
    spec = bg.GaussianMixture(
        3,
        weights=bg.SparseDirichlet(concentration),
        means=bg.NormalMeans(0.3, 2.0),
        covariance=bg.LKJCovariance(2.0, 1.5, floor=0.0),
    )
    due = exact_evidence.own_scales(X[:, 0], np.full(3, concentration), 0.3, 2.0, 1.5)
    tree = fit(X, spec, draws=1000)
    assert (tree["posterior"]["weights"].values == 0.0).any() == (concentration == 0.01)
    found = bg.log_evidence(tree, random_seed=1)
    assert found.error < 0.05
    assert abs(found.value - due) < 5.0 * found.error


@pytest.mark.parametrize(
    ("spec", "method"), [(SPARSE, "map"), (STICK, "laplace")], ids=["sparse", "stick"]
)
def test_other_methods_take_the_priors(
    X: np.ndarray, spec: bg.GaussianMixture, method: str
) -> None:
    tree = fit(X, spec, method=method, draws=40)
    assert tree.attrs["method"] == method
    assert np.isfinite(tree["sample_stats"]["lp"].values).all()
    assert len(np.unique(bg.predict(tree))) >= 2


@pytest.mark.parametrize("weights", [bg.SparseDirichlet(), bg.StickBreaking()], ids=str)
def test_what_is_shared_is_refused(
    X: np.ndarray, weights: bg.SparseDirichlet | bg.StickBreaking
) -> None:
    spec = bg.GaussianMixture(3, weights=weights, covariance=bg.LKJCovariance(structure="tied"))
    with pytest.raises(ValueError, match=r"share nothing .* method 'nuts'; got 'tied'. Choose"):
        fit(X, spec)
    with pytest.raises(ValueError, match=r"as many rows as there are components, 3"):
        fit(X[:2], spec)
