//! The detector as a whole, on small panels.

use std::sync::{Mutex, atomic::Ordering};

use ndarray::{Array3, s};
use rand_distr::{Distribution, StandardNormal};

use super::{FittedLstm, Input, LstmAutoencoder, LstmParams, Objective};
use crate::{
    detectors::{
        Detector, DetectorError, DetectorState, FitContext, FitMask, FittedDetector, Scores,
        ScoringPlan,
    },
    math::random::stream,
    panel::{Calendar, Level, Metric, MetricKind, Panel, SeriesKey, Step},
};

/// Hourly views and orders of `n` series, which follow each other and the time of day.
fn values(n: usize, times: usize) -> Array3<f64> {
    let mut rng = stream(5, "lstm_test", 0);
    let mut out = Array3::zeros((n, times, 2));
    for series in 0..n {
        let base = 50.0 * (series + 1) as f64;
        for time in 0..times {
            let day = 1.0 + 0.5 * (time as f64 * std::f64::consts::TAU / 24.0).sin();
            let mut noise = || -> f64 { StandardNormal.sample(&mut rng) };
            let views = base * day * (1.0 + 0.05 * noise());
            out[[series, time, 0]] = views.round();
            out[[series, time, 1]] = (0.3 * views * (1.0 + 0.05 * noise())).round();
        }
    }
    out
}

fn panel(values: Array3<f64>) -> Panel {
    let (n, times, _) = values.dim();
    let spans = vec![0..times; n];
    panel_with_spans(values, spans)
}

fn panel_with_spans(values: Array3<f64>, spans: Vec<std::ops::Range<usize>>) -> Panel {
    let (n, times, metrics) = values.dim();
    let names = ["views", "orders"];
    Panel::new(
        Level { name: "shop".into(), id_columns: vec!["shop".into()] },
        Calendar::new(Step::HOUR, 0, times, jiff::tz::TimeZone::UTC),
        names[..metrics]
            .iter()
            .map(|name| Metric { name: (*name).into(), kind: MetricKind::Count })
            .collect(),
        (0..n).map(|i| SeriesKey(vec![format!("shop {i}")])).collect(),
        spans,
        values,
    )
    .unwrap()
}

fn tiny() -> LstmParams {
    LstmParams {
        window_steps: 24,
        hidden: 12,
        encoding: 6,
        epochs: 8,
        batch_windows: 32,
        max_windows_per_epoch: 256,
        learning_rate: 5e-3,
        ..LstmParams::default()
    }
}

fn split(params: LstmParams, panel: &Panel) -> (Box<dyn FittedDetector>, Scores) {
    let detector = LstmAutoencoder::new(params).unwrap();
    let plan = ScoringPlan::Split { train_len: 400 };
    detector.fit_score(panel, &FitMask::all(panel), plan, &FitContext::new(1)).unwrap()
}

fn every_kind() -> [LstmParams; 5] {
    [
        (Input::SeasonalResidual, Objective::Reconstruction),
        (Input::LogScale, Objective::Reconstruction),
        (Input::SeasonalResidual, Objective::Forecast),
        (Input::LogScale, Objective::Forecast),
        (Input::SeasonalResidual, Objective::Both),
    ]
    .map(|(input, objective)| LstmParams { input, objective, ..tiny() })
}

#[test]
fn a_spike_and_a_drop_raise_the_score_and_give_the_direction() {
    let mut values = values(4, 600);
    values[[1, 500, 0]] *= 4.0;
    values[[2, 550, 1]] = 0.0;
    let panel = panel(values);
    for params in every_kind() {
        let (_, scores) = split(params.clone(), &panel);
        let mut normal: Vec<f64> = scores.score.slice(s![0, 420..]).to_vec();
        normal.sort_by(f64::total_cmp);
        let usual = normal[normal.len() / 2];
        for (series, time, direction, metric) in [(1, 500, 1, 0), (2, 550, -1, 1)] {
            let score = scores.score[[series, time]];
            assert!(score > 3.0 * usual, "{params:?}: {score} against {usual}");
            assert_eq!(scores.direction[[series, time]], direction, "{params:?}");
            let share = scores.metric_share.as_ref().unwrap()[[series, time, metric]];
            assert!(share > 0.5, "{params:?}: {share}");
        }
        let expected = scores.expected.unwrap()[[1, 500, 0]];
        let before = panel.values()[[1, 476, 0]];
        assert!((0.6..1.6).contains(&(expected / before)), "{params:?}: {expected}, {before}");
    }
}

