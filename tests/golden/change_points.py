"""Reference change points, from ruptures 1.1.10, and run-length posteriors by a direct reading of Adams
and MacKay (2007) with scipy 1.17.1's densities (numpy 2.4.6).

    python tests/golden/change_points.py     # writes tests/golden/change_points.json

Segmentations: KernelCPD (C) for l2 and rbf and Pelt with jump = 1 for l1, l2 and rbf, each over several
penalties and shortest segments. ruptures prunes candidates before a segment that starts at the later
one is long enough, so with min_size > 1 it may miss the optimum: `least` is the least cost over all
segmentations (dynamic programming over ruptures' own costs), and `reached` says whether ruptures has it. The two rbf kernels of ruptures differ in k(x, x) (1 in Python, exp(-0.01) in C), which
changes the penalty by less than 0.01; penalties here are not that close.

Posteriors: all run lengths, nothing pruned, in logs.
"""

import json
import pathlib

import numpy as np
import ruptures
from scipy.special import logsumexp
from scipy.stats import nbinom, t


def steps(rng, levels, length, noise):
    return np.concatenate([level + noise(rng, length) for level in levels])


def normal(rng, n):
    return rng.normal(size=n)


def heavy(rng, n):
    return rng.standard_t(2, size=n)


def dyadic(signal):
    """Multiples of 1/1024, whose sums are exact: where segmentations tie, as they do for l1, rounding decides
    nothing and the earliest start wins, here as there."""
    return np.round(signal * 1024) / 1024


TOO_SOON = [-0.5, -1.7, 1.2, -3.5, -2.1, 0.1, -2.7, 0.1, -0.1, 1.8, -1.8, -1.3, 0.7, -4.9, 6.2, -1.4, -1.5, 1.7, -0.1, -3.6, 1.3, 1.7, -0.9, -0.6]


def signals():
    rng = np.random.default_rng(5)
    yield "steps", dyadic(steps(rng, [0, 3, 1, 1.8, -2], 60, normal))
    yield "small steps", dyadic(steps(rng, [0, 1, 0, 1], 70, normal))
    yield "heavy tails", dyadic(steps(rng, [0, 4, 1], 80, heavy))
    yield "no change", dyadic(rng.normal(size=200))
    yield "counts", np.concatenate([rng.poisson(m, size=60) for m in (5, 12, 5, 1)]).astype(float)
    yield "change of spread", dyadic(np.concatenate([rng.normal(size=90), 5 * rng.normal(size=90)]))
    yield "short bursts", dyadic(rng.normal(size=220) + 6 * (np.arange(220) % 40 < 4))
    yield "pruned too soon", np.array(TOO_SOON)


PENALTIES = {"l2": [6.0, 12.0, 30.0], "l1": [4.0, 9.0, 20.0], "rbf": [1.5, 3.0, 6.0]}


def optimum(cost, n, penalty, min_size):
    """The least penalised cost over every segmentation into segments of at least min_size."""
    best = np.full(n + 1, np.inf)
    best[0] = 0.0
    for end in range(min_size, n + 1):
        for start in range(0, end - min_size + 1):
            if np.isfinite(best[start]):
                best[end] = min(best[end], best[start] + cost.error(start, end) + penalty)
    return best[n]


def total(cost, ends, penalty):
    starts = [0, *ends[:-1]]
    return sum(cost.error(a, b) + penalty for a, b in zip(starts, ends))


