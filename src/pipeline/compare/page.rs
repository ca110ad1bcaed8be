//! A comparison as the report room draws it.

use super::{
    alerts::{Shown, direction_words},
    comparison::{AlertRow, AlertSideRow, Comparison, FigureRow, LevelComparison, Spread},
};
use crate::{
    evaluation::{Change, Difference, Figure},
    report::{CompareFigure, CompareReport, MetricTable},
};

/// Up to so many configs stand side by side; more stand below each other.
const SIDE_BY_SIDE: usize = 3;
/// Charts that a page holds, over all configs.
const MAX_CHARTS: usize = 60;

/// Everything that `compare.html` shows.
pub fn report(comparison: &Comparison, shown: Vec<Shown>) -> CompareReport {
    let names: Vec<&str> = comparison.configs.iter().map(|c| c.name.as_str()).collect();
    let title = match &names[..] {
        [a, b] => format!("{b} against {a}"),
        [a, rest @ ..] => format!("{} configs against {a}", rest.len()),
        [] => "Comparison".into(),
    };
    let runs: usize = comparison.configs.iter().map(|config| config.runs.len()).sum();
    let mut notes: Vec<String> = comparison
        .failures
        .iter()
        .map(|f| format!("{}, seed {}{}: failed: {}", f.config, f.seed, on(&f.data), f.error))
        .collect();
    notes.extend(comparison.notes.iter().cloned());
    let left_out = shown.len().saturating_sub(MAX_CHARTS);
    if left_out > 0 {
        notes.push(format!("the page shows {MAX_CHARTS} charts; {left_out} more alerts that differ are in alert_diff.csv"));
    }
    CompareReport {
        title,
        lead: format!(
            "{runs} runs; the baseline is {}; anomalist {}",
            names.first().unwrap_or(&""),
            comparison.version
        ),
        notes,
        configs: vec![config_table(comparison)],
        figures: comparison
            .levels
            .iter()
            .flat_map(|level| figure_tables(comparison, &names, level))
            .collect(),
        alerts: alert_tables(comparison),
        charts: shown.into_iter().take(MAX_CHARTS).map(figure).collect(),
        runs: vec![run_table(comparison)],
    }
}

fn on(data: &str) -> String {
    if data.is_empty() { String::new() } else { format!(", {data}") }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| text.to_string()).collect()
}

fn config_table(comparison: &Comparison) -> MetricTable {
    let mut columns = vec!["key".to_string()];
    columns.extend(comparison.configs.iter().map(|config| config.name.clone()));
    let rows: Vec<Vec<String>> = comparison
        .differences
        .iter()
        .map(|difference| {
            let values = difference.values.iter();
            let mut row = vec![difference.key.clone()];
            row.extend(values.map(|value| value.clone().unwrap_or_else(|| "–".into())));
            row
        })
        .collect();
    let note = if rows.is_empty() {
        "The configs are the same in every key.".into()
    } else {
        "Keys that are the same everywhere are left out, and so are seeds and paths that the command set for all.".into()
    };
    MetricTable { title: "Keys that differ".into(), columns, rows, note }
}

/// A figure as tables show it: three decimals, four where it is small.
pub fn figure_text(figure: Figure, value: f64) -> String {
    match figure {
        Figure::Fpr | Figure::FlaggedShare => format!("{value:.4}"),
        _ => format!("{value:.3}"),
    }
}

/// `0.364 ± 0.041`.
pub fn spread_text(figure: Figure, spread: Option<Spread>) -> String {
    let Some(Spread { mean, sd, .. }) = spread else { return "–".into() };
    let mean = figure_text(figure, mean);
    sd.map_or_else(|| mean.clone(), |sd| format!("{mean} ± {}", figure_text(figure, sd)))
}

/// `+0.012`, and `[-0.003, 0.027]`.
pub fn difference_texts(figure: Figure, difference: Option<Difference>) -> (String, String) {
    let Some(Difference { estimate, interval }) = difference else {
        return ("–".into(), "–".into());
    };
    let sign = if estimate > 0.0 { "+" } else { "" };
    let interval = interval.map_or("–".into(), |(low, high)| {
        format!("[{}, {}]", figure_text(figure, low), figure_text(figure, high))
    });
    (format!("{sign}{}", figure_text(figure, estimate)), interval)
}

