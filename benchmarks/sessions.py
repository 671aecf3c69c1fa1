"""From the call, or from the start of a process, to a posterior that is checked."""

import time
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from benchmarks.cases import FAITHFUL
from benchmarks.runs import Job, Result
from benchmarks.timing import duration, middle

SMALL = "1,000, 2, 3"
CHAINS, DRAWS = 4, 1000
REPEATS = 3
WHOLE = {
    "ours": "defaults",
    "pymc_programs": "defaults",
    "numpyro_programs": "dense",
    "stan_programs": "by hand",
}
DEVICES = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={CHAINS}", "JAX_ENABLE_X64": "1"}
EMPTY = {"NUMBA_CACHE_DIR": "{folder}", "PYTENSOR_FLAGS": "base_compiledir={folder}"}


def _cases(quick: bool) -> list[str]:
    return [FAITHFUL] if quick else [FAITHFUL, SMALL]


def jobs(quick: bool) -> list[Job]:
    """Return the live sessions, which warm the caches, then whole processes, then empty caches."""
    found = []
    for case in _cases(quick):
        found += [
            Job(f"{case} live ours", "sessions:live_ours", {"case": case, "repeats": 10}),
            Job(f"{case} live PyMC", "sessions:live_pymc", {"case": case}, 240.0),
        ]
        for program, variant in WHOLE.items():
            if case == FAITHFUL and program not in ("ours", "pymc_programs"):
                continue
            arguments = {"case": case, "program": program, "variant": variant}
            found += [
                Job(f"{case} {program} {i}", "sessions:whole", arguments, 240.0, DEVICES)
                for i in range(REPEATS if program == "ours" else 1)
            ]
    for program in ("ours", "pymc_programs"):
        arguments = {"case": FAITHFUL, "program": program, "variant": "defaults"}
        found.append(Job(f"first {program}", "sessions:whole", arguments, 240.0, EMPTY))
    return found


def live_ours(case: str, repeats: int) -> dict[str, Any]:
    """Return the seconds of every step of fits in a session that has made one before."""
    import bayesgmm as bg
    from benchmarks.cases import load

    loaded = load(case)
    steps: dict[str, list[float]] = {name: [] for name in ("fit", "check", "LOO", "sampling")}
    for seed in range(repeats + 1):
        began = time.perf_counter()
        tree = bg.fit(
            loaded.X, loaded.n_components, chains=CHAINS, draws=DRAWS, random_seed=seed,
            progressbar=False,
        )  # fmt: skip
        fitted = time.perf_counter()
        report = bg.check(tree)
        checked = time.perf_counter()
        loo = bg.loo(tree)
        done = time.perf_counter()
        if seed > 0:  # the first loads what is compiled
            spent = fitted - began, checked - fitted, done - checked, tree.attrs["sampling_time"]
            for name, seconds in zip(steps, spent, strict=True):
                steps[name].append(seconds)
    ess = _smallest_ess(tree.posterior.to_dataset())
    return {"steps": steps, "ess": ess, "elpd": float(loo.elpd), "ok": report.ok}


def _smallest_ess(posterior: Any) -> float:
    """Return the smallest bulk ESS of aligned weights and means."""
    import arviz_stats

    ess = arviz_stats.ess(posterior[["weights", "means"]], method="bulk")
    return float(min(ess["weights"].min(), ess["means"].min()))


def live_pymc(case: str) -> dict[str, Any]:
    """Return the seconds of every step of a second, new model in one session."""
    from benchmarks.cases import load

    loaded = load(case)
    _pymc_once(loaded, 1)
    return _pymc_once(loaded, 2)


def _pymc_once(case: Any, seed: int) -> dict[str, Any]:
    """Write, compile and sample the plain program; align, check, and leave one out."""
    import arviz_stats
    import numpy as np
    import nutpie
    import pymc as pm

    from benchmarks.programs.pymc_programs import program, starts

    began = time.perf_counter()
    model = program(case)
    compiled = nutpie.compile_pymc_model(model, initial_points=starts(case), jitter_rvs=set())
    ready = time.perf_counter()
    tree = nutpie.sample(compiled, draws=DRAWS, chains=CHAINS, seed=seed, progress_bar=False)
    sampled = time.perf_counter()
    draws = tree["posterior"].to_dataset()[["weights", "means"]]
    order = draws["means"][..., 0].values.argsort(axis=-1)
    aligned = draws.assign(
        weights=draws["weights"].copy(data=np.take_along_axis(draws["weights"].values, order, 2)),
        means=draws["means"].copy(
            data=np.take_along_axis(draws["means"].values, order[..., None], 2)
        ),
    )
    arviz_stats.summary(aligned)
    checked = time.perf_counter()
    with model:
        tree = pm.compute_log_likelihood(tree, progressbar=False)
    loo = arviz_stats.loo(tree, var_name="X")
    done = time.perf_counter()
    spent = ready - began, sampled - ready, checked - sampled, done - checked
    steps = dict(zip(("compile", "sampling", "check", "LOO"), spent, strict=True))
    return {"steps": steps, "ess": _smallest_ess(aligned), "elpd": float(loo.elpd)}


