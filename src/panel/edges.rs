//! The first and the last step, which raw events often cover only in part.
//!
//! An export that ends on a Wednesday makes every last week look like a drop. Whether a step was
//! covered whole shows in how far its rows reach: the last step is cut when its latest row comes
//! clearly before the latest row of every other step, the first when its earliest comes clearly
//! after theirs. Events that all happen on Monday morning therefore cut nothing.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{Step, label};

/// What becomes of a first and a last step that the rows cover in part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edges {
    /// They are left out, and the run says so.
    #[default]
    Trim,
    /// They count as whole.
    Keep,
}

/// As many other steps must show how far rows reach.
const MIN_OTHERS: usize = 4;
/// "Clearly" is this part of a step: half a day of a week.
const MARGIN: i64 = 14;

/// A step that was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutEdge {
    step: Step,
    /// On the calendar's clock.
    pub(super) start: i64,
    is_last: bool,
    /// Seconds from the step's start to its own last (first) row, and to the nearest of the others'.
    reach: (i64, i64),
}

impl fmt::Display for CutEdge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (place, verb, other) = match self.is_last {
            true => ("last", "end", "later"),
            false => ("first", "begin", "earlier"),
        };
        let share = |secs: i64| 100 * secs / self.step.secs();
        write!(
            f,
            "the {place} step, {}, is covered in part and left out: its rows {verb} at {} % of the step, those of every other step at {} % or {other} (panel.edges = \"keep\" keeps it)",
            label(self.step, self.start),
            share(self.reach.0),
            share(self.reach.1),
        )
    }
}

/// Earliest and latest row of each step, in seconds from the step's start.
#[derive(Debug, Default)]
pub(super) struct Extents(BTreeMap<i64, (i64, i64)>);

impl Extents {
    /// Takes a row of the step that begins at `start`.
    pub fn see(&mut self, start: i64, clock: i64) {
        let at = clock - start;
        let extent = self.0.entry(start).or_insert((at, at));
        *extent = (extent.0.min(at), extent.1.max(at));
    }

    /// The first and the last step, as far as they are covered in part.
    pub fn cut(&self, step: Step) -> Vec<CutEdge> {
        let n = self.0.len();
        let (Some(first), Some(last)) = (self.0.first_key_value(), self.0.last_key_value()) else {
            return Vec::new();
        };
        if n < MIN_OTHERS + 2 {
            return Vec::new();
        }
        let others = || self.0.values().skip(1).take(n - 2);
        let margin = step.secs() / MARGIN;
        let latest_begin = others().map(|(begin, _)| *begin).max().unwrap_or(i64::MAX);
        let earliest_end = others().map(|(_, end)| *end).min().unwrap_or(0);
        let mut cut = Vec::new();
        if first.1.0 > latest_begin + margin {
            let reach = (first.1.0, latest_begin);
            cut.push(CutEdge { step, start: *first.0, is_last: false, reach });
        }
        if last.1.1 + margin < earliest_end {
            let reach = (last.1.1, earliest_end);
            cut.push(CutEdge { step, start: *last.0, is_last: true, reach });
        }
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn extents(weeks: &[(i64, i64)]) -> Extents {
        let mut extents = Extents::default();
        for (week, (begin, end)) in weeks.iter().enumerate() {
            let start = 345_600 + week as i64 * 7 * DAY;
            extents.see(start, start + begin);
            extents.see(start, start + end);
        }
        extents
    }

    #[test]
    fn weeks_that_the_rows_cover_in_part_are_cut_at_both_ends() {
        let whole = (0, 7 * DAY - 1);
        let weeks = [(3 * DAY, 7 * DAY - 1), whole, whole, whole, whole, (0, 2 * DAY)];
        let cut = extents(&weeks).cut(Step::Week);
        assert_eq!(cut.iter().map(|c| c.is_last).collect::<Vec<_>>(), [false, true]);
        let text = cut[1].to_string();
        assert!(text.contains("1970-02-09") && text.contains("28 %"), "{text}");
    }

    #[test]
    fn whole_weeks_monday_mornings_and_short_panels_are_left_alone() {
        let whole = (60, 7 * DAY - 60);
        assert!(extents(&[whole; 8]).cut(Step::Week).is_empty());
        let mondays: Vec<(i64, i64)> = (0..8).map(|i| (6 * 3_600 - i * 60, 6 * 3_600)).collect();
        assert!(extents(&mondays).cut(Step::Week).is_empty());
        assert!(extents(&[whole, whole, whole, whole, (0, DAY)]).cut(Step::Week).is_empty());
        assert!(Extents::default().cut(Step::Week).is_empty());
    }

    #[test]
    fn sparse_weeks_cut_nothing() {
        let weeks = [
            (0, DAY),
            (DAY, 6 * DAY),
            (0, 2 * DAY),
            (5 * DAY, 6 * DAY),
            (0, 3 * DAY),
            (0, 2 * DAY),
        ];
        assert!(extents(&weeks).cut(Step::Week).is_empty());
    }
}
