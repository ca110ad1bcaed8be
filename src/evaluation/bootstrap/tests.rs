use super::*;
use crate::evaluation::{EvaluationInput, Event, evaluate};
use crate::panel::Step;
use ndarray::Array2;
use proptest::prelude::*;
use serde::Deserialize;

/// scipy 1.17.1, `scipy.stats.bootstrap(paired=True, method="percentile")`:
/// `tests/golden/bootstrap.py`.
const GOLDEN: &str = include_str!("../../../tests/golden/bootstrap.json");

#[derive(Deserialize)]
struct Golden {
    truth: Vec<String>,
    baseline: Vec<String>,
    other: Vec<String>,
    recall: Expected,
    precision: Expected,
    distribution: Vec<f64>,
    distribution_interval: (f64, f64),
}

#[derive(Deserialize)]
struct Expected {
    estimate: f64,
    interval: (f64, f64),
    standard_error: f64,
}

fn cells(rows: &[String]) -> Array2<bool> {
    Array2::from_shape_fn((rows.len(), rows[0].len()), |(s, t)| rows[s].as_bytes()[t] == b'1')
}

fn sample(
    truth: &Array2<bool>,
    flags: &Array2<bool>,
    score: &Array2<f64>,
    events: &[Event],
) -> RunSample {
    let scope = Array2::from_elem(truth.dim(), true);
    let place: Vec<usize> = (0..truth.nrows()).collect();
    let input = EvaluationInput { truth, events, scope: &scope, flags, score, step: Step::Week };
    RunSample::new(&input, true, 0, &place, truth.nrows())
}

fn by_flags(truth: &Array2<bool>, flags: &Array2<bool>) -> RunSample {
    sample(truth, flags, &flags.mapv(f64::from), &[])
}

fn find(all: &[(Figure, Option<Difference>)], figure: Figure) -> Difference {
    all.iter().find(|(f, _)| *f == figure).and_then(|(_, d)| *d).unwrap()
}

#[test]
fn intervals_agree_with_scipy() {
    let golden: Golden = serde_json::from_str(GOLDEN).unwrap();
    let truth = cells(&golden.truth);
    let a = by_flags(&truth, &cells(&golden.baseline));
    let b = by_flags(&truth, &cells(&golden.other));
    let bootstrap = Bootstrap { resamples: 20_000, level: 0.95, seed: 1 };
    let found = bootstrap.differences(&[truth.nrows()], &[(&a, &b)]);
    for (figure, expected) in
        [(Figure::Recall, golden.recall), (Figure::Precision, golden.precision)]
    {
        let Difference { estimate, interval } = find(&found, figure);
        assert!((estimate - expected.estimate).abs() < 1e-12);
        let (low, high) = interval.unwrap();
        // The Monte Carlo error of a 2.5 % quantile of 20,000 draws is 0.019 standard errors.
        let tolerance = 0.1 * expected.standard_error;
        assert!((low - expected.interval.0).abs() < tolerance, "{low} {:?}", expected.interval);
        assert!((high - expected.interval.1).abs() < tolerance, "{high} {:?}", expected.interval);
    }
}

#[test]
fn percentiles_are_those_of_scipy() {
    let golden: Golden = serde_json::from_str(GOLDEN).unwrap();
    let mut values = golden.distribution;
    let (low, high) = percentile_interval(&mut values, 0.95).unwrap();
    // The same interpolation of the same numbers: only the order of two operations may differ.
    assert!((low - golden.distribution_interval.0).abs() < 1e-12);
    assert!((high - golden.distribution_interval.1).abs() < 1e-12);
    assert_eq!(percentile_interval(&mut [], 0.95), None);
    assert_eq!(percentile_interval(&mut [2.0], 0.95), Some((2.0, 2.0)));
}

#[test]
fn a_run_differs_from_itself_by_nothing() {
    let golden: Golden = serde_json::from_str(GOLDEN).unwrap();
    let a = by_flags(&cells(&golden.truth), &cells(&golden.baseline));
    let bootstrap = Bootstrap { resamples: 200, level: 0.95, seed: 3 };
    for (figure, difference) in bootstrap.differences(&[30], &[(&a, &a)]) {
        // Without events there is neither recall nor delay of events.
        let Some(difference) = difference else {
            assert!(matches!(figure, Figure::EventRecall | Figure::MeanDelaySteps));
            continue;
        };
        assert_eq!((difference.estimate, difference.interval), (0.0, Some((0.0, 0.0))));
        assert!(!difference.is_clear());
    }
}

