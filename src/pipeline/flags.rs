//! The columns of the flags files, computed from a level cell by cell.
//!
//! Two schemas, because two kinds of reader exist: `counts` for one count metric by day or week
//! (`count, mu_hat, pi_low, pi_high, is_anom`), `metrics` for several metrics by hour
//! (`window_start, …, lstm_anomaly_score, …, is_anomaly`). Columns of detectors that did not run
//! are there and empty, so that readers never break.

use std::collections::BTreeMap;

use super::{
    PipelineError,
    level::{LevelRun, MemberRun},
    load,
};
use crate::{
    config::{Config, OutputSchema},
    detectors::{
        DetectorName,
        nb2::{FittedNb2, OnShift},
    },
    ensemble::bounded_score,
    panel::{MetricKind, Panel},
    sink::{Column, Kind, Value},
    source::Interval,
};

/// Detectors of the requirements that have a column whether or not they are in the run.
const PROMISED: &[&str] = &["lstm", "prophet", "isolation_forest", "changepoint"];

/// The schema that a panel is written in.
pub fn schema(config: &Config, panel: &Panel) -> OutputSchema {
    match config.output.schema {
        OutputSchema::Auto => {
            let single_count =
                panel.n_metrics() == 1 && panel.metrics()[0].kind == MetricKind::Count;
            if single_count && panel.calendar().step().is_civil() {
                OutputSchema::Counts
            } else {
                OutputSchema::Metrics
            }
        }
        chosen => chosen,
    }
}

/// The file stem of a level: `flags_key_weekly`, or `flags_hourly` when there is only one level.
pub fn stem(config: &Config, panel: &Panel) -> String {
    let adverb = panel.calendar().step().adverb();
    if config.panel.levels.len() == 1 {
        format!("flags_{adverb}")
    } else {
        format!("flags_{}_{adverb}", panel.level().name)
    }
}

/// Columns of a flags file that are neither ids, time, metrics nor a detector's score.
const OWN: &[&str] = &[
    "is_anom",
    "is_anomaly",
    "mu_hat",
    "pi_low",
    "pi_high",
    "nb2_is_anom",
    "deviation_ratio",
    "pearson_residual",
    "nb2_p_value",
    "ensemble_anomaly_score",
    "ensemble_threshold",
    "p_value",
    "anomaly_confidence",
    "anomaly_severity",
    "anomaly_type",
    "direction",
    "deviation_percentage",
    "n_models_flagged",
    "expected_value",
    "expected_low",
    "expected_high",
    "leading_metric",
    "prophet_expected_value",
    "estimated_revenue_impact",
    "estimated_conversion_loss",
    "contributing_factors",
    "in_training",
    "known_event",
    "fallback",
    "baseline_note",
];

/// Refuses, before anything is fitted, id columns, metrics and new names that are the name of a
/// column of the flags files.
///
/// # Errors
/// Names the first such column.
pub fn check_names(config: &Config) -> Result<(), PipelineError> {
    let ids = config.panel.id_columns();
    let data = ids.iter().chain(config.panel.metrics.iter().map(|metric| &metric.name));
    let renamed = |name: &String| config.output.rename.get(name).unwrap_or(name).clone();
    let names: Vec<String> = data.map(renamed).collect();
    let taken = |name: &&String| {
        OWN.iter().any(|own| renamed(&own.to_string()) == **name)
            || ["week_start", "day", "window_start"].contains(&name.as_str())
            || name.ends_with("_anomaly_score")
            || config.members().keys().any(|detector| {
                let model = detector.column();
                **name == format!("{model}_threshold") || **name == format!("{model}_anomaly")
            })
    };
    let rename = &config.output.rename;
    // One of our columns under the name of another that keeps its own.
    let clash =
        rename.iter().find(|(_, to)| OWN.contains(&to.as_str()) && !rename.contains_key(*to));
    if let Some((from, to)) = clash {
        return Err(PipelineError::Arguments(format!(
            "[output.rename] gives `{from}` the name `{to}`, which is a column of the flags files already: take another, or rename that one too"
        )));
    }
    match names.iter().find(taken) {
        None => Ok(()),
        Some(name) => Err(PipelineError::Other(format!(
            "`{name}` is the name of a column of the flags files too: give the id column or metric another name in [output.rename]"
        ))),
    }
}

