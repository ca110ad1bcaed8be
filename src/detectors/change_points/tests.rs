use jiff::tz::TimeZone;
use ndarray::{Array3, s};
use rand_distr::{Distribution, Poisson, StandardNormal};

use super::*;
use crate::{
    math::random::stream,
    panel::{Calendar, Level, Metric, SeriesKey, Step},
};

const HOURS: usize = 1_440;
const TRAIN: usize = 720;

/// Two series of hourly counts with a rhythm of the day, and a measurement about 20.
fn values(seed: u64) -> Array3<f64> {
    let mut rng = stream(seed, "change point detector", 0);
    Array3::from_shape_fn((2, HOURS, 2), |(_, time, metric)| {
        let wave = (time as f64 / 24.0 * std::f64::consts::TAU).sin();
        if metric == 0 {
            Poisson::new(60.0 + 25.0 * wave).unwrap().sample(&mut rng)
        } else {
            let z: f64 = StandardNormal.sample(&mut rng);
            20.0 + wave + z
        }
    })
}

fn panel(values: Array3<f64>) -> Panel {
    let (series, hours, _) = values.dim();
    Panel::new(
        Level { name: "key".into(), id_columns: vec!["key".into()] },
        Calendar::new(Step::HOUR, 1_767_571_200, hours, TimeZone::UTC),
        vec![
            Metric { name: "views".into(), kind: MetricKind::Count },
            Metric { name: "seconds".into(), kind: MetricKind::Measure },
        ],
        (0..series).map(|i| SeriesKey(vec![format!("series {i}")])).collect(),
        vec![0..hours; series],
        values,
    )
    .unwrap()
}

fn shifted(seed: u64, times: std::ops::Range<usize>, factor: f64) -> Array3<f64> {
    let mut values = values(seed);
    values.slice_mut(s![0, times, 0]).mapv_inplace(|v| (v * factor).round());
    values
}

fn detector(params: ChangePointParams) -> ChangePointDetector {
    ChangePointDetector::new(params).unwrap()
}

fn split(params: ChangePointParams, panel: &Panel, mask: &FitMask) -> Scores {
    let plan = ScoringPlan::Split { train_len: TRAIN };
    detector(params).fit_score(panel, mask, plan, &FitContext::new(1)).unwrap().1
}

fn scores(params: ChangePointParams, panel: &Panel) -> Scores {
    split(params, panel, &FitMask::all(panel))
}

fn with(cost: CostName) -> ChangePointParams {
    ChangePointParams { cost, ..ChangePointParams::default() }
}

fn mean(scores: &Scores, series: usize, times: std::ops::Range<usize>) -> f64 {
    scores.score.slice(s![series, times]).mean().unwrap()
}

#[test]
fn a_shift_scores_high_along_its_length_in_its_direction_for_every_cost() {
    // Six days; the level window of 28 days is long enough to see them as a shift to the end.
    let times = 900..1_044;
    for cost in [CostName::L2, CostName::L1, CostName::Rbf, CostName::Nb] {
        for (factor, direction) in [(1.5, 1), (0.6, -1)] {
            let scores = scores(with(cost), &panel(shifted(1, times.clone(), factor)));
            let (during, clean) = (mean(&scores, 0, 910..1_044), mean(&scores, 1, 720..1_440));
            assert!(during > 2.0 && during > 8.0 * clean, "{cost:?} {factor}: {during}, {clean}");
            let after = mean(&scores, 0, 1_060..1_440);
            assert!(after < 0.2 * during, "{cost:?} {factor}: {during}, then {after}");
            let signs = scores.direction.slice(s![0, 910..1_044]);
            assert!(signs.iter().all(|sign| *sign == direction), "{cost:?} {factor}");
            let share = scores.metric_share.as_ref().unwrap();
            assert!(share.slice(s![0, 910..1_044, 0]).mean().unwrap() > 0.8);
        }
    }
}

#[test]
fn a_change_is_seen_within_a_few_steps() {
    let scores = scores(ChangePointParams::default(), &panel(shifted(2, 900..1_044, 1.6)));
    let quiet = scores.score.slice(s![0, 720..900]).iter().copied().fold(0.0, f64::max);
    let soon = mean(&scores, 0, 902..905);
    assert!(soon > quiet, "{soon}, {quiet}");
}

