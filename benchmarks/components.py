"""How often each criterion finds the number of components, where it is known."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.runs import Job, Result

TRUE, MOST = 3, 6
"""Components of the data, and the most that are fitted."""
N_OBS, N_FEATURES, REPLICATES = 200, 2, 30
DRAWS = 250
"""Of each of four chains."""
CASES: dict[str, dict[str, Any]] = {
    "separated": {"separation": 5.0},
    "overlapping": {"separation": 2.5},
    "unequal": {"separation": 4.0, "weights": [0.7, 0.2, 0.1]},
}
"""What `make_mixture` is given."""
CRITERIA = ("loo", "waic", "evidence", "bic", "aic", "icl")
NAMES = {
    "loo": "LOO",
    "waic": "WAIC",
    "evidence": "evidence",
    "bic": "BIC",
    "aic": "AIC",
    "icl": "ICL",
    "recommended": "`select`, which LOO decides, with the check",
    "number": "prior on K: most probable K",
    "clusters": "prior on K: most probable number of clusters",
}


def jobs(quick: bool) -> list[Job]:
    """Return a job for every kind of data."""
    replicates, most = (2, TRUE + 1) if quick else (REPLICATES, MOST)
    return [
        Job(case, "components:found", {"case": case, "replicates": replicates, "most": most}, 900.0)
        for case in CASES
    ]


def found(case: str, replicates: int, most: int) -> dict[str, list[list[int]]]:
    """Return what each criterion takes, and what is best by it, for every replicate."""
    import bayesgmm as bg

    answers: dict[str, list[list[int]]] = {name: [] for name in NAMES}
    for seed in range(replicates):
        data = bg.datasets.make_mixture(
            N_OBS, TRUE, N_FEATURES, random_seed=seed, **CASES[case]
        )  # fmt: skip
        for name, both in _answers(data["X"], seed, most).items():
            answers[name].append(both)
    return answers


def _answers(X: Any, seed: int, most: int) -> dict[str, list[int]]:
    """Return for some data what each criterion takes, and what is best by it."""
    import bayesgmm as bg
    from bayesgmm.selection.criteria import CRITERIA as OURS
    from bayesgmm.selection.criteria import ranked

    selection = bg.select(
        X, range(1, most + 1), criteria=CRITERIA, draws=DRAWS, keep="none", random_seed=seed,
        progressbar=False,
    )  # fmt: skip
    answers = {
        name: [taken.n_components, int(ranked(selection.table, OURS[name]).index[0][0])]
        for name, taken in selection.answers.items()
    }
    answers["recommended"] = [selection.recommended.n_components, selection.best.n_components]
    tree = bg.fit(
        X, bg.GaussianMixture(bg.PriorOnComponents()), draws=DRAWS, random_seed=seed,
        progressbar=False,
    )  # fmt: skip
    for name, variable in (("number", "n_components"), ("clusters", "n_clusters")):
        mode = int(np.bincount(tree.posterior[variable].values.ravel()).argmax())
        answers[name] = [mode, mode]
    return answers


def headline(results: Mapping[str, Result]) -> str:
    """Return the section in a sentence."""
    known = {case: result for case, result in results.items() if result}
    if not known:
        return "**The number of components**: not measured."
    told = ", ".join(
        f"{NAMES[name]} {_times([one for result in known.values() for one in result[name]], 0)}"
        for name in ("loo", "evidence", "bic", "icl", "clusters")
    )
    return f"**The number of components**, where it is {TRUE}, is found: {told}."


def report(results: Mapping[str, Result], quick: bool) -> str:
    """Return the section of the page."""
    most = TRUE + 1 if quick else MOST
    rows = []
    for name, words in NAMES.items():
        cells = [_cell(results.get(case), name) for case in CASES]
        rows.append(f"| {words} | {' | '.join(cells)} |")
    kinds = {
        case: f"{case}: closest means {given['separation']:g} standard deviations apart"
        + (f", weights {given['weights']}" if "weights" in given else "")
        for case, given in CASES.items()
    }
    return f"""
## The number of components

`make_mixture` with {TRUE} components of any covariances, N = {N_OBS}, D = {N_FEATURES};
{"; ".join(kinds.values())}. `select` over 1 to {most} components, four chains of
{DRAWS} draws, and a fit with a prior on K, all with default priors. How often each takes {TRUE},
and in brackets how often fewer and more; after the comma how often {TRUE} is its best, without the
rule that of fits that cannot be told apart the simpler is taken.

| criterion | {" | ".join(CASES)} |
|---|{"---|" * len(CASES)}
{chr(10).join(rows)}

Of {2 if quick else REPLICATES} data sets of each kind. They are mixtures of Gaussians: where
clusters are not, all but ICL take more components than there are clusters.
"""


def _cell(result: Result | None, name: str) -> str:
    if not result:
        return "not measured" if result is None else f"not measured: {result.missing}"
    both = result[name]
    taken = np.array([one[0] for one in both])
    told = f"{_times(both, 0)} ({(taken < TRUE).sum()}, {(taken > TRUE).sum()})"
    return told if name in ("recommended", "number", "clusters") else f"{told}, {_times(both, 1)}"


def _times(both: list[list[int]], which: int) -> str:
    """Return how often the number is found: taken, or best."""
    return f"{sum(one[which] == TRUE for one in both)} of {len(both)}"
