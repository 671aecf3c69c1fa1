"""Fits made of random numbers: everything a tree holds, without fitting."""

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names, tree
from bayesgmm.data import center_and_unit, prepare
from bayesgmm.mixture import GaussianMixture


def random_parameters(
    rng: np.random.Generator, shape: tuple[int, ...], n_components: int, n_features: int
) -> dict[str, NDArray[np.float64]]:
    """Return parameters that a mixture could have, with `shape` in front."""
    scales = rng.uniform(0.5, 2.0, (*shape, n_components, n_features))
    square = rng.normal(size=(*shape, n_components, n_features, n_features))
    gram = square @ np.swapaxes(square, -1, -2) + np.eye(n_features)
    spread = np.sqrt(np.einsum("...ii->...i", gram))
    correlations = gram / (spread[..., :, None] * spread[..., None, :])
    return {
        names.WEIGHTS: rng.dirichlet(np.ones(n_components), shape),
        names.MEANS: rng.normal(size=(*shape, n_components, n_features)),
        names.SCALES: scales,
        names.CORRELATIONS: correlations,
        names.COVARIANCES: correlations * scales[..., :, None] * scales[..., None, :],
    }


def random_fit(
    X: Any,
    rng: np.random.Generator,
    *,
    n_components: int = 2,
    chains: int = 2,
    draws: int = 30,
    method: str = "nuts",
    **given: Any,
) -> xr.DataTree:
    """Return a tree as a fit would, of random draws; `given` replaces arguments of `build`."""
    data = prepare(X)
    specification = GaussianMixture(n_components)
    center, unit = center_and_unit(data.values, specification.structure.common_scale)
    sample = (chains, draws)
    modes = random_parameters(rng, (3,), n_components, data.n_features)
    arguments: dict[str, Any] = {
        "data": data,
        "specification": specification.resolve(data.values),
        "posterior": random_parameters(rng, sample, n_components, data.n_features),
        "sample_stats": {
            names.LP: rng.normal(size=sample),
            names.DIVERGING: rng.random(sample) < 0.1,
            names.N_STEPS: rng.integers(1, 10, sample),
        },
        "log_likelihood": rng.normal(-2.0, 0.2, (*sample, data.n_obs)),
        "center": center,
        "unit": unit,
        "alignment": {
            names.PERMUTATION: np.tile(np.arange(n_components), (*sample, 1)),
            names.MARGIN: rng.random(sample),
            "attrs": {names.METHOD: "ecr", "pivot_chain": 0, "pivot_draw": 3},
        },
        "modes": {
            names.OBJECTIVE: rng.normal(size=3),
            names.STARTS: np.array([5, 2, 1]),
            **{name: modes[name] for name in (names.WEIGHTS, names.MEANS, names.COVARIANCES)},
        },
        "optimization": None,
        "attrs": {
            names.METHOD: method,
            names.ENGINE: "fused",
            names.RANDOM_SEED: 2**62 + 1,
            "sampling_time": 0.1 + 0.2,
        },
    }
    return tree.build(**{**arguments, **given})


def assert_same(one: xr.DataTree, other: xr.DataTree) -> None:
    """Everything that can be told apart is the same: bits, dtypes, labels, attributes, order."""
    xr.testing.assert_identical(one, other)
    assert one.groups == other.groups
    for node in one.subtree:
        twin = other[node.path]
        assert list(node.variables) == list(twin.variables)
        assert_same_attrs(node.attrs, twin.attrs)
        for name, variable in node.variables.items():
            copy = twin.variables[name]
            assert variable.dtype == copy.dtype, name
            assert variable.dims == copy.dims
            assert_same_attrs(variable.attrs, copy.attrs)
            if variable.dtype.kind == "O":
                assert variable.values.tolist() == copy.values.tolist()
            else:
                assert variable.values.tobytes() == copy.values.tobytes(), name
        for name, index in node.indexes.items():
            assert index.dtype == twin.indexes[name].dtype, name


def assert_same_attrs(one: dict[Any, Any], other: dict[Any, Any]) -> None:
    assert list(one) == list(other)
    for key, value in one.items():
        assert type(value) is type(other[key]), key
        assert np.array_equal(value, other[key]), key
