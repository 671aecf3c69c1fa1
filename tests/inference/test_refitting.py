"""Fits of parts of the data beside one another: the same as alone, and stopped together."""

import numpy as np
import pytest

import bayesgmm as bg
from bayesgmm.data import Data, prepare
from bayesgmm.inference import refitting
from bayesgmm.inference.assemble import Options
from bayesgmm.inference.nuts import Run
from bayesgmm.inference.progress import Progress
from bayesgmm.inference.refitting import refit
from bayesgmm.mixture import GaussianMixture

OPTIONS = Options(draws=60, tune=None, chains=2, target_accept=0.8, random_seed=0)
QUIET = Progress(False)


@pytest.fixture
def parts(rng: np.random.Generator) -> list[Data]:
    return [prepare(rng.normal(size=(20, 1))) for _ in range(5)]


@pytest.fixture
def spec(parts: list[Data]) -> GaussianMixture:
    return bg.GaussianMixture(1).resolve(parts[0].values)


@pytest.mark.parametrize("cores", [1, 6])
def test_fits_are_those_that_fit_gives(
    cores: int, parts: list[Data], spec: GaussianMixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refitting, "n_cores", lambda: cores)
    found = dict(refit(spec, parts, "nuts", OPTIONS, range(5), QUIET))
    assert sorted(found) == [0, 1, 2, 3, 4]
    for number in (0, 4):
        alone = bg.fit(
            parts[number].values, spec, draws=60, chains=2, random_seed=number, progressbar=False
        )
        got = found[number]["posterior"]["means"].values
        np.testing.assert_array_equal(got, alone["posterior"]["means"].values)
        assert "log_likelihood" not in found[number].children


def test_no_more_chains_are_at_work_than_cores(
    parts: list[Data], spec: GaussianMixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refitting, "n_cores", lambda: 3)
    most = []

    def counted(runs: dict[Run, int]) -> int:
        most.append(sum(not chain.finished for run in runs for chain in run.chains))
        return most[-1]

    monkeypatch.setattr(refitting, "_sampling", counted)
    assert len(list(refit(spec, parts, "nuts", OPTIONS, range(5), QUIET))) == 5
    assert max(most) <= 3


def test_who_stops_asking_stops_the_chains(
    parts: list[Data], spec: GaussianMixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    aborted: list[Run] = []
    complete, abort = Run.complete.fget, Run.abort
    assert complete is not None
    second = property(lambda run: run.options.random_seed == 1 and complete(run))
    monkeypatch.setattr(Run, "complete", second)
    monkeypatch.setattr(Run, "abort", lambda run: (aborted.append(run), abort(run)))
    fits = refit(spec, parts, "nuts", OPTIONS, range(5), QUIET)
    assert next(fits)[0] == 1
    fits.close()
    assert {0} <= {run.options.random_seed for run in aborted} <= {0, 2, 3, 4}


def test_a_fit_that_fails_ends_all(parts: list[Data], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Run) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(Run, "prepare", fail)
    with pytest.raises(bg.FitError, match=r"^The sampler failed: no such luck"):
        list(refit(bg.GaussianMixture(1), parts, "nuts", OPTIONS, range(5), QUIET))


def test_an_interrupted_fit_ends_all(
    parts: list[Data], spec: GaussianMixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = bg.fit(parts[0].values, 1, method="laplace", random_seed=1, progressbar=False)
    short.attrs["interrupted"] = 1
    monkeypatch.setattr(refitting, "fit", lambda *args, **options: short)
    with pytest.raises(KeyboardInterrupt):
        list(refit(spec, parts, "laplace", OPTIONS, range(5), QUIET))
