"""Degrees of freedom: what is taken, what is refused, and how specifications show them."""

import json
from typing import Any

import pytest

import bayesgmm as bg
from bayesgmm.mixture import GaussianMixture


@pytest.mark.parametrize(
    "df", [4, 2.5, (2.0, 7.0), [2, 7], bg.GammaDegrees(), bg.GammaDegrees(3.0, 0.5, shared=True)]
)
def test_a_specification_comes_back_from_json(df: Any) -> None:
    spec = bg.StudentTMixture(2, df=df, weights=bg.Dirichlet(2.0))
    back = GaussianMixture.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert back == spec
    assert type(back) is bg.StudentTMixture


def test_normal_and_heavy_tailed_specifications_are_told_apart() -> None:
    assert type(GaussianMixture.from_dict(bg.GaussianMixture(2).to_dict())) is bg.GaussianMixture
    assert bg.StudentTMixture(2) != bg.GaussianMixture(2)
    resolved = bg.StudentTMixture(2, df=3.0).resolve([[0.0], [1.0], [3.0]])
    assert resolved.resolved
    assert resolved == bg.StudentTMixture(
        2, df=3.0, means=resolved.means, covariance=resolved.covariance
    )


@pytest.mark.parametrize(
    ("df", "error", "message"),
    [
        (0.0, ValueError, "`df` must be positive and finite; got 0"),
        (float("inf"), ValueError, "`df` must be positive and finite; got inf"),
        ("4", TypeError, "`df` must be a number; got '4'"),
        (None, TypeError, "`df` must be a number; got None"),
        ([4.0, -1.0], ValueError, r"`df\[1\]` must be positive and finite; got -1"),
        ([4.0, 3.0, 2.0], ValueError, "`df` must hold one number per component, 2; got 3"),
    ],
)
def test_other_degrees_of_freedom_are_refused(df: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        bg.StudentTMixture(2, df=df)


def test_other_priors_are_refused() -> None:
    with pytest.raises(ValueError, match="`rate` must be positive and finite; got 0"):
        bg.GammaDegrees(2.0, 0.0)
    with pytest.raises(TypeError, match="`shared` must be True or False; got 'yes'"):
        bg.GammaDegrees(shared="yes")  # type: ignore[arg-type]


def test_a_prior_on_the_number_of_components_is_refused() -> None:
    with pytest.raises(ValueError, match="`n_components` must be an integer for a StudentTMixture"):
        bg.StudentTMixture(bg.PriorOnComponents())


@pytest.mark.parametrize(
    ("df", "line", "latex"),
    [
        (4.0, "df            = 4", r"\nu &= 4"),
        ((2.0, 7.0), "df            = [2, 7]", r"\nu_k &= (2, 7)"),
        (bg.GammaDegrees(), "df            ~ Gamma(2, 0.1)", r"\nu_k &\sim \operatorname{Gamma}"),
        (bg.GammaDegrees(shared=True), "Gamma(2, 0.1), shared by all components", r"\nu &\sim"),
    ],
)
def test_they_are_shown(df: Any, line: str, latex: str) -> None:
    spec = bg.StudentTMixture(2, df=df)
    assert repr(spec).startswith("StudentTMixture: 2 components")
    assert line in repr(spec)
    assert "t(df, mean, scale matrix)" in repr(spec)
    assert latex in spec._repr_latex_()
    assert "&nu;" in spec._repr_html_()
    assert "Normal}(\\mu_k" not in spec._repr_latex_()
    assert "scale matrices" in spec._repr_html_()
