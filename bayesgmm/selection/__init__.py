"""How many components: fits of many numbers and structures, side by side."""

import dataclasses
import sys
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final

import xarray as xr

from bayesgmm import names
from bayesgmm.chunked import is_chunked
from bayesgmm.convergence import POINTS
from bayesgmm.data import Data, check_enough_rows, prepare
from bayesgmm.errors import ConvergenceWarning, FitError, check_choice, check_integer, got
from bayesgmm.factor_prior import FACTOR_STRUCTURES, FactorCovariance
from bayesgmm.inference.assemble import Options
from bayesgmm.inference.fit import at_work
from bayesgmm.inference.methods import METHODS
from bayesgmm.inference.suited import refuse_errors_beside_noise
from bayesgmm.inference.sweep import Candidate, Outcome, sweep
from bayesgmm.mixture import GaussianMixture
from bayesgmm.priors import STRUCTURES, Dirichlet
from bayesgmm.selection.answer import Selection
from bayesgmm.selection.blocks import gathered, outcomes_of_blocks, refuse_unknown
from bayesgmm.selection.criteria import CRITERIA
from bayesgmm.selection.folder import Folder, asked_for
from bayesgmm.selection.scores import Score, score
from bayesgmm.selection.table import made
from bayesgmm.tree import FactorParameters, Parameters
from bayesgmm.units import hint_at_units

__all__ = ["Selection", "select"]

DRAWING: Final = tuple(method for method in METHODS if method not in POINTS)
"""Methods that give the draws that leave-one-out needs."""
FEWEST_DRAWS: Final = 30
"""Draws per chain without which leave-one-out has no tail to look at."""
USUAL: Final = ("loo", "evidence", "icl", "bic", "aic")
KEEP: Final = ("all", "recommended", "none")


