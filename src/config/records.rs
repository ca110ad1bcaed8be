//! `[records]`: rows that lie on no calendar, and the models that score them.

use serde::{Deserialize, Serialize};

use crate::{
    ensemble::{RecordEnsembleParams, RecordModel, percentile_problem},
    features::records::RecordFeatureParams,
    source::RecordLayout,
};

/// What `detect` and `run` write scores of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordOutput {
    /// The ensemble and every model in it.
    #[default]
    Ensemble,
    Iforest,
    Rcf,
    Lof,
}

impl RecordOutput {
    /// The model, unless it is the ensemble.
    pub fn model(self) -> Option<RecordModel> {
        match self {
            Self::Ensemble => None,
            Self::Iforest => Some(RecordModel::Iforest),
            Self::Rcf => Some(RecordModel::Rcf),
            Self::Lof => Some(RecordModel::Lof),
        }
    }

    /// The name in file names.
    pub fn as_str(self) -> &'static str {
        self.model().map_or("ensemble", RecordModel::as_str)
    }
}

/// `[records.iforest]` and `[records.rcf]`.
///
/// | Name | Default | Purpose | Range |
/// |---|---|---|---|
/// | `trees` | 100; rcf 50 | number of trees | 1 to 10000 |
/// | `sample_rows` | 256; rcf 128 | training rows that each tree is grown on | 2 to 65536 |
/// | `threshold_percentile` | 97 | percentile of the training rows' scores above which a row is flagged | above 0, below 100 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecordForestParams {
    pub trees: usize,
    pub sample_rows: usize,
    pub threshold_percentile: f64,
}

impl Default for RecordForestParams {
    fn default() -> Self {
        Self { trees: 100, sample_rows: 256, threshold_percentile: 97.0 }
    }
}

impl RecordForestParams {
    /// A random cut forest costs thirty times as much per row as an isolation forest, and on the
    /// development seeds half the trees on half the rows found no less.
    fn random_cut() -> Self {
        Self { trees: 50, sample_rows: 128, ..Self::default() }
    }

    fn check(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        if !(1..=10_000).contains(&self.trees) {
            wrong.push(("trees".into(), format!("is {}; take 1 to 10000", self.trees)));
        }
        if !(2..=65_536).contains(&self.sample_rows) {
            wrong.push(("sample_rows".into(), format!("is {}; take 2 to 65536", self.sample_rows)));
        }
        wrong.extend(
            percentile_problem(self.threshold_percentile)
                .map(|text| ("threshold_percentile".into(), text)),
        );
        wrong
    }
}

/// `[records.lof]`.
///
/// | Name | Default | Purpose | Range |
/// |---|---|---|---|
/// | `neighbours` | 50 | rows that a density is measured among | 2 to 1000 |
/// | `reference_rows` | 4000 | training rows that others are compared with | 10 to 100000 |
/// | `threshold_percentile` | 97 | as for the forests | above 0, below 100 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecordLofParams {
    pub neighbours: usize,
    pub reference_rows: usize,
    pub threshold_percentile: f64,
}

impl Default for RecordLofParams {
    fn default() -> Self {
        Self { neighbours: 50, reference_rows: 4_000, threshold_percentile: 97.0 }
    }
}

impl RecordLofParams {
    fn check(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        if !(2..=1_000).contains(&self.neighbours) {
            wrong.push(("neighbours".into(), format!("is {}; take 2 to 1000", self.neighbours)));
        }
        if !(10..=100_000).contains(&self.reference_rows) {
            let text = format!("is {}; take 10 to 100000", self.reference_rows);
            wrong.push(("reference_rows".into(), text));
        }
        wrong.extend(
            percentile_problem(self.threshold_percentile)
                .map(|text| ("threshold_percentile".into(), text)),
        );
        wrong
    }
}

