//! Where rows of every file format meet: each is judged, kept or rejected, and passed on in batches.

use std::{path::PathBuf, sync::Arc};

use super::{
    Batch, RejectLog, RejectReason, SourceError,
    batch::{BATCH_ROWS, BatchBuilder, frame_error},
    columns::{Columns, Origin, Values},
    error::PushError,
    spec::SourceSpec,
    time::Clock,
};

/// Takes a batch and returns the places of the rows that it refuses as duplicates.
pub(super) type Push<'a> = &'a mut dyn FnMut(&Batch) -> Result<Vec<usize>, PushError>;

/// Rows between two reports of progress.
const REPORT_ROWS: u64 = 8_192;
/// Rejected rows between two looks at their share. With fewer, reading goes on to the end, so
/// that the log of a small file is complete.
const EARLY_REJECTS: u64 = 1_000;

/// One row of a file.
pub(super) trait Row {
    /// From 1: the line in a CSV file, the row in a Parquet file.
    fn line(&self) -> u64;
    /// What is wrong with the row as a whole.
    fn fault(&self) -> Option<RejectReason>;
    /// The text of a field; `None` where it is missing.
    fn text(&self, field: usize) -> Option<&str>;
    /// UTC epoch seconds.
    fn time(&self, field: usize, clock: &mut Clock) -> Result<i64, RejectReason>;
    /// A number; NaN where it is missing.
    fn number(&self, field: usize) -> Result<f64, RejectReason>;
    /// The whole row, for the log.
    fn whole(&self) -> String;
}

/// What is being read, and what became of it so far.
pub(super) struct Intake<'a> {
    pub(super) spec: &'a SourceSpec,
    pub(super) clock: Clock,
    pub(super) hasher: blake3::Hasher,
    /// Rows passed on and not refused.
    pub(super) accepted: u64,
    /// Rows that a filter left out.
    pub(super) filtered: u64,
    rejects: &'a mut RejectLog,
    rejected_before: u64,
    push: Push<'a>,
    progress: &'a mut dyn FnMut(u64, u64),
    builder: BatchBuilder,
    /// For each id column, whether a row needs it.
    needed: Vec<bool>,
    values: Vec<f64>,
    file: Arc<PathBuf>,
    seen: u64,
    bytes_before: u64,
    bytes_total: u64,
}

impl<'a> Intake<'a> {
    pub(super) fn new(
        spec: &'a SourceSpec,
        bytes_total: u64,
        rejects: &'a mut RejectLog,
        push: Push<'a>,
        progress: &'a mut dyn FnMut(u64, u64),
    ) -> Self {
        Self {
            clock: Clock::new(
                spec.time_format.clone(),
                spec.time_zone.clone(),
                spec.ambiguous_time,
            ),
            hasher: blake3::Hasher::new(),
            accepted: 0,
            filtered: 0,
            rejected_before: rejects.total(),
            rejects,
            push,
            progress,
            builder: BatchBuilder::new(spec),
            needed: spec
                .id_columns
                .iter()
                .map(|id| !spec.optional_ids.contains(&id.name))
                .collect(),
            values: vec![f64::NAN; spec.metrics.len()],
            file: Arc::default(),
            seen: 0,
            bytes_before: 0,
            bytes_total,
            spec,
        }
    }

    /// Starts a file.
    pub(super) fn open(&mut self, path: &std::path::Path) {
        self.file = Arc::new(path.to_path_buf());
    }

    /// Ends a file of `bytes`.
    pub(super) fn close(&mut self, bytes: u64) -> Result<(), SourceError> {
        self.flush()?;
        self.bytes_before += bytes;
        self.report(0);
        Ok(())
    }

    /// Says how many bytes of the current file are done.
    pub(super) fn report(&mut self, bytes_of_file: u64) {
        let done = (self.bytes_before + bytes_of_file).min(self.bytes_total);
        (self.progress)(done, self.bytes_total);
    }

    /// Takes one row. `true` now and then, when it is time to report progress.
    #[inline]
    pub(super) fn take<R: Row>(&mut self, row: &R, columns: &Columns) -> Result<bool, SourceError> {
        match self.judge(row, columns) {
            Ok(true) => {
                if self.builder.len() >= BATCH_ROWS {
                    self.flush()?;
                }
            }
            Ok(false) => self.filtered += 1,
            Err(reason) => return self.reject(row.line(), reason, &row.whole()).map(|()| false),
        }
        self.seen += 1;
        Ok(self.seen.is_multiple_of(REPORT_ROWS))
    }

    /// Adds the row to the batch: `false` when a filter leaves it out.
    #[inline]
    fn judge<R: Row>(&mut self, row: &R, columns: &Columns) -> Result<bool, RejectReason> {
        if let Some(reason) = row.fault() {
            return Err(reason);
        }
        for (origin, allowed) in &columns.filters {
            let text = text_of(row, origin).unwrap_or("");
            if !allowed.iter().any(|value| value == text) {
                return Ok(false);
            }
        }
        if !self.read_values(row, &columns.values)? {
            return Ok(false);
        }
        let empty = |id| text_of(row, id).is_none_or(|text| text.trim_ascii().is_empty());
        if columns.ids.iter().zip(&self.needed).any(|(id, needed)| *needed && empty(id)) {
            return Err(RejectReason::MissingKey);
        }
        let time = match &columns.time {
            Origin::Field(field) => row.time(*field, &mut self.clock)?,
            Origin::Fixed(text) => self.clock.read(text)?,
        };
        let ids = columns.ids.iter().map(|id| text_of(row, id).unwrap_or(""));
        self.builder.push(row.line(), time, ids, &self.values);
        Ok(true)
    }

