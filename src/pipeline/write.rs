//! The files of a run's directory.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{PipelineError, RunSummary, flags, level::LevelRun, load::Loaded};
use crate::{
    config::Config,
    detectors::Progress,
    report::{self, ChartFormat, ReportData},
    sink::{write_csv, write_parquet},
};

/// The file that makes a folder a run.
pub const RUN_FILE: &str = "run.json";
/// What the report was drawn from.
pub const REPORT_FILE: &str = "report.json";

/// Charts and page into `dir`.
pub(super) fn draw(
    data: &mut ReportData,
    dir: &Path,
    format: ChartFormat,
    progress: &dyn Progress,
) -> Result<(), PipelineError> {
    let charts = dir.join("charts");
    fs::create_dir_all(&charts).map_err(PipelineError::io(&charts))?;
    progress.start("drawing", data.charts.len() as u64);
    let drawn = report::write_charts(data, &charts, format, &mut |units| progress.advance(units))?;
    report::write_page(data, &dir.join("report.html"))?;
    remove_other_pictures(&charts, &drawn)?;
    progress.finish();
    Ok(())
}

/// Pictures of an earlier drawing would stay beside the page that no longer shows them. They go once
/// the new ones are whole, and nothing that is no picture goes.
fn remove_other_pictures(charts: &Path, drawn: &[PathBuf]) -> Result<(), PipelineError> {
    for entry in fs::read_dir(charts).map_err(PipelineError::io(charts))? {
        let path = entry.map_err(PipelineError::io(charts))?.path();
        let is_picture = path.extension().is_some_and(|e| e == "png" || e == "svg");
        if is_picture && !drawn.contains(&path) {
            fs::remove_file(&path).map_err(PipelineError::io(&path))?;
        }
    }
    Ok(())
}

/// A level's flags as CSV, and as Parquet by day or week. Returns the names in `[output.rename]`
/// that no column has.
pub(super) fn write_flags(
    config: &Config,
    level: &LevelRun,
    loaded: &Loaded,
    dir: &Path,
) -> Result<Vec<String>, PipelineError> {
    fs::create_dir_all(dir).map_err(PipelineError::io(dir))?;
    let known = flags::known_event_names(&level.panel, &loaded.known_events);
    let columns = flags::columns(config, level, &known);
    let panel = &level.panel;
    let stem = flags::stem(config, panel);
    let cells = (0..panel.n_series()).flat_map(|s| panel.span(s).map(move |t| (s, t)));
    write_csv(&dir.join(format!("{stem}.csv")), &columns, cells)?;
    let unknown = flags::unknown_renames(config, &columns);
    if !config.output.parquet {
        return Ok(unknown);
    }
    for (partition, times) in partitions(panel) {
        let folder = dir.join(&stem).join(partition);
        fs::create_dir_all(&folder).map_err(PipelineError::io(&folder))?;
        let cells: Vec<(usize, usize)> = (0..panel.n_series())
            .flat_map(|s| {
                let span = panel.span(s);
                times.iter().copied().filter(move |t| span.contains(t)).map(move |t| (s, t))
            })
            .collect();
        write_parquet(&folder.join("part-0.parquet"), &columns, &cells)?;
    }
    Ok(unknown)
}

/// Steps by partition folder: `week=2025-01-06` for weekly panels, `day=2025-01-06` otherwise.
fn partitions(panel: &crate::panel::Panel) -> BTreeMap<String, Vec<usize>> {
    let unit = if panel.calendar().step() == crate::panel::Step::Week { "week" } else { "day" };
    let mut found: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for t in 0..panel.n_times() {
        let label = panel.calendar().label(t);
        let day = label.get(..10).unwrap_or(&label);
        found.entry(format!("{unit}={day}")).or_default().push(t);
    }
    found
}

pub(super) fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<(), PipelineError> {
    let bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| PipelineError::Other(format!("{}: {error}", path.display())))?;
    fs::write(path, bytes).map_err(PipelineError::io(path))
}

/// What happened, in lines, for whoever has no JSON reader at hand.
pub(super) fn write_log(path: &Path, summary: &RunSummary) -> Result<(), PipelineError> {
    let mut text = format!(
        "anomalist {} {} {}\ndevice {}\nseed {}\ninput {}\nrows {}\n",
        summary.version,
        summary.command,
        summary.name,
        summary.device,
        summary.seed,
        summary.input.display(),
        summary.rows
    );
    for (reason, count) in &summary.rejected {
        text.push_str(&format!("rejected {count} {reason}\n"));
    }
    for (stage, secs) in &summary.timings {
        text.push_str(&format!("{secs:9.3} s  {stage}\n"));
    }
    for warning in &summary.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    fs::write(path, text).map_err(PipelineError::io(path))
}
