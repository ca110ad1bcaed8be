//! Figures of one scorer over the series of a set.

use anomalist::{
    evaluation::{
        Confusion, EvaluationInput, Event, auc_pr, event_figures, lanes, volume_under_surface,
    },
    panel::Step,
};
use ndarray::Array2;

use crate::sets::{Kind, Series, Set};

/// Sums over series; the means come at the end.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub scored_series: usize,
    vus_pr: f64,
    auc_pr: f64,
    events: usize,
    found: usize,
    true_alerts: usize,
    false_alerts: usize,
    false_positive: usize,
    clean: usize,
    pub failed: usize,
    pub secs: f64,
}

fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}

impl Tally {
    /// Adds a series: scores and flags by row.
    pub fn add(&mut self, set: &Set, series: &Series, score: &[f64], flags: &[bool]) {
        let rows: Vec<usize> =
            (series.train_rows..series.rows.len()).filter(|&r| series.label[r].is_some()).collect();
        if rows.is_empty() {
            return;
        }
        let n = rows.len();
        let truth = Array2::from_shape_fn((1, n), |(_, i)| series.label[rows[i]] == Some(true));
        let flags = Array2::from_shape_fn((1, n), |(_, i)| flags[rows[i]]);
        let score = Array2::from_shape_fn((1, n), |(_, i)| score[rows[i]]);
        let scope = Array2::from_elem((1, n), true);
        let input = EvaluationInput {
            truth: &truth,
            events: &events(&truth),
            scope: &scope,
            flags: &flags,
            score: &score,
            step: Step::HOUR, // no figure that depends on it is read
        };
        let found = event_figures(&input);
        self.events += found.events;
        self.found += found.found;
        self.true_alerts += found.true_alerts;
        self.false_alerts += found.false_alerts;
        let counts = Confusion::count(&truth, &flags, &scope);
        self.false_positive += counts.false_positive;
        self.clean += counts.false_positive + counts.true_negative;
        let lanes = lanes(&input);
        let buffer = match (set.kind, series.rows.len()) {
            (Kind::Weekly, _) => 4,
            (_, 0..500) => 8,
            _ => 24,
        };
        if let Some(volume) = volume_under_surface(&lanes, buffer) {
            let mut scored: Vec<(f64, bool)> =
                lanes[0].score.iter().copied().zip(lanes[0].truth.iter().copied()).collect();
            scored.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
            self.scored_series += 1;
            self.vus_pr += volume.pr;
            self.auc_pr += auc_pr(&scored).unwrap_or(0.0);
        }
    }

    pub fn vus_pr(&self) -> f64 {
        self.vus_pr / self.scored_series as f64
    }

    pub fn auc_pr(&self) -> f64 {
        self.auc_pr / self.scored_series as f64
    }

    pub fn event_f1(&self) -> f64 {
        let recall = share(self.found, self.events);
        let ppv = share(self.true_alerts, (self.true_alerts + self.false_alerts).max(1));
        if recall + ppv > 0.0 { 2.0 * recall * ppv / (recall + ppv) } else { 0.0 }
    }

    pub fn fpr(&self) -> f64 {
        share(self.false_positive, self.clean)
    }

    pub fn merge(&mut self, other: &Self) {
        self.scored_series += other.scored_series;
        self.vus_pr += other.vus_pr;
        self.auc_pr += other.auc_pr;
        self.events += other.events;
        self.found += other.found;
        self.true_alerts += other.true_alerts;
        self.false_alerts += other.false_alerts;
        self.false_positive += other.false_positive;
        self.clean += other.clean;
        self.failed += other.failed;
        self.secs += other.secs;
    }
}

/// Runs of labelled rows.
fn events(truth: &Array2<bool>) -> Vec<Event> {
    let mut found = Vec::new();
    let mut start = None;
    for (t, label) in truth.row(0).iter().copied().chain(std::iter::once(false)).enumerate() {
        match (start, label) {
            (None, true) => start = Some(t),
            (Some(from), false) => {
                found.push(Event { series: 0, steps: from..t, kind: "anomaly".into() });
                start = None;
            }
            _ => {}
        }
    }
    found
}
