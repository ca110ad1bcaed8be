//! Speed of the forests and of the local outlier factor, in CPU seconds of one thread.
//!
//! 100 trees on 256 rows of 8 standard normal features, the first fiftieth of the rows four times as
//! wide. Time is the thread's own CPU time where the system tells it (Linux), so that figures hold on
//! a busy machine too. Peers on the same kind of data: `benches/peers/iforest_sklearn.py` and
//! `benches/peers/rrcf_python.py`, which run these benches and print the ratio.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use anomalist::{
    detectors::{isolation_forest, lof::factor::LocalOutlierFactor, random_cut_forest},
    math::random::stream,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ndarray::{Array2, Axis, s};
use rand_distr::{Distribution, StandardNormal};

const TREES: usize = 100;
const SAMPLE: usize = 256;

fn rows(n: usize) -> Array2<f64> {
    let mut rng = stream(0, "forest bench", 0);
    let mut rows = Array2::from_shape_simple_fn((n, 8), || StandardNormal.sample(&mut rng));
    rows.slice_mut(s![..n / 50, ..]).mapv_inplace(|v: f64| 4.0 * v);
    rows
}

/// CPU time of this thread so far; without the system's word, the time since the first call.
fn cpu_time() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|text| text.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| START.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

struct Bench<'a> {
    criterion: &'a mut Criterion,
    pool: rayon::ThreadPool,
}

impl Bench<'_> {
    /// Times `run` on the pool's one thread; it handles `elements` at a time.
    fn time<T>(
        &mut self,
        group: &str,
        name: &str,
        elements: usize,
        mut run: impl FnMut() -> T + Send,
    ) {
        let mut group = self.criterion.benchmark_group(group);
        group.throughput(Throughput::Elements(elements as u64)).sample_size(10);
        group.bench_function(name, |b| {
            b.iter_custom(|times| {
                self.pool.install(|| {
                    let start = cpu_time();
                    for _ in 0..times {
                        black_box(run());
                    }
                    cpu_time() - start
                })
            });
        });
        group.finish();
    }
}

fn bench(criterion: &mut Criterion) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread");
    let mut bench = Bench { criterion, pool };
    let rows = rows(100_000);
    let few = rows.slice(s![..2_000, ..]);

    let grow = || isolation_forest::forest::Forest::fit(rows.view(), TREES, SAMPLE, 0);
    let forest = grow().expect("a forest");
    bench.time("isolation forest", "fit", 1, grow);
    bench.time("isolation forest", "score", rows.nrows(), || forest.score(rows.view()));
    bench.time("isolation forest", "one row", 1, || forest.score_row(rows.row(5)));
    bench.time("isolation forest", "attribution", few.nrows(), || forest.attribution(few));

    let mut sliding =
        random_cut_forest::forest::SlidingForest::new(8, TREES, SAMPLE, 0).expect("a forest");
    sliding.push_all(rows.slice(s![2_000..3_000, ..]));
    let mut single = sliding.clone();
    bench.time("random cut forest", "score and update", few.nrows(), || sliding.push_all(few));
    bench.time("random cut forest", "score and update one by one", few.nrows(), || {
        few.axis_iter(Axis(0)).map(|row| single.push(row)).sum::<f64>()
    });
    let forest =
        random_cut_forest::forest::Forest::fit(rows.view(), TREES, SAMPLE, 0).expect("a forest");
    bench.time("random cut forest", "score", few.nrows(), || forest.score(few));

    let reference = rows.slice(s![3_000..7_096, ..]);
    let factor = LocalOutlierFactor::fit(reference, 20).expect("a factor");
    bench.time("local outlier factor", "score", few.nrows(), || factor.score(few));
}

criterion_group!(benches, bench);
criterion_main!(benches);
