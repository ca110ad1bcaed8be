//! Training one network over the windows of many series.
//!
//! Adam on a pseudo-Huber loss, `sqrt(1 + e²) - 1`: square near zero, linear far out, because the
//! training cells hold anomalies that nobody labelled. Missing cells weigh nothing. Early stopping
//! watches the newest steps of every series, which training never sees, and the weights of the
//! best epoch win.
//!
//! A loss that is not a number, or that explodes, costs the epoch: training goes on once from the
//! last good weights at a tenth of the learning rate, and the second time it stops, with the
//! reason, and keeps those weights.

use burn::{
    grad_clipping::GradientClippingConfig,
    optim::{AdamConfig, GradientsParams, ModuleOptimizer},
    tensor::{Device, Tensor},
};
use serde::{Deserialize, Serialize};

use super::{
    NAME,
    gather::{Batch, Source},
    model::{Architecture, Network, Weights},
    params::LstmParams,
    windows::{Cells, Plan, Window},
};
use crate::{
    detectors::{DetectorError, FitContext},
    math::random::stream,
};

/// How training went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingCurve {
    /// Training and validation loss of every epoch; they are the same where no step could be held
    /// out.
    pub epochs: Vec<(f64, f64)>,
    /// The epoch, counted from 0, whose weights were kept.
    pub best_epoch: usize,
    /// Why training ended before its time, where that was not early stopping.
    pub stopped: Option<String>,
}

/// A relative gain below this does not count as better.
const MIN_GAIN: f64 = 1e-3;

/// A loss this many times the first epoch's is an explosion.
const EXPLOSION: f64 = 100.0;

/// What training needs.
pub(super) struct Training<'a> {
    pub(super) params: &'a LstmParams,
    pub(super) architecture: Architecture,
    pub(super) cells: &'a Cells,
    pub(super) plan: &'a Plan,
    pub(super) context: &'a FitContext,
    /// Tells the networks of a cross-fit apart.
    pub(super) fold: u64,
}

