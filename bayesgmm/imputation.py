"""What missing cells may have held: draws of them, given the cells that are seen."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.chunked import is_chunked
from bayesgmm.data import Data
from bayesgmm.errors import check_integer
from bayesgmm.kernels.draws import fill_draws
from bayesgmm.kernels.factor_cells import pack_lines
from bayesgmm.kernels.factor_draws import fill_completed
from bayesgmm.kernels.factor_loadings import is_factored
from bayesgmm.kernels.marginal import fill_imputed
from bayesgmm.kernels.patterns import Group, groups_of
from bayesgmm.kernels.relabel import NO_ARRAY, NO_CUBE, NO_LABELS
from bayesgmm.kernels.threads import over_draws
from bayesgmm.lazy import by_blocks
from bayesgmm.prediction import Mixtures, mixtures, rows_asked

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]

FEWEST: Final = 1000
"""Draws of every missing cell, at least, that mean and interval are made of."""
BLOCK_BYTES: Final = 2**26
"""Memory for the draws of some rows."""
LARGEST_RESULT: Final = 2**31
"""Bytes of a result beyond which it is refused rather than made."""


def impute(
    tree: xr.DataTree, X_new: Any = None, *, draws: int = 20, random_seed: int | None = None
) -> xr.Dataset:
    r"""Draw what missing cells may have held, given the cells that are seen.

    .. math:: p(x_m \mid x_o, X) = \int \sum_k r_k(x_o, \theta) \,
              \mathrm{Normal}(x_m \mid x_o, \mu_k, \Sigma_k) \, p(\theta \mid X) \, d\theta

    Every draw takes a mixture of the posterior, a component with the probability that it has given
    the cells o that are seen, and the missing cells m from that component's distribution given o.
    So draws differ by all that is not known: the parameters, the component, and the cell itself. Of
    a row that is background noise they are uniform in its box.

    Parameters
    ----------
    tree : DataTree
        A fit.
    X_new : array, DataFrame or DataArray, shape (n_obs, n_features), optional
        The fitted features, in the fitted order, NaN where missing; by default the rows that were
        fitted, with their measurement errors.
    draws : int, default 20
        How many completed tables to return.
    random_seed : int, optional
        The same seed gives the same draws.

    Returns
    -------
    Dataset
        ``X`` (imputation, obs, feature): completed tables, in the data's units, with the labels of
        the data. ``mean`` and ``sd`` (obs, feature), ``interval`` (obs, feature, ci_bound): of the
        draws of each cell, an equal-tailed interval with the probability ``ci_prob`` of the
        attributes. ``missing`` (obs, feature): which cells were (1 and 0 of a cube of floats in
        Dask's chunks). The others are as they were given, with an ``sd`` of 0.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit; `X_new` has other columns than it, or rows in which nothing is seen;
        `draws` is no positive integer; or the tables would take more than 2 GiB.

    See Also
    --------
    pool : Puts together what is estimated from each of the tables.
    predict_proba : Takes rows with missing cells as they are: to impute first is not needed.

    Notes
    -----
    Cells must be missing at random (Rubin 1976): whether one is may depend on cells that are
    seen, but not, given these, on the number that it would have held. The data cannot tell.

    An analysis of each of the tables gives estimates that `pool` puts together by Rubin's rules
    (1987). The tables are of different draws of the posterior, as far as there are so many.
    Of a fit by ``"map"`` or ``"ml"`` all are of the same parameters: what these leave unknown is
    not in the variance between.

    Mean, sd and interval are of as many draws as the posterior has, 1,000 at the least. With
    measurement errors missing cells are drawn without error, and cells that are seen keep theirs.

    O(S N K D^2) operations for S draws, and O(S K D^3) for each pattern of missing cells; of factor
    analysers O(S N K D q^2), whatever is missing. 64 MiB of memory beyond the result.

    References
    ----------
    Rubin (1976), Inference and missing data, Biometrika 63. doi:10.1093/biomet/63.3.581

    Rubin (1987), Multiple imputation for nonresponse in surveys. doi:10.1002/9780470316696

    Ghahramani & Jordan (1994), Supervised learning from incomplete data via an EM approach,
    NIPS 6.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> X = bg.datasets.load_faithful().astype(float)
    >>> tree = bg.fit(X, 2, method="map", random_seed=1)
    >>> X.loc[[0, 1], "waiting"] = float("nan")
    >>> found = bg.impute(tree, X[:3], random_seed=1)
    >>> found["mean"].sel(feature="waiting").values.round()
    array([76., 53., 74.])
    >>> found["X"].sizes["imputation"]
    20
    """
    if is_chunked(X_new):
        draws = check_integer(draws, "draws", 1, "Give the number of tables; 20 is usual.")
        seeds = np.random.SeedSequence(random_seed)
        return by_blocks(impute, tree, X_new, {"draws": draws}, seeds)
    data, found = imputed(tree, X_new, draws, random_seed)
    return data.laid_out(found)


def imputed(
    tree: xr.DataTree, X_new: Any, draws: int, random_seed: int | None
) -> tuple[Data, xr.Dataset]:
    """Return rows, and what `impute` says of them, along ``obs``."""
    from arviz_base import rcParams

    draws = check_integer(draws, "draws", 1, "Give the number of tables; 20 is usual.")
    if random_seed is not None:
        check_integer(random_seed, "random_seed", 0, "Give an integer such as 1, or None.")
    data = rows_asked(tree, X_new, "impute")
    _refuse_large(draws, data.values)
    ci_prob = float(rcParams["stats.ci_prob"])
    rng, missing = np.random.default_rng(random_seed), np.isnan(data.values)
    tails = [0.5 - 0.5 * ci_prob, 0.5 + 0.5 * ci_prob]
    tables = np.tile(data.values, (draws, 1, 1))
    mean, sd = data.values.copy(), np.zeros(data.values.shape)
    interval = np.stack([mean, mean], axis=-1)
    of_posterior = mixtures(tree)
    rows = of_posterior.rows(data.values, data.errors, data.allowed)
    for members, hidden, drawn in _drawn(of_posterior, rows, draws, rng):
        where = np.ix_(members, hidden)
        kept = np.linspace(0, len(drawn) - 1, draws).astype(int)
        tables[np.ix_(np.arange(draws), members, hidden)] = drawn[kept]
        mean[where], sd[where] = drawn.mean(axis=0), drawn.std(axis=0)
        interval[where] = np.moveaxis(np.quantile(drawn, tails, axis=0), 0, -1)
    cell = (names.OBS, names.FEATURE)
    return data, xr.Dataset(
        {
            names.X: ((names.IMPUTATION, *cell), tables),
            names.MEAN: (cell, mean),
            names.SD: (cell, sd),
            names.INTERVAL: ((*cell, names.CI_BOUND), interval),
            names.MISSING: (cell, missing),
        },
        coords={
            names.IMPUTATION: np.arange(draws),
            names.CI_BOUND: ["lower", "upper"],
            **data.coords,
        },
        attrs={names.CI_PROB: ci_prob},
    )


def _refuse_large(draws: int, values: Array) -> None:
    """Refuse tables that would not fit into memory."""
    size = 8 * draws * values.size
    if size > LARGEST_RESULT:
        raise ValueError(
            f"`draws` must leave the result under 2 GiB; got {draws} tables of shape "
            f"{values.shape}, {size / 2**30:.1f} GiB. Ask for fewer tables, or pass some of the "
            f"rows as `X_new`."
        )


def _drawn(
    draws: Mixtures, rows: Array, at_least: int, rng: np.random.Generator
) -> Iterator[tuple[Labels, Labels, Array]]:
    """Yield some rows, the features that they miss, and draws of these, shape (T, n, missing).

    T is a multiple of the number of posterior draws, each of which is used as often, one time
    after another.
    """
    n_draws, n_dim = len(draws.means), draws.unit.size
    n_weights = draws.log_weights.shape[1]
    repeats = -(-max(FEWEST, at_least) // n_draws)
    step = max(1, BLOCK_BYTES // (8 * n_draws * repeats * (4 * n_dim + n_weights)))
    if is_factored(draws.cholesky, n_dim):
        yield from _drawn_with_scores(draws, rows, repeats, step, rng)
        return
    for group in groups_of(rows, n_dim, n_weights):
        hidden = np.setdiff1d(np.arange(n_dim), group.seen)
        for start in range(0, len(group.members) if hidden.size else 0, step):
            members = group.members[start : start + step]
            drawn = _complete(draws, group, rows[:, members], repeats, rng)[..., hidden]
            yield members, hidden, drawn * draws.unit[hidden] + draws.center[hidden]


def _complete(
    draws: Mixtures, group: Group, rows: Array, repeats: int, rng: np.random.Generator
) -> Array:
    """Return draws of the complete rows, shape (T, n, D), of some rows of a group."""
    n_draws, n_components, n_dim = draws.means.shape
    cells = np.ascontiguousarray(rows[group.seen])
    shares = np.zeros((*draws.log_weights.shape, rows.shape[1]))
    uniform = rng.random((repeats, n_draws, rows.shape[1]))
    normal = rng.normal(size=(*uniform.shape, n_dim + group.errors.shape[1]))
    chi_square = np.empty((repeats, *[0] * 3))
    if draws.cholesky.shape[2] > n_dim:
        df = draws.cholesky[:, :, n_dim, :1] + len(group.seen)
        chi_square = rng.chisquare(df, size=(repeats, *shares.shape))
    drawn = np.empty((*uniform.shape, n_dim))

    def fill(part: slice) -> None:
        means, cholesky = draws.means[part], draws.cholesky[part]
        fill_draws(
            rows, draws.log_weights[part], means, cholesky,
            NO_ARRAY, shares[part], NO_LABELS, NO_CUBE,
        )  # fmt: skip
        of_components = shares[part]
        if len(draws.box):
            of_components = of_components[:, :n_components]
            total = of_components.sum(axis=1, keepdims=True)
            of_components = of_components / np.where(total > 0.0, total, 1.0)
        for r in range(repeats):
            fill_imputed(
                cells, group.seen, group.errors, means, cholesky, of_components,
                uniform[r, part], normal[r, part], chi_square[r, part], drawn[r, part],
            )  # fmt: skip

    over_draws(fill, n_draws)
    if len(draws.box):
        low, high = draws.box
        is_noise = rng.random(uniform.shape) < shares[:, n_components]
        drawn[is_noise] = rng.uniform(low, high, (int(is_noise.sum()), n_dim))
    return np.moveaxis(drawn, 0, 1).reshape(-1, rows.shape[1], n_dim)


def _drawn_with_scores(
    draws: Mixtures, rows: Array, repeats: int, step: int, rng: np.random.Generator
) -> Iterator[tuple[Labels, Labels, Array]]:
    """Yield what `_drawn` does, of factor analysers: rows one by one, `step` drawn at a time."""
    n_dim = draws.means.shape[2]
    holes = np.isnan(rows[:n_dim])
    holed = np.flatnonzero(holes.any(axis=0))
    for start in range(0, holed.size, step):
        members = holed[start : start + step]
        drawn = _with_scores(draws, rows, members, repeats, rng)
        for i in range(members.size):
            hidden = np.flatnonzero(holes[:, members[i]])
            cells = drawn[:, i : i + 1, hidden]
            yield members[i : i + 1], hidden, cells * draws.unit[hidden] + draws.center[hidden]


def _with_scores(
    draws: Mixtures, rows: Array, members: Labels, repeats: int, rng: np.random.Generator
) -> Array:
    """Return draws of the complete rows, shape (T, n, D), of some rows, by way of their scores."""
    n_draws, n_components, n_dim = draws.means.shape
    others = pack_lines(rows, members, n_dim, n_components)
    uniform = rng.random((repeats, n_draws, members.size))
    normal = rng.normal(size=(*uniform.shape, n_dim + draws.cholesky.shape[3] - 1))
    drawn = np.empty((*uniform.shape, n_dim))

    def fill(part: slice) -> None:
        for r in range(repeats):
            fill_completed(
                others, draws.log_weights[part], draws.means[part], draws.cholesky[part],
                uniform[r, part], normal[r, part], drawn[r, part],
            )  # fmt: skip

    over_draws(fill, n_draws)
    return np.moveaxis(drawn, 0, 1).reshape(-1, members.size, n_dim)
