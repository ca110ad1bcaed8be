//! Wires the stages: the only room that knows every other. Nothing here prints; the command line
//! shows the [`RunSummary`] that comes back.
//!
//! ```text
//! load     config -> panels, labels, known events
//! level    panel -> every detector's scores -> p-values -> one verdict per point
//! quality  verdicts + labels -> figures
//! pages    verdicts -> what the report draws
//! tables   figures -> the report's tables
//! flags    verdicts -> columns of the flags files
//! kept     verdicts -> what a run keeps to be measured later
//! change_points when a level changed, and by how much
//! write    flags, charts, page, log into a directory
//! stage    one command from a job to a directory that appears whole or not at all
//! admission which way a fitted level's scores point, before its checkpoint is ready
//! inject   what a config finds of anomalies that are put into a copy of the data
//! run      the commands: run, train, detect, report
//! records  the same commands for rows that lie on no calendar
//! evaluate a finished run + labels -> metrics.json and charts
//! compare  several runs -> figures with intervals, alerts that differ
//! ```

mod admission;
mod change_points;
mod compare;
mod error;
mod evaluate;
mod flags;
mod inject;
mod kept;
mod level;
mod load;
mod metrics;
mod pages;
mod quality;
mod records;
mod registry;
mod run;
mod stage;
mod summary;
mod tables;
mod write;

pub use compare::{
    AlertRow, AlertSideRow, AlertTotals, BootstrapFacts, CompareJob, Comparison, ConfigSummary,
    Contender, Failure, FigureRow, KeyDifference, LevelComparison, MAX_RUNS, RunOrigin,
    RunSummaryRef, Spread, compare, difference_texts, figure_text, is_run, spread_text, verdict,
};
pub use error::PipelineError;
pub use evaluate::{EvaluateJob, METRICS_FILE, evaluate};
pub use inject::{INJECT_FILE, InjectLevel, InjectSummary, SmallestSummary, inject};
pub use level::{LevelRun, MemberRun, decide_levels, fit_level};
pub use load::{GeneratedFiles, generate};
pub use metrics::{CalibrationMetrics, LevelMetrics, Metrics, ScorerMetrics};
pub use records::RECORDS_LEVEL;
pub use run::{Job, detect, report, run, train};
pub use summary::{
    CalibrationRow, FallbackNote, LevelSummary, QualityRow, RunSummary, TrainingSummary,
};
pub use write::RUN_FILE;

pub use crate::detectors::{Progress, Silent};
pub use crate::ensemble::{RuleSummary, StepAlerts};
pub use crate::report::ChartFormat;
