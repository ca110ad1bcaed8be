//! Where injections go.

use std::ops::Range;

use ndarray::ArrayView2;
use rand::{RngExt, seq::SliceRandom};

use super::params::Treatment;
use crate::math::random::stream;

/// Steps around an injection that stay as they are, so that no two run together.
const GUARD_STEPS: usize = 2;
/// A single injection covers at most one of so many judged steps, so that enough clean ones stay.
const CLEAN_FOR_ONE: usize = 4;

/// One injection.
#[derive(Clone, Debug, PartialEq)]
pub struct Injection {
    pub series: usize,
    pub steps: Range<usize>,
    pub treatment: Treatment,
    /// Place of the treatment in the list that was planned with.
    pub number: usize,
}

/// Places injections for one repeat in the cells `[series, time]` that are `free`: judged, scored,
/// and neither a known event nor labelled.
///
/// Each touched series gets one injection, and more as long as they cover no more than `max_share`
/// of its free steps. Treatments are dealt out in turn, in an order that changes with every repeat,
/// so that each gets its share of the series; a series that has no room for its turn's treatment
/// gets the next that fits. Injections of a series keep apart.
pub fn plan(
    free: ArrayView2<'_, bool>,
    treatments: &[Treatment],
    (series_share, max_share): (f64, f64),
    seed: u64,
    repeat: u64,
) -> Vec<Injection> {
    let mut rng = stream(seed, "inject/plan", repeat);
    let mut order: Vec<usize> = (0..free.nrows()).collect();
    order.shuffle(&mut rng);
    order.truncate((free.nrows() as f64 * series_share).ceil() as usize);
    let mut deck: Vec<usize> = Vec::new();
    let mut found = Vec::new();
    for series in order {
        let mut open: Vec<bool> = free.row(series).to_vec();
        let judged = open.iter().filter(|o| **o).count();
        let allowance = (judged as f64 * max_share) as usize;
        let mut covered = 0;
        loop {
            let fits = |steps: usize| match covered {
                0 => steps * CLEAN_FOR_ONE <= judged,
                covered => covered + steps <= allowance,
            };
            let room = |number: usize| {
                let steps = treatments[number].steps;
                if fits(steps) { starts(&open, steps) } else { Vec::new() }
            };
            if deck.is_empty() {
                deck = (0..treatments.len()).collect();
                deck.shuffle(&mut rng);
            }
            let Some((at, places)) =
                deck.iter().map(|&n| room(n)).enumerate().find(|(_, places)| !places.is_empty())
            else {
                break;
            };
            let number = deck.remove(at);
            let treatment = treatments[number];
            let start = places[rng.random_range(0..places.len())];
            let steps = start..start + treatment.steps;
            let around =
                start.saturating_sub(GUARD_STEPS)..(steps.end + GUARD_STEPS).min(open.len());
            open[around].fill(false);
            covered += treatment.steps;
            found.push(Injection { series, steps, treatment, number });
        }
    }
    found.sort_by_key(|injection| (injection.series, injection.steps.start));
    found
}

/// The steps at which `length` open ones begin.
fn starts(open: &[bool], length: usize) -> Vec<usize> {
    let mut run = 0;
    let mut found = Vec::new();
    for (t, open) in open.iter().enumerate() {
        run = if *open { run + 1 } else { 0 };
        if run >= length {
            found.push(t + 1 - length);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{evaluation::inject::InjectParams, panel::Step};
    use ndarray::Array2;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn injections_lie_in_free_cells_keep_apart_and_leave_enough(
            cells in prop::collection::vec(prop::bool::weighted(0.9), 400),
            seed in 0_u64..1_000,
            max_share in 0.01_f64..0.25,
        ) {
            let free = Array2::from_shape_vec((4, 100), cells).unwrap();
            let treatments = InjectParams::default().treatments(Step::Week);
            let planned = plan(free.view(), &treatments, (1.0, max_share), seed, 3);
            prop_assert_eq!(
                &planned,
                &plan(free.view(), &treatments, (1.0, max_share), seed, 3)
            );
            for pair in planned.windows(2).filter(|pair| pair[0].series == pair[1].series) {
                prop_assert!(pair[1].steps.start >= pair[0].steps.end + GUARD_STEPS);
            }
            for s in 0..4 {
                let mine: Vec<&Injection> = planned.iter().filter(|i| i.series == s).collect();
                for injection in &mine {
                    prop_assert!(injection.steps.clone().all(|t| free[[s, t]]));
                    prop_assert_eq!(injection.steps.len(), injection.treatment.steps);
                }
                let judged = free.row(s).iter().filter(|f| **f).count();
                let covered: usize = mine.iter().map(|i| i.steps.len()).sum();
                let most = (judged as f64 * max_share).max(judged as f64 / 4.0);
                prop_assert!(covered as f64 <= most);
            }
        }
    }

    #[test]
    fn every_treatment_gets_its_turn_and_short_series_get_none() {
        let free = Array2::from_shape_fn((60, 52), |(s, t)| s > 0 || t < 3);
        let treatments = InjectParams::default().treatments(Step::Week);
        let mut counts = vec![0; treatments.len()];
        for repeat in 0..5 {
            let planned = plan(free.view(), &treatments, (1.0, 0.1), 1, repeat);
            assert!(planned.iter().all(|i| i.series > 0), "three steps are too few");
            assert!(planned.len() >= 59);
            planned.iter().for_each(|i| counts[i.number] += 1);
        }
        assert!(counts.iter().all(|n| *n >= 10), "{counts:?}");
        let half = plan(free.view(), &treatments, (0.5, 0.01), 1, 0);
        assert!((29..=30).contains(&half.len()), "{}", half.len());
    }
}
