use jiff::tz::TimeZone;

use super::*;
use crate::{
    math::random::stream,
    panel::{Calendar, Level, Metric, SeriesKey, Step},
};
use rand_distr::{Distribution, Poisson, StandardNormal};

/// One series a row, weekly.
fn panel(kind: MetricKind, rows: &[Vec<f64>]) -> Panel {
    let times = rows[0].len();
    let values = Array3::from_shape_fn((rows.len(), times, 1), |(s, t, _)| rows[s][t]);
    Panel::new(
        Level { name: "key".into(), id_columns: vec!["key".into()] },
        Calendar::new(Step::Week, 0, times, TimeZone::UTC),
        vec![Metric { name: "x".into(), kind }],
        (0..rows.len()).map(|i| SeriesKey(vec![i.to_string()])).collect(),
        vec![0..times; rows.len()],
        values,
    )
    .unwrap()
}

fn score(panel: &Panel) -> Scores {
    let detector = RollingDetector::new(RollingParams::default()).unwrap();
    let context = FitContext::new(1);
    let fitted = detector.fit(panel, &FitMask::all(panel), &context).unwrap();
    fitted.score(panel, &FitMask::all(panel), &context).unwrap()
}

#[test]
fn a_window_of_eight_fires_because_it_leaves_its_own_point_out() {
    let mut row = vec![10.0, 11.0, 9.0, 10.0, 12.0, 8.0, 10.0, 10.0];
    row.push(40.0);
    let scores = score(&panel(MetricKind::Count, &[row]));
    assert!(scores.score[[0, 8]] > 3.0);
    assert!(scores.log_p.as_ref().unwrap()[[0, 8]] < -5.0);
    assert_eq!(scores.direction[[0, 8]], 1);
    assert!(scores.upper.unwrap()[[0, 8, 0]] < 40.0);
    assert_eq!(scores.expected.unwrap()[[0, 8, 0]], 10.0);
}

#[test]
fn no_step_sees_itself_or_what_comes_after() {
    let mut row: Vec<f64> = (0..40).map(|i| f64::from(i % 5)).collect();
    let before = score(&panel(MetricKind::Measure, &[row.clone()]));
    row[30] = 500.0;
    let after = score(&panel(MetricKind::Measure, &[row]));
    for t in 4..30 {
        assert_eq!(before.score[[0, t]], after.score[[0, t]]);
    }
    assert_eq!(before.expected.unwrap()[[0, 30, 0]], after.expected.unwrap()[[0, 30, 0]]);
}

#[test]
fn p_values_of_normal_noise_are_uniform_and_of_counts_not_too_small() {
    let mut rng = stream(1, "rolling", 0);
    let normal: Vec<f64> = (0..40_000).map(|_| StandardNormal.sample(&mut rng)).collect();
    let share = |scores: &Scores, level: f64| {
        let log_p: Vec<f64> =
            scores.log_p.as_ref().unwrap().iter().copied().filter(|p| !p.is_nan()).collect();
        log_p.iter().filter(|p| **p <= level.ln()).count() as f64 / log_p.len() as f64
    };
    let scores = score(&panel(MetricKind::Measure, &[normal]));
    // The binomial standard error at 0.01 is 0.0005.
    assert!((share(&scores, 0.01) - 0.01).abs() < 0.002, "{}", share(&scores, 0.01));
    assert!((share(&scores, 0.1) - 0.1).abs() < 0.006, "{}", share(&scores, 0.1));
    for mean in [0.05, 0.3, 2.0, 30.0] {
        let poisson = Poisson::new(mean).unwrap();
        let counts: Vec<f64> = (0..40_000).map(|_| poisson.sample(&mut rng)).collect();
        let found = share(&score(&panel(MetricKind::Count, &[counts])), 0.01);
        assert!(found < 0.0115, "mean {mean}: {found}");
    }
}

