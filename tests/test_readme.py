"""The ten lines that the README opens with, run as they stand there."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def test_the_first_screen_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import matplotlib

    matplotlib.use("Agg")
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "means[0, eruptions]" in printed
    assert "Trustworthy" in printed
    assert "elpd_loo" in printed
    assert (tmp_path / "fit.nc").stat().st_size > 0
    assert (tmp_path / "components.png").stat().st_size > 0
    matplotlib.pyplot.close("all")


def test_the_picture_is_there() -> None:
    (picture,) = re.findall(r"!\[.*?\]\((.*?)\)", README.read_text(encoding="utf-8"))
    assert (README.parent / picture).read_bytes().startswith(b"\x89PNG")
