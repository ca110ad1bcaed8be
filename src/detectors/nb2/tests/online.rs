//! One step at a time, and all at once: the same answers.

use std::sync::Arc;

use super::{counts_panel, panel_of, simulation::gamma_poisson};
use crate::{
    detectors::{
        Detector, FitContext, FitMask, KnownEvents,
        nb2::{FittedNb2, KnownEventRule, Nb2, Nb2Params, Nb2Step, Nb2Update, OnShift},
    },
    math::random::stream,
    panel::{MetricKind, Panel},
};

const TRAINED: usize = 104;

fn counts(number: u64, n: usize, shift: usize) -> Vec<f64> {
    let mut rng = stream(5, "nb2 online", number);
    (0..n)
        .map(|t| {
            let season = (0.3 * (t as f64 / 52.18 * std::f64::consts::TAU).sin()).exp();
            let factor = if t >= shift { 2.2 } else { 1.0 };
            gamma_poisson(&mut rng, (3.0 + 10.0 * number as f64) * season * factor, 0.05)
        })
        .collect()
}

/// The first `n` steps of a panel.
fn head(panel: &Panel, n: usize) -> Panel {
    let calendar = panel.calendar();
    let calendar = crate::panel::Calendar::new(
        calendar.step(),
        calendar.origin(),
        n,
        calendar.time_zone().clone(),
    );
    let values = panel.values().slice(ndarray::s![.., ..n, ..]).to_owned();
    let spans = vec![0..n; panel.n_series()];
    let (level, metrics) = (panel.level().clone(), panel.metrics().to_vec());
    Panel::new(level, calendar, metrics, panel.keys().to_vec(), spans, values).unwrap()
}

/// Fits on the first two years and feeds the rest step by step; compares with the scores of the
/// whole panel at once.
fn assert_the_same(
    params: Nb2Params,
    panel: &Panel,
    context: &FitContext,
    step: impl Fn(usize, usize) -> Nb2Step<'static>,
) {
    let nb2 = Nb2::new(params).unwrap();
    let trained = head(panel, TRAINED);
    let fitted = nb2.fit(&trained, &FitMask::all(&trained), context).unwrap();
    let at_once = fitted.score(panel, &FitMask::all(panel), context).unwrap();
    let fitted = fitted.as_any().downcast_ref::<FittedNb2>().unwrap();
    // The stream starts in the middle of the new steps.
    let seen = head(panel, TRAINED + 5);
    let mut stream = fitted.stream(&seen, &FitMask::all(&seen), context).unwrap();
    let mut n_levels = 0;
    for s in 0..panel.n_series() {
        let place = stream.find(&panel.keys()[s]).unwrap();
        for t in TRAINED + 5..panel.n_times() {
            let found = stream.update(place, 0, step(s, t));
            let log_p = at_once.log_p.as_ref().unwrap()[[s, t]];
            let Some(found) = found else {
                assert!(log_p.is_nan(), "series {s}, step {t}");
                continue;
            };
            let close = |a: f64, b: f64, what: &str| {
                let error = (a - b).abs() / (1.0 + b.abs());
                assert!(error < 1e-9, "series {s}, step {t}, {what}: {a} is not {b}");
            };
            let Nb2Update { expected, lower, upper, direction, new_level, .. } = found;
            close(found.log_p, log_p, "log p");
            close(expected, at_once.expected.as_ref().unwrap()[[s, t, 0]], "expected");
            close(lower, at_once.lower.as_ref().unwrap()[[s, t, 0]], "lower");
            close(upper, at_once.upper.as_ref().unwrap()[[s, t, 0]], "upper");
            assert_eq!(direction, at_once.direction[[s, t]]);
            n_levels += usize::from(new_level.is_some());
        }
    }
    let noted = |note: &&crate::detectors::SeriesNote| note.time.is_some_and(|t| t >= TRAINED + 5);
    assert_eq!(n_levels, at_once.notes.iter().filter(noted).count());
}

