"""Make plain_pymc.json: posterior means of three mixtures, by PyMC and nothing of this package.

Run by hand, from anywhere and a few minutes long each:

    python tests/reference/plain_pymc.py faithful
    python tests/reference/plain_pymc.py galaxies
    python tests/reference/plain_pymc.py iris

Each program is written with PyMC's own `Mixture`, priors as plain numbers, and sampled by nutpie
with its own starts and adaptation. Components of every draw are put in the order of their first
mean; the file holds the means over all draws with their Monte Carlo standard errors.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import nutpie
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
from arviz_stats import ess, mcse, rhat
from numpy.typing import NDArray

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "bayesgmm" / "datasets"
CHAINS, TUNE, DRAWS, SEED = 4, 1000, 2000, 20261121

FAITHFUL = {
    "concentration": 2.0,
    "location": [3.5, 70.0],
    "scale": [2.0, 30.0],
    "tau": [1.0, 10.0],
    "eta": 2.0,
    "structure": "full",
}
GALAXIES = {
    "concentration": 2.0,
    "location": [20.0],
    "scale": [10.0],
    "tau": [3.0],
    "eta": 1.0,
    "structure": "tied",
}
IRIS = {
    "concentration": 1.0,
    "location": [5.8, 3.0, 3.8, 1.2],
    "scale": [2.0, 1.0, 3.0, 1.0],
    "tau": [1.0, 0.5, 2.0, 0.8],
    "eta": 1.5,
    "structure": "full",
}


def faithful() -> tuple[pm.Model, dict[str, Any]]:
    """Old Faithful: two components, each with a covariance of its own, by `LKJCholeskyCov`."""
    rows = pd.read_csv(DATA / "faithful.csv").to_numpy()
    prior = FAITHFUL
    with pm.Model() as model:
        weights = pm.Dirichlet("weights", [prior["concentration"]] * 2)
        means = pm.Normal("means", prior["location"], prior["scale"], shape=(2, 2))
        parts, scales, correlations = [], [], []
        for k in range(2):
            factor, correlation, scale = pm.LKJCholeskyCov(
                f"factor_{k}", n=2, eta=prior["eta"], sd_dist=pm.HalfNormal.dist(prior["tau"])
            )
            parts.append(pm.MvNormal.dist(mu=means[k], chol=factor))
            scales.append(scale)
            correlations.append(correlation)
        pm.Deterministic("scales", pt.stack(scales))
        pm.Deterministic("correlations", pt.stack(correlations))
        pm.Mixture("rows", w=weights, comp_dists=parts, observed=rows)
    return model, {"means": np.array([[2.0, 55.0], [4.3, 80.0]])}


def galaxies() -> tuple[pm.Model, dict[str, Any]]:
    """Galaxies, in 1000 km/s: three components of one common scale."""
    rows = pd.read_csv(DATA / "galaxies.csv").to_numpy()[:, 0]
    prior = GALAXIES
    with pm.Model() as model:
        weights = pm.Dirichlet("weights", [prior["concentration"]] * 3)
        means = pm.Normal("means", prior["location"][0], prior["scale"][0], shape=3)
        scale = pm.HalfNormal("scale", prior["tau"][0])
        pm.Deterministic("scales", pt.stack([scale, scale, scale])[:, None])
        pm.NormalMixture("rows", w=weights, mu=means, sigma=scale, observed=rows)
    return model, {"means": np.array([9.7, 21.0, 33.0])}


def iris() -> tuple[pm.Model, dict[str, Any]]:
    """All four measurements of iris: two components, correlations from Beta variables in loops."""
    rows = pd.read_csv(DATA / "iris.csv").to_numpy()[:, :4].astype(float)
    prior = IRIS
    with pm.Model() as model:
        weights = pm.Dirichlet("weights", [prior["concentration"]] * 2)
        means = pm.Normal("means", prior["location"], prior["scale"], shape=(2, 4))
        scales = pm.HalfNormal("scales", prior["tau"], shape=(2, 4))
        parts, correlations = [], []
        for k in range(2):
            factor = [[pt.as_tensor(0.0)] * 4 for _ in range(4)]
            for i in range(4):
                left = pt.as_tensor(1.0)  # squared length that row i has left
                for j in range(i):
                    shape = prior["eta"] + (4 - 2 - j) / 2
                    c = 2 * pm.Beta(f"b_{k}{i}{j}", shape, shape) - 1
                    factor[i][j] = c * pt.sqrt(left)
                    left = left * (1 - c**2)
                factor[i][i] = pt.sqrt(left)
            matrix = pt.stacklists(factor)
            correlations.append(matrix @ matrix.T)
            parts.append(pm.MvNormal.dist(mu=means[k], chol=scales[k][:, None] * matrix))
        pm.Deterministic("correlations", pt.stack(correlations))
        pm.Mixture("rows", w=weights, comp_dists=parts, observed=rows)
    start = np.stack([rows[:50].mean(axis=0), rows[50:].mean(axis=0)])
    return model, {"means": start, "scales": np.full((2, 4), 0.5)}


PROGRAMS: dict[str, tuple[Callable[[], tuple[pm.Model, dict[str, Any]]], dict[str, Any]]] = {
    "faithful": (faithful, FAITHFUL),
    "galaxies": (galaxies, GALAXIES),
    "iris": (iris, IRIS),
}


def ordered(values: NDArray[np.float64], order: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return draws with the components, their third dimension, in the order of every draw."""
    index = order.reshape(*order.shape, *[1] * (values.ndim - 3))
    return np.take_along_axis(values, index, axis=2)


