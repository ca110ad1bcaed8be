//! Measures a finished run against labels: nothing is read again but what the run kept.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    PipelineError, RUN_FILE, RunSummary,
    kept::{KeptLevel, read_scores},
    load,
    metrics::{LevelMetrics, Metrics},
    pages, quality, records, write,
};
use crate::{
    config::Config,
    report::{self, ChartFormat},
    source::Interval,
};

/// The file of figures.
pub const METRICS_FILE: &str = "metrics.json";

/// Which run, against what.
pub struct EvaluateJob {
    pub run_dir: PathBuf,
    /// Labels to measure against; without, those of the run.
    pub labels: Option<PathBuf>,
    /// Where `metrics.json` and the charts go; without, the run's `evaluation` folder.
    pub out: Option<PathBuf>,
    pub format: ChartFormat,
}

/// Measures and writes `metrics.json` and the charts.
///
/// # Errors
/// When the folder is no run or keeps no scores, when there are no labels, or when they match
/// nothing that was scored.
pub fn evaluate(job: &EvaluateJob) -> Result<Metrics, PipelineError> {
    let run = read_run(&job.run_dir)?;
    let config = Config::load(&job.run_dir.join("config.toml"), &[])
        .map_err(|error| PipelineError::Other(error.to_string()))?;
    let path = labels_path(job, &config)?;
    let levels = match &config.records {
        Some(section) => {
            vec![records::measure_run(&config, section, &job.run_dir, &path, run.seed)?]
        }
        None => measure_panels(&config, &job.run_dir, &path, run.seed)?,
    };
    let out = job.out.clone().unwrap_or_else(|| job.run_dir.join("evaluation"));
    let metrics = metrics(&run, levels, out);
    fs::create_dir_all(&metrics.out).map_err(PipelineError::io(&metrics.out))?;
    let charts: Vec<_> = metrics.levels.iter().filter_map(pages::evaluation_charts).collect();
    report::write_evaluation(&charts, &metrics.out, job.format)?;
    write::write_json(&metrics.out.join(METRICS_FILE), &metrics)?;
    Ok(metrics)
}

fn measure_panels(
    config: &Config,
    run_dir: &Path,
    path: &Path,
    seed: u64,
) -> Result<Vec<LevelMetrics>, PipelineError> {
    let labels = load::read_labels(config, path)?;
    let kept = read_scores(config, run_dir)?;
    let levels: Vec<LevelMetrics> =
        kept.iter().map(|level| quality::measure(level, Some(&labels), seed)).collect();
    check_match(&levels, &kept, &labels, path)?;
    Ok(levels)
}

/// Writes the figures of a run into its folder, if it was measured against labels.
pub(super) fn write_metrics(run: &RunSummary, dir: &Path) -> Result<(), PipelineError> {
    if run.levels.iter().all(|level| level.metrics.scorers.is_empty()) {
        return Ok(());
    }
    let levels = run.levels.iter().map(|level| level.metrics.clone()).collect();
    write::write_json(&dir.join(METRICS_FILE), &metrics(run, levels, PathBuf::new()))
}

/// The figures of a run, level by level.
fn metrics(run: &RunSummary, levels: Vec<LevelMetrics>, out: PathBuf) -> Metrics {
    Metrics {
        name: run.name.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        seed: run.seed,
        data_fingerprint: run.data_fingerprint.clone(),
        levels,
        out,
    }
}

fn read_run(run_dir: &Path) -> Result<RunSummary, PipelineError> {
    let path = run_dir.join(RUN_FILE);
    let bytes = fs::read(&path).map_err(|error| {
        PipelineError::Other(format!(
            "{}: {error}; name the folder that `anomalist run` or `detect` wrote",
            path.display()
        ))
    })?;
    serde_json::from_slice(&bytes).map_err(|error| {
        PipelineError::Other(format!("{} is damaged: {error}; run again", path.display()))
    })
}

/// `--labels`, else what the run's config names, else what came with generated data.
fn labels_path(job: &EvaluateJob, config: &Config) -> Result<PathBuf, PipelineError> {
    let generated = job.run_dir.join("data").join("labels.csv");
    let columns = match &config.records {
        Some(section) => format!("{}, kind", records::id_column(config, section)),
        None => format!("{}, start, end (exclusive), kind", config.panel.id_columns().join(", ")),
    };
    let found = job.labels.clone().or_else(|| config.source.labels.as_ref().map(PathBuf::from));
    found.or_else(|| generated.is_file().then_some(generated)).ok_or_else(|| {
        PipelineError::Other(format!(
            "{}: the run has no labels: give --labels FILE, a CSV file with {columns}",
            job.run_dir.display(),
        ))
    })
}

/// Labels that touch nothing scored would make a table of dashes.
fn check_match(
    levels: &[LevelMetrics],
    kept: &[KeptLevel],
    labels: &[Interval],
    path: &Path,
) -> Result<(), PipelineError> {
    let fail = |reason: String| Err(PipelineError::Other(format!("{}: {reason}", path.display())));
    if labels.is_empty() {
        return fail("the file has no row: write one interval a row, or give another file".into());
    }
    let counted = |level: &LevelMetrics| {
        level.scorers.iter().any(|s| s.confusion.true_positive + s.confusion.false_negative > 0)
    };
    if levels.iter().any(counted) {
        return Ok(());
    }
    if levels.iter().any(|level| level.labelled_events > 0) {
        return fail(
            "every labelled step lies in the training part or was not scored, so nothing can be measured: lower [split] train_share, or label later steps".into(),
        );
    }
    let (Some(level), Some(label)) = (kept.first(), labels.first()) else {
        return fail("the run has no level".into());
    };
    let key: Vec<&str> =
        label.key.iter().map(|(_, value)| value.as_deref().unwrap_or("*")).collect();
    let columns: Vec<&str> = label.key.iter().map(|(column, _)| column.as_str()).collect();
    fail(format!(
        "none of the {} labels matches a series and a step of the run: the first is ({}) = ({}); level {} has ({}), for instance {}, from {} to {}; correct the id columns or the times",
        labels.len(),
        columns.join(", "),
        key.join(", "),
        level.level.name,
        level.level.id_columns.join(", "),
        level.keys.first().map(ToString::to_string).unwrap_or_default(),
        level.calendar.label(0),
        level.calendar.label(level.calendar.len().saturating_sub(1)),
    ))
}
