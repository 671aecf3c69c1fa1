"""Pictures without a display, none of them left open."""

from collections.abc import Iterator

import matplotlib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib import pyplot

from tests.synthetic import random_fit, random_parameters


@pytest.fixture(autouse=True)
def no_display() -> Iterator[None]:
    """Draw into memory; a plot that changes the settings of matplotlib fails."""
    with matplotlib.rc_context({"backend": "agg"}):
        before = dict(matplotlib.rcParams)
        yield
        assert dict(matplotlib.rcParams) == before
        pyplot.close("all")


@pytest.fixture
def frame(rng: np.random.Generator) -> pd.DataFrame:
    """Rows with names and units."""
    frame = pd.DataFrame(rng.normal(size=(60, 2)), columns=["length", "width"])
    frame.index = pd.Index([f"bird {i}" for i in range(60)])
    frame.attrs["units"] = "mm"
    return frame


@pytest.fixture
def tree(frame: pd.DataFrame, rng: np.random.Generator) -> xr.DataTree:
    """Three components, some apart and some not, and 60 draws around one mixture."""
    draws = random_parameters(rng, (2, 30), 3, 2)
    draws["means"] = np.array([[-1.0, 0.0], [1.0, 0.5], [1.0, -1.0]]) + 0.1 * draws["means"]
    draws["scales"] = 0.4 + 0.05 * draws["scales"]
    draws["correlations"] = 0.1 * draws["correlations"] + 0.9 * np.eye(2)
    scales = draws["scales"]
    draws["covariances"] = draws["correlations"] * scales[..., :, None] * scales[..., None, :]
    draws["weights"] = rng.dirichlet([30.0, 20.0, 10.0], (2, 30))
    return random_fit(frame, rng, n_components=3, posterior=draws)
