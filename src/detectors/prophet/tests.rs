use jiff::tz::TimeZone;

use super::*;
use crate::{
    math::random::stream,
    panel::{Calendar, Level, Metric, Step},
};
use rand_distr::{Distribution, Poisson};

/// One of the reference's example series, or a simulated one, with its forecasts.
#[derive(Deserialize)]
struct Case {
    name: String,
    /// Seconds since 1970-01-01 of each row.
    times: Vec<f64>,
    values: Vec<f64>,
    /// Moments of the forecast, and what the reference says there.
    at: Vec<f64>,
    yhat: Vec<f64>,
    sigma: f64,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../../../tests/golden/prophet_reference.json")).unwrap()
}

#[test]
fn forecasts_are_the_references_within_one_per_cent_of_the_scale() {
    for case in cases() {
        let step_secs = case.times.windows(2).map(|t| t[1] - t[0]).fold(f64::INFINITY, f64::min);
        let history = History { times: &case.times, values: &case.values, step_secs };
        let model = Model::fit(&history, &ProphetParams::default()).unwrap();
        let largest = case.values.iter().fold(0.0_f64, |most, v| most.max(v.abs()));
        let mut row = Vec::new();
        let worst = case
            .at
            .iter()
            .zip(&case.yhat)
            .map(|(&at, yhat)| (model.forecast(at, &mut row).mean - yhat).abs() / largest)
            .fold(0.0, f64::max);
        assert!(worst < 0.01, "{}: {worst}", case.name);
        let noise = model.noise_sd() / (case.sigma * largest);
        assert!((noise - 1.0).abs() < 0.02, "{}: noise {noise}", case.name);
    }
}

fn hourly(hours: usize, seed: u64) -> Panel {
    let mut rng = stream(seed, "prophet", 0);
    let values = Array3::from_shape_fn((2, hours, 1), |(s, t, _)| {
        let day = (std::f64::consts::TAU * t as f64 / 24.0).sin();
        let mean = 200.0 * (1.0 + s as f64) * (1.0 + 0.5 * day) * (1.0 + 1e-4 * t as f64);
        Poisson::new(mean).unwrap().sample(&mut rng)
    });
    Panel::new(
        Level { name: "brand".into(), id_columns: vec!["brand".into()] },
        Calendar::new(Step::HOUR, 1_735_689_600, hours, TimeZone::UTC),
        vec![Metric { name: "views".into(), kind: MetricKind::Count }],
        vec![SeriesKey(vec!["a".into()]), SeriesKey(vec!["b".into()])],
        vec![0..hours; 2],
        values,
    )
    .unwrap()
}

fn detector() -> ProphetDetector {
    ProphetDetector::new(ProphetParams::default()).unwrap()
}

#[test]
fn a_spike_and_a_drop_score_high_and_their_neighbours_do_not() {
    let panel = hourly(24 * 40, 1);
    let mut values = panel.values().clone();
    values[[0, 900, 0]] *= 2.0;
    values[[1, 900, 0]] *= 0.4;
    let panel = Panel::new(
        panel.level().clone(),
        panel.calendar().clone(),
        panel.metrics().to_vec(),
        panel.keys().to_vec(),
        vec![0..panel.n_times(); 2],
        values,
    )
    .unwrap();
    let (_, scores) = detector()
        .fit_score(
            &panel,
            &FitMask::all(&panel),
            crate::detectors::ScoringPlan::Split { train_len: 24 * 30 },
            &FitContext::new(1),
        )
        .unwrap();
    for series in 0..2 {
        assert!(scores.score[[series, 900]] > 6.0, "{}", scores.score[[series, 900]]);
        assert!(scores.score[[series, 899]] < 4.0 && scores.score[[series, 901]] < 4.0);
    }
    assert_eq!((scores.direction[[0, 900]], scores.direction[[1, 900]]), (1, -1));
    let (lower, upper) = (scores.lower.unwrap(), scores.upper.unwrap());
    let cells = 2 * 24 * 10;
    let inside = (0..2)
        .flat_map(|s| (24 * 30..24 * 40).map(move |t| [s, t, 0]))
        .filter(|&at| (lower[at]..=upper[at]).contains(&panel.values()[at]))
        .count();
    assert!(inside as f64 > 0.97 * cells as f64, "{inside} of {cells}");
}

