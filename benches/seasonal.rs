//! Fit and score speed of the seasonal profile and the two plain baselines.
//!
//! Hourly: 24 brands × 90 days × 5 metrics, fitted on 60 %, everything scored. Weekly: 1,000 series
//! of 52 weeks, cross-fitted in blocks of four weeks (fourteen fits each). Seeds are fixed, panels
//! are built outside the timing. The peer is a pandas script with one median per hour of the week.

use anomalist::{
    detectors::{
        Detector, FitContext, FitMask, ScoringPlan,
        rolling::{RollingDetector, RollingParams},
        seasonal_profile::{SeasonalProfileDetector, SeasonalProfileParams},
        zscore::{ZscoreDetector, ZscoreParams},
    },
    math::random::stream,
    panel::{Calendar, Level, Metric, MetricKind, Panel, SeriesKey, Step},
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use jiff::tz::TimeZone;
use ndarray::Array3;
use rand_distr::{Distribution, Poisson};

#[allow(dead_code)] // the labels are for the tests
#[path = "support/funnel.rs"]
mod funnel;

fn panel(step: Step, metrics: Vec<Metric>, values: Array3<f64>) -> Panel {
    let (series, times, _) = values.dim();
    Panel::new(
        Level { name: "key".into(), id_columns: vec!["key".into()] },
        Calendar::new(step, 1_767_571_200, times, TimeZone::UTC),
        metrics,
        (0..series).map(|i| SeriesKey(vec![i.to_string()])).collect(),
        vec![0..times; series],
        values,
    )
    .expect("the shapes fit")
}

fn metric(name: &str, kind: MetricKind) -> Metric {
    Metric { name: name.into(), kind }
}

fn hourly() -> Panel {
    let funnel = funnel::simulate(&mut stream(1, "funnel", 0), 24, 90);
    let ratio = MetricKind::Ratio { numerator: "purchases".into(), denominator: "views".into() };
    let metrics = vec![
        metric("views", MetricKind::Count),
        metric("carts", MetricKind::Count),
        metric("purchases", MetricKind::Count),
        metric("revenue", MetricKind::Amount),
        metric("conversion_rate", ratio),
    ];
    panel(Step::HOUR, metrics, funnel.values)
}

fn weekly() -> Panel {
    let mut rng = stream(1, "weekly bench", 0);
    let values = Array3::from_shape_fn((1_000, 52, 1), |(series, _, _)| {
        let mean = 0.3 * 700.0_f64.powf(series as f64 / 999.0);
        Poisson::new(mean).map_or(0.0, |p| p.sample(&mut rng))
    });
    panel(Step::Week, vec![metric("count", MetricKind::Count)], values)
}

fn bench(c: &mut Criterion) {
    let profile = SeasonalProfileDetector::new(SeasonalProfileParams::default()).expect("defaults");
    let zscore = ZscoreDetector::new(ZscoreParams::default()).expect("defaults");
    let rolling = RollingDetector::new(RollingParams::default()).expect("defaults");
    let context = FitContext::new(1);
    let cases: [(&str, Panel, ScoringPlan); 2] = [
        ("hourly cells", hourly(), ScoringPlan::Split { train_len: 1_296 }),
        ("weekly series", weekly(), ScoringPlan::CrossFitted { block: 4 }),
    ];
    for (name, panel, plan) in cases {
        let mask = FitMask::all(&panel);
        let mut group = c.benchmark_group(name);
        let units =
            if name.starts_with("weekly") { panel.n_series() } else { panel.values().len() };
        group.throughput(Throughput::Elements(units as u64)).sample_size(10);
        let detectors: [&dyn Detector; 3] = [&profile, &zscore, &rolling];
        for detector in detectors {
            group.bench_function(detector.name().as_str(), |b| {
                b.iter(|| detector.fit_score(&panel, &mask, plan, &context).expect("scores"));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
