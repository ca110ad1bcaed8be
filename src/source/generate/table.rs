//! A table that is written as CSV or Parquet, by the file's name, in bounded memory.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use polars::prelude::{
    BatchedWriter, Column, DataFrame, DataType, Float64Chunked, Int64Chunked, IntoColumn,
    IntoSeries, NewChunkedArray, ParquetWriter, PlSmallStr, PolarsError, PolarsResult, Schema,
    StringChunked, TimeUnit, TimeZone,
};

use crate::source::{SourceError, time::rfc3339};

/// Rows in a Parquet row group, at least.
const GROUP_ROWS: usize = 131_072;

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CellKind {
    Text,
    Whole,
    Number,
    Time,
}

/// A table's columns.
pub(super) type Header = &'static [(&'static str, CellKind)];

/// One value. Its kind must be its column's; a missing value fits everywhere.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cell<'a> {
    Text(&'a str),
    Whole(u64),
    /// A number and its decimals.
    Number(f64, u8),
    /// UTC epoch seconds.
    Time(i64),
    Missing,
}

/// What a file is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TableFormat {
    Csv,
    Parquet,
}

impl TableFormat {
    /// By the file's name.
    pub(super) fn of(path: &Path) -> Result<Self, SourceError> {
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        match extension.as_deref() {
            Some("csv") => Ok(Self::Csv),
            Some("parquet") => Ok(Self::Parquet),
            _ => Err(SourceError::Spec(format!(
                "`{}`: the name must end with .csv or .parquet, which says what to write",
                path.display()
            ))),
        }
    }
}

/// Rows that are ready to be written, made on any thread.
pub(super) enum Chunk {
    Csv { text: Vec<u8>, rows: usize },
    Parquet { columns: Vec<Values>, rows: usize },
}

pub(super) enum Values {
    Text(Vec<Option<String>>),
    Whole(Vec<Option<i64>>),
    Number(Vec<Option<f64>>),
    Time(Vec<Option<i64>>),
}

impl Values {
    fn new(kind: CellKind) -> Self {
        match kind {
            CellKind::Text => Self::Text(Vec::new()),
            CellKind::Whole => Self::Whole(Vec::new()),
            CellKind::Number => Self::Number(Vec::new()),
            CellKind::Time => Self::Time(Vec::new()),
        }
    }

    fn push(&mut self, cell: Cell<'_>) {
        match (self, cell) {
            (Self::Text(values), Cell::Text(text)) => values.push(Some(text.to_string())),
            (Self::Whole(values), Cell::Whole(n)) => values.push(i64::try_from(n).ok()),
            (Self::Number(values), Cell::Number(x, decimals)) => {
                let scale = 10_f64.powi(i32::from(decimals));
                values.push(Some((x * scale).round() / scale));
            }
            (Self::Time(values), Cell::Time(secs)) => values.push(Some(secs * 1_000)),
            (Self::Text(values), _) => values.push(None),
            (Self::Number(values), _) => values.push(None),
            (Self::Whole(values) | Self::Time(values), _) => values.push(None),
        }
    }

    fn append(&mut self, other: Self) {
        match (self, other) {
            (Self::Text(values), Self::Text(more)) => values.extend(more),
            (Self::Number(values), Self::Number(more)) => values.extend(more),
            (Self::Whole(values), Self::Whole(more)) | (Self::Time(values), Self::Time(more)) => {
                values.extend(more);
            }
            _ => {}
        }
    }

    fn into_column(self, name: &str) -> Column {
        let name = PlSmallStr::from(name);
        match self {
            Self::Text(values) => {
                StringChunked::from_iter_options(name, values.into_iter()).into_column()
            }
            Self::Whole(values) => {
                Int64Chunked::from_iter_options(name, values.into_iter()).into_column()
            }
            Self::Number(values) => {
                Float64Chunked::from_iter_options(name, values.into_iter()).into_column()
            }
            Self::Time(values) => Int64Chunked::from_iter_options(name, values.into_iter())
                .into_datetime(TimeUnit::Milliseconds, utc())
                .into_series()
                .into_column(),
        }
    }
}

fn utc() -> Option<TimeZone> {
    TimeZone::opt_try_new(Some("UTC")).ok().flatten()
}

impl Chunk {
    pub(super) fn new(format: TableFormat, header: Header) -> Self {
        match format {
            TableFormat::Csv => Self::Csv { text: Vec::new(), rows: 0 },
            TableFormat::Parquet => Self::Parquet {
                columns: header.iter().map(|(_, kind)| Values::new(*kind)).collect(),
                rows: 0,
            },
        }
    }

