"""The prior of the number of clusters: known laws, simulation, and what it refuses."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import gammaln

import bayesgmm as bg
from bayesgmm import partition_prior

type Array = np.ndarray


def of(weights: object, n_components: int = 6) -> bg.GaussianMixture:
    return bg.GaussianMixture(n_components, weights=weights)  # type: ignore[arg-type]


def stirling(n: int) -> Array:
    """Return unsigned Stirling numbers of the first kind, of n and 1 .. n."""
    table = np.zeros(n + 1)
    table[0] = 1.0
    for i in range(n):
        table = np.append(0.0, table[:-1]) + i * table
    return table[1:]


def test_a_long_stick_is_a_dirichlet_process() -> None:
    """Antoniak (1974): |s(n, c)| alpha^c Gamma(alpha) / Gamma(alpha + n)."""
    n, alpha = 30, 1.3
    due = stirling(n) * alpha ** np.arange(1, n + 1) * np.exp(gammaln(alpha) - gammaln(alpha + n))
    found = bg.prior_clusters(of(bg.StickBreaking(alpha), 150), n)
    np.testing.assert_allclose(found, due, rtol=1e-9, atol=1e-18)
    assert found.attrs["truncation_error"] < 1e-30
    assert (found.name, found.dims) == ("prior_probability", ("n_clusters",))
    assert found["n_clusters"].values.tolist() == list(range(1, n + 1))
    many = bg.GaussianMixture(
        bg.PriorOnComponents("uniform", 1, concentration=alpha, dynamic=False)
    )
    assert bg.prior_clusters(many, n).values.tolist() == [1.0]


def test_uniform_weights_have_a_known_law() -> None:
    """All counts are equally likely: C(K, c) C(n - 1, c - 1) of C(n + K - 1, n)."""
    n, k = 9, 4

    def choose(a: int, b: Array | int) -> Array:
        return np.exp(gammaln(a + 1) - gammaln(np.add(b, 1)) - gammaln(np.subtract(a, b) + 1))

    c = np.arange(1, k + 1)
    due = choose(k, c) * choose(n - 1, c - 1) / choose(n + k - 1, n)
    np.testing.assert_allclose(bg.prior_clusters(bg.GaussianMixture(k), n), due, rtol=1e-12)


SIMULATIONS = 20_000


def dirichlet(concentration: object) -> Callable[[np.random.Generator], Array]:
    return lambda rng: rng.dirichlet(concentration)


def stick(n: int, gamma: bg.Gamma) -> Callable[[np.random.Generator], Array]:
    def draw(rng: np.random.Generator) -> Array:
        alpha = rng.gamma(gamma.shape) / gamma.rate
        pieces = np.append(rng.beta(1.0, alpha, n - 1), 1.0)
        return pieces * np.append(1.0, np.cumprod(1.0 - pieces)[:-1])

    return draw


def unknown(rng: np.random.Generator) -> Array:
    k = rng.poisson(2.0) + 1
    weights = rng.gamma(rng.f(6.0, 3.0) / k, size=k)
    return weights / weights.sum() if weights.sum() > 0.0 else np.eye(k)[0]


@pytest.mark.parametrize(
    ("spec", "draw"),
    [
        (of(bg.Dirichlet((0.2, 0.2, 1.5, 0.7)), 4), dirichlet((0.2, 0.2, 1.5, 0.7))),
        (of(bg.SparseDirichlet(0.1)), dirichlet(np.full(6, 0.1))),
        (of(bg.StickBreaking(bg.Gamma(3, 2))), stick(6, bg.Gamma(3, 2))),
        (bg.GaussianMixture(bg.PriorOnComponents("poisson", 2.0)), unknown),
    ],
)
def test_simulated_clusters_are_as_many(
    spec: bg.GaussianMixture, draw: Callable[[np.random.Generator], Array]
) -> None:
    rng, n = np.random.default_rng(7), 12
    counts = [np.count_nonzero(rng.multinomial(n, draw(rng))) for _ in range(SIMULATIONS)]
    found = bg.prior_clusters(spec, n).values
    assert found.sum() == pytest.approx(1.0, rel=1e-9)
    shares = np.bincount(counts, minlength=len(found) + 1)[1:] / SIMULATIONS
    error = np.sqrt(found * (1.0 - found) / SIMULATIONS)
    often = found * SIMULATIONS > 20
    assert often.sum() >= 4
    assert (np.abs(shares - found)[often] < 5.0 * error[often]).all()


def test_unequal_concentrations_that_are_equal_are_those_of_one() -> None:
    nearly = (0.3, 0.3, 0.3, np.nextafter(0.3, 1.0), np.nextafter(0.3, 0.0))
    one, other = (bg.prior_clusters(of(bg.Dirichlet(c), 5), 40) for c in (0.3, nearly))
    np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize(
    "spec",
    [bg.GaussianMixture(bg.PriorOnComponents()), of(bg.StickBreaking(), 15)],
    ids=["components", "stick"],
)
def test_there_are_enough_concentrations(
    spec: bg.GaussianMixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = bg.prior_clusters(spec, 150).values
    monkeypatch.setattr(partition_prior, "NODES", 384)
    np.testing.assert_allclose(found, bg.prior_clusters(spec, 150).values, rtol=1e-4, atol=1e-9)


def test_the_smallest_cases() -> None:
    one = bg.GaussianMixture(1)
    assert bg.prior_clusters(one, 50).values == pytest.approx([1.0])
    for spec in (of(bg.StickBreaking()), of(bg.SparseDirichlet()), of(bg.Dirichlet(2.0))):
        assert bg.prior_clusters(spec, 1).values == pytest.approx([1.0])
    learnt = bg.GaussianMixture(bg.PriorOnComponents())
    assert bg.prior_clusters(learnt, 1).values == pytest.approx([1.0])
    assert bg.prior_clusters(learnt, 2).sizes == {"n_clusters": 2}


def test_many_rows() -> None:
    found = bg.prior_clusters(of(bg.StickBreaking(1.0), 20), 10_000)
    assert found.sum() == pytest.approx(1.0, rel=1e-9)
    assert 0.005 < found.attrs["truncation_error"] < 0.02  # n / 2**19


@pytest.mark.parametrize(
    ("spec", "n_obs", "error", "message"),
    [
        (3, 10, TypeError, r"`spec` must be a GaussianMixture; got 3 of type int"),
        (bg.GaussianMixture(3), 0, ValueError, r"`n_obs` must be at least 1; got 0"),
        (bg.GaussianMixture(3), 2.0, TypeError, r"`n_obs` must be an integer; got 2.0"),
        (
            of(bg.Dirichlet(tuple(np.linspace(0.1, 2.0, 25))), 25),
            10,
            ValueError,
            r"must have fewer different concentrations; got 25 components, 3.36e\+07 different",
        ),
    ],
)
def test_what_has_no_prior_of_clusters_is_refused(
    spec: object, n_obs: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        bg.prior_clusters(spec, n_obs)  # type: ignore[arg-type]
