"""Heavy tails: components that are Student's t in place of Normal.

With nu degrees of freedom, and y the whitened row of d features, the density is

    log t = c - (nu + d) / 2 log(1 + |y|^2 / nu),
    c = lgamma((nu + d) / 2) - lgamma(nu / 2) - d / 2 log(nu pi) - log |L|.

It is that of a Normal whose precision is multiplied by a Gamma(nu / 2, nu / 2) variable. The
expectation of that, given a row, is its pull u = (nu + d) / (nu + |y|^2): less than 1 for one far
out. Weighted by the pulls the moments of the rows, n = sum r, s = sum r u y and S = sum r u y y',
are what the E-step asks for, and by Fisher's identity the gradient (Liu & Rubin 1995; McLachlan &
Peel 2000, chapter 7). The sum of the pulls themselves follows from them.

Everywhere in the kernels degrees of freedom stand in a further line below a Cholesky factor, or
its inverse, of shape (D + 1, D) then: nu is the first number in it. In the further line below
second moments the first number is the h of `log_pull_sum`. Where there is no further line
components are Normal.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.cholesky import Layout
from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.elementary import log_positive

type Array = NDArray[np.float64]

NO_DF: Final = np.empty(0)

LARGE: Final = 20.0
"""From here on Stirling's series has all digits of the logarithm of the gamma function."""
FARTHEST: Final = 1e300
"""Of |y|^2 / nu: more has no logarithm."""
LEAST_DF: Final = 0.1
MOST_DF: Final = 1e4
"""Degrees of freedom that EM finds: with more a component can hardly be told from a Normal one."""
BISECTIONS: Final = 60


@kernel
def digamma(x: float) -> float:
    """Return the derivative of the log gamma function at a positive number."""
    result = 0.0
    while x < 10.0:
        result -= 1.0 / x
        x += 1.0
    z = 1.0 / (x * x)
    series = 1.0 / 132.0 - z * (691.0 / 32760.0)
    for coefficient in (1.0 / 240.0, 1.0 / 252.0, 1.0 / 120.0, 1.0 / 12.0):
        series = coefficient - z * series
    return result + math.log(x) - 0.5 / x - z * series


@kernel
def _stirling(x: float) -> float:
    """Return lgamma(x) - (x - 1/2) log x + x - log(2 pi) / 2 of a large number."""
    z = 1.0 / (x * x)
    series = 1.0 / 1260.0 - z * (1.0 / 1680.0 - z / 1188.0)
    return (1.0 / 12.0 - z * (1.0 / 360.0 - z * series)) / x


@kernel
def tail_constant(df: float, n_dim: int) -> float:
    """Return the log density of a standard t at its center; of n_dim features together.

    Both gamma functions are large where degrees of freedom are many, and their ratio is not:
    it is taken without them.
    """
    x, more = 0.5 * df, 0.5 * n_dim
    if x < LARGE:
        return math.lgamma(x + more) - math.lgamma(x) - more * math.log(df * math.pi)
    ratio = (x + more - 0.5) * math.log1p(more / x) - more + _stirling(x + more) - _stirling(x)
    return ratio - more * math.log(2.0 * math.pi)


@kernel
def tail_block(
    lp: Array, pulls: Array, logs: Array, constant: float, df: float, n_dim: int, n: int
) -> None:
    """Turn squared distances of a block of rows into log densities of a t.

    Parameters
    ----------
    lp : array
        Minus half the squared distances. Overwritten with constant less (df + n_dim) / 2 times
        the log of 1 + distance / df.
    pulls, logs : arrays
        Overwritten with the pulls, and these logs.
    constant, df : float
    n_dim : int
    n : int
        Rows.
    """
    inverse, half = 1.0 / df, 0.5 * (df + n_dim)
    most = 2.0 * half * inverse
    for i in range(n):
        ratio = min(-2.0 * lp[i] * inverse, FARTHEST)
        whole = 1.0 + ratio
        # what rounding has taken from 1 + ratio, where many degrees of freedom would show it
        log = log_positive(whole) + (ratio - (whole - 1.0)) / whole
        lp[i] = constant - half * log
        pulls[i] = most / whole
        logs[i] = log


@kernel(fastmath=frozenset({"contract", "reassoc", "nsz"}))
def weigh_block(shares: Array, pulls: Array, logs: Array, n: int) -> tuple[float, float]:
    """Multiply the responsibilities of a block by the pulls; return their sums, plain and by logs.

    Parameters
    ----------
    shares : array
        Responsibilities. Overwritten with their products with the pulls.
    pulls, logs : arrays
        As `tail_block` writes them.
    n : int
        Rows.
    """
    count, total = 0.0, 0.0
    for i in range(n):
        share = shares[i]
        count += share
        total += share * logs[i]
        shares[i] = share * pulls[i]
    return count, total


