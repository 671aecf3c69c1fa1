"""Compiled code on disk: as new as all kernel files, announced, and made without a warning."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bayesgmm
from bayesgmm.kernels.compiled import NOTICE

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

SYMBOL = """
from numba import types
from bayesgmm.kernels.compiled import callback, kernel, linked

SIGNATURE = types.float64(types.float64)

@kernel
def half(x):
    return 0.5 * x

@callback(SIGNATURE)
def half_c(x):
    return half(x)

half_x = linked("test_half", half_c, SIGNATURE)

@callback(SIGNATURE)
def quarter_c(x):
    return 0.5 * half_x(x)

quarter_x = linked("test_quarter", quarter_c, SIGNATURE)

@kernel
def eighth(x):
    return 0.5 * quarter_x(x)
"""

CALL_SYMBOL = """
from bayesgmm.kernels.symbol import eighth, half, quarter_c
untouched = quarter_c._wrapper_address is None
half(1.0)  # which the function behind the first symbol calls itself
print(untouched, eighth(4.0), sum(eighth.stats.cache_hits.values()), quarter_c.cache_hits)
"""

INTERRUPTED = """
from bayesgmm.kernels.symbol import eighth, half_c

def interrupt():
    del half_c.compile
    raise KeyboardInterrupt

half_c.compile = interrupt
try:
    eighth(4.0)
except KeyboardInterrupt:
    print(eighth(4.0))
"""

QUIET = """
from bayesgmm.kernels.compiled import telling
with telling(print):
    from bayesgmm.kernels.caller import twice
    twice(1.0)
"""

EVERY_KERNEL = """
from threading import Event
import numpy as np
from bayesgmm.component_prior import PriorOnComponents
from bayesgmm.data import prepare
from bayesgmm.factor_prior import FactorCovariance
from bayesgmm.inference.em import find_modes
from bayesgmm.inference.mode import Target
from bayesgmm.kernels import (
    ascent, factor_draws, factors, foreign, linked, merging, pairs, pointer, quantiles,
)
from bayesgmm.inference.telescoping import Chain, Learnt
from bayesgmm.problem import Problem
from bayesgmm.kernels.cholesky import standardise
from bayesgmm.kernels.clarity import clarity
from bayesgmm.kernels.compiled import link
from bayesgmm.kernels.factor_cells import pack_lines
from bayesgmm.kernels.marginal import fill_imputed
from bayesgmm.kernels.matching import match_draws
from bayesgmm.kernels.patterns import groups_of
from bayesgmm.clustering.coclustering import similarity
from bayesgmm.kernels.subpartition import grow_subset
from bayesgmm.mixture import GaussianMixture
from bayesgmm.clustering.partitions import partition
from bayesgmm.priors import LKJCovariance

rng = np.random.default_rng(1)
for structure in ("full", "tied_correlation"):
    spec = GaussianMixture(2, covariance=LKJCovariance(structure=structure))
    problem = Problem.make(spec, prepare(rng.normal(size=(40, 4))))
    for target in Target:
        mode = find_modes(problem, target, rng, n_starts=3, hierarchical=True).best
vectors = np.stack([mode.vector, mode.vector])
draws = standardise(*problem.constrain(vectors)[:4], problem.center, problem.unit)
pairs.fill_pairs(*draws, np.eye(4), *np.empty((4, 2, 2, 2)))
merging.fill_paths(
    rng.random((2, 2, 40)), True, 0.1,
    np.empty((2, 2, 2), dtype=int), *np.empty((2, 2, 2)), np.empty(2, dtype=int),
)
ascent.fill_modes(*draws, np.empty((2, 2, 4)), np.empty((2, 2)), np.empty((2, 2), dtype=int))
levels = np.array([0.1, 0.5])
quantiles.fill_quantiles(levels, -levels, levels, *np.ones((3, 1, 2)), np.empty((1, 2)))
quantiles.fill_cdf(levels, *np.ones((3, 1, 2)), np.empty((1, 2)))
for method in ("stephens", "parameters"):
    match_draws(problem.rows, draws, 0, method)
clarity(problem.rows, draws)
cells = rng.normal(size=(40, 4))
cells[:20, 0], cells[25, 1] = np.nan, np.nan
partly = Problem.make(spec, prepare(cells, measurement_error=np.full((40, 4), 0.1)))
partly.log_posterior(vectors[0])
factored = GaussianMixture(2, covariance=FactorCovariance(1))
of_factors = Problem.make(factored, prepare(cells, measurement_error=np.full((40, 4), 0.1)))
of_factors.log_posterior(np.zeros(of_factors.n_parameters))
lines = pack_lines(of_factors.rows, np.arange(40), 4, 2)
factors = rng.uniform(0.5, 1.0, (1, 2, 4, 2))
one = np.zeros((1, 2)), np.zeros((1, 2, 4)), factors
factor_draws.fill_partial(
    lines, np.arange(40), *one, np.empty((1, 40)), np.empty((0, 0, 0)),
    np.empty(0, dtype=int), np.empty((0, 0, 0)),
)
factor_draws.add_scores(lines, *one[1:], np.zeros((3, 2, 1, 40)))
factor_draws.fill_completed(
    lines, *one, rng.random((1, 40)), rng.random((1, 40, 5)), np.empty((1, 40, 4))
)
clarity(partly.rows, draws)
(group, *_) = groups_of(partly.rows, 4, 2)
cells = np.ascontiguousarray(partly.rows[group.seen][:, group.members])
fill_imputed(
    cells, group.seen, group.errors, *draws[1:], np.ones((2, 2, group.members.size)),
    np.ones((2, group.members.size)), np.ones((2, group.members.size, 4 + group.errors.shape[1])),
    np.empty((0, 0, 0)), np.empty((2, group.members.size, 4)),
)
labels = rng.integers(0, 3, (20, 12))
for loss in ("vi", "omari", "nvi", "id", "nid"):
    partition(labels, loss, random_seed=1)
