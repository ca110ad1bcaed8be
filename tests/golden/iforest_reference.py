"""Reference values for the isolation forest, from scikit-learn 1.9.1 (numpy 2.4.6).

    python tests/golden/iforest_reference.py     # writes tests/golden/iforest_reference.json

`trees` are those of a small scikit-learn forest, renumbered breadth first, and `scores` what its
score_samples says of `rows` with the sign turned: the formula and the walk alone, so agreement is to
rounding. `fitted` are scores of the same rows by a forest of 2,000 trees: another generator draws
other trees, so ours agrees within the noise of two such forests (about 0.002 a row).
"""

import json
import pathlib

import numpy as np
from sklearn.ensemble import IsolationForest

LEAF = 2**32 - 1


def breadth_first(tree):
    order = [0]
    for node in order:
        if tree.children_left[node] != -1:
            order += [int(tree.children_left[node]), int(tree.children_right[node])]
    place = {node: at for at, node in enumerate(order)}
    inner = [tree.children_left[node] != -1 for node in order]
    return {
        "feature": [int(tree.feature[n]) if i else LEAF for n, i in zip(order, inner)],
        "threshold": [float(tree.threshold[n]) if i else 0.0 for n, i in zip(order, inner)],
        "left": [place[int(tree.children_left[n])] if i else 0 for n, i in zip(order, inner)],
        "rows": [int(tree.n_node_samples[n]) for n in order],
    }


def main():
    rng = np.random.default_rng(7)
    rows = rng.normal(size=(200, 3))
    rows[:, 2] = rng.integers(0, 4, 200)  # ties and a column that is often constant in a node
    rows[:6] += rng.choice([-6, 6], size=(6, 3))
    rows = rows.astype(np.float32)  # what scikit-learn compares; exact in double precision
    small = IsolationForest(n_estimators=12, max_samples=64, random_state=1).fit(rows)
    large = IsolationForest(n_estimators=2000, max_samples=64, random_state=2).fit(rows)
    reference = {
        "rows": rows.astype(float).tolist(),
        "sample_size": 64,
        "trees": [breadth_first(tree.tree_) for tree in small.estimators_],
        "scores": (-small.score_samples(rows)).tolist(),
        "fitted": (-large.score_samples(rows)).tolist(),
    }
    path = pathlib.Path(__file__).with_name("iforest_reference.json")
    path.write_text(json.dumps(reference, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