def select(
    X: Any,
    n_components: Iterable[int] = range(1, 9),
    *,
    spec: GaussianMixture | None = None,
    structures: Sequence[str] | None = None,
    measurement_error: Any = None,
    sample_weight: Any = None,
    feature_dim: str | None = None,
    criteria: Sequence[str] = USUAL,
    method: str = "nuts",
    draws: int = 1000,
    tune: int | None = None,
    chains: int = 4,
    target_accept: float = 0.8,
    keep: str = "all",
    folder: str | Path | None = None,
    random_seed: int | None = None,
    progressbar: bool = True,
) -> Selection:
    """Fit mixtures of several numbers of components, and lay side by side what speaks for each.

    Parameters
    ----------
    X : array, DataFrame, Series, DataArray, Dataset or path
        As in `fit`. Rows in blocks are read into memory up to 256 MiB; more are compared by BIC and
        AIC alone.
    n_components : sequence of int
        Numbers of components, each once; ``range(1, 9)`` by default.
    spec : GaussianMixture, optional
        The priors; its number of components is replaced. Default priors by default. Its noise, if
        it has any, is beside every number of components; `compare` takes fits with it and without.
    structures : sequence of str, optional
        What covariance matrices share, see `LKJCovariance`; every one is fitted with every number
        of components. By default that of `spec`.
    measurement_error, sample_weight : array, optional
        As in `fit`.
    feature_dim : str, optional
        As in `fit`.
    criteria : sequence of str, default ("loo", "evidence", "icl", "bic", "aic")
        What to compare by. The first decides what is recommended, the others stand beside it:
        ``"loo"`` (leave-one-out, with weights by stacking), ``"waic"``, ``"evidence"`` (with
        posterior probabilities), ``"icl"``, ``"bic"`` and ``"aic"``.
    method : str, default "nuts"
        A method of `fit` that gives draws.
    draws : int, default 1000
        Per chain, after tuning; at least 30.
    tune : int, optional
        Tuning draws per chain; as in `fit`.
    chains : int, default 4
        Of every fit.
    target_accept : float, default 0.8
        As in `fit`.
    keep : str, default "all"
        Which fits are returned: ``"all"``, the ``"recommended"`` one, or ``"none"``, where one is
        dropped as soon as its numbers are known.
    folder : str or Path, optional
        Where to write every fit as it ends, as `save` does: ``3-full.nc``. A selection that was
        interrupted goes on from there when it is asked for again, and gives the same numbers;
        a folder of other data, specifications or arguments is refused.
    random_seed : int, optional
        Of every fit, its evidence and its allocations. The same seed gives the same table on the
        same machine. By default drawn, or that of `folder`.
    progressbar : bool, default True
        Report on standard error which fits are at work.

    Returns
    -------
    Selection
        ``table``, ``fits``, ``recommended``, and the ``answers`` of all criteria; printed, it
        says in words what it found, and where criteria disagree.

    Raises
    ------
    TypeError, ValueError
        If an argument is refused, before any computing.
    ImportError
        If workers of the active cluster have not this version of bayesgmm.
    FitError
        If no fit came to an end of which the first criterion is known; or a cluster loses the rows.

    Warns
    -----
    ConvergenceWarning
        If it was interrupted, and the fits finished by then are returned; or if some failed.

    Notes
    -----
    Recommended is the fit with the fewest parameters that cannot be told from the best by the
    first criterion: behind it by no more than the standard error of the difference, or by what
    is small whatever its error (4 nats of elpd, 1 of log evidence, 2 of BIC, AIC and ICL). If
    that one did not pass `check` and others did that cannot be told either, the smallest of these
    is; if none did, it is said.

    Data are made ready once, nothing is compiled anew, and chains of several fits sample beside
    one another, as many as there are cores. A fit by NUTS is that of ``fit`` with the same seed,
    except where the mode of the fit with a component fewer leads to a higher mode, by splitting a
    component, than a chain finds by itself: then every second chain starts from there.

    Where a Dask client is active its workers fit and evaluate ([](dask.md)): all get the rows once,
    a search or a chain is a task of one thread, and the table is the same to the last bit.

    Criteria are computed as fits end, while others sample. The evidence costs most: some passes
    over the data for every draw, a tenth of the sampling where data are small. Leave it out of
    `criteria` where fits take long.

    The log-likelihoods of all fits take 1 GiB at most; beyond that they are not kept, and LOO is
    computed in blocks of rows.

    References
    ----------
    Vehtari, Gelman & Gabry (2017), Practical Bayesian model evaluation using leave-one-out
    cross-validation and WAIC, Statistics and Computing 27. doi:10.1007/s11222-016-9696-4

    Yao, Vehtari, Simpson & Gelman (2018), Using stacking to average Bayesian predictive
    distributions, Bayesian Analysis 13. doi:10.1214/17-BA1091

    Kass & Raftery (1995), Bayes factors, J. American Statistical Association 90.
    doi:10.1080/01621459.1995.10476572

    Examples
    --------
    >>> import bayesgmm as bg
    >>> X = bg.datasets.load_faithful()
    >>> selection = bg.select(X, [1, 2], draws=200, random_seed=1, progressbar=False)
    >>> selection.recommended
    Candidate(n_components=2, structure='full')
    >>> {name: answer.n_components for name, answer in selection.answers.items()}
    {'loo': 2, 'evidence': 2, 'icl': 2, 'bic': 2, 'aic': 2}
    >>> bg.predict(selection.fits[2, "full"], [[2.0, 55.0]]).values
    array([0])
    """
    check_choice(method, "method", DRAWING)
    check_integer(
        draws, "draws", FEWEST_DRAWS, "LOO looks at the tail of the draws; 1000 is usual."
    )
    check_choice(keep, "keep", KEEP)
    wanted = _criteria(criteria)
    kept = None if folder is None else Folder.opened(folder)
    if random_seed is None and kept is not None:
        random_seed = kept.arguments().get(names.RANDOM_SEED)
    options = Options.checked(
        draws=draws,
        tune=tune,
        chains=chains,
        target_accept=target_accept,
        random_seed=random_seed,
    )
    numbers = _numbers(n_components)
    templates = _templates(spec, structures)
    said = {"measurement_error": measurement_error, "sample_weight": sample_weight}
    judge = partial(score, criteria=wanted, random_seed=options.random_seed)
    if is_chunked(X):
        X, said = gathered(X, said, feature_dim)
    if is_chunked(X):
        refuse_unknown(wanted, {**said, "folder": folder})
        specifications = _numbered(numbers, templates)
        each = outcomes_of_blocks(X, specifications, method, options, feature_dim, progressbar)
        ends = ((outcome, judge(outcome)) for outcome in each)
    else:
        data = prepare(X, **said, feature_dim=feature_dim)
        for template in templates:
            refuse_errors_beside_noise(template, data)
            hint_at_units(template, data)
        check_enough_rows(data, numbers[-1])
        templates = [template.resolve(data.values) for template in templates]
        specifications = _numbered(numbers, templates)
        if kept is not None:
            kept.begin(asked_for(data, specifications, method, options))
        carried = keep != "none" or kept is not None
        ends = _outcomes(specifications, data, method, options, kept, judge, carried, progressbar)
    scores: dict[Candidate, Score] = {}
    fits: dict[Candidate, xr.DataTree] = {}
    interrupted = False
    try:
        with closing(ends) as outcomes:
            for outcome, found in outcomes:
                scores[outcome.candidate] = found
                if outcome.tree is not None and keep != "none":
                    fits[outcome.candidate] = outcome.tree
    except KeyboardInterrupt:
        interrupted = True
    selection = Selection(made(scores, wanted), {one: fits[one] for one in sorted(fits)}, wanted)
    _complain(selection, len(specifications), interrupted, resumable=kept is not None)
    if keep == "recommended":
        best = selection.recommended
        selection = dataclasses.replace(selection, fits={best: fits[best]})
    return selection


