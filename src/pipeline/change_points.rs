//! `change_points.csv`: when the level of a metric changed, by how much, and how sure that is. A run has
//! it where the detector `change_points` is a member.

use std::path::Path;

use super::{PipelineError, level::LevelRun};
use crate::{
    detectors::{
        FitMask,
        change_points::{ChangePoint, FittedChangePoints},
    },
    report::MetricTable,
    sink::{Column, Kind, Value, write_csv},
};

/// The file in a run's directory.
const CHANGE_POINTS_FILE: &str = "change_points.csv";

/// Changes that the report's table shows.
const SHOWN: usize = 20;

struct Row<'a> {
    level: &'a LevelRun,
    change: ChangePoint,
}

/// Writes the changes of all levels, by level, series, metric and time, and gives the table of the
/// largest. Neither without the detector.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn write(levels: &[LevelRun], dir: &Path) -> Result<Option<MetricTable>, PipelineError> {
    let Some(rows) = rows(levels) else { return Ok(None) };
    let cells = (0..rows.len()).map(|row| (row, 0));
    write_csv(&dir.join(CHANGE_POINTS_FILE), &columns(&rows), cells)?;
    Ok((!rows.is_empty()).then(|| table(rows)))
}

/// Every change of every level; `None` without the detector.
fn rows(levels: &[LevelRun]) -> Option<Vec<Row<'_>>> {
    let mut rows = None;
    for level in levels {
        let fitted = level
            .members
            .iter()
            .find_map(|m| m.fitted.as_any().downcast_ref::<FittedChangePoints>());
        let Some(fitted) = fitted else { continue };
        let mut mask = FitMask::all(&level.panel);
        for ((series, time), _) in level.known.indexed_iter().filter(|(_, known)| **known) {
            mask.forbid(series, time);
        }
        let found = fitted.change_points(&level.panel, &mask).into_iter();
        rows.get_or_insert_with(Vec::new).extend(found.map(|change| Row { level, change }));
    }
    rows
}

/// The surest changes, the larger first among equally sure ones.
fn table(mut rows: Vec<Row<'_>>) -> MetricTable {
    let count = rows.len();
    rows.sort_by(|a, b| {
        let (a, b) = (&a.change, &b.change);
        // A fall to a quarter is as large as a rise to four times.
        let size = |change: &ChangePoint| change.relative_change.max(-0.999).ln_1p().abs();
        b.confidence.total_cmp(&a.confidence).then_with(|| size(b).total_cmp(&size(a)))
    });
    rows.truncate(SHOWN);
    let cells = |row: &Row<'_>| {
        let (panel, change) = (&row.level.panel, &row.change);
        vec![
            panel.level().name.clone(),
            panel.keys()[change.series].to_string(),
            panel.metrics()[change.metric].name.clone(),
            panel.calendar().label(change.time),
            number(change.before),
            number(change.after),
            format!("{:+.0} %", 100.0 * change.relative_change),
            format!("{:.2}", change.confidence),
        ]
    };
    MetricTable {
        title: format!("Changes of level: {} of {count}", rows.len()),
        columns: ["level", "series", "metric", "since", "before", "after", "change", "confidence"]
            .map(String::from)
            .to_vec(),
        rows: rows.iter().map(cells).collect(),
        note: format!("The surest first, with hindsight; all of them are in {CHANGE_POINTS_FILE}."),
    }
}

/// Whole from 100 on, else three decimals.
fn number(x: f64) -> String {
    if x.abs() >= 100.0 { format!("{x:.0}") } else { format!("{x:.3}") }
}

/// Columns by place in `rows`.
fn columns<'a>(rows: &'a [Row<'a>]) -> Vec<Column<'a>> {
    let text = |name: &str, of: fn(&'a Row<'a>) -> String| {
        Column::new(name, Kind::Text, move |row, _| Value::Text(of(&rows[row]).into()))
    };
    let number = |name: &str, of: fn(&ChangePoint) -> f64| {
        Column::new(name, Kind::Float, move |row, _| Value::Float(of(&rows[row].change)))
    };
    vec![
        text("level", |row| row.level.panel.level().name.clone()),
        text("series", |row| row.level.panel.keys()[row.change.series].to_string()),
        text("metric", |row| row.level.panel.metrics()[row.change.metric].name.clone()),
        text("time", |row| row.level.panel.calendar().label(row.change.time)),
        number("before", |change| change.before),
        number("after", |change| change.after),
        number("relative_change", |change| change.relative_change),
        text("direction", |row| {
            if row.change.relative_change < 0.0 { "below".into() } else { "above".into() }
        }),
        number("confidence", |change| change.confidence),
    ]
}
