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
    drawn = matplotlib.pyplot.imread(tmp_path / "components.png")
    shown = matplotlib.pyplot.imread(README.parent / picture())
    assert drawn.shape == shown.shape
    assert abs(drawn - shown).mean() < 0.01  # the same draws; letters may be of another font
    matplotlib.pyplot.close("all")


def picture() -> str:
    (found,) = re.findall(r"!\[.*?\]\((.*?)\)", README.read_text(encoding="utf-8"))
    return str(found)


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)", README.read_text(encoding="utf-8"))
    assert len(links) > 20
    missing = [link for link in links if "://" not in link and not (README.parent / link).exists()]
    assert missing == []
