"""Forecasts of the reference Prophet for src/detectors/prophet/tests.rs.

  python prophet_reference.py EXAMPLE.csv > prophet_reference.json

EXAMPLE.csv: `ds,y` of Prophet's own example `example_wp_log_peyton_manning.csv` (MIT licence). The
second case is simulated: 90 days of hours with a daily and a weekly season and a bend. Default
settings; the forecast covers every 7th row of the history and 60 days (3 days of hours) beyond it.
"""
import json
import logging
import sys

import numpy as np
import pandas as pd
import prophet

logging.getLogger("cmdstanpy").setLevel(logging.ERROR)


def simulated():
    rng = np.random.default_rng(7)
    t = np.arange(2160)
    trend = 500 + 0.05 * t - 0.12 * np.maximum(t - 1200, 0)
    season = 120 * np.sin(2 * np.pi * t / 24) + 60 * np.cos(2 * np.pi * t / 168)
    y = np.round(trend + season + rng.normal(0, 25, len(t)), 1)
    return pd.DataFrame({"ds": pd.date_range("2025-01-01", periods=len(t), freq="h"), "y": y})


def case(name, frame, freq, periods):
    model = prophet.Prophet().fit(frame)
    future = model.make_future_dataframe(periods=periods, freq=freq)
    rows = sorted(set(range(0, len(frame), 7)) | set(range(len(frame), len(future))))
    future = future.iloc[rows]
    forecast = model.predict(future)
    seconds = lambda ds: ((pd.to_datetime(ds) - pd.Timestamp(0)).dt.total_seconds()).astype(int).tolist()
    return {
        "name": f"{name}, prophet {prophet.__version__}",
        "times": seconds(frame["ds"]),
        "values": [round(float(v), 6) for v in frame["y"]],
        "at": seconds(future["ds"]),
        "yhat": [round(float(v), 5) for v in forecast["yhat"]],
        "sigma": float(model.params["sigma_obs"][0][0]),
    }


example = pd.read_csv(sys.argv[1])
example["ds"] = pd.to_datetime(example["ds"])
print(json.dumps([case("peyton_manning", example, "D", 60), case("hours", simulated(), "h", 72)]))
