"""Paired differences between scorers of the quality bench, with bootstrap intervals.

    cargo bench --bench quality -- DIR --series with.csv
    cargo bench --bench quality -- DIR --without lstm_autoencoder --series without.csv
    python benches/quality/paired.py with.csv --scorers lstm_autoencoder seasonal_profile
    python benches/quality/paired.py with.csv without.csv --scorers ensemble

The difference is the first scorer's figure less the second's, or the first file's less the second's. A
series that comes more than once (seeds of injections, draws) counts once, with the mean of its repeats,
because repeats on the same series are no independent evidence. A set's difference is the mean over the
series that both sides have. What is drawn with replacement are series within their sets; a kind's
last row is the mean of its sets' means. Percentile intervals of 95 %, 10,000 resamples; with fewer than
about twenty series they are too narrow. In a set of one series its repeats are drawn, where there are
any, and the interval (marked "repeats") is about that series alone; such a set widens no mean of sets.
"""

import argparse
import collections
import csv
import pathlib
import random
import statistics

RESAMPLES = 10_000


def read(path, scorer):
    """{figure: {(kind, set): {series: [value by repeat]}}} of one scorer."""
    found = collections.defaultdict(lambda: collections.defaultdict(dict))
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            if row["scorer"] == scorer:
                series = found[row["figure"]][row["kind"], row["set"]]
                series.setdefault(row["series"], []).append(float(row["value"]))
    if not found:
        raise SystemExit(f"{path}: no scorer `{scorer}`")
    return found


def pairs(a, b):
    """{(kind, set): [(first values, second values)]}, series by series."""
    found = {}
    for key in a:
        both = [(a[key][s], b[key][s]) for s in sorted(a[key]) if s in b.get(key, {})]
        if both:
            found[key] = both
    return found


def differences(both):
    """One difference a series; of a single series, one a repeat."""
    if len(both) == 1 and len(both[0][0]) == len(both[0][1]):
        return [x - y for x, y in zip(*both[0])]
    return [statistics.fmean(first) - statistics.fmean(second) for first, second in both]


def interval(sets, rng):
    alone = len(sets) == 1 and len(sets[0]) == 1
    found = [differences(both) for both in sets]
    if not alone:
        found = [d if len(both) > 1 else [statistics.fmean(d)] for d, both in zip(found, sets)]
    if all(len(set(d)) < 2 for d in found):
        return "–"
    values = sorted(
        statistics.fmean(statistics.fmean(rng.choices(d, k=len(d))) for d in found)
        for _ in range(RESAMPLES)
    )
    low, high = values[round(0.025 * (RESAMPLES - 1))], values[round(0.975 * (RESAMPLES - 1))]
    return f"{low:+.3f} to {high:+.3f}" + (" (repeats)" if alone else "")


def row(kind, name, sets, rng):
    first, second = (
        statistics.fmean(
            statistics.fmean(statistics.fmean(pair[side]) for pair in both) for both in sets
        )
        for side in (0, 1)
    )
    n = sum(len(both) for both in sets)
    found = f"{first:.3f} | {second:.3f} | {first - second:+.3f} | {interval(sets, rng)}"
    print(f"| {kind} | {name} | {n} | {found} |")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", help="what --series wrote: one file or two")
    parser.add_argument("--scorers", nargs="+", required=True, help="two for one file, else one")
    parser.add_argument("--figures", nargs="+", default=["vus_pr"],
                        help="vus_pr auc_pr pod event_f1 fpr")
    args = parser.parse_args()
    if len(args.files) + len(args.scorers) != 3:
        parser.error("give one file and two scorers, or two files and one scorer")
    first = read(args.files[0], args.scorers[0])
    second = read(args.files[-1], args.scorers[-1])
    names = [pathlib.Path(path).stem for path in args.files]
    sides = args.scorers if len(args.scorers) == 2 else names
    rng = random.Random(1)
    for figure in args.figures:
        print(f"| {figure} | set | series | {sides[0]} | {sides[1]} | difference | 95 % interval |")
        print("|---" * 7 + "|")
        kinds = collections.defaultdict(dict)
        for (kind, name), both in pairs(first[figure], second[figure]).items():
            kinds[kind][name] = both
        for kind, sets in kinds.items():
            for name, both in sets.items():
                row(kind, name, [both], rng)
            if len(sets) > 1:
                row(kind, f"mean of {len(sets)} sets", list(sets.values()), rng)
        print()


if __name__ == "__main__":
    main()
