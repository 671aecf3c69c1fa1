"""The one call: what it promises for all methods, and what it refuses to return."""

import itertools
import json
from typing import Any

import numpy as np
import pytest
import xarray as xr

import bayesgmm as bg

SHORT = {"draws": 30, "tune": 40, "chains": 2, "random_seed": 5, "progressbar": False}


def data(n_obs: int = 80, n_components: int = 2, n_features: int = 2, **given: Any) -> np.ndarray:
    arguments = {"separation": 6.0, "random_seed": 2, **given}
    return bg.datasets.make_mixture(n_obs, n_components, n_features, **arguments)["X"].values


def raw_means(tree: xr.DataTree) -> np.ndarray:
    return bg.align(tree, "none")["posterior"]["means"].values


# Arguments


def test_a_number_is_the_default_specification() -> None:
    X = data()
    expected = bg.fit(X, bg.GaussianMixture(2), **SHORT)
    for number in (2, np.int64(2), np.uint8(2)):
        tree = bg.fit(X, number, **SHORT)
        xr.testing.assert_identical(tree["posterior"].dataset, expected["posterior"].dataset)


def test_numbers_may_be_numpy_scalars() -> None:
    given = {
        "draws": np.int64(30), "tune": np.int32(40), "chains": np.uint8(2),
        "random_seed": np.int64(5), "target_accept": np.float64(0.8),
    }  # fmt: skip
    tree, expected = bg.fit(data(), 2, progressbar=False, **given), bg.fit(data(), 2, **SHORT)
    xr.testing.assert_identical(tree["posterior"].dataset, expected["posterior"].dataset)
    assert type(tree.attrs["random_seed"]) is int


def test_auto_is_the_fused_engine() -> None:
    fused = bg.fit(data(), 2, engine="fused", **SHORT)
    expected = bg.fit(data(), 2, **SHORT)
    xr.testing.assert_identical(fused["posterior"].dataset, expected["posterior"].dataset)
    assert expected.attrs["engine"] == fused.attrs["engine"] == "fused"


def test_a_seed_that_was_drawn_is_kept_and_repeats_the_fit() -> None:
    given = {**SHORT, "random_seed": None}
    first, second = bg.fit(data(), 2, **given), bg.fit(data(), 2, **given)
    assert first.attrs["random_seed"] != second.attrs["random_seed"]
    again = bg.fit(data(), 2, **{**SHORT, "random_seed": first.attrs["random_seed"]})
    xr.testing.assert_identical(again["posterior"].dataset, first["posterior"].dataset)


def test_numpys_global_state_is_neither_read_nor_changed() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    tree = bg.fit(data(), 2, **SHORT)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    xr.testing.assert_identical(
        bg.fit(data(), 2, **SHORT)["posterior"].dataset, tree["posterior"].dataset
    )


def test_attributes_say_how_it_was_made() -> None:
    tree = bg.fit(data(), 2, target_accept=0.9, **SHORT)
    attrs = tree.attrs
    assert (attrs["method"], attrs["engine"], attrs["random_seed"]) == ("nuts", "fused", 5)
    assert attrs["tuning_steps"] == 40
    assert attrs["target_accept"] == 0.9
    assert attrs["interrupted"] == 0
    assert 0.0 < attrs["sampling_time"] < attrs["fit_time"]
    assert json.loads(attrs["specification"])["n_components"] == 2
    assert all(isinstance(value, str | int | float) for value in attrs.values())
    point = bg.fit(data(), 2, method="map", random_seed=5).attrs
    assert (point["starts"], point["degenerate_starts"], point["converged"]) == (20, 0, 1)


# Draws


def test_reported_draws_are_the_sampled_ones_permuted() -> None:
    tree = bg.fit(data(200, 3), 3, **SHORT)
    permutation = tree["alignment"]["permutation"].values
    raw = raw_means(tree)
    chains, draws = np.ogrid[:2, :30]
    aligned = raw[chains[..., None], draws[..., None], permutation]
    np.testing.assert_array_equal(tree["posterior"]["means"].values, aligned)


def test_modes_are_distinct_and_best_first() -> None:
    """Four chains that start at one mode have found one mode."""
    for method in ("nuts", "map", "ml"):
        tree = bg.fit(data(), 2, method=method, **{**SHORT, "chains": 4})
        modes = tree["modes"].dataset
        objective = modes["objective"].values
        assert (np.diff(objective) < -1e-4).all()
        assert modes["starts"].values.sum() <= (32 if method == "nuts" else 20)
        assert (np.diff(modes["means"].isel(feature=0).values, axis=1) >= 0).all()
    best = tree["posterior"].dataset.isel(chain=0, draw=0)
    for name in ("weights", "means", "covariances"):  # the last is a maximum likelihood
        np.testing.assert_array_equal(modes[name].isel(mode=0).values, best[name].values)


