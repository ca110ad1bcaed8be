//! Summaries as text for people.

use crate::{
    device::{AdapterKind, DeviceList},
    pipeline::{LevelSummary, RECORDS_LEVEL, RunSummary},
};

const SEVERITIES: [&str; 4] = ["critical", "high", "medium", "low"];

/// True when a level holds an anomaly of at least this severity.
pub fn has_at_least(summary: &RunSummary, severity: &str) -> bool {
    let reach = SEVERITIES.iter().position(|s| *s == severity).map_or(0, |at| at + 1);
    summary.levels.iter().any(|level| {
        SEVERITIES[..reach].iter().any(|s| level.by_severity.get(*s).is_some_and(|n| *n > 0))
    })
}

/// What a run found, how good it was, and where to look.
pub fn summary(summary: &RunSummary, quiet: bool) -> String {
    let mut out = format!(
        "{} rows from {} ({})\n",
        thousands(summary.rows),
        summary.input.display(),
        summary.device
    );
    for (reason, count) in &summary.rejected {
        out.push_str(&format!("  {} rejected: {reason} (see rejected.csv)\n", thousands(*count)));
    }
    for level in &summary.levels {
        out.push_str(&level_text(level));
    }
    for warning in summary.warnings.iter().filter(|_| !quiet) {
        out.push_str(&format!("note: {warning}\n"));
    }
    if summary.command == "train" {
        out.push_str(&format!("\ncheckpoint  {}\n", summary.out.display()));
    } else {
        out.push_str(&format!(
            "\nreport      {}\nflags       {}\n",
            summary.out.join("report.html").display(),
            summary.out.join("flags").display()
        ));
    }
    out
}

fn level_text(level: &LevelSummary) -> String {
    let mut out = if level.level == RECORDS_LEVEL {
        format!(
            "\n{} records in {} contexts, {} to {}\n",
            thousands(level.steps as u64),
            level.series,
            level.first,
            level.last
        )
    } else {
        format!(
            "\nlevel {}: {} series x {} steps, {} to {}\n",
            level.level, level.series, level.steps, level.first, level.last
        )
    };
    let by = |counts: &std::collections::BTreeMap<String, usize>, order: &[&str]| {
        let mut parts: Vec<String> = order
            .iter()
            .filter_map(|name| counts.get(*name).map(|n| format!("{n} {name}")))
            .collect();
        parts.extend(
            counts
                .iter()
                .filter(|(k, _)| !order.contains(&k.as_str()))
                .map(|(k, n)| format!("{n} {k}")),
        );
        parts.join(", ")
    };
    if level.points == 0 && level.level == RECORDS_LEVEL {
        return out; // fitted only
    }
    out.push_str(&format!(
        "  {} of {} points are anomalous ({:.2} %)",
        thousands(level.anomalies as u64),
        thousands(level.points as u64),
        100.0 * level.anomalies as f64 / (level.points as f64).max(1.0)
    ));
    if level.anomalies > 0 {
        out.push_str(&format!(
            ": {}\n  {}\n",
            by(&level.by_severity, &SEVERITIES),
            by(&level.by_type, &[])
        ));
    } else {
        out.push('\n');
    }
    out.push_str(&rules_text(level));
    if let Some(training) = &level.training {
        out.push_str(&format!(
            "  LSTM: {} epochs, best {} (validation loss {:.4})\n",
            training.epochs, training.best_epoch, training.best_validation_loss
        ));
    }
    if !level.quality.is_empty() {
        out.push_str(&quality_text(level));
    }
    if !level.calibration.is_empty() {
        out.push_str(&calibration_text(level));
    }
    out
}

/// What the ensemble's rule did in the newest step and in all, and the detectors' where they decide
/// otherwise.
fn rules_text(level: &LevelSummary) -> String {
    let Some((ensemble, detectors)) = level.rules.split_first() else { return String::new() };
    let mut out = String::new();
    for rule in [ensemble].into_iter().chain(
        detectors
            .iter()
            .filter(|rule| (&rule.rule, &rule.setting) != (&ensemble.rule, &ensemble.setting)),
    ) {
        let Some(newest) = &rule.newest else { continue };
        out.push_str(&format!(
            "  {} {}: {} (rule {}, {}); in all {} alerts outside training, at most {:.1} expected false\n",
            if rule.who == "ensemble" { "newest step" } else { &rule.who },
            newest.step,
            newest.sentence(),
            rule.rule,
            rule.setting,
            thousands(rule.alerts as u64),
            rule.expected_false
        ));
    }
    out
}

