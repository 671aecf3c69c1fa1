"""Label switching, planted and undone."""

import itertools
import warnings
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.stats import multivariate_normal

import bayesgmm as bg
from tests.synthetic import assert_same, random_fit

K = 3
UNSUPERVISED = ("stephens", "ecr", "ecr_iterative", "parameters")


@pytest.fixture(scope="module")
def X() -> np.ndarray:
    return bg.datasets.make_mixture(120, K, 2, separation=5.0, random_seed=4)["X"].values


@pytest.fixture(scope="module")
def tree(X: np.ndarray) -> xr.DataTree:
    """A fit, with a variable of the user's own. No test may change it."""
    tree = bg.fit(X, K, draws=50, tune=100, chains=2, random_seed=1, progressbar=False)
    posterior = tree["posterior"].to_dataset()
    posterior["precision"] = 1.0 / posterior["scales"] ** 2
    posterior["owner"] = posterior["weights"].transpose("component", "chain", "draw") * 10.0
    posterior["total"] = posterior["weights"].sum("component")
    tree["posterior"] = xr.DataTree(posterior)
    return tree


def scrambled(tree: xr.DataTree, rng: np.random.Generator) -> xr.DataTree:
    """Permute the components of every draw at random, and note it in the alignment."""
    shape = tree["alignment"]["permutation"].shape
    order = rng.permuted(np.broadcast_to(np.arange(shape[-1]), shape), axis=-1)
    result = tree.copy(deep=True)
    for group, names in (
        ("posterior", tree["posterior"].data_vars),
        ("alignment", ["permutation"]),
    ):
        dataset = tree[group].to_dataset().copy(deep=True)
        for name in names:
            if "component" not in dataset[name].dims:
                continue
            front = dataset[name].transpose("chain", "draw", "component", ...)
            rest = (1,) * (front.ndim - 3)
            moved = np.take_along_axis(front.values, order.reshape(*shape, *rest), axis=2)
            dataset[name] = front.copy(data=moved).transpose(*dataset[name].dims)
        result[group] = xr.DataTree(dataset)
    return result


def test_planted_permutations_are_found(tree: xr.DataTree, rng: np.random.Generator) -> None:
    wrong = scrambled(tree, rng)
    assert not np.array_equal(wrong["posterior"]["means"], tree["posterior"]["means"])
    assert_same(bg.align(wrong), tree)


@pytest.mark.parametrize("method", UNSUPERVISED)
def test_every_method_finds_planted_permutations(
    method: str, tree: xr.DataTree, rng: np.random.Generator
) -> None:
    """All of them, on a mixture whose components are apart."""
    aligned = bg.align(scrambled(tree, rng), method)
    assert aligned["alignment"].attrs["method"] == method
    xr.testing.assert_identical(aligned["posterior"].dataset, tree["posterior"].dataset)
    assert aligned["alignment"]["margin"].values.min() > 0.3


def test_known_labels_name_the_components(tree: xr.DataTree, rng: np.random.Generator) -> None:
    order = np.array([2, 0, 1])  # component order[j] is to be j
    labels = xr.zeros_like(tree["observed_data"]["obs"]) - 1
    found = bg.predict(tree)
    for j, k in enumerate(order):
        labels[np.flatnonzero(found == k)[:5]] = j
    aligned = bg.align(scrambled(tree, rng), labels=labels)
    assert aligned["alignment"].attrs == {"method": "labels"}
    np.testing.assert_array_equal(
        aligned["posterior"]["means"].values, tree["posterior"]["means"].values[:, :, order]
    )


def test_a_partition_can_be_the_pivot(tree: xr.DataTree, rng: np.random.Generator) -> None:
    partition = 7 - 2 * bg.predict(tree)  # its names do not matter
    aligned = bg.align(scrambled(tree, rng), pivot=partition)
    assert aligned["alignment"].attrs == {"method": "ecr"}
    xr.testing.assert_identical(aligned["posterior"].dataset, tree["posterior"].dataset)
    again = bg.align(tree, "stephens", pivot=np.zeros(120, dtype=int))
    xr.testing.assert_identical(again["posterior"].dataset, tree["posterior"].dataset)


