//! The network: two LSTM layers in, a bottleneck, two LSTM layers out.
//!
//! Weights live in two forms. A [`Network`] is burn's, on a device. [`Weights`] are plain numbers
//! with a name and a shape, on no device: what training keeps of its best epoch, what a checkpoint
//! holds, and what a network is built from. So a network trained on a GPU scores on a CPU, and a
//! checkpoint is checked before burn sees it.

use burn::{
    module::{Module, Param},
    tensor::{Device, Tensor, TensorData},
};
use rand::RngExt;

use super::{
    cell::{lstm_sequence, project},
    params::{LstmParams, Objective},
};
use crate::math::random::stream;

/// The sizes of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Architecture {
    /// Metrics; the input has two values for each, the value and whether it is there.
    pub(super) metrics: usize,
    pub(super) hidden: usize,
    pub(super) encoding: usize,
    /// Without a decoder the network predicts each step from its encoding: a forecaster.
    pub(super) decoder: bool,
}

impl Architecture {
    pub(super) fn new(params: &LstmParams, metrics: usize) -> Self {
        Self {
            metrics,
            hidden: params.hidden,
            encoding: params.encoding,
            decoder: params.objective == Objective::Reconstruction,
        }
    }

    /// Inputs and hidden width of every LSTM layer, encoder first.
    fn layers(&self) -> Vec<(usize, usize)> {
        let mut layers = vec![(2 * self.metrics, self.hidden), (self.hidden, self.encoding)];
        if self.decoder {
            layers.extend([(self.encoding, self.encoding), (self.encoding, self.hidden)]);
        }
        layers
    }

    /// Name and shape of every weight, in order.
    pub(super) fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let mut shapes = Vec::new();
        let mut last = 0;
        for (place, (inputs, hidden)) in self.layers().into_iter().enumerate() {
            shapes.push((format!("layers.{place}.weight"), vec![inputs + hidden, 4 * hidden]));
            shapes.push((format!("layers.{place}.bias"), vec![4 * hidden]));
            last = hidden;
        }
        shapes.push(("output_weight".into(), vec![last, self.metrics]));
        shapes.push(("output_bias".into(), vec![self.metrics]));
        shapes
    }

    /// The widest buffer of a forward pass, in `f32` values per window and step.
    pub(super) fn widest(&self) -> usize {
        4 * self.hidden.max(self.encoding)
    }
}

/// Plain numbers, in the order of [`Architecture::shapes`].
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Weights(pub(super) Vec<Vec<f32>>);

impl Weights {
    /// Uniform between ±1/sqrt(hidden), as is usual for LSTMs; the forget gates start open (bias
    /// 1, Gers et al. 2000), so that gradients reach back through the window from the first epoch.
    pub(super) fn random(architecture: Architecture, seed: u64) -> Self {
        let shapes = architecture.shapes();
        let numbers = shapes.iter().enumerate().map(|(place, (name, shape))| {
            let mut rng = stream(seed, "lstm_weights", place as u64);
            let width = if shape.len() == 2 && name.starts_with("layers") {
                shape[1] / 4
            } else {
                shape[0].max(1)
            };
            let bound = 1.0 / (width as f32).sqrt();
            let n: usize = shape.iter().product();
            let mut values: Vec<f32> = match shape.len() {
                2 => (0..n).map(|_| (2.0 * rng.random::<f32>() - 1.0) * bound).collect(),
                _ => vec![0.0; n],
            };
            if name.ends_with("bias") && name.starts_with("layers") {
                values[n / 4..n / 2].fill(1.0);
            }
            values
        });
        Self(numbers.collect())
    }

    pub(super) fn are_finite(&self) -> bool {
        self.0.iter().flatten().all(|value| value.is_finite())
    }
}

