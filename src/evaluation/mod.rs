//! How good a run is, measured against labels.
//!
//! Point-wise figures look at every labelled (series, time) cell; event-wise figures at every
//! labelled interval; threshold-free ones at the continuous score. All of them look only at the
//! cells of a scope: the training part, warm-up and the weeks in which a model may relearn are left
//! out by the caller.
//!
//! | figure | what it is |
//! |---|---|
//! | `precision`, `recall`, `f1`, `fpr` | of flagged cells; FPR is the share of clean cells flagged |
//! | `event_recall` | probability of detection (POD): share of events with a flag inside |
//! | `pod_first_week` | share of events with a flag in their first seven days |
//! | `ppv` | positive predictive value: share of alerts (runs of flags) that touch an event |
//! | `event_f1` | harmonic mean of `event_recall` and `ppv` |
//! | `mean_delay_steps`, `median_delay_steps` | from an event's start to its first flag, of events found |
//! | `false_alerts_per_series_year` | alerts that touch no event |
//! | `auc_pr`, `auc_roc` | areas under the curves of the score, all series in one ranking |
//! | `vus_pr`, `vus_roc` | volumes under the surface, the mean over series with labels |
//! | `vus_pr_pooled`, `vus_roc_pooled` | the same with all series in one ranking |
//! | `affiliation_precision`, `affiliation_recall` | by distance to the events, in probabilities |
//! | `point_adjusted_f1_inflated` | for comparison with papers only: it flatters random scores |
//! | `prevalence` | share of labelled cells: the AUC-PR of random scores |

mod adjusted;
mod affiliation;
mod alert_diff;
mod bootstrap;
mod calibration;
mod curve;
mod events;
pub mod inject;
mod lanes;
mod pace;
mod vus;

#[cfg(test)]
mod tests;

pub use adjusted::point_adjusted_f1;
pub use affiliation::{Affiliation, affiliation};
pub use alert_diff::{AlertChange, AlertSide, Change, Verdicts, alert_diff};
pub use bootstrap::{Bootstrap, Difference, Figure, RunSample};
pub use calibration::{CalibrationFigures, calibration_curve, calibration_figures};
pub use curve::{auc_pr, auc_roc, pr_curve};
pub use events::{Event, EventFigures, event_figures};
pub use lanes::{Lane, lanes};
pub use pace::{buffer_steps, steps_per_week};
pub use vus::{Volume, mean_volume, volume_under_surface};

use std::collections::BTreeMap;

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::panel::Step;

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
    /// Of the panel's calendar: what a week, a year and the buffers of VUS are in steps.
    pub step: Step,
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
    /// The rest, by name: see the module's table.
    pub further: BTreeMap<String, Option<f64>>,
    /// (recall, precision) at falling thresholds, thinned out for drawing.
    pub pr_curve: Vec<(f64, f64)>,
}

impl Evaluation {
    /// The figures by name, as tables and JSON show them.
    pub fn figures(&self) -> BTreeMap<String, Option<f64>> {
        let mut figures = self.further.clone();
        let named = [
            ("precision", self.confusion.precision()),
            ("recall", self.confusion.recall()),
            ("f1", self.confusion.f1()),
            ("fpr", self.confusion.false_positive_rate()),
            ("event_recall", self.events.recall()),
            ("pod_first_week", self.events.recall_in_first_week()),
            ("ppv", self.events.ppv()),
            ("event_f1", self.events.f1()),
            ("mean_delay_steps", self.events.mean_delay_steps),
            ("median_delay_steps", self.events.median_delay_steps()),
            ("false_alerts_per_series_year", self.events.false_alerts_per_series_year),
            ("auc_pr", self.auc_pr),
            ("auc_roc", self.auc_roc),
            ("prevalence", self.prevalence),
        ];
        figures.extend(named.into_iter().map(|(name, value)| (name.to_string(), value)));
        for (kind, (found, all)) in &self.events.by_kind {
            figures.insert(format!("event_recall_{kind}"), share(*found, *all));
        }
        figures
    }
}

/// Points of a precision-recall curve that an [`Evaluation`] keeps.
const CURVE_POINTS: usize = 200;

/// Measures one scorer.
pub fn evaluate(input: &EvaluationInput<'_>) -> Evaluation {
    let confusion = Confusion::count(input.truth, input.flags, input.scope);
    let lanes = lanes(input);
    let mut scored: Vec<(f64, bool)> = lanes
        .iter()
        .flat_map(|lane| lane.score.iter().copied().zip(lane.truth.iter().copied()))
        .collect();
    scored.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let labelled = confusion.true_positive + confusion.false_negative;
    Evaluation {
        confusion,
        events: event_figures(input),
        auc_pr: auc_pr(&scored),
        auc_roc: auc_roc(&scored),
        prevalence: share(labelled, scored.len()),
        further: further(&lanes, buffer_steps(input.step)),
        pr_curve: pr_curve(&scored, CURVE_POINTS),
    }
}

/// The figures that look at series as sequences.
fn further(lanes: &[Lane], buffer: usize) -> BTreeMap<String, Option<f64>> {
    let pooled = volume_under_surface(lanes, buffer);
    let mean = mean_volume(lanes, buffer);
    let near = affiliation(lanes);
    [
        ("vus_pr", mean.map(|v| v.pr)),
        ("vus_roc", mean.map(|v| v.roc)),
        ("vus_pr_pooled", pooled.map(|v| v.pr)),
        ("vus_roc_pooled", pooled.map(|v| v.roc)),
        ("affiliation_precision", near.and_then(|a| a.precision)),
        ("affiliation_recall", near.map(|a| a.recall)),
        ("point_adjusted_f1_inflated", point_adjusted_f1(lanes)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_string(), value))
    .collect()
}
