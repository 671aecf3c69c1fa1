"""A hint is given where features share a scale and their units forbid it, and nowhere else."""

import warnings

import numpy as np
import pytest

import bayesgmm as bg
from bayesgmm.data import prepare
from bayesgmm.priors import STRUCTURES
from bayesgmm.units import hint_at_units

ROWS = bg.datasets.make_mixture(60, 2, 3, separation=8.0, random_seed=3)["X"].values
APART = ROWS * [1.0, 1e-3, 2e4]
SHARED = ("spherical", "tied_spherical")


def spec(structure: str = "full", **scales: object) -> bg.GaussianMixture:
    return bg.GaussianMixture(2, covariance=bg.LKJCovariance(structure=structure, **scales))


@pytest.mark.parametrize("structure", STRUCTURES)
def test_structures_that_share_a_scale_are_named(structure: str) -> None:
    if structure not in SHARED:
        hint_at_units(spec(structure), prepare(APART))
        return
    message = rf"the scale of structure '{structure}'; got .* in 'x1' to .* in 'x2'. Measure them"
    with pytest.warns(bg.UnitsWarning, match=message):
        hint_at_units(spec(structure), prepare(APART))
    hint_at_units(spec(structure), prepare(ROWS * [1.0, 1e-2, 1e3]))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (spec(scale=2.0), r"LKJCovariance\(scale=2\);"),
        (spec(floor=0.1), r"LKJCovariance\(floor=0.1\);"),
        (bg.GaussianMixture(2, means=bg.NormalMeans(scale=5.0)), r"NormalMeans\(scale=5\);"),
    ],
)
def test_numbers_that_all_features_share_are_named(given: bg.GaussianMixture, named: str) -> None:
    with pytest.warns(bg.UnitsWarning, match=named):
        hint_at_units(given, prepare(APART))
    hint_at_units(given, prepare(ROWS))
    hint_at_units(given, prepare(APART[:, 0]))


def test_what_each_feature_has_of_its_own_is_no_matter() -> None:
    own = bg.LKJCovariance(scale=(1.0, 1e-3, 2e4), floor=0.0)
    means = bg.NormalMeans(location=0.0, scale=(5.0, 1.0, 1e5))
    hint_at_units(bg.GaussianMixture(2, means=means, covariance=own), prepare(APART))


def test_rows_that_do_not_count_have_no_units() -> None:
    rows = np.concatenate([ROWS, [[0.0, 0.0, 1e9]]])
    weights = np.append(np.ones(60), 0.0)
    hint_at_units(spec("spherical"), prepare(rows, sample_weight=weights))
    with pytest.warns(bg.UnitsWarning):
        hint_at_units(spec("spherical"), prepare(rows))


@pytest.mark.filterwarnings("ignore:The best of 20 starts:bayesgmm.ConvergenceWarning")
def test_fits_warn_where_they_are_called() -> None:
    arguments = {"random_seed": 1, "progressbar": False}
    with pytest.warns(bg.UnitsWarning) as met:
        bg.fit(APART, spec("spherical"), method="map", **arguments)
    assert met[0].filename == __file__
    with warnings.catch_warnings(record=True) as met_too:
        warnings.simplefilter("always", bg.UnitsWarning)
        bg.select(
            APART, [1], structures=["full", "spherical"], criteria=["bic"], draws=30, **arguments
        )
    assert [one.filename for one in met_too if one.category is bg.UnitsWarning] == [__file__]
