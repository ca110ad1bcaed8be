//! Parquet files, a slice of rows at a time.
//!
//! Only the needed columns are decoded, at most [`BATCH_ROWS`] rows at once, so memory stays
//! bounded whatever the size of the row groups. Columns are typed, so most of what can go wrong
//! in text cannot here; what remains (nulls, NaN, text columns) is judged like a CSV row.

use std::{fs::File, path::PathBuf};

use polars::prelude::{
    ArrowDataType, Column, DataFrame, DataType, Float64Chunked, Int64Chunked, ParallelStrategy,
    ParquetReader, PolarsError, SerReader, StringChunked, TimeUnit,
};

use super::{
    RejectReason, SourceError,
    batch::BATCH_ROWS,
    columns::Columns,
    files::InputFile,
    intake::{Intake, Row, number},
    spec::TimeFormat,
    time::{Clock, epoch_number},
};

/// Reads one file into the intake.
pub(super) fn read_parquet(file: &InputFile, intake: &mut Intake<'_>) -> Result<(), SourceError> {
    let unreadable = |source: PolarsError| SourceError::Parquet { path: file.path.clone(), source };
    let failed = |error| SourceError::read(&file.path, error);
    let source = File::open(&file.path).map_err(failed)?;
    intake.hasher.update_reader(&source).map_err(failed)?;

    let mut reader = ParquetReader::new(source.try_clone().map_err(failed)?);
    let metadata = reader.get_metadata().map_err(unreadable)?.clone();
    let schema = reader.schema().map_err(unreadable)?;
    let header: Vec<String> = schema.iter_names().map(|name| name.to_string()).collect();
    let columns = Columns::resolve(intake.spec, file, &header)?;
    let parts = Parts::new(&columns, header.len());
    for field in parts.used() {
        if let Some((_, arrow)) = schema.get_at_index(field) {
            readable(file, &header[field], &arrow.dtype)?;
        }
    }
    let names: Vec<String> = parts.used().map(|field| header[field].clone()).collect();
    let rows = metadata.num_rows;
    for start in (0..rows).step_by(BATCH_ROWS) {
        let mut reader = ParquetReader::new(source.try_clone().map_err(failed)?);
        reader.set_metadata(metadata.clone());
        let frame = reader
            .with_columns(Some(names.clone()))
            .with_slice(Some((start, BATCH_ROWS.min(rows - start))))
            // The only strategy that leaves the row groups outside the slice alone.
            .read_parallel(ParallelStrategy::RowGroups)
            .set_rechunk(true)
            .finish()
            .map_err(unreadable)?;
        let slice = Slice::new(file, &header, &parts, &frame, intake.clock.format())?;
        for row in 0..frame.height() {
            intake
                .take(&SliceRow { slice: &slice, row, line: (start + row + 1) as u64 }, &columns)?;
        }
        let done = (start + frame.height()) as f64 / rows as f64;
        intake.report((file.bytes as f64 * done) as u64);
    }
    Ok(())
}

/// The columns of a file that can be written as text: words, numbers and truths.
pub(super) fn text_columns(file: &InputFile) -> Result<Vec<String>, SourceError> {
    use ArrowDataType as T;
    let unreadable = |source: PolarsError| SourceError::Parquet { path: file.path.clone(), source };
    let source = File::open(&file.path).map_err(|error| SourceError::read(&file.path, error))?;
    let schema = ParquetReader::new(source).schema().map_err(unreadable)?;
    let plain = |dtype: &ArrowDataType| {
        matches!(
            dtype,
            T::Boolean | T::Int32 | T::Int64 | T::UInt32 | T::UInt64 | T::Float32 | T::Float64
        ) || matches!(dtype, T::Utf8 | T::LargeUtf8 | T::Utf8View)
    };
    let fields = schema.iter_values().filter(|field| plain(&field.dtype));
    Ok(fields.map(|field| field.name.to_string()).collect())
}

/// Which fields are read as what; a field may be several things.
struct Parts {
    text: Vec<bool>,
    number: Vec<bool>,
    time: Option<usize>,
}

impl Parts {
    fn new(columns: &Columns, n_fields: usize) -> Self {
        let marked = |fields: Vec<usize>| {
            let mut marks = vec![false; n_fields];
            fields.into_iter().for_each(|field| marks[field] = true);
            marks
        };
        Self {
            text: marked(columns.text_fields()),
            number: marked(columns.number_fields()),
            time: columns.time_field(),
        }
    }

