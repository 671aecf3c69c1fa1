"""Whether fits, or results of leaving rows out, may be set side by side."""

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from bayesgmm import names
from bayesgmm.crossvalidation import DATA, terms_of
from bayesgmm.known_labels import told
from bayesgmm.sample_weights import one_each
from bayesgmm.tree import noisy, require
from bayesgmm.tree.rows import observed

if TYPE_CHECKING:
    from arviz_stats.utils import ELPDData

KINDS: Final = {"loo": "leave-one-out", "waic": "WAIC", "loo_kfold": "k-fold cross-validation"}
"""What results are, by their kinds."""


def check_comparable(fits: Any) -> None:
    """Refuse anything but two or more fits, or results, of the same data and of one kind.

    Parameters
    ----------
    fits : object
        What the user passed to `compare` as ``trees``.
    """
    if not isinstance(fits, Mapping) or isinstance(fits, xr.DataTree):
        raise TypeError(
            f"`trees` must be a dict of fits by name; got an object of type "
            f"{type(fits).__name__}. Write compare({{'two': tree_2, 'three': tree_3}})."
        )
    for name, fit in fits.items():
        if not isinstance(name, str):
            raise TypeError(
                f"`trees` must have names that are strings; got {name!r} of type "
                f"{type(name).__name__}. Write {str(name)!r}."
            )
        _check_one(name, fit)
    if len(fits) < 2:
        raise ValueError(
            f"`trees` must hold at least two fits; got {len(fits)}. "
            f"To judge a single one use bayesgmm.loo."
        )
    first, *others = fits
    for other in others:
        difference = _first_difference(fits[first], fits[other])
        if difference:
            raise ValueError(
                f"`trees` must be fits of the same data; got {first!r} and {other!r}, which "
                f"differ: {difference}. Fit both to the same rows and columns, in the same order."
            )
    for one, other in pairwise(fits):
        _check_kinds(one, fits[one], other, fits[other])


def is_result(fit: Any) -> bool:
    """Return whether this is what `loo`, `waic`, `reloo` or `kfold` return."""
    from bayesgmm.elpd import arviz_classes

    return isinstance(fit, arviz_classes().ELPDData)


def _check_one(name: str, fit: Any) -> None:
    """Refuse anything but a fit, or a result with its terms."""
    if not is_result(fit):
        require(fit, names.OBSERVED_DATA, function="compare", argument=f"trees[{name!r}]")
        return
    if fit.kind not in KINDS or fit.elpd_i is None or fit.elpd_i.dims != (names.OBS,):
        raise ValueError(
            f"`trees[{name!r}]` must be what bayesgmm.loo, waic, reloo or kfold returned, with "
            f"its terms `elpd_i`; got a result {fit.kind!r} without them. Leave `pointwise` True."
        )


def _check_kinds(one: str, a: Any, other: str, b: Any) -> None:
    """Refuse results that leave different rows out."""
    kinds = [KINDS[fit.kind if is_result(fit) else "loo"] for fit in (a, b)]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"`trees` must be judged by one kind of prediction; got {kinds[0]} of {one!r} and "
            f"{kinds[1]} of {other!r}. Give results of one function, or the fits for leave-one-out."
        )
    if not (is_result(a) and is_result(b) and names.FOLD in a.elpd_i.coords):
        return
    if not np.array_equal(a.elpd_i[names.FOLD].values, b.elpd_i[names.FOLD].values):
        raise ValueError(
            f"`trees` must have been left out in the same folds; got others of {one!r} than of "
            f"{other!r}. Give bayesgmm.kfold the same `random_seed`, or the folds themselves."
        )


def _first_difference(one: Any, other: Any) -> str:
    """Return the first difference between the data of fits or results; an empty string if none."""
    if is_result(one) or is_result(other):
        return _first_difference_of_terms(_terms(one), _terms(other))
    return difference_of_data(one, other)


def _terms(fit: "xr.DataTree | ELPDData") -> xr.DataArray:
    """Return the terms of a result; of a fit something with the same labels and attribute."""
    if isinstance(fit, xr.DataTree):
        return terms_of(np.zeros(fit[names.OBSERVED_DATA].sizes[names.OBS]), fit)
    terms: xr.DataArray = fit.elpd_i
    return terms


def _first_difference_of_terms(a: xr.DataArray, b: xr.DataArray) -> str:
    """Return the first difference between labels, or that numbers differ."""
    difference = _first_difference_along(names.OBS, a, b)
    told = {a.attrs.get(DATA), b.attrs.get(DATA)} - {None}  # ArviZ's own results have none
    return difference or ("numbers in the rows" if len(told) > 1 else "")


def difference_of_data(one: xr.DataTree, other: xr.DataTree) -> str:
    """Return the first difference between the rows of fits, and what was said of them.

    An empty string if there is none.
    """
    a, b = (tree[names.OBSERVED_DATA].dataset[names.X] for tree in (one, other))
    for dim in (names.OBS, names.FEATURE):
        difference = _first_difference_along(dim, a, b)
        if difference:
            return difference
    mine, theirs, n_obs = observed(one), observed(other), a.sizes[names.OBS]
    if not np.array_equal(one_each(mine.weights, n_obs), one_each(theirs.weights, n_obs)):
        return "the weights of rows"
    labels = [
        told(said.allowed, n_obs, noise=noisy(tree))
        for tree, said in ((one, mine), (other, theirs))
    ]
    if not np.array_equal(labels[0], labels[1]):
        return "the labels of rows that are known"
    errors = [np.zeros(1) if said.errors is None else said.errors for said in (mine, theirs)]
    if not np.array_equal(errors[0], errors[1]):
        return "the measurement errors"
    unequal = (a.values != b.values) & ~(np.isnan(a.values) & np.isnan(b.values))
    if not unequal.any():
        return ""
    i, j = divmod(int(unequal.argmax()), a.sizes[names.FEATURE])
    row, column = a.indexes[names.OBS].tolist()[i], a.indexes[names.FEATURE].tolist()[j]
    return f"{a.values[i, j]} and {b.values[i, j]} at row {row!r}, column {column!r}"


def _first_difference_along(dim: str, a: xr.DataArray, b: xr.DataArray) -> str:
    """Return the first difference between labels along a dimension."""
    if a.sizes[dim] != b.sizes[dim]:
        return f"{a.sizes[dim]} and {b.sizes[dim]} along {dim!r}"
    if a.indexes[dim].equals(b.indexes[dim]):
        return ""
    pairs = list(zip(a.indexes[dim].tolist(), b.indexes[dim].tolist(), strict=True))
    place = next((i for i, pair in enumerate(pairs) if pair[0] != pair[1]), 0)
    return "{!r} and {!r} at place {} along {!r}".format(*pairs[place], place, dim)
