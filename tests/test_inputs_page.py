"""The table of docs/inputs.md: every kind of data that it names, fitted by the code beside it."""

import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

PAGE = (Path(__file__).parents[1] / "docs" / "inputs.md").read_text(encoding="utf-8")
LINES = re.findall(r"^\| ([^|]+?) \| `([^|]+)` <br> `([^|]+)` \|", PAGE, re.MULTILINE)


def test_the_code_of_every_kind_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made: dict[str, object] = {}
    exec(re.findall(r"```\{code-cell\}\n(.*?)```", PAGE, re.DOTALL)[0], made)
    means = {}
    for kind, first, second in LINES:
        exec(f"{first}\n{second.replace('method=', 'random_seed=1, method=')}", made)
        assert isinstance(made["tree"], xr.DataTree), kind
        means[kind] = made["tree"]["posterior"]["means"].values
    assert len(means) > 14
    same = [kind for kind in means if not kind.startswith(("masked", "xarray DataArray, two"))]
    for kind in same:
        np.testing.assert_array_equal(means[kind], means[same[0]], err_msg=kind)
