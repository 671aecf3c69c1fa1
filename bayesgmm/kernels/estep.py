"""The pass over the data that serves EM, gradients and prediction.

Rows x and components k with log-weight, mean mu_k and the inverse W_k of the lower Cholesky factor
of the covariance ("whitener") give, with y = W_k (x - mu_k),

    lp_ik = log weight_k + log Normal(x_i | mu_k, Sigma_k) = c_k - |y|^2 / 2
    r_ik = softmax over k of lp_ik          log density_i = logsumexp over k of lp_ik

(with what is known of row i's label, a number a_ik in [0, 1], log a_ik added to lp_ik)

and the moments n_k = sum r, s_k = sum r y, S_k = sum r y y'. These are the E-step of EM, and by
Fisher's identity all that the gradient needs.

Both halves of it, y and S, are products of triangles: D^2 + D multiplications and additions for a
row and component in all, as many as the two products of natural parameters and sufficient
statistics would take, but the mean is taken off first, so that nothing cancels however far apart
or thin the components are. Data are held feature by feature, shape (D, N), so that a vector holds
one feature of some rows, and are worked through in blocks that stay in cache; nothing of the size
of N x K is ever stored. The inner loops are `kernels.tiles`. Where there is a further line below
the factors components are Student's t: see `kernels.tails`. A log-weight more than there are means
is the log joint density of background noise, the same for every row: it has an n and no more.
"""

import math
from typing import Final

import numpy as np
from numba import carray, types
from numpy.typing import NDArray

from bayesgmm.kernels.blocks import add_offsets, copy_block, gather
from bayesgmm.kernels.compiled import callback, kernel, linked
from bayesgmm.kernels.crew import (
    BOARD,
    DONE,
    JOB,
    N_BOARDS,
    OPEN,
    STATE,
    boards_x,
    claim,
    increase,
    post,
    read,
    take_board,
    write,
)
from bayesgmm.kernels.lanes import LANES, borrowed, floats_at, integers_at, keep
from bayesgmm.kernels.tails import log_pull_sum, tail_block, tail_constant, weigh_block
from bayesgmm.kernels.tiles import (
    PADDING,
    add_moments,
    plain_softmax_block,
    softmax_block,
    whiten_block,
)

type Array = NDArray[np.float64]

BLOCK: Final = 256
"""Rows worked on at a time, at most."""

LEAST: Final = 128
"""And at least: what is done once per block would show with fewer."""

CACHE: Final = 65536
"""Numbers that a block may occupy: half a megabyte, which second-level caches have."""

FEW: Final = 12
"""Features up to which rows are read where they are.

Their strides may be multiples of a page, so that more features than the first-level cache has
ways would push each other out: they are copied, block by block.
"""

NEGLIGIBLE: Final = 1e-30
"""Responsibility whose part in the moments of a million rows is below their rounding."""

WORTH: Final = 1 << 21
"""Size of a part in multiplications or so: some tens of microseconds."""

MOST: Final = 16
"""Parts of a pass, at most."""

PATIENCE: Final = 20_000
"""Looks at a board, some ten nanoseconds each, after which an idle thread may sleep."""

LOG_2PI: Final = math.log(2.0 * math.pi)


@kernel
def fill_whiteners(cholesky: Array, whiteners: Array, log_determinants: Array) -> None:
    """Invert lower Cholesky factors.

    Parameters
    ----------
    cholesky : array, shape (K, D, D) or (K, D + 1, D)
    whiteners : array, of the same shape
        Overwritten with the inverses, zero above the diagonal; degrees of freedom below are copied.
    log_determinants : array, shape (K,)
        Overwritten with the log determinants of the factors (half those of the covariances).
    """
    n_components, n_lines, n_dim = cholesky.shape
    for k in range(n_components):
        factor, inverse = cholesky[k], whiteners[k]
        total = 0.0
        for d in range(n_dim):
            pivot = 1.0 / factor[d, d]
            total += math.log(factor[d, d])
            for e in range(n_dim):
                inverse[d, e] = 0.0
            for f in range(d):
                slope = -pivot * factor[d, f]
                for e in range(f + 1):
                    inverse[d, e] += slope * inverse[f, e]
            inverse[d, d] = pivot
        if n_lines > n_dim:
            inverse[n_dim] = factor[n_dim]
        log_determinants[k] = total