#[test]
fn seeds_on_the_same_data_do_not_narrow_the_interval() {
    let golden: Golden = serde_json::from_str(GOLDEN).unwrap();
    let truth = cells(&golden.truth);
    let a = by_flags(&truth, &cells(&golden.baseline));
    let b = by_flags(&truth, &cells(&golden.other));
    let bootstrap = Bootstrap { resamples: 500, level: 0.95, seed: 1 };
    let once = find(&bootstrap.differences(&[30], &[(&a, &b)]), Figure::Recall);
    let thrice = find(&bootstrap.differences(&[30], &[(&a, &b); 3]), Figure::Recall);
    let close = |x: f64, y: f64| (x - y).abs() < 1e-12;
    let ((low, high), (low3, high3)) = (once.interval.unwrap(), thrice.interval.unwrap());
    assert!(close(low, low3) && close(high, high3));
    // Another data set of the same kind does.
    let mut b2 = b.clone();
    let mut a2 = a.clone();
    (a2.data_set, b2.data_set) = (1, 1);
    let two = find(&bootstrap.differences(&[30, 30], &[(&a, &b), (&a2, &b2)]), Figure::Recall);
    let (low2, high2) = two.interval.unwrap();
    assert!(high2 - low2 < 0.85 * (high - low), "{} {}", high2 - low2, high - low);
}

proptest! {
    /// Counting by series and weighing cells must not change what `evaluate` says of the whole,
    /// and drawing a series twice is the same as having it twice.
    #[test]
    fn figures_are_those_of_evaluate(
        rows in prop::collection::vec(
            prop::collection::vec((any::<bool>(), any::<bool>(), 0u8..5), 6), 2..5),
        weights in prop::collection::vec(0u32..3, 4),
    ) {
        let n = rows.len();
        let drawn: Vec<usize> = (0..n).flat_map(|s| vec![s; weights[s] as usize]).collect();
        let pick = |s: &[usize]| -> (Array2<bool>, Array2<bool>, Array2<f64>, Vec<Event>) {
            let at = |(s, t): (usize, usize), order: &[usize]| rows[order[s]][t];
            let truth = Array2::from_shape_fn((s.len(), 6), |c| at(c, s).0);
            let events = (0..s.len())
                .flat_map(|row| alert_ranges(&truth, row).into_iter().map(move |steps| Event {
                    series: row, steps, kind: "spike".into() }))
                .collect();
            let flags = Array2::from_shape_fn((s.len(), 6), |c| at(c, s).1);
            let score = Array2::from_shape_fn((s.len(), 6), |c| f64::from(at(c, s).2));
            (truth, flags, score, events)
        };
        let all: Vec<usize> = (0..n).collect();
        let (truth, flags, score, events) = pick(&all);
        let figures = sample(&truth, &flags, &score, &events).figures(&weights[..n]);
        let (truth, flags, score, events) = pick(&drawn);
        let scope = Array2::from_elem(truth.dim(), true);
        let whole = evaluate(&EvaluationInput {
            truth: &truth, events: &events, scope: &scope, flags: &flags, score: &score,
            step: Step::Week,
        }).figures();
        for (figure, value) in Figure::ALL.iter().zip(figures) {
            let Some(expected) = whole.get(figure.as_str()) else { continue };
            match (value, expected) {
                (Some(x), Some(y)) => prop_assert!((x - y).abs() < 1e-12, "{figure:?} {x} {y}"),
                (x, y) => prop_assert!(x.is_none() && y.is_none(), "{figure:?} {x:?} {y:?}"),
            }
        }
    }
}

fn alert_ranges(cells: &Array2<bool>, row: usize) -> Vec<std::ops::Range<usize>> {
    let all = ndarray::Array1::from_elem(cells.ncols(), true);
    crate::evaluation::alert_diff::alerts(cells.row(row), all.view())
}
