//! What the detectors of plain rows share: a model of rows becomes a detector of panels.
//!
//! A panel is turned into rows of seasonal residuals ([`crate::features::residual_rows`]); one model
//! learns the rows of all series and scores every row. Direction and shares come from the model's
//! own attribution: the share of a metric is that of its columns, and the direction is the sign of
//! the newest residuals, weighted by those shares. Attribution costs several times what a score does,
//! so it is for the tenth of the rows that scores highest; the shares of the others are those of the
//! squares of their residuals.

#[cfg(test)]
pub(super) mod checks;
mod forest_params;

pub use forest_params::ForestParams;

use ndarray::{Array2, Array3, ArrayView2, Axis};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    detectors::{
        Detector, DetectorError, DetectorName, DetectorState, FitContext, FitMask, FittedDetector,
        ParameterProblem, Scores, ScoringPlan, SeriesFailure, folds::CrossFit,
    },
    features::residual_rows::{ResidualRows, RowParams, Rows},
    math::robust::quantile,
    panel::Panel,
};

/// Rows that score at least this quantile of all scores get the model's own attribution.
const EXPLAINED_FROM: f64 = 0.9;
/// Held-out blocks are scored by at most this many fits, each of which leaves several of them out.
const MAX_FOLDS: usize = 16;

/// A model of rows `[row, column]`; NaN is a missing value.
pub trait RowModel: Clone + Send + Sync + Sized + 'static {
    const NAME: DetectorName;
    /// Checked parameters.
    type Params: Clone + std::fmt::Debug + Send + Sync;
    type State: Serialize + DeserializeOwned;

    /// `None` when there are too few rows to learn from.
    fn learn(rows: ArrayView2<f64>, params: &Self::Params, seed: u64) -> Option<Self>;
    /// One score a row, higher = more anomalous.
    fn score(&self, rows: ArrayView2<f64>) -> Vec<f64>;
    /// What each column adds to the score of a row; negative where it makes the row more normal.
    fn attribution(&self, rows: ArrayView2<f64>) -> Array2<f64>;
    /// Number of columns that a row must have.
    fn columns(&self) -> usize;
    fn state(&self) -> Self::State;
    /// # Errors
    /// What is wrong with the state.
    fn restore(state: Self::State) -> Result<Self, String>;
}

/// A config's problems with a row detector: its own, then those of its `rows`.
pub(super) fn check(own: Vec<ParameterProblem>, rows: &RowParams) -> Vec<(String, String)> {
    let own = own.into_iter();
    let own = own
        .map(|(name, value, rule)| (name.to_string(), format!("is {value}, but must be {rule}")));
    let rows = rows.check().into_iter();
    own.chain(rows.map(|(name, rule)| (format!("rows.{name}"), rule))).collect()
}

/// The same as name, value and rule, with one entry for all of `rows`.
pub(super) fn problems(mut own: Vec<ParameterProblem>, rows: &RowParams) -> Vec<ParameterProblem> {
    if let Some((name, rule)) = rows.check().into_iter().next() {
        own.push(("rows", format!("wrong (`{name}` {rule})"), "in its ranges"));
    }
    own
}

/// A detector of panels before it has seen data.
#[derive(Clone, Debug)]
pub struct RowDetector<M: RowModel> {
    rows: RowParams,
    params: M::Params,
}

/// A model with what turns panels into its rows.
#[derive(Clone, Debug)]
pub struct FittedRows<M> {
    rows: ResidualRows,
    model: M,
}

/// What a checkpoint keeps.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State<S> {
    rows: ResidualRows,
    model: S,
}

impl<M: RowModel> RowDetector<M> {
    /// From parameters that have been checked.
    pub(super) fn from_checked(rows: RowParams, params: M::Params) -> Self {
        Self { rows, params }
    }

    fn learn(
        &self,
        panel: &Panel,
        mask: &FitMask,
        context: &FitContext,
    ) -> Result<FittedRows<M>, DetectorError> {
        context.check_cancelled()?;
        let allowed = mask.as_array().view();
        let rows = ResidualRows::fit(panel, allowed, &self.rows);
        let learnt = rows.learnt_rows(panel, allowed);
        match M::learn(learnt.values.view(), &self.params, context.seed) {
            Some(model) => Ok(FittedRows { rows, model }),
            None => Err(DetectorError::TooLittleData {
                detector: M::NAME,
                reason: format!(
                    "{} steps of all series together can be learnt from: give it a longer history",
                    learnt.cells.len()
                ),
            }),
        }
    }
}

impl<M: RowModel> Detector for RowDetector<M> {
    fn name(&self) -> DetectorName {
        M::NAME
    }

    fn fit(
        &self,
        panel: &Panel,
        mask: &FitMask,
        context: &FitContext,
    ) -> Result<Box<dyn FittedDetector>, DetectorError> {
        Ok(Box::new(self.learn(panel, mask, context)?))
    }

    /// As the trait says, with at most sixteen fits for held-out blocks: block 0, 16, 32 and so on
    /// are scored by one fit that has seen none of them, nor takes levels from them.
    fn fit_score(
        &self,
        panel: &Panel,
        mask: &FitMask,
        plan: ScoringPlan,
        context: &FitContext,
    ) -> Result<(Box<dyn FittedDetector>, Scores), DetectorError> {
        let fitted = self.learn(panel, &plan.train_mask(panel, mask), context)?;
        let mut scores = fitted.score_where(panel, mask, |_| true);
        if let ScoringPlan::CrossFitted { block } = plan {
            let plan = CrossFit { what: M::NAME.as_str(), block, most_fits: MAX_FOLDS };
            plan.run(panel, mask, context, &mut scores, |fold| {
                let of_fold = self.learn(panel, &fold.mask, context)?;
                Ok(of_fold.score_where(panel, &fold.mask, |time| fold.holds(time)))
            })?;
        }
        Ok((Box::new(fitted), scores))
    }

