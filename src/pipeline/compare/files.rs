//! `compare.json`, `compare.html`, `alert_diff.csv`.

use std::fs;

use super::{
    alerts::Shown,
    comparison::{AlertRow, AlertSideRow, Comparison},
    page,
};
use crate::{
    pipeline::PipelineError,
    report::compare_page,
    sink::{Column, Kind, Value, write_csv, write_file},
};

/// Writes every file into the comparison's folder.
pub fn write(
    comparison: &Comparison,
    rows: &[AlertRow],
    shown: Vec<Shown>,
) -> Result<(), PipelineError> {
    let out = &comparison.out;
    fs::create_dir_all(out).map_err(PipelineError::io(out))?;
    let path = out.join("alert_diff.csv");
    let partial = out.join(".alert_diff.csv.partial");
    write_csv(&partial, &columns(rows), (0..rows.len()).map(|row| (row, 0)))?;
    fs::rename(&partial, &path).map_err(PipelineError::io(&path))?;
    let path = out.join("compare.json");
    let json = serde_json::to_vec_pretty(comparison)
        .map_err(|error| PipelineError::Other(format!("{}: {error}", path.display())))?;
    write_file(&path, &json)?;
    let html = compare_page(&page::report(comparison, shown))?;
    write_file(&out.join("compare.html"), html.as_bytes())?;
    Ok(())
}

/// The columns of `alert_diff.csv`; the "series" of a cell is the place of the row.
fn columns(rows: &[AlertRow]) -> Vec<Column<'_>> {
    let text = |name: &str, of: fn(&AlertRow) -> &str| {
        Column::new(name, Kind::Text, move |row, _| Value::Text(of(&rows[row]).into()))
    };
    let number = |name: &str, of: fn(&AlertRow) -> Option<f64>| {
        Column::new(name, Kind::Float, move |row, _| {
            Value::Float(of(&rows[row]).unwrap_or(f64::NAN))
        })
    };
    let count = |name: &str, of: fn(&AlertRow) -> i64| {
        Column::new(name, Kind::Int, move |row, _| Value::Int(of(&rows[row])))
    };
    let mut columns = vec![
        text("config", |row| &row.config),
        text("data", |row| &row.data),
        Column::new("seed", Kind::Text, |row, _| Value::Text(rows[row].seed.to_string().into())),
        text("level", |row| &row.level),
        text("series", |row| &row.series),
        text("change", |row| row.change.as_str()),
        text("start", |row| &row.start),
        text("end", |row| &row.end),
        count("steps", |row| row.steps as i64),
    ];
    columns.extend(side_columns(rows, "baseline_", baseline));
    columns.extend(side_columns(rows, "", other));
    columns.extend([
        text("metric", |row| &row.metric),
        number("observed", |row| row.observed),
        number("expected", |row| row.expected),
        Column::new("labelled", Kind::Text, |row, _| match &rows[row].labelled {
            Some(kinds) if kinds.is_empty() => Value::Text("no".into()),
            Some(kinds) => Value::Text(kinds.as_str().into()),
            None => Value::Empty,
        }),
    ]);
    columns
}

fn baseline(row: &AlertRow) -> Option<&AlertSideRow> {
    row.baseline.as_ref()
}

fn other(row: &AlertRow) -> Option<&AlertSideRow> {
    row.other.as_ref()
}

fn side_columns<'a>(
    rows: &'a [AlertRow],
    prefix: &str,
    side: fn(&AlertRow) -> Option<&AlertSideRow>,
) -> Vec<Column<'a>> {
    let text = |name: &str, of: fn(&AlertSideRow) -> &str| {
        Column::new(format!("{prefix}{name}"), Kind::Text, move |row, _| {
            side(&rows[row]).map_or(Value::Empty, |side| Value::Text(of(side).into()))
        })
    };
    let number = |name: &str, of: fn(&AlertSideRow) -> Option<f64>| {
        Column::new(format!("{prefix}{name}"), Kind::Float, move |row, _| {
            Value::Float(side(&rows[row]).and_then(of).unwrap_or(f64::NAN))
        })
    };
    vec![
        text("severity", |side| &side.severity),
        text("type", |side| &side.kind),
        text("direction", |side| &side.direction),
        number("score", |side| side.score),
        number("p_value", |side| side.p_value),
    ]
}
