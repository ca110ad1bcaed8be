//! The slow level of a series, which follows growth and does not follow an anomaly of days.
//!
//! Every cycle (a day of hours, a week of days) gives one estimate of the level; the level of a
//! cycle is a robust mean over the cycles before it, never of the cycle itself. A deviation shorter
//! than half the window therefore stays visible, and a longer one becomes the new normal.

use std::collections::BTreeMap;

use crate::features::robust::{MAD_TO_SD, median};

/// One cycle's estimate of the level, and its precision (inverse variance).
#[derive(Clone, Copy, Debug)]
pub(super) struct CycleLevel {
    pub cycle: i64,
    pub level: f64,
    pub precision: f64,
}

/// How a level acts on a profile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Action {
    /// expected = level × profile
    Times,
    /// expected = level + profile
    Plus,
}

impl Action {
    pub fn neutral(self) -> f64 {
        if self == Self::Times { 1.0 } else { 0.0 }
    }
    pub fn apply(self, level: f64, profile: f64) -> f64 {
        if self == Self::Times { level * profile } else { level + profile }
    }
    /// What is left of a value once the level is taken out.
    pub fn remove(self, level: f64, value: f64) -> f64 {
        if self == Self::Times { value / level } else { value - level }
    }
}

/// One usable value: its cycle, the value, the profile there, and the value's precision.
pub(super) struct Sighting {
    pub cycle: i64,
    pub value: f64,
    pub profile: f64,
    pub precision: f64,
}

/// Least squares per cycle. Sightings come in the order of time; cycles with less than a quarter of
/// the precision of the middle one are left out (a first day of two hours says little).
pub(super) fn cycle_levels(
    sightings: impl Iterator<Item = Sighting>,
    action: Action,
) -> Vec<CycleLevel> {
    let mut cycles: Vec<CycleLevel> = Vec::new();
    for Sighting { cycle, value, profile, precision } in sightings {
        let (sum, weight) = match action {
            Action::Times => (precision * profile * value, precision * profile * profile),
            Action::Plus => (precision * (value - profile), precision),
        };
        match cycles.last_mut() {
            Some(last) if last.cycle == cycle => {
                last.level += sum;
                last.precision += weight;
            }
            _ => cycles.push(CycleLevel { cycle, level: sum, precision: weight }),
        }
    }
    let middle = median(&mut cycles.iter().map(|c| c.precision).collect::<Vec<_>>());
    cycles.retain(|c| c.precision > 0.25 * middle.unwrap_or(0.0));
    for cycle in &mut cycles {
        cycle.level /= cycle.precision;
    }
    cycles
}

/// The level of every cycle in `wanted`, from the `window` cycles before it; where there are fewer,
/// the soonest after it fill in. `known` is sorted by cycle.
pub(super) fn levels(
    known: &[CycleLevel],
    wanted: impl Iterator<Item = i64>,
    window: usize,
    action: Action,
) -> BTreeMap<i64, f64> {
    let mut scratch = Vec::new();
    let mut out = BTreeMap::new();
    for cycle in wanted {
        out.entry(cycle).or_insert_with(|| {
            let before = known.partition_point(|k| k.cycle < cycle);
            let after = known.partition_point(|k| k.cycle <= cycle);
            let past = &known[before.saturating_sub(window)..before];
            let missing = window - past.len();
            let future = &known[after..(after + missing).min(known.len())];
            robust_mean(past, future, &mut scratch).unwrap_or(action.neutral())
        });
    }
    out
}

/// Huber's location with cut-off 1.5, from the median, on the larger of the observed spread and the
/// one that the precisions promise: close to the mean for skewed estimates of sparse series, close
/// to the median where cycles disagree.
fn robust_mean(past: &[CycleLevel], future: &[CycleLevel], scratch: &mut Vec<f64>) -> Option<f64> {
    let all = || past.iter().chain(future);
    scratch.clear();
    scratch.extend(all().map(|c| c.level));
    let mut centre = median(scratch)?;
    scratch.iter_mut().for_each(|level| *level = (*level - centre).abs());
    let observed = MAD_TO_SD * median(scratch)?;
    scratch.clear();
    scratch.extend(all().map(|c| c.precision.recip().sqrt()));
    let reach = 1.5 * observed.max(median(scratch)?);
    if reach <= 0.0 || !reach.is_finite() {
        return Some(centre);
    }
    for _ in 0..4 {
        let n = (past.len() + future.len()) as f64;
        centre += all().map(|c| (c.level - centre).clamp(-reach, reach)).sum::<f64>() / n;
    }
    Some(centre)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(levels: &[f64]) -> Vec<CycleLevel> {
        levels
            .iter()
            .enumerate()
            .map(|(i, &level)| CycleLevel { cycle: i as i64, level, precision: 1e4 })
            .collect()
    }

    #[test]
    fn a_level_forgets_nothing_but_what_is_older_than_the_window() {
        let mut history = vec![1.0; 20];
        history.extend([2.0; 5]);
        history.extend([1.0; 3]);
        let found = levels(&known(&history), 0..40, 14, Action::Times);
        assert!(found.values().all(|l| (l - 1.0).abs() < 0.05), "{found:?}");
    }

    #[test]
    fn a_change_becomes_normal_after_half_a_window() {
        let mut history = vec![1.0; 20];
        history.extend([2.0; 20]);
        let found = levels(&known(&history), 0..40, 14, Action::Times);
        assert!((found[&25] - 1.0).abs() < 0.05);
        assert!((found[&29] - 2.0).abs() < 0.1, "{}", found[&29]);
    }

    #[test]
    fn a_cycle_never_sees_itself() {
        let mut history = vec![1.0; 5];
        history[2] = 100.0;
        assert_eq!(levels(&known(&history), 2..3, 14, Action::Plus)[&2], 1.0);
        assert_eq!(levels(&known(&history[..1]), 0..1, 14, Action::Plus)[&0], 0.0);
    }
}
