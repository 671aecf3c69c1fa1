// The same density, with all rows of a component whitened by one product of matrices.
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
  matrix[K, N] joint;
  weights ~ dirichlet(concentration);
  for (k in 1:K) {
    means[k] ~ normal(location, scale);
    scales[k] ~ normal(0, tau);
    factors[k] ~ lkj_corr_cholesky(eta);
    matrix[D, D] cholesky = diag_pre_multiply(scales[k], factors[k]);
    matrix[D, D] inverse = mdivide_left_tri_low(cholesky, identity_matrix(D));
    vector[D] middle = inverse * means[k];
    matrix[D, N] white = inverse * X;
    joint[k] = log(weights[k]) - sum(log(diagonal(cholesky)))
               - 0.5 * (columns_dot_self(white) - 2 * middle' * white + dot_self(middle));
  }
  for (n in 1:N) {
    target += log_sum_exp(joint[, n]);
  }
}
