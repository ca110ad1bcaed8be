//! What a step's length means for figures that speak of weeks, years and buffers.

use crate::panel::Step;

const DAY_SECS: i64 = 86_400;

/// Steps in the first week of an event: at least one.
pub fn steps_per_week(step: Step) -> usize {
    steps_in(7 * DAY_SECS, step).max(1)
}

/// The longest buffer L of VUS: one day of steps, at least 4 and at most 288 (a day of five
/// minutes). Hourly data have 24, weekly data 4.
pub fn buffer_steps(step: Step) -> usize {
    steps_in(DAY_SECS, step).clamp(4, 288)
}

fn steps_in(secs: i64, step: Step) -> usize {
    usize::try_from(secs / step.secs().max(1)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_days_and_weeks_have_their_own_buffers() {
        let minutes = |n: i64| Step::Seconds(60 * n);
        let steps = [Step::HOUR, Step::Week, Step::Days(1), minutes(15), minutes(1)];
        assert_eq!(steps.map(buffer_steps), [24, 4, 4, 96, 288]);
        assert_eq!(steps.map(steps_per_week), [168, 1, 7, 672, 10_080]);
        assert_eq!(steps_per_week(Step::Days(30)), 1);
    }
}
