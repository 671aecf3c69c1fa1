"""Bundled values are those of their sources; simulated mixtures are what they are said to be."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesgmm import names
from bayesgmm.data import prepare
from bayesgmm.datasets import (
    load_airquality,
    load_banknote,
    load_faithful,
    load_galaxies,
    load_iris,
    load_wholesale,
    make_mixture,
)


def test_faithful_is_the_data_set_of_r() -> None:
    cells = load_faithful()
    assert cells.shape == (272, 2)
    assert cells.columns.tolist() == ["eruptions", "waiting"]
    assert cells.iloc[-1].tolist() == [4.467, 74.0]
    # summary(faithful) and sd() in R
    np.testing.assert_allclose(cells.mean(), [3.487783, 70.897059], atol=5e-7)
    np.testing.assert_allclose(cells.std(), [1.141371, 13.594974], atol=5e-7)
    assert cells.min().tolist() == [1.6, 43.0]
    assert cells.max().tolist() == [5.1, 96.0]


def test_iris_is_the_data_set_of_r() -> None:
    cells = load_iris()
    assert cells.shape == (150, 5)
    assert cells["species"].value_counts().to_dict() == {
        "setosa": 50,
        "versicolor": 50,
        "virginica": 50,
    }
    # aggregate(. ~ Species, iris, mean) in R, as in Fisher (1936), table 2
    means = cells.groupby("species").mean()
    np.testing.assert_allclose(
        means,
        [[5.006, 3.428, 1.462, 0.246], [5.936, 2.77, 4.26, 1.326], [6.588, 2.974, 5.552, 2.026]],
    )
    # where the copy of the UCI repository differs
    assert cells.iloc[34, :4].tolist() == [4.9, 3.1, 1.5, 0.2]
    assert cells.iloc[37, :4].tolist() == [4.9, 3.6, 1.4, 0.1]


def test_galaxies_have_their_misprint_mended() -> None:
    velocity = load_galaxies()["velocity"]
    assert velocity.shape == (82,)
    assert velocity.is_monotonic_increasing
    assert velocity.iloc[[0, 77, 81]].tolist() == [9.172, 26.96, 34.279]
    # mean(galaxies) in R is 20828.17, of the uncorrected values
    np.testing.assert_allclose(1000 * velocity.mean() - 270 / 82, 20828.17, atol=5e-3)


def test_banknotes_are_those_of_the_book() -> None:
    cells = load_banknote()
    assert cells.shape == (200, 7)
    assert cells["status"].value_counts().to_dict() == {"genuine": 100, "counterfeit": 100}
    # Flury & Riedwyl (1988)
    means = cells.groupby("status").mean()
    np.testing.assert_allclose(
        means.loc[["genuine", "counterfeit"]],
        [
            [214.969, 129.943, 129.720, 8.305, 10.168, 141.517],
            [214.823, 130.300, 130.193, 10.530, 11.133, 139.450],
        ],
        atol=5e-4,
    )


def test_air_quality_is_the_data_set_of_r_with_its_holes() -> None:
    cells = load_airquality()
    assert cells.shape == (153, 6)
    measured = cells[["ozone", "radiation", "wind", "temperature"]]
    assert measured.isna().sum().tolist() == [37, 7, 0, 0]
    # summary(airquality) and sd() in R
    np.testing.assert_allclose(measured.mean(), [42.12931, 185.9315, 9.957516, 77.88235], rtol=1e-6)
    np.testing.assert_allclose(measured.std(), [32.98788, 90.05842, 3.523001, 9.46527], rtol=1e-6)
    days = cells.groupby("month")["day"]
    assert days.max().to_dict() == {5: 31, 6: 30, 7: 31, 8: 31, 9: 30}
    assert days.is_monotonic_increasing.all()
    assert cells.attrs["units"].keys() == set(measured.columns)


def test_wholesale_customers_are_those_of_the_repository() -> None:
    cells = load_wholesale()
    assert cells.shape == (440, 8)
    assert cells["channel"].value_counts().to_dict() == {"horeca": 298, "retail": 142}
    assert cells["region"].value_counts().to_dict() == {"other": 316, "Lisbon": 77, "Oporto": 47}
    # the table of the repository: minimum, maximum, mean, standard deviation
    spent = cells.iloc[:, :6].agg(["min", "max", "mean", "std"]).T
    np.testing.assert_allclose(
        spent,
        [
            [3, 112151, 12000.30, 12647.329],
            [55, 73498, 5796.27, 7380.377],
            [3, 92780, 7951.28, 9503.163],
            [25, 60869, 3071.93, 4854.673],
            [3, 40827, 2881.49, 4767.854],
            [3, 47943, 1524.87, 2820.106],
        ],
        atol=5e-3,
    )
    assert "CC BY 4.0" in cells.attrs["source"]


@pytest.mark.parametrize(
    "load",
    [load_faithful, load_iris, load_galaxies, load_banknote, load_airquality, load_wholesale],
)
def test_loaders_give_fresh_frames_ready_to_be_fitted(load) -> None:
    cells = load()
    assert cells.attrs["units"]
    assert re.search(r"\((19|20)\d\d\), doi:10\.\d+/", cells.attrs["source"])
    data = prepare(cells.select_dtypes("number"))
    assert data.attrs["units"] == cells.attrs["units"]
    assert cells.isna().any(axis=None) == (load is load_airquality)
    cells.iloc[0, 0] = -1.0
    cells.attrs["units"] = "parsec"
    assert load().iloc[0, 0] > 0
    assert load().attrs["units"] != "parsec"


def closest(means: np.ndarray) -> float:
    distance = np.linalg.norm(means[:, None] - means, axis=-1)
    return float(distance[~np.eye(len(means), dtype=bool)].min())


@given(
    n_components=st.integers(1, 8),
    n_features=st.integers(1, 5),
    separation=st.floats(0.01, 100.0),
    seed=st.integers(0, 10_000),
)
def test_a_simulated_mixture_keeps_its_promises(
    n_components: int, n_features: int, separation: float, seed: int
) -> None:
    data = make_mixture(20, n_components, n_features, separation=separation, random_seed=seed)
    assert data[names.X].dims == ("obs", "feature")
    assert data[names.LABELS].dims == ("obs",)
    for name, dims in names.PARAMETER_DIMS.items():
        assert name not in data or data[name].dims == dims
    covariances, means = data["covariances"].values, data["means"].values
    np.testing.assert_array_equal(covariances, covariances.swapaxes(1, 2))
    spectrum = np.linalg.eigvalsh(covariances)
    assert (spectrum[:, -1] <= 10 * (1 + 1e-9) * spectrum[:, 0]).all()
    variances = np.einsum("kdd->kd", covariances)
    np.testing.assert_allclose(variances.mean(), 1.0, rtol=1e-12)
    average = np.sqrt(variances.mean(axis=1))
    assert average.max() <= 2 * (1 + 1e-12) * average.min()
    np.testing.assert_allclose(means.mean(axis=0), 0.0, atol=1e-10 * separation)
    if n_components > 1:
        np.testing.assert_allclose(closest(means), separation, rtol=1e-12)
    np.testing.assert_allclose(data["weights"], 1 / n_components)


def test_rows_follow_the_stated_mixture() -> None:
    weights = [0.2, 0.5, 0.3]
    data = make_mixture(30_000, 3, 2, weights=weights, random_seed=11)
    labels, values = data["labels"].values, data["X"].values
    counts = np.bincount(labels, minlength=3)
    np.testing.assert_array_equal(data["weights"], weights)
    error = np.sqrt(30_000 * np.multiply(weights, np.subtract(1.0, weights)))
    assert (np.abs(counts - 30_000 * np.array(weights)) < 5 * error).all()
    for k in range(3):
        mean, covariance = data["means"].values[k], data["covariances"].values[k]
        white = np.linalg.solve(np.linalg.cholesky(covariance), (values[labels == k] - mean).T)
        assert (np.abs(white.mean(axis=1)) < 5 / np.sqrt(counts[k])).all()
        assert (np.abs(np.cov(white) - np.eye(2)) < 5 * np.sqrt(2 / counts[k])).all()


def test_the_same_seed_gives_the_same_data() -> None:
    first, again = make_mixture(10, random_seed=5), make_mixture(10, random_seed=5)
    assert first.identical(again)
    assert not first.identical(make_mixture(10, random_seed=6))
    generator = np.random.default_rng(5)
    assert first.identical(make_mixture(10, random_seed=generator))


def test_simulated_rows_are_ready_to_be_fitted() -> None:
    data = make_mixture(50, 2, 3, random_seed=1)
    prepared = prepare(data["X"])
    assert prepared.features.tolist() == ["x0", "x1", "x2"]
    np.testing.assert_array_equal(prepared.values, data["X"])
    assert isinstance(data["labels"].to_series(), pd.Series)
    with pytest.raises(
        TypeError, match=r"got a Dataset .* Pass one of its variables \('X', 'labels'"
    ):
        prepare(data)


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "message"),
    [
        ((0,), {}, ValueError, "`n_obs` must be at least 1; got 0. Give the number of rows"),
        ((10.0,), {}, TypeError, "`n_obs` must be an integer; got 10.0 of type float"),
        ((10, 0), {}, ValueError, "`n_components` must be at least 1; got 0"),
        ((10, 2, True), {}, TypeError, "`n_features` must be an integer; got True"),
        ((10,), {"separation": 0.0}, ValueError, "`separation` must be positive and finite; got"),
        (
            (10, 2),
            {"weights": [0.5, 0.4]},
            ValueError,
            r"`weights` must sum to 1; got 0.9 from \[0.5, 0.4\]. Divide them by their sum.",
        ),
        (
            (10, 3),
            {"weights": [0.5, 0.5]},
            ValueError,
            r"`weights` must hold one number per component, 3; got shape \(2,\): \[0.5, 0.5\]",
        ),
        (
            (10, 2),
            {"weights": [1.0, 0.0]},
            ValueError,
            "`weights` must be positive and finite; got 0.0 for component 1",
        ),
        (
            (10, 2),
            {"weights": [np.nan, 1.0]},
            ValueError,
            "`weights` must be positive and finite; got nan for component 0",
        ),
        (
            (10, 2),
            {"weights": "ab"},
            TypeError,
            "`weights` must be a sequence of numbers; got 'ab'",
        ),
    ],
)
def test_impossible_mixtures_are_refused(arguments, keywords, error, message) -> None:
    with pytest.raises(error, match=message):
        make_mixture(*arguments, random_seed=1, **keywords)
