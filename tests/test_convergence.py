"""The convergence report, on fits that were broken on purpose."""

from collections.abc import Mapping
from typing import Any

import arviz_stats
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesgmm as bg
from bayesgmm import symptoms
from bayesgmm.convergence import DISAGREEMENT, LARGEST_RHAT, Report
from tests.synthetic import random_fit

RHAT = "largest R-hat, {}"
ESS = "smallest ESS, {}"


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    """A sound fit. No test may change it."""
    X = bg.datasets.make_mixture(120, 2, 2, separation=5.0, random_seed=4)["X"]
    return bg.fit(X, 2, random_seed=1, progressbar=False)


def changed(tree: xr.DataTree, group: str, **variables: np.ndarray) -> xr.DataTree:
    """Return a copy of a tree with the numbers of some variables replaced."""
    result = tree.copy()
    dataset = tree[group].to_dataset().copy()
    for name, values in variables.items():
        dataset[name] = dataset[name].copy(data=values)
    result[group] = xr.DataTree(dataset)
    return result


def values(tree: xr.DataTree, group: str, name: str) -> np.ndarray:
    return tree[group][name].values.copy()


def switched(tree: xr.DataTree) -> xr.DataTree:
    """Return the fit with the labels of the second chain, and of it alone, the other way round."""
    posterior = {}
    for name, variable in tree["posterior"].data_vars.items():
        posterior[name] = variable.values.copy()
        posterior[name][1] = posterior[name][1][:, ::-1]
    permutation = values(tree, "alignment", "permutation")
    permutation[1] = permutation[1][:, ::-1]
    return changed(changed(tree, "posterior", **posterior), "alignment", permutation=permutation)


def assert_readable(report: Report) -> None:
    """The verdict first, then what was measured, then what to do."""
    lines = str(report).splitlines()
    assert lines[0] == report.verdict
    assert report.verdict.endswith(".")
    assert report.verdict.count(".") == 1
    shown = lines[1 : 1 + len(report.evidence)]
    for line, (name, value) in zip(shown, report.evidence.items(), strict=True):
        assert line.startswith(f"  {name}  ")
        assert float(line.split()[-1]) == pytest.approx(value, rel=1e-5, nan_ok=True)
    assert lines[1 + len(report.evidence) :] == [f"  -> {advice}" for advice in report.advice]
    assert report.ok == (not report.advice)
    assert report.ok == report.verdict.startswith("Trustworthy: ")
    assert all(isinstance(value, float) for value in report.evidence.values())


# The report


def test_a_sound_fit_is_trusted(tree: xr.DataTree) -> None:
    report = bg.check(tree)
    assert report.ok
    assert report.verdict.startswith("Trustworthy: chains agree")
    assert report.advice == ()
    assert_readable(report)


def test_the_evidence_is_arvizs(tree: xr.DataTree) -> None:
    evidence = bg.check(tree).evidence
    posterior = tree["posterior"].to_dataset()
    below = posterior["correlations"].isel(feature=1, feature2=0, drop=True)
    aligned = posterior[["weights", "means", "scales"]].assign(correlation=below)
    labels, draws = symptoms.label_free(tree)
    free = xr.Dataset(
        {label: (("chain", "draw"), each) for label, each in zip(labels, draws, strict=True)}
    )
    for kind, dataset in (("aligned", aligned), ("label-free", free)):
        rhat = arviz_stats.rhat(dataset, method="rank")
        largest = max(float(variable.max()) for variable in rhat.data_vars.values())
        assert evidence[RHAT.format(kind)] == pytest.approx(largest, rel=1e-12)
        smallest = min(
            float(variable.min())
            for method, more in (("bulk", {}), ("tail", {"prob": (0.05, 0.95)}))
            for variable in arviz_stats.ess(dataset, method=method, **more).data_vars.values()
        )
        assert evidence[ESS.format(kind)] == pytest.approx(smallest, rel=1e-12)
    energy = tree["sample_stats"]["energy"]
    bfmi = arviz_stats.bfmi(energy.to_dataset())
    assert evidence["smallest E-BFMI"] == pytest.approx(float(bfmi["energy"].min()), rel=2e-3)
    assert evidence["divergences"] == tree["sample_stats"]["diverging"].sum().item()
    assert (evidence["chains"], evidence["draws per chain"]) == (4, 1000)


