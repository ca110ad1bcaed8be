//! Speed of records: fitting features and both forests, and scoring.
//!
//! 20,000 made-up records in nine contexts, eight features, the models of `configs/records.toml`.
//! Seeds are fixed and the records are made outside the timing. The peer is the third document's
//! service, at most 8,600 records a second.

use std::sync::Arc;

use anomalist::{
    config::RecordsSection,
    detectors::{isolation_forest, random_cut_forest},
    features::records::{BurstState, RecordFeatures},
    math::random::stream,
    panel::{RecordBlock, WordColumn},
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

const ROWS: usize = 20_000;

fn records() -> RecordBlock {
    let mut rng = stream(1, "records bench", 0);
    let mut block = RecordBlock { n_numbers: 6, ..RecordBlock::default() };
    let mut codes = vec![Vec::new(); 3];
    for row in 0..ROWS {
        let (channel, language, queue) =
            (rng.random_range(0..3_u32), rng.random_range(0..4_u32), rng.random_range(0..3_u32));
        for number in 0..6 {
            let z: f64 = StandardNormal.sample(&mut rng);
            block.numbers.push(f64::from(10 * channel + 3 * queue + number) + z.abs());
        }
        block.times.push(row as i64 * 90);
        for (codes, code) in codes.iter_mut().zip([channel, language, queue]) {
            codes.push(code);
        }
    }
    let words = |n: usize| Arc::new((0..n).map(|i| format!("w{i}")).collect::<Vec<_>>());
    block.words = codes
        .into_iter()
        .zip([3, 4, 3])
        .map(|(codes, n)| WordColumn { vocabulary: words(n), codes })
        .collect();
    block
}

fn bench(criterion: &mut Criterion) {
    let section = RecordsSection::default();
    let block = records();
    let mut group = criterion.benchmark_group("records");
    group.throughput(Throughput::Elements(ROWS as u64)).sample_size(10);
    group.bench_function("fit features", |b| {
        b.iter(|| RecordFeatures::fit(&block, &section.features).expect("enough rows"));
    });
    let features = RecordFeatures::fit(&block, &section.features).expect("enough rows");
    group.bench_function("transform", |b| {
        b.iter(|| features.transform(&block, &mut BurstState::default()));
    });
    let values = features.transform(&block, &mut BurstState::default()).values;
    let (p, q) = (&section.iforest, &section.rcf);
    let forest = isolation_forest::forest::Forest::fit(values.view(), p.trees, p.sample_rows, 1)
        .expect("enough rows");
    group.bench_function("score, isolation forest", |b| b.iter(|| forest.score(values.view())));
    let cuts = random_cut_forest::forest::Forest::fit(values.view(), q.trees, q.sample_rows, 1)
        .expect("enough rows");
    group.bench_function("score, random cut forest", |b| b.iter(|| cuts.score(values.view())));
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
