"""The partition with the least expected loss: never worse than those that anyone could try."""

from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

import bayesgmm as bg
from bayesgmm.clustering.partitions import by_size
from bayesgmm.kernels.partition_loss import LOSSES, all_partitions, compacted, expected_losses

type Labels = NDArray[np.int32]


@pytest.fixture
def labels(rng: np.random.Generator) -> Labels:
    """Draws around one partition of 60 rows, some of them far astray."""
    middle, astray = rng.integers(0, 5, 60), rng.beta(0.5, 1.0, 60)
    other = rng.integers(0, 7, (150, 60))
    return compacted(np.where(rng.random((150, 60)) < astray, other, middle), 7)


def cuts(labels: Labels, method: str) -> Labels:
    """Every cut of a linkage of the similarity matrix."""
    n = labels.shape[1]
    apart = (labels[:, :, None] != labels[:, None, :]).mean(axis=0)[np.triu_indices(n, 1)]
    tree = linkage(apart, method)
    return compacted(
        np.stack([fcluster(tree, k, "maxclust") for k in range(1, n + 1)]).astype(np.int64), n + 1
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_no_draw_and_no_cut_is_better(labels: Labels, loss: str) -> None:
    best = bg.partition(labels, loss, random_seed=1)
    everything = np.concatenate([labels, cuts(labels, "average"), cuts(labels, "complete")])
    least = expected_losses(labels, everything, LOSSES[loss]).min()
    assert best.attrs["expected_loss"] <= least + 1e-12
    again = expected_losses(labels, best.values[None].astype(np.int32), LOSSES[loss])[0]
    np.testing.assert_allclose(best.attrs["expected_loss"], again, rtol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_few_rows_are_enumerated(rng: np.random.Generator, loss: str) -> None:
    for n in (1, 2, 6, 9):
        draws = rng.integers(0, 3, (12, n))
        best = bg.partition(draws, loss)
        everything = all_partitions(n, n)
        losses = expected_losses(compacted(draws, 3), everything, LOSSES[loss])
        assert best.attrs["enumerated"] == 1
        np.testing.assert_allclose(best.attrs["expected_loss"], losses.min(), atol=1e-12)


def test_few_rows_are_searched_as_well(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search comes to the loss that enumeration proves to be the least."""
    draws = rng.integers(0, 4, (30, 8))
    for loss in LOSSES:
        exact = bg.partition(draws, loss)
        with monkeypatch.context() as patch:
            patch.setattr("bayesgmm.clustering.partitions.MOST_ENUMERATED", 0)
            searched = bg.partition(draws, loss, random_seed=1)
        assert searched.attrs["enumerated"] == 0
        np.testing.assert_allclose(
            searched.attrs["expected_loss"], exact.attrs["expected_loss"], atol=1e-12
        )


def test_the_price_of_mistakes_moves_the_number_of_clusters(labels: Labels) -> None:
    few, many = (bg.partition(labels, "vi", a=a, random_seed=1) for a in (1.7, 0.4))
    assert few.attrs["n_clusters"] < many.attrs["n_clusters"]
    assert few.attrs["a"] == 1.7
    joined = bg.partition(labels, "binder", a=2.0, random_seed=1)
    assert joined.attrs["n_clusters"] == 1


def test_at_most_so_many_clusters(labels: Labels) -> None:
    free = bg.partition(labels, "binder", random_seed=1)
    bound = bg.partition(labels, "binder", max_clusters=2, random_seed=1)
    assert bound.attrs["n_clusters"] == 2 < free.attrs["n_clusters"]
    assert bound.attrs["expected_loss"] > free.attrs["expected_loss"]


def test_labels_of_draws_and_of_rows_do_not_matter(
    labels: Labels, rng: np.random.Generator
) -> None:
    best = bg.partition(labels, random_seed=1)
    renamed = np.stack([rng.permutation(7)[draw] * 11 - 5 for draw in labels])
    xr.testing.assert_identical(bg.partition(renamed, random_seed=1), best)
    order = rng.permutation(60)
    shuffled = bg.partition(labels[:, order], random_seed=1)
    np.testing.assert_allclose(shuffled.attrs["expected_loss"], best.attrs["expected_loss"])


def test_cores_do_not_matter(labels: Labels, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for n_cores in (1, 2, 5):
        monkeypatch.setattr("bayesgmm.kernels.threads.n_cores", lambda n=n_cores: n)
        results.append(bg.partition(labels, "nvi", n_runs=5, random_seed=3))
    xr.testing.assert_identical(results[0], results[1])
    xr.testing.assert_identical(results[0], results[2])


def test_a_fit_gives_labelled_clusters() -> None:
    X = bg.datasets.make_mixture(90, 3, 2, separation=8.0, random_seed=3)
    tree = bg.fit(X["X"], 3, draws=100, chains=2, random_seed=1, progressbar=False)
    best = bg.partition(tree, random_seed=1)
    assert best.dims == ("obs",)
    xr.testing.assert_equal(best["obs"], tree["observed_data"]["obs"])
    assert best.attrs["n_clusters"] == 3
    assert best.attrs["n_runs_at_best"] == best.attrs["n_runs"] == 16
    sizes = np.bincount(best)
    assert (np.diff(sizes) <= 0).all()
    truth = compacted(X["labels"].values[None].astype(np.int64), 3)
    assert expected_losses(truth, best.values[None].astype(np.int32), LOSSES["vi"])[0] < 0.1


def test_points_that_are_never_parted_are_one_cluster() -> None:
    best = bg.partition(np.zeros((20, 30), dtype=int), random_seed=1)
    assert best.attrs["n_clusters"] == 1
    assert best.attrs["expected_loss"] == 0.0
    alone = bg.partition(np.tile(np.arange(30), (4, 1)), "omari", random_seed=1)
    assert alone.attrs["n_clusters"] == 30


def test_large_inputs_take_a_shortlist_and_no_matrix(
    labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left out of the starts, the search finds by itself."""
    best = bg.partition(labels, random_seed=1)
    monkeypatch.setattr("bayesgmm.clustering.partitions.MOST_LINKED", 10)
    monkeypatch.setattr("bayesgmm.clustering.partitions.COMPARED", 1000)
    few = bg.partition(labels, random_seed=1)
    np.testing.assert_allclose(few.attrs["expected_loss"], best.attrs["expected_loss"])


def test_clusters_are_ordered_by_size() -> None:
    assert by_size(np.array([0, 1, 1, 2, 2, 2, 3])).tolist() == [2, 1, 1, 0, 0, 0, 3]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"loss": "vii"}, ValueError, r"`loss` must be one of 'vi', .*; got 'vii'.*mean 'vi'"),
        ({"loss": "omar"}, ValueError, r"`loss` must be one of .*Did you mean 'omari'"),
        ({"a": -0.1}, ValueError, r"`a` must lie between 0 and 2; got -0.1"),
        ({"a": float("nan")}, ValueError, r"`a` must lie between 0 and 2; got nan"),
        ({"a": "1"}, TypeError, r"`a` must be a number; got '1' of type str"),
        ({"a": 0.5, "loss": "id"}, ValueError, r"`a` must be 1 for the loss 'id'.*; got 0.5"),
        ({"max_clusters": 0}, ValueError, r"`max_clusters` must be at least 1; got 0"),
        ({"n_runs": 0}, ValueError, r"`n_runs` must be at least 1; got 0"),
        ({"n_runs": 2.0}, TypeError, r"`n_runs` must be an integer; got 2.0"),
    ],
)
def test_bad_arguments_are_refused(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        bg.partition([[0, 1]], **arguments)


def test_tables_that_would_not_fit_are_refused(
    labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bayesgmm.clustering.partitions.LARGEST_TABLES", 12 * 8 * 150 * 3)
    with pytest.raises(ValueError, match=r"`max_clusters` must leave the tables .*; got \d+ "):
        bg.partition(labels, random_seed=1)
    alone = np.tile(np.arange(30), (3, 1))
    monkeypatch.setattr("bayesgmm.clustering.partitions.LARGEST_TABLES", 12 * 8 * 90)
    with pytest.raises(ValueError, match=r"got \d+ clusters that might be wanted, with 90 in all"):
        bg.partition(alone, random_seed=1)
    few = bg.partition(alone, max_clusters=6, random_seed=1)
    assert few.attrs["n_clusters"] <= 6
