"""Compiled code on disk: as new as all kernel files, and made without a warning."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bayesgmm

PACKAGE = Path(bayesgmm.__file__).parent

CALLEE = """
from bayesgmm.kernels.compiled import kernel

@kernel
def height(x):
    return x + 1.0
"""

CALLER = """
from bayesgmm.kernels.callee import height
from bayesgmm.kernels.compiled import kernel

@kernel
def twice(x):
    return 2.0 * height(x)
"""

CALL = """
from bayesgmm.kernels.caller import twice
print(twice(1.0), sum(twice.stats.cache_hits.values()))
"""

EVERY_KERNEL = """
import numpy as np
from bayesgmm.data import prepare
from bayesgmm.inference.em import Target, find_modes
from bayesgmm.inference.problem import Problem
from bayesgmm.kernels import linked, pointer, relabel
from bayesgmm.kernels.cholesky import standardise
from bayesgmm.mixture import GaussianMixture
from bayesgmm.priors import LKJCovariance

rng = np.random.default_rng(1)
for structure in ("full", "tied_correlation"):
    spec = GaussianMixture(2, covariance=LKJCovariance(structure=structure))
    problem = Problem.make(spec, prepare(rng.normal(size=(40, 4))))
    for target in Target:
        mode = find_modes(problem, target, rng, n_starts=3, hierarchical=True).best
vectors = np.stack([mode.vector, mode.vector])
draws = standardise(*problem.constrain(vectors)[:4], problem.center, problem.unit)
relabel.align_draws(problem.rows, *draws, problem.reach, 0)
"""


def run(code: str, root: Path, *flags: str, **environment: str) -> str:
    """Return what a fresh process prints that finds the package under `root`."""
    done = subprocess.run(
        [sys.executable, *flags, "-c", code],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_change_of_one_kernel_is_seen_by_those_that_call_it(tmp_path: Path) -> None:
    """Numba alone looks only at the file of the function itself."""
    kernels = tmp_path / "bayesgmm" / "kernels"
    kernels.mkdir(parents=True)
    for folder in (kernels.parent, kernels):  # a package without it yields to an installed one
        (folder / "__init__.py").touch()
    shutil.copy(PACKAGE / "kernels" / "compiled.py", kernels)
    (kernels / "caller.py").write_text(CALLER, encoding="utf-8")
    (kernels / "callee.py").write_text(CALLEE, encoding="utf-8")
    assert run(CALL, tmp_path) == "4.0 0"
    assert run(CALL, tmp_path) == "4.0 1"
    (kernels / "callee.py").write_text(CALLEE.replace("1.0", "2.0"), encoding="utf-8")
    assert run(CALL, tmp_path) == "6.0 0"


@pytest.mark.slow
def test_all_kernels_compile_without_a_warning(tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    run(EVERY_KERNEL, PACKAGE.parent, "-W", "error", NUMBA_CACHE_DIR=cache)
    assert any(tmp_path.rglob("*run_em*"))
