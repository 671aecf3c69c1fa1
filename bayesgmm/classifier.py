"""A mixture for every class: which class new rows are of, and how sure that is."""

import json
import os
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import softmax

from bayesgmm import names
from bayesgmm.classes import classes_of, coordinate, shares_of
from bayesgmm.cubes import along_rows
from bayesgmm.data import Data, prepare
from bayesgmm.errors import check_integer, check_positive, got
from bayesgmm.inference.fit import fit
from bayesgmm.labels import listed
from bayesgmm.mixture import GaussianMixture
from bayesgmm.pointwise import log_densities
from bayesgmm.prediction import mixtures, rows_asked
from bayesgmm.sample_weights import one_each
from bayesgmm.tables import opened
from bayesgmm.tree import storage

type Array = NDArray[np.float64]

BLOCK_BYTES: Final = 2**25
"""Memory for the log densities of some rows under all draws of all classes."""
CLASSES: Final = "classes"
"""Attribute of a saved classifier: the labels of its classes, as JSON."""


@dataclass(frozen=True)
class MixtureClassifier:
    r"""A Gaussian mixture for every class, to tell the classes of new rows.

    Quadratic discriminant analysis whose classes may have any shape: with one component each it
    is that analysis, with more it is mixture discriminant analysis (Hastie & Tibshirani 1996), as
    in models of speech. The probability of class c for a row x is

    .. math:: p(c \mid x) \propto \pi_c \sum_k w_{ck} N(x \mid \mu_{ck}, \Sigma_{ck})

    and every draw of the posterior has one: their spread says how sure the probability is.

    Parameters
    ----------
    spec : int, GaussianMixture or mapping of class to either, default 1
        The mixture of every class. Priors that are left to the data are scaled to the rows of the
        class.
    concentration : float, default 1.0
        Of the Dirichlet prior of the shares :math:`\pi` of the classes.

    Raises
    ------
    TypeError, ValueError
        If `spec` is of another type, or `concentration` is not positive and finite.

    See Also
    --------
    fit : With `labels` as sets of allowed components, where rows without a class are to help.

    References
    ----------
    Hastie & Tibshirani (1996), Discriminant analysis by Gaussian mixtures, J. Royal Statistical
    Society B 58. doi:10.1111/j.2517-6161.1996.tb02073.x

    Examples
    --------
    >>> import bayesgmm as bg
    >>> iris = bg.datasets.load_iris()
    >>> X, y = iris.drop(columns="species"), iris["species"]
    >>> fitted = bg.MixtureClassifier().fit(X, y, method="map", random_seed=1)
    >>> fitted.predict(X.iloc[[0, 50, 100]]).values.tolist()
    ['setosa', 'versicolor', 'virginica']
    """

    spec: GaussianMixture | int | Mapping[Any, GaussianMixture | int] = 1
    concentration: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self.concentration, "concentration", "1.0 is uniform.")
        several = self.spec.values() if isinstance(self.spec, Mapping) else (self.spec,)
        for one in several:
            if isinstance(one, bool) or not isinstance(one, GaussianMixture | int | np.integer):
                raise TypeError(
                    f"`spec` must be a number of components, a GaussianMixture, or a mapping of "
                    f"classes to either; got {got(one)}. Write "
                    f"bg.MixtureClassifier(2)."
                )

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        feature_dim: str | None = None,
        random_seed: int | None = None,
        progressbar: bool = True,
        **options: Any,
    ) -> "FittedClassifier":
        """Fit a mixture to the rows of every class.

        Parameters
        ----------
        X : array, DataFrame, Series or DataArray, shape (n_obs, n_features)
        y : array or Series, shape (n_obs,)
            The class of every row: strings or integers.
        sample_weight : array or Series, shape (n_obs,), optional
            How many rows each stands for.
        feature_dim : str, optional
            Of a DataArray, as in `bayesgmm.fit`; `y` is then a map.
        random_seed : int, optional
            The same seed gives the same draws.
        progressbar : bool, default True
            Report on standard error, class by class.
        **options
            Others of `bayesgmm.fit`: method, draws, tune, chains, target_accept.

        Returns
        -------
        FittedClassifier

        Raises
        ------
        TypeError, ValueError
            If `X` cannot be fitted, or `y` is no class for every row, or there are fewer than two.
        FitError
            If the fit of a class cannot be trusted to be one.

        Notes
        -----
        One fit for every class, after one another, the chains of each beside one another:
        O(N_c K_c D^2) operations a pass.
        """
        data = prepare(X, sample_weight=sample_weight, feature_dim=feature_dim)
        classes, which = classes_of(along_rows(y, data.coords, "y"), data.obs)
        specs = self._by_class(classes)
        if random_seed is not None:
            check_integer(random_seed, "random_seed", 0, "Give an integer such as 1, or None.")
        seeds = np.random.SeedSequence(random_seed).generate_state(len(classes) + 1)
        counts = np.bincount(which, one_each(data.sample_weight, data.n_obs))
        cells = data.labelled(data.values)
        trees = []
        for c, (label, spec) in enumerate(zip(classes, specs, strict=True)):
            mine = np.flatnonzero(which == c)
            weights = None if data.sample_weight is None else data.sample_weight[mine]
            try:
                tree = fit(
                    cells[mine], spec, sample_weight=weights,
                    random_seed=int(seeds[c]), progressbar=progressbar, **options,
                )  # fmt: skip
            except (ValueError, RuntimeError) as error:
                error.add_note(f"The rows are those of class {label!r}.")
                raise
            trees.append(tree)
        rng = np.random.default_rng(seeds[-1])
        n_draws = min(_n_draws(tree) for tree in trees)
        counts = self.concentration + counts
        points = (counts / counts.sum())[None]  # whose shares are one too
        shares = rng.dirichlet(counts, n_draws) if n_draws > 1 else points
        return FittedClassifier(dict(zip(classes, trees, strict=True)), shares)

    def _by_class(self, classes: list[Any]) -> list[Any]:
        """Return the specification of every class, refusing classes without one."""
        if not isinstance(self.spec, Mapping):
            return [self.spec] * len(classes)
        if set(self.spec) != set(classes):
            raise ValueError(
                f"`spec` must have an entry for each of the classes {listed(classes)}; got "
                f"{listed(self.spec)}. Give one to each, or one for all."
            )
        return [self.spec[label] for label in classes]

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "FittedClassifier":
        """Load a classifier that `FittedClassifier.save` wrote.

        Parameters
        ----------
        path : str or Path
            A netCDF file (``.nc``) or a zarr folder (``.zarr``).

        Returns
        -------
        FittedClassifier
        """
        place = storage.target(path)
        stored = storage.read(place)
        if CLASSES not in stored.attrs:
            raise ValueError(
                f"`path` must be a classifier that was saved by its `save`; got "
                f"{os.fspath(place.path)!r}, which is none. A fit is loaded by bayesgmm.load."
            )
        classes = json.loads(stored.attrs[CLASSES])
        trees = [stored.children[f"class_{c}"].copy() for c in range(len(classes))]
        for tree in trees:
            tree.name = None
        return FittedClassifier(
            dict(zip(classes, trees, strict=True)), stored["shares"].dataset["shares"].values
        )


