//! The slow level of a series, which follows growth and does not follow an anomaly of days.
//!
//! Every cycle (a day of hours, a week of days) gives one estimate of the level; the level of a
//! cycle is a robust mean over the cycles before it, never of the cycle itself. A deviation shorter
//! than half the window therefore stays visible, and a longer one becomes the new normal.

use crate::math::robust::{MAD_TO_SD, median};

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

/// The level at every cycle in `wanted` (rising, repeats allowed), from the `window` cycles before
/// it; where there are fewer, the soonest after it fill in. `known` rises by cycle; `spread` is [`spread_of`] the fit's cycles (of
/// the panel's own, the future would have a say).
pub(super) fn levels(
    known: &[CycleLevel],
    wanted: impl Iterator<Item = i64>,
    window: usize,
    action: Action,
    spread: f64,
) -> Vec<f64> {
    let reach = 1.5 * spread;
    let mut scratch = Vec::with_capacity(window);
    let (mut before, mut last) = (0, None);
    wanted
        .map(|cycle| {
            if let Some((of, level)) = last
                && of == cycle
            {
                return level;
            }
            while before < known.len() && known[before].cycle < cycle {
                before += 1;
            }
            let after = before + usize::from(known.get(before).is_some_and(|k| k.cycle == cycle));
            let past = &known[before.saturating_sub(window)..before];
            let future = &known[after..(after + window - past.len()).min(known.len())];
            scratch.clear();
            scratch.extend(past.iter().chain(future).map(|c| c.level));
            let level = robust_mean(&mut scratch, reach).unwrap_or(action.neutral());
            last = Some((cycle, level));
            level
        })
        .collect()
}

/// Standard deviation of one cycle's level: the larger of the one that neighbouring cycles show (by
/// their differences, which no slow drift widens) and the one that the precisions promise.
pub(super) fn spread_of(known: &[CycleLevel]) -> f64 {
    let mut steps: Vec<f64> =
        known.windows(2).map(|pair| (pair[1].level - pair[0].level).abs()).collect();
    let observed = MAD_TO_SD / std::f64::consts::SQRT_2 * median(&mut steps).unwrap_or(0.0);
    let mut promised: Vec<f64> = known.iter().map(|c| c.precision.recip().sqrt()).collect();
    observed.max(median(&mut promised).unwrap_or(0.0))
}

/// Huber's location from the median, with residuals cut at `reach`: close to the mean for the skewed
/// estimates of sparse series, close to the median where a part of the cycles lies elsewhere.
fn robust_mean(levels: &mut [f64], reach: f64) -> Option<f64> {
    let mut centre = median(levels)?;
    if reach.is_finite() {
        for _ in 0..4 {
            let pull: f64 = levels.iter().map(|l| (l - centre).clamp(-reach, reach)).sum();
            centre += pull / levels.len() as f64;
        }
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
        let found = levels(&known(&history), 0..40, 14, Action::Times, 0.01);
        assert!(found.iter().all(|l| (l - 1.0).abs() < 0.05), "{found:?}");
    }

    #[test]
    fn a_change_becomes_normal_after_half_a_window() {
        let mut history = vec![1.0; 20];
        history.extend([2.0; 20]);
        let found = levels(&known(&history), 0..40, 14, Action::Times, 0.01);
        assert!((found[25] - 1.0).abs() < 0.05);
        assert!((found[29] - 2.0).abs() < 0.1, "{}", found[29]);
    }

    #[test]
    fn a_cycle_never_sees_itself() {
        let mut history = vec![1.0; 5];
        history[2] = 100.0;
        assert_eq!(levels(&known(&history), 2..3, 14, Action::Plus, 0.01)[0], 1.0);
        assert_eq!(levels(&known(&history[..1]), 0..1, 14, Action::Plus, 0.01)[0], 0.0);
    }
}
