"""Rubin's rules: a published example, the formulas, and what an interval promises."""

from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.stats import norm

import bayesgmm as bg

MEANS = np.array([
    [47.0120, 10.4441, 171.216],
    [47.2407, 10.5040, 171.244],
    [47.4995, 10.5922, 171.909],
    [47.1485, 10.5279, 171.146],
    [47.0042, 10.4913, 172.072],
])  # fmt: skip
ERRORS = np.array([
    [0.95984, 0.28520, 1.59910],
    [0.93540, 0.26661, 1.75638],
    [1.00766, 0.26302, 1.85795],
    [0.95439, 0.26405, 1.75011],
    [0.96528, 0.27275, 1.84807],
])  # fmt: skip
"""Means and standard errors of oxygen, run time and pulse of 31 men in five completed tables, with
what SAS makes of them: SAS/STAT 13.2 User's Guide, The MIANALYZE Procedure, Example 64.1."""


def test_the_published_example() -> None:
    found = bg.pool(MEANS, ERRORS**2, df=30, probability=0.95)
    np.testing.assert_allclose(found["mean"][0], 47.180993, atol=2e-5)
    np.testing.assert_allclose(found["sd"][0], 0.990266, atol=1e-5)
    np.testing.assert_allclose(found["df"][0], 26.298, atol=2e-3)
    np.testing.assert_allclose(found["interval"][0], [45.1466, 49.2154], atol=1e-4)
    np.testing.assert_allclose(found["missing_information"][0], 0.051977, atol=2e-5)


def test_the_formulas_one_by_one(rng: np.random.Generator) -> None:
    q, u = rng.normal(size=(7, 2)), rng.uniform(0.5, 2.0, (7, 2))
    found, of_many = bg.pool(q, u, df=12.0), bg.pool(q, u)
    for j in range(2):
        between = np.var(q[:, j], ddof=1) * 8 / 7
        total = np.mean(u[:, j]) + between
        r, share = between / np.mean(u[:, j]), between / total
        rubin = 6 * (1 + 1 / r) ** 2
        observed = 13 / 15 * 12 * (1 - share)
        assert of_many["df"][j] == pytest.approx(rubin)
        assert found["df"][j] == pytest.approx(1 / (1 / rubin + 1 / observed))
        assert found["sd"][j] == pytest.approx(total**0.5)
        assert found["missing_information"][j] == pytest.approx((r + 2 / (rubin + 3)) / (r + 1))
        assert found["mean"][j] == pytest.approx(q[:, j].mean())


def test_tables_that_agree_miss_nothing() -> None:
    found = bg.pool([2.0, 2.0, 2.0], [4.0, 4.0, 4.0])
    assert found["df"] == np.inf
    assert found["missing_information"] == 0.0
    np.testing.assert_allclose(found["interval"], 2.0 + 2.0 * norm.ppf([0.05, 0.95]))
    assert bg.pool([2.0, 2.0], [4.0, 4.0], df=9)["df"] == pytest.approx(10 / 12 * 9)


def test_labels_are_kept_and_dimensions_may_come_in_any_order(rng: np.random.Generator) -> None:
    q = xr.DataArray(rng.normal(size=(3, 5)), {"feature": list("abc")}, ("feature", "imputation"))
    u = xr.full_like(q, 2.0) + q**2
    found = bg.pool(q, u.transpose("imputation", "feature"))
    assert found["interval"].dims == ("feature", "ci_bound")
    assert found["feature"].values.tolist() == list("abc")
    plain = bg.pool(q.values.T, u.values.T)
    for name in found:
        np.testing.assert_allclose(found[name], plain[name])
    assert found.attrs["ci_prob"] == 0.9


def test_intervals_hold_what_they_promise(rng: np.random.Generator) -> None:
    # Half of 40 numbers are lost by chance and drawn anew, each table under parameters of its own.
    n, n_seen, m, repeats = 40, 20, 10, 2000
    seen = rng.normal(size=(repeats, 1, n_seen))
    spread = seen.var(axis=-1, ddof=1, keepdims=True)
    variance = spread * (n_seen - 1) / rng.chisquare(n_seen - 1, (repeats, m, 1))
    centre = rng.normal(seen.mean(axis=-1, keepdims=True), np.sqrt(variance / n_seen))
    drawn = rng.normal(centre, np.sqrt(variance), (repeats, m, n - n_seen))
    tables = np.concatenate([np.broadcast_to(seen, (repeats, m, n_seen)), drawn], axis=-1)
    found = bg.pool(tables.mean(axis=-1).T, (tables.var(axis=-1, ddof=1) / n).T, df=n - 1)
    low, high = found["interval"].values.T
    error = (0.9 * 0.1 / repeats) ** 0.5
    assert abs(((low < 0.0) & (high > 0.0)).mean() - 0.9) < 5.0 * error
    assert found["missing_information"].mean() > 0.4


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((3.0, 1.0), ValueError, r"`estimates` must hold several estimates; got 3.0\."),
        (([1.0], [1.0]), ValueError, "`estimates` must be of two tables at least; got 1"),
        ((["a", "b"], [1.0, 1.0]), TypeError, "`estimates` must be numbers; got dtype <U1"),
        (([1.0, np.nan], [1.0, 1.0]), ValueError, "`estimates` must be finite; got nan"),
        (([1.0, 2.0], [1.0, np.inf]), ValueError, "`variances` must be finite; got inf"),
        (([1.0, 2.0], [1.0, 0.0]), ValueError, r"`variances` must be positive; got 0.0\."),
        (([1.0, 2.0], [1.0] * 3), ValueError, r"`variances` must have the shape .* got \(3,\)"),
        (
            (xr.DataArray([1.0, 2.0], dims="table"), [1.0, 1.0]),
            ValueError,
            r"`estimates` must have a dimension 'imputation'; got \('table',\)",
        ),
    ],
)
def test_what_cannot_be_pooled_is_refused(arguments: Any, error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        bg.pool(*arguments)


def test_what_is_no_number_of_degrees_or_probability_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`df` must be positive and finite; got -1"):
        bg.pool([1.0, 2.0], [1.0, 1.0], df=-1)
    with pytest.raises(ValueError, match="`probability` must lie between 0 and 1; got 90"):
        bg.pool([1.0, 2.0], [1.0, 1.0], probability=90)
