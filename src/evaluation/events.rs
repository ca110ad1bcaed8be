//! Figures by event: an event is one labelled interval of one series.

use std::{collections::BTreeMap, ops::Range};

use serde::{Deserialize, Serialize};

use super::{EvaluationInput, share};

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
    /// (found, all) by kind.
    pub by_kind: BTreeMap<String, (usize, usize)>,
    /// Steps from an event's first step in scope to its first flag, over the events found.
    pub mean_delay_steps: Option<f64>,
    /// Runs of consecutive flags that touch no event.
    pub false_alerts: usize,
    pub false_alerts_per_series_year: Option<f64>,
}

impl EventFigures {
    /// Probability of detection: share of events with at least one flag inside.
    pub fn recall(&self) -> Option<f64> {
        share(self.found, self.events)
    }
}

/// Counts events found, delays, and false alerts.
pub fn event_figures(input: &EvaluationInput<'_>) -> EventFigures {
    let mut figures = EventFigures::default();
    let mut delay = 0;
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
            delay += hit - first;
        }
    }
    figures.mean_delay_steps = share(delay, figures.found);
    figures.false_alerts = false_alerts(input);
    let counted = input.scope.iter().filter(|counted| **counted).count();
    figures.false_alerts_per_series_year =
        (counted > 0).then(|| figures.false_alerts as f64 * input.steps_per_year / counted as f64);
    figures
}

/// Runs of consecutive flags in scope of which no step is labelled.
fn false_alerts(input: &EvaluationInput<'_>) -> usize {
    let mut alerts = 0;
    for s in 0..input.flags.nrows() {
        let (mut running, mut touches) = (false, false);
        for t in 0..input.flags.ncols() {
            let flag = input.flags[[s, t]] && input.scope[[s, t]];
            if flag {
                touches = (running && touches) || input.truth[[s, t]];
            } else if running && !touches {
                alerts += 1;
            }
            running = flag;
        }
        alerts += usize::from(running && !touches);
    }
    alerts
}

#[cfg(test)]
mod tests {
    use super::*;
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
            steps_per_year: 8.0,
        };
        let figures = event_figures(&input);
        assert_eq!((figures.events, figures.found, figures.false_alerts), (2, 1, 2));
        assert_eq!(figures.mean_delay_steps, Some(1.0));
        assert_eq!(figures.false_alerts_per_series_year, Some(2.0));
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
            steps_per_year: 52.0,
        };
        let figures = event_figures(&input);
        assert_eq!((figures.events, figures.found, figures.false_alerts), (1, 0, 0));
    }
}
