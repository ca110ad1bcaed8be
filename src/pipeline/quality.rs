//! A level's figures: what was found, and, where there are labels, how good that is.

use std::collections::BTreeMap;

use ndarray::{Array2, Zip};

use super::{
    kept::{KeptLevel, KeptMember},
    level::{LevelRun, MemberRun},
    load,
    metrics::{CalibrationMetrics, LevelMetrics, ScorerMetrics},
    summary::{CalibrationRow, FallbackNote, LevelSummary, SeriesEvent, TrainingSummary},
};
use crate::{
    detectors::{DetectorName, SeriesNote, lstm_autoencoder::FittedLstm},
    ensemble::{AnomalyType, Severity},
    evaluation::{
        EvaluationInput, Event, buffer_steps, calibration_curve, calibration_figures, evaluate,
        steps_per_week,
    },
    math::random::stream,
    source::Interval,
};

/// The kind of label that stands for a change that stays.
const PERMANENT: &str = "changepoint";

/// Everything that `run.json` says of a level.
pub fn summarise(
    level: &LevelRun,
    kept: &KeptLevel,
    labels: Option<&[Interval]>,
    seed: u64,
) -> LevelSummary {
    let panel = &level.panel;
    let output = &level.output;
    let metrics = measure(kept, labels, seed);
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
        notes: notes(level),
        skipped: level.skipped.iter().map(|(name, why)| (name.to_string(), why.clone())).collect(),
        training: training(level),
        rules: level.rules.clone(),
        calibration: metrics.calibration.iter().map(|found| found.row.clone()).collect(),
        quality: metrics.scorers.iter().map(ScorerMetrics::row).collect(),
        metrics,
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

fn notes(level: &LevelRun) -> Vec<SeriesEvent> {
    let of_member = |member: &MemberRun| {
        let name = member.name;
        let event = move |note: &SeriesNote| SeriesEvent {
            detector: name.to_string(),
            series: level.panel.keys()[note.series].to_string(),
            at: note.time.map(|t| level.panel.calendar().label(t)),
            text: note.text.clone(),
        };
        member.scores.notes.iter().map(event).collect::<Vec<_>>()
    };
    level.members.iter().flat_map(of_member).collect()
}

/// The level's LSTM, if it has one.
pub fn lstm(level: &LevelRun) -> Option<&FittedLstm> {
    let member = level.members.iter().find(|m| m.name == DetectorName::LstmAutoencoder)?;
    member.fitted.as_any().downcast_ref::<FittedLstm>()
}

fn training(level: &LevelRun) -> Option<TrainingSummary> {
    let curve = lstm(level)?.curve();
    let (_, best) = curve.epochs.get(curve.best_epoch)?;
    Some(TrainingSummary {
        epochs: curve.epochs.len(),
        best_epoch: curve.best_epoch + 1,
        best_validation_loss: *best,
    })
}

/// A level against labels, and its p-values against what they promise.
///
/// Without labels on the level there are no scorers, and the calibration is that of all cells.
pub fn measure(kept: &KeptLevel, labels: Option<&[Interval]>, seed: u64) -> LevelMetrics {
    let truth = labels.map(|labels| Truth::new(kept, labels));
    let truth = truth.filter(|truth| !truth.events.is_empty());
    let scope = scope(kept, truth.as_ref());
    let step = kept.calendar.step();
    LevelMetrics {
        level: kept.level.name.clone(),
        step: step.into(),
        buffer_steps: buffer_steps(step),
        cells: scope.iter().filter(|counts| **counts).count(),
        labelled_events: truth.as_ref().map_or(0, |truth| truth.events.len()),
        scorers: truth.as_ref().map(|truth| scorers(kept, truth, &scope, seed)).unwrap_or_default(),
        calibration: calibration(kept, truth.as_ref(), &scope),
    }
}

/// The labels on a level's cells.
struct Truth {
    cells: Array2<bool>,
    events: Vec<Event>,
    /// The week after a permanent change, which is the detectors' to relearn in.
    relearning: Array2<bool>,
}

impl Truth {
    fn new(kept: &KeptLevel, labels: &[Interval]) -> Self {
        let mut cells = Array2::from_elem(kept.log_p.dim(), false);
        let mut relearning = cells.clone();
        let mut events = Vec::new();
        let week = steps_per_week(kept.calendar.step());
        for interval in labels {
            let (series, steps) =
                load::places_on(&kept.level, &kept.keys, &kept.calendar, interval);
            if steps.is_empty() {
                continue;
            }
            let after = steps.end..(steps.end + week).min(kept.calendar.len());
            for s in series {
                cells.slice_mut(ndarray::s![s, steps.clone()]).fill(true);
                if interval.kind == PERMANENT {
                    relearning.slice_mut(ndarray::s![s, after.clone()]).fill(true);
                }
                events.push(Event { series: s, steps: steps.clone(), kind: interval.kind.clone() });
            }
        }
        Zip::from(&mut relearning).and(&cells).for_each(|week, &label| *week &= !label);
        Self { cells, events, relearning }
    }
}

/// The cells that count: scored by the ensemble, not fitted on, not in a week of relearning.
fn scope(kept: &KeptLevel, truth: Option<&Truth>) -> Array2<bool> {
    Array2::from_shape_fn(kept.log_p.dim(), |cell| {
        !kept.log_p[cell].is_nan()
            && !kept.in_training[cell]
            && truth.is_none_or(|truth| !truth.relearning[cell])
    })
}

fn calibration(
    kept: &KeptLevel,
    truth: Option<&Truth>,
    scope: &Array2<bool>,
) -> Vec<CalibrationMetrics> {
    let mut clean = scope.clone();
    Zip::from(&mut clean).and(&kept.known).for_each(|clean, &known| *clean &= !known);
    if let Some(truth) = truth {
        Zip::from(&mut clean).and(&truth.cells).for_each(|clean, &label| *clean &= !label);
    }
    let row = |detector: &str, log_p: &Array2<f64>, member: Option<&KeptMember>| {
        let inside = |s, t| member.and_then(|member| member.inside[[s, t]]);
        let figures = calibration_figures(log_p, &clean, inside);
        CalibrationMetrics {
            row: CalibrationRow {
                detector: detector.into(),
                labelled: truth.is_some(),
                cells: figures.cells,
                p05: figures.p05,
                p01: figures.p01,
                p001: figures.p001,
                coverage: figures.coverage,
            },
            nominal_coverage: member.and_then(|member| member.interval_level),
            curve: calibration_curve(log_p, &clean),
        }
    };
    let mut rows = vec![row("ensemble", &kept.log_p, None)];
    rows.extend(kept.members.iter().map(|m| row(&m.name, &m.log_p, Some(m))));
    rows
}

fn scorers(kept: &KeptLevel, truth: &Truth, all: &Array2<bool>, seed: u64) -> Vec<ScorerMetrics> {
    let outside = Zip::from(all).and(&kept.known).map_collect(|&counts, &known| counts && !known);
    let row = |who: &str,
               (scope, cells): (&str, &Array2<bool>),
               flags: &Array2<bool>,
               score: &Array2<f64>| {
        let input = EvaluationInput {
            truth: &truth.cells,
            events: &truth.events,
            scope: cells,
            flags,
            score,
            step: kept.calendar.step(),
        };
        ScorerMetrics::new(who, scope, evaluate(&input))
    };
    // ln p falls where a score rises, down to where a p is too small for a number.
    let rising = |log_p: &Array2<f64>| log_p.mapv(|p| -p);
    let everywhere = ("all cells", all);
    let score = rising(&kept.log_p);
    let mut rows = vec![row("ensemble", everywhere, &kept.is_anomaly, &score)];
    if kept.known.iter().any(|known| *known) {
        let scope = ("outside known events", &outside);
        rows.push(row("ensemble", scope, &kept.is_anomaly, &score));
    }
    for member in &kept.members {
        rows.push(row(&member.name, everywhere, &member.flagged, &rising(&member.log_p)));
    }
    let (flags, score) = random_scores(all, &kept.is_anomaly, seed);
    rows.push(row("random scores", everywhere, &flags, &score));
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