    fn used(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.text.len())
            .filter(|&field| self.text[field] || self.number[field] || self.time == Some(field))
    }
}

/// Refuses the types that this build of the Parquet reader does not turn into columns.
fn readable(file: &InputFile, column: &str, dtype: &ArrowDataType) -> Result<(), SourceError> {
    use ArrowDataType as T;
    let fine = match dtype {
        T::Boolean
        | T::Int8
        | T::Int16
        | T::Int32
        | T::Int64
        | T::UInt8
        | T::UInt16
        | T::UInt32
        | T::UInt64
        | T::Float32
        | T::Float64
        | T::Date32
        | T::Date64
        | T::Timestamp(..)
        | T::Utf8
        | T::LargeUtf8
        | T::Utf8View
        | T::Null => true,
        T::Dictionary(_, values, _) => {
            matches!(**values, T::Utf8 | T::LargeUtf8 | T::Utf8View)
        }
        _ => false,
    };
    if fine {
        return Ok(());
    }
    Err(SourceError::ColumnType {
        path: file.path.clone(),
        column: column.to_string(),
        found: format!("values of the type {dtype:?}"),
        wanted: "text, a number or a time",
        remedy: "write it as a string, a number of 8 to 64 bits, a date or a timestamp",
    })
}

/// How a time column is stored.
enum Times {
    Text(StringChunked),
    /// Ticks, how many make a second, and whether they count on a wall clock or in UTC.
    Ticks {
        ticks: Int64Chunked,
        per_second: i64,
        wall: bool,
    },
    /// Whole days on a wall clock.
    Days(Int64Chunked),
    /// Numbers with a fraction, and how many make a second.
    Floats(Float64Chunked, f64),
}

enum Numbers {
    Floats(Float64Chunked),
    Text(StringChunked),
}

/// Typed columns of a slice, by field number.
struct Slice {
    text: Vec<Option<StringChunked>>,
    numbers: Vec<Option<Numbers>>,
    times: Option<Times>,
}

impl Slice {
    fn new(
        file: &InputFile,
        header: &[String],
        parts: &Parts,
        frame: &DataFrame,
        format: &TimeFormat,
    ) -> Result<Self, SourceError> {
        let unreadable =
            |source: PolarsError| SourceError::Parquet { path: file.path.clone(), source };
        let n = header.len();
        let mut slice = Self { text: vec![None; n], numbers: Vec::new(), times: None };
        slice.numbers.resize_with(n, || None);
        for field in parts.used() {
            let column = frame.column(&header[field]).map_err(unreadable)?;
            if parts.text[field] {
                slice.text[field] = Some(as_text(column).map_err(unreadable)?);
            }
            if parts.number[field] {
                slice.numbers[field] = Some(match column.dtype() {
                    DataType::String | DataType::Categorical(..) => {
                        Numbers::Text(as_text(column).map_err(unreadable)?)
                    }
                    _ => Numbers::Floats(as_floats(column).map_err(unreadable)?),
                });
            }
            if parts.time == Some(field) {
                let times = as_times(column, format).map_err(unreadable)?;
                slice.times = Some(times.ok_or_else(|| untimely(&file.path, column))?);
            }
        }
        Ok(slice)
    }
}

fn untimely(path: &std::path::Path, column: &Column) -> SourceError {
    SourceError::ColumnType {
        path: PathBuf::from(path),
        column: column.name().to_string(),
        found: format!("values of the type {:?}", column.dtype()),
        wanted: "a time",
        remedy: "set source.time_format to \"epoch_seconds\" or \"epoch_millis\" if it counts those, or name another time column",
    }
}

fn as_text(column: &Column) -> Result<StringChunked, PolarsError> {
    Ok(column.cast(&DataType::String)?.str()?.clone())
}

fn as_floats(column: &Column) -> Result<Float64Chunked, PolarsError> {
    Ok(column.cast(&DataType::Float64)?.f64()?.clone())
}

