"""Which classes are taken for which, and whether the probabilities of classes are right."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from bayesgmm import names
from bayesgmm.classes import coordinate
from bayesgmm.classifier import FittedClassifier
from bayesgmm.cubes import along_rows
from bayesgmm.errors import check_integer
from bayesgmm.labels import listed
from bayesgmm.sample_weights import per_row

type Array = NDArray[np.float64]

PLACES: Final = 1000
"""Of probabilities between 0 and 1 that are told apart in a calibration."""
SIMULATIONS: Final = 1000
"""Of labels or of weights of rows, at least, from which a spread is made."""
ROWS: Final = 1024
"""That have weights at a time."""
LEVEL: Final = 0.9
"""Share of them that the band holds at each place."""


def confusion(
    classifier: FittedClassifier,
    X_new: Any,
    y: Any,
    *,
    shares: Mapping[Any, float] | None = None,
    random_seed: int | None = None,
) -> xr.Dataset:
    r"""Return which classes are taken for which, in decisions and in probabilities.

    Of the rows that are of class a, the share for which class b is the most probable, and the
    probability that b gets on average,

    .. math:: M_{ab} = \frac{\sum_{i: y_i = a} v_i \, p(b \mid x_i, \theta)}
                            {\sum_{i: y_i = a} v_i}

    with weights v of 1, and for the spread one matrix for every draw of :math:`\theta`, with
    weights v from a Bayesian bootstrap: it holds what the fit leaves open and what so few rows do.

    Parameters
    ----------
    classifier : FittedClassifier
        What `MixtureClassifier.fit` returned.
    X_new : array, DataFrame or DataArray, shape (n_new, n_features)
        Rows that were not fitted.
    y : array or Series, shape (n_new,)
        The class of each of them.
    shares : mapping of class to float, optional
        How frequent classes are among the new rows, as in `predict_proba`.
    random_seed : int, optional
        The same seed gives the same spread.

    Returns
    -------
    Dataset
        ``decided`` and ``probability`` (class, predicted), whose rows sum to 1; ``sd`` (class,
        predicted) and ``probability_interval`` (class, predicted, ci_bound) of the probability,
        holding the central share ``attrs["ci_prob"]``; ``n_rows`` (class,). NaN for a class of
        which there is no row.

    Raises
    ------
    TypeError, ValueError
        If `classifier` is none, `y` is no fitted class for every row, or `X_new` or `shares` are
        not what `predict_proba` takes.

    See Also
    --------
    reliability : Whether the probabilities are right.

    Notes
    -----
    Decisions are sharper than probabilities: where it is 60 to 40 every time, all decisions fall
    on the first. Cost and memory are those of `predict_proba`, and O(S C^2) for C classes.

    References
    ----------
    Rubin (1981), The Bayesian bootstrap, Annals of Statistics 9. doi:10.1214/aos/1176345338

    Examples
    --------
    >>> import bayesgmm as bg
    >>> iris = bg.datasets.load_iris()
    >>> X, y = iris.drop(columns="species"), iris["species"]
    >>> fitted = bg.MixtureClassifier().fit(X[::2], y[::2], method="map", random_seed=1)
    >>> found = bg.confusion(fitted, X[1::2], y[1::2], random_seed=1)
    >>> (found["decided"] * found["n_rows"]).sel({"class": "virginica"}).values.round()
    array([ 0.,  1., 24.])
    """
    from arviz_base import rcParams

    if not isinstance(classifier, FittedClassifier):
        raise TypeError(
            f"`classifier` must be fitted; got an object of type {type(classifier).__name__}. "
            f"Pass what bayesgmm.MixtureClassifier(...).fit(X, y) returns."
        )
    if random_seed is not None:
        check_integer(random_seed, "random_seed", 0, "Give an integer such as 1, or None.")
    asked = classifier.asked(X_new)
    classes = coordinate(list(classifier.fits))
    which = _places(along_rows(y, asked.coords, "y"), classes, asked.obs)
    rng = np.random.default_rng(random_seed)
    n_draws, n_classes = classifier.shares.shape
    repeats = -(-SIMULATIONS // n_draws)
    total, mass = (np.zeros((repeats, n_draws, n_classes, k)) for k in (n_classes, 1))
    mean, decided = (np.zeros((n_classes, n_classes)) for _ in range(2))
    for block, drawn in classifier.drawn(asked.values, shares):
        _weigh(drawn, which[block], rng, total, mass)
        probability = drawn.mean(axis=0)
        np.add.at(mean, which[block], probability)
        np.add.at(decided, (which[block], probability.argmax(axis=1)), 1.0)
    counts = np.bincount(which, minlength=n_classes)
    none = counts == 0
    mass[:, :, none] = mean[none] = decided[none] = np.nan
    matrices = (total / mass).reshape(-1, n_classes, n_classes)
    ci_prob = float(rcParams["stats.ci_prob"])
    interval = np.quantile(matrices, [0.5 - 0.5 * ci_prob, 0.5 + 0.5 * ci_prob], axis=0)
    both = (names.CLASS, names.PREDICTED)
    rows = np.maximum(counts, 1)[:, None]
    return xr.Dataset(
        {
            names.DECIDED: (both, decided / rows),
            names.PROBABILITY: (both, mean / rows),
            names.SD: (both, matrices.std(axis=0)),
            names.PROBABILITY_INTERVAL: ((*both, names.CI_BOUND), np.moveaxis(interval, 0, -1)),
            names.N_ROWS: (names.CLASS, counts),
        },
        coords={
            names.CLASS: classes,
            names.PREDICTED: classes,
            names.CI_BOUND: ["lower", "upper"],
        },
        attrs={names.CI_PROB: ci_prob},
    )


def _weigh(
    drawn: Array,
    which: NDArray[np.int64],
    rng: np.random.Generator,
    total: Array,
    mass: Array,
) -> None:
    """Add what rows say of each class to the sums, under weights of a Bayesian bootstrap.

    Parameters
    ----------
    drawn : array, shape (n_draws, n_rows, n_classes)
    which : array of int, shape (n_rows,)
        The place of the class of each row.
    rng : Generator
        Asked for the weights of one row after another, so that blocks do not matter.
    total : array, shape (n_repeats, n_draws, n_classes, n_classes)
    mass : array, shape (n_repeats, n_draws, n_classes, 1)
    """
    for start in range(0, len(which), ROWS):
        part = slice(start, start + ROWS)
        weights = rng.exponential(size=(len(which[part]), *total.shape[:2]))
        for a in np.unique(which[part]):
            mine = which[part] == a
            total[:, :, a] += np.einsum("irs,sib->rsb", weights[mine], drawn[:, part][:, mine])
            mass[:, :, a, 0] += weights[mine].sum(axis=0)


def reliability(probability: Any, y: Any, *, random_seed: int | None = None) -> xr.Dataset:
    r"""Compare probabilities of classes with the shares of them that are true.

    Of all that had a probability of 0.7, are 70 % true? Every row makes a statement about each
    class. The share that is true among those with a probability p is estimated by the increasing
    function of p that fits best, isotonic regression, which needs no bins. Labels that are drawn
    from the probabilities themselves say how far it may be from p by chance alone.

    Parameters
    ----------
    probability : Dataset or DataArray, dims (obs, class) or (obs, component)
        From `predict_proba` of a `MixtureClassifier` or of a fit; rows sum to 1.
    y : array or Series, shape (n_obs,)
        The class, or component, that is the truth for every row: rows that were not fitted, or
        left out.
    random_seed : int, optional
        The same seed gives the same band.

    Returns
    -------
    Dataset
        ``share`` (level,): of the statements with this probability, those that are true;
        ``band`` (level, ci_bound): where it lies at each level in 90 % of the draws if the
        probabilities are right; ``counts`` (level,): statements. ``level``, the probabilities that
        occur, to three decimals. ``miscalibration``, in units of Brier's score of a statement: how
        much of it would go if probabilities were moved to their shares; ``p_value``: how often it
        is as large by chance.

    Raises
    ------
    TypeError, ValueError
        If `probability` is none of these, or `y` is no class of it for every row.

    See Also
    --------
    plot_reliability : Draws it.
    confusion : Which classes are taken for which.

    Notes
    -----
    The p-value is of :math:`\frac{1}{n} \sum_j (p_j - t_j)^2 - (s_j - t_j)^2`, t being 1 for
    statements that are true and s their share: Brier's score of what is said less that of what
    should have been. Probabilities may be right and say little; that is for the log score.
    O(n) for each of 1,000 simulations of n statements.

    References
    ----------
    Dimitriadis, Gneiting & Jordan (2021), Stable reliability diagrams for probabilistic
    classifiers, PNAS 118. doi:10.1073/pnas.2016191118

    Examples
    --------
    >>> import bayesgmm as bg
    >>> iris = bg.datasets.load_iris()
    >>> X, y = iris.drop(columns="species"), iris["species"]
    >>> fitted = bg.MixtureClassifier().fit(X[::2], y[::2], method="map", random_seed=1)
    >>> found = bg.reliability(fitted.predict_proba(X[1::2]), y[1::2], random_seed=1)
    >>> found["p_value"].item() > 0.05
    True
    """
    said, which = _statements(probability, y)
    if random_seed is not None:
        check_integer(random_seed, "random_seed", 0, "Give an integer such as 1, or None.")
    rng = np.random.default_rng(random_seed)
    group = np.rint(PLACES * said).astype(np.int64)
    counts = np.bincount(group.ravel(), minlength=PLACES + 1)
    level = np.bincount(group.ravel(), said.ravel(), PLACES + 1)[counts > 0]
    counts, place = counts[counts > 0], np.cumsum(counts > 0) - 1
    level, group = level / counts, place[group]
    rows = np.arange(len(said))
    share, lack = _calibrated(group[rows, which], level, counts)
    below = said.cumsum(axis=1)[:, :-1]
    drawn, lacks = np.empty((SIMULATIONS, level.size)), np.empty(SIMULATIONS)
    for s in range(SIMULATIONS):
        label = (rng.random((len(said), 1)) > below).sum(axis=1)
        drawn[s], lacks[s] = _calibrated(group[rows, label], level, counts)
    tail = 0.5 - 0.5 * LEVEL
    return xr.Dataset(
        {
            names.SHARE: (names.LEVEL, share),
            names.BAND: (
                (names.LEVEL, names.CI_BOUND), np.quantile(drawn, [tail, 1.0 - tail], axis=0).T
            ),
            names.COUNTS: (names.LEVEL, counts),
            names.MISCALIBRATION: lack,
            names.P_VALUE: (1.0 + (lacks >= lack).sum()) / (1.0 + SIMULATIONS),
        },
        coords={names.LEVEL: level, names.CI_BOUND: ["lower", "upper"]},
        attrs={names.N_ROWS: len(said), names.CI_PROB: LEVEL},
    )  # fmt: skip


def _calibrated(true: NDArray[np.int64], level: Array, counts: NDArray[np.int64]) -> Any:
    """Return the increasing shares of statements that are true, and what they would gain.

    Parameters
    ----------
    true : array of int, shape (n_rows,)
        The places of the statements that are true.
    level, counts : array, shape (n_places,)
        The probability of the statements at each place, and how many there are.
    """
    hits = np.bincount(true, minlength=level.size)
    share = isotonic_regression(hits / counts, weights=counts).x
    gain = counts * (level**2 - share**2) - 2.0 * hits * (level - share)
    return share, gain.sum() / counts.sum()


def _statements(probability: Any, y: Any) -> tuple[Array, NDArray[np.int64]]:
    """Return the probabilities of all classes of every row, and the place of the true one."""
    remedy = "Pass what `predict_proba` returns."
    if isinstance(probability, xr.Dataset):
        probability = probability.get(names.PROBABILITY)
    if not isinstance(probability, xr.DataArray):
        raise TypeError(
            f"`probability` must be a DataArray or hold one of that name; got an object of type "
            f"{type(probability).__name__}. {remedy}"
        )
    others = [dim for dim in (names.CLASS, names.COMPONENT) if dim in probability.dims]
    if probability.ndim != 2 or names.OBS not in probability.dims or not others:
        raise ValueError(
            f"`probability` must have the dimensions ('obs', 'class') or ('obs', 'component'); "
            f"got {probability.dims}. {remedy}"
        )
    said = np.asarray(probability.transpose(names.OBS, ...).values, dtype=float)
    wrong = ~(np.abs(said.sum(axis=1) - 1.0) < 1e-6) | (said < 0.0).any(axis=1)
    if wrong.any():
        place = int(wrong.argmax())
        raise ValueError(
            f"`probability` must have rows that are positive and sum to 1; got {said[place]} "
            f"(row {place}). {remedy}"
        )
    obs = probability.indexes.get(names.OBS, pd.RangeIndex(len(said)))
    return said, _places(y, probability[others[0]].values, np.asarray(obs))


def _places(y: Any, classes: NDArray[Any], obs: NDArray[Any]) -> NDArray[np.int64]:
    """Return the place among the classes of that of every row, refusing others."""
    given = per_row(y, "y", obs)
    place = pd.Index(classes).get_indexer(pd.Index(given))
    if (place < 0).any():
        first = int((place < 0).argmax())
        raise ValueError(
            f"`y` must hold one of the classes {listed(classes.tolist())} for every row; got "
            f"{given.tolist()[first]!r} (row {obs.tolist()[first]!r}). Drop such rows."
        )
    return np.asarray(place, dtype=np.int64)
