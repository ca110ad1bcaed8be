#!/usr/bin/env python3
"""The quality bench's "plain PCA" beside scikit-learn's PCA, series by series.

    cargo bench --bench quality -- DIR --series series.csv
    pip install pandas==3.1.1 pyarrow scikit-learn==1.9.1
    python3 benches/peers/pca_sklearn.py DIR series.csv [SET ...]

Fits StandardScaler and PCA(svd_solver="full") on the training rows (windows of them where there is one
metric), keeps the components that explain 90 %, scores by the squared error of the reconstruction, and
compares the area under the precision-recall curve with the bench's. Exits with 1 where they differ.
Series whose variances tie at the cut have no plane of their own, and are named and left out.
"""
import csv
import pathlib
import sys

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import StandardScaler

NO_METRIC = {
    "series_id", "timestamp", "label", "label_point", "split",
    "changepoint", "step", "domain", "disease",
}
# Scores that differ by rounding alone change places.
TOLERANCE = 1e-4


def scores(values, train, window):
    """By row, and whether the kept components are the only ones that could be."""
    if values.shape[1] > 1:
        window = 1
    points = values
    if window > 1:
        points = np.lib.stride_tricks.sliding_window_view(values[:, 0], window)
    learnt = train + 1 - window
    points = StandardScaler().fit(points[:learnt]).transform(points)
    plane, unique = np.zeros_like(points), True
    if points[:learnt].any():
        pca = PCA(svd_solver="full").fit(points[:learnt])
        explained = pca.explained_variance_ratio_
        kept = np.searchsorted(np.cumsum(explained), 0.9, side="right") + 1
        kept = min(kept, len(explained) - 1)
        unique = explained[kept - 1] - explained[kept] > 1e-9
        axes = pca.components_[:kept]
        plane = pca.mean_ + (points - pca.mean_) @ axes.T @ axes
    error = ((points - plane) ** 2).sum(axis=1).round(9)
    place = np.clip(np.arange(len(values)) - window // 2, 0, len(points) - 1)
    return error[place], unique


def of_series(rows):
    metrics = [name for name in rows.columns if name not in NO_METRIC]
    values = rows[metrics].astype(float).ffill().bfill().to_numpy()
    train = 0
    if "split" in rows:
        train = int((rows["split"] == "test").to_numpy().argmax())
    if train == 0:
        train = int(0.4 * len(rows))
    label = pd.to_numeric(rows["label"]).to_numpy()
    judged = (np.arange(len(rows)) >= train) & ~np.isnan(label)
    found, unique = scores(values, train, 24 if len(rows) < 500 else 48)
    return average_precision_score(label[judged] > 0, found[judged]), unique


def main():
    folder, path, wanted = pathlib.Path(sys.argv[1]), sys.argv[2], set(sys.argv[3:])
    with open(path, newline="") as file:
        ours = {
            (row["kind"], row["set"], row["series"]): float(row["value"])
            for row in csv.DictReader(file)
            if row["scorer"] == "plain PCA" and row["figure"] == "auc_pr"
        }
    worst, compared = 0.0, 0
    for kind in ("univariate", "multivariate"):
        for source in sorted((folder / kind).glob("*.parquet")):
            name = source.stem.split("_machine")[0]
            if wanted and name not in wanted:
                continue
            for series, rows in pd.read_parquet(source).groupby("series_id", sort=False):
                own = ours.get((kind, name, str(series)))
                if own is None:
                    continue
                theirs, unique = of_series(rows)
                line = f"{name} / {series}: ours {own:.6f}, scikit-learn {theirs:.6f}"
                if not unique:
                    print(f"{line}: variances tie at the cut, left out")
                    continue
                compared += 1
                worst = max(worst, abs(own - theirs))
                if abs(own - theirs) > TOLERANCE:
                    print(line)
    print(f"{compared} series compared, largest difference {worst:.1e}")
    sys.exit(worst > TOLERANCE or not compared)


main()