@pytest.mark.parametrize(
    ("seed", "case"),
    [(1, "overlapping"), (2, "overlapping"), (3, "overlapping"), (1, "unequal"), (2, "spare")],
)
def test_the_cost_of_stephens_is_no_higher_than_any_others(
    seed: int, case: str, rng: np.random.Generator
) -> None:
    X, K = {
        "overlapping": (bg.datasets.make_mixture(90, 3, 2, separation=1.5, random_seed=seed), 3),
        "unequal": (
            bg.datasets.make_mixture(
                90, 3, 2, separation=2.0, weights=[0.8, 0.15, 0.05], random_seed=seed
            ),
            3,
        ),
        "spare": (bg.datasets.make_mixture(90, 2, 2, separation=4.0, random_seed=seed), 4),
    }[case]
    tree = bg.fit(X["X"], K, draws=150, chains=2, random_seed=seed, progressbar=False)
    wrong = scrambled(tree, rng)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bg.IdentifiabilityWarning)
        costs = {
            method: bg.alignment_report(bg.align(wrong, method)).attrs["stephens_cost"]
            for method in (*UNSUPERVISED, "none")
        }
        raw = bg.alignment_report(bg.align(tree, "none")).attrs["stephens_cost"]
    best = costs.pop("stephens")
    assert best <= min(*costs.values(), raw) * (1.0 + 1e-9)
    assert best < 0.99 * costs["parameters"]  # it was not easy


def test_none_gives_the_draws_back_as_they_were_sampled(
    tree: xr.DataTree, rng: np.random.Generator
) -> None:
    raw = bg.align(tree, "none")
    permutation = tree["alignment"]["permutation"].values
    for name, variable in tree["posterior"].data_vars.items():
        if "component" not in variable.dims:
            xr.testing.assert_identical(raw["posterior"][name], variable)
            continue
        index = xr.DataArray(permutation, dims=("chain", "draw", "component"))
        again = raw["posterior"][name].isel(component=index).transpose(*variable.dims)
        np.testing.assert_array_equal(again.values, variable.values)
    assert raw["alignment"].attrs["method"] == "none"
    assert (raw["alignment"]["permutation"].values == np.arange(K)).all()
    assert (raw["alignment"]["margin"].values == 1.0).all()
    assert_same(bg.align(scrambled(tree, rng), "none"), raw)


def test_aligning_again_changes_nothing(tree: xr.DataTree) -> None:
    assert_same(bg.align(tree), tree)
    raw = bg.align(tree, "none")
    assert_same(bg.align(raw, "none"), raw)
    assert_same(bg.align(raw), tree)


def test_the_argument_is_left_alone(tree: xr.DataTree, rng: np.random.Generator) -> None:
    wrong = scrambled(tree, rng)
    before = wrong.copy(deep=True)
    bg.align(wrong)
    bg.align(wrong, "none")
    assert_same(wrong, before)


def test_variables_of_the_user_are_permuted_too(
    tree: xr.DataTree, rng: np.random.Generator
) -> None:
    posterior = bg.align(scrambled(tree, rng))["posterior"].dataset
    xr.testing.assert_equal(posterior["precision"], 1.0 / posterior["scales"] ** 2)
    assert posterior["owner"].dims == ("component", "chain", "draw")
    np.testing.assert_array_equal(
        posterior["owner"].transpose("chain", "draw", "component"), 10.0 * posterior["weights"]
    )