#[test]
fn an_update_says_what_the_scores_of_the_whole_panel_say() {
    let mut series: Vec<Vec<f64>> = (0..8).map(|i| counts(i, 300, 300)).collect();
    series[2][150..156].fill(f64::NAN);
    series[3][200] = 900.0;
    series[4][220..226].iter_mut().for_each(|y| *y *= 3.0);
    let panel = counts_panel(&series);
    let step = |s: usize, t: usize| Nb2Step::count(series[s][t]);
    let params = Nb2Params { min_cases: 3.0, ..Nb2Params::default() };
    assert_the_same(params, &panel, &FitContext::new(1), step);
}

#[test]
fn an_update_starts_the_baseline_again_as_the_panel_does() {
    let series: Vec<Vec<f64>> = (1..6).map(|i| counts(i, 190, 150)).collect();
    let panel = counts_panel(&series);
    let params = Nb2Params { on_shift: OnShift::Rebase, ..Nb2Params::default() };
    let step = |s: usize, t: usize| Nb2Step::count(series[s][t]);
    assert_the_same(params.clone(), &panel, &FitContext::new(1), step);
    let nb2 = Nb2::new(params).unwrap();
    let trained = head(&panel, TRAINED);
    let fitted = nb2.fit(&trained, &FitMask::all(&trained), &FitContext::new(1)).unwrap();
    let fitted = fitted.as_any().downcast_ref::<FittedNb2>().unwrap();
    let mut stream = fitted.stream(&trained, &FitMask::all(&trained), &FitContext::new(1)).unwrap();
    let new: Vec<(usize, f64)> = (TRAINED..190)
        .filter_map(|t| Some((t, stream.update(4, 0, Nb2Step::count(series[4][t]))?.new_level?)))
        .collect();
    assert_eq!(new.len(), 1, "{new:?}");
    assert!((156..162).contains(&new[0].0) && (1.7..2.8).contains(&new[0].1), "{new:?}");
}

#[test]
fn an_update_knows_exposure_and_events() {
    let visitors: Vec<f64> =
        (0..160).map(|t| if t == 130 { 0.0 } else { 100.0 + t as f64 }).collect();
    let series: Vec<Vec<f64>> = (1..4).map(|i| counts(i, 160, 160)).collect();
    let values: Vec<Vec<Vec<f64>>> =
        series.iter().map(|y| vec![y.clone(), visitors.clone()]).collect();
    let panel = panel_of(&[MetricKind::Count, MetricKind::Amount], &values);
    let mut known = KnownEvents::new(3);
    for s in 0..3 {
        known.add(s, "sale", 30..33);
        known.add(s, "sale", 120..123);
    }
    let context = FitContext { known_events: Arc::new(known), ..FitContext::new(1) };
    let params = Nb2Params {
        exposure: Some("metric1".into()),
        known_events: KnownEventRule::Regress,
        ..Nb2Params::default()
    };
    assert_the_same(params, &panel, &context, |s, t| Nb2Step {
        value: series[s][t],
        exposure: Some(visitors[t]),
        known_events: if (120..123).contains(&t) { &["sale"] } else { &[] },
    });
}

#[test]
fn a_series_that_nobody_knows_has_no_answer() {
    let panel = counts_panel(&[counts(1, TRAINED, TRAINED), vec![f64::NAN; TRAINED]]);
    let (mask, context) = (FitMask::all(&panel), FitContext::new(1));
    let fitted = Nb2::new(Nb2Params::default()).unwrap().fit(&panel, &mask, &context).unwrap();
    let fitted = fitted.as_any().downcast_ref::<FittedNb2>().unwrap();
    let mut stream = fitted.stream(&panel, &mask, &context).unwrap();
    assert!(stream.update(0, 0, Nb2Step::count(9.0)).is_some());
    assert_eq!(stream.update(0, 0, Nb2Step::count(f64::NAN)), None);
    for (series, metric) in [(1, 0), (2, 0), (0, 1)] {
        assert_eq!(stream.update(series, metric, Nb2Step::count(9.0)), None);
    }
}
