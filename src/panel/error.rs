//! Why rows or arrays do not make a panel.

use polars::prelude::PolarsError;

/// More cells than this in one panel are taken for a mistake in the data (a year 0202, say).
pub(super) const MAX_CELLS: usize = 400_000_000;

/// Why rows or arrays do not make a panel.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("values have the shape {found:?}, the keys, calendar and metrics ask for {expected:?}")]
    Shape { found: (usize, usize, usize), expected: (usize, usize, usize) },
    #[error("the series `{0}` comes twice")]
    DuplicateKey(String),
    #[error("a row has no time: leave such rows out before they are added up")]
    NoTime,
    #[error("no usable row: nothing to build a panel from")]
    Empty,
    #[error(
        "{series} series from {first} to {last} make {cells} cells, more than {MAX_CELLS}: check the time column for wrong years, take a longer step, or limit the scope with --max-pairs and --max-keys"
    )]
    TooLarge { series: usize, first: String, last: String, cells: usize },
    #[error(
        "only {filled} of the {len} steps from {first} to {last} have any row: check the time column for a wrong year (sort the rows by time and look at both ends), or take a longer step"
    )]
    Sparse { filled: usize, len: usize, first: String, last: String },
    #[error("the ratio `{metric}` needs the metric `{part}`, which is not in the panel")]
    RatioPart { metric: String, part: String },
    #[error("the level `{level}` needs the id column `{column}`, which the rows do not have")]
    LevelColumn { level: String, column: String },
    #[error(transparent)]
    Frame(#[from] PolarsError),
}