impl Training<'_> {
    fn seed(&self) -> u64 {
        self.context.seed.wrapping_add(self.fold)
    }

    /// Every epoch advances the progress by one.
    pub(super) fn run(&self) -> Result<(Weights, TrainingCurve), DetectorError> {
        let autodiff = self.context.device.burn().clone().autodiff();
        let initial = Weights::random(self.architecture, self.seed());
        let mut network = Network::new(self.architecture, &initial, &autodiff);
        let mut optimizer = self.optimizer();
        let mut curve = TrainingCurve::default();
        let mut best: Option<(f64, Weights)> = None;
        let mut learning_rate = self.params.learning_rate;
        let mut slowed = false;
        let source = Source::new(self.cells, &self.context.device);
        for epoch in 0..self.params.epochs {
            let (trained, loss) =
                self.epoch(&source, network, &mut optimizer, (epoch, learning_rate))?;
            let weights = trained.weights();
            network = trained;
            let watched = self.validation_loss(&source, &weights)?.unwrap_or(loss);
            let first = curve.epochs.first().map_or(loss, |first| first.0);
            if has_diverged(loss, watched, first) || !weights.are_finite() {
                let Some((_, good)) = &best else {
                    return Err(DetectorError::Diverged {
                        detector: NAME,
                        reason: format!(
                            "the loss of the first epoch is {loss}: lower `learning_rate` (now {learning_rate})"
                        ),
                    });
                };
                if slowed {
                    curve.stopped = Some(format!(
                        "the loss became {loss} in epoch {} at a learning rate of {learning_rate}: lower `learning_rate`",
                        epoch + 1
                    ));
                    break;
                }
                slowed = true;
                learning_rate *= 0.1;
                network = Network::new(self.architecture, good, &autodiff);
                optimizer = self.optimizer();
                continue;
            }
            curve.epochs.push((loss, watched));
            let last = curve.epochs.len() - 1;
            if best.as_ref().is_none_or(|(best, _)| watched < best * (1.0 - MIN_GAIN)) {
                best = Some((watched, weights));
                curve.best_epoch = last;
            }
            let progress = &self.context.progress;
            progress.advance(1);
            progress.note(&format!("loss {loss:.4}, held out {watched:.4}"));
            if last - curve.best_epoch >= self.params.patience_epochs {
                break;
            }
        }
        match best {
            Some((_, weights)) => Ok((weights, curve)),
            None => Err(DetectorError::Diverged {
                detector: NAME,
                reason: "no epoch had a finite loss: lower `learning_rate`".into(),
            }),
        }
    }

    fn optimizer(&self) -> ModuleOptimizer {
        AdamConfig::new()
            .with_epsilon(1e-8)
            .with_grad_clipping(Some(GradientClippingConfig::Norm(self.params.gradient_clip)))
            .init()
    }

    /// One pass over freshly drawn windows; the mean loss.
    fn epoch(
        &self,
        source: &Source,
        mut network: Network,
        optimizer: &mut ModuleOptimizer,
        (epoch, learning_rate): (usize, f64),
    ) -> Result<(Network, f64), DetectorError> {
        let mut rng = stream(self.seed(), "lstm_windows", epoch as u64);
        let drawn = self.plan.draw(self.params.max_windows_per_epoch, &mut rng);
        let device = self.context.device.burn().clone().autodiff();
        let mut losses: Option<Tensor<1>> = None;
        let batches = drawn.chunks(self.params.batch_windows);
        let n_batches = batches.len();
        for batch in batches {
            self.context.check_cancelled()?;
            let held_out = &self.plan.held_out_from;
            let counted = |series: usize, time: isize| time < held_out[series] as isize;
            let loss = self.loss(&network, source, batch, counted, &device);
            let gradients = loss.backward();
            let gradients = GradientsParams::from_grads(gradients, &network);
            network = optimizer.step(learning_rate, network, gradients);
            // Summed on the device: reading every loss would make a GPU wait.
            let loss = loss.inner();
            losses = Some(match losses {
                Some(sum) => sum + loss,
                None => loss,
            });
        }
        let mean = losses.map_or(f64::NAN, |sum| read(sum) / n_batches as f64);
        Ok((network, mean))
    }

    /// The loss on held-out steps; `None` where there are none.
    fn validation_loss(
        &self,
        source: &Source,
        weights: &Weights,
    ) -> Result<Option<f64>, DetectorError> {
        if self.plan.validation.is_empty() {
            return Ok(None);
        }
        let device = self.context.device.burn();
        let network = Network::new(self.architecture, weights, device);
        let held_out = &self.plan.held_out_from;
        let counted = |series: usize, time: isize| time >= held_out[series] as isize;
        let batches = || self.plan.validation.chunks(self.params.batch_windows.max(64));
        let mut losses = Vec::new();
        for batch in batches() {
            self.context.check_cancelled()?;
            losses.push(self.loss(&network, source, batch, counted, device));
        }
        // Read together: reading every loss would make a GPU wait.
        let losses = Tensor::cat(losses, 0).into_data();
        let each = losses.iter::<f64>().zip(batches().map(<[Window]>::len));
        let sum: f64 = each.map(|(loss, n)| loss * n as f64).sum();
        Ok(Some(sum / self.plan.validation.len() as f64))
    }

    fn loss(
        &self,
        network: &Network,
        source: &Source,
        windows: &[Window],
        counted: impl Fn(usize, isize) -> bool,
        device: &Device,
    ) -> Tensor<1> {
        let len = self.params.window_steps;
        let Batch { input, targets, weights } =
            source.batch(windows, len, self.params.horizon(), counted);
        let input = if device.is_autodiff() { input.autodiff() } else { input };
        let error = network.forward(input, false) - targets;
        let huber = (error.clone() * error).add_scalar(1.0).sqrt().sub_scalar(1.0);
        (huber * weights).sum()
    }
}

/// Whether an epoch's training and held-out loss show that training has come apart.
fn has_diverged(loss: f64, watched: f64, first: f64) -> bool {
    !(loss.is_finite() && watched.is_finite()) || loss > EXPLOSION * first
}

fn read(value: Tensor<1>) -> f64 {
    value.into_data().iter::<f64>().next().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_that_is_no_number_or_explodes_has_diverged() {
        assert!(has_diverged(f64::NAN, 1.0, 1.0));
        assert!(has_diverged(1.0, f64::INFINITY, 1.0));
        assert!(has_diverged(101.0, 1.0, 1.0));
        assert!(!has_diverged(5.0, 1e9, 1.0));
    }
}
