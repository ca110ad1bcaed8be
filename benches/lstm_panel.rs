//! What the LSTM autoencoder takes for a whole panel on the CPU, seconds and peak memory:
//!
//! ```sh
//! cargo bench --bench lstm_panel -- train          # 1,000 series × 2,160 hours × 5 metrics
//! cargo bench --bench lstm_panel -- newest-hour    # 10,000 series × 169 hours × 5 metrics
//! ```
//!
//! `train` fits a forecaster on the panel, one epoch of 4,096 windows, and scores it in sample. (An
//! autoencoder holds no more: its batches are half as long. But it has a window for each of two
//! million hours to score, which takes minutes.) `newest-hour` trains on 361 hours of each series and
//! then scores what a stream has after one more: the hours that the newest one needs. Memory is the
//! process's largest resident set (Linux), the panel included.

use std::{process::ExitCode, time::Instant};

use anomalist::{
    detectors::{
        Detector, DetectorError, FitContext, FitMask, FittedDetector,
        lstm_autoencoder::{LstmAutoencoder, LstmParams, Objective},
    },
    panel::{Calendar, Level, Metric, MetricKind, Panel, SeriesKey, Step},
};
use ndarray::{Array3, s};

const METRICS: usize = 5;

/// Hours `first` to `first + times` of made-up shops.
fn panel(series: usize, first: usize, times: usize) -> Result<Panel, String> {
    let values = Array3::from_shape_fn((series, times, METRICS), |(series, time, metric)| {
        let time = first + time;
        let day = (time % 24) as f64 / 24.0 * std::f64::consts::TAU;
        let wobble = ((series * 31 + time * 17 + metric * 7) % 23) as f64;
        (100.0 * (metric + 1) as f64 * (1.2 + day.sin()) + wobble).round()
    });
    let metric = |place| Metric { name: format!("metric {place}"), kind: MetricKind::Count };
    Panel::new(
        Level { name: "shop".into(), id_columns: vec!["shop".into()] },
        Calendar::new(Step::HOUR, 3_600 * first as i64, times, jiff::tz::TimeZone::UTC),
        (0..METRICS).map(metric).collect(),
        (0..series).map(|place| SeriesKey(vec![format!("shop {place}")])).collect(),
        vec![0..times; series],
        values,
    )
    .map_err(|error| error.to_string())
}

/// The largest resident set so far, in megabytes.
fn peak_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kilobytes| kilobytes / 1_024)
}

fn report(case: &str, panel: &Panel, seconds: f64) {
    let line = serde_json::json!({
        "case": case,
        "cells": panel.values().dim(),
        "panel_mb": panel.values().len() * 8 / 1_000_000,
        "seconds": (seconds * 100.0).round() / 100.0,
        "peak_mb": peak_mb(),
    });
    println!("{line}");
}

fn fit(panel: &Panel, objective: Objective) -> Result<Box<dyn FittedDetector>, DetectorError> {
    let params =
        LstmParams { objective, epochs: 1, max_windows_per_epoch: 4_096, ..LstmParams::default() };
    LstmAutoencoder::new(params)?.fit(panel, &FitMask::all(panel), &FitContext::new(1))
}

fn train() -> Result<(), String> {
    let panel = panel(1_000, 0, 2_160)?;
    let start = Instant::now();
    fit(&panel, Objective::Forecast).map_err(|error| error.to_string())?;
    report("train", &panel, start.elapsed().as_secs_f64());
    Ok(())
}

fn newest_hour() -> Result<(), String> {
    const SERIES: usize = 10_000;
    let window = LstmParams::default().window_steps;
    let learnt = panel(SERIES, 0, 2 * window + 25)?;
    let fitted = fit(&learnt, Objective::Forecast).map_err(|error| error.to_string())?;
    let needed = window + LstmParams::default().horizon_steps;
    let panel = panel(SERIES, learnt.n_times() + 1 - needed, needed)?;
    let (mask, context) = (FitMask::all(&panel), FitContext::new(1));
    let start = Instant::now();
    let scores = fitted.score(&panel, &mask, &context).map_err(|error| error.to_string())?;
    let newest = scores.score.slice(s![.., needed - 1]);
    if newest.iter().any(|score| score.is_nan()) {
        return Err("a series has no score for its newest hour".into());
    }
    report("newest-hour", &panel, start.elapsed().as_secs_f64());
    Ok(())
}

fn main() -> ExitCode {
    let case = std::env::args().skip(1).find(|argument| argument != "--bench");
    let result = match case.as_deref() {
        Some("train") => train(),
        Some("newest-hour") => newest_hour(),
        _ => Err("write `-- train` or `-- newest-hour`".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