/// Names of [output.rename] that no column has.
pub fn unknown_renames(config: &Config, columns: &[Column<'_>]) -> Vec<String> {
    let has = |new: &String| columns.iter().any(|column| column.name == *new);
    let unknown = config.output.rename.iter().filter(|(_, new)| !has(new));
    unknown.map(|(old, _)| old.clone()).collect()
}

/// Names of the known events by cell, for the cells that have any.
pub fn known_event_names(
    panel: &Panel,
    intervals: &[Interval],
) -> BTreeMap<(usize, usize), String> {
    let mut names: BTreeMap<(usize, usize), String> = BTreeMap::new();
    for interval in intervals {
        let (series, steps) = load::places(panel, interval);
        for s in series {
            for t in steps.clone() {
                let name = names.entry((s, t)).or_default();
                if name.is_empty() {
                    name.push_str(&interval.kind);
                } else if !name.split(';').any(|kind| kind == interval.kind) {
                    name.push(';');
                    name.push_str(&interval.kind);
                }
            }
        }
    }
    names
}

/// Every column of a level's flags file, renamed as the config asks.
pub fn columns<'a>(
    config: &'a Config,
    level: &'a LevelRun,
    known: &'a BTreeMap<(usize, usize), String>,
) -> Vec<Column<'a>> {
    let mut columns = match schema(config, &level.panel) {
        OutputSchema::Counts => counts_columns(config, level),
        _ => metrics_columns(config, level),
    };
    columns
        .push(Column::new("in_training", Kind::Bool, |s, t| Value::Bool(level.in_training(s, t))));
    columns.push(Column::new("known_event", Kind::Text, |s, t| match known.get(&(s, t)) {
        Some(name) => Value::Text(name.as_str().into()),
        None => Value::Empty,
    }));
    let fallbacks = level.fallbacks_by_series(DetectorName::Nb2);
    columns.push(Column::new("fallback", Kind::Text, move |s, _| match fallbacks[s] {
        Some(fallback) => Value::Text(fallback.by.as_str().into()),
        None => Value::Empty,
    }));
    if config.nb2.on_shift == OnShift::Rebase {
        let notes = notes_by_cell(level);
        columns.push(Column::new("baseline_note", Kind::Text, move |s, t| {
            notes.get(&(s, t)).map_or(Value::Empty, |text| Value::Text(text.clone().into()))
        }));
    }
    for column in &mut columns {
        if let Some(name) = config.output.rename.get(&column.name) {
            column.name.clone_from(name);
        }
    }
    columns
}

/// What the detectors have noted of single cells.
fn notes_by_cell(level: &LevelRun) -> BTreeMap<(usize, usize), String> {
    let mut notes: BTreeMap<(usize, usize), String> = BTreeMap::new();
    for note in level.members.iter().flat_map(|member| &member.scores.notes) {
        let Some(time) = note.time else { continue };
        let text = notes.entry((note.series, time)).or_default();
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(&note.text);
    }
    notes
}

