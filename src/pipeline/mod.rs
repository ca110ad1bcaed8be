//! Wires the stages: the only room that knows every other. Nothing here prints; the command line
//! shows the [`RunSummary`] that comes back.
//!
//! ```text
//! load     config -> panels, labels, known events
//! level    panel -> every detector's scores -> p-values -> one verdict per point
//! quality  verdicts + labels -> figures
//! pages    verdicts -> what the report draws
//! flags    verdicts -> columns of the flags files
//! write    flags, charts, page, log into a directory
//! stage    one command from a job to a directory that appears whole or not at all
//! run      the commands: run, train, detect, report
//! records  the same commands for rows that lie on no calendar
//! ```

mod error;
mod flags;
mod level;
mod load;
mod pages;
mod quality;
mod records;
mod registry;
mod run;
mod stage;
mod summary;
mod write;

pub use error::PipelineError;
pub use load::{GeneratedFiles, generate};
pub use records::RECORDS_LEVEL;
pub use run::{Job, detect, report, run, train};
pub use summary::{
    CalibrationRow, FallbackNote, LevelSummary, QualityRow, RunSummary, TrainingSummary,
};
pub use write::RUN_FILE;

pub use crate::detectors::{Progress, Silent};
pub use crate::report::ChartFormat;
