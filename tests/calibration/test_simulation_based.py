"""Simulation-based calibration of NUTS, and of what catches a sampler that is wrong.

`calibrate` draws parameters from the prior and data from them, and ranks the truth among draws of
the posterior. The false alarm budget of the whole file is 1e-4.
"""

from collections.abc import Callable
from typing import Any, Final

import pytest
import xarray as xr

import bayesgmm as bg
from bayesgmm import calibration

pytestmark = pytest.mark.slow

BUDGET: Final = 1e-4
STUDY: Final[dict[str, Any]] = {
    "n_simulations": 300, "n_obs": 50, "draws": 500, "random_seed": 20261121, "progressbar": False
}  # fmt: skip
CASES: Final = (("full", 1, 0.2), ("full", 2, 0.0), ("tied_correlation", 2, 0.1))
"""Structure, number of features, floor."""
QUANTITIES: Final = 10
LEAST: Final = BUDGET / (len(CASES) * QUANTITIES)


def study(structure: str, n_features: int, floor: float, **changes: Any) -> xr.Dataset:
    spec = bg.GaussianMixture(
        2,
        weights=bg.Dirichlet(2.0),
        means=bg.NormalMeans(0.5, 3.0),
        covariance=bg.LKJCovariance(1.5, 1.0, structure, floor),
    )
    return bg.calibrate(spec, n_features=n_features, **STUDY | changes)


@pytest.mark.parametrize(("structure", "n_features", "floor"), CASES)
def test_ranks_of_nuts_are_uniform(structure: str, n_features: int, floor: float) -> None:
    found = study(structure, n_features, floor)
    assert found.attrs["n_failed"] == 0
    assert found.sizes["quantity"] == (QUANTITIES if n_features > 1 else QUANTITIES - 1)
    assert found["p_value"].min() > LEAST, found["p_value"].to_series().to_dict()


def test_ranks_of_mean_field_advi_are_not() -> None:
    found = study("full", 1, 0.2, method="advi", n_obs=30)
    assert found["p_value"].min() < LEAST
    assert found.attrs["verdict"].startswith("Miscalibrated")


def scaled(posterior: xr.Dataset) -> xr.Dataset:
    """Draws whose scales are wrong by a tenth."""
    scales, covariances = 1.1 * posterior["scales"], 1.1**2 * posterior["covariances"]
    return posterior.assign(scales=scales, covariances=covariances)


def narrowed(posterior: xr.Dataset) -> xr.Dataset:
    """Draws whose scales vary half as much."""
    centre = posterior["scales"].mean(["chain", "draw"])
    return posterior.assign(scales=centre + 0.5 * (posterior["scales"] - centre))


def widened(posterior: xr.Dataset) -> xr.Dataset:
    """Draws whose scales vary twice as much."""
    centre = posterior["scales"].mean(["chain", "draw"])
    return posterior.assign(scales=centre + 2.0 * (posterior["scales"] - centre))


@pytest.mark.parametrize("change", [scaled, narrowed, widened])
def test_broken_samplers_are_caught(
    change: Callable[[xr.Dataset], xr.Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(*args: Any, **kwargs: Any) -> xr.DataTree:
        tree = bg.fit(*args, **kwargs)
        tree["posterior"] = xr.DataTree(change(tree["posterior"].to_dataset()))
        return tree

    monkeypatch.setattr(calibration, "fit", fit)
    found = study("full", 1, 0.2)
    wrong = found["p_value"].sel(quantity=["average_scale", "smallest_scale"])
    assert wrong.min() < LEAST
