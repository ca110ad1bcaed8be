//! Volume under the precision-recall and the ROC surface (VUS): Paparrizos et al., "Volume Under
//! the Surface", VLDB 2022.
//!
//! A labelled interval gets a slope of falling weight on both sides, so that an alarm a little early
//! or late counts in part. For a buffer of length l, half of it (rounded down) lies on each side, and
//! a point at distance d from the interval has the label weight sqrt(1 - d / l); where slopes meet,
//! weights add up to at most 1. At a threshold, with P labelled points, weights y over all n points,
//! and the points above it predicted:
//!
//! ```text
//! TP        = sum of y over predicted points
//! P'        = P + half of the predicted slopes' weight
//! recall    = min(TP / P', 1) x share of (widened) intervals with a predicted point
//! FPR       = (predicted - TP) / (n - P')
//! precision = TP / predicted
//! ```
//!
//! The areas are averaged over l = 0, 1, ..., L. These are the formulas of the authors' package `vus`,
//! which samples 250 thresholds (ranks at equal distances); here **every distinct score is a
//! threshold**, which is what the package gives when it is asked for as many thresholds as points
//! (`tests/golden/evaluation.py`). One sort serves all buffers, and a buffer costs one pass over the
//! points: 100,000 points with L = 24 take 0.2 s on one busy core.
//!
//! A constant score has one threshold, at which everything is predicted: its VUS-PR is the mean
//! weight of the points, about that of random scores. VUS-ROC of random scores is above one half
//! where slopes weigh much, because TP counts all of their weight and P' half of it: compare with the
//! random row, never with 0.5.

use super::lanes::{Lane, runs};

/// The two volumes, both from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Volume {
    pub pr: f64,
    pub roc: f64,
}

/// Volumes over all lanes as one: thresholds are common, slopes stay within their lane.
///
/// `None` when labelled or clean points are missing.
pub fn volume_under_surface(lanes: &[Lane], max_buffer: usize) -> Option<Volume> {
    let surface = Surface::new(lanes)?;
    let mut total = Volume { pr: 0.0, roc: 0.0 };
    for buffer in 0..=max_buffer {
        let area = surface.area(buffer);
        total.pr += area.pr;
        total.roc += area.roc;
    }
    let n = (max_buffer + 1) as f64;
    Some(Volume { pr: total.pr / n, roc: total.roc / n })
}

/// The mean of each lane's own volumes, over the lanes with labelled and clean points.
pub fn mean_volume(lanes: &[Lane], max_buffer: usize) -> Option<Volume> {
    let volumes: Vec<Volume> = lanes
        .iter()
        .filter_map(|lane| volume_under_surface(std::slice::from_ref(lane), max_buffer))
        .collect();
    let mean =
        |part: fn(&Volume) -> f64| volumes.iter().map(part).sum::<f64>() / volumes.len() as f64;
    (!volumes.is_empty()).then(|| Volume { pr: mean(|v| v.pr), roc: mean(|v| v.roc) })
}

/// A labelled interval on the joined points, and the lane that it lies in.
struct Event {
    start: usize,
    /// Exclusive.
    end: usize,
    lane: std::ops::Range<usize>,
}

/// What all buffers share: points in the order of their lanes, thresholds from high to low.
struct Surface {
    truth: Vec<bool>,
    /// For each point, the place of the first threshold that it reaches.
    reaches: Vec<usize>,
    /// For each threshold, the points and the labelled points that it adds.
    gained: Vec<f64>,
    gained_labelled: Vec<f64>,
    events: Vec<Event>,
    labelled: f64,
}

impl Surface {
    fn new(lanes: &[Lane]) -> Option<Self> {
        let truth: Vec<bool> = lanes.iter().flat_map(|lane| lane.truth.iter().copied()).collect();
        let labelled = truth.iter().filter(|label| **label).count();
        if labelled == 0 || labelled == truth.len() {
            return None;
        }
        let (reaches, n_thresholds) = thresholds(lanes);
        let (mut gained, mut gained_labelled) = (vec![0.0; n_thresholds], vec![0.0; n_thresholds]);
        for (&place, &label) in reaches.iter().zip(&truth) {
            gained[place] += 1.0;
            gained_labelled[place] += f64::from(u8::from(label));
        }
        Some(Self {
            truth,
            reaches,
            gained,
            gained_labelled,
            events: events(lanes),
            labelled: labelled as f64,
        })
    }

