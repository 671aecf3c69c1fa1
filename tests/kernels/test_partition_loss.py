"""Losses between partitions against their definitions written out."""

import numpy as np
import pytest
from numpy.typing import NDArray

from bayesgmm.kernels.partition_loss import (
    LOSSES,
    all_partitions,
    compacted,
    distances,
    expected_losses,
    terms,
)

type Labels = NDArray[np.int32]


def entropy(*labels: Labels) -> float:
    share = np.unique(np.stack(labels), axis=1, return_counts=True)[1] / len(labels[0])
    return float(-(share * np.log2(share)).sum())


def naive_loss(true: Labels, chosen: Labels, loss: str, a: float) -> float:
    """The definitions of the documentation, pair by pair and entropy by entropy."""
    n = len(true)
    together, joined = (x[:, None] == x for x in (true, chosen))
    pair = np.triu(np.ones((n, n), dtype=bool), 1)
    h, k, both = entropy(true), entropy(chosen), entropy(true, chosen)
    match loss:
        case "vi":
            return a * (both - h) + (2.0 - a) * (both - k)
        case "binder":
            split, mixed = (together & ~joined).sum(), (~together & joined).sum()
            return float(a * split + (2.0 - a) * mixed) / n**2
        case "omari":
            t, c, m = together[pair].sum(), joined[pair].sum(), pair.sum()
            expected = t * c / m if m else 0.0
            room = 0.5 * (t + c) - expected
            hits = (together & joined)[pair].sum()
            return float(1.0 - (hits - expected) / room) if room else 0.0
        case "nvi":
            return (2.0 * both - h - k) / both if both else 0.0
        case "id":
            return both - min(h, k)
        case _:
            return (both - min(h, k)) / max(h, k) if max(h, k) else 0.0


def some_partitions(rng: np.random.Generator, n: int) -> Labels:
    """Random ones of all grains, all rows together, and none."""
    grain = rng.integers(1, n + 1, size=(25, 1))
    drawn = [rng.integers(0, grain, (25, n)), np.zeros((1, n), int), np.arange(n)[None]]
    return compacted(np.concatenate(drawn), n)


@pytest.mark.parametrize("n", [1, 2, 5, 40])
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_those_of_the_definitions(rng: np.random.Generator, loss: str, n: int) -> None:
    labels = some_partitions(rng, n)
    for a in (1.0, 0.3) if loss in ("vi", "binder") else (1.0,):
        got = distances(labels, labels[::2], LOSSES[loss], a)
        expected = [[naive_loss(z, c, loss, a) for c in labels[::2]] for z in labels]
        np.testing.assert_allclose(got, expected, rtol=0.0, atol=1e-12)
        assert (got >= 0.0).all()
        mean = expected_losses(labels, labels[::2], LOSSES[loss], a)
        np.testing.assert_allclose(mean, got.mean(axis=0), rtol=1e-13)
        weights = rng.random(len(labels))
        mean = expected_losses(labels, labels[::2], LOSSES[loss], a, weights)
        np.testing.assert_allclose(mean, weights @ got / weights.sum(), rtol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_nothing_is_lost_by_the_truth_whatever_its_labels(
    rng: np.random.Generator, loss: str
) -> None:
    labels = some_partitions(rng, 30)
    renamed = compacted(np.int64(7) - labels.astype(np.int64) + 22, 30)
    losses = np.diag(distances(labels, renamed, LOSSES[loss]))
    np.testing.assert_allclose(losses, 0.0, atol=1e-14)


def test_blocks_of_choices_do_not_matter(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = some_partitions(rng, 12)
    whole = expected_losses(labels, labels, LOSSES["vi"])
    monkeypatch.setattr("bayesgmm.kernels.partition_loss.BLOCK_BYTES", 8 * len(labels) * 4)
    np.testing.assert_array_equal(expected_losses(labels, labels, LOSSES["vi"]), whole)


def test_terms() -> None:
    np.testing.assert_allclose(terms(4, LOSSES["vi"]), [0.0, 0.0, 2.0, 3.0 * np.log2(3.0), 8.0])
    np.testing.assert_allclose(terms(4, LOSSES["omari"]), [0.0, 1.0, 4.0, 9.0, 16.0])


def test_clusters_are_numbered_by_first_rows() -> None:
    assert compacted(np.array([[4, 0, 4, 2], [1, 1, 0, 0]]), 5).tolist() == [
        [0, 1, 0, 2],
        [0, 0, 1, 1],
    ]


def test_all_partitions_are_there_once() -> None:
    """As many as Bell numbers and Stirling numbers say."""
    bell = [1, 2, 5, 15, 52, 203, 877, 4140, 21147]
    for n, count in enumerate(bell, start=1):
        found = all_partitions(n, n)
        assert len(found) == len(np.unique(found, axis=0)) == count
        np.testing.assert_array_equal(compacted(found.astype(np.int64), n), found)
    assert [len(all_partitions(5, most)) for most in (1, 2, 3, 4, 9)] == [1, 16, 41, 51, 52]
