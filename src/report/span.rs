//! Charts cut to the steps in which their series exists: a panel's calendar is that of all its
//! series, and one that lived for a month of five years would be a smudge.

use std::ops::Range;

use crate::report::{FlagLanesChart, Mark, SeriesChart};

impl SeriesChart {
    /// Leaves what lies in `steps`, widened to every mark and label. Nothing to show: unchanged.
    pub fn cut_to(&mut self, steps: Range<usize>) {
        let steps = self.wide_enough(steps);
        self.cut(&steps);
    }

    fn wide_enough(&self, steps: Range<usize>) -> Range<usize> {
        let marks = self.marks.iter().map(|mark| mark.index..mark.index + 1);
        let wide = marks.chain(self.truth.iter().cloned()).fold(steps, |all, part| {
            if part.is_empty() { all } else { all.start.min(part.start)..all.end.max(part.end) }
        });
        let end = wide.end.min(self.times.len());
        if wide.start < end { wide.start..end } else { 0..self.times.len() }
    }

    fn cut(&mut self, steps: &Range<usize>) {
        let keep = |values: &mut Vec<f64>| {
            if !values.is_empty() {
                *values = values.get(steps.clone()).unwrap_or_default().to_vec();
            }
        };
        self.times = self.times.get(steps.clone()).unwrap_or_default().to_vec();
        [&mut self.observed, &mut self.expected, &mut self.lower, &mut self.upper]
            .into_iter()
            .for_each(keep);
        if let Some(panel) = &mut self.reconstruction {
            [&mut panel.observed, &mut panel.reconstructed, &mut panel.error]
                .into_iter()
                .for_each(keep);
        }
        cut_marks(&mut self.marks, steps);
        self.truth = self.truth.iter().filter_map(|range| within(range, steps)).collect();
        self.known_events = std::mem::take(&mut self.known_events)
            .into_iter()
            .filter_map(|(range, name)| Some((within(&range, steps)?, name)))
            .collect();
        let n = self.times.len();
        self.training_until = self.training_until.map(|t| t.saturating_sub(steps.start).min(n));
    }
}

impl FlagLanesChart {
    /// As [`SeriesChart::cut_to`]; the steps that the chart is about stay too.
    pub fn cut_to(&mut self, steps: Range<usize>) {
        let focus = self.focus.clone();
        let steps = if focus.is_empty() {
            steps
        } else {
            steps.start.min(focus.start)..steps.end.max(focus.end)
        };
        let steps = self.series.wide_enough(steps);
        self.series.cut(&steps);
        self.lanes.iter_mut().for_each(|lane| cut_marks(&mut lane.marks, &steps));
        self.focus = within(&focus, &steps).unwrap_or(0..0);
    }
}

fn cut_marks(marks: &mut Vec<Mark>, steps: &Range<usize>) {
    marks.retain(|mark| steps.contains(&mark.index));
    marks.iter_mut().for_each(|mark| mark.index -= steps.start);
}

/// The part of `range` in `steps`, counted from their start.
fn within(range: &Range<usize>, steps: &Range<usize>) -> Option<Range<usize>> {
    let (start, end) = (range.start.max(steps.start), range.end.min(steps.end));
    (start < end).then(|| start - steps.start..end - steps.start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ensemble::{AnomalyType, Direction, Severity},
        report::FlagLane,
    };

    fn mark(index: usize) -> Mark {
        Mark {
            index,
            severity: Severity::Low,
            kind: AnomalyType::Spike,
            direction: Direction::Above,
        }
    }

    fn chart() -> SeriesChart {
        SeriesChart {
            times: (0..10).collect(),
            observed: (0..10).map(f64::from).collect(),
            marks: vec![mark(5)],
            truth: std::iter::once(6..8).collect(),
            known_events: vec![(0..5, "sale".into()), (0..2, "gone".into())],
            training_until: Some(6),
            ..SeriesChart::default()
        }
    }

    #[test]
    fn a_chart_shows_the_steps_of_its_series() {
        let mut chart = chart();
        chart.cut_to(4..7);
        assert_eq!(chart.times, [4, 5, 6, 7], "the label reaches one step further");
        assert_eq!(chart.observed, [4.0, 5.0, 6.0, 7.0]);
        assert!(chart.expected.is_empty());
        assert_eq!((chart.marks[0].index, chart.truth[0].clone()), (1, 2..4));
        assert_eq!(chart.known_events, [(0..1, "sale".to_string())]);
        assert_eq!(chart.training_until, Some(2));
        chart.check().unwrap();
    }

    #[test]
    fn a_series_without_steps_keeps_the_whole_axis() {
        let mut empty = SeriesChart { times: (0..3).collect(), ..SeriesChart::default() };
        empty.cut_to(3..3);
        assert_eq!(empty.times.len(), 3);
    }

    #[test]
    fn lanes_and_focus_move_with_the_series() {
        let lanes = vec![FlagLane { name: "a".into(), marks: vec![mark(2), mark(5)] }];
        let mut chart = FlagLanesChart { series: chart(), lanes, focus: 2..3 };
        chart.cut_to(4..7);
        assert_eq!(chart.series.times[0], 2);
        assert_eq!(chart.focus, 0..1);
        assert_eq!(chart.lanes[0].marks.iter().map(|m| m.index).collect::<Vec<_>>(), [0, 3]);
    }
}
