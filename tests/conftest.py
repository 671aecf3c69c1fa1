"""What every test has: seeded randomness, and Hypothesis without a clock."""

import numpy as np
import pytest
from hypothesis import settings

collect_ignore_glob = ["reference/make_*.py"]
"""Scripts that made stored references, some with packages that the tests do without."""

settings.register_profile("bayesgmm", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("bayesgmm")


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with the same seed in every test."""
    return np.random.default_rng(20261121)
