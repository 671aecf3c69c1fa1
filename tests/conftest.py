"""What every test has: seeded randomness, and Hypothesis without a clock."""

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("bayesgmm", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("bayesgmm")


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with the same seed in every test."""
    return np.random.default_rng(20261121)