def test_the_matching_is_the_best_of_all(X: np.ndarray, rng: np.random.Generator) -> None:
    """Against the rule written out: all permutations, responsibilities by SciPy."""
    tree = bg.align(random_fit(X, rng, n_components=K, chains=2, draws=6), "ecr")
    group, posterior = tree["alignment"], tree["posterior"].dataset
    shares = np.empty((2, 6, K, len(X)))
    for c, d in np.ndindex(2, 6):
        for k in range(K):
            of = posterior.isel(chain=c, draw=d, component=k)
            law = multivariate_normal(of["means"].values, of["covariances"].values)
            shares[c, d, k] = of["weights"].item() * law.pdf(X)
    shares /= shares.sum(axis=2, keepdims=True)
    lp = tree["sample_stats"]["lp"].values
    pivot = np.unravel_index(lp.argmax(), lp.shape)
    assert (group.attrs["pivot_chain"], group.attrs["pivot_draw"]) == pivot
    labels = shares[pivot].argmax(axis=0)
    for index in np.ndindex(2, 6):
        totals = sorted(
            sum(shares[index][order[j], labels == j].sum() for j in range(K))
            for order in itertools.permutations(range(K))
        )
        got = sum(shares[index][j, labels == j].sum() for j in range(K))  # as it is aligned
        np.testing.assert_allclose(got, totals[-1], rtol=1e-9)
        margin = group["margin"].values[index]
        np.testing.assert_allclose(margin, (totals[-1] - totals[-2]) / len(X), atol=1e-9)
    assert (np.diff(posterior["means"].mean(("chain", "draw")).values[:, 0]) >= 0).all()


def with_means(X: np.ndarray, means: list[list[float]], rng: np.random.Generator) -> xr.DataTree:
    """A fit whose draws are two components of unit scale, nearly the same in every draw."""
    shape = (1, 20)
    values = np.array(means) + 1e-6 * rng.normal(size=(*shape, 2, 2))
    unit = np.broadcast_to(np.eye(2), (*shape, 2, 2, 2)).copy()
    return random_fit(
        X, rng, n_components=2, chains=1, draws=20,
        posterior={
            "weights": np.full((*shape, 2), 0.5), "means": values,
            "scales": np.ones((*shape, 2, 2)), "correlations": unit, "covariances": unit.copy(),
        },
    )  # fmt: skip


def test_the_margin_tells_how_clear_the_labels_are(rng: np.random.Generator) -> None:
    X = np.vstack([rng.normal(size=(50, 2)) - 5.0, rng.normal(size=(50, 2)) + 5.0])
    apart = bg.align(with_means(X, [[-5.0, -5.0], [5.0, 5.0]], rng))
    same = bg.align(with_means(X, [[0.0, 0.0], [0.0, 0.0]], rng))
    assert apart["alignment"]["margin"].values.min() > 0.999
    assert same["alignment"]["margin"].values.max() < 0.001
    for margin in (apart["alignment"]["margin"].values, same["alignment"]["margin"].values):
        assert (margin >= 0).all()
        assert (margin <= 1).all()


def test_one_component_has_nothing_to_mistake() -> None:
    X = bg.datasets.make_mixture(30, 1, 2, random_seed=1)["X"].values
    tree = bg.fit(X, 1, draws=10, tune=20, chains=2, random_seed=1, progressbar=False)
    assert (tree["alignment"]["margin"].values == 1.0).all()
    assert_same(bg.align(tree), tree)
    assert_same(bg.align(bg.align(tree, "none")), tree)


def test_components_that_the_prior_tells_apart_keep_their_labels(X: np.ndarray) -> None:
    spec = bg.GaussianMixture(K, weights=bg.Dirichlet([1.0, 2.0, 4.0]))
    tree = bg.fit(X, spec, draws=20, tune=50, chains=2, random_seed=1, progressbar=False)
    assert tree["alignment"].attrs["method"] == "none"
    assert (tree["alignment"]["margin"].values == 1.0).all()
    assert_same(bg.align(tree, "none"), tree)


def test_a_thinned_fit_can_be_aligned(tree: xr.DataTree) -> None:
    thin = tree.isel(draw=slice(None, None, 5))
    aligned = bg.align(bg.align(thin, "none"))
    xr.testing.assert_identical(aligned["posterior"].dataset, thin["posterior"].dataset)
    pivot = aligned["alignment"].attrs["pivot_draw"]
    lp = thin["sample_stats"]["lp"].isel(chain=aligned["alignment"].attrs["pivot_chain"])
    assert lp.isel(draw=pivot).item() == thin["sample_stats"]["lp"].values.max()


def test_bad_arguments_are_refused(tree: xr.DataTree) -> None:
    with pytest.raises(ValueError, match=r"`method` must be .*'ecr'.*'none'; got 'stevens'\. Did"):
        bg.align(tree, "stevens")
    for group in ("alignment", "observed_data", "sample_stats"):
        bare = tree.copy()
        del bare[group]
        with pytest.raises(ValueError, match=f"`tree` must hold the group '{group}' for `align`"):
            bg.align(bare)