#[test]
fn a_bend_is_followed_and_the_future_is_less_sure_than_the_past() {
    let times: Vec<f64> = (0..400).map(|day| f64::from(day) * 86_400.0).collect();
    let values: Vec<f64> = (0..400)
        .map(|day| {
            let day = f64::from(day);
            100.0 + 0.5 * day.min(200.0) - 0.3 * (day - 200.0).max(0.0) + (day * 1.7).sin()
        })
        .collect();
    let history = History { times: &times, values: &values, step_secs: 86_400.0 };
    let model = Model::fit(&history, &ProphetParams::default()).unwrap();
    let mut row = Vec::new();
    for (day, expected) in [(100, 150.0), (200, 200.0), (300, 170.0), (390, 143.0)] {
        let found = model.forecast(f64::from(day) * 86_400.0, &mut row).mean;
        assert!((found - expected).abs() < 5.0, "day {day}: {found}");
    }
    let sd = |day: f64, row: &mut Vec<f64>| model.forecast(day * 86_400.0, row).sd;
    assert!(sd(800.0, &mut row) > 2.0 * sd(399.0, &mut row));
    let flat = ProphetParams { growth: Growth::Flat, ..ProphetParams::default() };
    let model = Model::fit(&history, &flat).unwrap();
    let (inside, beyond) = (model.forecast(0.0, &mut row).sd, model.forecast(7e8, &mut row).sd);
    assert_eq!(inside, beyond, "a trend that cannot bend is as sure of the future");
    let (a, b) = (model.forecast(0.0, &mut row).mean, model.forecast(7e8, &mut row).mean);
    assert!((a - b).abs() < 10.0, "a flat trend goes nowhere: {a}, {b}");
}

#[test]
fn a_holiday_explains_its_own_days() {
    let times: Vec<f64> = (0..730).map(|day| f64::from(day) * 86_400.0).collect();
    let sale = |day: i32| [100, 101, 465, 466].contains(&day);
    let values: Vec<f64> =
        (0..730).map(|day| if sale(day) { 180.0 } else { 100.0 + f64::from(day % 3) }).collect();
    let history = History { times: &times, values: &values, step_secs: 86_400.0 };
    let holiday = Holiday {
        name: "sale".into(),
        dates: vec!["1970-04-11".into(), "1971-04-11".into()],
        lower_window: 0,
        upper_window: 1,
    };
    let params = ProphetParams { holidays: vec![holiday], ..ProphetParams::default() };
    let model = Model::fit(&history, &params).unwrap();
    let mut row = Vec::new();
    for day in [100.0, 466.0] {
        let found = model.forecast(day * 86_400.0, &mut row).mean;
        assert!((found - 180.0).abs() < 6.0, "{found}");
    }
}

#[test]
fn a_checkpoint_scores_alike_and_a_forged_one_is_refused() {
    let panel = hourly(24 * 20, 2);
    let (mask, context) = (FitMask::all(&panel), FitContext::new(1));
    let fitted = detector().fit(&panel, &mask, &context).unwrap();
    let state = fitted.state().unwrap();
    let text = serde_json::to_string(&state.json).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let back = detector().restore(DetectorState { json, weights: None }, &context).unwrap();
    let (a, b) = (
        fitted.score(&panel, &mask, &context).unwrap(),
        back.score(&panel, &mask, &context).unwrap(),
    );
    assert_eq!(a.score, b.score);
    for (path, value) in [
        ("/models/0/0/spread", serde_json::json!(0.0)),
        ("/models/0/0/model/span", serde_json::json!(-1.0)),
        ("/models/0/0/model/effects", serde_json::json!([1.0])),
        ("/models", serde_json::json!([])),
    ] {
        let mut forged = state.clone();
        *forged.json.pointer_mut(path).unwrap() = value;
        assert!(detector().restore(forged, &context).is_err(), "{path}");
    }
}

#[test]
fn short_and_unseen_series_are_listed() {
    let panel = hourly(24 * 20, 3);
    let mut mask = FitMask::all(&panel);
    for time in 5..panel.n_times() {
        mask.forbid(1, time);
    }
    let context = FitContext::new(1);
    let fitted = detector().fit(&panel, &mask, &context).unwrap();
    let scores = fitted.score(&panel, &mask, &context).unwrap();
    assert_eq!(scores.failures.iter().map(|f| f.series).collect::<Vec<_>>(), [1]);
    assert!(scores.score.row(0).iter().all(|z| z.is_finite()));
}

#[test]
fn parameters_out_of_range_are_refused() {
    let wrong = |change: fn(&mut ProphetParams)| {
        let mut params = ProphetParams::default();
        change(&mut params);
        ProphetDetector::new(params).is_err()
    };
    assert!(wrong(|p| p.changepoint_prior_scale = 0.0));
    assert!(wrong(|p| p.changepoint_range = f64::NAN));
    assert!(wrong(|p| p.weekly = Terms::Fixed(99)));
    assert!(wrong(
        |p| p.holidays = vec![Holiday { dates: vec!["Easter".into()], ..Holiday::default() }]
    ));
    assert!(!wrong(|p| p.yearly = Terms::Fixed(0)));
}
