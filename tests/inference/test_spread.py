"""Fits spread over a cluster are those made here, to the last bit."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpy.typing import NDArray

import bayesgmm as bg
from bayesgmm.inference import blocks, nuts, spread
from bayesgmm.selection import Selection

type Array = NDArray[np.float64]

SHORT: dict[str, Any] = {"draws": 30, "tune": 40, "chains": 2, "random_seed": 5}
GROUPS = ("posterior", "sample_stats", "log_likelihood", "alignment", "modes", "observed_data")

pytestmark = pytest.mark.filterwarnings("default")  # what a cluster has to say of itself


@pytest.fixture(scope="module")
def X() -> Array:
    return bg.datasets.make_mixture(80, 3, 2, separation=6.0, random_seed=2)["X"].values


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two workers, processes of their own, on this machine alone."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: Any) -> Iterator[Any]:
    from distributed import Client

    with Client(cluster) as client:
        client.wait_for_workers(2)
        yield client


def select(X: Array, numbers: Any = (1, 2, 3), **keywords: Any) -> Selection:
    return bg.select(X, numbers, **(SHORT | {"progressbar": False} | keywords))


def fit(X: Any, **keywords: Any) -> xr.DataTree:
    return bg.fit(X, 3, progressbar=False, **(SHORT | keywords))


def assert_same(one: Selection, other: Selection) -> None:
    pd.testing.assert_frame_equal(
        one.table.drop(columns="seconds"), other.table.drop(columns="seconds"), check_exact=True
    )
    assert one.fits.keys() == other.fits.keys()
    for candidate, tree in one.fits.items():
        for group in GROUPS:
            xr.testing.assert_identical(tree[group].dataset, other.fits[candidate][group].dataset)


def assert_same_draws(one: xr.DataTree, other: xr.DataTree) -> None:
    for name in ("weights", "means", "covariances"):
        np.testing.assert_array_equal(one.posterior[name], other.posterior[name])
    np.testing.assert_array_equal(one.sample_stats["lp"], other.sample_stats["lp"])


def test_workers_of_this_process_fit_as_it_does(X: Array) -> None:
    from distributed import Client

    few = {"numbers": (1, 2), "criteria": ("bic",)}
    expected, tree = select(X, **few), fit(X)
    with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None):
        assert_same(select(X, **few), expected)
        found = fit(dask.array.from_array(X, chunks=(30, 2)))
    assert_same_draws(found, tree)
    assert found.attrs["n_blocks"] == 3
    assert "observed_data" not in found.children


@pytest.mark.slow
def test_a_selection_is_the_same_on_a_cluster(X: Array, client: Any, tmp_path: Path) -> None:
    settings = {"structures": ["full", "tied"]}
    with dask.config.set(scheduler="threads"):  # the cluster is not asked
        expected = select(X, **settings)
    assert_same(select(X, **settings), expected)
    begun = {**settings, "folder": tmp_path, "keep": "none"}
    table = select(X, **begun).table
    pd.testing.assert_frame_equal(
        table.drop(columns="seconds"), expected.table.drop(columns="seconds"), check_exact=True
    )
    for name in ("2-full", "3-full"):
        (tmp_path / f"{name}.json").unlink()
    assert_same(select(X, **settings, folder=tmp_path), expected)


@pytest.mark.slow
def test_so_are_approximations(X: Array, client: Any) -> None:
    settings = {"method": "laplace", "criteria": ["loo", "bic"]}
    with dask.config.set(scheduler="threads"):
        expected = select(X, **settings)
    assert_same(select(X, **settings), expected)


@pytest.mark.slow
def test_a_fit_that_fails_leaves_the_others_alone(X: Array, client: Any) -> None:
    def break_two() -> None:
        def search(problem: Any, options: Any, number: int) -> Any:
            if problem.layout.n_components == 2 and number == 1:
                raise bg.FitError("no mode", status="degenerate")
            return nuts.search(problem, options, number)

        spread.search = search

    def mend() -> None:
        spread.search = nuts.search

    client.run(break_two)
    with pytest.warns(bg.ConvergenceWarning, match=r"1 of 3 fits cannot .* Failed: no mode"):
        found = select(X)
    client.run(mend)
    assert list(found.fits) == [(1, "full"), (3, "full")]
    assert_same_draws(found.fits[3, "full"], fit(X))  # nothing to grow from


@pytest.mark.slow
def test_a_task_fits_by_itself(X: Array, client: Any) -> None:
    """Or workers that wait for others would do nothing."""
    expected = select(X, (1, 2)).table["bic"]
    futures = [client.submit(select, X, (1, 2), pure=False) for _ in range(2)]
    for found in client.gather(futures):
        np.testing.assert_array_equal(found.table["bic"], expected)


@pytest.mark.slow
def test_an_interrupted_selection_returns_what_is_done(
    X: Array, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, known = spread._given, []

    def once(future: Any) -> Any:
        if known:
            raise KeyboardInterrupt
        known.append(given(future))
        return known[0]

    monkeypatch.setattr(spread, "_given", once)
    with pytest.warns(bg.ConvergenceWarning, match="interrupted: 1 of 3 fits"):
        found = select(X)
    assert list(found.fits) == [known[0][0].candidate]


@pytest.mark.slow
def test_an_interrupted_fit_has_the_draws_made_so_far(
    X: Array, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: Any, message: str) -> None:
        if message.startswith("Sampling 2 chains"):
            raise KeyboardInterrupt

    monkeypatch.setattr(spread.Progress, "update", interrupt)
    with pytest.warns(bg.ConvergenceWarning, match=r"^Sampling was interrupted: \d+ of 1000000 dr"):
        tree = fit(dask.array.from_array(X, chunks=(30, 2)), draws=10**6)
    assert 2 <= tree.posterior.sizes["draw"] < 10**6
    assert tree.attrs["interrupted"] == 1


@pytest.mark.slow
def test_many_rows_are_not_gathered(X: Array, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = dask.array.from_array(X, chunks=(30, 2))
    gathered = fit(rows)
    monkeypatch.setattr(blocks, "KEPT", X.nbytes - 1)
    assert not fit(rows).posterior["means"].equals(gathered.posterior["means"])
    monkeypatch.setattr(blocks, "KEPT", X.nbytes)
    assert_same_draws(fit(rows), gathered)


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_worker_that_dies_costs_its_tasks(
    X: Array, client: Any, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """While it searches, while chains are prepared, while they sample."""
    submit, count = spread.Workers.submit, [0]

    def deadly(self: spread.Workers, *given: Any) -> Any:
        future = submit(self, *given)
        count[0] += 1
        if count[0] == at:
            os.kill(min(client.run(os.getpid).values()), signal.SIGKILL)
        return future

    expected = fit(X)
    monkeypatch.setattr(spread.Workers, "submit", deadly)
    assert_same_draws(fit(dask.array.from_array(X, chunks=(30, 2))), expected)
    assert count == [5]


@pytest.mark.slow
def test_a_cluster_that_loses_the_rows_is_told(
    X: Array, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = spread.Workers.submit

    def forgetful(self: spread.Workers, *given: Any) -> Any:
        self._data.cancel()
        return submit(self, *given)

    monkeypatch.setattr(spread.Workers, "submit", forgetful)
    with pytest.raises(bg.FitError, match=r"^The cluster must keep one worker at least that hold"):
        fit(dask.array.from_array(X, chunks=(30, 2)))
