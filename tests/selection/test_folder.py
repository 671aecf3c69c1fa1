"""A selection that goes on where it was interrupted, and gives the same numbers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesgmm as bg
from bayesgmm import selection as module
from bayesgmm.inference.sweep import Outcome, sweep
from bayesgmm.selection import Selection
from tests.contract.test_refusals import FORM

SHORT: dict[str, Any] = {"draws": 60, "tune": 60, "chains": 2, "progressbar": False}
NUMBERS = (1, 2, 3)


def data() -> np.ndarray:
    return bg.datasets.make_mixture(60, 3, 2, separation=5.0, random_seed=2)["X"].values


@pytest.fixture(scope="module")
def whole() -> Selection:
    """A selection without a folder, and without an interruption."""
    return bg.select(data(), NUMBERS, random_seed=5, **SHORT)


def stopped_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sweeps be interrupted after so many fits."""

    def some(*given: Any) -> Iterator[Outcome]:
        outcomes = sweep(*given)
        for _ in range(count):
            yield next(outcomes)
        outcomes.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "sweep", some)


def assert_same(one: Selection, other: Selection) -> None:
    pd.testing.assert_frame_equal(
        one.table.drop(columns="seconds"), other.table.drop(columns="seconds")
    )
    assert one.fits.keys() == other.fits.keys()
    for candidate, tree in one.fits.items():
        for group in ("posterior", "sample_stats", "log_likelihood", "alignment", "modes"):
            xr.testing.assert_identical(tree[group].dataset, other.fits[candidate][group].dataset)


def test_an_interrupted_selection_goes_on(
    whole: Selection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "fits"
    stopped_after(1, monkeypatch)
    with pytest.warns(bg.ConvergenceWarning, match="1 of 3 fits .* same `folder` to go on"):
        bg.select(data(), NUMBERS, folder=folder, random_seed=5, **SHORT)
    monkeypatch.setattr(module, "sweep", sweep)
    assert_same(bg.select(data(), NUMBERS, folder=folder, **SHORT), whole)  # the seed is known


def test_what_is_done_is_not_done_again(
    whole: Selection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = bg.select(data(), NUMBERS, folder=tmp_path, random_seed=5, keep="none", **SHORT)
    assert first.fits == {}

    def nothing_left(left: Any, *given: Any) -> Iterator[Outcome]:
        assert left == []
        yield from ()

    monkeypatch.setattr(module, "sweep", nothing_left)
    again = bg.select(
        data(), NUMBERS, criteria=["waic", "loo"], folder=str(tmp_path), random_seed=5, **SHORT
    )
    assert again.table["elpd_loo"].tolist() == whole.table["elpd_loo"].tolist()
    assert again.table["seconds"].tolist() == first.table["seconds"].tolist()
    saved = bg.load(tmp_path / "3-full.nc")
    xr.testing.assert_identical(
        saved["posterior"].dataset, whole.fits[3, "full"]["posterior"].dataset
    )


def test_a_half_written_fit_is_done_again(whole: Selection, tmp_path: Path) -> None:
    bg.select(data(), NUMBERS, folder=tmp_path, random_seed=5, **SHORT)
    (tmp_path / "2-full.json").unlink()
    assert_same(bg.select(data(), NUMBERS, folder=tmp_path, random_seed=5, **SHORT), whole)


def test_a_failure_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(left: Any, *given: Any) -> Iterator[Outcome]:
        for outcome in sweep(left, *given):
            if outcome.candidate.n_components == 1:
                yield outcome
            else:
                yield Outcome(outcome.candidate, None, failure="No mode.")

    monkeypatch.setattr(module, "sweep", failing)
    for _ in range(2):
        with pytest.warns(bg.ConvergenceWarning, match=r"1 of 2 fits .*Failed: No mode\."):
            bg.select(data(), [1, 2], folder=tmp_path, random_seed=5, **SHORT)
        monkeypatch.setattr(module, "sweep", sweep)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"X": data() + 0.5}, "other data\\. "),
        ({"X": pd.DataFrame(data(), columns=["a", "b"])}, "other data\\. "),
        ({"n_components": [1, 3]}, "other specifications\\. "),
        ({"spec": bg.GaussianMixture(1, bg.Dirichlet(2.0))}, "other specifications\\. "),
        ({"method": "laplace"}, r"other method \('nuts', not 'laplace'\)\. "),
        ({"draws": 61}, r"other draws \(60, not 61\)\. "),
        ({"chains": 1}, r"other chains \(2, not 1\)\. "),
        ({"random_seed": 6}, r"other random_seed \(5, not 6\)\. "),
    ],
)
def test_a_folder_of_another_selection_is_refused(
    given: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_after(0, monkeypatch)
    asked = {"X": data(), "n_components": [1, 2], "random_seed": 5, "folder": tmp_path, **SHORT}
    with pytest.raises(bg.FitError, match="interrupted before any fit"):
        bg.select(**asked)
    with pytest.raises(ValueError, match=message) as caught:
        bg.select(**{**asked, **given})
    assert FORM.match(str(caught.value)), caught.value


def test_other_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("mine", encoding="utf-8")
    for folder, message in (
        (tmp_path, "must be empty, or hold a selection; got "),
        (tmp_path / "a.txt", "must be a folder; got .*a file"),
    ):
        with pytest.raises(ValueError, match=f"`folder` {message}") as caught:
            bg.select(data(), [1], folder=folder, **SHORT)
        assert FORM.match(str(caught.value)), caught.value
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_a_damaged_file_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "selection.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"selection\.json', which is damaged") as caught:
        bg.select(data(), [1], folder=tmp_path, **SHORT)
    assert FORM.match(str(caught.value)), caught.value


def test_the_files_can_be_read_by_people(tmp_path: Path) -> None:
    bg.select(data(), [1], folder=tmp_path, random_seed=5, **SHORT)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "1-full.json", "1-full.nc", "selection.json",
    ]  # fmt: skip
    asked = json.loads((tmp_path / "selection.json").read_text(encoding="utf-8"))
    assert (asked["draws"], asked["random_seed"], asked["method"]) == (60, 5, "nuts")
