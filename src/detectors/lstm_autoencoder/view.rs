//! One network's part in the detector: what it sees of a panel, learns, and expects.
//!
//! `objective = "both"` has two, every other objective one.

use ndarray::{Array2, Array3, ArrayView2};
use rayon::prelude::*;

use super::{
    NAME,
    errors::ErrorModel,
    input::{Scaled, Scaling},
    model::{Architecture, Weights},
    params::LstmParams,
    predict::{Predictions, Predictor},
    train::{Training, TrainingCurve},
    windows::{Cells, Plan},
};
use crate::{
    detectors::{DetectorError, FitContext, FitMask, ScoringPlan, SeriesFailure},
    panel::Panel,
};

/// A network that has learnt, with its scales and how its errors lie.
#[derive(Clone, Debug)]
pub(super) struct FittedView {
    pub(super) scaling: Scaling,
    pub(super) errors: ErrorModel,
    pub(super) curve: TrainingCurve,
    pub(super) weights: Weights,
}

/// What training gives.
type Trained = Result<(Weights, TrainingCurve), DetectorError>;

/// One part of a cross-fit.
struct Half {
    trained_on: Vec<usize>,
    scored: Vec<usize>,
}

/// What a network makes of a panel.
pub(super) struct Look {
    /// Seen less expected, in scaled units, `[series, time, metric]`.
    pub(super) errors: Array3<f64>,
    /// In the metric's unit, `[series, time, metric]`.
    pub(super) expected: Array3<f64>,
    pub(super) failures: Vec<SeriesFailure>,
}

impl Look {
    fn new(scaled: &Scaled, predictions: Predictions) -> Self {
        let errors = &scaled.z - &predictions.z;
        let mut expected = predictions.z;
        let (_, n_times, n_metrics) = expected.dim();
        let cells = expected.as_slice_mut().unwrap_or_default();
        cells.par_chunks_mut((n_times * n_metrics).max(1)).enumerate().for_each(
            |(series, cells)| {
                for (place, z) in cells.iter_mut().enumerate() {
                    *z = scaled.value(series, place / n_metrics, place % n_metrics, *z);
                }
            },
        );
        Self { errors, expected, failures: predictions.failures }
    }
}

/// One network at work on a panel.
pub(super) struct View<'a> {
    /// Of one network: see [`LstmParams::views`].
    pub(super) params: &'a LstmParams,
    pub(super) panel: &'a Panel,
    pub(super) context: &'a FitContext,
    /// Its place among the views; tells their random numbers apart.
    pub(super) number: usize,
}

/// Networks that one view trains at most: one for all series, two for a cross-fit.
const FOLDS: u64 = 3;

