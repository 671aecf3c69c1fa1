"""All methods of undoing label switching, through the one door that they have."""

import numpy as np
import pytest

from bayesgmm.kernels import matching
from bayesgmm.kernels.matching import match_draws
from bayesgmm.kernels.relabel import align_draws, order_of
from tests.kernels.oracle import Mixture
from tests.kernels.test_relabel import noisy, permuted, separated, shares

type Array = np.ndarray
METHODS = ["stephens", "ecr", "ecr_iterative", "parameters"]


def switched(
    rng: np.random.Generator, n_components: int = 4
) -> tuple[Array, Mixture, Mixture, Array]:
    """Return rows, draws with their components in place, and the same with planted permutations."""
    mixture, rows = separated(rng, n_components, 2)
    draws = noisy(rng, mixture, 50, 0.1)
    planted = rng.permuted(np.tile(np.arange(n_components), (50, 1)), axis=1)
    return rows, draws, permuted(draws, planted), planted


@pytest.mark.parametrize("method", METHODS)
def test_planted_permutations_are_all_undone(method: str, rng: np.random.Generator) -> None:
    rows, draws, given, planted = switched(rng)
    permutation, margin = match_draws(rows, given, 3, method)
    order = order_of(draws.means.mean(axis=0))
    undone = np.take_along_axis(planted, permutation, axis=1)
    np.testing.assert_array_equal(undone, np.tile(order, (50, 1)))
    np.testing.assert_allclose(margin, align_draws(rows, *given, 3)[1], atol=1e-3)


@pytest.mark.parametrize("method", ["stephens", "ecr", "ecr_iterative"])
def test_a_partition_may_have_any_names(method: str, rng: np.random.Generator) -> None:
    rows, draws, given, _ = switched(rng)
    mixture = Mixture(*(part.mean(axis=0) for part in draws))
    labels = rng.permutation(4)[shares(rows, mixture).argmax(axis=0)]
    whole = match_draws(rows, given, 3, method)
    again = match_draws(rows, given, 3, method, labels)
    np.testing.assert_array_equal(again[0], whole[0])


def test_known_labels_give_components_their_numbers(rng: np.random.Generator) -> None:
    rows, draws, given, planted = switched(rng)
    truth = shares(rows, Mixture(*(part.mean(axis=0) for part in draws))).argmax(axis=0)
    wanted = rng.permutation(4)  # component wanted[k] is to be k
    labels = np.argsort(wanted)[truth]
    few = np.where(rng.random(len(truth)) < 0.2, labels, -1)
    assert set(few.tolist()) == {-1, 0, 1, 2, 3}
    for known in (labels, few):
        permutation, _ = match_draws(rows, given, 3, "labels", known)
        undone = np.take_along_axis(planted, permutation, axis=1)
        np.testing.assert_array_equal(undone, np.tile(wanted, (50, 1)))


def test_components_without_a_known_label_follow_in_order(rng: np.random.Generator) -> None:
    rows, draws, given, planted = switched(rng)
    truth = shares(rows, Mixture(*(part.mean(axis=0) for part in draws))).argmax(axis=0)
    only = np.where(truth == 2, 1, -1)
    permutation, margin = match_draws(rows, given, 3, "labels", only)
    undone = np.take_along_axis(planted, permutation, axis=1)
    rest = [k for k in order_of(draws.means.mean(axis=0)).tolist() if k != 2]
    np.testing.assert_array_equal(undone, np.tile([rest[0], 2, *rest[1:]], (50, 1)))
    assert margin.min() > 0.2


def test_some_of_many_rows_stand_for_all(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, _, given, _ = switched(rng)  # 160 rows
    labels = rng.integers(0, 4, rows.shape[1])
    expected = [
        match_draws(np.ascontiguousarray(rows[:, ::4]), given, 3, "stephens"),
        match_draws(np.ascontiguousarray(rows[:, ::4]), given, 3, "ecr", labels[::4]),
    ]
    monkeypatch.setattr(matching, "MATCHED_ROWS", 40)
    got = [
        match_draws(rows, given, 3, "stephens"),
        match_draws(rows, given, 3, "ecr", labels),
    ]
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


def test_one_component_needs_no_rows(rng: np.random.Generator) -> None:
    mixture, rows = separated(rng, 1, 2)
    permutation, margin = match_draws(rows[:, :1], noisy(rng, mixture, 5, 0.1), 0, "stephens")
    assert (permutation == 0).all()
    assert (margin == 1.0).all()
