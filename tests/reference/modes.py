"""Data sets on which maximum likelihood is known from elsewhere, and the values."""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np

from bayesgmm import datasets

SIMULATED: Final = {
    "simulated apart": {"n_obs": 300, "n_components": 3, "n_features": 2, "separation": 6.0},
    "simulated near": {"n_obs": 400, "n_components": 4, "n_features": 3, "separation": 3.0},
    "simulated wide": {"n_obs": 500, "n_components": 5, "n_features": 6, "separation": 4.0},
}

CASES: Final[dict[str, tuple[str, int, str]]] = {
    "faithful 2": ("faithful", 2, "full"),
    "faithful 3": ("faithful", 3, "full"),
    "faithful 3 tied": ("faithful", 3, "tied"),
    "faithful 2 diag": ("faithful", 2, "diag"),
    "iris 2": ("iris", 2, "full"),
    "iris 3": ("iris", 3, "full"),
    "iris 3 spherical": ("iris", 3, "spherical"),
    **{name: (name, options["n_components"], "full") for name, options in SIMULATED.items()},
}
"""Name: data set, number of components, structure."""

MCLUST: Final = {
    "faithful 2": -1130.264,
    "faithful 3 tied": -1126.326,
    "iris 2": -214.3547,
    "iris 3": -180.185,
}
"""Log-likelihoods that `Mclust` prints (mclust 5: models VVV and EEE), Scrucca, Fop, Murphy &
Raftery (2016), mclust 5, The R Journal 8. doi:10.32614/RJ-2016-021"""


def values_of(name: str) -> np.ndarray:
    """Return the rows of a case, shape (n_obs, n_features)."""
    source = CASES[name][0]
    if source in SIMULATED:
        made = datasets.make_mixture(**SIMULATED[source], random_seed=11)  # type: ignore[arg-type]
        return made["X"].values
    frame = {"faithful": datasets.load_faithful, "iris": datasets.load_iris}[source]()
    return frame.select_dtypes("number").to_numpy(dtype=float)


def sklearn_best(name: str) -> list[dict[str, Any]]:
    """Return the best solutions that scikit-learn found; see `make_sklearn_modes`."""
    text = Path(__file__).with_name("sklearn_modes.json").read_text(encoding="utf-8")
    best: list[dict[str, Any]] = json.loads(text)["results"][name]["best"]
    return best
