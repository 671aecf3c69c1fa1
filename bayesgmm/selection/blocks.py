"""Fits of several numbers of components to rows in blocks, more than are read into memory."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np
import xarray as xr

from bayesgmm import names
from bayesgmm.chunked import Chunked, opened_blocks
from bayesgmm.errors import FitError
from bayesgmm.inference.assemble import Options
from bayesgmm.inference.fit import fit
from bayesgmm.inference.sweep import Candidate, Outcome
from bayesgmm.mixture import GaussianMixture

KNOWN: Final = ("bic", "aic")
"""Criteria that are sums over rows at one point."""


def gathered(X: Any, said: dict[str, Any], feature_dim: str | None) -> tuple[Any, dict[str, Any]]:
    """Return rows in blocks read into memory, with what is said of them, where they are few.

    That is 256 MiB at most.
    """
    import dask

    from bayesgmm.inference.blocks import is_small

    if not is_small(Chunked.of(X, "X", feature_dim)):
        return X, said
    found: tuple[Any, dict[str, Any]] = dask.compute(opened_blocks(X, "X", feature_dim), said)
    return found


def refuse_unknown(criteria: Sequence[str], given: Mapping[str, Any]) -> None:
    """Refuse criteria that look at rows by themselves, and arguments that say something of them.

    Parameters
    ----------
    criteria : sequence of str
    given : dict of str to object
        Arguments of `select` that are None where they were left out.
    """
    others = [name for name in criteria if name not in KNOWN]
    if others:
        raise ValueError(
            f"`criteria` must be among 'bic' and 'aic' where `X` is in blocks, more than 256 MiB "
            f"of rows, which fits do not keep; got {', '.join(map(repr, others))}. Write "
            f"criteria=['bic'], or select among some of the rows in memory."
        )
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"`{name}` must be left out where `X` is in blocks, more than 256 MiB of rows; "
                f"got an object of type {type(value).__name__}. Leave it out, or select among "
                f"some of the rows in memory."
            )


def outcomes_of_blocks(
    X: Any,
    specifications: Sequence[GaussianMixture],
    method: str,
    options: Options,
    feature_dim: str | None,
    progressbar: bool,
) -> Generator[Outcome]:
    """Yield how every fit ended, one after another: all of the cluster works on each."""
    asked = {**asdict(options), "feature_dim": feature_dim, "progressbar": progressbar}
    for specification in specifications:
        candidate = Candidate(specification.known_number, specification.covariance.structure)
        try:
            tree = _whole(fit(X, specification, method=method, **asked))
            top = _whole(fit(X, specification, method="ml", **asked))
        except FitError as error:
            yield Outcome(candidate, None, failure=str(error))
            continue
        yield Outcome(candidate, tree, _criteria(top))


def _whole(tree: xr.DataTree) -> xr.DataTree:
    """Return a fit that was not interrupted."""
    if tree.attrs.get(names.INTERRUPTED):
        raise KeyboardInterrupt
    return tree


def _criteria(top: xr.DataTree) -> dict[str, float]:
    """Return BIC and AIC, as `criteria.criteria_at` defines them, of a fit at the maximum."""
    p, n_rows = top.attrs["n_parameters"], top.attrs[names.N_ROWS]
    value = float(top[names.SAMPLE_STATS].dataset[names.LP].item())
    return {"bic": p * float(np.log(n_rows)) - 2.0 * value, "aic": 2.0 * p - 2.0 * value}
