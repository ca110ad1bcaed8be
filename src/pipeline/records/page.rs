//! What the report draws of scored records, and what `run.json` says of them.

use std::collections::BTreeMap;

use super::{collect::Collector, fitted::FittedRecords, level_summary as empty_summary};
use crate::{
    ensemble::{Direction, Severity},
    pipeline::{LevelSummary, RunSummary, ScorerMetrics, pages::evaluation_charts},
    report::{
        AnomalyRow, BoxStats, LevelReport, MetricTable, RecordsReport, ReportData, ScoreSpread,
        SeriesTally,
    },
    source::rfc3339,
};

/// Counts and figures of all rows.
pub(super) fn level_summary(
    fitted: &FittedRecords,
    collector: &Collector,
    seed: u64,
) -> LevelSummary {
    let time = |time: Option<i64>| time.map_or_else(String::new, rfc3339);
    let metrics = collector.scored.as_ref().map(|scored| scored.measure(seed)).unwrap_or_default();
    LevelSummary {
        // The first context is that of all rows.
        series: fitted.features.n_contexts() - 1,
        steps: collector.rows,
        first: time(collector.first),
        last: time(collector.last),
        points: collector.rows,
        anomalies: collector.anomalies,
        by_severity: collector.by_severity.iter().map(|(s, n)| (s.to_string(), *n)).collect(),
        by_type: collector.by_type.iter().map(|(kind, (_, n))| (kind.to_string(), *n)).collect(),
        calibration: metrics.calibration.iter().map(|found| found.row.clone()).collect(),
        quality: metrics.scorers.iter().map(ScorerMetrics::row).collect(),
        metrics,
        ..empty_summary()
    }
}

/// Everything that the report of a run shows; `stem` names the files of flags.
pub(super) fn report_data(
    fitted: &FittedRecords,
    collector: &Collector,
    summary: &RunSummary,
    stem: &str,
) -> ReportData {
    let rejected: u64 = summary.rejected.values().sum();
    let fact = |name: &str, value: String| (name.to_string(), value);
    let level = summary.levels.first();
    ReportData {
        title: summary.name.clone(),
        facts: vec![
            fact("version", summary.version.clone()),
            fact("seed", summary.seed.to_string()),
            fact("rows", summary.rows.to_string()),
            fact("rejected rows", rejected.to_string()),
            fact("rows fitted on", fitted.rows.to_string()),
            fact("contexts", (fitted.features.n_contexts() - 1).to_string()),
            fact("scores of every row", format!("flags/{stem}.csv")),
            fact("data fingerprint", summary.data_fingerprint.chars().take(16).collect()),
        ],
        notes: summary.warnings.clone(),
        levels: vec![level_report(fitted, collector)],
        anomalies: rows(fitted, collector),
        quality: level.map(tables).unwrap_or_default(),
        evaluation: level.and_then(|l| evaluation_charts(&l.metrics)).into_iter().collect(),
        records: Some(charts(fitted, collector)),
        ..ReportData::default()
    }
}

fn level_report(fitted: &FittedRecords, collector: &Collector) -> LevelReport {
    let of = |severity: &Severity| collector.by_severity.get(severity).copied().unwrap_or(0);
    LevelReport {
        name: super::RECORDS_LEVEL.into(),
        n_series: fitted.features.n_contexts() - 1,
        n_points: collector.rows,
        n_anomalies: collector.anomalies,
        by_severity: Severity::ALL.iter().map(|s| (*s, of(s))).collect(),
        by_type: collector.by_type.values().copied().collect(),
        ranking: collector
            .by_context
            .iter()
            .map(|(label, n)| SeriesTally {
                label: label.clone(),
                n_anomalies: *n,
                largest_deviation_ratio: f64::NAN,
            })
            .collect(),
        heatmap: None,
    }
}

fn rows(fitted: &FittedRecords, collector: &Collector) -> Vec<AnomalyRow> {
    let numeric = &fitted.section.features.numeric;
    let row = |worst: &super::collect::Worst| AnomalyRow {
        level: super::RECORDS_LEVEL.into(),
        key: format!("{} / {}", worst.id, worst.context),
        time_label: rfc3339(worst.time),
        metric: match worst.finding.reasons.as_str() {
            "" => numeric.get(worst.finding.leading).cloned().unwrap_or_default(),
            reasons => reasons.to_string(),
        },
        observed: worst.value,
        expected: f64::NAN,
        lower: f64::NAN,
        upper: f64::NAN,
        deviation_percent: f64::NAN,
        score: worst.score,
        p_value: worst.ln_p.exp(),
        confidence: worst.n_flags as f64 / fitted.section.models.len().max(1) as f64,
        severity: worst.finding.severity,
        kind: worst.finding.kind,
        direction: Direction::Unknown,
        n_models_flagged: worst.n_flags,
        detectors: worst.models.clone(),
        known_event: None,
        chart: None,
    };
    collector.worst.iter().map(row).collect()
}

