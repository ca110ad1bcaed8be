//! What moves the baseline besides season and trend: exposure, known events, levels that have
//! moved for good.

use std::sync::Arc;

use super::{counts_panel, panel_from, panel_of, simulation::gamma_poisson};
use crate::{
    detectors::{
        Detector, DetectorError, FitContext, FitMask, FittedDetector, KnownEvents, Scores,
        ScoringPlan,
        nb2::{FittedNb2, KnownEventRule, Nb2, Nb2Params, OnShift, OwnTerm, Scoring},
    },
    math::random::stream,
    panel::{MetricKind, Panel},
};

const CROSS: ScoringPlan = ScoringPlan::CrossFitted { block: 4 };
const KINDS: [MetricKind; 2] = [MetricKind::Count, MetricKind::Amount];

fn run(
    params: Nb2Params,
    panel: &Panel,
    plan: ScoringPlan,
    context: &FitContext,
) -> (Box<dyn FittedDetector>, Scores) {
    Nb2::new(params).unwrap().fit_score(panel, &FitMask::all(panel), plan, context).unwrap()
}

fn fit_of(fitted: &dyn FittedDetector, panel: &Panel) -> crate::detectors::nb2::Nb2Fit {
    let fitted = fitted.as_any().downcast_ref::<FittedNb2>().unwrap();
    fitted.fit_of(&panel.keys()[0], "metric0").unwrap().clone()
}

fn per_visitor() -> Nb2Params {
    Nb2Params { exposure: Some("metric1".into()), ..Nb2Params::default() }
}

/// Two years of counts, 0.05 per visitor; visitors double from week 60 on.
fn visited(number: u64) -> (Vec<f64>, Vec<f64>) {
    let mut rng = stream(5, "nb2 exposure", number);
    let visitors: Vec<f64> = (0..104).map(|t| if t < 60 { 800.0 } else { 1_600.0 }).collect();
    let counts = visitors.iter().map(|v| gamma_poisson(&mut rng, 0.05 * v, 0.02)).collect();
    (counts, visitors)
}

#[test]
fn counts_that_double_with_their_exposure_are_not_flagged_and_others_are() {
    let series: Vec<Vec<Vec<f64>>> = (0..12)
        .map(|i| {
            let (counts, visitors) = visited(i);
            vec![counts, visitors]
        })
        .collect();
    let panel = panel_of(&KINDS, &series);
    let context = FitContext::new(1);
    let flagged = |scores: &Scores| scores.score.iter().filter(|score| **score >= 2.0).count();
    for plan in [CROSS, ScoringPlan::Split { train_len: 58 }] {
        let (_, with) = run(per_visitor(), &panel, plan, &context);
        let (_, without) = run(Nb2Params::default(), &panel, plan, &context);
        assert!(flagged(&with) <= 12, "{plan:?}: {}", flagged(&with));
        assert!(flagged(&without) > 40, "{plan:?}: {}", flagged(&without));
        // The exposure is no count to be modelled.
        let expected = with.expected.unwrap();
        assert!(expected[[0, 80, 1]].is_nan());
        assert!((expected[[0, 80, 0]] / 80.0 - 1.0).abs() < 0.25, "{}", expected[[0, 80, 0]]);
    }
}

#[test]
fn a_step_without_exposure_is_not_scored_and_a_series_without_any_says_so() {
    let (counts, mut visitors) = visited(20);
    (visitors[10], visitors[11], visitors[12]) = (0.0, f64::NAN, -5.0);
    let panel = panel_of(&KINDS, &[vec![counts.clone(), visitors], vec![counts, vec![0.0; 104]]]);
    let context = FitContext::new(1);
    let (fitted, scores) = run(per_visitor(), &panel, CROSS, &context);
    let later = fitted.score(&panel, &FitMask::all(&panel), &context).unwrap();
    for scores in [&scores, &later] {
        for t in 0..104 {
            assert_eq!(scores.score[[0, t]].is_nan(), (10..13).contains(&t), "step {t}");
        }
        assert!(scores.score.row(1).iter().all(|score| score.is_nan()));
        assert_eq!(scores.failures.len(), 1);
        let reason = &scores.failures[0].reason;
        assert!(reason.contains("104 steps have no exposure above 0"), "{reason}");
    }
}