def test_a_chain_in_another_mode_is_not_converged(tree: xr.DataTree) -> None:
    """The last chain sampled another place altogether: another fit, of other data."""
    X = bg.datasets.make_mixture(120, 2, 2, separation=5.0, weights=[0.2, 0.8], random_seed=9)["X"]
    other = bg.fit(X, 2, random_seed=2, progressbar=False)
    broken = tree
    for group in ("posterior", "sample_stats", "log_likelihood"):
        mixed = {}
        for name in broken[group].data_vars:
            mixed[name] = values(tree, group, name)
            mixed[name][3] = values(other, group, name)[3]
        broken = changed(broken, group, **mixed)
    report = bg.check(broken)
    assert not report.ok
    assert report.verdict.startswith("Not converged: chains disagree")
    assert report.evidence[RHAT.format("label-free")] > 1.1
    assert "R-hat is" in report.advice[0]
    assert_readable(report)


def test_one_label_free_quantity_is_enough(tree: xr.DataTree) -> None:
    lp = values(tree, "sample_stats", "lp")
    lp[2] += 3.0
    report = bg.check(changed(tree, "sample_stats", lp=lp))
    assert report.verdict.startswith("Not converged")
    assert "for the log posterior" in report.advice[0]
    density = values(tree, "log_likelihood", "X")
    density[0, :, 119] += 1.0
    report = bg.check(changed(tree, "log_likelihood", X=density))
    assert report.verdict.startswith("Not converged")
    assert "for the log density at row 119" in report.advice[0]


def test_chains_that_differ_by_labels_only(tree: xr.DataTree) -> None:
    """Not a failure to converge: after alignment nothing is left of it."""
    wrong = switched(tree)
    report = bg.check(wrong)
    assert report.evidence[RHAT.format("aligned")] > 1.5
    sound = bg.check(tree).evidence
    assert report.evidence[RHAT.format("label-free")] == sound[RHAT.format("label-free")]
    assert report.verdict.startswith("Labels are unclear")
    assert_readable(report)
    mended = bg.check(bg.align(wrong))
    assert mended.ok
    assert mended.evidence == sound


def test_components_that_are_the_same_have_no_labels(rng: np.random.Generator) -> None:
    """Two components on one cluster: the density is clear, and which is which is not."""
    X, shape = rng.normal(size=(60, 1)), (4, 500)
    twins = {
        "weights": rng.dirichlet([5000.0, 5000.0], shape),
        "means": 0.01 * rng.normal(size=(*shape, 2, 1)),
        "scales": np.exp(0.01 * rng.normal(size=(*shape, 2, 1))),
        "correlations": np.ones((*shape, 2, 1, 1)),
    }
    twins["covariances"] = twins["scales"][..., None] ** 2
    stats = {"lp": rng.normal(size=shape)}
    tree = random_fit(X, rng, chains=4, draws=500, posterior=twins, sample_stats=stats)
    report = bg.check(bg.align(tree))
    assert not report.ok
    assert report.evidence["draws nearly tied in labels"] > 0.5
    assert report.evidence[RHAT.format("label-free")] < LARGEST_RHAT
    assert report.verdict.startswith("Labels are unclear: chains agree about the density")
    assert "do not read single components" in report.advice[-1]
    assert_readable(report)


def test_single_components_may_need_more_draws(tree: xr.DataTree) -> None:
    """Names swap every 50 draws, in all chains alike: these agree, but say little."""
    swapped = np.arange(1000) // 50 % 2 == 1
    posterior = {}
    for name, variable in tree["posterior"].data_vars.items():
        posterior[name] = variable.values.copy()
        posterior[name][:, swapped] = posterior[name][:, swapped][:, :, ::-1]
    report = bg.check(changed(tree, "posterior", **posterior))
    assert report.evidence[RHAT.format("aligned")] < LARGEST_RHAT
    assert report.evidence["smallest ESS, aligned"] < 400
    assert report.verdict == "Too few effective draws of single components."
    assert report.advice[0].endswith("and 400 are wanted. Draw more.")
    assert_readable(report)


def test_chains_that_nearly_agree_about_a_component_need_more_draws(tree: xr.DataTree) -> None:
    """Its labels are clear all the same: nothing was nearly a tie."""
    weights = values(tree, "posterior", "weights")
    apart = 0.25 * weights[..., 0].std() * np.array([1.0, -1.0, 1.0, -1.0])[:, None]
    weights[..., 0] += apart
    weights[..., 1] -= apart
    report = bg.check(changed(tree, "posterior", weights=weights))
    assert LARGEST_RHAT < report.evidence[RHAT.format("aligned")] < DISAGREEMENT
    assert report.evidence[RHAT.format("label-free")] < LARGEST_RHAT
    assert report.evidence["draws nearly tied in labels"] == 0.0
    assert report.verdict == "Too few effective draws of single components."
    assert_readable(report)


