"""Simulation-based calibration of NUTS beside background noise in a box that rows may leave.

All quantities of `calibrate`, among them the weight of noise. Its verdict is wrong in one study of
twenty of a method that is right: here the smallest p-value is held to 1e-4 in all.
"""

import pytest

import bayesgmm as bg

pytestmark = pytest.mark.slow


def test_ranks_are_uniform() -> None:
    spec = bg.GaussianMixture(
        2,
        weights=bg.Dirichlet(2.0),
        means=bg.NormalMeans(0.5, 3.0),
        covariance=bg.LKJCovariance(1.5, 1.0, "full", 0.0),
        noise=bg.UniformNoise(2.0, -6.0, 7.0),
    )
    found = bg.calibrate(spec, n_simulations=200, n_features=2, random_seed=1, progressbar=False)
    assert found.attrs["n_failed"] == 0
    assert "noise_weight" in found["quantity"]
    assert found["p_value"].min() * found["p_value"].size > 1e-4