fn quality_text(level: &LevelSummary) -> String {
    const COLUMNS: [(&str, &str); 9] = [
        ("precision", "precision"),
        ("recall", "recall"),
        ("f1", "F1"),
        ("fpr", "FPR"),
        ("event_recall", "event recall"),
        ("auc_pr", "AUC-PR"),
        ("auc_roc", "AUC-ROC"),
        ("false_alerts_per_series_year", "false/yr"),
        ("mean_delay_steps", "delay"),
    ];
    let mut rows =
        vec![["against the labels", ""].map(String::from).into_iter().collect::<Vec<String>>()];
    rows[0].extend(COLUMNS.iter().map(|(_, title)| title.to_string()));
    for row in &level.quality {
        let mut cells = vec![row.who.clone(), row.scope.clone()];
        cells.extend(COLUMNS.iter().map(|(key, _)| {
            row.figures.get(*key).copied().flatten().map_or("-".into(), |x| format!("{x:.3}"))
        }));
        rows.push(cells);
    }
    table(&rows)
}

fn calibration_text(level: &LevelSummary) -> String {
    let title = if level.calibration.iter().any(|row| row.labelled) {
        "p-values on clean points"
    } else {
        "p-values (no labels: anomalies are among the points)"
    };
    let mut rows: Vec<Vec<String>> = vec![
        [title, "p <= .05", "p <= .01", "p <= .001", "in interval"].map(String::from).to_vec(),
    ];
    for row in &level.calibration {
        rows.push(vec![
            row.detector.clone(),
            format!("{:.4}", row.p05),
            format!("{:.4}", row.p01),
            format!("{:.5}", row.p001),
            row.coverage.map_or("-".into(), |x| format!("{x:.4}")),
        ]);
    }
    table(&rows)
}

/// Columns of equal width, the first flush left, the rest flush right.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let n = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| {
        rows.iter().filter_map(|row| row.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..n).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::from("  ");
        for (c, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[c] - cell.chars().count());
            if c == 0 {
                line.push_str(&format!("{cell}{pad}"));
            } else if widths[c] > 0 {
                line.push_str(&format!("  {pad}{cell}"));
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Every adapter and the CPU backend, and which one `auto` takes.
pub fn devices(listing: &DeviceList) -> String {
    let auto = auto_choice(listing);
    let mark = |name: &str| if auto == name { "  <- auto" } else { "" };
    let mut rows: Vec<Vec<String>> = vec![
        ["device", "kind", "adapter", "interface", "largest buffer"].map(String::from).to_vec(),
    ];
    for adapter in &listing.adapters {
        let name = format!("gpu:{}", adapter.place);
        rows.push(vec![
            format!("{name}{}", mark(&name)),
            adapter.kind.to_string(),
            adapter.name.clone(),
            format!("{} {}", adapter.api, adapter.driver).trim().to_string(),
            format!("{} MiB", adapter.max_binding_bytes >> 20),
        ]);
    }
    rows.push(vec![
        format!("cpu{}", mark("cpu")),
        "CPU".into(),
        "burn-ndarray".into(),
        "-".into(),
        "-".into(),
    ]);
    let mut out = table(&rows);
    if let Some(reason) = &listing.no_gpu_reason {
        out.push_str(&format!("no GPU: {reason}\n"));
    }
    out
}

/// The same for machines.
pub fn devices_json(listing: &DeviceList) -> serde_json::Value {
    let adapters: Vec<serde_json::Value> = listing
        .adapters
        .iter()
        .map(|adapter| {
            serde_json::json!({
                "device": format!("gpu:{}", adapter.place),
                "kind": adapter.kind.to_string(),
                "name": adapter.name,
                "interface": adapter.api,
                "driver": adapter.driver,
                "max_binding_bytes": adapter.max_binding_bytes,
                "workgroup_memory_bytes": adapter.workgroup_memory_bytes,
            })
        })
        .collect();
    serde_json::json!({
        "adapters": adapters,
        "cpu": ["burn-ndarray"],
        "auto": auto_choice(listing),
        "no_gpu_reason": listing.no_gpu_reason,
    })
}

/// `auto` takes the first adapter that is a real GPU, else the CPU.
fn auto_choice(listing: &DeviceList) -> String {
    listing
        .adapters
        .iter()
        .find(|adapter| adapter.kind != AdapterKind::Software)
        .map_or_else(|| "cpu".to_string(), |adapter| format!("gpu:{}", adapter.place))
}

pub(super) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(thousands(12), "12");
    }

    #[test]
    fn a_table_lines_up() {
        let rows: Vec<Vec<String>> = [["who", "F1"], ["ensemble", "0.5"]]
            .iter()
            .map(|row| row.iter().map(|c| c.to_string()).collect())
            .collect();
        assert_eq!(table(&rows), "  who        F1\n  ensemble  0.5\n");
    }
}
