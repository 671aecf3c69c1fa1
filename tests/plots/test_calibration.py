"""`plot_calibration`: the curves and the band, and which curves have a name."""

from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import bayesgmm as bg
from bayesgmm.uniformity import POINTS, Band, ecdf


def calibration(powers: list[float]) -> xr.Dataset:
    """Ranks that are uniform where the power is 1."""
    ranks = ((np.arange(100) + 0.5) / 100)[:, None] ** powers
    band = Band.of(100)
    names = [f"quantity {q}" for q in range(len(powers))]
    return xr.Dataset(
        {
            "ranks": (("simulation", "quantity"), ranks),
            "n_kept": ("simulation", np.full(100, 99)),
            "p_value": ("quantity", [band.p_value(column) for column in ranks.T]),
            "ecdf": (("quantity", "level"), ecdf(ranks).T),
            "band": (("level", "ci_bound"), band.bounds(0.95).T),
        },
        coords={"quantity": names, "level": POINTS, "ci_bound": ["lower", "upper"]},
        attrs={"method": "nuts"},
    )


def axes() -> Axes:
    return Figure().subplots()


def test_a_curve_for_every_quantity_and_a_band() -> None:
    found = calibration([1.0, 1.02, 2.0])
    ax = bg.plot_calibration(found, ax=axes())
    curves = [drawn.get_ydata() for drawn in ax.lines if len(drawn.get_xdata()) == 101][2:]
    for curve, due in zip(curves, found["ecdf"].values - POINTS, strict=True):
        np.testing.assert_allclose(curve[1:-1], due)
        assert curve[0] == curve[-1] == 0.0
    (band,) = ax.collections
    top = band.get_paths()[0].vertices[:, 1].max()
    assert top == pytest.approx((found["band"].values[:, 1] - POINTS).max())


def test_curves_that_leave_the_band_are_named_worst_first() -> None:
    found = calibration([1.5, 1.0, 3.0])
    ax = bg.plot_calibration(found, ax=axes())
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    p = found["p_value"].values
    assert names == [f"quantity 2, p = {p[2]:.1g}", f"quantity 0, p = {p[0]:.1g}"]
    assert ax.get_title() == "nuts, 100 simulations: 2 of 3 quantities leave the band"


def test_no_legend_where_all_is_well() -> None:
    ax = bg.plot_calibration(calibration([1.0]), ax=axes())
    assert ax.get_legend() is None
    assert ax.get_title() == "nuts, 100 simulations: 0 of 1 quantities leave the band"


def test_failed_fits_are_not_counted() -> None:
    found = calibration([1.0])
    found["n_kept"][:7] = 0
    assert "93 simulations" in bg.plot_calibration(found, ax=axes()).get_title()


def test_a_new_figure_is_made_where_none_is_given() -> None:
    ax = bg.plot_calibration(calibration([1.0]))
    assert ax.figure is pyplot.figure(1)


@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        (3, TypeError, "`calibration` must be a Dataset; got 3 of type int"),
        (xr.Dataset({"X": 1}), ValueError, r"`calibration` must hold 'ranks'; .*\['X'\]"),
    ],
)
def test_what_is_no_calibration_is_refused(wrong: Any, error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        bg.plot_calibration(wrong)


def test_what_are_no_axes_is_refused() -> None:
    with pytest.raises(TypeError, match="`ax` must be a matplotlib Axes; got .* str"):
        bg.plot_calibration(calibration([1.0]), ax="here")
