"""Every dimension, variable, group and attribute name of the package, each written once."""

from typing import Final

# Dimensions
CHAIN: Final = "chain"
DRAW: Final = "draw"
COMPONENT: Final = "component"
FEATURE: Final = "feature"
FEATURE2: Final = "feature2"
OBS: Final = "obs"
OBS2: Final = "obs2"
MODE: Final = "mode"
ITERATION: Final = "iteration"
PAIR: Final = "pair"
COMPONENT2: Final = "component2"
CLUSTER: Final = "cluster"
CLASS: Final = "class"
N_CLUSTERS: Final = "n_clusters"
STATISTIC: Final = "statistic"
TRACK: Final = "track"
BATCH: Final = "batch"
CI_BOUND: Final = "ci_bound"
BOUND: Final = "bound"
IMPUTATION: Final = "imputation"
FOLD: Final = "fold"
"""A coordinate along ``obs``: which rows were left out together."""

# Variables of the posterior
WEIGHTS: Final = "weights"
MEANS: Final = "means"
SCALES: Final = "scales"
CORRELATIONS: Final = "correlations"
COVARIANCES: Final = "covariances"
PARAMETER_DIMS: Final[dict[str, tuple[str, ...]]] = {
    WEIGHTS: (COMPONENT,),
    MEANS: (COMPONENT, FEATURE),
    SCALES: (COMPONENT, FEATURE),
    CORRELATIONS: (COMPONENT, FEATURE, FEATURE2),
    COVARIANCES: (COMPONENT, FEATURE, FEATURE2),
}
"""The variables of ``posterior`` with the dimensions that follow ``(chain, draw)``."""

# Variable of the posterior where components have heavy tails: their degrees of freedom
DF: Final = "df"
# And where a row may be background noise, of a weight of its own
NOISE: Final = "noise"
NOISE_WEIGHT: Final = "noise_weight"
ALL_WEIGHTS: Final = "all_weights"
NOISE_LOG_DENSITY: Final = "noise_log_density"
# Of factor analysers
FACTOR: Final = "factor"
LOADINGS: Final = "loadings"
NOISE_SCALES: Final = "noise_scales"

FACTOR_DIMS: Final[dict[str, tuple[str, ...]]] = {
    WEIGHTS: (COMPONENT,),
    MEANS: (COMPONENT, FEATURE),
    NOISE_SCALES: (COMPONENT, FEATURE),
    LOADINGS: (COMPONENT, FEATURE, FACTOR),
    SCALES: (COMPONENT, FEATURE),
}
"""The same of factor analysers."""

# Variables of the posterior where the number of components has a prior
N_COMPONENTS: Final = "n_components"
CONCENTRATION: Final = "concentration"

# Variable of the posterior where weights may be too small to be kept
LOG_WEIGHTS: Final = "log_weights"

# Free variables of PyMC's model that are not variables of the posterior
SHARED_SCALES: Final = "shared_scales"
SHARED_DF: Final = "shared_df"
PARTIAL_CORRELATIONS: Final = "partial_correlations_beta"
LOADINGS_BELOW: Final = "loadings_below"
LOADINGS_DIAGONAL: Final = "loadings_diagonal"
SHARED_NOISE_SCALES: Final = "shared_noise_scales"

# The data, in ``observed_data`` and ``log_likelihood``
X: Final = "X"
LABELS: Final = "labels"
GIVEN_NAME: Final = "given_name"
"""Attribute of a coordinate or of ``X``: what the user called it (index name, dimension, name)."""

LEVELS: Final = "multiindex_levels"
"""Attribute of ``obs``: the names of the coordinates that were levels of the rows' MultiIndex."""
STACKED: Final = "stacked_dims"
SHAPE: Final = "stacked_shape"
"""Attributes of ``obs``: the dimensions of a cube whose rows were stacked, and their lengths."""

# Variables of ``constant_data``: how the data were standardised inside
CENTER: Final = "center"
UNIT: Final = "unit"
MEASUREMENT_ERROR: Final = "measurement_error"

# And what is known of rows beside their cells
SAMPLE_WEIGHT: Final = "sample_weight"
ALLOWED: Final = "allowed"
NOISE_ALLOWED: Final = "noise_allowed"

# Variables of ``sample_stats``
LP: Final = "lp"
LOG_Q: Final = "log_q"
DIVERGING: Final = "diverging"
ENERGY: Final = "energy"
TREE_DEPTH: Final = "tree_depth"
N_STEPS: Final = "n_steps"
STEP_SIZE: Final = "step_size"
ACCEPTANCE_RATE: Final = "acceptance_rate"

# Variables of ``alignment``
PERMUTATION: Final = "permutation"
MARGIN: Final = "margin"

# Variables of an alignment report
EXPECTED_ROWS: Final = "expected_rows"
OCCUPIED: Final = "occupied"
TIED: Final = "tied"
OVERLAP: Final = "overlap"
NEAREST: Final = "nearest"
TRUSTED: Final = "trusted"

# Variables of a mode audit
MODE_OF_CHAIN: Final = "mode_of_chain"
N_CHAINS: Final = "n_chains"
LOG_POSTERIOR: Final = "log_posterior"
LOG_MASS: Final = "log_mass"
STACKING_WEIGHT: Final = "stacking_weight"

# Variables of ``sufficient_statistics``, ``tracks`` and ``online``
COUNTS: Final = "counts"
STATUS: Final = "status"
VELOCITIES: Final = "velocities"
N_TRACKS: Final = "n_tracks"
LOG_SCORE: Final = "log_score"

