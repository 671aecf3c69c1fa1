"""Fits of mixtures whose number of components has a prior, through the public face."""

import warnings
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import bayesgmm as bg
from bayesgmm.data import prepare
from bayesgmm.inference import telescoping
from bayesgmm.summaries import drawable
from bayesgmm.tree import check_schema


def fit(X: object, spec: bg.GaussianMixture, seed: int = 3, **options: object) -> xr.DataTree:
    given = {"draws": 150, "tune": 50, "chains": 2} | options
    return bg.fit(X, spec, random_seed=seed, progressbar=False, **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def X() -> np.ndarray:
    rng = np.random.default_rng(5)
    return np.concatenate([rng.normal(-4.0, 1.0, (40, 2)), rng.normal(4.0, 1.0, (30, 2))])


@pytest.fixture(scope="module")
def tree(X: np.ndarray) -> xr.DataTree:
    """Many components, of which a few have rows."""
    prior = bg.PriorOnComponents("poisson", 9.0, concentration=1.0)
    return fit(X, bg.GaussianMixture(prior))


def test_every_draw_is_a_mixture(tree: xr.DataTree) -> None:
    check_schema(tree)
    posterior = tree["posterior"].dataset
    n, clusters = posterior["n_components"].values, posterior["n_clusters"].values
    weights = posterior["weights"].values
    assert n.dtype == clusters.dtype == np.int64
    assert (clusters >= 1).all()
    assert (clusters <= n).all()
    assert n.max() > posterior.sizes["component"] == telescoping.ROOM  # so that some are pooled
    assert 0.0 < tree.attrs["pooled_weight"] < 0.05
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0, rtol=1e-12)
    there = (weights > 0.0).sum(axis=-1)
    assert (there == np.minimum(n, telescoping.ROOM)).all()
    for variable in posterior.data_vars.values():
        assert np.isfinite(variable.values).all()
    attrs = tree.attrs
    assert (attrs["method"], attrs["engine"], attrs["interrupted"]) == ("telescoping", "fused", 0)
    assert "half-normal and LKJ" in attrs["scales_and_correlations"]
    assert "n_parameters" not in attrs


def test_the_log_likelihood_is_that_of_the_reported_parameters(
    tree: xr.DataTree, X: np.ndarray
) -> None:
    posterior = tree["posterior"].dataset.isel(draw=slice(None, None, 30))
    reported = tree["log_likelihood"]["X"].isel(draw=slice(None, None, 30)).values
    for index in np.ndindex(reported.shape[:2]):
        weights, means, covariances = (
            posterior[name].values[index] for name in ("weights", "means", "covariances")
        )
        joint = [
            np.log(w) + multivariate_normal(m, c).logpdf(X)
            for w, m, c in zip(weights, means, covariances, strict=True)
            if w > 0.0
        ]
        np.testing.assert_allclose(reported[index], logsumexp(joint, axis=0), rtol=1e-8)


def test_two_clusters_are_found_and_named(tree: xr.DataTree, X: np.ndarray) -> None:
    clusters = tree["posterior"]["n_clusters"].values
    assert (clusters == 2).mean() > 0.5
    truth = np.repeat([0, 1], [40, 30])
    labels = bg.predict(tree).values
    assert len(np.unique(labels)) == 2
    assert all(len(np.unique(labels[truth == k])) == 1 for k in range(2))
    np.testing.assert_allclose(bg.predict_proba(tree).sum("component"), 1.0, rtol=1e-9)
    report = bg.check(tree)
    assert report.evidence["draws nearly tied in labels"] < 0.05
    assert report.evidence["largest R-hat, label-free"] < 1.2
    table = bg.summary(tree)
    assert table.index[:2].tolist() == ["n_components", "n_clusters"]
    assert table.index.str.startswith("weights").sum() == 2
    near = tree["posterior"]["n_components"].values.mean()
    assert table.loc["n_components", "mean"] == near


