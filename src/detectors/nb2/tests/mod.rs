//! Tests of the whole detector; those of one file alone are in that file.

mod baseline;
mod behaviour;
mod coverage;
mod golden;
mod online;
mod simulation;

use ndarray::Array3;

use crate::panel::{Calendar, Level, Metric, MetricKind, Panel, SeriesKey, Step};

/// A weekly panel of one metric per entry of `kinds`, `values[series][metric][time]`.
pub(super) fn panel_of(kinds: &[MetricKind], values: &[Vec<Vec<f64>>]) -> Panel {
    panel_from(0, kinds, values)
}

/// The same, starting `first_week` weeks later.
pub(super) fn panel_from(first_week: i64, kinds: &[MetricKind], values: &[Vec<Vec<f64>>]) -> Panel {
    let n_times = values[0][0].len();
    let calendar = Calendar::new(
        Step::Week,
        (1_000 + first_week) * 7 * 86_400,
        n_times,
        jiff::tz::TimeZone::UTC,
    );
    let level = Level { name: "key".into(), id_columns: vec!["key".into()] };
    let metrics = kinds
        .iter()
        .enumerate()
        .map(|(i, kind)| Metric { name: format!("metric{i}"), kind: kind.clone() })
        .collect();
    let keys = (0..values.len()).map(|i| SeriesKey(vec![format!("k{i}")])).collect();
    let cube =
        Array3::from_shape_fn((values.len(), n_times, kinds.len()), |(s, t, m)| values[s][m][t]);
    Panel::new(level, calendar, metrics, keys, vec![0..n_times; values.len()], cube).unwrap()
}

/// A weekly panel of one count metric.
pub(super) fn counts_panel(series: &[Vec<f64>]) -> Panel {
    let values: Vec<Vec<Vec<f64>>> = series.iter().map(|s| vec![s.clone()]).collect();
    panel_of(&[MetricKind::Count], &values)
}
