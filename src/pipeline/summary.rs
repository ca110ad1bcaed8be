//! What a run says of itself: the content of `run.json`, and what the command line prints.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::metrics::LevelMetrics;
use crate::ensemble::RuleSummary;

/// Everything that is known of a run beside its tables and pictures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunSummary {
    pub name: String,
    /// `run`, `train` or `detect`.
    pub command: String,
    /// Of this program.
    pub version: String,
    pub device: String,
    pub seed: u64,
    /// What `detect` scored with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<PathBuf>,
    pub input: PathBuf,
    /// blake3 of the bytes read.
    pub data_fingerprint: String,
    pub rows: u64,
    /// Refused rows by reason; each is in `rejected.csv`.
    pub rejected: BTreeMap<String, u64>,
    pub levels: Vec<LevelSummary>,
    /// Sentences that a reader must see: fallbacks, skipped detectors, device choice.
    pub warnings: Vec<String>,
    /// Seconds by stage.
    pub timings: Vec<(String, f64)>,
    /// Where the run lies; set when it is complete.
    pub out: PathBuf,
}

/// One level of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LevelSummary {
    pub level: String,
    pub series: usize,
    pub steps: usize,
    pub first: String,
    pub last: String,
    /// Cells that have a verdict.
    pub points: usize,
    pub anomalies: usize,
    pub by_severity: BTreeMap<String, usize>,
    pub by_type: BTreeMap<String, usize>,
    pub fallbacks: Vec<FallbackNote>,
    /// What happened to single series on the way: a baseline that has started again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<SeriesEvent>,
    /// Detectors that could not run, and why.
    pub skipped: BTreeMap<String, String>,
    pub training: Option<TrainingSummary>,
    /// What the decision rules did: the ensemble's, then each detector's own.
    #[serde(default)]
    pub rules: Vec<RuleSummary>,
    /// What the p-values promise against what they keep.
    pub calibration: Vec<CalibrationRow>,
    /// Figures against the labels, when there are labels at this level.
    pub quality: Vec<QualityRow>,
    /// The level's part of `metrics.json`, which holds more than `run.json`.
    #[serde(skip)]
    pub metrics: LevelMetrics,
}

/// Series that a simpler detector stands in for, with one reason as an example.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FallbackNote {
    pub detector: String,
    pub by: String,
    pub series: usize,
    pub example: String,
}

/// Something that happened to one series in one detector and that explains its scores.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SeriesEvent {
    pub detector: String,
    pub series: String,
    /// The step, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    pub text: String,
}

/// How the LSTM's training went.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrainingSummary {
    pub epochs: usize,
    /// From 1.
    pub best_epoch: usize,
    pub best_validation_loss: f64,
}

/// One detector's p-values on the cells that count as clean: all scored cells outside labels,
/// known events and the training part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CalibrationRow {
    pub detector: String,
    /// True when labels say which cells are clean; otherwise anomalies are among them.
    pub labelled: bool,
    pub cells: usize,
    /// Share of cells with p at or below 0.05, 0.01 and 0.001.
    pub p05: f64,
    pub p01: f64,
    pub p001: f64,
    /// Share of cells inside the prediction interval, where there is one.
    pub coverage: Option<f64>,
}

/// One row of the table of figures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QualityRow {
    /// `ensemble`, a detector's name, or `random scores`.
    pub who: String,
    /// `all cells`, or `outside known events`.
    pub scope: String,
    /// Figures by name, as `evaluation::Evaluation::figures` gives them.
    pub figures: BTreeMap<String, Option<f64>>,
}