def test_what_the_tree_is_used_for(tree: xr.DataTree, tmp_path: Path) -> None:
    bg.save(tree, tmp_path / "fit.nc")
    loaded = bg.load(tmp_path / "fit.nc")
    assert loaded.identical(tree)
    new = [[0.0, 0.0], [4.0, 4.0]]
    density = bg.score_samples(loaded, new).values
    assert density[1] > density[0] + 2.0
    rows = bg.sample_posterior_predictive(tree, 20, random_seed=1)
    assert np.isfinite(rows["X"].values).all()
    raw = bg.align(tree, "none")
    assert bg.align(raw).posterior.identical(tree.posterior)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # there are but few draws
        assert np.isfinite(bg.loo(tree).elpd)
    with pytest.raises(ValueError, match=r"known number of clusters for `mode_audit`"):
        bg.mode_audit(tree)


def test_the_same_seed_gives_the_same_draws(X: np.ndarray) -> None:
    spec = bg.GaussianMixture(bg.PriorOnComponents())
    one, again, other = (fit(X, spec, seed, draws=20) for seed in (1, 1, 2))
    for group in ("posterior", "sample_stats", "log_likelihood", "alignment"):
        xr.testing.assert_identical(one[group].dataset, again[group].dataset)
    assert not np.isin(other["posterior"]["concentration"], one["posterior"]["concentration"]).any()


@pytest.mark.parametrize("structure", ["full", "diag", "spherical"])
def test_one_component_is_what_nuts_draws(structure: str, rng: np.random.Generator) -> None:
    """Of a uniform prior on 1 to 1 components."""
    X = rng.multivariate_normal([1.0, -2.0], [[1.0, 0.5], [0.5, 2.0]], size=25)
    covariance = bg.LKJCovariance(structure=structure)
    learnt = bg.GaussianMixture(bg.PriorOnComponents("uniform", 1), covariance=covariance)
    one, other = (
        fit(X, spec, draws=1000, tune=100)
        for spec in (learnt, bg.GaussianMixture(1, covariance=covariance))
    )
    table, due = bg.summary(one), bg.summary(other)
    varying = due.index[due["sd"] > 1e-12]
    assert table.loc[varying, "ess_bulk"].min() > 400
    error = np.hypot(table["mcse_mean"], due["mcse_mean"])[varying]
    assert (np.abs(table["mean"] - due["mean"])[varying] < 5.0 * error).all()
    assert (np.abs(np.log(table["sd"] / due["sd"]))[varying] < 0.25).all()


def test_units_of_the_data_do_not_matter(X: np.ndarray) -> None:
    spec = bg.GaussianMixture(bg.PriorOnComponents())
    plain, moved = fit(X, spec, draws=20), fit(1024.0 * X, spec, draws=20)
    np.testing.assert_allclose(
        moved["posterior"]["means"], 1024.0 * plain["posterior"]["means"], rtol=1e-6, atol=1e-6
    )
    shift = moved["sample_stats"]["lp"] - plain["sample_stats"]["lp"]
    np.testing.assert_allclose(shift, -X.size * np.log(1024.0), rtol=1e-9)