partition(labels[:, :4])
similarity(labels)
grow_subset(np.zeros((2, 3), dtype=np.int32), np.arange(3))
prior = PriorOnComponents()
learnt = Learnt.make(GaussianMixture(prior), problem.data)
Chain(learnt, np.random.SeedSequence(1)).run(1, 1, Event())
link()
linked.with_offsets(np.ones((1, 3)), np.ones((2, 3)), 1)
for function in (pointer.log_posterior_c, pointer.expand_c, foreign.foreign_density_c):
    assert function.address
"""

NOWHERE = {"HOME": os.devnull, "XDG_CACHE_HOME": os.devnull, "NUMBA_CACHE_DIR": ""}
"""An environment without a folder for caches."""


def run(code: str, root: Path, *flags: str, **environment: str) -> str:
    """Return what a fresh process prints that finds the package under `root`."""
    return run_both(code, root, *flags, **environment)[0]


def run_both(code: str, root: Path, *flags: str, **environment: str) -> tuple[str, str]:
    """Return what a fresh process writes to standard output and to standard error."""
    done = subprocess.run(
        [sys.executable, *flags, "-c", code],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr.strip()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return the kernels' folder of a package that has but a few small ones."""
    kernels = tmp_path / "bayesgmm" / "kernels"
    kernels.mkdir(parents=True)
    for folder in (kernels.parent, kernels):  # a package without it yields to an installed one
        (folder / "__init__.py").touch()
    shutil.copy(PACKAGE / "kernels" / "compiled.py", kernels)
    for name, code in {"caller": CALLER, "callee": CALLEE, "symbol": SYMBOL}.items():
        (kernels / f"{name}.py").write_text(code, encoding="utf-8")
    return kernels


def test_a_change_of_one_kernel_is_seen_by_those_that_call_it(
    tmp_path: Path, package: Path
) -> None:
    """Numba alone looks only at the file of the function itself."""
    assert run(CALL, tmp_path) == "4.0 0"
    assert run(CALL, tmp_path) == "4.0 1"
    (package / "callee.py").write_text(CALLEE.replace("1.0", "2.0"), encoding="utf-8")
    assert run(CALL, tmp_path) == "6.0 0"


@pytest.mark.usefixtures("package")
def test_symbols_are_there_when_they_are_called_and_not_before(tmp_path: Path) -> None:
    assert run(CALL_SYMBOL, tmp_path) == "True 0.5 0 0"
    assert run(CALL_SYMBOL, tmp_path) == "True 0.5 1 1"


@pytest.mark.usefixtures("package")
def test_an_interrupted_compilation_is_taken_up_again(tmp_path: Path) -> None:
    """A symbol that stands for nothing would end the process."""
    assert run(INTERRUPTED, tmp_path) == "0.5"


@pytest.mark.usefixtures("package")
def test_what_is_compiled_is_announced_once_per_machine(tmp_path: Path) -> None:
    assert run_both(CALL, tmp_path) == ("4.0 0", NOTICE)
    assert run_both(CALL, tmp_path) == ("4.0 1", "")


@pytest.mark.usefixtures("package")
def test_others_can_make_the_announcement(tmp_path: Path) -> None:
    assert run_both(QUIET, tmp_path) == (NOTICE, "")


def test_without_a_folder_to_write_to_every_process_compiles(tmp_path: Path, package: Path) -> None:
    (package / "__pycache__").touch()  # no folder, so that root cannot write to it either
    for _ in range(2):
        out, err = run_both(CALL, tmp_path, **NOWHERE)
        assert out == "4.0 0"
        assert err.count("RuntimeWarning: What was compiled cannot be kept (neither") == 1
        assert "Set the environment variable NUMBA_CACHE_DIR to a folder that can be" in err
    cache = NOWHERE | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    assert run(CALL, tmp_path, **cache) == "4.0 0"
    assert run_both(CALL, tmp_path, **cache) == ("4.0 1", "")


@pytest.mark.usefixtures("package")
def test_a_full_disk_costs_no_result(tmp_path: Path) -> None:
    fill = "import numba.core.caching as c\ndef full(*_): raise OSError(28, 'No space left')\n"
    out, err = run_both(f"{fill}c.IndexDataCacheFile.save = full\n{CALL}", tmp_path)
    assert out == "4.0 0"
    assert err.count("RuntimeWarning: What was compiled cannot be kept ([Errno 28] No space") == 1


@pytest.mark.slow
def test_all_kernels_compile_without_a_warning(tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    run(EVERY_KERNEL, PACKAGE.parent, "-W", "error", NUMBA_CACHE_DIR=cache)
    assert any(tmp_path.rglob("*run_em*"))
