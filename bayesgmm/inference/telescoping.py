"""Draws of mixtures in which components may be empty, by allocating rows to them.

Where the number of components has a prior this is the telescoping sampler; where they are more
than there can be clusters, the Gibbs sampler of overfitted mixtures or of a stick cut off.

The priors of means, scales and correlations are those of every other method, so that answers can
be compared. They are not conjugate: scales and correlations move by slice steps, their mean
integrated out, which need no tuning and leave the posterior as it is.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from threading import Event
from typing import Final, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.component_prior import PriorOnComponents
from bayesgmm.data import Data
from bayesgmm.errors import FitError
from bayesgmm.inference.assemble import Draws, Options
from bayesgmm.inference.progress import Progress
from bayesgmm.kernels.component import NormalPrior, draw_from_prior
from bayesgmm.kernels.partitions import ComponentPrior
from bayesgmm.kernels.splitting import (
    CONCENTRATION,
    LOG_DENSITY,
    N_CLUSTERS,
    N_COMPONENTS,
    State,
)
from bayesgmm.kernels.telescoping import sweep
from bayesgmm.mixture import GaussianMixture
from bayesgmm.overfitted import Gamma, StickBreaking
from bayesgmm.posterior_density import whole
from bayesgmm.priors import Dirichlet, LKJCovariance
from bayesgmm.problem import Problem
from bayesgmm.tree import Parameters, with_covariances

type Array = NDArray[np.float64]

METHOD: Final = "telescoping"
OVERFITTED: Final = "gibbs"
METHODS: Final = (METHOD, OVERFITTED)
"""The method where the number of components is known."""
TUNE: Final = 200
"""Draws of a chain that are not kept."""
SWEEPS: Final = 10
"""Sweeps of a draw."""
MOST_STARTED: Final = 10
"""Clusters that a chain begins with, at most."""
ROOM: Final = 10
"""Components that a draw is stored with where it has more, at least."""
PAUSE: Final = 0.1
"""Seconds between looks at the chains."""


@dataclass(frozen=True, eq=False)
class Learnt:
    """What is to be sampled.

    Parameters
    ----------
    problem : Problem
        Of one component, but with the specification of all.
    normal : NormalPrior
    components : ComponentPrior
    concentration : float
        To begin with.
    """

    problem: Problem
    normal: NormalPrior
    components: ComponentPrior
    concentration: float

    @classmethod
    def make(cls, specification: GaussianMixture, data: Data) -> Self:
        """Resolve the specification; costs O(N D)."""
        number, weights = specification.n_components, specification.weights
        one = Problem.make(replace(specification, n_components=1, weights=Dirichlet()), data)
        prior, unit = one.specification, one.unit
        tau = np.broadcast_to(np.asarray(prior.covariance.scale), unit.shape) / unit
        assert isinstance(prior.covariance, LKJCovariance)
        normal = NormalPrior(
            layout=one.layout,
            location=(np.asarray(prior.means.location) - one.center) / unit,
            scale=np.asarray(prior.means.scale) / unit,
            tau=tau[: one.layout.scale_columns].copy(),
            floor=one.floor,
            eta=prior.covariance.eta,
        )
        problem = replace(one, specification=replace(prior, n_components=number, weights=weights))
        first: object = weights.concentration
        if isinstance(number, PriorOnComponents):
            first, components = number.concentration, component_prior(number)
        else:
            components = overfitted_prior(weights, number)
        return cls(problem, normal, components, first if isinstance(first, float) else 1.0)

    @property
    def stored(self) -> dict[str, tuple[int, type]]:
        """Names of the numbers that the tree holds, where they are in the state, and their types.

        Those that do not vary are in the specification.
        """
        found: dict[str, tuple[int, type]] = {}
        if not self.components.known:
            found[names.N_COMPONENTS] = N_COMPONENTS, np.int64
        found[names.N_CLUSTERS] = N_CLUSTERS, np.int64
        if not self.components.known or self.components.freedom[0] > 0.0:
            found[names.CONCENTRATION] = CONCENTRATION, np.float64
        return found

    def start(self, rng: np.random.Generator) -> State:
        """Return a state with some clusters, each of the rows nearest to a random one."""
        rows, n_dim = self.problem.rows, self.normal.layout.n_features
        n_rows, largest = rows.shape[1], self.components.log_probability.size
        n_clusters = int(rng.integers(1, min(MOST_STARTED, n_rows, largest) + 1))
        labels, nearest = np.zeros(n_rows, dtype=np.int64), np.full(n_rows, np.inf)
        for k, row in enumerate(rng.choice(n_rows, size=n_clusters, replace=False)):
            distance = np.square(rows - rows[:, row, None]).sum(axis=0)
            labels[distance < nearest] = k
            nearest = np.minimum(nearest, distance)
        vectors = np.zeros((largest, self.problem.n_parameters))
        scales = slice(n_dim, n_dim + self.normal.tau.size)
        vectors[:, scales] = np.log(self.normal.tau)
        n_components = largest if self.components.known else n_clusters
        numbers = np.array([n_components, n_clusters, self.concentration, 0.0])
        return State(labels, vectors, np.zeros(largest), numbers, np.arange(largest))


def component_prior(prior: PriorOnComponents) -> ComponentPrior:
    """Return a prior on the number of components as the kernels read it."""
    log_probability = prior.log_probabilities()
    tail = np.append(np.cumsum(np.exp(log_probability[:0:-1]))[::-1], 0.0)
    with np.errstate(divide="ignore"):
        log_tail = np.log(tail)
    pair = prior.concentration
    freedom = np.array(pair if isinstance(pair, tuple) else (0.0, 0.0))
    return ComponentPrior(log_probability, log_tail, freedom, prior.dynamic, False, False)


def overfitted_prior(weights: Dirichlet | StickBreaking, n_components: int) -> ComponentPrior:
    """Return the prior of a number of components that is known, as the kernels read it."""
    alpha = weights.concentration
    gamma = np.array([alpha.shape, alpha.rate] if isinstance(alpha, Gamma) else [0.0, 0.0])
    none = np.full(n_components, -np.inf)
    certain = np.append(none[1:], 0.0)
    return ComponentPrior(certain, none, gamma, False, True, isinstance(weights, StickBreaking))


class Chain:
    """One chain, and what it has drawn.

    Parameters
    ----------
    learnt : Learnt
    seed : numpy.random.SeedSequence
    """

    def __init__(self, learnt: Learnt, seed: np.random.SeedSequence) -> None:
        self._learnt, self._rng = learnt, np.random.default_rng(seed)
        self._state = learnt.start(self._rng)
        self.numbers: list[Array] = []
        self.log_weights: list[Array] = []
        self.vectors: list[Array] = []
        self.made = 0

    def run(self, tune: int, draws: int, stop: Event) -> None:
        """Draw until all is drawn, or until it is to stop."""
        learnt, state = self._learnt, self._state
        rows = np.ascontiguousarray(learnt.problem.rows)
        for self.made in range(1, tune + draws + 1):
            if stop.is_set():
                return
            sweep(rows, state, learnt.normal, learnt.components, SWEEPS, self._rng)
            if self.made > tune:
                n = int(state.numbers[N_COMPONENTS])
                order = np.argsort(state.sticks[:n]) if learnt.components.sticks else np.arange(n)
                self.numbers.append(state.numbers.copy())
                self.log_weights.append(state.log_weights[order])
                self.vectors.append(state.vectors[order])


def sample(learnt: Learnt, options: Options, progress: Progress) -> tuple[Draws, bool]:
    """Sample the posterior of everything, the number of components too.

    Parameters
    ----------
    learnt : Learnt
    options : Options
    progress : Progress

    Returns
    -------
    draws : Draws
        Each of as many components as the largest, though not of many more than any has clusters.
        A draw with fewer is filled up with components of weight 0, whose parameters are from the
        prior, as those of any component without rows. In a draw with more the lightest without
        rows are one: it has their weight, and the parameters of one of them, drawn by weight,
        which leaves the law of a new row as it is.
    interrupted : bool

    Raises
    ------
    FitError
        If it was interrupted before every chain had two draws (status ``"interrupted"``).

    Notes
    -----
    A draw is ten sweeps, O(N K D^2) each; chains run in threads.
    """
    began = time.perf_counter()
    *seeds, last = np.random.SeedSequence(options.random_seed).spawn(options.chains + 1)
    chains = [Chain(learnt, seed) for seed in seeds]
    tune = TUNE if options.tune is None else options.tune
    interrupted = _run(chains, tune, options.draws, progress)
    length = min(len(chain.numbers) for chain in chains)
    if length < 2:
        raise FitError(
            f"Sampling was interrupted while chains were tuning; got {length} draws after it. Let "
            f"it run longer, or ask for fewer `draws`.",
            status="interrupted",
        )
    numbers = np.array([chain.numbers[:length] for chain in chains])
    parameters, pooled = _stored(learnt, chains, length, last)
    attrs: dict[str, str | int | float] = {
        "tuning_steps": tune,
        "sweeps": SWEEPS,
        "sampling_time": time.perf_counter() - began,
        "scales_and_correlations": "slice steps on the half-normal and LKJ priors",
        names.INTERRUPTED: int(interrupted),
    }
    others = {
        name: xr.Variable((names.CHAIN, names.DRAW), numbers[..., place].astype(kind))
        for name, (place, kind) in learnt.stored.items()
    }
    if learnt.components.known:
        lp, known, others[names.LOG_WEIGHTS] = _of_known(learnt, chains, length)
        attrs |= known
    else:
        log_unit = float(np.log(learnt.problem.unit).sum())
        lp = numbers[..., LOG_DENSITY] - learnt.problem.data.n_obs * log_unit
        attrs["pooled_weight"] = pooled
    drawn = Draws(
        parameters=parameters,
        statistics={names.LP: lp},
        modes=(),
        attrs=attrs,
        others=others,
    )
    return drawn, interrupted


def _run(chains: list[Chain], tune: int, draws: int, progress: Progress) -> bool:
    """Run all chains in threads; return whether they were interrupted."""
    stop, everything = Event(), len(chains) * (tune + draws)
    with ThreadPoolExecutor(len(chains)) as pool:
        work: list[Future[None]] = []
        try:
            work += [pool.submit(chain.run, tune, draws, stop) for chain in chains]
            while wait(work, PAUSE).not_done:
                made = sum(chain.made for chain in chains)
                progress.update(f"Sampling {len(chains)} chains: {made / everything:.0%}")
        except KeyboardInterrupt:
            return True
        finally:
            stop.set()
        for done in work:
            done.result()
    return False


def _of_known(
    learnt: Learnt, chains: list[Chain], length: int
) -> tuple[Array, dict[str, float], xr.Variable]:
    """Return what draws of a known number of components have that others have not.

    Returns
    -------
    lp : array, shape (chains, draws)
        The log posterior density of unconstrained vectors, as every other method has it: all
        log-weights less their mean, but the last, then all means, scales and correlations. A
        concentration is integrated out.
    attrs : dict
    log_weights : Variable, dimensions (chain, draw, component)
    """
    log_weights, of_each = (
        np.array([one for chain in chains for one in getattr(chain, name)[:length]])
        for name in ("log_weights", "vectors")
    )
    prior, data = learnt.problem.specification, learnt.problem.data
    n_dim, shape = data.n_features, (len(chains), length, -1)
    parts = np.split(of_each, [n_dim, n_dim + learnt.normal.tau.size], axis=2)
    free = (log_weights - log_weights.mean(axis=1, keepdims=True))[:, :-1]
    flat = [free, *(part.reshape(len(free), -1) for part in parts)]
    vectors = np.concatenate(flat, axis=1)
    attrs: dict[str, float] = {"n_parameters": vectors.shape[1]}
    if isinstance(prior.weights, StickBreaking):
        attrs[names.TRUNCATION_ERROR] = prior.weights.truncation_error(data.n_obs)
    lp = whole(Problem.make(prior, data))(vectors)[0].reshape(shape[:2])
    dims = (names.CHAIN, names.DRAW, names.COMPONENT)
    return lp, attrs, xr.Variable(dims, log_weights.reshape(shape))


def _stored(
    learnt: Learnt, chains: list[Chain], length: int, seed: np.random.SeedSequence
) -> tuple[Parameters, float]:
    """Return the parameters of all draws, of as many components each, and the weight pooled."""
    rng, n_dim = np.random.default_rng(seed), learnt.normal.layout.n_features
    kept = [
        (chain.log_weights[i], chain.vectors[i], int(chain.numbers[i][N_CLUSTERS]))
        for chain in chains
        for i in range(length)
    ]
    most = max(len(log_weights) for log_weights, _, _ in kept)
    room = most
    if not learnt.components.known:
        room = min(most, max(ROOM, 1 + max(n_clusters for _, _, n_clusters in kept)))
    weights = np.zeros((len(kept), room))
    vectors = np.empty((len(kept), room, learnt.problem.n_parameters))
    pooled = 0.0
    for s, (log_weights, of_each, n_clusters) in enumerate(kept):
        shares = np.exp(log_weights)
        n = len(shares)
        order = np.arange(n)
        if n > room:
            order[n_clusters:] = n_clusters + np.argsort(-shares[n_clusters:])
            rest = shares[order[room - 1 :]]
            chosen = rng.random() * rest.sum() < np.cumsum(rest)
            order[room - 1] = order[room - 1 + int(chosen.argmax())]
            shares[order[room - 1]] = rest.sum()
            pooled += rest.sum()
        order = order[:room]
        weights[s, : len(order)] = shares[order]
        vectors[s, : len(order)] = of_each[order]
        for k in range(len(order), room):
            draw_from_prior(vectors[s, k], learnt.normal, rng)
    shape = (len(kept), room, n_dim)
    of_all = with_covariances(learnt.problem.constrain(vectors.reshape(len(kept) * room, -1)))
    parameters = Parameters(
        weights,
        of_all.means.reshape(shape),
        of_all.scales.reshape(shape),
        of_all.correlations.reshape(*shape, n_dim),
        of_all.covariances.reshape(*shape, n_dim),
    )
    return parameters, pooled / len(kept)
