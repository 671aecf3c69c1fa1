"""Chains of either kind: nutpie's two routes, arcs, and what if any of them fails."""

import importlib.util
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import arviz_stats
import numpy as np
import pytest
import xarray as xr

import bayesgmm as bg
from bayesgmm.data import prepare
from bayesgmm.inference import chains, coordinates, nuts
from bayesgmm.inference.arcs import ArcChain
from bayesgmm.inference.chains import Chain, Settings
from bayesgmm.problem import Problem

REPOSITORY = Path(bg.__file__).parents[1]
KINDS: dict[str, type[Chain] | type[ArcChain]] = {"leapfrog": Chain, "geodesic": ArcChain}


@pytest.fixture(params=KINDS)
def kind(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> type[Chain] | type[ArcChain]:
    """The kind of chain that samples."""
    monkeypatch.setattr(coordinates, "LIGHT", np.inf if request.param == "geodesic" else -np.inf)
    return KINDS[request.param]


@pytest.fixture
def leapfrog(monkeypatch: pytest.MonkeyPatch) -> None:
    """All chains are nutpie's."""
    monkeypatch.setattr(coordinates, "LIGHT", -np.inf)


def data() -> np.ndarray:
    return bg.datasets.make_mixture(60, 2, 2, separation=6.0, random_seed=1)["X"].values


def fit(**given: Any) -> xr.DataTree:
    arguments = {"draws": 40, "tune": 60, "chains": 2, "random_seed": 3, "progressbar": False}
    return bg.fit(data(), 2, **{**arguments, **given})


def run(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


# The two routes


def no_pointers(self: Chain, *args: Any) -> Any:
    raise AttributeError("module 'nutpie._lib' has no attribute 'LogpFunc'")


@pytest.mark.filterwarnings("ignore:This version of nutpie:RuntimeWarning")
@pytest.mark.usefixtures("leapfrog")
def test_the_public_route_gives_the_same_posterior(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = fit(draws=1000, tune=200, random_seed=1)
    monkeypatch.setattr(Chain, "_from_pointers", no_pointers)
    slow = fit(draws=1000, tune=200, random_seed=2)
    assert set(slow["sample_stats"].data_vars) == set(fast["sample_stats"].data_vars)
    for name, variable in fast["sample_stats"].data_vars.items():
        assert slow["sample_stats"][name].dtype == variable.dtype
    for name in ("weights", "means", "scales"):
        one, other = (tree["posterior"][name].values for tree in (fast, slow))
        for index in np.ndindex(one.shape[2:]):
            a, b = one[:, :, *index], other[:, :, *index]
            assert min(arviz_stats.ess(a), arviz_stats.ess(b)) > 400
            error = np.hypot(arviz_stats.mcse(a, method="mean"), arviz_stats.mcse(b, method="mean"))
            assert abs(a.mean() - b.mean()) < 5.0 * error, (name, index)


@pytest.mark.filterwarnings("ignore:This version of nutpie:RuntimeWarning")
@pytest.mark.usefixtures("leapfrog")
def test_the_public_route_is_reproducible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Chain, "_from_pointers", no_pointers)
    xr.testing.assert_identical(fit()["posterior"].dataset, fit()["posterior"].dataset)


@pytest.mark.filterwarnings("ignore:This version of nutpie:RuntimeWarning")
@pytest.mark.usefixtures("leapfrog")
def test_both_routes_see_the_same_density(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = fit(draws=4, tune=20)
    monkeypatch.setattr(Chain, "_from_pointers", no_pointers)
    slow = fit(draws=4, tune=20)
    np.testing.assert_allclose(  # few enough steps that rounding has not driven them apart
        slow["posterior"]["means"], fast["posterior"]["means"], rtol=1e-6
    )


@pytest.mark.usefixtures("leapfrog")
def test_the_public_route_says_that_it_is_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Chain, "_from_pointers", no_pointers)
    match = "takes no compiled functions .*'LogpFunc'.* slower"
    with pytest.warns(RuntimeWarning, match=match) as caught:
        bg.fit(data(), 2, draws=4, tune=20, chains=1, random_seed=1, progressbar=False)
    assert caught[0].filename == __file__  # where the user called it


def test_low_rank_and_diagonal_whitening_sample_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What models with very many parameters get: no Laplace covariance."""
    whitened = fit(draws=1000, tune=200, random_seed=1)
    monkeypatch.setattr("bayesgmm.inference.laplace.LARGEST_DENSE", 3)
    monkeypatch.setattr(nuts, "LARGEST_DENSE", 3)
    plain = fit(draws=1000, tune=None, random_seed=2)
    assert plain.attrs["tuning_steps"] == nuts.TUNE_PLAIN
    a, b = (tree["posterior"]["scales"].values for tree in (whitened, plain))
    for index in np.ndindex(a.shape[2:]):
        one, other = a[:, :, *index], b[:, :, *index]
        assert min(arviz_stats.ess(one), arviz_stats.ess(other)) > 400
        error = np.hypot(*(arviz_stats.mcse(draws, method="mean") for draws in (one, other)))
        assert abs(one.mean() - other.mean()) < 5.0 * error


@pytest.mark.parametrize(("n", "integrator"), [(40, "leapfrog"), (400, "geodesic")])
def test_sampling_loads_nothing_that_it_does_not_need(n: int, integrator: str) -> None:
    code = (
        "import sys, bayesgmm as bg\n"
        f"X = bg.datasets.make_mixture({n}, 2, 1, separation=8.0, random_seed=1)['X'].values\n"
        "tree = bg.fit(X, 2, draws=10, tune=20, chains=1, random_seed=1)\n"
        f"assert tree.attrs['integrator'] == '{integrator}'\n"
        "print(*sys.modules)"
    )
    child = run(code)
    out, err = child.communicate()
    assert child.returncode == 0, err
    assert err == ""
    assert ("nutpie._lib" in out.split()) == (integrator == "leapfrog")
    heavy = {"nutpie", "arviz", "arviz_stats", "pymc", "pytensor", "matplotlib"}
    assert heavy.isdisjoint(out.split())


def test_nutpie_can_be_imported_after_a_fit() -> None:
    """The extension was loaded without the package around it."""
    code = (
        "import bayesgmm as bg\n"
        "from bayesgmm.inference.chains import extension\n"
        "before = extension()\n"
        "import nutpie\n"
        "assert nutpie._lib is before is extension()\n"
        "X = bg.datasets.make_mixture(40, 2, 1, separation=8.0, random_seed=1)['X'].values\n"
        "bg.fit(X, 2, draws=10, tune=20, chains=1, random_seed=1)\n"
    )
    child = run(code)
    _, err = child.communicate()
    assert child.returncode == 0, err


def test_a_missing_nutpie_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "nutpie._lib", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="nutpie is not installed.*pip install nutpie"):
        chains.extension()


# Failure


def test_a_sampler_that_fails_says_so_and_can_be_used_again(
    monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    before = fit()
    with monkeypatch.context() as patched:
        patched.setattr(
            nuts, "point_near", lambda problem, around, rng: np.full(around.center.size, 1e200)
        )
        with pytest.raises(bg.FitError, match="The sampler failed: .*") as caught:
            fit()
        assert caught.value.status == "sampler"
        assert "stack backtrace" not in str(caught.value).lower()
    xr.testing.assert_identical(fit()["posterior"].dataset, before["posterior"].dataset)


def test_a_start_without_a_finite_density_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "bayesgmm.problem.Problem.log_posterior",
        lambda self, vector: (-np.inf, np.zeros_like(vector)),
    )
    monkeypatch.setattr(coordinates, "whitening", lambda problem, mode: np.eye(mode.size))
    monkeypatch.setattr(nuts, "find_modes", _one_mode)
    match = r"The log posterior is not finite around the mode .*got none in 10 tries\. Give priors"
    with pytest.raises(bg.FitError, match=match) as caught:
        fit()
    assert caught.value.status == "sampler"


def _one_mode(problem: Any, *args: Any, **kwargs: Any) -> Any:
    mode = SimpleNamespace(vector=np.zeros(problem.n_parameters), objective=0.0, converged=False)
    return SimpleNamespace(best=mode, modes=(mode,))


# Interruption


def interrupt_when(kind: Any, ready: Callable[[Any], bool]) -> Callable[[Any, float], None]:
    """A wait that behaves as if the user pressed Ctrl-C once."""
    original, done = kind.wait, threading.Event()

    def wait(self: Any, seconds: float) -> None:
        if ready(self) and not done.is_set():
            done.set()
            raise KeyboardInterrupt
        original(self, 0.01)

    return wait


def test_an_interrupted_fit_returns_what_it_has(monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    wait = interrupt_when(kind, lambda chain: chain.progress[0] > 2000)
    with monkeypatch.context() as patched:
        patched.setattr(kind, "wait", wait)
        with pytest.warns(bg.ConvergenceWarning, match="interrupted: .* of 200000 draws") as caught:
            tree = bg.fit(
                data(), 2, draws=200_000, tune=60, chains=2, random_seed=3, progressbar=False
            )
    assert caught[0].filename == __file__  # where the user called it
    n_draws = tree["posterior"].sizes["draw"]
    assert 2 <= n_draws < 200_000
    assert tree["log_likelihood"].sizes["draw"] == n_draws
    assert tree.attrs["interrupted"] == 1
    begun = fit(draws=n_draws, chains=2)  # draws that were made are those that would have been
    assert begun.attrs["interrupted"] == 0
    xr.testing.assert_allclose(  # products of other sizes round otherwise
        bg.align(begun, "none")["posterior"].dataset, bg.align(tree, "none")["posterior"].dataset
    )


def test_too_early_an_interruption_is_an_error(monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    monkeypatch.setattr(kind, "wait", interrupt_when(kind, lambda chain: True))
    match = "interrupted while chains were tuning; got 0 draws"
    with pytest.raises(bg.FitError, match=match) as caught:
        fit(tune=500_000)
    assert caught.value.status == "interrupted"


def test_a_chain_may_be_stopped_before_its_first_draw(kind: Any) -> None:
    problem = Problem.make(bg.GaussianMixture(2), prepare(data()))
    size = problem.n_parameters
    settings = Settings(draws=10**6, tune=10**6, target_accept=0.8, adaptation="diag")
    for _ in range(20):  # how far it comes is up to the machine
        chain = kind(problem, np.zeros(size), np.eye(size), np.full(size, 0.1), settings, seed=1)
        chain.abort()
        vectors, statistics = chain.result()
        assert vectors.shape == (0, size)
        assert all(len(values) == 0 for values in statistics.values())


def test_a_signal_interrupts() -> None:
    """Ctrl-C as the system sends it, while the sampler runs outside of Python."""
    code = (
        "import signal, warnings, bayesgmm as bg\n"
        "from bayesgmm.inference.chains import Chain\n"
        "from bayesgmm.inference.progress import Progress\n"
        "def update(self, message):\n"
        "    if message.startswith('Sampling') and ': 0%' not in message:\n"
        "        Progress.update = lambda self, message: None\n"
        "        print('sampling', flush=True)\n"
        "Progress.update = update\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # off in the background
        "X = bg.datasets.make_mixture(60, 2, 2, separation=6.0, random_seed=1)['X'].values\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    tree = bg.fit(X, 2, draws=300_000, tune=50, chains=2, random_seed=1)\n"
        "print(tree.posterior.sizes['draw'], tree.attrs['interrupted'])\n"
        "print(caught[0].category.__name__)\n"
    )
    child = run(code)
    assert child.stdout is not None
    assert child.stdout.readline() == "sampling\n"
    child.send_signal(2)
    out, err = child.communicate()
    assert child.returncode == 0, err
    n_draws, interrupted, warned = out.split()
    assert 2 <= int(n_draws) < 300_000
    assert (interrupted, warned) == ("1", "ConvergenceWarning")


# Threads


def test_fits_in_other_threads_are_the_same() -> None:
    expected = fit()["posterior"].dataset
    with ThreadPoolExecutor(2) as pool:
        made = [pool.submit(fit) for _ in range(3)]
        for future in made:
            xr.testing.assert_identical(future.result()["posterior"].dataset, expected)


def test_two_fits_in_a_row_are_the_same() -> None:
    xr.testing.assert_identical(fit()["posterior"].dataset, fit()["posterior"].dataset)


@pytest.mark.parametrize("adaptation", ["diag", "low_rank"])
def test_a_chain_makes_the_draws_that_it_is_asked_for(adaptation: Any, kind: Any) -> None:
    problem = Problem.make(bg.GaussianMixture(2), prepare(data()))
    size = problem.n_parameters
    results = []
    for seed in (5, 5, 6):
        settings = Settings(7, 31, 0.9, adaptation)
        chain = kind(
            problem, np.zeros(size), 0.1 * np.eye(size), np.full(size, 0.1), settings, seed=seed
        )
        while not chain.finished:
            chain.wait(1.0)
        results.append(chain.result())
        assert chain.progress[0] <= 7 + 31
    assert results[0][0].shape == (7, size)
    assert all(values.shape == (7,) for values in results[0][1].values())
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert not np.isin(results[0][0], results[2][0]).any()
