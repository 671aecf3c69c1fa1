"""Posterior means against those of other programs, which share nothing with ours but the model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from arviz_stats import ess, mcse

import bayesgmm as bg
from bayesgmm import names

HERE = Path(__file__).parent
PLAIN = json.loads((HERE / "plain_pymc.json").read_text(encoding="utf-8"))

LOADERS = {
    "faithful": bg.datasets.load_faithful,
    "galaxies": bg.datasets.load_galaxies,
    "iris": bg.datasets.load_iris,
}


def means_with_errors(posterior: Any, variable: str) -> tuple[np.ndarray, np.ndarray]:
    """Return posterior means of a variable and their Monte Carlo standard errors."""
    draws = posterior[variable]
    if variable == names.CORRELATIONS:
        rows, columns = np.tril_indices(draws.sizes[names.FEATURE], -1)
        draws = xr.concat(
            [draws[..., i, j] for i, j in zip(rows, columns, strict=True)],
            dim="pair",
            coords="minimal",
            compat="override",
        ).transpose(names.CHAIN, names.DRAW, names.COMPONENT, "pair")
    assert ess(draws).min() > 1000
    return draws.mean((names.CHAIN, names.DRAW)).values, mcse(draws).values


def hold_to_five_errors(posterior: Any, variable: str, due: Any) -> None:
    """Hold posterior means to five combined Monte Carlo standard errors of others."""
    got, error = means_with_errors(posterior, variable)
    other, other_error = (np.reshape(due[key], got.shape) for key in ("mean", "mcse"))
    gap = np.abs(got - other) / np.hypot(error, other_error)
    assert gap.max() < 5, (variable, gap)


def test_low_dim_gauss_mix_of_posteriordb() -> None:
    due = json.loads((HERE / "posteriordb.json").read_text(encoding="utf-8"))
    X = np.loadtxt(HERE / "low_dim_gauss_mix_data.csv", skiprows=1)
    spec = bg.GaussianMixture(
        2,
        weights=bg.Dirichlet(5.0),
        means=bg.NormalMeans(0.0, 2.0),
        covariance=bg.LKJCovariance(scale=2.0, floor=0.0),
    )
    posterior = bg.fit(X, spec, random_seed=1, progressbar=False)["posterior"].to_dataset()
    for variable in due:
        hold_to_five_errors(posterior, variable, due[variable])


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_posteriors_of_plain_pymc_programs(name: str) -> None:
    due = PLAIN[name]
    assert due["rhat"] < 1.01
    prior = due["priors"]
    spec = bg.GaussianMixture(
        len(due["weights"]["mean"]),
        weights=bg.Dirichlet(prior["concentration"]),
        means=bg.NormalMeans(prior["location"], prior["scale"]),
        covariance=bg.LKJCovariance(
            eta=prior["eta"], scale=prior["tau"], structure=prior["structure"], floor=0.0
        ),
    )
    X = LOADERS[name]().select_dtypes("number")
    tree = bg.fit(X, spec, random_seed=1, draws=2000, progressbar=False)
    posterior = tree["posterior"].to_dataset()
    compared = [variable for variable in names.PARAMETER_DIMS if variable in due]
    assert len(compared) >= 3
    for variable in compared:
        hold_to_five_errors(posterior, variable, due[variable])
