//! What is known of a run's quality: the content of `metrics.json`.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::summary::{CalibrationRow, QualityRow};
use crate::evaluation::{Confusion, Evaluation};

/// A run against labels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Metrics {
    pub name: String,
    /// Of the program that measured.
    pub version: String,
    /// Of the run; the random row is drawn from it.
    pub seed: u64,
    /// blake3 of the bytes that the run read.
    pub data_fingerprint: String,
    pub levels: Vec<LevelMetrics>,
    /// Where charts and `metrics.json` are.
    #[serde(skip)]
    pub out: PathBuf,
}

/// One level against the labels.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LevelMetrics {
    pub level: String,
    pub step: String,
    /// L of VUS.
    pub buffer_steps: usize,
    /// Cells that count: scored, not fitted on, not in the week after a permanent change.
    pub cells: usize,
    /// Labelled intervals on this level, whether they count or not.
    pub labelled_events: usize,
    /// Ensemble, every detector, random scores. Empty without labels on this level.
    pub scorers: Vec<ScorerMetrics>,
    pub calibration: Vec<CalibrationMetrics>,
}

/// One scorer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScorerMetrics {
    /// `ensemble`, a detector's name, or `random scores`.
    pub who: String,
    /// `all cells`, `all rows` of records, or `outside known events`.
    pub scope: String,
    /// As `evaluation::Evaluation::figures` gives them.
    pub figures: BTreeMap<String, Option<f64>>,
    pub confusion: Confusion,
    /// (found, all) events by kind.
    pub by_kind: BTreeMap<String, (usize, usize)>,
    /// Events found by delay in steps.
    pub delays: BTreeMap<usize, usize>,
    /// (recall, precision).
    pub pr_curve: Vec<(f64, f64)>,
}

/// What a scorer's p-values and intervals keep of what they promise.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CalibrationMetrics {
    #[serde(flatten)]
    pub row: CalibrationRow,
    /// What the prediction interval promises; `coverage` is what it keeps.
    pub nominal_coverage: Option<f64>,
    /// (p, share of clean cells at or below it).
    pub curve: Vec<(f64, f64)>,
}

impl ScorerMetrics {
    pub fn new(who: &str, scope: &str, found: Evaluation) -> Self {
        Self {
            who: who.into(),
            scope: scope.into(),
            figures: found.figures(),
            confusion: found.confusion,
            by_kind: found.events.by_kind,
            delays: found.events.delays,
            pr_curve: found.pr_curve,
        }
    }

    /// True where nothing is left out of the scope.
    pub fn is_everywhere(&self) -> bool {
        matches!(self.scope.as_str(), "all cells" | "all rows")
    }

    /// The row of `run.json`.
    pub fn row(&self) -> QualityRow {
        QualityRow {
            who: self.who.clone(),
            scope: self.scope.clone(),
            figures: self.figures.clone(),
        }
    }
}
