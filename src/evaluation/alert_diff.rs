//! What one run flags and another does not, alert by alert.
//!
//! An alert is a run of consecutive flagged steps of one series. Two alerts of the same series
//! correspond when they share a step. One long alert may correspond to two short ones, so what is
//! compared are groups: the smallest sets of alerts of both runs that no shared step links to any
//! other alert. A group with alerts of one run only was added or dropped; in a group with both,
//! the worst severity, and type and direction at the highest score, are kept or changed.

use std::ops::Range;

use ndarray::{Array2, ArrayView1};
use serde::{Deserialize, Serialize};

use crate::ensemble::{AnomalyType, Direction, Severity};

/// One run's verdicts; every array is `[series, time]`.
#[derive(Clone, Copy)]
pub struct Verdicts<'a> {
    pub flags: &'a Array2<bool>,
    /// Higher = more anomalous; NaN where nothing was scored.
    pub score: &'a Array2<f64>,
    pub severity: &'a Array2<Option<Severity>>,
    pub kind: &'a Array2<Option<AnomalyType>>,
    pub direction: &'a Array2<Direction>,
}

/// One run's part of a group of corresponding alerts.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertSide {
    /// Alerts in the group.
    pub alerts: usize,
    /// From the first flagged step to the last, the end exclusive.
    pub steps: Range<usize>,
    /// The step with the highest score, the first of them on a tie.
    pub peak: usize,
    /// The highest score.
    pub score: f64,
    /// The worst severity.
    pub severity: Option<Severity>,
    /// The type at the peak.
    pub kind: Option<AnomalyType>,
    /// The direction at the peak.
    pub direction: Direction,
}

/// What became of a group of corresponding alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Only the other run has it.
    Added,
    /// Only the baseline has it.
    Dropped,
    /// Both have it, with another severity, type or direction.
    Changed,
    /// Both have it alike.
    Kept,
}

impl Change {
    /// The name that files use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Dropped => "dropped",
            Self::Changed => "changed",
            Self::Kept => "kept",
        }
    }
}

/// A group of corresponding alerts; at least one side is there.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertChange {
    pub series: usize,
    /// Steps that either side spans, the end exclusive.
    pub steps: Range<usize>,
    pub baseline: Option<AlertSide>,
    pub other: Option<AlertSide>,
}

impl AlertChange {
    /// Added, dropped, changed or kept.
    pub fn change(&self) -> Change {
        match (&self.baseline, &self.other) {
            (None, _) => Change::Added,
            (_, None) => Change::Dropped,
            (Some(a), Some(b))
                if (a.severity, a.kind, a.direction) == (b.severity, b.kind, b.direction) =>
            {
                Change::Kept
            }
            _ => Change::Changed,
        }
    }

    /// Both sides are there and differ in what `of` takes from them.
    pub fn differs<T: PartialEq>(&self, of: impl Fn(&AlertSide) -> T) -> bool {
        matches!((&self.baseline, &self.other), (Some(a), Some(b)) if of(a) != of(b))
    }

    /// The highest score of either side.
    pub fn strength(&self) -> f64 {
        self.baseline
            .iter()
            .chain(&self.other)
            .map(|side| side.score)
            .fold(f64::NEG_INFINITY, f64::max)
    }
}

/// Runs of consecutive flags among the steps that count. A step that does not count ends a run.
pub fn alerts(flags: ArrayView1<'_, bool>, scope: ArrayView1<'_, bool>) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for (t, (&flag, &counts)) in flags.iter().zip(scope).enumerate() {
        if !(flag && counts) {
            continue;
        }
        match found.last_mut() {
            Some(last) if last.end == t => last.end = t + 1,
            _ => found.push(t..t + 1),
        }
    }
    found
}

