"""What every fit holds: groups, variables, dimensions, dtypes and labels; and what is wrong."""

import json
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import numpy as np
import xarray as xr

from bayesgmm import names
from bayesgmm.mixture import GaussianMixture, StudentTMixture

VERSION: Final = 1
"""Of the schema; a file of a later version is refused."""


class Due(NamedTuple):
    """The dimensions and the dtype of a variable."""

    dims: tuple[str, ...]
    dtype: str = "float64"


SAMPLE: Final = (names.CHAIN, names.DRAW)
PARAMETERS: Final = {name: Due((*SAMPLE, *dims)) for name, dims in names.PARAMETER_DIMS.items()}
TAILS: Final = {names.DF: Due((*SAMPLE, names.COMPONENT))}
"""What `PARAMETERS` are followed by where tails are heavy."""
BACKGROUND: Final = {names.NOISE_WEIGHT: Due(SAMPLE)}
"""What they are followed by where there is noise."""
FACTOR_PARAMETERS: Final = {name: Due((*SAMPLE, *dims)) for name, dims in names.FACTOR_DIMS.items()}
"""The same of factor analysers, whose covariance matrices are not stored."""
_OF_FACTORS: Final = {
    name: names.FACTOR_DIMS[name] for name in (names.NOISE_SCALES, names.LOADINGS)
}
_STATISTICS: Final = {
    names.COUNTS: Due((names.COMPONENT,)),
    **{name: Due(names.PARAMETER_DIMS[name]) for name in (names.MEANS, names.COVARIANCES)},
}
SCHEMA: Final[dict[str, dict[str, Due]]] = {
    names.POSTERIOR: PARAMETERS,
    names.SAMPLE_STATS: {names.LP: Due(SAMPLE)},
    names.LOG_LIKELIHOOD: {names.X: Due((*SAMPLE, names.OBS))},
    names.OBSERVED_DATA: {names.X: Due((names.OBS, names.FEATURE))},
    names.CONSTANT_DATA: {
        names.CENTER: Due((names.FEATURE,)),
        names.UNIT: Due((names.FEATURE,)),
    },
    names.ALIGNMENT: {
        names.PERMUTATION: Due((*SAMPLE, names.COMPONENT), "int64"),
        names.MARGIN: Due(SAMPLE),
    },
    names.MODES: {
        names.OBJECTIVE: Due((names.MODE,)),
        names.STARTS: Due((names.MODE,), "int64"),
        **{
            name: Due((names.MODE, *names.PARAMETER_DIMS[name]))
            for name in (names.WEIGHTS, names.MEANS, names.COVARIANCES)
        },
    },
    names.OPTIMIZATION: {
        names.ELBO: Due((names.ITERATION,)),
        names.ELBO_DRAWS: Due((names.ITERATION,), "int64"),
        names.ELBO_ROWS: Due((names.ITERATION,), "int64"),
    },
    names.SUFFICIENT_STATISTICS: {**_STATISTICS, names.N_TRACKS: Due((), "int64")},
    names.TRACKS: {
        names.STATUS: Due((names.TRACK,), "<U4"),
        names.EXPECTED_ROWS: Due((names.COMPONENT,)),
        names.VELOCITIES: Due((names.COMPONENT, names.FEATURE)),
    },
    names.ONLINE: {
        names.LOG_SCORE: Due((names.BATCH,)),
        names.N_ROWS: Due((names.BATCH,), "int64"),
        **_STATISTICS,
    },
}
"""Group -> variable -> what is due. Groups may hold other variables, and trees other groups."""

OPTIONAL: Final[dict[str, dict[str, Due]]] = {
    names.POSTERIOR: TAILS
    | BACKGROUND
    | {name: Due((*SAMPLE, *dims)) for name, dims in _OF_FACTORS.items()},
    names.MODES: {
        names.LOG_MASS: Due((names.MODE,)),
        names.DF: Due((names.MODE, names.COMPONENT)),
        names.NOISE_WEIGHT: Due((names.MODE,)),
        **{name: Due((names.MODE, *dims)) for name, dims in _OF_FACTORS.items()},
    },
    names.CONSTANT_DATA: {
        names.SAMPLE_WEIGHT: Due((names.OBS,)),
        names.ALLOWED: Due((names.OBS, names.COMPONENT)),
        names.NOISE_ALLOWED: Due((names.OBS,)),
    },
}
"""The same of variables that fits may have."""

REQUIRED: Final = (
    names.POSTERIOR, names.SAMPLE_STATS, names.OBSERVED_DATA, names.CONSTANT_DATA
)  # fmt: skip
"""Groups that no fit is without, but for those of `required`."""

ATTRIBUTES: Final = (names.SPECIFICATION, names.METHOD, names.ENGINE, names.CREATED_AT)
"""Attributes of the root that every fit has, besides the version of the schema."""

_AGAIN: Final = "Take the tree as bayesgmm.fit returned it, or fit again."