#[test]
fn a_level_shift_stays_anomalous_while_it_lasts() {
    let mut values = values(4, 600);
    values.slice_mut(s![1, 480..560, ..]).mapv_inplace(|v| 3.0 * v);
    let panel = panel(values);
    let (_, scores) = split(LstmParams { input: Input::LogScale, ..tiny() }, &panel);
    let usual = scores.score.slice(s![0, 420..]).mean().unwrap();
    // A window is 24 steps: were windows scaled on their own, the shift would be gone by now.
    let shifted = scores.score.slice(s![1, 510..560]).mean().unwrap();
    assert!(shifted > 2.0 * usual, "{shifted} against {usual}");
}

#[test]
fn the_same_seed_gives_the_same_scores_on_any_number_of_threads() {
    let panel = panel(values(3, 450));
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| split(LstmParams { epochs: 2, ..tiny() }, &panel).1)
    };
    let (first, second) = (on(1), on(3));
    assert_eq!(first.score, second.score);
    assert_eq!(first.expected, second.expected);
}

#[test]
fn what_comes_after_the_training_part_does_not_change_the_training() {
    let clean = values(3, 600);
    let mut dirty = clean.clone();
    dirty.slice_mut(s![.., 450.., ..]).mapv_inplace(|v| 10.0 * v);
    let params = LstmParams { epochs: 2, ..tiny() };
    let (_, a) = split(params.clone(), &panel(clean));
    let (_, b) = split(params, &panel(dirty));
    assert_eq!(a.score.slice(s![.., ..450]), b.score.slice(s![.., ..450]));
}

#[test]
fn missing_cells_are_not_scored_and_do_not_spoil_their_neighbours() {
    let mut values = values(3, 600);
    values.slice_mut(s![1, 500..505, ..]).fill(f64::NAN);
    values.slice_mut(s![2, 510..600, 1]).fill(f64::NAN);
    let panel = panel(values);
    let (_, scores) = split(tiny(), &panel);
    for time in 0..600 {
        assert_eq!(scores.score[[1, time]].is_nan(), (500..505).contains(&time), "{time}");
        assert!(scores.score[[2, time]].is_finite(), "{time}");
    }
    assert!(scores.failures.is_empty());
}

#[test]
fn a_series_that_the_fit_did_not_see_is_scored_by_its_own_scale() {
    let all = values(5, 600);
    for params in every_kind() {
        let params = LstmParams { epochs: 3, ..params };
        let (fitted, _) = split(params, &panel(all.slice(s![..4, .., ..]).to_owned()));
        let mut more = all.clone();
        more.slice_mut(s![4, .., ..]).mapv_inplace(|v| 20.0 * v);
        more[[4, 500, 0]] *= 4.0;
        let more = panel(more);
        let scores = fitted.score(&more, &FitMask::all(&more), &FitContext::new(1)).unwrap();
        assert!(scores.failures.is_empty());
        let usual = scores.score.slice(s![4, 420..490]).mean().unwrap();
        assert!(usual < 3.0 && scores.score[[4, 500]] > 3.0 * usual, "{usual}");
    }
}

#[test]
fn a_series_too_short_for_a_window_is_listed_and_the_others_are_scored() {
    let panel = panel_with_spans(values(3, 600), vec![0..600, 580..600, 0..600]);
    let (_, scores) = split(LstmParams { epochs: 1, ..tiny() }, &panel);
    assert_eq!(scores.failures.len(), 1);
    assert_eq!(scores.failures[0].series, 1);
    assert!(scores.failures[0].reason.contains("window_steps"));
    assert!(scores.score.row(1).iter().all(|score| score.is_nan()));
    assert!(scores.score.row(2).iter().all(|score| score.is_finite()));
}

#[test]
fn nothing_to_train_on_is_an_error_that_says_what_to_do() {
    let panel = panel(values(2, 20));
    let detector = LstmAutoencoder::new(tiny()).unwrap();
    let Err(error) = detector.fit(&panel, &FitMask::all(&panel), &FitContext::new(1)) else {
        panic!("20 steps are no window of 24");
    };
    assert!(error.to_string().contains("lower `window_steps`"), "{error}");
}

#[test]
fn a_cross_fit_scores_every_series_by_a_network_that_did_not_see_it() {
    let panel = panel(values(4, 120));
    let detector = LstmAutoencoder::new(LstmParams { epochs: 2, ..tiny() }).unwrap();
    let mask = FitMask::all(&panel);
    let context = FitContext::new(1);
    let scored = |plan| detector.fit_score(&panel, &mask, plan, &context).unwrap().1;
    let crossed = scored(ScoringPlan::CrossFitted { block: 4 });
    assert!(crossed.score.iter().all(|score| score.is_finite()));
    assert_ne!(crossed.score, scored(ScoringPlan::InSample).score);
}

