"""Draws of missing cells."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

import bayesgmm as bg


@pytest.fixture(scope="module")
def holes() -> pd.DataFrame:
    X = bg.datasets.load_faithful().astype(float)
    rng = np.random.default_rng(3)
    X.iloc[rng.choice(272, 60, replace=False), 0] = np.nan
    free = np.flatnonzero(X["eruptions"].notna())
    X.iloc[rng.choice(free, 60, replace=False), 1] = np.nan
    return X


@pytest.fixture(scope="module")
def tree(holes: pd.DataFrame) -> object:
    return bg.fit(holes, 2, draws=250, random_seed=1, progressbar=False)


@pytest.fixture(scope="module")
def point(holes: pd.DataFrame) -> object:
    return bg.fit(holes, 2, method="map", random_seed=1, progressbar=False)


def test_what_is_seen_is_untouched_and_labelled(holes: pd.DataFrame, tree: object) -> None:
    found = bg.impute(tree, draws=5, random_seed=1)
    missing = holes.isna().to_numpy()
    np.testing.assert_array_equal(found["missing"], missing)
    assert dict(found["X"].sizes) == {"imputation": 5, "obs": 272, "feature": 2}
    assert found.feature.values.tolist() == ["eruptions", "waiting"]
    for table in (
        *found["X"].values,
        found["mean"].values,
        *np.moveaxis(found["interval"].values, 2, 0),
    ):
        np.testing.assert_array_equal(table[~missing], holes.to_numpy()[~missing])
        assert np.isfinite(table).all()
    assert (found["sd"].values[~missing] == 0.0).all()
    assert (found["X"].std("imputation").values[missing] > 0.0).all()
    assert bg.impute(tree, draws=5, random_seed=1).identical(found)
    assert not bg.impute(tree, draws=5, random_seed=2).identical(found)


def test_draws_are_of_the_conditional_mixture(point: object) -> None:
    """Of a point the moments are known: those of a mixture of two conditional Normals."""
    X = np.array([[np.nan, 65.0]] * 400)
    found = bg.impute(point, X, draws=100, random_seed=1)
    posterior = point.posterior.isel(chain=0, draw=0)
    weights, means = posterior.weights.values, posterior.means.values
    covariances = posterior.covariances.values
    gain = covariances[:, 0, 1] / covariances[:, 1, 1]
    centers = means[:, 0] + gain * (65.0 - means[:, 1])
    variances = covariances[:, 0, 0] - gain * covariances[:, 0, 1]
    share = weights * norm(means[:, 1], np.sqrt(covariances[:, 1, 1])).pdf(65.0)
    share /= share.sum()
    mean = share @ centers
    variance = share @ (variances + (centers - mean) ** 2)
    drawn = found["X"].values[:, :, 0].ravel()
    assert abs(drawn.mean() - mean) < 5.0 * np.sqrt(variance / drawn.size)
    below = share @ norm(centers, np.sqrt(variances)).cdf(3.0)
    assert abs((drawn < 3.0).mean() - below) < 5.0 * np.sqrt(below * (1.0 - below) / drawn.size)
    np.testing.assert_allclose(found["mean"].values[:, 0].mean(), mean, rtol=0.01)
    np.testing.assert_allclose(found["sd"].values[:, 0].mean(), np.sqrt(variance), rtol=0.02)


def test_tables_differ_by_the_parameters_too(tree: object, point: object) -> None:
    """Where nothing but a far tail is seen the regression is uncertain, and draws show it."""
    far = np.array([[np.nan, 130.0]])
    wide = bg.impute(tree, far, random_seed=1)["sd"].values[0, 0]
    narrow = bg.impute(point, far, random_seed=1)["sd"].values[0, 0]
    assert wide > 1.1 * narrow


def test_intervals_cover_what_was_hidden(holes: pd.DataFrame, tree: object) -> None:
    X = bg.datasets.load_faithful().to_numpy(dtype=float)
    found = bg.impute(tree, random_seed=1)
    missing, bounds = found["missing"].values, found["interval"].values
    low, high = bounds[..., 0], bounds[..., 1]
    inside = ((low <= X) & (high >= X))[missing]
    p = found.attrs["ci_prob"]
    assert abs(inside.mean() - p) < 5.0 * np.sqrt(p * (1.0 - p) / inside.size)


def test_errors_are_not_drawn(rng: np.random.Generator) -> None:
    """What is drawn is the cell itself, so that its spread is that of the component."""
    x = rng.normal(size=(400, 2))
    noise = np.full((400, 2), 1.5)
    X = x + noise * rng.normal(size=(400, 2))
    X[:200, 0] = np.nan
    tree = bg.fit(X, 1, method="map", measurement_error=noise, random_seed=1, progressbar=False)
    found = bg.impute(tree, random_seed=1)
    scale = tree.posterior.scales.values[0, 0, 0, 0]
    assert scale < 1.3
    np.testing.assert_allclose(found["sd"].values[:200, 0].mean(), scale, rtol=0.1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"draws": 0}, ValueError, "`draws` must be at least 1; got 0"),
        ({"draws": 2.5}, TypeError, "`draws` must be an integer; got 2.5"),
        ({"draws": 10**6}, ValueError, r"`draws` must leave the result under 2 GiB; got 1000000"),
        ({"random_seed": -1}, ValueError, "`random_seed` must be at least 0; got -1"),
        ({"X_new": [[1.0]]}, ValueError, r"`X_new` must have the 2 fitted columns"),
        (
            {"X_new": [[np.nan, np.nan]]},
            ValueError,
            r"number in every row.*missing cells .* in row 0",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    tree: object, arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        bg.impute(tree, **arguments)
