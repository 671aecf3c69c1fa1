"""What is known of rows in blocks is what is known of them together."""

import numpy as np
import pytest
from numpy.typing import NDArray

import bayesgmm as bg
from bayesgmm.chunked_rows import Reader, Rows
from bayesgmm.data import center_and_unit
from bayesgmm.inference import survey as room
from bayesgmm.inference.survey import Survey, checksum, merged, random_keys, survey

type Array = NDArray[np.float64]


def surveyed(X: Array, n_blocks: int, **said: Array) -> Survey:
    reader = Reader([f"x{j}" for j in range(X.shape[1])], 2, ("obs",), (len(X),))
    parts = []
    for which in np.array_split(np.arange(len(X)), n_blocks):
        of_block = {name: values[which] for name, values in said.items()}
        parts.append(survey(X[which], of_block, (int(which[0]),), reader, 1))
    while len(parts) > 1:  # a tree
        parts = [merged(parts[i : i + 3]) for i in range(0, len(parts), 3)]
    assert isinstance(parts[0], Survey)
    return parts[0]


@pytest.mark.parametrize("offset", [0.0, 1e9])
@pytest.mark.parametrize("structure", ["full", "spherical"])
@pytest.mark.parametrize("weighted", [False, True])
def test_priors_and_units_are_those_of_all_rows(
    rng: np.random.Generator, offset: float, structure: str, weighted: bool
) -> None:
    X = offset + rng.normal(size=(400, 3)) * [1.0, 5.0, 0.1]
    X[:, 1] = X[:, 1].round(1)
    X[rng.random(400) < 0.3, 0] = np.nan
    X[20:60, 2] = np.nan  # whole blocks of a feature
    spec = bg.GaussianMixture(2, covariance=bg.LKJCovariance(structure=structure))
    said, counted = {}, (X, None)
    if weighted:
        weights = rng.integers(3, size=400) * 0.7
        said, counted = {"sample_weight": weights}, (X[weights > 0.0], weights[weights > 0.0])
    expected = spec.resolve(*counted)
    center, unit = center_and_unit(counted[0], structure == "spherical", counted[1])
    for n_blocks in (1, 7, 100):
        found = surveyed(X, n_blocks, **said)
        ours = found.resolve(spec)
        np.testing.assert_allclose(ours.means.location, expected.means.location, rtol=1e-14)
        np.testing.assert_allclose(ours.means.scale, expected.means.scale, rtol=1e-12)
        np.testing.assert_allclose(ours.covariance.scale, expected.covariance.scale, rtol=1e-12)
        np.testing.assert_allclose(ours.covariance.floor, expected.covariance.floor, rtol=1e-12)
        got = found.center_and_unit(structure == "spherical")
        np.testing.assert_allclose(got, (center, unit), rtol=1e-12)
        np.testing.assert_array_equal(found.rows.values, X)
        assert len(found.sums) == n_blocks


def test_values_that_repeat_in_different_blocks_only_are_seen() -> None:
    X = np.array([[0.0], [1.0], [2.0], [0.0]])
    assert surveyed(X, 4).grain.tolist() == [0.5]
    assert surveyed(X[:3], 3).grain.tolist() == [0.0]


def test_a_value_repeats_if_its_weights_are_those_of_two_rows() -> None:
    X = np.array([[0.0], [1.0], [2.0], [0.0], [1.0]])
    weights = np.array([0.9, 1.0, 5.0, 0.9, 0.0])
    assert surveyed(X, 5, sample_weight=weights).grain.tolist() == [0.5]
    weights[2] = 1.9
    assert surveyed(X, 5, sample_weight=weights).grain.tolist() == [0.0]


def test_the_sample_is_the_same_however_rows_are_cut(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SAMPLE_ROWS", 60)
    monkeypatch.setattr(room, "LABELLED_ROWS", 5)
    X = rng.normal(size=(2000, 2))
    labels, weights = np.full(2000, -1), np.ones(2000)
    labels[500:510], weights[1000:] = 1, 0.0
    whole, cut = (
        surveyed(X, n, labels=labels, sample_weight=weights).rows for n in (1, 9)
    )  # fmt: skip
    for ours, theirs in zip(whole, cut, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert 60 <= len(whole.values) <= 65
    assert 5 <= (whole.allowed == [0.0, 1.0]).all(axis=1).sum() <= 6
    assert whole.numbers.max() < 1000
    assert (np.diff(whole.numbers) > 0).all()
    np.testing.assert_array_equal(whole.values, X[whole.numbers])


def test_random_keys_are_uniform() -> None:
    keys = random_keys(np.arange(100_000), 7)
    assert keys.min() >= 0.0
    assert keys.max() < 1.0
    counts = np.histogram(keys, 50, (0.0, 1.0))[0]
    assert abs(counts - 2000.0).max() < 5.0 * 2000.0**0.5
    assert abs(np.corrcoef(keys[1:], keys[:-1])[0, 1]) < 5.0 / 100_000.0**0.5
    assert (keys != random_keys(np.arange(100_000), 8)).all()


def test_labels_tell_components_apart() -> None:
    X = np.arange(6.0)[:, None]
    assert surveyed(X, 3, labels=np.full(6, -1)).totals.named.tolist() == [0, 0]
    assert surveyed(X, 3, labels=np.array([-1, -1, -1, -1, -1, 0])).totals.named.tolist() == [0, 1]


def test_of_many_distinct_values_some_are_kept(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "DISTINCT", 50)
    X = rng.integers(1000, size=(2000, 1)) / 8.0
    found = surveyed(X, 9)
    assert found.distinct[0].values.size <= 50
    assert found.grain[0] == 0.0625
    assert surveyed(np.sort(X, axis=0), 9).grain[0] == 0.0625


def test_the_first_that_is_unusable_is_told() -> None:
    X = np.ones((9, 2))
    X[4, 1], X[7, 0] = np.inf, -np.inf
    X[[5, 8]] = np.nan
    found = surveyed(X, 4)
    assert found.infinite == (2, 4, 1)
    assert found.empty == (2, 5)


def test_a_checksum_changes_with_any_cell(rng: np.random.Generator) -> None:
    X, weights = rng.normal(size=(50, 2)), rng.random(50)
    other = X.copy()
    other[31, 1] = np.nextafter(other[31, 1], 9.0)
    rows = Rows(X, np.arange(50), weights, None, None)
    assert checksum(rows) != checksum(rows._replace(values=other))
    assert checksum(rows) != checksum(rows._replace(sample_weight=weights * 2.0))
    assert checksum(rows) == checksum(rows._replace(values=X.copy()))
