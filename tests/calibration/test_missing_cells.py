"""Simulation-based calibration of NUTS and of `impute` with missing cells and measurement errors.

As in `test_simulation_based`, with a third of the cells hidden: the rank of the truth among draws
is uniform for functions of the parameters, and for a cell that was hidden among what is imputed.
With errors covariances may be next to singular: functions are those that need no density. The false
alarm budget of the whole file is 1e-4.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import binomtest, chisquare

import bayesgmm as bg

pytestmark = pytest.mark.slow

type Array = NDArray[np.float64]

SPEC: Final = bg.GaussianMixture(
    2,
    weights=bg.Dirichlet(2.0),
    means=bg.NormalMeans(0.5, 3.0),
    covariance=bg.LKJCovariance(1.5, 1.0, "full", 0.0),
)
N_OBS: Final = 50
N_SIMULATIONS: Final = 200
N_KEPT: Final = 99
"""Draws that a rank is taken among, thinned until they are nearly independent."""
CHAINS, DRAWS = 4, 500
BINS: Final = 10
BUDGET: Final = 1e-4
COVERED: Final = 0.9

QUANTITIES: Final[dict[str, Callable[[xr.Dataset], xr.DataArray]]] = {
    "smaller weight": lambda of: of["weights"].min("component"),
    "distance of means": lambda of: (of["means"].diff("component") ** 2).sum(
        ["component", "feature"]
    ),
    "smallest scale": lambda of: of["scales"].min(["component", "feature"]),
    "average scale": lambda of: (of["weights"] * of["scales"]).sum("component").mean("feature"),
    "average correlation": lambda of: (of["weights"] * of["correlations"][..., 0, 1]).sum(
        "component"
    ),
}


def p_value(ranks: NDArray[np.int64]) -> float:
    """Smallest p-value, times their number, of tests for what biased or wrong widths do."""
    counts = np.bincount(ranks * BINS // (N_KEPT + 1), minlength=BINS)
    low = binomtest(int((ranks <= N_KEPT // 2).sum()), ranks.size).pvalue
    middle = np.abs(ranks - N_KEPT / 2) < (N_KEPT + 1) / 4
    central = binomtest(int(middle.sum()), ranks.size).pvalue
    return 3.0 * min(float(chisquare(counts).pvalue), low, central)


class Hidden(NamedTuple):
    """Ranks of the truth: of functions of the parameters, and of one hidden cell."""

    of_parameters: list[int]
    of_cell: int
    covered: float


def run(seed: np.random.SeedSequence, noisy: bool) -> Hidden:
    """Hide a third of the cells; where the first feature is large, twice as often the second."""
    rng = np.random.default_rng(seed)
    truth = bg.simulate(SPEC, N_OBS, n_features=2, random_seed=int(rng.integers(2**32)))
    X = truth["X"].values
    errors = rng.choice([0.3, 1.0], size=X.shape) if noisy else None
    seen = X + errors * rng.normal(size=X.shape) if noisy else X.copy()
    likely = np.where(seen[20:, 0] > np.median(seen[20:, 0]), 0.6, 0.3)  # by what is seen
    seen[20:, 1][rng.random(N_OBS - 20) < likely] = np.nan
    seen[:20:2, 0] = np.nan
    tree = bg.fit(
        seen, SPEC, measurement_error=errors, draws=DRAWS, chains=CHAINS,
        progressbar=False, random_seed=int(rng.integers(2**32)),
    )  # fmt: skip
    kept = np.linspace(0, CHAINS * DRAWS - 1, N_KEPT).astype(int)
    draws = tree["posterior"].to_dataset().stack(sample=("chain", "draw")).isel(sample=kept)
    draws = draws.transpose("sample", ...)
    found = bg.impute(tree, draws=N_KEPT, random_seed=int(rng.integers(2**32)))
    below = (found["X"].values < X).sum(axis=0)[found["missing"].values]
    tail = (1.0 - COVERED) / 2.0 * (N_KEPT + 1)
    return Hidden(
        [int((of(draws) < of(truth)).sum()) for of in QUANTITIES.values()],
        int(rng.choice(below)),
        float(((below >= tail) & (below < N_KEPT + 1 - tail)).mean()),
    )


@pytest.mark.parametrize("noisy", [False, True])
def test_ranks_are_uniform_and_intervals_cover(noisy: bool) -> None:
    seeds = np.random.SeedSequence(20261122).spawn(N_SIMULATIONS)
    found = [run(seed, noisy) for seed in seeds]
    ranks = np.array([one.of_parameters for one in found])
    p = {name: p_value(column) for name, column in zip(QUANTITIES, ranks.T, strict=True)}
    cells = np.array([one.of_cell for one in found])
    p["hidden cell"] = p_value(cells)
    inside = int(((cells >= 5) & (cells < 95)).sum())
    p["interval"] = float(binomtest(inside, N_SIMULATIONS, COVERED).pvalue)
    assert min(p.values()) > BUDGET / (2 * len(p)), p
    every = np.array([one.covered for one in found])
    assert abs(every.mean() - COVERED) < 5.0 * every.std() / N_SIMULATIONS**0.5
