//! CSV files, row by row.
//!
//! Two things that CSV does to careless readers are handled here. A quote that is never closed
//! swallows the rest of the file as one field: a record may not grow past
//! [`MAX_RECORD_BYTES`], and one that ends with the file is an error, so that no row is lost in
//! silence. And a file's text may be broken in one row only: each record's UTF-8 is checked alone.

use std::{
    cell::RefCell,
    fs::File,
    io::{self, Read},
    ops::Range,
    path::PathBuf,
};

use csv::{ByteRecord, Reader, ReaderBuilder};

use super::{
    RejectReason, SourceError,
    columns::Columns,
    files::InputFile,
    intake::{Intake, Row, number},
    time::Clock,
};

/// A record longer than this has lost a quote.
const MAX_RECORD_BYTES: u64 = 16 << 20;
/// Bytes that the delimiter is guessed from.
const HEAD_BYTES: usize = 1 << 16;
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads one file into the intake.
pub(super) fn read_csv(file: &InputFile, intake: &mut Intake<'_>) -> Result<(), SourceError> {
    let hasher = RefCell::new(std::mem::take(&mut intake.hasher));
    let mut csv = open(file, intake.spec.delimiter, &hasher)?;
    let columns = Columns::resolve(intake.spec, file, &csv.header)?;
    let mut record = ByteRecord::new();
    while let Some(line) = csv.next(&mut record)? {
        let row = CsvRow::new(&record, line, csv.delimiter);
        if record.len() != csv.header.len() {
            if row.spans_lines() && csv.reader.get_ref().ended {
                return Err(csv.unclosed(line));
            }
            reject_lines(&row, intake)?;
        } else if intake.take(&row, &columns)? {
            intake.report(csv.reader.position().byte());
        }
    }
    drop(csv);
    intake.hasher = hasher.into_inner();
    Ok(())
}

/// A record of the wrong width may be several rows that a stray quote glued together: each line
/// is logged, so that the count is right.
fn reject_lines(row: &CsvRow<'_>, intake: &mut Intake<'_>) -> Result<(), SourceError> {
    let reason = row.fault().unwrap_or(RejectReason::WrongColumnCount);
    for (line, text) in (row.line()..).zip(row.whole().split('\n')) {
        intake.reject(line, reason, text)?;
    }
    Ok(())
}

/// A file behind its header.
pub(super) struct OpenCsv<'h> {
    path: PathBuf,
    reader: Reader<Metered<'h>>,
    pub(super) header: Vec<String>,
    delimiter: u8,
    /// Lines end with a line feed alone.
    lf: bool,
    /// Line feeds seen up to the end of the last record, and one.
    end: u64,
}

impl OpenCsv<'_> {
    /// Reads the next record and returns the line on which it starts.
    #[inline]
    pub(super) fn next(&mut self, record: &mut ByteRecord) -> Result<Option<u64>, SourceError> {
        self.reader.get_mut().unclaimed = 0;
        match self.reader.read_byte_record(record) {
            Ok(true) => Ok(Some(self.line_of(record))),
            Ok(false) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// The reader's own idea of a record's line is where it started looking: before blank lines,
    /// and before the line feed of `\r\n`. So the line is counted back from the record's end.
    #[inline]
    fn line_of(&mut self, record: &ByteRecord) -> u64 {
        let end = self.reader.position().line();
        let inside = match end - std::mem::replace(&mut self.end, end) {
            0 | 1 => 0,
            _ => record.as_slice().iter().filter(|&&byte| byte == b'\n').count() as u64,
        };
        let fed = self.lf && !self.reader.get_ref().ended;
        end - inside - u64::from(fed)
    }

    fn failed(&self, error: csv::Error) -> SourceError {
        if self.reader.get_ref().unclaimed > MAX_RECORD_BYTES {
            return self.unclosed(self.end + u64::from(!self.lf));
        }
        SourceError::read(&self.path, error.into())
    }

    fn unclosed(&self, line: u64) -> SourceError {
        let last_line = self.reader.position().line();
        SourceError::UnclosedQuote { path: self.path.clone(), line, last_line }
    }
}

/// Opens a file, finds its delimiter, and reads its header.
pub(super) fn open<'h>(
    file: &InputFile,
    delimiter: Option<u8>,
    hasher: &'h RefCell<blake3::Hasher>,
) -> Result<OpenCsv<'h>, SourceError> {
    let failed = |error| SourceError::read(&file.path, error);
    let mut source = File::open(&file.path).map_err(failed)?;
    let mut head = Vec::with_capacity(HEAD_BYTES);
    Read::by_ref(&mut source).take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(failed)?;
    hasher.borrow_mut().update(&head);
    let start = if head.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let delimiter = delimiter.unwrap_or_else(|| sniff(&head[start..]));
    let lf = !head
        .iter()
        .position(|&byte| byte == b'\n')
        .is_some_and(|at| at > 0 && head[at - 1] == b'\r');
    let metered = Metered { head, at: start, source, hasher, unclaimed: 0, ended: false };
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter)
        .flexible(true)
        .buffer_capacity(1 << 18)
        .from_reader(metered);
    let fields = match reader.byte_headers().cloned() {
        Ok(fields) => fields,
        Err(_) if reader.get_ref().unclaimed > MAX_RECORD_BYTES => {
            let last_line = reader.position().line();
            return Err(SourceError::UnclosedQuote { path: file.path.clone(), line: 1, last_line });
        }
        Err(error) => return Err(failed(error.into())),
    };
    let header = fields
        .iter()
        .map(|field| std::str::from_utf8(field).map(|name| name.trim().to_string()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| SourceError::WrongKind {
            path: file.path.clone(),
            found: "has a header that is not UTF-8".into(),
            remedy: RejectReason::BrokenUtf8.remedy().into(),
        })?;
    if header.iter().all(String::is_empty) {
        return Err(SourceError::NoRows {
            path: file.path.clone(),
            detail: "there is no header, only blank lines".into(),
            remedy: "put the column names into the first line",
        });
    }
    let end = reader.position().line();
    Ok(OpenCsv { path: file.path.clone(), reader, header, delimiter, lf, end })
}

