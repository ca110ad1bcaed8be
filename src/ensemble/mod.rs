//! From the detectors' scores to one verdict per cell: calibrate, combine, decide, label.
//!
//! Detectors speak different languages: one counts standard deviations, one a reconstruction
//! error, one a probability. Here all of them become p-values ([`Calibration`]), the p-values
//! become one ([`Strategy`]), and the one becomes a decision ([`Rule`]) with a severity, a type and
//! a direction by published rules. The ensemble knows no concrete detector: it sees [`Scores`].
//!
//! [`Scores`]: crate::detectors::Scores

mod calibration;
mod combine;
mod decide;
mod decision;
mod label;
mod normal;
mod null;
mod output;
mod rates;
mod records;
mod standardise;
mod tail;
mod types;

pub use calibration::{CalibratedScores, Calibration, CalibrationParams, CalibrationSummary};
pub use combine::{Agreement, EnsembleParams, Member, Strategy, combine_p};
pub use decide::{Case, References, decide, would_flag};
pub use decision::{
    BudgetPer, DecisionParams, FdrMethod, KnownEvents, Reference, Rule, RuleOverride, RuleParams,
};
pub use output::{EnsembleOutput, MemberOutput, bounded_score, combine};
pub use rates::{RuleSummary, StepAlerts, fdr_warning, rule_summaries};
pub use records::{
    RecordEnsembleParams, RecordJudge, RecordModel, RecordStrategy, RecordVerdicts, TrainingScores,
    percentile_problem,
};
pub use types::*;

use crate::detectors::DetectorName;

/// Why scores could not become verdicts.
#[derive(Debug, thiserror::Error)]
pub enum EnsembleError {
    #[error(
        "{detector}: {found} scores are too few to calibrate p-values ({needed} are needed): give \
         more history or more series, or leave the detector out"
    )]
    TooFewScores { detector: DetectorName, found: usize, needed: usize },
    #[error(
        "{what} are {found:?} (series, steps), but {expected:?} was expected: score the panel \
         that is combined"
    )]
    Shape { what: &'static str, found: (usize, usize), expected: (usize, usize) },
    #[error(
        "{detector}: the calibration in the checkpoint is damaged: train again, or take another \
         checkpoint"
    )]
    Calibration { detector: DetectorName },
    #[error(
        "level {level}: the rule `percentile` has no score of the training part to take a percentile \
         of: give more history, or take another decision.rule"
    )]
    NoReference { level: String },
}
