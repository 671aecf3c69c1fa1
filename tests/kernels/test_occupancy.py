"""The number of occupied components against sums over all allocations, and simulation."""

import itertools

import numpy as np
import pytest
from scipy.special import betaln, gammaln

from bayesgmm.kernels.occupancy import add_of_dirichlet, add_of_sticks

ROWS, COMPONENTS = 6, 4


@pytest.mark.parametrize("concentration", [0.01, 0.7, 25.0])
@pytest.mark.parametrize("sticks", [True, False])
def test_all_allocations_are_counted(concentration: float, sticks: bool) -> None:
    due, mass = np.zeros(COMPONENTS), 0.4
    for labels in itertools.product(range(COMPONENTS), repeat=ROWS):
        rows = np.bincount(labels, minlength=COMPONENTS)
        if sticks:
            beyond = ROWS - np.cumsum(rows)[:-1]
            log_p = betaln(1.0 + rows[:-1], concentration + beyond) - betaln(1.0, concentration)
        else:
            total = COMPONENTS * concentration
            log_p = gammaln(rows + concentration) - gammaln(concentration)
            log_p = np.append(log_p, gammaln(total) - gammaln(total + ROWS))
        due[np.count_nonzero(rows) - 1] += mass * np.exp(log_p.sum())
    found = np.full(COMPONENTS, 0.1)
    add = add_of_sticks if sticks else add_of_dirichlet
    add(ROWS, COMPONENTS, concentration, mass, found)  # added to what is there
    np.testing.assert_allclose(found - 0.1, due, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("add", [add_of_dirichlet, add_of_sticks])
@pytest.mark.parametrize(("n_rows", "n_components"), [(1, 5), (3, 2), (2, 2), (400, 30)])
def test_probabilities_sum_to_one(add: object, n_rows: int, n_components: int) -> None:
    found = np.zeros(min(n_rows, n_components))
    add(n_rows, n_components, 1.5, 1.0, found)  # type: ignore[operator]
    assert found.sum() == pytest.approx(1.0, rel=1e-12)
    assert (found > 0.0).sum() > min(n_rows, n_components) // 2