/// The delimiter that the first line has most often outside quotes; a comma if it has none.
fn sniff(head: &[u8]) -> u8 {
    let mut counts = [0_usize; DELIMITERS.len()];
    let mut quoted = false;
    for &byte in head.iter().skip_while(|byte| matches!(byte, b'\n' | b'\r')) {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' | b'\r' if !quoted => break,
            _ if !quoted => {
                if let Some(place) = DELIMITERS.iter().position(|&d| d == byte) {
                    counts[place] += 1;
                }
            }
            _ => {}
        }
    }
    let mut best = 0;
    for place in 1..counts.len() {
        if counts[place] > counts[best] {
            best = place;
        }
    }
    DELIMITERS[best]
}

/// Reads on after the bytes that were looked at, hashes what passes, and stops a runaway record.
pub(super) struct Metered<'h> {
    head: Vec<u8>,
    at: usize,
    source: File,
    hasher: &'h RefCell<blake3::Hasher>,
    /// Bytes handed over since the last record was complete.
    unclaimed: u64,
    /// The file's end was seen.
    ended: bool,
}

impl Read for Metered<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.unclaimed > MAX_RECORD_BYTES {
            return Err(io::Error::other("a record is too long"));
        }
        let n = if self.at < self.head.len() {
            let n = (&self.head[self.at..]).read(buffer)?;
            self.at += n;
            n
        } else {
            let n = self.source.read(buffer)?;
            self.hasher.borrow_mut().update(&buffer[..n]);
            n
        };
        self.unclaimed += n as u64;
        self.ended |= n == 0;
        Ok(n)
    }
}

/// A record with its text checked.
struct CsvRow<'r> {
    record: &'r ByteRecord,
    line: u64,
    /// The fields without delimiters; `None` when they are no UTF-8.
    text: Option<&'r str>,
    delimiter: u8,
}

impl<'r> CsvRow<'r> {
    #[inline]
    fn new(record: &'r ByteRecord, line: u64, delimiter: u8) -> Self {
        Self { record, line, text: std::str::from_utf8(record.as_slice()).ok(), delimiter }
    }

    fn spans_lines(&self) -> bool {
        self.record.as_slice().contains(&b'\n')
    }

    #[inline]
    fn field(&self, field: usize) -> Option<&'r str> {
        let range: Range<usize> = self.record.range(field)?;
        self.text?.get(range)
    }
}

impl Row for CsvRow<'_> {
    fn line(&self) -> u64 {
        self.line
    }

    #[inline]
    fn fault(&self) -> Option<RejectReason> {
        self.text.is_none().then_some(RejectReason::BrokenUtf8)
    }

    #[inline]
    fn text(&self, field: usize) -> Option<&str> {
        self.field(field)
    }

    #[inline]
    fn time(&self, field: usize, clock: &mut Clock) -> Result<i64, RejectReason> {
        clock.read(self.field(field).ok_or(RejectReason::BrokenUtf8)?)
    }

    #[inline]
    fn number(&self, field: usize) -> Result<f64, RejectReason> {
        number(self.field(field).ok_or(RejectReason::BrokenUtf8)?)
    }

    fn whole(&self) -> String {
        let delimiter = char::from(self.delimiter).to_string();
        let fields: Vec<_> = self.record.iter().map(String::from_utf8_lossy).collect();
        fields.join(&delimiter)
    }
}
