//! Raw rows from files, and made-up rows with known anomalies.
//!
//! Three jobs live here, all of them in bounded memory. [`read()`] turns CSV and Parquet files into
//! [`Batch`]es of typed rows, which [`crate::panel::Aggregator`] adds up: a file is never held
//! whole, so 20 million raw events cost no more memory than the cells they fall into.
//! [`read_records`] hands over rows that lie on no calendar. [`read_intervals`] reads labels and known
//! events. [`generate_weekly`], [`generate_funnel`] and [`generate_records`] write data whose
//! anomalies are known, which is how detection is measured.
//!
//! A bad row is never dropped in silence: it is counted by [`RejectReason`], kept by the
//! [`RejectLog`] with its line and its text, and past a configured share the reading stops. A bad
//! *file* (empty, without a needed column, not what its name says) stops it at once with a
//! [`SourceError`] that ends with the remedy.
//!
//! The time of a row leaves this room as UTC epoch seconds. A time without an offset is read on
//! the wall clock of [`SourceSpec::time_zone`]; what happens in the hour that comes twice in
//! autumn is said explicitly by [`AmbiguousTime`].

mod batch;
mod columns;
mod csv_rows;
mod error;
mod files;
mod fingerprint;
mod generate;
mod intake;
mod intervals;
mod parquet_rows;
mod read;
mod records;
mod rejects;
mod spec;
mod table;
mod time;

pub use time::rfc3339;

pub use batch::{BATCH_ROWS, Batch};
pub use error::{PushError, SourceError};
pub use fingerprint::fingerprint;
pub use generate::{
    FunnelSpec, GeneratedSummary, RecordsSpec, WeeklySpec, generate_funnel, generate_records,
    generate_weekly,
};
pub use intervals::{Interval, IntervalSpec, read_intervals};
pub use read::{ReadSummary, read};
pub use records::{RecordBatch, RecordLayout, input_columns, read_record_labels, read_records};
pub use rejects::{RejectExample, RejectLog, RejectReason};
pub use spec::{
    AmbiguousTime, Filter, Format, IdColumn, Layout, MetricColumn, SourceSpec, TimeFormat,
};
pub use table::Table;
