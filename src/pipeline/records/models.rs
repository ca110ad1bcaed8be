//! The models of records behind one face: fit, score, explain, keep.

use ndarray::{Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use super::PipelineError;
use crate::{
    config::RecordsSection,
    detectors::{isolation_forest, lof::factor, random_cut_forest},
    ensemble::RecordModel,
};

enum Fitted {
    Iforest(isolation_forest::forest::Forest),
    Rcf(Box<random_cut_forest::forest::Forest>),
    Lof(Box<factor::LocalOutlierFactor>),
}

/// What a checkpoint keeps of a model.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Iforest(isolation_forest::forest::ForestState),
    Rcf(random_cut_forest::forest::ForestState),
    Lof(factor::FactorState),
}

/// Every fitted model, in the order of the config.
pub(super) struct Models(Vec<Fitted>);

impl Models {
    /// Fits the section's models to `rows[row, feature]`, and scores these rows, `[model][row]`. A
    /// row that a local outlier factor was fitted to is scored as if it were not among them.
    pub(super) fn fit(
        section: &RecordsSection,
        rows: ArrayView2<f64>,
        seed: u64,
    ) -> Result<(Self, Vec<Vec<f64>>), PipelineError> {
        let (mut models, mut scores) = (Vec::new(), Vec::new());
        for &model in &section.models {
            let fitted = match model {
                RecordModel::Iforest => {
                    let p = &section.iforest;
                    let fit = isolation_forest::forest::Forest::fit;
                    fit(rows, p.trees, p.sample_rows, seed).map(|forest| {
                        let scores = forest.score(rows);
                        (Fitted::Iforest(forest), scores)
                    })
                }
                RecordModel::Rcf => {
                    let p = &section.rcf;
                    let fit = random_cut_forest::forest::Forest::fit;
                    fit(rows, p.trees, p.sample_rows, seed).map(|forest| {
                        let scores = forest.score(rows);
                        (Fitted::Rcf(Box::new(forest)), scores)
                    })
                }
                RecordModel::Lof => fit_lof(section, rows),
            };
            let (fitted, of_model) = fitted.ok_or_else(|| {
                PipelineError::Other(format!(
                    "{model}: the {} training rows are too few or all alike: give more data, or leave it out of records.models",
                    rows.nrows()
                ))
            })?;
            models.push(fitted);
            scores.push(of_model);
        }
        Ok((Self(models), scores))
    }

    /// The scores of `rows[row, feature]`, `[model][row]`: higher = more anomalous.
    pub(super) fn score(&self, rows: ArrayView2<f64>) -> Vec<Vec<f64>> {
        let score = |model: &Fitted| match model {
            Fitted::Iforest(forest) => forest.score(rows),
            Fitted::Rcf(forest) => forest.score(rows),
            Fitted::Lof(factor) => factor.score(rows),
        };
        self.0.iter().map(score).collect()
    }

    /// What each feature adds to the score of each row, `[row, feature]`, by the model at `place`.
    pub(super) fn attribution(&self, place: usize, rows: ArrayView2<f64>) -> Array2<f64> {
        match self.0.get(place) {
            Some(Fitted::Iforest(forest)) => forest.attribution(rows),
            Some(Fitted::Rcf(forest)) => forest.attribution(rows),
            Some(Fitted::Lof(factor)) => factor.attribution(rows),
            None => Array2::zeros(rows.dim()),
        }
    }

    /// What a checkpoint keeps.
    pub(super) fn state(&self) -> serde_json::Result<serde_json::Value> {
        let state = |model: &Fitted| match model {
            Fitted::Iforest(forest) => State::Iforest(forest.state()),
            Fitted::Rcf(forest) => State::Rcf(forest.state()),
            Fitted::Lof(factor) => State::Lof(factor.state().clone()),
        };
        serde_json::to_value(self.0.iter().map(state).collect::<Vec<_>>())
    }

    /// # Errors
    /// What is wrong with the state.
    pub(super) fn restore(value: &serde_json::Value, features: usize) -> Result<Self, String> {
        let states = Vec::<State>::deserialize(value).map_err(|error| error.to_string())?;
        let restore = |state| {
            let (fitted, width) = match state {
                State::Iforest(state) => {
                    let forest = isolation_forest::forest::Forest::restore(state)?;
                    let width = forest.features();
                    (Fitted::Iforest(forest), width)
                }
                State::Rcf(state) => {
                    let forest = random_cut_forest::forest::Forest::restore(&state)?;
                    let width = forest.dimensions();
                    (Fitted::Rcf(Box::new(forest)), width)
                }
                State::Lof(state) => {
                    let factor = factor::LocalOutlierFactor::restore(state)?;
                    let width = factor.features();
                    (Fitted::Lof(Box::new(factor)), width)
                }
            };
            match width == features {
                true => Ok(fitted),
                false => Err("a model has another number of features".to_string()),
            }
        };
        Ok(Self(states.into_iter().map(restore).collect::<Result<_, _>>()?))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// On evenly spaced rows, at most as many as asked for.
fn fit_lof(section: &RecordsSection, rows: ArrayView2<f64>) -> Option<(Fitted, Vec<f64>)> {
    let wanted = section.lof.reference_rows.min(rows.nrows());
    let places: Vec<usize> = (0..wanted).map(|i| i * rows.nrows() / wanted).collect();
    let reference = rows.select(Axis(0), &places);
    let fit = factor::LocalOutlierFactor::fit_score;
    let (fitted, own) = fit(reference.view(), section.lof.neighbours)?;
    let mut scores = fitted.score(rows);
    for (place, score) in places.into_iter().zip(own) {
        scores[place] = score;
    }
    Some((Fitted::Lof(Box::new(fitted)), scores))
}
