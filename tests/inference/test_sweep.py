"""Many fits beside one another: each as it would be alone, whatever the cores and the timing."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import xarray as xr

import bayesgmm as bg
from bayesgmm.data import prepare
from bayesgmm.inference import assemble, coordinates, nuts
from bayesgmm.inference import sweep as module
from bayesgmm.inference.arcs import ArcChain
from bayesgmm.inference.assemble import Options
from bayesgmm.inference.fit import at_work
from bayesgmm.inference.nuts import Run
from bayesgmm.inference.sweep import Candidate, Outcome, sweep

SHORT: dict[str, Any] = {"draws": 30, "tune": 40, "chains": 2, "random_seed": 5}


@pytest.fixture(autouse=True)
def all_chains_on_arcs(monkeypatch: pytest.MonkeyPatch) -> None:
    """However heavy the tails, so that what is replaced of chains is replaced of all."""
    monkeypatch.setattr(coordinates, "LIGHT", np.inf)


def data() -> np.ndarray:
    return bg.datasets.make_mixture(80, 3, 2, separation=6.0, random_seed=2)["X"].values


def outcomes(
    numbers: Sequence[int] = (1, 2, 3), structures: Sequence[str] = ("full",), method: str = "nuts"
) -> Iterator[Outcome]:
    specifications = [
        bg.GaussianMixture(k, covariance=bg.LKJCovariance(structure=structure))
        for structure in structures
        for k in numbers
    ]
    options = Options.checked(**SHORT, target_accept=0.8)
    with at_work(progressbar=False) as progress:
        yield from sweep(specifications, prepare(data()), method, options, progress, {})


def fits(*given: Any) -> dict[Candidate, xr.DataTree]:
    found: dict[Candidate, xr.DataTree] = {}
    for outcome in outcomes(*given):
        assert outcome.candidate not in found
        assert outcome.tree is not None, outcome.failure
        found[outcome.candidate] = outcome.tree
    return found


def assert_same_draws(one: xr.DataTree, other: xr.DataTree) -> None:
    for group in ("posterior", "sample_stats", "log_likelihood", "alignment"):
        xr.testing.assert_identical(one[group].dataset, other[group].dataset)


# What is drawn


@pytest.mark.parametrize("method", ["nuts", "laplace"])
def test_fits_are_those_that_come_alone(method: str) -> None:
    """Without a fit of a component fewer there is nothing to start from but the seed."""
    found = fits((1, 3), ("full", "tied"), method)
    assert set(found) == {(1, "full"), (3, "full"), (1, "tied"), (3, "tied")}
    for (k, structure), tree in found.items():
        spec = bg.GaussianMixture(k, covariance=bg.LKJCovariance(structure=structure))
        alone = bg.fit(data(), spec, method=method, progressbar=False, **SHORT)
        assert_same_draws(tree, alone)
        assert tree.attrs.keys() == alone.attrs.keys()
        for name in ("method", "engine", "random_seed", "n_parameters", "specification"):
            assert tree.attrs[name] == alone.attrs[name]


def test_draws_depend_neither_on_cores_nor_on_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = fits()
    finished, asked = ArcChain.finished, Counter[ArcChain]()

    def late(self: ArcChain) -> bool:
        """The first to start are the last to be seen to finish."""
        asked[self] += 1
        return asked[self] > 100 // len(asked) and finished.fget(self)

    monkeypatch.setattr(ArcChain, "finished", property(late))
    for cores in (1, 16):
        monkeypatch.setattr(module, "n_cores", lambda cores=cores: cores)
        asked.clear()
        for candidate, tree in fits().items():
            assert_same_draws(tree, expected[candidate])


def test_a_fit_starts_from_the_best_of_a_component_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    grown, given = [], []
    grow, begin = module.grow, Run.__init__

    def spy_on_grow(problem: Any, smaller: Any) -> Any:
        found = grow(problem, smaller)
        grown.append((problem.layout.n_components, smaller.weights.shape[1], found))
        return found

    def spy_on_run(self: Run, problem: Any, options: Any, warm: Any) -> None:
        given.append(warm)
        begin(self, problem, options, warm)

    monkeypatch.setattr(module, "grow", spy_on_grow)
    monkeypatch.setattr(Run, "__init__", spy_on_run)
    found = fits((1, 2, 4), ("full", "tied"))
    assert [entry[:2] for entry in grown] == [(2, 1), (2, 1)]
    assert [bool(warm) for warm in given] == [False, True, False] * 2
    assert given[1] == grown[0][2]
    best = grown[0][2][0].objective
    assert found[Candidate(2, "full")]["modes"]["objective"].values[0] >= best - 1e-3


def test_modes_of_an_earlier_sweep_stand_for_its_fits() -> None:
    expected = {outcome.candidate: outcome for outcome in outcomes((1, 2, 3))}
    first = Candidate(1, "full")
    options = Options.checked(**SHORT, target_accept=0.8)
    left = [bg.GaussianMixture(k) for k in (2, 3)]
    done = {first: expected[first].mode}
    with at_work(progressbar=False) as progress:
        found = list(sweep(left, prepare(data()), "nuts", options, progress, done))
    assert {outcome.candidate for outcome in found} == {(2, "full"), (3, "full")}
    for outcome in found:
        assert_same_draws(outcome.tree, expected[outcome.candidate].tree)
        xr.testing.assert_identical(
            outcome.tree["modes"].dataset, expected[outcome.candidate].tree["modes"].dataset
        )
    assert {outcome.mode for outcome in outcomes((1,), method="laplace")} == {None}


# What runs beside what


@pytest.mark.parametrize("cores", [1, 3])
def test_no_more_chains_sample_than_there_are_cores_or_chains_of_a_fit(
    cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "n_cores", lambda: cores)
    launch, finished = Run.launch, ArcChain.finished
    launched, done, beside = Counter[ArcChain](), set(), []

    def spy(self: Run, start: Any) -> None:
        beside.append(len(launched) - len(done))
        launch(self, start)
        launched[self.chains[-1]] = 0

    def late(self: ArcChain) -> bool:
        """Not before it has been asked for some time."""
        launched[self] += 1
        if launched[self] > 30 and finished.fget(self):
            done.add(self)
        return self in done

    monkeypatch.setattr(Run, "launch", spy)
    monkeypatch.setattr(ArcChain, "finished", property(late))
    kept = list(outcomes((1, 2, 3, 4)))
    assert len(kept) == 4
    assert len(beside) == 8
    assert max(beside) == max(cores, 2) - 1


def test_the_next_fit_is_prepared_while_chains_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_one, finished = Run.prepare, ArcChain.finished
    prepared: list[int] = []

    def spy(self: Run) -> Any:
        prepared.append(self.problem.layout.n_components)
        return prepare_one(self)

    def slow(self: ArcChain) -> bool:
        """Not before the second fit has been prepared."""
        return 2 in prepared and finished.fget(self)

    monkeypatch.setattr(Run, "prepare", spy)
    monkeypatch.setattr(ArcChain, "finished", property(slow))
    assert len(fits((1, 2, 3))) == 3  # and not a wait without an end
    assert prepared == [1, 1, 2, 2, 3, 3]


def test_chains_stop_when_nobody_waits_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    aborted = []
    abort = ArcChain.abort

    def spy(self: ArcChain) -> None:
        aborted.append(self)
        abort(self)

    monkeypatch.setattr(ArcChain, "abort", spy)
    running = outcomes((1, 2, 3))
    next(running)
    running.close()
    assert aborted


def test_together_log_likelihoods_take_no_more_than_one_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    size = 8 * 60 * 80
    monkeypatch.setattr(assemble, "LARGEST_LOG_LIKELIHOOD", 2 * size)
    assert all("log_likelihood" in tree.children for tree in fits((1, 2)).values())
    for tree in fits((1, 2, 3)).values():
        assert "log_likelihood" not in tree.children
        assert tree.attrs["log_likelihood_bytes"] == size


# What fails


@pytest.mark.parametrize("where", ["search", "second search", "sampler"])
def test_a_fit_that_fails_leaves_the_others_alone(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fits((1, 3))
    start, search, launch = nuts.point_near, nuts.find_modes, Run.launch
    finished, searched, launched = ArcChain.finished, [], []
    fatal = 1 if where == "search" else 2

    def no_start(problem: Any, around: Any, rng: Any) -> np.ndarray:
        if problem.layout.n_components == 2:
            return np.full(around.center.size, 1e200)
        return start(problem, around, rng)

    def no_mode(problem: Any, *given: Any, **named: Any) -> Any:
        searched.append(problem.layout.n_components)
        if searched[-1] == 2 and searched.count(2) == fatal:
            raise bg.FitError("No mode.", status="degenerate")
        return search(problem, *given, **named)

    def late(self: ArcChain) -> bool:
        """Not before the second fit has failed, or its first chain would start."""
        return searched.count(2) >= fatal and finished.fget(self)

    def spy(self: Run, begun: Any) -> None:
        launched.append(self.problem.layout.n_components)
        launch(self, begun)

    if where != "sampler":
        monkeypatch.setattr(nuts, "find_modes", no_mode)
        monkeypatch.setattr(Run, "launch", spy)
        monkeypatch.setattr(ArcChain, "finished", property(late))
        monkeypatch.setattr(module, "n_cores", lambda: 1)
    else:
        monkeypatch.setattr(nuts, "point_near", no_start)
    found = {outcome.candidate: outcome for outcome in outcomes((1, 2, 3))}
    failed = found.pop(Candidate(2, "full"))
    assert failed.tree is None
    assert failed.failure.startswith("The sampler" if where == "sampler" else "No mode.")
    assert_same_draws(found[Candidate(1, "full")].tree, expected[Candidate(1, "full")])
    if where != "sampler":  # nothing to grow from
        assert sorted(launched) == [1, 1, 3, 3]
        assert_same_draws(found[Candidate(3, "full")].tree, expected[Candidate(3, "full")])


def test_a_method_that_fails_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    run = module.RUNNERS["laplace"]

    def sometimes(problem: Any, *given: Any) -> Any:
        if problem.layout.n_components == 2:
            raise bg.FitError("No mode.", status="degenerate")
        return run(problem, *given)

    monkeypatch.setitem(module.RUNNERS, "laplace", sometimes)
    found = {outcome.candidate.n_components: outcome for outcome in outcomes(method="laplace")}
    assert found[2].failure == "No mode."
    assert found[1].tree is not None
    assert found[3].tree is not None
