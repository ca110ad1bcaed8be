"""Distances of windows by scikit-learn 1.9.1 (numpy 2.4.6).

    python subsequence_pca.py > subsequence_pca.json

D^2 of a window is the sum over all components of t_j^2 / (v_j + r), with r = ridge x mean variance,
from PCA's own components and variances; the score of a step is the mean of sqrt(D^2 / coordinates)
over the windows that hold it. The Rust side never computes a component.
"""
import json

import numpy as np
from sklearn.decomposition import PCA

TIMES, LEARNT, WINDOW, RIDGE = 160, 120, 6, 0.05

rng = np.random.default_rng(7)
t = np.arange(TIMES)
wave = np.sin(2 * np.pi * t / 24)
values = np.c_[
    wave + 0.2 * rng.standard_normal(TIMES),
    0.7 * np.roll(wave, 2) + 0.3 * rng.standard_normal(TIMES),
    0.4 * rng.standard_normal(TIMES),
]
values[140:143, 1] += 3.0
values = np.round(values, 6)

windows = np.array([values[s : s + WINDOW].ravel() for s in range(TIMES - WINDOW + 1)])
pca = PCA(svd_solver="full").fit(windows[: LEARNT - WINDOW + 1])
variances = pca.explained_variance_
squared = (pca.transform(windows) ** 2 / (variances + RIDGE * variances.mean())).sum(1)
distance = np.sqrt(squared / windows.shape[1])
score = [distance[max(0, i - WINDOW + 1) : i + 1].mean() for i in range(TIMES)]
print(json.dumps(dict(learnt=LEARNT, window=WINDOW, ridge=RIDGE, values=values.tolist(), score=score)))
