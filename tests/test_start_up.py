"""What a process pays before its first result: nothing is compiled that was compiled before."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COUNT = """
import sys
import numpy as np
import pandas as pd
from numba.core import event
import bayesgmm as bg

class Compilations(event.Listener):
    names = []
    def on_start(self, seen):
        self.names.append(seen.data["dispatcher"].__name__)
    def on_end(self, seen):
        pass

event.register("numba:compile", Compilations())

def report():
    print(len(Compilations.names), *sorted(set(Compilations.names)))

def use(X, spec):
    tree = bg.fit(X, spec, draws=20, tune=20, chains=2, random_seed=1, progressbar=False)
    for method in ("map", "ml"):
        bg.fit(X, spec, method=method, random_seed=1, progressbar=False)
    bg.check(tree)
    bg.summary(tree)
    bg.predict_proba(tree, X)
    bg.score_samples(tree, X)
    bg.sample_posterior_predictive(tree, random_seed=1)
    bg.align(tree)

def use_pymc(X):
    options = {"draws": 20, "tune": 20, "chains": 2, "random_seed": 1, "progressbar": False}
    bg.fit(X, bg.build_model(2, X), **options)

rng = np.random.default_rng(1)
def rows(n, d):
    X = rng.normal(size=(n, d))
    X[: n // 2] += 5.0
    return X
"""

FIRST = """
use(rows(60, 2), 2)
report()
"""

OTHERS = """
from bayesgmm.priors import STRUCTURES

for n, d, k in ((40, 1, 1), (300, 2, 3), (80, 3, 2), (90, 4, 2), (200, 7, 3)):
    use(rows(n, d), k)
for structure in STRUCTURES:
    covariance = bg.LKJCovariance(structure=structure, eta=1.0)
    use(rows(60, 3), bg.GaussianMixture(2, covariance=covariance))
X = rows(60, 2)
frozen = X.copy()
frozen.flags.writeable = False
for same in (
    np.asfortranarray(X), frozen, X[::-1, ::-1], X.astype(np.float32), X.tolist(),
    pd.DataFrame(X.astype(np.float32), columns=["a", "b"]),
    pd.DataFrame({"a": (10 * X[:, 0]).astype(int), "b": X[:, 1]}),
):
    use(same, bg.GaussianMixture(2, weights=bg.Dirichlet([1.0, 2.0])))
report()
"""

OF_PYMC = """
use_pymc(rows(60, 2))
report()
"""

OTHERS_OF_PYMC = """
for n, unit in ((60, 3.7), (90, 1.0)):
    use_pymc(rows(n, 2) * unit)
report()
"""

ONE_KERNEL = """
from bayesgmm.kernels.cholesky import Layout, offsets

offsets(Layout(1, 1, 1, 1, 0))
report()
"""


def compiled_by(code: str, **environment: str) -> list[str]:
    """Return how many functions a fresh process compiled, and their names."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COUNT + code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture(scope="module", autouse=True)
def _kernels_of_one_fit() -> None:
    """Have compiled what one fit needs."""
    compiled_by(FIRST)


def test_fits_of_other_data_and_models_compile_nothing() -> None:
    assert compiled_by(OTHERS) == ["0"]


def test_programs_of_pymc_for_other_data_compile_nothing() -> None:
    compiled_by(OF_PYMC)
    assert compiled_by(OTHERS_OF_PYMC) == ["0"]


def test_compilations_are_counted(tmp_path: Path) -> None:
    """In an empty cache, where even the smallest kernel has to be compiled."""
    for counted in (["1", "offsets"], ["0"]):
        assert compiled_by(ONE_KERNEL, NUMBA_CACHE_DIR=str(tmp_path)) == counted
