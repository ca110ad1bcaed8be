"""Golden values for src/evaluation/, written to tests/golden/evaluation.json.

    python tests/golden/evaluation.py IN_FOLDER TSB_AD_FOLDER

IN_FOLDER holds `nab.parquet` and `ms_cloud_monitoring.parquet` in long form (series_id, value, label;
see configs/data/README.md for the sources; both MIT, licences in configs/data/licenses/).
TSB_AD_FOLDER is the unpacked wheel of TSB-AD 1.5, whose affiliation code is that of the KDD 2022
paper's authors; only that folder of it is imported, so its own dependencies are not needed.

VUS: the package `vus` 0.0.6, RangeAUC_volume_opt, asked for as many thresholds as there are points:
then its thresholds are all distinct scores, and its figure is exact. AUC: scikit-learn.

Scores are the distance from the median in the unit of the series' median absolute deviation, at one
decimal, so that there are many ties; a second case per series scores the same values with the sign
turned, a third one uniform random numbers (seed 1, three decimals). Flags: scores above their 95 %
quantile.
"""

import importlib.metadata
import json
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import sklearn
from sklearn.metrics import average_precision_score, roc_auc_score
from vus.utils.metrics import metricor

SERIES = [
    ("nab.parquet", "realAWSCloudwatch/iio_us-east-1_i-a2eb1cd9_NetworkIn", slice(0, 700), 24),
    ("ms_cloud_monitoring.parquet", "application-crash-rate-1/app1-04", slice(0, 400), 24),
    ("ms_cloud_monitoring.parquet", "middle-tier-api-dependency-latency/outbound-12", slice(0, 720), 5),
]


def affiliation(folder):
    """The affiliation modules alone: the package's own __init__ imports torch."""
    for name in ("TSB_AD", "TSB_AD.evaluation"):
        module = types.ModuleType(name)
        module.__path__ = [str(Path(folder) / name.replace(".", "/"))]
        sys.modules[name] = module
    from TSB_AD.evaluation.affiliation.metrics import pr_from_events

    return pr_from_events


def runs(cells):
    edges = np.flatnonzero(np.diff(np.r_[0, cells.astype(int), 0]))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2])]


def case(name, label, score, buffer, pr_from_events):
    flags = score > np.quantile(score, 0.95)
    *_, vus_roc, vus_pr = metricor().RangeAUC_volume_opt(label.astype(int), score, buffer, thre=len(score))
    near = pr_from_events(runs(flags), runs(label), (0, len(label)))
    return {
        "name": name,
        "steps": len(label),
        "labels": runs(label),
        "score": score.tolist(),
        "flags": runs(flags),
        "buffer": buffer,
        "vus_pr": float(vus_pr),
        "vus_roc": float(vus_roc),
        "average_precision": float(average_precision_score(label, score)),
        "roc_auc": float(roc_auc_score(label, score)),
        "affiliation_precision": float(near["Affiliation_Precision"]),
        "affiliation_recall": float(near["Affiliation_Recall"]),
    }


def main():
    folder, tsb_ad = sys.argv[1:3]
    pr_from_events = affiliation(tsb_ad)
    cases = []
    for file, series, part, buffer in SERIES:
        frame = pd.read_parquet(Path(folder) / file)
        frame = frame[frame["series_id"] == series].iloc[part]
        label = frame["label"].fillna(0).to_numpy() > 0
        value = frame["value"].ffill().bfill().to_numpy(float)
        spread = np.median(np.abs(value - np.median(value))) or 1.0
        far = np.round(np.abs(value - np.median(value)) / spread, 1)
        random = np.round(np.random.default_rng(1).random(len(label)), 3)
        for kind, score in (("distance", far), ("reversed", -far), ("random", random)):
            cases.append(case(f"{series}, {kind}", label, score, buffer, pr_from_events))
    packages = {
        "vus": importlib.metadata.version("vus"),
        "TSB-AD (affiliation)": "1.5",
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
    }
    notice = "labels and values of NAB and of Microsoft's cloud-monitoring set, both MIT: configs/data/licenses"
    out = {"packages": packages, "script": "tests/golden/evaluation.py", "notice": notice, "cases": cases}
    Path(__file__).with_suffix(".json").write_text(json.dumps(out, separators=(",", ":")) + "\n")
    for item in cases:
        print(item["name"], item["vus_pr"], item["vus_roc"], item["affiliation_precision"], item["affiliation_recall"])


main()