/// `better`, `worse` or `differs` where the interval leaves zero out.
pub fn verdict(figure: Figure, difference: Option<Difference>) -> &'static str {
    match difference.filter(Difference::is_clear) {
        None => "",
        Some(difference) => match figure.higher_is_better() {
            None => "differs",
            Some(more) if more == (difference.estimate > 0.0) => "better",
            Some(_) => "worse",
        },
    }
}

fn figure_tables(
    comparison: &Comparison,
    names: &[&str],
    level: &LevelComparison,
) -> Vec<MetricTable> {
    let many = comparison.configs.iter().any(|config| config.runs.len() > 1);
    let percent = 100.0 * comparison.bootstrap.level;
    let spread = if many { "mean ± standard deviation over runs" } else { "one run each" };
    let note = format!(
        "{spread}; {} points compared. Differences are to {}, with the {percent} % percentile interval of {} paired resamples of {} series.",
        level.cells, names[0], comparison.bootstrap.resamples, level.series
    );
    let title = format!("Level {}, {}", level.level, level.scope);
    if names.len() <= SIDE_BY_SIDE {
        return vec![MetricTable {
            title,
            columns: side_by_side_head(names),
            rows: level.figures.iter().map(side_by_side_row).collect(),
            note,
        }];
    }
    let mut columns = vec!["config".to_string()];
    columns.extend(level.figures.iter().map(|row| row.figure.title().to_string()));
    let table = |title: String, note: String, cell: &dyn Fn(&FigureRow, usize) -> String| {
        let rows = names.iter().enumerate().map(|(config, name)| {
            let mut row = vec![name.to_string()];
            row.extend(level.figures.iter().map(|figure| cell(figure, config)));
            row
        });
        MetricTable { title, columns: columns.clone(), rows: rows.collect(), note }
    };
    vec![
        table(title.clone(), note, &|row, config| spread_text(row.figure, row.values[config])),
        table(format!("{title}: differences to {}", names[0]), String::new(), &|row, config| {
            if config == 0 {
                return "–".into();
            }
            let (estimate, interval) = difference_texts(row.figure, row.differences[config]);
            format!("{estimate} {interval}")
        }),
    ]
}

fn side_by_side_head(names: &[&str]) -> Vec<String> {
    let mut columns = vec!["figure".to_string(), names[0].to_string()];
    for name in &names[1..] {
        columns.extend([name.to_string(), "difference".into(), "interval".into(), String::new()]);
    }
    columns
}

fn side_by_side_row(row: &FigureRow) -> Vec<String> {
    let mut cells = vec![row.figure.title().to_string(), spread_text(row.figure, row.values[0])];
    for (value, difference) in row.values.iter().zip(&row.differences).skip(1) {
        let (estimate, interval) = difference_texts(row.figure, *difference);
        cells.push(spread_text(row.figure, *value));
        cells.extend([estimate, interval, verdict(row.figure, *difference).to_string()]);
    }
    cells
}

fn alert_tables(comparison: &Comparison) -> Vec<MetricTable> {
    let count = |n: usize, labelled: Option<usize>| match labelled {
        Some(labelled) => format!("{n} ({labelled} labelled)"),
        None => n.to_string(),
    };
    let rows = comparison
        .alerts
        .iter()
        .map(|totals| {
            vec![
                totals.config.clone(),
                totals.level.clone(),
                totals.kept.to_string(),
                count(totals.added, totals.added_labelled),
                count(totals.dropped, totals.dropped_labelled),
                totals.changed.to_string(),
                totals.severity_changed.to_string(),
                totals.type_changed.to_string(),
                totals.direction_changed.to_string(),
                totals.agreement.map_or("–".into(), |share| format!("{:.1} %", 100.0 * share)),
            ]
        })
        .collect();
    let totals = MetricTable {
        title: format!(
            "Alerts against {}",
            comparison.configs.first().map_or("", |config| &config.name)
        ),
        columns: strings(&[
            "config", "level", "kept", "added", "dropped", "changed", "severity", "type",
            "direction", "agreement",
        ]),
        rows,
        note: "An alert is a run of consecutive flagged points of one series; alerts that share a point count as one. Agreement: points flagged by both over points flagged by either. All of them are in alert_diff.csv.".into(),
    };
    let mut tables = vec![totals];
    if !comparison.top_alerts.is_empty() {
        tables.push(top_table(comparison));
    }
    tables
}

