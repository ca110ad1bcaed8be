#!/usr/bin/env python3
"""Peer of benches/forests.rs: scikit-learn's IsolationForest, 100 trees on 256 rows of 8 features, one thread.

Runs the bench right after the peer and prints both and the ratio, in rows per CPU-second.

    pip install numpy==2.4.6 scikit-learn==1.9.1
    python3 benches/peers/iforest_sklearn.py
"""
import time

import numpy as np
from criterion_results import ours
from sklearn.ensemble import IsolationForest


def main():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300_000, 8)).astype(np.float32)
    rows[:6_000] *= 4
    forest = IsolationForest(n_estimators=100, max_samples=256, random_state=0, n_jobs=1).fit(rows[:100_000])
    forest.score_samples(rows[:1_000])
    started = time.process_time()
    forest.score_samples(rows)
    theirs = len(rows) / (time.process_time() - started)
    started = time.process_time()
    for row in range(50):
        forest.score_samples(rows[row : row + 1])
    their_row = (time.process_time() - started) / 50
    found = ours("isolation forest", ["score", "one row"])
    our_rows, our_row = 100_000 / found["score"], found["one row"]
    print(f"rows per CPU-second: scikit-learn {theirs:,.0f}, ours {our_rows:,.0f}, ratio {our_rows / theirs:.1f}")
    print(f"one row: scikit-learn {their_row * 1e3:.2f} ms, ours {our_row * 1e6:.1f} us, ratio {their_row / our_row:,.0f}")


main()
