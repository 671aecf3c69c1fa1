"""Simulation-based calibration of NUTS and of `impute` with missing cells and measurement errors.

As in `test_simulation_based`, with a third of the cells hidden: the rank of the truth among draws
is uniform for functions of the parameters, and for a cell that was hidden among what is imputed.
With errors covariances may be next to singular: functions are those that need no density. The false
alarm budget of the whole file is 1e-4.
"""

from typing import Final, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest

import bayesgmm as bg
from bayesgmm.tree import Parameters
from tests.calibration.test_simulation_based import (
    CHAINS,
    DRAWS,
    N_KEPT,
    N_OBS,
    QUANTITIES,
    Case,
    from_prior,
    p_value,
    simulate,
)

pytestmark = pytest.mark.slow

type Array = NDArray[np.float64]

CASE: Final = Case("full", 2, 0.0)
N_SIMULATIONS: Final = 200
BUDGET: Final = 1e-4
COVERED: Final = 0.9


class Hidden(NamedTuple):
    """Ranks of the truth: of functions of the parameters, and of one hidden cell."""

    of_parameters: list[int]
    of_cell: int
    covered: float


def run(seed: np.random.SeedSequence, noisy: bool) -> Hidden:
    """Hide a third of the cells; where the first feature is large, twice as often the second."""
    rng = np.random.default_rng(seed)
    truth = from_prior(CASE, rng)
    X = simulate(truth, rng)
    errors = rng.choice([0.3, 1.0], size=X.shape) if noisy else None
    seen = X + errors * rng.normal(size=X.shape) if noisy else X.copy()
    likely = np.where(seen[20:, 0] > np.median(seen[20:, 0]), 0.6, 0.3)  # by what is seen
    seen[20:, 1][rng.random(N_OBS - 20) < likely] = np.nan
    seen[:20:2, 0] = np.nan
    tree = bg.fit(
        seen, CASE.specification, measurement_error=errors, draws=DRAWS, chains=CHAINS,
        progressbar=False, random_seed=int(rng.integers(2**32)),
    )  # fmt: skip
    kept = np.linspace(0, CHAINS * DRAWS - 1, N_KEPT).astype(int)
    posterior = tree["posterior"].dataset
    draws = Parameters(
        *(posterior[name].values.reshape(CHAINS * DRAWS, *posterior[name].shape[2:])[kept]
          for name in Parameters._fields)
    )  # fmt: skip
    found = bg.impute(tree, draws=N_KEPT, random_seed=int(rng.integers(2**32)))
    below = (found["X"].values < X).sum(axis=0)[found["missing"].values]
    tail = (1.0 - COVERED) / 2.0 * (N_KEPT + 1)
    return Hidden(
        [int((q(draws, X) < q(truth, X)).sum()) for q in QUANTITIES[2:]],
        int(rng.choice(below)),
        float(((below >= tail) & (below < N_KEPT + 1 - tail)).mean()),
    )


@pytest.mark.parametrize("noisy", [False, True])
def test_ranks_are_uniform_and_intervals_cover(noisy: bool) -> None:
    seeds = np.random.SeedSequence(20261122).spawn(N_SIMULATIONS)
    found = [run(seed, noisy) for seed in seeds]
    ranks = np.array([one.of_parameters for one in found])
    p = {q.__name__: p_value(column) for q, column in zip(QUANTITIES[2:], ranks.T, strict=True)}
    cells = np.array([one.of_cell for one in found])
    p["hidden cell"] = p_value(cells)
    inside = int(((cells >= 5) & (cells < 95)).sum())
    p["interval"] = float(binomtest(inside, N_SIMULATIONS, COVERED).pvalue)
    assert min(p.values()) > BUDGET / (2 * len(p)), p
    every = np.array([one.covered for one in found])
    assert abs(every.mean() - COVERED) < 5.0 * every.std() / N_SIMULATIONS**0.5