def _outcomes(
    specifications: Sequence[GaussianMixture],
    data: Data,
    method: str,
    options: Options,
    kept: Folder | None,
    judge: Callable[[Outcome], Score],
    carried: bool,
    progressbar: bool,
) -> Generator[tuple[Outcome, Score]]:
    """Yield how every fit ended: those of the folder, then the others, which are added to it."""
    done: dict[Candidate, Parameters | FactorParameters | None] = {}
    left = []
    for one in specifications:
        candidate = Candidate(one.known_number, one.covariance.structure)
        known = None if kept is None else kept.outcome(candidate)
        if known is None:
            left.append(one)
        else:
            done[candidate] = known.mode
            yield known, judge(known)
    client = _cluster()
    with at_work(progressbar) as progress:
        ends: Generator[tuple[Outcome, Score | None]]
        if client is None:
            ends = _here(sweep(left, data, method, options, progress, done))
        else:
            from bayesgmm.inference import spread

            ends = spread.sweep(
                client, left, data, method, options, progress, done, judge, carried=carried
            )
        with closing(ends) as outcomes:
            for outcome, found in outcomes:
                if kept is not None:
                    kept.keep(outcome)
                yield outcome, judge(outcome) if found is None else found


def _cluster() -> Any:
    """Return the client of the cluster that is active; None without one."""
    if "distributed" not in sys.modules:  # without it there is none, and it takes long to load
        return None
    from bayesgmm.inference.blocks import cluster

    return cluster()


def _here(outcomes: Generator[Outcome]) -> Generator[tuple[Outcome, None]]:
    """Yield outcomes of fits made in this process, of which nothing is known yet."""
    with closing(outcomes):
        for outcome in outcomes:
            yield outcome, None


def _criteria(criteria: Any) -> tuple[str, ...]:
    """Return the criteria, refusing what makes no sense."""
    if isinstance(criteria, str) or not isinstance(criteria, Sequence):
        raise TypeError(
            f"`criteria` must be a sequence of names; got {got(criteria)}. "
            "Write ['loo', 'evidence']."
        )
    if not criteria or len(set(criteria)) < len(criteria):
        raise ValueError(
            f"`criteria` must hold at least one name, and none twice; got {criteria!r}. Choose "
            f"among {', '.join(map(repr, CRITERIA))}."
        )
    return tuple(check_choice(one, "criteria", CRITERIA) for one in criteria)


