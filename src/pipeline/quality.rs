//! A level's figures: what was found, and, where there are labels, how good that is.

use std::collections::BTreeMap;

use ndarray::{Array2, Zip};

use super::{
    level::{LevelRun, MemberRun},
    load,
    summary::{CalibrationRow, FallbackNote, LevelSummary, QualityRow, TrainingSummary},
};
use crate::{
    detectors::{
        DetectorName,
        lstm_autoencoder::{FittedLstm, TrainingCurve},
    },
    ensemble::{AnomalyType, Severity},
    evaluation::{EvaluationInput, Event, calibration_figures, evaluate},
    math::random::stream,
    source::Interval,
};

/// Everything that `run.json` says of a level.
pub fn summarise(level: &LevelRun, labels: Option<&[Interval]>, seed: u64) -> LevelSummary {
    let panel = &level.panel;
    let output = &level.output;
    let truth = labels.map(|labels| Truth::new(level, labels));
    let truth = truth.filter(|truth| !truth.events.is_empty());
    let n_times = panel.n_times();
    LevelSummary {
        level: panel.level().name.clone(),
        series: panel.n_series(),
        steps: n_times,
        first: panel.calendar().label(0),
        last: panel.calendar().label(n_times.saturating_sub(1)),
        points: output.log_p.iter().filter(|p| !p.is_nan()).count(),
        anomalies: output.is_anomaly.iter().filter(|flagged| **flagged).count(),
        by_severity: tally(output.severity.iter().flatten().map(|s: &Severity| s.as_str())),
        by_type: tally(output.kind.iter().flatten().map(|k: &AnomalyType| k.as_str())),
        fallbacks: fallbacks(level),
        skipped: level.skipped.iter().map(|(name, why)| (name.to_string(), why.clone())).collect(),
        training: training(level),
        calibration: calibration(level, truth.as_ref()),
        quality: truth.as_ref().map(|truth| quality(level, truth, seed)).unwrap_or_default(),
    }
}

/// The labels on a level's cells.
struct Truth {
    cells: Array2<bool>,
    events: Vec<Event>,
}

impl Truth {
    fn new(level: &LevelRun, labels: &[Interval]) -> Self {
        let mut events = Vec::new();
        for interval in labels {
            let (series, steps) = load::places(&level.panel, interval);
            events.extend(series.into_iter().filter(|_| !steps.is_empty()).map(|s| Event {
                series: s,
                steps: steps.clone(),
                kind: interval.kind.clone(),
            }));
        }
        Self { cells: load::cells(&level.panel, labels), events }
    }
}

fn tally<'a>(names: impl Iterator<Item = &'a str>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name.to_string()).or_insert(0) += 1;
    }
    counts
}

fn fallbacks(level: &LevelRun) -> Vec<FallbackNote> {
    let mut notes: Vec<FallbackNote> = Vec::new();
    for fallback in &level.fallbacks {
        let (detector, by) = (fallback.detector.to_string(), fallback.by.to_string());
        match notes.iter_mut().find(|note| note.detector == detector && note.by == by) {
            Some(note) => note.series += 1,
            None => notes.push(FallbackNote {
                detector,
                by,
                series: 1,
                example: format!("{}: {}", level.panel.keys()[fallback.series], fallback.reason),
            }),
        }
    }
    notes
}

/// How the level's LSTM learnt, if it has one.
pub fn curve(level: &LevelRun) -> Option<&TrainingCurve> {
    let member = level.members.iter().find(|m| m.name == DetectorName::LstmAutoencoder)?;
    Some(member.fitted.as_any().downcast_ref::<FittedLstm>()?.curve())
}

fn training(level: &LevelRun) -> Option<TrainingSummary> {
    let curve = curve(level)?;
    let (_, best) = curve.epochs.get(curve.best_epoch)?;
    Some(TrainingSummary {
        epochs: curve.epochs.len(),
        best_epoch: curve.best_epoch + 1,
        best_validation_loss: *best,
    })
}

