//! What the detector promises as a detector: direction, masks, alignment, checkpoints, hostile input.

use crate::{
    detectors::{
        Detector, DetectorError, DetectorName, DetectorState, FitContext, FitMask, FittedDetector,
        Scores, ScoringPlan,
        nb2::{Direction, FittedNb2, FourierK, Nb2, Nb2Params, Scoring, Trend},
    },
    panel::{MetricKind, SeriesKey},
};

use super::{counts_panel, panel_from, panel_of, simulation::gamma_poisson};
use crate::math::random::stream;

const CROSS: ScoringPlan = ScoringPlan::CrossFitted { block: 4 };

fn nb2() -> Nb2 {
    Nb2::new(Nb2Params::default()).unwrap()
}

fn scored(series: &[Vec<f64>]) -> Scores {
    let panel = counts_panel(series);
    nb2().fit_score(&panel, &FitMask::all(&panel), CROSS, &FitContext::new(1)).unwrap().1
}

/// Each count by its own predictive distribution alone.
fn scored_alone(series: &[Vec<f64>]) -> Scores {
    let panel = counts_panel(series);
    let params = Nb2Params { event_scan: false, ..Nb2Params::default() };
    let nb2 = Nb2::new(params).unwrap();
    nb2.fit_score(&panel, &FitMask::all(&panel), CROSS, &FitContext::new(1)).unwrap().1
}

/// A year of counts around `mean`.
fn year(number: u64, mean: f64) -> Vec<f64> {
    let mut rng = stream(5, "nb2 behaviour", number);
    (0..52).map(|_| gamma_poisson(&mut rng, mean, 0.1)).collect()
}

#[test]
fn a_spike_and_a_drop_score_higher_the_farther_they_go_and_point_their_way() {
    let mut last = 0.0;
    for spike in [60.0, 90.0, 200.0, 1e4, 1e8] {
        let mut y = year(0, 30.0);
        y[20] = spike;
        let scores = scored(&[y]);
        assert!(scores.score[[0, 20]] > last, "{spike}: {} after {last}", scores.score[[0, 20]]);
        assert_eq!(scores.direction[[0, 20]], 1);
        last = scores.score[[0, 20]];
    }
    assert!(last > 3.0);
    let mut last = 0.0;
    for drop in [12.0, 8.0, 3.0, 0.0] {
        let mut y = year(0, 30.0);
        y[20] = drop;
        let scores = scored(&[y]);
        assert!(scores.score[[0, 20]] > last, "{drop}");
        assert_eq!(scores.direction[[0, 20]], -1);
        last = scores.score[[0, 20]];
    }
    assert!(last > 2.0);
}

#[test]
fn a_sustained_shift_is_flagged_along_its_length_out_of_sample_but_not_in_sample() {
    let mut y = year(1, 80.0);
    for value in &mut y[22..30] {
        *value = (*value * 2.6).round();
    }
    let flags = |scores: &Scores| (22..30).filter(|&t| scores.score[[0, t]] >= 2.0).count();
    assert!(flags(&scored(&[y.clone()])) >= 6);
    let in_sample = Nb2Params {
        scoring: Scoring::InSample,
        mask_rounds: 0,
        event_scan: false,
        ..Nb2Params::default()
    };
    let panel = counts_panel(&[y]);
    let (_, scores) = Nb2::new(in_sample)
        .unwrap()
        .fit_score(&panel, &FitMask::all(&panel), CROSS, &FitContext::new(1))
        .unwrap();
    assert!(flags(&scores) <= 3);
}

#[test]
fn a_cell_lies_outside_its_interval_exactly_when_its_p_value_is_at_most_one_percent() {
    let scores = scored_alone(&(0..20).map(|i| year(i, 2.0 + i as f64 * 10.0)).collect::<Vec<_>>());
    let log_p = scores.log_p.unwrap();
    let (lower, upper) = (scores.lower.unwrap(), scores.upper.unwrap());
    let expected = scores.expected.unwrap();
    let mut outside = 0;
    for s in 0..20 {
        for t in 0..52 {
            let y = year(s as u64, 2.0 + s as f64 * 10.0)[t];
            let out = y < lower[[s, t, 0]] || y > upper[[s, t, 0]];
            assert_eq!(out, log_p[[s, t]] <= f64::ln(0.01));
            assert!((scores.score[[s, t]] * std::f64::consts::LN_10 + log_p[[s, t]]).abs() < 1e-9);
            assert!(lower[[s, t, 0]] <= expected[[s, t, 0]].ceil());
            outside += usize::from(out);
        }
    }
    assert!(outside > 0 && outside < 20);
}