fn charts(fitted: &FittedRecords, collector: &Collector) -> RecordsReport {
    let names = std::iter::once("ensemble".to_string())
        .chain(fitted.section.models.iter().map(ToString::to_string));
    let threshold = |place: usize| match place {
        0 => fitted.judge.threshold(),
        place => fitted.judge.model_threshold(place - 1),
    };
    let boxes = |place: usize, flagged: bool| {
        let of = collector.sample.iter().filter(|row| row.flags[place] == flagged);
        BoxStats::of(&mut of.map(|row| row.scores[place]).collect::<Vec<f64>>())
    };
    let scores: Vec<ScoreSpread> = names
        .enumerate()
        .map(|(place, name)| ScoreSpread {
            name,
            low: fitted.spans[place].low,
            high: fitted.spans[place].high,
            bins: collector.histograms[place].clone(),
            threshold: threshold(place),
            normal: boxes(place, false),
            anomalous: boxes(place, true),
        })
        .collect();
    let ranks: Vec<Vec<f64>> = (0..scores.len())
        .map(|place| ranks(&collector.sample.iter().map(|r| r.scores[place]).collect::<Vec<_>>()))
        .collect();
    let correlation =
        ranks.iter().map(|a| ranks.iter().map(|b| correlation(a, b)).collect()).collect();
    RecordsReport { scores, correlation, sampled: collector.sample.len() }
}

/// The rank of each value, the mean one among equals.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut from = 0;
    for group in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let mean = from as f64 + 0.5 * (group.len() - 1) as f64;
        group.iter().for_each(|&place| ranks[place] = mean);
        from += group.len();
    }
    ranks
}

/// Pearson's correlation; 0 where one of them is constant.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let n = (a.len() as f64).max(1.0);
    let (mean_a, mean_b) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in std::iter::zip(a, b) {
        ab += (a - mean_a) * (b - mean_b);
        aa += (a - mean_a).powi(2);
        bb += (b - mean_b).powi(2);
    }
    if aa * bb > 0.0 { ab / (aa * bb).sqrt() } else { 0.0 }
}

/// The tables of figures.
fn tables(level: &LevelSummary) -> Vec<MetricTable> {
    let mut tables = Vec::new();
    if let Some(first) = level.quality.first() {
        const FIGURES: [(&str, &str); 6] = [
            ("precision", "precision"),
            ("recall", "recall"),
            ("f1", "F1"),
            ("fpr", "FPR"),
            ("auc_pr", "AUC-PR"),
            ("auc_roc", "AUC-ROC"),
        ];
        let kinds = first.figures.keys().filter_map(|key| key.strip_prefix("recall_"));
        let mut columns: Vec<(String, String)> =
            FIGURES.iter().map(|(key, title)| (key.to_string(), title.to_string())).collect();
        columns.extend(kinds.map(|kind| (format!("recall_{kind}"), format!("recall {kind}"))));
        let cell = |figures: &BTreeMap<String, Option<f64>>, key: &String| {
            figures.get(key).copied().flatten().map_or("–".into(), |x| format!("{x:.3}"))
        };
        tables.push(MetricTable {
            title: "Against the labels".into(),
            columns: std::iter::once("who".to_string())
                .chain(columns.iter().map(|(_, title)| title.clone()))
                .collect(),
            rows: level
                .quality
                .iter()
                .map(|row| {
                    let cells = columns.iter().map(|(key, _)| cell(&row.figures, key));
                    std::iter::once(row.who.clone()).chain(cells).collect()
                })
                .collect(),
            note: "Rows that were fitted on are left out.".into(),
        });
    }
    if let Some(row) = level.calibration.first() {
        tables.push(MetricTable {
            title: "Calibration".into(),
            columns: ["score", "clean rows", "p ≤ 0.05", "p ≤ 0.01", "p ≤ 0.001"]
                .map(String::from)
                .to_vec(),
            rows: vec![vec![
                row.detector.clone(),
                row.cells.to_string(),
                format!("{:.4}", row.p05),
                format!("{:.4}", row.p01),
                format!("{:.5}", row.p001),
            ]],
            note: "On rows without a label that were not fitted on.".into(),
        });
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_ranks_correlate_fully_and_reversed_ones_fully_the_other_way() {
        let a = [0.1, 0.5, 0.5, 9.0];
        assert_eq!(ranks(&a), [0.0, 1.5, 1.5, 3.0]);
        let down: Vec<f64> = a.iter().map(|x| -x).collect();
        assert!((correlation(&ranks(&a), &ranks(&a)) - 1.0).abs() < 1e-12);
        assert!((correlation(&ranks(&a), &ranks(&down)) + 1.0).abs() < 1e-12);
        assert_eq!(correlation(&[1.0, 1.0], &[1.0, 2.0]), 0.0);
    }
}
