"""Saliency by numpy 2.4.6's FFT, from the formulas of Ren et al. (KDD 2019), section 3.2.

    python spectral_residual.py > spectral_residual.json

Five points are made up after the end; the bin of the mean is left out; what comes back is multiplied
by the root of the length, as in src/detectors/spectral_residual/saliency.rs.
"""
import json

import numpy as np


def saliency(x, average):
    n = len(x)
    gradient = np.mean([(x[-1] - x[-1 - i]) / i for i in range(1, 6)])
    e = np.r_[x, np.full(5, x[-5] + 5 * gradient)]
    spectrum = np.fft.fft(e - e.mean())
    log = np.log(np.abs(spectrum), where=np.arange(len(e)) > 0, out=np.zeros(len(e)))
    log[0] = log[1]
    half = average // 2
    usual = np.convolve(np.pad(log, half, mode="wrap"), np.ones(average) / average, "valid")
    residual = np.exp(log - usual) * np.exp(1j * np.angle(spectrum))
    residual[0] = 0
    return np.fft.ifft(residual).real[:n] * np.sqrt(len(e))


rng = np.random.default_rng(11)
cases = []
for n, average in [(64, 3), (150, 3), (257, 9)]:
    t = np.arange(n)
    x = 10 + np.sin(2 * np.pi * t / 24) + 0.1 * rng.standard_normal(n) + 0.01 * t
    x[n // 2] += 4
    x = np.round(x, 6)
    cases.append(dict(average=average, values=x.tolist(), saliency=saliency(x, average).tolist()))
print(json.dumps(cases))
