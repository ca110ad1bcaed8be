//! What a trained network expects of every cell.
//!
//! **Reconstruction.** A point's expectation comes from the window that ends with it: the newest
//! step, decoded last, through the bottleneck. It needs nothing from the future, and the error is
//! the point's own. (The mean error of a whole window, given to its last step, smears every
//! anomaly over the next 168 steps.) The first whole window of a series also serves the steps
//! before its end, so that a short series loses no history.
//!
//! **Forecast.** A point's expectation is what the network predicted `horizon` steps earlier, after
//! at least one window of warm-up; the steps before that have none.

use std::ops::Range;

use burn::tensor::{Tensor, TensorData};
use ndarray::{Array2, Array3};

use super::{
    model::{Architecture, Network, Weights},
    params::LstmParams,
    windows::{Cells, Window},
};
use crate::detectors::{DetectorError, FitContext, SeriesFailure};

/// Windows that go through the network at once, where buffers allow.
const BATCH: usize = 256;

/// A trained network with what it needs to predict.
pub(super) struct Predictor<'a> {
    pub(super) params: &'a LstmParams,
    pub(super) architecture: Architecture,
    pub(super) weights: &'a Weights,
    pub(super) context: &'a FitContext,
}

/// Expectations in scaled units, `[series, time, metric]`, NaN where there is none.
pub(super) struct Predictions {
    pub(super) z: Array3<f64>,
    pub(super) failures: Vec<SeriesFailure>,
}

impl Predictor<'_> {
    /// Predicts the steps of `series`.
    pub(super) fn run(
        &self,
        cells: &Cells,
        usable: &Array2<bool>,
        series: &[usize],
    ) -> Result<Predictions, DetectorError> {
        let (n_series, n_times) = usable.dim();
        let shape = (n_series, n_times, self.architecture.metrics);
        let mut out = Predictions { z: Array3::from_elem(shape, f64::NAN), failures: Vec::new() };
        let needed = self.params.window_steps + self.params.horizon();
        let mut spans = Vec::with_capacity(series.len());
        for &series in series {
            let span = span_of(usable, series);
            if span.len() < needed {
                let reason = format!(
                    "has {} steps, a window needs {needed}: lower `window_steps`",
                    span.len()
                );
                out.failures.push(SeriesFailure { series, reason });
            } else {
                spans.push((series, span));
            }
        }
        let network = Network::new(self.architecture, self.weights, self.context.device.burn());
        if self.architecture.decoder {
            self.reconstruct(&network, cells, &spans, &mut out.z)?;
        } else {
            self.forecast(&network, cells, &spans, &mut out.z)?;
        }
        Ok(out)
    }

    fn reconstruct(
        &self,
        network: &Network,
        cells: &Cells,
        spans: &[(usize, Range<usize>)],
        z: &mut Array3<f64>,
    ) -> Result<(), DetectorError> {
        let len = self.params.window_steps;
        let first = |(series, span): &(usize, Range<usize>)| Window {
            series: *series,
            start: span.start as isize,
        };
        let firsts: Vec<Window> = spans.iter().map(first).collect();
        let mut later = Vec::new();
        for (series, span) in spans {
            let starts = span.start + 1..=span.end - len;
            later.extend(starts.map(|start| Window { series: *series, start: start as isize }));
        }
        self.start_progress(firsts.len() + later.len());
        self.each(network, cells, (&firsts, len), 0..len, z)?;
        self.each(network, cells, (&later, len), len - 1..len, z)?;
        self.context.progress.finish();
        Ok(())
    }

    fn forecast(
        &self,
        network: &Network,
        cells: &Cells,
        spans: &[(usize, Range<usize>)],
        z: &mut Array3<f64>,
    ) -> Result<(), DetectorError> {
        let (len, horizon) = (self.params.window_steps, self.params.horizon_steps);
        // Each run is a window of warm-up and a window whose predictions count.
        let mut runs = Vec::new();
        for (series, span) in spans {
            let starts = (span.start..span.end - horizon).step_by(len);
            runs.extend(starts.map(|start| Window { series: *series, start: start as isize }));
        }
        self.start_progress(runs.len());
        self.each(network, cells, (&runs, 2 * len), len - 1..2 * len - 1, z)?;
        self.context.progress.finish();
        Ok(())
    }

    fn start_progress(&self, windows: usize) {
        self.context.progress.start("scoring with the LSTM", windows as u64);
    }

    /// Sends windows through the network in batches and keeps what it says at `steps`.
    fn each(
        &self,
        network: &Network,
        cells: &Cells,
        (windows, len): (&[Window], usize),
        steps: Range<usize>,
        z: &mut Array3<f64>,
    ) -> Result<(), DetectorError> {
        let metrics = self.architecture.metrics;
        let newest_only = steps.start + 1 == len;
        let n_times = z.dim().1;
        for batch in windows.chunks(self.batch(len)) {
            self.context.check_cancelled()?;
            let input = TensorData::new(cells.inputs(batch, len), [len, batch.len(), 2 * metrics]);
            let input = Tensor::<3>::from_data(input, self.context.device.burn());
            let output = network.forward(input, newest_only).into_data();
            let output: Vec<f32> = output.iter::<f32>().collect();
            for step in steps.clone() {
                let row = if newest_only { 0 } else { step };
                for (place, window) in batch.iter().enumerate() {
                    let time = window.start + (step + self.params.horizon()) as isize;
                    let Some(time) = usize::try_from(time).ok().filter(|&t| t < n_times) else {
                        continue;
                    };
                    for metric in 0..metrics {
                        let value = output[(row * batch.len() + place) * metrics + metric];
                        z[[window.series, time, metric]] = f64::from(value);
                    }
                }
            }
            self.context.progress.advance(batch.len() as u64);
        }
        Ok(())
    }

    /// As many windows as no buffer of the device is too small for.
    fn batch(&self, len: usize) -> usize {
        let bytes = (len * self.architecture.widest() * size_of::<f32>()) as u64;
        match self.context.device.max_binding_bytes() {
            Some(most) => usize::try_from(most / bytes).unwrap_or(BATCH).clamp(1, BATCH),
            None => BATCH,
        }
    }
}

/// From the first to past the last usable step.
fn span_of(usable: &Array2<bool>, series: usize) -> Range<usize> {
    let row = usable.row(series);
    match (row.iter().position(|&there| there), row.iter().rposition(|&there| there)) {
        (Some(first), Some(last)) => first..last + 1,
        _ => 0..0,
    }
}
