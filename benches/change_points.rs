//! Speed of change-point detection, in CPU seconds of one thread.
//!
//! Standard normal noise about levels that change every 500 or 2,500 values, or never; the penalty is
//! 2 ln n, and a segment has at least 2 values. Set-up (running sums, the tree of medians) is timed too,
//! since the peer's is. Peer on the same signals: `benches/peers/pelt_ruptures.py`, which runs this
//! bench, compares the segmentations and prints the ratio.
//!
//! `ANOMALIST_CHANGE_SIGNALS=DIR` makes it write the signals and the changes found there and stop.

use std::{
    fs,
    hint::black_box,
    path::Path,
    time::{Duration, Instant},
};

use anomalist::{
    detectors::change_points::{
        online::{NormalNoise, RunLengths},
        pelt::{
            AbsoluteDeviation, Cost, CountLikelihood, GaussianKernel, SquaredDeviation, search,
        },
    },
    math::random::stream,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand_distr::{Distribution, StandardNormal};

const N: usize = 10_000;
const MIN_SIZE: usize = 2;

/// Levels go up and down by two standard deviations every `every` values; 0: never.
fn signal(n: usize, every: usize) -> Vec<f64> {
    let mut rng = stream(0, "change point bench", every as u64);
    let noise = std::iter::repeat_with(|| StandardNormal.sample(&mut rng));
    let level = |i: usize| match every {
        0 => 0.0,
        _ => 2.0 * ((i / every) % 2) as f64,
    };
    noise.take(n).enumerate().map(|(i, z): (usize, f64)| level(i) + z).collect()
}

fn penalty(n: usize) -> f64 {
    2.0 * (n as f64).ln()
}

/// CPU time of this thread so far; without the system's word, the time since the first call.
fn cpu_time() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let told = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|text| text.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| START.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

fn time<T>(
    criterion: &mut Criterion,
    group: &str,
    name: &str,
    elements: usize,
    run: impl Fn() -> T,
) {
    let mut group = criterion.benchmark_group(group);
    group.throughput(Throughput::Elements(elements as u64)).sample_size(10);
    group.bench_function(name, |b| {
        b.iter_custom(|times| {
            let start = cpu_time();
            for _ in 0..times {
                black_box(run());
            }
            cpu_time() - start
        });
    });
    group.finish();
}

fn changes(mut cost: impl Cost, penalty: f64) -> Vec<usize> {
    let n = cost.len();
    search(&mut cost, penalty, MIN_SIZE).changes(n)
}

fn write_signals(dir: &Path) {
    for every in [500, 2_500, 0] {
        let values = signal(N, every);
        let lines = |items: Vec<String>| items.join("\n") + "\n";
        let text = lines(values.iter().map(f64::to_string).collect());
        fs::write(dir.join(format!("signal_{every}.txt")), text).expect("a writable folder");
        let found = changes(SquaredDeviation::new(&values), penalty(N));
        let text = lines(found.iter().map(usize::to_string).collect());
        fs::write(dir.join(format!("changes_{every}.txt")), text).expect("a writable folder");
    }
}

fn bench(criterion: &mut Criterion) {
    if let Some(dir) = std::env::var_os("ANOMALIST_CHANGE_SIGNALS") {
        write_signals(Path::new(&dir));
        return;
    }
    for every in [500, 2_500, 0] {
        let values = signal(N, every);
        let counts: Vec<f64> = values.iter().map(|v| (8.0 + 2.0 * v).round().max(0.0)).collect();
        let ones = vec![1.0; N];
        let name = format!("every {every}");
        time(criterion, "pelt l2", &name, N, || {
            changes(SquaredDeviation::new(&values), penalty(N))
        });
        time(criterion, "pelt l1", &name, N, || {
            changes(AbsoluteDeviation::new(&values), 0.63 * penalty(N))
        });
        time(criterion, "pelt nb", &name, N, || {
            changes(CountLikelihood::new(&counts, &ones, 0.05), penalty(N))
        });
        time(criterion, "pelt rbf", &name, N, || {
            changes(GaussianKernel::new(&values, Some(0.25)), 0.5 * penalty(N))
        });
    }
    let values = signal(N, 500);
    time(criterion, "online", "normal", N, || {
        let model = NormalNoise::new(0.0, 0.1, 10.0, 10.0);
        let mut runs = RunLengths::new(model, 1.0 / 500.0, 5e-4);
        values.iter().for_each(|value| runs.observe(*value));
        runs.changed_within(6)
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