/// `[records]`. Where this table is, the config is about records: panels and their detectors have
/// no part in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecordsSection {
    pub id_column: String,
    /// The models that are fitted.
    pub models: Vec<RecordModel>,
    /// `ensemble`, or one of `models`: what is written. `--model`.
    pub output: RecordOutput,
    /// `run`: the first share of the rows, which is fitted on. `train` fits on all rows.
    pub train_share: f64,
    /// The most rows that are fitted on.
    pub max_train_rows: usize,
    /// In the names of the files; without one, the time of the newest record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    pub features: RecordFeatureParams,
    pub iforest: RecordForestParams,
    pub rcf: RecordForestParams,
    pub lof: RecordLofParams,
    pub ensemble: RecordEnsembleParams,
    /// The p-values of an anomaly of low, medium, high and critical severity.
    pub severity_p: [f64; 4],
}

impl Default for RecordsSection {
    fn default() -> Self {
        Self {
            id_column: "interaction_id".into(),
            models: vec![RecordModel::Iforest, RecordModel::Rcf],
            output: RecordOutput::Ensemble,
            train_share: 0.6,
            max_train_rows: 200_000,
            timestamp: None,
            features: RecordFeatureParams::default(),
            iforest: RecordForestParams::default(),
            rcf: RecordForestParams::random_cut(),
            lof: RecordLofParams::default(),
            ensemble: RecordEnsembleParams::default(),
            severity_p: [1e-2, 1e-3, 1e-4, 1e-6],
        }
    }
}

impl RecordsSection {
    pub(super) fn check(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut add = |key: &str, text: String| problems.push((key.to_string(), text));
        if self.id_column.is_empty() {
            add("id_column", "is empty; name the column that tells records apart".into());
        }
        if self.models.is_empty() {
            add("models", "name at least one of iforest, rcf, lof".into());
        }
        for (i, model) in self.models.iter().enumerate() {
            if self.models[..i].contains(model) {
                add("models", format!("`{model}` comes twice; name it once"));
            }
        }
        if let Some(model) = self.output.model().filter(|model| !self.models.contains(model)) {
            add("output", format!("`{model}` is none of `models`; add it there, or take another"));
        }
        if !(self.train_share > 0.0 && self.train_share < 1.0) {
            add("train_share", "must lie between 0 and 1, both excluded".into());
        }
        if self.max_train_rows < crate::features::records::LEAST_ROWS {
            let least = crate::features::records::LEAST_ROWS;
            add("max_train_rows", format!("must be at least {least}"));
        }
        let named =
            |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
        if self.timestamp.as_ref().is_some_and(|text| text.is_empty() || !named(text)) {
            add("timestamp", "is part of a file name: letters, digits, `-` and `_`".into());
        }
        let falling = self.severity_p.windows(2).all(|p| p[0] > p[1])
            && self.severity_p.iter().all(|p| *p > 0.0 && *p <= 1.0);
        if !falling {
            add("severity_p", "must be four falling numbers between 0 and 1".into());
        }
        for (table, found) in [
            ("features", self.features.check()),
            ("iforest", self.iforest.check()),
            ("rcf", self.rcf.check()),
            ("lof", self.lof.check()),
            ("ensemble", self.ensemble.check()),
        ] {
            problems.extend(found.into_iter().map(|(key, text)| (format!("{table}.{key}"), text)));
        }
        problems
    }

    /// The columns to read, with the file's own as `written`.
    pub fn layout(&self, written: Vec<String>) -> RecordLayout {
        RecordLayout {
            id_column: self.id_column.clone(),
            numeric: self.features.numeric.clone(),
            categorical: self.features.categorical.clone(),
            written,
        }
    }

    /// The percentile of a model's threshold.
    pub fn percentile(&self, model: RecordModel) -> f64 {
        match model {
            RecordModel::Iforest => self.iforest.threshold_percentile,
            RecordModel::Rcf => self.rcf.threshold_percentile,
            RecordModel::Lof => self.lof.threshold_percentile,
        }
    }
}
