#!/usr/bin/env python3
"""Reference values for src/math/special.rs and src/math/nb.rs.

Written with mpmath 1.4.1 at 60 digits and printed with 17, so the file's own error is below one unit in the last
place of a double; every tolerance in the tests is the error of our code alone. Run:

    pip install mpmath==1.4.1
    python3 nb2_reference.py > nb2_reference.json
"""
import json
from mpmath import mp, mpf

mp.dps = 60


def s(x):
    return float(mp.nstr(x, 20, strip_zeros=False))


def finite(x):
    return None if mp.isinf(x) else s(x)


def special():
    out = {"ln_gamma": [], "stirling_error": [], "digamma": [], "trigamma": [], "log1p_minus_x": [], "deviance_term": [],
           "ln_normal_cdf": [], "ln_incomplete_beta": []}
    for x in [1e-300, 1e-8, 0.01, 0.3, 0.5, 1.0, 1.0000001, 1.5, 2.0, 3.7, 9.99, 10.0, 25.3, 1e3, 1e7, 1e15, 1e100]:
        out["ln_gamma"].append([x, s(mp.loggamma(mpf(x)))])
    for x in [0.01, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 9.5, 10.0, 16.0, 123.4, 1e9]:
        v = mpf(x)
        out["stirling_error"].append([x, s(mp.loggamma(v + 1) - (v + mpf(1) / 2) * mp.log(v) + v - mp.log(2 * mp.pi) / 2)])
    for x in [1e-6, 0.1, 0.5, 1.0, 1.4616321449683623, 2.0, 5.5, 9.9, 10.0, 100.0, 1e8]:
        out["digamma"].append([x, s(mp.digamma(mpf(x)))])
        out["trigamma"].append([x, s(mp.psi(1, mpf(x)))])
    for x in [-0.999999, -0.5, -0.27, -0.25, -0.01, -1e-8, 1e-12, 1e-5, 0.1, 0.2599, 0.2601, 1.0, 1e6]:
        v = mpf(x)
        out["log1p_minus_x"].append([x, s(mp.log1p(v) - v)])
        out["deviance_term"].append([x, s((1 + v) * mp.log1p(v) - v)])
    for z in [-1e6, -40.0, -10.0, -2.01, -2.0, -1.99, -0.5, 0.0, 1.0, 1.99, 2.01, 5.0, 9.0]:
        v = mpf(z)
        out["ln_normal_cdf"].append([z, s(mp.log(mp.erfc(-v / mp.sqrt(2)) / 2))])
    for a, b, x in [(0.5, 0.5, 0.3), (2.0, 3.0, 0.01), (2.0, 3.0, 0.99), (1e3, 2e3, 0.2), (1e3, 2e3, 0.5), (1e-3, 5.0, 0.5),
                    (50.0, 0.01, 0.4), (300.0, 400.0, 0.01), (1.0, 1.0, 0.25)]:
        low = mp.betainc(a, b, 0, mpf(x), regularized=True)
        high = mp.betainc(b, a, 0, 1 - mpf(x), regularized=True)
        out["ln_incomplete_beta"].append([a, b, x, s(mp.log(low)), s(mp.log(high))])
    return out


def ln_pmf(y, mu, al):
    y, mu, al = mpf(y), mpf(mu), mpf(al)
    if al == 0:
        return y * mp.log(mu) - mu - mp.loggamma(y + 1)
    r = 1 / al
    return (mp.loggamma(y + r) - mp.loggamma(r) - mp.loggamma(y + 1) + y * mp.log(al * mu / (1 + al * mu))
            - r * mp.log1p(al * mu))


def tail(y, mu, al, up):
    """Sum of the smaller tail term by term, outwards until the terms no longer matter."""
    mu, al = mpf(mu), mpf(al)
    term = total = mp.exp(ln_pmf(y, mu, al))
    j = mpf(y)
    eps = mpf(10) ** -45
    while True:
        if up:
            term *= (1 + al * j) * mu / ((j + 1) * (1 + al * mu))
            j += 1
        else:
            if j == 0:
                return total
            term *= j * (1 + al * mu) / ((1 + al * (j - 1)) * mu)
            j -= 1
        total += term
        if term < total * eps and (not up or j > mu):
            return total


def tails():
    out = []
    cases = [(mu, al) for mu in (1e-6, 0.02, 0.3, 1.0, 7.5, 60.0, 200.0, 5000.0) for al in (0.0, 1e-12, 1e-5, 0.02, 0.2, 1.0, 10.0, 100.0)]
    for mu, al in cases:
        sd = (mu + al * mu * mu) ** 0.5
        ys = {0, 1, 2, int(mu), int(mu) + 1, int(mu / 4), int(mu + 3 * sd), int(mu + 10 * sd), max(0, int(mu - 2.5 * sd))}
        if mu <= 200:
            ys |= {int(40 * mu + 300)}
        for y in sorted(ys):
            upper_is_small = y > mu
            if upper_is_small:
                if al >= 10 and mu > 200:
                    continue  # hundreds of thousands of terms at 60 digits
                up = tail(y, mu, al, True)
                low = 1 - up + mp.exp(ln_pmf(y, mu, al))
            else:
                low = tail(y, mu, al, False)
                up = 1 - low + mp.exp(ln_pmf(y, mu, al))
            out.append([mu, al, y, s(ln_pmf(y, mu, al)), s(mp.log(low)), s(mp.log(up))])
    # A mean of ten million, and tails beyond the smallest double.
    for mu, al, y in [(1e7, 0.0, 10_010_000), (1e7, 0.0, 9_990_000), (1e7, 1e-9, 10_020_000), (1e7, 1e-9, 9_980_000),
                      (200.0, 0.0, 2_000), (200.0, 0.05, 6_000), (0.3, 0.0, 200), (5000.0, 0.02, 20), (1e6, 0.0, 960_000)]:
        small = tail(y, mu, al, y > mu)
        other = 1 - small + mp.exp(ln_pmf(y, mu, al))
        low, up = (other, small) if y > mu else (small, other)
        out.append([mu, al, y, s(ln_pmf(y, mu, al)), s(mp.log(low)), s(mp.log(up))])
    # The mean and dispersion at once extreme: the probability of single counts only.
    single = [[mu, al, y, s(ln_pmf(y, mu, al))] for mu, al, y in
              [(1e7, 0.3, 9_000_000), (1e7, 100.0, 5), (1e7, 100.0, 200_000_000), (1e7, 1e-14, 10_001_000), (1e-6, 100.0, 30)]]
    return out, single


def quantiles():
    out = []
    for mu, al in [(0.3, 0.0), (0.3, 0.5), (4.0, 0.1), (60.0, 0.0), (60.0, 0.3), (200.0, 0.02), (3.0, 20.0), (1500.0, 0.1)]:
        for p in (1e-12, 0.005, 0.1, 0.5, 0.9, 0.995, 1 - 1e-9):
            y, cdf = 0, mp.exp(ln_pmf(0, mu, al))
            term = cdf
            m, a = mpf(mu), mpf(al)
            while cdf < mpf(p):
                term *= (1 + a * y) * m / ((y + 1) * (1 + a * m))
                y += 1
                cdf += term
            out.append([mu, al, p, y])
    return out


t, single = tails()
print(json.dumps({"tool": "mpmath 1.4.1, 60 digits", "special": special(), "tails": t, "ln_pmf": single, "quantiles": quantiles()}))
