//! What every detector of rows must do, for their own tests.

use jiff::tz::TimeZone;
use ndarray::s;

use super::*;
use crate::{
    detectors::funnel,
    math::random::stream,
    panel::{Calendar, Level, Metric, MetricKind, SeriesKey, Step},
};

/// Hours of the simulated funnel that are learnt.
const TRAIN: usize = 700;

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

fn simulated(seed: u64, days: usize) -> (funnel::Funnel, Panel) {
    let funnel = funnel::simulate(&mut stream(seed, "funnel", 0), 6, days);
    let panel = panel_of(&funnel);
    (funnel, panel)
}

fn split(detector: &impl Detector, panel: &Panel) -> (Box<dyn FittedDetector>, Scores) {
    let (mask, plan) = (FitMask::all(panel), ScoringPlan::Split { train_len: TRAIN });
    detector.fit_score(panel, &mask, plan, &FitContext::new(1)).unwrap()
}

/// A spike and a drop score higher than 97 of 100 clean hours, with their direction, and the metric
/// that moved has most of the share.
pub fn finds_spikes_and_drops(detector: &impl Detector) {
    let (mut funnel, _) = simulated(1_001, 40);
    for (brand, from, factor) in [(4, 800, 6.0), (5, 850, 0.0)] {
        for hour in from..from + 6 {
            funnel.values.slice_mut(s![brand, hour, ..3]).mapv_inplace(|v| (v * factor).round());
        }
    }
    // Nobody buys, at normal views and carts.
    funnel.values.slice_mut(s![5, 900..908, 2..]).fill(0.0);
    let panel = panel_of(&funnel);
    let (_, scores) = split(detector, &panel);
    let mut clean: Vec<f64> = scores
        .score
        .indexed_iter()
        .filter(|(at, score)| at.1 >= TRAIN && funnel.labels[*at] == 0 && !score.is_nan())
        .map(|(_, score)| *score)
        .collect();
    clean.sort_by(f64::total_cmp);
    let high = clean[clean.len() * 97 / 100];
    for (brand, hour, direction) in [(4, 802, 1), (5, 853, -1), (5, 905, -1)] {
        let cell = [brand, hour];
        assert!(scores.score[cell] > high, "{cell:?}: {} <= {high}", scores.score[cell]);
        assert_eq!(scores.direction[cell], direction, "{cell:?}");
    }
    let share = scores.metric_share.as_ref().unwrap();
    let buying = share.slice(s![5, 905, 2..]).sum();
    assert!(buying > 0.6, "{buying}");
    for (cell, score) in scores.score.indexed_iter().filter(|(_, score)| !score.is_nan()) {
        let sum = share.slice(s![cell.0, cell.1, ..]).sum();
        assert!(score.is_finite() && (sum - 1.0).abs() < 1e-4, "{cell:?}: {sum}");
    }
}

/// A checkpoint's detector scores to the bit as the fitted one does, and a forged state is refused.
pub fn restores_to_the_bit(detector: &impl Detector, forged: &[(&str, serde_json::Value)]) {
    let (_, panel) = simulated(7, 30);
    let context = FitContext::new(1);
    let mask = FitMask::all(&panel);
    let fitted = detector.fit(&panel, &mask, &context).unwrap();
    let state = fitted.state().unwrap();
    let json: serde_json::Value =
        serde_json::from_str(&serde_json::to_string(&state.json).unwrap()).unwrap();
    let back = detector.restore(DetectorState { json, weights: None }, &context).unwrap();
    let scores = |fitted: &dyn FittedDetector| fitted.score(&panel, &mask, &context).unwrap();
    let (a, b) = (scores(fitted.as_ref()), scores(back.as_ref()));
    assert!(a.score.iter().any(|score| score.is_finite()));
    assert!(a.score.iter().zip(&b.score).all(|(a, b)| a.to_bits() == b.to_bits()));
    assert_eq!(a.metric_share, b.metric_share);
    let common = [
        ("/rows/spreads", serde_json::json!([])),
        ("/rows/widths", serde_json::json!([2, 3, 6])),
        ("/rows/widths", serde_json::json!([1, 3])),
        ("/rows/profile", serde_json::json!("lost")),
        ("/model", serde_json::json!({})),
    ];
    for (path, value) in common.iter().chain(forged) {
        let mut wrong = state.clone();
        *wrong.json.pointer_mut(path).unwrap() = value.clone();
        assert!(detector.restore(wrong, &context).is_err(), "{path}");
    }
}

/// Held-out scores do not depend on the values of their own block; masked cells teach nothing.
pub fn held_out_scores_do_not_know_their_block(detector: &impl Detector) {
    let (funnel, panel) = simulated(5, 28);
    let plan = ScoringPlan::CrossFitted { block: 168 };
    let mut mask = FitMask::all(&panel);
    mask.forbid_times(600..640);
    let run =
        |panel: &Panel| detector.fit_score(panel, &mask, plan, &FitContext::new(1)).unwrap().1;
    let mut changed = funnel;
    changed.values.slice_mut(s![.., 336..340, ..]).fill(1.0);
    changed.values.slice_mut(s![.., 600..640, ..]).fill(0.0);
    let (a, b) = (run(&panel), run(&panel_of(&changed)));
    // The last hours of the second block's week are scored by a fit without that week, and no window
    // of theirs reaches back to the changed hours.
    let same = s![.., 350..504];
    for (a, b) in a.score.slice(same).iter().zip(b.score.slice(same)) {
        assert!(a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()), "{a} is not {b}");
    }
    assert!(a.score.slice(same).iter().any(|score| score.is_finite()));
}

/// Series that the fit has not seen, or cannot use, are listed and fail nothing else; a panel with
/// nothing to learn from is an error that says so.
pub fn lists_what_it_cannot_score(detector: &impl Detector) {
    let (mut funnel, _) = simulated(8, 30);
    funnel.values.slice_mut(s![1, .., ..]).fill(f64::NAN);
    let panel = panel_of(&funnel);
    let (context, mask) = (FitContext::new(1), FitMask::all(&panel));
    let fitted = detector.fit(&panel, &mask, &context).unwrap();
    let scores = fitted.score(&panel, &mask, &context).unwrap();
    assert_eq!(scores.failures.iter().map(|f| f.series).collect::<Vec<_>>(), [1]);
    assert!(scores.score.row(0).iter().all(|score| score.is_finite()));
    let mut nothing = mask.clone();
    nothing.forbid_times(0..panel.n_times());
    let error = detector.fit(&panel, &nothing, &context).err().unwrap().to_string();
    assert!(error.contains("longer history"), "{error}");
}
