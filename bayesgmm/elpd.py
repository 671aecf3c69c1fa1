"""What is returned of a predictive density: ArviZ's results, with the rows named that matter."""

import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Final

import pandas as pd

MOST_SHOWN: Final = 10
"""Rows that are named where a result is printed, at the most."""


def arviz_classes() -> Any:
    """Return the module of ArviZ's classes of results.

    Importing arviz_stats takes most of a second, these classes a tenth: the package is put in
    place without being run, and runs when something of it is first asked for.
    """
    name = "arviz_stats"
    if name not in sys.modules:
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            module = module_from_spec(spec)
            module.__class__ = _Unrun
            sys.modules.setdefault(name, module)
    return import_module(f"{name}.utils")


class _Unrun(ModuleType):
    """A package that runs when something is asked of it that is not there yet."""

    def __getattr__(self, name: str) -> Any:
        self.__class__ = ModuleType  # type: ignore[assignment] # no longer: it runs now
        spec = self.__spec__
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module(self)
        return getattr(self, name)


if TYPE_CHECKING:
    from arviz_stats.utils import ELPDData, ELPDDataLOO
else:
    ELPDData, ELPDDataLOO = arviz_classes().ELPDData, arviz_classes().ELPDDataLOO


@dataclass(kw_only=True, repr=False)
class LeaveOneOut(ELPDDataLOO):  # type: ignore[misc] # ArviZ has no types
    """What `loo` and `reloo` return: ArviZ's result, and which rows were too influential.

    Parameters
    ----------
    elpd, se, p : float
        The expected log predictive density, its standard error, and the effective number of
        parameters, in nats.
    n_samples, n_data_points : int
        Draws, and rows.
    scale : str
        ``"log"``.
    warning : bool
        Whether rows are left for which the estimate is not to be relied on.
    good_k : float
        Pareto shape up to which it is.
    elpd_i, p_loo_i, pareto_k, influence_pareto_k : DataArray, dims (obs,), or None
        Terms of both sums; their Pareto shapes, 0 of a row that was left out by a fit; and the
        shapes before anything was made good.
    bad_rows : DataFrame
        The rows whose shape was too large, the worst first, by their labels: ``pareto_k`` before,
        ``repair`` (``"moment matching"``, ``"refit"`` or ``"none"``), ``pareto_k_now`` and
        ``elpd``.
    """

    bad_rows: pd.DataFrame

    def _footer(self) -> str:
        footer: str = super()._footer()
        if len(self.bad_rows) == 0:
            return footer
        shown = self.bad_rows.iloc[:MOST_SHOWN].to_string(float_format="{:.2f}".format)
        more = len(self.bad_rows) - MOST_SHOWN
        rest = f"\n... and {more} more in `bad_rows`" if more > 0 else ""
        return f"{footer}\nRows with k > {self.good_k:.2f}:\n{shown}{rest}\n"


@dataclass(kw_only=True, repr=False)
class Waic(ELPDData):  # type: ignore[misc] # as above
    """What `waic` returns: ArviZ's result, under its own name.

    Parameters
    ----------
    elpd, se, p : float
        As of `LeaveOneOut`.
    n_samples, n_data_points : int
        Draws, and rows.
    scale : str
        ``"log"``.
    warning : bool
        Whether a variance is too large for the estimate to be relied on.
    good_k : None
        There is none.
    elpd_i : DataArray, dims (obs,), or None
        Terms of the sum.
    """

    _kind: ClassVar[str] = "waic"

    elpd_i: Any = None
