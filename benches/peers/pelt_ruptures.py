#!/usr/bin/env python3
"""Peer of benches/change_points.rs: ruptures' KernelCPD (C), linear and Gaussian kernel, the same signals.

Runs the bench right after the peer; checks that both find the same changes (linear) and prints CPU
milliseconds and the ratio.

    pip install numpy==2.4.6 ruptures==1.1.10
    python3 benches/peers/pelt_ruptures.py
"""
import math
import os
import pathlib
import subprocess
import tempfile
import time

import numpy as np
import ruptures
from criterion_results import ROOT, ours

N = 10_000


def timed(kernel, signal, penalty, repeats):
    best = math.inf
    for _ in range(repeats):
        started = time.process_time()
        # With a width given, as the linear kernel has none; the median heuristic would need 400 MB.
        params = {"gamma": 0.25} if kernel == "rbf" else None
        found = ruptures.KernelCPD(kernel=kernel, min_size=2, params=params).fit(signal).predict(pen=penalty)
        best = min(best, time.process_time() - started)
    return best, [int(end) for end in found[:-1]]


def main():
    with tempfile.TemporaryDirectory() as folder:
        env = dict(os.environ, ANOMALIST_CHANGE_SIGNALS=folder)
        subprocess.run(["cargo", "bench", "--bench", "change_points"], env=env, cwd=ROOT, check=True, capture_output=True)
        read = lambda name: np.loadtxt(pathlib.Path(folder) / name, ndmin=1)
        signals = {every: (read(f"signal_{every}.txt"), read(f"changes_{every}.txt")) for every in (500, 2500)}
    theirs = {}
    for every, (signal, found) in signals.items():
        theirs["l2", every], ends = timed("linear", signal.reshape(-1, 1), 2 * math.log(N), 7)
        theirs["rbf", every], _ = timed("rbf", signal.reshape(-1, 1), math.log(N), 2)
        same = ends == [int(at) for at in found]
        print(f"every {every}: {len(ends)} changes, {'the same' if same else 'NOT the same'}")
    for cost in ("l2", "rbf"):
        found = ours(f"pelt {cost}", [f"every {every}" for every in signals], "change_points")
        for every in signals:
            mine, peer = found[f"every {every}"], theirs[cost, every]
            print(f"{cost}, every {every}: ruptures {peer * 1e3:.1f} ms, ours {mine * 1e3:.1f} ms, ratio {peer / mine:.1f}")


main()
