//! Affiliation precision and recall: Huet, Navarro and Rossi, "Local Evaluation of Time Series
//! Anomaly Detection Algorithms", KDD 2022.
//!
//! Step t is the interval [t, t + 1). Every labelled event has a zone: the time that is closer to it
//! than to any other event. Within the zone, a moment of a flag is worth the share of the zone that
//! lies at least as far from the event as it does (precision), and a moment of the event is worth the
//! share of the zone that lies at least as far from it as the nearest flag of the zone (recall). So
//! random flags get about one half, and 1 means exactly on the event. Both are averaged over time
//! within a zone, then over zones: precision over those that have a flag, recall over all.
//!
//! Both integrands are piecewise linear in time, so the midpoint rule between their corners is exact.

use std::ops::Range;

use super::lanes::{Lane, runs};

/// Mean over the zones of all lanes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affiliation {
    /// `None` when no zone holds a flag.
    pub precision: Option<f64>,
    pub recall: f64,
}

/// `None` without a labelled event. Flags in series without one lie in no zone and do not count.
pub fn affiliation(lanes: &[Lane]) -> Option<Affiliation> {
    let (mut precisions, mut recalls) = (Vec::new(), Vec::new());
    for lane in lanes {
        let flags: Vec<Span> = runs(&lane.flags).iter().map(Span::of).collect();
        for (event, zone) in zones(&lane.truth) {
            let near: Vec<Span> = flags.iter().filter_map(|flag| flag.within(zone)).collect();
            precisions.extend(precision(&near, event, zone));
            recalls.push(recall(&near, event, zone));
        }
    }
    (!recalls.is_empty()).then(|| Affiliation {
        precision: (!precisions.is_empty()).then(|| mean(&precisions)),
        recall: mean(&recalls),
    })
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// A stretch of time, in steps.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: f64,
    to: f64,
}

impl Span {
    fn of(steps: &Range<usize>) -> Self {
        Self { from: steps.start as f64, to: steps.end as f64 }
    }
    fn length(self) -> f64 {
        self.to - self.from
    }
    fn within(self, other: Span) -> Option<Span> {
        let cut = Span { from: self.from.max(other.from), to: self.to.min(other.to) };
        (cut.from < cut.to).then_some(cut)
    }
    fn distance(self, time: f64) -> f64 {
        (self.from - time).max(time - self.to).max(0.0)
    }
    /// The integral over the span of a function that is linear between the given corners.
    fn integral(self, corners: &[f64], value: impl Fn(f64) -> f64) -> f64 {
        let mut cuts: Vec<f64> =
            corners.iter().copied().filter(|c| self.from < *c && *c < self.to).collect();
        cuts.extend([self.from, self.to]);
        cuts.sort_unstable_by(f64::total_cmp);
        cuts.windows(2).map(|pair| (pair[1] - pair[0]) * value(0.5 * (pair[0] + pair[1]))).sum()
    }
}

/// Every labelled event with its zone.
fn zones(truth: &[bool]) -> Vec<(Span, Span)> {
    let events: Vec<Span> = runs(truth).iter().map(Span::of).collect();
    let middle = |a: &Span, b: &Span| 0.5 * (a.to + b.from);
    (0..events.len())
        .map(|i| {
            let from = if i == 0 { 0.0 } else { middle(&events[i - 1], &events[i]) };
            let to = events.get(i + 1).map_or(truth.len() as f64, |next| middle(&events[i], next));
            (events[i], Span { from, to })
        })
        .collect()
}

/// `None` when the zone holds no flag.
fn precision(flags: &[Span], event: Span, zone: Span) -> Option<f64> {
    let (before, after) = (event.from - zone.from, zone.to - event.to);
    let worth = |time: f64| {
        let distance = event.distance(time);
        if distance == 0.0 {
            return 1.0;
        }
        ((before - distance).max(0.0) + (after - distance).max(0.0)) / zone.length()
    };
    // The event's own ends, and where one side of the zone is no farther than the other.
    let corners = [event.from, event.to, event.from - after, event.to + before];
    let length: f64 = flags.iter().map(|flag| flag.length()).sum();
    let total: f64 = flags.iter().map(|flag| flag.integral(&corners, worth)).sum();
    (length > 0.0).then(|| total / length)
}

fn recall(flags: &[Span], event: Span, zone: Span) -> f64 {
    if flags.is_empty() {
        return 0.0;
    }
    let worth = |time: f64| {
        let after = flags.partition_point(|flag| flag.from <= time);
        let near = [after.checked_sub(1), Some(after)].into_iter().flatten();
        let distance = near
            .filter_map(|i| flags.get(i))
            .fold(f64::INFINITY, |least, flag| least.min(flag.distance(time)));
        let closer = distance.min(time - zone.from) + distance.min(zone.to - time);
        1.0 - closer / zone.length()
    };
    let mut corners = Vec::with_capacity(6 * flags.len());
    for (i, flag) in flags.iter().enumerate() {
        for end in [flag.from, flag.to] {
            corners.extend([end, 0.5 * (zone.from + end), 0.5 * (zone.to + end)]);
        }
        corners.extend(flags.get(i + 1).map(|next| 0.5 * (flag.to + next.from)));
    }
    event.integral(&corners, worth) / event.length()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(truth: &[usize], flags: &[usize], n: usize) -> Lane {
        let at = |places: &[usize]| (0..n).map(|t| places.contains(&t)).collect();
        Lane { truth: at(truth), flags: at(flags), score: vec![0.0; n] }
    }

    #[test]
    fn flags_on_the_event_alone_are_perfect() {
        let found = affiliation(&[lane(&[4, 5], &[4, 5], 10)]).unwrap();
        assert_eq!(found, Affiliation { precision: Some(1.0), recall: 1.0 });
    }

    #[test]
    fn no_flag_has_no_precision_and_no_recall() {
        let found = affiliation(&[lane(&[4, 5], &[], 10)]).unwrap();
        assert_eq!(found, Affiliation { precision: None, recall: 0.0 });
        assert!(affiliation(&[lane(&[], &[3], 10)]).is_none());
    }

    /// Flags everywhere: precision is |E| / |E| on the event and the mean survival elsewhere.
    #[test]
    fn flags_everywhere_have_full_recall_and_a_precision_near_one_half() {
        let all: Vec<usize> = (0..100).collect();
        let found = affiliation(&[lane(&[50], &all, 100)]).unwrap();
        assert_eq!(found.recall, 1.0);
        assert!((found.precision.unwrap() - 0.5).abs() < 0.02, "{found:?}");
    }

    #[test]
    fn a_flag_nearby_is_worth_more_than_one_far_away() {
        let near = affiliation(&[lane(&[50], &[53], 100)]).unwrap();
        let far = affiliation(&[lane(&[50], &[80], 100)]).unwrap();
        assert!(near.precision > far.precision && near.recall > far.recall);
    }
}
