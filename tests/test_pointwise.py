"""The log-likelihood in blocks of rows is the one that is stored with a fit, whole."""

import numpy as np
import pytest
import xarray as xr
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import bayesgmm as bg
from bayesgmm import names, pointwise
from bayesgmm.pointwise import log_likelihood_blocks
from tests.synthetic import random_fit


def gathered(tree: xr.DataTree) -> np.ndarray:
    """Return all blocks side by side, shape (draws, rows), which must follow one another."""
    blocks, reached = [], 0
    for rows, block in log_likelihood_blocks(tree):
        assert rows.start == reached
        assert block.shape[1] == rows.stop - rows.start
        assert block.flags.c_contiguous
        assert block.flags.writeable
        reached = rows.stop
        blocks.append(block)
    return np.concatenate(blocks, axis=1)


def test_blocks_are_the_densities_of_the_mixtures(rng: np.random.Generator) -> None:
    X = 40.0 + rng.normal(size=(9, 3)) * [0.01, 1.0, 300.0]
    tree = random_fit(X, rng, n_components=2, chains=2, draws=3)
    posterior = tree["posterior"].dataset.stack(sample=("chain", "draw"))
    expected = [
        logsumexp(
            [
                multivariate_normal(one["means"][k], one["covariances"][k]).logpdf(X)
                for k in range(2)
            ],
            axis=0,
            b=one["weights"].values[:, None],
        )
        for one in (posterior.isel(sample=s) for s in range(6))
    ]
    np.testing.assert_allclose(gathered(tree), expected, rtol=1e-9)


@pytest.mark.parametrize("rows_per_block", [1, 7, 80, 1000])
def test_blocks_of_any_size_are_what_a_fit_stores(
    rows_per_block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = bg.datasets.make_mixture(80, 2, 2, separation=4.0, random_seed=2)["X"]
    tree = bg.fit(X, 2, draws=30, tune=40, chains=2, random_seed=5, progressbar=False)
    stored = tree[names.LOG_LIKELIHOOD].dataset[names.X].values.reshape(60, 80)
    monkeypatch.setattr(pointwise, "BLOCK_BYTES", 8 * 60 * rows_per_block)
    del tree[names.LOG_LIKELIHOOD]
    np.testing.assert_allclose(gathered(tree), stored, rtol=1e-12)
    assert len(list(log_likelihood_blocks(tree))) == -(-80 // rows_per_block)
