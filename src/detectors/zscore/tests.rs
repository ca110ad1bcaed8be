use jiff::tz::TimeZone;

use super::*;
use crate::{
    detectors::ScoringPlan,
    panel::{Calendar, Level, Metric, MetricKind, Step},
};

/// `rows[series][metric][time]`, hourly measures.
fn panel(rows: &[Vec<Vec<f64>>]) -> Panel {
    let (metrics, times) = (rows[0].len(), rows[0][0].len());
    let shape = (rows.len(), times, metrics);
    Panel::new(
        Level { name: "key".into(), id_columns: vec!["key".into()] },
        Calendar::new(Step::HOUR, 0, times, TimeZone::UTC),
        (0..metrics).map(|m| Metric { name: format!("m{m}"), kind: MetricKind::Measure }).collect(),
        (0..rows.len()).map(|i| SeriesKey(vec![i.to_string()])).collect(),
        vec![0..times; rows.len()],
        Array3::from_shape_fn(shape, |(s, t, m)| rows[s][m][t]),
    )
    .unwrap()
}

fn detector(robust: bool) -> ZscoreDetector {
    ZscoreDetector::new(ZscoreParams { robust, ..ZscoreParams::default() }).unwrap()
}

fn wave(n: usize) -> Vec<f64> {
    (0..n).map(|i| 5.0 + ((i * 37) % 11) as f64).collect()
}

fn in_sample(detector: &ZscoreDetector, panel: &Panel) -> Scores {
    let mask = FitMask::all(panel);
    detector.fit_score(panel, &mask, ScoringPlan::InSample, &FitContext::new(1)).unwrap().1
}

#[test]
fn a_spike_and_a_drop_raise_the_score_with_their_direction() {
    let mut row = wave(100);
    row[40] = 60.0;
    row[60] = -50.0;
    for robust in [true, false] {
        let scores = in_sample(&detector(robust), &panel(&[vec![row.clone()]]));
        let rest = (0..100).filter(|t| ![40, 60].contains(t));
        let top = rest.map(|t| scores.score[[0, t]]).fold(0.0, f64::max);
        assert!(scores.score[[0, 40]] > 2.0 * top && scores.score[[0, 60]] > 2.0 * top);
        assert_eq!((scores.direction[[0, 40]], scores.direction[[0, 60]]), (1, -1));
    }
}

#[test]
fn outliers_blunt_the_plain_score_and_not_the_robust_one() {
    let mut row = wave(100);
    row[40..50].fill(500.0);
    let panel = panel(&[vec![row]]);
    assert!(in_sample(&detector(false), &panel).score[[0, 45]] < 4.0);
    assert!(in_sample(&detector(true), &panel).score[[0, 45]] > 50.0);
}

#[test]
fn masked_steps_teach_nothing() {
    let mut row = wave(100);
    row[40..50].fill(500.0);
    let panel = panel(&[vec![row]]);
    let mut mask = FitMask::all(&panel);
    mask.forbid_times(40..50);
    let context = FitContext::new(1);
    let fitted = detector(false).fit(&panel, &mask, &context).unwrap();
    assert!(fitted.score(&panel, &FitMask::all(&panel), &context).unwrap().score[[0, 45]] > 50.0);
}

#[test]
fn the_metric_that_deviates_gets_the_share() {
    let (mut first, second) = (wave(100), wave(100));
    first[30] = 90.0;
    let scores = in_sample(&detector(true), &panel(&[vec![first, second]]));
    let share = scores.metric_share.unwrap();
    assert!(share[[0, 30, 0]] > 0.9);
    let sums = share.sum_axis(ndarray::Axis(2));
    assert!(sums.iter().all(|s| (s - 1.0).abs() < 1e-5));
}

#[test]
fn constant_missing_and_short_series_give_finite_scores_or_a_reason() {
    let mut stuck = vec![7.0; 50];
    stuck[20] = 8.0;
    let mut short = vec![f64::NAN; 50];
    short[..3].fill(1.0);
    let rows = [vec![stuck], vec![vec![0.0; 50]], vec![vec![f64::NAN; 50]], vec![short]];
    let scores = in_sample(&detector(true), &panel(&rows));
    assert!(scores.score.iter().all(|s| !s.is_infinite()));
    assert!(scores.score[[0, 20]] > 5.0);
    assert_eq!(scores.score[[1, 20]], 0.0);
    let failed: Vec<usize> = scores.failures.iter().map(|f| f.series).collect();
    assert_eq!(failed, [2, 3]);
}

#[test]
fn the_state_comes_back_and_a_forged_one_does_not() {
    let panel = panel(&[vec![wave(60)]]);
    let context = FitContext::new(1);
    let fitted = detector(true).fit(&panel, &FitMask::all(&panel), &context).unwrap();
    let mut state = fitted.state().unwrap();
    let back = detector(true).restore(state.clone(), &context).unwrap();
    assert_eq!(
        fitted.score(&panel, &FitMask::all(&panel), &context).unwrap().score,
        back.score(&panel, &FitMask::all(&panel), &context).unwrap().score
    );
    state.json["spreads"][0][0]["spread"] = 0.0.into();
    assert!(detector(true).restore(state.clone(), &context).is_err());
    state.json["spreads"] = serde_json::json!([]);
    assert!(detector(true).restore(state, &context).is_err());
}

#[test]
fn an_interval_level_out_of_range_is_refused() {
    for interval_level in [0.4, 1.0, f64::NAN] {
        let params = ZscoreParams { interval_level, ..ZscoreParams::default() };
        assert_eq!(params.check().len(), 1);
        assert!(ZscoreDetector::new(params).is_err());
    }
}