#[test]
fn an_exposure_that_the_panel_lacks_is_named_and_a_checkpoint_keeps_to_its_own() {
    let (counts, visitors) = visited(21);
    let panel = panel_of(&KINDS, &[vec![counts, visitors]]);
    let context = FitContext::new(1);
    let params = Nb2Params { exposure: Some("visits".into()), ..Nb2Params::default() };
    let error = Nb2::new(params).unwrap().fit(&panel, &FitMask::all(&panel), &context).err();
    assert!(
        matches!(error, Some(DetectorError::Parameter { parameter: "exposure", .. })),
        "{error:?}"
    );
    let (fitted, _) = run(per_visitor(), &panel, CROSS, &context);
    let state = fitted.state().unwrap();
    let restore = |params| Nb2::new(params).unwrap().restore(state.clone(), &context);
    assert!(restore(per_visitor()).is_ok());
    assert!(matches!(restore(Nb2Params::default()), Err(DetectorError::State { .. })));
}

fn regressed() -> Nb2Params {
    Nb2Params { known_events: KnownEventRule::Regress, ..Nb2Params::default() }
}

/// Four years of counts around 60 that a sale lifts to `factor` times as much in two weeks of each
/// of the years in `sales`.
fn with_sales(number: u64, factor: f64, sales: &[usize]) -> (Vec<f64>, KnownEvents) {
    let mut rng = stream(5, "nb2 known events", number);
    let mut counts: Vec<f64> = (0..208).map(|_| gamma_poisson(&mut rng, 60.0, 0.02)).collect();
    let mut known = KnownEvents::new(1);
    for year in sales {
        let weeks = year * 52 + 30..year * 52 + 32;
        counts[weeks.clone()].iter_mut().for_each(|y| *y = (*y * factor).round());
        known.add(0, "sale", weeks);
    }
    (counts, known)
}

fn knowing(known: KnownEvents) -> FitContext {
    FitContext { known_events: Arc::new(known), ..FitContext::new(1) }
}

#[test]
fn a_known_event_is_expected_once_other_years_have_told_what_it_does() {
    let (mut counts, known) = with_sales(1, 2.5, &[0, 1, 2, 3]);
    // The last sale brings next to nothing: that is the news.
    counts[3 * 52 + 30] = 60.0;
    counts[3 * 52 + 31] = 55.0;
    let panel = counts_panel(&[counts]);
    let context = knowing(known);
    for plan in [CROSS, ScoringPlan::Split { train_len: 150 }] {
        let (fitted, scores) = run(regressed(), &panel, plan, &context);
        let expected = scores.expected.as_ref().unwrap();
        for t in [30, 82, 134, 186] {
            let found = expected[[0, t, 0]];
            assert!((110.0..180.0).contains(&found), "{plan:?}, step {t}: {found}");
        }
        assert!(scores.score[[0, 82]] < 1.5, "{plan:?}: {}", scores.score[[0, 82]]);
        assert!(scores.score[[0, 186]] > 2.0, "{plan:?}: {}", scores.score[[0, 186]]);
        assert_eq!(scores.direction[[0, 186]], -1);
        let fit = fit_of(fitted.as_ref(), &panel);
        assert_eq!(fit.own_terms, [OwnTerm::KnownEvent("sale".into())]);
    }
}

#[test]
fn an_event_that_was_seen_once_does_not_explain_what_it_was_seen_with() {
    let (mut counts, known) = with_sales(2, 1.0, &[2]);
    counts[2 * 52 + 30] = 2_000.0;
    let panel = counts_panel(&[counts]);
    let (_, scores) = run(regressed(), &panel, CROSS, &knowing(known.clone()));
    let expected = scores.expected.as_ref().unwrap()[[0, 134, 0]];
    assert!(expected < 90.0, "{expected}");
    assert!(scores.score[[0, 134]] > 2.0, "{}", scores.score[[0, 134]]);
    // With what is not known of it in the interval.
    let (_, unknown) = run(Nb2Params::default(), &panel, CROSS, &FitContext::new(1));
    let width = |scores: &Scores| {
        scores.upper.as_ref().unwrap()[[0, 134, 0]] - scores.lower.as_ref().unwrap()[[0, 134, 0]]
    };
    assert!(width(&scores) > 2.0 * width(&unknown));
}

#[test]
fn an_event_that_no_fit_has_seen_widens_what_is_expected_of_it() {
    let (counts, mut known) = with_sales(3, 2.0, &[0, 1, 2]);
    known.add(0, "strike", 3 * 52 + 10..3 * 52 + 12);
    let panel = counts_panel(&[counts]);
    let plan = ScoringPlan::Split { train_len: 156 };
    let (_, scores) = run(regressed(), &panel, plan, &knowing(known));
    let (lower, upper) = (scores.lower.unwrap(), scores.upper.unwrap());
    let width = |t: usize| upper[[0, t, 0]] - lower[[0, t, 0]];
    assert!(width(166) > 2.0 * width(160), "{} {}", width(166), width(160));
    assert!(width(169) < 1.3 * width(160));
}

fn rebased() -> Nb2Params {
    Nb2Params { on_shift: OnShift::Rebase, ..Nb2Params::default() }
}

