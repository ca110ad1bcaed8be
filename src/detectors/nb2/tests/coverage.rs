//! Intervals that keep their promise: on clean weeks of 52 to 260, means from 0.3 to 200, and on
//! counts of other laws than the model's.

use rand::RngExt;

use super::{counts_panel, simulation::gamma_poisson};
use crate::{
    detectors::{
        Detector, FitContext, FitMask, KnownEvents, Scores, ScoringPlan,
        nb2::{Nb2, Nb2Params, job::Job},
    },
    math::{nb::NegativeBinomial, random::stream},
};

const MEANS: [f64; 6] = [0.3, 1.0, 4.0, 15.0, 60.0, 200.0];
const SERIES_PER_MEAN: u64 = 60;

/// Season of one harmonic, as the model has; dispersions from 0.02 to 0.5.
fn clean(weeks: usize, mean: f64, number: u64) -> Vec<f64> {
    let rng = &mut stream(1_000, "nb2 coverage", number * 1_000 + weeks as u64);
    let dispersion = (0.02f64.ln() + rng.random::<f64>() * 25f64.ln()).exp();
    let phase = rng.random::<f64>() * std::f64::consts::TAU;
    let level =
        |t: usize| mean * (0.3 * (std::f64::consts::TAU * t as f64 / 52.18 + phase).sin()).exp();
    (0..weeks).map(|t| gamma_poisson(rng, level(t), dispersion)).collect()
}

fn series(weeks: usize) -> Vec<Vec<f64>> {
    MEANS
        .iter()
        .flat_map(|&mean| (0..SERIES_PER_MEAN).map(move |i| (mean, i)))
        .map(|(mean, i)| clean(weeks, mean, (mean * 10.0) as u64 * 100 + i))
        .collect()
}

/// Coverage of the central 99 % by the randomised probability integral transform, and of the
/// printed interval, per mean.
fn coverages(weeks: usize) -> Vec<(f64, f64)> {
    let series = series(weeks);
    let panel = counts_panel(&series);
    let mask = FitMask::all(&panel);
    let params = Nb2Params::default();
    let known = KnownEvents::default();
    let job = Job::new(&params, &panel, &mask, &known).unwrap();
    let mut rooms = job.rooms();
    let mut rng = stream(1_000, "nb2 coverage/randomised", 0);
    MEANS
        .iter()
        .enumerate()
        .map(|(class, _)| {
            let (mut inside, mut within, mut n) = (0.0, 0.0, 0.0);
            let per_mean = SERIES_PER_MEAN as usize;
            for (s, counts) in series.iter().enumerate().skip(class * per_mean).take(per_mean) {
                let predictions = job.predictions(s, &mut rooms);
                for (y, p) in counts.iter().zip(predictions) {
                    let model = NegativeBinomial::new(p.mean, p.dispersion).unwrap();
                    let pit = model.tails(*y).randomised(rng.random());
                    let (lower, upper) = model.interval(0.99);
                    inside += f64::from(u8::from((0.005..=0.995).contains(&pit)));
                    within += f64::from(u8::from((lower..=upper).contains(y)));
                    n += 1.0;
                }
            }
            (inside / n, within / n)
        })
        .collect()
}

#[test]
fn intervals_cover_what_they_promise_at_every_length_and_mean() {
    for weeks in [52, 104, 260] {
        let found = coverages(weeks);
        println!("{weeks} weeks: {found:?}");
        let n = MEANS.len() as f64;
        let pit = found.iter().map(|c| c.0).sum::<f64>() / n;
        assert!((0.985..=0.995).contains(&pit), "{weeks} weeks: {pit}");
        for ((pit, printed), mean) in found.iter().zip(MEANS) {
            assert!((0.983..=0.997).contains(pit), "{weeks} weeks, mean {mean}: {pit}");
            assert!(*printed >= 0.985, "{weeks} weeks, mean {mean}: {printed}");
        }
    }
}

fn false_alarms(draw: impl Fn(&mut rand_chacha::ChaCha8Rng, f64) -> f64) -> f64 {
    let series: Vec<Vec<f64>> = (0..240)
        .map(|i| {
            let rng = &mut stream(1_000, "nb2 misspecified", i);
            let level = (0.5f64.ln() + rng.random::<f64>() * 300f64.ln()).exp();
            let mean =
                |t: usize| level * (0.3 * (std::f64::consts::TAU * t as f64 / 52.18).sin()).exp();
            (0..104).map(|t| draw(rng, mean(t))).collect()
        })
        .collect();
    let panel = counts_panel(&series);
    let nb2 = Nb2::new(Nb2Params::default()).unwrap();
    let plan = ScoringPlan::CrossFitted { block: 4 };
    let scores: Scores =
        nb2.fit_score(&panel, &FitMask::all(&panel), plan, &FitContext::new(1)).unwrap().1;
    let flagged = scores.score.iter().filter(|score| **score >= 2.0).count();
    flagged as f64 / scores.score.len() as f64
}

#[test]
fn counts_of_other_laws_raise_no_more_false_alarms_than_promised() {
    let poisson = false_alarms(|rng, mean| gamma_poisson(rng, mean, 1e-9));
    // Quasi-Poisson (NB1): the variance is 2.5 times the mean.
    let quasi = false_alarms(|rng, mean| gamma_poisson(rng, mean, 1.5 / mean));
    // A tenth of the weeks report nothing.
    let inflated = false_alarms(|rng, mean| {
        let zero = rng.random_bool(0.1);
        let count = gamma_poisson(rng, mean, 0.1);
        if zero { 0.0 } else { count }
    });
    println!("Poisson {poisson}, NB1 {quasi}, zero-inflated {inflated}");
    assert!(poisson < 0.01, "{poisson}");
    assert!(quasi < 0.01, "{quasi}");
    // Small counts have zeros of their own, which hide the habit.
    assert!(inflated < 0.013, "{inflated}");
}