    /// Adds a row with one cell per column.
    pub(super) fn push(&mut self, cells: &[Cell<'_>]) {
        match self {
            Self::Csv { text, rows } => {
                *rows += 1;
                for (place, cell) in cells.iter().enumerate() {
                    if place > 0 {
                        text.push(b',');
                    }
                    write_cell(text, *cell);
                }
                text.push(b'\n');
            }
            Self::Parquet { columns, rows } => {
                *rows += 1;
                for (column, cell) in columns.iter_mut().zip(cells) {
                    column.push(*cell);
                }
            }
        }
    }

    fn rows(&self) -> usize {
        match self {
            Self::Csv { rows, .. } | Self::Parquet { rows, .. } => *rows,
        }
    }
}

/// The generators' own names hold neither commas nor quotes, so nothing needs quoting.
fn write_cell(text: &mut Vec<u8>, cell: Cell<'_>) {
    // Writing to a vector cannot fail.
    let _ = match cell {
        Cell::Text(word) => text.write_all(word.as_bytes()),
        Cell::Whole(n) => write!(text, "{n}"),
        Cell::Number(x, decimals) => write!(text, "{x:.*}", usize::from(decimals)),
        Cell::Time(secs) => text.write_all(rfc3339(secs).as_bytes()),
        Cell::Missing => Ok(()),
    };
}

enum Sink {
    Csv(BufWriter<File>),
    Parquet { writer: Box<BatchedWriter<File>>, pending: Vec<Values>, n_pending: usize },
}

/// Writes a table under a temporary name and gives it its own when it is whole.
pub(super) struct TableWriter {
    path: PathBuf,
    partial: PathBuf,
    header: Header,
    sink: Option<Sink>,
    rows: u64,
}

impl TableWriter {
    pub(super) fn create(path: &Path, header: Header) -> Result<Self, SourceError> {
        let format = TableFormat::of(path)?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(|error| SourceError::write(folder, error))?;
        }
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(".partial");
        let partial = path.with_file_name(name);
        let failed = |error| SourceError::write(&partial, error);
        let file = File::create(&partial).map_err(failed)?;
        let sink = match format {
            TableFormat::Csv => {
                let mut writer = BufWriter::with_capacity(1 << 18, file);
                let names: Vec<_> = header.iter().map(|(name, _)| *name).collect();
                writeln!(writer, "{}", names.join(",")).map_err(failed)?;
                Sink::Csv(writer)
            }
            TableFormat::Parquet => {
                let writer = ParquetWriter::new(file)
                    .batched(&schema(header))
                    .map_err(|error| parquet_failed(path, error))?;
                let pending = header.iter().map(|(_, kind)| Values::new(*kind)).collect();
                Sink::Parquet { writer: Box::new(writer), pending, n_pending: 0 }
            }
        };
        Ok(Self { path: path.to_path_buf(), partial, header, sink: Some(sink), rows: 0 })
    }

    /// A table that is read back as CSV only.
    pub(super) fn create_csv(path: &Path, header: Header) -> Result<Self, SourceError> {
        match TableFormat::of(path) {
            Ok(TableFormat::Csv) => Self::create(path, header),
            _ => Err(SourceError::Spec(format!(
                "`{}`: labels and known events are CSV files; let the name end with .csv",
                path.display()
            ))),
        }
    }

    pub(super) fn format(&self) -> TableFormat {
        match self.sink {
            Some(Sink::Parquet { .. }) => TableFormat::Parquet,
            _ => TableFormat::Csv,
        }
    }

    pub(super) fn write(&mut self, chunk: Chunk) -> Result<(), SourceError> {
        self.rows += chunk.rows() as u64;
        match (&mut self.sink, chunk) {
            (Some(Sink::Csv(writer)), Chunk::Csv { text, .. }) => {
                writer.write_all(&text).map_err(|error| SourceError::write(&self.path, error))
            }
            (
                Some(Sink::Parquet { writer, pending, n_pending }),
                Chunk::Parquet { columns, rows },
            ) => {
                for (column, more) in pending.iter_mut().zip(columns) {
                    column.append(more);
                }
                *n_pending += rows;
                if *n_pending < GROUP_ROWS {
                    return Ok(());
                }
                write_group(writer, pending, n_pending, self.header)
                    .map_err(|error| parquet_failed(&self.path, error))
            }
            _ => Ok(()),
        }
    }

    /// Ends the file and returns its number of rows.
    pub(super) fn finish(mut self) -> Result<u64, SourceError> {
        let failed = |error| SourceError::write(&self.path, error);
        match self.sink.take() {
            Some(Sink::Csv(mut writer)) => writer.flush().map_err(failed)?,
            Some(Sink::Parquet { mut writer, mut pending, mut n_pending }) => {
                write_group(&mut writer, &mut pending, &mut n_pending, self.header)
                    .and_then(|()| writer.finish())
                    .map_err(|error| parquet_failed(&self.path, error))?;
            }
            None => {}
        }
        fs::rename(&self.partial, &self.path).map_err(failed)?;
        Ok(self.rows)
    }
}

impl Drop for TableWriter {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove; after an error there is.
        let _ = fs::remove_file(&self.partial);
    }
}

fn write_group(
    writer: &mut BatchedWriter<File>,
    pending: &mut [Values],
    n_pending: &mut usize,
    header: Header,
) -> PolarsResult<()> {
    let columns = pending
        .iter_mut()
        .zip(header)
        .map(|(values, (name, kind))| {
            std::mem::replace(values, Values::new(*kind)).into_column(name)
        })
        .collect();
    let frame = DataFrame::new(std::mem::take(n_pending), columns)?;
    writer.write_batch(&frame)
}

fn schema(header: Header) -> Schema {
    header
        .iter()
        .map(|(name, kind)| {
            let dtype = match kind {
                CellKind::Text => DataType::String,
                CellKind::Whole => DataType::Int64,
                CellKind::Number => DataType::Float64,
                CellKind::Time => DataType::Datetime(TimeUnit::Milliseconds, utc()),
            };
            (PlSmallStr::from(*name), dtype)
        })
        .collect()
}

fn parquet_failed(path: &Path, error: PolarsError) -> SourceError {
    SourceError::write(path, std::io::Error::other(error))
}
