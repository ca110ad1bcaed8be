use jiff::tz::TimeZone;
use rand_distr::{Distribution, StandardNormal};

use super::*;
use crate::{
    math::random::stream,
    panel::{Calendar, Level, Metric, Step},
};

const HOURS: usize = 600;

fn values(seed: u64) -> Array3<f64> {
    let mut rng = stream(seed, "spectral residual", 0);
    Array3::from_shape_fn((2, HOURS, 2), |(s, t, m)| {
        let day = (std::f64::consts::TAU * t as f64 / 24.0).sin();
        let noise: f64 = StandardNormal.sample(&mut rng);
        10.0 * (1 + s + m) as f64 + 5.0 * day + 0.5 * noise
    })
}

fn panel(values: Array3<f64>) -> Panel {
    let measure = |name: &str| Metric { name: name.into(), kind: MetricKind::Measure };
    let (n, hours, _) = values.dim();
    Panel::new(
        Level { name: "host".into(), id_columns: vec!["host".into()] },
        Calendar::new(Step::HOUR, 1_767_571_200, hours, TimeZone::UTC),
        vec![measure("load"), measure("latency")],
        (0..n).map(|i| SeriesKey(vec![format!("host {i}")])).collect(),
        vec![0..hours; n],
        values,
    )
    .unwrap()
}

fn detector() -> SpectralResidual {
    SpectralResidual::new(SpectralResidualParams::default()).unwrap()
}

fn run(panel: &Panel, mask: &FitMask) -> (Box<dyn FittedDetector>, Scores) {
    let context = FitContext::new(1);
    let fitted = detector().fit(panel, mask, &context).unwrap();
    let scores = fitted.score(panel, mask, &context).unwrap();
    (fitted, scores)
}

/// tests/golden/spectral_residual.py, numpy 2.4.6. Two transforms of a few hundred points each.
#[test]
fn saliency_is_that_of_an_independent_transform() {
    #[derive(Deserialize)]
    struct Case {
        average: usize,
        values: Vec<f64>,
        saliency: Vec<f64>,
    }
    let golden = include_str!("../../../tests/golden/spectral_residual.json");
    for case in serde_json::from_str::<Vec<Case>>(golden).unwrap() {
        let found = saliency(&case.values, case.average);
        for (a, b) in found.iter().zip(&case.saliency) {
            assert!((a - b).abs() < 1e-8, "{a} is not {b}");
        }
        let top = (0..found.len()).max_by(|a, b| found[*a].abs().total_cmp(&found[*b].abs()));
        assert_eq!(top, Some(case.values.len() / 2));
    }
}

#[test]
fn spikes_and_drops_score_high_with_direction_and_share() {
    let mut changed = values(1);
    changed.slice_mut(s![0, 300..304, 0]).mapv_inplace(|v| v + 6.0);
    changed.slice_mut(s![1, 450..454, 1]).mapv_inplace(|v| v - 6.0);
    let panel = panel(changed);
    let (_, scores) = run(&panel, &FitMask::all(&panel));
    let share = scores.metric_share.as_ref().unwrap();
    for (series, time, metric, direction) in [(0, 301, 0, 1), (1, 451, 1, -1)] {
        let row = scores.score.row(series);
        let far = |t: &usize| t.abs_diff(time) > 8;
        let clean = (8..HOURS - 8).filter(far).map(|t| row[t]).fold(0.0, f64::max);
        assert!(row[time] > 1.2 * clean, "{} is not above {clean}", row[time]);
        assert_eq!(scores.direction[[series, time]], direction);
        assert!(share[[series, time, metric]] > 0.8);
    }
    for (cell, score) in scores.score.indexed_iter() {
        let sum = share.slice(s![cell.0, cell.1, ..]).sum();
        assert!(score.is_finite() && (sum - 1.0).abs() < 1e-5, "{cell:?}: {score}, {sum}");
    }
}

/// The daily wave is ten times the noise, and nothing of it is left in the score.
#[test]
fn a_season_is_not_salient() {
    let panel = panel(values(2));
    let (_, scores) = run(&panel, &FitMask::all(&panel));
    let at = |hour: usize| scores.score.row(0).iter().skip(24 + hour).step_by(24).sum::<f64>();
    let (peak, flank) = (at(6), at(0));
    assert!((peak / flank - 1.0).abs() < 0.3, "{peak} {flank}");
}

