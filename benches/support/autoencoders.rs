//! The same autoencoder twice: out of this crate's LSTM layer, and out of burn's own.
//!
//! Two encoder layers, the last state repeated, two decoder layers, a linear output: as in
//! `peers/lstm_torch.py`, so that windows per second can be compared.

use anomalist::detectors::lstm_autoencoder::lstm_sequence;
use burn::{
    module::{Module, Param},
    nn::{Linear, LinearConfig, Lstm, LstmConfig},
    optim::{AdamConfig, GradientsParams, ModuleOptimizer},
    tensor::{Device, Distribution, Tensor, TensorData},
};

pub const STEPS: usize = 168;
pub const METRICS: usize = 16;
pub const HIDDEN: usize = 64;
pub const ENCODING: usize = 32;
pub const BATCH: usize = 64;

const LAYERS: [(usize, usize); 4] =
    [(METRICS, HIDDEN), (HIDDEN, ENCODING), (ENCODING, ENCODING), (ENCODING, HIDDEN)];

/// `[steps, batch, metrics]` -> the same.
pub trait Autoencoder: Module {
    fn forward(&self, input: Tensor<3>) -> Tensor<3>;
}

#[derive(Module, Debug)]
pub struct Layer {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

/// Out of this crate's layer.
#[derive(Module, Debug)]
pub struct Ours {
    layers: Vec<Layer>,
    output: Linear,
}

impl Ours {
    pub fn new(device: &Device) -> Self {
        let layer = |(inputs, hidden): (usize, usize)| {
            let spread = Distribution::Uniform(-0.125, 0.125);
            let weight = Tensor::random([inputs + hidden, 4 * hidden], spread, device);
            let bias = Tensor::zeros([4 * hidden], device);
            Layer { weight: Param::from_tensor(weight), bias: Param::from_tensor(bias) }
        };
        Self {
            layers: LAYERS.into_iter().map(layer).collect(),
            output: LinearConfig::new(HIDDEN, METRICS).init(device),
        }
    }
}

impl Autoencoder for Ours {
    fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        let [steps, ..] = input.dims();
        let mut state = input;
        for (place, layer) in self.layers.iter().enumerate() {
            if place == 2 {
                state = state.narrow(0, steps - 1, 1);
            }
            state = lstm_sequence(state, layer.weight.val(), layer.bias.val(), steps);
        }
        self.output.forward(state)
    }
}

/// Out of burn's layer.
#[derive(Module, Debug)]
pub struct Burns {
    layers: Vec<Lstm>,
    output: Linear,
}

impl Burns {
    pub fn new(device: &Device) -> Self {
        let layer = |(inputs, hidden): (usize, usize)| {
            LstmConfig::new(inputs, hidden, true).with_batch_first(false).init(device)
        };
        Self {
            layers: LAYERS.into_iter().map(layer).collect(),
            output: LinearConfig::new(HIDDEN, METRICS).init(device),
        }
    }
}

impl Autoencoder for Burns {
    fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        let [steps, ..] = input.dims();
        let mut state = input;
        for (place, layer) in self.layers.iter().enumerate() {
            if place == 2 {
                state = state.narrow(0, steps - 1, 1).repeat_dim(0, steps);
            }
            state = layer.forward(state, None).0;
        }
        self.output.forward(state)
    }
}

/// A batch of noise, the same every time.
pub fn batch(device: &Device) -> Tensor<3> {
    let values: Vec<f32> = (0..(STEPS * BATCH * METRICS) as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0)
        .collect();
    Tensor::from_data(TensorData::new(values, [STEPS, BATCH, METRICS]), device)
}

/// A model in training.
pub struct Trainer<M: Autoencoder> {
    model: Option<M>,
    optimizer: ModuleOptimizer,
    input: Tensor<3>,
}

impl<M: Autoencoder> Trainer<M> {
    /// `device` must be one for automatic differentiation.
    pub fn new(model: M, device: &Device) -> Self {
        let optimizer = AdamConfig::new().init();
        Self { model: Some(model), optimizer, input: batch(device) }
    }

    /// One gradient step; the loss.
    pub fn step(&mut self) -> f32 {
        let Some(model) = self.model.take() else { return f32::NAN };
        let error = model.forward(self.input.clone()) - self.input.clone();
        let loss = (error.clone() * error).mean();
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        self.model = Some(self.optimizer.step(1e-3, model, gradients));
        loss.into_data().iter::<f32>().next().unwrap_or(f32::NAN)
    }
}
