#!/usr/bin/env python3
"""NB2 beside farringtonFlexible (R surveillance) on the same Noufaily series.

    cargo bench --bench weekly_quality -- --case noufaily --seeds 1000..1025 --set 'direction = "above_expected"' --dump DIR
    for each seed: farringtonFlexible with b = 5, reweighting, w = 3, alpha = 0.01 on DIR/counts_SEED.csv,
    its flags (series_id, week_start, is_anom) in DIR/far_SEED.csv
    python3 nb2_farrington.py DIR 0.02

Both are measured on the newest 49 weeks: F1 and FPR over weeks, POD over outbreaks that start there. The interval of the
difference is a bootstrap over replicates (seeds), which both share.
"""
import csv
import glob
import math
import random
import re
import sys


def tally(rows, flag):
    """[hits, misses, false alarms, clean weeks, outbreaks, outbreaks found] of one replicate."""
    out = [0] * 6
    by_series = {}
    for row in rows:
        by_series.setdefault(row["series_id"], []).append(row)
    for series in by_series.values():
        tests = [row for row in series if row["in_test"] == "1"]
        before = [row for row in series if row["in_test"] == "0"]
        for row in tests:
            labelled, flagged = row["label"] == "1", flag(row)
            out[0 if flagged else 1] += labelled
            out[2] += flagged and not labelled
            out[3] += not labelled
        # The last baseline outbreak may reach into the test weeks: its tail opens no event.
        start = 0
        while before and before[-1]["label"] == "1" and start < len(tests) and tests[start]["label"] == "1":
            start += 1
        event = [row for row in tests[start:] if row["label"] == "1"]
        out[4] += bool(event)
        out[5] += any(flag(row) for row in event)
    return out


def figures(tallies):
    hits, misses, wrong, clean, events, found = (sum(column) for column in zip(*tallies))
    return 2 * hits / (2 * hits + misses + wrong), found / events, wrong / clean


def main():
    folder, level = sys.argv[1], float(sys.argv[2])
    ours, theirs = [], []
    for path in sorted(glob.glob(f"{folder}/far_*.csv")):
        seed = re.search(r"far_(\d+)", path).group(1)
        rows = list(csv.DictReader(open(f"{folder}/counts_{seed}.csv")))
        alarms = {(r["series_id"], r["week_start"]) for r in csv.DictReader(open(path)) if r["is_anom"] == "1"}
        ours.append(tally(rows, lambda row: float(row["score"]) >= -math.log10(level)))
        theirs.append(tally(rows, lambda row: (row["series_id"], row["week_start"]) in alarms))
    print(f"{len(ours)} replicates of 42 scenarios")
    for name, tallies in (("NB2", ours), ("farringtonFlexible", theirs)):
        print("%-20s F1 %.3f POD %.3f FPR %.4f" % (name, *figures(tallies)))
    rng, differences = random.Random(1), []
    for _ in range(2000):
        pick = [rng.randrange(len(ours)) for _ in ours]
        a, b = figures([ours[i] for i in pick]), figures([theirs[i] for i in pick])
        differences.append([x - y for x, y in zip(a, b)])
    for name, column in zip(("F1", "POD", "FPR"), zip(*differences)):
        column = sorted(column)
        print("%s, NB2 less Farrington: 95 %% interval %+.4f to %+.4f" % (name, column[50], column[1949]))


main()
