"""Simulation-based calibration: whether a method draws from the posterior that it says it does."""

import json
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.errors import ConvergenceWarning, FitError, check_choice, check_integer
from bayesgmm.inference.assemble import Options
from bayesgmm.inference.fit import at_work, fit
from bayesgmm.inference.progress import Progress
from bayesgmm.invariants import invariants
from bayesgmm.kernels.diagnostics import effective
from bayesgmm.kernels.threads import n_cores
from bayesgmm.mixture import GaussianMixture
from bayesgmm.selection import DRAWING
from bayesgmm.simulation import simulate, with_numbers
from bayesgmm.tree import (
    FactorParameters,
    Parameters,
    parameters,
    parameters_of,
    with_covariances,
)
from bayesgmm.uniformity import POINTS, Band, ecdf

type Array = NDArray[np.float64]

KEPT: Final = (19, 99)
"""Draws of a fit that the truth is ranked among: as many as are effective, within these."""
PROBABILITY: Final = 0.95
"""That the curves of all quantities stay in the band."""
FEWEST: Final = 10
"""Simulations of which anything can be said."""
PATIENCE: Final = 0.1
"""Seconds between looks at the fits."""


def calibrate(
    spec: GaussianMixture,
    method: str = "nuts",
    n_simulations: int = 200,
    *,
    n_obs: int = 50,
    n_features: int | None = None,
    draws: int = 250,
    chains: int = 4,
    random_seed: int | None = None,
    progressbar: bool = True,
) -> xr.Dataset:
    """Tell whether a method draws from the posterior, by data of which the truth is known.

    A mixture is drawn from the prior, data from the mixture, and the posterior for the data from
    the method. The true mixture is then one more draw of the posterior: its rank among the draws
    is uniform, whatever the model and the size of the data, if the method is right. Ranks are
    those of quantities that do not depend on how components are named.

    Parameters
    ----------
    spec : GaussianMixture
        Every hyperparameter a number, as for `simulate`. Prior of the simulations and of the fits.
    method : str, default "nuts"
        One of `fit` that draws.
    n_simulations : int, default 200
        At least 10.
    n_obs : int, default 50
        Rows of every data set.
    n_features : int, optional
        As for `simulate`.
    draws, chains : int, default 250 and 4
        Of every fit.
    random_seed : int, optional
        The same seed gives the same ranks on the same machine.
    progressbar : bool, default True
        Report on standard error, for work that takes longer than half a second.

    Returns
    -------
    xarray.Dataset
        ``ranks`` (simulation, quantity), in (0, 1), ties broken at random, NaN where a fit
        failed; ``n_kept`` (simulation), the draws that they are ranks among, 0 if it failed;
        ``p_value`` (quantity); ``ecdf`` (quantity, level), the share of ranks up to a level, and
        ``band`` (level, ci_bound), in which the curves of all quantities stay with probability
        95 %, or more, if ranks are uniform. Attributes: ``verdict``, in words, ``n_failed``,
        ``interrupted``, ``method``, ``n_obs``, ``draws``, ``chains``, ``random_seed`` and
        ``specification``. The quantities are ``log_likelihood`` (of the data), ``log_density`` (at
        the prior location of the means), ``mean`` (of the mixture), ``log_volume`` (log determinant
        of its covariance matrix), ``average_scale``; where they vary ``average_correlation``,
        ``noise_weight``, ``largest_weight``, ``together`` (mean probability that two rows share
        their component),
        ``smallest_scale``, ``smallest_distance`` (of two means), ``n_components``, ``n_clusters``
        and ``concentration``.

    Raises
    ------
    TypeError, ValueError
        If an argument is refused, before any computing.
    FitError
        If fewer than 10 fits are done.

    Warns
    -----
    ConvergenceWarning
        If fits failed, or it was interrupted: what was done so far is returned.

    See Also
    --------
    plot_calibration : Draws the ranks.

    Notes
    -----
    Draws are thinned evenly to as many as are effective for the quantity that mixes worst, between
    19 and 99: neighbouring draws that are alike would make ranks pile up at both ends. A method
    that is warned of as not having converged is ranked like any other. Fits run beside one
    another, as many as there are cores for their chains.

    The p-value is that of the rarest of 99 points of the ECDF, exact for all of them together; the
    verdict multiplies the smallest by the number of quantities. That ranks are uniform is evidence
    as strong as simulations are many: 200 see a shift of a third of a standard deviation or so.

    References
    ----------
    Talts, Betancourt, Simpson, Vehtari & Gelman (2018), Validating Bayesian inference algorithms
    with simulation-based calibration. arXiv:1804.06788

    Saeilynoja, Buerkner & Vehtari (2022), Graphical test for discrete uniformity and its
    applications in goodness-of-fit evaluation and multiple sample comparison, Statistics and
    Computing 32. doi:10.1007/s11222-022-10090-6

    Modrak et al. (2023), Simulation-based calibration checking for Bayesian computation: the
    choice of test quantities shapes sensitivity, Bayesian Analysis 18. doi:10.1214/23-BA1404

    Examples
    --------
    >>> import bayesgmm as bg
    >>> prior = {"means": bg.NormalMeans(0.0, 5.0), "covariance": bg.LKJCovariance(scale=1.0)}
    >>> spec = bg.GaussianMixture(1, **prior)
    >>> found = bg.calibrate(spec, "laplace", 20, n_features=1, random_seed=1, progressbar=False)
    >>> dict(found.sizes)
    {'simulation': 20, 'quantity': 5, 'level': 99, 'ci_bound': 2}
    >>> found.attrs["verdict"]
    'No sign of miscalibration: ranks of 5 quantities in 20 simulations look uniform.'
    """
    known = with_numbers(spec, n_features)
    check_choice(method, "method", DRAWING)
    remedy = "200 show what is clearly wrong."
    n_simulations = check_integer(n_simulations, "n_simulations", FEWEST, remedy)
    least = max(2, known.n_components if isinstance(known.n_components, int) else 2)
    n_obs = check_integer(n_obs, "n_obs", least, "Give the rows of every data set, e.g. 50.")
    options = Options.checked(
        draws=draws, tune=None, chains=chains, target_accept=0.8, random_seed=random_seed
    )
    study = _Study(known, method, n_obs, options)
    outcomes, interrupted = _run(study, n_simulations, progressbar)
    return _judged(study, outcomes, n_simulations, interrupted)


