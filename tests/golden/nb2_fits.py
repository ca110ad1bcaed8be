#!/usr/bin/env python3
"""Reference fits for src/detectors/nb2/model.rs.

Maximum likelihood comes from statsmodels 0.15.0 (NegativeBinomial, loglike_method nb2; Poisson where the optimum lies on
the boundary), polished by Newton's method until the gradient vanishes, because its own stopping rule leaves five digits.
The Cox-Reid fit is written out here with scipy 1.17.1: coefficients by Newton at a fixed dispersion, the dispersion as
the maximum of the likelihood less half the log determinant of X'WX at fixed means, alternating to a fixed point. Run:

    pip install numpy==2.4.6 scipy==1.17.1 statsmodels==0.15.0
    python3 nb2_fits.py > nb2_fits.json
"""
import json
import warnings

import numpy as np
from scipy import optimize, special
from statsmodels.discrete.discrete_model import NegativeBinomial, Poisson

warnings.filterwarnings("ignore")
PERIOD = 52.1775


def design(n, k, trend):
    t = np.arange(n)
    cols = [np.ones(n)]
    for h in range(1, k + 1):
        cols += [np.sin(2 * np.pi * h * t / PERIOD), np.cos(2 * np.pi * h * t / PERIOD)]
    if trend:
        cols.append((t - (n - 1) / 2) / PERIOD)
    return np.column_stack(cols)


def loglik(y, mu, a):
    r = 1 / a
    return np.sum(special.gammaln(y + r) - special.gammaln(r) - special.gammaln(y + 1) + y * np.log(a * mu / (1 + a * mu))
                  - r * np.log1p(a * mu))


def gradient(p, y, X):
    b, a = p[:-1], p[-1]
    mu = np.exp(X @ b)
    r = 1 / a
    db = X.T @ ((y - mu) / (1 + a * mu))
    dr = special.digamma(y + r) - special.digamma(r) - np.log1p(a * mu) + 1 - (y + r) / (mu + r)
    return np.append(db, -np.sum(dr) / a ** 2)


def beta_given(y, X, a, b):
    for _ in range(100):
        mu = np.exp(X @ b)
        g = X.T @ ((y - mu) / (1 + a * mu))
        H = (X * (mu * (1 + a * y) / (1 + a * mu) ** 2)[:, None]).T @ X
        step = np.linalg.solve(H, g)
        b = b + step
        if np.abs(step).max() < 1e-14:
            break
    return b


def cox_reid(y, X, b, a):
    for _ in range(200):
        b = beta_given(y, X, a, b)
        mu = np.exp(X @ b)

        def score(la):
            a = np.exp(la)
            r = 1 / a
            w = mu / (1 + a * mu)
            dr = special.digamma(y + r) - special.digamma(r) - np.log1p(a * mu) + 1 - (y + r) / (mu + r)
            h = np.einsum("ij,jk,ik->i", X, np.linalg.inv((X * w[:, None]).T @ X), X)
            return -np.sum(dr) / a ** 2 + 0.5 * np.sum(w * w * h)

        new = np.exp(optimize.brentq(score, -8, 4, xtol=1e-15, rtol=1e-15))
        if abs(new - a) < 1e-13 * a:
            return b, new
        a = new
    return b, a


def case(seed, n, k, trend, base, alpha, amplitude):
    rng = np.random.default_rng(seed)
    t = np.arange(n)
    mu = base * np.exp(amplitude * np.sin(2 * np.pi * t / PERIOD + 1) + 0.1 * t / PERIOD)
    y = rng.poisson(rng.gamma(1 / alpha, alpha * mu)) if alpha else rng.poisson(mu)
    X = design(n, k, trend)
    out = {"n": n, "fourier_k": k, "trend": trend, "counts": y.tolist()}
    y = y.astype(float)
    if alpha == 0:
        fit = Poisson(y, X).fit(method="newton", maxiter=500, tol=1e-14, disp=0)
        b = beta_given(y, X, 0.0, np.asarray(fit.params))
        mu = np.exp(X @ b)
        assert np.sum((y - mu) ** 2 - y) < 0, "not on the boundary"
        out["ml"] = {"beta": b.tolist(), "dispersion": 0.0}
        return out
    fit = NegativeBinomial(y, X, loglike_method="nb2").fit(method="bfgs", maxiter=5000, gtol=1e-9, disp=0)
    p = optimize.root(gradient, np.asarray(fit.params), args=(y, X), tol=1e-14).x
    assert np.abs(p - fit.params).max() < 2e-4, (p, fit.params)
    out["statsmodels"] = {"beta": list(fit.params[:-1]), "dispersion": float(fit.params[-1]), "ln_likelihood": float(fit.llf)}
    out["ml"] = {"beta": p[:-1].tolist(), "dispersion": float(p[-1]), "ln_likelihood": float(loglik(y, np.exp(X @ p[:-1]), p[-1])),
                 "covariance": np.linalg.inv((X * (np.exp(X @ p[:-1]) / (1 + p[-1] * np.exp(X @ p[:-1])))[:, None]).T @ X).tolist()}
    b, a = cox_reid(y, X, p[:-1], p[-1])
    out["cox_reid"] = {"beta": b.tolist(), "dispersion": float(a)}
    return out


print(json.dumps({
    "tool": "statsmodels 0.15.0, scipy 1.17.1, numpy 2.4.6",
    "period": PERIOD,
    "cases": [
        case(1, 52, 1, True, 20.0, 0.2, 0.4),
        case(2, 156, 2, True, 150.0, 0.05, 0.3),
        case(3, 104, 1, True, 1.5, 0.6, 0.3),
        case(4, 60, 1, False, 5000.0, 0.1, 0.2),
        case(5, 52, 0, False, 8.0, 1.5, 0.0),
        case(6, 260, 3, True, 40.0, 0.02, 0.5),
        case(7, 52, 1, True, 6.0, 0.0, 0.3),
    ],
}))
