"""Makes the sample data in this folder from copies of the published sets.

    python prepare.py IN_FOLDER OUT_FOLDER

IN_FOLDER holds `ms_cloud_monitoring.parquet`, `nab.parquet` and `rki_influenza.parquet` in long
form: one row per series and time step (series_id, timestamp, value, label where there is one; for
influenza region and age_group). Needs pandas and pyarrow (made with pandas 3.1, pyarrow 26).

Series are chosen by rules that look at names and time steps only, never at labels or values, so
that nobody can be said to have picked what a detector finds. README.md states the rules.
"""

import sys
from pathlib import Path

import pandas as pd

HOUR = pd.Timedelta(hours=1)
MICROSOFT_SERIES = 12


def intervals(frame: pd.DataFrame) -> pd.DataFrame:
    """Runs of labelled rows as half-open intervals; a missing hour inside a run does not end it."""
    rows = []
    for name, series in frame.groupby("series", sort=True):
        series = series.sort_values("timestamp")
        run = (series["label"] != series["label"].shift()).cumsum()
        for _, part in series[series["label"] == 1].groupby(run):
            times = part["timestamp"]
            rows.append((name, times.iloc[0], times.iloc[-1] + HOUR, "anomaly"))
    return pd.DataFrame(rows, columns=["series", "start", "end", "kind"])


def write(frame: pd.DataFrame, path: Path) -> None:
    frame.to_csv(path, index=False, date_format="%Y-%m-%dT%H:%M", lineterminator="\n")
    print(f"{path}: {len(frame)} rows, {path.stat().st_size} bytes")


def write_pair(frame: pd.DataFrame, out: Path, name: str) -> None:
    # "folder/name" -> "name", which is unique and half as long.
    frame = frame.assign(series=frame["series"].str.split("/").str[1])
    frame = frame.sort_values(["series", "timestamp"])
    write(frame[["series", "timestamp", "value"]], out / f"{name}.csv")
    write(intervals(frame), out / f"{name}_labels.csv")


def microsoft(source: Path, out: Path) -> None:
    """The first series by name that have a row for every hour and no hour twice."""
    frame = pd.read_parquet(source / "ms_cloud_monitoring.parquet")
    frame["timestamp"] = pd.to_datetime(frame["timestamp"])
    frame = frame.rename(columns={"series_id": "series"})
    regular = [
        name
        for name, series in frame.groupby("series", sort=True)
        if (series["timestamp"].diff().dropna() == HOUR).all()
    ]
    write_pair(frame[frame["series"].isin(regular[:MICROSOFT_SERIES])], out, "cloud_monitoring")


def nab(source: Path, out: Path) -> None:
    """The first series by name of each of NAB's folders of real data, as means of clock hours."""
    frame = pd.read_parquet(source / "nab.parquet")
    frame = frame[frame["series_id"].str.startswith("real")].copy()
    frame["folder"] = frame["series_id"].str.split("/").str[0]
    first = frame.groupby("folder")["series_id"].min()
    frame = frame[frame["series_id"].isin(first)]
    frame["timestamp"] = pd.to_datetime(frame["timestamp"]).dt.floor("h")
    hours = frame.groupby(["series_id", "timestamp"], as_index=False).agg(
        value=("value", "mean"), label=("label", "max")
    )
    # Ten significant digits: a mean of floats has noise in the last ones.
    hours["value"] = hours["value"].map(lambda value: float(f"{value:.10g}"))
    write_pair(hours.rename(columns={"series_id": "series"}), out, "nab")


def influenza(source: Path, out: Path) -> None:
    """Federal states by age group, without the published sums; weeks without a case have no row."""
    frame = pd.read_parquet(source / "rki_influenza.parquet")
    frame = frame[(frame["region"] != "Deutschland") & (frame["age_group"] != "00+")]
    frame = frame[frame["value"] > 0]
    frame = frame.rename(columns={"timestamp": "week", "value": "cases"})
    frame = frame.sort_values(["week", "region", "age_group"])
    frame["cases"] = frame["cases"].astype(int)
    write(frame[["week", "region", "age_group", "cases"]], out / "influenza.csv")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source_folder, out_folder = Path(sys.argv[1]), Path(sys.argv[2])
    out_folder.mkdir(parents=True, exist_ok=True)
    microsoft(source_folder, out_folder)
    nab(source_folder, out_folder)
    influenza(source_folder, out_folder)
