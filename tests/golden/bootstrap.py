#!/usr/bin/env python3
"""Golden values for src/evaluation/bootstrap.rs: paired percentile intervals of scipy.stats.bootstrap, scipy 1.17.1.

`runs` are two runs on the same 30 series; scipy draws series, the same for both, and takes the difference of recall and
of precision. `distribution` is one bootstrap distribution with the interval that scipy makes of it, for an exact check of
the percentiles. Run:

    pip install numpy==2.4.6 scipy==1.17.1
    python3 bootstrap.py > bootstrap.json
"""
import json

import numpy as np
from scipy import stats

rng = np.random.default_rng(20260101)
SERIES, STEPS = 30, 12
truth = rng.random((SERIES, STEPS)) < 0.25
hard = rng.random((SERIES, 1))
flags = [
    np.where(truth, rng.random(truth.shape) < 0.3 + 0.5 * hard, rng.random(truth.shape) < 0.08),
    np.where(truth, rng.random(truth.shape) < 0.45 + 0.5 * hard, rng.random(truth.shape) < 0.15),
]
hits = [(f & truth).sum(1) for f in flags]
flagged = [f.sum(1) for f in flags]
positives = truth.sum(1)


def difference(hits_a, whole_a, hits_b, whole_b, axis=-1):
    return hits_b.sum(axis) / whole_b.sum(axis) - hits_a.sum(axis) / whole_a.sum(axis)


def bootstrap(data, n):
    return stats.bootstrap(
        data, difference, paired=True, vectorized=True, n_resamples=n, method="percentile", confidence_level=0.95,
        batch=2000, rng=np.random.default_rng(1),
    )


def figure(data):
    result = bootstrap(data, 200_000)
    interval = result.confidence_interval
    return {
        "estimate": float(difference(*data)),
        "interval": [float(interval.low), float(interval.high)],
        "standard_error": float(result.standard_error),
    }


recall = (hits[0], positives, hits[1], positives)
precision = (hits[0], flagged[0], hits[1], flagged[1])
small = bootstrap(precision, 299)
rows = lambda cells: ["".join("1" if x else "0" for x in row) for row in cells]
print(json.dumps({
    "truth": rows(truth),
    "baseline": rows(flags[0]),
    "other": rows(flags[1]),
    "recall": figure(recall),
    "precision": figure(precision),
    "distribution": [float(x) for x in small.bootstrap_distribution],
    "distribution_interval": [float(small.confidence_interval.low), float(small.confidence_interval.high)],
}))