/// Compares two runs' alerts on the cells of `scope`; groups come by series, then by time.
pub fn alert_diff(
    baseline: Verdicts<'_>,
    other: Verdicts<'_>,
    scope: &Array2<bool>,
) -> Vec<AlertChange> {
    let mut changes = Vec::new();
    for series in 0..scope.nrows() {
        let ours = alerts(baseline.flags.row(series), scope.row(series));
        let theirs = alerts(other.flags.row(series), scope.row(series));
        for (a, b) in groups(&ours, &theirs) {
            let baseline = side(baseline, series, &ours[a]);
            let other = side(other, series, &theirs[b]);
            let spans = || baseline.iter().chain(&other).map(|side| &side.steps);
            let start = spans().map(|steps| steps.start).min().unwrap_or(0);
            let end = spans().map(|steps| steps.end).max().unwrap_or(0);
            changes.push(AlertChange { series, steps: start..end, baseline, other });
        }
    }
    changes
}

/// Places of corresponding alerts in two rising lists of disjoint ranges.
fn groups(a: &[Range<usize>], b: &[Range<usize>]) -> Vec<(Range<usize>, Range<usize>)> {
    let (mut i, mut j) = (0, 0);
    let mut found = Vec::new();
    while i < a.len() || j < b.len() {
        let (first_a, first_b) = (i, j);
        let mut end = match (a.get(i), b.get(j)) {
            (Some(x), Some(y)) if x.start <= y.start => x.end,
            (Some(x), None) => x.end,
            (_, Some(y)) => y.end,
            (None, None) => break,
        };
        // Ranges that begin before the group's end share a step with it.
        loop {
            let grown = match (a.get(i), b.get(j)) {
                (Some(x), _) if x.start < end => {
                    i += 1;
                    x.end
                }
                (_, Some(y)) if y.start < end => {
                    j += 1;
                    y.end
                }
                _ => break,
            };
            end = end.max(grown);
        }
        found.push((first_a..i, first_b..j));
    }
    found
}

