//! Fitting and scoring, put together.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ndarray::{Array2, Array3};

use super::{
    NAME,
    errors::{ErrorModel, smooth},
    input::{Scaled, Scaling},
    model::{Architecture, Weights},
    params::LstmParams,
    predict::{Predictions, Predictor},
    state,
    train::{Training, TrainingCurve},
    windows::{Cells, Plan},
};
use crate::{
    detectors::{
        DetectorError, DetectorState, FitContext, FitMask, FittedDetector, Scores, ScoringPlan,
    },
    panel::{Panel, SeriesKey, Step},
};

/// An LSTM that has learnt.
#[derive(Clone, Debug)]
pub struct FittedLstm {
    pub(super) params: LstmParams,
    pub(super) metrics: Vec<String>,
    pub(super) step: Step,
    pub(super) keys: Vec<SeriesKey>,
    pub(super) scaling: Scaling,
    pub(super) errors: ErrorModel,
    pub(super) curve: TrainingCurve,
    pub(super) weights: Weights,
}

impl FittedLstm {
    /// How training went.
    pub fn curve(&self) -> &TrainingCurve {
        &self.curve
    }

    /// The parameters that it was built with.
    pub fn params(&self) -> &LstmParams {
        &self.params
    }
}

/// One fit, with the panel it is made on.
pub(super) struct Fit<'a> {
    pub(super) params: &'a LstmParams,
    pub(super) panel: &'a Panel,
    pub(super) context: &'a FitContext,
}

impl Fit<'_> {
    pub(super) fn run(
        &self,
        mask: &FitMask,
        plan: ScoringPlan,
    ) -> Result<(FittedLstm, Scores), DetectorError> {
        guarded(self.context, || self.fit_and_score(mask, plan))
    }

    fn fit_and_score(
        &self,
        mask: &FitMask,
        plan: ScoringPlan,
    ) -> Result<(FittedLstm, Scores), DetectorError> {
        self.check_batch()?;
        let train = plan.train_mask(self.panel, mask);
        let allowed = train.as_array();
        let scaling = Scaling::fit(self.params.input, self.panel, allowed.view());
        let all: Vec<usize> = (0..self.panel.n_series()).collect();
        let places: Vec<Option<usize>> = all.iter().copied().map(Some).collect();
        let scaled = scaling.apply(self.panel, &places, mask.as_array().view());
        let learnt = Cells::new(&scaled, allowed.view());
        let everywhere = Array2::from_elem(allowed.dim(), true);
        let seen = Cells::new(&scaled, everywhere.view());

        let (weights, curve) = self.train(&learnt, &all, 0)?;
        let mut predictions = self.predictor(&weights).run(&seen, &seen.usable(), &all)?;
        if matches!(plan, ScoringPlan::CrossFitted { .. }) {
            self.cross_fit(&learnt, &seen, &mut predictions)?;
        }
        let raw = &scaled.z - &predictions.z;
        let errors = smooth(&raw, self.params.smoothing_steps);
        let model = ErrorModel::fit(
            &errors,
            allowed.view(),
            self.params.shrinkage,
            self.params.smoothing_steps,
        );
        let scores = assemble(self.panel, &scaled, predictions, &errors, (&model, &places));
        let fitted = FittedLstm {
            params: self.params.clone(),
            metrics: metric_names(self.panel),
            step: self.panel.calendar().step(),
            keys: self.panel.keys().to_vec(),
            scaling,
            errors: model,
            curve,
            weights,
        };
        Ok((fitted, scores))
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
    fn train(
        &self,
        cells: &Cells,
        series: &[usize],
        fold: u64,
    ) -> Result<(Weights, TrainingCurve), DetectorError> {
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
            fold,
        };
        training.run()
    }

    /// Replaces every series' predictions by those of a network that was trained on the other half
    /// of the series. The series are dealt out alternately. Where a half has too little to train
    /// on, the predictions stay those of the network that saw all series.
    fn cross_fit(
        &self,
        learnt: &Cells,
        seen: &Cells,
        predictions: &mut Predictions,
    ) -> Result<(), DetectorError> {
        let usable = seen.usable();
        for fold in 0..2 {
            let (trained_on, scored): (Vec<usize>, Vec<usize>) =
                (0..self.panel.n_series()).partition(|series| series % 2 != fold);
            if trained_on.is_empty() || scored.is_empty() {
                continue;
            }
            let weights = match self.train(learnt, &trained_on, 1 + fold as u64) {
                Ok((weights, _)) => weights,
                Err(DetectorError::TooLittleData { .. }) => continue,
                Err(error) => return Err(error),
            };
            let held_out = self.predictor(&weights).run(seen, &usable, &scored)?;
            for &series in &scored {
                let of_series = ndarray::s![series, .., ..];
                predictions.z.slice_mut(of_series).assign(&held_out.z.slice(of_series));
            }
        }
        Ok(())
    }
}