    fn restore(
        &self,
        state: DetectorState,
        _context: &FitContext,
    ) -> Result<Box<dyn FittedDetector>, DetectorError> {
        let wrong = |reason: String| DetectorError::State {
            detector: M::NAME,
            reason: format!("{reason}; train again to write a sound one"),
        };
        let State { rows, model } = serde_json::from_value::<State<M::State>>(state.json)
            .map_err(|error| wrong(error.to_string()))?;
        if let Some(defect) = rows.defect() {
            return Err(wrong(defect));
        }
        let model = M::restore(model).map_err(wrong)?;
        if model.columns() != rows.width() {
            return Err(wrong("its rows have another width than its model".into()));
        }
        Ok(Box::new(FittedRows { rows, model }))
    }
}

impl<M: RowModel> FittedRows<M> {
    /// The model itself.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// Scores the steps that `wanted` names; the others stay empty.
    fn score_where(
        &self,
        panel: &Panel,
        levels: &FitMask,
        wanted: impl Fn(usize) -> bool,
    ) -> Scores {
        let mut scores = Scores::empty(M::NAME, panel);
        scores.failures = self.failures(panel);
        if panel.calendar().step() != self.rows.profile().step() {
            return scores;
        }
        let rows = self.rows.rows(panel, levels.as_array().view(), wanted);
        let found = self.model.score(rows.values.view());
        for (&cell, &score) in rows.cells.iter().zip(&found) {
            scores.score[cell] = score;
        }
        self.explain(panel, &rows, &found, &mut scores);
        scores
    }

    /// Fills in directions and shares.
    fn explain(&self, panel: &Panel, rows: &Rows, found: &[f64], scores: &mut Scores) {
        let places = self.rows.places_in(panel);
        let parts = self.metric_parts(rows, found);
        let shape = (panel.n_series(), panel.n_times(), panel.n_metrics());
        let mut shares = (panel.n_metrics() > 1).then(|| Array3::<f32>::zeros(shape));
        for (number, &(series, time)) in rows.cells.iter().enumerate() {
            let parts = parts.row(number);
            let weighted = parts.iter().enumerate().map(|(metric, part)| {
                let newest = rows.values[[number, self.rows.newest_of(metric)]];
                if newest.is_nan() { 0.0 } else { part * newest }
            });
            let lean: f64 = weighted.sum();
            scores.direction[[series, time]] = i8::from(lean > 0.0) - i8::from(lean < 0.0);
            let Some(shares) = &mut shares else { continue };
            for (part, place) in parts.iter().zip(&places) {
                if let Some(place) = place {
                    shares[[series, time, *place]] = *part as f32;
                }
            }
        }
        scores.metric_share = shares;
    }

    /// The share of each of the profile's metrics in the score of each row, `[row, metric]`.
    fn metric_parts(&self, rows: &Rows, found: &[f64]) -> Array2<f64> {
        let metrics = self.rows.profile().metrics().len();
        if metrics == 1 {
            return Array2::ones((found.len(), 1));
        }
        let from = quantile(&mut found.to_vec(), EXPLAINED_FROM).unwrap_or(f64::INFINITY);
        let high: Vec<usize> = (0..found.len()).filter(|&row| found[row] >= from).collect();
        let explained = self.model.attribution(rows.values.select(Axis(0), &high).view());
        let mut amounts = rows.values.mapv(|z| if z.is_nan() { 0.0 } else { z * z });
        for (&row, explained) in high.iter().zip(explained.axis_iter(Axis(0))) {
            amounts.row_mut(row).assign(&explained);
        }
        let metrics_of = self.rows.metrics_of();
        let mut parts = Array2::zeros((found.len(), metrics));
        for (amounts, mut parts) in amounts.axis_iter(Axis(0)).zip(parts.axis_iter_mut(Axis(0))) {
            for (metric, amount) in metrics_of.iter().zip(amounts) {
                if let Some(metric) = *metric {
                    parts[metric] += amount;
                }
            }
            let total: f64 = parts.iter().map(|part: &f64| part.max(0.0)).sum();
            let even = 1.0 / metrics as f64;
            parts.mapv_inplace(|part| if total > 0.0 { part.max(0.0) / total } else { even });
        }
        parts
    }

    fn failures(&self, panel: &Panel) -> Vec<SeriesFailure> {
        let profile = self.rows.profile();
        let places = profile.series_places(panel);
        let same_step = panel.calendar().step() == profile.step();
        (0..panel.n_series())
            .filter_map(|series| {
                let reason = match places[series] {
                    _ if !same_step => "it was fitted on another step: fit it on this panel",
                    None => "the fit has not seen this series: fit again with it",
                    Some(place) if !profile.knows(place) => {
                        "fewer than four usable values to learn from: give it a longer history"
                    }
                    Some(_) => return None,
                };
                Some(SeriesFailure { series, reason: reason.into() })
            })
            .collect()
    }
}

impl<M: RowModel> FittedDetector for FittedRows<M> {
    fn score(
        &self,
        panel: &Panel,
        mask: &FitMask,
        context: &FitContext,
    ) -> Result<Scores, DetectorError> {
        context.check_cancelled()?;
        Ok(self.score_where(panel, mask, |_| true))
    }

    fn state(&self) -> Result<DetectorState, DetectorError> {
        let state = State { rows: self.rows.clone(), model: self.model.state() };
        let json = serde_json::to_value(state)
            .map_err(|e| DetectorError::State { detector: M::NAME, reason: e.to_string() })?;
        Ok(DetectorState { json, weights: None })
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
