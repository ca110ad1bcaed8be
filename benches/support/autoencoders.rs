//! The same autoencoder twice: out of this crate's layers, and out of burn's own.
//!
//! Two encoder layers, the last state for every step, two decoder layers, a linear output: as in
//! `peers/lstm_torch.py`, so that windows per second can be compared.

use anomalist::detectors::lstm_autoencoder::{lstm_sequence, project};
use burn::{
    module::{Module, Param},
    nn::{Linear, LinearConfig, Lstm, LstmConfig},
    optim::{AdamConfig, GradientsParams, ModuleOptimizer},
    tensor::{Device, Distribution, Tensor, TensorData},
};

/// The sizes of the model and its batch.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub steps: usize,
    pub metrics: usize,
    pub hidden: usize,
    pub encoding: usize,
    pub batch: usize,
}

impl From<[usize; 5]> for Size {
    fn from([steps, metrics, hidden, encoding, batch]: [usize; 5]) -> Self {
        Self { steps, metrics, hidden, encoding, batch }
    }
}

impl Size {
    /// Inputs and width of each LSTM layer.
    fn layers(&self) -> [(usize, usize); 4] {
        let Self { metrics, hidden, encoding, .. } = *self;
        [(metrics, hidden), (hidden, encoding), (encoding, encoding), (encoding, hidden)]
    }

    /// Multiplications and additions of the matrix products of one window, forward, in billions.
    /// The third layer's input is the same at every step and is projected once.
    pub fn gflop(&self) -> f64 {
        let products = self.layers().into_iter().enumerate().map(|(place, (inputs, hidden))| {
            let input_steps = if place == 2 { 1 } else { self.steps };
            (input_steps * inputs + self.steps * hidden) * 4 * hidden
        });
        let output = self.steps * self.hidden * self.metrics;
        2e-9 * (products.sum::<usize>() + output) as f64
    }
}

/// `[steps, batch, metrics]` -> the same.
pub trait Autoencoder: Module {
    fn forward(&self, input: Tensor<3>, size: Size) -> Tensor<3>;
}

#[derive(Module, Debug)]
pub struct Layer {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

/// Out of this crate's layers.
#[derive(Module, Debug)]
pub struct Ours {
    layers: Vec<Layer>,
    output_weight: Param<Tensor<2>>,
    output_bias: Param<Tensor<1>>,
}

impl Ours {
    pub fn new(size: Size, device: &Device) -> Self {
        let layer = |(inputs, hidden): (usize, usize)| {
            let spread = Distribution::Uniform(-0.125, 0.125);
            let weight = Tensor::random([inputs + hidden, 4 * hidden], spread, device);
            // Forget gates start open, as in the detector's network. Closed by half, they would let
            // gradients vanish into subnormal numbers, which a processor is slow with.
            let gate = |open: f32| Tensor::<1>::full([hidden], open, device);
            let bias = Tensor::cat(vec![gate(0.0), gate(1.0), gate(0.0), gate(0.0)], 0);
            Layer { weight: Param::from_tensor(weight), bias: Param::from_tensor(bias) }
        };
        Self {
            layers: size.layers().into_iter().map(layer).collect(),
            output_weight: Param::from_tensor(Tensor::random(
                [size.hidden, size.metrics],
                Distribution::Uniform(-0.125, 0.125),
                device,
            )),
            output_bias: Param::from_tensor(Tensor::zeros([size.metrics], device)),
        }
    }
}

impl Autoencoder for Ours {
    fn forward(&self, input: Tensor<3>, size: Size) -> Tensor<3> {
        let steps = size.steps;
        let mut state = input;
        for (place, layer) in self.layers.iter().enumerate() {
            if place == 2 {
                state = state.narrow(0, steps - 1, 1);
            }
            state = lstm_sequence(state, layer.weight.val(), layer.bias.val(), steps);
        }
        let bias = self.output_bias.val();
        project(state, self.output_weight.val(), bias)
    }
}

/// Out of burn's layer.
#[derive(Module, Debug)]
pub struct Burns {
    layers: Vec<Lstm>,
    output: Linear,
}

impl Burns {
    pub fn new(size: Size, device: &Device) -> Self {
        let layer = |(inputs, hidden): (usize, usize)| {
            LstmConfig::new(inputs, hidden, true).with_batch_first(false).init(device)
        };
        Self {
            layers: size.layers().into_iter().map(layer).collect(),
            output: LinearConfig::new(size.hidden, size.metrics).init(device),
        }
    }
}

impl Autoencoder for Burns {
    fn forward(&self, input: Tensor<3>, size: Size) -> Tensor<3> {
        let steps = size.steps;
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
pub fn batch(size: Size, device: &Device) -> Tensor<3> {
    let shape = [size.steps, size.batch, size.metrics];
    let values: Vec<f32> = (0..shape.iter().product::<usize>() as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0)
        .collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// A model in training.
pub struct Trainer<M: Autoencoder> {
    model: Option<M>,
    optimizer: ModuleOptimizer,
    input: Tensor<3>,
    size: Size,
}

impl<M: Autoencoder> Trainer<M> {
    /// `device` must be one for automatic differentiation.
    pub fn new(model: M, size: Size, device: &Device) -> Self {
        let optimizer = AdamConfig::new().init();
        Self { model: Some(model), optimizer, input: batch(size, device), size }
    }

    /// One gradient step; the loss, on the device.
    pub fn step(&mut self) -> Tensor<1> {
        let Some(model) = self.model.take() else { return self.input.clone().sum() };
        let error = model.forward(self.input.clone(), self.size) - self.input.clone();
        let loss = (error.clone() * error).mean();
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        self.model = Some(self.optimizer.step(1e-3, model, gradients));
        loss.inner()
    }
}
