//! The tables of a report: figures against labels, decision rules, calibration.

use super::summary::LevelSummary;
use crate::{ensemble::RuleSummary, report::MetricTable};

/// The tables of figures of one level.
pub fn of_level(level: &LevelSummary) -> Vec<MetricTable> {
    const FIGURES: [(&str, &str); 13] = [
        ("precision", "precision"),
        ("recall", "recall"),
        ("f1", "F1"),
        ("fpr", "FPR"),
        ("event_recall", "event recall"),
        ("ppv", "PPV"),
        ("event_f1", "event F1"),
        ("auc_pr", "AUC-PR"),
        ("auc_roc", "AUC-ROC"),
        ("vus_pr", "VUS-PR"),
        ("vus_roc", "VUS-ROC"),
        ("false_alerts_per_series_year", "false alerts per series-year"),
        ("mean_delay_steps", "mean delay (steps)"),
    ];
    let mut tables = Vec::new();
    if !level.quality.is_empty() {
        let mut columns = vec!["who".to_string(), "scope".to_string()];
        columns.extend(FIGURES.iter().map(|(_, title)| title.to_string()));
        tables.push(MetricTable {
            title: format!("Against the labels, level {}", level.level),
            columns,
            rows: level
                .quality
                .iter()
                .map(|row| {
                    let mut cells = vec![row.who.clone(), row.scope.clone()];
                    cells.extend(FIGURES.iter().map(|(key, _)| {
                        let value = row.figures.get(*key).copied().flatten();
                        value.map_or("–".into(), |x| format!("{x:.3}"))
                    }));
                    cells
                })
                .collect(),
            note: "Points in training are left out. Event recall: share of labelled events with at least one flag inside; PPV: share of alerts that touch one.".into(),
        });
    }
    if !level.rules.is_empty() {
        tables.push(rules_table(level));
    }
    if !level.calibration.is_empty() {
        let labelled = level.calibration.iter().any(|row| row.labelled);
        tables.push(MetricTable {
            title: format!("Calibration, level {}", level.level),
            columns: ["detector", "cells", "p ≤ 0.05", "p ≤ 0.01", "p ≤ 0.001", "inside interval"]
                .map(String::from)
                .to_vec(),
            rows: level
                .calibration
                .iter()
                .map(|row| {
                    vec![
                        row.detector.clone(),
                        row.cells.to_string(),
                        format!("{:.4}", row.p05),
                        format!("{:.4}", row.p01),
                        format!("{:.5}", row.p001),
                        row.coverage.map_or("–".into(), |x| format!("{x:.4}")),
                    ]
                })
                .collect(),
            note: if labelled {
                "On points outside every label and known event. An honest p-value is at or below 0.01 on 1 % of them; counts are discrete, so less is normal there.".into()
            } else {
                "There are no labels, so the anomalies are among these points.".into()
            },
        });
    }
    tables
}

/// What the decision rules did at a level, the ensemble's and each detector's.
fn rules_table(level: &LevelSummary) -> MetricTable {
    let cells = |rule: &RuleSummary| {
        let mut cells = vec![
            rule.who.clone(),
            format!("{}, {}", rule.rule, rule.setting),
            rule.cells.to_string(),
            rule.alerts.to_string(),
            format!("{:.1}", rule.expected_false),
        ];
        cells.extend(match &rule.newest {
            Some(newest) => [
                format!("{}: {}", newest.step, newest.sentence()),
                format!("{:.3}", newest.threshold),
            ],
            None => ["–".to_string(), "–".to_string()],
        });
        cells
    };
    MetricTable {
        title: format!("Decision rules, level {}", level.level),
        columns: [
            "who",
            "rule",
            "points",
            "alerts",
            "expected false, at most",
            "newest step",
            "score needed there",
        ]
        .map(String::from)
        .to_vec(),
        rows: level.rules.iter().map(cells).collect(),
        note: "Points in training are left out. Expected false alerts are those that honest p-values would let through on average; what they keep of that is in the table of calibration.".into(),
    }
}
