//! A network that was trained on the CPU scores the same on the first GPU adapter, be it a software
//! rasteriser. Tiny shapes: on such a rasteriser every step of the network is slow.
//!
//! Where there is no adapter at all the test says so and passes, unless `ANOMALIST_REQUIRE_GPU=1`
//! is set, as it is where the test must not be skipped.

use anomalist::{
    detectors::{
        Detector, FitContext, FitMask, FittedDetector, Scores,
        lstm_autoencoder::{LstmAutoencoder, LstmParams, Objective},
    },
    device::{self, DeviceChoice},
    panel::{Calendar, Level, Metric, MetricKind, Panel, SeriesKey, Step},
};
use ndarray::Array3;

const TIMES: usize = 60;

fn panel() -> Panel {
    let values = Array3::from_shape_fn((2, TIMES, 2), |(series, time, metric)| {
        let wobble = ((series * 7 + time * 13 + metric * 5) % 11) as f64;
        100.0 * (series + metric + 1) as f64 + 8.0 * wobble
    });
    let metric = |name: &str| Metric { name: name.into(), kind: MetricKind::Count };
    Panel::new(
        Level { name: "shop".into(), id_columns: vec!["shop".into()] },
        Calendar::new(Step::HOUR, 0, TIMES, jiff::tz::TimeZone::UTC),
        vec![metric("views"), metric("orders")],
        (0..2).map(|i| SeriesKey(vec![format!("shop {i}")])).collect(),
        vec![0..TIMES; 2],
        values,
    )
    .expect("the shapes fit")
}

fn params() -> LstmParams {
    LstmParams {
        window_steps: 6,
        hidden: 8,
        encoding: 4,
        epochs: 2,
        batch_windows: 16,
        max_windows_per_epoch: 32,
        ..LstmParams::default()
    }
}

/// The first adapter, or `None` where the machine has none and may have none.
fn gpu() -> Option<FitContext> {
    if device::list().adapters.is_empty() {
        let required = std::env::var_os("ANOMALIST_REQUIRE_GPU").is_some_and(|value| value == "1");
        assert!(!required, "no GPU adapter: {:?}", device::list().no_gpu_reason);
        println!("skipped: no GPU adapter ({:?})", device::list().no_gpu_reason);
        return None;
    }
    let (device, warnings) = device::choose(DeviceChoice::Gpu).expect("the adapter starts");
    println!("on {}: {warnings:?}", device.name());
    assert!(!device.is_cpu());
    Some(FitContext { device, ..FitContext::new(3) })
}

fn assert_same(cpu: &Scores, gpu: &Scores) {
    for (a, b) in cpu.score.iter().zip(&gpu.score) {
        let close = (a - b).abs() <= 1e-3 * a.abs().max(1e-2);
        assert!(close || (a.is_nan() && b.is_nan()), "{a} on the CPU, {b} on the GPU");
    }
    assert!(cpu.score.iter().any(|score| *score > 0.1));
}

#[test]
fn a_network_trained_on_the_cpu_scores_the_same_on_a_gpu() {
    let Some(gpu) = gpu() else { return };
    let (panel, cpu) = (panel(), FitContext::new(3));
    let detector = LstmAutoencoder::new(params()).expect("the parameters are in range");
    let fitted = detector.fit(&panel, &FitMask::all(&panel), &cpu).expect("it trains");
    let on_cpu = fitted.score(&panel, &FitMask::all(&panel), &cpu).expect("it scores on the CPU");
    let restored = fitted.state().and_then(|state| detector.restore(state, &gpu));
    let restored = restored.expect("the checkpoint is sound");
    let on_gpu = restored.score(&panel, &FitMask::all(&panel), &gpu).expect("it scores on the GPU");
    assert_same(&on_cpu, &on_gpu);
}

#[test]
fn a_network_trains_on_a_gpu_as_on_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let (panel, cpu) = (panel(), FitContext::new(3));
    let params = LstmParams { epochs: 1, max_windows_per_epoch: 16, ..params() };
    let detector = LstmAutoencoder::new(params).expect("the parameters are in range");
    let score = |context: &FitContext| {
        let fitted = detector.fit(&panel, &FitMask::all(&panel), context).expect("it trains");
        fitted.score(&panel, &FitMask::all(&panel), &cpu).expect("it scores")
    };
    assert_same(&score(&cpu), &score(&gpu));
}

#[test]
fn a_checkpoint_trained_on_a_gpu_scores_the_same_on_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let (panel, cpu) = (panel(), FitContext::new(3));
    for objective in [Objective::Reconstruction, Objective::Forecast] {
        let params = LstmParams { objective, hidden: 10, horizon_steps: 2, ..params() };
        let detector = LstmAutoencoder::new(params).expect("the parameters are in range");
        let fitted = detector.fit(&panel, &FitMask::all(&panel), &gpu).expect("it trains");
        let restored = fitted.state().and_then(|state| detector.restore(state, &cpu));
        let restored = restored.expect("the checkpoint is sound");
        let score = |fitted: &dyn FittedDetector, context: &FitContext| {
            fitted.score(&panel, &FitMask::all(&panel), context).expect("it scores")
        };
        assert_same(&score(&*restored, &cpu), &score(&*fitted, &gpu));
    }
}
