"""Data and evaluation of PyMC's models, without compiling."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pymc as pm
import pytensor
from numpy.typing import NDArray
from pytensor.compile.mode import Mode

type Array = NDArray[np.float64]

PYTHON: Final = Mode(linker="py", optimizer=None)
"""PyTensor without compiling, and without rewriting what was written."""


def data_of(rng: np.random.Generator, n_features: int) -> Array:
    """Return rows whose features differ in location, scale and correlation."""
    square = rng.normal(size=(n_features, n_features)) + 2 * np.eye(n_features)
    return rng.normal(size=(20, n_features)) @ square * 10.0 ** np.arange(n_features) + 7.0


def value_of(variables: Any, model: pm.Model, parts: Mapping[str, Array]) -> Any:
    """Return the values of some variables of a model at an unconstrained point."""
    replaced = model.replace_rvs_by_values(list(variables))
    function = pytensor.function(model.value_vars, replaced, mode=PYTHON, on_unused_input="ignore")
    return function(*(parts[variable.name] for variable in model.value_vars))
