"""What follows from fits with background noise: against naive computations, and without noise."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy import special, stats

import bayesgmm as bg
from bayesgmm import names
from bayesgmm.clustering.allocations import label_draws, noise_shares, without_noise
from bayesgmm.clustering.coclustering import membership
from bayesgmm.clustering.credibility import matched
from bayesgmm.clustering.partitions import named
from bayesgmm.prediction import mixtures
from bayesgmm.tree import specification
from tests.synthetic import random_fit

type Array = NDArray[np.float64]

LOW, HIGH = np.array([-3.0, -2.5]), np.array([4.0, 3.0])
SAMPLE = ["chain", "draw"]


def given_noise(tree: xr.DataTree, share: float, low: Any = LOW, high: Any = HIGH) -> xr.DataTree:
    """Return a fit as it is with noise of about a weight, that of the components made less."""
    result, posterior = tree.copy(), tree["posterior"].to_dataset()
    shape = posterior.sizes["chain"], posterior.sizes["draw"]
    weight = share * np.random.default_rng(4).uniform(0.5, 1.5, shape)
    posterior[names.NOISE_WEIGHT] = (tuple(SAMPLE), weight)
    posterior["weights"] = posterior["weights"] * (1.0 - posterior[names.NOISE_WEIGHT])
    posterior["weights"] = posterior["weights"].transpose(*SAMPLE, "component")
    result["posterior"] = xr.DataTree(posterior)
    noise = bg.UniformNoise(low=tuple(np.atleast_1d(low)), high=tuple(np.atleast_1d(high)))
    spec = dataclasses.replace(specification(tree), noise=noise)
    result.attrs[names.SPECIFICATION] = json.dumps(spec.to_dict())
    return result


@pytest.fixture(scope="module")
def plain() -> xr.DataTree:
    """Two groups of rows and some between, and draws around one mixture."""
    rng = np.random.default_rng(3)
    X = 0.4 * rng.normal(size=(36, 2)) + np.repeat([[-1.5, 0.0], [1.5, 0.5]], 18, axis=0)
    X = np.concatenate([X, rng.uniform(LOW, HIGH, (6, 2))])
    tree = random_fit(X, rng, draws=15)
    posterior = tree["posterior"].to_dataset()
    center = np.array([[-1.5, 0.0], [1.5, 0.5]])
    posterior["means"] = 0.1 * posterior["means"] + xr.DataArray(
        center, dims=("component", "feature")
    )
    for name, power in (("scales", 1), ("covariances", 2)):
        posterior[name] = 0.4**power * posterior[name]
    posterior["weights"] = 0.1 * posterior["weights"] + 0.45
    order = ("chain", "draw", "component", "feature")
    posterior["means"] = posterior["means"].transpose(*order)
    tree["posterior"] = xr.DataTree(posterior)
    return tree


@pytest.fixture(scope="module")
def tree(plain: xr.DataTree) -> xr.DataTree:
    return given_noise(plain, 0.15)


@pytest.fixture(scope="module")
def traces(plain: xr.DataTree) -> xr.DataTree:
    """The same fit with noise of next to no weight."""
    return given_noise(plain, 1e-200)


@pytest.fixture(scope="module")
def places() -> Array:
    """Rows in the box and outside of it."""
    rng = np.random.default_rng(5)
    return np.concatenate([rng.uniform(LOW - 1.0, HIGH + 1.0, (40, 2)), [[9.0, 0.0], [-3.0, 3.0]]])


def joint(tree: xr.DataTree, rows: Array, features: list[int] | None = None) -> Array:
    """Return log joint densities of rows (S, K + 1, N), by SciPy, of some features."""
    some = features or [0, 1]
    flat = tree["posterior"].to_dataset().stack(sample=SAMPLE).transpose("sample", ...)
    low, high = LOW[some], HIGH[some]
    inside = ((rows >= low) & (rows <= high)).all(axis=1)
    found = np.full((flat.sizes["sample"], flat.sizes["component"] + 1, len(rows)), -np.inf)
    for s, one in enumerate(found):
        for k in range(len(one) - 1):
            law = stats.multivariate_normal(
                flat["means"].values[s, k, some],
                flat["covariances"].values[s, k][np.ix_(some, some)],
            )
            one[k] = np.log(flat["weights"].values[s, k]) + law.logpdf(rows)
        one[-1, inside] = np.log(flat[names.NOISE_WEIGHT].values[s] / np.prod(high - low))
    return found


def responsibilities(tree: xr.DataTree, X: Array) -> Array:
    return np.asarray(special.softmax(joint(tree, X), axis=1))


def rows_of(tree: xr.DataTree) -> Array:
    return np.asarray(tree["observed_data"]["X"].values)


# Densities


def test_densities_are_the_naive_ones(tree: xr.DataTree) -> None:
    x, y = np.linspace(-5.0, 5.0, 9), np.linspace(-4.0, 4.5, 8)
    grid = np.stack(np.meshgrid(x, y, indexing="ij")).reshape(2, -1).T
    due = np.exp(special.logsumexp(joint(tree, grid), axis=1)).reshape(2, 15, 9, 8)
    found = bg.density(tree, {"x0": x, "x1": y}, probability=None)
    np.testing.assert_allclose(found, due, rtol=1e-9)
    mean = bg.density(tree, {"x0": x, "x1": y}).sel(statistic="predictive")
    np.testing.assert_allclose(mean, due.mean(axis=(0, 1)), rtol=1e-9)
    one = np.exp(special.logsumexp(joint(tree, y[:, None], [1]), axis=1)).reshape(2, 15, 8)
    np.testing.assert_allclose(bg.density(tree, {"x1": y}, probability=None), one, rtol=1e-9)
    found = bg.density(bg.marginal(tree, "x1"), y, probability=None)
    np.testing.assert_allclose(found, one, rtol=1e-9)


def test_a_marginal_keeps_its_sides_of_the_box(tree: xr.DataTree, places: Array) -> None:
    turned = bg.marginal(tree, ["x1", "x0"])
    xr.testing.assert_allclose(
        bg.predict_proba(turned, places[:, ::-1]), bg.predict_proba(tree, places)
    )
    second = bg.marginal(tree, "x1")
    low, high = specification(second).noise.corners  # type: ignore[union-attr]
    assert (low.tolist(), high.tolist()) == ([LOW[1]], [HIGH[1]])
    due = special.logsumexp(joint(tree, places[:, 1:], [1]), axis=(0, 1)) - np.log(30.0)
    np.testing.assert_allclose(bg.score_samples(second, places[:, 1:]), due, rtol=1e-9)


def test_the_distribution_function_and_its_inverse(tree: xr.DataTree) -> None:
    y = np.array([-9.0, -2.5, -2.4, 0.0, 0.5, 2.9, 3.0, 6.0])
    flat = tree["posterior"].to_dataset().stack(sample=SAMPLE).transpose("sample", ...)
    law = stats.norm(flat["means"].values[..., 1], flat["scales"].values[..., 1])
    masses = np.stack([(flat["weights"].values * law.cdf(one)).sum(axis=1) for one in y], axis=1)
    noise = flat[names.NOISE_WEIGHT].values[:, None]
    masses += noise * stats.uniform(-2.5, 5.5).cdf(y)
    found = bg.cdf(tree, y, feature="x1", probability=None)
    np.testing.assert_allclose(found.values.reshape(30, -1), masses, rtol=1e-10)
    mean = bg.cdf(tree, y, feature="x1").sel(statistic="predictive")
    np.testing.assert_allclose(mean, masses.mean(axis=0), rtol=1e-10)
    q = np.array([1e-9, 0.003, 0.2, 0.5, 0.8, 0.99, 1.0 - 1e-7])
    every = bg.quantile(tree, q, feature="x1", probability=None).values.reshape(30, -1)
    for s, at in enumerate(every):
        below = (flat["weights"].values[s] * law.cdf(at[:, None, None])[:, s]).sum(axis=1)
        below += noise[s] * stats.uniform(-2.5, 5.5).cdf(at)
        np.testing.assert_allclose(below, q, rtol=1e-6, atol=0.0)
    predictive = bg.quantile(tree, q, feature="x1").sel(statistic="predictive").values
    back = bg.cdf(tree, predictive, feature="x1").sel(statistic="predictive")
    np.testing.assert_allclose(back, q, rtol=1e-6)


def test_modes_are_those_of_the_components(tree: xr.DataTree, plain: xr.DataTree) -> None:
    found, before = bg.density_modes(tree), bg.density_modes(plain)
    np.testing.assert_array_equal(found["n_modes"], before["n_modes"])
    rows = found["location"].values.reshape(30, 2, 2)
    for s in range(30):
        due = special.logsumexp(joint(tree, rows[s]), axis=1)[s]
        np.testing.assert_allclose(found["log_density"].values.reshape(30, 2)[s], due, rtol=1e-8)
    beside = bg.density_modes(given_noise(plain, 0.2, LOW, [0.0, 3.0]))  # the second is out of it
    gap = beside["log_density"] - before["log_density"]
    lost = np.log1p(-given_noise(plain, 0.2)["posterior"][names.NOISE_WEIGHT])
    assert (gap.isel(component=0) > lost + 1e-6).all()
    np.testing.assert_allclose(gap.isel(component=1), lost, rtol=1e-9)


# Allocations and partitions


def test_allocations_are_drawn_with_their_probabilities(tree: xr.DataTree, places: Array) -> None:
    many = np.repeat(places[[0, 5, 9, -2, -1]], 300, axis=0)
    labels = bg.sample_allocations(tree, many, random_seed=1)
    assert labels.coords[names.NOISE].item() == -1
    assert labels.dtype == np.int32
    shares = responsibilities(tree, places[[0, 5, 9, -2, -1]])  # (S, K + 1, 5)
    drawn = labels.values.reshape(30, 5, 300)
    for k, label in enumerate((0, 1, -1)):
        error = np.sqrt((shares[:, k] * (1.0 - shares[:, k])).sum(axis=0) / 300.0) / 30.0
        gap = (drawn == label).mean(axis=(0, 2)) - shares[:, k].mean(axis=0)
        assert (np.abs(gap) <= 5.0 * error + 1e-4).all()
    assert not (drawn[:, 3] == -1).any()  # outside of the box


def test_similar_are_two_of_a_component_or_two_of_noise(tree: xr.DataTree) -> None:
    shares = responsibilities(tree, rows_of(tree))
    due = np.einsum("skn,skm->nm", shares, shares) / 30.0
    np.fill_diagonal(due, 1.0)
    np.testing.assert_allclose(bg.similarity(tree), due, atol=1e-9)
    some = bg.similarity(tree, rows=[40, 3])
    np.testing.assert_allclose(some, due[[40, 3]], atol=1e-9)
    counted = bg.similarity(tree, method="allocations", random_seed=1)
    assert np.abs(counted.values - due).max() < 0.5  # of 30 draws


def test_a_group_that_is_mostly_noise_is_no_cluster(tree: xr.DataTree) -> None:
    best = bg.partition(tree, random_seed=1)
    drawn = bg.sample_allocations(tree, random_seed=1)
    assert bg.partition(drawn, random_seed=1).identical(best)
    assert set(best.coords) == {"obs"}
    share = (drawn == -1).mean(SAMPLE).values
    assert (best.values == -1).any()
    assert share[best.values == -1].mean() > 0.5
    for k in range(best.attrs["n_clusters"]):
        assert share[best.values == k].mean() <= 0.5
    assert best.attrs["n_clusters"] == best.values.max() + 1
    draws = label_draws(tree, random_seed=1, function="partition").values
    loss = bg.credible_ball(draws, best.values, random_seed=1).attrs["expected_loss"]
    assert loss == pytest.approx(best.attrs["expected_loss"])


def test_several_groups_of_noise_are_one() -> None:
    values = np.array([[0, 0, 1, 1, -1, -1, -1]] * 3 + [[0, 0, 1, 1, -1, 1, 1]])
    source = xr.DataArray(values, dims=("draw", "obs"), coords={names.NOISE: -1})
    draws = label_draws(source, function="partition")
    assert draws[names.NOISE].values.tolist() == [2, 2, 2, 2]
    np.testing.assert_allclose(noise_shares(draws), [0, 0, 0, 0, 1, 0.75, 0.75])
    found = named(np.array([0, 0, 1, 1, 2, 3, 3]), draws)
    assert found.tolist() == [0, 0, 1, 1, -1, -1, -1]
    assert named(np.array([1, 1, 0, 0, 0, 2, 2]), draws).tolist() == [1, 1, 0, 0, 0, -1, -1]
    assert without_noise(draws[::-1], 0).tolist() == [0, 0, 1, 1, -1, 1, 1]
    plainly = label_draws(values, function="partition")  # labels alone: -1 is one as any
    assert names.NOISE not in plainly.coords
    assert bg.partition(values, random_seed=1).values.min() == 0
    alike = np.array([0, 0, 1, 1, -1, -1, -1])
    np.testing.assert_allclose(membership(draws, alike)[4:], [1.0, 0.75, 0.75])
    center = np.array([1, 1, 0, 0, -1, -1, -1])
    assert matched(np.array([0, 0, 1, 1, -1, 1, -1]), center).tolist() == [1, 1, 0, 0, -1, 0, -1]
    assert matched(np.full(7, -1), center).tolist() == [-1] * 7


def test_a_draw_without_noise_has_none_of_it() -> None:
    values = np.array([[3, 3, -1], [-1, 5, 5], [5, 3, 3], [-1, -1, -1]])
    source = xr.DataArray(values, dims=("draw", "obs"), coords={names.NOISE: -1})
    draws = label_draws(source, function="n_clusters")
    assert draws[names.NOISE].values.tolist() == [1, 0, -1, 0]
    assert [without_noise(draws, s).tolist() for s in range(4)] == [
        [0, 0, -1], [-1, 0, 0], [0, 1, 1], [-1, -1, -1]
    ]  # fmt: skip
    number = bg.n_clusters(source)
    assert number["occupied"].values.tolist() == [1, 1, 2, 0]
    assert number["n_clusters"].values.tolist() == [0, 1, 2]
    np.testing.assert_allclose(number["probability"], [0.25, 0.5, 0.25])
    shuffled = source.isel(draw=[3, 1]).expand_dims(chain=2).transpose("obs", "draw", "chain")
    again = label_draws(shuffled, function="n_clusters")
    assert again[names.NOISE].values.tolist() == [0, 0, 0, 0]
    named_rows = source.assign_coords({names.NOISE: ("obs", [0.1, 0.2, 0.3])})
    assert bg.n_clusters(named_rows)["occupied"].values.tolist() == [2, 2, 2, 1]


def test_noise_is_not_counted(tree: xr.DataTree) -> None:
    number = bg.n_clusters(tree, random_seed=1)
    drawn = bg.sample_allocations(tree, random_seed=1).values.reshape(30, -1)
    due = [len(set(one.tolist()) - {-1}) for one in drawn]
    assert number["occupied"].values.tolist() == due
    assert names.PRIOR_PROBABILITY not in number
    assert number["probability"].sum() == pytest.approx(1.0)


def test_sets_of_partitions_call_noise_by_its_name(tree: xr.DataTree) -> None:
    drawn = bg.sample_allocations(tree, random_seed=1).values.reshape(30, -1)
    ball = bg.credible_ball(tree, random_seed=1)
    assert (ball["partition"] == -1).any()
    for k, bound in enumerate(ball["labels"].values):
        of_noise = [one for one in drawn if ((one == -1) == (bound == -1)).all()]
        assert of_noise  # a draw whose noise it is
        assert ball["n_clusters"].values[k] == len(set(bound.tolist()) - {-1})
    own = bg.credible_ball(tree, ball["partition"], random_seed=1)
    xr.testing.assert_identical(own, ball)
    few = bg.representative_partitions(tree, 2, random_seed=1)
    assert (few["labels"] == -1).any("obs").all()
    assert few["labels"].min() == -1
    sure = bg.confident_subset(tree, 0.6, random_seed=1)
    confident = sure["confident"].values
    assert confident.sum() == sure.attrs["n_confident"]
    assert (sure["labels"].values[~confident] == -1).all()
    of_noise = confident & (sure["labels"].values == -1)
    assert (
        noise_shares(label_draws(tree, random_seed=1, function="confident_subset"))[of_noise] > 0.5
    ).all()


# How sure


def test_uncertainty_counts_noise_as_an_outcome(tree: xr.DataTree, places: Array) -> None:
    shares = responsibilities(tree, places)
    mean = shares.mean(axis=0)
    found = bg.uncertainty(tree, places)
    assert found["component"].values.tolist() == [0, 1, -1]
    np.testing.assert_allclose(found["probability"], mean.T, atol=1e-9)
    np.testing.assert_allclose(found["total_entropy"], special.entr(mean).sum(axis=0), atol=1e-8)
    aleatoric = special.entr(shares).sum(axis=1).mean(axis=0)
    np.testing.assert_allclose(found["aleatoric_entropy"], aleatoric, atol=1e-8)
    np.testing.assert_allclose(found["error_probability"], 1.0 - mean.max(axis=0), atol=1e-9)
    ends = [0.5 - 0.5 * found.attrs["ci_prob"], 0.5 + 0.5 * found.attrs["ci_prob"]]
    due = np.quantile(shares, ends, axis=0)
    np.testing.assert_allclose(found["probability_interval"], due.T, atol=1e-9)
    of_fitted = responsibilities(tree, rows_of(tree))
    exemplars = found["exemplar"].values
    together = np.einsum("skn,skn->n", shares, of_fitted[..., exemplars]) / 30.0
    np.testing.assert_allclose(found["with_exemplar"], together, atol=1e-8)
    likely = of_fitted.mean(axis=0).argmax(axis=0)
    np.testing.assert_array_equal(likely[exemplars], mean.argmax(axis=0))


# Outliers


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_scores_are_uniform_under_the_model(plain: xr.DataTree, share: float) -> None:
    """Some components reach out of this box, so that all kinds of places are met."""
    tree = given_noise(plain, share, [-1.8, -0.5], [2.5, 3.0])
    new = bg.sample_posterior_predictive(tree, 100, random_seed=2)["X"].values.reshape(-1, 2)
    scores = bg.outlier_score(tree, new, random_seed=3)
    assert stats.kstest(scores["score"].values, stats.uniform.cdf).pvalue > 1e-3
    density = bg.score_samples(tree, new)
    np.testing.assert_allclose(scores["log_density"], density, atol=1e-9)
    others = bg.sample_posterior_predictive(tree, 2000, random_seed=4)["X"].values.reshape(-1, 2)
    heights = np.sort(bg.score_samples(tree, others).values)
    due = np.searchsorted(heights, density.values[:200], side="right") / heights.size
    error = np.sqrt(due * (1.0 - due) / heights.size) + scores["score_error"].values[:200]
    flat = np.abs(heights[np.searchsorted(heights, density.values[:200]) % heights.size]
                  - density.values[:200]) < 1e-9  # fmt: skip
    gap = np.abs(scores["score"].values[:200] - due)
    assert (gap[~flat] < 5.0 * error[~flat] + 1e-4).all()


def test_far_places_in_the_box_are_told_apart(plain: xr.DataTree) -> None:
    tree = given_noise(plain, 0.2, [-400.0, -400.0], [400.0, 400.0])
    far = np.linspace(100.0, 390.0, 6)[:, None] * [1.0, 0.5]
    found = bg.outlier_score(tree, np.concatenate([far, [[401.0, 0.0]]]), random_seed=1)
    assert np.unique(found["log_density"].values[:6]).size < 3  # to rounding
    scores = found["score"].values
    assert (np.diff(scores) < 0.0).all()
    share = float(tree["posterior"][names.NOISE_WEIGHT].mean())
    assert 0.5 * share < scores[0] < share
    assert scores[-1] == found.attrs["resolution"]


def test_a_fitted_row_of_noise_is_left_out_as_others_are(
    plain: xr.DataTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, seen = given_noise(plain, 0.15), {}

    def tail_masses(draws: Any, levels: Array, outside: Any, rng: Any) -> tuple[Array, Array]:
        seen["levels"] = levels
        return np.ones(len(levels)), np.ones(len(levels))

    monkeypatch.setattr("bayesgmm.outliers.tail_masses", tail_masses)
    found = bg.outlier_score(tree, random_seed=1)
    assert found.attrs["left_out"] == 1
    log_joint = joint(tree, rows_of(tree))
    whole, parts = (special.logsumexp(log_joint[:, :k], axis=1) for k in (3, 2))
    due = special.logsumexp(parts - whole, axis=0) - special.logsumexp(-whole, axis=0)
    unit = np.log(mixtures(tree).unit).sum()
    smoothed = found["log_density"].values + special.logsumexp(-whole, axis=0) - np.log(30.0)
    np.testing.assert_allclose(seen["levels"] - unit - smoothed, due, atol=1e-8)


# Names


def test_alignment_leaves_noise_alone(tree: xr.DataTree, rng: np.random.Generator) -> None:
    mixed = tree.copy()
    posterior = tree["posterior"].to_dataset()
    order = rng.permuted(np.tile([0, 1], (2, 15, 1)), axis=2)
    chains, draws = np.ogrid[:2, :15]
    for name in posterior.data_vars:
        if "component" in posterior[name].dims:
            values = posterior[name].values[chains[..., None], draws[..., None], order]
            posterior[name] = posterior[name].copy(data=values)
    mixed["posterior"] = xr.DataTree(posterior)
    for method in ("stephens", "ecr", "ecr_iterative", "parameters"):
        found = bg.align(mixed, method)
        xr.testing.assert_allclose(found["posterior"].to_dataset(), tree["posterior"].to_dataset())
        assert found["alignment"]["permutation"].shape == (2, 15, 2)
    known = np.full(42, -1)
    known[[0, 20]] = [1, 0]
    turned = bg.align(mixed, "labels", labels=known)["posterior"]
    np.testing.assert_allclose(turned["means"], tree["posterior"]["means"][..., ::-1, :])
    np.testing.assert_array_equal(turned["noise_weight"], tree["posterior"]["noise_weight"])


def test_a_report_is_of_components(tree: xr.DataTree) -> None:
    report = bg.alignment_report(tree)
    shares = responsibilities(tree, rows_of(tree))
    assert report["component"].values.tolist() == [0, 1]
    np.testing.assert_allclose(report["expected_rows"], shares.mean(axis=0)[:2].sum(axis=1))
    np.testing.assert_allclose(
        report["occupied"], 1.0 - np.prod(1.0 - shares[:, :2], axis=2).mean(axis=0), atol=1e-9
    )
    assert report["nearest"].values.tolist() == [1, 0]
    one, two = shares[:, 0], shares[:, 1]
    common = (one * two / (one + two)).sum(axis=1).mean()
    rows = shares.mean(axis=0)[:2].sum(axis=1)
    np.testing.assert_allclose(report["overlap"], common * (1.0 / rows).sum(), rtol=1e-6)


def test_a_single_component_beside_noise(rng: np.random.Generator) -> None:
    tree = given_noise(random_fit(rng.normal(size=(30, 2)), rng, n_components=1), 0.2)
    assert bg.alignment_report(tree)["margin"].values == 1.0
    assert bg.merge_components(tree).attrs["n_clusters"] == 1
    assert bg.overlap(tree)["overlap"].shape == (2, 30, 1, 1)
    assert bg.partition(tree, random_seed=1).attrs["n_clusters"] <= 1


def test_merging_has_no_part_of_noise(tree: xr.DataTree) -> None:
    merged = bg.merge_components(tree)
    assert merged["cluster"].values.tolist() == [[0, 0], [0, 1]]
    shares = responsibilities(tree, rows_of(tree))
    components = shares[:, :2] / shares[:, :2].sum(axis=1, keepdims=True)
    due = (special.entr(components).sum(axis=1) * shares[:, :2].sum(axis=1)).sum(axis=1)
    found = merged["entropy"].values.reshape(30, 2)
    np.testing.assert_allclose(found[:, 1], due, atol=1e-8)
    assert (found[:, 0] == 0.0).all()
    np.testing.assert_allclose(merged["criterion"].values.reshape(30, 2)[:, 1], due, atol=1e-8)


# As noise goes


@pytest.mark.parametrize(
    "call",
    [
        lambda tree, X: bg.density(tree, {"x0": X[:, 0], "x1": X[:5, 1]}),
        lambda tree, X: bg.cdf(tree, X[:, 0], feature="x0"),
        lambda tree, X: bg.quantile(tree, [0.01, 0.5, 0.9], feature="x1"),
        lambda tree, X: bg.density(bg.marginal(tree, "x1"), X[:, 1]),
        lambda tree, X: bg.similarity(tree),
        lambda tree, X: bg.sample_allocations(tree, X, random_seed=1).reset_coords(drop=True),
        lambda tree, X: bg.partition(tree, random_seed=1),
        lambda tree, X: bg.n_clusters(tree, random_seed=1)[["probability", "occupied"]],
        lambda tree, X: bg.credible_ball(tree, random_seed=1),
        lambda tree, X: bg.representative_partitions(tree, 2, random_seed=1),
        lambda tree, X: bg.confident_subset(tree, random_seed=1),
        lambda tree, X: bg.uncertainty(tree, X).isel(component=[0, 1]),
        lambda tree, X: bg.overlap(tree),
        lambda tree, X: bg.density_modes(tree),
        lambda tree, X: bg.merge_components(tree, criterion="misclassification"),
        lambda tree, X: bg.alignment_report(tree),
        lambda tree, X: bg.align(bg.align(tree, "none"), "stephens")["posterior"]["means"],
    ],
)  # fmt: skip
def test_next_to_no_noise_is_none(
    call: Callable[[xr.DataTree, Array], Any],
    traces: xr.DataTree,
    plain: xr.DataTree,
    places: Array,
) -> None:
    near = places[np.abs(places).max(axis=1) < 3.0]
    found, due = call(traces, near), call(plain, near)
    xr.testing.assert_allclose(found, due, rtol=1e-6, atol=1e-9)
    assert found.sizes == due.sizes
