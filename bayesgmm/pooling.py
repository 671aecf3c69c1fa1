"""Estimates from several completed tables, pooled by Rubin's rules."""

from typing import Any

import numpy as np
import xarray as xr
from scipy.stats import t

from bayesgmm import names
from bayesgmm.errors import check_positive, check_share


def pool(
    estimates: Any, variances: Any, *, df: float | None = None, probability: float = 0.9
) -> xr.Dataset:
    r"""Pool estimates that were made from each of several completed tables.

    Of m tables with estimates :math:`q_i` and variances :math:`u_i`, each as if its table had been
    complete,

    .. math:: \bar q = \frac1m \sum_i q_i, \qquad
              t = \bar u + \Bigl(1 + \frac1m\Bigr) b, \qquad
              b = \frac{1}{m - 1} \sum_i (q_i - \bar q)^2

    are the estimate and its variance: what the tables say, and what they differ by.

    Parameters
    ----------
    estimates : array or DataArray, shape (n_imputations, ...)
        One for each table, in any units; near to Normal, so take a correlation's Fisher z and an
        odds' logarithm. A DataArray has a dimension ``imputation``, as ``impute(tree)["X"]`` has;
        of arrays it is the first.
    variances : array or DataArray, shape (n_imputations, ...)
        Their squared standard errors, positive, of the same shape.
    df : float, optional
        Degrees of freedom that the estimate would have without missing cells: n - 1 for the mean
        of n rows. By default there are so many that they do not matter.
    probability : float, default 0.9
        That the interval holds what is estimated.

    Returns
    -------
    Dataset
        Over the dimensions other than that of the tables: ``mean``, the pooled estimate; ``sd``,
        its standard error; ``df``, degrees of freedom of its t; ``interval`` (..., ci_bound),
        central; and ``missing_information``, the share from 0 to 1 of what complete data would
        have said that is missing.

    Raises
    ------
    TypeError, ValueError
        If the two are no numbers of the same shape, or not finite, or of fewer than two tables; a
        variance is not positive; or `df` or `probability` are out of range.

    See Also
    --------
    impute : Draws the tables.

    Notes
    -----
    The degrees of freedom are Rubin's (1987), :math:`(m - 1) / \lambda^2` with
    :math:`\lambda = (1 + 1/m) b / t`, and with `df` those of Barnard & Rubin (1999), which are
    never more than `df`. Missing information is Rubin's :math:`(r + 2 / (\nu + 3)) / (r + 1)` with
    :math:`r = \lambda / (1 - \lambda)` and :math:`\nu` of 1987. O(m) for every estimate.

    References
    ----------
    Rubin (1987), Multiple imputation for nonresponse in surveys. doi:10.1002/9780470316696

    Barnard & Rubin (1999), Small-sample degrees of freedom with multiple imputation, Biometrika
    86. doi:10.1093/biomet/86.4.948

    Examples
    --------
    >>> import bayesgmm as bg
    >>> found = bg.pool([47.0, 47.2, 47.5, 47.1, 47.0], [0.92, 0.87, 1.02, 0.91, 0.93], df=30)
    >>> round(found["mean"].item(), 2), round(found["sd"].item(), 2), round(found["df"].item(), 1)
    (47.16, 0.99, 26.2)
    """
    q, u = _per_table(estimates, "estimates"), _per_table(variances, "variances")
    if isinstance(variances, xr.DataArray) and set(u.dims) == set(q.dims):
        u = u.transpose(*q.dims)
    if q.shape != u.shape:
        raise ValueError(
            f"`variances` must have the shape of `estimates`, {q.shape}; got {u.shape}. Give one "
            f"for each estimate."
        )
    if not (u.values > 0.0).all():
        raise ValueError(
            f"`variances` must be positive; got {u.values[u.values <= 0.0][0]}. Pass squares of "
            f"standard errors."
        )
    level = check_share(probability, "probability", "0.9 is usual.")
    m, mean = q.sizes[names.IMPUTATION], q.mean(names.IMPUTATION)
    within = u.values.mean(axis=q.get_axis_num(names.IMPUTATION))
    between = (1.0 + 1.0 / m) * q.var(names.IMPUTATION, ddof=1).values
    variance = within + between
    share = between / variance
    inverse_df = share**2 / (m - 1)
    information = share + (1.0 - share) * 2.0 * inverse_df / (1.0 + 3.0 * inverse_df)
    if df is not None:
        complete = check_positive(df, "df", "Leave it out if it is large.")
        inverse_df += (complete + 3.0) / (complete + 1.0) / complete * variance / within
    with np.errstate(divide="ignore"):  # tables that agree leave nothing to count
        found_df = 1.0 / inverse_df
    half = t.ppf(0.5 + 0.5 * level, found_df) * np.sqrt(variance)
    interval = np.stack([mean.values - half, mean.values + half], axis=-1)
    return xr.Dataset(
        {
            names.MEAN: mean,
            names.SD: (mean.dims, np.sqrt(variance)),
            names.DF: (mean.dims, found_df),
            names.INTERVAL: ((*mean.dims, names.CI_BOUND), interval),
            names.MISSING_INFORMATION: (mean.dims, information),
        },
        coords={names.CI_BOUND: ["lower", "upper"]},
        attrs={names.CI_PROB: level},
    )


def _per_table(values: Any, name: str) -> xr.DataArray:
    """Return one number or more for every table, refusing what is none."""
    remedy = "Make one from each of the tables of `bayesgmm.impute`."
    if isinstance(values, xr.DataArray):
        if names.IMPUTATION not in values.dims:
            raise ValueError(
                f"`{name}` must have a dimension {names.IMPUTATION!r}; got {values.dims}. {remedy}"
            )
        found = values
    else:
        array = np.asarray(values)
        dims = [names.IMPUTATION, *(f"dim_{i}" for i in range(1, array.ndim))]
        if array.ndim == 0:
            raise ValueError(f"`{name}` must hold several estimates; got {values!r}. {remedy}")
        found = xr.DataArray(array, dims=dims)
    if found.dtype.kind not in "iuf":
        raise TypeError(f"`{name}` must be numbers; got dtype {found.dtype}. Convert them.")
    if found.sizes[names.IMPUTATION] < 2:
        raise ValueError(
            f"`{name}` must be of two tables at least; got {found.sizes[names.IMPUTATION]}. "
            f"What tables differ by is what missing cells cost."
        )
    if not np.isfinite(found.values).all():
        wrong = found.values[~np.isfinite(found.values)][0]
        raise ValueError(f"`{name}` must be finite; got {wrong}. {remedy}")
    return found.astype(float)