class _Outcome(NamedTuple):
    """Ranks of one simulation, and the draws they are ranks among; or why its fit failed."""

    ranks: dict[str, float]
    n_kept: int
    failure: str = ""


@dataclass(frozen=True)
class _Study:
    """What every simulation has in common."""

    specification: GaussianMixture
    method: str
    n_obs: int
    options: Options

    def simulation(self, seed: np.random.SeedSequence) -> _Outcome:
        """Simulate, fit and rank."""
        rng = np.random.default_rng(seed)
        truth = simulate(self.specification, self.n_obs, random_seed=rng)
        X = truth[names.X].values
        options = self.options
        try:
            tree = fit(
                X, self.specification, method=self.method, draws=options.draws,
                chains=options.chains, random_seed=int(rng.integers(2**32)), progressbar=False,
            )  # fmt: skip
        except FitError as error:
            return _Outcome({}, 0, str(error))
        if names.LOADINGS in truth:
            kind = FactorParameters
            true = with_covariances(kind(*(truth[name].values[None] for name in kind._fields)))
        else:
            fields = (*Parameters._fields, names.DF, names.NOISE_WEIGHT)
            parts = [truth[name].values[None] for name in fields if name in truth]
            noise = self.specification.noise
            parts += [] if noise is None else [np.array([noise.log_density])]
            true = parameters_of(*parts)
        drawn = with_covariances(parameters(tree))
        values = invariants(self.specification, X, _joined(true, drawn))
        posterior = tree[names.POSTERIOR].dataset
        for name in (names.N_COMPONENTS, names.N_CLUSTERS, names.CONCENTRATION):
            if name in truth:
                values[name] = np.append(truth[name].values, posterior[name].values)
        shape = (posterior.sizes[names.CHAIN], posterior.sizes[names.DRAW])
        chains = (one[1:].reshape(shape).astype(np.float64) for one in values.values())
        n_effective = np.min([effective(one) for one in chains])  # NaN if a draw is not finite
        n_kept = int(np.clip(np.nan_to_num(n_effective), *KEPT))
        kept = 1 + np.linspace(0, shape[0] * shape[1] - 1, n_kept).round().astype(int)
        ranks = {name: _rank(one[0], one[kept], rng.random()) for name, one in values.items()}
        return _Outcome(ranks, n_kept)


def _joined(one: Parameters, others: Parameters) -> Parameters:
    """Return mixtures one after the other, filled up to the same number of components."""
    n = max(one.weights.shape[1], others.weights.shape[1])
    both = zip(_filled(one, n), _filled(others, n), strict=True)
    return parameters_of(*map(np.concatenate, both))


def _filled(mixtures: Parameters, n_components: int) -> Iterator[Array]:
    """Yield the arrays of mixtures filled up with components of weight 0."""
    missing = n_components - mixtures.weights.shape[1]
    if missing == 0:
        yield from mixtures
        return
    yield np.pad(mixtures.weights, ((0, 0), (0, missing)))
    for values in mixtures[1:]:
        yield np.concatenate([values, values[:, :1].repeat(missing, axis=1)], axis=1)


def _rank(truth: float, draws: Array, share: float) -> float:
    """Return the rank of the truth among draws as a number in (0, 1), given a share of its ties."""
    below, equal = (draws < truth).sum(), (draws == truth).sum()
    return float((below + share * (equal + 1)) / (draws.size + 1))


