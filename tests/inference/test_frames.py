"""Frame after frame: what is remembered, who is who, who is born and who died."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesgmm as bg
from bayesgmm.inference.frames import _climb
from bayesgmm.inference.sufficient import Ground, Sufficient, statistics_of
from bayesgmm.tree import check_schema

type Array = np.ndarray

CORNERS = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 9.0]])


def frame(rng: np.random.Generator, centres: Any, n: int = 40) -> Array:
    """Return n rows around each centre, with standard deviation 0.6."""
    return np.concatenate([rng.normal(centre, 0.6, size=(n, 2)) for centre in centres])


def first(X: Array, n_components: int, **others: Any) -> xr.DataTree:
    return bg.fit(X, n_components, method="map", random_seed=1, progressbar=False, **others)


def following(tree: xr.DataTree, X_new: Any, **others: Any) -> xr.DataTree:
    return bg.update(tree, X_new, progressbar=False, **others)


def status(tree: xr.DataTree) -> dict[int, str]:
    return dict(tree["tracks"]["status"].to_series())


def near(tree: xr.DataTree, centre: Any) -> int:
    """Return the label of the component whose mean is nearest to a point."""
    means = tree["posterior"]["means"][0, 0]
    return int(means["component"][int(((means.values - centre) ** 2).sum(axis=1).argmin())])


def test_without_forgetting_frames_are_one_data_set(rng: np.random.Generator) -> None:
    X = rng.permutation(frame(rng, CORNERS[:3], 100))
    tree = first(X[:120], 3)
    for block in np.split(X[120:], 3):
        tree = following(tree, block, forgetting=1.0)
    ground = Ground.of_tree(tree)
    # components far apart: allocations do not depend on the parameters, so sums are exact
    found = statistics_of(tree, ground)
    nothing = Sufficient(*(np.zeros_like(part) for part in found))
    start = np.tile(np.eye(2), (3, 1, 1))
    whole = _climb(ground, nothing, ground.rows(X), found, start)
    assert whole is not None
    for ours, theirs in zip(found, whole.frame, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-8)
    parameters = ground.parameters(whole.mixture)
    means = tree["posterior"]["means"].values[0]
    np.testing.assert_allclose(means, parameters.means, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found.counts.sum(), 300.0, rtol=1e-12)


def test_the_objective_never_falls(rng: np.random.Generator, monkeypatch: Any) -> None:
    X = rng.normal(size=(80, 2)) + rng.integers(2, size=(80, 1)) * 2.0
    tree = first(X, 2)
    ground = Ground.of_tree(tree)
    past = statistics_of(tree, ground).times(0.5)
    rows = ground.rows(rng.normal(1.0, 2.0, size=(60, 2)))
    values = []
    for passes in range(1, 12):
        monkeypatch.setattr("bayesgmm.inference.frames.MAX_PASSES", passes)
        reached = _climb(ground, past, rows, past, np.tile(np.eye(2), (2, 1, 1)))
        assert reached is not None
        values.append(reached.value)
    assert (np.diff(values) > -0.1).all()  # the penalty, which is not in it, is worth less
    assert values[-1] > values[0] + 10.0


def test_what_is_remembered_is_forgotten(rng: np.random.Generator) -> None:
    tree = first(frame(rng, CORNERS[:2], 50), 2)
    for rows in (190.0, 271.0):  # 100 + 0.9 x what was there
        tree = following(tree, frame(rng, CORNERS[:2], 50))
        np.testing.assert_allclose(tree["sufficient_statistics"]["counts"].sum(), rows, rtol=1e-9)
    np.testing.assert_allclose(tree["tracks"]["expected_rows"].values, [50.0, 50.0], atol=1e-3)


@pytest.fixture(scope="module")
def history() -> list[xr.DataTree]:
    """Three stay; the second goes before frame 5, the fourth comes at frame 8, one at frame 10."""
    rng = np.random.default_rng(7)
    tree = first(frame(rng, CORNERS[:3]), 3)
    trees = [tree]
    for t in range(1, 12):
        live = [CORNERS[0], CORNERS[2], *CORNERS[1:2][: t < 5], *CORNERS[3:][: t >= 8]]
        live += [np.array([-9.0, 0.0])] * (t >= 10)
        tree = following(tree, frame(rng, live), forgetting=0.5)
        trees.append(tree)
    return trees


def test_births_and_deaths_are_reported(history: list[xr.DataTree]) -> None:
    events = {
        t: {label: what for label, what in status(tree).items() if what != "kept"}
        for t, tree in enumerate(history[1:], 1)
    }
    gone = near(history[0], CORNERS[1])
    # 80 rows are remembered at frame 4, and fewer than 6 after log(80 / 6) / log(2) = 3.7 frames
    expected = {8: {gone: "died", 3: "born"}, 10: {4: "born"}}
    assert {t: found for t, found in events.items() if found} == expected


def test_identities_are_kept_and_never_given_again(history: list[xr.DataTree]) -> None:
    for centre in (CORNERS[0], CORNERS[2]):
        assert len({near(tree, centre) for tree in history}) == 1
    last = history[-1]
    gone = near(history[0], CORNERS[1])
    assert sorted(last["posterior"]["component"].values) == sorted({0, 1, 2, 3, 4} - {gone})
    assert last["sufficient_statistics"]["n_tracks"].item() == 5
    assert near(last, CORNERS[3]) == 3
    assert near(last, [-9.0, 0.0]) == 4


def test_the_label_of_the_last_component_is_not_given_again(rng: np.random.Generator) -> None:
    tree = first(frame(rng, CORNERS[:2]), 2)
    for live in ([CORNERS[0]],) * 6 + ([CORNERS[0], CORNERS[3]],):
        tree = following(tree, frame(rng, live), forgetting=0.4)
    assert sorted(tree["posterior"]["component"].values) == [0, 2]
    for live in ([CORNERS[0]],) * 6:
        tree = following(tree, frame(rng, live), forgetting=0.4)
    tree = bg.fit_online([frame(rng, CORNERS[:1])], tree, progressbar=False)  # remembers it too
    tree = following(tree, frame(rng, CORNERS[:2]), forgetting=0.4)
    assert sorted(tree["posterior"]["component"].values) == [0, 3]


def test_identities_are_labels_everywhere(history: list[xr.DataTree], tmp_path: Path) -> None:
    tree = history[-1]
    labels = tree["posterior"]["component"].values
    check_schema(tree)
    bg.save(tree, tmp_path / "fit.nc")
    assert bg.load(tmp_path / "fit.nc").identical(tree)
    assert set(bg.predict(tree).values) == set(labels)
    assert bg.predict(tree, [[9.0, 9.0]]).item() == 3
    assert bg.predict_proba(tree)["component"].values.tolist() == labels.tolist()
    assert bg.overlap(tree)["component"].values.tolist() == labels.tolist()
    assert f"weights[{labels[-1]}]" in bg.summary(tree).index
    assert bg.check(tree).ok


def test_components_that_cross_keep_their_labels_if_they_drift() -> None:
    rng = np.random.default_rng(3)
    path = [np.array([[s, 0.3 * s], [-s, 0.3 * s]]) for s in np.arange(-6.0, 6.1, 0.4)]
    tree = first(frame(rng, path[0]), 2)
    left, right = (near(tree, centre) for centre in path[0])
    for centres in path[1:]:
        tree = following(tree, frame(rng, centres), forgetting=0.6, drift=True)
        assert set(status(tree).values()) == {"kept"}
    assert [near(tree, centre) for centre in path[-1]] == [left, right]
    means = tree["posterior"]["means"][0, 0].sel(component=[left, right]).values
    np.testing.assert_allclose(means, path[-1], atol=5 * 0.6 / 10)  # 100 rows, and no lag
    speeds = tree["tracks"]["velocities"].sel(component=[left, right]).values
    np.testing.assert_allclose(speeds, [[0.4, 0.12], [-0.4, 0.12]], atol=0.1)


def test_without_drift_means_lag_behind_by_what_is_remembered() -> None:
    rng = np.random.default_rng(4)
    tree = first(frame(rng, [[0.0, 0.0]], 200), 1)
    for t in range(1, 14):
        tree = following(tree, frame(rng, [[0.2 * t, 0.0]], 200), forgetting=0.5, births=False)
    # by f / (1 - f) = 1 frame
    np.testing.assert_allclose(tree["posterior"]["means"].values[0, 0, 0], [2.4, 0.0], atol=0.2)
    assert not tree["tracks"]["velocities"].values.any()


def test_outliers_are_not_born(rng: np.random.Generator) -> None:
    tree = first(frame(rng, CORNERS[:3]), 3)
    for _ in range(5):
        strays = rng.uniform(-10.0, 20.0, size=(4, 2))
        tree = following(tree, np.concatenate((frame(rng, CORNERS[:3]), strays)))
        assert set(status(tree).values()) == {"kept"}


def test_two_may_be_born_at_once_and_none_if_births_are_off(rng: np.random.Generator) -> None:
    tree, X = first(frame(rng, CORNERS[:2]), 2), frame(rng, CORNERS)
    assert list(status(following(tree, X)).values()) == ["kept", "kept", "born", "born"]
    assert list(status(following(tree, X, births=False)).values()) == ["kept", "kept"]


def test_nobody_dies_where_no_rows_are_needed(rng: np.random.Generator) -> None:
    tree = first(frame(rng, CORNERS[:2]), 2)
    for _ in range(12):
        tree = following(tree, frame(rng, CORNERS[:1]), forgetting=0.5, min_rows=0)
    assert set(status(tree).values()) == {"kept"}
    assert tree["sufficient_statistics"]["counts"].min() < 0.1


def test_a_posterior_is_a_start(rng: np.random.Generator) -> None:
    X = pd.DataFrame(frame(rng, CORNERS[:2]), columns=["a", "b"])
    tree = bg.fit(X, 2, draws=20, chains=2, random_seed=1, progressbar=False)
    one = following(tree, X.iloc[[0]])
    check_schema(one)
    assert one.attrs["method"] == "map"
    assert one["posterior"].sizes["draw"] == 1
    assert one["observed_data"]["feature"].values.tolist() == ["a", "b"]
    np.testing.assert_allclose(one["sufficient_statistics"]["counts"].sum(), 73.0, rtol=1e-9)
    xr.testing.assert_equal(
        one["posterior"]["means"], following(tree, X.iloc[[0]])["posterior"]["means"]
    )


@pytest.mark.parametrize("structure", ["tied", "diag", "tied_correlation"])
def test_births_and_deaths_under_other_structures(structure: str, rng: np.random.Generator) -> None:
    spec = bg.GaussianMixture(2, covariance=bg.LKJCovariance(structure=structure))
    tree = bg.fit(frame(rng, CORNERS[:2]), spec, method="map", random_seed=1, progressbar=False)
    tree = following(tree, frame(rng, CORNERS[:3]), forgetting=0.5)
    assert list(status(tree).values()) == ["kept", "kept", "born"]
    for _ in range(5):
        tree = following(tree, frame(rng, CORNERS[1:3]), forgetting=0.5)
    assert near(tree, CORNERS[2]) == 2
    assert tree["posterior"].sizes["component"] == 2
    check_schema(tree)


@pytest.fixture(scope="module")
def two() -> xr.DataTree:
    X = frame(np.random.default_rng(1), CORNERS[:2])
    return first(pd.DataFrame(X, columns=["a", "b"]), 2)


def refused() -> Iterator[tuple[dict[str, Any], str]]:
    yield {"X_new": pd.DataFrame({"b": [1.0], "a": [2.0]})}, r"`X_new` must have .* Reorder them"
    yield {"X_new": pd.DataFrame({"a": [1.0]})}, r"`X_new` must have the 2 fitted columns"
    yield {"X_new": [[1.0, np.nan]]}, r"`X_new` must have a number in every cell here"
    yield {"X_new": [[1.0, 1e200]]}, r"`X_new` must lie within 1e\+100 .* row 0, column 'b'"
    yield {"forgetting": 0.0}, r"`forgetting` must be positive and finite; got 0\.0"
    yield {"forgetting": 1.5}, r"`forgetting` must be at most 1; got 1\.5"
    yield {"min_rows": -1}, r"`min_rows` must be positive and finite; got -1"


@pytest.mark.parametrize(("arguments", "message"), list(refused()))
def test_bad_arguments_are_refused(
    two: xr.DataTree, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        following(two, **{"X_new": [[0.0, 0.0]], **arguments})


def test_fits_that_cannot_be_carried_on_are_refused(rng: np.random.Generator) -> None:
    X = frame(rng, CORNERS[:2], 20)
    with pytest.raises(TypeError, match=r"`tree` must be a fit, the DataTree .* got an object"):
        following(X, X)  # type: ignore[arg-type]
    spec = bg.GaussianMixture(bg.PriorOnComponents())
    learnt = bg.fit(X, spec, draws=4, tune=20, chains=1, random_seed=1, progressbar=False)
    with pytest.raises(ValueError, match=r"`tree` must be a fit with a number of components"):
        following(learnt, X)
    spec = bg.GaussianMixture(2, weights=bg.Dirichlet((1.0, 3.0)))
    uneven = bg.fit(X, spec, method="map", random_seed=1, progressbar=False)
    with pytest.raises(ValueError, match=r"`tree` must have the same concentration .* Pass births"):
        following(uneven, X)
    assert list(status(following(uneven, X, births=False, min_rows=0)).values()) == ["kept"] * 2


def test_units_do_not_matter(rng: np.random.Generator) -> None:
    scale, shift = np.array([1e-3, 1e4]), np.array([1e3, -1e6])
    X, later = frame(rng, CORNERS[:2]), frame(rng, CORNERS[1:3])
    one = following(first(X, 2), later, drift=True)
    other = following(first(X * scale + shift, 2), later * scale + shift, drift=True)
    assert other["tracks"]["status"].equals(one["tracks"]["status"])
    means = (other["posterior"]["means"].values - shift) / scale
    np.testing.assert_allclose(means, one["posterior"]["means"].values, atol=1e-4)
    speeds = other["tracks"]["velocities"].values / scale
    np.testing.assert_allclose(speeds, one["tracks"]["velocities"].values, atol=1e-4)
    both = other["log_likelihood"]["X"].values + np.log(scale).sum()
    np.testing.assert_allclose(both, one["log_likelihood"]["X"].values, atol=1e-4)


def test_em_that_stops_short_is_reported(
    two: xr.DataTree, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bayesgmm.inference.frames.MAX_PASSES", 1)
    tree = following(two, frame(rng, CORNERS[:2]) + 1.0, births=False)
    assert tree.attrs["converged"] == 0
    report = bg.check(tree)
    assert not report.ok
    assert "stopped short of the top" in report.verdict