def test_labels_that_the_prior_gives_are_left_alone_unless_asked() -> None:
    X = bg.datasets.make_mixture(60, 2, 2, separation=6.0, random_seed=4)["X"]
    spec = bg.GaussianMixture(2, weights=bg.Dirichlet([1.0, 9.0]))
    tree = bg.fit(X, spec, draws=50, chains=2, random_seed=1, progressbar=False)
    assert tree["alignment"].attrs["method"] == "none"
    assert bg.align(tree)["posterior"].identical(tree["posterior"])
    assert bg.align(tree)["alignment"].attrs["method"] == "none"
    assert bg.align(tree, "ecr")["alignment"].attrs["method"] == "ecr"


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"pivot": np.zeros(119, int)}, ValueError, r"`pivot` must .*120 rows; got shape \(119,\)"),
        ({"pivot": np.zeros((2, 120), int)}, ValueError, r"`pivot` must .* shape \(2, 120\)\. Give a"),
        ({"pivot": np.arange(120)}, ValueError, r"`pivot` must .*at most 3 clusters.*got 120\. Merge"),
        ({"pivot": np.zeros(120)}, TypeError, r"`pivot` must hold integers.*got float64\. Number"),
        ({"pivot": ["a"] * 120}, TypeError, r"`pivot` must hold integers.*got <U1\. Number"),
        ({"pivot": np.zeros(120, bool)}, TypeError, r"`pivot` must hold integers.*got bool"),
        ({"labels": np.full(120, 3)}, ValueError, r"`labels` must lie in 0 to 2.*got 3 at place 0"),
        ({"labels": np.full(120, -2)}, ValueError, r"`labels` must .*got -2 at place 0\. Number"),
        ({"labels": np.full(120, -1)}, ValueError, r"`labels` must .*one that is known; got -1 of"),
        (
            {"method": "labels"}, ValueError,
            r"`labels` must be given for the method 'labels'.*got `labels` None and .*'labels'",
        ),
        (
            {"method": "ecr", "labels": np.zeros(120, int)}, ValueError,
            r"`labels` must be given .* no other; got `labels` of \(120,\) and `method` 'ecr'",
        ),
        (
            {"method": "parameters", "pivot": np.zeros(120, int)}, ValueError,
            r"`pivot` must be left out where `method` is 'parameters'; got a partition",
        ),
    ],
)  # fmt: skip
def test_what_is_no_partition_is_refused(
    given: dict[str, Any], kind: type[Exception], message: str, tree: xr.DataTree
) -> None:
    with pytest.raises(kind, match=message):
        bg.align(tree, **given)


def test_a_partition_of_other_rows_is_refused(tree: xr.DataTree) -> None:
    partition = bg.predict(tree)
    with pytest.raises(ValueError, match=r"`pivot` must have the labels of 'obs' .* another order"):
        bg.align(tree, pivot=partition[::-1])


@pytest.mark.parametrize("dim", ["chain", "draw"])
def test_a_tree_that_was_taken_apart_is_refused(dim: str, tree: xr.DataTree) -> None:
    part = tree.isel({dim: 0})
    with pytest.raises(ValueError, match=rf"`tree` must have .* for `align`; .*isel\({dim}=\[0\]\)"):
        bg.align(part)


def test_one_row_and_rows_that_are_all_the_same(
    tree: xr.DataTree, rng: np.random.Generator
) -> None:
    """Nothing to match by, but names all the same."""
    same = tree.copy(deep=True)
    same["observed_data"]["X"].values[:] = 1.0
    for some in (tree.isel(obs=[0]), same):
        for method in UNSUPERVISED:
            aligned = bg.align(scrambled(some, rng), method)
            margin = aligned["alignment"]["margin"].values
            assert ((margin >= 0.0) & (margin <= 1.0)).all()
            raw = bg.align(some, "none")["posterior"]["means"].values
            again = bg.align(aligned, "none")["posterior"]["means"].values
            np.testing.assert_array_equal(again, raw)
