"""Summaries of clusterings: one partition, the similarity matrix, alignment; over N and draws."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.runs import ONE_THREAD, Job, Result
from benchmarks.timing import duration, in_turn

SIZES = ((200, 1000, 4), (1000, 2000, 8), (1000, 8000, 8), (5000, 2000, 8), (20_000, 1000, 8))
"""Rows, draws, clusters."""
STATED = (1000, 2000, 8)
"""The size for which a time of R's salso is known."""
LOSSES = ("vi", "binder", "omari", "nvi", "id", "nid")
ALIGNED = ((1000, 2000), (10_000, 2000), (100_000, 2000))
"""Rows and draws of fits of three components in two dimensions."""
SALSO = {"partition": 1.4, "similarity": 0.2}
"""Seconds on one core of another machine, as told by others: not measured here."""


def jobs(quick: bool) -> list[Job]:
    """Return a job per size of labels, one for all losses, and one per size of fits."""
    sizes = ((200, 200, 4),) if quick else SIZES
    aligned = ((500, 100),) if quick else ALIGNED
    losses = (200, 200, 4) if quick else STATED
    return [
        *(
            Job(
                f"labels {n:,}, {s:,}, {k}", "clustering:summarise", {"n": n, "s": s, "k": k},
                300.0, ONE_THREAD,
            )
            for n, s, k in sizes
        ),
        Job("losses", "clustering:compare", dict(zip("nsk", losses, strict=True)), 300.0),
        *(
            Job(f"align {n:,}, {s:,}", "clustering:realign", {"n": n, "s": s}, 300.0)
            for n, s in aligned
        ),
    ]  # fmt: skip


def drawn_labels(n: int, s: int, k: int) -> NDArray[np.int64]:
    """Return s partitions around one of n rows into k clusters, each row astray at a rate of its
    own, one in seven on average, to a second cluster of its own.
    """
    rng = np.random.default_rng(1)
    middle, astray = rng.integers(0, k, n), rng.beta(0.5, 3.0, n)
    return np.where(rng.random((s, n)) < astray, (middle + 1) % k, middle)


def summarise(n: int, s: int, k: int) -> dict[str, Any]:
    """Return seconds of a partition, 16 runs, and of the similarity matrix, on one core."""
    import bayesgmm as bg
    from bayesgmm.kernels import threads

    threads.n_cores = lambda: 1
    labels = drawn_labels(n, s, k)
    best = bg.partition(labels[:10], n_runs=1, random_seed=1)  # kernels loaded
    rows = None if n <= 5000 else list(range(100))

    def search() -> None:
        nonlocal best
        best = bg.partition(labels, random_seed=1)

    calls = search, lambda: bg.similarity(labels, rows=rows)
    seconds = [in_turn([call], 0.5, fewest=3)[0] for call in calls]
    return {
        "partition": seconds[0],
        "similarity": seconds[1],
        "rows": n if rows is None else len(rows),
        "loss": best.attrs["expected_loss"],
        "clusters": best.attrs["n_clusters"],
        "hits": best.attrs["n_runs_at_best"],
    }


def compare(n: int, s: int, k: int) -> dict[str, dict[str, float]]:
    """Return seconds and expected losses by loss, beside the best of what was drawn."""
    import bayesgmm as bg
    from bayesgmm.clustering.allocations import label_draws
    from bayesgmm.kernels import partition_loss

    labels = label_draws(drawn_labels(n, s, k), function="partition")
    found = {}
    for loss in LOSSES:
        bg.partition(labels[:10], loss, n_runs=1, random_seed=1)
        (seconds,) = in_turn(
            [lambda loss=loss: bg.partition(labels, loss, random_seed=1)], 0.5, fewest=3
        )
        best = bg.partition(labels, loss, random_seed=1)
        drawn = partition_loss.expected_losses(
            labels.values, labels.values[:: max(1, s // 200)], partition_loss.LOSSES[loss]
        )
        found[loss] = {
            "seconds": seconds, "loss": best.attrs["expected_loss"], "drawn": float(drawn.min()),
            "clusters": best.attrs["n_clusters"], "hits": best.attrs["n_runs_at_best"],
        }  # fmt: skip
    return found


def realign(n: int, s: int) -> dict[str, float]:
    """Return seconds of aligning the draws of a fit anew."""
    import bayesgmm as bg
    from benchmarks.cases import many_rows

    tree = bg.fit(
        many_rows(n, 2, 3), 3, method="laplace", draws=s // 4, random_seed=1, progressbar=False
    )
    raw = bg.align(tree, "none")
    (seconds,) = in_turn([lambda: bg.align(raw)], 0.5, fewest=3)
    return {"align": seconds, "draws": raw.posterior.sizes["draw"] * raw.posterior.sizes["chain"]}


def headline(results: Mapping[str, Result]) -> str:
    """Return the section in a sentence."""
    result = results.get("labels {:,}, {:,}, {}".format(*STATED))
    if not result:
        return "**Clusterings**: not measured."
    return (
        f"**Clusterings**: one partition of 1,000 rows from 2,000 draws, 16 runs on one core, in "
        f"{duration(result['partition'])}, their similarity matrix in "
        f"{duration(result['similarity'])}."
    )


def report(results: Mapping[str, Result], quick: bool) -> str:
    """Return the section of the page."""
    labels, align, losses = [], [], []
    for name, result in results.items():
        kind, _, what = name.partition(" ")
        if kind == "labels":
            labels.append(f"| {what} | {_labels_line(result)}")
        elif kind == "align":
            told = duration(result["align"]) if result else f"not measured: {result.missing}"
            align.append(f"| {what} | {told} |")
        elif result:
            losses += [f"| {loss} | {_loss_line(one)}" for loss, one in result.value.items()]
        else:
            losses.append(f"| all | not measured: {result.missing} | | | | |")
    return f"""
## Clusterings

`partition` (variation of information, 16 runs and those from good starts) and `similarity` of
labels, one core; each row strays to a second cluster at a rate of its own. R's salso could not be
installed here: others tell {SALSO["partition"]} s for 16 runs and {SALSO["similarity"]} s for the
matrix at N = 1,000, 2,000 draws and 8 clusters, on one core of their machine.

| N, draws, clusters | partition | similarity | expected loss, bits | clusters found | runs that found it |
|---|---|---|---|---|---|
{chr(10).join(labels)}

Every loss, at {"a small size" if quick else "N = 1,000, 2,000 draws and 8 clusters"}, as many
threads as there are cores; the loss beside that of the best of some 200 draws:

| loss | partition | expected loss | best draw | clusters found | runs that found it |
|---|---|---|---|---|---|
{chr(10).join(losses)}

`align`, by Stephens' rule, of fits with D = 2 and K = 3:

| N, draws | seconds |
|---|---|
{chr(10).join(align)}
"""  # noqa: E501


def _labels_line(result: Result) -> str:
    if not result:
        return f"not measured: {result.missing} | | | | |"
    part = "" if result["rows"] > 100 else f" ({result['rows']} rows)"
    return (
        f"{duration(result['partition'])} | {duration(result['similarity'])}{part} | "
        f"{result['loss']:.4f} | {result['clusters']} | {result['hits']} of 16 |"
    )


def _loss_line(one: Mapping[str, float]) -> str:
    return (
        f"{duration(one['seconds'])} | {one['loss']:.5f} | {one['drawn']:.5f} | "
        f"{one['clusters']} | {one['hits']} of 16 |"
    )