def test_nearly_tied_labels_are_unclear(tree: xr.DataTree) -> None:
    margin = values(tree, "alignment", "margin")
    margin[:, ::10] = 0.001
    report = bg.check(changed(tree, "alignment", margin=margin))
    assert report.evidence["draws nearly tied in labels"] == pytest.approx(0.1)
    assert report.verdict.startswith("Labels are unclear")
    assert "10%" in report.advice[0]
    margin[:, ::50] = 0.9
    margin[:, ::10] = np.where(np.arange(100) % 5, 0.9, 0.001)
    assert bg.check(changed(tree, "alignment", margin=margin)).ok  # in 2 % of the draws


def test_divergences_are_named(tree: xr.DataTree) -> None:
    diverging = values(tree, "sample_stats", "diverging")
    diverging[1, 5:12] = True
    report = bg.check(changed(tree, "sample_stats", diverging=diverging))
    assert report.evidence["divergences"] == 7
    assert report.verdict.startswith("Biased by divergences")
    assert "7 draws diverged" in report.advice[0]
    assert "target_accept=0.95" in report.advice[0]
    assert_readable(report)


def test_an_energy_that_barely_moves_is_named(tree: xr.DataTree) -> None:
    energy = values(tree, "sample_stats", "energy")
    energy[3] = np.cumsum(np.random.default_rng(1).normal(size=1000))
    report = bg.check(changed(tree, "sample_stats", energy=energy))
    assert report.evidence["smallest E-BFMI"] < 0.3
    assert report.verdict.startswith("Slow")
    depth = values(tree, "sample_stats", "tree_depth")
    depth[0, :100] = 10
    report = bg.check(changed(tree, "sample_stats", tree_depth=depth))
    assert report.evidence["draws at the largest tree"] == pytest.approx(0.025)
    assert report.verdict.startswith("Slow")


def test_too_few_draws_are_named_with_how_many_to_make(rng: np.random.Generator) -> None:
    """Chains that agree perfectly, being the same, but hold 60 draws each."""
    tree = random_fit(rng.normal(size=(20, 1)), rng, chains=1, draws=30)
    rest = rng.normal(size=(1, 30, 20))
    whole = {
        group: {name: np.tile(v.values, (4, 2, *(1,) * (v.ndim - 2))) for name, v in part.items()}
        for group, part in (
            ("posterior", tree["posterior"].data_vars),
            ("sample_stats", {"lp": tree["sample_stats"]["lp"]}),
        )
    }
    repeated = random_fit(
        tree["observed_data"]["X"], rng, chains=4, draws=60, posterior=whole["posterior"],
        sample_stats=whole["sample_stats"], log_likelihood=np.tile(rest, (4, 2, 1)),
    )  # fmt: skip
    report = bg.check(repeated)
    assert not report.ok
    assert report.evidence[ESS.format("label-free")] < 400
    assert report.evidence[RHAT.format("label-free")] < LARGEST_RHAT
    assert report.verdict.startswith("Too few effective draws")
    assert "400 are wanted" in report.advice[0]
    wanted = int(report.advice[0].rpartition("draws=")[2].rstrip("."))
    assert wanted * report.evidence[ESS.format("label-free")] / 60 > 400
    assert_readable(report)


@pytest.mark.parametrize("draws", [4, 5, 10, 40])
def test_a_very_short_run_is_never_trusted(draws: int, tree: xr.DataTree) -> None:
    report = bg.check(tree.isel(draw=slice(draws)))
    assert not report.ok
    assert "raw" in " ".join(report.advice)  # draw more, however it is put
    assert_readable(report)


def test_one_chain_agrees_with_nobody(tree: xr.DataTree) -> None:
    report = bg.check(tree.isel(chain=[0]))
    assert "chains agree" not in report.verdict
    assert report.evidence["chains"] == 1
    assert_readable(report)


@pytest.mark.parametrize("each_its_own", [True, False])
def test_chains_that_are_stuck_are_never_trusted(each_its_own: bool, tree: xr.DataTree) -> None:
    """Not a single step was accepted: variances are zero and ratios of them undefined."""
    broken = tree
    for group in ("posterior", "sample_stats", "log_likelihood"):
        frozen = {}
        for name in tree[group].data_vars:
            whole = values(tree, group, name)
            first = whole[:, :1] if each_its_own else whole[:1, :1]
            frozen[name] = np.broadcast_to(first, whole.shape).copy()
        broken = changed(broken, group, **frozen)
    report = bg.check(broken)
    assert not report.ok
    assert not report.verdict.startswith("Labels")
    if each_its_own:
        assert report.verdict.startswith("Not converged")


