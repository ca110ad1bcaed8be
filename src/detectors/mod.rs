//! What every detector is: the traits, what a fit may see, and what a score means.
//!
//! A score is **higher = more anomalous**, for every detector. A parametric detector also hands
//! over `log_p`, the natural log of the probability, for normal data, of a value at least as
//! extreme. The others get their p-values from the ensemble's calibration.
//!
//! `fit` returns another type than the one it is called on, so that "not fitted" cannot happen at
//! run time. Siblings never import each other.

pub mod change_points;
pub mod context;
mod folds;
pub mod isolation_forest;
pub mod lof;
pub mod lstm_autoencoder;
pub mod nb2;
pub mod prophet;
pub mod random_cut_forest;
pub mod residual_rows;
pub mod rolling;
pub mod scores;
pub mod seasonal_profile;
pub mod spectral_residual;
pub mod subsequence_pca;
pub mod zscore;

/// Simulated funnels, the same for tests and benchmarks.
#[cfg(test)]
#[path = "../../benches/support/funnel.rs"]
mod funnel;

pub use context::{FitContext, KnownEvents, Progress, Silent};
pub use scores::{Scores, SeriesFailure, SeriesNote};

use folds::CrossFit;
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::panel::Panel;

/// The detectors that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DetectorName {
    LstmAutoencoder,
    Nb2,
    SeasonalProfile,
    Prophet,
    ChangePoints,
    Zscore,
    Rolling,
    IsolationForest,
    RandomCutForest,
    Lof,
    SpectralResidual,
    SubsequencePca,
}

impl DetectorName {
    /// The name that config files use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LstmAutoencoder => "lstm_autoencoder",
            Self::Nb2 => "nb2",
            Self::SeasonalProfile => "seasonal_profile",
            Self::Prophet => "prophet",
            Self::ChangePoints => "change_points",
            Self::Zscore => "zscore",
            Self::Rolling => "rolling",
            Self::IsolationForest => "isolation_forest",
            Self::RandomCutForest => "random_cut_forest",
            Self::Lof => "lof",
            Self::SpectralResidual => "spectral_residual",
            Self::SubsequencePca => "subsequence_pca",
        }
    }

    /// The prefix of the detector's columns in output files: `lstm_anomaly_score`, `nb2_anomaly_score`.
    pub fn column(self) -> &'static str {
        match self {
            Self::LstmAutoencoder => "lstm",
            Self::ChangePoints => "changepoint",
            Self::RandomCutForest => "rcf",
            other => other.as_str(),
        }
    }
}

impl std::fmt::Display for DetectorName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The cells `[series, time]` that a fit may learn from: true = allowed.
///
/// Known events, past anomalies and held-out steps are masked out. A cell outside a series' span
/// or with a missing value stays unusable whatever the mask says.
#[derive(Clone, Debug)]
pub struct FitMask(Array2<bool>);

impl FitMask {
    /// Every cell of the panel is allowed.
    pub fn all(panel: &Panel) -> Self {
        Self(Array2::from_elem((panel.n_series(), panel.n_times()), true))
    }
    pub fn allows(&self, series: usize, time: usize) -> bool {
        self.0[[series, time]]
    }
    /// Forbids one cell.
    pub fn forbid(&mut self, series: usize, time: usize) {
        self.0[[series, time]] = false;
    }
    /// Forbids a range of steps for every series.
    pub fn forbid_times(&mut self, times: std::ops::Range<usize>) {
        self.0.slice_mut(ndarray::s![.., times]).fill(false);
    }
    /// The mask as an array `[series, time]`.
    pub fn as_array(&self) -> &Array2<bool> {
        &self.0
    }
}

/// Which part of the panel scores which.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ScoringPlan {
    /// Fit on steps `0..train_len`, score every step.
    Split { train_len: usize },
    /// Fit on the first `train_share` of the steps in which each series exists, score every step.
    SplitShare { train_share: f64 },
    /// Every block of `block` consecutive steps is scored by a fit that left it out.
    CrossFitted { block: usize },
    /// Fit on everything, score everything: masks the anomalies it learns from; for comparison only.
    InSample,
}

impl ScoringPlan {
    /// Under a split: for each series, the step from which on nothing is fitted.
    pub fn train_until(self, panel: &Panel) -> Option<Vec<usize>> {
        let n_times = panel.n_times();
        match self {
            Self::Split { train_len } => Some(vec![train_len.min(n_times); panel.n_series()]),
            Self::SplitShare { train_share } => Some(
                (0..panel.n_series())
                    .map(|s| {
                        let span = panel.span(s);
                        let share = (span.len() as f64 * train_share).round() as usize;
                        (span.start + share).min(n_times)
                    })
                    .collect(),
            ),
            Self::CrossFitted { .. } | Self::InSample => None,
        }
    }

    /// What of `mask` a fit may learn from. The rest of `mask` still tells which cells are normal
    /// enough to take a level from while scoring.
    pub fn train_mask(self, panel: &Panel, mask: &FitMask) -> FitMask {
        let mut train = mask.clone();
        for (s, until) in self.train_until(panel).into_iter().flatten().enumerate() {
            train.0.slice_mut(ndarray::s![s, until..]).fill(false);
        }
        train
    }
}

/// A detector that has its parameters, checked, and has seen no data.
pub trait Detector: Send + Sync {
    fn name(&self) -> DetectorName;

    /// True when it models the effect of [`FitContext::known_events`] itself, so that `mask` has to
    /// leave their cells in.
    fn models_known_events(&self) -> bool {
        false
    }

