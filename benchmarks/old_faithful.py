"""Old Faithful, two components, four chains of 1,000 draws: ours and a plain PyMC program."""

import json
import statistics
import tempfile

from benchmarks.timing import output, process_seconds, shown

IMPORT = "import nutpie"

WHOLE = """
import bayesgmm as bg
bg.fit(bg.datasets.load_faithful(), 2, random_seed=1, progressbar=False)
"""

LIVE = """
import json, time
import bayesgmm as bg
X = bg.datasets.load_faithful()
bg.fit(X, 2, random_seed=1, progressbar=False)
seconds = []
for seed in range(2, 12):
    start = time.perf_counter()
    tree = bg.fit(X, 2, random_seed=seed, progressbar=False)
    seconds.append(time.perf_counter() - start)
start = time.perf_counter()
report, table, loo = bg.check(tree), bg.summary(tree), bg.loo(tree)
start = time.perf_counter()
report, table, loo = bg.check(tree), bg.summary(tree), bg.loo(tree)
after = time.perf_counter() - start
draws = tree.sample_stats.sizes["chain"] * tree.sample_stats.sizes["draw"]
print(json.dumps({
    "fit": seconds, "after": after, "ess": float(table["ess_bulk"].min()),
    "r_hat": float(table["r_hat"].max()), "divergences": report.evidence["divergences"],
    "sampling": tree.attrs["sampling_time"], "draws": draws,
}))
"""

PEER = """
import json, time
start = time.perf_counter()
import arviz_stats, nutpie, numpy as np, pymc as pm
import bayesgmm as bg
imported = time.perf_counter()
X = bg.datasets.load_faithful().to_numpy()
spread, middle = X.std(0), 0.5 * (X.min(0) + X.max(0))
with pm.Model() as model:
    weights = pm.Dirichlet("weights", np.ones(2))
    means = pm.Normal("means", middle, np.ptp(X, axis=0), shape=(2, 2))
    parts = []
    for k in range(2):
        factor, _, _ = pm.LKJCholeskyCov(
            f"covariance{k}", n=2, eta=2.0, sd_dist=pm.HalfNormal.dist(spread, shape=2)
        )
        parts.append(pm.MvNormal.dist(means[k], chol=factor))
    pm.Mixture("X", weights, parts, observed=X)
truth = {"means": np.array([[2.04, 54.5], [4.29, 80.0]])}
compiled = nutpie.compile_pymc_model(model, initial_points=truth, jitter_rvs=set())
ready = time.perf_counter()
tree = nutpie.sample(compiled, draws=1000, chains=4, seed=1, progress_bar=False)
done = time.perf_counter()
ess = arviz_stats.ess(tree, var_names=["weights", "means"], method="bulk")
print(json.dumps({
    "import": imported - start, "compile": ready - imported, "sample": done - ready,
    "ess": float(min(ess["weights"].min(), ess["means"].min())),
    "divergences": float(tree["sample_stats"]["diverging"].sum()),
}))
"""


def report() -> str:
    """Return the section of the report."""
    with tempfile.TemporaryDirectory() as folder:
        first = process_seconds(WHOLE, 1, {"NUMBA_CACHE_DIR": folder})[0]
        cached = process_seconds(WHOLE, 5, {"NUMBA_CACHE_DIR": folder})
    process_seconds(IMPORT, 1)
    imports = process_seconds(IMPORT, 5)
    ours = json.loads(output(LIVE))
    with tempfile.TemporaryDirectory() as folder:
        # a compile directory of its own: the first run is as on a new machine
        flags = {"PYTENSOR_FLAGS": f"base_compiledir={folder}", "NUMBA_CACHE_DIR": folder}
        cold = json.loads(output(PEER, flags))
        warm = json.loads(output(PEER, flags))
    ratio = statistics.median(cached) / statistics.median(imports)
    live = statistics.median(ours["fit"])
    peer = warm["compile"] + warm["sample"]
    return f"""
## Old Faithful, K = 2, four chains of 1,000 draws, all defaults

| what | bayesgmm | plain PyMC program with nutpie |
|---|---|---|
| first fit ever on a machine, whole process | {first:.1f} s | {sum_of(cold):.1f} s |
| later, whole process | {shown(cached)} | {sum_of(warm):.1f} s |
| the same over `import nutpie`, {shown(imports)} | {ratio:.2f} | |
| one more fit in a live session | {shown(ours["fit"])} | {peer:.1f} s, a new model |
| of that, sampling | {ours["sampling"]:.3f} s | {warm["sample"]:.1f} s |
| ratio of the live sessions | 1 | {peer / live:.0f} |
| check, summary and LOO | {ours["after"]:.2f} s | |
| smallest bulk ESS | {ours["ess"]:.0f} of {ours["draws"]} | {warm["ess"]:.0f} |
| largest R-hat | {ours["r_hat"]:.4f} | |
| divergences | {ours["divergences"]:.0f} | {warm["divergences"]:.0f} |

The plain program has the same priors, and starts at the truth; its ESS is that of weights and
means, as sampled. Compiling takes it {cold["compile"]:.1f} s the first time and
{warm["compile"]:.1f} s with a warm cache.
"""


def sum_of(parts: dict[str, float]) -> float:
    """Return the seconds of a whole process of the peer."""
    return parts["import"] + parts["compile"] + parts["sample"]