def test_components_on_rounded_values_are_named() -> None:
    """A heap of equal numbers: the smallest scale that rounding allows is what is found."""
    rng = np.random.default_rng(1)
    X = np.concatenate([np.full(30, 4.0), np.round(rng.normal(40.0, 8.0, 60))])
    tree = bg.fit(X, 2, random_seed=1, progressbar=False)
    report = bg.check(tree)
    assert report.evidence["draws at the rounding error"] > 0.9
    assert any("as narrow in 'x0' as its values are rounded" in line for line in report.advice)
    assert not report.ok


def test_components_flat_along_a_line_are_named() -> None:
    """Answers on a scale from 1 to 5, and a component more than there are groups."""
    rng = np.random.default_rng(1)
    centre = np.array([[2.0, 2.0, 3.0], [4.0, 4.0, 3.0]])[rng.integers(2, size=200)]
    X = np.clip(np.round(rng.normal(centre, 0.8)), 1.0, 5.0)
    for seed in range(1, 7):  # which chains fall into which spike is chance; that some do is not
        report = bg.check(bg.fit(X, 3, random_seed=seed, progressbar=False))
        assert not report.ok
        if report.evidence["draws flat along a line"] > 0.2:
            break
    assert report.evidence["draws flat along a line"] > 0.2
    assert report.verdict.startswith("Not to be trusted: a component has collapsed onto rows")
    assert "'diag'" in report.advice[0]
    assert_readable(report)
    sound = bg.fit(X, 2, random_seed=1, progressbar=False)
    assert bg.check(sound).evidence["draws flat along a line"] == 0.0


def test_features_that_truly_go_together_are_no_collapse(rng: np.random.Generator) -> None:
    x = np.concatenate([rng.normal(0.0, 1.0, 60), rng.normal(9.0, 1.0, 60)])
    X = np.column_stack([x, x + 1e-5 * rng.normal(size=120)])
    report = bg.check(bg.fit(X, 1, random_seed=1, progressbar=False))
    assert "collapsed" not in str(report)
    assert report.ok


def test_a_point_on_rounded_values_says_so() -> None:
    rng = np.random.default_rng(3)
    X = pd.DataFrame({"size": rng.normal(size=80), "answer": rng.integers(0, 2, 80) * 1.0})
    report = bg.check(bg.fit(X, 2, method="map", random_seed=1))
    assert report.verdict.startswith("Doubtful: a component sits on rounded values")
    assert "as narrow in 'answer' as its values are rounded" in report.advice[0]
    assert report.evidence["draws at the rounding error"] == 1.0
    assert_readable(report)


@pytest.mark.parametrize("method", ["map", "ml"])
def test_points_say_how_many_starts_agreed(method: str) -> None:
    X = bg.datasets.make_mixture(120, 2, 2, separation=5.0, random_seed=4)["X"]
    tree = bg.fit(X, 2, method=method, random_seed=1, progressbar=False)
    report = bg.check(tree)
    assert report.ok
    assert report.evidence["starts"] == 20
    assert report.evidence["starts at the best mode"] == tree["modes"]["starts"].values[0] > 1
    assert "converged" in report.verdict
    assert_readable(report)
    alone = values(tree, "modes", "starts")
    alone[0] = 1
    doubtful = bg.check(changed(tree, "modes", starts=alone))
    assert not doubtful.ok
    assert doubtful.verdict.startswith("Doubtful: ")
    assert "Only one start" in doubtful.advice[0]
    short = tree.copy()
    short.attrs = {**tree.attrs, "converged": 0}
    report = bg.check(short)
    assert "did not converge" in report.verdict
    assert not report.ok
    assert_readable(doubtful)
    assert_readable(report)


def test_one_draw_of_many_is_no_optimum(tree: xr.DataTree) -> None:
    report = bg.check(tree.isel(chain=[0], draw=[5]))
    assert not report.ok
    assert "optimiser" not in report.verdict


def test_a_single_chain_is_chosen_by_a_list(tree: xr.DataTree) -> None:
    for dim in ("chain", "draw"):
        message = (
            rf"^`tree` must have the dimensions 'chain' and 'draw' for `check`; got a group "
            rf"'posterior' with \(.*\)\. A single {dim} keeps .* by a list: isel\({dim}=\[0\]\)\."
        )
        with pytest.raises(ValueError, match=message):
            bg.check(tree.isel({dim: 0}))


