"""The table of estimates, against ArviZ's and against the draws."""

import arviz_stats
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesgmm as bg
from bayesgmm.priors import STRUCTURES
from tests.synthetic import random_fit


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    """A real fit. No test may change it."""
    X = bg.datasets.make_mixture(120, 2, 2, separation=5.0, random_seed=4)["X"]
    return bg.fit(X, 2, random_seed=1, progressbar=False)


def flat(tree: xr.DataTree) -> dict[str, np.ndarray]:
    """Every entry of every parameter, (chain, draw), by the name it should have."""
    result = {}
    for name in ("weights", "means", "scales", "correlations"):
        variable = tree["posterior"][name].transpose("chain", "draw", ...)
        dims = variable.dims[2:]
        for index in np.ndindex(variable.shape[2:]):
            labels = [str(variable[dim].values[i]) for dim, i in zip(dims, index, strict=True)]
            if name == "correlations":
                labels = [labels[0], labels[2], labels[1]]
            result[f"{name}[{', '.join(labels)}]"] = variable.values[:, :, *index]
    return result


def test_the_table_is_arvizs(tree: xr.DataTree) -> None:
    table, draws = bg.summary(tree), flat(tree)
    assert table.index.tolist() == [
        "weights[0]", "weights[1]",
        "means[0, x0]", "means[0, x1]", "means[1, x0]", "means[1, x1]",
        "scales[0, x0]", "scales[0, x1]", "scales[1, x0]", "scales[1, x1]",
        "correlations[0, x0, x1]", "correlations[1, x0, x1]",
    ]  # fmt: skip
    reference = arviz_stats.summary(
        xr.Dataset({f"v{i}": (("chain", "draw"), draws[n]) for i, n in enumerate(table.index)}),
        round_to="none",
    )
    assert set(table.columns) <= set(reference.columns)
    assert list(table.columns[:2]) == ["mean", "sd"]
    tail = [arviz_stats.ess(draws[n], method="tail", prob=(0.05, 0.95)) for n in table.index]
    for column in table.columns:
        expected = tail if column == "ess_tail" else reference[column].to_numpy(dtype=float)
        np.testing.assert_allclose(table[column], expected, rtol=1e-10, err_msg=column)


def test_the_table_has_the_draws_of_the_posterior(tree: xr.DataTree) -> None:
    table = bg.summary(tree)
    for name, draws in flat(tree).items():
        if name in table.index:
            assert table.loc[name, "mean"] == pytest.approx(draws.mean(), rel=1e-12)
            assert table.loc[name, "sd"] == pytest.approx(draws.std(ddof=1), rel=1e-12)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_what_is_shared_stands_once(structure: str) -> None:
    X = bg.datasets.make_mixture(60, 2, 2, separation=8.0, random_seed=1)["X"].values
    spec = bg.GaussianMixture(2, covariance=bg.LKJCovariance(structure=structure))
    tree = bg.fit(X, spec, method="map", random_seed=1, progressbar=False)
    rule = STRUCTURES[structure]
    features = ["all"] if rule.common_scale else ["x0", "x1"]
    components = ["all"] if rule.shared_scales else ["0", "1"]
    expected = [f"scales[{k}, {d}]" for k in components for d in features]
    sets = {"none": [], "shared": ["all"], "component": ["0", "1"]}[rule.correlations]
    expected += [f"correlations[{k}, x0, x1]" for k in sets]
    table = bg.summary(tree)
    assert table.index.tolist()[6:] == expected
    assert table.columns.tolist() == ["estimate"]
    assert table.index.name == "parameter"
    last = tree["posterior"].dataset.isel(chain=0, draw=0, component=-1, feature=-1)
    own = "all" if rule.shared_scales else "1"
    of = "all" if rule.common_scale else "x1"
    assert table.loc[f"scales[{own}, {of}]", "estimate"] == last["scales"].item()


def test_the_table_uses_the_users_labels(rng: np.random.Generator) -> None:
    X = pd.DataFrame(rng.normal(size=(30, 2)), columns=["body mass", "é"])
    index = bg.summary(random_fit(X, rng)).index
    assert "means[1, body mass]" in index
    assert "correlations[0, body mass, é]" in index
    years = pd.DataFrame(rng.normal(size=(30, 2)), columns=[1990, 2000])
    assert "scales[0, 2000]" in bg.summary(random_fit(years, rng)).index


