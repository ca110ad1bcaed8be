use jiff::tz::TimeZone;
use ndarray::s;

use super::*;
use crate::{
    math::random::stream,
    panel::{Calendar, Level, Metric, MetricKind, SeriesKey, Step},
};

use crate::detectors::funnel;

/// Where the scored part of 90 days begins.
const SPLIT: usize = 1_296;
/// The score from which an hour counts as flagged; chosen on seeds 1 to 4.
const THRESHOLD: f64 = 4.5;

fn panel_of(funnel: &funnel::Funnel) -> Panel {
    let (brands, hours, _) = funnel.values.dim();
    let count = |name: &str| Metric { name: name.into(), kind: MetricKind::Count };
    let ratio = MetricKind::Ratio { numerator: "purchases".into(), denominator: "views".into() };
    let metrics = vec![
        count("views"),
        count("carts"),
        count("purchases"),
        Metric { name: "revenue".into(), kind: MetricKind::Amount },
        Metric { name: "conversion_rate".into(), kind: ratio },
    ];
    Panel::new(
        Level { name: "brand".into(), id_columns: vec!["brand".into()] },
        Calendar::new(Step::HOUR, 1_767_571_200, hours, TimeZone::UTC),
        metrics,
        (0..brands).map(|b| SeriesKey(vec![format!("brand {b:02}")])).collect(),
        vec![0..hours; brands],
        funnel.values.clone(),
    )
    .unwrap()
}

fn simulated(seed: u64, brands: usize, days: usize) -> (funnel::Funnel, Panel) {
    let funnel = funnel::simulate(&mut stream(seed, "funnel", 0), brands, days);
    let panel = panel_of(&funnel);
    (funnel, panel)
}

fn detector() -> SeasonalProfileDetector {
    SeasonalProfileDetector::new(SeasonalProfileParams::default()).unwrap()
}

fn split(panel: &Panel, train_len: usize) -> (Box<dyn FittedDetector>, Scores) {
    let (mask, plan) = (FitMask::all(panel), ScoringPlan::Split { train_len });
    detector().fit_score(panel, &mask, plan, &FitContext::new(1)).unwrap()
}

#[test]
fn unseen_funnels_beat_the_bar() {
    // Seeds 1000 to 1004: 0.79 of the events found, 0.0017 of the clean hours outside campaigns
    // flagged; a z by hour of week as the peer script has it finds 0.70 at 0.003.
    let (funnel, panel) = simulated(1_000, 24, 90);
    let (_, scores) = split(&panel, SPLIT);
    let flags = scores.score.mapv(|z| z > THRESHOLD);
    let (mut found, mut events) = (0.0, 0.0);
    for event in funnel.events.iter().filter(|e| e.start >= SPLIT) {
        let during = flags.slice(s![event.brand, event.start..event.end]);
        found += f64::from(u8::from(during.iter().any(|flag| *flag)));
        events += 1.0;
    }
    let clean: Vec<bool> = flags
        .indexed_iter()
        .filter(|(at, _)| at.1 >= SPLIT && funnel.labels[*at] == 0 && !funnel.campaigns[*at])
        .map(|(_, flag)| *flag)
        .collect();
    let false_alarms = clean.iter().filter(|flag| **flag).count() as f64 / clean.len() as f64;
    assert!(found / events > 0.7, "found {found} of {events}");
    assert!(false_alarms < 0.004, "{false_alarms}");
}

#[test]
fn spikes_drops_and_outages_raise_the_score_in_their_direction() {
    let (funnel, panel) = simulated(1_001, 24, 90);
    let (_, scores) = split(&panel, SPLIT);
    let mut seen = 0;
    for event in funnel.events.iter().filter(|e| e.start >= SPLIT && e.brand >= 12) {
        let direction = match funnel::KINDS[event.kind] {
            "spike" => 1,
            "drop" | "outage" => -1,
            _ => continue,
        };
        let during = scores.score.slice(s![event.brand, event.start..event.end]);
        let top = during.iter().copied().fold(0.0, f64::max);
        let at = during.iter().position(|z| *z == top).unwrap();
        assert!(top > THRESHOLD, "{} of brand {}: {top}", funnel::KINDS[event.kind], event.brand);
        assert_eq!(scores.direction[[event.brand, event.start + at]], direction);
        seen += 1;
    }
    assert!(seen >= 5, "{seen}");
}