def test_a_log_likelihood_that_is_not_stored_is_computed(tree: xr.DataTree) -> None:
    bare = tree.filter(lambda node: node.name != "log_likelihood")
    stored, computed = bg.check(tree), bg.check(bare)
    assert computed.verdict == stored.verdict
    for name, value in stored.evidence.items():
        assert computed.evidence[name] == pytest.approx(value, rel=1e-6)


def test_reports_cannot_be_changed(tree: xr.DataTree) -> None:
    report = bg.check(tree)
    with pytest.raises(AttributeError, match="cannot assign"):
        report.ok = False  # type: ignore[misc]
    assert isinstance(report.evidence, Mapping)
    assert isinstance(report.advice, tuple)


@pytest.mark.parametrize("order", [("draw", "chain"), ("chain", "draw")])
def test_the_order_of_dimensions_does_not_matter(order: Any, tree: xr.DataTree) -> None:
    turned = tree.copy()
    for group in ("posterior", "sample_stats", "log_likelihood"):
        turned[group] = xr.DataTree(tree[group].to_dataset().transpose(..., *order))
    assert bg.check(turned) == bg.check(tree)


# Modes that no chain visited

THIRD = np.array([[-0.5, -(0.75**0.5)], [0.75**0.5, -0.5]])
"""Turns by 120 degrees."""


@pytest.fixture(scope="module")
def triangle() -> xr.DataTree:
    """Three clusters, all alike, and two components: three modes of which one holds the most."""
    one = np.random.default_rng(1).normal(size=(40, 2)) + np.array([3.5, 0.0])
    rows = np.concatenate([one, one @ THIRD, one @ THIRD @ THIRD])
    return bg.fit(rows, 2, draws=500, random_seed=2, progressbar=False)


def test_modes_that_no_chain_visited_are_told(triangle: xr.DataTree) -> None:
    report = bg.check(triangle)
    assert report.evidence["modes that chains sit in"] == 1.0
    mass = np.exp(triangle["modes"]["log_mass"].values)
    assert mass.shape == (3,)
    assert report.evidence["mass of modes not visited"] == pytest.approx(
        mass[1:].sum() / mass.sum()
    )
    assert report.verdict.startswith("Doubtful: no chain visited modes")
    assert "may hold 17% of it" in report.advice[0]
    assert "chains=8" in report.advice[0]
    assert_readable(report)


@pytest.mark.parametrize("kept", [True, False])
def test_draws_are_given_to_modes_by_their_densities(triangle: xr.DataTree, kept: bool) -> None:
    tree = triangle if kept else triangle.drop_nodes(["observed_data", "log_likelihood"])
    mass = np.exp(tree["modes"]["log_mass"].values)
    shares = mass / mass.sum()
    for mode in range(3):
        posterior = {name: values(tree, "posterior", name) for name in tree["posterior"].data_vars}
        there = tree["modes"].dataset.isel(mode=mode)
        scales = np.sqrt(np.einsum("kdd->kd", there["covariances"].values))
        posterior["weights"][0, 0] = there["weights"].values[::-1]  # by whatever names
        posterior["means"][0, 0] = there["means"].values[::-1]
        posterior["covariances"][0, 0] = there["covariances"].values[::-1]
        posterior["scales"][0, 0] = scales[::-1]
        posterior["correlations"][0, 0] = (
            there["covariances"].values / (scales[:, :, None] * scales[:, None])
        )[::-1]
        expected = sum(shares[other] for other in {1, 2} - {mode})
        found = symptoms.unvisited(changed(tree, "posterior", **posterior))
        assert found == pytest.approx(expected)


def test_masses_that_were_not_measured_are_not_spoken_of(
    tree: xr.DataTree, triangle: xr.DataTree
) -> None:
    assert bg.check(tree).evidence["mass of modes not visited"] == 0.0
    bare = triangle.copy()
    bare["modes"] = xr.DataTree(triangle["modes"].to_dataset().drop_vars("log_mass"))
    assert "mass of modes not visited" not in bg.check(bare).evidence
    assert symptoms.unvisited(triangle.drop_nodes("modes")) is None


def test_a_mode_with_next_to_no_mass_needs_no_visit(triangle: xr.DataTree) -> None:
    light = changed(triangle, "modes", log_mass=np.array([0.0, -5.0, np.nan]))
    assert symptoms.unvisited(light) == 0.0
    little = changed(triangle, "modes", log_mass=np.array([0.0, -3.5, -9.0]))
    report = bg.check(little)
    assert 0.01 < report.evidence["mass of modes not visited"] < 0.05
    assert not report.verdict.startswith("Doubtful: no chain")