/// Three years of counts around 50 that are `factor` times as many from week `at` on.
fn moved(number: u64, at: usize, factor: f64) -> Vec<f64> {
    let mut rng = stream(5, "nb2 shifts", number);
    let mean = |t: usize| if t < at { 50.0 } else { 50.0 * factor };
    (0..156).map(|t| gamma_poisson(&mut rng, mean(t), 0.03)).collect()
}

fn flags(scores: &Scores, steps: std::ops::Range<usize>) -> usize {
    steps.filter(|&t| scores.score[[0, t]] >= 2.0).count()
}

#[test]
fn a_level_that_has_moved_is_flagged_and_then_becomes_the_baseline() {
    for (number, factor) in [(1, 2.2), (2, 0.35), (3, 1.8)] {
        let panel = counts_panel(&[moved(number, 100, factor)]);
        for (plan, least) in [(CROSS, 5), (ScoringPlan::Split { train_len: 80 }, 4)] {
            let (_, scores) = run(rebased(), &panel, plan, &FitContext::new(1));
            let what = format!("factor {factor}, {plan:?}");
            assert!(flags(&scores, 100..109) >= least, "{what}: {:?}", scores.score);
            assert!(flags(&scores, 110..156) <= 2, "{what}: {:?}", scores.score);
            let expected = scores.expected.as_ref().unwrap()[[0, 150, 0]];
            assert!((expected / (50.0 * factor) - 1.0).abs() < 0.25, "{what}: {expected}");
            assert_eq!(scores.notes.len(), 1, "{what}: {:?}", scores.notes);
            let note = &scores.notes[0];
            assert!(note.time.is_some_and(|t| t.abs_diff(100) <= 2), "{what}: {note:?}");
            assert!(note.text.contains("starts again there"), "{}", note.text);
        }
        let (_, kept) = run(Nb2Params::default(), &panel, CROSS, &FitContext::new(1));
        assert_eq!(kept.notes, []);
    }
}

#[test]
fn what_ends_in_time_is_an_event_and_no_new_level() {
    let mut counts = moved(4, 156, 1.0);
    counts[60..66].iter_mut().for_each(|y| *y *= 3.0);
    counts[120..126].iter_mut().for_each(|y| *y *= 3.0);
    let panel = counts_panel(&[counts]);
    for plan in [CROSS, ScoringPlan::Split { train_len: 100 }] {
        let (_, scores) = run(rebased(), &panel, plan, &FitContext::new(1));
        assert_eq!(scores.notes, [], "{plan:?}");
        assert!(flags(&scores, 120..126) >= 5);
        let expected = scores.expected.as_ref().unwrap()[[0, 140, 0]];
        assert!((expected / 50.0 - 1.0).abs() < 0.25, "{plan:?}: {expected}");
    }
}

#[test]
fn a_new_level_survives_the_checkpoint_and_scores_later_weeks() {
    let counts = moved(5, 90, 2.0);
    let panel = counts_panel(&[counts[..140].to_vec()]);
    let context = FitContext::new(1);
    let nb2 = Nb2::new(rebased()).unwrap();
    let fitted = nb2.fit(&panel, &FitMask::all(&panel), &context).unwrap();
    let terms = fit_of(fitted.as_ref(), &panel).own_terms;
    assert!(matches!(terms[..], [OwnTerm::LevelShift { at }] if at.abs_diff(90) <= 2), "{terms:?}");
    let restored = nb2.restore(fitted.state().unwrap(), &context).unwrap();
    let later = panel_from(140, &[MetricKind::Count], &[vec![counts[140..].to_vec()]]);
    let mask = FitMask::all(&later);
    let scores = restored.score(&later, &mask, &context).unwrap();
    assert!(flags(&scores, 0..16) <= 1);
    assert!((scores.expected.unwrap()[[0, 3, 0]] / 100.0 - 1.0).abs() < 0.2);
    assert_eq!(scores.notes, []);
    let as_it_stands = Nb2Params { scoring: Scoring::CrossFitted, ..rebased() };
    let (_, scores) = run(as_it_stands, &panel, ScoringPlan::Split { train_len: 120 }, &context);
    assert!((scores.expected.unwrap()[[0, 135, 0]] / 100.0 - 1.0).abs() < 0.2);
}

#[test]
fn steady_series_are_hardly_ever_taken_for_moved_ones() {
    let series: Vec<Vec<f64>> = (10..130).map(|i| moved(i, 156, 1.0)).collect();
    let panel = counts_panel(&series);
    for plan in [CROSS, ScoringPlan::Split { train_len: 80 }] {
        let (_, scores) = run(rebased(), &panel, plan, &FitContext::new(1));
        assert!(scores.notes.len() <= 1, "{plan:?}: {:?}", scores.notes);
    }
}
