"""The search, and the costs that it goes by, against losses computed anew."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bayesgmm.kernels.allocation_costs import (
    BATCH,
    clear,
    empty_state,
    fill_costs,
    make_task,
    put,
    take,
)
from bayesgmm.kernels.partition_loss import (
    LOSSES,
    all_partitions,
    compacted,
    distances,
    expected_losses,
)
from bayesgmm.kernels.salso import search

type Labels = NDArray[np.int32]


def draws_of(rng: np.random.Generator, n_draws: int, n: int, n_clusters: int) -> Labels:
    """Draws around one partition, each row astray with a probability of its own."""
    middle, astray = rng.integers(0, n_clusters, n), rng.beta(0.5, 1.5, n)
    other = rng.integers(0, n_clusters, (n_draws, n))
    return compacted(np.where(rng.random((n_draws, n)) < astray, other, middle), n_clusters)


def found_by(
    labels: Labels, loss: int, a: float = 1.0, most: int = 1000, start: Any = (), seed: int = 1
) -> Labels:
    """Return what one search finds, in tables as wide as need be."""
    task, n_lines = make_task(labels, loss, a, most)
    found = np.empty(labels.shape[1], dtype=np.int32)
    first = np.array(start, dtype=np.int32)
    n_columns = BATCH
    while not search(task, n_lines, n_columns, first, np.array([seed], dtype=np.uint64), found):
        n_columns += BATCH
    return compacted(found[None].astype(np.int64), n_columns)[0]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("n_clusters", [3, 7, 8, 11])
def test_costs_differ_as_losses_do(rng: np.random.Generator, loss: str, n_clusters: int) -> None:
    """Of a row that is nowhere, then of one that has a place, the latter bounded from above."""
    labels = draws_of(rng, 20, 30, 4)
    chosen = (np.arange(30) % n_clusters).astype(np.int32)
    a = 0.7 if loss in ("vi", "binder") else 1.0
    task, n_lines = make_task(labels, LOSSES[loss], a, 30)
    unit = {"vi": 20.0 * 30.0, "binder": 20.0 * 900.0}.get(loss, 20.0)
    n_columns = 16
    state = empty_state(n_lines, n_columns, 20, 30, task.g)
    for i in range(30):
        put(state, task, i, chosen[i])
    for row, placed in ((4, False), (11, True), (26, True)):
        if not placed:
            take(state, task, row)
        fill_costs(state, task, row, n_clusters - 1, n_clusters)
        candidates = np.repeat(chosen[None], n_clusters + 1, axis=0)
        candidates[:, row] = np.arange(n_clusters + 1)
        candidates = compacted(candidates.astype(np.int64), n_clusters + 1)
        expected = unit * expected_losses(labels, candidates, LOSSES[loss], a)
        got = state.cost[: n_clusters + 1] + 0.0
        shift = expected[n_clusters] - got[n_clusters]
        own = chosen[row] if placed else -1
        others = np.arange(n_clusters + 1) != own
        np.testing.assert_allclose(got[others] + shift, expected[others], rtol=1e-11)
        if placed and got[own] > got[others].min():
            np.testing.assert_allclose(got[own] + shift, expected[own], rtol=1e-11)
        elif placed:
            assert got[own] + shift >= expected[own] - 1e-9
        if not placed:
            put(state, task, row, chosen[row])


@pytest.mark.parametrize("loss", ["vi", "nid"])
def test_a_column_is_cleared_as_row_by_row(rng: np.random.Generator, loss: str) -> None:
    labels = draws_of(rng, 12, 30, 4)
    task, n_lines = make_task(labels, LOSSES[loss], 1.0, 30)
    one, other = (empty_state(n_lines, 2 * BATCH, 12, 30, task.g) for _ in range(2))
    for i in range(30):
        put(one, task, i, i % 10)
        put(other, task, i, i % 10)
    clear(one, task, 9)
    for i in range(9, 30, 10):
        take(other, task, i)
    for got, expected in zip(one[:7], other[:7], strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-11)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_search_finds_what_enumeration_finds(rng: np.random.Generator, loss: str) -> None:
    """The best of a few runs is the best of all partitions, whatever the draws."""
    for n in (2, 4, 6, 7):
        everything = all_partitions(n, n)
        for n_clusters in (1, 2, 5):
            labels = draws_of(rng, 15, n, n_clusters)
            for a in (1.0, 0.4, 1.8) if loss in ("vi", "binder") else (1.0,):
                least = expected_losses(labels, everything, LOSSES[loss], a).min()
                found = np.stack([found_by(labels, LOSSES[loss], a, seed=s) for s in range(1, 9)])
                got = expected_losses(labels, found, LOSSES[loss], a).min()
                np.testing.assert_allclose(got, least, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_no_single_move_betters_what_is_found(rng: np.random.Generator, loss: str) -> None:
    labels = draws_of(rng, 40, 35, 5)
    found = found_by(labels, LOSSES[loss])
    least = expected_losses(labels, found[None], LOSSES[loss])[0]
    top = int(found.max()) + 1
    moved = np.repeat(found[None], 35 * (top + 1), axis=0)
    moved[np.arange(len(moved)), np.repeat(np.arange(35), top + 1)] = np.tile(
        np.arange(top + 1), 35
    )
    moved = compacted(moved.astype(np.int64), top + 1)
    assert (expected_losses(labels, moved, LOSSES[loss]) >= least - 1e-9).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_a_start_is_only_bettered(rng: np.random.Generator, loss: str) -> None:
    labels = draws_of(rng, 30, 25, 4)
    before = expected_losses(labels, labels, LOSSES[loss])
    after = np.stack([found_by(labels, LOSSES[loss], start=start) for start in labels[:10]])
    assert (expected_losses(labels, after, LOSSES[loss]) <= before[:10] + 1e-9).all()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("most", [1, 2, 3])
def test_there_are_no_more_clusters_than_allowed(
    rng: np.random.Generator, loss: str, most: int
) -> None:
    labels = draws_of(rng, 30, 20, 6)
    assert found_by(labels, LOSSES[loss], most=most).max() < most


@pytest.mark.parametrize("loss", LOSSES)
def test_room_to_spare_changes_nothing(rng: np.random.Generator, loss: str) -> None:
    labels = draws_of(rng, 40, 50, 14)
    task, n_lines = make_task(labels, LOSSES[loss], 1.0, 50)
    found = np.empty((2, 50), dtype=np.int32)
    for row, n_columns in zip(found, (24, 56), strict=True):
        seed = np.array([9], dtype=np.uint64)
        assert search(task, n_lines, n_columns, np.empty(0, dtype=np.int32), seed, row)
    np.testing.assert_array_equal(found[0], found[1])


def test_tables_grow_where_more_clusters_are_wanted() -> None:
    """Twenty rows that are never together need more columns than one batch."""
    labels = np.tile(np.arange(20, dtype=np.int32), (3, 1))
    for loss in LOSSES.values():
        found = found_by(labels, loss)
        assert found.max() == 19
        np.testing.assert_allclose(distances(labels, found[None], loss), 0.0, atol=1e-14)
