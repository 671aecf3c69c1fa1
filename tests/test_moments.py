"""Standard deviations in blocks are those of all rows at once."""

import numpy as np
import pytest

from bayesgmm import moments
from bayesgmm.moments import standard_deviation


@pytest.mark.parametrize("block", [1, 7, 100, 10**6])
def test_blocks_give_the_standard_deviation(
    block: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moments, "BLOCK", block)
    values = rng.normal(size=(100, 3)) * [1e-3, 1.0, 1e6]
    for center in (values[0], values.max(axis=0), np.zeros(3)):
        np.testing.assert_allclose(
            standard_deviation(values, center), values.std(axis=0), rtol=1e-12
        )


def test_an_offset_costs_no_digits(rng: np.random.Generator) -> None:
    noise = rng.integers(-50, 50, size=(1000, 2)) / 64.0  # exact beside the offset
    offset = np.array([2.0**40, -(2.0**30)])
    np.testing.assert_allclose(
        standard_deviation(noise + offset, offset + 0.5), noise.std(axis=0), rtol=1e-14
    )