    /// Fills `self.values`: `false` when the row is about a metric that nobody asked for.
    fn read_values<R: Row>(&mut self, row: &R, values: &Values) -> Result<bool, RejectReason> {
        match values {
            Values::One => self.values[0] = 1.0,
            Values::Each(origins) => {
                for (place, origin) in origins.iter().enumerate() {
                    self.values[place] = self.value(row, origin, place)?;
                }
            }
            Values::Named { metric, value, places } => {
                let Some(&place) = text_of(row, metric).and_then(|name| places.get(name)) else {
                    return Ok(false);
                };
                self.values.fill(f64::NAN);
                self.values[place] = match value {
                    Some(origin) => self.value(row, origin, place)?,
                    None => 1.0,
                };
            }
        }
        Ok(true)
    }

    #[inline]
    fn value<R: Row>(&self, row: &R, origin: &Origin, place: usize) -> Result<f64, RejectReason> {
        let value = match origin {
            Origin::Field(field) => row.number(*field)?,
            Origin::Fixed(text) => number(text)?,
        };
        if value.is_infinite() {
            return Err(RejectReason::InfiniteNumber);
        }
        if value < 0.0 && self.spec.metrics[place].count {
            return Err(RejectReason::NegativeCount);
        }
        Ok(value)
    }

    /// Logs a row that is not used, and stops a reading in which most rows are bad.
    pub(super) fn reject(
        &mut self,
        line: u64,
        reason: RejectReason,
        row: &str,
    ) -> Result<(), SourceError> {
        self.seen += 1;
        self.rejects.add(&self.file, line, reason, row)?;
        if self.rejected().is_multiple_of(EARLY_REJECTS) { self.stop_early() } else { Ok(()) }
    }

    /// Passes the rows so far on.
    pub(super) fn flush(&mut self) -> Result<(), SourceError> {
        if self.builder.len() == 0 {
            return Ok(());
        }
        let batch = self.builder.take(&self.file).map_err(frame_error)?;
        let refused = (self.push)(&batch).map_err(SourceError::Push)?;
        self.accepted += batch.lines.len() as u64 - refused.len() as u64;
        for row in refused {
            let line = batch.lines.get(row).copied().unwrap_or(0);
            self.seen -= 1; // it was counted when it was taken
            self.reject(line, RejectReason::Duplicate, &batch.row_text(row))?;
        }
        Ok(())
    }

    /// Rows rejected by this reading.
    pub(super) fn rejected(&self) -> u64 {
        self.rejects.total() - self.rejected_before
    }

    /// Stops long before the end of a large file when far more rows are bad than may be.
    fn stop_early(&mut self) -> Result<(), SourceError> {
        let allowed = self.spec.max_rejected_share;
        let share = self.rejected() as f64 / self.seen.max(1) as f64;
        if share <= 3.0 * allowed + 0.05 {
            return Ok(());
        }
        self.rejects.flush()?;
        Err(self.rejects.too_many(self.seen, allowed))
    }

    /// The final look at the rejected share; writes the log out.
    pub(super) fn finish(&mut self) -> Result<(), SourceError> {
        self.rejects.flush()?;
        let rejected = self.rejected();
        let rows = self.accepted + rejected;
        if rejected as f64 > self.spec.max_rejected_share * rows as f64 {
            return Err(self.rejects.too_many(rows, self.spec.max_rejected_share));
        }
        Ok(())
    }
}

fn text_of<'r, R: Row>(row: &'r R, origin: &'r Origin) -> Option<&'r str> {
    match origin {
        Origin::Field(field) => row.text(*field),
        Origin::Fixed(text) => Some(text),
    }
}

/// Words for a missing value, in small letters.
const MISSING: [&str; 8] = ["", "na", "n/a", "nan", "null", "none", "nil", "\\n"];

/// Whether a text is one of the usual words for "missing".
pub(super) fn is_missing(text: &str) -> bool {
    MISSING.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// A number as people write it; NaN for the usual words for "missing".
#[inline]
pub(super) fn number(text: &str) -> Result<f64, RejectReason> {
    let text = text.trim_ascii();
    if text.len() <= 15 && !text.is_empty() {
        let whole = text.bytes().try_fold(0_u64, |number, byte| {
            byte.is_ascii_digit().then(|| number * 10 + u64::from(byte - b'0'))
        });
        if let Some(whole) = whole {
            return Ok(whole as f64); // at most 15 digits: exact
        }
    }
    if is_missing(text) {
        return Ok(f64::NAN);
    }
    text.parse().map_err(|_| RejectReason::NotANumber)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_people_write_them() {
        for (text, value) in [("0", 0.0), (" 12 ", 12.0), ("-3.5", -3.5), ("1e3", 1e3), (".5", 0.5)]
        {
            assert_eq!(number(text), Ok(value), "{text}");
        }
        assert_eq!(number("999999999999999"), Ok(999_999_999_999_999.0));
        assert_eq!(number("9007199254740993"), Ok(9_007_199_254_740_992.0));
        for text in ["", " ", "NA", "NaN", "null", "None", "\\N"] {
            assert!(number(text).unwrap().is_nan(), "{text}");
        }
        for text in ["1,5", "1.000,5", "x", "12 EUR", "0x10", "1_000", "--1"] {
            assert_eq!(number(text), Err(RejectReason::NotANumber), "{text}");
        }
        assert_eq!(number("-inf"), Ok(f64::NEG_INFINITY));
    }
}
