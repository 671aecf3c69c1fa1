"""Stephens' rule and ECR, against the rules written out."""

from itertools import permutations

import numpy as np
import pytest

from bayesgmm.kernels import stephens
from bayesgmm.kernels.relabel import partition_of
from bayesgmm.kernels.stephens import (
    add_relabelled,
    confusions,
    fill_confusion,
    fill_gains,
    lead_each,
    match_each,
    relabel,
    responsibilities,
)
from tests.kernels.oracle import Mixture, random_mixture, sample
from tests.kernels.test_relabel import noisy, permuted, separated, shares

type Array = np.ndarray


def draws_of(rng: np.random.Generator, noise: float = 0.4) -> tuple[Array, Mixture]:
    """Return rows of three components that overlap, and 30 draws around them."""
    mixture = random_mixture(rng, 3, 2, decades=0.1)
    return sample(rng, mixture, 60), noisy(rng, mixture, 30, noise)


def all_shares(rows: Array, draws: Mixture) -> Array:
    """Return responsibilities, shape (S, K, N), slowly."""
    return np.stack(
        [shares(rows, Mixture(*(part[s] for part in draws))) for s in range(len(draws.means))]
    )


def cost(share: Array, permutation: Array) -> float:
    """Return Stephens' cost of relabelled responsibilities (S, K, N)."""
    aligned = np.take_along_axis(share, permutation[:, :, None], axis=1)
    mean = aligned.mean(axis=0)
    terms = aligned * np.log(np.where(aligned > 0, aligned / mean, 1.0))
    return float(terms.sum())


def test_the_loops_against_einsum(rng: np.random.Generator) -> None:
    share, targets = rng.random((4, 3, 17)), rng.normal(size=(3, 17))
    labels = rng.integers(0, 3, 17)
    gains, confusion = np.empty((4, 3, 3)), np.empty((4, 3, 3))
    fill_gains(share, targets, gains)
    np.testing.assert_allclose(gains, np.einsum("ski,ji->skj", share, targets), rtol=1e-12)
    fill_confusion(share, labels, confusion)
    one_hot = np.equal.outer(np.arange(3), labels).astype(float)
    np.testing.assert_allclose(confusion, np.einsum("ski,ji->skj", share, one_hot), rtol=1e-12)
    order, total = rng.permuted(np.tile(np.arange(3), (4, 1)), axis=1), np.ones((3, 17))
    add_relabelled(share, order, total)
    expected = 1.0 + np.take_along_axis(share, order[:, :, None], axis=1).sum(axis=0)
    np.testing.assert_allclose(total, expected, rtol=1e-12)


def test_matchings_and_leads_by_brute_force(rng: np.random.Generator) -> None:
    gains = rng.normal(size=(20, 4, 4))
    found, gain = np.empty((20, 4), dtype=np.int64), np.empty(20)
    match_each(gains, found, gain)
    given = rng.permuted(np.tile(np.arange(4), (20, 1)), axis=1)
    for chosen in (found, given):
        lead = np.empty((20, 4))
        lead_each(gains, chosen, lead)
        for s in range(20):
            total = {p: gains[s, p, range(4)].sum() for p in permutations(range(4))}
            mine = total[tuple(chosen[s])]
            if chosen is found:
                assert mine == gain[s] == pytest.approx(max(total.values()))
            for j in range(4):
                other = max(value for p, value in total.items() if p[j] != chosen[s, j])
                assert lead[s, j] == pytest.approx(max(mine - other, 0.0), abs=1e-12)


def test_one_component_leads_without_end() -> None:
    lead = np.empty((2, 1))
    lead_each(np.ones((2, 1, 1)), np.zeros((2, 1), dtype=np.int64), lead)
    assert (lead == np.inf).all()


