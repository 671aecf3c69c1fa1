"""Write `sklearn_modes.json`: maximum likelihood by scikit-learn, the best of 50 starts.

Run it from the root of the repository, with the `bench` extra installed:

    python -m tests.reference.make_sklearn_modes

It takes about three minutes.

Starts are half k-means and half random rows, seeds 0 to 49; each runs with scikit-learn's default
regularisation first, then without, to a gain of 1e-10 per row and iteration. Beside every
log-likelihood stand the numbers that show whether it means something: the fewest effective rows
of a component, and the smallest variance of a component along any direction of the standardised
features.
"""

import json
import warnings
from pathlib import Path

import numpy as np
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from tests.reference.modes import CASES, values_of

STARTS = 50


def fits(X: np.ndarray, n_components: int, structure: str) -> list[dict[str, float]]:
    """Return the distinct solutions, best first; starts that failed are left out."""
    found = []
    for seed in range(STARTS):
        options = {"covariance_type": structure, "tol": 1e-10, "max_iter": 5000}
        rough = GaussianMixture(
            n_components,
            init_params="kmeans" if seed % 2 else "random_from_data",
            random_state=seed,
            **options,
        ).fit(X)
        model = GaussianMixture(
            n_components,
            reg_covar=0.0,
            weights_init=rough.weights_,
            means_init=rough.means_,
            precisions_init=rough.precisions_,
            **options,
        )
        try:
            model.fit(X)
        except ValueError:  # a covariance became singular
            continue
        covariances = model.covariances_
        if structure == "tied":
            covariances = covariances[None]
        if structure in ("diag", "spherical"):
            covariances = np.array([np.eye(X.shape[1]) * variances for variances in covariances])
        least = np.linalg.eigvalsh(covariances / np.outer(X.std(axis=0), X.std(axis=0))).min()
        found.append({
            "log_likelihood": float(model.score_samples(X).sum()),
            "fewest_rows": float(model.weights_.min() * len(X)),
            "smallest_variance": float(least),
            "seed": seed,
        })  # fmt: skip
    distinct: list[dict[str, float]] = []
    for fit in sorted(found, key=lambda fit: -fit["log_likelihood"]):
        if not distinct or distinct[-1]["log_likelihood"] - fit["log_likelihood"] > 1e-4:
            distinct.append({**fit, "starts": 0})
        distinct[-1]["starts"] += 1
    return distinct


def main() -> None:
    results = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for name, (_, n_components, structure) in CASES.items():
            found = fits(values_of(name), n_components, structure)
            ended = sum(fit["starts"] for fit in found)
            results[name] = {"failed": STARTS - ended, "best": found[:3]}
    text = {"scikit-learn": sklearn.__version__, "results": results}
    Path(__file__).with_name("sklearn_modes.json").write_text(json.dumps(text, indent=1) + "\n")


if __name__ == "__main__":
    main()
