"""The line that says how far long work has come: when it appears, and that it cleans up."""

import io
import sys

import numpy as np
import pytest

import bayesgmm as bg
from bayesgmm.inference import progress
from bayesgmm.inference.progress import PATIENCE, RATE, SLOW_RATE, Progress
from bayesgmm.kernels import compiled


class Clock:
    """A clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def perf_counter(self) -> float:
        return self.now


class Screen(io.StringIO):
    """A stream that may be a terminal."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    def shown(self) -> str:
        """What stands on the last line of a terminal."""
        line = ""
        for part in self.getvalue().split("\r"):
            line = part + line[len(part) :]
        return line.rstrip()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    return clock


def screen(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> Screen:
    result = Screen(terminal)
    monkeypatch.setattr(sys, "stderr", result)
    return result


def test_short_work_is_silent(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    out = screen(monkeypatch, terminal=True)
    with Progress(True) as line:
        for _ in range(4):
            line.update("Sampling")
            clock.now += PATIENCE / 5
    assert out.getvalue() == ""


def test_a_terminal_shows_one_line_and_wipes_it(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = screen(monkeypatch, terminal=True)
    with Progress(True) as line:
        clock.now += 0.6
        line.update("Finding the mode that chain 0 starts from")
        assert out.shown() == "Finding the mode that chain 0 starts from, 1 s"
        clock.now += 2.4
        line.update("Sampling")
        assert out.shown() == "Sampling, 3 s"  # nothing of the longer line is left
        assert "\n" not in out.getvalue()
    assert out.shown() == ""
    assert out.getvalue().endswith("\r")


def test_a_line_shown_before_a_shorter_one_is_wiped_whole(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = screen(monkeypatch, terminal=True)
    with Progress(True) as line:
        for message in ("a very long message indeed", "short", "a message in between"):
            clock.now += 1.0
            line.update(message)
    assert out.shown() == ""


def test_updates_come_no_faster_than_they_can_be_read(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = screen(monkeypatch, terminal=True)
    with Progress(True) as line:
        clock.now += 1.0
        for _ in range(100):
            clock.now += RATE / 10
            line.update("Sampling")
        assert 9 <= out.getvalue().count("Sampling") <= 11


def test_a_log_file_gets_a_new_line_now_and_then(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = screen(monkeypatch, terminal=False)
    with Progress(True) as line:
        for _ in range(100):
            clock.now += SLOW_RATE / 20
            line.update("Sampling")
    lines = out.getvalue().splitlines()
    assert 4 <= len(lines) <= 5
    assert all(entry.startswith("Sampling, ") for entry in lines)
    assert "\r" not in out.getvalue()


def test_a_disabled_line_never_appears(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    out = screen(monkeypatch, terminal=True)
    with Progress(False) as line:
        line.announce("Compiling")
        for _ in range(100):
            clock.now += 60.0
            line.update("Sampling")
    assert out.getvalue() == ""


def test_an_announcement_comes_at_once(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    out = screen(monkeypatch, terminal=False)
    with Progress(True) as line:
        line.announce("Compiling PyMC's program")
        assert out.getvalue() == "Compiling PyMC's program\n"


def test_an_announcement_wipes_the_line_first(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = screen(monkeypatch, terminal=True)
    with Progress(True) as line:
        clock.now += 1.0
        line.update("Sampling")
        line.announce("Compiling")
        assert out.shown().lstrip() == "Compiling"
        assert "Sampling" not in out.getvalue().rpartition("\r")[2]


def test_it_tells_of_compilations_while_it_lasts(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels are compiled when they are first called, in the midst of a fit."""
    before = list(compiled._tellers)
    for enabled, due in ((True, "Compiling\n"), (False, "")):
        out = screen(monkeypatch, terminal=False)
        with Progress(enabled):
            compiled._tellers[-1]("Compiling")
            assert out.getvalue() == due
        assert compiled._tellers == before


def test_an_error_passes_and_the_line_is_wiped(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = screen(monkeypatch, terminal=True)
    line = Progress(True)

    def work() -> None:
        with line:
            clock.now += 1.0
            line.update("Sampling")
            assert out.shown() != ""
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        work()
    assert out.shown() == ""


def test_there_may_be_no_standard_error(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a program without a console."""
    monkeypatch.setattr(sys, "stderr", None)
    with Progress(True) as line:
        clock.now += 60.0
        line.update("Sampling")
        line.announce("Compiling")


@pytest.mark.parametrize("method", ["nuts", "map", "ml"])
def test_a_fit_without_progress_writes_nothing(
    method: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr(progress, "SLOW_RATE", 0.0)
    X = bg.datasets.make_mixture(60, 2, 2, separation=6.0, random_seed=1)["X"].values
    arguments = {"method": method, "draws": 50, "tune": 20, "chains": 2, "random_seed": 1}
    quiet = bg.fit(X, 2, progressbar=False, **arguments)
    assert capfd.readouterr() == ("", "")
    spoken = bg.fit(X, 2, **arguments)
    out, err = capfd.readouterr()
    assert out == ""
    assert "mode" in err or "start" in err
    np.testing.assert_array_equal(  # and saying it changes nothing
        quiet["posterior"]["means"].values, spoken["posterior"]["means"].values
    )


def test_sampling_reports_its_share(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr(progress, "SLOW_RATE", 0.0)
    X = bg.datasets.make_mixture(60, 2, 2, separation=6.0, random_seed=1)["X"].values
    bg.fit(X, 2, draws=4000, chains=3, random_seed=1)
    lines = capfd.readouterr().err.splitlines()
    assert any(line.startswith("Sampling 3 chains: ") for line in lines)
    shares = [
        int(line.partition(": ")[2].partition("%")[0]) for line in lines if "Sampling" in line
    ]
    assert shares == sorted(shares)
    assert 0 <= shares[0] <= shares[-1] <= 100
    assert all(line.partition("%, ")[2].startswith("0 div") for line in lines if "%" in line)
