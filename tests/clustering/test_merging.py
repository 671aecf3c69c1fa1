"""Components merged into clusters: published answers, what is invariant, and bad input."""

import numpy as np
import pytest
import xarray as xr
from scipy.special import xlogy

import bayesgmm as bg
from tests.synthetic import random_fit


def crosses(n_obs: int, random_seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two crosses of two components each and two components alone, as Baudry's first example.

    Four clusters of six components: the published answer is 4, where BIC says 6.
    """
    rng = np.random.default_rng(random_seed)
    long, wide = np.diag([0.1, 1.0]), np.diag([1.0, 0.1])
    slope = np.array([[0.55, 0.45], [0.45, 0.55]])
    law = [
        (0.2, (0.0, 0.0), slope, 0), (0.2, (8.0, 5.0), slope * [[1.0, -1.0], [-1.0, 1.0]], 1),
        (0.125, (1.0, 5.0), long, 2), (0.125, (1.0, 5.0), wide, 2),
        (0.175, (8.0, 0.0), long, 3), (0.175, (8.0, 0.0), wide, 3),
    ]  # fmt: skip
    source = rng.choice(6, n_obs, p=[weight for weight, *_ in law])
    X = np.stack([rng.multivariate_normal(law[z][1], law[z][2]) for z in source])
    return X, np.array([law[z][3] for z in source])


@pytest.fixture(scope="module")
def crossed() -> tuple[xr.DataTree, np.ndarray]:
    X, truth = crosses(600, 5)
    tree = bg.fit(X, 6, draws=100, chains=2, random_seed=1, progressbar=False)
    return tree, truth


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    rng = np.random.default_rng(8)
    return random_fit(rng.normal(2.0, 3.0, (40, 2)), rng, n_components=4, chains=2, draws=15)


@pytest.mark.parametrize("criterion", ["entropy", "misclassification"])
def test_crosses_count_as_one_cluster(
    crossed: tuple[xr.DataTree, np.ndarray], criterion: str
) -> None:
    tree, truth = crossed
    merged = bg.merge_components(tree, criterion=criterion)
    assert merged.attrs["n_clusters"] == 4
    assert merged["probability"].sel(n_clusters=4) > 0.8
    cluster = merged["cluster"].sel(n_clusters=4)
    labels = bg.predict_proba(tree).groupby(cluster).sum().idxmax("cluster").values
    table = np.zeros((4, 4))
    np.add.at(table, (labels.astype(int), truth), 1.0)
    assert table.max(axis=0).sum() > 0.97 * len(truth)
    assert (bg.density_modes(tree)["n_modes"] == 4).mean() > 0.8


def test_the_merging_is_as_sure_as_the_draws_agree(crossed: tuple[xr.DataTree, np.ndarray]) -> None:
    merged = bg.merge_components(crossed[0])
    together = merged["together"].sel(n_clusters=4).values
    cluster = merged["cluster"].sel(n_clusters=4).values
    np.testing.assert_array_equal(together > 0.5, cluster[:, None] == cluster)
    np.testing.assert_array_equal(merged["together"].sel(n_clusters=1), 1.0)
    np.testing.assert_array_equal(merged["together"].sel(n_clusters=6), np.eye(6))


def test_a_long_tail_is_no_cluster() -> None:
    """Student's t with 3 degrees of freedom, beside a normal far off: two clusters of three."""
    rng = np.random.default_rng(2)
    X = np.concatenate([rng.standard_t(3.0, 300), rng.normal(40.0, 1.0, 150)])
    tree = bg.fit(X, 3, method="laplace", draws=200, chains=1, random_seed=1)
    for criterion in ("entropy", "misclassification"):
        merged = bg.merge_components(tree, criterion=criterion)
        assert merged.attrs["n_clusters"] == 2
        cluster = merged["cluster"].sel(n_clusters=2).values
        assert cluster.tolist() == [0, 0, 1]


def test_a_single_long_tailed_cluster_is_one() -> None:
    rng = np.random.default_rng(3)
    tree = bg.fit(rng.standard_t(3.0, 300), 2, method="laplace", draws=100, random_seed=1)
    merged = bg.merge_components(tree, criterion="misclassification")
    assert merged.attrs["n_clusters"] == 1
    assert merged.attrs["threshold"] == 0.025


def test_clusters_apart_stay_apart() -> None:
    X = bg.datasets.make_mixture(150, 3, 2, separation=10.0, random_seed=3)["X"]
    tree = bg.fit(X, 3, method="laplace", draws=50, chains=1, random_seed=1)
    for criterion in ("entropy", "misclassification"):
        merged = bg.merge_components(tree, criterion=criterion)
        assert merged.attrs["n_clusters"] == 3


def test_the_result_is_labelled(tree: xr.DataTree) -> None:
    merged = bg.merge_components(tree)
    assert merged["cluster"].dims == ("n_clusters", "component")
    assert merged["entropy"].dims == merged["criterion"].dims == ("chain", "draw", "n_clusters")
    assert merged["proposed"].dims == ("chain", "draw")
    assert merged["together"].dims == ("n_clusters", "component", "component2")
    assert merged["n_clusters"].values.tolist() == [1, 2, 3, 4]
    assert merged.attrs == {"n_clusters": merged.attrs["n_clusters"], "criterion": "entropy"}
    for n_clusters in merged["n_clusters"].values:
        row = merged["cluster"].sel(n_clusters=n_clusters).values
        assert sorted(set(row.tolist())) == list(range(n_clusters))


def test_probabilities_count_the_draws(tree: xr.DataTree) -> None:
    merged = bg.merge_components(tree)
    proposed = merged["proposed"].values
    expected = [(proposed == n).mean() for n in (1, 2, 3, 4)]
    np.testing.assert_allclose(merged["probability"], expected)
    assert merged.attrs["n_clusters"] == np.argmax(expected) + 1


def test_the_entropy_of_all_components_is_that_of_their_probabilities(tree: xr.DataTree) -> None:
    merged = bg.merge_components(tree)
    for chain, draw in ((0, 0), (1, 9)):
        shares = bg.predict_proba(tree.isel(chain=[chain], draw=[draw]))
        whole = -float(xlogy(shares, shares).sum())
        assert merged["entropy"].sel(n_clusters=4).values[chain, draw] == pytest.approx(whole)


def test_a_point_estimate_has_the_path_of_its_draw() -> None:
    X, _ = crosses(300, 7)
    tree = bg.fit(X, 5, method="map", random_seed=1)
    merged = bg.merge_components(tree)
    together = merged["cluster"].values[:, :, None] == merged["cluster"].values[:, None]
    np.testing.assert_array_equal(merged["together"], together)
    assert merged["probability"].max() == 1.0


def test_together_counts_the_draws_whose_own_path_joins_two(tree: xr.DataTree) -> None:
    together = bg.merge_components(tree)["together"]
    expected = np.zeros(together.shape)
    for chain, draw in np.ndindex(2, 15):
        one = bg.merge_components(tree.isel(chain=[chain], draw=[draw]))["cluster"].values
        expected += one[:, :, None] == one[:, None]
    np.testing.assert_allclose(together, expected / 30.0, rtol=1e-12)
    assert ((expected[1] > 0) & (expected[1] < 30)).any()


def test_permuting_components_changes_no_path(tree: xr.DataTree) -> None:
    """Each draw's components in another order: what needs no alignment stays."""
    rng = np.random.default_rng(1)
    posterior = tree["posterior"].to_dataset()
    turned = {}
    order = rng.permuted(np.tile(np.arange(4), (2, 15, 1)), axis=-1)
    chain, draw = np.arange(2)[:, None, None], np.arange(15)[:, None]
    for name, variable in posterior.data_vars.items():
        turned[name] = variable.copy(data=variable.values[chain, draw, order])
    other = tree.copy()
    other["posterior"] = xr.DataTree(posterior.assign(turned))
    for criterion in ("entropy", "misclassification"):
        one, two = (bg.merge_components(fit, criterion=criterion) for fit in (tree, other))
        xr.testing.assert_identical(one["proposed"], two["proposed"])
        xr.testing.assert_allclose(one["entropy"], two["entropy"])
        xr.testing.assert_allclose(one["criterion"], two["criterion"])


def test_an_empty_component_in_every_draw_is_no_cluster() -> None:
    X = bg.datasets.make_mixture(120, 2, 2, separation=10.0, random_seed=3)["X"].values
    tree = bg.fit(X, 2, method="laplace", draws=30, chains=1, random_seed=1)
    rng = np.random.default_rng(1)
    wider = random_fit(X, rng, n_components=3, chains=1, draws=30)
    for name, variable in wider["posterior"].data_vars.items():
        variable.values[:, :, :2] = tree["posterior"][name].values
    wider["posterior"]["weights"].values[:, :, 2] = 1e-12
    wider["posterior"]["means"].values[:, :, 2] = 1e3
    for criterion in ("entropy", "misclassification"):
        merged = bg.merge_components(wider, criterion=criterion)
        assert merged.attrs["n_clusters"] == 2
        assert merged["cluster"].sel(n_clusters=2).values[:2].tolist() == [0, 1]


def test_one_component_is_one_cluster() -> None:
    rng = np.random.default_rng(1)
    tree = random_fit(rng.normal(size=(20, 2)), rng, n_components=1, draws=4)
    for criterion in ("entropy", "misclassification"):
        merged = bg.merge_components(tree, criterion=criterion)
        assert merged.attrs["n_clusters"] == 1
        assert merged["cluster"].values.tolist() == [[0]]
        assert (merged["entropy"] == 0.0).all()


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"criterion": "entropie"}, ValueError, r"`criterion` must .*; got 'entropie'\. Did"),
        ({"criterion": None}, ValueError, r"`criterion` must be one of 'entropy',.*got None"),
        ({"threshold": 0.0}, ValueError, r"`threshold` must be positive.*; got 0\.0\. 0\.025"),
        ({"threshold": 1.0}, ValueError, r"`threshold` must lie between 0 and 1; got 1\.0\. 0\.0"),
        ({"threshold": "few"}, TypeError, r"`threshold` must be a number; got 'few'"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused(
    tree: xr.DataTree, arguments: dict[str, object], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        bg.merge_components(tree, **arguments)


def test_a_fit_without_its_data_is_refused(tree: xr.DataTree) -> None:
    without = tree.filter(lambda node: node.name != "observed_data")
    with pytest.raises(ValueError, match=r"`tree` must hold the group 'observed_data'"):
        bg.merge_components(without)