fn side(run: Verdicts<'_>, series: usize, alerts: &[Range<usize>]) -> Option<AlertSide> {
    let (first, last) = (alerts.first()?, alerts.last()?);
    let mut peak = first.start;
    let mut severity = None;
    for t in alerts.iter().cloned().flatten() {
        severity = severity.max(run.severity[[series, t]]);
        let (score, highest) = (run.score[[series, t]], run.score[[series, peak]]);
        if score > highest || (highest.is_nan() && !score.is_nan()) {
            peak = t;
        }
    }
    Some(AlertSide {
        alerts: alerts.len(),
        steps: first.start..last.end,
        peak,
        score: run.score[[series, peak]],
        severity,
        kind: run.kind[[series, peak]],
        direction: run.direction[[series, peak]],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};
    use proptest::prelude::*;

    struct Run {
        flags: Array2<bool>,
        score: Array2<f64>,
        severity: Array2<Option<Severity>>,
        kind: Array2<Option<AnomalyType>>,
        direction: Array2<Direction>,
    }

    impl Run {
        /// Flags where the score is positive; every flag a low spike above.
        fn new(score: Array2<f64>) -> Self {
            let flags = score.mapv(|x| x > 0.0);
            Self {
                severity: flags.mapv(|f| f.then_some(Severity::Low)),
                kind: flags.mapv(|f| f.then_some(AnomalyType::Spike)),
                direction: flags.mapv(|f| if f { Direction::Above } else { Direction::Unknown }),
                flags,
                score,
            }
        }

        fn verdicts(&self) -> Verdicts<'_> {
            Verdicts {
                flags: &self.flags,
                score: &self.score,
                severity: &self.severity,
                kind: &self.kind,
                direction: &self.direction,
            }
        }
    }

    fn changes(a: &Run, b: &Run) -> Vec<AlertChange> {
        alert_diff(a.verdicts(), b.verdicts(), &Array2::from_elem(a.flags.dim(), true))
    }

    #[test]
    fn alerts_are_added_dropped_changed_and_kept() {
        let a = Run::new(array![[1., 1., 0., 2., 0., 0., 0.], [0., 0., 0., 0., 0., 1., 0.]]);
        let mut b = Run::new(array![[0., 3., 0., 0., 0., 1., 0.], [0., 0., 0., 0., 0., 1., 0.]]);
        b.severity[[0, 1]] = Some(Severity::High);
        let found = changes(&a, &b);
        let kinds: Vec<(usize, Range<usize>, Change)> =
            found.iter().map(|c| (c.series, c.steps.clone(), c.change())).collect();
        assert_eq!(
            kinds,
            [
                (0, 0..2, Change::Changed),
                (0, 3..4, Change::Dropped),
                (0, 5..6, Change::Added),
                (1, 5..6, Change::Kept),
            ]
        );
        assert!(found[0].differs(|side| side.severity) && !found[0].differs(|side| side.kind));
        assert_eq!(found[0].strength(), 3.0);
    }

    #[test]
    fn one_long_alert_corresponds_to_the_short_ones_inside_it() {
        let a = Run::new(array![[1., 1., 1., 1., 1., 0.]]);
        let b = Run::new(array![[0., 1., 0., 5., 1., 1.]]);
        let found = changes(&a, &b);
        assert_eq!(found.len(), 1);
        let (ours, theirs) =
            (found[0].baseline.as_ref().unwrap(), found[0].other.as_ref().unwrap());
        assert_eq!((ours.alerts, theirs.alerts), (1, 2));
        assert_eq!((theirs.peak, theirs.steps.clone(), found[0].steps.clone()), (3, 1..6, 0..6));
    }

    #[test]
    fn neighbours_that_share_no_step_do_not_correspond() {
        let a = Run::new(array![[1., 1., 0., 0.]]);
        let b = Run::new(array![[0., 0., 1., 1.]]);
        let kinds: Vec<Change> = changes(&a, &b).iter().map(AlertChange::change).collect();
        assert_eq!(kinds, [Change::Dropped, Change::Added]);
    }

    #[test]
    fn cells_that_do_not_count_end_an_alert_and_are_never_flagged() {
        let flags = array![true, true, true, true];
        let scope = array![true, false, true, true];
        assert_eq!(alerts(flags.view(), scope.view()), [0..1, 2..4]);
    }

    proptest! {
        /// Against the definition: overlap as edges, groups as connected components.
        #[test]
        fn groups_are_the_connected_components_of_overlap(
            cells in prop::collection::vec((any::<bool>(), any::<bool>()), 1..60)
        ) {
            let all = ndarray::Array1::from_elem(cells.len(), true);
            let flags = |of: fn(&(bool, bool)) -> bool| cells.iter().map(of).collect::<ndarray::Array1<bool>>();
            let a = alerts(flags(|c| c.0).view(), all.view());
            let b = alerts(flags(|c| c.1).view(), all.view());
            let mut label: Vec<usize> = (0..a.len() + b.len()).collect();
            let overlap = |x: &Range<usize>, y: &Range<usize>| x.start < y.end && y.start < x.end;
            for _ in 0..label.len() {
                for (i, x) in a.iter().enumerate() {
                    for (j, y) in b.iter().enumerate() {
                        if overlap(x, y) {
                            let least = label[i].min(label[a.len() + j]);
                            (label[i], label[a.len() + j]) = (least, least);
                        }
                    }
                }
            }
            let found = groups(&a, &b);
            let mut seen = vec![usize::MAX; label.len()];
            for (number, (of_a, of_b)) in found.iter().enumerate() {
                for i in of_a.clone() { seen[i] = number; }
                for j in of_b.clone() { seen[a.len() + j] = number; }
            }
            for i in 0..label.len() {
                for j in 0..label.len() {
                    prop_assert_eq!(label[i] == label[j], seen[i] == seen[j]);
                }
            }
        }
    }
}
