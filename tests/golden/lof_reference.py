"""Reference values for the local outlier factor, from scikit-learn 1.9.1 (numpy 2.4.6).

    python tests/golden/lof_reference.py     # writes tests/golden/lof_reference.json

`fitted` are the factors of the rows among themselves (novelty=False), `novel` those of other rows
against them (novelty=True). Both sides sum the same terms in other orders, so agreement is to
rounding.
"""

import json
import pathlib

import numpy as np
from sklearn.neighbors import LocalOutlierFactor


def case(name, rows, others, neighbours):
    fitted = LocalOutlierFactor(n_neighbors=neighbours).fit(rows)
    novel = LocalOutlierFactor(n_neighbors=neighbours, novelty=True).fit(rows)
    return {
        "name": name,
        "neighbours": neighbours,
        "rows": rows.tolist(),
        "others": others.tolist(),
        "fitted": (-fitted.negative_outlier_factor_).tolist(),
        "novel": (-novel.score_samples(others)).tolist(),
    }


def main():
    rng = np.random.default_rng(11)
    dense = rng.normal(size=(90, 3))
    loose = rng.normal(size=(30, 3)) * 4 + 12
    rows = np.round(np.vstack([dense, loose]), 6)
    others = np.round(rng.normal(size=(25, 3)) * 5 + 3, 6)
    twice = rows.copy()
    twice[5:9] = twice[4]  # five copies, below half of twenty neighbours
    cases = [
        case("two densities", rows, others, 10),
        case("five copies", twice, others, 20),
        case("more neighbours than rows", rows[:12], others[:5], 40),
        case("one column", rows[:, :1], others[:, :1], 7),
    ]
    path = pathlib.Path(__file__).with_name("lof_reference.json")
    path.write_text(json.dumps({"cases": cases}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