/// The cells that count: scored by the ensemble and not fitted on.
fn scope(level: &LevelRun) -> Array2<bool> {
    let log_p = &level.output.log_p;
    Array2::from_shape_fn(log_p.dim(), |(s, t)| !log_p[[s, t]].is_nan() && !level.in_training(s, t))
}

fn calibration(level: &LevelRun, truth: Option<&Truth>) -> Vec<CalibrationRow> {
    let mut clean = scope(level);
    Zip::from(&mut clean).and(&level.known).for_each(|clean, &known| *clean &= !known);
    if let Some(truth) = truth {
        Zip::from(&mut clean).and(&truth.cells).for_each(|clean, &label| *clean &= !label);
    }
    let row = |detector: String, log_p: &Array2<f64>, member: Option<&MemberRun>| {
        let figures =
            calibration_figures(log_p, &clean, |s, t| member.and_then(|m| inside(level, m, s, t)));
        CalibrationRow {
            detector,
            labelled: truth.is_some(),
            cells: figures.cells,
            p05: figures.p05,
            p01: figures.p01,
            p001: figures.p001,
            coverage: figures.coverage,
        }
    };
    let mut rows = vec![row("ensemble".into(), &level.output.log_p, None)];
    rows.extend(level.members.iter().map(|m| row(m.name.to_string(), &m.log_p, Some(m))));
    rows
}

/// Whether every metric with an interval lies inside it.
fn inside(level: &LevelRun, member: &MemberRun, s: usize, t: usize) -> Option<bool> {
    let (lower, upper) = (member.scores.lower.as_ref()?, member.scores.upper.as_ref()?);
    // With several metrics the first stands for all: a joint interval is nobody's promise.
    let (low, high) = (lower[[s, t, 0]], upper[[s, t, 0]]);
    let observed = level.panel.values()[[s, t, 0]];
    (!low.is_nan() && !high.is_nan() && !observed.is_nan())
        .then_some((low..=high).contains(&observed))
}

fn quality(level: &LevelRun, truth: &Truth, seed: u64) -> Vec<QualityRow> {
    let all = scope(level);
    let outside = Zip::from(&all).and(&level.known).map_collect(|&counts, &known| counts && !known);
    let any_known = level.known.iter().any(|known| *known);
    let step = level.panel.calendar().step();
    let row = |who: &str,
               scope: &str,
               cells: &Array2<bool>,
               flags: &Array2<bool>,
               score: &Array2<f64>| {
        let input = EvaluationInput {
            truth: &truth.cells,
            events: &truth.events,
            scope: cells,
            flags,
            score,
            step,
        };
        QualityRow { who: who.into(), scope: scope.into(), figures: evaluate(&input).figures() }
    };
    let output = &level.output;
    let mut rows = vec![row("ensemble", "all cells", &all, &output.is_anomaly, &output.score)];
    if any_known {
        rows.push(row(
            "ensemble",
            "outside known events",
            &outside,
            &output.is_anomaly,
            &output.score,
        ));
    }
    for member in &output.members {
        rows.push(row(member.name.as_str(), "all cells", &all, &member.flagged, &member.score));
    }
    let (flags, score) = random_scores(&all, &output.is_anomaly, seed);
    rows.push(row("random scores", "all cells", &all, &flags, &score));
    rows
}

/// Uniform scores, flagged as often as the ensemble flags: what luck would reach.
fn random_scores(
    scope: &Array2<bool>,
    flags: &Array2<bool>,
    seed: u64,
) -> (Array2<bool>, Array2<f64>) {
    use rand::RngExt;
    let mut rng = stream(seed, "random scores", 0);
    let score = Array2::from_shape_fn(scope.dim(), |_| rng.random::<f64>());
    let flagged = Zip::from(scope).and(flags).fold(0, |n, &counts, &f| n + i32::from(counts && f));
    let cells = scope.iter().filter(|counts| **counts).count();
    let share = f64::from(flagged) / (cells as f64).max(1.0);
    (score.mapv(|x| x > 1.0 - share), score)
}
