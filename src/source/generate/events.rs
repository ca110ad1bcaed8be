//! Where events lie in time.

use std::ops::Range;

use rand::{Rng, RngExt};

/// An event in steps of one series.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Event {
    pub(super) kind: &'static str,
    pub(super) steps: Range<usize>,
    /// What the affected metric is multiplied by.
    pub(super) factor: f64,
}

impl Event {
    /// The share of the event that is over at the end of step `t`, above 0 and at most 1; `None`
    /// outside.
    pub(super) fn progress(&self, t: usize) -> Option<f64> {
        let done = (t + 1).checked_sub(self.steps.start)?;
        self.steps.contains(&t).then(|| done as f64 / self.steps.len() as f64)
    }
}

/// A random place for `duration` steps among `n` that keeps `gap` free steps to everything taken.
/// `None` when no place was found in a fair number of tries.
pub(super) fn place<R: Rng>(
    rng: &mut R,
    n: usize,
    duration: usize,
    gap: usize,
    taken: &[Range<usize>],
) -> Option<Range<usize>> {
    const TRIES: usize = 50;
    let last = n.checked_sub(duration)?;
    (0..TRIES).find_map(|_| {
        let start = rng.random_range(0..=last);
        let steps = start..start + duration;
        let free =
            |other: &Range<usize>| steps.end + gap <= other.start || other.end + gap <= steps.start;
        taken.iter().all(free).then_some(steps)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::random::stream;

    #[test]
    fn placed_events_keep_their_distance() {
        let mut rng = stream(3, "place", 0);
        let first = 10..15;
        let mut taken = vec![first];
        while let Some(steps) = place(&mut rng, 60, 4, 3, &taken) {
            assert!(steps.end <= 60);
            for other in &taken {
                assert!(steps.end + 3 <= other.start || other.end + 3 <= steps.start);
            }
            taken.push(steps);
        }
        assert!(taken.len() > 4);
        assert_eq!(place(&mut rng, 3, 4, 0, &[]), None);
    }

    #[test]
    fn progress_runs_from_the_first_step_to_one() {
        let event = Event { kind: "drift", steps: 4..8, factor: 2.0 };
        assert_eq!(event.progress(3), None);
        assert_eq!(event.progress(4), Some(0.25));
        assert_eq!(event.progress(7), Some(1.0));
        assert_eq!(event.progress(8), None);
    }
}
