"""NumPyro, in double precision, one device of the CPU per chain."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.cases import Case, Mixture
from benchmarks.programs import Run, Sampled

VARIANTS = {
    "defaults": "NumPyro",
    "dense": "NumPyro, dense",
    "by hand": "NumPyro, dense, by hand",
}
ENVIRONMENT = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_ENABLE_X64": "1"}


def _program(case: Case, by_hand: bool) -> Callable[[], None]:
    """Return the model; by hand, its density is two products of matrices and a logsumexp."""
    import jax
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    k, d, prior = case.n_components, case.X.shape[1], case.prior
    X = jnp.asarray(case.X)

    def model() -> None:
        weights = numpyro.sample("weights", dist.Dirichlet(jnp.asarray(prior.concentration)))
        normal = dist.Normal(prior.location, prior.scale)
        means = numpyro.sample("means", normal.expand([k, d]).to_event(2))
        half_normal = dist.HalfNormal(prior.tau)
        scales = numpyro.sample("scales", half_normal.expand([k, d]).to_event(2))
        lkj = dist.LKJCholesky(d, prior.eta)
        factors = numpyro.sample("factors", lkj.expand([k]).to_event(1))
        cholesky = scales[..., None] * factors
        if not by_hand:
            parts = dist.MultivariateNormal(means, scale_tril=cholesky)
            mixture = dist.MixtureSameFamily(dist.Categorical(probs=weights), parts)
            numpyro.sample("X", mixture, obs=X)
            return
        inverse = jax.scipy.linalg.solve_triangular(
            cholesky, jnp.broadcast_to(jnp.eye(d), (k, d, d)), lower=True
        )
        white = jnp.einsum("kij,nj->kin", inverse, X)
        white -= jnp.einsum("kij,kj->ki", inverse, means)[:, :, None]
        volume = jnp.log(jnp.diagonal(cholesky, axis1=1, axis2=2)).sum(axis=1)
        constant = jnp.log(weights) - volume - 0.5 * d * jnp.log(2.0 * jnp.pi)
        joint = constant[:, None] - 0.5 * (white**2).sum(axis=1)
        numpyro.factor("X", jax.scipy.special.logsumexp(joint, axis=0).sum())

    return model


def sample(
    case: Case, variant: str, start: str, seeds: Sequence[int], chains: int, draws: int
) -> Sampled:
    """Return draws; what JAX reports as compiling is not counted as sampling."""
    import jax
    import jax.numpy as jnp
    from numpyro.infer import MCMC, NUTS, init_to_uniform, init_to_value

    compiling: list[float] = []

    def listen(event: str, seconds: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile/"):
            compiling.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    values = {name: jnp.asarray(value) for name, value in case.truth._asdict().items()}
    strategy = init_to_value(values=values) if start == "truth" else init_to_uniform
    defaults = variant == "defaults"
    runs = []
    for seed in seeds:
        kernel = NUTS(
            _program(case, variant == "by hand"), dense_mass=not defaults, init_strategy=strategy
        )
        mcmc = MCMC(
            kernel,
            num_warmup=draws if defaults else 300,
            num_samples=draws,
            num_chains=chains,
            chain_method="parallel",
            progress_bar=False,
        )
        before, began = sum(compiling), time.perf_counter()
        mcmc.run(jax.random.PRNGKey(seed), extra_fields=("num_steps", "diverging"))
        drawn = {name: np.asarray(v) for name, v in mcmc.get_samples(True).items()}
        seconds = time.perf_counter() - began - (sum(compiling) - before)
        extra = mcmc.get_extra_fields()
        runs.append(Run(
            Mixture(*(drawn[name] for name in Mixture._fields)),
            seconds, float(extra["num_steps"].mean()), int(extra["diverging"].sum()),
        ))  # fmt: skip
    return Sampled(runs, sum(compiling) / len(runs))


def log_densities(case: Case, variant: str, points: Mixture) -> list[float]:
    """Return NumPyro's log density of what it samples, at points as they are constrained."""
    from numpyro.infer.util import log_density

    model = _program(case, variant == "by hand")
    return [
        float(log_density(model, (), {}, point._asdict())[0])
        for point in map(Mixture._make, zip(*points, strict=True))
    ]