def _run(study: _Study, n_simulations: int, progressbar: bool) -> tuple[list[_Outcome], bool]:
    """Return the outcomes of the simulations that were done, and whether that was not all."""
    seeds = np.random.SeedSequence(study.options.random_seed).spawn(n_simulations)
    chains = study.options.chains if study.method == "nuts" else n_cores()
    pool = ThreadPoolExecutor(max(1, n_cores() // chains))
    futures: list[Future[_Outcome]] = []
    interrupted = False
    with at_work(progressbar) as progress, warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # ranks say it
        try:
            futures += [pool.submit(study.simulation, seed) for seed in seeds]
            _watch(futures, progress)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            pool.shutdown(cancel_futures=True)
    return [one.result() for one in futures if not one.cancelled()], interrupted


def _watch(futures: list[Future[_Outcome]], progress: Progress) -> None:
    """Wait until all is done, or the first error that is not a failed fit."""
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, timeout=PATIENCE)
        for one in done:
            one.result()
        progress.update(f"Calibrating, {len(futures) - len(waiting)} of {len(futures)} fits done")


def _judged(
    study: _Study, outcomes: list[_Outcome], n_simulations: int, interrupted: bool
) -> xr.Dataset:
    """Return ranks, their ECDFs and what they say."""
    failures = [one.failure for one in outcomes if one.failure]
    n_ranked = len(outcomes) - len(failures)
    if n_ranked < FEWEST:
        why = " It was interrupted." * interrupted
        why += f" The first that failed: {failures[0]}" if failures else ""
        raise FitError(
            f"The calibration has {n_ranked} of {n_simulations} fits, and nothing can be said of "
            f"fewer than {FEWEST}.{why}",
            status=names.INTERRUPTED if interrupted else "sampler",
        )
    quantities = list(dict.fromkeys(name for one in outcomes for name in one.ranks))
    ranks = np.array([[one.ranks.get(name, np.nan) for name in quantities] for one in outcomes])
    ranked = ranks[[not one.failure for one in outcomes]]
    band = Band.of(n_ranked)
    p_values = np.array([band.p_value(column) for column in ranked.T])
    verdict = _verdict(quantities, p_values, ranked)
    if failures:
        verdict += f" {len(failures)} fits failed and are not ranked: this holds for the others."
    _complain(len(outcomes), n_simulations, failures, interrupted)
    return xr.Dataset(
        {
            names.RANKS: ((names.SIMULATION, names.QUANTITY), ranks),
            names.N_KEPT: (names.SIMULATION, np.array([one.n_kept for one in outcomes])),
            names.P_VALUE: (names.QUANTITY, p_values),
            names.ECDF: ((names.QUANTITY, names.LEVEL), ecdf(ranked).T),
            names.BAND: (
                (names.LEVEL, names.CI_BOUND),
                band.bounds(1.0 - (1.0 - PROBABILITY) / len(quantities)).T,
            ),
        },
        coords={
            names.SIMULATION: np.arange(len(outcomes)),
            names.QUANTITY: quantities,
            names.LEVEL: POINTS,
            names.CI_BOUND: ["lower", "upper"],
        },
        attrs={
            names.VERDICT: verdict,
            names.N_FAILED: len(failures),
            names.INTERRUPTED: int(interrupted),
            names.METHOD: study.method,
            "n_obs": study.n_obs,
            "draws": study.options.draws,
            "chains": study.options.chains,
            names.RANDOM_SEED: study.options.random_seed,
            names.SPECIFICATION: json.dumps(study.specification.to_dict()),
        },
    )


def _verdict(quantities: list[str], p_values: Array, ranks: Array) -> str:
    """Return what ranks say, in words."""
    adjusted = np.minimum(p_values * len(quantities), 1.0)
    what = f"{len(quantities)} quantities in {len(ranks)} simulations"
    if adjusted.min() >= 1.0 - PROBABILITY:
        return f"No sign of miscalibration: ranks of {what} look uniform."
    wrong = np.flatnonzero(adjusted < 1.0 - PROBABILITY)
    told = [
        f"{quantities[q]} ({_fault(ranks[:, q])}, p = {p_values[q]:.1g})"
        for q in wrong[np.argsort(p_values[wrong])]
    ]
    return f"Miscalibrated: of {what} ranks are not uniform for {'; '.join(told)}."


def _fault(ranks: Array) -> str:
    """Return what is most wrong with draws whose truth has these ranks."""
    about = ranks - 0.5
    shift = about.mean() * np.sqrt(12.0)
    spread = (about**2).mean() * 12.0 - 1.0
    if abs(shift) > abs(spread) / np.sqrt(0.8):  # each in standard errors for uniform ranks
        return "draws too low" if shift > 0.0 else "draws too high"
    return "draws too narrow" if spread > 0.0 else "draws too wide"


def _complain(n_done: int, n_all: int, failures: list[str], interrupted: bool) -> None:
    """Warn of what is missing."""
    told = []
    if interrupted:
        told.append(f"was interrupted: {n_done} of {n_all} simulations are returned")
    if failures:
        told.append(f"has {len(failures)} of {n_done} fits that failed; the first: {failures[0]}")
    if told:
        warnings.warn(f"The calibration {', and '.join(told)}", ConvergenceWarning, stacklevel=4)