fn counts_columns<'a>(config: &'a Config, level: &'a LevelRun) -> Vec<Column<'a>> {
    let output = &level.output;
    let mut columns = id_columns(&level.panel);
    let start = if level.panel.calendar().step() == crate::panel::Step::Week {
        "week_start"
    } else {
        "day"
    };
    columns.push(time_column(&level.panel, start));
    columns.extend(metric_columns(&level.panel));
    columns.push(predicted(level, "mu_hat", Bound::Expected));
    columns.push(predicted(level, "pi_low", Bound::Lower));
    columns.push(predicted(level, "pi_high", Bound::Upper));
    columns.push(Column::new("is_anom", Kind::Bool, |s, t| Value::Bool(output.is_anomaly[[s, t]])));
    let nb2 = level.members.iter().find(|m| m.name == DetectorName::Nb2);
    columns.push(Column::new("nb2_is_anom", Kind::Bool, move |s, t| match nb2 {
        Some(member) => nb2_flag(&level.panel, member, s, t),
        None => Value::Empty,
    }));
    columns.push(Column::new("deviation_ratio", Kind::Float, |s, t| {
        Value::Float(output.deviation_ratio[[s, t]])
    }));
    columns.push(Column::new("pearson_residual", Kind::Float, move |s, t| {
        Value::Float(nb2.map_or(f64::NAN, |member| pearson(&level.panel, member, s, t)))
    }));
    columns.push(Column::new("nb2_p_value", Kind::Float, move |s, t| {
        Value::Float(nb2.map_or(f64::NAN, |member| member.log_p[[s, t]].exp()))
    }));
    columns.extend(verdict_columns(config, level));
    columns.extend(score_columns(config, level, &[]));
    columns
}

fn metrics_columns<'a>(config: &'a Config, level: &'a LevelRun) -> Vec<Column<'a>> {
    let output = &level.output;
    let mut columns = vec![time_column(&level.panel, "window_start")];
    columns.extend(id_columns(&level.panel));
    columns.extend(metric_columns(&level.panel));
    columns.extend(score_columns(config, level, PROMISED));
    columns
        .push(Column::new("is_anomaly", Kind::Bool, |s, t| Value::Bool(output.is_anomaly[[s, t]])));
    columns.extend(verdict_columns(config, level));
    columns.push(predicted(level, "expected_value", Bound::Expected));
    columns.push(predicted(level, "expected_low", Bound::Lower));
    columns.push(predicted(level, "expected_high", Bound::Upper));
    columns.push(Column::new("leading_metric", Kind::Text, |s, t| {
        if !output.is_anomaly[[s, t]] {
            return Value::Empty;
        }
        let metric = usize::from(output.leading_metric[[s, t]]);
        level
            .panel
            .metrics()
            .get(metric)
            .map_or(Value::Empty, |m| Value::Text(m.name.as_str().into()))
    }));
    let prophet = level.members.iter().find(|m| m.name == DetectorName::Prophet);
    let forecast = prophet.and_then(|member| member.scores.expected.as_ref());
    columns.push(Column::new("prophet_expected_value", Kind::Float, move |s, t| {
        let metric = usize::from(output.leading_metric[[s, t]]);
        Value::Float(forecast.map_or(f64::NAN, |expected| expected[[s, t, metric]]))
    }));
    columns.push(Column::new("estimated_revenue_impact", Kind::Float, |s, t| {
        Value::Float(revenue_impact(level, s, t))
    }));
    columns.push(Column::new("estimated_conversion_loss", Kind::Float, |s, t| {
        Value::Float(conversion_loss(level, s, t))
    }));
    columns.push(Column::new("contributing_factors", Kind::Text, |s, t| {
        contributing_factors(level, s, t).map_or(Value::Empty, |text| Value::Text(text.into()))
    }));
    columns
}

