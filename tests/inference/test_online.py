"""Batches that are not kept: as good as all rows at once, in bounded memory."""

import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesgmm as bg
from bayesgmm.errors import ConvergenceWarning, FitError
from bayesgmm.inference import online
from bayesgmm.inference.frames import _climb
from bayesgmm.inference.sufficient import Ground, Sufficient, expect, mixtures_of, statistics_of
from bayesgmm.tree import check_schema, parameters

type Array = np.ndarray

CENTRES = np.array([[0.0, 0.0], [3.5, 0.0], [1.5, 4.0]])


def rows(rng: np.random.Generator, n: int, n_features: int = 2) -> Array:
    """Return rows of three components, 0.5, 0.3 and 0.2 of them, in no order."""
    X = rng.normal(size=(n, n_features))
    X[:, :2] += CENTRES[rng.choice(3, size=n, p=[0.5, 0.3, 0.2])]
    return X


def online_fit(batches: Any, spec: Any = 3, **others: Any) -> xr.DataTree:
    return bg.fit_online(batches, spec, random_seed=1, progressbar=False, **others)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start from few rows, which takes less time."""
    monkeypatch.setattr(online, "FIRST_ROWS", 400)


@pytest.mark.parametrize("decay", [0.6, 0.9])
def test_a_stream_ends_where_all_rows_together_do(decay: float) -> None:
    X = rows(np.random.default_rng(5), 200_000)
    tree = online_fit(X, decay=decay)
    ground = Ground.of_tree(tree)
    standardised = ground.rows(X)
    mixture = mixtures_of(parameters(tree), ground)[0]
    nothing = Sufficient(*(np.zeros_like(part) for part in statistics_of(tree, ground)))
    best = _climb(ground, nothing, standardised, statistics_of(tree, ground), mixture.cholesky)
    assert best is not None
    assert best.converged
    # weights that grow with N add a third to the variance of 17 parameters: twice the loss is a
    # third of a chi-squared with as many degrees of freedom, five standard deviations at the most
    loss = best.value - expect(standardised, mixture)[0]
    assert -1e-2 < loss < 0.5 * (17 + 5 * (2 * 17) ** 0.5) / 3
    found, expected = tree["posterior"]["means"].values[0, 0], ground.parameters(best.mixture)
    error = (expected.scales[0] ** 2 / (expected.weights[0][:, None] * len(X))) ** 0.5
    assert (np.abs(found - expected.means[0]) < 5 * error).all()


@pytest.mark.usefixtures("soon")
def test_going_on_is_never_having_stopped(rng: np.random.Generator, tmp_path: Path) -> None:
    batches = [rows(rng, 500) for _ in range(8)]
    whole = online_fit(batches)
    bg.save(online_fit(batches[:5]), tmp_path / "fit.nc")
    parts = online_fit(batches[5:], bg.load(tmp_path / "fit.nc"))
    for group in ("posterior", "sufficient_statistics", "online"):
        xr.testing.assert_allclose(parts[group].to_dataset(), whole[group].to_dataset(), rtol=1e-9)
    assert parts["sufficient_statistics"]["counts"].sum() == pytest.approx(4000.0)
    assert online_fit(batches).posterior.identical(whole.posterior)


@pytest.mark.usefixtures("soon")
def test_schema_and_labels(rng: np.random.Generator) -> None:
    tree = online_fit([pd.DataFrame(rows(rng, 500), columns=["a", "b"]) for _ in range(4)])
    check_schema(tree)
    assert "observed_data" not in tree.children
    assert tree["posterior"]["feature"].values.tolist() == ["a", "b"]
    assert tree["online"]["n_rows"].values.tolist() == [500, 500, 500]
    assert tree.attrs["method"] == "map"
    assert tree.attrs["random_seed"] == 1
    assert np.isnan(tree["sample_stats"]["lp"].item())
    assert bg.check(tree).ok
    means = tree["posterior"]["means"].values[0, 0]
    assert (np.diff(means[:, 0]) > 0.0).all()  # in the order in which fits report components


@pytest.mark.usefixtures("soon")
def test_new_rows_can_be_predicted_and_old_ones_are_not_there(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    tree, new = online_fit([rows(rng, 500) for _ in range(4)]), CENTRES + 0.1
    assert len(set(bg.predict(tree, new).values)) == 3
    assert np.isfinite(bg.score_samples(tree, new).values).all()
    assert bg.sample_posterior_predictive(tree, 5, random_seed=1).sizes["obs"] == 5
    assert bg.cdf(tree, [0.0], feature="x0").sizes["x0"] == 1
    assert bg.quantile(tree, [0.5], feature="x1").sizes["quantile"] == 1
    assert bg.regress(tree, {"x0": [0.0, 1.0]})["mean"].shape == (2, 1)
    parts = {"marginal": bg.marginal(tree, "x1"), "conditional": bg.conditional(tree, {"x0": 0.0})}
    for name, part in parts.items():
        bg.save(part, tmp_path / f"{name}.nc")
        again = bg.load(tmp_path / f"{name}.nc")
        assert again.identical(part)
        whole = bg.quantile(tree, [0.3], feature="x1") if name == "marginal" else None
        found = bg.quantile(again, [0.3])
        assert whole is None or found.equals(whole)
        assert bg.predict(again, new[:, 1:]).sizes["obs"] == len(new)
        with pytest.raises(ValueError, match=r"'observed_data' for `predict`; .* are not kept"):
            bg.predict(again)
    for name in ("predict", "score_samples", "sample_posterior_predictive", "bic", "partition"):
        message = rf"must hold the group 'observed_data' for `{name}`; .* Batches are not kept"
        with pytest.raises(ValueError, match=message):
            getattr(bg, name)(tree)


@pytest.mark.usefixtures("soon")
def test_a_log_score_is_of_rows_not_yet_learnt_from(rng: np.random.Generator) -> None:
    batches = [rows(rng, 1000) for _ in range(3)]
    scores = online_fit(batches)["online"]["log_score"].values
    for (before, after), score in zip(pairwise([1, 2, 3]), scores, strict=True):
        tree = online_fit(batches[:before])
        # the last iterate, not the average, is what meets the next batch
        last = tree["online"].dataset
        joint = []
        for k in range(3):
            one = last.isel(component=k)
            gap = batches[after - 1] - one["means"].values
            inverse = np.linalg.inv(one["covariances"].values)
            distance = np.einsum("ni,ij,nj->n", gap, inverse, gap)
            share = np.log(one["counts"].item() / last["counts"].sum().item())
            determinant = np.linalg.slogdet(one["covariances"].values)[1]
            joint.append(share - 0.5 * (distance + determinant + 2 * np.log(2 * np.pi)))
        # the priors are worth little
        np.testing.assert_allclose(score, np.logaddexp.reduce(joint).mean(), atol=3e-3)
    moved = online_fit([*batches, batches[0] + 3.0])["online"]["log_score"].values
    assert moved[-1] < moved[:-1].min() - 1.0


def test_memory_is_that_of_a_batch_and_the_start() -> None:
    rng = np.random.default_rng(2)
    n, size = 25, 10_000
    online_fit([rows(rng, size, 8)])  # compiled, imported
    tracemalloc.start()
    online_fit(rows(rng, size, 8) for _ in range(n))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * n * size * 8 * 8


def test_arrays_are_read_by_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online, "FIRST_ROWS", 400)
    monkeypatch.setattr(online, "READ_ROWS", 500)
    X = rows(np.random.default_rng(3), 1800).astype(np.float32)
    mapped = np.memmap(tmp_path / "rows", np.float32, "w+", shape=X.shape)
    mapped[:] = X
    tree = online_fit(mapped)
    assert tree["online"]["n_rows"].values.tolist() == [500, 500, 300]
    parts = online_fit(iter(np.split(X, [500, 1000, 1500])))
    assert tree.posterior.identical(parts.posterior)


@pytest.mark.usefixtures("soon")
def test_any_fit_is_a_start_and_a_stream_is_one_for_frames(rng: np.random.Generator) -> None:
    fitted = bg.fit(rows(rng, 300), 3, draws=20, chains=2, random_seed=1, progressbar=False)
    tree = online_fit([rows(rng, 500)], fitted)
    assert tree["sufficient_statistics"]["counts"].sum() == pytest.approx(800.0)
    later = bg.update(tree, rows(rng, 100), forgetting=0.5, progressbar=False)
    assert later["sufficient_statistics"]["counts"].sum() == pytest.approx(500.0)
    assert set(later["tracks"]["status"].values) == {"kept"}
    again = online_fit([rows(rng, 100)], later)
    assert again["posterior"]["component"].equals(later["posterior"]["component"])


@pytest.mark.usefixtures("soon")
def test_what_was_learnt_before_an_interruption_is_returned(rng: np.random.Generator) -> None:
    batches = [rows(rng, 500) for _ in range(4)]

    def stopped() -> Iterator[Array]:
        yield from batches
        raise KeyboardInterrupt

    with pytest.warns(ConvergenceWarning, match=r"^Interrupted: the fit of 2000 rows so far"):
        tree = online_fit(stopped())
    assert tree.attrs["interrupted"] == 1
    assert tree.posterior.identical(online_fit(batches).posterior)


@pytest.mark.usefixtures("soon")
def test_what_was_learnt_before_a_bad_batch_is_in_the_error(rng: np.random.Generator) -> None:
    batches = [pd.DataFrame(rows(rng, 500), columns=["a", "b"]) for _ in range(4)]
    bad = batches[3].rename(columns={"b": "c"})
    message = r"After 2 batches .*: `batches\[3\]` must have the 2 fitted columns, 'a', 'b', in"
    with pytest.raises(FitError, match=message) as caught:
        online_fit([*batches[:3], bad])
    assert caught.value.status == "interrupted"
    tree = online_fit(batches[3:], caught.value.result)
    xr.testing.assert_allclose(
        tree["posterior"].to_dataset(), online_fit(batches)["posterior"].to_dataset(), rtol=1e-9
    )

    def broken() -> Iterator[pd.DataFrame]:
        yield from batches
        raise OSError("the disk is gone.")

    with pytest.raises(FitError, match=r"After 3 batches .*: the disk is gone\. The fit of 2000"):
        online_fit(broken())


@pytest.mark.parametrize(
    ("batches", "error", "message"),
    [
        ("rows.csv", ValueError, r"`batches` must be a file; got 'rows.csv', and there is none"),
        (3, TypeError, r"`batches` must be an iterable of tables, .* type int"),
        (np.ones(5), ValueError, r"`batches` must have rows and columns .* got shape \(5,\)"),
        ([], ValueError, r"`batches` must hold a batch at least; got none"),
        ([[1.0, 2.0]], ValueError, r"`batches\[0\]` must be 2-D, rows by features; got shape \(2,"),
        ([np.ones((5, 2)), np.ones((5, 3))], ValueError, r"`batches\[1\]` must have the 2 fitted"),
        ([np.ones((1, 2))], ValueError, r"`X` must hold at least 2 rows"),
    ],
)
def test_bad_batches_are_refused(batches: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        online_fit(batches)


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("3", TypeError, r"`spec` must be a GaussianMixture, a number of components or a fit"),
        (bg.GaussianMixture(bg.PriorOnComponents()), ValueError, r"`spec` must have a number of"),
        (xr.DataTree(), ValueError, r"`spec` must be a fit, the DataTree"),
        (0, ValueError, r"`n_components` must be at least 1; got 0"),
    ],
)
def test_bad_specifications_are_refused(spec: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        online_fit([np.ones((3, 1))], spec)


@pytest.mark.parametrize("decay", [0.5, 1.1])
def test_a_decay_that_does_not_converge_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=rf"`decay` must lie in \(0\.5, 1\]; got {decay}"):
        online_fit([np.ones((3, 1))], decay=decay)