impl View<'_> {
    pub(super) fn fit(
        &self,
        mask: &FitMask,
        plan: ScoringPlan,
    ) -> Result<(FittedView, Look), DetectorError> {
        self.check_batch()?;
        let train = plan.train_mask(self.panel, mask);
        let allowed = train.as_array();
        let scaling = Scaling::fit(self.params.input, self.panel, allowed.view());
        let all: Vec<usize> = (0..self.panel.n_series()).collect();
        let places: Vec<Option<usize>> = all.iter().copied().map(Some).collect();
        let scaled = scaling.apply(self.panel, &places, mask.as_array().view());
        let learnt = Cells::new(&scaled, allowed.view());
        let seen = Cells::new(&scaled, everywhere(self.panel).view());

        let halves = match plan {
            ScoringPlan::CrossFitted { .. } => self.halves(),
            _ => Vec::new(),
        };
        let (whole, held_out) = self.train_all(&learnt, &all, &halves);
        let (weights, curve) = whole?;
        let mut predictions = self.predictor(&weights).run(&seen, &seen.usable(), &all)?;
        for (half, trained) in halves.iter().zip(held_out) {
            self.replace(&half.scored, trained, &seen, &mut predictions)?;
        }
        let look = Look::new(&scaled, predictions);
        let widths = self.params.widths(self.panel.calendar().step());
        let errors = ErrorModel::fit(&look.errors, allowed.view(), self.params, &widths);
        Ok((FittedView { scaling, errors, curve, weights }, look))
    }

    /// Looks at a panel with what was learnt before. `places[series]` is the series' place in the fit.
    pub(super) fn look(
        &self,
        fitted: &FittedView,
        places: &[Option<usize>],
        allowed: ArrayView2<bool>,
    ) -> Result<Look, DetectorError> {
        let scaled = fitted.scaling.apply(self.panel, places, allowed);
        let seen = Cells::new(&scaled, everywhere(self.panel).view());
        let all: Vec<usize> = (0..self.panel.n_series()).collect();
        let predictions = self.predictor(&fitted.weights).run(&seen, &seen.usable(), &all)?;
        Ok(Look::new(&scaled, predictions))
    }

    fn architecture(&self) -> Architecture {
        Architecture::new(self.params, self.panel.n_metrics())
    }

    fn predictor<'b>(&'b self, weights: &'b Weights) -> Predictor<'b> {
        Predictor {
            params: self.params,
            architecture: self.architecture(),
            weights,
            context: self.context,
        }
    }

    /// A batch of gradients must fit into the largest buffer that the device binds.
    fn check_batch(&self) -> Result<(), DetectorError> {
        let Some(most) = self.context.device.max_binding_bytes() else { return Ok(()) };
        let cells = self.params.window_steps * self.params.batch_windows;
        let bytes = (cells * self.architecture().widest() * size_of::<f32>()) as u64;
        if bytes <= most {
            return Ok(());
        }
        Err(DetectorError::Device {
            detector: NAME,
            reason: format!(
                "a batch takes a buffer of {bytes} bytes, {} binds at most {most}: lower `batch_windows` to {} or less",
                self.context.device.name(),
                (most / (bytes / self.params.batch_windows as u64)).max(1)
            ),
        })
    }

    /// Trains on some series. Where the held-out steps would leave no window, nothing is held out.
    fn train(&self, cells: &Cells, series: &[usize], fold: u64) -> Trained {
        let usable = cells.usable();
        let (len, horizon) = (self.params.window_steps, self.params.horizon());
        let mut plan = Plan::new(&usable, series, len, horizon, self.params.validation_share);
        if plan.len() == 0 {
            plan = Plan::new(&usable, series, len, horizon, 0.0);
        }
        if plan.len() == 0 {
            return Err(DetectorError::TooLittleData {
                detector: NAME,
                reason: format!(
                    "no series has {} training steps in a row, most of them usable: lower `window_steps` or give more history",
                    len + horizon
                ),
            });
        }
        let training = Training {
            params: self.params,
            architecture: self.architecture(),
            cells,
            plan: &plan,
            context: self.context,
            fold: FOLDS * self.number as u64 + fold,
        };
        training.run()
    }

    /// The two halves of a cross-fit: the series are dealt out alternately. None where there is
    /// only one series.
    fn halves(&self) -> Vec<Half> {
        let half = |fold: usize| {
            let (trained_on, scored) =
                (0..self.panel.n_series()).partition(|series| series % 2 != fold);
            Half { trained_on, scored }
        };
        let whole = |half: &Half| !half.trained_on.is_empty() && !half.scored.is_empty();
        (0..2).map(half).filter(whole).collect()
    }

    /// Trains on all series and on each half: on the CPU side by side, because a small network does
    /// not fill the threads.
    fn train_all(&self, cells: &Cells, all: &[usize], halves: &[Half]) -> (Trained, Vec<Trained>) {
        let parts: Vec<&[usize]> =
            std::iter::once(all).chain(halves.iter().map(|half| &half.trained_on[..])).collect();
        let progress = &self.context.progress;
        progress.start("training the LSTM", (self.params.epochs * parts.len()) as u64);
        let train = |(fold, series): (usize, &&[usize])| self.train(cells, series, fold as u64);
        let mut trained: Vec<Trained> = if self.context.device.is_cpu() {
            parts.par_iter().enumerate().map(train).collect()
        } else {
            let mut trained = Vec::with_capacity(parts.len());
            for part in parts.iter().enumerate() {
                trained.push(train(part));
                // Without the network of all series there is nothing to hold out from.
                if trained[0].is_err() {
                    break;
                }
            }
            trained
        };
        progress.finish();
        let held_out = trained.split_off(1);
        (trained.remove(0), held_out)
    }

    /// Replaces the predictions of some series by those of a network that did not see them. Where
    /// there was too little to train it on, they stay those of the network that saw all series.
    fn replace(
        &self,
        scored: &[usize],
        trained: Trained,
        seen: &Cells,
        predictions: &mut Predictions,
    ) -> Result<(), DetectorError> {
        let weights = match trained {
            Ok((weights, _)) => weights,
            Err(DetectorError::TooLittleData { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let held_out = self.predictor(&weights).run(seen, &seen.usable(), scored)?;
        for &series in scored {
            let of_series = ndarray::s![series, .., ..];
            predictions.z.slice_mut(of_series).assign(&held_out.z.slice(of_series));
        }
        Ok(())
    }
}

fn everywhere(panel: &Panel) -> Array2<bool> {
    Array2::from_elem((panel.n_series(), panel.n_times()), true)
}
