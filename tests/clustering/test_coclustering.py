"""Similarity matrices against sums over draws written out."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesgmm as bg
from bayesgmm.clustering.allocations import label_draws
from bayesgmm.clustering.coclustering import membership, ordered
from tests.synthetic import random_fit
from tests.test_prediction import log_joint


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    rng = np.random.default_rng(8)
    X = pd.DataFrame(rng.normal(size=(25, 2)), index=[f"r{i}" for i in range(25)])
    return random_fit(X.rename(columns=str), rng, n_components=3, chains=2, draws=40)


def naive_similarity(tree: xr.DataTree) -> np.ndarray:
    """The responsibilities of every draw multiplied, by SciPy, and ones on the diagonal."""
    joint = log_joint(tree, tree["observed_data"]["X"].values)
    shares = np.exp(joint - np.logaddexp.reduce(joint, axis=2, keepdims=True))
    result = np.einsum("cdki,cdkj->ij", shares, shares) / (joint.shape[0] * joint.shape[1])
    np.fill_diagonal(result, 1.0)
    return np.asarray(result)


def test_responsibilities_are_multiplied(tree: xr.DataTree) -> None:
    result = bg.similarity(tree)
    assert result.dims == ("obs", "obs2")
    labels = tree["observed_data"]["obs"].values.tolist()
    assert result["obs"].values.tolist() == result["obs2"].values.tolist() == labels
    np.testing.assert_allclose(result, naive_similarity(tree), atol=1e-9)
    np.testing.assert_array_equal(result, result.values.T)
    assert (np.diag(result) == 1.0).all()


def test_blocks_of_draws_do_not_matter(tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, some = bg.similarity(tree), bg.similarity(tree, rows=["r3", "r20"])
    monkeypatch.setattr("bayesgmm.clustering.coclustering.BLOCK_BYTES", 8 * 3 * 25 * 7)
    np.testing.assert_allclose(bg.similarity(tree), whole, atol=1e-14)
    np.testing.assert_allclose(bg.similarity(tree, rows=["r3", "r20"]), some, atol=1e-14)


@pytest.mark.parametrize("method", ["responsibilities", "allocations"])
def test_some_rows_are_those_of_the_whole(tree: xr.DataTree, method: str) -> None:
    whole = bg.similarity(tree, method=method, random_seed=1)
    some = bg.similarity(tree, rows=["r20", "r3"], method=method, random_seed=1)
    assert some["obs"].values.tolist() == ["r20", "r3"]
    np.testing.assert_allclose(some, whole.sel(obs=["r20", "r3"]), atol=1e-14)
    one = bg.similarity(tree, rows="r3", method=method, random_seed=1)
    np.testing.assert_allclose(one, whole.sel(obs=["r3"]), atol=1e-14)


def test_allocations_approach_responsibilities(tree: xr.DataTree) -> None:
    """Many allocations of the same draws; five standard errors."""
    sampled = [bg.similarity(tree, method="allocations", random_seed=s).values for s in range(50)]
    error = 0.5 / np.sqrt(50 * 80)
    np.testing.assert_allclose(np.mean(sampled, axis=0), bg.similarity(tree), atol=5.0 * error)


def test_labels_are_counted(rng: np.random.Generator) -> None:
    labels = rng.integers(0, 4, (37, 12))
    expected = (labels[:, :, None] == labels[:, None, :]).mean(axis=0)
    np.testing.assert_allclose(bg.similarity(labels), expected, rtol=1e-14)
    rows = bg.similarity(labels, rows=[4, 11])
    np.testing.assert_allclose(rows, expected[[4, 11]], rtol=1e-14)


def test_swapped_names_do_not_matter(tree: xr.DataTree) -> None:
    raw = bg.align(tree, "none")
    np.testing.assert_allclose(bg.similarity(raw), bg.similarity(tree), atol=1e-14)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "allocation"}, r"`method` must be one of .*Did you mean 'allocations'"),
        ({"rows": ["r3", "r99"]}, r"`rows` must be labels of rows.*; got 'r99'\. They are 'r0'"),
        ({"rows": []}, r"`rows` must be labels of rows, one at least; got \[\]"),
        ({"rows": [["r1", "r2"]]}, r"`rows` must be labels of rows, one at least; got \[\["),
    ],
)
def test_bad_arguments_are_refused(
    tree: xr.DataTree, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        bg.similarity(tree, **arguments)


def test_labels_have_no_responsibilities() -> None:
    with pytest.raises(ValueError, match=r"`method` must be 'allocations' for labels; got 'respo"):
        bg.similarity([[0, 1]], method="responsibilities")


def test_a_matrix_that_is_too_large_is_refused(
    tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bayesgmm.clustering.coclustering.LARGEST_RESULT", 8 * 25 * 20)
    for source in (tree, np.zeros((2, 25), dtype=int)):
        with pytest.raises(ValueError, match=r"`rows` must leave the result under 2 GiB; got 25"):
            bg.similarity(source)
    assert bg.similarity(tree, rows=["r1"]).shape == (1, 25)


def test_rows_are_found_by_unique_labels(rng: np.random.Generator) -> None:
    X = pd.DataFrame(rng.normal(size=(6, 1)), index=[1, 1, 2, 3, 4, 5], columns=["x"])
    tree = random_fit(X, rng)
    assert bg.similarity(tree).shape == (6, 6)
    with pytest.raises(ValueError, match=r"`rows` must be left out where labels .* not unique"):
        bg.similarity(tree, rows=[1])


def test_membership_is_the_mean_similarity_with_ones_own(rng: np.random.Generator) -> None:
    draws = label_draws(rng.integers(0, 4, (37, 12)), function="test")
    labels = np.array([0] * 6 + [1] * 5 + [2])
    matrix = bg.similarity(draws).values
    result = membership(draws, labels)
    for i in range(11):
        others = (labels == labels[i]) & (np.arange(12) != i)
        np.testing.assert_allclose(result[i], matrix[i, others].mean())
    alone = (draws.values[:, :11] != draws.values[:, 11:]).all(axis=1).mean()
    np.testing.assert_allclose(result[11], alone)


def test_rows_are_ordered_by_likeness_within_clusters() -> None:
    """Two groups in one cluster, rows of which alternate, come out one after the other."""
    group = np.arange(8) % 2
    matrix = np.where(group[:, None] == group, 0.9, 0.4)
    np.fill_diagonal(matrix, 1.0)
    labels = np.array([0] * 6 + [1] * 2)
    order = ordered(matrix, labels)
    assert labels[order].tolist() == [0] * 6 + [1] * 2
    assert np.abs(np.diff(group[order[:6]])).sum() == 1
