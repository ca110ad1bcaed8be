#!/usr/bin/env python3
"""Reference fits with an exposure for src/detectors/nb2/model.rs.

statsmodels 0.15.0: NegativeBinomial (loglike_method nb2) with `offset = ln(exposure)` gives coefficients and dispersion by
maximum likelihood; GLM with family NegativeBinomial(alpha) at that dispersion and the same offset gives the
coefficients once more. Rates are fitted means over exposures. Run:

    pip install numpy==2.4.6 scipy==1.17.1 statsmodels==0.15.0
    python3 nb2_exposure.py > nb2_exposure.json
"""
import json
import warnings

import numpy as np
import statsmodels.api as sm
from statsmodels.discrete.discrete_model import NegativeBinomial

warnings.filterwarnings("ignore")
PERIOD = 52.1775


def design(n):
    t = np.arange(n)
    return np.column_stack([np.ones(n), np.sin(2 * np.pi * t / PERIOD), np.cos(2 * np.pi * t / PERIOD),
                            (t - (n - 1) / 2) / PERIOD])


def case(seed, n, rate, dispersion, growth):
    rng = np.random.default_rng(seed)
    t = np.arange(n)
    exposure = np.round(500 * np.exp(growth * t / n + 0.2 * rng.standard_normal(n)))
    mean = exposure * rate * np.exp(0.3 * np.sin(2 * np.pi * t / PERIOD))
    counts = rng.poisson(rng.gamma(1 / dispersion, dispersion * mean))
    X, offset = design(n), np.log(exposure)
    start = np.append(sm.GLM(counts, X, family=sm.families.Poisson(), offset=offset).fit().params, dispersion)
    ml = NegativeBinomial(counts, X, loglike_method="nb2", offset=offset).fit(
        start_params=start, method="bfgs", maxiter=2000, gtol=1e-9, disp=False)
    ml = NegativeBinomial(counts, X, loglike_method="nb2", offset=offset).fit(
        start_params=ml.params, method="newton", maxiter=200, tol=1e-14, disp=False)
    alpha = float(ml.params[-1])
    glm = sm.GLM(counts, X, family=sm.families.NegativeBinomial(alpha=alpha), offset=offset).fit(tol=1e-14, maxiter=500)
    return {"exposure": exposure.tolist(), "counts": counts.tolist(), "coefficients": ml.params[:-1].tolist(),
            "dispersion": alpha, "glm_coefficients": glm.params.tolist(),
            "glm_rates": (glm.fittedvalues / exposure).tolist()}


cases = [case(1, 104, 0.02, 0.1, 0.7), case(2, 156, 0.2, 0.05, -0.5), case(3, 60, 0.004, 0.3, 0.0)]
print(json.dumps({"period": PERIOD, "cases": cases}))
