//! The reader: a spec in, batches out.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Serialize;

use super::{
    Batch, RejectLog, RejectReason, SourceError,
    csv_rows::read_csv,
    error::PushError,
    files::{self, FileKind},
    intake::Intake,
    parquet_rows::read_parquet,
    spec::SourceSpec,
};

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReadSummary {
    /// Rows that were used.
    pub rows: u64,
    /// Rows that a filter, or a metric name nobody asked for, left out.
    pub filtered: u64,
    /// Rows that could not be used, by reason.
    pub rejected: BTreeMap<RejectReason, u64>,
    /// In the order in which they were read.
    pub files: Vec<PathBuf>,
    pub bytes: u64,
    /// BLAKE3 of all bytes of all files in that order, in hex.
    pub fingerprint: String,
}

/// Reads every file of `spec`, in order of their paths, and hands the good rows to `push` in
/// batches of at most [`BATCH_ROWS`](super::BATCH_ROWS). `push` returns the places of rows that it
/// refuses as duplicates; they are logged like other bad rows. `progress` hears (bytes done,
/// bytes in all).
///
/// # Errors
/// When the spec does not fit together, a file is missing, unreadable, empty or not what it says,
/// a column is missing, too many rows are bad, or `push` fails.
pub fn read(
    spec: &SourceSpec,
    progress: &mut dyn FnMut(u64, u64),
    rejects: &mut RejectLog,
    push: &mut dyn FnMut(&Batch) -> Result<Vec<usize>, PushError>,
) -> Result<ReadSummary, SourceError> {
    SourceError::unless_fine(&spec.check())?;
    let files = files::find(&spec.pattern, spec.format)?;
    let bytes = files.iter().map(|file| file.bytes).sum();
    let before = rejects.counts().clone();
    let mut intake = Intake::new(spec, bytes, rejects, push, progress);
    for file in &files {
        intake.open(&file.path);
        match file.kind {
            FileKind::Csv => read_csv(file, &mut intake)?,
            FileKind::Parquet => read_parquet(file, &mut intake)?,
        }
        intake.close(file.bytes)?;
    }
    intake.finish()?;
    let (rows, filtered) = (intake.accepted, intake.filtered);
    let fingerprint = intake.hasher.finalize().to_hex().to_string();
    let mut rejected = rejects.counts().clone();
    for (reason, count) in &mut rejected {
        *count -= before.get(reason).copied().unwrap_or(0);
    }
    rejected.retain(|_, count| *count > 0);
    if rows == 0 && rejected.is_empty() {
        return Err(nothing(files[0].path.clone(), filtered));
    }
    let files = files.into_iter().map(|file| file.path).collect();
    Ok(ReadSummary { rows, filtered, rejected, files, bytes, fingerprint })
}

fn nothing(path: PathBuf, filtered: u64) -> SourceError {
    if filtered == 0 {
        return SourceError::NoRows {
            path,
            detail: "there is a header and no row".into(),
            remedy: "check that whatever wrote it found data",
        };
    }
    SourceError::NoRows {
        path,
        detail: format!("none of the {filtered} rows passes the filters and metric names"),
        remedy: "compare the values in the configuration with those in the file",
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
