"""Chains put in modes by hand, and what the audit says of them."""

import re

import numpy as np
import pytest
import xarray as xr

import bayesgmm as bg
from bayesgmm import modes
from bayesgmm.modes import laplace_mass, modes_of_chains
from tests.synthetic import random_fit
from tests.test_convergence import changed, switched, values

LOWER = 31.0


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    """A sound fit. No test may change it."""
    X = bg.datasets.make_mixture(120, 2, 2, separation=5.0, random_seed=4)["X"]
    return bg.fit(X, 2, random_seed=1, progressbar=False)


@pytest.fixture(scope="module")
def broken(tree: xr.DataTree) -> xr.DataTree:
    """The same with the last chain elsewhere, and 31 nats lower."""
    posterior = {name: values(tree, "posterior", name) for name in tree["posterior"].data_vars}
    posterior["means"][3] += 2.0
    lp = values(tree, "sample_stats", "lp")
    lp[3] += lp[:3].mean() - lp[3].mean() - LOWER
    density = values(tree, "log_likelihood", "X")
    density[3] -= 3.0
    result = changed(tree, "posterior", **posterior)
    return changed(changed(result, "sample_stats", lp=lp), "log_likelihood", X=density)


def test_chains_that_agree_sit_in_one_mode(tree: xr.DataTree) -> None:
    audit = bg.mode_audit(tree)
    assert dict(audit.sizes) == {"chain": 4, "mode": 1}
    assert audit["mode_of_chain"].values.tolist() == [0, 0, 0, 0]
    assert audit["n_chains"].values.tolist() == [4]
    for name, value in (("log_posterior", 0.0), ("log_mass", 0.0), ("stacking_weight", 1.0)):
        assert audit[name].values.tolist() == [value]
    assert audit.attrs["verdict"] == "All 4 chains sit in one mode."
    alone = bg.mode_audit(tree.isel(chain=[2]))
    assert alone.attrs["verdict"] == "The only chain sits in one mode."


def test_a_chain_in_a_lower_mode_is_named(tree: xr.DataTree, broken: xr.DataTree) -> None:
    audit = bg.mode_audit(broken)
    assert audit["mode_of_chain"].values.tolist() == [0, 0, 0, 1]
    assert audit["n_chains"].values.tolist() == [3, 1]
    np.testing.assert_allclose(audit["log_posterior"], [0.0, -LOWER], atol=1e-9)
    # the draws are those of the same Normal mode, moved: the volume is the same
    assert audit["log_mass"].values[1] == pytest.approx(-LOWER, abs=0.6)
    np.testing.assert_allclose(audit["stacking_weight"], [1.0, 0.0], atol=1e-3)
    assert "Chain 3 sits in mode 1, 31.0 nats lower" in audit.attrs["verdict"]
    assert audit.attrs["verdict"].startswith("Chains 0, 1 and 2 sit in mode 0, the highest. ")
    assert "stacking" not in audit.attrs["verdict"]  # it would be read as a probability
    report = bg.check(broken)
    assert not report.ok
    assert report.verdict.startswith("Not converged: chains disagree")
    assert "chain 3 sits in a mode 31.0 nats lower" in report.advice[0]
    assert "mode_audit" in report.advice[0]
    assert report.evidence["modes that chains sit in"] == 2
    assert report.evidence["nats to the lowest mode"] == pytest.approx(LOWER)
    assert bg.check(tree).evidence["modes that chains sit in"] == 1


def test_chains_keep_their_labels(broken: xr.DataTree) -> None:
    some = broken.isel(chain=[3, 1])
    audit = bg.mode_audit(some)
    assert audit["chain"].values.tolist() == [3, 1]
    assert audit["mode_of_chain"].values.tolist() == [1, 0]
    assert audit.attrs["verdict"].startswith("Chain 1 sits in mode 0, the highest. ")
    lower = -audit["log_posterior"].values[1]
    assert f"chain 3 sits in a mode {lower:.1f} nats lower" in bg.check(some).advice[0]


def test_chains_that_differ_by_labels_alone_sit_in_one_mode(tree: xr.DataTree) -> None:
    wrong = switched(tree)
    assert bg.mode_audit(wrong)["mode_of_chain"].values.tolist() == [0, 0, 0, 0]
    assert bg.check(wrong).evidence["modes that chains sit in"] == 1
    assert bg.check(bg.align(wrong)).ok


def test_stacking_takes_what_both_modes_predict(tree: xr.DataTree, broken: xr.DataTree) -> None:
    """Each mode is better for half of the rows."""
    density = values(tree, "log_likelihood", "X")
    density[3, :, ::2] += 2.0
    density[3, :, 1::2] -= 2.0
    audit = bg.mode_audit(changed(broken, "log_likelihood", X=density))
    np.testing.assert_allclose(audit["stacking_weight"], 0.5, atol=0.02)
    assert audit["stacking_weight"].sum().item() == pytest.approx(1.0)


def test_a_chain_that_visits_both_modes_joins_them(broken: xr.DataTree) -> None:
    joined = broken
    for group in ("posterior", "sample_stats", "log_likelihood"):
        mixed = {}
        for name in broken[group].data_vars:
            mixed[name] = values(broken, group, name)
            mixed[name][2, 500:] = mixed[name][3, 500:]
        joined = changed(joined, group, **mixed)
    assert bg.mode_audit(joined)["mode_of_chain"].values.tolist() == [0, 0, 0, 0]
    report = bg.check(joined)
    assert report.verdict.startswith("Not converged")
    assert "chains mix slowly" in report.advice[0]


