"""Fits of rows that stay in blocks: on a cluster, on a disk, or in another process."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import dask
import numpy as np
import xarray as xr

from bayesgmm import names
from bayesgmm.blockwise import BlockProblem, RowlessProblem, rowless
from bayesgmm.chunked import Chunked, in_memory
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
from bayesgmm.units import hint_at_units

SAMPLE_ROWS: Final = 50_000
"""Rows, drawn at random, or all: starts are compared on them, and draws aligned."""


def fit_blocks(
    X: Any,
    specification: GaussianMixture,
    options: Options,
    method: str,
    engine: str,
    *,
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
    said : dict of str to object
        Arguments that say something of every row.
    progressbar : bool
    """
    _refuse(specification, method, engine, said)
    scheduler, client = active()
    if client is not None:
        refuse_strangers(client)
    table = Chunked.of(X, "X")
    began = time.perf_counter()
    with at_work(progressbar) as progress:
        problem: Problem
        if client is not None and method == "nuts" and is_small(table):
            progress.update(f"Reading {table.n_rows:,} rows in {len(table.blocks)} blocks")
            problem, drawn = _by_chains(X, specification, options, said, client, progress)
        else:
            try:
                progress.update(f"Looking at {table.n_rows:,} rows in {len(table.blocks)} blocks")
                seen, sample = _surveyed(table, specification, options, scheduler)
                progress.update("Packing the blocks")
                recipe = replace(sample, data=rowless(sample.data), flat=np.empty(0))
                blocks = gather(table, recipe, seen.sums, scheduler, client)
                problem = BlockProblem.over(sample, blocks, table.n_rows, seen.cells)
                n_here = table.n_rows if isinstance(blocks, Kept) else 1
                with helpers(problem.layout, n_here, options.chains if method == "nuts" else 1):
                    drawn = RUNNERS[method](problem, options, progress)
            except ChangedError as error:
                raise FitError(str(error), status="changed") from error
    attrs = provenance(problem, options, method, "fused", began)
    attrs |= {names.N_ROWS: table.n_rows, names.N_BLOCKS: len(table.blocks)}
    return assemble(problem, drawn, attrs, sharing=1)


def _by_chains(
    X: Any,
    specification: GaussianMixture,
    options: Options,
    said: Mapping[str, Any],
    client: Any,
    progress: Progress,
) -> tuple[Problem, Draws]:
    """Return what chains drew on workers of which each holds all rows: as those in memory draw."""
    about = in_memory(dict(said), "X")
    labels = about.pop("labels")
    data = prepare(in_memory(X, "X"), **about)
    hint_at_units(specification, data)
    refuse_unsuited(specification, data, labels, "fused", allocated=False)
    labelled = with_labels(data, labels, specification.known_number)
    problem = RowlessProblem.make(specification, labelled)
    result = sample(problem, options, progress, client)
    if result.interrupted:
        warn_interrupted(result.vectors.shape[1], options)
    return problem, to_draws(problem, options, result)


def _refuse(
    specification: GaussianMixture, method: str, engine: str, said: Mapping[str, Any]
) -> None:
    """Refuse what is not known of rows in blocks, and models that are more than sums over them."""
    for name, value in said.items():
        if value is not None:
            raise ValueError(
                f"`{name}` must be left out where `X` is in blocks of rows; got an object of type "
                f"{type(value).__name__}. Fit rows that are in memory."
            )
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
    table: Chunked, specification: GaussianMixture, options: Options, scheduler: Scheduler
) -> tuple[Survey, Problem]:
    """Return what is known of all rows, and the problem of a sample in their units."""
    n_rows = table.n_rows
    chosen = np.arange(n_rows)
    if n_rows > SAMPLE_ROWS:
        rng = np.random.default_rng([options.random_seed, SAMPLE_ROWS])
        chosen = np.sort(rng.choice(n_rows, SAMPLE_ROWS, replace=False))
    ends = np.cumsum(table.sizes)
    starts = ends - table.sizes
    picked = np.split(chosen, np.searchsorted(chosen, ends[:-1]))
    look = dask.delayed(survey, pure=False)
    parts = [
        look(block, int(start), rows - start)
        for block, start, rows in zip(table.blocks, starts, picked, strict=True)
    ]
    seen: Survey = computed(tree_of(parts, merged), scheduler)
    _refuse_unusable(seen)
    data = _prepared(table, seen.sample, n_rows)
    check_enough_rows(data, specification.known_number)
    resolved = seen.resolve(specification)
    center, unit = seen.center_and_unit(specification.structure.common_scale)
    return seen, Problem.of_units(resolved, data, center, unit)


def _refuse_unusable(seen: Survey) -> None:
    """Refuse infinite cells, rows without a number, and ranges whose squares overflow."""
    n_infinite, row, column = seen.infinite
    if n_infinite:
        raise ValueError(
            f"`X` must have a finite number in every cell that is not missing; got {n_infinite} "
            f"infinite, the first at row {row}, column {column}. Correct those cells, or set them "
            f"to NaN if they are missing."
        )
    n_empty, row = seen.empty
    if n_empty:
        raise ValueError(
            f"`X` must have a number in every row; got nothing but missing cells (NaN) in "
            f"{n_empty} rows, the first of them row {row}. Drop them: they say nothing."
        )
    far = np.flatnonzero(0.5 * seen.high - 0.5 * seen.low > SPREADS[1])
    if far.size:
        raise ValueError(
            f"`X` must have columns whose range is at most {SPREADS[1]:g}; got {seen.low[far[0]]} "
            f"to {seen.high[far[0]]} in column {far[0]}. Measure it in other units."
        )


def _prepared(table: Chunked, sample: Any, n_rows: int) -> Data:
    """Return the sample checked as rows in memory are."""
    try:
        return prepare(table.labelled(sample))
    except ValueError as error:
        if len(sample) == n_rows:
            raise
        raise ValueError(f"{error} (Seen in {len(sample)} of the {n_rows} rows.)") from error
