//! Tables on disk: CSV and Parquet, from columns that are computed cell by cell.
//!
//! A panel of 10,000 series has half a million cells and each cell some thirty columns, so the
//! table is never held in memory: a [`Column`] is a function of (series, time), and a writer walks
//! the cells it is given. Records, which may be millions, go into a [`TableStream`] batch by batch.

mod atomic;
mod read;
mod stream;
mod table;

pub use atomic::{PartialDir, write_file};
pub use read::{parse_boolean, parse_number, read_csv};
pub use stream::TableStream;
pub use table::{Column, Kind, SinkError, Value, write_csv, write_parquet};
