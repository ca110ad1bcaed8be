use std::collections::BTreeMap;

use proptest::prelude::*;
use rand_distr::{Distribution, Gamma, Poisson, StandardNormal};
use serde::Deserialize;

use super::*;
use crate::math::random::stream;

#[derive(Deserialize)]
struct Reference {
    signals: BTreeMap<String, Vec<f64>>,
    segmentations: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    signal: String,
    model: String,
    tool: String,
    penalty: f64,
    min_size: usize,
    /// Ends of the segments, the last one included.
    ends: Vec<usize>,
    /// Least cost over all segmentations.
    least: f64,
    /// Whether the reference found a segmentation of that cost.
    reached: bool,
}

fn normal(seed: u64, n: usize) -> Vec<f64> {
    let mut rng = stream(seed, "change points", 0);
    (0..n).map(|_| StandardNormal.sample(&mut rng)).collect()
}

fn segments(cost: &mut impl Cost, penalty: f64, min_size: usize) -> (Vec<usize>, f64) {
    let n = cost.len();
    let mut ends = search(cost, penalty, min_size).changes(n);
    ends.push(n);
    let total = total(cost, &ends, penalty);
    (ends, total)
}

fn total(cost: &impl Cost, ends: &[usize], penalty: f64) -> f64 {
    let starts = std::iter::once(&0).chain(ends);
    starts.zip(ends).map(|(start, end)| cost.segment(*start, *end) + penalty).sum()
}

/// Least cost over all segmentations, by trying every last start.
fn least(cost: &impl Cost, penalty: f64, min_size: usize) -> f64 {
    let n = cost.len();
    let mut best = vec![f64::INFINITY; n + 1];
    best[0] = 0.0;
    for end in min_size..=n {
        for start in 0..=end - min_size {
            best[end] = best[end].min(best[start] + cost.segment(start, end) + penalty);
        }
    }
    best[n]
}

#[test]
fn segmentations_are_those_of_ruptures_and_cost_the_least() {
    let text = include_str!("../../../../tests/golden/change_points.json");
    let reference: Reference = serde_json::from_str(text).unwrap();
    let mut missed = 0;
    for case in &reference.segmentations {
        let values = &reference.signals[&case.signal];
        let (penalty, min_size) = (case.penalty, case.min_size);
        let (ends, total) = match case.model.as_str() {
            "l1" => segments(&mut AbsoluteDeviation::new(values), penalty, min_size),
            "l2" => segments(&mut SquaredDeviation::new(values), penalty, min_size),
            "rbf" => segments(&mut GaussianKernel::new(values, None), penalty, min_size),
            other => panic!("{other}"),
        };
        let what = format!("{} {} {} {penalty}", case.signal, case.model, case.tool);
        // Both sum some hundred terms of order one in other orders.
        assert!((total - case.least).abs() < 1e-8 * case.least.abs(), "{what}: {total}");
        if case.reached {
            assert_eq!(ends, case.ends, "{what}");
        } else {
            assert_ne!(ends, case.ends, "{what}");
            missed += 1;
        }
    }
    assert_eq!((reference.segmentations.len(), missed), (107, MISSED_BY_RUPTURES));
}

/// Cases in which ruptures prunes the best segmentation away.
const MISSED_BY_RUPTURES: usize = 2;

#[test]
fn every_cost_agrees_with_its_definition() {
    let mut values = normal(3, 60);
    values.iter_mut().step_by(3).for_each(|v| *v = (*v * 2.0).round());
    let absolute = AbsoluteDeviation::new(&values);
    let squared = SquaredDeviation::new(&values);
    let mut kernel = GaussianKernel::new(&values, Some(0.7));
    for start in 0..values.len() {
        for end in start..=values.len() {
            let part = &values[start..end];
            let n = part.len().max(1) as f64;
            let median = crate::math::robust::median(&mut part.to_vec()).unwrap_or(0.0);
            let by_hand: f64 = part.iter().map(|v| (v - median).abs()).sum();
            assert!((absolute.segment(start, end) - by_hand).abs() < 1e-12);
            let mean = part.iter().sum::<f64>() / n;
            let by_hand: f64 = part.iter().map(|v| (v - mean).powi(2)).sum();
            assert!((squared.segment(start, end) - by_hand).abs() < 1e-11);
        }
    }
    // The sums that are kept for each start agree with those made anew.
    let mut out = Vec::new();
    for end in 2..=values.len() {
        kernel.push(end - 2);
        kernel.totals(end, &vec![0.0; end - 1], &mut out);
        for (start, cost) in out.iter().enumerate() {
            assert!((cost - kernel.segment(start, end)).abs() < 1e-10);
        }
    }
}

