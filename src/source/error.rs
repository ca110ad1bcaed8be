//! What stops a reading. Every message names the place and ends with what to do.

use std::{io, path::PathBuf};

use polars::prelude::PolarsError;

/// An error of whoever takes the batches; it is passed through unchanged.
pub type PushError = Box<dyn std::error::Error + Send + Sync>;

/// Why files could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("{}: {source}; check that the path exists and that you may {action} it", path.display())]
    Io {
        path: PathBuf,
        /// `read` or `write`.
        action: &'static str,
        source: io::Error,
    },
    #[error("no input file: {0}")]
    NoFiles(String),
    #[error("{}: {found}; {remedy}", path.display())]
    WrongKind { path: PathBuf, found: String, remedy: String },
    #[error("{}: the file is empty (0 bytes); check that whatever wrote it has finished", .0.display())]
    EmptyFile(PathBuf),
    #[error("{}: {detail}; {remedy}", path.display())]
    NoRows { path: PathBuf, detail: String, remedy: &'static str },
    #[error("{}: no column `{column}` ({role}){suggestion}; the columns are: {available}; name the right one in [source.columns], or the time's in source.time_column", path.display())]
    MissingColumn {
        path: PathBuf,
        column: String,
        /// What the column is needed for.
        role: &'static str,
        /// `, did you mean …?`, or nothing.
        suggestion: String,
        available: String,
    },
    #[error("{}: the column `{column}` comes {times} times in the header; rename the copies so that it is clear which one is meant", path.display())]
    RepeatedColumn { path: PathBuf, column: String, times: usize },
    #[error("{}: the column `{column}` holds {found}, which cannot be read as {wanted}; {remedy}", path.display())]
    ColumnType {
        path: PathBuf,
        column: String,
        found: String,
        wanted: &'static str,
        remedy: &'static str,
    },
    #[error("{}: line {line}: a quoted field is never closed (it runs to line {last_line}); add the closing quote, or write a quote inside a field as two", path.display())]
    UnclosedQuote { path: PathBuf, line: u64, last_line: u64 },
    #[error("{}: line {line}: column `{column}`: {problem}", path.display())]
    Cell { path: PathBuf, line: u64, column: String, problem: String },
    #[error(
        "{rejected} of {rows} rows were rejected ({share:.2} %), more than source.max_rejected_share allows ({allowed:.2} %); most often: {reason}, as in {example}; {remedy}, or raise source.max_rejected_share"
    )]
    TooManyRejects {
        rejected: u64,
        rows: u64,
        /// In per cent, as is `allowed`.
        share: f64,
        allowed: f64,
        reason: &'static str,
        /// File, line and text of a rejected row.
        example: String,
        remedy: &'static str,
    },
    #[error("{}: this Parquet file cannot be read: {source}; check that it was written completely, or write it again", path.display())]
    Parquet { path: PathBuf, source: PolarsError },
    #[error("the parameters do not fit: {0}")]
    Spec(String),
    #[error(transparent)]
    Push(PushError),
}

impl SourceError {
    pub(super) fn read(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { path: path.into(), action: "read", source }
    }

    pub(super) fn write(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { path: path.into(), action: "write", source }
    }

    /// All problems of a spec at once, or nothing.
    pub(super) fn unless_fine(problems: &[(String, String)]) -> Result<(), Self> {
        if problems.is_empty() {
            return Ok(());
        }
        let lines: Vec<_> = problems.iter().map(|(key, text)| format!("`{key}`: {text}")).collect();
        Err(Self::Spec(lines.join("; ")))
    }
}