@kernel
def log_pull_sum(count: float, logs: float, df: float, n_dim: int) -> float:
    """Return h = sum r (digamma((nu + d) / 2) - log(1 + |y|^2 / nu)).

    It adds up over rows of which different numbers of features are seen; less n log(nu / 2) it is
    the expected logarithm of what multiplies the precision.
    """
    return count * digamma(0.5 * (df + n_dim)) - logs


@kernel
def pull_sum(count: float, second: Array, df: float) -> float:
    """Return the sum of r u, from n and S: of every row D less the trace of its part is nu (u - 1).

    Parameters
    ----------
    count : float
    second : array, shape (D + 1, D)
    df : float
    """
    n_dim = second.shape[1]
    trace = 0.0
    for d in range(n_dim):
        trace += second[d, d]
    return count + (n_dim * count - trace) / df


@kernel
def df_slope(count: float, second: Array, df: float) -> float:
    """Return the derivative of the log-likelihood by a component's degrees of freedom.

    Parameters
    ----------
    count : float
    second : array, shape (D + 1, D)
        With h in the further line.
    df : float
    """
    whole = second[second.shape[1], 0] + count * (1.0 - digamma(0.5 * df))
    return 0.5 * (whole - pull_sum(count, second, df))


@kernel
def most_likely_df(count: float, excess: float, shape: float, rate: float) -> float:
    """Return the degrees of freedom that maximise the expected objective, within bounds.

    Parameters
    ----------
    count : float
        n.
    excess : float
        Expected sum of the logarithms of what multiplies the precisions, less that of itself.
    shape, rate : float
        The penalty shape log nu - rate nu.

    Returns
    -------
    float
        The root of n (log(nu / 2) + 1 - digamma(nu / 2)) + excess + 2 (shape / nu - rate), which
        falls; between 0.1 and 10,000.
    """
    low, high = math.log(LEAST_DF), math.log(MOST_DF)
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        df = math.exp(middle)
        slope = count * (math.log(0.5 * df) + 1.0 - digamma(0.5 * df))
        slope += excess + 2.0 * (shape / df - rate)
        if slope > 0.0:
            low = middle
        else:
            high = middle
    return math.exp(0.5 * (low + high))


@kernel
def learn_df(
    layout: Layout, prior: Array, counts: Array, pulls: Array, second: Array, cholesky: Array
) -> None:
    """Write the degrees of freedom that are learnt, of every component or of all together.

    Parameters
    ----------
    layout : Layout
    prior : array, shape (2,)
        The a and b of a log df - b df; not read where none are learnt.
    counts, pulls : arrays, shape (K,)
        The sums of r and of r u.
    second, cholesky : arrays, shape (K, D + 1, D)
        The moments at the degrees of freedom below the factors, which are overwritten.
    """
    k_all, n_dim, shared = layout.n_components, layout.n_features, layout.df_sets == 1
    count, excess = 0.0, 0.0
    for k in range(k_all if layout.df_sets > 0 else 0):
        now = cholesky[k, n_dim, 0]
        count += counts[k]
        excess += second[k, n_dim, 0] - counts[k] * math.log(0.5 * now) - pulls[k]
        if not shared or k == k_all - 1:
            df = most_likely_df(count, excess, prior[0], prior[1])
            for j in range(0 if shared else k, k + 1):
                cholesky[j, n_dim, 0] = df
            count, excess = 0.0, 0.0


@kernel
def fill_df(learnt: Array, known: Array, cholesky: Array) -> None:
    """Write degrees of freedom below the factors.

    Parameters
    ----------
    learnt : array, shape (G,)
        Their logarithms, one for each component or one for all; or none: empty.
    known : array, shape (K,)
        They themselves, where none are learnt; not read otherwise.
    cholesky : array, shape (K, D + 1, D) or (K, D, D)
        The further lines are overwritten if there are any.
    """
    n_components, n_lines, n_dim = cholesky.shape
    if n_lines == n_dim:
        return
    for k in range(n_components):
        for d in range(n_dim):
            cholesky[k, n_dim, d] = 0.0
        if learnt.size > 0:
            cholesky[k, n_dim, 0] = math.exp(learnt[k if learnt.size > 1 else 0])
        else:
            cholesky[k, n_dim, 0] = known[k]


def with_df(cholesky: Array, df: Array) -> Array:
    """Return Cholesky factors, (S, K, D, D), with degrees of freedom, (S, K), in a line below."""
    result = np.pad(cholesky, ((0, 0), (0, 0), (0, 1), (0, 0)))
    result[:, :, -1, 0] = df
    return result