#[test]
fn a_year_of_weeks_is_cross_fitted_with_a_short_window() {
    let mut rng = stream(6, "lstm_test", 0);
    let mut weeks = Array3::from_shape_fn((20, 52, 1), |(series, _, _)| {
        let noise: f64 = StandardNormal.sample(&mut rng);
        let mean = 20.0 * (series + 1) as f64;
        (mean + 1.5 * mean.sqrt() * noise).round().max(0.0)
    });
    weeks[[3, 30, 0]] *= 4.0;
    let hourly = panel(weeks.clone());
    let calendar = Calendar::new(Step::Week, 0, 52, jiff::tz::TimeZone::UTC);
    let (level, keys) = (hourly.level().clone(), hourly.keys().to_vec());
    let metrics = hourly.metrics().to_vec();
    let panel = Panel::new(level, calendar, metrics, keys, vec![0..52; 20], weeks).unwrap();
    let detector = LstmAutoencoder::new(LstmParams { window_steps: 12, ..tiny() }).unwrap();
    let plan = ScoringPlan::CrossFitted { block: 4 };
    let (_, scores) =
        detector.fit_score(&panel, &FitMask::all(&panel), plan, &FitContext::new(1)).unwrap();
    assert!(scores.score.iter().all(|score| score.is_finite()));
    assert!(scores.metric_share.is_none() && scores.failures.is_empty());
    let highest = scores.score.iter().copied().fold(0.0, f64::max);
    assert_eq!(scores.score[[3, 30]], highest);
    assert_eq!(scores.direction[[3, 30]], 1);
}

#[test]
fn masked_cells_teach_nothing() {
    let mut wild = values(3, 450);
    let mut mask = FitMask::all(&panel(wild.clone()));
    let params = LstmParams { epochs: 2, input: Input::LogScale, ..tiny() };
    let detector = LstmAutoencoder::new(params).unwrap();
    for time in 100..140 {
        mask.forbid(1, time);
    }
    let fit = |values: &Array3<f64>| {
        let panel = panel(values.clone());
        let fitted = detector.fit(&panel, &mask, &FitContext::new(1)).unwrap();
        fitted.state().unwrap().weights
    };
    let before = fit(&wild);
    wild.slice_mut(s![1, 100..140, ..]).mapv_inplace(|v| 9.0 * v);
    assert!(before == fit(&wild), "the weights differ");
}

#[test]
fn training_lowers_the_held_out_loss() {
    let panel = panel(values(4, 600));
    let (fitted, _) = split(LstmParams { input: Input::LogScale, ..tiny() }, &panel);
    let curve = fitted.as_any().downcast_ref::<FittedLstm>().unwrap().curve();
    assert!(curve.stopped.is_none());
    assert!(curve.epochs[curve.best_epoch].1 < 0.7 * curve.epochs[0].1, "{curve:?}");
}

#[test]
fn every_network_that_stopped_early_says_why() {
    let params = LstmParams { objective: Objective::Both, ..tiny() };
    let (fitted, _) = split(params, &panel(values(2, 200)));
    let mut fitted = fitted.as_any().downcast_ref::<FittedLstm>().unwrap().clone();
    assert!(fitted.stopped().is_empty());
    fitted.views[1].curve.stopped = Some("the loss became NaN".into());
    assert_eq!(fitted.stopped(), ["the forecaster: the loss became NaN"]);
}

#[test]
fn a_cancelled_fit_stops() {
    let panel = panel(values(2, 200));
    let context = FitContext::new(1);
    context.cancelled.store(true, Ordering::Relaxed);
    let detector = LstmAutoencoder::new(tiny()).unwrap();
    let result = detector.fit(&panel, &FitMask::all(&panel), &context);
    assert!(matches!(result, Err(DetectorError::Cancelled)));
}

#[test]
fn a_parameter_out_of_range_is_refused() {
    let result = LstmAutoencoder::new(LstmParams { hidden: 0, ..tiny() });
    assert!(matches!(result, Err(DetectorError::Parameter { parameter: "hidden", .. })));
}

