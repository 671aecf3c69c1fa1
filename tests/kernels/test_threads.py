"""Every draw is done once, and an error is not lost."""

import threading

import numpy as np
import pytest

from bayesgmm.kernels import threads


@pytest.mark.parametrize("cores", [1, 2, 5])
@pytest.mark.parametrize("n_draws", [1, 2, 7, 100])
def test_every_draw_is_done_once(cores: int, n_draws: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "n_cores", lambda: cores)
    done = np.zeros(n_draws, dtype=int)
    parts = []

    def task(part: slice) -> None:
        parts.append(part)
        done[part] += 1

    threads.over_draws(task, n_draws)
    assert (done == 1).all()
    assert len(parts) == min(cores, n_draws)


def test_threads_work_beside_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "n_cores", lambda: 3)
    together = threading.Barrier(3)
    threads.over_draws(lambda part: together.wait(60.0), 9)
    assert not together.broken


def test_an_error_in_a_thread_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "n_cores", lambda: 2)

    def task(part: slice) -> None:
        if part.start:
            raise ValueError("in the second thread")

    with pytest.raises(ValueError, match="in the second thread"):
        threads.over_draws(task, 4)


def test_there_is_a_core() -> None:
    assert threads.n_cores() >= 1
