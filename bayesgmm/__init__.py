"""Bayesian Gaussian mixtures: from data to a clustered posterior in one call.

Every public name is imported when it is first used (PEP 562), so that ``import bayesgmm`` costs
next to nothing and a saved fit can be loaded and used for prediction without PyMC.

Examples
--------
>>> import bayesgmm as bg
>>> tree = bg.fit([[0.1], [0.3], [0.2], [5.1], [5.2], [5.4]], 2, method="map", random_seed=1)
>>> bg.predict(tree, [[0.0], [5.0]]).shape
(2,)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayesgmm import datasets
    from bayesgmm.alignment import align
    from bayesgmm.averaging import average
    from bayesgmm.background import UniformNoise
    from bayesgmm.calibration import calibrate
    from bayesgmm.class_errors import confusion, reliability
    from bayesgmm.classifier import MixtureClassifier
    from bayesgmm.clustering.allocations import sample_allocations
    from bayesgmm.clustering.certainty import uncertainty
    from bayesgmm.clustering.coclustering import similarity
    from bayesgmm.clustering.credibility import credible_ball
    from bayesgmm.clustering.merging import merge_components
    from bayesgmm.clustering.occupancy import n_clusters
    from bayesgmm.clustering.partitions import partition
    from bayesgmm.clustering.representatives import representative_partitions
    from bayesgmm.clustering.subsets import confident_subset
    from bayesgmm.comparison import compare, loo, waic
    from bayesgmm.component_prior import PriorOnComponents
    from bayesgmm.conditionals import conditional
    from bayesgmm.convergence import check
    from bayesgmm.degrees_of_freedom import GammaDegrees
    from bayesgmm.errors import ConvergenceWarning, FitError, IdentifiabilityWarning, UnitsWarning
    from bayesgmm.evidence import log_evidence
    from bayesgmm.factor_prior import FactorCovariance
    from bayesgmm.factor_scores import project
    from bayesgmm.functionals import density, overlap
    from bayesgmm.identifiability import alignment_report
    from bayesgmm.imputation import impute
    from bayesgmm.inference.fit import fit
    from bayesgmm.inference.frames import update
    from bayesgmm.inference.online import fit_online
    from bayesgmm.inference.paths import em_path
    from bayesgmm.information import aic, bic, icl
    from bayesgmm.marginals import marginal
    from bayesgmm.mixture import GaussianMixture, StudentTMixture
    from bayesgmm.modality import density_modes
    from bayesgmm.model import build_model
    from bayesgmm.model_probabilities import posterior_over_components
    from bayesgmm.modes import mode_audit
    from bayesgmm.outliers import flag_outliers, outlier_score
    from bayesgmm.overfitted import Gamma, SparseDirichlet, StickBreaking
    from bayesgmm.partition_prior import prior_clusters
    from bayesgmm.plots.alignment import plot_alignment
    from bayesgmm.plots.ball import plot_credible_ball
    from bayesgmm.plots.calibration import plot_calibration
    from bayesgmm.plots.choice import plot_select
    from bayesgmm.plots.clusters import plot_partition
    from bayesgmm.plots.components import plot_components
    from bayesgmm.plots.contours import plot_density
    from bayesgmm.plots.matrix import plot_similarity
    from bayesgmm.plots.merges import plot_merge
    from bayesgmm.plots.path import plot_em_path
    from bayesgmm.plots.peaks import plot_modes
    from bayesgmm.plots.reliability import plot_reliability
    from bayesgmm.plots.uncertainty import plot_uncertainty
    from bayesgmm.pooling import pool
    from bayesgmm.prediction import (
        predict,
        predict_proba,
        sample_posterior_predictive,
        score_samples,
    )
    from bayesgmm.priors import Dirichlet, LKJCovariance, NormalMeans
    from bayesgmm.quantiles import cdf, quantile
    from bayesgmm.refits import kfold, reloo
    from bayesgmm.regression import regress
    from bayesgmm.selection import select
    from bayesgmm.simulation import simulate
    from bayesgmm.summaries import summary
    from bayesgmm.tree import load, save
    from bayesgmm.tree.rows import unstack

__version__ = "0.1.0.dev0"

__all__ = [
    "GaussianMixture",
    "StudentTMixture",
    "GammaDegrees",
    "UniformNoise",
    "Dirichlet",
    "NormalMeans",
    "LKJCovariance",
    "FactorCovariance",
    "PriorOnComponents",
    "MixtureClassifier",
    "SparseDirichlet",
    "StickBreaking",
    "Gamma",
    "prior_clusters",
    "build_model",
    "simulate",
    "fit",
    "em_path",
    "update",
    "fit_online",
    "save",
    "load",
    "align",
    "alignment_report",
    "summary",
    "check",
    "mode_audit",
    "calibrate",
    "predict_proba",
    "predict",
    "score_samples",
    "sample_posterior_predictive",
    "impute",
    "pool",
    "unstack",
    "project",
    "marginal",
    "conditional",
    "regress",
    "cdf",
    "quantile",
    "confusion",
    "reliability",
    "outlier_score",
    "flag_outliers",
    "merge_components",
    "overlap",
    "density",
    "density_modes",
    "sample_allocations",
    "similarity",
    "partition",
    "n_clusters",
    "credible_ball",
    "representative_partitions",
    "confident_subset",
    "uncertainty",
    "loo",
    "reloo",
    "kfold",
    "waic",
    "compare",
    "log_evidence",
    "posterior_over_components",
    "bic",
    "aic",
    "icl",
    "select",
    "average",
    "plot_alignment",
    "plot_components",
    "plot_uncertainty",
    "plot_density",
    "plot_merge",
    "plot_modes",
    "plot_similarity",
    "plot_partition",
    "plot_credible_ball",
    "plot_select",
    "plot_em_path",
    "plot_calibration",
    "plot_reliability",
    "datasets",
    "FitError",
    "ConvergenceWarning",
    "IdentifiabilityWarning",
    "UnitsWarning",
]

_HOMES = {
    "bayesgmm.mixture": ("GaussianMixture", "StudentTMixture"),
    "bayesgmm.degrees_of_freedom": ("GammaDegrees",),
    "bayesgmm.background": ("UniformNoise",),
    "bayesgmm.priors": ("Dirichlet", "NormalMeans", "LKJCovariance"),
    "bayesgmm.factor_prior": ("FactorCovariance",),
    "bayesgmm.component_prior": ("PriorOnComponents",),
    "bayesgmm.classifier": ("MixtureClassifier",),
    "bayesgmm.class_errors": ("confusion", "reliability"),
    "bayesgmm.overfitted": ("SparseDirichlet", "StickBreaking", "Gamma"),
    "bayesgmm.partition_prior": ("prior_clusters",),
    "bayesgmm.model": ("build_model",),
    "bayesgmm.simulation": ("simulate",),
    "bayesgmm.inference.fit": ("fit",),
    "bayesgmm.inference.paths": ("em_path",),
    "bayesgmm.inference.frames": ("update",),
    "bayesgmm.inference.online": ("fit_online",),
    "bayesgmm.tree": ("save", "load"),
    "bayesgmm.alignment": ("align",),
    "bayesgmm.identifiability": ("alignment_report",),
    "bayesgmm.modes": ("mode_audit",),
    "bayesgmm.convergence": ("check",),
    "bayesgmm.calibration": ("calibrate",),
    "bayesgmm.summaries": ("summary",),
    "bayesgmm.prediction": (
        "predict_proba",
        "predict",
        "score_samples",
        "sample_posterior_predictive",
    ),
    "bayesgmm.imputation": ("impute",),
    "bayesgmm.pooling": ("pool",),
    "bayesgmm.tree.rows": ("unstack",),
    "bayesgmm.factor_scores": ("project",),
    "bayesgmm.marginals": ("marginal",),
    "bayesgmm.conditionals": ("conditional",),
    "bayesgmm.regression": ("regress",),
    "bayesgmm.quantiles": ("cdf", "quantile"),
    "bayesgmm.outliers": ("outlier_score", "flag_outliers"),
    "bayesgmm.clustering.merging": ("merge_components",),
    "bayesgmm.functionals": ("overlap", "density"),
    "bayesgmm.modality": ("density_modes",),
    "bayesgmm.clustering.allocations": ("sample_allocations",),
    "bayesgmm.clustering.coclustering": ("similarity",),
    "bayesgmm.clustering.partitions": ("partition",),
    "bayesgmm.clustering.occupancy": ("n_clusters",),
    "bayesgmm.clustering.representatives": ("representative_partitions",),
    "bayesgmm.clustering.credibility": ("credible_ball",),
    "bayesgmm.clustering.subsets": ("confident_subset",),
    "bayesgmm.clustering.certainty": ("uncertainty",),
    "bayesgmm.comparison": ("loo", "waic", "compare"),
    "bayesgmm.evidence": ("log_evidence",),
    "bayesgmm.model_probabilities": ("posterior_over_components",),
    "bayesgmm.information": ("bic", "aic", "icl"),
    "bayesgmm.refits": ("kfold", "reloo"),
    "bayesgmm.selection": ("select",),
    "bayesgmm.averaging": ("average",),
    "bayesgmm.plots.alignment": ("plot_alignment",),
    "bayesgmm.plots.components": ("plot_components",),
    "bayesgmm.plots.clusters": ("plot_partition",),
    "bayesgmm.plots.matrix": ("plot_similarity",),
    "bayesgmm.plots.uncertainty": ("plot_uncertainty",),
    "bayesgmm.plots.contours": ("plot_density",),
    "bayesgmm.plots.merges": ("plot_merge",),
    "bayesgmm.plots.peaks": ("plot_modes",),
    "bayesgmm.plots.ball": ("plot_credible_ball",),
    "bayesgmm.plots.choice": ("plot_select",),
    "bayesgmm.plots.path": ("plot_em_path",),
    "bayesgmm.plots.calibration": ("plot_calibration",),
    "bayesgmm.plots.reliability": ("plot_reliability",),
    "bayesgmm.errors": (
        "FitError",
        "ConvergenceWarning",
        "IdentifiabilityWarning",
        "UnitsWarning",
    ),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name == "datasets":
        return import_module("bayesgmm.datasets")
    if name not in _HOME:
        raise AttributeError(f"module 'bayesgmm' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, whether imported yet or not."""
    return [*__all__, "__version__"]