#[test]
fn quiet_constant_and_broken_series_get_finite_scores_or_a_reason() {
    let zeros = vec![0.0; 20];
    let mut first_event = zeros.clone();
    first_event[15] = 1.0;
    let constant = vec![7.0; 20];
    let mut holes: Vec<f64> = (0..20).map(f64::from).collect();
    holes[3..9].fill(f64::NAN);
    let nothing = vec![f64::NAN; 20];
    let rows = [zeros, first_event, constant, holes, nothing];
    for kind in [MetricKind::Count, MetricKind::Amount, MetricKind::Measure] {
        let scores = score(&panel(kind.clone(), &rows));
        assert!(scores.score.iter().all(|s| !s.is_infinite()));
        let log_p = scores.log_p.unwrap();
        assert!(log_p.iter().all(|p| p.is_nan() || (p.is_finite() && *p <= 0.0)));
        assert_eq!(scores.failures.len(), 1);
        assert_eq!(scores.failures[0].series, 4);
        if kind == MetricKind::Count {
            assert!(log_p[[1, 15]] > 0.05_f64.ln(), "a first event is no alarm");
        }
    }
}

#[test]
fn masked_steps_stay_out_of_later_windows() {
    let mut row = vec![10.0, 11.0, 9.0, 10.0, 12.0, 8.0, 10.0, 10.0, 90.0];
    row.extend([10.0; 6]);
    let panel = panel(MetricKind::Measure, &[row]);
    let detector = RollingDetector::new(RollingParams::default()).unwrap();
    let mut mask = FitMask::all(&panel);
    mask.forbid(0, 8);
    let plan = ScoringPlan::Split { train_len: 5 };
    let (_, scores) = detector.fit_score(&panel, &mask, plan, &FitContext::new(1)).unwrap();
    assert!(scores.score[[0, 8]] > 10.0);
    assert!((scores.expected.unwrap()[[0, 12, 0]] - 10.0).abs() < 0.5);
}

#[test]
fn the_state_comes_back_and_a_forged_one_does_not() {
    let detector = RollingDetector::new(RollingParams::default()).unwrap();
    let context = FitContext::new(1);
    let panel = panel(MetricKind::Count, &[(0..30).map(f64::from).collect()]);
    let fitted = detector.fit(&panel, &FitMask::all(&panel), &context).unwrap();
    let mut state = fitted.state().unwrap();
    let back = detector.restore(state.clone(), &context).unwrap();
    let (a, b) = (
        fitted.score(&panel, &FitMask::all(&panel), &context),
        back.score(&panel, &FitMask::all(&panel), &context),
    );
    assert_eq!(
        a.unwrap().score.row(0).as_slice().unwrap()[8..],
        b.unwrap().score.row(0).as_slice().unwrap()[8..]
    );
    state.json["params"]["window_steps"] = 1.into();
    assert!(detector.restore(state, &context).is_err());
}

#[test]
fn parameters_out_of_range_are_named() {
    let ok = RollingParams::default();
    let wrong = [
        RollingParams { window_steps: 3, ..ok.clone() },
        RollingParams { window_steps: 10_001, ..ok.clone() },
        RollingParams { sigmas: 0.0, ..ok.clone() },
        RollingParams { sigmas: f64::NAN, ..ok.clone() },
    ];
    for params in wrong {
        assert_eq!(params.check().len(), 1, "{params:?}");
        assert!(RollingDetector::new(params).is_err());
    }
    assert!(ok.check().is_empty());
    assert!(toml::from_str::<RollingParams>("window = 8").is_err());
}

#[test]
fn predictive_counts_agree_with_mpmath() {
    // mpmath 1.4.1 at 40 digits, sums of exp(log-gamma) terms; scipy 1.17.1 nbinom agrees.
    for (x, sum, n, expected) in [
        (0.0, 0.0, 8.0, 0.0),
        (1.0, 0.0, 8.0, -2.1682122821473),
        (2.0, 0.0, 8.0, -4.6433543439012),
        (9.0, 16.0, 8.0, -6.3902900138431),
        (40.0, 16.0, 8.0, -58.233780035093),
        (2.0, 160.0, 8.0, -13.024549881265),
        (1300.0, 8000.0, 8.0, -38.426165005989),
        (300.0, 16.0, 8.0, -600.74366651505),
    ] {
        let found = ln_poisson_predictive_two_sided(x, sum, n);
        assert!((found - expected).abs() < 1e-7 * (1.0 + expected.abs()), "{x} {sum}: {found}");
    }
}