def test_responsibilities_come_in_small_parts(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, draws = draws_of(rng)
    expected = all_shares(rows, draws)
    for at_once in (1, 7 * 180, 10**6):  # one, seven and all draws
        monkeypatch.setattr(stephens, "CHUNK", at_once)
        got = np.full_like(expected, np.nan)
        for some, share in responsibilities(rows, draws, slice(3, 30)):
            got[some] = share
        np.testing.assert_allclose(got[3:], expected[3:], rtol=1e-9, atol=1e-300)
        assert np.isnan(got[:3]).all()


@pytest.mark.parametrize("rule", ["ecr", "ecr_iterative", "stephens"])
@pytest.mark.parametrize(("n_components", "n_features"), [(2, 1), (3, 2), (10, 2)])
def test_planted_permutations_are_all_undone(
    rule: str, n_components: int, n_features: int, rng: np.random.Generator
) -> None:
    mixture, rows = separated(rng, n_components, n_features)
    draws = noisy(rng, mixture, 60, 0.1)
    planted = rng.permuted(np.tile(np.arange(n_components), (60, 1)), axis=1)
    switched = permuted(draws, planted)
    labels = partition_of(rows, *(part[5] for part in switched))
    found = relabel(rows, switched, labels, rule)
    undone = np.take_along_axis(planted, found.permutation, axis=1)
    np.testing.assert_array_equal(undone, np.tile(undone[5], (60, 1)))
    assert found.lead.min() > 0.9 * 40  # all rows of a component, and of another


def test_no_single_renaming_lowers_the_cost_of_stephens(rng: np.random.Generator) -> None:
    """Of any one draw: a fixed point of his algorithm, and lower than where it began."""
    rows, draws = draws_of(rng, noise=1.5)
    share = all_shares(rows, draws)
    labels = partition_of(rows, *(part[0] for part in draws))
    start = relabel(rows, draws, labels, "ecr").permutation
    found = relabel(rows, draws, labels, "stephens").permutation
    assert cost(share, found) < cost(share, start)
    mean = np.take_along_axis(share, found[:, :, None], axis=1).mean(axis=0)
    gains = np.einsum("ski,ji->skj", share, np.log(mean))
    for s in range(len(share)):
        total = {p: gains[s, p, range(3)].sum() for p in permutations(range(3))}
        assert total[tuple(found[s])] == pytest.approx(max(total.values()), rel=1e-9)


def test_iterated_ecr_ends_at_its_own_partition(rng: np.random.Generator) -> None:
    rows, draws = draws_of(rng, noise=1.5)
    share = all_shares(rows, draws)
    labels = partition_of(rows, *(part[0] for part in draws))
    found = relabel(rows, draws, labels, "ecr_iterative")
    own = np.take_along_axis(share, found.permutation[:, :, None], axis=1).mean(axis=0).argmax(0)
    again = relabel(rows, draws, own, "ecr")
    np.testing.assert_array_equal(again.permutation, found.permutation)
    np.testing.assert_allclose(again.lead, found.lead, rtol=1e-9, atol=1e-12)


def test_convergence_is_of_the_total_over_all_draws(rng: np.random.Generator) -> None:
    """A last draw that is settled from the start does not end the search (nor does the first)."""
    rows, draws = draws_of(rng, noise=1.5)
    share = all_shares(rows, draws)
    labels = partition_of(rows, *(part[0] for part in draws))
    costs = [cost(share, relabel(rows, draws, labels, "ecr").permutation)]
    for passes in (1, 2, 100):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stephens, "PASSES", passes)
            costs.append(cost(share, relabel(rows, draws, labels, "stephens").permutation))
    assert costs == sorted(costs, reverse=True)
    assert costs[3] < costs[1]


def test_responsibilities_that_underflow_do_no_harm(rng: np.random.Generator) -> None:
    mixture = Mixture(
        np.log([0.5, 0.5]), np.array([[-300.0], [300.0]]), np.full((2, 1, 1), 1.0)
    )
    rows, draws = sample(rng, mixture, 40), noisy(rng, mixture, 10, 0.01)
    labels = partition_of(rows, *(part[0] for part in draws))
    found = relabel(rows, draws, labels, "stephens")
    assert np.isfinite(found.lead).all()
    np.testing.assert_array_equal(found.permutation, np.tile(found.permutation[0], (10, 1)))


def test_confusions_against_the_sum(rng: np.random.Generator) -> None:
    rows, draws = draws_of(rng)
    labels = rng.integers(0, 3, rows.shape[1])
    expected = np.stack(
        [all_shares(rows, draws)[:, :, labels == j].sum(axis=2) for j in range(3)], axis=2
    )
    np.testing.assert_allclose(confusions(rows, draws, labels), expected, rtol=1e-9)
