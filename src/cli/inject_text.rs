//! Injection tests as text for people.

use super::text::{table, thousands};
use crate::{
    evaluation::inject::{DetectionRow, FalseAlarmRow},
    pipeline::{InjectLevel, InjectSummary},
};

/// What was injected, what was found of it, and where to look.
pub fn summary(summary: &InjectSummary, quiet: bool) -> String {
    let mut out = format!(
        "{} rows from {} ({}), {} repeats with injections\n",
        thousands(summary.rows),
        summary.input.display(),
        summary.device,
        summary.repeats
    );
    for level in &summary.levels {
        out.push_str(&level_text(level));
    }
    for warning in summary.warnings.iter().filter(|_| !quiet) {
        out.push_str(&format!("note: {warning}\n"));
    }
    for (name, file) in [("figures", "inject.json"), ("charts", "charts")] {
        out.push_str(&format!("\n{name:<11} {}", summary.out.join(file).display()));
    }
    for level in &summary.levels {
        let path = summary.out.join(&level.smallest.file);
        out.push_str(&format!("\n{:<11} {}", "each series", path.display()));
    }
    out.push('\n');
    out
}

fn level_text(level: &InjectLevel) -> String {
    let mut out = format!(
        "\nlevel {}: {} series x {} steps, {} points could be changed\n",
        level.level,
        level.series,
        level.steps,
        thousands(level.free_cells as u64)
    );
    out.push_str(&detection_text(level));
    let smallest = &level.smallest;
    let reach = |n: usize, factor: Option<f64>| match factor {
        Some(factor) => {
            format!("{n} of {} series (half of them from x{factor} on)", smallest.judged)
        }
        None => format!("none of {} series", smallest.judged),
    };
    out.push_str(&format!(
        "  a spike of one step could be seen in {}\n  a drop of one step could be seen in {}\n",
        reach(smallest.with_spike, smallest.median_spike_factor),
        reach(smallest.with_drop, smallest.median_drop_factor)
    ));
    if smallest.noted > 0 {
        out.push_str(&format!(
            "  {} series are too sparse or too short for one of the two\n",
            smallest.noted
        ));
    }
    out
}

/// A row per kind and size, a column per scorer.
fn detection_text(level: &InjectLevel) -> String {
    let share = |found: Option<f64>| found.map_or("-".to_string(), |x| format!("{x:.2}"));
    let mut header = ["share found", "size", "steps", "injected"].map(String::from).to_vec();
    header.extend(level.false_alarms.iter().map(|row| row.who.clone()));
    header.extend(["without", "delay"].map(String::from));
    let mut rows = vec![header];
    for row in level.detection.iter().filter(|row| row.who == "ensemble") {
        let same = |other: &&DetectionRow| (other.kind, other.factor) == (row.kind, row.factor);
        let mut cells = vec![
            row.kind.to_string(),
            format!("x{}", row.factor),
            row.steps.to_string(),
            row.injected.to_string(),
        ];
        cells.extend(level.detection.iter().filter(same).map(|row| share(row.pod)));
        cells.push(share(row.pod_without));
        cells.push(row.mean_delay_steps.map_or("-".into(), |x| format!("{x:.1}")));
        rows.push(cells);
    }
    let mut alarms = ["false alarms", "", "", ""].map(String::from).to_vec();
    let rate = |row: &FalseAlarmRow| row.fpr.map_or("-".into(), |x| format!("{x:.4}"));
    alarms.extend(level.false_alarms.iter().map(rate));
    rows.push(alarms);
    table(&rows)
}