#[test]
fn a_checkpoint_scores_as_the_detector_that_wrote_it() {
    let panel = panel(values(3, 450));
    for params in every_kind() {
        let detector = LstmAutoencoder::new(LstmParams { epochs: 1, ..params }).unwrap();
        let context = FitContext::new(1);
        let fitted = detector.fit(&panel, &FitMask::all(&panel), &context).unwrap();
        let text = fitted.state().unwrap().json.to_string();
        let state = DetectorState {
            json: serde_json::from_str(&text).unwrap(),
            weights: fitted.state().unwrap().weights,
        };
        let restored = detector.restore(state, &context).unwrap();
        let scores = fitted.score(&panel, &FitMask::all(&panel), &context).unwrap().score;
        let again = restored.score(&panel, &FitMask::all(&panel), &context).unwrap().score;
        // The text form of a number may lose its last bit.
        for (a, b) in scores.iter().zip(&again) {
            assert!((a - b).abs() <= 1e-9 * a.abs() || (a.is_nan() && b.is_nan()), "{a}, {b}");
        }
    }
}

/// The state of a small fitted detector; fitted once for all tests that spoil it.
fn state() -> DetectorState {
    static STATE: Mutex<Option<DetectorState>> = Mutex::new(None);
    let mut state = STATE.lock().unwrap();
    let state = state.get_or_insert_with(|| {
        let panel = panel(values(2, 200));
        let detector = LstmAutoencoder::new(LstmParams { epochs: 1, ..tiny() }).unwrap();
        let fitted = detector.fit(&panel, &FitMask::all(&panel), &FitContext::new(1)).unwrap();
        fitted.state().unwrap()
    });
    state.clone()
}

fn restore(state: DetectorState) -> Result<(), DetectorError> {
    let detector = LstmAutoencoder::new(tiny()).unwrap();
    detector.restore(state, &FitContext::new(1)).map(|_| ())
}

fn assert_refused(state: DetectorState, what: &str) {
    match restore(state) {
        Err(DetectorError::State { reason, .. }) => {
            assert!(reason.contains("train again"), "{what}: {reason}");
        }
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn truncated_or_foreign_weights_are_refused() {
    assert!(restore(state()).is_ok());
    let weights = state().weights.unwrap();
    for len in [0, 1, 7, 8, 100, weights.len() / 2, weights.len() - 1] {
        let cut = DetectorState { weights: Some(weights[..len].to_vec()), ..state() };
        assert_refused(cut, &format!("{len} bytes"));
    }
    assert_refused(DetectorState { weights: None, ..state() }, "none");
    let noise = (0..5_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert_refused(DetectorState { weights: Some(noise), ..state() }, "noise");
}

#[test]
fn flipped_bits_never_panic_and_a_weight_that_is_no_number_is_refused() {
    let weights = state().weights.unwrap();
    let header = 8 + u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    for at in (0..header).chain((header..weights.len()).step_by(97)) {
        let mut flipped = weights.clone();
        flipped[at] ^= 1 << (at % 8);
        let _ = restore(DetectorState { weights: Some(flipped), ..state() });
    }
    let mut nan = weights;
    let at = nan.len() - 4;
    nan[at..].copy_from_slice(&f32::NAN.to_le_bytes());
    assert_refused(DetectorState { weights: Some(nan), ..state() }, "NaN");
}

#[test]
fn readable_state_of_another_shape_is_refused() {
    let changes: [fn(&mut serde_json::Value); 8] = [
        |json| json["params"]["hidden"] = 13.into(),
        |json| json["params"]["window_steps"] = 0.into(),
        |json| json["metrics"] = serde_json::json!(["views"]),
        |json| json["keys"] = serde_json::json!([["shop 0"]]),
        |json| {
            json["views"][0]["errors"]["widths"][0]["pooled"]["spread"] =
                serde_json::json!([0.0, 1.0]);
        },
        |json| json["surprise"] = 1.into(),
        |json| json["views"][1] = serde_json::Value::Null,
        |json| drop(json["views"].as_array_mut().map(Vec::pop)),
    ];
    for (place, change) in changes.into_iter().enumerate() {
        let mut spoiled = state();
        change(&mut spoiled.json);
        assert_refused(spoiled, &format!("change {place}"));
    }
}

#[test]
fn data_with_other_metrics_are_refused_with_a_remedy() {
    let detector = LstmAutoencoder::new(tiny()).unwrap();
    let fitted = detector.restore(state(), &FitContext::new(1)).unwrap();
    let other = panel(values(2, 200).slice(s![.., .., ..1]).to_owned());
    let error = fitted.score(&other, &FitMask::all(&other), &FitContext::new(1)).unwrap_err();
    assert!(error.to_string().contains("same metrics"), "{error}");
}
