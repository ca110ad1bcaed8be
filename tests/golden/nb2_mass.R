#!/usr/bin/env Rscript
# Reference fits of src/detectors/nb2/model.rs by MASS::glm.nb (maximum likelihood; its theta is 1 / dispersion).
# R 4.2.2, MASS 7.3-58.2. Run:
#
#     Rscript nb2_mass.R > nb2_mass.json
suppressMessages(library(MASS))
period <- 52.1775
set.seed(2)
cases <- list(c(n = 52, k = 1, mean = 2, size = 2), c(n = 52, k = 1, mean = 40, size = 8),
              c(n = 104, k = 2, mean = 8, size = 4), c(n = 260, k = 2, mean = 150, size = 20))
texts <- vapply(cases, function(case) {
  n <- case[["n"]]
  t <- seq_len(n) - 1
  harmonics <- do.call(cbind, lapply(seq_len(case[["k"]]), function(h) {
    angle <- 2 * pi * h * t / period
    cbind(sin(angle), cos(angle))
  }))
  x <- cbind(1, harmonics, (t - (n - 1) / 2) / period)
  y <- rnbinom(n, mu = case[["mean"]] * exp(0.3 * sin(2 * pi * t / period)), size = case[["size"]])
  fit <- glm.nb(y ~ x - 1, control = glm.control(epsilon = 1e-10, maxit = 100))
  array_of <- function(v) paste0("[", paste(sprintf("%.17g", v), collapse = ", "), "]")
  sprintf('{"n": %d, "fourier_k": %d, "counts": %s, "coefficients": %s, "dispersion": %.17g, "ln_likelihood": %.17g, "standard_errors": %s}',
          as.integer(n), as.integer(case[["k"]]), array_of(y), array_of(coef(fit)), 1 / fit$theta, as.numeric(logLik(fit)),
          array_of(sqrt(diag(vcov(fit)))))
}, "")
cat(sprintf('{"tool": "R %s, MASS %s", "period": %.17g, "cases": [\n%s\n]}\n', getRversion(), packageVersion("MASS"), period,
            paste(texts, collapse = ",\n")))
