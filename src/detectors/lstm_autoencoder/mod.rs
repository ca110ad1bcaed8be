//! An LSTM autoencoder: one network over all series, that learns what normal stretches of time look
//! like and is surprised by others.
//!
//! The network squeezes a window of every metric through a narrow encoding and gives it back. It
//! never learns single anomalies, because they do not fit through; so where it gives back something
//! else than it saw, something is unusual. It knows what no detector of single points knows: that
//! purchases follow views, that an hour follows the hour before.
//!
//! What a narrow encoding has seen often enough it gives back, and what comes slowly it takes for
//! normal; so by default a second network beside it forecasts each step from the ones before, on plain
//! scaled values ([`Objective::Both`]), and a step is judged by both.
//!
//! The way there, one file each:
//!
//! - `params.rs`: what can be set, with ranges;
//! - `input.rs`: a panel becomes what the network sees, scaled per series, never per window;
//! - `windows.rs`: which stretches are trained on, which are held out;
//! - `gather.rs`: batches of windows, from cells that are kept once;
//! - `cell/`: the LSTM layer, as one operation over a whole sequence;
//! - `model.rs`: the network;
//! - `train.rs`: Adam, early stopping, what happens when training diverges;
//! - `predict.rs`: what the network expects of every cell;
//! - `errors.rs`: errors become distances, at several widths, by each series' own past;
//! - `view.rs`: one network with its input and its errors;
//! - `fit.rs`, `state.rs`: all of it put together, and into a checkpoint and back.
//!
//! What was tried and what it gave is in `benches/quality/RESULTS.md`.
//!
//! Deterministic for a seed on one device, whatever the number of threads.

mod cell;
mod errors;
mod fit;
mod gather;
mod input;
mod model;
mod params;
mod predict;
mod state;
mod train;
mod view;
mod windows;

pub use cell::{lstm_sequence, project};
pub use fit::FittedLstm;
pub use params::{Distance, Input, LstmParams, Objective};
pub use train::TrainingCurve;

use crate::{
    detectors::{
        Detector, DetectorError, DetectorName, DetectorState, FitContext, FitMask, FittedDetector,
        Scores, ScoringPlan,
    },
    panel::Panel,
};

const NAME: DetectorName = DetectorName::LstmAutoencoder;

/// The detector before it has seen data.
#[derive(Clone, Debug)]
pub struct LstmAutoencoder {
    params: LstmParams,
}

impl LstmAutoencoder {
    /// # Errors
    /// [`DetectorError::Parameter`] for the first parameter that is out of its range.
    pub fn new(params: LstmParams) -> Result<Self, DetectorError> {
        DetectorError::first_of(NAME, params.problems())?;
        Ok(Self { params })
    }
}

impl Detector for LstmAutoencoder {
    fn name(&self) -> DetectorName {
        NAME
    }

    fn fit(
        &self,
        panel: &Panel,
        mask: &FitMask,
        context: &FitContext,
    ) -> Result<Box<dyn FittedDetector>, DetectorError> {
        let (fitted, _) = self.fit_score(panel, mask, ScoringPlan::InSample, context)?;
        Ok(fitted)
    }

    /// As the trait says, but for `CrossFitted`: one network serves all series, so what must not
    /// have seen a series is the network. It is trained on one half of the series and scores the
    /// other, twice, instead of once per block; scales stay those of each series' own cells.
    fn fit_score(
        &self,
        panel: &Panel,
        mask: &FitMask,
        plan: ScoringPlan,
        context: &FitContext,
    ) -> Result<(Box<dyn FittedDetector>, Scores), DetectorError> {
        let fit = fit::Fit { params: &self.params, panel, context };
        let (fitted, scores) = fit.run(mask, plan)?;
        Ok((Box::new(fitted), scores))
    }

    fn restore(
        &self,
        state: DetectorState,
        _context: &FitContext,
    ) -> Result<Box<dyn FittedDetector>, DetectorError> {
        Ok(Box::new(state::restore(state)?))
    }
}

#[cfg(test)]
mod tests;