# What is said about numbers of components
PRIOR_PROBABILITY: Final = "prior_probability"
TRUNCATION_ERROR: Final = "truncation_error"
PROBABILITY: Final = "probability"
PROBABILITY_ERROR: Final = "probability_error"
LOG_EVIDENCE: Final = "log_evidence"
LOG_EVIDENCE_ERROR: Final = "log_evidence_error"

# Variables of ``modes``
OBJECTIVE: Final = "objective"
STARTS: Final = "starts"

# Variables of ``optimization``
ELBO: Final = "elbo"
ELBO_DRAWS: Final = "n_draws"
ELBO_ROWS: Final = "n_obs"

# Variables of what `overlap`, `merge_components` and `density_modes` return
MISCLASSIFICATION: Final = "misclassification"
BHATTACHARYYA: Final = "bhattacharyya"
KL: Final = "kl"
ENTROPY: Final = "entropy"
CRITERION: Final = "criterion"
PROPOSED: Final = "proposed"
THRESHOLD: Final = "threshold"
TOGETHER: Final = "together"
LOCATION: Final = "location"
LOG_DENSITY: Final = "log_density"
N_MODES: Final = "n_modes"

# How sure the allocation of a row is
PROBABILITY_INTERVAL: Final = "probability_interval"
ERROR_PROBABILITY: Final = "error_probability"
TOTAL_ENTROPY: Final = "total_entropy"
ALEATORIC_ENTROPY: Final = "aleatoric_entropy"
EPISTEMIC_ENTROPY: Final = "epistemic_entropy"
EXEMPLAR: Final = "exemplar"
WITH_EXEMPLAR: Final = "with_exemplar"
CI_PROB: Final = "ci_prob"
SD: Final = "sd"

# Variables of what `impute` returns, beside `X`
MISSING: Final = "missing"
MEAN: Final = "mean"
INTERVAL: Final = "interval"

# Partitions, and how sure they are
PARTITION: Final = "partition"
REPRESENTATIVE: Final = "representative"
DISTANCE: Final = "distance"
DRAW_DISTANCE: Final = "draw_distance"
N_TIED: Final = "n_tied"
JOINT_PROBABILITY: Final = "joint_probability"
PATH: Final = "path"
N_ROWS: Final = "n_rows"
CONFIDENT: Final = "confident"
N_CONFIDENT: Final = "n_confident"
N_PARTITIONS: Final = "n_partitions"
WASSERSTEIN: Final = "wasserstein"
LEVEL: Final = "level"
RADIUS: Final = "radius"
MASS: Final = "mass"

# What follows of features: distributions in one dimension, and features given others
QUANTILE: Final = "quantile"
MEAN_INTERVAL: Final = "mean_interval"
PREDICTIVE_INTERVAL: Final = "predictive_interval"

# Scores of outliers
SCORE: Final = "score"
SCORE_ERROR: Final = "score_error"
OUTLIER: Final = "outlier"
RESOLUTION: Final = "resolution"
LEFT_OUT: Final = "left_out"
# The path of EM
RESPONSIBILITIES: Final = "responsibilities"

# Calibration by simulated data
SIMULATION: Final = "simulation"
QUANTITY: Final = "quantity"
RANKS: Final = "ranks"
N_KEPT: Final = "n_kept"
P_VALUE: Final = "p_value"
ECDF: Final = "ecdf"
BAND: Final = "band"
VERDICT: Final = "verdict"
N_FAILED: Final = "n_failed"

# Groups
POSTERIOR: Final = "posterior"
SAMPLE_STATS: Final = "sample_stats"
LOG_LIKELIHOOD: Final = "log_likelihood"
OBSERVED_DATA: Final = "observed_data"
CONSTANT_DATA: Final = "constant_data"
ALIGNMENT: Final = "alignment"
MODES: Final = "modes"
OPTIMIZATION: Final = "optimization"
SUFFICIENT_STATISTICS: Final = "sufficient_statistics"
TRACKS: Final = "tracks"
ONLINE: Final = "online"
POSTERIOR_PREDICTIVE: Final = "posterior_predictive"

# Attributes of the root of the tree
SPECIFICATION: Final = "specification"
METHOD: Final = "method"
ENGINE: Final = "engine"
DEVICE: Final = "device"
SCHEMA_VERSION: Final = "bayesgmm_schema"
RANDOM_SEED: Final = "random_seed"
CREATED_AT: Final = "created_at"
INFERENCE_LIBRARY: Final = "inference_library"
LIBRARY_VERSION: Final = "inference_library_version"
INTERRUPTED: Final = "interrupted"
CONVERGED: Final = "converged"
PARETO_K: Final = "pareto_k"
RESAMPLED: Final = "resampled"
MODE_SHARE: Final = "mode_share"
AVERAGED: Final = "averaged"
EXPECTED_LOSS: Final = "expected_loss"
EFFECTIVE_ROWS: Final = "effective_rows"
LIKELIHOOD: Final = "likelihood"
DERIVED: Final = "derived"
GIVEN: Final = "given"
N_BLOCKS: Final = "n_blocks"

# Attributes of a partition, beside ``expected_loss`` and ``n_clusters``
LOSS: Final = "loss"
ENUMERATED: Final = "enumerated"
RUNS: Final = "n_runs"
RUNS_AT_BEST: Final = "n_runs_at_best"