impl FittedDetector for FittedLstm {
    fn score(
        &self,
        panel: &Panel,
        mask: &FitMask,
        context: &FitContext,
    ) -> Result<Scores, DetectorError> {
        self.check_panel(panel)?;
        guarded(context, || {
            let everywhere = Array2::from_elem((panel.n_series(), panel.n_times()), true);
            let places = self.places(panel);
            let scaled = self.scaling.apply(panel, &places, mask.as_array().view());
            let seen = Cells::new(&scaled, everywhere.view());
            let predictor = Predictor {
                params: &self.params,
                architecture: Architecture::new(&self.params, self.metrics.len()),
                weights: &self.weights,
                context,
            };
            let all: Vec<usize> = (0..panel.n_series()).collect();
            let predictions = predictor.run(&seen, &seen.usable(), &all)?;
            let errors = smooth(&(&scaled.z - &predictions.z), self.params.smoothing_steps);
            Ok(assemble(panel, &scaled, predictions, &errors, (&self.errors, &places)))
        })
    }

    fn state(&self) -> Result<DetectorState, DetectorError> {
        state::save(self)
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

impl FittedLstm {
    /// For each series of a panel, its place in the fit.
    fn places(&self, panel: &Panel) -> Vec<Option<usize>> {
        let places: std::collections::HashMap<&SeriesKey, usize> =
            self.keys.iter().enumerate().map(|(place, key)| (key, place)).collect();
        panel.keys().iter().map(|key| places.get(key).copied()).collect()
    }

    fn check_panel(&self, panel: &Panel) -> Result<(), DetectorError> {
        let (found, step) = (metric_names(panel), panel.calendar().step());
        if found == self.metrics && step == self.step {
            return Ok(());
        }
        Err(DetectorError::State {
            detector: NAME,
            reason: format!(
                "it was trained on {:?} per {}, the data have {found:?} per {}: give it the same metrics in the same order, or train again",
                self.metrics,
                String::from(self.step),
                String::from(step)
            ),
        })
    }
}

fn metric_names(panel: &Panel) -> Vec<String> {
    panel.metrics().iter().map(|metric| metric.name.clone()).collect()
}

fn assemble(
    panel: &Panel,
    scaled: &Scaled,
    predictions: Predictions,
    errors: &Array3<f64>,
    (model, places): (&ErrorModel, &[Option<usize>]),
) -> Scores {
    let mut scores = Scores::empty(NAME, panel);
    let shape = panel.values().dim();
    scores.metric_share = (shape.2 > 1).then(|| Array3::zeros(shape));
    for (series, errors) in errors.outer_iter().enumerate() {
        model.score(errors, places[series], series, &mut scores);
    }
    let mut expected = predictions.z;
    for ((series, time, metric), z) in expected.indexed_iter_mut() {
        *z = scaled.value(series, time, metric, *z);
    }
    scores.expected = Some(expected);
    scores.failures = predictions.failures;
    scores
}

/// A GPU driver that fails, fails by a panic inside burn. It costs this detector, not the run.
fn guarded<T>(
    context: &FitContext,
    work: impl FnOnce() -> Result<T, DetectorError>,
) -> Result<T, DetectorError> {
    if context.device.is_cpu() {
        return work();
    }
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Err(DetectorError::Device {
            detector: NAME,
            reason: format!(
                "{} failed ({}): update its driver, or take --device cpu",
                context.device.name(),
                text.unwrap_or_else(|| "no message".into())
            ),
        })
    })
}