def test_a_chain_stuck_with_an_empty_component(tree: xr.DataTree) -> None:
    posterior = {name: values(tree, "posterior", name) for name in tree["posterior"].data_vars}
    posterior["means"][1, :, 0] = [500.0, 500.0]
    posterior["weights"][1] = np.random.default_rng(1).dirichlet([1.0, 120.0], 1000)
    bare = tree.filter(lambda node: node.name != "log_likelihood")
    broken = changed(bare, "posterior", **posterior)
    report = bg.check(broken)
    assert report.verdict.startswith("Not converged")
    assert "R-hat is above 100 for" in report.advice[0]
    assert re.search("(chain 1 sits|chains 0, 2 and 3 sit) in a mode", report.advice[0])
    audit = bg.mode_audit(broken)
    assert audit["mode_of_chain"].values.tolist() in ([0, 1, 0, 0], [1, 0, 1, 1])
    with pytest.warns(bg.IdentifiabilityWarning, match="has no rows in 25%"):
        bg.alignment_report(broken)


@pytest.mark.parametrize("n_obs", [1, 30])
@pytest.mark.parametrize("n_components", [1, 3])
def test_one_row_one_component_and_rows_that_are_the_same(
    n_obs: int, n_components: int, rng: np.random.Generator
) -> None:
    tree = random_fit(rng.normal(size=(30, 2)), rng, n_components=n_components, draws=60)
    few = tree.isel(obs=slice(n_obs))
    same = few.copy(deep=True)
    same["observed_data"]["X"].values[:] = 1.0
    for some in (few, same):
        assert bg.mode_audit(some)["mode_of_chain"].values.tolist() == [0, 0]
        assert bg.check(some).evidence["modes that chains sit in"] == 1


def test_empty_components_in_every_draw_are_no_failure(tree: xr.DataTree) -> None:
    posterior = {name: values(tree, "posterior", name) for name in tree["posterior"].data_vars}
    posterior["means"][:, :, 0] += 500.0
    broken = changed(tree, "posterior", **posterior)
    assert bg.mode_audit(broken)["mode_of_chain"].values.tolist() == [0, 0, 0, 0]
    assert bg.check(broken).ok
    with pytest.warns(bg.IdentifiabilityWarning, match="component 0 has no rows in 100%"):
        bg.alignment_report(broken)


def test_modes_are_numbered_from_the_highest(rng: np.random.Generator) -> None:
    where = np.array([5.0, -5.0, 5.0, 0.0, -5.0])
    lp = rng.normal(size=(5, 200)) + 10.0 * where[:, None]
    free = rng.normal(size=(2, 5, 200))
    free[1] += 10.0 * where[:, None]
    assert modes_of_chains(free, lp).tolist() == [0, 2, 0, 1, 2]
    free[1] = rng.normal(size=(5, 200))
    assert modes_of_chains(free, lp).tolist() == [0, 0, 0, 0, 0]


def test_the_mass_of_a_normal_mode_is_exact(rng: np.random.Generator) -> None:
    """Five standard errors: of the mean of chi-squares, and of the log determinant."""
    n_dim, n_draws = 4, 4000
    factor = np.tril(rng.normal(size=(n_dim, n_dim))) + 3.0 * np.eye(n_dim)
    noise = rng.normal(size=(n_draws, n_dim))
    _, volume = np.linalg.slogdet(factor)
    lp = 7.0 - 0.5 * (noise**2).sum(axis=1) - volume - 0.5 * n_dim * np.log(2.0 * np.pi)
    got = laplace_mass(1.0 + noise @ factor.T, lp)
    assert got == pytest.approx(7.0, abs=5.0 * np.sqrt(n_dim / n_draws))


def test_the_mass_is_not_biased_by_few_draws(rng: np.random.Generator) -> None:
    n_dim, n_draws, n_times = 6, 15, 4000
    noise = rng.normal(size=(n_times, n_draws, n_dim))
    lp = -0.5 * (noise**2).sum(axis=2) - 0.5 * n_dim * np.log(2.0 * np.pi)
    got = [laplace_mass(one, two) for one, two in zip(noise, lp, strict=True)]
    assert np.mean(got) == pytest.approx(0.0, abs=5.0 * np.std(got) / np.sqrt(n_times))


def test_a_mass_that_cannot_be_had_is_not_a_number(
    broken: xr.DataTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modes, "DRAWS_PER_PARAMETER", 100)  # 11 parameters, 3000 and 1000 draws
    assert np.isnan(bg.mode_audit(broken)["log_mass"].values).tolist() == [False, True]
    other = broken.copy()
    other.attrs = {**broken.attrs, "n_parameters": 12}  # one of the user's own
    assert np.isnan(bg.mode_audit(other)["log_mass"].values).all()


def test_what_cannot_be_audited_is_refused(tree: xr.DataTree, broken: xr.DataTree) -> None:
    lp = values(tree, "sample_stats", "lp")
    lp[1] = lp[1, 0]
    with pytest.raises(ValueError, match=r"`tree` must hold chains that move .* got 1 of 4 with"):
        bg.mode_audit(changed(tree, "sample_stats", lp=lp))
    with pytest.raises(ValueError, match=r"at least 30 draws .* for `mode_audit`; got 4 x 5 of"):
        bg.mode_audit(tree.isel(draw=slice(5)))
    with pytest.raises(ValueError, match=r"at least 30 draws .* for `mode_audit`; got 1 x 20 of"):
        bg.mode_audit(broken.isel(draw=slice(20)))
    with pytest.raises(ValueError, match=r"for `mode_audit`; .* by a list: isel\(chain=\[0\]\)"):
        bg.mode_audit(tree.isel(chain=0))
