"""The number of components and the concentration given a partition, against plain sums."""

import itertools

import numpy as np
import pytest
from scipy.special import gammaln, logsumexp
from scipy.stats import f

from bayesgmm.component_prior import PriorOnComponents
from bayesgmm.inference.telescoping import component_prior
from bayesgmm.kernels.partitions import (
    draw_concentration,
    draw_n_components,
    log_partition,
    log_prior_concentration,
)

PRIORS = (
    PriorOnComponents(),
    PriorOnComponents(dynamic=False),
    PriorOnComponents("uniform", 12),
    PriorOnComponents("uniform", 12, dynamic=False),
    PriorOnComponents("poisson", 4.0, dynamic=False),
    PriorOnComponents("geometric", 0.05),
)
COUNTS = ([5], [1, 1], [1, 1, 1, 1, 1], [30, 2, 1], [100, 80, 60, 40])


@pytest.mark.parametrize("dynamic", [True, False])
def test_partitions_have_the_probability_of_all_their_allocations(dynamic: bool) -> None:
    n_rows, n_components, concentration = 4, 3, 1.7
    g = concentration / n_components if dynamic else concentration
    sums: dict[tuple[int, ...], float] = {}
    for labels in itertools.product(range(n_components), repeat=n_rows):
        counts = np.bincount(labels, minlength=n_components)
        log_p = gammaln(n_components * g) - gammaln(n_components * g + n_rows)
        log_p += (gammaln(counts + g) - gammaln(g)).sum()
        seen: dict[int, int] = {}
        partition = tuple(seen.setdefault(label, len(seen)) for label in labels)
        sums[partition] = sums.get(partition, 0.0) + np.exp(log_p)
    assert sum(sums.values()) == pytest.approx(1.0, rel=1e-12)
    for partition, p in sums.items():
        found = log_partition(n_components, concentration, np.bincount(partition), dynamic)
        assert np.exp(found) == pytest.approx(p, rel=1e-12)


@pytest.mark.parametrize("prior", PRIORS, ids=str)
@pytest.mark.parametrize("counts", COUNTS, ids=str)
@pytest.mark.parametrize("concentration", [0.01, 1.0, 30.0])
def test_numbers_are_quantiles_of_their_whole_distribution(
    prior: PriorOnComponents, counts: list[int], concentration: float
) -> None:
    kernel, of_number = component_prior(prior), prior.log_probabilities()
    numbers = np.arange(len(counts), len(of_number) + 1)
    log_p = np.array([
        of_number[k - 1] + log_partition(k, concentration, np.array(counts), prior.dynamic)
        for k in numbers
    ])  # fmt: skip
    cumulative = np.cumsum(np.exp(log_p - logsumexp(log_p)))
    for u in (0.0, 1e-9, 0.1, 0.37, 0.5, 0.9, 0.999, 1.0 - 1e-6):
        due = numbers[min(np.searchsorted(cumulative, u, side="right"), len(numbers) - 1)]
        assert draw_n_components(concentration, np.array(counts), kernel, u) == due


def test_the_prior_of_the_concentration_is_an_f_distribution_of_its_logarithm() -> None:
    values = np.array([0.01, 0.3, 1.0, 4.0, 50.0])
    due = f.logpdf(values, 6.0, 3.0) + np.log(values)
    found = [log_prior_concentration(value, np.array([6.0, 3.0])) for value in values]
    np.testing.assert_allclose(np.diff(found), np.diff(due), rtol=1e-12)


@pytest.mark.parametrize("step", [-1.0, 0.2, 3.0])
def test_metropolis_steps_are_taken_by_the_ratio_of_densities(step: float) -> None:
    prior = component_prior(PriorOnComponents())
    counts, old = np.array([9, 4, 1]), 1.3
    new = old * np.exp(step)

    def log_density(value: float) -> float:
        return (
            log_partition(5, value, counts, True) + f.logpdf(value, 6.0, 3.0) + np.log(value)
        )  # fmt: skip

    ratio = min(np.exp(log_density(new) - log_density(old)), 1.0)
    just_below, just_above = ratio * (1.0 - 1e-9), ratio * (1.0 + 1e-9)
    taken = draw_concentration(old, 5, counts, prior, step, just_below)
    assert taken == pytest.approx(new, rel=1e-15)
    if just_above < 1.0:
        assert draw_concentration(old, 5, counts, prior, step, just_above) == old
