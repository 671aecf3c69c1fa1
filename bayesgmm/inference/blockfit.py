"""Fits of rows that stay in blocks: on a cluster, on a disk, or in another process."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import dask
import numpy as np
import xarray as xr

from bayesgmm import names
from bayesgmm.blockwise import BlockProblem, RowlessProblem, rowless
from bayesgmm.chunked import Chunked, opened_blocks
from bayesgmm.chunked_rows import Source
from bayesgmm.component_prior import PriorOnComponents
from bayesgmm.data import SPREADS, Data, check_enough_rows, prepare
from bayesgmm.errors import FitError
from bayesgmm.inference.assemble import Draws, Options, assemble
from bayesgmm.inference.blocks import (
    ChangedError,
    Kept,
    Scheduler,
    active,
    computed,
    gather,
    is_small,
    refuse_strangers,
    tree_of,
)
from bayesgmm.inference.crew import helpers
from bayesgmm.inference.fit import LEARNING, at_work, provenance
from bayesgmm.inference.methods import RUNNERS, warn_interrupted
from bayesgmm.inference.nuts import to_draws
from bayesgmm.inference.progress import Progress
from bayesgmm.inference.spread import sample
from bayesgmm.inference.suited import refuse_unsuited
from bayesgmm.inference.survey import Survey, merged, survey
from bayesgmm.known_labels import with_labels
from bayesgmm.mixture import GaussianMixture, StudentTMixture
from bayesgmm.overfitted import SparseDirichlet, StickBreaking
from bayesgmm.priors import LKJCovariance
from bayesgmm.problem import Problem
from bayesgmm.sample_weights import refuse_few
from bayesgmm.tables import read
from bayesgmm.units import hint_at_units


def fit_blocks(
    X: Any,
    specification: GaussianMixture,
    options: Options,
    method: str,
    engine: str,
    *,
    feature_dim: str | None,
    said: Mapping[str, Any],
    progressbar: bool,
) -> xr.DataTree:
    """Return the fit of rows in blocks.

    Parameters
    ----------
    X : object
        What `chunked.is_chunked` tells to be in blocks.
    specification : GaussianMixture
    options : Options
    method, engine : str
    feature_dim : str or None
        Of a cube, the dimension of its features.
    said : dict of str to object
        Arguments that say something of every row, None where they do not.
    progressbar : bool
    """
    _refuse(specification, method, engine)
    scheduler, client = active()
    if client is not None:
        refuse_strangers(client)
    table = Chunked.of(X, "X", feature_dim)
    features = read(table.template, "X", table.along).features
    source = Source.of(table, features, said, specification.known_number)
    began = time.perf_counter()
    with at_work(progressbar) as progress:
        problem: RowlessProblem
        if client is not None and method == "nuts" and is_small(table):
            progress.update(f"Reading {table.n_rows:,} rows in {len(table.blocks)} blocks")
            (given,) = dask.compute({"X": opened_blocks(X, "X", feature_dim), **said})
            problem, drawn = _by_chains(
                given, specification, options, client, progress, feature_dim=feature_dim
            )
            n_rows = problem.data.n_obs
        else:
            try:
                progress.update(f"Looking at {table.n_rows:,} rows in {len(table.blocks)} blocks")
                seen, sample = _surveyed(source, specification, options, scheduler)
                progress.update("Packing the blocks")
                recipe = replace(sample, data=rowless(sample.data), flat=np.empty(0))
                blocks = gather(source, recipe, seen.sums, scheduler, client)
                problem = BlockProblem.over(sample, blocks, seen.totals)
                n_rows = seen.totals.n_rows
                n_here = n_rows if isinstance(blocks, Kept) else 1
                with helpers(problem.layout, n_here, options.chains if method == "nuts" else 1):
                    drawn = RUNNERS[method](problem, options, progress)
            except ChangedError as error:
                raise FitError(str(error), status="changed") from error
    attrs = provenance(problem, options, method, "fused", began)
    attrs |= {names.N_ROWS: n_rows, names.N_BLOCKS: len(table.blocks)}
    return assemble(problem, drawn, attrs, sharing=1)


def _by_chains(
    given: dict[str, Any],
    specification: GaussianMixture,
    options: Options,
    client: Any,
    progress: Progress,
    *,
    feature_dim: str | None,
) -> tuple[RowlessProblem, Draws]:
    """Return what chains drew on workers of which each holds all rows: as those in memory draw."""
    labels = given.pop(names.LABELS)
    data = prepare(given.pop("X"), feature_dim=feature_dim, **given)
    hint_at_units(specification, data)
    refuse_unsuited(specification, data, labels, "fused", allocated=False)
    labelled = with_labels(data, labels, specification.known_number)
    problem = RowlessProblem.make(specification, labelled)
    result = sample(problem, options, progress, client)
    if result.interrupted:
        warn_interrupted(result.vectors.shape[1], options)
    return problem, to_draws(problem, options, result)


def _refuse(specification: GaussianMixture, method: str, engine: str) -> None:
    """Refuse models that are more than sums over rows."""
    if engine in ("pymc", "jax"):
        raise ValueError(
            f"`engine` must be 'auto' or 'fused', and `spec` no PyMC model, where `X` is in blocks "
            f"of rows; got {'JAX' if engine == 'jax' else 'PyMC'}'s engine. Use engine='auto'."
        )
    number, weights = specification.n_components, specification.weights
    allocated = isinstance(number, PriorOnComponents)
    if (method, engine) in LEARNING and isinstance(weights, SparseDirichlet | StickBreaking):
        allocated = True
    specification.refuse_noise("where `X` is in blocks of rows")
    heavy = isinstance(specification, StudentTMixture)
    if allocated or heavy or not isinstance(specification.covariance, LKJCovariance):
        raise ValueError(
            f"`spec` must be a GaussianMixture of a number of components with Dirichlet weights "
            f"and an LKJCovariance where `X` is in blocks of rows; got a "
            f"{type(specification).__name__} of {number!r} components, {type(weights).__name__} "
            f"and {type(specification.covariance).__name__}. Fit some of the rows in memory."
        )


def _surveyed(
    source: Source, specification: GaussianMixture, options: Options, scheduler: Scheduler
) -> tuple[Survey, Problem]:
    """Return what is known of all rows, and the problem of a sample in their units."""
    look, reader = dask.delayed(survey, pure=False), dask.delayed(source.reader, traverse=False)
    parts = [look(*part, reader, options.random_seed) for part in source.parts]
    seen: Survey | Exception = computed(tree_of(parts, merged), scheduler)
    if isinstance(seen, Exception):
        raise seen
    _refuse_unusable(seen, source)
    data = _prepared(source.table, seen)
    check_enough_rows(data, specification.known_number)
    resolved = seen.resolve(specification)
    center, unit = seen.center_and_unit(specification.structure.common_scale)
    return seen, Problem.of_units(resolved, data, center, unit)


def _refuse_unusable(seen: Survey, source: Source) -> None:
    """Refuse infinite cells, rows without a number, and ranges whose squares overflow."""
    n_infinite, row, column = seen.infinite
    if n_infinite:
        raise ValueError(
            f"`X` must have a finite number in every cell that is not missing; got {n_infinite} "
            f"infinite, the first at {source.reader.row(row)}, column {column}. Correct those "
            f"cells, or set them to NaN if they are missing."
        )
    n_empty, row = seen.empty
    if n_empty:
        raise ValueError(
            f"`X` must have a number in every row; got nothing but missing cells (NaN) in "
            f"{n_empty} rows, the first of them {source.reader.row(row)}. Drop them: they say "
            f"nothing."
        )
    n_rows, n_positive = map(int, seen.weights[:2])
    if not n_rows:
        raise ValueError(
            f"`X` must have a number in some cell; got nothing but missing cells (NaN) in all "
            f"{source.table.n_rows}. Look at how it was read or masked."
        )
    if names.SAMPLE_WEIGHT in source.said:
        refuse_few(n_positive, n_rows)
    far = np.flatnonzero(0.5 * seen.high - 0.5 * seen.low > SPREADS[1])
    if far.size:
        raise ValueError(
            f"`X` must have columns whose range is at most {SPREADS[1]:g}; got {seen.low[far[0]]} "
            f"to {seen.high[far[0]]} in column {far[0]}. Measure it in other units."
        )


def _prepared(table: Chunked, seen: Survey) -> Data:
    """Return the sample checked as rows in memory are, with what is said of it."""
    values, _, weights, allowed, errors = seen.rows
    n_rows = seen.totals.n_rows
    try:
        data = prepare(table.labelled(values), sample_weight=weights, feature_dim=table.along)
    except ValueError as error:
        if len(values) == n_rows:
            raise
        raise ValueError(f"{error} (Seen in {len(values)} of the {n_rows} rows.)") from error
    if allowed is not None and (allowed == 1.0).all():
        allowed = None
    return replace(data, errors=errors, allowed=allowed)
