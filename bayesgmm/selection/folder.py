"""A folder that fits are written to as they end, and from which a selection goes on."""

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import xarray as xr

from bayesgmm import names
from bayesgmm.data import Data
from bayesgmm.inference.assemble import Options
from bayesgmm.inference.sweep import Candidate, Outcome
from bayesgmm.mixture import GaussianMixture
from bayesgmm.records import fingerprint
from bayesgmm.tree import FactorParameters, Parameters, load, parameters_of, save

ARGUMENTS: Final = "selection.json"
"""File with what was asked for."""


@dataclass(frozen=True)
class Folder:
    """Where the fits of a selection are kept: two files each, and one for what was asked.

    Parameters
    ----------
    path : Path
    """

    path: Path

    @classmethod
    def opened(cls, path: Any) -> Self:
        """Return a folder, made if it is not there, refusing one that holds something else."""
        if not isinstance(path, str | os.PathLike):
            raise TypeError(
                f"`folder` must be a path; got {path!r} of type {type(path).__name__}. Write "
                f"'selection', a folder that is new, or holds the fits of the same selection."
            )
        found = Path(path).expanduser()
        if found.exists() and not found.is_dir():
            raise ValueError(
                f"`folder` must be a folder; got {os.fspath(found)!r}, a file. Give another."
            )
        if found.is_dir() and any(found.iterdir()) and not (found / ARGUMENTS).exists():
            raise ValueError(
                f"`folder` must be empty, or hold a selection; got {os.fspath(found)!r}, which "
                f"holds other things. Give another."
            )
        return cls(found)

    def arguments(self) -> dict[str, Any]:
        """Return what was asked for when the folder was made; nothing if it is new."""
        place = self.path / ARGUMENTS
        return _read(place) if place.exists() else {}

    def begin(self, asked: Mapping[str, Any]) -> None:
        """Write what is asked for, or refuse it if it is not what the folder was made for."""
        known = self.arguments()
        for name, value in asked.items():
            if known and known.get(name) != value:
                raise ValueError(
                    f"`folder` must hold fits of the same selection; got {os.fspath(self.path)!r}, "
                    f"made with other {name}{_shown(known.get(name), value)}. Ask for the same, "
                    f"or give another folder."
                )
        if not known:
            self.path.mkdir(exist_ok=True)
            _write(self.path / ARGUMENTS, asked)

    def keep(self, outcome: Outcome) -> None:
        """Write a fit as it ends."""
        if outcome.tree is not None:
            save(outcome.tree, self._fit(outcome.candidate))
        mode = outcome.mode
        written = {
            "criteria": dict(outcome.criteria),
            "failure": outcome.failure,
            "mode": None if mode is None else [values.tolist() for values in mode],
        }
        _write(self._record(outcome.candidate), written)  # the last: with it the fit is done

    def outcome(self, candidate: Candidate) -> Outcome | None:
        """Return how a fit ended that was written; None if there is none."""
        place = self._record(candidate)
        if not place.exists():
            return None
        read = _read(place)
        mode = read["mode"]
        return Outcome(
            candidate,
            None if read["failure"] else self.fit(candidate),
            read["criteria"],
            read["failure"],
            None if mode is None else _parameters(mode),
        )

    def fit(self, candidate: Candidate) -> xr.DataTree:
        """Return a fit that was written."""
        return load(self._fit(candidate))

    def _fit(self, candidate: Candidate) -> Path:
        return self.path / f"{candidate.n_components}-{candidate.structure}.nc"

    def _record(self, candidate: Candidate) -> Path:
        return self.path / f"{candidate.n_components}-{candidate.structure}.json"


def _parameters(values: list[Any]) -> Parameters | FactorParameters:
    """Return the parameters that were written as lists: the fifth are matrices, or not."""
    arrays = [np.array(one) for one in values]
    return parameters_of(*arrays) if arrays[4].ndim == 4 else FactorParameters(*arrays)


def asked_for(
    data: Data, specifications: Sequence[GaussianMixture], method: str, options: Options
) -> dict[str, Any]:
    """Return what makes a selection the same: data, specifications and arguments, as in JSON.

    Parameters
    ----------
    data : Data
    specifications : sequence of GaussianMixture
        Of all candidates, resolved.
    method : str
    options : Options

    Returns
    -------
    dict
    """
    said = fingerprint(data.values, data.errors, data.allowed, data.sample_weight)
    digest = hashlib.sha256(said.encode())
    digest.update(repr([data.values.shape, data.obs.tolist(), data.features.tolist()]).encode())
    package = __name__.partition(".")[0]
    return {
        "data": digest.hexdigest(),
        "specifications": json.loads(json.dumps([one.to_dict() for one in specifications])),
        names.METHOD: method,
        **asdict(options),
        "version": sys.modules[package].__version__,
    }


def _shown(known: Any, value: Any) -> str:
    """Return two values where they are short enough to be shown."""
    if len(repr(known)) + len(repr(value)) > 60:
        return ""
    return f" ({known!r}, not {value!r})"


def _read(place: Path) -> dict[str, Any]:
    """Return what a file holds."""
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
    except ValueError as error:
        found = error
    if not isinstance(found, dict):
        raise ValueError(
            f"`folder` must hold a selection; got {os.fspath(place)!r}, which is damaged. Delete "
            f"it, and what it stands for is made anew."
        )
    return found


def _write(place: Path, value: Mapping[str, Any]) -> None:
    """Write a file, whole or not at all."""
    half = place.with_name(f"{place.name}.part")
    half.write_text(json.dumps(value), encoding="utf-8")
    half.replace(place)
