"""What is measured of a fit, against the arrays it is measured of."""

import numpy as np
import pytest
import xarray as xr

from bayesgmm import symptoms
from tests.synthetic import random_fit


@pytest.fixture
def fit(rng: np.random.Generator) -> xr.DataTree:
    return random_fit(rng.normal(size=(30, 2)), rng, n_components=3)


def test_what_does_not_depend_on_labels(fit: xr.DataTree, rng: np.random.Generator) -> None:
    labels, draws = symptoms.label_free(fit)
    assert draws.shape == (1 + 3 + 20, 2, 30)
    assert labels[:4] == ["log posterior"] + [f"weight of rank {k}" for k in (1, 2, 3)]
    assert labels[4] == "log density at row 0"
    assert labels[-1] == "log density at row 29"
    np.testing.assert_array_equal(draws[0], fit["sample_stats"]["lp"].values)
    weights = fit["posterior"]["weights"].values
    np.testing.assert_array_equal(np.moveaxis(draws[1:4], 0, -1), -np.sort(-weights, axis=-1))
    np.testing.assert_array_equal(draws[-1], fit["log_likelihood"]["X"].values[..., 29])
    order = rng.permutation(3)
    names = symptoms.label_free(fit.isel(component=order))
    np.testing.assert_array_equal(names[1], draws)


def test_densities_are_computed_where_they_are_not_stored(fit: xr.DataTree) -> None:
    bare = fit.filter(lambda node: node.name != "log_likelihood")
    labels, draws = symptoms.label_free(bare)
    assert labels == symptoms.label_free(fit)[0]
    posterior = fit["posterior"].to_dataset().isel(chain=1, draw=7)
    x = fit["observed_data"]["X"].values[29]
    density = 0.0
    for k in range(3):
        part = posterior.isel(component=k)
        distance = x - part["means"].values
        covariance = part["covariances"].values
        square = distance @ np.linalg.solve(covariance, distance)
        norm = np.sqrt(np.linalg.det(2.0 * np.pi * covariance))
        density += part["weights"].item() * np.exp(-0.5 * square) / norm
    assert draws[-1, 1, 7] == pytest.approx(np.log(density), rel=1e-9)


def test_labels_are_nearly_tied_by_the_margin(fit: xr.DataTree) -> None:
    margin = fit["alignment"]["margin"].values
    assert symptoms.nearly_tied(fit) == np.mean(margin < 0.02)
    margin[:] = 0.5
    margin[0, :6] = 0.019
    assert symptoms.nearly_tied(fit) == 0.1
    assert symptoms.nearly_tied(fit.filter(lambda node: node.name != "alignment")) == 0.0


def test_chains_that_never_moved_are_counted(fit: xr.DataTree) -> None:
    stats = fit["sample_stats"].to_dataset()
    assert symptoms.never_moved(stats) == 0
    stats["lp"][1] = 3.0
    assert symptoms.never_moved(stats) == 1
    assert symptoms.never_moved(stats.transpose("draw", "chain")) == 1
