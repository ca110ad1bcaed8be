#!/usr/bin/env python3
"""Peer of benches/nb2.rs: statsmodels' NegativeBinomial on weekly counts drawn by the same rules.

Times fits alone, and fits with the 99 % quantiles and two-sided p-values of every week, in CPU seconds of one thread.

    pip install numpy==2.4.6 scipy==1.17.1 statsmodels==0.15.0
    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python3 nb2_statsmodels.py [SERIES]
"""
import sys
import time
import warnings

import numpy as np
from scipy import stats
from statsmodels.discrete.discrete_model import NegativeBinomial

warnings.filterwarnings("ignore")
WEEKS = 52


def counts(rng):
    base = np.exp(rng.uniform(np.log(0.3), np.log(200)))
    dispersion = np.exp(rng.uniform(np.log(0.02), np.log(0.5)))
    t = np.arange(WEEKS)
    mean = base * np.exp(rng.uniform(0.1, 0.4) * np.sin(2 * np.pi * t / 52.18 + rng.uniform(0, 2 * np.pi)))
    length, factor = [(2, 5.0), (3, 0.1), (8, 2.2)][rng.integers(3)]
    start = rng.integers(WEEKS - length)
    mean[start:start + length] *= factor
    return rng.poisson(rng.gamma(1 / dispersion, dispersion * mean)).astype(float)


def design():
    t = np.arange(WEEKS)
    angle = 2 * np.pi * t / 52.18
    return np.column_stack([np.ones(WEEKS), np.sin(angle), np.cos(angle), (t - (WEEKS - 1) / 2) / 52.18])


def main():
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    rng = np.random.default_rng(1)
    series = [counts(rng) for _ in range(n)]
    X = design()
    fits, failed = [], 0
    started = time.process_time()
    for y in series:
        try:
            p = np.asarray(NegativeBinomial(y, X, loglike_method="nb2").fit(method="bfgs", maxiter=200, disp=0).params)
            if not np.isfinite(p).all():
                raise ValueError
            fits.append((y, p))
        except Exception:
            failed += 1
    fitted = time.process_time() - started
    for y, p in fits:
        mu, size = np.exp(X @ p[:-1]), 1 / max(p[-1], 1e-8)
        share = size / (size + mu)
        stats.nbinom.ppf([[0.005], [0.995]], size, share)
        np.minimum(1, 2 * np.minimum(stats.nbinom.cdf(y, size, share), stats.nbinom.sf(y - 1, size, share)))
    scored = time.process_time() - started
    print(f"{n} series of {WEEKS} weeks, {failed} fits failed: {n / fitted:.0f} fits per CPU-second, "
          f"{n / scored:.0f} fitted and scored in sample per CPU-second")


main()
