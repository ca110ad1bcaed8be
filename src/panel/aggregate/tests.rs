//! Rows to panels.

use super::*;
use polars::prelude::{Column, df};

fn level(name: &str, columns: &[&str]) -> Level {
    Level { name: name.into(), id_columns: columns.iter().map(|c| c.to_string()).collect() }
}

fn plan(metrics: Vec<Metric>, duplicates: Duplicates, spans: SpanRule) -> AggregationPlan {
    AggregationPlan {
        step: Step::Week,
        time_zone: TimeZone::UTC,
        id_columns: vec!["pair".into(), "key".into()],
        metrics,
        duplicates,
        spans,
        edges: Edges::Trim,
        blank_is_missing: true,
    }
}

fn count(name: &str) -> Metric {
    Metric { name: name.into(), kind: MetricKind::Count }
}

fn frame(pair: &[&str], key: &[&str], week: &[i64], value: &[f64]) -> DataFrame {
    let time: Vec<i64> = week.iter().map(|w| w * 604_800 + 345_600).collect(); // Mondays
    df!("pair" => pair, "key" => key, TIME_COLUMN => time, "count" => value).unwrap()
}

#[test]
fn events_are_counted_at_every_level_and_quiet_weeks_are_zero() {
    let mut rows =
        Aggregator::new(plan(vec![count("count")], Duplicates::Combine, SpanRule::Calendar));
    rows.push(&frame(&["p", "p", "q"], &["b", "a", "a"], &[2, 0, 1], &[1.0; 3])).unwrap();
    rows.push(&frame(&["p"], &["a"], &[0], &[1.0])).unwrap();
    let pair = level("pair", &["pair"]);
    let keys = rows.build(&level("key", &["pair", "key"]), &pair, Scope::default()).unwrap();
    assert_eq!(keys.n_series(), 3);
    assert_eq!(keys.metric(0, 0).to_vec(), [2.0, 0.0, 0.0]);
    let pairs = rows.build(&pair, &pair, Scope::default()).unwrap();
    assert_eq!(pairs.metric(0, 0).to_vec(), [2.0, 0.0, 1.0]);
    assert_eq!(rows.n_rows(), 4);
}

#[test]
fn a_second_row_for_an_aggregated_cell_is_refused() {
    let mut rows =
        Aggregator::new(plan(vec![count("count")], Duplicates::Reject, SpanRule::Observed));
    let refused = rows.push(&frame(&["p", "p"], &["a", "a"], &[0, 0], &[5.0, 7.0])).unwrap();
    assert_eq!(refused, [1]);
    let level = level("key", &["pair", "key"]);
    assert_eq!(rows.build(&level, &level, Scope::default()).unwrap().metric(0, 0)[0], 5.0);
}

#[test]
fn long_rows_of_two_metrics_share_a_cell_without_being_duplicates() {
    let mut plan =
        plan(vec![count("count"), count("other")], Duplicates::Reject, SpanRule::Observed);
    plan.blank_is_missing = false;
    let mut rows = Aggregator::new(plan);
    let nan = f64::NAN;
    let frame = df!(
        "pair" => ["p", "p", "p"], "key" => ["a", "a", "a"], TIME_COLUMN => [345_600_i64; 3],
        "count" => [5.0, nan, 6.0], "other" => [nan, 7.0, nan]
    )
    .unwrap();
    assert_eq!(rows.push(&frame).unwrap(), [2]);
    let level = level("key", &["pair", "key"]);
    let panel = rows.build(&level, &level, Scope::default()).unwrap();
    assert_eq!(panel.series(0).row(0).to_vec(), [5.0, 7.0]);
}

#[test]
fn measures_are_averaged_and_gaps_stay_missing() {
    let metric = Metric { name: "count".into(), kind: MetricKind::Measure };
    let mut rows = Aggregator::new(plan(vec![metric], Duplicates::Combine, SpanRule::FirstSeen));
    rows.push(&frame(&["p"; 3], &["a", "a", "b"], &[1, 1, 3], &[2.0, 4.0, 1.0])).unwrap();
    let level = level("key", &["pair", "key"]);
    let panel = rows.build(&level, &level, Scope::default()).unwrap();
    assert_eq!(panel.metric(0, 0)[0], 3.0);
    assert!(panel.metric(0, 0)[1].is_nan());
    assert_eq!(panel.span(1), 2..3);
}

