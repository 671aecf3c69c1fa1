"""Detection of anomalies, side by side: the table of docs/outliers.md.

Run by itself: ``python -m benchmarks.anomalies``; it takes some minutes. Half of the normal rows
are fitted; the other half and anomalies, one row in ten, are scored. The number of components is
the one with the best log density of left-out fifths by scikit-learn, for both programs.
"""

import time
import warnings
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

N_SPLITS = 6
SHARE = 0.1
"""Of anomalies among the rows that are scored."""
MOST_COMPONENTS = 5
SAMPLES = 20_000
"""That the distribution of scikit-learn's densities is taken from."""
RATES = (0.01, 0.05)
"""Of false alarms that are asked for."""
METHODS = ("bayesgmm, NUTS", "bayesgmm, MAP", "GaussianMixture", "IsolationForest")


def tables() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return rows, and which of them are normal."""
    from sklearn import datasets

    import bayesgmm as bg

    made = bg.datasets.make_mixture(240, 3, 5, random_seed=1)["X"].values
    strange = np.random.default_rng(1).uniform(made.min(axis=0), made.max(axis=0), (60, 5))
    wine, cancer, digits = (
        load(return_X_y=True)
        for load in (datasets.load_wine, datasets.load_breast_cancer, datasets.load_digits)
    )
    return {
        "simulated": (np.concatenate([made, strange]), np.arange(300) < 240),
        "wine": (wine[0], wine[1] != 0),  # the first cultivar of three is unknown
        "breast cancer": (cancer[0][:, :10], cancer[1] == 1),  # benign; means of ten features
        "digits": (digits[0], digits[1] < 3),  # the digits from 3 on are unknown
    }


def split(X: np.ndarray, normal: np.ndarray, seed: int) -> tuple[np.ndarray, ...]:
    """Return rows to fit, rows to score, and which of these are anomalies."""
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(seed)
    known = rng.permutation(np.flatnonzero(normal))
    train, held = np.array_split(known, 2)
    n_strange = round(len(held) * SHARE / (1.0 - SHARE))
    strange = rng.permutation(np.flatnonzero(~normal))[:n_strange]
    scored = np.concatenate([held, strange])
    rows = X
    if X.shape[1] > 13:  # pixels
        rows = PCA(5, random_state=0).fit(X[train]).transform(X)
    center, unit = rows[train].mean(axis=0), rows[train].std(axis=0)
    rows = (rows - center) / unit
    return rows[train], rows[scored], np.repeat([False, True], [len(held), n_strange])


def scores(train: np.ndarray, scored: np.ndarray, seed: int) -> tuple[list[Any], list[float], int]:
    """Return the scores by each method, less for stranger rows, seconds, and K."""
    from sklearn.ensemble import IsolationForest
    from sklearn.mixture import GaussianMixture
    from sklearn.model_selection import cross_val_score

    import bayesgmm as bg

    fits = [GaussianMixture(k, n_init=2, random_state=seed) for k in range(1, MOST_COMPONENTS + 1)]
    k = 1 + int(np.argmax([cross_val_score(fit, train, cv=5).mean() for fit in fits]))
    found, seconds = [], []
    for method in ("nuts", "map"):
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of chains that disagree: their average is used
            tree = bg.fit(
                train, k, method=method, random_seed=seed,
                **({"draws": 250} if method == "nuts" else {}), progressbar=False,
            )  # fmt: skip
        found.append(bg.outlier_score(tree, scored, random_seed=seed)["score"].values)
        seconds.append(time.perf_counter() - start)
    start = time.perf_counter()
    plain = GaussianMixture(k, n_init=5, random_state=seed).fit(train)
    made = np.sort(plain.score_samples(plain.sample(SAMPLES)[0]))
    # the density breaks ties of the share, which is 0 of all anomalies far out
    density = plain.score_samples(scored)
    found.append((np.searchsorted(made, density) + 1e-9 * np.exp(density)) / SAMPLES)
    seconds.append(time.perf_counter() - start)
    start = time.perf_counter()
    found.append(IsolationForest(random_state=seed).fit(train).score_samples(scored))
    seconds.append(time.perf_counter() - start)
    return [*found, density], seconds, k


def measured(X: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Return average precision and false alarms (splits, methods, 1 + rates), seconds, and K."""
    from sklearn.metrics import average_precision_score

    results, spent, numbers = [], [], []
    for seed in range(N_SPLITS):
        train, scored, strange = split(X, normal, seed)
        found, seconds, k = scores(train, scored, seed)
        density = found.pop()
        ranks = [*found[:2], density, found[3]]
        results.append(
            [
                [
                    average_precision_score(strange, -rank),
                    *((values[~strange] <= rate).mean() for rate in RATES),
                ]
                for rank, values in zip(ranks, found, strict=True)
            ]
        )
        spent.append(seconds)
        numbers.append(k)
    return np.array(results), np.array(spent), numbers


def main() -> None:
    print("| data | method | average precision | "
          + " | ".join(f"alarms at {rate:.0%}" for rate in RATES) + " | seconds |")  # fmt: skip
    print("|---|---|---|" + "---|" * len(RATES) + "---|")
    for name, (X, normal) in tables().items():
        results, spent, numbers = measured(X, normal)
        mean, error = results.mean(axis=0), results.std(axis=0, ddof=1) / np.sqrt(N_SPLITS)
        for j, method in enumerate(METHODS):
            alarms = [f"{mean[j, 1 + i]:.1%}" for i in range(len(RATES))]
            if method == "IsolationForest":
                alarms = ["-" for _ in RATES]
            what = f"{name}, K = {min(numbers)} to {max(numbers)}" if j == 0 else ""
            precision = f"{mean[j, 0]:.3f} ± {error[j, 0]:.3f}"
            cells = [what, method, precision, *alarms, f"{spent[:, j].mean():.2f}"]
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    with threadpool_limits(1):  # so small matrices are fastest
        main()