def test_an_interruption_keeps_what_was_drawn(
    X: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, run = bg.GaussianMixture(bg.PriorOnComponents()), telescoping.Chain.run
    some = Event()

    def slowly(chain: telescoping.Chain, tune: int, draws: int, stop: Event) -> None:
        run(chain, tune, 7, stop)
        some.set()
        stop.wait()

    def interrupted(*_: object) -> None:
        some.wait()
        raise KeyboardInterrupt

    monkeypatch.setattr(telescoping.Chain, "run", slowly)
    monkeypatch.setattr(telescoping, "wait", interrupted)
    with pytest.warns(bg.ConvergenceWarning, match="interrupted: 7 of 150 draws"):
        tree = fit(X, spec, chains=1)
    assert (tree.posterior.sizes["draw"], tree.attrs["interrupted"]) == (7, 1)
    monkeypatch.setattr(telescoping.Chain, "run", lambda *_: some.set())
    with pytest.raises(bg.FitError, match="interrupted while chains were tuning; got 0") as caught:
        fit(X, spec)
    assert caught.value.status == "interrupted"


def test_an_error_in_a_chain_is_raised(X: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("full")

    monkeypatch.setattr(telescoping, "sweep", fail)
    with pytest.raises(MemoryError, match="full"):
        fit(X, bg.GaussianMixture(bg.PriorOnComponents()))


def test_few_rows_and_duplicates(rng: np.random.Generator) -> None:
    spec = bg.GaussianMixture(bg.PriorOnComponents(dynamic=False))
    two = fit([[0.0, 1.0], [2.0, -1.0]], spec, draws=20)
    assert two["posterior"]["n_clusters"].values.max() <= 2
    rounded = rng.normal(size=(30, 1)).round(1)
    floor = 0.5 * 0.1 * 0.9
    scales = fit(rounded, spec, draws=20)["posterior"]["scales"]
    assert (scales > floor).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "map"}, r"must have a number of components for method 'map'"),
        ({"method": "laplace"}, r"for method 'laplace' with engine 'auto'; got PriorOnComponents"),
        ({"engine": "pymc"}, r"for method 'nuts' with engine 'pymc'"),
    ],
)
def test_other_methods_refuse_a_prior_on_the_number(
    X: np.ndarray, options: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit(X, bg.GaussianMixture(bg.PriorOnComponents()), **options)


def test_what_needs_a_number_refuses_a_prior(X: np.ndarray) -> None:
    spec = bg.GaussianMixture(bg.PriorOnComponents())
    with pytest.raises(ValueError, match=r"`n_components` must be an integer here"):
        bg.build_model(spec, X)
    with pytest.raises(ValueError, match=r"`n_components` must be an integer here"):
        bg.select(X, range(1, 3), spec=spec)


def test_chains_start_apart(X: np.ndarray) -> None:
    prior = bg.PriorOnComponents()
    learnt = telescoping.Learnt.make(bg.GaussianMixture(prior), prepare(X))
    starts = [learnt.start(np.random.default_rng(seed)) for seed in range(20)]
    counts = [len(np.unique(state.labels)) for state in starts]
    assert min(counts) <= 2
    assert max(counts) == telescoping.MOST_STARTED
    for state, count in zip(starts, counts, strict=True):
        assert state.labels.max() + 1 == count == state.numbers[0]


def test_clusters_are_drawn_and_what_is_empty_is_not(tree: xr.DataTree, X: np.ndarray) -> None:
    shown = drawable(tree)["posterior"].dataset
    weights = tree["posterior"]["weights"].values
    some = weights.mean(axis=(0, 1)) * len(X) >= 1.0
    assert shown["component"].values.tolist() == list(range(some.sum()))  # they come first
    assert some[: some.sum()].all()
    assert 2 <= some.sum() < telescoping.ROOM
    there = weights[..., some] * len(X) >= 0.5
    means = tree["posterior"]["means"].values[..., some, :]
    np.testing.assert_array_equal(shown["means"].values[there], means[there])
    for k in np.flatnonzero(~there.all(axis=(0, 1))):
        typical = np.average(means[..., k, :], weights=weights[..., some][..., k], axis=(0, 1))
        away = shown["means"].values[..., k, :][~there[..., k]]
        np.testing.assert_allclose(away, np.broadcast_to(typical, away.shape), rtol=1e-9)
    ax = bg.plot_components(tree, ax=Figure().subplots())
    assert ax.get_title().startswith(f"{some.sum()} components")
    assert bg.plot_uncertainty(tree, ax=Figure().subplots()).get_title()
    known = bg.fit(X, 2, method="map", random_seed=1, progressbar=False)
    assert drawable(known) is known