#[test]
fn scores_of_the_past_never_change_with_the_future() {
    for (cost, look_ahead_steps) in [
        (CostName::L2, 0),
        (CostName::L1, 0),
        (CostName::Rbf, 0),
        (CostName::Nb, 0),
        (CostName::L2, 12),
    ] {
        let params = ChangePointParams { look_ahead_steps, ..with(cost) };
        let (before, after) = (values(3), shifted(3, 1_000..HOURS, 2.0));
        let (a, b) = (scores(params.clone(), &panel(before)), scores(params, &panel(after)));
        let known = s![.., ..1_000 - look_ahead_steps];
        let (a, b) = (a.score.slice(known), b.score.slice(known));
        // The tree of l1 is built from all values, which moves its last digits.
        let close = |(a, b): (&f64, &f64)| {
            (a - b).abs() <= 1e-9 * if cost == CostName::L1 { 1.0 } else { 0.0 }
        };
        assert!(a.iter().zip(b).all(close), "{cost:?}");
    }
}

#[test]
fn looking_ahead_finds_the_first_hours_of_a_shift() {
    let panel = panel(shifted(4, 900..1_044, 1.3));
    let ahead = ChangePointParams { look_ahead_steps: 24, ..ChangePointParams::default() };
    let first = |params| mean(&scores(params, &panel), 0, 900..903);
    let (with, without) = (first(ahead), first(ChangePointParams::default()));
    assert!(with > 1.0 && with > 1.5 * without, "{with}, {without}");
}

fn found(
    values: Array3<f64>,
    params: ChangePointParams,
    mask: Option<FitMask>,
) -> Vec<ChangePoint> {
    let panel = panel(values);
    let mask = mask.unwrap_or_else(|| FitMask::all(&panel));
    let fitted = detector(params).fit(&panel, &mask, &FitContext::new(1)).unwrap();
    let fitted = fitted.as_any().downcast_ref::<FittedChangePoints>().unwrap();
    fitted.change_points(&panel, &mask)
}

#[test]
fn change_points_have_time_size_direction_and_confidence() {
    for cost in [CostName::L2, CostName::L1, CostName::Nb] {
        let changes = found(shifted(5, 900..HOURS, 0.5), with(cost), None);
        let [change] = changes.as_slice() else { panic!("{cost:?} {changes:?}") };
        assert_eq!((change.series, change.metric), (0, 0));
        assert!(change.time.abs_diff(900) <= 3, "{change:?}");
        // The rhythm is learnt from both parts; without it the levels are 60 and 30.
        assert!((change.relative_change + 0.5).abs() < 0.03, "{change:?}");
        assert!((change.after / change.before - 0.5).abs() < 0.03, "{change:?}");
        assert!(change.confidence > 0.999, "{change:?}");
    }
}

#[test]
fn what_is_too_small_a_share_is_no_change() {
    let small = shifted(6, 900..HOURS, 0.88);
    assert!(found(small.clone(), ChangePointParams::default(), None).is_empty());
    let eager = ChangePointParams { min_change: 0.05, ..ChangePointParams::default() };
    let changes = found(small, eager, None);
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert!((changes[0].relative_change + 0.12).abs() < 0.04, "{changes:?}");
}

#[test]
fn noise_alone_has_no_changes() {
    for seed in 1_000..1_010 {
        assert_eq!(found(values(seed), ChangePointParams::default(), None), [], "{seed}");
    }
}

#[test]
fn missing_and_masked_values_keep_the_rest_in_its_place() {
    let mut values = shifted(7, 900..HOURS, 1.6);
    values.slice_mut(s![0, 300..420, 0]).fill(f64::NAN);
    let panel = panel(values.clone());
    let mut mask = FitMask::all(&panel);
    mask.forbid_times(600..650);
    let changes = found(values.clone(), ChangePointParams::default(), Some(mask.clone()));
    assert!(changes.len() == 1 && changes[0].time.abs_diff(900) <= 3, "{changes:?}");
    let before = split(ChangePointParams::default(), &panel, &mask);
    assert!(before.score[[0, 350]].is_finite(), "the other metric is there");
    values.slice_mut(s![.., 600..650, 0]).fill(400.0);
    let after = split(ChangePointParams::default(), &self::panel(values), &mask);
    let outside =
        |scores: &Scores, times| scores.score.slice(s![.., times..times + 600]).to_owned();
    assert_eq!(outside(&before, 0), outside(&after, 0));
    assert_eq!(outside(&before, 650), outside(&after, 650));
    // What is masked is judged all the same.
    let (masked, clean) = (mean(&after, 1, 600..650), mean(&after, 1, 650..1_250));
    assert!(masked > 1.0 && masked > 5.0 * clean, "{masked}, {clean}");
}

