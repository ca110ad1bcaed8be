//! Figures of one scorer over the series of a set.

use std::collections::BTreeSet;

use anomalist::{
    evaluation::{
        Confusion, EvaluationInput, Event, auc_pr, event_figures, lanes, volume_under_surface,
    },
    panel::Step,
};
use ndarray::Array2;

use crate::sets::{Kind, Series, Set};

/// Share of the clean judged rows above the threshold at which [`Figures::pod`] is taken.
pub const POD_FPR: f64 = 0.003;

/// What one scorer reached on one series.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Like the next two, `None` where the judged rows lack one of the classes.
    pub vus_pr: Option<f64>,
    pub auc_pr: Option<f64>,
    /// Share of the events with a score above the lowest threshold that at most [`POD_FPR`] of the
    /// clean rows pass.
    pub pod: Option<f64>,
    events: usize,
    found: usize,
    true_alerts: usize,
    false_alerts: usize,
    false_positive: usize,
    clean: usize,
}

fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}

impl Figures {
    /// Of scores and flags by row; `None` where no row is judged.
    pub fn of(set: &Set, series: &Series, score: &[f64], flags: &[bool]) -> Option<Self> {
        let rows = series.judged();
        let n = rows.len();
        if n == 0 {
            return None;
        }
        let truth = Array2::from_shape_fn((1, n), |(_, i)| series.label[rows[i]] == Some(true));
        let flags = Array2::from_shape_fn((1, n), |(_, i)| flags[rows[i]]);
        let score = Array2::from_shape_fn((1, n), |(_, i)| score[rows[i]]);
        let scope = Array2::from_elem((1, n), true);
        let events = events(&truth);
        let input = EvaluationInput {
            truth: &truth,
            events: &events,
            scope: &scope,
            flags: &flags,
            score: &score,
            step: Step::HOUR, // no figure that depends on it is read
        };
        let by_event = event_figures(&input);
        let counts = Confusion::count(&truth, &flags, &scope);
        let lanes = lanes(&input);
        let volume = volume_under_surface(&lanes, buffer(set.kind, series.rows.len()));
        let lane = &lanes[0];
        let mut scored: Vec<(f64, bool)> =
            lane.score.iter().copied().zip(lane.truth.iter().copied()).collect();
        let threshold = threshold(scored.iter().filter(|(_, t)| !t).map(|(x, _)| *x).collect());
        let above = |event: &&Event| event.steps.clone().any(|t| lane.score[t] > threshold);
        scored.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        Some(Self {
            vus_pr: volume.map(|volume| volume.pr),
            auc_pr: volume.and_then(|_| auc_pr(&scored)),
            pod: volume.map(|_| share(events.iter().filter(above).count(), events.len())),
            events: by_event.events,
            found: by_event.found,
            true_alerts: by_event.true_alerts,
            false_alerts: by_event.false_alerts,
            false_positive: counts.false_positive,
            clean: counts.false_positive + counts.true_negative,
        })
    }

    fn event_f1(&self) -> f64 {
        let recall = share(self.found, self.events);
        let ppv = share(self.true_alerts, (self.true_alerts + self.false_alerts).max(1));
        if recall + ppv > 0.0 { 2.0 * recall * ppv / (recall + ppv) } else { 0.0 }
    }

    /// Every figure that the series has, by name.
    pub fn named(&self) -> Vec<(&'static str, f64)> {
        let event_f1 = (self.events > 0).then(|| self.event_f1());
        let fpr = (self.clean > 0).then(|| share(self.false_positive, self.clean));
        let all = [
            ("vus_pr", self.vus_pr),
            ("auc_pr", self.auc_pr),
            ("pod", self.pod),
            ("event_f1", event_f1),
            ("fpr", fpr),
        ];
        all.into_iter().filter_map(|(name, figure)| Some((name, figure?))).collect()
    }
}

/// The longest buffer of VUS.
fn buffer(kind: Kind, n_rows: usize) -> usize {
    match (kind, n_rows) {
        (Kind::Weekly, _) => 4,
        (_, 0..500) => 8,
        _ => 24,
    }
}

/// The lowest of the scores that at most [`POD_FPR`] of them pass.
pub fn threshold(mut clean: Vec<f64>) -> f64 {
    clean.sort_unstable_by(|a, b| b.total_cmp(a));
    clean.get((POD_FPR * clean.len() as f64) as usize).copied().unwrap_or(f64::NEG_INFINITY)
}

/// The figures of one scorer, series by series; a series may come more than once.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// With the series' id.
    pub rows: Vec<(String, Figures)>,
    pub failed: usize,
    pub secs: f64,
}

impl Tally {
    /// Adds a series: scores and flags by row.
    pub fn add(&mut self, set: &Set, series: &Series, score: &[f64], flags: &[bool]) {
        let found = Figures::of(set, series, score, flags);
        self.rows.extend(found.map(|figures| (series.id.clone(), figures)));
    }

    /// Series with both classes among their judged rows.
    pub fn scored_series(&self) -> usize {
        let scored = self.rows.iter().filter(|(_, figures)| figures.vus_pr.is_some());
        scored.map(|(id, _)| id).collect::<BTreeSet<_>>().len()
    }

    /// The mean over the rows that have the figure.
    pub fn mean(&self, figure: impl Fn(&Figures) -> Option<f64>) -> f64 {
        let found: Vec<f64> = self.rows.iter().filter_map(|(_, figures)| figure(figures)).collect();
        found.iter().sum::<f64>() / found.len() as f64
    }

    /// Of the events and alerts of all rows.
    pub fn event_f1(&self) -> f64 {
        let mut all = Figures::default();
        for (_, figures) in &self.rows {
            all.events += figures.events;
            all.found += figures.found;
            all.true_alerts += figures.true_alerts;
            all.false_alerts += figures.false_alerts;
        }
        all.event_f1()
    }

    /// Of the clean judged rows of all series.
    pub fn fpr(&self) -> f64 {
        let sum = |part: fn(&Figures) -> usize| self.rows.iter().map(|(_, f)| part(f)).sum();
        share(sum(|f| f.false_positive), sum(|f| f.clean))
    }

    /// Events of all rows.
    pub fn events(&self) -> usize {
        self.rows.iter().map(|(_, figures)| figures.events).sum()
    }

    pub fn merge(&mut self, other: Self) {
        self.rows.extend(other.rows);
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