#[test]
fn the_metric_that_moved_gets_most_of_the_share() {
    let (mut funnel, _) = simulated(1_002, 24, 60);
    // Nobody buys for eight hours, at normal views and carts.
    funnel.values.slice_mut(s![22, 1_300..1_308, 2]).fill(0.0);
    funnel.values.slice_mut(s![22, 1_300..1_308, 4]).fill(0.0);
    let panel = panel_of(&funnel);
    let (_, scores) = split(&panel, 1_000);
    let share = scores.metric_share.unwrap();
    let buying = share[[22, 1_303, 2]] + share[[22, 1_303, 4]];
    assert!(buying > 0.8, "{buying}");
    let sums = share.sum_axis(ndarray::Axis(2));
    for ((brand, time), sum) in sums.indexed_iter() {
        assert!(scores.score[[brand, time]].is_nan() || (sum - 1.0).abs() < 1e-5);
    }
}

#[test]
fn an_alarm_ends_with_its_event() {
    assert_eq!(score::still_on(-12.0, 6, 0.0), 0.0, "back at the expected");
    assert_eq!(score::still_on(-12.0, 6, 2.0), 0.0, "on the other side");
    assert_eq!(score::still_on(-12.0, 6, -4.0), 1.0, "below as before");
    assert_eq!(score::still_on(5.0, 1, 0.1), 1.0, "a window of one is its newest cell");
    let (mut funnel, _) = simulated(1_003, 24, 60);
    funnel.values.slice_mut(s![14.., 1_300..1_303, ..3]).fill(0.0);
    let (_, scores) = split(&panel_of(&funnel), 1_000);
    let during = scores.score.slice(s![14.., 1_302]).mean().unwrap();
    let after = scores.score.slice(s![14.., 1_303..1_306]).mean().unwrap();
    assert!(during > 8.0 && after < 0.4 * during, "{during}, then {after}");
}

#[test]
fn cross_fitted_scores_do_not_know_their_own_block() {
    let (funnel, panel) = simulated(5, 3, 28);
    let plan = ScoringPlan::CrossFitted { block: 168 };
    let context = FitContext::new(1);
    let run = |panel: &Panel| {
        detector().fit_score(panel, &FitMask::all(panel), plan, &context).unwrap().1
    };
    let mut changed = funnel;
    changed.values.slice_mut(s![.., 200..300, ..]).fill(1.0);
    let (a, b) = (run(&panel), run(&panel_of(&changed)));
    let block = s![.., 168..336, ..];
    assert_eq!(a.expected.unwrap().slice(block), b.expected.unwrap().slice(block));
}

#[test]
fn masked_events_neither_teach_nor_move_the_level() {
    let (funnel, panel) = simulated(6, 3, 40);
    let mut changed = funnel;
    changed.values.slice_mut(s![.., 400..460, ..]).fill(3.0);
    let changed = panel_of(&changed);
    let run = |panel: &Panel| {
        let mut mask = FitMask::all(panel);
        mask.forbid_times(400..460);
        let plan = ScoringPlan::Split { train_len: 700 };
        detector().fit_score(panel, &mask, plan, &FitContext::new(1)).unwrap().1
    };
    let (a, b) = (run(&panel), run(&changed));
    assert_eq!(a.expected.unwrap(), b.expected.unwrap());
    assert_eq!(a.score.slice(s![.., 480..]), b.score.slice(s![.., 480..]));
}

#[test]
fn masked_events_move_no_level_in_a_later_batch() {
    let (mut funnel, panel) = simulated(6, 3, 40);
    let context = FitContext::new(1);
    let mut train = FitMask::all(&panel);
    train.forbid_times(390..panel.n_times());
    let fitted = detector().fit(&panel, &train, &context).unwrap();
    funnel.values.slice_mut(s![.., 400..660, ..]).fill(3.0);
    let changed = panel_of(&funnel);
    let mut mask = FitMask::all(&panel);
    mask.forbid_times(400..660);
    let run = |panel: &Panel| fitted.score(panel, &mask, &context).unwrap();
    let (a, b) = (run(&panel), run(&changed));
    assert_eq!(a.expected.unwrap(), b.expected.unwrap());
    assert_eq!(a.score.slice(s![.., 680..]), b.score.slice(s![.., 680..]));
}