def first_fault(tree: xr.DataTree) -> str | None:
    """Return the first thing that is wrong with a tree, and the remedy; None if all is well.

    Parameters
    ----------
    tree : DataTree
        Any. The numbers in it are not looked at.

    Returns
    -------
    str or None
        A clause that completes "a DataTree ..." or "a file ...".
    """
    version = tree.attrs.get(names.SCHEMA_VERSION)
    if not isinstance(version, int | np.integer):
        missing = next((group for group in REQUIRED if group not in tree.children), None)
        if missing is not None:
            return f"without the group {missing!r}, not a fit. Pass one that bayesgmm.fit made."
        return f"without the attribute {names.SCHEMA_VERSION!r}, not a fit made by bayesgmm."
    if version > VERSION:
        return f"of schema {version}, where this bayesgmm knows {VERSION}. Upgrade bayesgmm."
    fault = next(_faults(tree), None)
    return None if fault is None else f"{fault}. {_AGAIN}"


def required(tree: xr.DataTree) -> list[str]:
    """Return the groups that a tree may not be without."""
    gone = rows_are_gone(tree)
    return [group for group in REQUIRED if not (gone and group == names.OBSERVED_DATA)]


def rows_are_gone(tree: xr.DataTree) -> bool:
    """Tell whether a fit did not keep its rows, of batches or of blocks, or follows from one."""
    return names.ONLINE in tree.children or not {names.DERIVED, names.N_BLOCKS}.isdisjoint(
        tree.attrs
    )


def _faults(tree: xr.DataTree) -> Iterator[str]:
    """Yield what is wrong with a tree that says it follows this schema."""
    for group in SCHEMA:
        if group in tree.children:
            yield from _faults_of_group(tree, group)
        elif group in required(tree):
            yield f"without the group {group!r}"
    for name in ATTRIBUTES:
        if name not in tree.attrs:
            yield f"without the attribute {name!r}"
    posterior = tree[names.POSTERIOR].to_dataset()
    square = names.LOADINGS not in posterior
    if square and not posterior.indexes[names.FEATURE].equals(posterior.indexes[names.FEATURE2]):
        yield f"whose labels of {names.FEATURE!r} and {names.FEATURE2!r} differ"
    try:
        fields = json.loads(tree.attrs[names.SPECIFICATION])
        fitted = GaussianMixture.from_dict(fields)
        expected = fitted.n_components
    except (ValueError, TypeError, LookupError) as error:
        yield f"whose attribute {names.SPECIFICATION!r} cannot be read ({error!r})"
        return
    if isinstance(fitted, StudentTMixture) != (names.DF in posterior):
        yield f"whose specification is a {type(fitted).__name__} " + (
            f"but which holds {names.DF!r}" if names.DF in posterior else f"without {names.DF!r}"
        )
    if (fitted.noise is not None) != (names.NOISE_WEIGHT in posterior):
        yield f"whose specification has noise {fitted.noise!r} " + (
            f"but which holds {names.NOISE_WEIGHT!r}"
            if names.NOISE_WEIGHT in posterior
            else f"without {names.NOISE_WEIGHT!r}"
        )
    if isinstance(expected, int) and expected != posterior.sizes[names.COMPONENT]:
        yield (
            f"of {posterior.sizes[names.COMPONENT]} components where its specification has "
            f"{expected}"
        )


def _faults_of_group(tree: xr.DataTree, group: str) -> Iterator[str]:
    """Yield what is wrong with one group: variables first, then labels."""
    dataset = tree[group].to_dataset()
    there = {
        name: due for name, due in OPTIONAL.get(group, {}).items() if name in dataset.data_vars
    }
    dues = SCHEMA[group] | there
    if names.LOADINGS in there:
        unstored = (names.CORRELATIONS, names.COVARIANCES)
        dues = {name: due for name, due in dues.items() if name not in unstored}
    for name, due in dues.items():
        if name not in dataset.data_vars:
            yield f"without the variable {name!r} in the group {group!r}"
            return
        got = dataset[name]
        if (got.dims, str(got.dtype)) != due:
            yield (
                f"with {name!r} in the group {group!r} of dimensions {got.dims} and dtype "
                f"{got.dtype}, where {due.dims} and {due.dtype} are due"
            )
            return
    dims = {dim: None for due in dues.values() for dim in due.dims}
    yield from (
        f"without labels of {dim!r} in the group {group!r}"
        for dim in dims
        if dim not in dataset.indexes
    )
    for dim, home in _homes(tree, dims).items():
        ours, theirs = dataset.indexes[dim], home.indexes[dim]
        if not ours.equals(theirs):
            yield (
                f"whose labels of {dim!r} in the group {group!r} are not those elsewhere: "
                f"{len(ours)}, {ours[:3].tolist()}... and {len(theirs)}, {theirs[:3].tolist()}..."
            )


def _homes(tree: xr.DataTree, dims: Mapping[str, None]) -> dict[str, xr.DataTree]:
    """Return for each dimension the group whose labels of it are the ones that count."""
    homes = {dim: names.POSTERIOR for dim in (*SAMPLE, names.COMPONENT, names.FEATURE2)}
    homes |= {dim: names.OBSERVED_DATA for dim in (names.OBS, names.FEATURE)}
    return {
        dim: tree.children[homes[dim]]
        for dim in dims
        if homes.get(dim) in tree.children and dim in tree.children[homes[dim]].indexes
    }
