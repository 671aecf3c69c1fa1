"""The ten lines that the README opens with, run as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path

from matplotlib.pyplot import imread

README = Path(__file__).parents[1] / "README.md"


def test_the_first_screen_runs(tmp_path: Path) -> None:
    """In a process of its own: what other tests did to Matplotlib is not in the picture."""
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    paths = os.pathsep.join([str(README.parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": paths, "MPLBACKEND": "Agg"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed = done.stdout
    assert "means[0, eruptions]" in printed
    assert "Trustworthy" in printed
    assert "elpd_loo" in printed
    assert (tmp_path / "fit.nc").stat().st_size > 0
    drawn = imread(tmp_path / "components.png")
    shown = imread(README.parent / picture())
    assert drawn.shape == shown.shape
    # draws of other seeds differ by 0.009, three components from two by 0.036
    assert abs(drawn - shown).mean() < 0.02


def picture() -> str:
    (found,) = re.findall(r"!\[.*?\]\((.*?)\)", README.read_text(encoding="utf-8"))
    return str(found)


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)", README.read_text(encoding="utf-8"))
    assert len(links) > 20
    missing = [link for link in links if "://" not in link and not (README.parent / link).exists()]
    assert missing == []
