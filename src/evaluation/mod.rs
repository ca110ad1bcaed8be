//! How good a run is, measured against labels.
//!
//! Point-wise figures look at every labelled (series, time) cell; event-wise figures at every
//! labelled interval; threshold-free ones at the continuous score. All of them look only at the
//! cells of a scope: the training part, warm-up and the weeks in which a model may relearn are left
//! out by the caller.

mod alert_diff;
mod bootstrap;
mod curve;
mod events;

pub use alert_diff::{AlertChange, AlertSide, Change, Verdicts, alert_diff};
pub use bootstrap::{Bootstrap, Difference, Figure, RunSample};
pub use curve::{auc_pr, auc_roc};
pub use events::{Event, EventFigures, event_figures};

use std::collections::BTreeMap;

use ndarray::Array2;
use serde::{Deserialize, Serialize};

/// What is measured: all arrays are `[series, time]`.
#[derive(Clone, Copy)]
pub struct EvaluationInput<'a> {
    /// The cell lies in a labelled interval.
    pub truth: &'a Array2<bool>,
    pub events: &'a [Event],
    /// The cell counts at all.
    pub scope: &'a Array2<bool>,
    pub flags: &'a Array2<bool>,
    /// Higher = more anomalous; cells with NaN count as the lowest.
    pub score: &'a Array2<f64>,
    pub steps_per_year: f64,
}

/// Cells counted against the labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    pub true_positive: usize,
    pub false_positive: usize,
    pub false_negative: usize,
    pub true_negative: usize,
}

impl Confusion {
    /// Counts flags against labels within the scope.
    pub fn count(truth: &Array2<bool>, flags: &Array2<bool>, scope: &Array2<bool>) -> Self {
        let mut counts = Self::default();
        ndarray::Zip::from(truth).and(flags).and(scope).for_each(|&truth, &flag, &counted| {
            if counted {
                match (truth, flag) {
                    (true, true) => counts.true_positive += 1,
                    (false, true) => counts.false_positive += 1,
                    (true, false) => counts.false_negative += 1,
                    (false, false) => counts.true_negative += 1,
                }
            }
        });
        counts
    }

    /// Share of flags that are right; `None` without flags.
    pub fn precision(self) -> Option<f64> {
        share(self.true_positive, self.true_positive + self.false_positive)
    }
    /// Share of labelled cells that are flagged.
    pub fn recall(self) -> Option<f64> {
        share(self.true_positive, self.true_positive + self.false_negative)
    }
    /// Harmonic mean of precision and recall.
    pub fn f1(self) -> Option<f64> {
        share(
            2 * self.true_positive,
            2 * self.true_positive + self.false_positive + self.false_negative,
        )
    }
    /// Share of clean cells that are flagged.
    pub fn false_positive_rate(self) -> Option<f64> {
        share(self.false_positive, self.false_positive + self.true_negative)
    }
}

fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Every figure of one scorer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Evaluation {
    pub confusion: Confusion,
    pub events: EventFigures,
    pub auc_pr: Option<f64>,
    pub auc_roc: Option<f64>,
    /// Labelled cells over all cells of the scope: the AUC-PR of random scores.
    pub prevalence: Option<f64>,
}

impl Evaluation {
    /// The figures by name, as tables and JSON show them.
    pub fn figures(&self) -> BTreeMap<String, Option<f64>> {
        let mut figures: BTreeMap<String, Option<f64>> = [
            ("precision", self.confusion.precision()),
            ("recall", self.confusion.recall()),
            ("f1", self.confusion.f1()),
            ("fpr", self.confusion.false_positive_rate()),
            ("event_recall", self.events.recall()),
            ("mean_delay_steps", self.events.mean_delay_steps),
            ("false_alerts_per_series_year", self.events.false_alerts_per_series_year),
            ("auc_pr", self.auc_pr),
            ("auc_roc", self.auc_roc),
            ("prevalence", self.prevalence),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_string(), value))
        .collect();
        for (kind, (found, all)) in &self.events.by_kind {
            figures.insert(format!("event_recall_{kind}"), share(*found, *all));
        }
        figures
    }
}

