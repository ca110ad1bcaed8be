//! One table as CSV and Parquet, written a batch of rows at a time.

use std::{
    fs::File,
    io::{BufWriter, Write},
    ops::Range,
    path::{Path, PathBuf},
};

use polars::prelude::{
    BatchedWriter, DataFrame, DataType, IntoColumn, ParquetWriter, PlSmallStr, PolarsError, Schema,
};
use rayon::prelude::*;

use super::{
    SinkError,
    table::{Column, Kind, to_series, write_value},
};

/// Rows that a thread turns into text at once.
const CHUNK_ROWS: usize = 2_048;

/// A table that grows. Nothing of it is kept in memory but the batch at hand.
pub struct TableStream {
    csv_path: PathBuf,
    csv: BufWriter<File>,
    parquet: Option<(PathBuf, BatchedWriter<BufWriter<File>>)>,
}

impl TableStream {
    /// Begins the CSV file, and the Parquet file if there is a path for it. `header` are the columns'
    /// names and their kinds in Parquet, which every batch must have.
    ///
    /// # Errors
    /// When a file cannot be made.
    pub fn create(
        csv_path: &Path,
        parquet_path: Option<&Path>,
        header: &[(String, Kind)],
    ) -> Result<Self, SinkError> {
        let file = File::create(csv_path).map_err(SinkError::io(csv_path))?;
        let mut csv = BufWriter::with_capacity(1 << 18, file);
        let mut line = csv::Writer::from_writer(Vec::new());
        let failed = |error: csv::Error| format_error(csv_path, &error);
        line.write_record(header.iter().map(|(name, _)| name)).map_err(failed)?;
        let line = line.into_inner().map_err(|error| format_error(csv_path, &error))?;
        csv.write_all(&line).map_err(SinkError::io(csv_path))?;
        let parquet = match parquet_path {
            None => None,
            Some(path) => {
                let file = BufWriter::new(File::create(path).map_err(SinkError::io(path))?);
                let failed = |error: PolarsError| format_error(path, &error);
                let writer = ParquetWriter::new(file).batched(&schema(header)).map_err(failed)?;
                Some((path.to_path_buf(), writer))
            }
        };
        Ok(Self { csv_path: csv_path.to_path_buf(), csv, parquet })
    }

    /// Adds the rows `0..rows` of these columns, whose second place is the row. `typed` are the
    /// columns of the Parquet file: what is text in the one may be a number in the other.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(
        &mut self,
        columns: &[Column<'_>],
        typed: &[Column<'_>],
        rows: usize,
    ) -> Result<(), SinkError> {
        let starts: Vec<usize> = (0..rows).step_by(CHUNK_ROWS).collect();
        let chunks: Vec<Vec<u8>> = starts
            .par_iter()
            .map(|&from| text(columns, from..(from + CHUNK_ROWS).min(rows)))
            .collect::<Result<_, _>>()
            .map_err(|error| format_error(&self.csv_path, &error))?;
        for chunk in chunks {
            self.csv.write_all(&chunk).map_err(SinkError::io(&self.csv_path))?;
        }
        let Some((path, writer)) = &mut self.parquet else { return Ok(()) };
        let cells: Vec<(usize, usize)> = (0..rows).map(|row| (0, row)).collect();
        let series: Vec<_> =
            typed.par_iter().map(|column| to_series(column, &cells).into_column()).collect();
        let failed = |error: PolarsError| format_error(path, &error);
        let frame = DataFrame::new(rows, series).map_err(failed)?;
        writer.write_batch(&frame).map_err(failed)
    }

    /// Ends the files.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn finish(mut self) -> Result<(), SinkError> {
        self.csv.flush().map_err(SinkError::io(&self.csv_path))?;
        if let Some((path, writer)) = self.parquet {
            writer.finish().map_err(|error| format_error(&path, &error))?;
        }
        Ok(())
    }
}

fn format_error(path: &Path, error: &dyn std::fmt::Display) -> SinkError {
    SinkError::Format { path: path.to_path_buf(), reason: error.to_string() }
}

fn text(columns: &[Column<'_>], rows: Range<usize>) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut cell = String::new();
    for row in rows {
        for column in columns {
            cell.clear();
            write_value(&mut cell, &(column.value)(0, row));
            writer.write_field(&cell)?;
        }
        writer.write_record(None::<&[u8]>)?;
    }
    writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))
}

fn schema(header: &[(String, Kind)]) -> Schema {
    header
        .iter()
        .map(|(name, kind)| {
            let dtype = match kind {
                Kind::Text => DataType::String,
                Kind::Float => DataType::Float64,
                Kind::Int => DataType::Int64,
                Kind::Bool => DataType::Boolean,
            };
            (PlSmallStr::from(name.as_str()), dtype)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::Value;
    use polars::prelude::{ParquetReader, SerReader};

    #[test]
    fn batches_become_one_table_in_both_formats() {
        let dir = tempfile::tempdir().unwrap();
        let (csv, parquet) = (dir.path().join("t.csv"), dir.path().join("t.parquet"));
        let header = [("id".to_string(), Kind::Text), ("x".to_string(), Kind::Float)];
        let mut table = TableStream::create(&csv, Some(&parquet), &header).unwrap();
        for batch in 0..3_usize {
            let columns = [
                Column::new("id", Kind::Text, move |_, row| {
                    Value::Text(format!("{batch},{row}").into())
                }),
                Column::new("x", Kind::Float, |_, row| Value::Float(row as f64)),
            ];
            table.write(&columns, &columns, 5_000).unwrap();
        }
        table.finish().unwrap();
        let text = std::fs::read_to_string(csv).unwrap();
        assert_eq!(text.lines().count(), 15_001);
        assert_eq!(text.lines().nth(10_002), Some("\"2,1\",1"));
        let frame = ParquetReader::new(File::open(parquet).unwrap()).finish().unwrap();
        assert_eq!((frame.height(), frame.width()), (15_000, 2));
    }
}
