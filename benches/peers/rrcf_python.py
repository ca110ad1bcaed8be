#!/usr/bin/env python3
"""Peer of benches/forests.rs: the Python package rrcf, 100 trees over the newest 256 points of 8 dimensions.

Every point is let in, scored by its displacement, and the oldest is forgotten. Runs the bench right after the peer
and prints both and the ratio, in points per CPU-second.

    pip install numpy==2.4.6 rrcf==0.4.4
    python3 benches/peers/rrcf_python.py
"""
import time

import numpy as np
import rrcf
from criterion_results import ours

WINDOW, POINTS = 256, 100


def main():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(WINDOW + POINTS, 8))
    trees = [rrcf.RCTree(rows[:WINDOW], index_labels=np.arange(WINDOW), random_state=i) for i in range(100)]
    started = time.process_time()
    for i in range(WINDOW, len(rows)):
        for tree in trees:
            tree.forget_point(i - WINDOW)
            tree.insert_point(rows[i], index=i)
            tree.codisp(i)
    theirs = POINTS / (time.process_time() - started)
    found = ours("random cut forest", ["score and update", "score and update one by one"])
    for name, seconds in found.items():
        print(f"{name}, points per CPU-second: rrcf {theirs:,.0f}, ours {2_000 / seconds:,.0f}, "
              f"ratio {2_000 / seconds / theirs:,.0f}")


main()