@dataclass(frozen=True, eq=False)
class FittedClassifier:
    """The fits of all classes, and how frequent these are.

    Parameters
    ----------
    fits : dict of class to DataTree
        What `bayesgmm.fit` gave for the rows of every class.
    shares : array, shape (n_draws, n_classes)
        Draws of the shares of the classes; each sums to 1.
    """

    fits: Mapping[Hashable, xr.DataTree]
    shares: Array

    def predict_proba(self, X_new: Any, *, shares: Mapping[Any, float] | None = None) -> xr.Dataset:
        """Return the probability of every class for new rows, and how sure it is.

        Parameters
        ----------
        X_new : array, DataFrame or DataArray, shape (n_new, n_features)
            The fitted features, in the fitted order.
        shares : mapping of class to float, optional
            How frequent classes are among the new rows, if not as among those that were fitted;
            at least 0, scaled to sum to 1.

        Returns
        -------
        Dataset
            ``probability`` (obs, class), the mean over the draws, every row of which sums to 1;
            ``sd`` (obs, class), over the draws; ``probability_interval`` (obs, class, ci_bound),
            of the central share of draws that ``attrs["ci_prob"]`` says.

        Raises
        ------
        TypeError, ValueError
            If `X_new` has other columns than were fitted, or `shares` other classes.

        Notes
        -----
        Draw s of every class is taken with draw s of the others: their posteriors are
        independent. O(S N K D^2) operations for S draws and K components in all; 32 MiB of memory
        for every core beyond the result.
        """
        from arviz_base import rcParams

        classes = list(self.fits)
        asked = self.asked(X_new)
        ci_prob = float(rcParams["stats.ci_prob"])
        tails = np.array([0.5 - 0.5 * ci_prob, 0.5 + 0.5 * ci_prob])
        mean, sd = (np.empty((asked.n_obs, len(classes))) for _ in range(2))
        interval = np.empty((asked.n_obs, len(classes), 2))
        for block, drawn in self.drawn(asked.values, shares):
            mean[block], sd[block] = drawn.mean(axis=0), drawn.std(axis=0)
            interval[block] = np.moveaxis(np.quantile(drawn, tails, axis=0), 0, -1)
        along = (names.OBS, names.CLASS)
        found = xr.Dataset(
            {
                names.PROBABILITY: (along, mean),
                names.SD: (along, sd),
                names.PROBABILITY_INTERVAL: ((*along, names.CI_BOUND), interval),
            },
            coords={
                **asked.obs_coords,
                names.CLASS: coordinate(classes),
                names.CI_BOUND: ["lower", "upper"],
            },
            attrs={names.CI_PROB: ci_prob},
        )
        return asked.laid_out(found)

    def asked(self, X_new: Any) -> Data:
        """Return new rows, refusing what the fits do not take."""
        X_new = opened(X_new, "X_new")  # a stream can be read once
        first, *_ = [rows_asked(tree, X_new, "predict_proba") for tree in self.fits.values()]
        return first

    def drawn(
        self, values: Array, shares: Mapping[Any, float] | None
    ) -> Iterator[tuple[slice, Array]]:
        """Yield some rows, and what every draw says of them, shape (n_draws, n, n_classes)."""
        log_shares = np.log(self.shares)
        if shares is not None:
            with np.errstate(divide="ignore"):  # of a class that is not among the new rows
                log_shares = np.log(shares_of(shares, list(self.fits)))[None]
        draws = [mixtures(tree) for tree in self.fits.values()]
        step = max(1, BLOCK_BYTES // (8 * self.shares.size))
        for start in range(0, len(values), step):
            block = slice(start, start + step)
            joint = np.stack([
                log_densities(one, one.rows(values[block]))[: len(self.shares)] for one in draws
            ], axis=-1)  # fmt: skip
            yield block, softmax(joint + log_shares[:, None], axis=-1)

    def predict(self, X_new: Any, *, shares: Mapping[Any, float] | None = None) -> xr.DataArray:
        """Return the most probable class of new rows.

        Parameters
        ----------
        X_new : array, DataFrame or DataArray, shape (n_new, n_features)
            The fitted features, in the fitted order.
        shares : mapping of class to float, optional
            How frequent classes are among the new rows.

        Returns
        -------
        DataArray, dims (obs,)
            Labels of classes: where `predict_proba` is largest.
        """
        probability = self.predict_proba(X_new, shares=shares)[names.PROBABILITY]
        return probability.idxmax(names.CLASS).rename(names.CLASS)

    def thin(self, every: int) -> "FittedClassifier":
        """Return the same of every so many draws, which predicts as many times faster.

        Parameters
        ----------
        every : int
            1 keeps all draws, 10 a tenth of them.

        Returns
        -------
        FittedClassifier
        """
        some = {names.DRAW: slice(None, None, check_integer(every, "every", 1, "10 is usual."))}
        fits = {label: tree.isel(some) for label, tree in self.fits.items()}
        return FittedClassifier(fits, self.shares[: min(map(_n_draws, fits.values()))])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the classifier to a file, from which `MixtureClassifier.load` gives it back.

        Parameters
        ----------
        path : str or Path
            Where to: ``.nc`` is one netCDF file, ``.zarr`` a folder, as for `bayesgmm.save`.
        """
        groups = {
            f"/class_{c}{node.path if node.path != '/' else ''}": node.to_dataset(inherit=False)
            for c, tree in enumerate(self.fits.values())
            for node in tree.subtree
        }
        root = xr.Dataset(attrs={CLASSES: json.dumps(list(self.fits))})
        shares = xr.Dataset({"shares": ((names.DRAW, names.CLASS), self.shares)})
        storage.write(
            xr.DataTree.from_dict({"/": root, "/shares": shares, **groups}), storage.target(path)
        )


def _n_draws(tree: xr.DataTree) -> int:
    """Return the number of draws of all chains."""
    sizes = tree[names.POSTERIOR].sizes
    return int(sizes[names.CHAIN] * sizes[names.DRAW])
