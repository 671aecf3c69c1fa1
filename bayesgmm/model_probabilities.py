"""Posterior probabilities of numbers of components, from the evidence of each."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import logsumexp

from bayesgmm import names
from bayesgmm.errors import check_integer
from bayesgmm.evidence import Evidence, check_posterior, evidence_of

type Array = NDArray[np.float64]


def posterior_over_components(
    fits: "Mapping[int, xr.DataTree | Evidence]",
    *,
    prior: Mapping[int, float] | None = None,
    random_seed: int | None = None,
) -> xr.Dataset:
    r"""Return the posterior probability of every number of components.

    .. math:: p(K \mid X) \propto p(K) \, p(X \mid K)

    Parameters
    ----------
    fits : dict of int to DataTree or Evidence
        Fits of the same data, or what `log_evidence` gave of them, by number of components.
    prior : dict of int to float, optional
        Probability of every number of components, summing to 1; by default all are equal.
    random_seed : int, optional
        Of `log_evidence`.

    Returns
    -------
    Dataset, dims (n_components)
        ``probability``, and ``probability_error``, the standard error that follows from those of
        the evidences; ``prior_probability``; ``log_evidence`` and ``log_evidence_error``, in nats.

    Raises
    ------
    TypeError, ValueError
        If `fits` are not fits by their number of components, or of different rows; if one has no
        evidence (see `log_evidence`); or if `prior` does not give each a probability, or they do
        not sum to 1.

    Notes
    -----
    The evidence depends on the priors of means and covariances, however many the data: a prior
    twice as wide, in one feature, costs log 2 for every component. Priors by default do not depend
    on K, so that only the number of components differs.

    Errors are propagated to first order.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> X = bg.datasets.load_faithful()
    >>> fits = {k: bg.fit(X, k, draws=250, random_seed=1) for k in (1, 2)}
    >>> found = bg.posterior_over_components(fits, random_seed=1)
    >>> found["probability"].values.round(3)
    array([0., 1.])
    """
    _check_fits(fits)
    if random_seed is not None:
        check_integer(random_seed, "random_seed", 0, "Give an integer such as 1, or None.")
    numbers = sorted(fits)
    known = _checked_prior(prior, numbers)
    rng = np.random.default_rng(random_seed)
    found = []
    for k in numbers:
        fit = fits[k]
        if not isinstance(fit, Evidence):
            fit = evidence_of(fit, f"fits[{k}]", rng)
        found.append(fit)
    _refuse_different(numbers, found)
    values, errors = (
        np.array([getattr(one, name) for one in found]) for name in ("value", "error")
    )
    probability, probability_error = probabilities(values, errors, known)
    variables = {
        names.PROBABILITY: probability,
        names.PROBABILITY_ERROR: probability_error,
        names.PRIOR_PROBABILITY: known,
        names.LOG_EVIDENCE: values,
        names.LOG_EVIDENCE_ERROR: errors,
    }
    return xr.Dataset(
        {name: (names.N_COMPONENTS, column) for name, column in variables.items()},
        coords={names.N_COMPONENTS: np.array(numbers)},
    )


def probabilities(values: Array, errors: Array, prior: Array) -> tuple[Array, Array]:
    """Return posterior probabilities and their standard errors, to first order.

    Parameters
    ----------
    values, errors : array, shape (M,)
        Log evidences, and their standard errors.
    prior : array, shape (M,)
        Probabilities.

    Returns
    -------
    tuple of array, shape (M,)
    """
    with np.errstate(divide="ignore"):
        joint = values + np.log(prior)
    probability = np.exp(joint - logsumexp(joint))
    slopes = probability[:, None] * (np.eye(len(joint)) - probability)
    return probability, np.sqrt(slopes**2 @ errors**2)


def _check_fits(fits: Any) -> None:
    """Refuse anything but fits, or evidences, by their number of components."""
    if not isinstance(fits, Mapping) or isinstance(fits, xr.DataTree):
        raise TypeError(
            f"`fits` must be a dict of fits by number of components; got an object of type "
            f"{type(fits).__name__}. Write {{2: tree_2, 3: tree_3}}."
        )
    if not fits:
        raise ValueError(
            "`fits` must hold at least one fit; got none. Write {2: tree_2, 3: tree_3}."
        )
    for k, fit in fits.items():
        check_integer(k, "fits", 1, "Its keys are numbers of components: {2: tree_2, 3: tree_3}.")
        if isinstance(fit, Evidence):
            found = fit.n_components
        else:
            check_posterior(fit, f"fits[{k}]", "posterior_over_components")
            found = fit[names.POSTERIOR].sizes[names.COMPONENT]
        if found != k:
            raise ValueError(
                f"`fits[{k}]` must have {k} components; got {found}. Write {{{found}: ...}}."
            )


def _checked_prior(prior: Any, numbers: list[int]) -> Array:
    """Return the prior probability of every number of components."""
    if prior is None:
        return np.full(len(numbers), 1.0 / len(numbers))
    if not isinstance(prior, Mapping):
        raise TypeError(
            f"`prior` must be a dict of probabilities by number of components; got an object of "
            f"type {type(prior).__name__}. Write {{2: 0.5, 3: 0.5}}."
        )
    if sorted(prior) != numbers:
        raise ValueError(
            f"`prior` must give a probability to each number of components that was fitted, "
            f"{numbers}; got them of {sorted(prior)}. Leave it None if all are equal."
        )
    found = np.array([float(prior[k]) for k in numbers])
    if not (found >= 0.0).all():
        wrong = numbers[int((~(found >= 0.0)).argmax())]
        raise ValueError(
            f"`prior` must hold probabilities, at least 0; got {prior[wrong]} of {wrong} "
            f"components. Give 0 to what is impossible."
        )
    if abs(found.sum() - 1.0) > 1e-8:
        raise ValueError(f"`prior` must sum to 1; got {found.sum():.6g}. Divide it by its sum.")
    return found


def _refuse_different(numbers: list[int], found: list[Evidence]) -> None:
    """Refuse evidences of different rows."""
    for k, one in zip(numbers, found, strict=True):
        if one.data != found[0].data:
            raise ValueError(
                f"`fits` must be of the same data; got those of {numbers[0]} and {k} components, "
                f"whose rows differ. Fit both to the same rows, in the same order."
            )
