"""What is known of rows in blocks is what is known of them together."""

import numpy as np
import pytest
from numpy.typing import NDArray

import bayesgmm as bg
from bayesgmm.data import center_and_unit
from bayesgmm.inference import survey as room
from bayesgmm.inference.survey import Survey, checksum, merged, survey

type Array = NDArray[np.float64]


def surveyed(X: Array, n_blocks: int) -> Survey:
    parts, at = [], 0
    for block in np.array_split(X, n_blocks):
        parts.append(survey(block, at, np.arange(len(block))))
        at += len(block)
    while len(parts) > 1:  # a tree
        parts = [merged(parts[i : i + 3]) for i in range(0, len(parts), 3)]
    return parts[0]


@pytest.mark.parametrize("offset", [0.0, 1e9])
@pytest.mark.parametrize("structure", ["full", "spherical"])
def test_priors_and_units_are_those_of_all_rows(
    rng: np.random.Generator, offset: float, structure: str
) -> None:
    X = offset + rng.normal(size=(400, 3)) * [1.0, 5.0, 0.1]
    X[:, 1] = X[:, 1].round(1)
    X[rng.random(400) < 0.3, 0] = np.nan
    X[20:60, 2] = np.nan  # whole blocks of a feature
    spec = bg.GaussianMixture(2, covariance=bg.LKJCovariance(structure=structure))
    expected, (center, unit) = spec.resolve(X), center_and_unit(X, structure == "spherical")
    for n_blocks in (1, 7, 100):
        found = surveyed(X, n_blocks)
        ours = found.resolve(spec)
        np.testing.assert_allclose(ours.means.location, expected.means.location, rtol=1e-14)
        np.testing.assert_allclose(ours.means.scale, expected.means.scale, rtol=1e-12)
        np.testing.assert_allclose(ours.covariance.scale, expected.covariance.scale, rtol=1e-12)
        np.testing.assert_allclose(ours.covariance.floor, expected.covariance.floor, rtol=1e-12)
        got = found.center_and_unit(structure == "spherical")
        np.testing.assert_allclose(got, (center, unit), rtol=1e-12)
        np.testing.assert_array_equal(found.sample, X)
        assert len(found.sums) == n_blocks


def test_values_that_repeat_in_different_blocks_only_are_seen() -> None:
    X = np.array([[0.0], [1.0], [2.0], [0.0]])
    assert surveyed(X, 4).grain.tolist() == [0.5]
    assert surveyed(X[:3], 3).grain.tolist() == [0.0]


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
    X = rng.normal(size=(50, 2))
    other = X.copy()
    other[31, 1] = np.nextafter(other[31, 1], 9.0)
    assert checksum(X) != checksum(other)
    assert checksum(X) == checksum(X.copy())
