//! CSV and Parquet writers over computed columns.

use std::{
    borrow::Cow,
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use polars::prelude::{DataFrame, IntoColumn, NamedFrom, ParquetWriter, Series};

/// Why a table could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error("{path}: {source}; check that the folder exists, is writable and has room")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path}: {reason}")]
    Format { path: PathBuf, reason: String },
}

impl SinkError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_path_buf(), source }
    }
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Float,
    Int,
    Bool,
}

/// One cell of a table. A float that is NaN, and `Empty`, are written as nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    Text(Cow<'a, str>),
    Float(f64),
    Int(i64),
    Bool(bool),
    Empty,
}

/// A column: its name and its value at (series, time).
pub struct Column<'a> {
    pub name: String,
    pub kind: Kind,
    pub value: Box<dyn Fn(usize, usize) -> Value<'a> + Sync + 'a>,
}

impl<'a> Column<'a> {
    pub fn new(
        name: impl Into<String>,
        kind: Kind,
        value: impl Fn(usize, usize) -> Value<'a> + Sync + 'a,
    ) -> Self {
        Self { name: name.into(), kind, value: Box::new(value) }
    }
}

/// Writes the given cells as CSV with a header.
///
/// # Errors
/// When the file cannot be written.
pub fn write_csv(
    path: &Path,
    columns: &[Column<'_>],
    cells: impl Iterator<Item = (usize, usize)>,
) -> Result<(), SinkError> {
    let file = File::create(path).map_err(SinkError::io(path))?;
    let mut writer = csv::Writer::from_writer(BufWriter::new(file));
    let format = |error: csv::Error| SinkError::Format {
        path: path.to_path_buf(),
        reason: error.to_string(),
    };
    writer.write_record(columns.iter().map(|column| column.name.as_str())).map_err(format)?;
    let mut text = String::new();
    for (series, time) in cells {
        for column in columns {
            text.clear();
            write_value(&mut text, &(column.value)(series, time));
            writer.write_field(&text).map_err(format)?;
        }
        writer.write_record(None::<&[u8]>).map_err(format)?;
    }
    writer
        .into_inner()
        .map_err(|error| SinkError::Format { path: path.to_path_buf(), reason: error.to_string() })?
        .flush()
        .map_err(SinkError::io(path))
}

/// Writes the given cells as one Parquet file.
///
/// # Errors
/// When the file cannot be written.
pub fn write_parquet(
    path: &Path,
    columns: &[Column<'_>],
    cells: &[(usize, usize)],
) -> Result<(), SinkError> {
    let file = File::create(path).map_err(SinkError::io(path))?;
    let format = |error: polars::prelude::PolarsError| SinkError::Format {
        path: path.to_path_buf(),
        reason: error.to_string(),
    };
    let series = columns.iter().map(|column| to_series(column, cells).into_column()).collect();
    let mut frame = DataFrame::new(cells.len(), series).map_err(format)?;
    ParquetWriter::new(BufWriter::new(file)).finish(&mut frame).map_err(format)?;
    Ok(())
}

pub(super) fn to_series(column: &Column<'_>, cells: &[(usize, usize)]) -> Series {
    let name = column.name.as_str().into();
    let values = cells.iter().map(|&(series, time)| (column.value)(series, time));
    match column.kind {
        Kind::Text => Series::new(
            name,
            values
                .map(|value| match value {
                    Value::Text(text) => Some(text.into_owned()),
                    _ => None,
                })
                .collect::<Vec<Option<String>>>(),
        ),
        Kind::Float => Series::new(
            name,
            values
                .map(|value| match value {
                    Value::Float(x) if !x.is_nan() => Some(x),
                    Value::Int(x) => Some(x as f64),
                    _ => None,
                })
                .collect::<Vec<Option<f64>>>(),
        ),
        Kind::Int => Series::new(
            name,
            values
                .map(|value| match value {
                    Value::Int(x) => Some(x),
                    _ => None,
                })
                .collect::<Vec<Option<i64>>>(),
        ),
        Kind::Bool => Series::new(
            name,
            values
                .map(|value| match value {
                    Value::Bool(x) => Some(x),
                    _ => None,
                })
                .collect::<Vec<Option<bool>>>(),
        ),
    }
}

pub(super) fn write_value(out: &mut String, value: &Value<'_>) {
    use std::fmt::Write as _;
    // Writing into a String cannot fail.
    let _ = match value {
        Value::Text(text) => {
            out.push_str(text);
            Ok(())
        }
        Value::Float(x) => {
            push_float(out, *x);
            Ok(())
        }
        Value::Int(x) => write!(out, "{x}"),
        Value::Bool(x) => write!(out, "{x}"),
        Value::Empty => Ok(()),
    };
}

/// Whole numbers in full; others with six significant digits, in scientific notation outside
/// 1e-4 … 1e15. NaN is nothing.
fn push_float(out: &mut String, x: f64) {
    use std::fmt::Write as _;
    if x.is_nan() {
        return;
    }
    let size = x.abs();
    let _ = if x == 0.0 || (x.fract() == 0.0 && size < 1e15) {
        write!(out, "{x:.0}")
    } else if size.is_finite() && (1e-4..1e15).contains(&size) {
        let decimals = (5 - size.log10().floor() as i32).clamp(0, 10) as usize;
        let start = out.len();
        let written = write!(out, "{x:.decimals$}");
        if out[start..].contains('.') {
            let kept = out.trim_end_matches('0').trim_end_matches('.').len();
            out.truncate(kept);
        }
        written
    } else {
        write!(out, "{x:.5e}")
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_keep_six_digits_and_whole_numbers_all() {
        let text = |x: f64| {
            let mut out = String::new();
            push_float(&mut out, x);
            out
        };
        assert_eq!(text(123456789.0), "123456789");
        assert_eq!(text(12.3456789), "12.3457");
        assert_eq!(text(0.000123456789), "0.000123457");
        assert_eq!(text(1e-20), "1.00000e-20");
        assert_eq!(text(0.5), "0.5");
        assert_eq!(text(-0.0), "-0");
        assert_eq!(text(f64::NAN), "");
        assert_eq!(text(f64::INFINITY), "inf");
    }

    #[test]
    fn csv_and_parquet_hold_the_same_cells() {
        let dir = tempfile::tempdir().unwrap();
        let columns = [
            Column::new("key", Kind::Text, |s, _| Value::Text(format!("a,\"{s}").into())),
            Column::new("x", Kind::Float, |s, t| {
                Value::Float(if t == 1 { f64::NAN } else { s as f64 + 0.5 })
            }),
            Column::new("flag", Kind::Bool, |_, t| Value::Bool(t == 0)),
        ];
        let cells = [(0, 0), (0, 1), (1, 0)];
        let path = dir.path().join("t.csv");
        write_csv(&path, &columns, cells.into_iter()).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(
            text,
            "key,x,flag\n\"a,\"\"0\",0.5,true\n\"a,\"\"0\",,false\n\"a,\"\"1\",1.5,true\n"
        );
        let path = dir.path().join("t.parquet");
        write_parquet(&path, &columns, &cells).unwrap();
        use polars::prelude::{ParquetReader, SerReader};
        let frame = ParquetReader::new(File::open(path).unwrap()).finish().unwrap();
        assert_eq!(frame.height(), 3);
        assert_eq!(frame.column("x").unwrap().null_count(), 1);
    }
}
