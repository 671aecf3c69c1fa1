# Seconds of an iteration of mclust's EM, for rows, features and components separated by commas.
suppressMessages(library(mclust))
sizes <- lapply(commandArgs(trailingOnly = TRUE), function(x) as.integer(strsplit(x, ",")[[1]]))

timed <- function(n, d, k) {
  set.seed(1)
  labels <- rep_len(seq_len(k), n)
  x <- matrix(rnorm(n * d), n) + 2 * matrix(rnorm(k * d), k)[labels, ]
  model <- if (d == 1) "V" else "VVV"
  start <- mstep(modelName = model, data = x, z = unmap(labels))$parameters
  # from the same start again and again: EM that has converged would stop
  run <- function(iterations, calls) {
    control <- emControl(eps = 0, tol = c(0, 0), itmax = c(iterations, iterations))
    began <- proc.time()[["elapsed"]]
    for (i in seq_len(calls)) {
      done <- em(modelName = model, data = x, parameters = start, control = control)
    }
    info <- attr(done, "info") # of numbers, unless a covariance became singular
    list(
      seconds = (proc.time()[["elapsed"]] - began) / calls,
      # counted negatively until it has converged
      iterations = if (is.numeric(info)) abs(info[["iterations"]]) else NA
    )
  }
  heavy <- n * d^2 * k > 1e8
  calls <- if (heavy) 1 else max(1, min(500, ceiling(0.3 / max(run(6, 1)$seconds, 1e-3))))
  long <- run(if (heavy) 2 else 6, calls)
  short <- run(1, calls)
  (long$seconds - short$seconds) / (long$iterations - short$iterations)
}

rows <- sapply(sizes[[1]], function(n) {
  cells <- expand.grid(k = sizes[[3]], d = sizes[[2]])
  spent <- mapply(function(d, k) timed(n, d, k), cells$d, cells$k)
  kept <- is.finite(spent) & spent > 0
  entries <- sprintf('"%d %d": %.9g', cells$d, cells$k, spent)[kept]
  sprintf('"%d": {%s}', as.integer(n), paste(entries, collapse = ", "))
})
cat("{", paste(rows, collapse = ", "), "}\n")