#[test]
fn negative_binomial_costs_are_likelihoods() {
    // By hand: counts 2 and 4, rate 3, dispersion 1/2:
    // -2 [6 ln 3 - (6 + 2 / 0.5) ln(1 + 1.5)] = -2 [6.591674 - 9.162907] = 5.142467.
    let cost = CountLikelihood::new(&[2.0, 4.0], &[1.0, 1.0], 0.5);
    assert!((cost.segment(0, 2) - 5.142_467).abs() < 1e-6, "{}", cost.segment(0, 2));
    // Poisson, exposures 1 and 2, rate 2: -2 (6 ln 2 - 6) = 3.682234.
    let cost = CountLikelihood::new(&[2.0, 4.0], &[1.0, 2.0], 0.0);
    assert!((cost.segment(0, 2) - 3.682_234).abs() < 1e-6, "{}", cost.segment(0, 2));
    assert_eq!(CountLikelihood::new(&[0.0; 3], &[1.0; 3], 0.5).segment(0, 3), 0.0);
    // Splitting changes what log-probabilities of the same rates change.
    let (counts, ones) = ([3.0, 0.0, 9.0, 14.0, 8.0], [1.0; 5]);
    let cost = CountLikelihood::new(&counts, &ones, 0.3);
    let ln_p = |part: &[f64]| -> f64 {
        let mean = part.iter().sum::<f64>() / part.len() as f64;
        let nb = crate::math::nb::NegativeBinomial::new(mean, 0.3).unwrap();
        part.iter().map(|y| nb.ln_pmf(*y)).sum()
    };
    let gain = cost.segment(0, 5) - cost.segment(0, 2) - cost.segment(2, 5);
    let expected = 2.0 * (ln_p(&counts[..2]) + ln_p(&counts[2..]) - ln_p(&counts));
    assert!((gain - expected).abs() < 1e-10, "{gain}, {expected}");
}

#[test]
fn dispersion_is_found_beside_changes_of_level() {
    for (alpha, tolerance) in [(0.0, 0.03), (0.2, 0.06), (1.0, 0.35)] {
        let mut rng = stream(4, "dispersion", 0);
        let counts: Vec<f64> = (0..4_000)
            .map(|i| {
                let mean = if i / 500 % 2 == 0 { 8.0 } else { 12.0 };
                let rate = match alpha {
                    0.0 => mean,
                    _ => Gamma::new(1.0 / alpha, alpha * mean).unwrap().sample(&mut rng),
                };
                Poisson::new(f64::max(rate, 1e-9)).unwrap().sample(&mut rng)
            })
            .collect();
        let found = dispersion(&counts, &vec![1.0; counts.len()]);
        assert!((found - alpha).abs() < tolerance, "{alpha}: {found}");
    }
    assert_eq!(dispersion(&[0.0; 9], &[1.0; 9]), 0.0);
    assert_eq!(dispersion(&[], &[]), 0.0);
}

#[test]
fn every_beginning_has_its_own_best_segmentation() {
    let mut values = normal(7, 150);
    values[60..100].iter_mut().for_each(|v| *v += 2.5);
    let path = search(&mut SquaredDeviation::new(&values), 10.0, 4);
    for len in 8..=values.len() {
        let of_beginning = search(&mut SquaredDeviation::new(&values[..len]), 10.0, 4);
        assert_eq!(path.changes(len), of_beginning.changes(len), "{len}");
        assert!((path.margin(len) - of_beginning.margin(len)).abs() < 1e-9);
    }
    assert!(path.changes(59).is_empty());
    assert!((55..=65).contains(&path.last_start(75)), "{}", path.last_start(75));
}