#[test]
fn single_wild_values_are_no_segment() {
    let mut wild = values(8);
    for time in (750..1_400).step_by(97) {
        wild[[0, time, 1]] += 500.0;
    }
    assert_eq!(found(wild, ChangePointParams::default(), None), []);
}

#[test]
fn held_out_blocks_teach_nothing() {
    let plan = ScoringPlan::CrossFitted { block: 240 };
    let run = |values| {
        let panel = panel(values);
        let (mask, context) = (FitMask::all(&panel), FitContext::new(1));
        detector(ChangePointParams::default()).fit_score(&panel, &mask, plan, &context).unwrap().1
    };
    let scores = run(shifted(9, 960..1_200, 1.5));
    assert!(mean(&scores, 0, 980..1_200) > 2.0, "{}", mean(&scores, 0, 980..1_200));
}

#[test]
fn a_checkpoint_scores_alike_and_a_forged_one_is_refused() {
    for cost in [CostName::L2, CostName::Rbf, CostName::Nb] {
        let panel = panel(shifted(10, 1_000..HOURS, 1.5).slice(s![.., 900.., ..]).to_owned());
        let (mask, context) = (FitMask::all(&panel), FitContext::new(1));
        let detector = detector(with(cost));
        let fitted = detector.fit(&panel, &mask, &context).unwrap();
        let state = fitted.state().unwrap();
        let back = detector.restore(state.clone(), &context).unwrap();
        let score = |fitted: &dyn FittedDetector| fitted.score(&panel, &mask, &context).unwrap();
        assert_eq!(score(fitted.as_ref()).score, score(back.as_ref()).score);
        for (path, value) in [
            ("/learnt/0/0/noise/sd", serde_json::json!(0.0)),
            ("/learnt/0/0/level", serde_json::json!(null)),
            ("/learnt/0", serde_json::json!([])),
            ("/setting/min_size", serde_json::json!(0)),
            ("/setting/level_window", serde_json::json!(0)),
            ("/setting/penalty", serde_json::json!(-1.0)),
            ("/profile", serde_json::json!("lost")),
        ] {
            let mut forged = state.clone();
            *forged.json.pointer_mut(path).unwrap() = value;
            assert!(detector.restore(forged, &context).is_err(), "{path}");
        }
    }
}

#[test]
fn unknown_short_and_too_long_series_are_listed() {
    let mut values = values(11);
    values.slice_mut(s![1, 5.., ..]).fill(f64::NAN);
    let panel = panel(values);
    let (mask, context) = (FitMask::all(&panel), FitContext::new(1));
    let detector = detector(with(CostName::Rbf));
    let fitted = detector.fit(&panel, &mask, &context).unwrap();
    let scores = fitted.score(&panel, &mask, &context).unwrap();
    assert_eq!(scores.failures.iter().map(|f| f.series).collect::<Vec<_>>(), [1]);
    assert!(scores.score.row(0).iter().all(|score| score.is_finite()));
    let known = fitted.as_any().downcast_ref::<FittedChangePoints>().unwrap();
    let learnt = known.learnt[0][0].as_ref().unwrap();
    assert!(learnt.refuses(50_000).is_none());
    assert!(learnt.refuses(50_001).unwrap().contains("cost = \"l1\""));
}

#[test]
fn parameters_out_of_range_are_named() {
    let ok = ChangePointParams::default();
    assert!(ok.check().is_empty());
    let wrong = |change: fn(&mut ChangePointParams)| {
        let mut params = ok.clone();
        change(&mut params);
        assert!(ChangePointDetector::new(params.clone()).is_err());
        params.check()[0].0.clone()
    };
    assert_eq!(wrong(|p| p.min_size_steps = Some(1)), "min_size_steps");
    assert_eq!(wrong(|p| p.penalty = 0.0), "penalty");
    assert_eq!(wrong(|p| p.penalty = f64::NAN), "penalty");
    assert_eq!(wrong(|p| p.min_change = -0.1), "min_change");
    assert_eq!(wrong(|p| p.level_window_days = Some(0.0)), "level_window_days");
    assert_eq!(wrong(|p| p.level_window_days = Some(f64::NAN)), "level_window_days");
    assert_eq!(wrong(|p| p.online_steps = Some(1_001)), "online_steps");
    assert_eq!(wrong(|p| p.steps_between_changes = Some(1.0)), "steps_between_changes");
    assert_eq!(wrong(|p| p.look_ahead_steps = 10_001), "look_ahead_steps");
    assert_eq!(wrong(|p| p.profile.outlier_cutoff = 0.0), "profile.outlier_cutoff");
    assert!(toml::from_str::<ChangePointParams>("min_sise = 3").is_err());
}
