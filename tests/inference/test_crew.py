"""Threads that help with a pass: the same bits, whoever does the parts."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import active_count

import numpy as np
import pytest

from bayesgmm.data import prepare
from bayesgmm.inference import crew as crews
from bayesgmm.inference.crew import crew
from bayesgmm.kernels.crew import (
    BOARD,
    N_BOARDS,
    OPEN,
    SHUT,
    TAKEN,
    change_state,
    claim,
    post,
    take_board,
)
from bayesgmm.kernels.estep import MOST, n_parts
from bayesgmm.mixture import GaussianMixture
from bayesgmm.problem import Problem


@pytest.fixture
def large(rng: np.random.Generator) -> Problem:
    X = rng.normal(size=(40_000, 3)) + 4.0 * rng.integers(0, 3, (40_000, 1))
    return Problem.make(GaussianMixture(3), prepare(X))


@pytest.fixture
def three_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(crews, "n_cores", lambda: 3)
    yield
    assert all(change_state(board, SHUT, SHUT) for board in range(0, N_BOARDS * BOARD, BOARD))


def evaluate(problem: Problem, seed: int) -> list[bytes]:
    """Return the log posterior and its gradient at some points, as bits."""
    vectors = np.random.default_rng(seed).normal(size=(20, problem.n_parameters))
    results = [problem.log_posterior(vector) for vector in vectors]
    return [np.append(gradient, value).tobytes() for value, gradient in results]


def test_parts_depend_on_the_size_of_the_pass_alone() -> None:
    assert n_parts(1000, 2, 3) == 1
    assert 1 < n_parts(40_000, 3, 3) < MOST
    assert n_parts(10**6, 8, 10) == MOST
    assert n_parts(300, 8, 1000) == 2  # no smaller than a block


@pytest.mark.parametrize("n_masters", [1, 2, 3])
def test_results_are_the_same_to_the_last_bit(
    large: Problem, n_masters: int, three_cores: None
) -> None:
    seeds = range(n_masters)
    alone = [evaluate(large, seed) for seed in seeds]
    before = active_count()
    with crew(large, n_masters):
        assert active_count() - before == n_masters * (3 // n_masters - 1)
        with ThreadPoolExecutor(n_masters) as pool:
            helped = list(pool.map(lambda seed: evaluate(large, seed), seeds))
    assert helped == alone
    assert active_count() == before


def test_more_masters_than_boards_do_their_own_work(large: Problem, three_cores: None) -> None:
    alone = [evaluate(large, seed) for seed in range(4)]
    with crew(large, 1), ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda seed: evaluate(large, seed), range(4))) == alone


def test_crews_inside_each_other_and_more_than_there_are_boards(
    large: Problem, three_cores: None
) -> None:
    alone = evaluate(large, 0)
    with ExitStack() as stack:
        for _ in range(N_BOARDS + 1):
            stack.enter_context(crew(large, 1))
        assert evaluate(large, 0) == alone


def test_short_passes_and_single_cores_have_no_helpers(
    large: Problem, monkeypatch: pytest.MonkeyPatch, three_cores: None
) -> None:
    before = active_count()
    small = Problem.make(GaussianMixture(2), prepare(large.data.values[:100]))
    with crew(small, 1):
        assert active_count() == before
    monkeypatch.setattr(crews, "n_cores", lambda: 1)
    with crew(large, 1):
        assert active_count() == before


def test_an_exception_closes_the_boards(large: Problem, three_cores: None) -> None:
    before = active_count()
    with pytest.raises(RuntimeError, match="half-way"), crew(large, 1):
        raise RuntimeError("half-way")
    assert active_count() == before


def test_a_late_comer_cannot_claim_a_part_of_the_next_job() -> None:
    boards = np.zeros(2 * BOARD, dtype=np.int64)
    assert take_board(boards) == -1
    boards[BOARD + 24] = OPEN
    assert take_board(boards) == BOARD
    assert boards[BOARD + 24] == TAKEN
    post(boards, BOARD, 1234, 2)
    first = boards[BOARD]
    assert [claim(boards, BOARD) for _ in range(4)] == [1, 0, -1, -1]
    post(boards, BOARD, 1234, 2)
    assert boards[BOARD] != first  # what the late comer compares with


def test_fits_repeat_with_and_without_a_crew(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    import bayesgmm as bg

    X = rng.normal(size=(30_000, 2)) + 5.0 * rng.integers(0, 2, (30_000, 1))
    fits = []
    for cores in (1, 3):
        monkeypatch.setattr(crews, "n_cores", lambda cores=cores: cores)
        fits.append(bg.fit(X, 2, method="map", random_seed=1, progressbar=False))
    one, other = (fit.posterior.means.values.tobytes() for fit in fits)
    assert one == other