#[test]
fn a_forbidden_cell_is_scored_but_never_learnt_from() {
    let mut y = year(2, 40.0);
    let panel = counts_panel(&[y.clone()]);
    let mut mask = FitMask::all(&panel);
    for t in 30..36 {
        mask.forbid(0, t);
    }
    let score = |y: &[f64]| {
        let panel = counts_panel(&[y.to_vec()]);
        nb2().fit_score(&panel, &mask, CROSS, &FitContext::new(1)).unwrap().1
    };
    let before = score(&y);
    y[30..36].fill(900.0);
    let after = score(&y);
    for t in 0..52 {
        if (30..36).contains(&t) {
            assert!(after.score[[0, t]] > 10.0);
        } else {
            assert_eq!(before.score[[0, t]], after.score[[0, t]], "step {t}");
        }
    }
}

#[test]
fn a_split_scores_later_steps_by_earlier_ones_only() {
    let mut y = year(3, 25.0);
    y.extend(year(4, 25.0));
    let mut changed = y.clone();
    changed[90] = 4_000.0;
    let plan = ScoringPlan::Split { train_len: 70 };
    for scoring in [Scoring::Prequential, Scoring::CrossFitted] {
        let nb2 = Nb2::new(Nb2Params { scoring, ..Nb2Params::default() }).unwrap();
        let [one, other] = [&y, &changed].map(|y| {
            let panel = counts_panel(std::slice::from_ref(y));
            nb2.fit_score(&panel, &FitMask::all(&panel), plan, &FitContext::new(1)).unwrap().1
        });
        // A fit that stays as it is knows nothing of step 90; one that moves on has not seen it yet.
        let same = if scoring == Scoring::Prequential { 90 } else { 104 };
        for t in (0..same).filter(|t| *t != 90) {
            assert_eq!(one.score[[0, t]], other.score[[0, t]]);
        }
        assert!(other.score[[0, 90]] > 20.0);
        // And once it has, it takes it for what it is.
        let (one, other) = (one.expected.unwrap(), other.expected.unwrap());
        assert!((one[[0, 103, 0]] / other[[0, 103, 0]] - 1.0).abs() < 0.1);
    }
}

#[test]
fn a_later_panel_is_aligned_by_the_calendar_and_an_unknown_key_is_named() {
    // A strong season: a model that lost its phase would expect the opposite.
    let season = |t: i64| {
        (100.0 * f64::exp(0.8 * (t as f64 / 52.1775 * std::f64::consts::TAU).sin())).round()
    };
    let history: Vec<f64> = (0..156).map(season).collect();
    let panel = counts_panel(&[history]);
    let context = FitContext::new(1);
    let fitted = nb2().fit(&panel, &FitMask::all(&panel), &context).unwrap();
    let later: Vec<f64> = (170..190).map(season).collect();
    let next = panel_from(170, &[MetricKind::Count], &[vec![later.clone()], vec![later.clone()]]);
    let scores = fitted.score(&next, &FitMask::all(&next), &context).unwrap();
    let expected = scores.expected.unwrap();
    for (t, y) in later.iter().enumerate() {
        assert!((expected[[0, t, 0]] / y - 1.0).abs() < 0.1, "{} is not {y}", expected[[0, t, 0]]);
    }
    assert_eq!(scores.failures.len(), 1);
    assert_eq!(scores.failures[0].series, 1);
    assert!(scores.failures[0].reason.contains("not seen in training"));
    assert!(scores.score[[1, 0]].is_nan());
}

