"""The benchmarks, as far as they can be wrong without being slow."""

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from benchmarks import effective, page, runs
from benchmarks.__main__ import SECTIONS
from benchmarks.cases import Case, Mixture, load, points_around
from benchmarks.programs import ours
from benchmarks.runs import Job, Result, Store

NOTHING = Result(None, "not installed", 1.0, 0, "2026-11-21 12:00")


@pytest.mark.parametrize("quick", [True, False])
def test_a_page_is_written_where_nothing_could_be_measured(tmp_path: Path, quick: bool) -> None:
    modules = {name: import_module(f"benchmarks.{name}") for name in SECTIONS}
    results = {
        name: {job.name: NOTHING for job in module.jobs(quick)} for name, module in modules.items()
    }
    text = page.write(tmp_path, modules, results, quick).read_text(encoding="utf-8")
    assert text.count("\n## ") >= len(SECTIONS)
    assert text.count("not installed") >= len(SECTIONS)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_job_has_a_name_of_its_own_and_a_function(section: str) -> None:
    module = import_module(f"benchmarks.{section}")
    for quick in (True, False):
        jobs = module.jobs(quick)
        assert len({job.name for job in jobs}) == len(jobs) > 0
        for job in jobs:
            file, _, function = job.function.partition(":")
            assert callable(getattr(import_module(f"benchmarks.{file}"), function))


def test_a_job_runs_in_a_process_of_its_own() -> None:
    result = runs.run(Job("features", "ceilings:features", {"d": 3}))
    assert result
    assert result.value == 10
    assert result.seconds > 0
    assert result.peak > 2**20


def test_a_job_that_fails_says_why() -> None:
    result = runs.run(Job("unknown", "cases:load", {"name": "1, 2"}))
    assert not result
    assert result.missing is not None
    assert result.missing.startswith("failed: ")


def test_a_job_is_stopped_at_its_limit() -> None:
    result = runs.run(Job("long", "ceilings:measure", {"quick": False}, limit=0.1))
    assert result.missing == "stopped after 0 s"


def test_results_are_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    result = Result({"a": [1.5]}, None, 2.0, 3, "2026-11-21 12:00")
    assert store.read("em", "1,000 by hand") is None
    store.keep("em", "1,000 by hand", result)
    assert store.read("em", "1,000 by hand") == result


def test_effective_draws_see_through_switched_labels() -> None:
    rng = np.random.default_rng(1)
    case = load("200, 2, 2")
    shape = (2, 500, 2)
    weights = rng.dirichlet([50.0, 50.0], shape[:2])
    means = case.truth.means + 0.1 * rng.normal(size=(*shape, 2))
    scales = case.truth.scales * np.exp(0.1 * rng.normal(size=(*shape, 2)))
    factors = np.broadcast_to(case.truth.factors, (*shape, 2, 2))
    draws = Mixture(weights, means, scales, factors)
    flipped = Mixture(*(values.copy() for values in draws))
    for values in flipped:
        values[1] = values[1][:, ::-1]
    straight, switched = effective.summarise(case, draws), effective.summarise(case, flipped)
    assert straight["ess"] > 500  # of 1000 independent draws
    # after two sorted weights, 20 log densities and two weights
    np.testing.assert_allclose(straight["mean"][24:28], case.truth.means.ravel(), atol=0.05)
    assert switched["ess"] == pytest.approx(straight["ess"])
    np.testing.assert_allclose(switched["mean"], straight["mean"])


@pytest.mark.parametrize("name", ["200, 2, 2", "5,000, 5, 4"])
def test_the_density_by_parameters_is_that_of_the_priors_and_the_rows(name: str) -> None:
    case = load(name)
    points = points_around(case)
    wanted = [_log_density(case, point) for point in map(Mixture._make, zip(*points, strict=True))]
    gaps = np.array(ours.log_densities(case, "defaults", points)) - wanted
    np.testing.assert_allclose(gaps, gaps[0], rtol=0, atol=1e-7)


def _log_density(case: Case, point: Mixture) -> float:
    """Return the log density of weights, means, scales and factors, up to a constant."""
    from scipy import special, stats

    prior = case.prior
    value = stats.dirichlet.logpdf(point.weights, prior.concentration)
    value += stats.norm.logpdf(point.means, prior.location, prior.scale).sum()
    value += stats.halfnorm.logpdf(point.scales, scale=prior.tau).sum()
    # LKJ, det(R)**(eta - 1), as a density of the factor (Lewandowski, Kurowicka & Joe 2009)
    diagonal = np.diagonal(point.factors, axis1=1, axis2=2)[:, 1:]
    powers = np.arange(diagonal.shape[1] - 1, -1, -1) + 2.0 * (prior.eta - 1.0)
    value += (powers * np.log(diagonal)).sum()
    joint = [
        np.log(weight) + stats.multivariate_normal.logpdf(case.X, mean, cholesky @ cholesky.T)
        for weight, mean, cholesky in zip(
            point.weights, point.means, point.scales[..., None] * point.factors, strict=True
        )
    ]
    return float(value + special.logsumexp(joint, axis=0).sum())
