//! A small Parquet table read whole: what the program itself has written.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use polars::prelude::{Column, DataFrame, ParquetReader, SerReader};

use super::SourceError;

/// Columns of one Parquet file. A missing number reads as NaN.
pub struct Table {
    path: PathBuf,
    frame: DataFrame,
}

impl Table {
    /// # Errors
    /// When the file is missing or no Parquet file.
    pub fn read(path: &Path) -> Result<Self, SourceError> {
        let file = File::open(path).map_err(|error| SourceError::read(path, error))?;
        let frame = ParquetReader::new(file)
            .set_rechunk(true)
            .finish()
            .map_err(|source| SourceError::Parquet { path: path.to_path_buf(), source })?;
        Ok(Self { path: path.to_path_buf(), frame })
    }

    fn column(&self, name: &str) -> Result<&Column, SourceError> {
        self.frame.column(name).map_err(|_| self.wrong(name))
    }

    fn wrong(&self, name: &str) -> SourceError {
        SourceError::WrongKind {
            path: self.path.clone(),
            found: format!("the column `{name}` is missing or of another type"),
            remedy: "run again: another version wrote it".into(),
        }
    }

    /// # Errors
    /// When there is no column of floats of that name; so for the others.
    pub fn floats(&self, name: &str) -> Result<Vec<f64>, SourceError> {
        let column = self.column(name)?.f64().map_err(|_| self.wrong(name))?;
        Ok(column.iter().map(|value| value.unwrap_or(f64::NAN)).collect())
    }

    /// Places in a list: whole numbers that are not negative.
    ///
    /// # Errors
    /// Also when a number is missing or negative.
    pub fn places(&self, name: &str) -> Result<Vec<usize>, SourceError> {
        let column = self.column(name)?.i64().map_err(|_| self.wrong(name))?;
        let place = |value: Option<i64>| usize::try_from(value?).ok();
        column.iter().map(|value| place(value).ok_or_else(|| self.wrong(name))).collect()
    }

    /// # Errors
    /// When there is no column of truth values of that name.
    pub fn truths(&self, name: &str) -> Result<Vec<Option<bool>>, SourceError> {
        let column = self.column(name)?.bool().map_err(|_| self.wrong(name))?;
        Ok(column.iter().collect())
    }
}
