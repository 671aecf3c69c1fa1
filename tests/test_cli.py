"""The command line: what it writes, what it refuses, and with which exit code."""

import re
import subprocess
import sys
import warnings
from io import StringIO
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd
import pytest

import bayesgmm as bg
from bayesgmm.cli import main
from bayesgmm.errors import ConvergenceWarning, FitError

N_ROWS = 60
MAP = ["--components", "2", "--method", "map", "--seed", "1"]
NUMBERS = ["--columns", "length,width"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table of two far clusters, in every format, and a fit of it."""
    path = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(7)
    centers = np.repeat([[1.0, 10.0], [6.0, 40.0]], N_ROWS // 2, axis=0)
    table = pd.DataFrame(centers + rng.normal(size=(N_ROWS, 2)), columns=["length", "width"])
    table.to_csv(path / "numbers.csv", index=False)
    table.to_parquet(path / "numbers.parquet")
    named = table.set_axis([f"row {i}" for i in range(N_ROWS)])
    named.to_csv(path / "labelled.csv")
    table.assign(species="a")[["species", "width", "length"]].to_csv(path / "text.csv", index=False)
    table.head(1).to_csv(path / "one.csv", index=False)
    table.to_csv(path / "headless.csv", index=False, header=False)
    table.to_csv(path / "numbers.xlsx", index=False)
    (path / "empty.csv").write_text("", encoding="utf-8")
    (path / "broken.parquet").write_bytes(b"PAR1 and nothing else")
    (path / "corrupt.nc").write_bytes(b"CDF and nothing else")
    code = main(["fit", str(path / "numbers.csv"), *MAP, "--quiet", "--out", str(path / "fit.nc")])
    assert code == 0
    return path


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must be refused as bad input; return its one line."""
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("bayesgmm: error: ")
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("bayesgmm: error: ").strip()


def test_fit_reports_and_saves(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "fit.nc"
    assert main(["fit", str(folder / "numbers.csv"), *MAP, "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert captured.out.endswith(f"\n\nWrote {out}\n")
    assert captured.out.startswith(str(bg.check(bg.load(out))))
    assert captured.err == ""


def test_quiet_fit_says_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "fit.zarr"
    assert main(["fit", str(folder / "numbers.csv"), *MAP, "--quiet", "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert bg.load(out).attrs["method"] == "map"


def test_fit_is_the_fit_of_the_library(folder: Path) -> None:
    table = pd.read_csv(folder / "numbers.csv")
    expected = bg.fit(table, 2, method="map", random_seed=1)
    found = bg.load(folder / "fit.nc")
    for name in ("weights", "means", "covariances"):
        np.testing.assert_array_equal(found["posterior"][name], expected["posterior"][name])


@pytest.mark.parametrize(
    ("file", "columns"),
    [("numbers.parquet", []), ("labelled.csv", []), ("text.csv", NUMBERS)],
)
def test_every_format_gives_the_same_fit(
    folder: Path, tmp_path: Path, file: str, columns: list[str]
) -> None:
    out = tmp_path / "fit.nc"
    assert main(["fit", str(folder / file), *MAP, *columns, "--quiet", "--out", str(out)]) == 0
    expected = bg.load(folder / "fit.nc")["posterior"]["means"]
    np.testing.assert_allclose(bg.load(out)["posterior"]["means"], expected, rtol=1e-12)


def test_fit_passes_structure_draws_and_chains(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "fit.nc"
    arguments = ["--components", "2", "--structure", "diag", "--method", "nuts", "--seed", "3"]
    arguments += ["--draws", "50", "--chains", "2", "--quiet", "--out", str(out)]
    assert main(["fit", str(folder / "numbers.csv"), *arguments]) == 0
    posterior = bg.load(out)["posterior"]
    assert dict(posterior.sizes)["chain"] == 2
    assert dict(posterior.sizes)["draw"] == 50
    correlations = posterior["correlations"].values
    np.testing.assert_array_equal(correlations, np.broadcast_to(np.eye(2), correlations.shape))


SELECT = ["--draws", "60", "--chains", "2", "--seed", "3", "--quiet"]


def test_select_prints_what_it_found_and_saves_the_recommended(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = folder / "numbers.csv", tmp_path / "best.nc"
    arguments = ["--components", "1-3", "--structure", "diag,tied", *SELECT, "--out", str(out)]
    arguments += ["--criteria", "bic,loo", "--folder", str(tmp_path / "fits")]
    assert main(["select", str(data), *arguments]) == 0
    captured = capsys.readouterr()
    expected = bg.select(
        pd.read_csv(data), [1, 2, 3], structures=["diag", "tied"], criteria=["bic", "loo"],
        draws=60, chains=2, random_seed=3,
    )  # fmt: skip
    lines = captured.out.splitlines()
    assert "\n".join(lines[:-2]) == repr(expected)
    assert len(list((tmp_path / "fits").glob("*.nc"))) == 6
    shown = [line.split()[:2] for line in lines if re.search(" (diag|tied) ", line)]
    assert shown == [[k, structure] for k in "123" for structure in ("diag", "tied")]
    assert lines[-1] == f"Wrote the recommended fit to {out}"
    best = expected.fits[expected.recommended]["posterior"].dataset
    np.testing.assert_array_equal(bg.load(out)["posterior"]["means"], best["means"])


def test_select_takes_a_list_of_numbers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(folder / "numbers.csv")
    assert main(["select", data, "--components", "2,1", *SELECT]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if " full " in line] == ["1", "2"]
    assert "Wrote" not in lines[-1]


@pytest.mark.parametrize(
    ("components", "message"),
    [
        ("two", "`--components` must be numbers such as 1-8 or 2,3,5; got 'two'"),
        ("2-", "`--components` must be numbers .* got '2-'"),
        ("3-2", "`n_components` must hold at least one number"),
        ("2,2", "`n_components` must hold every number once"),
        ("1-61", "as many rows as there are components, 61"),
    ],
)
def test_select_refuses(
    folder: Path, capsys: pytest.CaptureFixture[str], components: str, message: str
) -> None:
    said = refused(capsys, "select", folder / "numbers.csv", "--components", components)
    assert re.search(message, said)


def test_an_interrupted_select_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    select = bg.select

    def interrupted(X: object, numbers: list[int], **given: object) -> object:
        return select(X, numbers[:1], **given)  # type: ignore[arg-type]

    monkeypatch.setattr(bg, "select", interrupted)
    arguments = ["select", str(folder / "numbers.csv"), "--components", "1-2", *SELECT]
    assert main(arguments) == 130
    captured = capsys.readouterr()
    assert "Best by leave-one-out: 1 component" in captured.out
    assert captured.err == "bayesgmm: error: interrupted; some fits are missing\n"


@pytest.mark.parametrize("file", ["numbers.csv", "text.csv", "numbers.parquet"])
def test_predict_takes_the_fitted_columns(
    folder: Path, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(folder / "fit.nc"), str(folder / file)]) == 0
    found = pd.read_csv(StringIO(capsys.readouterr().out), index_col="obs")
    tree, table = bg.load(folder / "fit.nc"), pd.read_csv(folder / "numbers.csv")
    assert list(found) == ["component", "probability_0", "probability_1", "log_density"]
    np.testing.assert_array_equal(found["component"], bg.predict(tree, table))
    np.testing.assert_array_equal(found.iloc[:, 1:3], bg.predict_proba(tree, table))
    np.testing.assert_array_equal(found["log_density"], bg.score_samples(tree, table))
    assert found["component"].nunique() == 2


def test_predict_keeps_the_labels_of_the_rows(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    arguments = [str(folder / "fit.nc"), str(folder / "labelled.csv"), "--out", str(out)]
    assert main(["predict", *arguments]) == 0
    assert list(pd.read_csv(out, index_col="obs").index) == [f"row {i}" for i in range(N_ROWS)]


def test_summary_prints_table_and_verdict(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", str(folder / "fit.nc")]) == 0
    tree = bg.load(folder / "fit.nc")
    table, _, verdict = capsys.readouterr().out.partition("\n\n")
    assert verdict == f"{bg.check(tree)}\n"
    heading, _, *rows = table.splitlines()
    assert heading.split() == list(bg.summary(tree).columns)
    assert [row.rpartition("]")[0] + "]" for row in rows] == list(bg.summary(tree).index)


def test_demo_writes_a_fit_and_two_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--out-dir", str(tmp_path / "demo"), "--quiet"]) == 0
    printed = capsys.readouterr().out
    tree = bg.load(tmp_path / "demo" / "fit.nc")
    assert tree["posterior"].sizes["component"] == 2
    assert printed.startswith("GaussianMixture: 2 components")
    assert "midpoint" not in printed  # every hyperparameter is a number
    assert str(bg.check(tree)) in printed
    for name in ("components", "uncertainty"):
        picture = tmp_path / "demo" / f"{name}.png"
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert str(picture) in printed


def test_demo_of_a_file(folder: Path, tmp_path: Path) -> None:
    arguments = [str(folder / "text.csv"), "--components", "3", *NUMBERS, "--quiet"]
    assert main(["demo", *arguments, "--out-dir", str(tmp_path)]) == 0
    posterior = bg.load(tmp_path / "fit.nc")["posterior"]
    assert posterior.sizes["component"] == 3
    assert list(posterior["feature"].values) == ["length", "width"]


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("absent.csv", r"`data` must be a file; got '.*absent.csv', and there is none"),
        ("numbers.xlsx", r"must be a .csv, .parquet, .* file; got '.*numbers.xlsx'"),
        ("empty.csv", r"must be a readable file; got '.*empty.csv'"),
        ("broken.parquet", r"must be a readable file; got '.*broken.parquet'"),
        ("headless.csv", r"first line must name the columns, but reads \d"),
        ("text.csv", r"must hold numbers; got 'species' of .*text.csv.*--columns width,length$"),
        ("one.csv", r"rows; got .*\b1\b"),
    ],
)
def test_fit_refuses_data(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, message: str
) -> None:
    out = tmp_path / "fit.nc"
    assert re.search(message, refused(capsys, "fit", folder / file, *MAP, "--out", out))
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--columns", "lenght,width"], r"'lenght' must be in .*Did you mean 'length'\?$"),
        (["--columns", "depth"], r"'depth' must be in .*; got the columns length,width\."),
        (["--columns", "length,,width"], r"`--columns` must be names with commas"),
        (["--components", "61"], r"\b60\b.*\b61\b|\b61\b.*\b60\b"),
        (["--components", "0"], r"`n_components` must be at least 1; got 0"),
        (["--structure", "fulll"], r"`structure` must be one of .*'fulll'.*Did you mean 'full'\?"),
        (["--method", "mapp"], r"`method` must be one of .*'mapp'"),
        (["--out", "fit.txt"], r"`--out` must end in .nc or .zarr; got 'fit.txt'"),
        (["--out", "nowhere/fit.nc"], r"folder that exists .* got 'nowhere/fit.nc'"),
    ],
)
def test_fit_refuses_arguments(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["fit", folder / "numbers.csv", *MAP, "--out", "fit.nc", *arguments]
    assert re.search(message, refused(capsys, *command))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_computed_when_the_fit_could_not_be_saved(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(*_: object, **__: object) -> NoReturn:
        raise AssertionError("the fit was computed")

    monkeypatch.setattr(bg, "fit", fit)
    inside_a_file = folder / "numbers.csv" / "fit.nc"
    refused(capsys, "fit", folder / "numbers.csv", *MAP, "--out", inside_a_file)


@pytest.mark.parametrize("fit", ["corrupt.nc", "absent.nc", "numbers.csv"])
@pytest.mark.parametrize("command", ["predict", "summary"])
def test_files_that_are_no_fit_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], command: str, fit: str
) -> None:
    data = [folder / "numbers.csv"] if command == "predict" else []
    assert fit in refused(capsys, command, folder / fit, *data)


def test_predict_refuses_a_file_without_the_fitted_columns(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.csv").write_text("length,depth\n1,2\n", encoding="utf-8")
    message = refused(capsys, "predict", folder / "fit.nc", tmp_path / "other.csv")
    assert re.search(r"'width' must be in .*other.csv; got the columns length,depth", message)


def test_demo_of_a_file_needs_the_number_of_components(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, "demo", folder / "numbers.csv", "--out-dir", tmp_path / "demo")
    assert re.search(r"`--components` must be given .*--components 3, or K=3", message)
    assert not (tmp_path / "demo").exists()


def test_demo_refuses_a_folder_that_cannot_be(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, "demo", "--out-dir", folder / "numbers.csv")
    assert re.search(r"`--out-dir` must be a folder; got '.*numbers.csv': File exists", message)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (FitError("A component\ncollapsed.", status="degenerate"), 1, "A component collapsed."),
        (FitError("Stopped by you.", status="interrupted"), 130, "Stopped by you."),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(28, "No space left on device"), 2, "[Errno 28] No space left on device"),
    ],
)
def test_a_failure_becomes_an_exit_code_and_one_line(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    line: str,
) -> None:
    def fit(*_: object, **__: object) -> NoReturn:
        raise error

    monkeypatch.setattr(bg, "fit", fit)
    out = ["--out", str(tmp_path / "fit.nc")]
    assert main(["fit", str(folder / "numbers.csv"), *MAP, *out]) == code
    assert capsys.readouterr().err == f"bayesgmm: error: {line}\n"


def test_an_interrupted_fit_is_saved_and_told(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partial = bg.load(folder / "fit.nc")
    partial.attrs["interrupted"] = 1
    monkeypatch.setattr(bg, "fit", lambda *_, **__: partial)
    out = tmp_path / "fit.nc"
    assert main(["fit", str(folder / "numbers.csv"), *MAP, "--quiet", "--out", str(out)]) == 130
    expected = f"bayesgmm: error: interrupted; the draws made until then are in {out}\n"
    assert capsys.readouterr().err == expected
    assert bg.load(out).identical(partial)


def test_a_warning_is_one_line(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fit(*_: object, **__: object) -> object:
        warnings.warn("Two chains\ndisagree.", ConvergenceWarning, stacklevel=2)
        return bg.load(folder / "fit.nc")

    monkeypatch.setattr(bg, "fit", fit)
    out = ["--quiet", "--out", str(tmp_path / "fit.nc")]
    assert main(["fit", str(folder / "numbers.csv"), *MAP, *out]) == 0
    assert capsys.readouterr().err == "bayesgmm: warning: Two chains disagree.\n"


@pytest.mark.parametrize(
    "arguments", [[], ["fit"], ["fit", "x.csv", "--out", "fit.nc"], ["predict", "fit.nc"], ["ftt"]]
)
def test_bad_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage: bayesgmm" in capsys.readouterr().err


def test_module_and_version(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "bayesgmm", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run("--version").stdout == f"bayesgmm {bg.__version__}\n"
    absent = run("summary", str(tmp_path / "absent.nc"))
    assert absent.returncode == 2
    assert absent.stderr.startswith("bayesgmm: error: ")
    assert absent.stderr.count("\n") == 1
