"""How many components: fits of many numbers and structures, side by side."""

import dataclasses
import html
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.comparison import loo
from bayesgmm.convergence import POINTS, check
from bayesgmm.data import Data, check_enough_rows, prepare
from bayesgmm.errors import ConvergenceWarning, FitError, check_choice, check_integer
from bayesgmm.inference.assemble import Options
from bayesgmm.inference.fit import METHODS, at_work
from bayesgmm.inference.sweep import Candidate, Outcome, sweep
from bayesgmm.mixture import GaussianMixture
from bayesgmm.priors import STRUCTURES

type Array = NDArray[np.float64]

DRAWING: Final = tuple(method for method in METHODS if method not in POINTS)
"""Methods that give the draws that leave-one-out needs."""
FEWEST_DRAWS: Final = 30
"""Draws per chain without which leave-one-out has no tail to look at."""
COLUMNS: Final = (
    "elpd_loo", "se", "p", "elpd_diff", "dse", "n_bad_k", "bic", "aic", "icl", "n_parameters",
    "ok", "verdict", "seconds",
)  # fmt: skip
SMALL: Final = 4.0
"""Difference in elpd, in nats, that is small whatever its standard error."""
NOT_CLUSTERS: Final = (
    "LOO scores the density of new rows, not the number of clusters: a cluster that is not "
    "Gaussian takes several components."
)


@dataclass(frozen=True, eq=False)
class Selection:
    """Fits of several numbers of components and structures, side by side.

    Parameters
    ----------
    table : DataFrame
        A row per candidate, indexed by ``n_components`` and ``structure``: ``elpd_loo``, its
        standard error ``se`` and the effective number of parameters ``p``, in nats; ``elpd_diff``
        from the best and its standard error ``dse``; ``n_bad_k`` rows whose Pareto shape is too
        large for LOO to be relied on; ``bic``, ``aic`` and ``icl`` at the maximum of the
        likelihood, less of which is better; ``n_parameters``; ``ok``, whether the fit passed
        `check`, and its ``verdict``; ``seconds`` from the beginning of the fit to its end, beside
        others.
    fits : dict of tuple to DataTree
        By number of components and structure, ``fits[3, "full"]``; those that failed are missing.
    """

    table: pd.DataFrame
    fits: Mapping[Candidate, xr.DataTree]

    @property
    def best(self) -> Candidate:
        """Number of components and structure of the largest ``elpd_loo``."""
        return _key(self.table["elpd_loo"].idxmax())

    @property
    def simplest(self) -> Candidate:
        """Those of the fewest parameters that cannot be told from the best.

        Within one standard error of the difference, or 4 nats, below which that error is not to
        be relied on (Sivula, Magnusson, Matamoros & Vehtari 2020, arXiv:2008.10296).
        """
        table = self.table[-self.table["elpd_diff"] <= self.table["dse"].clip(lower=SMALL)]
        return _key(table["n_parameters"].idxmin())

    def __str__(self) -> str:
        table = self.table.drop(columns="verdict")
        numbers = table.to_string(float_format="{:.1f}".format, sparsify=False)
        return "\n".join([*self._words(), "", numbers])

    def _repr_html_(self) -> str:
        words = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in self._words())
        table: str = self.table.to_html(float_format="{:.1f}".format, sparsify=False)
        return words + table

    def _words(self) -> list[str]:
        """Return what the table says, in sentences."""
        table, best, simplest = self.table, self.best, self.simplest
        elpd, se = table.loc[best, ["elpd_loo", "se"]]
        words = [
            f"Best by leave-one-out: {self._named(best)}, elpd {elpd:.1f} (standard error "
            f"{se:.1f})."
        ]
        if simplest != best:
            gap, dse = table.loc[simplest, ["elpd_diff", "dse"]]
            words.append(
                f"Not to be told from it: {self._named(simplest)}, {-gap:.1f} less (standard error "
                f"of the difference {dse:.1f}) with fewer parameters. Prefer the simpler, unless "
                f"something else speaks for the larger."
            )
        words.append(NOT_CLUSTERS)
        unreliable = table.index[table["n_bad_k"].fillna(0) > 0]
        if len(unreliable):
            words.append(
                f"LOO is unreliable for some rows of {self._listed(unreliable)}: see n_bad_k, and "
                f"bayesgmm.loo of the fit."
            )
        for verdict, those in table[~table["ok"]].groupby("verdict", sort=False):
            words.append(f"{self._listed(those.index)}: {verdict}")
        return words

    def _named(self, candidate: Candidate) -> str:
        """Return the words for a candidate, the structure if it tells candidates apart."""
        k, structure = candidate
        several = self.table.index.get_level_values("structure").nunique() > 1
        return f"{k} component{'s' * (k != 1)}" + (f", {structure!r}" if several else "")

    def _listed(self, candidates: Iterable[Any]) -> str:
        return "; ".join(self._named(_key(one)) for one in candidates)