@kernel
def block_size(n_rows: int, n_components: int, n_dim: int) -> int:
    """Return how many rows to work on at a time: a multiple of `PADDING`."""
    size = BLOCK
    while size > LEAST and size * (n_components + 1) * (n_dim + 1) > CACHE:
        size //= 2
    return max(PADDING, min(size, (n_rows + PADDING - 1) // PADDING * PADDING))


@kernel
def _pass(
    rows: Array,
    row_weights: Array,
    begin: int,
    end: int,
    log_weights: Array,
    means: Array,
    whiteners: Array,
    log_determinants: Array,
    counts: Array,
    first: Array,
    second: Array,
) -> float:
    """Do what `e_step` says for the rows from `begin` to `end`, lower triangles alone."""
    n_rows = rows.shape[1]
    n_components, n_dim = means.shape
    n_all = log_weights.size
    size = block_size(end - begin, n_components, n_dim)
    flat = rows.ravel()
    tailed = whiteners.shape[1] > n_dim
    n_lines = 2 * n_dim + n_all + n_components * (n_dim + (2 if tailed else 0)) + 3
    memory = np.empty(n_lines * size + LANES)
    index = np.empty(size if n_dim > FEW else 0, dtype=np.int64)
    # vectors that do not begin where a line of the cache does take two
    buffer = borrowed(memory)[-(memory.ctypes.data // 8) % LANES :]
    densities, weights, lp = buffer[:size], buffer[size : 2 * size], buffer[2 * size :]
    weighted = row_weights.size > 0
    copied = lp[n_all * size :]
    gathered = copied[n_dim * size :]
    y = gathered[(n_dim + 1) * size :]
    pulls = y[n_components * n_dim * size :]  # of heavy tails alone
    logs, pulled = pulls[n_components * size :], np.empty(1)
    counts[:] = 0.0
    first[:] = 0.0
    second[:] = 0.0
    result = 0.0
    for start in range(begin, end, size):
        n = min(size, end - start)
        direct = n == size and n_dim <= FEW
        if not direct:
            copy_block(flat, n_rows, start, n, size, n_dim, copied)
        padded = (n + PADDING - 1) // PADDING * PADDING
        for k in range(n_components):
            constant = log_weights[k] - log_determinants[k]
            whiten_block(
                flat if direct else copied, start if direct else 0, n_rows if direct else size,
                means[k], whiteners[k], 0.0 if tailed else constant - 0.5 * n_dim * LOG_2PI,
                y[k * n_dim * size :], size, lp[k * size :], padded,
            )  # fmt: skip
            if tailed:
                df = whiteners[k, n_dim, 0]
                tail_block(
                    lp[k * size :], pulls[k * size :], logs[k * size :],
                    constant + tail_constant(df, n_dim), df, n_dim, padded,
                )  # fmt: skip
        for k in range(n_components, n_all):
            lp[k * size : k * size + padded] = log_weights[k]
        if rows.shape[0] > n_dim:
            add_offsets(rows, start, n, size, n_dim, lp)
        largest = 1.0
        if weighted:
            largest = 0.0
            for i in range(n):
                weights[i] = row_weights[start + i]
                largest = max(largest, abs(weights[i]))
            weights[n:] = 0.0
            result += softmax_block(lp, size, n_all, weights, densities, padded)
        else:
            result += plain_softmax_block(lp, size, n_all, n, padded)
        for k in range(n_components, n_all):
            counts[k] += lp[k * size : k * size + padded].sum()
        for k in range(n_components):
            of_y, r, used = y[k * n_dim * size :], lp[k * size :], padded
            if tailed:
                count, log = weigh_block(r, pulls[k * size :], logs[k * size :], padded)
                counts[k] += count
                second[k, n_dim, 0] += log
                add_moments(of_y, size, r, pulled, first[k], second[k], used)
                continue
            if n_dim > FEW:
                kept = gather(of_y, size, r, NEGLIGIBLE * largest, n, n_dim, index, gathered)
                if kept >= 0:
                    of_y, r, used = gathered[size:], gathered, kept
            add_moments(of_y, size, r, counts[k:], first[k], second[k], used)
    keep(memory)
    return result


# Places in the description of a job: sizes, addresses of the arguments and of the results
N_DIM, N_ROWS, N_WEIGHTS, N_COMPONENTS, N_PARTS = 0, 1, 2, 3, 4
ROWS, ROW_WEIGHTS, LOG_WEIGHTS, MEANS, WHITENERS, LOG_DETERMINANTS = 5, 6, 7, 8, 9, 10
RESULTS: Final = 11
N_LINES: Final = 12
N_FACTOR_LINES: Final = 13
N_LOG_WEIGHTS: Final = 14
JOB_SIZE: Final = 15

_SIGNATURE: Final = types.void(types.int64, types.int64)


@callback(_SIGNATURE)
def _part_c(job_address, part):  # type: ignore[no-untyped-def]
    """Do one part of a pass, and write its results where the job says."""
    job = carray(integers_at(job_address), JOB_SIZE)
    n_dim, n_rows, k = job[N_DIM], job[N_ROWS], job[N_COMPONENTS]
    n_lines, n_all = job[N_FACTOR_LINES], job[N_LOG_WEIGHTS]
    n_blocks = (n_rows + BLOCK - 1) // BLOCK
    begin = n_blocks * part // job[N_PARTS] * BLOCK
    end = min(n_rows, n_blocks * (part + 1) // job[N_PARTS] * BLOCK)
    width = result_size(n_all, k, n_dim, n_lines)
    result = carray(floats_at(job[RESULTS]), job[N_PARTS] * width)[part * width :]
    sums = 1 + n_all
    products = sums + k * n_dim
    result[0] = _pass(
        carray(floats_at(job[ROWS]), (job[N_LINES], n_rows)),
        carray(floats_at(job[ROW_WEIGHTS]), job[N_WEIGHTS]),
        begin,
        end,
        carray(floats_at(job[LOG_WEIGHTS]), n_all),
        carray(floats_at(job[MEANS]), (k, n_dim)),
        carray(floats_at(job[WHITENERS]), (k, n_lines, n_dim)),
        carray(floats_at(job[LOG_DETERMINANTS]), k),
        result[1:sums],
        result[sums:products].reshape(k, n_dim),
        result[products:width].reshape(k, n_lines, n_dim),
    )


_part_x: Final = linked("part", _part_c, _SIGNATURE)


@kernel
def result_size(n_weights: int, n_components: int, n_dim: int, n_lines: int) -> int:
    """Return how many numbers a pass results in; factors have `n_lines` lines."""
    return 1 + n_weights + n_components * (n_dim + n_dim * n_lines)


@kernel
def n_parts(n_rows: int, n_components: int, n_dim: int) -> int:
    """Return how many parts a pass is divided into, by its size alone."""
    work = n_rows * n_components * (n_dim + 4) ** 2
    return min(MOST, 1 + work // WORTH, (n_rows + BLOCK - 1) // BLOCK)


@kernel
def _do_parts(job: int, count: int) -> None:
    """Do all parts of a job, with what help there is."""
    boards = carray(integers_at(boards_x()), N_BOARDS * BOARD)
    board = take_board(boards) if count > 1 else -1
    if board < 0:
        for part in range(count):
            _part_x(job, part)
        return
    post(boards, board, job, count)
    part = claim(boards, board)
    while part >= 0:
        _part_x(job, part)
        increase(boards, board + DONE)
        part = claim(boards, board)
    while read(boards, board + DONE) < count:
        pass
    write(boards, board + STATE, OPEN)


@kernel
def lend_a_hand(board: int) -> None:
    """Work on the jobs of a board until none has come for a while."""
    boards = carray(integers_at(boards_x()), N_BOARDS * BOARD)
    looked = 0
    while looked < PATIENCE:
        part = claim(boards, board)
        looked += 1
        if part >= 0:
            _part_x(read(boards, board + JOB), part)
            increase(boards, board + DONE)
            looked = 0


@kernel
def e_step(
    rows: Array,
    row_weights: Array,
    log_weights: Array,
    means: Array,
    whiteners: Array,
    log_determinants: Array,
    counts: Array,
    first: Array,
    second: Array,
) -> float:
    """Return the log-likelihood and write the expected sufficient statistics, in one pass.

    Parameters
    ----------
    rows : array, shape (D, N) or (D + K, N)
        The data, feature by feature; below them, if labels are known, what is added to the log
        densities of the components, -inf forbids one. This and all other arrays are C-contiguous.
    row_weights : array, shape (N,) or (0,)
        Multiply each row's part of the log-likelihood and of the statistics; empty for 1.
    log_weights, means : arrays, shapes (K,), with noise (K + 1,), and (K, D)
    whiteners, log_determinants : arrays, shapes (K, D, D) or (K, D + 1, D), and (K,)
        As `fill_whiteners` writes them.
    counts, first, second : arrays, shapes that of `log_weights`, (K, D), and that of `whiteners`
        Overwritten with the sums over rows of r, r y and r y y'; of heavy tails as
        `kernels.tails` says.

    Returns
    -------
    float
        Sum over rows of the log density, in nats.

    Notes
    -----
    N K (D^2 + D) multiplications and additions and N K exponentials; memory O(K D) numbers for
    each of at most 256 rows. Divided into up to 16 parts, by its size alone, which threads of a
    `crew` may do: the result is the same to the last bit.
    """
    n_rows = rows.shape[1]
    n_components, n_dim = means.shape
    count = n_parts(n_rows, n_components, n_dim)
    n_lines, n_all = whiteners.shape[1], log_weights.size
    width = result_size(n_all, n_components, n_dim, n_lines)
    memory, board = np.empty((count, width)), np.empty(JOB_SIZE, dtype=np.int64)
    results, job = borrowed(memory), borrowed(board)
    job[N_DIM], job[N_ROWS], job[N_WEIGHTS] = n_dim, n_rows, row_weights.size
    job[N_COMPONENTS], job[N_PARTS] = n_components, count
    job[ROWS], job[ROW_WEIGHTS] = rows.ctypes.data, row_weights.ctypes.data
    job[LOG_WEIGHTS], job[MEANS] = log_weights.ctypes.data, means.ctypes.data
    job[WHITENERS], job[LOG_DETERMINANTS] = whiteners.ctypes.data, log_determinants.ctypes.data
    job[RESULTS], job[N_LINES] = results.ctypes.data, rows.shape[0]
    job[N_FACTOR_LINES], job[N_LOG_WEIGHTS] = n_lines, n_all
    _do_parts(job.ctypes.data, count)
    total = results[0]
    for part in range(1, count):
        for i in range(width):
            total[i] += results[part, i]
    sums = 1 + n_all
    products = sums + n_components * n_dim
    counts[:] = total[1:sums]
    for k in range(n_components):
        for d in range(n_dim):
            first[k, d] = total[sums + k * n_dim + d]
            start = products + (k * n_lines + d) * n_dim
            for e in range(d + 1):
                second[k, d, e] = total[start + e]
                second[k, e, d] = total[start + e]
        if n_lines > n_dim:
            for d in range(n_dim):
                second[k, n_dim, d] = 0.0
            logs, df = total[products + (k * n_lines + n_dim) * n_dim], whiteners[k, n_dim, 0]
            second[k, n_dim, 0] = log_pull_sum(counts[k], logs, df, n_dim)
    value = total[0]
    keep(memory)
    keep(board)
    return value
