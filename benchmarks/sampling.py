"""Effective draws per second, sampling only, on one posterior."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.runs import Job, Result
from benchmarks.timing import duration, middle

SMALL, LARGE = "1,000, 2, 3", "5,000, 5, 4"
CHAINS, DRAWS = 2, 1000
PROGRAMS = ("ours", "pymc_programs", "numpyro_programs", "stan_programs")
STARTS = {"truth": "the truth", "default": "its own start"}
LIMIT = 1500.0
"""Seconds that a job may take: Stan's guide needs most of it for the large data."""
EMPTY = " | | | | | | |"
BASE = ("ours", "defaults")
AGREES = 1e-6
"""Nats by which log densities at random points may differ beyond a constant."""


def jobs(quick: bool) -> list[Job]:
    """Return a job per case, program, variant and start."""
    cases = ["200, 2, 2"] if quick else [SMALL, LARGE]
    return [
        Job(
            _name(case, program, variant, start),
            "sampling:measure",
            {
                "case": case,
                "program": program,
                "variant": variant,
                "start": start,
                "seeds": list(range(1, _seeds(case, program) + 1)),
                "draws": 200 if quick else DRAWS,
            },
            limit=LIMIT,
            environment=getattr(import_module(f"benchmarks.programs.{program}"), "ENVIRONMENT", {}),
        )
        for case in cases
        for program, variant in _variants()
        for start in (list(STARTS)[:1] if quick else STARTS)
        if _wanted(case, program, variant, start)
    ]


def _variants() -> list[tuple[str, str]]:
    return [
        (program, variant)
        for program in PROGRAMS
        for variant in import_module(f"benchmarks.programs.{program}").VARIANTS
    ]


def _name(case: str, program: str, variant: str, start: str) -> str:
    return f"{case} {program} {variant} {start}"


def _wanted(case: str, program: str, variant: str, start: str) -> bool:
    """Tell whether a combination is run: where it takes long peers start from the truth alone."""
    slow = case == LARGE or (program, variant) == ("stan_programs", "defaults")
    return start == "truth" or not slow or program == "ours"


def _seeds(case: str, program: str) -> int:
    if program == "ours":
        return 9
    return 3 if case != LARGE and program != "stan_programs" else 1


def measure(
    case: str, program: str, variant: str, start: str, seeds: list[int], draws: int
) -> dict[str, Any]:
    """Return what the draws of every seed are worth, and the program's densities at points."""
    from benchmarks import cases
    from benchmarks.effective import summarise

    loaded = cases.load(case)
    module = import_module(f"benchmarks.programs.{program}")
    sampled = module.sample(loaded, variant, start, seeds, CHAINS, draws)
    runs = []
    for run in sampled.runs:
        summary = summarise(loaded, run.draws)
        costs = {
            "seconds": run.seconds,
            "gradients": run.gradients,
            "divergences": run.divergences,
            "rate": summary["ess"] / run.seconds,
        }
        runs.append(summary | costs)
    densities = module.log_densities(loaded, variant, cases.points_around(loaded))
    return {"runs": runs, "compiling": sampled.compiling, "densities": densities}


def report(results: Mapping[str, Result], quick: bool) -> str:
    """Return the section of the page."""
    cases = ["200, 2, 2"] if quick else [SMALL, LARGE]
    return f"""
## Effective draws per second

{CHAINS} chains of {DRAWS:,} draws. Effective draws: the smallest bulk ESS among sorted weights, the
log density at 20 rows, and the weights, means and scales of components matched to the truth's;
medians of the seeds. Seconds are those of tuning and sampling, without imports and compiling; for
bayesgmm they include climbing to the mode from the start and the curvature there, and from its own
start the whole search for modes. "Dense" is a dense mass matrix after 300 tuning draws. "By hand"
means that the density is not the library's own mixture but products of matrices and a logsumexp,
written for this comparison; PyMC's is sampled with low-rank adaptation and 300 tuning draws. Stan's
other program is that of its user's guide. Memory is that of the process, with all it imports.

![Effective draws per second](images/performance-sampling.svg)
{"".join(_of_case(case, results) for case in cases)}"""


def headline(results: Mapping[str, Result]) -> str:
    """Return the section in a sentence."""
    cases = [case for case in ("200, 2, 2", SMALL, LARGE) if _name(case, *BASE, "truth") in results]
    told = " ".join(f"at ({c}) {_aims(c, results) or 'not measured.'}" for c in cases)
    return f"**Effective draws per second**, sampling alone: {told.strip()}"


