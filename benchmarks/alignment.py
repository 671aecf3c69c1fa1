"""Ways to undo label switching, side by side: the tables of docs/alignment.md.

Run by itself: ``python -m benchmarks.alignment``; it takes a minute or two.
"""

import time
import warnings
from typing import Any

import numpy as np

METHODS = ("stephens", "ecr", "ecr_iterative", "parameters")
SEEDS = (1, 2, 3)
CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "separated, K = 3": (3, {"n_components": 3, "separation": 5.0}),
    "overlapping, K = 3": (3, {"n_components": 3, "separation": 1.5}),
    "unequal, K = 3": (
        3, {"n_components": 3, "separation": 2.0, "weights": [0.8, 0.15, 0.05]}
    ),
    "K = 4 of 2 clusters": (4, {"n_components": 2, "separation": 4.0}),
    "K = 10": (10, {"n_components": 10, "separation": 3.0}),
}  # fmt: skip
"""Components fitted, and what `make_mixture` is given."""
SIZES = (
    (1_000, 2, 3, 4_000), (1_000, 2, 3, 40_000), (10_000, 2, 3, 4_000), (10_000, 5, 10, 4_000),
    (100_000, 2, 3, 4_000),
)  # fmt: skip
"""Rows, features, components and draws."""


def compared(case: str, method: str) -> list[list[float]]:
    """Return, for each of some data sets and every way to align, what came of it.

    Costs per draw in nats, planted permutations recovered, and seconds of processor time.
    """
    import bayesgmm as bg

    n_components, given = CASES[case]
    n_rows = 100 * given["n_components"]
    found = []
    for seed in SEEDS:
        X = bg.datasets.make_mixture(n_rows, n_features=2, random_seed=seed, **given)["X"]
        tree = bg.fit(X, n_components, method=method, random_seed=1, progressbar=False)
        wrong, planted = _planted(bg.align(tree, "none"), n_components)
        found.append([value for way in METHODS for value in _tried(wrong, planted, way)])
    return found


def _planted(raw: Any, n_components: int) -> tuple[Any, np.ndarray]:
    """Return draws with the components of each permuted at random, and the permutations."""
    shape = raw["alignment"]["permutation"].shape
    rng = np.random.default_rng(5)
    planted = rng.permuted(np.broadcast_to(np.arange(n_components), shape), axis=-1)
    wrong = raw.copy(deep=True)
    for variable in wrong["posterior"].data_vars.values():
        rest = (1,) * (variable.ndim - 3)
        index = planted.reshape(*shape, *rest)
        variable.values[:] = np.take_along_axis(variable.values, index, axis=2)
    return wrong, planted


def _tried(wrong: Any, planted: np.ndarray, way: str) -> tuple[float, float, float]:
    import bayesgmm as bg

    seconds = []
    for _ in range(3):
        start = time.process_time()
        aligned = bg.align(wrong, way)
        seconds.append(time.process_time() - start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bg.IdentifiabilityWarning)
        cost = bg.alignment_report(aligned).attrs["stephens_cost"] / planted[..., 0].size
    permutation = aligned["alignment"]["permutation"].values
    undone = np.take_along_axis(planted, permutation, axis=-1).reshape(-1, planted.shape[-1])
    most = np.unique(undone, axis=0, return_counts=True)[1].max()
    return cost, most / len(undone), min(seconds)


def timed(n_rows: int, n_features: int, n_components: int, n_draws: int) -> list[float]:
    """Return seconds that draws around a mixture take, by each way."""
    from bayesgmm.kernels.matching import match_draws

    rng = np.random.default_rng(1)
    means = 3.0 * rng.normal(size=(n_components, n_features))
    rows = (
        means[rng.integers(n_components, size=n_rows)] + rng.normal(size=(n_rows, n_features))
    ).T
    noise = rng.normal(size=(n_draws, n_components, n_features)) / np.sqrt(n_rows / n_components)
    weights = np.full((n_draws, n_components), -np.log(n_components))
    unit = np.broadcast_to(np.eye(n_features), (*noise.shape, n_features)).copy()
    draws = (weights, means + noise, unit)
    seconds = []
    for way in METHODS:
        start = time.perf_counter()
        match_draws(np.ascontiguousarray(rows), draws, 0, way)
        seconds.append(time.perf_counter() - start)
    return seconds


def subsampled() -> list[tuple[int, float, float]]:
    """Return, for several numbers of rows, draws named otherwise than by all, and their margin."""
    import bayesgmm as bg
    from bayesgmm.kernels import matching
    from bayesgmm.prediction import mixtures

    X = bg.datasets.make_mixture(20_000, 4, 2, separation=1.5, random_seed=2)["X"]
    raw = bg.align(bg.fit(X, 5, draws=250, random_seed=1, progressbar=False), "none")
    draws = mixtures(raw)
    rows = draws.rows(X.values)
    found, usual = [], matching.MATCHED_ROWS
    for n_rows in (20_000, 10_000, 5_000, 2_000, 1_000, 500):
        matching.MATCHED_ROWS = n_rows
        permutation, margin = matching.match_draws(rows, draws[:3], 0, "stephens")
        if n_rows == 20_000:
            every, clear = permutation, margin
        other = (permutation != every).any(axis=1)
        found.append((n_rows, other.mean(), clear[other].max(initial=0.0)))
    matching.MATCHED_ROWS = usual
    return found


def _row(*cells: object) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |")


def main() -> None:
    for method in ("laplace", "nuts"):
        _row(method, *(f"`{way}`" for way in METHODS))
        _row("---", *("---" for _ in METHODS))
        for case in CASES:
            of_case = np.mean(compared(case, method), axis=0).reshape(-1, 3)
            _row(
                case,
                *(  # the draws of NUTS switch labels by themselves: nobody knows the right ones
                    f"{share:.2%}" if method == "laplace" else f"{cost:.2f}, {1e3 * used:.0f} ms"
                    for cost, share, used in of_case
                ),
            )
        print()
    timed(100, 2, 2, 10)
    _row("rows, features, components, draws", *(f"`{way}`" for way in METHODS))
    _row("---", *("---" for _ in METHODS))
    for size in SIZES:
        _row(size, *(f"{seconds:.2f} s" for seconds in timed(*size)))
    print()
    for n_rows, share, margin in subsampled():
        _row(f"{n_rows:,}", f"{share:.2%}", f"{margin:.4f}")


if __name__ == "__main__":
    main()