def select(
    X: Any,
    n_components: Iterable[int] = range(1, 9),
    *,
    spec: GaussianMixture | None = None,
    structures: Sequence[str] | None = None,
    measurement_error: Any = None,
    method: str = "nuts",
    draws: int = 1000,
    tune: int | None = None,
    chains: int = 4,
    target_accept: float = 0.8,
    random_seed: int | None = None,
    progressbar: bool = True,
) -> Selection:
    """Fit mixtures of several numbers of components, and compare how well they predict.

    Parameters
    ----------
    X : array, DataFrame, Series or DataArray
        As in `fit`.
    n_components : sequence of int
        Numbers of components, each once; ``range(1, 9)`` by default.
    spec : GaussianMixture, optional
        The priors; its number of components is replaced. Default priors by default.
    structures : sequence of str, optional
        What covariance matrices share, see `LKJCovariance`; every one is fitted with every number
        of components. By default that of `spec`.
    measurement_error : array, DataFrame or DataArray, optional
        As in `fit`.
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
    random_seed : int, optional
        Of every fit. The same seed gives the same table on the same machine.
    progressbar : bool, default True
        Report on standard error which fits are at work.

    Returns
    -------
    Selection
        ``table``, ``fits``, ``best`` and ``simplest``; printed, it says in words what it found.

    Raises
    ------
    TypeError, ValueError
        If an argument is refused, before any computing.
    FitError
        If no fit came to an end.

    Warns
    -----
    ConvergenceWarning
        If it was interrupted, and the fits finished by then are returned; or if some failed.

    Notes
    -----
    Data are made ready once, nothing is compiled anew, and chains of several fits sample beside
    one another, as many as there are cores. A fit by NUTS is that of ``fit`` with the same seed,
    except where the mode of the fit with a component fewer leads to a higher mode, by splitting a
    component, than a chain finds by itself: then every second chain starts from there.

    The log-likelihoods of all fits take 1 GiB at most; beyond that they are not kept, and LOO is
    computed in blocks of rows.

    References
    ----------
    Vehtari, Gelman & Gabry (2017), Practical Bayesian model evaluation using leave-one-out
    cross-validation and WAIC, Statistics and Computing 27. doi:10.1007/s11222-016-9696-4

    Examples
    --------
    >>> import bayesgmm as bg
    >>> X = bg.datasets.load_faithful()
    >>> selection = bg.select(X, [1, 2], draws=200, random_seed=1, progressbar=False)
    >>> selection.best
    Candidate(n_components=2, structure='full')
    >>> bg.predict(selection.fits[2, "full"], [[2.0, 55.0]]).values
    array([0])
    """
    check_choice(method, "method", DRAWING)
    check_integer(
        draws, "draws", FEWEST_DRAWS, "LOO looks at the tail of the draws; 1000 is usual."
    )
    options = Options.checked(
        draws=draws,
        tune=tune,
        chains=chains,
        target_accept=target_accept,
        random_seed=random_seed,
    )
    numbers = _numbers(n_components)
    templates = _templates(spec, structures)
    data = prepare(X, measurement_error)
    specifications = _specifications(numbers, templates, data)
    rows: dict[Candidate, dict[str, Any]] = {}
    terms: dict[Candidate, Array] = {}
    fits: dict[Candidate, xr.DataTree] = {}
    interrupted = False
    try:
        with (
            at_work(progressbar) as progress,
            closing(sweep(specifications, data, method, options, progress)) as outcomes,
        ):
            for outcome in outcomes:
                _score(outcome, rows, terms)
                if outcome.tree is not None:
                    fits[outcome.candidate] = outcome.tree
    except KeyboardInterrupt:
        interrupted = True
    _complain(rows, terms, len(specifications), interrupted)
    return Selection(_table(rows, terms), {one: fits[one] for one in sorted(fits)})


def _key(label: tuple[Any, Any]) -> Candidate:
    """Return a label of the table as a candidate."""
    return Candidate(int(label[0]), str(label[1]))


