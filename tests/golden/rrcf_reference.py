"""Reference values for the robust random cut forest, from rrcf 0.4.4 (numpy 2.4.6).

    python tests/golden/rrcf_reference.py     # writes tests/golden/rrcf_reference.json

`stages` are one tree as it is built, loses points and gains new ones, nodes before children and left
before right, with the collusive displacement of every point and the dimension of the cut that it
comes from. `probes` are points that are not in the last tree, with the mean displacement over
20,000 insertions and its standard error.
"""

import json
import pathlib

import numpy as np
import rrcf

LEAF = 2**32 - 1


def stage(tree, action, slot):
    out = {"action": action, "slot": slot, "dimension": [], "cut": [], "leaf_slot": [], "points": []}

    def visit(node):
        leaf = isinstance(node, rrcf.Leaf)
        out["dimension"].append(LEAF if leaf else int(node.q))
        out["cut"].append(0.0 if leaf else float(node.p))
        # With duplicates a leaf's own number counts distinct rows.
        holders = [int(i) for i, other in tree.leaves.items() if other is node] if leaf else [0]
        out["leaf_slot"].append(min(holders))
        out["points"].append(int(node.n) if leaf else 0)
        if not leaf:
            visit(node.l)
            visit(node.r)

    visit(tree.root)
    out["codisp"] = [[int(i), float(tree.codisp(i)), cut_of(tree, i)] for i in sorted(tree.leaves)]
    return out


def cut_of(tree, slot):
    """The dimension of the cut that codisp's maximum comes from."""
    node, most, cut = tree.leaves[slot], 0.0, 0
    while node.u is not None:
        sibling = node.u.r if node is node.u.l else node.u.l
        if sibling.n / node.n > most:
            most, cut = sibling.n / node.n, int(node.u.q)
        node = node.u
    assert most == tree.codisp(slot)
    return cut


def main():
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(40, 3))
    rows[4] += [0, 7, 0]
    rows[7] = rows[11]  # one point twice
    tree = rrcf.RCTree(rows[:30], index_labels=np.arange(30), random_state=5)
    stages = [stage(tree, "build", 0)]
    lows = {int(rows[:30, d].argmin()) for d in range(3)}  # on the rim of every box above them
    for slot in [3, 4, 11, *sorted(lows - {3, 4, 7, 11})]:
        tree.forget_point(slot)
        stages.append(stage(tree, "forget", slot))
    for slot in range(30, 36):
        tree.insert_point(rows[slot], index=slot)
        stages.append(stage(tree, "insert", slot))
    probes = []
    for probe in [[0, 0, 0], [6, 0, 0], [0, -2, 2], [9, 9, 9], rows[35].tolist()]:
        scores = []
        for _ in range(20_000):
            tree.insert_point(np.array(probe, float), index=-1)
            scores.append(tree.codisp(-1))
            tree.forget_point(-1)
        error = float(np.std(scores) / np.sqrt(len(scores)))
        probes.append({"point": probe, "mean": float(np.mean(scores)), "error": error})
    reference = {"rows": rows.tolist(), "stages": stages, "probes": probes}
    path = pathlib.Path(__file__).with_name("rrcf_reference.json")
    path.write_text(json.dumps(reference, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
