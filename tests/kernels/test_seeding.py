"""First labels: k-means++ as published, Lloyd's iterations, and the parameters that follow."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesgmm.kernels.mstep import Penalty
from bayesgmm.kernels.seeding import kmeans_labels, vector_from_labels
from tests.kernels.oracle import STRUCTURES, layout
from tests.kernels.test_mstep import parameters

type Array = np.ndarray


NOTHING, UNWEIGHTED = np.empty((0, 0)), np.empty(0)


def plain_labels(rows: Array, uniforms: Array, sweeps: int) -> Array:
    """Return labels of rows that have no weights, and of which nothing is known."""
    return kmeans_labels(rows, NOTHING, UNWEIGHTED, uniforms, sweeps)


def naive_labels(rows: Array, uniforms: Array, sweeps: int) -> Array:
    """Return k-means labels as the papers say, in rows and columns of NumPy."""
    X = rows.T
    centres = [X[int(uniforms[0] * len(X))]]
    for u in uniforms[1:]:
        squares = np.min([((X - centre) ** 2).sum(axis=1) for centre in centres], axis=0)
        passed = np.cumsum(squares)
        centres.append(X[min(np.searchsorted(passed, u * passed[-1], "right"), len(X) - 1)])
    current = np.array(centres)
    labels = ((X[:, None] - current) ** 2).sum(axis=2).argmin(axis=1)
    for _ in range(sweeps):
        for k in range(len(uniforms)):
            if np.any(labels == k):
                current[k] = X[labels == k].mean(axis=0)
        labels = ((X[:, None] - current) ** 2).sum(axis=2).argmin(axis=1)
    return labels


@pytest.mark.parametrize("sweeps", [0, 1, 5])
@pytest.mark.parametrize(("n_components", "n_features"), [(1, 1), (3, 2), (6, 4)])
def test_labels_are_those_of_the_papers(
    n_components: int, n_features: int, sweeps: int, rng: np.random.Generator
) -> None:
    for _ in range(10):
        rows, uniforms = rng.normal(size=(n_features, 60)), rng.random(n_components)
        got = plain_labels(rows, uniforms, sweeps)
        assert got.dtype == np.int64
        np.testing.assert_array_equal(got, naive_labels(rows, uniforms, sweeps))


def test_a_centre_is_drawn_in_proportion_to_the_squared_distance() -> None:
    """Rows 0, 1 and 3: seen from the first, the squares are 0, 1 and 9."""
    rows = np.array([[0.0, 1.0, 3.0]])
    for u in np.linspace(0.0, 0.999, 200):
        labels = plain_labels(rows, np.array([0.0, u]), 0)
        second = 1 if u < 0.1 else 2
        wanted = [0, 1, 1] if second == 1 else [0, 0, 1]
        assert labels.tolist() == wanted


@given(
    uniforms=st.lists(st.floats(0.0, 1.0, exclude_max=True), min_size=3, max_size=3),
    seed=st.integers(0, 1000),
)
def test_clusters_far_apart_are_found_whatever_the_numbers(
    uniforms: list[float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, 30)
    truth[:3] = [0, 1, 2]
    centres = 1e6 * np.array([[0.0, 1.0, 2.0], [0.0, 1.0, -1.0]])
    rows = centres[:, truth] + rng.normal(size=(2, 30))
    # numbers so near to 0 or 1 that they draw within the cluster of a centre prove nothing
    labels = plain_labels(rows, np.clip(uniforms, 1e-9, 1.0 - 1e-9), 2)
    assert len(set(zip(truth.tolist(), labels.tolist(), strict=True))) == 3


def test_equal_rows_and_more_centres_than_rows_are_no_error() -> None:
    last = np.nextafter(1.0, 0.0)
    assert plain_labels(np.ones((2, 5)), np.full(3, last), 3).tolist() == [0] * 5
    labels = plain_labels(np.array([[0.0, 1.0]]), np.array([0.0, 0.5, 0.5, last]), 3)
    assert sorted(labels.tolist()) == [0, 1]


@pytest.mark.parametrize("structure", STRUCTURES)
def test_parameters_follow_from_labels(structure: str, rng: np.random.Generator) -> None:
    """Weights, means and covariances of the labelled rows, shrunk by the penalty."""
    which = layout(structure, 3, 2)
    rows, labels = rng.normal(size=(2, 40)), rng.integers(0, 2, 40)  # the third is empty
    labels[:2] = [0, 1]
    kappa, nu, psi = 0.3, 2.0, np.array([0.4, 0.1])
    penalty = Penalty(np.array([1.0, 2.0, 3.0]), np.array([0.5, -0.5]), kappa, psi, nu)
    ok, vector = vector_from_labels(which, penalty, rows, UNWEIGHTED, labels)
    assert ok
    mixture = parameters(which, vector)
    counts = np.bincount(labels, minlength=3)
    np.testing.assert_allclose(
        np.exp(mixture.log_weights), (counts + penalty.concentration) / (40 + 6.0), rtol=1e-12
    )
    scatters = []
    for k in range(3):
        own = rows[:, labels == k]
        mean = (own.sum(axis=1) + kappa * penalty.location) / (counts[k] + kappa)
        np.testing.assert_allclose(mixture.means[k], mean, rtol=1e-10, atol=1e-12)
        gap, pull = own - mean[:, None], penalty.location - mean
        scatters.append(gap @ gap.T + kappa * np.outer(pull, pull))
    if structure == "full":
        for k in range(3):
            wanted = (scatters[k] + np.diag(psi)) / (counts[k] + nu)
            got = mixture.cholesky[k] @ mixture.cholesky[k].T
            np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-13)
    if structure == "tied":
        wanted = (sum(scatters) + np.diag(psi)) / (40 + nu)
        got = mixture.cholesky[2] @ mixture.cholesky[2].T
        np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-13)


def test_without_a_penalty_an_empty_component_has_no_parameters(rng: np.random.Generator) -> None:
    which = layout("full", 2, 2)
    nothing = Penalty(np.zeros(2), np.zeros(2), 0.0, np.zeros(2), 0.0)
    rows, labels = rng.normal(size=(2, 9)), np.zeros(9, dtype=int)
    ok, vector = vector_from_labels(which, nothing, rows, UNWEIGHTED, labels)
    assert not ok
    assert vector.size == 0


def test_weights_count_rows_as_often(rng: np.random.Generator) -> None:
    rows, times = rng.normal(size=(2, 30)), rng.integers(1, 4, size=30)
    again = np.repeat(rows, times, axis=1)
    uniforms = np.array([0.3, 0.8, 0.1])
    weighted = kmeans_labels(rows, NOTHING, times.astype(float), uniforms, 3)
    repeated = plain_labels(again, uniforms, 3)
    np.testing.assert_array_equal(np.repeat(weighted, times), repeated)
    which, penalty = layout("full", 3, 2), Penalty(np.ones(3), np.zeros(2), 1.0, np.ones(2), 1.0)
    _, one = vector_from_labels(which, penalty, rows, times.astype(float), weighted)
    _, other = vector_from_labels(which, penalty, again, UNWEIGHTED, repeated)
    np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_labels_that_are_known_name_the_clusters_and_are_kept(rng: np.random.Generator) -> None:
    rows = rng.normal(size=(1, 90)) + np.repeat([0.0, 10.0, 20.0], 30)
    offsets = np.zeros((3, 90))
    offsets[:, 35] = [-np.inf, -np.inf, 0.0]  # of the middle cluster, and so is the last component
    offsets[:, 65] = np.log([0.9, 0.05, 0.05])  # of the right one, and most likely component 0
    offsets[:, 5] = [-np.inf, 0.0, -np.inf]
    offsets[:, 80] = [-np.inf, 0.0, 0.0]
    for _ in range(10):
        labels = kmeans_labels(rows, offsets, UNWEIGHTED, rng.random(3), 3)
        wanted = np.repeat([1, 2, 0], 30)
        assert labels[80] == 2  # the nearest that is allowed
        np.testing.assert_array_equal(np.delete(labels, 80), np.delete(wanted, 80))