#[test]
fn a_checkpoint_gives_the_same_scores_and_a_damaged_one_is_refused() {
    let panel = counts_panel(&[year(5, 12.0), vec![f64::NAN; 52], year(6, 300.0)]);
    let context = FitContext::new(1);
    let fitted = nb2().fit(&panel, &FitMask::all(&panel), &context).unwrap();
    let state = fitted.state().unwrap();
    let text = serde_json::to_string(&state.json).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let restored =
        nb2().restore(DetectorState { json: json.clone(), weights: None }, &context).unwrap();
    let (a, b) = (
        fitted.score(&panel, &FitMask::all(&panel), &context).unwrap(),
        restored.score(&panel, &FitMask::all(&panel), &context).unwrap(),
    );
    // Reading JSON may cost the last bit of a number.
    for (x, y) in a.score.iter().zip(&b.score) {
        assert!(x.is_nan() && y.is_nan() || (x - y).abs() <= 1e-11 * x.abs());
    }
    assert_eq!(a.failures, b.failures);
    assert_eq!(a.failures[0].series, 1);

    type Damage = fn(&mut serde_json::Value);
    let damages: [Damage; 6] = [
        |json| json["version"] = 99.into(),
        |json| json["series"][0]["metrics"][0]["fitted"]["dispersion"] = (-1.0).into(),
        |json| json["series"][0]["metrics"][0]["fitted"]["coefficients"] = vec![1.0].into(),
        |json| json["series"][2]["key"] = json["series"][0]["key"].clone(),
        |json| json["period_steps"] = 0.into(),
        |json| json["surprise"] = 1.into(),
    ];
    for (i, damage) in damages.iter().enumerate() {
        let mut json = json.clone();
        damage(&mut json);
        let answer = nb2().restore(DetectorState { json, weights: None }, &context);
        assert!(matches!(answer, Err(DetectorError::State { .. })), "damage {i}");
    }
}

#[test]
fn hostile_series_get_finite_answers_or_a_reason() {
    let mut one_event = vec![0.0; 52];
    one_event[51] = 1.0;
    let mut half = vec![0.0; 52];
    half[26..].fill(400.0);
    let mut gaps = year(7, 9.0);
    gaps[5..30].fill(f64::NAN);
    gaps[40] = f64::INFINITY;
    gaps[41] = -3.0;
    let mut lonely_end = vec![f64::NAN; 52];
    lonely_end[..13].copy_from_slice(&year(8, 3.0)[..13]);
    let series = [
        vec![0.0; 52],
        one_event,
        vec![7.0; 52],
        (0..52).map(|t| f64::from(t % 2) * 1e12).collect(),
        vec![1e15; 52],
        half,
        gaps,
        lonely_end,
        (0..52).map(|t| 2f64.powi(t)).collect(),
        (0..52).map(|t| f64::from(t) + 0.25).collect(),
    ];
    for params in [
        Nb2Params::default(),
        Nb2Params { season_sd: f64::INFINITY, trend_sd: f64::INFINITY, ..Nb2Params::default() },
        Nb2Params {
            fourier_k: FourierK::Fixed(6),
            block_steps: 60,
            guard_steps: 99,
            mask_rounds: 20,
            ..Nb2Params::default()
        },
        Nb2Params { scoring: Scoring::InSample, mask_rounds: 0, ..Nb2Params::default() },
    ] {
        let panel = counts_panel(&series);
        let (_, scores) = Nb2::new(params)
            .unwrap()
            .fit_score(&panel, &FitMask::all(&panel), CROSS, &FitContext::new(1))
            .unwrap();
        let failed: Vec<usize> = scores.failures.iter().map(|f| f.series).collect();
        assert!(scores.failures.iter().all(|f| f.reason.contains("`")));
        let expected = scores.expected.as_ref().unwrap();
        for (s, y) in series.iter().enumerate().filter(|(s, _)| !failed.contains(s)) {
            for (t, &y) in y.iter().enumerate() {
                let score = scores.score[[s, t]];
                if y.is_finite() && y >= 0.0 {
                    assert!(score.is_finite() && score >= 0.0, "series {s}, step {t}: {score}");
                    assert!(expected[[s, t, 0]].is_finite());
                } else {
                    assert!(score.is_nan(), "series {s}, step {t}: {score}");
                }
            }
        }
    }
    // With the default prior none of these fails, and a year of zeros finds a single event unusual,
    // but not more.
    let scores = scored(&series);
    assert_eq!(scores.failures, []);
    assert!(scores.score[[0, 10]] < 0.5, "{}", scores.score[[0, 10]]);
    assert!((1.0..3.0).contains(&scores.score[[1, 51]]), "{}", scores.score[[1, 51]]);
}

