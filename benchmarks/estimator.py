"""Maximum likelihood through the estimator, against scikit-learn's, each from as many starts."""

import statistics
import warnings
from collections.abc import Mapping, Sequence

from benchmarks.em import COMPONENTS, FEATURES, ROWS, THREADS
from benchmarks.runs import Job, Result
from benchmarks.timing import duration, in_turn, once

STARTS = 20
"""Of a fit by bayesgmm."""
LONG = 1e7
"""Products of rows, squared features and components from which scikit-learn makes one start."""


def jobs(quick: bool) -> list[Job]:
    """Return a job per number of rows, features and threads."""
    rows, features, components = (ROWS, FEATURES, COMPONENTS)
    if quick:
        rows, features, components = ROWS[:1], (2, 5), (2, 4)
    return [
        Job(
            f"{n} {d} {name}",
            "estimator:measure",
            {"n": n, "d": d, "components": components},
            1800.0,
            environment,
        )
        for n in rows
        for d in features
        for name, environment in THREADS.items()
    ]


def measure(n: int, d: int, components: list[int]) -> dict[str, dict[str, float]]:
    """Return the seconds of a fit of each, and by how much ours has the larger likelihood."""
    cells = {str(k): _cell(n, d, k) for k in components}
    return {k: cell for k, cell in cells.items() if cell}


def _cell(n: int, d: int, k: int) -> dict[str, float]:
    from sklearn.mixture import GaussianMixture

    from bayesgmm.errors import FitError
    from bayesgmm.estimator import GaussianMixtureEstimator
    from benchmarks.cases import many_rows

    warnings.simplefilter("ignore")
    values = many_rows(n, d, k)
    starts = STARTS if n * d**2 * k < LONG else 1
    ours = GaussianMixtureEstimator(k, method="ml", random_state=1)
    peer = GaussianMixture(k, n_init=starts, random_state=1)
    for model in (ours, peer):
        model.set_params(n_components=1).fit(values[:1000]).set_params(n_components=k)
    try:
        seconds = once(lambda: ours.fit(values))
    except FitError:  # there is no maximum
        return {}
    if seconds < 1.0:
        (seconds,) = in_turn([lambda: ours.fit(values)], 0.1, fewest=3)
    return {
        "ours": seconds,
        "scikit-learn": once(lambda: peer.fit(values)) * STARTS / starts,
        "gain": n * (ours.score(values) - peer.score(values)),
    }


def report(results: Mapping[str, Result], quick: bool) -> str:
    """Return the section of the page."""
    lines = [
        f"| {n:,} | {d} | {k} | {duration(ours)} | {duration(peer)} | {peer / ours:.1f} | "
        f"{gain:.1f} |"
        for (n, d, k), (ours, peer, gain) in _cells(results).items()
    ]
    missing = [f"{name}: not measured, {r.missing}." for name, r in results.items() if not r]
    return f"""
## Maximum likelihood through the estimator

`GaussianMixtureEstimator(K, method="ml").fit(X)` and `GaussianMixture(K, n_init={STARTS}).fit(X)`:
{STARTS} starts of each, with full covariances and the threads that suit them, one or all. Where
that takes long scikit-learn makes one, and its time is multiplied: one start, its default, takes
a twentieth of the time given. bayesgmm stops when a pass gains less than 1e-3 nats, and after the
last start 1e-9; scikit-learn at 1e-3 nats for every row. The gain is how much larger bayesgmm's
log-likelihood is, in nats. Left out are sizes at which every start of bayesgmm ends in a component
that collapses onto a few rows: there is no maximum, and scikit-learn finds what `reg_covar` makes.

{chr(10).join(_told(results, [n]) for n in ROWS)}

| N | D | K | bayesgmm | scikit-learn | ratio | gain |
|---|---|---|---|---|---|---|
{chr(10).join(lines)}

{" ".join(missing)}"""


def headline(results: Mapping[str, Result]) -> str:
    """Return the section in a sentence."""
    return f"**EM through the estimator**, {STARTS} starts of each: {_told(results, ROWS)}"


def _cells(results: Mapping[str, Result]) -> dict[tuple[int, int, int], tuple[float, float, float]]:
    """Return the seconds of both and the gain by size, each tool with its best threads."""
    found: dict[tuple[int, int, int], list[dict[str, float]]] = {}
    for name, result in results.items():
        n, d = name.split()[:2]
        for k, cell in result.value.items() if result else ():
            found.setdefault((int(n), int(d), int(k)), []).append(cell)
    return {
        size: (
            min(cell["ours"] for cell in cells),
            min(cell["scikit-learn"] for cell in cells),
            min(cell["gain"] for cell in cells),
        )
        for size, cells in found.items()
    }


def _told(results: Mapping[str, Result], rows: Sequence[int]) -> str:
    """Return in words how the tools compare over numbers of rows."""
    ratios = [peer / ours for (n, *_), (ours, peer, _) in _cells(results).items() if n in rows]
    where = " and ".join(f"{n:,}" for n in rows)
    if not ratios:
        return f"N = {where}: not measured."
    return (
        f"N = {where}: scikit-learn takes {statistics.median(ratios):.1f} times as long at the "
        f"median of the grid, {min(ratios):.1f} at the least and {max(ratios):.0f} at the most."
    )