    /// Learns from the cells that `mask` allows.
    fn fit(
        &self,
        panel: &Panel,
        mask: &FitMask,
        context: &FitContext,
    ) -> Result<Box<dyn FittedDetector>, DetectorError>;

    /// Fits and scores under a plan. The default refits per block; a detector that knows better
    /// overrides it. The fitted detector that comes back has seen everything that the plan lets it
    /// see (for `CrossFitted` and `InSample` the whole panel), and is what a checkpoint keeps.
    fn fit_score(
        &self,
        panel: &Panel,
        mask: &FitMask,
        plan: ScoringPlan,
        context: &FitContext,
    ) -> Result<(Box<dyn FittedDetector>, Scores), DetectorError> {
        match plan {
            ScoringPlan::InSample | ScoringPlan::Split { .. } | ScoringPlan::SplitShare { .. } => {
                let train = plan.train_mask(panel, mask);
                let fitted = self.fit(panel, &train, context)?;
                let scores = fitted.score(panel, mask, context)?;
                Ok((fitted, scores))
            }
            ScoringPlan::CrossFitted { block } => {
                let fitted = self.fit(panel, mask, context)?;
                let mut scores = fitted.score(panel, mask, context)?;
                let fold = CrossFit { what: self.name().as_str(), block, most_fits: usize::MAX };
                fold.run(panel, mask, context, &mut scores, |fold| {
                    self.fit(panel, &fold.mask, context)?.score(panel, &fold.mask, context)
                })?;
                Ok((fitted, scores))
            }
        }
    }

    /// Rebuilds the fitted detector from what a checkpoint kept.
    fn restore(
        &self,
        state: DetectorState,
        context: &FitContext,
    ) -> Result<Box<dyn FittedDetector>, DetectorError>;
}

/// A detector that has learnt.
pub trait FittedDetector: Send + Sync {
    /// Scores every step of every series. A detector that follows a slow level takes it from the
    /// cells that `mask` allows, so that a known event does not become the new normal; cells that
    /// it forbids are scored like any other. Series that the fit never saw, and series whose fit
    /// failed, are listed in [`Scores::failures`]; they never fail the whole.
    fn score(
        &self,
        panel: &Panel,
        mask: &FitMask,
        context: &FitContext,
    ) -> Result<Scores, DetectorError>;

    /// What a checkpoint keeps.
    fn state(&self) -> Result<DetectorState, DetectorError>;

    /// Lets the caller reach detector-specific results (training curves, coefficients).
    fn as_any(&self) -> &dyn std::any::Any;
}

/// What a checkpoint keeps of one fitted detector: readable parameters, and weights as bytes
/// (safetensors) where there are any.
#[derive(Clone, Debug, Default)]
pub struct DetectorState {
    pub json: serde_json::Value,
    pub weights: Option<Vec<u8>>,
}

impl DetectorState {
    /// Keeps a fitted detector that is all parameters.
    ///
    /// # Errors
    /// When it has no JSON form.
    pub fn of<T: Serialize>(detector: DetectorName, fitted: &T) -> Result<Self, DetectorError> {
        let json = serde_json::to_value(fitted)
            .map_err(|error| DetectorError::state(detector, error.to_string()))?;
        Ok(Self { json, weights: None })
    }

    /// Reads what [`of`](Self::of) kept; `defect` says what is wrong with it, if anything is.
    ///
    /// # Errors
    /// When it is no such detector, or has a defect.
    pub fn read<T: serde::de::DeserializeOwned>(
        self,
        detector: DetectorName,
        defect: impl FnOnce(&T) -> Option<String>,
    ) -> Result<T, DetectorError> {
        let fitted: T = serde_json::from_value(self.json)
            .map_err(|error| DetectorError::state(detector, error.to_string()))?;
        match defect(&fitted) {
            None => Ok(fitted),
            Some(reason) => Err(DetectorError::state(
                detector,
                format!("{reason}; train again to write a sound one"),
            )),
        }
    }
}

/// Why a detector as a whole could not do its work. A single series that fails is no error: see
/// [`Scores::failures`].
#[derive(Debug, thiserror::Error)]
pub enum DetectorError {
    #[error("{detector}: `{parameter}` is {value}, but must be {expected}")]
    Parameter {
        detector: DetectorName,
        parameter: &'static str,
        value: String,
        expected: &'static str,
    },
    #[error("{detector} has too little to learn from: {reason}")]
    TooLittleData { detector: DetectorName, reason: String },
    #[error("{detector}: training stopped: {reason}")]
    Diverged { detector: DetectorName, reason: String },
    #[error("{detector}: the checkpoint does not fit: {reason}")]
    State { detector: DetectorName, reason: String },
    #[error("{detector}: {reason}")]
    Device { detector: DetectorName, reason: String },
    #[error("cancelled")]
    Cancelled,
}

/// A parameter that is out of its range: its name, its value, and what it must be.
pub type ParameterProblem = (&'static str, String, &'static str);

impl DetectorError {
    fn state(detector: DetectorName, reason: String) -> Self {
        Self::State { detector, reason }
    }

    /// The first of a detector's parameter problems as an error, if there are any.
    ///
    /// # Errors
    /// [`DetectorError::Parameter`].
    pub fn first_of(
        detector: DetectorName,
        problems: Vec<ParameterProblem>,
    ) -> Result<(), DetectorError> {
        match problems.into_iter().next() {
            None => Ok(()),
            Some((parameter, value, expected)) => {
                Err(Self::Parameter { detector, parameter, value, expected })
            }
        }
    }
}
