//! Figures by event: an event is one labelled interval of one series.

use std::{collections::BTreeMap, ops::Range};

use serde::{Deserialize, Serialize};

use super::{EvaluationInput, share, steps_per_week};

/// One labelled interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub series: usize,
    /// Steps, the end exclusive.
    pub steps: Range<usize>,
    pub kind: String,
}

/// What became of the events, and of the flags outside them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EventFigures {
    /// Events with at least one step in the scope.
    pub events: usize,
    /// Events with at least one flag inside.
    pub found: usize,
    /// Events with a flag in the seven days from their first step in scope (one step if that is
    /// longer).
    pub found_in_first_week: usize,
    /// (found, all) by kind.
    pub by_kind: BTreeMap<String, (usize, usize)>,
    /// Steps from an event's first step in scope to its first flag, over the events found.
    pub mean_delay_steps: Option<f64>,
    /// Events found by that delay.
    pub delays: BTreeMap<usize, usize>,
    /// Runs of consecutive flags that touch an event.
    pub true_alerts: usize,
    /// Runs of consecutive flags that touch no event.
    pub false_alerts: usize,
    pub false_alerts_per_series_year: Option<f64>,
}

impl EventFigures {
    /// Probability of detection: share of events with at least one flag inside.
    pub fn recall(&self) -> Option<f64> {
        share(self.found, self.events)
    }

    /// Probability of detection within the first week.
    pub fn recall_in_first_week(&self) -> Option<f64> {
        share(self.found_in_first_week, self.events)
    }

    /// Positive predictive value: share of alerts that touch an event.
    pub fn ppv(&self) -> Option<f64> {
        share(self.true_alerts, self.true_alerts + self.false_alerts)
    }

    /// Harmonic mean of [`recall`](Self::recall) and [`ppv`](Self::ppv); 0 where nothing was found.
    pub fn f1(&self) -> Option<f64> {
        let recall = self.recall()?;
        let ppv = self.ppv().unwrap_or(0.0);
        Some(if recall + ppv > 0.0 { 2.0 * recall * ppv / (recall + ppv) } else { 0.0 })
    }

    /// The middle delay of the events found, the mean of the two middle ones where they are even.
    pub fn median_delay_steps(&self) -> Option<f64> {
        let at = |place: usize| {
            let mut passed = 0;
            self.delays.iter().find_map(|(delay, count)| {
                passed += count;
                (place < passed).then_some(*delay as f64)
            })
        };
        let low = at(self.found.checked_sub(1)? / 2)?;
        Some(0.5 * (low + at(self.found / 2)?))
    }
}

/// Counts events found, delays, and false alerts.
pub fn event_figures(input: &EvaluationInput<'_>) -> EventFigures {
    let mut figures = EventFigures::default();
    let week = steps_per_week(input.step);
    for event in input.events {
        let inside = |t: &usize| input.scope[[event.series, *t]];
        let Some(first) = event.steps.clone().find(inside) else { continue };
        figures.events += 1;
        let tally = figures.by_kind.entry(event.kind.clone()).or_default();
        tally.1 += 1;
        let hit = event.steps.clone().filter(inside).find(|&t| input.flags[[event.series, t]]);
        if let Some(hit) = hit {
            figures.found += 1;
            tally.0 += 1;
            figures.found_in_first_week += usize::from(hit - first < week);
            *figures.delays.entry(hit - first).or_default() += 1;
        }
    }
    let delay = figures.delays.iter().map(|(delay, count)| delay * count).sum();
    figures.mean_delay_steps = share(delay, figures.found);
    (figures.true_alerts, figures.false_alerts) = alerts(input);
    let counted = input.scope.iter().filter(|counted| **counted).count();
    figures.false_alerts_per_series_year =
        (counted > 0).then(|| figures.false_alerts as f64 * input.step.per_year() / counted as f64);
    figures
}

/// Runs of consecutive flags in scope: how many touch a labelled step, and how many do not.
fn alerts(input: &EvaluationInput<'_>) -> (usize, usize) {
    let (mut touching, mut others) = (0, 0);
    for s in 0..input.flags.nrows() {
        let (mut running, mut touches) = (false, false);
        for t in 0..=input.flags.ncols() {
            let flag = t < input.flags.ncols() && input.flags[[s, t]] && input.scope[[s, t]];
            if flag {
                touches = (running && touches) || input.truth[[s, t]];
            } else if running {
                *(if touches { &mut touching } else { &mut others }) += 1;
            }
            running = flag;
        }
    }
    (touching, others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panel::Step;
    use ndarray::{Array2, array};

    #[test]
    fn runs_outside_events_count_once_and_runs_that_touch_one_do_not() {
        let truth = array![[false, false, false, true, true, false, false, false]];
        let flags = array![[true, true, false, false, true, true, false, true]];
        let scope = Array2::from_elem((1, 8), true);
        let events = [
            Event { series: 0, steps: 3..5, kind: "drop".into() },
            Event { series: 0, steps: 2..3, kind: "spike".into() },
        ];
        let score = Array2::zeros((1, 8));
        let input = EvaluationInput {
            truth: &truth,
            events: &events,
            scope: &scope,
            flags: &flags,
            score: &score,
            step: Step::Week,
        };
        let figures = event_figures(&input);
        assert_eq!((figures.events, figures.found, figures.false_alerts), (2, 1, 2));
        assert_eq!(figures.mean_delay_steps, Some(1.0));
        let per_year = figures.false_alerts_per_series_year.unwrap();
        assert!((per_year - 2.0 * Step::Week.per_year() / 8.0).abs() < 1e-12);
        assert_eq!((figures.true_alerts, figures.ppv()), (1, Some(1.0 / 3.0)));
        assert_eq!(figures.found_in_first_week, 0, "a week is one step, and the first has no flag");
        assert_eq!(figures.f1(), Some(0.4));
        assert_eq!(figures.by_kind["drop"], (1, 1));
    }

    #[test]
    fn what_lies_outside_the_scope_does_not_count() {
        let truth = array![[true, true, false]];
        let flags = array![[true, false, true]];
        let scope = array![[false, true, false]];
        let events = [Event { series: 0, steps: 0..2, kind: "drop".into() }];
        let score = Array2::zeros((1, 3));
        let input = EvaluationInput {
            truth: &truth,
            events: &events,
            scope: &scope,
            flags: &flags,
            score: &score,
            step: Step::Week,
        };
        let figures = event_figures(&input);
        assert_eq!((figures.events, figures.found, figures.false_alerts), (1, 0, 0));
    }

    #[test]
    fn the_median_delay_is_the_middle_of_the_events_found() {
        let delays = |pairs: &[(usize, usize)]| {
            let found = pairs.iter().map(|(_, n)| n).sum();
            EventFigures { found, delays: pairs.iter().copied().collect(), ..Default::default() }
        };
        assert_eq!(delays(&[(0, 1), (2, 1), (9, 1)]).median_delay_steps(), Some(2.0));
        assert_eq!(delays(&[(0, 2), (3, 2)]).median_delay_steps(), Some(1.5));
        assert_eq!(delays(&[]).median_delay_steps(), None);
    }
}
