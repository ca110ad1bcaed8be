//! Rows that could not be used, kept with their line and reason.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::SourceError;

/// Examples kept for each reason, for messages and reports.
const MAX_EXAMPLES: usize = 3;
/// Characters of a row that are kept: a row longer than this is usually a lost quote.
const MAX_ROW_CHARS: usize = 2_000;
/// Characters of a row that an error message shows.
const MAX_MESSAGE_CHARS: usize = 120;

/// Why a row was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    WrongColumnCount,
    BrokenUtf8,
    MissingTime,
    UnparsableTime,
    /// The clocks went back or forward there, and the configuration says to reject such times.
    AmbiguousTime,
    MissingKey,
    NotANumber,
    InfiniteNumber,
    NegativeCount,
    /// A second row for a cell of data that are aggregated already.
    Duplicate,
}

impl RejectReason {
    /// The name used in `rejected.csv` and in summaries.
    pub fn name(self) -> &'static str {
        match self {
            Self::WrongColumnCount => "wrong_column_count",
            Self::BrokenUtf8 => "broken_utf8",
            Self::MissingTime => "missing_time",
            Self::UnparsableTime => "unparsable_time",
            Self::AmbiguousTime => "ambiguous_time",
            Self::MissingKey => "missing_key",
            Self::NotANumber => "not_a_number",
            Self::InfiniteNumber => "infinite_number",
            Self::NegativeCount => "negative_count",
            Self::Duplicate => "duplicate",
        }
    }

    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::WrongColumnCount => {
                "check the delimiter and that fields which contain it are quoted"
            }
            Self::BrokenUtf8 => "convert the file to UTF-8 (`iconv -f latin1 -t utf-8`, say)",
            Self::MissingTime => "fill in the time column or name another one",
            Self::UnparsableTime => {
                "set source.time_format to \"epoch_seconds\", \"epoch_millis\" or a pattern such as \"%d.%m.%Y %H:%M\""
            }
            Self::AmbiguousTime => {
                "write times with an offset, or set ambiguous_time to \"earlier\" or \"later\""
            }
            Self::MissingKey => "fill in the id columns or leave such rows out with a filter",
            Self::NotANumber => {
                "write numbers with a decimal point and without thousands separators, and leave missing values empty"
            }
            Self::InfiniteNumber => "leave values that are not finite empty",
            Self::NegativeCount => {
                "give the metric the kind \"amount\" or \"measure\" if it may be negative"
            }
            Self::Duplicate => {
                "keep one row per series and step, or set duplicates = \"combine\" to add them up"
            }
        }
    }
}

/// One rejected row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectExample {
    pub file: PathBuf,
    /// From 1: the line in a CSV file, the row in a Parquet file.
    pub line: u64,
    pub reason: RejectReason,
    /// The row's text, cut off when it is very long.
    pub row: String,
}

/// Counts rejected rows and streams them to a CSV file, which is made with the first one.
#[derive(Debug)]
pub struct RejectLog {
    path: Option<PathBuf>,
    writer: Option<csv::Writer<File>>,
    counts: BTreeMap<RejectReason, u64>,
    examples: Vec<RejectExample>,
}

impl RejectLog {
    /// Writes to `path` (columns `file,line,reason,row`) once there is something to write.
    pub fn writing_to(path: impl Into<PathBuf>) -> Self {
        Self { path: Some(path.into()), ..Self::counting() }
    }

    /// Only counts, and keeps examples.
    pub fn counting() -> Self {
        Self { path: None, writer: None, counts: BTreeMap::new(), examples: Vec::new() }
    }

    /// Logs one row.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add(
        &mut self,
        file: &Path,
        line: u64,
        reason: RejectReason,
        row: &str,
    ) -> Result<(), SourceError> {
        let row = cut(row, MAX_ROW_CHARS);
        let count = self.counts.entry(reason).or_default();
        *count += 1;
        if *count <= MAX_EXAMPLES as u64 {
            let example =
                RejectExample { file: file.to_path_buf(), line, reason, row: row.to_string() };
            self.examples.push(example);
        }
        let Some(path) = &self.path else { return Ok(()) };
        let failed = |error: csv::Error| SourceError::write(path, error.into());
        if self.writer.is_none() {
            let mut writer = csv::Writer::from_path(path).map_err(failed)?;
            writer.write_record(["file", "line", "reason", "row"]).map_err(failed)?;
            self.writer = Some(writer);
        }
        if let Some(writer) = &mut self.writer {
            let file = file.to_string_lossy();
            writer
                .write_record([file.as_ref(), &line.to_string(), reason.name(), row])
                .map_err(failed)?;
        }
        Ok(())
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn flush(&mut self) -> Result<(), SourceError> {
        match (&mut self.writer, &self.path) {
            (Some(writer), Some(path)) => {
                writer.flush().map_err(|error| SourceError::write(path, error))
            }
            _ => Ok(()),
        }
    }

    /// Rejected rows, all reasons together.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Rejected rows by reason.
    pub fn counts(&self) -> &BTreeMap<RejectReason, u64> {
        &self.counts
    }

    /// A few rows of each reason.
    pub fn examples(&self) -> &[RejectExample] {
        &self.examples
    }

    /// The error for a run in which `rejected` of `rows` rows were rejected.
    pub(super) fn too_many(&self, rows: u64, allowed: f64) -> SourceError {
        let rejected = self.total();
        let commonest =
            self.counts.iter().max_by_key(|(_, count)| **count).map(|(reason, _)| *reason);
        let example = self.examples.iter().find(|example| Some(example.reason) == commonest);
        SourceError::TooManyRejects {
            rejected,
            rows,
            share: 100.0 * rejected as f64 / (rows as f64).max(1.0),
            allowed: 100.0 * allowed,
            reason: commonest.map_or("", RejectReason::name),
            example: example.map_or_else(String::new, |example| {
                let row = cut(&example.row, MAX_MESSAGE_CHARS);
                format!("{} line {}: {row:?}", example.file.display(), example.line)
            }),
            remedy: commonest.map_or("check the data", RejectReason::remedy),
        }
    }
}

fn cut(text: &str, max_chars: usize) -> &str {
    text.char_indices().nth(max_chars).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_made_with_the_first_reject_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rejected.csv");
        let mut log = RejectLog::writing_to(&path);
        log.flush().unwrap();
        assert!(!path.exists());
        log.add(Path::new("a.csv"), 7, RejectReason::NotANumber, "x,\"y\"").unwrap();
        log.flush().unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "file,line,reason,row\na.csv,7,not_a_number,\"x,\"\"y\"\"\"\n"
        );
    }

    #[test]
    fn the_error_shows_the_commonest_reason_with_an_example() {
        let mut log = RejectLog::counting();
        log.add(Path::new("a.csv"), 2, RejectReason::NegativeCount, "a,-1").unwrap();
        for line in 3..9 {
            log.add(Path::new("a.csv"), line, RejectReason::MissingKey, ",4").unwrap();
        }
        let text = log.too_many(10, 0.01).to_string();
        assert!(text.contains("7 of 10 rows"), "{text}");
        assert!(text.contains("missing_key, as in a.csv line 3: \",4\""), "{text}");
        assert_eq!(log.examples().len(), 1 + MAX_EXAMPLES);
    }
}