#[test]
fn the_margin_is_what_the_last_change_is_worth() {
    let mut values = normal(8, 120);
    values[70..].iter_mut().for_each(|v| *v += 1.5);
    let mut cost = SquaredDeviation::new(&values);
    let path = search(&mut cost, 9.0, 2);
    assert_eq!(path.changes(120).len(), 1);
    let change = path.last_start(120);
    let gain = cost.segment(0, 120) - cost.segment(0, change) - cost.segment(change, 120) - 9.0;
    // Once its gain is above the penalty the rival is pruned.
    let expected = if gain > 9.0 { 9.0 } else { gain };
    assert!((path.margin(120) - expected).abs() < 1e-9, "{} {gain}", path.margin(120));
    assert_eq!(path.margin(60), 0.0);
}

#[test]
fn edges_of_what_can_be_asked() {
    for n in 0..4 {
        let values = vec![1.0; n];
        assert!(search(&mut SquaredDeviation::new(&values), 1.0, 2).changes(n).is_empty());
        assert!(search(&mut AbsoluteDeviation::new(&values), 1.0, 0).changes(n).is_empty());
        assert!(search(&mut GaussianKernel::new(&values, None), 1.0, 9).changes(n).is_empty());
        let mut counts = CountLikelihood::new(&values, &values, f64::NAN);
        assert!(search(&mut counts, 1.0, 1).changes(n).is_empty());
    }
    // A level far from zero costs no digits.
    let shifted: Vec<f64> = normal(9, 200).iter().map(|v| 1e9 + v).collect();
    let mut cost = SquaredDeviation::new(&shifted);
    assert!(search(&mut cost, 20.0, 2).changes(200).is_empty());
}

#[test]
fn the_median_heuristic_is_the_median_of_all_pairs() {
    for n in [2, 3, 4, 7, 30, 31] {
        let values = normal(n as u64, n);
        let mut squares: Vec<f64> = Vec::new();
        for (i, a) in values.iter().enumerate() {
            squares.extend(values[..i].iter().map(|b| (a - b) * (a - b)));
        }
        let median = crate::math::robust::median(&mut squares).unwrap();
        assert!((median_heuristic(&values) * median - 1.0).abs() < 1e-12, "{n}");
    }
    assert_eq!(median_heuristic(&[2.0; 6]), 1.0);
    assert_eq!(median_heuristic(&[]), 1.0);
}

proptest! {
    #[test]
    fn pruning_never_misses_the_optimum(
        levels in prop::collection::vec(0..6_u8, 1..9),
        seed in 0..1_000_u64,
        penalty in 0.5..15.0_f64,
        min_size in 1..7_usize,
    ) {
        let noise = normal(seed, 9 * levels.len());
        let values: Vec<f64> = noise.iter().zip(0..).map(|(z, i)| f64::from(levels[i / 9]) + z).collect();
        let counts: Vec<f64> = values.iter().map(|v| v.abs().round()).collect();
        let exposures: Vec<f64> = noise.iter().map(|z| 1.0 + 0.2 * z.sin()).collect();
        let mut squared = SquaredDeviation::new(&values);
        let mut absolute = AbsoluteDeviation::new(&counts);
        let mut kernel = GaussianKernel::new(&values, None);
        let mut likelihood = CountLikelihood::new(&counts, &exposures, 0.1);
        macro_rules! check {
            ($($cost:ident),+) => {$(
                let (_, total) = segments(&mut $cost, penalty, min_size);
                let optimum = least(&$cost, penalty, min_size);
                prop_assert!((total - optimum).abs() <= 1e-9 * (1.0 + optimum.abs()), "{total} {optimum}");
            )+};
        }
        check!(squared, absolute, kernel, likelihood);
    }
}

#[test]
fn a_horizon_bounds_the_work_and_keeps_what_it_must() {
    let mut values = normal(11, 1_500);
    values[500..].iter_mut().for_each(|v| *v += 3.0);
    let all = search(&mut SquaredDeviation::new(&values), 14.0, 3);
    let near = search_within(&mut SquaredDeviation::new(&values), 14.0, 3, 100);
    assert_eq!(all.changes(1_500), [500]);
    assert_eq!(near.changes(1_500).len(), 1);
    assert!(near.last_start(1_500).abs_diff(500) < BLOCK, "{}", near.last_start(1_500));
    let exact = search_within(&mut SquaredDeviation::new(&values), 14.0, 3, 1_500);
    assert_eq!(exact.starts, all.starts);
}