#[test]
fn the_newest_step_can_stand_out() {
    let mut changed = values(3);
    changed[[0, HOURS - 1, 0]] += 8.0;
    let panel = panel(changed);
    let (_, scores) = run(&panel, &FitMask::all(&panel));
    let row = scores.score.row(0);
    let higher = row.iter().filter(|score| **score > row[HOURS - 1]).count();
    assert!(higher < 8, "{higher} steps score higher");
    assert!(row.iter().rev().take(3).all(|score| *score > 1.5 * row.mean().unwrap()));
}

#[test]
fn gaps_are_bridged_and_stay_without_a_score() {
    let mut gaps = values(4);
    gaps.slice_mut(s![0, 200..220, ..]).fill(f64::NAN);
    gaps.slice_mut(s![0, 0..3, ..]).fill(f64::NAN);
    let panel = panel(gaps);
    let (_, scores) = run(&panel, &FitMask::all(&panel));
    let row = scores.score.row(0);
    assert_eq!(row.iter().filter(|score| score.is_nan()).count(), 23);
    assert!(row[210].is_nan() && row[199].is_finite() && row[220].is_finite());
    assert_eq!(bridged([f64::NAN, 1.0, f64::NAN, 3.0].into_iter()), Some(vec![1.0, 1.0, 2.0, 3.0]));
    assert_eq!(bridged([f64::NAN].into_iter()), None);
}

#[test]
fn only_allowed_cells_tell_what_is_usual() {
    let mut noisy = values(5);
    noisy.slice_mut(s![.., 300.., ..]).mapv_inplace(|v| 20.0 + (v * 977.0).sin() * 30.0);
    let panel = panel(noisy);
    let all = FitMask::all(&panel);
    let mut quiet = all.clone();
    quiet.forbid_times(300..HOURS);
    let (a, b) = (run(&panel, &all).1, run(&panel, &quiet).1);
    assert!(b.score[[0, 400]] > 1.5 * a.score[[0, 400]]);
}

#[test]
fn a_checkpoint_scores_alike_and_a_forged_one_is_refused() {
    let panel = panel(values(6));
    let mask = FitMask::all(&panel);
    let (fitted, scores) = run(&panel, &mask);
    let state = fitted.state().unwrap();
    let json = serde_json::from_str(&serde_json::to_string(&state.json).unwrap()).unwrap();
    let context = FitContext::new(1);
    let back = detector().restore(DetectorState { json, weights: None }, &context).unwrap();
    let again = back.score(&panel, &mask, &context).unwrap();
    assert!(scores.score.iter().zip(&again.score).all(|(a, b)| a.to_bits() == b.to_bits()));
    for (path, value) in [
        ("/usual", serde_json::json!([])),
        ("/usual/0", serde_json::json!([])),
        ("/usual/0/0", serde_json::json!(-1.0)),
        ("/params/average_bins", serde_json::json!(4)),
    ] {
        let mut wrong = state.clone();
        *wrong.json.pointer_mut(path).unwrap() = value;
        assert!(detector().restore(wrong, &context).is_err(), "{path}");
    }
}

#[test]
fn what_cannot_be_scored_is_listed() {
    let mut odd = values(7);
    odd.slice_mut(s![1, 10.., ..]).fill(f64::NAN);
    odd.slice_mut(s![0, .., 1]).fill(7.0);
    let panel = panel(odd);
    let (_, scores) = run(&panel, &FitMask::all(&panel));
    assert_eq!(scores.failures.iter().map(|f| f.series).collect::<Vec<_>>(), [1]);
    assert!(scores.score.row(0).iter().all(|score| score.is_finite()));
    let share = scores.metric_share.as_ref().unwrap();
    assert!(share.slice(s![0, .., 1]).iter().all(|share| *share < 1e-6), "constant");
}

#[test]
fn parameters_out_of_range_are_named() {
    let ok = SpectralResidualParams::default();
    assert!(ok.check().is_empty());
    for (average_bins, smoothing_steps, name) in [
        (1, 8, "average_bins"),
        (4, 8, "average_bins"),
        (503, 8, "average_bins"),
        (3, 0, "smoothing_steps"),
        (3, 1_001, "smoothing_steps"),
    ] {
        let wrong = SpectralResidualParams { average_bins, smoothing_steps };
        assert_eq!(wrong.check()[0].0, name);
        assert!(SpectralResidual::new(wrong).is_err());
    }
    assert!(toml::from_str::<SpectralResidualParams>("bins = 3").is_err());
}
