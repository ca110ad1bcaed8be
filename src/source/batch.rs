//! Typed rows, a bounded number at a time.

use std::{path::PathBuf, sync::Arc};

use polars::prelude::{
    Column, DataFrame, IntoColumn, NamedFrom, PolarsError, PolarsResult, Series,
    StringChunkedBuilder,
};

use super::spec::SourceSpec;
use crate::panel::TIME_COLUMN;

/// The most rows that a batch holds.
pub const BATCH_ROWS: usize = 65_536;

/// Good rows of one file, ready to be added up.
///
/// The frame has the id columns by their panel names (`String`), [`TIME_COLUMN`] (`Int64`, UTC
/// epoch seconds) and the metrics by name (`Float64`, NaN where missing).
#[derive(Clone, Debug)]
pub struct Batch {
    pub frame: DataFrame,
    pub file: Arc<PathBuf>,
    /// For each row its line in a CSV file, or its number from 1 in a Parquet file.
    pub lines: Vec<u64>,
}

impl Batch {
    /// The typed content of a row, for messages: ids, time and metrics.
    pub(super) fn row_text(&self, row: usize) -> String {
        let cells: Vec<String> = self
            .frame
            .columns()
            .iter()
            .map(|column| {
                column
                    .get(row)
                    .map_or_else(|_| String::new(), |value| value.str_value().into_owned())
            })
            .collect();
        cells.join(",")
    }
}

/// Collects rows column by column.
pub(super) struct BatchBuilder {
    id_names: Vec<String>,
    metric_names: Vec<String>,
    ids: Vec<StringChunkedBuilder>,
    times: Vec<i64>,
    values: Vec<Vec<f64>>,
    lines: Vec<u64>,
}

impl BatchBuilder {
    pub(super) fn new(spec: &SourceSpec) -> Self {
        let id_names: Vec<String> = spec.id_columns.iter().map(|id| id.name.clone()).collect();
        Self {
            ids: string_builders(&id_names),
            id_names,
            metric_names: spec.metrics.iter().map(|metric| metric.name.clone()).collect(),
            times: Vec::with_capacity(BATCH_ROWS),
            values: vec![Vec::with_capacity(BATCH_ROWS); spec.metrics.len()],
            lines: Vec::with_capacity(BATCH_ROWS),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    /// Adds a row. `ids` and `values` have one entry per id column and metric.
    pub(super) fn push<'a>(
        &mut self,
        line: u64,
        time: i64,
        ids: impl Iterator<Item = &'a str>,
        values: &[f64],
    ) {
        for (builder, id) in self.ids.iter_mut().zip(ids) {
            builder.append_value(id);
        }
        for (column, &value) in self.values.iter_mut().zip(values) {
            column.push(value);
        }
        self.times.push(time);
        self.lines.push(line);
    }

    /// The rows so far, as a batch; the builder is empty afterwards.
    pub(super) fn take(&mut self, file: &Arc<PathBuf>) -> PolarsResult<Batch> {
        let height = self.len();
        let ids = std::mem::replace(&mut self.ids, string_builders(&self.id_names));
        let mut columns: Vec<Column> =
            ids.into_iter().map(|builder| builder.finish().into_column()).collect();
        columns.push(Series::new(TIME_COLUMN.into(), &self.times[..]).into_column());
        for (name, values) in self.metric_names.iter().zip(&mut self.values) {
            columns.push(Series::new(name.as_str().into(), &values[..]).into_column());
            values.clear();
        }
        self.times.clear();
        let lines = std::mem::replace(&mut self.lines, Vec::with_capacity(BATCH_ROWS));
        let frame = DataFrame::new(height, columns)?;
        Ok(Batch { frame, file: Arc::clone(file), lines })
    }
}

fn string_builders(names: &[String]) -> Vec<StringChunkedBuilder> {
    names.iter().map(|name| StringChunkedBuilder::new(name.as_str().into(), BATCH_ROWS)).collect()
}

/// A frame that could not be put together is a mistake of this program, not of the data.
pub(super) fn frame_error(error: PolarsError) -> super::SourceError {
    super::SourceError::Push(Box::new(error))
}