/// One LSTM layer's weights, see [`lstm_sequence`].
#[derive(Module, Debug)]
pub(super) struct Layer {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

impl Layer {
    fn forward(&self, input: Tensor<3>, steps: usize) -> Tensor<3> {
        lstm_sequence(input, self.weight.val(), self.bias.val(), steps)
    }
}

/// The network on a device.
#[derive(Module, Debug)]
pub(super) struct Network {
    layers: Vec<Layer>,
    output_weight: Param<Tensor<2>>,
    output_bias: Param<Tensor<1>>,
}

/// The networks of a detector, as a checkpoint names their weights.
#[derive(Module, Debug)]
pub(super) struct Networks {
    pub(super) views: Vec<Network>,
}

impl Network {
    /// `weights` must have the architecture's shapes.
    pub(super) fn new(architecture: Architecture, weights: &Weights, device: &Device) -> Self {
        let shapes = architecture.shapes();
        let data =
            |place: usize| TensorData::new(weights.0[place].clone(), shapes[place].1.clone());
        let matrix = |place: usize| Param::from_tensor(Tensor::<2>::from_data(data(place), device));
        let vector = |place: usize| Param::from_tensor(Tensor::<1>::from_data(data(place), device));
        let n_layers = architecture.layers().len();
        Self {
            layers: (0..n_layers)
                .map(|layer| Layer { weight: matrix(2 * layer), bias: vector(2 * layer + 1) })
                .collect(),
            output_weight: matrix(2 * n_layers),
            output_bias: vector(2 * n_layers + 1),
        }
    }

    /// Reads the weights back from the device.
    pub(super) fn weights(&self) -> Weights {
        let numbers = |data: TensorData| data.iter::<f32>().collect::<Vec<f32>>();
        let mut weights = Vec::with_capacity(2 * self.layers.len() + 2);
        for layer in &self.layers {
            weights.push(numbers(layer.weight.val().into_data()));
            weights.push(numbers(layer.bias.val().into_data()));
        }
        weights.push(numbers(self.output_weight.val().into_data()));
        weights.push(numbers(self.output_bias.val().into_data()));
        Weights(weights)
    }

    /// `[steps, batch, 2 metrics]` -> `[steps, batch, metrics]`; with `newest_only`,
    /// `[1, batch, metrics]` of the last step.
    pub(super) fn forward(&self, input: Tensor<3>, newest_only: bool) -> Tensor<3> {
        let [steps, _, _] = input.dims();
        let mut state = input;
        for (place, layer) in self.layers.iter().enumerate() {
            if place == 2 {
                // The bottleneck: all that the decoder sees is the last encoding.
                state = state.narrow(0, steps - 1, 1);
            }
            state = layer.forward(state, steps);
        }
        if newest_only {
            state = state.narrow(0, steps - 1, 1);
        }
        project(state, self.output_weight.val(), self.output_bias.val())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::ComputeDevice;

    fn architecture(objective: Objective) -> Architecture {
        let params = LstmParams { hidden: 6, encoding: 3, objective, ..LstmParams::default() };
        Architecture::new(&params, 2)
    }

    #[test]
    fn weights_go_to_a_device_and_come_back() {
        let device = ComputeDevice::cpu();
        for objective in [Objective::Reconstruction, Objective::Forecast] {
            let architecture = architecture(objective);
            let weights = Weights::random(architecture, 7);
            let network = Network::new(architecture, &weights, device.burn());
            assert_eq!(network.weights(), weights);
            assert_ne!(Weights::random(architecture, 8), weights);
        }
    }

    #[test]
    fn the_newest_step_alone_is_the_last_of_all_steps() {
        let device = ComputeDevice::cpu();
        let architecture = architecture(Objective::Reconstruction);
        let network = Network::new(architecture, &Weights::random(architecture, 1), device.burn());
        let values: Vec<f32> = (0..5 * 3 * 4).map(|i| (i as f32).sin()).collect();
        let input = Tensor::<3>::from_data(TensorData::new(values, [5, 3, 4]), device.burn());
        let all = network.forward(input.clone(), false).narrow(0, 4, 1);
        assert_eq!(all.into_data(), network.forward(input, true).into_data());
    }

    #[test]
    fn the_decoder_sees_nothing_but_the_bottleneck() {
        let device = ComputeDevice::cpu();
        let architecture = Architecture { encoding: 1, ..architecture(Objective::Reconstruction) };
        let mut weights = Weights::random(architecture, 1);
        // Cut the decoder off from its input: the output must not depend on the input any more.
        weights.0[4][..4].fill(0.0);
        let network = Network::new(architecture, &weights, device.burn());
        let input = |value: f32| {
            Tensor::<3>::from_data(TensorData::new(vec![value; 5 * 4], [5, 1, 4]), device.burn())
        };
        let output = |value: f32| network.forward(input(value), false).into_data();
        assert_eq!(output(1.0), output(-3.0));
    }
}
