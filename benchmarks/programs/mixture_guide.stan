// The mixture as Stan's user's guide writes it.
data {
  int<lower=1> N;
  int<lower=1> D;
  int<lower=1> K;
  matrix[D, N] X;
  vector<lower=0>[K] concentration;
  vector[D] location;
  vector<lower=0>[D] scale;
  vector<lower=0>[D] tau;
  real<lower=0> eta;
}
parameters {
  simplex[K] weights;
  array[K] vector[D] means;
  array[K] vector<lower=0>[D] scales;
  array[K] cholesky_factor_corr[D] factors;
}
model {
  vector[K] log_weights = log(weights);
  array[K] matrix[D, D] cholesky;
  weights ~ dirichlet(concentration);
  for (k in 1:K) {
    means[k] ~ normal(location, scale);
    scales[k] ~ normal(0, tau);
    factors[k] ~ lkj_corr_cholesky(eta);
    cholesky[k] = diag_pre_multiply(scales[k], factors[k]);
  }
  for (n in 1:N) {
    vector[K] joint = log_weights;
    for (k in 1:K) {
      joint[k] += multi_normal_cholesky_lpdf(X[, n] | means[k], cholesky[k]);
    }
    target += log_sum_exp(joint);
  }
}
