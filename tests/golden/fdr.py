"""Golden values for src/ensemble/decision/fdr.rs: adjusted p-values of Benjamini-Hochberg and
Benjamini-Yekutieli.

Needs scipy (written with 1.17.1); run: python tests/golden/fdr.py > tests/golden/fdr.json
"""

import json

import numpy
from scipy.stats import false_discovery_control

rng = numpy.random.default_rng(1)
families = []
for m, shifted in [(1, 1), (2, 0), (7, 3), (25, 5), (60, 20)]:
    p = rng.uniform(size=m)
    p[:shifted] = p[:shifted] ** 8
    # Ties, as discrete p-values have them.
    p[-1] = p[0]
    families.append(
        {
            "p": p.tolist(),
            "bh": false_discovery_control(p, method="bh").tolist(),
            "by": false_discovery_control(p, method="by").tolist(),
        }
    )
print(json.dumps(families))
