//! What can go wrong between numbers and files.

use std::{io, path::PathBuf};

/// Why a chart or the page could not be written. Each message names the place and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file system refused.
    #[error(
        "cannot write `{}`: {source}; check that the folder exists, is writable and has room, or choose another with --out",
        path.display()
    )]
    Write { path: PathBuf, source: io::Error },
    /// A chart's vectors do not belong together.
    #[error(
        "chart `{chart}`: {problem}; a chart's vectors must have one value per step of its `times`, in rising order"
    )]
    Shape { chart: String, problem: String },
    /// The drawing library refused.
    #[error(
        "cannot draw `{picture}`: {reason}; this is a fault of the program, please report it with the data of this chart"
    )]
    Draw { picture: String, reason: String },
}
