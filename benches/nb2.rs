//! Series per second of NB2 on one thread: 1,000 series of 52 weeks with means 0.3-200, dispersion
//! 0.02-0.5 and one event each. Set-up is outside the timing.
//!
//! Peer: statsmodels, `benches/peers/nb2_statsmodels.py`, on data drawn by the same rules; run both
//! on the same quiet core before quoting a ratio.

use std::hint::black_box;

use anomalist::{
    detectors::{
        Detector, FitContext, FitMask, ScoringPlan,
        nb2::{FittedNb2, FourierK, Nb2, Nb2Params, Nb2Step, Scoring},
    },
    math::random::stream,
    panel::{Calendar, Level, Metric, MetricKind, Panel, SeriesKey, Step},
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::{Rng, RngExt};
use rand_distr::{Distribution, Gamma, Poisson};

const SERIES: usize = 1_000;
const WEEKS: usize = 52;

fn between(rng: &mut impl Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * rng.random::<f64>()
}

fn counts(number: u64) -> Vec<f64> {
    let rng = &mut stream(1, "nb2 bench", number);
    let base = between(rng, 0.3f64.ln(), 200f64.ln()).exp();
    let dispersion = between(rng, 0.02f64.ln(), 0.5f64.ln()).exp();
    let (amplitude, phase) = (between(rng, 0.1, 0.4), between(rng, 0.0, std::f64::consts::TAU));
    let (length, factor) = [(2, 5.0), (3, 0.1), (8, 2.2)][rng.random_range(0..3)];
    let start = rng.random_range(0..WEEKS - length);
    (0..WEEKS)
        .map(|t| {
            let mut mean =
                base * (amplitude * (t as f64 / 52.18 * std::f64::consts::TAU + phase).sin()).exp();
            if (start..start + length).contains(&t) {
                mean *= factor;
            }
            let gamma = Gamma::new(1.0 / dispersion, dispersion * mean).expect("positive");
            let rate = gamma.sample(rng);
            if rate < 1e-9 { 0.0 } else { Poisson::new(rate).expect("positive").sample(rng) }
        })
        .collect()
}

fn panel() -> Panel {
    let values: Vec<f64> = (0..SERIES as u64).flat_map(counts).collect();
    Panel::new(
        Level { name: "key".into(), id_columns: vec!["key".into()] },
        Calendar::new(Step::Week, 0, WEEKS, jiff::tz::TimeZone::UTC),
        vec![Metric { name: "count".into(), kind: MetricKind::Count }],
        (0..SERIES).map(|i| SeriesKey(vec![i.to_string()])).collect(),
        vec![0..WEEKS; SERIES],
        ndarray::Array3::from_shape_vec((SERIES, WEEKS, 1), values).expect("the shape fits"),
    )
    .expect("a sound panel")
}

fn bench(criterion: &mut Criterion) {
    let panel = panel();
    let mask = FitMask::all(&panel);
    let context = FitContext::new(1);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread");
    let in_sample = Nb2Params {
        scoring: Scoring::InSample,
        mask_rounds: 0,
        pooling: false,
        fourier_k: FourierK::Fixed(1),
        event_scan: false,
        ..Nb2Params::default()
    };
    let classic = Nb2::new(in_sample).expect("valid");
    let default = Nb2::new(Nb2Params::default()).expect("valid");
    let cross = ScoringPlan::CrossFitted { block: 4 };
    let mut group = criterion.benchmark_group("nb2, 1 thread, 52 weeks");
    group.throughput(Throughput::Elements(SERIES as u64)).sample_size(20);
    group.bench_function("fit in sample", |b| {
        b.iter(|| pool.install(|| black_box(classic.fit(&panel, &mask, &context).is_ok())));
    });
    group.bench_function("fit and score in sample", |b| {
        b.iter(|| {
            pool.install(|| black_box(classic.fit_score(&panel, &mask, cross, &context).is_ok()))
        });
    });
    group.bench_function("pool, calibrate, mask, find events, score cross-fitted", |b| {
        b.iter(|| {
            pool.install(|| black_box(default.fit_score(&panel, &mask, cross, &context).is_ok()))
        });
    });
    group.finish();
    update(criterion, &default, &panel);
}

/// One new week of one series after another.
fn update(criterion: &mut Criterion, nb2: &Nb2, panel: &Panel) {
    let (mask, context) = (FitMask::all(panel), FitContext::new(1));
    let fitted = nb2.fit(panel, &mask, &context).expect("a fit");
    let fitted = fitted.as_any().downcast_ref::<FittedNb2>().expect("NB2");
    let mut stream = fitted.stream(panel, &mask, &context).expect("a stream");
    let mut next = 0;
    let mut group = criterion.benchmark_group("nb2, 1 thread");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    group.bench_function("update one series by one week", |b| {
        b.iter(|| {
            let (series, week) = (next % SERIES, next / SERIES % WEEKS);
            next += 1;
            let step = Nb2Step::count(panel.values()[[series, week, 0]]);
            black_box(stream.update(series, 0, step))
        });
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