/// Score, confidence, severity, type: the words of a verdict, the same in both schemas.
fn verdict_columns<'a>(config: &'a Config, level: &'a LevelRun) -> Vec<Column<'a>> {
    let output = &level.output;
    vec![
        Column::new("ensemble_anomaly_score", Kind::Float, |s, t| {
            Value::Float(output.score[[s, t]])
        }),
        Column::new("ensemble_threshold", Kind::Float, move |s, t| {
            threshold(config, level, &output.ln_threshold, s, t)
        }),
        Column::new("p_value", Kind::Float, |s, t| Value::Float(output.log_p[[s, t]].exp())),
        Column::new("anomaly_confidence", Kind::Float, |s, t| {
            Value::Float(output.confidence[[s, t]])
        }),
        Column::new("anomaly_severity", Kind::Text, |s, t| {
            output.severity[[s, t]].map_or(Value::Empty, |x| Value::Text(x.as_str().into()))
        }),
        Column::new("anomaly_type", Kind::Text, |s, t| {
            output.kind[[s, t]].map_or(Value::Empty, |x| Value::Text(x.as_str().into()))
        }),
        Column::new("direction", Kind::Text, |s, t| match output.direction[[s, t]] {
            1 => Value::Text("above".into()),
            -1 => Value::Text("below".into()),
            _ => Value::Empty,
        }),
        Column::new("deviation_percentage", Kind::Float, |s, t| {
            Value::Float(output.deviation_percentage[[s, t]])
        }),
        Column::new("n_models_flagged", Kind::Int, |s, t| {
            Value::Int(i64::from(output.n_models_flagged[[s, t]]))
        }),
    ]
}

/// The score from which on a cell is flagged, given the thresholds of the steps; empty where a known
/// event suppresses every verdict.
fn threshold<'a>(
    config: &Config,
    level: &LevelRun,
    ln_threshold: &[f64],
    s: usize,
    t: usize,
) -> Value<'a> {
    let known = level.known[[s, t]];
    Value::Float(bounded_score(config.decision.ln_threshold_at(ln_threshold[t], known)))
}

/// Score, threshold and flag of every member, and empty ones for the promised that did not run.
fn score_columns<'a>(
    config: &'a Config,
    level: &'a LevelRun,
    promised: &[&str],
) -> Vec<Column<'a>> {
    let ran = |name: &str| level.output.members.iter().any(|m| m.name.column() == name);
    let members = level.output.members.iter().flat_map(|member| {
        let model = member.name.column();
        [
            Column::new(format!("{model}_anomaly_score"), Kind::Float, move |s, t| {
                Value::Float(member.score[[s, t]])
            }),
            Column::new(format!("{model}_threshold"), Kind::Float, move |s, t| {
                threshold(config, level, &member.ln_threshold, s, t)
            }),
            Column::new(format!("{model}_anomaly"), Kind::Bool, move |s, t| {
                if member.score[[s, t]].is_nan() {
                    Value::Empty
                } else {
                    Value::Bool(member.flagged[[s, t]])
                }
            }),
        ]
    });
    let absent = promised.iter().filter(|name| !ran(name)).flat_map(|model| {
        [("anomaly_score", Kind::Float), ("threshold", Kind::Float), ("anomaly", Kind::Bool)]
            .map(|(what, kind)| Column::new(format!("{model}_{what}"), kind, |_, _| Value::Empty))
    });
    members.chain(absent).collect()
}

fn id_columns(panel: &Panel) -> Vec<Column<'_>> {
    panel
        .level()
        .id_columns
        .iter()
        .enumerate()
        .map(|(i, name)| {
            Column::new(name.as_str(), Kind::Text, move |s, _| {
                Value::Text(panel.keys()[s].0[i].as_str().into())
            })
        })
        .collect()
}

fn time_column<'a>(panel: &'a Panel, name: &str) -> Column<'a> {
    let labels: Vec<String> = (0..panel.n_times()).map(|t| panel.calendar().label(t)).collect();
    Column::new(name, Kind::Text, move |_, t| Value::Text(labels[t].clone().into()))
}

fn metric_columns(panel: &Panel) -> Vec<Column<'_>> {
    (0..panel.n_metrics())
        .map(|m| {
            Column::new(panel.metrics()[m].name.as_str(), Kind::Float, move |s, t| {
                Value::Float(panel.values()[[s, t, m]])
            })
        })
        .collect()
}

#[derive(Clone, Copy)]
enum Bound {
    Expected,
    Lower,
    Upper,
}

/// What was predicted for the metric that leads at a cell.
fn predicted<'a>(level: &'a LevelRun, name: &str, bound: Bound) -> Column<'a> {
    let output = &level.output;
    Column::new(name, Kind::Float, move |s, t| {
        let values = match bound {
            Bound::Expected => &output.expected,
            Bound::Lower => &output.lower,
            Bound::Upper => &output.upper,
        };
        Value::Float(values[[s, t, usize::from(output.leading_metric[[s, t]])]])
    })
}

