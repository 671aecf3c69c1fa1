"""The face that scikit-learn knows: a mixture as an estimator."""

from typing import Any, Final, Self

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from bayesgmm import names, prediction
from bayesgmm.component_prior import PriorOnComponents
from bayesgmm.convergence import check
from bayesgmm.dependence import basis_of
from bayesgmm.errors import check_choice, check_integer
from bayesgmm.factor_prior import FactorCovariance
from bayesgmm.inference.fit import fit
from bayesgmm.information import POINTS
from bayesgmm.mixture import GaussianMixture
from bayesgmm.priors import STRUCTURES, Dirichlet, LKJCovariance, NormalMeans
from bayesgmm.sample_weights import read_weights
from bayesgmm.tree import parameters, with_covariances

try:
    from sklearn import base
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        f"`bayesgmm.estimator` must have scikit-learn 1.6 or later; got {error}. "
        f'Run `pip install "bayesgmm[sklearn]"`.'
    ) from error

type Array = NDArray[np.float64]

CELLS: Final = {"dtype": (np.float64, np.float32), "ensure_all_finite": "allow-nan"}
"""What cells may be: missing ones are integrated out."""
SEEDS: Final = 2**31 - 1


class GaussianMixtureEstimator(
    base.ClassNamePrefixFeaturesOutMixin,
    base.TransformerMixin,
    base.DensityMixin,
    base.BaseEstimator,
):
    """A Gaussian mixture as an estimator of scikit-learn.

    `bayesgmm.fit` and what is made of its result, under the names that `sklearn.mixture` has, for
    pipelines and searches. Arrays go in and out; the labelled result is ``posterior_``, which all
    functions of bayesgmm take.

    Parameters
    ----------
    n_components : int or PriorOnComponents, default 1
        Number of components; or its prior, for ``method="nuts"``.
    covariance : str, LKJCovariance or FactorCovariance, default "full"
        What the covariance matrices share, one of the structures of `LKJCovariance`; or their
        prior, structure and all.
    weights : Dirichlet, optional
        Prior of the weights; uniform if left out.
    means : NormalMeans, optional
        Prior of the means; scaled to the data if left out.
    method : str, default "map"
        As in `bayesgmm.fit`: ``"map"`` and ``"ml"`` give a point, the best of 20 starts;
        ``"nuts"``, ``"laplace"``, ``"fullrank_advi"`` and ``"advi"`` draws of the posterior, over
        which every prediction is averaged.
    draws : int, default 1000
        Per chain, where there are draws.
    chains : int, default 4
        Of NUTS.
    random_state : int, RandomState or None, default None
        Of `fit` and of `sample`; an integer is the ``random_seed`` of `bayesgmm.fit`.
    verbose : bool, default False
        Report on standard error while fitting, if it takes longer than half a second.

    Attributes
    ----------
    posterior_ : DataTree
        What `bayesgmm.fit` returned.
    weights_ : array, shape (n_components,)
        The weights; where there are draws, their mean over the aligned draws.
    means_ : array, shape (n_components, n_features)
        The means, in the data's units; likewise.
    covariances_ : array, shape (n_components, n_features, n_features)
        The covariance matrices, of this shape whatever they share; likewise.
    converged_ : bool
        Whether the optimiser reached the top; of NUTS, whether `bayesgmm.check` finds nothing
        wrong.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : array of str, shape (n_features,)
        Their names, where the data had columns with names.

    See Also
    --------
    bayesgmm.fit : The same from any labelled data, with all options.

    Notes
    -----
    Features that are constant or that others determine have no density, and say nothing that the
    others do not. `bayesgmm.fit` refuses them. In a pipeline nobody is there to drop them: here
    they are left out of the fit, with a warning. Densities and ``posterior_`` are those of the
    features that remain; these determine the rest of ``means_``, ``covariances_`` and `sample`.

    Examples
    --------
    >>> from bayesgmm.datasets import load_faithful
    >>> from bayesgmm.estimator import GaussianMixtureEstimator
    >>> X = load_faithful()
    >>> model = GaussianMixtureEstimator(2, random_state=1).fit(X)
    >>> model.weights_.round(2)
    array([0.36, 0.64])
    >>> model.predict(X[:3])
    array([1, 0, 1])
    """

    def __init__(
        self,
        n_components: int | PriorOnComponents = 1,
        *,
        covariance: str | LKJCovariance | FactorCovariance = "full",
        weights: Dirichlet | None = None,
        means: NormalMeans | None = None,
        method: str = "map",
        draws: int = 1000,
        chains: int = 4,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        self.n_components = n_components
        self.covariance = covariance
        self.weights = weights
        self.means = means
        self.method = method
        self.draws = draws
        self.chains = chains
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the mixture.

        Parameters
        ----------
        X : array or DataFrame, shape (n_obs, n_features)
            The data, NaN where missing.
        y : ignored
            There for pipelines.
        sample_weight : array, shape (n_obs,), optional
            How many rows each stands for, in the order of `X`: see `bayesgmm.fit`.

        Returns
        -------
        GaussianMixtureEstimator
            Itself, fitted.

        Raises
        ------
        TypeError, ValueError
            If `X` or a parameter is refused, before any computing.
        FitError
            If the fit cannot be trusted to be one.
        """
        specification = self._specification()
        table = self._table(X, validate_data(self, X, ensure_min_samples=2, **CELLS))
        weights = sample_weight
        if weights is not None:
            weights = read_weights(_check_sample_weight(weights, table), np.arange(len(table)))
        self._basis = basis_of(table if weights is None else table[weights > 0.0])
        self.posterior_ = fit(
            table.iloc[:, self._basis.kept],
            specification,
            sample_weight=weights,
            method=self.method,
            draws=self.draws,
            chains=self.chains,
            random_seed=self._seed(),
            progressbar=bool(self.verbose),
        )
        drawn = with_covariances(parameters(self.posterior_))
        _, offset, factors = self._basis
        self.weights_: Array = drawn.weights.mean(axis=0)
        self.means_: Array = offset + drawn.means.mean(axis=0) @ factors.T
        self.covariances_: Array = factors @ drawn.covariances.mean(axis=0) @ factors.T
        return self

    def fit_predict(
        self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None
    ) -> NDArray[np.int64]:
        """Fit the mixture, and return the most probable component of each row.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.

        Returns
        -------
        array of int, shape (n_obs,)
            As `predict` gives them.
        """
        return self.fit(X, sample_weight=sample_weight).predict(X)

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Return the most probable component of each row.

        Parameters
        ----------
        X : array or DataFrame, shape (n_obs, n_features)
            Rows, fitted or new, NaN where missing.

        Returns
        -------
        array of int, shape (n_obs,)
            From 0; where `predict_proba` is largest.
        """
        rows = self._rows(X)
        return np.asarray(prediction.predict(self.posterior_, rows))

    def predict_proba(self, X: ArrayLike) -> Array:
        """Return the probability that each row belongs to each component.

        Parameters
        ----------
        X : array or DataFrame, shape (n_obs, n_features)
            Rows, fitted or new, NaN where missing.

        Returns
        -------
        array, shape (n_obs, n_components)
            Averaged over the draws; every row sums to 1.
        """
        rows = self._rows(X)
        return np.asarray(prediction.predict_proba(self.posterior_, rows))

    def transform(self, X: ArrayLike) -> Array:
        """Return what `predict_proba` does, as features for the next step of a pipeline.

        Returns
        -------
        array, or a DataFrame after ``set_output(transform="pandas")``
        """
        return self.predict_proba(X)

    def score_samples(self, X: ArrayLike) -> Array:
        """Return the log density of each row.

        Parameters
        ----------
        X : array or DataFrame, shape (n_obs, n_features)
            Rows, fitted or new, NaN where missing.

        Returns
        -------
        array, shape (n_obs,)
            In nats; the logarithm of the density averaged over the draws.
        """
        rows = self._rows(X)
        return np.asarray(prediction.score_samples(self.posterior_, rows))

    def score(self, X: ArrayLike, y: Any = None) -> float:
        """Return the mean log density of rows; of new rows, how well they were predicted.

        Parameters
        ----------
        X : array or DataFrame, shape (n_obs, n_features)
            Rows, fitted or new, NaN where missing.
        y : ignored
            There for pipelines.

        Returns
        -------
        float
            In nats per row.
        """
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1) -> tuple[Array, NDArray[np.int64]]:
        """Draw new rows from the fitted mixture, with the component that each came from.

        Parameters
        ----------
        n_samples : int, default 1
            How many rows.

        Returns
        -------
        X : array, shape (n_samples, n_features)
            In the data's units; from as many draws as there are, or as there are rows.
        y : array of int, shape (n_samples,)
            Components.
        """
        check_is_fitted(self)
        n = check_integer(n_samples, "n_samples", 1, "Give the number of rows, e.g. 100.")
        random = check_random_state(self.random_state)
        posterior = self.posterior_[names.POSTERIOR].dataset
        n_chains, n_draws = posterior.sizes[names.CHAIN], posterior.sizes[names.DRAW]
        used = random.choice(n_draws, min(n_draws, -(-n // n_chains)), replace=False)
        tree = self.posterior_.copy()
        tree[names.POSTERIOR] = xr.DataTree(posterior.isel({names.DRAW: used}))
        new = prediction.sample_posterior_predictive(
            tree, -(-n // (n_chains * len(used))), random_seed=int(random.randint(SEEDS))
        )
        labels = new[names.LABELS].values.ravel()
        chosen = random.permutation(len(labels))[:n]
        rows = new[names.X].values.reshape(len(labels), -1)[chosen]
        return self._basis.offset + rows @ self._basis.factors.T, labels[chosen]

    def bic(self, X: ArrayLike) -> float:
        """Return the Bayesian information criterion on rows; less is better.

        Parameters
        ----------
        X : array or DataFrame, shape (n_obs, n_features)
            Rows; of those that were fitted it is what `bayesgmm.bic` gives.

        Returns
        -------
        float
            p log N - 2 l, of p parameters, N rows and their log-likelihood l; of points, as `aic`.
        """
        aic, n_parameters = self.aic(X), self.posterior_.attrs["n_parameters"]
        return float(aic + n_parameters * (np.log(np.shape(X)[0]) - 2.0))

    def aic(self, X: ArrayLike) -> float:
        """Return Akaike's information criterion on rows; less is better.

        Parameters
        ----------
        X : array or DataFrame, shape (n_obs, n_features)
            Rows; of those that were fitted it is what `bayesgmm.aic` gives.

        Returns
        -------
        float
            2 p - 2 l, of p parameters and the log-likelihood l of the rows.

        Raises
        ------
        ValueError
            If the fit is not a point: `method` is neither ``"map"`` nor ``"ml"``.
        """
        density, attrs = self.score_samples(X), self.posterior_.attrs
        if attrs[names.METHOD] not in POINTS:
            raise ValueError(
                f"`method` must be 'map' or 'ml' for `aic` and `bic`; got "
                f"{attrs[names.METHOD]!r}. They are defined at a point: compare draws by `score` "
                f"on new rows, or by bayesgmm.loo(estimator.posterior_)."
            )
        return float(2.0 * attrs["n_parameters"] - 2.0 * density.sum())

    @property
    def converged_(self) -> bool:
        """Whether the optimiser reached the top; of NUTS, whether `check` finds nothing wrong."""
        tree = self.posterior_
        if names.CONVERGED in tree.attrs:
            return bool(tree.attrs[names.CONVERGED])
        return check(tree).ok

    def __sklearn_tags__(self) -> Any:
        """Say that cells may be missing."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    @property
    def _n_features_out(self) -> int:
        """Number of columns that `transform` makes."""
        return len(self.weights_)

    def _specification(self) -> GaussianMixture:
        """Return the specification that the parameters describe."""
        covariance = self.covariance
        if not isinstance(covariance, LKJCovariance | FactorCovariance):
            check_choice(covariance, "covariance", STRUCTURES)
            covariance = LKJCovariance(structure=covariance)
        weights = Dirichlet() if self.weights is None else self.weights
        means = NormalMeans() if self.means is None else self.means
        return GaussianMixture(self.n_components, weights, means, covariance)

    def _seed(self) -> int:
        """Return the seed of a fit: the random state if it is one, else one from it."""
        random = check_random_state(self.random_state)
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(random.randint(SEEDS))

    def _table(self, X: Any, values: NDArray[Any]) -> pd.DataFrame:
        """Return the cells of data under the names that columns and rows had, if they had any."""
        features = getattr(self, "feature_names_in_", None)
        rows = X.index if isinstance(X, pd.DataFrame) else None
        if features is None:
            features = [f"x{j}" for j in range(values.shape[1])]
        return pd.DataFrame(values, index=rows, columns=features)

    def _rows(self, X: ArrayLike) -> NDArray[Any]:
        """Return rows that a fit is asked about, in the features that it kept."""
        check_is_fitted(self)
        rows: NDArray[Any] = validate_data(self, X, reset=False, **CELLS)
        return rows[:, self._basis.kept]