def case(name, signal, model, penalty, min_size):
    cost = ruptures.costs.cost_factory(model=model).fit(signal.reshape(-1, 1))
    found = {"Pelt": ruptures.Pelt(model=model, min_size=min_size, jump=1).fit_predict(signal, penalty)}
    if model != "l1":
        kernel = {"l2": "linear", "rbf": "rbf"}[model]
        kernel = ruptures.KernelCPD(kernel=kernel, min_size=min_size).fit(signal.reshape(-1, 1))
        found["KernelCPD"] = kernel.predict(pen=penalty)
    least = optimum(cost, len(signal), penalty, min_size)
    for tool, ends in found.items():
        ends = [int(end) for end in ends]
        reached = total(cost, ends, penalty) <= least + 1e-9 * abs(least)
        print(name, model, tool, penalty, min_size, len(ends) - 1, "" if reached else "NOT OPTIMAL")
        yield {
            "signal": name, "model": model, "tool": tool, "penalty": penalty,
            "min_size": min_size, "ends": ends, "least": float(least), "reached": bool(reached),
        }


def segmentations():
    cases = []
    for name, signal in signals():
        if name == "pruned too soon":
            cases += case(name, signal, "l2", 1.0, 6)
            continue
        for model, penalties in PENALTIES.items():
            for penalty, min_size in zip(penalties, (2, 5, 3)):
                cases += case(name, signal, model, penalty, min_size)
    return cases


def posterior(n, hazard, ln_predictive):
    """ln P(run length) after each value; ln_predictive(first, value) with the run's first value."""
    ln_p = np.array([0.0])
    out = []
    for now in range(n):
        # Entry r: the run holds the values now - r .. now - 1.
        grown = ln_p + np.array([ln_predictive(now - r, now) for r in range(now + 1)])
        ln_p = np.concatenate([[np.log(hazard) + logsumexp(grown)], grown + np.log1p(-hazard)])
        ln_p -= logsumexp(ln_p)
        out.append(np.exp(ln_p))
    return out


def student(values, mean, strength, shape, scale):
    def ln_predictive(first, now):
        seen = values[first:now]
        n = len(seen)
        centre = seen.mean() if n else 0.0
        m = (strength * mean + n * centre) / (strength + n)
        k, a = strength + n, shape + n / 2
        b = scale + 0.5 * ((seen - centre) ** 2).sum() + 0.5 * strength * n * (centre - mean) ** 2 / (strength + n)
        return t.logpdf(values[now], 2 * a, loc=m, scale=np.sqrt(b * (k + 1) / (a * k)))

    return ln_predictive


def gamma_poisson(counts, exposures, shape, rate):
    def ln_predictive(first, now):
        a, b = shape + counts[first:now].sum(), rate + exposures[first:now].sum()
        return nbinom.logpmf(counts[now], a, b / (b + exposures[now]))

    return ln_predictive


def posteriors():
    rng = np.random.default_rng(6)
    values = np.round(np.concatenate([rng.normal(size=40), 3 + rng.normal(size=25), rng.normal(size=15)]), 6)
    values[55] = 40.0
    prior = {"mean": 0.5, "strength": 0.2, "shape": 2.0, "scale": 1.5}
    exposures = np.round(rng.uniform(0.5, 2, size=70), 6)
    counts = rng.poisson(np.where(np.arange(70) < 45, 6, 2) * exposures).astype(float)
    gamma = {"shape": 1.5, "rate": 0.3}
    at = [1, 5, 40, 41, 43, 56, 57, 65, 70]
    normal_posterior = posterior(len(values), 1 / 50, student(values, **prior))
    count_posterior = posterior(len(counts), 1 / 30, gamma_poisson(counts, exposures, **gamma))
    pick = lambda found: {str(n): found[n - 1].tolist() for n in at if n <= len(found)}
    return {
        "normal": {"values": values.tolist(), "hazard": 1 / 50, **prior, "after": pick(normal_posterior)},
        "counts": {
            "counts": counts.tolist(), "exposures": exposures.tolist(), "hazard": 1 / 30, **gamma,
            "after": pick(count_posterior),
        },
    }


def main():
    out = {
        "signals": {name: signal.tolist() for name, signal in signals()},
        "segmentations": segmentations(),
        "posteriors": posteriors(),
    }
    path = pathlib.Path(__file__).with_name("change_points.json")
    path.write_text(json.dumps(out, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
