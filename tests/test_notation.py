"""Models as in a textbook: LaTeX for documents, a table for notebooks."""

import re

import pytest

import bayesgmm as bg
from bayesgmm.notation import numbers
from bayesgmm.priors import STRUCTURES

FAITHFUL = bg.GaussianMixture(2).resolve(bg.datasets.load_faithful())

LATEX = r"""$$\begin{aligned}
w &\sim \operatorname{Dirichlet}(1, \ldots, 1) && \text{weights} \\
\mu_{kd} &\sim \operatorname{Normal}(m_d, s_d^2) && \text{means, } m = (3.35, 69.5),\, s = (3.5, 53) \\
\sigma_{kd} &\sim \operatorname{HalfNormal}(\tau_d) && \text{scales, } \tau = (1.139, 13.57),\, \sigma_{kd} \ge (0.0085, 0.5) \\
R_k &\sim \operatorname{LKJ}(2) && \text{correlations} \\
\Sigma_k &= \operatorname{diag}(\sigma_k) R_k \operatorname{diag}(\sigma_k) && \text{covariances} \\
z_i &\sim \operatorname{Categorical}(w) && \text{component of row } i \\
x_i \mid z_i = k &\sim \operatorname{Normal}(\mu_k, \Sigma_k) && \text{row } i,\, K = 2
\end{aligned}$$"""  # noqa: E501

SPECIFICATIONS = [
    FAITHFUL,
    bg.GaussianMixture(3, weights=bg.Dirichlet((1.0, 2.0, 3.0))),
    bg.GaussianMixture(bg.PriorOnComponents()),
    bg.GaussianMixture(bg.PriorOnComponents("uniform", 8, concentration=1.0, dynamic=False)),
    *(bg.GaussianMixture(2, covariance=bg.LKJCovariance(structure=name)) for name in STRUCTURES),
    bg.Dirichlet(0.5), bg.NormalMeans(0.0, 2.0), bg.LKJCovariance(), bg.PriorOnComponents(),
]  # fmt: skip


def test_latex_is_that_of_a_textbook() -> None:
    assert FAITHFUL._repr_latex_() == LATEX


@pytest.mark.parametrize("spec", SPECIFICATIONS, ids=lambda spec: repr(spec).splitlines()[0])
def test_the_table_says_the_same_without_latex(spec: bg.GaussianMixture) -> None:
    html, latex = spec._repr_html_(), spec._repr_latex_()
    assert html.count("<tr>") == latex.count("&&")
    assert html.count("<td") == 3 * html.count("<tr>")
    text = re.sub(r"</?(table|tr|td|sub|sup)( style=\"[a-z: -]*\")?>|&[a-zA-Z]+;", "", html)
    assert not set(text) & set("\\{}_^<>&$")
    figures = r"(?<![\d.])\d+\.?\d*"
    assert re.findall(figures, re.sub(r"style=\S+ \S+", "", html)) == re.findall(figures, latex)


def test_what_is_shared_has_no_index() -> None:
    def lines(structure: str) -> list[str]:
        covariance = bg.LKJCovariance(structure=structure)
        return [f"{one.left} {one.relation} {one.right}" for one in covariance.textbook()]

    assert lines("tied") == [
        r"\sigma_{d} \sim \operatorname{HalfNormal}(\tau_d)",
        r"R \sim \operatorname{LKJ}(2)",
        r"\Sigma = \operatorname{diag}(\sigma) R \operatorname{diag}(\sigma)",
    ]
    assert lines("spherical")[-1] == r"\Sigma_k = \sigma_{k}^2 I"
    assert lines("tied_correlation")[-1].startswith(r"\Sigma_k = \operatorname{diag}(\sigma_k) R ")
    tied = bg.GaussianMixture(2, covariance=bg.LKJCovariance(structure="tied"))
    assert tied.textbook()[-1].right == r"\operatorname{Normal}(\mu_k, \Sigma)"


def test_the_number_of_components_has_its_lines() -> None:
    lines = [one.left for one in bg.GaussianMixture(bg.PriorOnComponents()).textbook()]
    assert lines[:3] == ["K - 1", r"\alpha", r"w \mid K"]
    fixed = bg.PriorOnComponents("uniform", 8, concentration=1.0, dynamic=False).textbook()
    assert [one.left for one in fixed] == ["K", r"w \mid K"]
    assert fixed[1].right == r"\operatorname{Dirichlet}(1, \ldots, 1)"


def test_long_vectors_are_cut() -> None:
    assert numbers(tuple(range(1, 7)), "") == "(1, 2, 3, 4, 5, 6)"
    assert numbers(tuple(range(1, 9)), "") == r"(1, 2, 3, 4, \ldots, 8)"
    assert numbers((1.23456,), "") == "1.235"
    assert numbers(None, "range") == r"\text{range}"
