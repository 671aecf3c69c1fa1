"""What is measured of a fit, against the arrays it is measured of."""

import numpy as np
import pytest
import xarray as xr
from scipy.stats import multivariate_normal

from bayesgmm import symptoms
from tests.synthetic import random_fit


@pytest.fixture
def fit(rng: np.random.Generator) -> xr.DataTree:
    return random_fit(rng.normal(size=(30, 2)), rng, n_components=3)


def test_what_does_not_depend_on_labels(fit: xr.DataTree, rng: np.random.Generator) -> None:
    labels, draws = symptoms.label_free(fit)
    assert draws.shape[1:] == (2, 30)
    assert labels[:4] == ["log posterior"] + [f"weight of rank {k}" for k in (1, 2, 3)]
    assert labels[4] == "log density at row 0"
    assert labels[23] == "log density at row 29"
    assert labels[24] == "number of occupied components"
    np.testing.assert_array_equal(draws[0], fit["sample_stats"]["lp"].values)
    weights = fit["posterior"]["weights"].values
    np.testing.assert_array_equal(np.moveaxis(draws[1:4], 0, -1), -np.sort(-weights, axis=-1))
    np.testing.assert_array_equal(draws[23], fit["log_likelihood"]["X"].values[..., 29])
    order = rng.permutation(3)
    names = symptoms.label_free(fit.isel(component=order))
    assert names[0] == labels
    np.testing.assert_allclose(names[1], draws, rtol=1e-12)


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
    assert draws[23, 1, 7] == pytest.approx(np.log(density), rel=1e-9)


def test_what_is_monitored_of_allocations(fit: xr.DataTree) -> None:
    """One component without rows in some draws; pairs of rows by responsibilities, written out."""
    posterior = fit["posterior"]
    posterior["means"].values[1, :, 2] = 1e3
    labels, draws = symptoms.label_free(fit)
    monitored = dict(zip(labels, draws, strict=True))
    occupied = monitored["number of occupied components"]
    assert (occupied > 0.0).all()
    assert occupied[1].max() <= 2.0 + 1e-9
    assert occupied[0].max() > 2.5
    pairs = [label for label in labels if label.startswith("co-clustering of rows ")]
    assert len(pairs) == 20
    for label in pairs[:3]:
        i, j = (int(word) for word in label.split()[3::2])
        assert i != j
        share = np.empty((3, 2))
        for k in range(3):
            part = posterior.dataset.isel(chain=0, draw=4, component=k)
            law = multivariate_normal(part["means"].values, part["covariances"].values)
            share[k] = part["weights"].item() * law.pdf(fit["observed_data"]["X"].values[[i, j]])
        share /= share.sum(axis=0)
        assert monitored[label][0, 4] == pytest.approx((share[:, 0] * share[:, 1]).sum(), rel=1e-8)


def test_what_does_not_vary_is_not_monitored(rng: np.random.Generator) -> None:
    for n_components, n_rows in ((1, 30), (1, 2), (2, 2)):
        tree = random_fit(rng.normal(size=(n_rows, 2)), rng, n_components=n_components)
        labels, draws = symptoms.label_free(tree)
        found = [label for label in labels if "cluster" in label or "occupied" in label]
        assert len(found) == 0 if n_components == 1 else 0 < len(found) <= 2
        assert len(labels) == len(draws)
    one = tree.isel(obs=[0])
    assert not any("cluster" in label for label in symptoms.label_free(one)[0])


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
