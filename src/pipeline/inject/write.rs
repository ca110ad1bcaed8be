//! The files of an injection test.

use std::fs;

use super::{INJECT_FILE, InjectSummary, LevelTest, SeriesReach};
use crate::{
    config::Config,
    evaluation::inject::{DetectionRow, Kind},
    pipeline::{PipelineError, run, stage::Stage, write::write_json},
    report::{DetectionChart, write_detection_charts},
    sink::{Column, Kind as ColumnKind, Value, write_csv},
};

/// The file with a row per series of a level.
pub(super) fn series_file(level: &str) -> String {
    format!("smallest_{level}.csv")
}

/// `inject.json`, `config.toml`, a CSV per level, the charts.
pub(super) fn write(
    stage: &Stage<'_>,
    config: &Config,
    tests: &[LevelTest<'_>],
    reaches: &[Vec<SeriesReach>],
    summary: &InjectSummary,
) -> Result<(), PipelineError> {
    let dir = stage.dir.path();
    write_json(&dir.join(INJECT_FILE), summary)?;
    let text = run::replayable(config).to_toml();
    let text = text.map_err(|error| PipelineError::Other(error.to_string()))?;
    let path = dir.join("config.toml");
    fs::write(&path, text).map_err(PipelineError::io(&path))?;
    for (test, reaches) in tests.iter().zip(reaches) {
        let path = dir.join(series_file(&test.base.panel.level().name));
        let cells = (0..reaches.len()).map(|s| (s, 0));
        write_csv(&path, &series_columns(test, reaches), cells)?;
    }
    let charts = dir.join("charts");
    fs::create_dir_all(&charts).map_err(PipelineError::io(&charts))?;
    write_detection_charts(&detection_charts(summary), &charts, config.report.format)?;
    Ok(())
}

fn series_columns<'a>(test: &'a LevelTest<'_>, reaches: &'a [SeriesReach]) -> Vec<Column<'a>> {
    let panel = &test.base.panel;
    let float = |name: &str, value: &'a (dyn Fn(&SeriesReach) -> Option<f64> + Sync)| {
        Column::new(name, ColumnKind::Float, move |s, _| {
            value(&reaches[s]).map_or(Value::Empty, Value::Float)
        })
    };
    let int = |name: &str, value: Box<dyn Fn(usize) -> usize + Sync + 'a>| {
        Column::new(name, ColumnKind::Int, move |s, _| {
            Value::Int(i64::try_from(value(s)).unwrap_or(i64::MAX))
        })
    };
    let mut columns: Vec<Column<'a>> = panel
        .level()
        .id_columns
        .iter()
        .enumerate()
        .map(|(i, name)| {
            Column::new(name.as_str(), ColumnKind::Text, move |s, _| {
                Value::Text(panel.keys()[s].0[i].as_str().into())
            })
        })
        .collect();
    columns.push(int("judged_steps", Box::new(move |s| reaches[s].judged)));
    columns.push(float("usual_level", &|reach| Some(reach.level)));
    columns.push(float("smallest_spike_factor", &|reach| reach.spike));
    columns.push(float("smallest_spike_value", &|reach| reach.value(reach.spike)));
    columns.push(float("smallest_drop_factor", &|reach| reach.drop));
    columns.push(float("smallest_drop_value", &|reach| reach.value(reach.drop)));
    columns.push(int("injected", Box::new(move |s| test.by_series[s].injected)));
    columns.push(int("found", Box::new(move |s| test.by_series[s].found)));
    columns.push(Column::new("note", ColumnKind::Text, move |s, _| {
        Value::Text(reaches[s].note.as_str().into())
    }));
    columns
}

/// One chart per level and kind.
fn detection_charts(summary: &InjectSummary) -> Vec<DetectionChart> {
    let mut charts = Vec::new();
    for level in &summary.levels {
        for kind in Kind::ALL {
            let rows: Vec<&DetectionRow> =
                level.detection.iter().filter(|row| row.kind == kind).collect();
            let of = |who: &str| rows.iter().copied().filter(|row| row.who == who).collect();
            let ensemble: Vec<&DetectionRow> = of("ensemble");
            let Some(first) = ensemble.first() else { continue };
            let share = |found: Option<f64>| found.unwrap_or(f64::NAN);
            charts.push(DetectionChart {
                level: level.level.clone(),
                kind: kind.as_str().into(),
                subtitle: format!(
                    "{} injections over {} repeats, each {} {} long",
                    ensemble.iter().map(|row| row.injected).sum::<usize>(),
                    summary.repeats,
                    first.steps,
                    if first.steps == 1 { "step" } else { "steps" }
                ),
                sizes: ensemble.iter().map(|row| format!("×{}", row.factor)).collect(),
                lines: level
                    .false_alarms
                    .iter()
                    .map(|scorer| {
                        let mine: Vec<&DetectionRow> = of(&scorer.who);
                        (scorer.who.clone(), mine.iter().map(|row| share(row.pod)).collect())
                    })
                    .collect(),
                without: ensemble.iter().map(|row| share(row.pod_without)).collect(),
            });
        }
    }
    charts
}