#[test]
fn a_checkpoint_scores_alike_and_a_forged_one_is_refused() {
    let (_, panel) = simulated(7, 3, 30);
    let context = FitContext::new(1);
    let fitted = detector().fit(&panel, &FitMask::all(&panel), &context).unwrap();
    let state = fitted.state().unwrap();
    let back = detector().restore(state.clone(), &context).unwrap();
    let (a, b) = (
        fitted.score(&panel, &FitMask::all(&panel), &context).unwrap(),
        back.score(&panel, &FitMask::all(&panel), &context).unwrap(),
    );
    assert!(a.score.iter().zip(&b.score).all(|(a, b)| a == b || (a.is_nan() && b.is_nan())));
    for (path, value) in [
        ("/spreads/0/0/0", serde_json::json!(0.0)),
        ("/spreads", serde_json::json!([])),
        ("/widths", serde_json::json!([2, 3, 6])),
        ("/interval_level", serde_json::json!(1.5)),
        ("/profile/profiles/0/0/spread", serde_json::json!(-1.0)),
        ("/profile", serde_json::json!("lost")),
    ] {
        let mut forged = state.clone();
        *forged.json.pointer_mut(path).unwrap() = value;
        assert!(detector().restore(forged, &context).is_err(), "{path}");
    }
}

#[test]
fn unknown_and_unusable_series_are_listed_and_fail_nothing_else() {
    let (mut funnel, _) = simulated(8, 3, 30);
    funnel.values.slice_mut(s![1, .., ..]).fill(f64::NAN);
    let panel = panel_of(&funnel);
    let context = FitContext::new(1);
    let fitted = detector().fit(&panel, &FitMask::all(&panel), &context).unwrap();
    let scores = fitted.score(&panel, &FitMask::all(&panel), &context).unwrap();
    assert_eq!(scores.failures.iter().map(|f| f.series).collect::<Vec<_>>(), [1]);
    assert!(scores.score.row(0).iter().all(|z| z.is_finite()));
    let mut keys = panel.keys().to_vec();
    keys[2] = SeriesKey(vec!["new".into()]);
    let other = Panel::new(
        panel.level().clone(),
        panel.calendar().clone(),
        panel.metrics().to_vec(),
        keys,
        vec![0..panel.n_times(); 3],
        panel.values().clone(),
    )
    .unwrap();
    let failures = fitted.score(&other, &FitMask::all(&other), &context).unwrap().failures;
    assert_eq!(failures.len(), 2);
    assert!(failures[1].reason.contains("fit again"), "{}", failures[1].reason);
}

#[test]
fn one_series_of_a_hundred_thousand_minutes_is_scored() {
    let values: Vec<f64> = (0..100_000_u32)
        .map(|t| f64::from(t.wrapping_mul(2_654_435_761) >> 28) + f64::from(t % 1_440) / 100.0)
        .collect();
    let panel = Panel::new(
        Level { name: "key".into(), id_columns: vec!["key".into()] },
        Calendar::new(Step::Seconds(60), 0, 100_000, TimeZone::UTC),
        vec![Metric { name: "x".into(), kind: MetricKind::Measure }],
        vec![SeriesKey(vec!["a".into()])],
        std::iter::once(0..100_000).collect(),
        ndarray::Array3::from_shape_fn((1, 100_000, 1), |(_, t, _)| values[t]),
    )
    .unwrap();
    let (_, scores) = split(&panel, 60_000);
    assert!(scores.score.iter().all(|z| z.is_finite()));
    assert!(scores.metric_share.is_none());
}

#[test]
fn parameters_out_of_range_are_named() {
    let ok = SeasonalProfileParams::default();
    assert!(ok.check().is_empty());
    for widths_steps in [vec![0, 1], vec![3, 1], vec![1, 1], vec![1, 10_001]] {
        let wrong = SeasonalProfileParams { widths_steps, ..ok.clone() };
        assert_eq!(wrong.check()[0].0, "widths_steps");
        assert!(SeasonalProfileDetector::new(wrong).is_err());
    }
    for interval_level in [0.49, 1.0, f64::NAN] {
        let wrong = SeasonalProfileParams { interval_level, ..ok.clone() };
        assert_eq!(wrong.check()[0].0, "interval_level");
    }
    let mut wrong = ok;
    wrong.profile.outlier_cutoff = 0.0;
    assert_eq!(wrong.check()[0].0, "profile.outlier_cutoff");
    let error = SeasonalProfileDetector::new(wrong).unwrap_err().to_string();
    assert!(error.contains("outlier_cutoff"), "{error}");
    assert!(toml::from_str::<SeasonalProfileParams>("width = [1]").is_err());
}
