"""PSIS leave-one-out against the real thing: the model refitted without each row."""

import numpy as np
import pytest

import bayesgmm as bg


@pytest.mark.parametrize("n_components", [1, 2])
def test_loo_is_close_to_refitting_without_each_row(n_components: int) -> None:
    X = bg.datasets.load_faithful().to_numpy()[:20]
    # numbers, so that the priors do not change with the rows
    spec = bg.GaussianMixture(
        n_components,
        weights=bg.Dirichlet(5.0),
        means=bg.NormalMeans((3.5, 70.0), (1.5, 15.0)),
        covariance=bg.LKJCovariance(scale=(1.0, 10.0), structure="tied", floor=0.0),
    )
    tree = bg.fit(X, spec, draws=2000, random_seed=1, progressbar=False)
    assert bg.check(tree).ok
    exact = 0.0
    for i in range(len(X)):
        without = bg.fit(
            np.delete(X, i, axis=0), spec, draws=1000, random_seed=i, progressbar=False
        )
        exact += bg.score_samples(without, X[[i]]).item()
    assert abs(bg.loo(tree).elpd - exact) < 0.3