def sample(name: str) -> dict[str, Any]:
    """Return what is kept of a program's posterior."""
    make, prior = PROGRAMS[name]
    model, start = make()
    kept = [v for v in ("weights", "means", "scales", "correlations") if v in model.named_vars]
    began = time.perf_counter()
    compiled = nutpie.compile_pymc_model(model, initial_points=start, var_names=kept)
    compile_seconds = time.perf_counter() - began
    trace = nutpie.sample(
        compiled, draws=DRAWS, tune=TUNE, chains=CHAINS, seed=SEED, progress_bar=False
    )
    posterior = {v: trace["posterior"][v].values for v in kept}
    posterior["means"] = posterior["means"].reshape(*posterior["weights"].shape, -1)
    order = np.argsort(posterior["means"][..., 0], axis=2)
    result: dict[str, Any] = {"priors": prior}
    worst = 0.0
    for variable, values in posterior.items():
        draws = ordered(values, order)
        if variable == "correlations":
            rows, columns = np.tril_indices(draws.shape[-1], -1)
            draws = draws[..., rows, columns]
        result[variable] = {
            "mean": draws.mean(axis=(0, 1)).tolist(),
            "mcse": each(draws, mcse),
            "ess": np.round(each(draws, ess)).tolist(),
        }
        worst = max(worst, float(np.max(each(draws, rhat))))
    result["rhat"] = worst
    result["divergences"] = int(trace["sample_stats"]["diverging"].sum())
    result["sampled"] = {"chains": CHAINS, "draws": DRAWS, "tune": TUNE, "seed": SEED}
    result["seconds"] = {
        "compile": round(compile_seconds, 1),
        "all": round(time.perf_counter() - began, 1),
    }
    result["versions"] = {"pymc": pm.__version__, "nutpie": nutpie.__version__}
    return result


def each(draws: NDArray[np.float64], statistic: Callable[..., Any]) -> list[Any]:
    """Return a statistic of every entry of draws (chain, draw, ...), as nested lists."""
    flat = draws.reshape(*draws.shape[:2], -1)
    values = [float(statistic(flat[..., i])) for i in range(flat.shape[2])]
    return np.array(values).reshape(draws.shape[2:]).tolist()


def main(wanted: list[str]) -> None:
    """Sample the programs named, and write them beside those that are there."""
    path = HERE / "plain_pymc.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name in wanted:
        found[name] = sample(name)
        text = json.dumps(dict(sorted(found.items())), indent=1)
        path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:] or list(PROGRAMS))
