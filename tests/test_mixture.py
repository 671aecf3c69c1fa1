"""The specification: checked when made, resolved against data, readable, and storable as JSON."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesgmm.data import center_and_unit
from bayesgmm.mixture import (
    STRUCTURES,
    Dirichlet,
    GaussianMixture,
    LKJCovariance,
    NormalMeans,
    Structure,
)

VALUES = np.array([[0.0, 10.0], [4.0, 10.5], [1.0, 13.0], [3.0, 12.5]])


def test_the_structures_are_those_of_the_design() -> None:
    # (scales shared, one scale for all features, correlations)
    expected = {
        "full": Structure(False, False, "component"),
        "tied": Structure(True, False, "shared"),
        "diag": Structure(False, False, "none"),
        "tied_diag": Structure(True, False, "none"),
        "spherical": Structure(False, True, "none"),
        "tied_spherical": Structure(True, True, "none"),
        "tied_correlation": Structure(False, False, "shared"),
    }
    assert expected == STRUCTURES


def test_defaults_are_those_of_the_brief() -> None:
    assert GaussianMixture(3) == GaussianMixture(
        3,
        weights=Dirichlet(1.0),
        means=NormalMeans(location=None, scale=None),
        covariance=LKJCovariance(eta=2.0, scale=None, structure="full"),
    )


@pytest.mark.parametrize("structure", STRUCTURES)
def test_resolving_takes_every_hyperparameter_from_the_data(structure: str) -> None:
    spec = GaussianMixture(2, covariance=LKJCovariance(structure=structure))
    resolved = spec.resolve(VALUES)
    assert not spec.resolved
    assert resolved.resolved
    assert resolved.means == NormalMeans((2.0, 11.5), (4.0, 3.0))
    spread = np.sqrt([10 / 4, (2.25 + 1.0 + 2.25 + 1.0) / 4])
    if structure in ("spherical", "tied_spherical"):
        expected = float(np.sqrt((spread**2).sum() / 2))
        assert isinstance(resolved.covariance.scale, float)
    else:
        expected = spread
    np.testing.assert_allclose(resolved.covariance.scale, expected, rtol=1e-15)
    assert (resolved.covariance.eta, resolved.covariance.structure) == (2.0, structure)
    assert resolved.weights == spec.weights
    assert resolved.resolve(100 * VALUES) == resolved


@pytest.mark.parametrize("common", [False, True])
def test_default_scales_are_the_unit_of_the_data(common: bool, rng: np.random.Generator) -> None:
    values = rng.normal(size=(50, 3)) * [1.0, 10.0, 0.1] + 1e6
    structure = "spherical" if common else "full"
    spec = GaussianMixture(2, covariance=LKJCovariance(structure=structure)).resolve(values)
    center, unit = center_and_unit(values, common)
    np.testing.assert_array_equal(spec.means.location, center)
    np.testing.assert_allclose(np.broadcast_to(spec.covariance.scale, 3), unit, rtol=1e-8)


def test_what_the_user_gave_is_kept_and_broadcast() -> None:
    spec = GaussianMixture(
        2, means=NormalMeans(1.0, [2.0, 3.0]), covariance=LKJCovariance(1.5, scale=0.5)
    )
    resolved = spec.resolve(VALUES)
    assert resolved.means == NormalMeans((1.0, 1.0), (2.0, 3.0))
    assert resolved.covariance == LKJCovariance(1.5, (0.5, 0.5), floor=(0.0, 0.0))
    half = GaussianMixture(2, means=NormalMeans(location=0.0)).resolve(VALUES)
    assert half.means == NormalMeans((0.0, 0.0), (4.0, 3.0))


ROUNDED = np.array([[1.0, 0.5], [1.2, 0.7], [1.2, 0.1], [1.4, 0.2], [2.4, 0.9]])


def test_rounded_values_put_a_floor_under_the_scales_of_their_feature() -> None:
    full = GaussianMixture(2).resolve(ROUNDED).covariance
    np.testing.assert_allclose(full.floor, (0.1, 0.0), rtol=1e-12)  # gaps 0.2, 0.2, 1.0; no ties
    both = np.column_stack([ROUNDED[:, 0], 10 * ROUNDED[:, 0]])
    spherical = LKJCovariance(structure="spherical")
    one = GaussianMixture(2, covariance=spherical).resolve(both).covariance
    assert one.floor == pytest.approx(0.1)
    assert GaussianMixture(2, covariance=spherical).resolve(ROUNDED).covariance.floor == 0.0


def test_the_floor_can_be_given_and_never_exceeds_the_scale_of_the_prior() -> None:
    given = GaussianMixture(2, covariance=LKJCovariance(floor=0.0)).resolve(ROUNDED)
    assert given.covariance.floor == (0.0, 0.0)
    narrow = GaussianMixture(2, covariance=LKJCovariance(scale=0.01)).resolve(ROUNDED)
    assert narrow.covariance.floor == (0.01, 0.0)
    assert "floor = [0.01, 0]" in repr(narrow)
    with pytest.raises(ValueError, match=r"`floor` must be at least 0 and finite; got -1"):
        LKJCovariance(floor=-1)


def test_one_scale_for_all_features_may_be_given_as_equal_numbers() -> None:
    assert LKJCovariance(scale=[2, 2], structure="spherical").scale == 2.0
    with pytest.raises(ValueError, match=r"`scale` must be one number for structure 'spherical'"):
        LKJCovariance(scale=[1.0, 2.0], structure="spherical")


@given(
    shift=st.floats(-1e3, 1e3), log_scale=st.floats(-3.0, 3.0),
    structure=st.sampled_from(sorted(STRUCTURES)),
)  # fmt: skip
def test_default_priors_follow_the_units_of_the_data(
    shift: float, log_scale: float, structure: str
) -> None:
    spec = GaussianMixture(2, covariance=LKJCovariance(structure=structure))
    scale = 10.0**log_scale
    plain, moved = spec.resolve(VALUES), spec.resolve(scale * VALUES + shift)
    close = {"rtol": 1e-6, "atol": 1e-9 * (abs(shift) + scale)}
    location = scale * np.array(plain.means.location) + shift
    np.testing.assert_allclose(moved.means.location, location, **close)
    for part in ("means", "covariance"):
        expected = scale * np.array(getattr(plain, part).scale)
        np.testing.assert_allclose(getattr(moved, part).scale, expected, **close)


SPECIFICATIONS = {
    "default": GaussianMixture(1),
    "numbers": GaussianMixture(
        3, Dirichlet([0.1, 1, 2e-17]), NormalMeans((-1.0, 0.1), 3), LKJCovariance(1, [0.3, 1e9])
    ),
    "resolved": GaussianMixture(2, covariance=LKJCovariance(structure="tied_spherical")).resolve(
        VALUES / 7
    ),
}


@pytest.mark.parametrize("kind", SPECIFICATIONS)
def test_the_dictionary_survives_json_exactly(kind: str) -> None:
    spec = SPECIFICATIONS[kind]
    text = json.dumps(spec.to_dict(), allow_nan=False)
    again = GaussianMixture.from_dict(json.loads(text))
    assert again == spec
    assert hash(again) == hash(spec)


def test_the_dictionary_shows_every_field() -> None:
    assert GaussianMixture(2).to_dict() == {
        "n_components": 2,
        "weights": {"concentration": 1.0},
        "means": {"location": None, "scale": None},
        "covariance": {"eta": 2.0, "scale": None, "structure": "full", "floor": None},
    }


def test_numbers_of_any_kind_become_plain_python_numbers() -> None:
    spec = GaussianMixture(
        np.int64(2),
        Dirichlet(np.array([1, 2], dtype=np.int8)),
        NormalMeans(np.float32(0.5), np.array(2)),
        LKJCovariance(np.float64(3.0), np.array([1.0, 2.0])),
    )
    assert spec == GaussianMixture(
        2, Dirichlet((1.0, 2.0)), NormalMeans(0.5, 2.0), LKJCovariance(3.0, (1.0, 2.0))
    )
    assert json.loads(json.dumps(spec.to_dict()))["weights"] == {"concentration": [1.0, 2.0]}


def test_later_changes_of_what_was_passed_are_not_seen() -> None:
    concentration = np.array([1.0, 2.0])
    weights = Dirichlet(concentration)
    concentration[0] = 9.0
    assert weights.concentration == (1.0, 2.0)


@pytest.mark.parametrize("part", [Dirichlet(), NormalMeans(), LKJCovariance(), GaussianMixture(2)])
def test_specifications_are_frozen(part: Any) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field"):
        setattr(part, dataclasses.fields(part)[0].name, 5)


def test_concentrations_per_component() -> None:
    np.testing.assert_array_equal(Dirichlet(0.5).per_component(3), [0.5, 0.5, 0.5])
    np.testing.assert_array_equal(Dirichlet([1, 2]).per_component(2), [1.0, 2.0])
    assert Dirichlet([2.0, 2.0]).exchangeable
    assert Dirichlet().exchangeable
    assert not Dirichlet([2.0, 1.0]).exchangeable


def test_the_unresolved_model_says_where_its_numbers_will_come_from() -> None:
    assert repr(GaussianMixture(2)).splitlines() == [
        "GaussianMixture: 2 components, structure 'full'",
        "  weights       ~ Dirichlet(1)",
        "  means         ~ Normal(location = midpoint, scale = range)",
        "  scales        ~ HalfNormal(scale = standard deviation)",
        "  correlations  ~ LKJ(eta = 2)",
        "  X             ~ sum over components of weight * Normal(mean, covariance)",
    ]


def test_the_resolved_model_shows_every_number() -> None:
    spec = GaussianMixture(
        1, Dirichlet([3.0]), covariance=LKJCovariance(1.5, 0.25, structure="tied_spherical")
    )
    assert repr(spec.resolve(VALUES)).splitlines() == [
        "GaussianMixture: 1 component, structure 'tied_spherical'",
        "  weights       ~ Dirichlet([3])",
        "  means         ~ Normal(location = [2, 11.5], scale = [4, 3])",
        "  scales        ~ HalfNormal(scale = 0.25), shared by all components and all features",
        "  X             ~ sum over components of weight * Normal(mean, covariance)",
    ]


@pytest.mark.parametrize(
    ("structure", "scales", "correlations"),
    [
        ("full", "", ""),
        ("tied", ", shared by all components", ", shared by all components"),
        ("diag", "", None),
        ("tied_diag", ", shared by all components", None),
        ("spherical", ", shared by all features", None),
        ("tied_correlation", "", ", shared by all components"),
    ],
)
def test_the_model_says_what_is_shared(
    structure: str, scales: str, correlations: str | None
) -> None:
    shown = repr(GaussianMixture(2, covariance=LKJCovariance(structure=structure)))
    assert f"  scales        ~ HalfNormal(scale = standard deviation){scales}\n" in shown
    if correlations is None:
        assert "LKJ" not in shown
    else:
        assert f"LKJ(eta = 2){correlations}\n" in shown


WRONG_NUMBERS = [
    (0.0, ValueError, "must be positive and finite; got 0.0"),
    (-1, ValueError, "must be positive and finite; got -1"),
    (np.nan, ValueError, "must be positive and finite; got nan"),
    (np.inf, ValueError, "must be positive and finite; got inf"),
    ([1.0, -2.0], ValueError, r"must be positive and finite; got \[1.0, -2.0\]"),
    ([], ValueError, r"must be one number or one per entry; got shape \(0,\)"),
    ([[1.0]], ValueError, r"must be one number or one per entry; got shape \(1, 1\)"),
    ("2", TypeError, "must be a number or a sequence of numbers; got '2' of type str"),
    (True, TypeError, "must be a number or a sequence of numbers; got True of type bool"),
    (1j, TypeError, "must be a number or a sequence of numbers; got 1j of type complex"),
    ([1.0, None], TypeError, r"must be a number or a sequence of numbers; got \[1.0, None\]"),
    ([[1.0], [1.0, 2.0]], TypeError, r"must be a number or a sequence of numbers; got \[\["),
]


@pytest.mark.parametrize(("value", "error", "message"), WRONG_NUMBERS)
def test_hyperparameters_that_are_no_positive_numbers_are_refused(
    value: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"`concentration` {message}.*Give a positive number."):
        Dirichlet(value)
    with pytest.raises(error, match=f"`scale` {message}.*Leave it None to take it from the data."):
        NormalMeans(scale=value)
    with pytest.raises(error, match=f"`scale` {message}.*Leave it None to take it from the data."):
        LKJCovariance(scale=value)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Dirichlet(None), TypeError, "`concentration` must be a number.*; got None"),
        (lambda: NormalMeans(np.inf), ValueError, "`location` must be finite; got inf"),
        (lambda: LKJCovariance(0.0), ValueError, "`eta` must be positive and finite; got 0.0"),
        (lambda: LKJCovariance(True), TypeError, "`eta` must be a number; got True of type bool"),
        (
            lambda: LKJCovariance(structure="diagonal"),
            ValueError,
            "`structure` must be one of 'full', .*; got 'diagonal'. Did you mean 'diag'",
        ),
        (lambda: LKJCovariance(structure=3), ValueError, "`structure` must be one of .*; got 3"),
        (lambda: GaussianMixture(0), ValueError, "`n_components` must be at least 1; got 0"),
        (lambda: GaussianMixture(2.0), TypeError, "`n_components` must be an integer; got 2.0"),
        (lambda: GaussianMixture(True), TypeError, "`n_components` must be an integer; got True"),
        (
            lambda: GaussianMixture(2, weights=1.0),
            TypeError,
            r"`weights` must be a Dirichlet or a StickBreaking; got 1.0 of type float. "
            r"Write weights=bg.Dirichlet\(1.0\)",
        ),
        (
            lambda: GaussianMixture(2, covariance=NormalMeans()),
            TypeError,
            "`covariance` must be a LKJCovariance or a FactorCovariance; got NormalMeans",
        ),
        (
            lambda: GaussianMixture(2, covariance="full"),
            TypeError,
            r"got 'full' of type str. Write covariance=bg.LKJCovariance\(structure='full'\)",
        ),
        (
            lambda: GaussianMixture(3, weights=Dirichlet([1.0, 2.0])),
            ValueError,
            r"`concentration` must hold one number per component, 3; got 2: \(1.0, 2.0\)",
        ),
    ],
)
def test_impossible_specifications_are_refused(
    make: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            GaussianMixture(2, means=NormalMeans(location=[0, 0, 0])),
            r"`means.location` must hold one number, or one per feature, 2; got 3: \(0.0, 0.0, 0",
        ),
        (GaussianMixture(2, means=NormalMeans(scale=[1.0] * 3)), "`means.scale` must hold one"),
        (
            GaussianMixture(2, covariance=LKJCovariance(scale=[1.0] * 3)),
            "`covariance.scale` must hold one number, or one per feature, 2; got 3",
        ),
    ],
)
def test_hyperparameters_that_do_not_fit_the_data_are_refused(
    spec: GaussianMixture, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        spec.resolve(VALUES)


def test_a_line_of_values_is_not_taken_for_rows() -> None:
    with pytest.raises(ValueError, match=r"`values` must be 2-D, rows by features; got shape \(4,"):
        GaussianMixture(2).resolve(VALUES[:, 0])
    assert GaussianMixture(2).resolve(VALUES[:, :1]).means == NormalMeans((2.0,), (4.0,))