#[test]
fn a_shift_after_the_training_is_flagged_while_it_lasts_and_no_longer() {
    let mut y: Vec<f64> = (0..3).flat_map(|i| year(20 + i, 60.0)).collect();
    for value in &mut y[120..129] {
        *value = (*value * 2.3).round();
    }
    let panel = counts_panel(&[y]);
    let plan = ScoringPlan::Split { train_len: 104 };
    let all = FitMask::all(&panel);
    let scores = nb2().fit_score(&panel, &all, plan, &FitContext::new(1)).unwrap().1;
    let flagged: Vec<usize> = (104..156).filter(|&t| scores.score[[0, t]] >= 2.0).collect();
    let inside = flagged.iter().filter(|t| (120..129).contains(*t)).count();
    assert!(inside >= 7, "{flagged:?}");
    assert!(flagged.len() - inside <= 2, "{flagged:?}");
}

#[test]
fn a_fit_that_moves_on_agrees_with_a_fit_on_everything() {
    let y: Vec<f64> = (0..3).flat_map(|i| year(30 + i, 25.0)).collect();
    let panel = counts_panel(&[y]);
    let never = Nb2Params { half_life_steps: Some(f64::INFINITY), ..Nb2Params::default() };
    let nb2 = Nb2::new(never).unwrap();
    let context = FitContext::new(1);
    let all = FitMask::all(&panel);
    let plan = |train_len| ScoringPlan::Split { train_len };
    let long = nb2.fit_score(&panel, &all, plan(155), &context).unwrap().1;
    let moved = nb2.fit_score(&panel, &all, plan(110), &context).unwrap().1;
    let expected = |scores: &Scores| scores.expected.as_ref().unwrap()[[0, 155, 0]];
    let ratio = expected(&moved) / expected(&long);
    assert!((ratio - 1.0).abs() < 0.02, "{ratio}");
}

// Half of the 190 steps that it moves through have left its window by then.
#[test]
fn a_fit_that_has_moved_far_still_agrees_with_a_fit_on_everything() {
    let y: Vec<f64> = (0..5).flat_map(|i| year(60 + i, 25.0)).collect();
    let panel = counts_panel(&[y]);
    let never = Nb2Params {
        half_life_steps: Some(f64::INFINITY),
        fourier_k: FourierK::Fixed(1),
        ..Nb2Params::default()
    };
    let nb2 = Nb2::new(never).unwrap();
    let (all, context) = (FitMask::all(&panel), FitContext::new(1));
    let at_end = |train_len| {
        let plan = ScoringPlan::Split { train_len };
        let scores = nb2.fit_score(&panel, &all, plan, &context).unwrap().1;
        let (lower, upper) = (scores.lower.unwrap(), scores.upper.unwrap());
        [scores.expected.unwrap()[[0, 259, 0]], lower[[0, 259, 0]], upper[[0, 259, 0]]]
    };
    let (long, moved) = (at_end(259), at_end(70));
    assert!((moved[0] / long[0] - 1.0).abs() < 0.04, "{moved:?} {long:?}");
    assert!((moved[1] - long[1]).abs() <= 2.0 && (moved[2] - long[2]).abs() <= 5.0);
}

#[test]
fn the_newest_steps_of_a_history_are_scored_one_step_ahead_if_asked_for() {
    let y: Vec<f64> = (0..2).flat_map(|i| year(40 + i, 25.0)).collect();
    let mut later = y.clone();
    later[100] = 900.0;
    let params = Nb2Params { newest_steps: 20, ..Nb2Params::default() };
    let score = |y: Vec<f64>| {
        let panel = counts_panel(&[y]);
        let nb2 = Nb2::new(params.clone()).unwrap();
        nb2.fit_score(&panel, &FitMask::all(&panel), CROSS, &FitContext::new(1)).unwrap().1
    };
    let (before, after) = (score(y), score(later));
    for t in 84..100 {
        assert_eq!(before.score[[0, t]], after.score[[0, t]], "step {t} has seen step 100");
    }
    assert!(after.score[[0, 100]] > 5.0);
}

