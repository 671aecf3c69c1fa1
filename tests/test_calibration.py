"""`calibrate`: what it returns, that it catches wrong draws, and what happens to failed fits.

That NUTS is right is shown in `tests/calibration`.
"""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr

import bayesgmm as bg
from bayesgmm import calibration as module
from bayesgmm.calibration import _fault, _rank
from tests.contract.test_refusals import FORM

SPEC = bg.GaussianMixture(1, means=bg.NormalMeans(0.0, 5.0), covariance=bg.LKJCovariance(scale=1.0))
ARGUMENTS: dict[str, Any] = {"n_features": 1, "n_obs": 30, "random_seed": 1, "progressbar": False}


def calibrated(spec: bg.GaussianMixture = SPEC, n: int = 30, **changes: Any) -> xr.Dataset:
    return bg.calibrate(spec, "laplace", n, **ARGUMENTS | changes)


@pytest.fixture(scope="module")
def found() -> xr.Dataset:
    return calibrated()


def test_ranks_are_labelled_and_judged(found: xr.Dataset) -> None:
    names = ["log_likelihood", "log_density", "mean", "log_volume", "average_scale"]
    assert found["quantity"].values.tolist() == names
    assert found["ranks"].dims == ("simulation", "quantity")
    assert ((found["ranks"] > 0.0) & (found["ranks"] < 1.0)).all()
    assert (found["n_kept"] == 99).all()
    levels = found["level"].values
    due = (found["ranks"].values[:, :, None] <= levels).mean(axis=0)
    np.testing.assert_allclose(found["ecdf"].transpose("quantity", "level"), due)
    lower, upper = found["band"].transpose("ci_bound", "level").values
    assert (lower < levels).all()
    assert (upper > levels).all()
    assert (found["p_value"] * 5 > 0.05).all()
    assert found.attrs["verdict"].startswith("No sign of miscalibration")
    assert found.attrs["n_failed"] == 0
    assert found.attrs["method"] == "laplace"


def test_a_seed_repeats_on_any_number_of_cores(
    found: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "n_cores", lambda: 3)
    some = bg.calibrate(SPEC, "nuts", 10, **ARGUMENTS, draws=25, chains=1)
    monkeypatch.setattr(module, "n_cores", lambda: 1)
    xr.testing.assert_identical(
        bg.calibrate(SPEC, "nuts", 10, **ARGUMENTS, draws=25, chains=1), some
    )
    assert not (calibrated(n=10, random_seed=2)["ranks"] == found["ranks"][:10]).any()


def broken(change: Callable[[xr.Dataset], xr.Dataset]) -> Callable[..., xr.DataTree]:
    """A fit whose draws are changed."""

    def fit(*args: Any, **kwargs: Any) -> xr.DataTree:
        tree = bg.fit(*args, **kwargs)
        tree["posterior"] = xr.DataTree(change(tree["posterior"].to_dataset()))
        return tree

    return fit


def shifted(posterior: xr.Dataset) -> xr.Dataset:
    return posterior.assign(means=posterior["means"] + posterior["means"].std())


def narrowed(posterior: xr.Dataset) -> xr.Dataset:
    centre = posterior["means"].mean()
    return posterior.assign(means=centre + 0.4 * (posterior["means"] - centre))


@pytest.mark.parametrize(
    ("change", "words"), [(shifted, "draws too high"), (narrowed, "draws too narrow")]
)
def test_wrong_draws_are_caught(
    change: Callable[[xr.Dataset], xr.Dataset], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "fit", broken(change))
    found = calibrated()
    assert found["p_value"].sel(quantity="mean") < 1e-6
    assert found.attrs["verdict"].startswith("Miscalibrated: of 5 quantities in 30 simulations")
    assert f"mean ({words}, p = " in found.attrs["verdict"]


def test_failed_fits_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    lock, calls = threading.Lock(), iter(range(100))

    def fit(*args: Any, **kwargs: Any) -> xr.DataTree:
        with lock:
            number = next(calls)
        if number % 4 == 0:
            raise bg.FitError("It broke.", status="sampler")
        return bg.fit(*args, **kwargs)

    monkeypatch.setattr(module, "fit", fit)
    with pytest.warns(bg.ConvergenceWarning, match="5 of 20 fits that failed; the first: It broke"):
        found = calibrated(n=20)
    assert found.attrs["n_failed"] == 5
    assert (found["n_kept"] == 0).sum() == 5
    assert (found["ranks"].isnull().all("quantity") == (found["n_kept"] == 0)).all()
    assert "5 fits failed and are not ranked" in found.attrs["verdict"]
    assert "in 15 simulations" in found.attrs["verdict"]


