"""Fits of several numbers of components averaged: one tree, of draws of all of them."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.alignment import align
from bayesgmm.clustering.occupancy import n_clusters
from bayesgmm.comparable import difference_of_data
from bayesgmm.comparison import compare
from bayesgmm.crossvalidation import check_draws
from bayesgmm.errors import check_choice, check_integer
from bayesgmm.evidence import log_evidence
from bayesgmm.mixture import GaussianMixture
from bayesgmm.model_probabilities import probabilities
from bayesgmm.tree import build, require, specification
from bayesgmm.tree.rows import fitted_data, observed

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]

METHOD: Final = "average"
WEIGHTINGS: Final = ("stacking", "evidence")
LABEL_BYTES: Final = 2**28
"""Memory for the labels of all rows, of some draws after the others."""
NEAR_ONE: Final = 1e-8
"""By which a sum of weights may differ from 1."""


def average(
    trees: Mapping[Any, xr.DataTree],
    weights: "str | Sequence[float] | Mapping[Any, float] | pd.Series" = "stacking",
    *,
    random_seed: int | None = None,
) -> xr.DataTree:
    r"""Average fits of the same data, of several numbers of components or structures.

    The predictive density is that of the fits, weighted:

    .. math:: p(x) = \sum_m w_m \, p(x \mid M_m, X)

    Parameters
    ----------
    trees : dict of DataTree
        Fits of the same data, with the same errors, weights and known labels, by any names;
        ``selection.fits``, say.
    weights : str, sequence or dict of float, default "stacking"
        ``"stacking"``: those with which the fits together predict rows left out best, of
        `compare`. ``"evidence"``: the posterior probabilities of the fits, all equally probable
        before. Or numbers, in the order of `trees` or by their names, such as
        ``selection.table["weight"]``: at least 0, with sum 1.
    random_seed : int, optional
        Of the evidence, and of the allocations that clusters are counted by.

    Returns
    -------
    DataTree
        A fit whose draws are those of the fits, each with its share of them, evenly spread. As
        where the number of components has a prior, ``n_components`` and ``n_clusters`` say what a
        draw has, and components beyond that have weight 0. Everything that takes a fit takes it:
        `score_samples` is the log of the averaged density, `density` has its uncertainty,
        `similarity` the averaged probability that two rows belong together. The attribute
        ``averaged`` holds the weights, in JSON.

    Raises
    ------
    TypeError, ValueError
        If `trees` is not a dict of fits of the same data with known numbers of components, or
        one has too few draws; or if there is not a weight for each, they are negative, or do not
        sum to 1.

    See Also
    --------
    compare : The weights by stacking.
    posterior_over_components : Those by evidence, with another prior.

    Notes
    -----
    Weights are met by counting draws, so each to within 1 / S, with S draws of all chains: as many
    as the fit with the fewest has, of those that have any weight.

    Stacking weighs densities for what they predict together, and is no probability of K: of two
    fits that predict alike one may get all the weight. With evidence the draws are of the
    posterior of all models at once. Check the fits, not their average; and score stacking by
    `compare`: the weights hang on the rows, which `loo` of an average would take for given.
    Components of an average are matched as those of draws are, and mean little where fits
    differ in them; clusters are better read from `partition`.

    O(S N K^2) operations, for the alignment of K components, the most of any.

    References
    ----------
    Hoeting, Madigan, Raftery & Volinsky (1999), Bayesian model averaging: a tutorial, Statistical
    Science 14. doi:10.1214/ss/1009212519

    Yao, Vehtari, Simpson & Gelman (2018), Using stacking to average Bayesian predictive
    distributions, Bayesian Analysis 13. doi:10.1214/17-BA1091

    Examples
    --------
    >>> import bayesgmm as bg
    >>> X = bg.datasets.load_faithful()
    >>> fits = {k: bg.fit(X, k, draws=100, chains=2, random_seed=1) for k in (1, 2)}
    >>> averaged = bg.average(fits, [0.25, 0.75])
    >>> averaged.posterior["n_components"].values.mean()
    np.float64(1.75)
    """
    _check_trees(trees)
    if random_seed is not None:
        check_integer(random_seed, "random_seed", 0, "Give an integer such as 1, or None.")
    shares = _weights(trees, weights, random_seed)
    used = [(tree, share) for tree, share in zip(trees.values(), shares, strict=True) if share]
    posteriors = [tree[names.POSTERIOR].dataset for tree, _ in used]
    n_chains, n_draws = (
        min(posterior.sizes[dim] for posterior in posteriors) for dim in (names.CHAIN, names.DRAW)
    )
    which = _apportioned(np.array([share for _, share in used]), n_chains, n_draws)
    arrays, lp = _picked([tree for tree, _ in used], which)
    largest = max((tree for tree, _ in used), key=_number)
    n_components = _number(largest)
    result = build(
        data=fitted_data(largest),
        specification=_specification([tree for tree, _ in used], largest),
        posterior=arrays,
        sample_stats={names.LP: lp},
        log_likelihood=None,
        center=largest[names.CONSTANT_DATA].dataset[names.CENTER].values,
        unit=largest[names.CONSTANT_DATA].dataset[names.UNIT].values,
        alignment={
            names.PERMUTATION: np.tile(np.arange(n_components), (n_chains, n_draws, 1)),
            names.MARGIN: np.ones((n_chains, n_draws)),
            "attrs": {names.METHOD: "none"},
        },
        modes=None,
        optimization=None,
        attrs={
            names.METHOD: METHOD,
            names.ENGINE: largest.attrs[names.ENGINE],
            names.AVERAGED: json.dumps(
                {_name(key): float(share) for key, share in zip(trees, shares, strict=True)}
            ),
        },
    )
    posterior = result[names.POSTERIOR].to_dataset()
    occupied = _occupied(result, random_seed)
    posterior[names.N_CLUSTERS] = ((names.CHAIN, names.DRAW), occupied)
    result[names.POSTERIOR] = xr.DataTree(posterior)
    return align(result)


def _number(tree: xr.DataTree) -> int:
    """Return the number of components."""
    return int(tree[names.POSTERIOR].sizes[names.COMPONENT])


def _name(key: Any) -> str:
    """Return what a fit is called, as text."""
    return ", ".join(map(str, key)) if isinstance(key, tuple) else str(key)


def _check_trees(trees: Any) -> None:
    """Refuse anything but fits of the same data."""
    if not isinstance(trees, Mapping) or isinstance(trees, xr.DataTree):
        raise TypeError(
            f"`trees` must be a dict of fits; got an object of type {type(trees).__name__}. Write "
            f"{{2: tree_2, 3: tree_3}}."
        )
    if not trees:
        raise ValueError("`trees` must hold at least one fit; got none. Pass selection.fits.")
    first = next(iter(trees))
    for key, tree in trees.items():
        argument = f"trees[{key!r}]"
        check_draws(tree, argument, METHOD)
        groups = (names.SAMPLE_STATS, names.CONSTANT_DATA, names.OBSERVED_DATA)
        require(tree, *groups, function=METHOD, argument=argument)
        if names.LOADINGS in tree[names.POSTERIOR].dataset:
            raise ValueError(
                f"`{argument}` must not have a FactorCovariance, whose draws are not averaged; got "
                f"one. Average what fits predict: `score_samples` of each."
            )
        if names.N_COMPONENTS in tree[names.POSTERIOR].dataset:
            raise ValueError(
                f"`{argument}` must have a known number of components; got a fit in which it "
                f"varies, an average already. Leave it out, or use it alone."
            )
        difference = difference_of_data(trees[first], tree)
        if difference:
            raise ValueError(
                f"`trees` must be fits of the same data; got {first!r} and {key!r}, whose rows "
                f"differ: {difference}. Fit both to the same rows and columns, in the same order."
            )
    _check_boxes(trees)


def _check_boxes(trees: Mapping[Any, xr.DataTree]) -> None:
    """Refuse fits with background noise in different boxes, which have no common density."""
    boxes = {key: one for key in trees if (one := specification(trees[key]).noise) is not None}
    without = next((key for key in trees if key not in boxes), None)
    if boxes and without is not None and observed(trees[without]).allowed is not None:
        raise ValueError(
            f"`trees` must all have background noise or none where labels of rows are known, which "
            f"may name it; got none for {without!r}. Leave one kind out."
        )
    for first, key in pairwise(boxes):
        one, other = boxes[first], boxes[key]
        if (one.low, one.high) != (other.low, other.high):
            raise ValueError(
                f"`trees` must have background noise in the same box, where they have any; got "
                f"{one!r} for {first!r} and {other!r} for {key!r}. Give both the same `low` and "
                f"`high`."
            )


def _weights(trees: Mapping[Any, xr.DataTree], weights: Any, random_seed: int | None) -> Array:
    """Return the weight of every fit, in their order."""
    if isinstance(weights, str):
        check_choice(weights, "weights", WEIGHTINGS)
        if len(trees) == 1:
            return np.ones(1)
        if weights == "stacking":
            found = compare({f"{i}": tree for i, tree in enumerate(trees.values())})["weight"]
            return _normalised(np.array([found[f"{i}"] for i in range(len(trees))]))
        evidences = [log_evidence(tree, random_seed=random_seed) for tree in trees.values()]
        values = np.array([one.value for one in evidences])
        errors = np.array([one.error for one in evidences])
        return _normalised(probabilities(values, errors, np.full(len(trees), 1.0 / len(trees)))[0])
    if isinstance(weights, Mapping | pd.Series):
        by_name = dict(weights.items())
        missing = next((key for key in trees if key not in by_name), None)
        if missing is not None:
            raise ValueError(
                f"`weights` must have one for every fit; got none for {missing!r}. Give 0 to what "
                f"is not to count."
            )
        weights = [by_name[key] for key in trees]
    shares = np.asarray(weights)
    if shares.dtype.kind not in "iuf" or shares.shape != (len(trees),):
        raise ValueError(
            f"`weights` must hold a number for each of {len(trees)} fits; got shape "
            f"{shares.shape} of {shares.dtype}. Write [0.4, 0.6], or 'stacking'."
        )
    if not (shares >= 0.0).all():
        wrong = int((~(shares >= 0.0)).argmax())
        raise ValueError(
            f"`weights` must be at least 0; got {shares[wrong]} for {list(trees)[wrong]!r}. Give 0 "
            f"to what is not to count."
        )
    if abs(shares.sum() - 1.0) > NEAR_ONE:
        raise ValueError(
            f"`weights` must sum to 1; got {shares.sum():.6g}. Divide them by their sum."
        )
    return _normalised(shares.astype(float))


def _normalised(shares: Array) -> Array:
    """Return weights that sum to 1 to rounding."""
    return np.asarray(shares / shares.sum())


def _apportioned(shares: Array, n_chains: int, n_draws: int) -> Labels:
    """Return which fit every draw is from, shape (chains, draws), evenly mixed in every chain."""
    slots = (np.arange(n_chains * n_draws) + 0.5) / (n_chains * n_draws)
    found = np.minimum(np.searchsorted(np.cumsum(shares), slots), len(shares) - 1)
    which = found.reshape(n_draws, n_chains).T
    for row in which:
        counts = np.bincount(row, minlength=len(shares))
        places = np.concatenate([(np.arange(n) + 0.5) / max(n, 1) for n in counts.tolist()])
        row[:] = row[np.argsort(places, kind="stable")]
    return which


def _picked(trees: list[xr.DataTree], which: Labels) -> tuple[dict[str, NDArray[Any]], Array]:
    """Return the parameters of the draws, the fit of each given (chains, draws), and their lp."""
    n_components = max(_number(tree) for tree in trees)
    datasets = [tree[names.POSTERIOR].dataset for tree in trees]
    sample = (names.CHAIN, names.DRAW)
    arrays: dict[str, NDArray[Any]] = {names.N_COMPONENTS: np.empty(which.shape, dtype=np.int64)}
    for name, dims in names.PARAMETER_DIMS.items():
        further = [datasets[0].sizes[dim] for dim in dims[1:]]
        arrays[name] = np.empty((*which.shape, n_components, *further))
    if any(names.NOISE_WEIGHT in posterior for posterior in datasets):
        arrays[names.NOISE_WEIGHT] = np.zeros(which.shape)
    lp = np.empty(which.shape)
    for number, (tree, posterior) in enumerate(zip(trees, datasets, strict=True)):
        k = _number(tree)
        filled = np.arange(n_components) % k  # of weight 0, but nothing is missing or infinite
        stats = tree[names.SAMPLE_STATS].dataset[names.LP].transpose(*sample).values
        for chain, row in enumerate(which):
            mine = np.flatnonzero(row == number)
            share = (np.arange(len(mine)) + 0.5) / max(len(mine), 1)
            draws = (share * stats.shape[1]).astype(np.int64)
            for name, dims in names.PARAMETER_DIMS.items():
                values = posterior[name].transpose(*sample, *dims).values[chain, draws]
                arrays[name][chain, mine] = values[:, filled]
            arrays[names.WEIGHTS][chain, mine, k:] = 0.0
            if names.NOISE_WEIGHT in posterior:
                of_noise = posterior[names.NOISE_WEIGHT].transpose(*sample).values
                arrays[names.NOISE_WEIGHT][chain, mine] = of_noise[chain, draws]
            arrays[names.N_COMPONENTS][chain, mine] = k
            lp[chain, mine] = stats[chain, draws]
    return arrays, lp


def _occupied(tree: xr.DataTree, random_seed: int | None) -> Labels:
    """Return how many components hold a row in every draw, shape (chains, draws)."""
    n_chains, n_draws = (tree[names.POSTERIOR].sizes[dim] for dim in (names.CHAIN, names.DRAW))
    size = 4 * n_chains * tree[names.OBSERVED_DATA].sizes[names.OBS]
    starts = range(0, n_draws, max(1, LABEL_BYTES // size))
    seeds = np.random.SeedSequence(random_seed).generate_state(len(starts)).tolist()
    parts = [
        n_clusters(tree.isel({names.DRAW: slice(start, start + starts.step)}), random_seed=seed)
        for start, seed in zip(starts, seeds, strict=True)
    ]
    found = [part[names.OCCUPIED].values.reshape(n_chains, -1) for part in parts]
    return np.concatenate(found, axis=1)


def _specification(trees: list[xr.DataTree], largest: xr.DataTree) -> GaussianMixture:
    """Return the specification of the most components, with noise where any fit has it.

    Where fits differ in what components share nothing is shared.
    """
    every = [specification(tree) for tree in trees]
    noise = next((one.noise for one in every if one.noise is not None), None)
    found = dataclasses.replace(specification(largest), noise=noise)
    structures = {one.covariance.structure for one in every}
    if len(structures) == 1:
        return found
    return dataclasses.replace(
        found, covariance=dataclasses.replace(found.covariance, structure="full")
    )
