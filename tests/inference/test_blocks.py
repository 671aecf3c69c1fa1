"""Sums over blocks that are kept, read in every pass, or away."""

import threading
from concurrent.futures import ThreadPoolExecutor

import dask
import numpy as np
import pytest
from numpy.typing import NDArray

import bayesgmm as bg
from bayesgmm.blockwise import Mixture, densities, moments, pack_block
from bayesgmm.chunked import Chunked
from bayesgmm.chunked_rows import Rows, Source
from bayesgmm.data import prepare
from bayesgmm.inference import blocks
from bayesgmm.inference.blocks import Away, ChangedError, Kept, active, gather
from bayesgmm.inference.survey import checksum
from bayesgmm.problem import Problem

type Array = NDArray[np.float64]


@pytest.fixture
def problem(rng: np.random.Generator) -> Problem:
    return Problem.make(bg.GaussianMixture(2), prepare(rng.normal(size=(90, 2))))


def gathered(problem: Problem, sums: tuple[int, ...] | None = None) -> Kept | Away:
    import dask.array

    table = Chunked.of(dask.array.from_array(problem.data.values, chunks=(7, 2)), "X")
    source = Source.of(table, ["x0", "x1"], {}, 2)
    if sums is None:
        values = np.split(problem.data.values, np.cumsum(table.sizes)[:-1])
        sums = tuple(checksum(unsaid(one)) for one in values)
    return gather(source, problem, sums, *active())


def unsaid(values: Array) -> Rows:
    return Rows(values, np.arange(len(values)), None, None, None)


def test_few_rows_are_kept_and_many_are_read_in_every_pass(
    problem: Problem, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = pack_block(problem, unsaid(problem.data.values))
    vectors = rng.normal(size=(5, problem.n_parameters))
    start = everything.size - problem.data.values.size
    mixture = Mixture.of_vector(problem.layout, vectors[0], start)
    monkeypatch.setattr(blocks, "TOGETHER", 400)
    kept = gathered(problem)
    monkeypatch.setattr(blocks, "KEPT", 0)
    away = gathered(problem)
    assert isinstance(kept, Kept)
    assert isinstance(away, Away)
    assert len(kept.packed) == len(away.packed) == 4
    for found in (kept, away):
        ours, expected = found.densities(vectors), densities(everything, vectors)
        np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-10 * abs(expected).max())
        np.testing.assert_allclose(
            found.moments(mixture), moments(everything, mixture), rtol=1e-10, atol=1e-10
        )


def test_rows_that_change_are_refused(problem: Problem) -> None:
    n_blocks = len(range(0, 90, 7))
    with pytest.raises(ChangedError, match=r"^`X` must not change while it is fitted; got other "):
        gathered(problem, (1,) * n_blocks)


def test_those_who_wait_share_a_pass(
    problem: Problem, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = pack_block(problem, unsaid(problem.data.values))
    vectors = rng.normal(size=(6, 1, problem.n_parameters))
    begun, go_on, sizes = threading.Event(), threading.Event(), []

    def slowly(block: Array, asked: Array) -> Array:
        sizes.append(len(asked))
        begun.set()
        assert go_on.wait(30.0)
        return densities(block, asked)

    monkeypatch.setattr(blocks, "densities", slowly)
    away = Away([dask.delayed(everything)], [{}], None)
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(away.densities, vectors[0])]
        assert begun.wait(30.0)
        asked += [pool.submit(away.densities, vector) for vector in vectors[1:]]
        while len(away._waiting) < 5:
            go_on.wait(0.001)
        go_on.set()
        found = [one.result(30.0) for one in asked]
    assert sizes == [1, 5]
    for ours, vector in zip(found, vectors, strict=True):
        np.testing.assert_array_equal(ours, densities(everything, vector))


def test_all_who_take_part_in_a_pass_hear_of_its_failure(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(block: Array, asked: Array) -> Array:
        raise OSError("the disk is gone")

    monkeypatch.setattr(blocks, "densities", failing)
    away = Away([dask.delayed(problem.flat)], [{}], None)
    for _ in range(2):  # and the next have their turn
        with pytest.raises(OSError, match=r"^the disk is gone$"):
            away.densities(np.zeros((1, problem.n_parameters)))