#[test]
fn no_alarm_on_fewer_cases_than_asked_for_and_too_sparse_series_say_so() {
    let mut few = vec![0.0; 52];
    few[10] = 1.0;
    few[30] = 4.0;
    let mut drop = year(50, 40.0);
    drop[20] = 0.0;
    let with = |params: Nb2Params| {
        let panel = counts_panel(&[few.clone(), drop.clone()]);
        let nb2 = Nb2::new(params).unwrap();
        nb2.fit_score(&panel, &FitMask::all(&panel), CROSS, &FitContext::new(1)).unwrap().1
    };
    let free = with(Nb2Params::default());
    let ruled = with(Nb2Params { min_cases: 5.0, ..Nb2Params::default() });
    assert!(free.score[[0, 30]] > 2.0 && ruled.score[[0, 30]] == 0.0);
    assert!(ruled.score[[1, 20]] > 3.0, "160 cases were expected in the four weeks of the drop");
    let sparse = with(Nb2Params { min_events: 6.0, ..Nb2Params::default() });
    assert_eq!(sparse.failures.len(), 1);
    assert!(
        sparse.failures[0].reason.starts_with("too sparse: 5 events in 52 steps, 6 are needed")
    );
}

#[test]
fn a_series_that_often_reports_nothing_is_not_blamed_for_it_and_other_drops_still_are() {
    let mut y: Vec<f64> = (0..2).flat_map(|i| year(70 + i, 60.0)).collect();
    y.iter_mut().skip(3).step_by(9).for_each(|value| *value = 0.0);
    (y[50], y[51]) = (3.0, 2.0);
    let panel = counts_panel(&[y.clone()]);
    let context = FitContext::new(1);
    let all = FitMask::all(&panel);
    for plan in [CROSS, ScoringPlan::Split { train_len: 70 }] {
        let scores = nb2().fit_score(&panel, &all, plan, &context).unwrap().1;
        for (t, y) in y.iter().enumerate().filter(|(_, y)| **y == 0.0) {
            let (score, lower) = (scores.score[[0, t]], scores.lower.as_ref().unwrap()[[0, t, 0]]);
            assert!(score < 1.0 && lower == 0.0, "{plan:?}, step {t}, count {y}: {score}");
        }
        assert!(scores.score[[0, 50]] > 2.0 && scores.direction[[0, 50]] == -1, "{plan:?}");
    }
    let steady: Vec<f64> = (0..2).flat_map(|i| year(70 + i, 60.0)).collect();
    let mut drop = steady;
    drop[40] = 0.0;
    assert!(scored(&[drop]).score[[0, 40]] > 3.0);
}

#[test]
fn one_side_alone_is_tested_if_asked_for() {
    let mut y = year(51, 40.0);
    (y[10], y[30]) = (160.0, 2.0);
    let with = |direction: Direction| {
        let panel = counts_panel(&[y.clone()]);
        let nb2 = Nb2::new(Nb2Params { direction, ..Nb2Params::default() }).unwrap();
        nb2.fit_score(&panel, &FitMask::all(&panel), CROSS, &FitContext::new(1)).unwrap().1.score
    };
    let (above, below) = (with(Direction::AboveExpected), with(Direction::BelowExpected));
    assert!(above[[0, 10]] > 2.0 && above[[0, 30]] < 0.3, "{above}");
    assert!(below[[0, 30]] > 2.0 && below[[0, 10]] < 0.3, "{below}");
}

#[test]
fn too_little_history_and_a_panel_without_counts_are_said() {
    let mut short = vec![f64::NAN; 52];
    short[40..51].fill(3.0);
    let scores = scored(&[short, year(9, 3.0)]);
    assert_eq!(scores.failures.len(), 1);
    assert!(scores.failures[0].reason.starts_with("11 usable steps, 12 are needed"));
    assert!(scores.score.row(0).iter().all(|v| v.is_nan()));

    let panel = panel_of(&[MetricKind::Measure], &[vec![vec![1.0; 20]]]);
    let answer = nb2().fit(&panel, &FitMask::all(&panel), &FitContext::new(1));
    assert!(matches!(answer, Err(DetectorError::TooLittleData { .. })));
    assert!(matches!(
        Nb2::new(Nb2Params { block_steps: 0, ..Nb2Params::default() }),
        Err(DetectorError::Parameter { detector: DetectorName::Nb2, parameter: "block_steps", .. })
    ));
}

