//! What a comparison says: the content of `compare.json`, and what the command line prints.

use std::path::PathBuf;

use serde::Serialize;

use crate::evaluation::{Change, Difference, Figure};

/// Everything that is known of a comparison. The first config is the baseline.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Of this program.
    pub version: String,
    pub configs: Vec<ConfigSummary>,
    /// Runs that could not be made; the comparison is about the others.
    pub failures: Vec<Failure>,
    /// Keys in which the configs differ.
    pub differences: Vec<KeyDifference>,
    pub levels: Vec<LevelComparison>,
    pub alerts: Vec<AlertTotals>,
    /// The alerts that the page shows; `alert_diff.csv` holds all.
    pub top_alerts: Vec<AlertRow>,
    /// Sentences that a reader must see.
    pub notes: Vec<String>,
    pub bootstrap: BootstrapFacts,
    pub out: PathBuf,
}

/// One column of a comparison.
#[derive(Clone, Debug, Serialize)]
pub struct ConfigSummary {
    pub name: String,
    pub runs: Vec<RunSummaryRef>,
}

/// One run of a config.
#[derive(Clone, Debug, Serialize)]
pub struct RunSummaryRef {
    pub data: String,
    pub seed: u64,
    pub dir: PathBuf,
    pub origin: RunOrigin,
}

/// Where a run came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOrigin {
    /// Made by this command.
    Ran,
    /// Made by an earlier command with the same config, seed, data and program.
    Found,
    /// Named by the user.
    Given,
}

/// A run that could not be made.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    pub config: String,
    pub data: String,
    pub seed: u64,
    pub error: String,
}

/// One key and what each config has there; `None` where a config lacks it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyDifference {
    pub key: String,
    pub values: Vec<Option<String>>,
}

/// The figures of one level.
#[derive(Clone, Debug, Serialize)]
pub struct LevelComparison {
    pub level: String,
    /// `all cells`, or `outside known events`.
    pub scope: String,
    /// False: figures against labels are left out.
    pub labelled: bool,
    /// Series, summed over data sets: what is resampled.
    pub series: usize,
    /// Cells that every config was compared on, summed over runs.
    pub cells: usize,
    pub figures: Vec<FigureRow>,
}

/// One figure of every config.
#[derive(Clone, Debug, Serialize)]
pub struct FigureRow {
    pub figure: Figure,
    /// By config; `None` where no run has it.
    pub values: Vec<Option<Spread>>,
    /// To the baseline, by config; `None` for the baseline itself.
    pub differences: Vec<Option<Difference>>,
}

/// A figure over runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub mean: f64,
    /// Standard deviation over runs; `None` for one run.
    pub sd: Option<f64>,
    pub runs: usize,
}

impl Spread {
    /// Mean and standard deviation; `None` without values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
        (!values.is_empty()).then(|| Self {
            mean,
            sd: (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()),
            runs: values.len(),
        })
    }
}

/// What became of the baseline's alerts under another config, at one level, over all runs.
/// Alerts that share a step count as one.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AlertTotals {
    pub config: String,
    pub level: String,
    pub kept: usize,
    pub added: usize,
    pub dropped: usize,
    /// In severity, type or direction.
    pub changed: usize,
    pub severity_changed: usize,
    pub type_changed: usize,
    pub direction_changed: usize,
    /// Of the added and the dropped, those that touch a labelled event; `None` without labels.
    pub added_labelled: Option<usize>,
    pub dropped_labelled: Option<usize>,
    /// Points flagged by both over points flagged by either (Jaccard); `None` without any.
    pub agreement: Option<f64>,
}

/// One alert that differs.
#[derive(Clone, Debug, Serialize)]
pub struct AlertRow {
    pub config: String,
    pub data: String,
    pub seed: u64,
    pub level: String,
    pub series: String,
    pub change: Change,
    /// First and last step, as the flags files name them.
    pub start: String,
    pub end: String,
    /// Steps from the first to the last, both counted.
    pub steps: usize,
    pub baseline: Option<AlertSideRow>,
    pub other: Option<AlertSideRow>,
    pub metric: String,
    /// At the step with the highest score, as the run sees it that has the alert (the other one
    /// where both do).
    pub observed: Option<f64>,
    pub expected: Option<f64>,
    /// Kinds of the labelled events that it touches, `;` between; empty for none, `None` without
    /// labels.
    pub labelled: Option<String>,
}

/// How one run sees an alert.
#[derive(Clone, Debug, Serialize)]
pub struct AlertSideRow {
    pub severity: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub direction: String,
    pub score: Option<f64>,
    pub p_value: Option<f64>,
}

/// How intervals were made.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct BootstrapFacts {
    pub resamples: usize,
    pub level: f64,
    pub seed: u64,
}