def _of_case(case: str, results: Mapping[str, Result]) -> str:
    rows = []
    for program, variant in _variants():
        for start, told in STARTS.items():
            name = _name(case, program, variant, start)
            if name in results:
                base = results[_name(case, *BASE, start)]
                figures = _figures(results[name], base)
                rows.append(f"| {_label(program, variant)} | {told} | {figures}")
    return f"""
### (N, D, K) = ({case})

| program | start | ESS | seconds | ESS per second | bayesgmm is faster by | gradients a draw | R-hat | compiling | memory |
|---|---|---|---|---|---|---|---|---|---|
{chr(10).join(rows)}

Effective draws per second {_aims(case, results) or "not measured. "}{_same_posterior(case, results)}
"""  # noqa: E501


def _label(program: str, variant: str) -> str:
    return str(import_module(f"benchmarks.programs.{program}").VARIANTS[variant])


def _figures(result: Result, base: Result) -> str:
    if not result:
        return f"not measured: {result.missing} |{EMPTY}"
    runs = result["runs"]
    ess, seconds, rate, gradients = (
        middle([run[name] for run in runs]) for name in ("ess", "seconds", "rate", "gradients")
    )
    ratio = f"{_rate(base) / rate:,.1f}" if base else ""
    r_hat = max(run["r_hat"] for run in runs)
    return (
        f"{ess:,.0f} | {duration(seconds)} | {rate:,.0f} | {ratio} | {gradients:.1f} | "
        f"{r_hat:.3f} | {duration(result['compiling'])} | {result.peak / 2**20:,.0f} MiB |"
    )


def _rate(result: Result) -> float:
    return middle([run["rate"] for run in result["runs"]])


def _from_truth(case: str, results: Mapping[str, Result]) -> dict[tuple[str, str], Result]:
    """Return what was measured of every program from the truth."""
    found = {key: results.get(_name(case, *key, "truth")) for key in _variants()}
    return {key: result for key, result in found.items() if result}


def _aims(case: str, results: Mapping[str, Result]) -> str:
    """Return in words how much faster than groups of peers, from the same start."""
    measured = _from_truth(case, results)
    if BASE not in measured:
        return ""
    ours = _rate(measured.pop(BASE))
    groups = {
        "the best of the libraries' own mixtures": [k for k in measured if k[1] != "by hand"],
        "the better of PyMC + nutpie and Stan by default": [
            k for k in measured if k[0] in ("pymc_programs", "stan_programs") and k[1] == "defaults"
        ],
        "the best density written by hand": [k for k in measured if k[1] == "by hand"],
    }
    told = [
        f"{ours / max(_rate(measured[key]) for key in keys):,.0f} times {name}"
        for name, keys in groups.items()
        if keys
    ]
    return f"from the truth: {', '.join(told)}. " if told else ""


def _same_posterior(case: str, results: Mapping[str, Result]) -> str:
    """Return in words how far the programs' densities and posterior means differ from ours."""
    measured = _from_truth(case, results)
    if BASE not in measured or len(measured) < 2:
        return ""
    base = measured.pop(BASE)
    spread = max(_disagreement(result, base) for result in measured.values())
    gap = max(_gap(result, base) for result in measured.values())
    agree = "agree" if spread < AGREES else "DISAGREE"
    return (
        f"The log densities of all programs {agree} with bayesgmm's up to a constant, to "
        f"{spread:.0e} nats at five random points. Posterior means differ from bayesgmm's by at "
        f"most {gap:.1f} standard errors, among {len(base['runs'][0]['mean'])} quantities of each "
        f"of {len(measured)} programs."
    )


def _gap(result: Result, base: Result) -> float:
    """Return the largest difference of posterior means, in their standard errors."""
    one, other = result["runs"][0], base["runs"][0]
    columns = zip(one["mean"], other["mean"], one["error"], other["error"], strict=True)
    return max(abs(a - b) / (s**2 + t**2) ** 0.5 for a, b, s, t in columns)


def _disagreement(result: Result, base: Result) -> float:
    """Return the range of the difference of log densities."""
    gaps = [a - b for a, b in zip(result["densities"], base["densities"], strict=True)]
    return max(gaps) - min(gaps)


def plots(results: Mapping[str, Result], folder: Path) -> None:
    """Draw the rates of all programs from the truth."""
    from benchmarks.drawing import axes, save

    figure, axis = axes(height=3.4)
    cases = dict.fromkeys(name.split(" ours")[0] for name in results if " ours" in name)
    labels = [_label(*key) for key in reversed(_variants())]
    for case, marker in zip(cases, "os", strict=False):
        rates = {_label(*k): _rate(v) for k, v in _from_truth(case, results).items()}
        places = [labels.index(label) for label in rates]
        axis.plot(list(rates.values()), places, marker, label=f"(N, D, K) = ({case})")
    axis.set(xscale="log", xlabel="effective draws per second")
    axis.set_yticks(range(len(labels)), labels)
    axis.grid(axis="y", color="0.9")
    figure.legend(frameon=False, loc="outside lower center", ncols=2)
    save(figure, folder / "performance-sampling.svg")