def _numbers(n_components: Any) -> list[int]:
    """Return the numbers of components in increasing order, refusing what makes no sense."""
    if isinstance(n_components, str) or not isinstance(n_components, Iterable):
        raise TypeError(
            f"`n_components` must be a sequence of integers; got {n_components!r} of type "
            f"{type(n_components).__name__}. Write range(1, 9), or [2, 3]."
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
        raise TypeError(
            f"`spec` must be a GaussianMixture; got {spec!r} of type {type(spec).__name__}. Give "
            f"numbers of components as `n_components`."
        )
    _ = spec.known_number  # a prior on it is refused
    if structures is None:
        return [spec]
    if isinstance(structures, str) or not isinstance(structures, Sequence):
        raise TypeError(
            f"`structures` must be a sequence of names; got {structures!r} of type "
            f"{type(structures).__name__}. Write ['full', 'tied']."
        )
    if not structures or len(set(structures)) < len(structures):
        raise ValueError(
            f"`structures` must hold at least one name, and none twice; got {structures!r}. Choose "
            f"among {', '.join(map(repr, STRUCTURES))}."
        )
    return [
        dataclasses.replace(
            spec,
            covariance=dataclasses.replace(
                spec.covariance, structure=check_choice(structure, "structures", STRUCTURES)
            ),
        )
        for structure in structures
    ]


def _specifications(
    numbers: Sequence[int], templates: Sequence[GaussianMixture], data: Data
) -> list[GaussianMixture]:
    """Return the specifications of all candidates, resolved once for all numbers."""
    check_enough_rows(data, numbers[-1])
    return [
        dataclasses.replace(resolved, n_components=k)
        for resolved in (template.resolve(data.values) for template in templates)
        for k in numbers
    ]


def _score(
    outcome: Outcome,
    rows: dict[Candidate, dict[str, Any]],
    terms: dict[Candidate, Array],
) -> None:
    """Add a candidate's row of the table, and the terms of its elpd, to those of the others."""
    tree = outcome.tree
    row = rows[outcome.candidate] = {"ok": False, "verdict": f"Failed: {outcome.failure}"}
    if tree is None:
        return
    report = check(tree)
    row |= {
        **outcome.criteria,
        "n_parameters": tree.attrs["n_parameters"],
        "ok": report.ok,
        "verdict": report.verdict,
        "seconds": tree.attrs["fit_time"],
    }
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The Pareto shape", UserWarning)  # the table says it
            found = loo(tree)
    except ValueError:  # a chain that is stuck, of which the verdict speaks
        return
    row |= {"elpd_loo": found.elpd, "se": found.se, "p": found.p}
    row["n_bad_k"] = int((found.pareto_k.values > found.good_k).sum())
    terms[outcome.candidate] = found.elpd_i.values


def _complain(
    rows: Mapping[Candidate, Mapping[str, Any]],
    terms: Mapping[Candidate, Array],
    count: int,
    interrupted: bool,
) -> None:
    """Say what is missing, and fail if nothing is there."""
    failed = [row["verdict"] for one, row in rows.items() if one not in terms]
    if not terms:
        status = names.INTERRUPTED if interrupted else "sampler"
        what = "was interrupted before any fit was done" if interrupted else failed[0]
        raise FitError(
            f"None of {count} fits can be compared: {what}. Begin with fewer components.",
            status=status,
        )
    if interrupted:
        told = f"was interrupted: {len(rows)} of {count} fits are returned"
        warnings.warn(f"The selection {told}.", ConvergenceWarning, stacklevel=3)
    elif failed:
        warnings.warn(
            f"{len(failed)} of {count} fits cannot be compared; the first: {failed[0]}",
            ConvergenceWarning,
            stacklevel=3,
        )


def _table(
    rows: Mapping[Candidate, Mapping[str, Any]], terms: Mapping[Candidate, Array]
) -> pd.DataFrame:
    """Return the rows in order, with differences from the best."""
    order = sorted(rows)
    index = pd.MultiIndex.from_tuples(order, names=Candidate._fields)
    table = pd.DataFrame([rows[one] for one in order], index=index, columns=list(COLUMNS))
    best = terms[_key(table["elpd_loo"].idxmax())]
    for one, term in terms.items():
        difference = term - best
        table.loc[one, "elpd_diff"] = difference.sum()
        table.loc[one, "dse"] = np.sqrt(difference.size * difference.var())
    return table.astype({"n_bad_k": "Int64", "n_parameters": "Int64", "ok": bool})
