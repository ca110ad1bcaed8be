use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;
use crate::math::random::stream;
use rand_distr::{Distribution, StandardNormal};

#[derive(Deserialize)]
struct Reference {
    posteriors: Posteriors,
}

#[derive(Deserialize)]
struct Posteriors {
    normal: NormalCase,
    counts: CountCase,
}

#[derive(Deserialize)]
struct NormalCase {
    values: Vec<f64>,
    hazard: f64,
    mean: f64,
    strength: f64,
    shape: f64,
    scale: f64,
    after: BTreeMap<usize, Vec<f64>>,
}

#[derive(Deserialize)]
struct CountCase {
    counts: Vec<f64>,
    exposures: Vec<f64>,
    hazard: f64,
    shape: f64,
    rate: f64,
    after: BTreeMap<usize, Vec<f64>>,
}

fn reference() -> Posteriors {
    let text = include_str!("../../../../tests/golden/change_points.json");
    serde_json::from_str::<Reference>(text).unwrap().posteriors
}

/// Follows `values` and compares the posterior where the reference has one.
fn follow<M: Model>(
    mut runs: RunLengths<M>,
    values: impl Iterator<Item = M::Value>,
    after: &BTreeMap<usize, Vec<f64>>,
) {
    let mut compared = 0;
    for (place, value) in values.enumerate() {
        runs.observe(value);
        let Some(expected) = after.get(&(place + 1)) else { continue };
        assert_eq!(runs.lengths().count(), expected.len());
        for (length, probability) in runs.lengths() {
            // scipy's log-densities are good to about 1e-13 each, and eighty of them add up.
            let error = (probability - expected[length]).abs();
            assert!(error < 1e-9, "{place} {length}: {probability}, {}", expected[length]);
        }
        compared += 1;
    }
    assert_eq!(compared, after.len());
}

#[test]
fn run_lengths_are_those_of_the_paper() {
    let Posteriors { normal, counts } = reference();
    let model = NormalNoise::new(normal.mean, normal.strength, normal.shape, normal.scale);
    follow(RunLengths::new(model, normal.hazard, 0.0), normal.values.into_iter(), &normal.after);
    let model = PoissonCounts::new(counts.shape, counts.rate);
    let values = counts.counts.iter().zip(&counts.exposures);
    let values = values.map(|(&count, &exposure)| Exposed { count, exposure });
    follow(RunLengths::new(model, counts.hazard, 0.0), values, &counts.after);
}

fn noise(seed: u64, n: usize) -> Vec<f64> {
    let mut rng = stream(seed, "online", 0);
    (0..n).map(|_| StandardNormal.sample(&mut rng)).collect()
}

fn fresh(prune: f64) -> RunLengths<NormalNoise> {
    RunLengths::new(NormalNoise::new(0.0, 0.1, 5.0, 5.0), 1.0 / 200.0, prune)
}

#[test]
fn pruning_changes_little_and_keeps_few_runs() {
    let mut values = noise(1, 600);
    values[300..].iter_mut().for_each(|v| *v += 2.0);
    let (mut all, mut pruned) = (fresh(0.0), fresh(1e-3));
    let mut kept = 0;
    for value in &values {
        all.observe(*value);
        pruned.observe(*value);
        kept += pruned.lengths().count();
        let difference = all.changed_within(12) - pruned.changed_within(12);
        assert!(difference.abs() < 0.05, "{difference}");
        let total: f64 = pruned.lengths().map(|(_, p)| p).sum();
        assert!((total - 1.0).abs() < 1e-12);
    }
    assert!(kept < 20 * values.len(), "{kept}");
}

#[test]
fn a_shift_either_way_is_believed_within_a_few_steps() {
    for sign in [1.0, -1.0] {
        let mut runs = fresh(1e-4);
        for value in noise(2, 200) {
            runs.observe(value);
        }
        assert!(runs.changed_within(5) < 0.2, "{}", runs.changed_within(5));
        for value in noise(3, 4) {
            runs.observe(value + sign * 5.0);
        }
        assert!(runs.changed_within(5) > 0.95, "{}", runs.changed_within(5));
        let moved = runs.moved_from(0.0, 5);
        assert!((3.0..6.0).contains(&(sign * moved)), "{moved}");
    }
}

#[test]
fn a_beginning_is_no_change_and_an_impossible_value_no_crash() {
    let mut runs = fresh(0.0);
    runs.observe(0.1);
    runs.observe(-0.2);
    // Only the run of length 1 can have changed; the run of both has always been there.
    assert!(runs.changed_within(10) < 0.02, "{}", runs.changed_within(10));
    runs.observe(1e200);
    runs.observe(0.0);
    assert!(runs.lengths().all(|(_, p)| p.is_finite()));
}