/// Measures one scorer.
pub fn evaluate(input: &EvaluationInput<'_>) -> Evaluation {
    let confusion = Confusion::count(input.truth, input.flags, input.scope);
    let mut scored: Vec<(f64, bool)> = ndarray::Zip::from(input.score)
        .and(input.truth)
        .and(input.scope)
        .fold(Vec::new(), |mut cells, &score, &truth, &counted| {
            if counted {
                cells.push((if score.is_nan() { f64::NEG_INFINITY } else { score }, truth));
            }
            cells
        });
    scored.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let labelled = confusion.true_positive + confusion.false_negative;
    Evaluation {
        confusion,
        events: event_figures(input),
        auc_pr: auc_pr(&scored),
        auc_roc: auc_roc(&scored),
        prevalence: share(labelled, scored.len()),
    }
}

/// What a detector's p-values and intervals keep of what they promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CalibrationFigures {
    pub cells: usize,
    /// Share of cells with p at or below 0.05, 0.01, 0.001.
    pub p05: f64,
    pub p01: f64,
    pub p001: f64,
    /// Share of cells inside the interval, of those that have one.
    pub coverage: Option<f64>,
}

/// Shares of the `clean` cells with small p, from ln p `[series, time]`; NaN cells are left out.
/// `inside` tells for a cell whether the observation lies in its prediction interval.
pub fn calibration_figures(
    log_p: &Array2<f64>,
    clean: &Array2<bool>,
    inside: impl Fn(usize, usize) -> Option<bool>,
) -> CalibrationFigures {
    let levels = [0.05_f64.ln(), 0.01_f64.ln(), 0.001_f64.ln()];
    let mut below = [0_usize; 3];
    let (mut cells, mut with_interval, mut covered) = (0, 0, 0);
    for ((s, t), &p) in log_p.indexed_iter() {
        if !clean[[s, t]] || p.is_nan() {
            continue;
        }
        cells += 1;
        for (count, level) in below.iter_mut().zip(levels) {
            // The tolerance keeps a p of exactly 0.01 on the side that it is on.
            *count += usize::from(p <= level + 1e-12);
        }
        if let Some(inside) = inside(s, t) {
            with_interval += 1;
            covered += usize::from(inside);
        }
    }
    let part = |count: usize| count as f64 / (cells as f64).max(1.0);
    CalibrationFigures {
        cells,
        p05: part(below[0]),
        p01: part(below[1]),
        p001: part(below[2]),
        coverage: share(covered, with_interval),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn the_four_counts_give_the_four_rates() {
        let truth = array![[true, true, false, false, false]];
        let flags = array![[true, false, true, false, true]];
        let scope = array![[true, true, true, true, false]];
        let counts = Confusion::count(&truth, &flags, &scope);
        assert_eq!(counts.precision(), Some(0.5));
        assert_eq!(counts.recall(), Some(0.5));
        assert_eq!(counts.f1(), Some(0.5));
        assert_eq!(counts.false_positive_rate(), Some(0.5));
        assert_eq!(Confusion::default().precision(), None);
    }

    #[test]
    fn a_perfect_score_is_perfect_everywhere() {
        let truth = array![[false, true, true, false], [false, false, false, false]];
        let score = truth.mapv(|t| if t { 2.0 } else { 1.0 });
        let events = [Event { series: 0, steps: 1..3, kind: "spike".into() }];
        let scope = Array2::from_elem((2, 4), true);
        let input = EvaluationInput {
            truth: &truth,
            events: &events,
            scope: &scope,
            flags: &truth,
            score: &score,
            steps_per_year: 52.0,
        };
        let result = evaluate(&input);
        assert_eq!(result.auc_pr, Some(1.0));
        assert_eq!(result.auc_roc, Some(1.0));
        assert_eq!(result.events.recall(), Some(1.0));
        assert_eq!(result.events.mean_delay_steps, Some(0.0));
        assert_eq!(result.events.false_alerts_per_series_year, Some(0.0));
        assert_eq!(result.figures()["event_recall_spike"], Some(1.0));
    }

    #[test]
    fn calibration_counts_only_clean_scored_cells() {
        let log_p = array![[0.01_f64.ln(), 0.5_f64.ln(), f64::NAN, 1e-9_f64.ln()]];
        let clean = array![[true, true, true, false]];
        let figures = calibration_figures(&log_p, &clean, |_, t| (t < 2).then_some(t == 1));
        assert_eq!((figures.cells, figures.p01, figures.p001), (2, 0.5, 0.0));
        assert_eq!(figures.coverage, Some(0.5));
    }
}
