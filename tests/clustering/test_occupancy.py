"""The number of clusters, counted."""

import numpy as np
import pytest
import xarray as xr

import bayesgmm as bg
from tests.synthetic import random_fit


@pytest.fixture
def tree(rng: np.random.Generator) -> xr.DataTree:
    return random_fit(rng.normal(size=(12, 2)), rng, n_components=4)


def test_clusters_of_every_draw_are_counted(rng: np.random.Generator) -> None:
    labels = rng.integers(-5, 3, (200, 6)) * 1000
    found = bg.n_clusters(labels)
    expected = np.array([len(set(draw)) for draw in labels.tolist()])
    np.testing.assert_array_equal(found.occupied, expected)
    assert found.n_clusters.values.tolist() == list(range(1, expected.max() + 1))
    for number in found.n_clusters.values:
        assert found.probability.sel(n_clusters=number) == (expected == number).mean()


def test_a_fit_is_its_allocations(tree: xr.DataTree) -> None:
    found = bg.n_clusters(tree, random_seed=3)
    xr.testing.assert_identical(found, bg.n_clusters(tree, random_seed=3))
    allocations = bg.sample_allocations(tree, random_seed=3)
    np.testing.assert_array_equal(found.occupied, bg.n_clusters(allocations).occupied)
    assert found.n_clusters.values.tolist() == [1, 2, 3, 4]
    assert found.probability.sum() == pytest.approx(1.0)


def test_an_empty_component_is_no_cluster(rng: np.random.Generator) -> None:
    """Rows so near to one of two components that the other never holds any."""
    tree = random_fit(rng.normal(0.0, 1e-3, (10, 1)), rng, draws=3)
    posterior = tree["posterior"].to_dataset()
    posterior["means"][..., 1, :] = 1e4
    tree["posterior"] = xr.DataTree(posterior)
    found = bg.n_clusters(tree, random_seed=1)
    assert found.probability.values.tolist() == [1.0, 0.0]
    assert found.occupied.values.tolist() == [1] * 6


def test_the_smallest_cases() -> None:
    assert bg.n_clusters([[7]]).probability.values.tolist() == [1.0]
    assert bg.n_clusters(np.zeros((5, 3), dtype=int)).probability.values.tolist() == [1.0]


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        ([[0.5, 1.0]], TypeError, r"`source` must hold integers; got float64"),
        ([[0, 1], [0]], ValueError, r"`source` must have as many labels in every draw; got 2"),
        (object(), TypeError, r"`source` must be a fit or an array of labels"),
        (xr.DataTree(), ValueError, r"`source` must be a fit, the DataTree"),
    ],
)
def test_what_is_no_draws_is_refused(source: object, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        bg.n_clusters(source)


def test_a_fit_without_its_data_is_refused(tree: xr.DataTree) -> None:
    bare = tree.filter(lambda node: node.name != "observed_data")
    with pytest.raises(ValueError, match=r"must hold the group 'observed_data' for `n_clusters`"):
        bg.n_clusters(bare)
