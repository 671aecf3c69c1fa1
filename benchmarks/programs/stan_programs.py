"""Stan, through pystan, one process per chain."""

import json
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import Case, Mixture
from benchmarks.programs import Run, Sampled
from benchmarks.runs import NotMeasured

VARIANTS = {
    "defaults": "Stan",
    "by hand": "Stan, by hand",
}
FILES = {"defaults": "mixture_guide.stan", "by hand": "mixture_by_hand.stan"}
ELAPSED = re.compile(r"([0-9.]+) seconds \((?:Warm-up|Sampling)\)")


def _build(case: Case, variant: str, seed: int) -> Any:
    if shutil.which("g++") is None and shutil.which("c++") is None:
        raise NotMeasured("Stan needs a C++ compiler, and there is none")
    import stan

    d = case.X.shape[1]
    sizes = {"N": len(case.X), "D": d, "K": case.n_components, "X": case.X.T.tolist()}
    prior = {name: np.asarray(value).tolist() for name, value in case.prior._asdict().items()}
    code = Path(__file__).with_name(FILES[variant]).read_text(encoding="utf-8")
    return stan.build(code, data=sizes | prior, random_seed=seed)


def sample(
    case: Case, variant: str, start: str, seeds: Sequence[int], chains: int, draws: int
) -> Sampled:
    """Return draws. Counted is what the slowest chain says it took, not the way to it and back."""
    init = {name: value.tolist() for name, value in case.truth._asdict().items()}
    chosen = {"init": [init] * chains} if start == "truth" else {}
    runs, compiling = [], 0.0
    for seed in seeds:
        began = time.perf_counter()
        posterior = _build(case, variant, seed)
        compiling = compiling or time.perf_counter() - began
        fit = posterior.sample(num_chains=chains, num_samples=draws, num_warmup=draws, **chosen)
        # pystan: (..., chains * draws), chains varying fastest
        arrays = [
            np.moveaxis(value.reshape(*value.shape[:-1], draws, chains), (-1, -2), (0, 1))
            for value in (fit[name] for name in Mixture._fields)
        ]
        runs.append(Run(
            Mixture(*arrays), max(map(_seconds, fit.stan_outputs)),
            float(fit["n_leapfrog__"].mean()), int(fit["divergent__"].sum()),
        ))  # fmt: skip
    return Sampled(runs, compiling)


def _seconds(output: bytes) -> float:
    """Return the seconds of tuning and sampling that a chain reports."""
    lines = [json.loads(line) for line in output.splitlines()]
    told = "\n".join(str(line["values"]) for line in lines if line["topic"] == "logger")
    return sum(float(number) for number in ELAPSED.findall(told))


def log_densities(case: Case, variant: str, points: Mixture) -> list[float]:
    """Return Stan's log density at points, without the Jacobians of its own transforms."""
    posterior = _build(case, variant, 1)
    return [
        posterior.log_prob(
            posterior.unconstrain_pars({name: v.tolist() for name, v in point._asdict().items()}),
            adjust_transform=False,
        )
        for point in map(Mixture._make, zip(*points, strict=True))
    ]
