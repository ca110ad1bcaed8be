//! The tables of `anomalist evaluate`.

use super::text::table;
use crate::pipeline::{LevelMetrics, METRICS_FILE, Metrics, RECORDS_LEVEL};

/// Title and key of every column of a table.
type Columns = &'static [(&'static str, &'static str)];

const POINTS: Columns = &[
    ("precision", "precision"),
    ("recall", "recall"),
    ("F1", "f1"),
    ("FPR", "fpr"),
    ("AUC-PR", "auc_pr"),
    ("AUC-ROC", "auc_roc"),
    ("VUS-PR", "vus_pr"),
    ("VUS-ROC", "vus_roc"),
    ("pooled VUS-PR", "vus_pr_pooled"),
];

const EVENTS: Columns = &[
    ("POD", "event_recall"),
    ("first week", "pod_first_week"),
    ("PPV", "ppv"),
    ("F1", "event_f1"),
    ("mean delay", "mean_delay_steps"),
    ("median", "median_delay_steps"),
    ("false/yr", "false_alerts_per_series_year"),
    ("aff. prec.", "affiliation_precision"),
    ("aff. recall", "affiliation_recall"),
];

/// Every level's tables, and where the files are.
pub fn metrics(metrics: &Metrics) -> String {
    let mut out = String::new();
    for level in &metrics.levels {
        out.push_str(&level_text(level));
    }
    out.push_str(&format!(
        "metrics     {}\ncharts      {}\n",
        metrics.out.join(METRICS_FILE).display(),
        metrics.out.display()
    ));
    out
}

fn level_text(level: &LevelMetrics) -> String {
    let records = level.level == RECORDS_LEVEL;
    let (points, events) =
        if records { ("rows", "of them labelled") } else { ("points", "labelled events") };
    let mut out = format!(
        "level {}: {} {points} measured, {} {events}\n",
        level.level, level.cells, level.labelled_events
    );
    if level.scorers.is_empty() {
        out.push_str("  no label names a series of this level\n\n");
        return out;
    }
    out.push_str(&figures(points, level, POINTS));
    if !records {
        out.push_str(&figures("events", level, EVENTS));
    }
    out.push_str(&by_kind(level, if records { "rows found" } else { "events found" }));
    out.push_str(&calibration(level));
    out.push_str(if records {
        "\n"
    } else {
        "  POD: share of events with a flag; PPV: share of alerts that touch an event; delay in steps\n\n"
    });
    out
}

fn shown(value: Option<f64>) -> String {
    value.map_or("-".into(), |x| format!("{x:.3}"))
}

fn figures(title: &str, level: &LevelMetrics, columns: Columns) -> String {
    let known = |key: &str| level.scorers.iter().any(|scorer| scorer.figures.contains_key(key));
    let columns: Vec<_> = columns.iter().filter(|(_, key)| known(key)).collect();
    let mut rows = vec![vec![title.to_string(), String::new()]];
    rows[0].extend(columns.iter().map(|(title, _)| title.to_string()));
    for scorer in &level.scorers {
        // The scope is worth a column only where it is not the usual one.
        let scope = if scorer.is_everywhere() { "" } else { &scorer.scope };
        let mut cells = vec![scorer.who.clone(), scope.to_string()];
        cells.extend(
            columns.iter().map(|(_, key)| shown(scorer.figures.get(*key).copied().flatten())),
        );
        rows.push(cells);
    }
    table(&rows)
}

fn by_kind(level: &LevelMetrics, title: &str) -> String {
    let Some(first) = level.scorers.first() else { return String::new() };
    let kinds: Vec<&String> = first.by_kind.keys().collect();
    let mut rows = vec![vec![title.to_string(), String::new()]];
    rows[0].extend(kinds.iter().map(|kind| kind.to_string()));
    for scorer in level.scorers.iter().filter(|scorer| scorer.is_everywhere()) {
        let mut cells = vec![scorer.who.clone(), String::new()];
        cells.extend(kinds.iter().map(|kind| {
            scorer.by_kind.get(*kind).map_or("-".into(), |(found, all)| format!("{found}/{all}"))
        }));
        rows.push(cells);
    }
    table(&rows)
}

fn calibration(level: &LevelMetrics) -> String {
    let titles = [
        "p-values on clean points",
        "p <= .05",
        "p <= .01",
        "p <= .001",
        "in interval",
        "promised",
    ];
    let mut rows: Vec<Vec<String>> = vec![titles.map(String::from).to_vec()];
    for found in &level.calibration {
        rows.push(vec![
            found.row.detector.clone(),
            format!("{:.4}", found.row.p05),
            format!("{:.4}", found.row.p01),
            format!("{:.5}", found.row.p001),
            found.row.coverage.map_or("-".into(), |x| format!("{x:.4}")),
            found.nominal_coverage.map_or("-".into(), |x| x.to_string()),
        ]);
    }
    table(&rows)
}
