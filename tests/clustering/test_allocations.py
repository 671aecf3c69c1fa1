"""Allocations sampled from a fit, and the gate that all matrices of labels pass."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesgmm as bg
from bayesgmm.clustering.allocations import label_draws
from bayesgmm.kernels.partition_loss import compacted
from tests.synthetic import random_fit


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(rng.normal(size=(30, 2)), index=[f"r{i}" for i in range(30)])
    frame.columns = ["a", "b"]
    return random_fit(frame, rng, n_components=3, chains=2, draws=400)


def test_allocations_have_the_probabilities_of_the_draws(tree: xr.DataTree) -> None:
    """Frequencies over the draws against the mean responsibilities, five standard errors apart."""
    labels = bg.sample_allocations(tree, random_seed=1)
    assert labels.dims == ("chain", "draw", "obs")
    assert labels["obs"].values.tolist() == [f"r{i}" for i in range(30)]
    assert labels.dtype == np.int32
    expected = bg.predict_proba(tree)
    for k in range(3):
        share = (labels == k).mean(("chain", "draw"))
        error = np.sqrt(0.25 / 800)
        assert abs(share - expected.sel(component=k, drop=True)).max() < 5.0 * error


def test_each_draw_has_its_own_probabilities(tree: xr.DataTree) -> None:
    """One draw, the same row many times."""
    one = tree.isel(chain=[1], draw=[7])
    X = np.repeat(one["observed_data"]["X"].values[:1], 4000, axis=0)
    share = np.bincount(bg.sample_allocations(one, X, random_seed=2).values.ravel(), minlength=3)
    expected = bg.predict_proba(one, X[:1]).values[0]
    error = np.sqrt(expected * (1.0 - expected) / 4000)
    assert (abs(share / 4000 - expected) <= 5.0 * error + 1e-12).all()


def test_blocks_do_not_matter(tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bg.sample_allocations(tree, random_seed=3)
    monkeypatch.setattr("bayesgmm.clustering.allocations.BLOCK_BYTES", 8 * 800 * 3 * 7)
    xr.testing.assert_identical(whole, bg.sample_allocations(tree, random_seed=3))
    assert not whole.equals(bg.sample_allocations(tree, random_seed=4))


def test_too_many_allocations_are_refused(
    tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bayesgmm.clustering.allocations.LARGEST_RESULT", 4 * 800 * 29)
    with pytest.raises(ValueError, match=r"`tree` must .* got 800 draws of 30 rows.* Thin the"):
        bg.sample_allocations(tree, random_seed=1)


def test_one_component_is_one_cluster() -> None:
    rng = np.random.default_rng(1)
    tree = random_fit(rng.normal(size=(6, 1)), rng, n_components=1)
    assert (bg.sample_allocations(tree, random_seed=1) == 0).all()


LABELS = np.array([[7, 7, -2, 900], [1, 0, 0, 1]])
COMPACT = [[0, 0, 1, 2], [0, 1, 1, 0]]


@pytest.mark.parametrize(
    "source",
    [
        LABELS,
        LABELS.tolist(),
        LABELS.astype(np.int16),
        pd.DataFrame(LABELS),
        xr.DataArray(LABELS, dims=("draw", "obs")),
        xr.DataArray(LABELS.T, dims=("obs", "draw")),
        xr.DataArray(LABELS[None], dims=("chain", "draw", "obs")),
        np.array([[2**62, 2**62, 5, -(2**62)], [1, 0, 0, 1]]),
        np.array([[2**63, 2**63, 5, 6], [1, 0, 0, 1]], dtype=np.uint64),
    ],
)
def test_labels_are_numbered_by_first_rows(source: Any) -> None:
    draws = label_draws(source, function="partition")
    assert draws.dims == ("draw", "obs")
    assert draws.dtype == np.int32
    assert draws.values.tolist() == COMPACT


def test_chains_come_one_after_another_and_rows_keep_their_labels() -> None:
    stacked = xr.DataArray(
        np.arange(12).reshape(2, 3, 2) % 2, dims=("chain", "draw", "obs"),
        coords={"obs": ["a", "b"], "weight": ("obs", [1.0, 2.0])},
    )  # fmt: skip
    draws = label_draws(stacked, function="partition")
    assert draws.shape == (6, 2)
    assert draws["obs"].values.tolist() == ["a", "b"]
    assert draws["weight"].values.tolist() == [1.0, 2.0]
    frame = pd.DataFrame([[1, 2]], columns=["a", "b"])
    assert label_draws(frame, function="partition")["obs"].values.tolist() == ["a", "b"]


def test_a_fit_is_sampled(tree: xr.DataTree) -> None:
    draws = label_draws(tree, random_seed=1, function="partition")
    sampled = bg.sample_allocations(tree, random_seed=1).values.reshape(800, 30)
    np.testing.assert_array_equal(draws, compacted(sampled.astype(np.int64), 3))
    assert draws["obs"].values.tolist() == tree["observed_data"]["obs"].values.tolist()


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (np.zeros(5, int), ValueError, r"2-D, draws by rows; got shape \(5,\).*source\[None, :\]"),
        (np.zeros((2, 2, 2), int), ValueError, r"2-D.*got shape \(2, 2, 2\).*reshape"),
        (np.zeros((0, 3), int), ValueError, r"at least one draw and one row; got shape \(0, 3\)"),
        (np.zeros((3, 0), int), ValueError, r"at least one draw and one row; got shape \(3, 0\)"),
        ([[1, 2], [1, 2], [3]], ValueError, r"as many labels.*got 2 in draw 0 and 1 in draw 2"),
        ([[1.0, 2.0]], TypeError, r"integers; got float64 labels\. Convert it: `source.astype"),
        ([[1.0, 2.5]], TypeError, r"integers; got float64 labels, 2.5 at draw 0, row 1"),
        ([[1.0, np.nan]], TypeError, r"integers; got float64 labels, nan at draw 0, row 1.*Drop"),
        ([["a", "b"]], TypeError, r"integers; got <U1 labels\. Number the clusters"),
        ([[1, None]], TypeError, r"integers; got object labels"),
        ([[True, False]], TypeError, r"integers; got bool labels\. Convert it"),
        (np.ma.masked_equal([[1, 2], [3, 4]], 3), ValueError, r"got none at draw 1, row 0"),
        (xr.DataArray([[1, 2]]), ValueError, r"dimensions 'draw' and 'obs'.*got 'dim_0', 'dim_1'"),
        (
            xr.DataArray(np.zeros((2, 0), int), dims=("draw", "obs")),
            ValueError,
            r"at least one draw and one row; got shape \(2, 0\)",
        ),
        (xr.DataArray([1, 2], dims="obs"), ValueError, r"dimensions 'draw' and 'obs'.*got 'obs'"),
        (xr.Dataset({"z": 1}), TypeError, r"got a Dataset\. Pass one of its variables \('z'\)"),
        (None, TypeError, r"a fit or an array of labels.*got an object of type NoneType"),
        (3, TypeError, r"a fit or an array of labels.*got an object of type int"),
        ("fit.nc", TypeError, r"got 'fit.nc'\. Load it first"),
        (xr.DataTree(), ValueError, r"got a DataTree without the attribute 'bayesgmm_schema'"),
        (
            pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("a", 2)])),
            TypeError,
            r"got a MultiIndex of 2 levels",
        ),
    ],
)
def test_what_is_no_matrix_of_labels_is_refused(
    source: Any, error: type[Exception], message: str
) -> None:
    for function in (bg.partition, bg.similarity):
        with pytest.raises(error, match=r"(?s)`source.*` must " + r".*?" + message):
            function(source)


def test_a_tree_without_its_data_is_refused(tree: xr.DataTree) -> None:
    bare = tree.copy()
    del bare["observed_data"]
    with pytest.raises(ValueError, match=r"`source` must hold the group 'observed_data' for `part"):
        bg.partition(bare)


def test_bad_seeds_are_refused(tree: xr.DataTree) -> None:
    for function in (bg.sample_allocations, bg.partition):
        with pytest.raises(TypeError, match=r"`random_seed` must be an integer; got 1.5"):
            function(tree, random_seed=1.5)