def whole(case: str, program: str, variant: str) -> dict[str, float]:
    """Sample from the program's own start and check; the process is what is timed."""
    from benchmarks.cases import load

    loaded = load(case)
    if program == "ours":
        import bayesgmm as bg

        tree = bg.fit(
            loaded.X, loaded.n_components, chains=CHAINS, draws=DRAWS, random_seed=1,
            progressbar=False,
        )  # fmt: skip
        return {"r_hat": bg.check(tree).evidence["largest R-hat, label-free"]}
    from benchmarks.effective import summarise

    module = import_module(f"benchmarks.programs.{program}")
    sampled = module.sample(loaded, variant, "default", [1], CHAINS, DRAWS)
    return {"r_hat": summarise(loaded, sampled.runs[0].draws)["r_hat"]}


def headline(results: Mapping[str, Result]) -> str:
    """Return the section in a sentence."""
    told = []
    for case in (FAITHFUL, SMALL):
        ours, peer = (results.get(f"{case} live {name}") for name in ("ours", "PyMC"))
        if ours and peer:
            seconds, other = _total(ours), sum(peer["steps"].values())
            told.append(f"{duration(seconds)} for {case}, PyMC's {other / seconds:.0f} times that")
    seen = "; ".join(told) or "not measured"
    return f"**A checked, aligned posterior with LOO** in a live session: {seen}."


def _total(ours: Result) -> float:
    return sum(middle(ours["steps"][name]) for name in ("fit", "check", "LOO"))


def report(results: Mapping[str, Result], quick: bool) -> str:
    """Return the section of the page."""
    return f"""
## From the call to a checked posterior

{CHAINS} chains of {DRAWS:,} draws. In a live session, with caches warm: bayesgmm's `fit`, which
aligns, `check` and `loo`, the median of ten; against the plain program of PyMC with nutpie, started
at the truth, as the second, new model of its session, whose components are put in the order of
their first mean, with ArviZ's summary and LOO. Its priors are the same, but for the truncation at
the rounding error of Old Faithful.

| data | step | bayesgmm | PyMC + nutpie | ratio |
|---|---|---|---|---|
{"".join(_live(case, results) for case in _cases(quick))}
Whole processes, from their start to R-hat, every program from its own start, caches warm unless it
says otherwise; and the most memory that they held. For bayesgmm the median of {REPEATS}.

| data | program | seconds | memory | largest R-hat |
|---|---|---|---|---|
{"".join(_wholes(case, results) for case in _cases(quick))}{_first(results)}"""


def _live(case: str, results: Mapping[str, Result]) -> str:
    ours, peer = results[f"{case} live ours"], results[f"{case} live PyMC"]
    if not (ours and peer):
        return f"| {case} | not measured: {ours.missing or peer.missing} | | | |\n"
    steps = {name: middle(seconds) for name, seconds in ours["steps"].items()}
    theirs = peer["steps"]
    total = _total(ours)
    other = sum(theirs.values())
    before = duration(steps["fit"] - steps["sampling"])
    rows = [
        ("all", duration(total), duration(other), f"{other / total:.0f}"),
        ("compiling, or searching and aligning", before, duration(theirs["compile"]), ""),
        *(
            (name, duration(steps[name]), duration(theirs[name]), "")
            for name in ("sampling", "check", "LOO")
        ),
        ("smallest ESS of weights and means", f"{ours['ess']:,.0f}", f"{peer['ess']:,.0f}", ""),
        ("elpd", f"{ours['elpd']:.1f}", f"{peer['elpd']:.1f}", ""),
        ("memory of the process", _memory(ours), _memory(peer), ""),
    ]
    return "".join(f"| {case} | {' | '.join(row)} |\n" for row in rows)


def _memory(result: Result) -> str:
    return f"{result.peak / 2**20:,.0f} MiB"


def _wholes(case: str, results: Mapping[str, Result]) -> str:
    lines = []
    for program, variant in WHOLE.items():
        found = [results[name] for name in results if name.startswith(f"{case} {program} ")]
        if found:
            label = import_module(f"benchmarks.programs.{program}").VARIANTS[variant]
            lines.append(_whole(f"{case} | {label}", found))
    return "".join(lines)


def _whole(label: str, found: list[Result]) -> str:
    last = found[-1]
    if not last:
        return f"| {label} | not measured: {last.missing} | | |\n"
    seconds = duration(middle([result.seconds for result in found]))
    return f"| {label} | {seconds} | {_memory(last)} | {last['r_hat']:.3f} |\n"


def _first(results: Mapping[str, Result]) -> str:
    return "".join(
        _whole(f"{FAITHFUL} | {label}, nothing compiled yet", [results[f"first {program}"]])
        for program, label in (("ours", "bayesgmm"), ("pymc_programs", "PyMC + nutpie"))
    )