def _numbers(n_components: Any) -> list[int]:
    """Return the numbers of components in increasing order, refusing what makes no sense."""
    if isinstance(n_components, str) or not isinstance(n_components, Iterable):
        raise TypeError(
            f"`n_components` must be a sequence of integers; got {got(n_components)}. "
            "Write range(1, 9), or [2, 3]."
        )
    remedy = "Give numbers of components, such as range(1, 9)."
    numbers = [check_integer(k, "n_components", 1, remedy) for k in n_components]
    if not numbers:
        raise ValueError(
            f"`n_components` must hold at least one number; got {n_components!r}. Write range(1, "
            f"9) for 1 to 8."
        )
    repeated = [k for k in numbers if numbers.count(k) > 1]
    if repeated:
        raise ValueError(
            f"`n_components` must hold every number once; got {repeated[0]} "
            f"{len([k for k in repeated if k == repeated[0]])} times. Leave the others out."
        )
    return sorted(numbers)


def _templates(spec: Any, structures: Any) -> list[GaussianMixture]:
    """Return a specification of every structure, whose number of components does not count."""
    if spec is None:
        spec = GaussianMixture(1)
    if not isinstance(spec, GaussianMixture):
        remedy = "Give numbers of components as `n_components`."
        raise TypeError(f"`spec` must be a GaussianMixture; got {got(spec)}. {remedy}")
    _ = spec.known_number  # a prior on it is refused
    if type(spec.weights) is not Dirichlet:
        raise ValueError(
            f"`spec` must have Dirichlet weights, whose number is compared; got {spec.weights!r}, "
            f"which leave components empty. Fit it once, bayesgmm.fit(X, spec), and count clusters "
            f"by bayesgmm.n_clusters(tree)."
        )
    if structures is None:
        return [spec]
    known = FACTOR_STRUCTURES if isinstance(spec.covariance, FactorCovariance) else STRUCTURES
    if isinstance(structures, str) or not isinstance(structures, Sequence):
        what, remedy = got(structures), "Write ['full', 'tied']."
        raise TypeError(f"`structures` must be a sequence of names; got {what}. {remedy}")
    if not structures or len(set(structures)) < len(structures):
        raise ValueError(
            f"`structures` must hold at least one name, and none twice; got {structures!r}. Choose "
            f"among {', '.join(map(repr, known))}."
        )
    return [
        dataclasses.replace(
            spec,
            covariance=dataclasses.replace(
                spec.covariance, structure=check_choice(structure, "structures", known)
            ),
        )
        for structure in structures
    ]


def _numbered(
    numbers: Sequence[int], templates: Sequence[GaussianMixture]
) -> list[GaussianMixture]:
    """Return the specifications of all candidates."""
    return [dataclasses.replace(one, n_components=k) for one in templates for k in numbers]


def _complain(found: Selection, count: int, interrupted: bool, *, resumable: bool) -> None:
    """Say what is missing, and fail if nothing is there."""
    table = found.table
    failed = table[table[CRITERIA[found.criteria[0]].column].isna()]
    if len(failed) == len(table):
        status = names.INTERRUPTED if interrupted else "sampler"
        what = (
            "was interrupted before any fit was done" if interrupted else failed["verdict"].iloc[0]
        )
        raise FitError(
            f"None of {count} fits can be compared: {what}. Begin with fewer components.",
            status=status,
        )
    if interrupted:
        remedy = " Ask for the same with the same `folder` to go on." if resumable else ""
        warnings.warn(
            f"The selection was interrupted: {len(table)} of {count} fits are returned.{remedy}",
            ConvergenceWarning,
            stacklevel=3,
        )
    elif len(failed):
        warnings.warn(
            f"{len(failed)} of {count} fits cannot be compared; the first: "
            f"{failed['verdict'].iloc[0]}",
            ConvergenceWarning,
            stacklevel=3,
        )
