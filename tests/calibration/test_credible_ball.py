"""Whether the credible ball holds the true partition as often as it says.

Parameters are drawn from the prior, rows and their clusters from the parameters, and the same
model is fitted to the rows. The true partition is then one more draw of the posterior, so a ball
that holds a share of the posterior holds the truth as often. Balls hold at least their level, for
distances are discrete; what they hold, ``mass``, is what the truth is compared with. The false
alarm budget of the file is 1e-4.
"""

from typing import Final, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

import bayesgmm as bg
from bayesgmm.kernels.partition_loss import LOSSES, compacted, distances

pytestmark = pytest.mark.slow

N_OBS, N_COMPONENTS, N_DIM = 30, 3, 2
N_SIMULATIONS: Final = 400
CHAINS, DRAWS = 4, 500
LEVELS: Final = (0.5, 0.8, 0.95)
CASES: Final = ("vi", "binder")
BUDGET: Final = 1e-4
CONCENTRATION, LOCATION, SPREAD, TAU, ETA, FLOOR = 2.0, 0.5, 3.0, 1.0, 1.5, 0.2
SPECIFICATION: Final = bg.GaussianMixture(
    N_COMPONENTS,
    weights=bg.Dirichlet(CONCENTRATION),
    means=bg.NormalMeans(LOCATION, SPREAD),
    covariance=bg.LKJCovariance(ETA, TAU, "full", FLOOR),
)


class Ball(NamedTuple):
    """What a ball says it holds, its radius, and how far from its centre the truth was."""

    mass: float
    radius: float
    away: float


def simulate(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Draw rows and their clusters from the prior predictive, written out anew."""
    weights = rng.dirichlet([CONCENTRATION] * N_COMPONENTS)
    means = rng.normal(LOCATION, SPREAD, (N_COMPONENTS, N_DIM))
    tries = np.abs(rng.normal(0.0, TAU, (N_COMPONENTS, N_DIM, 1000)))
    first = (tries > FLOOR).argmax(axis=-1)
    scales = np.take_along_axis(tries, first[..., None], axis=-1)[..., 0]
    labels = rng.choice(N_COMPONENTS, N_OBS, p=weights)
    r = 2.0 * rng.beta(ETA, ETA, N_COMPONENTS)[labels] - 1.0
    noise = rng.normal(size=(N_OBS, N_DIM))
    noise[:, 1] = r * noise[:, 0] + np.sqrt(1.0 - r**2) * noise[:, 1]
    return means[labels] + scales[labels] * noise, labels


def run(seed: np.random.SeedSequence) -> dict[tuple[str, float], Ball]:
    rng = np.random.default_rng(seed)
    X, labels = simulate(rng)
    truth = compacted(labels[None], N_COMPONENTS)
    one, other = (int(rng.integers(2**32)) for _ in range(2))
    tree = bg.fit(X, SPECIFICATION, draws=DRAWS, chains=CHAINS, random_seed=one, progressbar=False)
    found = {}
    for loss in CASES:
        center = None
        for level in LEVELS:
            ball = bg.credible_ball(tree, center, loss=loss, level=level, random_seed=other)
            center = ball.partition
            away = distances(truth, center.values[None].astype(np.int32), LOSSES[loss])[0, 0]
            found[loss, level] = Ball(ball.mass, ball.radius, float(away))
    return found


@pytest.fixture(scope="module")
def simulations() -> list[dict[tuple[str, float], Ball]]:
    return [run(seed) for seed in np.random.SeedSequence(20261121).spawn(N_SIMULATIONS)]


def surprise(balls: list[Ball], scale: float) -> float:
    """How many standard errors more often the truth is in balls of scaled radius than said."""
    mass = np.array([ball.mass for ball in balls])
    held = np.array([ball.away <= scale * ball.radius + 1e-9 for ball in balls])
    return float((held - mass).sum() / np.sqrt((mass * (1.0 - mass)).sum()))


LIMIT: Final = float(norm.isf(BUDGET / (2 * len(CASES) * len(LEVELS))))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("loss", CASES)
def test_the_truth_is_in_the_ball_as_often_as_it_says(
    simulations: list[dict[tuple[str, float], Ball]], loss: str, level: float
) -> None:
    balls = [one[loss, level] for one in simulations]
    assert min(ball.mass for ball in balls) >= level
    assert abs(surprise(balls, 1.0)) < LIMIT


@pytest.mark.parametrize("loss", CASES)
@pytest.mark.parametrize("scale", [0.7, 1.5])
def test_a_wrong_radius_is_caught(
    simulations: list[dict[tuple[str, float], Ball]], loss: str, scale: float
) -> None:
    assert abs(surprise([one[loss, 0.8] for one in simulations], scale)) > LIMIT
