"""Overlap of components and density on a grid, against formulas and against `score_samples`."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import multivariate_normal, norm

import bayesgmm as bg
from tests.synthetic import random_fit


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    """Random mixtures of three features with units far apart."""
    rng = np.random.default_rng(8)
    X = rng.normal(2.0, 3.0, (40, 3)) * [1.0, 1e3, 1e-3]
    fit = random_fit(pd.DataFrame(X, columns=["a", "b", "c"]), rng, n_components=3, draws=12)
    unit = np.array([1.0, 1e3, 1e-3])
    posterior = fit["posterior"]
    posterior["means"] = posterior["means"] * unit
    posterior["scales"] = posterior["scales"] * unit
    posterior["covariances"] = posterior["covariances"] * unit[:, None] * unit
    return fit


def component(tree: xr.DataTree, chain: int, draw: int, k: int) -> multivariate_normal:
    one = tree["posterior"].isel(chain=chain, draw=draw, component=k)
    unit = np.array([1.0, 1e3, 1e-3])  # nothing that is tested depends on it
    return multivariate_normal(
        one["means"].values / unit, one["covariances"].values / (unit * unit[:, None])
    )


# Overlap


def test_overlap_is_labelled(tree: xr.DataTree) -> None:
    result = bg.overlap(tree)
    assert list(result) == ["overlap", "misclassification", "bhattacharyya", "kl"]
    assert dict(result.sizes) == {"chain": 2, "draw": 12, "component": 3, "component2": 3}
    for name in result:
        assert result[name].dims == ("chain", "draw", "component", "component2")
    assert result["component2"].values.tolist() == [0, 1, 2]


def test_overlap_against_points_of_a_component(tree: xr.DataTree) -> None:
    """Shares of 40,000 points, within five standard errors and the error of the directions."""
    result = bg.overlap(tree)
    rng = np.random.default_rng(1)
    n = 40_000
    for chain, draw in ((0, 0), (1, 7)):
        weights = tree["posterior"]["weights"].values[chain, draw]
        for k, other in ((0, 1), (1, 0), (2, 0), (1, 2)):
            law, rival = component(tree, chain, draw, k), component(tree, chain, draw, other)
            X = law.rvs(n, random_state=rng)
            ratio = rival.logpdf(X) - law.logpdf(X)
            at = {"chain": chain, "draw": draw, "component": k, "component2": other}
            taken = (ratio + np.log(weights[other] / weights[k]) > 0.0).mean()
            assert abs(result["misclassification"].sel(at) - taken) < 2.5 / np.sqrt(n) + 0.02
            area = np.minimum(1.0, np.exp(ratio)).mean()
            assert abs(result["overlap"].sel(at) - area) < 2.5 / np.sqrt(n) + 0.02
            kl = -ratio.mean()
            assert abs(result["kl"].sel(at) - kl) < 5.0 * ratio.std() / np.sqrt(n)
            root = np.exp(0.5 * ratio)
            coefficient = np.exp(-result["bhattacharyya"].sel(at))
            assert abs(coefficient - root.mean()) < 5.0 * root.std() / np.sqrt(n)


def test_what_overlap_is_bounded_by(tree: xr.DataTree) -> None:
    result = bg.overlap(tree)
    swapped = {"component": "component2", "component2": "component"}
    for name in ("overlap", "bhattacharyya"):
        twin = result[name].rename(swapped).transpose(*result[name].dims)
        np.testing.assert_allclose(result[name], twin, rtol=1e-12)
    coefficient = np.exp(-result["bhattacharyya"])
    assert (result["overlap"] <= coefficient + 0.02).all()  # min(f, g) <= sqrt(f g)
    assert (2.0 * result["bhattacharyya"] <= result["kl"] + 1e-12).all()  # Jensen
    np.testing.assert_array_equal(np.einsum("cdkk->cdk", result["overlap"].values), 1.0)
    for name in ("misclassification", "bhattacharyya", "kl"):
        np.testing.assert_array_equal(np.einsum("cdkk->cdk", result[name].values), 0.0)


def test_overlap_of_one_feature_is_exact() -> None:
    rng = np.random.default_rng(2)
    tree = random_fit(rng.normal(size=30), rng, n_components=2, chains=1, draws=5)
    x = np.linspace(-20.0, 20.0, 400_001)
    posterior = tree["posterior"].isel(chain=0)
    for draw in range(5):
        mean = posterior["means"].values[draw, :, 0]
        deviation = np.sqrt(posterior["covariances"].values[draw, :, 0, 0])
        lower = np.minimum(*(norm(m, s).pdf(x) for m, s in zip(mean, deviation, strict=True)))
        got = bg.overlap(tree)["overlap"].values[0, draw]
        assert got[0, 1] == pytest.approx(lower.sum() * (x[1] - x[0]), abs=1e-6)


def test_one_component_overlaps_with_itself_alone() -> None:
    rng = np.random.default_rng(2)
    tree = random_fit(rng.normal(size=(30, 2)), rng, n_components=1, draws=3)
    result = bg.overlap(tree)
    assert result["overlap"].shape == (2, 3, 1, 1)
    assert (result["overlap"] == 1.0).all()


# Density


def test_density_of_all_features_is_that_of_rows() -> None:
    rng = np.random.default_rng(4)
    tree = random_fit(pd.DataFrame(rng.normal(size=(30, 2)) * 7.0, columns=["a", "b"]), rng)
    a, b = np.linspace(-9.0, 9.0, 7), np.linspace(-3.0, 8.0, 5)
    got = bg.density(tree, {"a": a, "b": b})
    assert got.dims == ("statistic", "a", "b")
    assert got["statistic"].values.tolist() == ["predictive", "lower", "upper"]
    np.testing.assert_array_equal(got["b"], b)
    rows = np.stack(np.meshgrid(a, b, indexing="ij"), axis=-1).reshape(-1, 2)
    expected = np.exp(bg.score_samples(tree, rows).values).reshape(7, 5)
    np.testing.assert_allclose(got.sel(statistic="predictive"), expected, rtol=1e-10)
    other = bg.density(tree, {"b": b, "a": a})
    np.testing.assert_allclose(other.transpose("statistic", "a", "b"), got, rtol=1e-10)


@pytest.mark.parametrize("chosen", [["b"], ["c", "a"]])
def test_other_features_are_integrated_out(tree: xr.DataTree, chosen: list[str]) -> None:
    positions = ["abc".index(label) for label in chosen]
    values = {"a": np.linspace(-2.0, 5.0, 4), "b": np.linspace(-3e3, 2e3, 5),
              "c": np.linspace(-2e-3, 3e-3, 3)}  # fmt: skip
    grid = {label: values[label] for label in chosen}
    drawn = bg.density(tree, grid, probability=None)
    assert drawn.dims == ("chain", "draw", *chosen)
    places = np.stack(np.meshgrid(*grid.values(), indexing="ij"), axis=-1)
    for chain, draw in ((0, 0), (1, 11)):
        one = tree["posterior"].isel(chain=chain, draw=draw)
        expected = sum(
            float(one["weights"][k])
            * multivariate_normal(
                one["means"].values[k, positions],
                one["covariances"].values[k][np.ix_(positions, positions)],
            ).pdf(places)
            for k in range(3)
        )
        np.testing.assert_allclose(drawn.values[chain, draw], np.squeeze(expected), rtol=1e-9)


def test_mean_and_band_are_those_of_the_draws(
    tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = {"a": np.linspace(-5.0, 5.0, 30)}
    drawn = bg.density(tree, grid, probability=None).values.reshape(24, 30)
    whole = bg.density(tree, grid, probability=0.8)
    np.testing.assert_allclose(whole.sel(statistic="predictive"), drawn.mean(axis=0), rtol=1e-12)
    band = np.quantile(drawn, [0.1, 0.9], axis=0)
    np.testing.assert_allclose(whole.sel(statistic=["lower", "upper"]), band, rtol=1e-12)
    assert whole.attrs["probability"] == 0.8
    monkeypatch.setattr("bayesgmm.functionals.CHUNK_BYTES", 8 * 24 * 7)
    xr.testing.assert_allclose(bg.density(tree, grid, probability=0.8), whole, rtol=1e-12)


def test_the_density_of_a_fit_integrates_to_one(tree: xr.DataTree) -> None:
    curve = bg.density(tree, {"b": np.linspace(-3e4, 3e4, 5001)}).sel(statistic="predictive")
    assert float(curve.integrate("b")) == pytest.approx(1.0, abs=1e-6)


def test_a_single_feature_needs_no_name() -> None:
    rng = np.random.default_rng(2)
    tree = random_fit(rng.normal(size=30), rng)
    x = np.linspace(-3.0, 3.0, 9)
    xr.testing.assert_identical(bg.density(tree, x), bg.density(tree, {"x0": x}))
    assert bg.density(tree, [1]).shape == (3, 1)


@pytest.mark.parametrize("name", ["density", "mean", "component", 7])
def test_features_may_have_any_name(name: str | int) -> None:
    rng = np.random.default_rng(2)
    tree = random_fit(pd.DataFrame({name: rng.normal(size=30)}), rng)
    assert bg.density(tree, {name: [0.0, 1.0]}).dims == ("statistic", str(name))


def test_names_of_dimensions_are_refused() -> None:
    rng = np.random.default_rng(2)
    tree = random_fit(pd.DataFrame({"draw": rng.normal(size=30)}), rng)
    with pytest.raises(ValueError, match=r"`grid` must not hold .*; got 'draw'\. Rename"):
        bg.density(tree, {"draw": [0.0]})


# Bad input


@pytest.mark.parametrize(
    ("grid", "error", "match"),
    [
        (
            [1.0],
            TypeError,
            r"`grid` must be a dictionary .* got an object of type list\. Pass {'a'",
        ),
        ({}, ValueError, r"`grid` must hold values of one or two features; got 0\. Choose"),
        ({"a": [1.0], "b": [1.0], "c": [1.0]}, ValueError, r"`grid` .* got 3\. Choose among 'a'"),
        ({"d": [1.0]}, ValueError, r"`grid` must hold features of the fit, 'a', .*; got 'd'\. Ch"),
        ({"a": 1.0}, ValueError, r"`grid` must hold 1-D arrays .* shape \(\) .* for 'a'\. Try"),
        ({"a": []}, ValueError, r"`grid` must hold 1-D arrays .* shape \(0,\)"),
        ({"a": ["x"]}, ValueError, r"`grid` must hold 1-D arrays .* dtype <U1"),
        ({"a": [1.0, np.nan]}, ValueError, r"`grid` must hold finite .* got nan for 'a', place 1"),
    ],
)
def test_bad_grids_are_refused(
    tree: xr.DataTree, grid: object, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        bg.density(tree, grid)


@pytest.mark.parametrize(
    ("probability", "error"), [(0.0, ValueError), (1.0, ValueError), ("0.9", TypeError)]
)
def test_bad_probabilities_are_refused(
    tree: xr.DataTree, probability: object, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"`probability` must .*; got .*0\.9 is usual\."):
        bg.density(tree, {"a": [1.0]}, probability=probability)


def test_too_many_densities_are_refused(tree: xr.DataTree) -> None:
    line = np.zeros(10_000)
    with pytest.raises(ValueError, match=r"`grid` must leave .* under 2 GiB; got 100000000 places"):
        bg.density(tree, {"a": line, "b": line}, probability=None)


@pytest.mark.parametrize("function", ["overlap", "density_modes", "merge_components"])
def test_what_is_not_a_fit_is_refused(tree: xr.DataTree, function: str) -> None:
    with pytest.raises(TypeError, match=r"`tree` must be a fit, .* got an object of type int"):
        getattr(bg, function)(3)
    with pytest.raises(
        ValueError, match=rf"`tree` must hold the group 'constant_data' for `{function}`"
    ):
        getattr(bg, function)(tree.filter(lambda node: node.name != "constant_data"))
    with pytest.raises(ValueError, match=rf"`tree` must have the dimensions .* for `{function}`"):
        getattr(bg, function)(tree.isel(draw=0))
    with pytest.raises(TypeError, match=r"`tree` must be a fit"):
        bg.density("fit.nc", {"a": [1.0]})
