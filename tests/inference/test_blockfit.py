"""Fits of rows in blocks are those of the same rows in memory."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import dask.array
import dask.dataframe
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from arviz_stats import ess
from numpy.typing import NDArray

import bayesgmm as bg
from bayesgmm.inference import blocks, survey
from bayesgmm.inference.blocks import Away, refuse_strangers

type Array = NDArray[np.float64]

NAMES = ("weights", "means", "scales", "correlations", "covariances")


@pytest.fixture(scope="module")
def X() -> Array:
    return bg.datasets.load_faithful().to_numpy(dtype=float)


@pytest.fixture
def unkept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are too many to be kept, and read in every pass."""
    monkeypatch.setattr(blocks, "KEPT", 0)
    monkeypatch.setattr(blocks, "TOGETHER", 1000)


@pytest.fixture
def one_at_a_time() -> Iterator[None]:
    with dask.config.set(scheduler="synchronous"):
        yield


def fit(X: Any, spec: Any = 2, **keywords: Any) -> xr.DataTree:
    settings = {"method": "map", "random_seed": 1, "progressbar": False}
    return bg.fit(X, spec, **(settings | keywords))


def chunked(X: Array, n_blocks: int) -> Any:
    return dask.array.from_array(X, chunks=(-(-len(X) // n_blocks), X.shape[1]))


def assert_same(tree: xr.DataTree, other: xr.DataTree, tolerance: float) -> None:
    for name in NAMES:
        np.testing.assert_allclose(
            tree.posterior[name], other.posterior[name], rtol=tolerance, err_msg=name
        )
    ours, theirs = tree.sample_stats["lp"].values, other.sample_stats["lp"].values
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)


@pytest.mark.parametrize("method", ["map", "ml"])
def test_modes_are_those_of_rows_in_memory(X: Array, method: str) -> None:
    expected = fit(X, method=method)
    for n_blocks in (1, 7, 100):
        tree = fit(chunked(X, n_blocks), method=method)
        assert_same(tree, expected, 1e-8)
        assert tree.attrs["n_blocks"] == len(range(0, 272, -(-272 // n_blocks)))
        assert tree.attrs["n_rows"] == 272


@pytest.mark.usefixtures("unkept", "one_at_a_time")
@pytest.mark.parametrize("n_blocks", [7, 100])
def test_so_are_those_of_rows_that_are_read_in_every_pass(X: Array, n_blocks: int) -> None:
    assert_same(fit(chunked(X, n_blocks)), fit(X), 1e-8)


@pytest.mark.usefixtures("unkept", "one_at_a_time")
def test_missing_cells_are_integrated_out(X: Array) -> None:
    X = X.copy()
    X[::7, 0] = np.nan
    X[100:105, 1] = np.nan
    assert_same(fit(chunked(X, 7)), fit(X), 1e-8)


def said_of(X: Array, what: str) -> dict[str, Any]:
    """Return what is said of rows, as arrays in memory."""
    rng = np.random.default_rng(4)
    errors = 0.1 * rng.gamma(1.0, size=X.shape) * X.std(axis=0)
    errors[::3] = 0.0
    covariances = errors[:, :, None] * np.eye(2)
    covariances[:, 0, 1] = covariances[:, 1, 0] = 0.5 * errors.prod(axis=1)
    known = np.where(np.arange(len(X)) % 20 == 0, X[:, 1] > 68.0, -1)
    said = {
        "sample_weight": rng.integers(3, size=len(X)) * 0.7,
        "labels": known,
        "measurement_error": errors,
    }
    if what == "soft":
        return {"labels": np.where(known[:, None] < 0, 1.0, [0.2, 0.9])}
    if what == "covariances":
        return {"measurement_error": covariances}
    return said if what == "all" else {what: said[what]}


@pytest.mark.parametrize(
    ("what", "method"),
    [
        ("sample_weight", "map"),
        ("labels", "map"),
        ("soft", "ml"),
        ("measurement_error", "map"),
        ("covariances", "ml"),
        ("all", "map"),
        ("all", "ml"),
    ],
)
def test_modes_with_all_that_is_said_of_rows_are_those_in_memory(
    X: Array, what: str, method: str
) -> None:
    X, said = X.copy(), said_of(X, what)
    X[5:40:5, 0] = np.nan
    expected = fit(X, method=method, **said)
    for n_blocks in (1, 7, 100):
        of_dask = {  # in chunks of their own
            name: dask.array.from_array(values, chunks=(60, *values.shape[1:]))
            for name, values in said.items()
        }
        tree = fit(chunked(X, n_blocks), method=method, **(of_dask if n_blocks == 7 else said))
        assert_same(tree, expected, 1e-8)
    assert tree.alignment.attrs["method"] == expected.alignment.attrs["method"]
    assert tree.attrs.get("effective_rows", 0.0) == pytest.approx(
        expected.attrs.get("effective_rows", 0.0), rel=1e-12
    )


@pytest.mark.usefixtures("unkept", "one_at_a_time")
def test_what_is_said_of_rows_is_read_with_them_in_every_pass(X: Array) -> None:
    said = said_of(X, "all")
    assert_same(fit(chunked(X, 7), **said), fit(X, **said), 1e-8)


@pytest.mark.parametrize("method", ["nuts", "laplace", "advi"])
def test_draws_with_weights_and_labels_are_of_the_same_posterior(X: Array, method: str) -> None:
    settings = {"method": method, "draws": 500, "chains": 2, **said_of(X, "all")}
    assert_same_posterior(fit(X, **settings), fit(chunked(X, 7), **settings))


def test_labelled_rows_are_in_the_sample(X: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "SAMPLE_ROWS", 60)
    last = np.argsort(survey.random_keys(np.arange(272), 1))[-4:]  # drawn by the seed
    for long in (0, 1):  # whichever name it would have without
        labels = np.full(272, -1)
        labels[last] = np.where(X[last, 1] > 68.0, long, 1 - long)
        assert set(labels) == {-1, 0, 1}
        tree, expected = fit(chunked(X, 7), labels=labels), fit(X, labels=labels)
        np.testing.assert_allclose(tree.posterior["means"], expected.posterior["means"], rtol=1e-5)
        assert tree.alignment.attrs["method"] == "none"


def test_starts_come_from_a_sample_of_many_rows(X: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "SAMPLE_ROWS", 100)
    tree = fit(chunked(X, 7))
    np.testing.assert_allclose(tree.posterior["means"], fit(X).posterior["means"], rtol=1e-5)
    assert fit(chunked(X, 7)).posterior.identical(tree.posterior)


def test_components_may_be_more_than_rows_of_a_block(X: Array) -> None:
    assert_same(fit(chunked(X, 136), 3), fit(X, 3), 1e-8)


@pytest.mark.parametrize("method", ["nuts", "laplace", "advi", "fullrank_advi"])
def test_draws_are_of_the_same_posterior(X: Array, method: str) -> None:
    settings = {"method": method, "draws": 500, "chains": 2}
    assert_same_posterior(fit(X, **settings), fit(chunked(X, 7), **settings))


def assert_same_posterior(expected: xr.DataTree, tree: xr.DataTree) -> None:
    for name in ("weights", "means", "scales"):
        drawn = [one.posterior[name] for one in (tree, expected)]
        assert min(float(ess(draws).min()) for draws in drawn) > 200.0
        ours, theirs = (draws.values.reshape(1000, -1) for draws in drawn)
        error = np.sqrt((ours.var(axis=0) + theirs.var(axis=0)) / 200.0)
        assert (abs(ours.mean(axis=0) - theirs.mean(axis=0)) < 5.0 * error).all(), name


@pytest.mark.usefixtures("unkept", "one_at_a_time")
def test_nuts_reads_rows_in_every_pass(X: Array) -> None:
    settings = {"spec": 1, "method": "nuts", "draws": 4, "tune": 20, "chains": 1}
    tree = fit(chunked(X[:80], 2), **settings)
    assert tree.posterior.sizes["draw"] == 4
    assert abs(tree.posterior["means"] - X[:80].mean(axis=0)).max() < X[:80].std(axis=0).max()


def test_the_rows_stay_where_they_are(X: Array, tmp_path: Path) -> None:
    tree = fit(chunked(X, 7))
    assert "observed_data" not in tree.children
    assert "log_likelihood" not in tree.children
    bg.save(tree, tmp_path / "fit.nc")
    assert bg.load(tmp_path / "fit.nc").identical(tree)
    assert bg.check(tree).ok
    assert len(bg.summary(tree)) == 12
    with pytest.raises(ValueError, match=r"'observed_data' for `predict_proba`; .* Rows are not"):
        bg.predict_proba(tree)


def test_labels_of_columns_are_kept(X: Array) -> None:
    frame = bg.datasets.load_faithful()
    tree = fit(dask.dataframe.from_pandas(frame, npartitions=3))
    assert tree.posterior["feature"].values.tolist() == ["eruptions", "waiting"]
    cells = xr.DataArray(X.T, dims=("band", "time"), coords={"band": ["e", "w"]})
    tree = fit(cells.rename(band="feature").chunk({"time": 50}))
    assert tree.posterior["feature"].values.tolist() == ["e", "w"]
    assert_same(tree, fit(X), 1e-8)


def test_folders_are_read_block_by_block(X: Array, tmp_path: Path) -> None:
    expected = fit(X)
    store = zarr.create_array(tmp_path / "rows.zarr", shape=X.shape, chunks=(100, 1), dtype="f8")
    store[:] = X
    assert_same(fit(tmp_path / "rows.zarr"), expected, 1e-8)
    table = xr.Dataset({"cells": (("row", "feature"), X), "time": ("row", np.arange(272))})
    table.to_zarr(tmp_path / "group.zarr", consolidated=False)
    assert_same(fit(str(tmp_path / "group.zarr")), expected, 1e-8)
    parts = tmp_path / "parts"
    parts.mkdir()
    frame = pd.DataFrame(X, columns=["a", "b"])
    for i, part in enumerate((frame[:100], frame[100:])):
        part.to_parquet(parts / f"{i}.parquet")
    assert_same(fit(parts), expected, 1e-8)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8"])
def test_numbers_of_other_types_are_taken(X: Array, dtype: str) -> None:
    X = X.astype(dtype)
    assert_same(fit(chunked(X, 3)), fit(X), 1e-8)


@pytest.mark.usefixtures("unkept")
def test_a_store_that_changes_is_told(
    X: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = zarr.create_array(tmp_path / "rows.zarr", shape=X.shape, chunks=(100, 2), dtype="f8")
    store[:] = X
    reads = Away.moments

    def meanwhile(self: Away, mixture: Any) -> Array:
        store[150, 1] = 61.0
        return reads(self, mixture)

    monkeypatch.setattr(Away, "moments", meanwhile)
    with pytest.raises(bg.FitError, match=r"^`X` must not change while .* in block 1 than") as told:
        fit(tmp_path / "rows.zarr")
    assert told.value.status == "changed"


def empty_rows(X: Array) -> Array:
    X = X.copy()
    X[91:182] = np.nan
    return X


def with_inf(X: Array) -> Array:
    X = X.copy()
    X[200, 1] = np.inf
    return X


@pytest.mark.parametrize(
    ("make", "keywords", "message"),
    [
        (lambda X: chunked(X, 3).rechunk({1: 1}), {}, r"^`X` must be chunked along its rows alone"),
        (lambda X: (d := chunked(X, 3))[d[:, 0] > 2], {}, r"^`X` must have chunks of known sizes;"),
        (lambda X: chunked(X, 3)[:, :, None], {}, r"^`X` must be 2-D, .* got shape \(272, 2, 1\)"),
        (lambda X: chunked(X, 3)[:0], {}, r"^`X` must hold at least one row and one feature; got"),
        (lambda X: chunked(empty_rows(X), 3), {}, r"missing cells \(NaN\) in 91 rows, .* row 91\."),
        (lambda X: chunked(with_inf(X), 3), {}, r"1 infinite, the first at row 200, column 1\."),
        (lambda X: chunked(1e200 * X, 3), {}, r"whose range is at most 1e\+100; got 1.6e\+200 to"),
        (lambda X: chunked(X[:, [0, 0]], 3), {}, r"^`X` must have columns none of which others de"),
        (lambda X: chunked(X[:2], 1), {"spec": 3}, r"^`X` must have at least as many rows as ther"),
        (lambda X: chunked(X, 3), {"engine": "pymc"}, r"^`engine` must be 'auto' or 'fused'"),
        (
            lambda X: chunked(X, 3),
            {"spec": bg.GaussianMixture(bg.PriorOnComponents()), "method": "nuts"},
            r"^`spec` must be a GaussianMixture of a number of components",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_refused(
    X: Array, make: Callable[[Array], Any], keywords: dict[str, Any], message: str
) -> None:
    settings = {"spec": 2, "method": "laplace"} | keywords
    with pytest.raises(ValueError, match=message):
        fit(make(X), **settings)


def test_columns_that_are_no_numbers_are_refused(X: Array) -> None:
    frame = pd.DataFrame({"a": X[:, 0], "b": ["x"] * 272})
    with pytest.raises(TypeError, match=r"^`X` must hold real numbers in every column; got text "):
        fit(dask.dataframe.from_pandas(frame, npartitions=2))
    with pytest.raises(TypeError, match=r"^`X` must hold real numbers .* got complex numbers"):
        fit(chunked(X * 1j, 2))


def scene(X: Array, masked: bool) -> xr.DataArray:
    cells = X[:270].reshape(5, 6, 9, 2).copy()
    if masked:
        cells[:, 0] = cells[1, :, :4] = np.nan
        cells[2, 3, :, 1] = np.nan
    coords = {"band": ["e", "w"], "y": np.arange(6.0), "lat": (("y", "x"), np.ones((6, 9)))}
    return xr.DataArray(cells, dims=("time", "y", "x", "band"), coords=coords, name="scene")


CUTS: dict[int, dict[str, int]] = {
    1: {}, 7: {"time": 3, "y": 3, "x": 5}, 100: {"time": 1, "y": 1, "x": 4}
}  # fmt: skip


@pytest.mark.parametrize("masked", [False, True])
def test_cubes_are_fitted_chunk_by_chunk(X: Array, masked: bool) -> None:
    whole = scene(X, masked)
    expected = fit(whole, feature_dim="band")
    for n_blocks, cut in CUTS.items():
        tree = fit(whole.transpose("x", "band", ...).chunk(cut), feature_dim="band")
        assert_same(tree, expected, 1e-8)
        assert tree.attrs["n_rows"] == expected["observed_data"].sizes["obs"]
        assert tree.attrs["n_blocks"] == {1: 1, 7: 8, 100: 90}[n_blocks]
        band = expected["constant_data"]["feature"]
        assert tree["constant_data"]["feature"].identical(band)


def test_so_are_datasets_and_stores_of_cubes(X: Array, tmp_path: Path) -> None:
    whole = scene(X, masked=True)
    expected = fit(whole, feature_dim="band")
    assert_same(fit(whole.to_dataset("band").chunk(time=2)), expected, 1e-8)
    chunked = whole.chunk(time=2, band=1)
    chunked.to_dataset().to_zarr(tmp_path / "scene.zarr", consolidated=False)
    assert_same(fit(tmp_path / "scene.zarr", feature_dim="band"), expected, 1e-8)


def test_maps_say_what_is_known_of_cells(X: Array) -> None:
    whole = scene(X, masked=True)
    weights = xr.DataArray(np.arange(270.0).reshape(5, 6, 9) % 4, dims=("time", "y", "x"))
    labels = xr.where(weights == 3.0, whole.sel(band="w", drop=True) > 68.0, -1)
    said = {"sample_weight": weights, "labels": labels, "measurement_error": 0.0 * whole + 0.1}
    expected = fit(whole, feature_dim="band", **said)
    cut = whole.chunk(time=2, x=4)
    lazily = {"sample_weight": weights.chunk(y=2).transpose(), "labels": labels.values}
    assert_same(fit(cut, feature_dim="band", **said | lazily), expected, 1e-8)


def test_the_first_cell_that_is_unusable_is_named(X: Array) -> None:
    cells = scene(X, masked=False)
    cells[4, 5, 8, 0] = cells[2, 0, 7, 1] = np.inf
    with pytest.raises(ValueError, match=r"got 2 infinite, the first at cell \(time=2, y=0, x=7\)"):
        fit(cells.chunk(time=1), feature_dim="band")
    with pytest.raises(ValueError, match=r"^`X` must have a number in some cell; got .* all 270\."):
        fit(scene(X, masked=False).where(False).chunk(time=1), feature_dim="band")
    with pytest.raises(
        ValueError, match=r"^`sample_weight` must be positive for two rows.* 0 of 27"
    ):
        fit(chunked(X, 7), sample_weight=np.zeros(272))
    with pytest.raises(ValueError, match=r"^`labels` must lie in 0 to 1, .* got 5 at row 0\."):
        fit(chunked(X, 7), labels=np.full(272, 5))  # whichever block is read first


def test_groups_of_several_tables_are_refused(X: Array, tmp_path: Path) -> None:
    two = xr.Dataset({name: (("row", "feature"), X) for name in "ab"})
    two.to_zarr(tmp_path / "two.zarr", consolidated=False)
    with pytest.raises(ValueError, match=r"^`X` must be the path of a Zarr array, or .* 'a', 'b'"):
        fit(tmp_path / "two.zarr")


def test_a_cluster_must_have_the_package() -> None:
    versions = {"tcp://one": bg.__version__, "tcp://two": None, "tcp://three": "0.0.1"}
    client = SimpleNamespace(run=lambda ask: versions if ask() == bg.__version__ else {})
    with pytest.raises(ImportError, match=r"got none on tcp://two, 0\.0\.1 on tcp://three\. Inst"):
        refuse_strangers(client)
    refuse_strangers(SimpleNamespace(run=lambda ask: {"tcp://one": ask()}))


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two workers, processes of their own, on this machine alone."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("method", "at"), [("map", 8), ("nuts", 150)])
def test_a_worker_that_dies_costs_its_blocks(
    X: Array, client: Any, monkeypatch: pytest.MonkeyPatch, method: str, at: int
) -> None:
    settings = {"method": method, "draws": 30, "tune": 20, "chains": 2}
    monkeypatch.setattr(blocks, "KEPT", 0)  # or NUTS would gather so few rows
    expected = fit(chunked(X, 7), **settings)
    passes, total = [0], Away._total

    def deadly(self: Away, task: Callable[..., Array], argument: Any) -> Array:
        passes[0] += 1
        if passes[0] == at:
            os.kill(min(client.run(os.getpid).values()), signal.SIGKILL)
        return total(self, task, argument)

    monkeypatch.setattr(Away, "_total", deadly)
    tree = fit(chunked(X, 7), **settings)
    assert passes[0] > at
    client.wait_for_workers(2)  # sums are of as many packed blocks as there are threads
    assert_same(tree, fit(chunked(X, 7), **settings), 0.0)
    if method == "map":
        assert_same(tree, expected, 1e-8)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_workers_without_the_package_are_told(X: Array, client: Any) -> None:
    def lose() -> None:
        import sys

        sys.modules["bayesgmm"] = None  # type: ignore[assignment]

    client.run(lose)
    with pytest.raises(ImportError, match=r"got none on tcp://127\.0\.0\.1:\d+, none on tcp://127"):
        fit(chunked(X, 2))
