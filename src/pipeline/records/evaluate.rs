//! A finished run of records against labels: scores and flags are read back from its files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{PipelineError, measure::ScoredRows};
use crate::{
    config::{Config, RecordsSection},
    pipeline::LevelMetrics,
    sink::{parse_boolean, parse_number, read_csv},
    source::read_record_labels,
};

/// Measures the run in `run_dir` against the labels in `labels`.
///
/// # Errors
/// When the folder has no files of flags, or when the labels match none of its rows.
pub(in crate::pipeline) fn measure_run(
    config: &Config,
    section: &RecordsSection,
    run_dir: &Path,
    labels: &Path,
    seed: u64,
) -> Result<LevelMetrics, PipelineError> {
    let id_column = id_column(config, section);
    let read = read_record_labels(labels, id_column)?;
    if read.is_empty() {
        return Err(PipelineError::Other(format!(
            "{}: the file has no row: write one labelled id a row, or give another file",
            labels.display()
        )));
    }
    let n_labels = read.len();
    let (path, who) = (flags_file(run_dir)?, scorers(section));
    let mut rows = ScoredRows::new(who.clone(), read);
    let mut columns = vec![id_column.to_string(), "in_training".into(), "p_value".into()];
    for name in &who {
        columns.extend([format!("{name}_score"), format!("{name}_anomaly")]);
    }
    let (mut scores, mut flags) = (Vec::new(), Vec::new());
    read_csv(&path, &columns, &mut |fields| {
        let (known, scored) = fields.split_at(3);
        scores.clear();
        flags.clear();
        for pair in scored.chunks(2) {
            scores.push(parse_number(pair[0])?);
            flags.push(parse_boolean(pair[1])?);
        }
        let in_training = parse_boolean(known[1])?;
        rows.take(known[0], in_training, &scores, &flags, parse_number(known[2])?.ln());
        Ok(())
    })?;
    if rows.match_nothing() {
        return Err(PipelineError::Other(format!(
            "{}: none of its {n_labels} ids is a row of {}: correct the column `{id_column}`",
            labels.display(),
            path.display()
        )));
    }
    let found = rows.measure(seed);
    if found.scorers.is_empty() {
        return Err(PipelineError::Other(format!(
            "{}: every labelled row was fitted on, so nothing can be measured: lower records.train_share, or label later rows",
            labels.display()
        )));
    }
    Ok(found)
}

/// The id's column as the input names it.
pub(in crate::pipeline) fn id_column<'a>(
    config: &'a Config,
    section: &'a RecordsSection,
) -> &'a str {
    config.source.columns.get(&section.id_column).unwrap_or(&section.id_column)
}

/// Whose columns a run with this section writes.
fn scorers(section: &RecordsSection) -> Vec<String> {
    match section.output.model() {
        Some(model) => vec![model.to_string()],
        None => std::iter::once("ensemble".to_string())
            .chain(section.models.iter().map(ToString::to_string))
            .collect(),
    }
}

/// The one CSV file of flags.
fn flags_file(run_dir: &Path) -> Result<PathBuf, PipelineError> {
    let folder = run_dir.join("flags");
    let entries = fs::read_dir(&folder).map_err(PipelineError::io(&folder))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            name.is_some_and(|name| name.starts_with("anomalies_") && name.ends_with(".csv"))
        })
        .collect();
    match (found.pop(), found.is_empty()) {
        (Some(path), true) => Ok(path),
        (None, _) => Err(PipelineError::Other(format!(
            "{}: no anomalies_<model>_<timestamp>.csv in it: run again",
            folder.display()
        ))),
        _ => Err(PipelineError::Other(format!(
            "{}: more than one anomalies_*.csv in it: leave the run's own",
            folder.display()
        ))),
    }
}
