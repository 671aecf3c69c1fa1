"""Hamiltonian Monte Carlo along arcs, for densities that are nearly standard Normal.

Of a standard Normal the exact motion turns position z and momentum p through an angle. Another log
density f differs from it by the slopes of f(z) + |z|^2 / 2: a step adds half of these, times its
angle, to the momentum, turns, and adds the half again. It is reversible and preserves volume, so
a trajectory of some steps that is accepted or refused by its change of energy leaves the density
as it is (Duane et al. 1987; the turn in the place of the drift: Shahbaba et al. 2014). Where the
density is Normal nothing is refused, however long the steps are.

An arc a little longer than a quarter turn ends where nothing is left of the momentum's past. With
more arc than that a draw's linear quantities lie opposite to those of the last one, which makes
up for what is refused; their squares do not, and so the arc is but a little longer.
"""

import math
from typing import Final

import numpy as np
from llvmlite import ir
from numba import types
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.lanes import FLOAT, INTEGER, Builder, Value, borrowed, compiled, keep

type Array = NDArray[np.float64]
type Counts = NDArray[np.int64]

ARC: Final = 1.8
"""Length of a trajectory, in radians."""
SPREAD: Final = 0.1
"""By how much of it either way it varies, so that nothing turns in step with it for long."""
WINDOW: Final = 10
"""Tuning draws after which the steps may become shorter."""
DIVERGED: Final = 1000.0
"""Nats of energy gained, from which on a trajectory has left the density behind."""
FAILED: Final = 1
"""What a density returns that cannot go on."""

# Places in what is told of a chain, while it runs
MADE, DIVERGENCES, STOP, FAILURE = 0, 1, 2, 3
TOLD: Final = 4
# Places in the statistics of a draw
LP, DIVERGING, ENERGY, N_STEPS, STEP_SIZE, ACCEPTANCE_RATE = 0, 1, 2, 3, 4, 5
STATISTICS: Final = 6


def _emit_density(
    builder: Builder, address: Value, length: Value, point: Value, gradient: Value, value: Value,
    user: Value,
) -> Value:  # fmt: skip
    """Call the C function at an address, as `kernels.pointer.DENSITY` has it."""
    floats, anything = ir.PointerType(FLOAT), ir.PointerType(ir.IntType(8))
    kind = ir.FunctionType(INTEGER, [INTEGER, floats, floats, floats, anything])
    callee = builder.inttoptr(address, kind.as_pointer())
    user = builder.inttoptr(user, anything)
    return builder.call(callee, [length, point, gradient, value, user])


_density = compiled(_emit_density, types.int64)


@kernel
def sample_arcs(
    address: int,
    user: int,
    z: Array,
    tune: int,
    target: float,
    generator: np.random.Generator,
    draws: Array,
    statistics: Array,
    told: Counts,
) -> None:
    """Draw from a density that is nearly standard Normal.

    While tuning, trajectories are cut into more steps as long as fewer are accepted than asked: one
    more, or twice as many where it is less than half.

    Parameters
    ----------
    address, user : int
        Of a C function that writes the log density and its gradient at a point, and of its data:
        see `kernels.pointer.DENSITY`.
    z : array, shape (P,)
        The first point, where the density is finite. Overwritten.
    tune : int
        Draws that are not kept.
    target : float
        Least mean acceptance probability.
    generator : numpy.random.Generator
    draws : array, shape (draws, P)
        Overwritten.
    statistics : array, shape (draws, STATISTICS)
        Overwritten.
    told : array of int, shape (TOLD,)
        How many draws have been made, with those of tuning, and how many of them diverged. Another
        thread may write a number other than 0 to `STOP`, to end the chain. `FAILURE` is 1 where the
        density was not finite at the first point, or could not go on.

    Notes
    -----
    A draw takes as many gradients as its trajectory has steps: two, mostly.
    """
    n = z.size
    memory = np.empty((5, n))
    work = borrowed(memory)
    slopes, place, place_slopes, momentum, value = work[0], work[1], work[2], work[3], work[4]
    told[FAILURE] = 1 if _density(address, n, z, slopes, value, user) != 0 else 0
    density = value[0]
    for i in range(n):
        slopes[i] += z[i]
    steps, accepted = 1, 0.0
    for made in range(tune + draws.shape[0]):
        if told[STOP] != 0 or told[FAILURE] != 0:
            break
        angle = ARC * (1.0 + SPREAD * (2.0 * generator.random() - 1.0)) / steps
        cosine, sine = math.cos(angle), math.sin(angle)
        energy = -density
        for i in range(n):
            place[i] = z[i]
            momentum[i] = generator.standard_normal()
            energy += 0.5 * momentum[i] * momentum[i]
            momentum[i] += 0.5 * angle * slopes[i]
        code, taken = 0, 0
        while taken < steps and code == 0:
            for i in range(n):
                before = place[i]
                place[i] = cosine * before + sine * momentum[i]
                momentum[i] = cosine * momentum[i] - sine * before
            code = _density(address, n, place, place_slopes, value, user)
            taken += 1
            push = angle if taken < steps else 0.5 * angle
            for i in range(n):
                place_slopes[i] += place[i]
                momentum[i] += push * place_slopes[i]
        if code == FAILED:
            told[FAILURE] = 1
            break
        after = -value[0]
        for i in range(n):
            after += 0.5 * momentum[i] * momentum[i]
        gained = after - energy
        diverged = code != 0 or not gained < DIVERGED
        rate = 0.0 if diverged else math.exp(min(0.0, -gained))
        if generator.random() < rate:
            density, energy = value[0], after
            for i in range(n):
                z[i], slopes[i] = place[i], place_slopes[i]
        if made < tune:
            accepted += rate
            if (made + 1) % WINDOW == 0:
                mean = accepted / WINDOW
                if mean < target:
                    steps = 2 * steps if mean < 0.5 * target else steps + 1
                accepted = 0.0
        else:
            kept = made - tune
            for i in range(n):
                draws[kept, i] = z[i]
            statistics[kept, LP] = density
            statistics[kept, DIVERGING] = 1.0 if diverged else 0.0
            statistics[kept, ENERGY] = energy
            statistics[kept, N_STEPS] = taken
            statistics[kept, STEP_SIZE] = angle
            statistics[kept, ACCEPTANCE_RATE] = rate
        told[DIVERGENCES] += 1 if diverged else 0
        told[MADE] = made + 1
    keep(memory)