#[test]
fn a_blank_count_is_missing_and_a_week_without_rows_is_zero() {
    let mut rows =
        Aggregator::new(plan(vec![count("count")], Duplicates::Combine, SpanRule::Calendar));
    rows.push(&frame(&["p", "p"], &["a", "a"], &[0, 2], &[f64::NAN, 3.0])).unwrap();
    let level = level("key", &["pair", "key"]);
    let panel = rows.build(&level, &level, Scope::default()).unwrap();
    assert!(panel.metric(0, 0)[0].is_nan());
    assert_eq!(panel.metric(0, 0).to_vec()[1..], [0.0, 3.0]);
}

#[test]
fn limiting_the_keys_leaves_the_total_of_their_pair() {
    let mut rows =
        Aggregator::new(plan(vec![count("count")], Duplicates::Combine, SpanRule::Calendar));
    rows.push(&frame(&["p", "p"], &["a", "b"], &[0; 2], &[1.0, 5.0])).unwrap();
    let scope = Scope { max_pairs: None, max_keys: Some(1) };
    let pair = level("pair", &["pair"]);
    assert_eq!(rows.build(&pair, &pair, scope).unwrap().metric(0, 0)[0], 6.0);
    assert_eq!(rows.build(&level("key", &["pair", "key"]), &pair, scope).unwrap().n_series(), 1);
}

#[test]
fn a_stray_date_is_an_error_that_names_both_ends() {
    let mut rows =
        Aggregator::new(plan(vec![count("count")], Duplicates::Combine, SpanRule::Calendar));
    rows.push(&frame(&["p", "p"], &["a", "a"], &[0, 2_900], &[1.0; 2])).unwrap();
    let level = level("key", &["pair", "key"]);
    let error = rows.build(&level, &level, Scope::default()).unwrap_err().to_string();
    assert!(error.contains("1970-01-05") && error.contains("2025-08-04"), "{error}");
}

#[test]
fn the_scope_keeps_the_largest() {
    let mut rows =
        Aggregator::new(plan(vec![count("count")], Duplicates::Combine, SpanRule::Calendar));
    rows.push(&frame(&["p", "p", "q"], &["a", "b", "c"], &[0; 3], &[1.0, 5.0, 3.0])).unwrap();
    let scope = Scope { max_pairs: Some(1), max_keys: Some(1) };
    let panel =
        rows.build(&level("key", &["pair", "key"]), &level("pair", &["pair"]), scope).unwrap();
    assert_eq!(panel.keys(), [SeriesKey(vec!["p".into(), "b".into()])]);
}

#[test]
fn a_ratio_without_its_denominator_is_missing() {
    let ratio = Metric {
        name: "rate".into(),
        kind: MetricKind::Ratio { numerator: "count".into(), denominator: "count".into() },
    };
    let plan = plan(vec![count("count"), ratio], Duplicates::Combine, SpanRule::Calendar);
    let mut rows = Aggregator::new(plan);
    rows.push(&frame(&["p", "p"], &["a", "a"], &[0, 1], &[4.0, 0.0])).unwrap();
    let level = level("key", &["pair", "key"]);
    let panel = rows.build(&level, &level, Scope::default()).unwrap();
    assert_eq!(panel.metric(0, 1)[0], 1.0);
    assert!(panel.metric(0, 1)[1].is_nan());
}

#[test]
fn a_missing_column_is_an_error() {
    let mut rows =
        Aggregator::new(plan(vec![count("count")], Duplicates::Combine, SpanRule::Calendar));
    let frame = DataFrame::new_infer_height(vec![Column::new("pair".into(), ["p"])]).unwrap();
    assert!(rows.push(&frame).is_err());
}

#[test]
fn a_last_week_that_ends_early_is_left_out_unless_it_is_to_stay() {
    let build = |edges: Edges| {
        let mut plan = plan(vec![count("count")], Duplicates::Combine, SpanRule::Calendar);
        plan.edges = edges;
        let mut rows = Aggregator::new(plan);
        // Two rows a day for six weeks, the last of which ends on its third day.
        let times: Vec<i64> = (0..5 * 14 + 6).map(|i| 345_600 + i * 43_200).collect();
        let n = times.len();
        let frame = df!(
            "pair" => vec!["p"; n], "key" => vec!["a"; n], TIME_COLUMN => times, "count" => vec![1.0; n]
        )
        .unwrap();
        rows.push(&frame).unwrap();
        let level = level("key", &["pair", "key"]);
        let panel = rows.build(&level, &level, Scope::default()).unwrap();
        (panel.metric(0, 0).to_vec(), rows.cut_edges().len())
    };
    assert_eq!(build(Edges::Trim), (vec![14.0; 5], 1));
    assert_eq!(build(Edges::Keep), (vec![14.0, 14.0, 14.0, 14.0, 14.0, 6.0], 0));
}