def test_what_does_not_vary_has_no_diagnostics(tree: xr.DataTree) -> None:
    X = bg.datasets.make_mixture(40, 1, 1, random_seed=1)["X"]
    single = bg.fit(X, 1, draws=100, random_seed=1, progressbar=False)
    row = bg.summary(single).loc["weights[0]"]
    assert (row["mean"], row["sd"]) == (1.0, 0.0)
    assert row[["mcse_mean", "ess_bulk", "ess_tail", "r_hat"]].isna().all()
    assert bg.summary(single).drop(index="weights[0]").notna().all(axis=None)


def test_the_order_of_dimensions_does_not_matter(tree: xr.DataTree) -> None:
    turned = tree.copy()
    turned["posterior"] = xr.DataTree(
        tree["posterior"].to_dataset().transpose(..., "draw", "chain")
    )
    assert bg.summary(turned).equals(bg.summary(tree))


def test_a_single_chain_or_draw_is_chosen_by_a_list(tree: xr.DataTree) -> None:
    for dim in ("chain", "draw"):
        message = (
            rf"^`tree` must have the dimensions 'chain' and 'draw' for `summary`; got a group "
            rf"'posterior' with \(.*\)\. A single {dim} keeps .* by a list: isel\({dim}=\[0\]\)\."
        )
        with pytest.raises(ValueError, match=message):
            bg.summary(tree.isel({dim: 1}))
    row = bg.summary(tree.isel(chain=[1])).loc["weights[0]"]
    assert row["mean"] == pytest.approx(tree["posterior"]["weights"].values[1, :, 0].mean())
    assert np.isnan(row["r_hat"])  # a single chain agrees with nobody
    assert bg.summary(tree.isel(chain=[1], draw=[5])).columns.tolist() == ["estimate"]


def test_three_draws_have_no_diagnostics(tree: xr.DataTree) -> None:
    table = bg.summary(tree.isel(draw=slice(3)))
    assert table[["mean", "sd"]].notna().all(axis=None)
    assert table[["mcse_mean", "ess_bulk", "ess_tail", "r_hat"]].isna().all(axis=None)


# What follows from the draws


def test_functionals_are_tabulated_as_parameters_are(tree: xr.DataTree) -> None:
    posterior = tree["posterior"].dataset
    table = bg.summary(posterior[["weights", "means"]])
    xr_table, reference = table.sort_index(), bg.summary(tree)
    assert set(xr_table.index) <= set(reference.index)
    pd.testing.assert_frame_equal(xr_table, reference.loc[xr_table.index])
    one = bg.summary(posterior["weights"].transpose("component", "draw", "chain"))
    pd.testing.assert_frame_equal(one, reference.loc[one.index])


def test_names_of_functionals(tree: xr.DataTree) -> None:
    weights = tree["posterior"]["weights"]
    assert bg.summary(weights.sel(component=0)).index.tolist() == ["weights"]
    assert bg.summary((weights**2).rename(None)).index.tolist() == ["value[0]", "value[1]"]
    merged = bg.merge_components(tree)
    table = bg.summary(merged)
    assert table.index.tolist() == [
        "entropy[1]", "entropy[2]", "criterion[1]", "criterion[2]", "proposed",
    ]  # fmt: skip
    entropy = merged["entropy"].sel(n_clusters=2)
    assert table.loc["entropy[2]", "mean"] == pytest.approx(float(entropy.mean()))
    assert np.isnan(table.loc["criterion[1]", "mean"])


def test_functionals_without_draws_are_refused(tree: xr.DataTree) -> None:
    with pytest.raises(ValueError, match=r"`tree` must be a fit, or .*; got .*\('component',\)"):
        bg.summary(tree["posterior"]["weights"].mean(("chain", "draw")))


def test_what_a_user_added_to_the_model_is_in_the_table() -> None:
    rng = np.random.default_rng(5)
    tree = random_fit(rng.normal(size=(20, 2)), rng)
    before = bg.summary(tree)
    shape = tuple(tree["posterior"].sizes[dim] for dim in ("chain", "draw"))
    slope, gap = rng.normal(size=shape), rng.normal(size=(*shape, 2))
    added = {"slope": (("chain", "draw"), slope), "gap": (("chain", "draw", "component"), gap)}
    tree["posterior"] = xr.DataTree(tree["posterior"].to_dataset().assign(added))
    table = bg.summary(tree)
    assert table.index[len(before) :].tolist() == ["slope", "gap[0]", "gap[1]"]
    pd.testing.assert_frame_equal(table[: len(before)], before)
    assert table.loc["slope", "mean"] == pytest.approx(slope.mean())
    assert table.loc["gap[1]", "sd"] == pytest.approx(gap[..., 1].std(ddof=1))