fn top_table(comparison: &Comparison) -> MetricTable {
    let labelled = comparison.top_alerts.iter().any(|row| row.labelled.is_some());
    let mut columns =
        strings(&["config", "change", "series", "from", "to", "seed", "before", "after"]);
    if labelled {
        columns.push("labelled".into());
    }
    let side = |side: &Option<AlertSideRow>| side.as_ref().map_or("–".into(), side_text);
    let rows = comparison
        .top_alerts
        .iter()
        .map(|row| {
            let mut cells = vec![
                row.config.clone(),
                row.change.as_str().to_string(),
                format!("{} ({})", row.series, row.level),
                row.start.clone(),
                row.end.clone(),
                row.seed.to_string(),
                side(&row.baseline),
                side(&row.other),
            ];
            if labelled {
                cells.push(truth_text(row));
            }
            cells
        })
        .collect();
    MetricTable { title: "The strongest".into(), columns, rows, note: String::new() }
}

fn truth_text(row: &AlertRow) -> String {
    match row.labelled.as_deref() {
        None => "–".into(),
        Some("") => "no".into(),
        Some(kinds) => kinds.replace('_', " ").replace(';', ", "),
    }
}

/// `high spike above, p 3.1e-7`.
fn side_text(side: &AlertSideRow) -> String {
    let words = [&side.severity, &side.kind.replace('_', " "), direction_words(&side.direction)]
        .map(String::from)
        .into_iter()
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    side.p_value.map_or_else(|| words.clone(), |p| format!("{words}, p {p:.1e}"))
}

fn figure(shown: Shown) -> CompareFigure {
    let row = &shown.row;
    let by = match row.change {
        Change::Added => format!("added by {}", row.config),
        Change::Dropped => format!("dropped by {}", row.config),
        _ => format!("changed by {}", row.config),
    };
    let when = if row.start == row.end {
        row.start.clone()
    } else {
        format!("{} to {}", row.start, row.end)
    };
    let mut lines = Vec::new();
    if let Some(side) = &row.baseline {
        lines.push(format!("before: {}", side_text(side)));
    }
    if let Some(side) = &row.other {
        lines.push(format!("after: {}", side_text(side)));
    }
    if let (Some(observed), Some(expected)) = (row.observed, row.expected) {
        lines.push(format!("{}: {observed} observed, {expected} expected", row.metric));
    }
    if row.labelled.is_some() {
        lines.push(format!("labelled anomaly: {}", truth_text(row)));
    }
    CompareFigure {
        heading: format!("{when}, {by} (seed {}{})", row.seed, on(&row.data)),
        lines,
        chart: shown.chart,
    }
}

fn run_table(comparison: &Comparison) -> MetricTable {
    let rows = comparison
        .configs
        .iter()
        .flat_map(|config| {
            config.runs.iter().map(|run| {
                vec![
                    config.name.clone(),
                    if run.data.is_empty() { "the config's own".into() } else { run.data.clone() },
                    run.seed.to_string(),
                    run.dir.display().to_string(),
                ]
            })
        })
        .collect();
    MetricTable {
        title: "What was compared".into(),
        columns: strings(&["config", "data", "seed", "folder"]),
        rows,
        note: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_needs_an_interval_without_zero() {
        let d = |estimate, interval| Some(Difference { estimate, interval: Some(interval) });
        assert_eq!(verdict(Figure::F1, d(0.1, (0.05, 0.2))), "better");
        assert_eq!(verdict(Figure::Fpr, d(0.1, (0.05, 0.2))), "worse");
        assert_eq!(verdict(Figure::AlertsPerSeriesYear, d(-0.1, (-0.2, -0.05))), "differs");
        assert_eq!(verdict(Figure::F1, d(0.1, (-0.05, 0.2))), "");
        assert_eq!(verdict(Figure::F1, None), "");
    }

    #[test]
    fn figures_have_a_sign_and_a_spread() {
        let spread = Spread::of(&[0.3, 0.4]);
        assert_eq!(spread_text(Figure::F1, spread), "0.350 ± 0.071");
        assert_eq!(spread_text(Figure::F1, Spread::of(&[0.3])), "0.300");
        assert_eq!(spread_text(Figure::F1, None), "–");
        let difference = Difference { estimate: 0.05, interval: Some((-0.01, 0.1)) };
        let texts = difference_texts(Figure::Recall, Some(difference));
        assert_eq!(texts, ("+0.050".into(), "[-0.010, 0.100]".into()));
    }
}