def test_nothing_can_be_said_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*args: Any, **kwargs: Any) -> xr.DataTree:
        raise bg.FitError("It broke.", status="sampler")

    monkeypatch.setattr(module, "fit", fit)
    match = r"0 of 12 fits, and nothing can be said of fewer than 10\. The first .*It broke"
    with pytest.raises(bg.FitError, match=match) as caught:
        calibrated(n=12)
    assert caught.value.status == "sampler"


def test_what_was_done_before_an_interruption_is_returned(
    found: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def watch(futures: list[Any], progress: Any) -> None:
        for one in futures[:15]:
            one.result()
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_watch", watch)
    with pytest.warns(bg.ConvergenceWarning, match=r"was interrupted: \d+ of 30 simulations"):
        stopped = calibrated()
    n = stopped.sizes["simulation"]
    assert 15 <= n < 30
    assert stopped.attrs["interrupted"] == 1
    np.testing.assert_array_equal(stopped["ranks"], found["ranks"][:n])


def test_an_error_that_is_no_failed_fit_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*args: Any, **kwargs: Any) -> xr.DataTree:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(module, "fit", fit)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        calibrated()


def test_a_prior_on_components_is_calibrated_too() -> None:
    means, covariance = bg.NormalMeans(0.0, 3.0), bg.LKJCovariance(scale=1.0, floor=0.1)
    spec = bg.GaussianMixture(bg.PriorOnComponents(), means=means, covariance=covariance)
    found = bg.calibrate(spec, "nuts", 10, **ARGUMENTS | {"n_obs": 15}, draws=30, chains=2)
    assert {"n_components", "n_clusters", "concentration", "together"} <= set(
        found["quantity"].values.tolist()
    )
    assert found["ranks"].notnull().all()
    assert (found["n_kept"] >= 19).all()


def test_ties_are_broken_by_the_share() -> None:
    draws = np.array([0.0, 1.0, 1.0, 2.0])
    assert _rank(1.0, draws, 0.0) == pytest.approx(1 / 5)
    assert _rank(1.0, draws, 1.0 - 1e-12) == pytest.approx(4 / 5)
    assert _rank(3.0, draws, 0.5) == pytest.approx(4.5 / 5)
    assert _rank(-1.0, draws, 0.5) == pytest.approx(0.5 / 5)


@pytest.mark.parametrize(
    ("power", "words"),
    [(0.5, "draws too low"), (2.0, "draws too high")],
)
def test_shifts_are_put_into_words(power: float, words: str) -> None:
    assert _fault(np.linspace(0.005, 0.995, 100) ** power) == words


def test_widths_are_put_into_words() -> None:
    ranks = np.linspace(0.005, 0.995, 100)
    assert _fault(0.25 + 0.5 * ranks) == "draws too wide"
    assert _fault(0.5 + 0.5 * np.sign(ranks - 0.5) * np.abs(2 * ranks - 1) ** 0.3) == (
        "draws too narrow"
    )


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "a point": ({"method": "map"}, ValueError, "`method` must be one of .*; got 'map'"),
    "few": ({"n_simulations": 9}, ValueError, "`n_simulations` must be at least 10; got 9"),
    "no spec": ({"spec": 2}, TypeError, "`spec` must be a GaussianMixture; got 2"),
    "no numbers": (
        {"spec": bg.GaussianMixture(2)}, ValueError, "`spec` must have numbers for all",
    ),
    "no features": ({"n_features": None}, ValueError, "`n_features` must be given"),
    "one row": ({"n_obs": 1}, ValueError, "`n_obs` must be at least 2; got 1"),
    "draws": ({"draws": 1}, ValueError, "`draws` must be at least 4; got 1"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "error", "match"), BAD.values(), ids=BAD)
def test_what_makes_no_sense_is_refused_before_any_computing(
    arguments: dict[str, Any],
    error: type[Exception],
    match: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_run", None)
    with pytest.raises(error, match=match) as caught:
        bg.calibrate(**{"spec": SPEC, "method": "nuts", **ARGUMENTS, **arguments})
    assert FORM.match(str(caught.value))