/// NB2's own decision: the count lies outside its interval.
fn nb2_flag<'a>(panel: &Panel, member: &MemberRun, s: usize, t: usize) -> Value<'a> {
    match (&member.scores.lower, &member.scores.upper) {
        (Some(lower), Some(upper)) => {
            let (low, high, observed) =
                (lower[[s, t, 0]], upper[[s, t, 0]], panel.values()[[s, t, 0]]);
            if low.is_nan() || high.is_nan() || observed.is_nan() {
                Value::Empty
            } else {
                Value::Bool(observed < low || observed > high)
            }
        }
        _ => Value::Empty,
    }
}

/// (observed − expected) / sqrt(mu + alpha mu²).
fn pearson(panel: &Panel, member: &MemberRun, s: usize, t: usize) -> f64 {
    let fitted = member.fitted.as_any().downcast_ref::<FittedNb2>();
    let (key, metric) = (&panel.keys()[s], &panel.metrics()[0].name);
    let dispersion = fitted.and_then(|fitted| fitted.dispersion(key, metric));
    match (&member.scores.expected, dispersion) {
        (Some(expected), Some(alpha)) => {
            let mu = expected[[s, t, 0]];
            (panel.values()[[s, t, 0]] - mu) / (mu + alpha * mu * mu).sqrt()
        }
        _ => f64::NAN,
    }
}

/// Observed minus expected revenue at a flagged cell, in the revenue's own unit.
fn revenue_impact(level: &LevelRun, s: usize, t: usize) -> f64 {
    match level.panel.find_metric("revenue") {
        Some(m) if level.output.is_anomaly[[s, t]] => {
            level.panel.values()[[s, t, m]] - level.output.expected[[s, t, m]]
        }
        _ => f64::NAN,
    }
}

/// Purchases that the expected conversion would have made of the observed denominator, minus
/// those there were; never negative.
fn conversion_loss(level: &LevelRun, s: usize, t: usize) -> f64 {
    let panel = &level.panel;
    let ratio = (0..panel.n_metrics()).find_map(|m| Some((m, panel.ratio_parts(m)?)));
    match ratio {
        Some((rate, (top, bottom))) if level.output.is_anomaly[[s, t]] => {
            let values = panel.values();
            let expected = level.output.expected[[s, t, rate]] * values[[s, t, bottom]];
            let lost = expected - values[[s, t, top]];
            if lost.is_nan() { lost } else { lost.max(0.0) }
        }
        _ => f64::NAN,
    }
}

/// The metrics that carry a flagged cell's score, with their mean share over the members that
/// know shares: `conversion_rate 62 %; purchases 21 %`.
fn contributing_factors(level: &LevelRun, s: usize, t: usize) -> Option<String> {
    if !level.output.is_anomaly[[s, t]] || level.panel.n_metrics() < 2 {
        return None;
    }
    let mut shares = vec![0.0_f64; level.panel.n_metrics()];
    let mut n = 0.0;
    for share in level.members.iter().filter_map(|m| m.scores.metric_share.as_ref()) {
        let lane = share.slice(ndarray::s![s, t, ..]);
        if lane.iter().all(|x| x.is_finite()) {
            n += 1.0;
            shares.iter_mut().zip(lane).for_each(|(sum, x)| *sum += f64::from(*x));
        }
    }
    let mut named: Vec<(f64, &str)> = shares
        .iter()
        .zip(level.panel.metrics())
        .map(|(sum, metric)| (sum / n, metric.name.as_str()))
        .filter(|(share, _)| *share >= 0.1)
        .collect();
    named.sort_by(|a, b| b.0.total_cmp(&a.0));
    let parts: Vec<String> =
        named.iter().map(|(share, name)| format!("{name} {:.0} %", 100.0 * share)).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}