def test_units_of_the_data_only_change_units() -> None:
    X = data()
    factor, shift = np.array([1e-3, 40.0]), np.array([1e3, -7.0])
    for method in ("map", "ml"):
        one = bg.fit(X, 2, method=method, random_seed=1)["posterior"].isel(chain=0, draw=0)
        other = bg.fit(X * factor + shift, 2, method=method, random_seed=1)
        scaled = other["posterior"].isel(chain=0, draw=0)
        np.testing.assert_allclose(scaled["weights"], one["weights"], rtol=1e-4)
        np.testing.assert_allclose(
            (scaled["means"] - shift) / factor, one["means"], rtol=1e-4, atol=1e-4
        )
        np.testing.assert_allclose(scaled["scales"] / factor, one["scales"], rtol=1e-4)
        np.testing.assert_allclose(scaled["correlations"], one["correlations"], atol=1e-4)


def test_the_order_of_rows_does_not_matter() -> None:
    X = data()
    for method in ("map", "ml"):
        one = bg.fit(X, 2, method=method, random_seed=1)
        other = bg.fit(X[::-1], 2, method=method, random_seed=1)
        np.testing.assert_allclose(
            other["sample_stats"]["lp"], one["sample_stats"]["lp"], rtol=0, atol=1e-4
        )
        np.testing.assert_allclose(
            other["posterior"]["covariances"], one["posterior"]["covariances"], rtol=1e-3, atol=1e-4
        )


def test_one_component_by_maximum_likelihood_is_the_sample_covariance() -> None:
    X = data(50, 1, 3)
    posterior = bg.fit(X, 1, method="ml", random_seed=1)["posterior"].isel(chain=0, draw=0)
    np.testing.assert_allclose(posterior["means"][0], X.mean(axis=0), atol=1e-8)
    np.testing.assert_allclose(posterior["covariances"][0], np.cov(X.T, ddof=0), rtol=1e-7)
    assert posterior["weights"].item() == 1.0


def test_unequal_concentrations_go_to_the_weights_that_they_suit() -> None:
    """The prior is all that depends on labels, so the best of all labellings is known."""
    concentration = np.array([40.0, 1.0, 10.0, 3.0])
    X = data(300, 4, 2, weights=[0.1, 0.2, 0.3, 0.4], separation=8.0)
    spec = bg.GaussianMixture(4, weights=bg.Dirichlet(concentration))
    tree = bg.fit(X, spec, method="map", random_seed=1)
    log_weights = np.log(tree["posterior"]["weights"].values[0, 0])
    others = [
        concentration @ log_weights[list(order)] for order in itertools.permutations(range(4))
    ]
    np.testing.assert_allclose(concentration @ log_weights, max(others), rtol=1e-12)


def test_modes_keep_labels_that_have_a_meaning() -> None:
    spec = bg.GaussianMixture(2, weights=bg.Dirichlet([1.0, 30.0]))
    tree = bg.fit(data(), spec, method="map", random_seed=1)
    np.testing.assert_array_equal(
        tree["modes"]["weights"].values[0], tree["posterior"]["weights"].values[0, 0]
    )


# What is not returned


@pytest.mark.parametrize("structure", ["full", "diag", "spherical", "tied_correlation"])
def test_a_collapsed_component_is_refused_and_the_advice_helps(structure: str) -> None:
    X = data(8)
    spec = bg.GaussianMixture(4, covariance=bg.LKJCovariance(structure=structure))
    match = r"Every one of 20 starts .*collapsed.*8 rows.*got 4 components.*such as 'tied'"
    with pytest.raises(bg.FitError, match=match) as caught:
        bg.fit(X, spec, method="ml", random_seed=1)
    assert caught.value.status == "degenerate"
    tied = bg.GaussianMixture(4, covariance=bg.LKJCovariance(structure="tied_diag"))
    tree = bg.fit(X, tied, method="ml", random_seed=1)
    assert tree.attrs["converged"] == 1
    assert tree["posterior"]["scales"].values.min() > 1e-3
    drawn = bg.fit(X, spec, draws=50, chains=2, random_seed=1)  # the posterior is proper
    assert np.isfinite(drawn["sample_stats"]["lp"].values).all()


@pytest.mark.parametrize("method", ["map", "nuts"])
@pytest.mark.filterwarnings("ignore::bayesgmm.ConvergenceWarning")
def test_repeated_rows_give_finite_numbers_or_an_error(method: str) -> None:
    X = np.repeat([[0.0, 1.0], [3.0, 2.0], [5.0, 7.0]], 5, axis=0)
    try:
        tree = bg.fit(X, 3, method=method, **SHORT)
    except bg.FitError as error:
        assert error.status in ("degenerate", "sampler")
        return
    for group in ("posterior", "sample_stats", "log_likelihood", "modes"):
        for name, variable in tree[group].data_vars.items():
            assert np.isfinite(variable.values).all(), (group, name)


def test_what_was_not_asked_for_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit that is too large to hold its log-likelihood says so, and still predicts."""
    monkeypatch.setattr("bayesgmm.inference.assemble.LARGEST_LOG_LIKELIHOOD", 100)
    tree = bg.fit(data(), 2, **SHORT)
    assert "log_likelihood" not in tree.children
    assert tree.attrs["log_likelihood_bytes"] == 8 * 2 * 30 * 80
    assert bg.predict_proba(tree).shape == (80, 2)
    assert "weight of rank" not in bg.check(tree).verdict
