"""Scores of fitted rows, each left out, where some of them are background noise."""

import numpy as np
import pytest
from scipy import stats

import bayesgmm as bg

pytestmark = pytest.mark.slow

LOW, HIGH = np.array([-10.0, -10.0]), np.array([15.0, 14.0])


def test_scores_of_fitted_rows_are_uniform() -> None:
    """Of noise too, whose density is the same everywhere in the box."""
    spec = bg.GaussianMixture(2, noise=bg.UniformNoise(low=tuple(LOW), high=tuple(HIGH)))
    every = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        n_noise = rng.binomial(200, 0.1)
        half = (200 - n_noise) // 2
        X = np.concatenate([
            rng.normal(size=(half, 2)),
            0.7 * rng.normal(size=(200 - n_noise - half, 2)) + [5.0, 4.0],
            rng.uniform(LOW, HIGH, (n_noise, 2)),
        ])  # fmt: skip
        tree = bg.fit(X, spec, draws=150, chains=2, random_seed=seed, progressbar=False)
        scores = bg.outlier_score(tree, random_seed=seed)["score"].values
        assert stats.kstest(scores, stats.uniform.cdf).pvalue > 1e-3
        every.append(scores)
    for rate in (0.01, 0.05, 0.1, 0.5):
        share = (np.concatenate(every) <= rate).mean()
        assert abs(share - rate) < 5.0 * np.sqrt(rate * (1.0 - rate) / 2400.0)
