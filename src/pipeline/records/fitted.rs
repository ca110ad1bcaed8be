//! Everything that was learnt from records, and its way into a checkpoint and back.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use super::{PipelineError, models::Models};
use crate::{
    checkpoint::{CheckpointError, Origin, RecordsCheckpoint},
    config::{Config, RecordsSection},
    ensemble::{CalibrationParams, RecordJudge, TrainingScores},
    features::records::{BurstState, RecordFeatures},
    panel::RecordBlock,
};

/// Bins of a chart's histogram of scores.
const BINS: usize = 60;

/// Where a model's scores lie, for its histogram.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Span {
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Span {
    fn of(scores: &[f64]) -> Self {
        let low = scores.iter().copied().fold(f64::INFINITY, f64::min);
        let high = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let high = if high > low { high } else { low + 1.0 };
        if low.is_finite() && high.is_finite() {
            Self { low, high }
        } else {
            Self { low: 0.0, high: 1.0 }
        }
    }

    pub(super) fn bins() -> usize {
        BINS
    }

    /// The bin of a score; what lies outside counts in the outermost.
    pub(super) fn bin(self, score: f64) -> usize {
        let share = (score - self.low) / (self.high - self.low);
        ((share * BINS as f64) as usize).min(BINS - 1)
    }
}

/// Fitted features, models and thresholds.
pub(super) struct FittedRecords {
    pub(super) section: RecordsSection,
    pub(super) features: RecordFeatures,
    pub(super) models: Models,
    pub(super) judge: RecordJudge,
    /// The ensemble's, then each model's.
    pub(super) spans: Vec<Span>,
    /// Rows that were fitted on.
    pub(super) rows: usize,
    /// What the last row that was read left behind.
    pub(super) state: BurstState,
}

impl FittedRecords {
    /// Learns from every row of `training`.
    pub(super) fn fit(
        section: &RecordsSection,
        calibration: &CalibrationParams,
        training: &RecordBlock,
        seed: u64,
    ) -> Result<Self, PipelineError> {
        let other = |error: crate::features::records::RecordFeatureError| {
            PipelineError::Other(error.to_string())
        };
        let features = RecordFeatures::fit(training, &section.features).map_err(other)?;
        let mut state = BurstState::default();
        let matrix = features.transform(training, &mut state).values;
        let (models, scores) = Models::fit(section, matrix.view(), seed)?;
        let training_scores: Vec<TrainingScores<'_>> = std::iter::zip(&section.models, &scores)
            .map(|(&model, scores)| TrainingScores {
                model,
                scores,
                percentile: section.percentile(model),
            })
            .collect();
        let judge = RecordJudge::fit(&training_scores, &section.ensemble, calibration);
        let judge = judge.ok_or_else(|| {
            PipelineError::Other(format!(
                "{} training rows are too few to set thresholds: give more data",
                training.len()
            ))
        })?;
        let mut spans = vec![Span::of(&judge.judge(&scores).score)];
        spans.extend(scores.iter().map(|scores| Span::of(scores)));
        let rows = training.len();
        Ok(Self { section: section.clone(), features, models, judge, spans, rows, state })
    }

    /// As a checkpoint; `config` is the resolved one.
    pub(super) fn checkpoint(
        &self,
        config: &Config,
        origin: Origin,
    ) -> Result<RecordsCheckpoint, PipelineError> {
        let json = |error: serde_json::Error| PipelineError::Other(error.to_string());
        let parts = BTreeMap::from([
            ("features".to_string(), serde_json::to_value(&self.features).map_err(json)?),
            ("models".into(), self.models.state().map_err(json)?),
            ("judge".into(), serde_json::to_value(&self.judge).map_err(json)?),
            ("spans".into(), serde_json::to_value(&self.spans).map_err(json)?),
            ("rows".into(), self.rows.into()),
            ("state".into(), serde_json::to_value(&self.state).map_err(json)?),
        ]);
        let config = config.to_toml().map_err(|error| PipelineError::Other(error.to_string()))?;
        Ok(RecordsCheckpoint { origin, config, parts })
    }

    /// From a checkpoint in the folder `dir`; `section` is its config's.
    pub(super) fn restore(
        kept: &RecordsCheckpoint,
        section: &RecordsSection,
        dir: &Path,
    ) -> Result<Self, PipelineError> {
        let parts = Parts { kept, dir };
        let features: RecordFeatures = parts.read("features")?;
        features.validate().map_err(|error| parts.damaged("features", error))?;
        let judge: RecordJudge = parts.read("judge")?;
        let models = Models::restore(parts.value("models")?, features.names().len())
            .map_err(|error| parts.damaged("models", error))?;
        let spans: Vec<Span> = parts.read("spans")?;
        let fits = judge.is_sound()
            && judge.models().eq(section.models.iter().copied())
            && models.len() == section.models.len()
            && spans.len() == section.models.len() + 1
            && spans.iter().all(|span| span.high > span.low)
            && features.params() == &section.features;
        if !fits {
            return Err(parts.damaged("judge", "its parts do not fit together"));
        }
        Ok(Self {
            section: section.clone(),
            features,
            models,
            judge,
            spans,
            rows: parts.read("rows")?,
            state: parts.read("state")?,
        })
    }
}

struct Parts<'a> {
    kept: &'a RecordsCheckpoint,
    dir: &'a Path,
}

impl Parts<'_> {
    fn damaged(&self, name: &str, reason: impl ToString) -> PipelineError {
        let path = self.dir.join(format!("{name}.json"));
        CheckpointError::Damaged { path, reason: reason.to_string() }.into()
    }

    fn value(&self, name: &str) -> Result<&serde_json::Value, PipelineError> {
        self.kept.parts.get(name).ok_or_else(|| self.damaged(name, "the manifest does not list it"))
    }

    fn read<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, PipelineError> {
        T::deserialize(self.value(name)?).map_err(|error| self.damaged(name, error))
    }
}
