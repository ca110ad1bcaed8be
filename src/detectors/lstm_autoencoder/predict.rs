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

use std::{collections::BTreeMap, ops::Range};

use burn::tensor::Tensor;
use ndarray::{Array2, Array3};

use super::{
    gather::Source,
    model::{Architecture, Network, Weights},
    params::LstmParams,
    windows::{Cells, Window},
};
use crate::detectors::{DetectorError, FitContext, SeriesFailure};

/// Windows that go through the network at once.
const CPU_BATCH: usize = 256;

/// The same on a GPU, which takes more to be full, where its buffers allow.
const GPU_BATCH: usize = 1_024;

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
        let source = Source::new(cells, &self.context.device);
        if self.architecture.decoder {
            self.reconstruct(&network, &source, &spans, &mut out.z)?;
        } else {
            self.forecast(&network, &source, &spans, &mut out.z)?;
        }
        Ok(out)
    }

    fn reconstruct(
        &self,
        network: &Network,
        source: &Source,
        spans: &[(usize, Range<usize>)],
        z: &mut Array3<f64>,
    ) -> Result<(), DetectorError> {
        let len = self.params.window_steps;
        let firsts = spans.iter().map(|(series, span)| at(*series, span.start));
        let later = spans.iter().flat_map(|(series, span)| {
            (span.start + 1..=span.end - len).map(|start| at(*series, start))
        });
        self.start_progress(spans.iter().map(|(_, span)| span.len() - len + 1).sum());
        self.each(&Pass { network, source, len, steps: 0..len }, firsts, z)?;
        self.each(&Pass { network, source, len, steps: len - 1..len }, later, z)?;
        self.context.progress.finish();
        Ok(())
    }

    fn forecast(
        &self,
        network: &Network,
        source: &Source,
        spans: &[(usize, Range<usize>)],
        z: &mut Array3<f64>,
    ) -> Result<(), DetectorError> {
        let (len, horizon) = (self.params.window_steps, self.params.horizon_steps);
        // Each run is a window of warm-up and at most a window whose predictions count. Runs of
        // one length go together; most series of a panel end at the same step.
        let mut runs: BTreeMap<usize, Vec<Window>> = BTreeMap::new();
        for (series, span) in spans {
            let last = span.end - horizon;
            for start in (span.start..last + 1 - len).step_by(len) {
                let steps = (2 * len - 1).min(last - start);
                runs.entry(steps).or_default().push(at(*series, start));
            }
        }
        self.start_progress(runs.values().map(Vec::len).sum());
        for (steps, windows) in runs {
            let pass = Pass { network, source, len: steps, steps: len - 1..steps };
            self.each(&pass, windows.into_iter(), z)?;
        }
        self.context.progress.finish();
        Ok(())
    }

    fn start_progress(&self, windows: usize) {
        self.context.progress.start("scoring with the LSTM", windows as u64);
    }

    /// Sends windows through the network in batches and keeps what it says. One batch is on the
    /// device while the one before it is read, and there are never more: memory does not grow with
    /// the number of windows.
    fn each(
        &self,
        pass: &Pass,
        mut windows: impl Iterator<Item = Window>,
        z: &mut Array3<f64>,
    ) -> Result<(), DetectorError> {
        let most = self.batch(pass.len);
        let mut running: Option<(Vec<Window>, Tensor<3>)> = None;
        loop {
            self.context.check_cancelled()?;
            let batch: Vec<Window> = windows.by_ref().take(most).collect();
            let started = (!batch.is_empty()).then(|| {
                let input = pass.source.inputs(&batch, pass.len);
                (batch, pass.network.forward(input, pass.newest_only()))
            });
            if let Some((batch, output)) = std::mem::replace(&mut running, started) {
                self.keep(pass, &batch, output, z);
                self.context.progress.advance(batch.len() as u64);
            }
            if running.is_none() {
                return Ok(());
            }
        }
    }

    /// Reads what the network says about a batch.
    fn keep(&self, pass: &Pass, batch: &[Window], output: Tensor<3>, z: &mut Array3<f64>) {
        let (metrics, n_times) = (self.architecture.metrics, z.dim().1);
        let output: Vec<f32> = output.into_data().iter::<f32>().collect();
        for step in pass.steps.clone() {
            let row = if pass.newest_only() { 0 } else { step };
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
    }

    /// As many windows as the device's largest buffer holds, within limits; on the CPU a constant.
    fn batch(&self, len: usize) -> usize {
        let bytes = (len * self.architecture.widest() * size_of::<f32>()) as u64;
        match self.context.device.max_binding_bytes() {
            Some(most) => usize::try_from(most / bytes).unwrap_or(GPU_BATCH).clamp(1, GPU_BATCH),
            None => CPU_BATCH,
        }
    }
}

/// One way of sending windows through the network.
struct Pass<'a> {
    network: &'a Network,
    source: &'a Source<'a>,
    len: usize,
    /// The steps of a window whose predictions count.
    steps: Range<usize>,
}

impl Pass<'_> {
    fn newest_only(&self) -> bool {
        self.steps.start + 1 == self.len
    }
}

fn at(series: usize, start: usize) -> Window {
    Window { series, start: start as isize }
}

/// From the first to past the last usable step.
fn span_of(usable: &Array2<bool>, series: usize) -> Range<usize> {
    let row = usable.row(series);
    match (row.iter().position(|&there| there), row.iter().rposition(|&there| there)) {
        (Some(first), Some(last)) => first..last + 1,
        _ => 0..0,
    }
}