/// `None`: the column is of no type that can be a time under this format.
fn as_times(column: &Column, format: &TimeFormat) -> Result<Option<Times>, PolarsError> {
    let ticks = |column: &Column| -> Result<Int64Chunked, PolarsError> {
        Ok(column.to_physical_repr().cast(&DataType::Int64)?.i64()?.clone())
    };
    let per_second = match format {
        TimeFormat::EpochSeconds => Some(1),
        TimeFormat::EpochMillis => Some(1_000),
        TimeFormat::Auto | TimeFormat::Custom(_) => None,
    };
    Ok(match (column.dtype(), per_second) {
        (DataType::String | DataType::Categorical(..), _) => Some(Times::Text(as_text(column)?)),
        (DataType::Date, _) => Some(Times::Days(ticks(column)?)),
        (DataType::Datetime(unit, zone), _) => {
            let per_second = match unit {
                TimeUnit::Milliseconds => 1_000,
                TimeUnit::Microseconds => 1_000_000,
                TimeUnit::Nanoseconds => 1_000_000_000,
            };
            Some(Times::Ticks { ticks: ticks(column)?, per_second, wall: zone.is_none() })
        }
        (dtype, Some(per_second)) if dtype.is_integer() => {
            Some(Times::Ticks { ticks: ticks(column)?, per_second, wall: false })
        }
        (dtype, Some(per_second)) if dtype.is_float() => {
            Some(Times::Floats(as_floats(column)?, per_second as f64))
        }
        _ => None,
    })
}

struct SliceRow<'s> {
    slice: &'s Slice,
    row: usize,
    line: u64,
}

impl Row for SliceRow<'_> {
    fn line(&self) -> u64 {
        self.line
    }

    fn fault(&self) -> Option<RejectReason> {
        None
    }

    fn text(&self, field: usize) -> Option<&str> {
        self.slice.text.get(field)?.as_ref()?.get(self.row)
    }

    fn time(&self, _field: usize, clock: &mut Clock) -> Result<i64, RejectReason> {
        let missing = RejectReason::MissingTime;
        let row = self.row;
        match self.slice.times.as_ref().ok_or(missing)? {
            Times::Text(text) => clock.read(text.get(row).ok_or(missing)?),
            Times::Days(days) => clock.wall_time(days.get(row).ok_or(missing)? * 86_400),
            Times::Ticks { ticks, per_second, wall } => {
                let secs = epoch_number(ticks.get(row).ok_or(missing)?, *per_second)
                    .ok_or(RejectReason::UnparsableTime)?;
                if *wall { clock.wall_time(secs) } else { Ok(secs) }
            }
            Times::Floats(numbers, per_second) => {
                let secs = (numbers.get(row).ok_or(missing)? / per_second).floor();
                // The cast saturates, and NaN becomes 0: so ask first.
                let secs = if secs.is_finite() { secs as i64 } else { i64::MAX };
                epoch_number(secs, 1).ok_or(RejectReason::UnparsableTime)
            }
        }
    }

    fn number(&self, field: usize) -> Result<f64, RejectReason> {
        match self.slice.numbers.get(field).and_then(Option::as_ref) {
            Some(Numbers::Floats(numbers)) => Ok(numbers.get(self.row).unwrap_or(f64::NAN)),
            Some(Numbers::Text(text)) => text.get(self.row).map_or(Ok(f64::NAN), number),
            None => Ok(f64::NAN),
        }
    }

    /// The needed columns only; the others were not read.
    fn whole(&self) -> String {
        let row = self.row;
        let time = self.slice.times.iter().map(|times| match times {
            Times::Text(text) => text.get(row).unwrap_or("").to_string(),
            Times::Days(ticks) | Times::Ticks { ticks, .. } => {
                ticks.get(row).map_or_else(String::new, |tick| tick.to_string())
            }
            Times::Floats(numbers, _) => {
                numbers.get(row).map_or_else(String::new, |number| number.to_string())
            }
        });
        let text = self.slice.text.iter().flatten().map(|text| text.get(row).unwrap_or("").into());
        let numbers = self.slice.numbers.iter().flatten().map(|numbers| match numbers {
            Numbers::Floats(numbers) => {
                numbers.get(row).map_or_else(String::new, |number| number.to_string())
            }
            Numbers::Text(text) => text.get(row).unwrap_or("").to_string(),
        });
        time.chain(text).chain(numbers).collect::<Vec<String>>().join(",")
    }
}