#[test]
fn several_counts_share_one_valid_p_value_and_other_metrics_stay_out() {
    let mut spiked = year(10, 20.0);
    spiked[30] = 200.0;
    let kinds = [MetricKind::Count, MetricKind::Measure, MetricKind::Count];
    let values = vec![year(11, 50.0), vec![1.0; 52], spiked.clone()];
    let panel = panel_of(&kinds, &[values]);
    let context = FitContext::new(1);
    let params = Nb2Params { event_scan: false, ..Nb2Params::default() };
    let nb2 = Nb2::new(params).unwrap();
    let (fitted, both) = nb2.fit_score(&panel, &FitMask::all(&panel), CROSS, &context).unwrap();
    let alone = scored_alone(&[spiked]);
    let (both_p, alone_p) = (both.log_p.unwrap()[[0, 30]], alone.log_p.unwrap()[[0, 30]]);
    assert!((both_p - alone_p - f64::ln(2.0)).abs() < 1e-9);
    let share = both.metric_share.unwrap();
    assert!(share[[0, 30, 2]] > 0.9 && share[[0, 30, 1]] == 0.0);
    let total: f32 = (0..3).map(|m| share[[0, 30, m]]).sum();
    assert!((total - 1.0).abs() < 1e-5);
    assert!(both.expected.unwrap()[[0, 30, 1]].is_nan());

    let fitted = fitted.as_any().downcast_ref::<FittedNb2>().unwrap();
    let key = SeriesKey(vec!["k0".into()]);
    assert_eq!(fitted.metrics(), ["metric0", "metric2"]);
    assert!(fitted.dispersion(&key, "metric2").unwrap() > 0.0);
    assert!(fitted.dispersion(&key, "metric1").is_none());
    let same = panel_of(&[MetricKind::Count], &[vec![year(11, 50.0)]]);
    assert!(matches!(
        fitted.score(&same, &FitMask::all(&same), &context),
        Err(DetectorError::State { .. })
    ));
}

#[test]
fn threads_do_not_change_a_bit_and_cancelling_stops() {
    let series: Vec<Vec<f64>> = (0..200).map(|i| year(100 + i, 1.0 + i as f64)).collect();
    let panel = counts_panel(&series);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let context = FitContext::new(1);
        pool.install(|| nb2().fit_score(&panel, &FitMask::all(&panel), CROSS, &context).unwrap().1)
    };
    assert_eq!(on(1).score, on(4).score);
    let context = FitContext::new(1);
    context.cancelled.store(true, std::sync::atomic::Ordering::Relaxed);
    let answer = nb2().fit(&panel, &FitMask::all(&panel), &context);
    assert!(matches!(answer, Err(DetectorError::Cancelled)));
}

#[test]
fn a_weekly_profile_of_hourly_counts_is_learnt_with_its_own_period() {
    let season = |t: usize| 50.0 * f64::exp(0.7 * (t as f64 / 168.0 * std::f64::consts::TAU).sin());
    let mut rng = stream(5, "nb2 hourly", 0);
    let mut y: Vec<f64> = (0..1_000).map(|t| gamma_poisson(&mut rng, season(t), 0.02)).collect();
    y[700] = 0.0;
    let params =
        Nb2Params { period_steps: Some(168.0), trend: Trend::Fixed(false), ..Nb2Params::default() };
    let panel = counts_panel(&[y]);
    let (_, scores) = Nb2::new(params)
        .unwrap()
        .fit_score(&panel, &FitMask::all(&panel), CROSS, &FitContext::new(1))
        .unwrap();
    let expected = scores.expected.unwrap();
    for t in 0..1_000 {
        assert!((expected[[0, t, 0]] / season(t) - 1.0).abs() < 0.1);
    }
    assert!(scores.score[[0, 700]] > 6.0);
}