    /// The areas under both curves for one buffer length.
    fn area(&self, buffer: usize) -> Volume {
        let slopes = self.gained_slopes(buffer);
        let (found, n_widened) = self.gained_events(buffer / 2);
        let n = self.truth.len() as f64;
        let (mut predicted, mut hits, mut slope, mut existing) = (0.0, 0.0, 0.0, 0.0);
        let (mut last_recall, mut last_fpr) = (0.0, 0.0);
        let mut area = Volume { pr: 0.0, roc: 0.0 };
        for place in 0..self.gained.len() {
            predicted += self.gained[place];
            hits += self.gained_labelled[place];
            slope += slopes[place];
            existing += found[place];
            let positives = self.labelled + 0.5 * slope;
            let weighted = hits + slope;
            let recall = (weighted / positives).min(1.0) * (existing / n_widened);
            let fpr = (predicted - weighted) / (n - positives);
            area.pr += (recall - last_recall) * weighted / predicted;
            area.roc += (fpr - last_fpr) * 0.5 * (recall + last_recall);
            (last_recall, last_fpr) = (recall, fpr);
        }
        // The curve ends at (1, 1), which slopes keep it from reaching by itself.
        area.roc += (1.0 - last_fpr) * 0.5 * (1.0 + last_recall);
        area
    }

    /// For each threshold, the weight of the slopes' points that it adds.
    fn gained_slopes(&self, buffer: usize) -> Vec<f64> {
        let half = buffer / 2;
        let weight = |distance: usize| (1.0 - distance as f64 / buffer as f64).sqrt();
        let mut slopes: Vec<(usize, f64)> = Vec::with_capacity(self.events.len() * 2 * half);
        for event in &self.events {
            for distance in 1..=half {
                if event.end - 1 + distance < event.lane.end {
                    slopes.push((event.end - 1 + distance, weight(distance)));
                }
                if event.start >= event.lane.start + distance {
                    slopes.push((event.start - distance, weight(distance)));
                }
            }
        }
        slopes.retain(|(point, _)| !self.truth[*point]);
        slopes.sort_by_key(|(point, _)| *point);
        let mut gained = vec![0.0; self.gained.len()];
        for shared in slopes.chunk_by(|a, b| a.0 == b.0) {
            let sum: f64 = shared.iter().map(|(_, weight)| weight).sum();
            gained[self.reaches[shared[0].0]] += sum.min(1.0);
        }
        gained
    }

    /// For each threshold, the widened intervals of which it reaches the first point, and their
    /// number. Intervals that overlap when widened are one.
    fn gained_events(&self, half: usize) -> (Vec<f64>, f64) {
        let mut found = vec![0.0; self.gained.len()];
        let mut n_widened = 0.0;
        let joined = |a: &Event, b: &Event| a.lane == b.lane && a.end - 1 + half >= reach(b, half);
        for group in self.events.chunk_by(joined) {
            let (first, last) = (&group[0], &group[group.len() - 1]);
            let from = first.start.saturating_sub(half).max(first.lane.start);
            let to = (last.end + half).min(last.lane.end);
            let place = self.reaches[from..to].iter().min().copied().unwrap_or(0);
            found[place] += 1.0;
            n_widened += 1.0;
        }
        (found, n_widened)
    }
}

/// Where a widened interval begins, unless the lane begins later.
fn reach(event: &Event, half: usize) -> usize {
    event.start.saturating_sub(half)
}

fn events(lanes: &[Lane]) -> Vec<Event> {
    let mut found = Vec::new();
    let mut offset = 0;
    for lane in lanes {
        let range = offset..offset + lane.truth.len();
        found.extend(runs(&lane.truth).into_iter().map(|run| Event {
            start: offset + run.start,
            end: offset + run.end,
            lane: range.clone(),
        }));
        offset = range.end;
    }
    found
}

/// For each point the place of its score among the distinct scores, the highest first; and how
/// many distinct scores there are.
fn thresholds(lanes: &[Lane]) -> (Vec<usize>, usize) {
    let scores: Vec<f64> = lanes.iter().flat_map(|lane| lane.score.iter().copied()).collect();
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_unstable_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let mut reaches = vec![0; scores.len()];
    let mut place = 0;
    for ties in order.chunk_by(|&a, &b| scores[a] == scores[b]) {
        for &point in ties {
            reaches[point] = place;
        }
        place += 1;
    }
    (reaches, place)
}
