//! The layer against three independent answers: difference quotients in double precision, burn's
//! own LSTM layer, and the composed form of the same layer.

use burn::{
    module::{Module, Param},
    nn::{GateController, Lstm, LstmConfig},
    tensor::{Device, Tensor, TensorData},
};

use super::{backward, composed, fused, fused::Sizes, lstm_sequence, tensor};

/// Numbers between -0.5 and 0.5 that look random.
fn numbers(n: usize, seed: u32) -> Vec<f32> {
    (0..n as u32)
        .map(|i| i.wrapping_add(seed.wrapping_mul(7_919)).wrapping_mul(2_654_435_761))
        .map(|hash| (hash >> 8) as f32 / (1 << 24) as f32 - 0.5)
        .collect()
}

struct Example {
    sizes: Sizes,
    input: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    /// The loss is the sum of these times the outputs, so they are its gradient by the outputs.
    loss: Vec<f32>,
}

fn example(sizes: Sizes) -> Example {
    let Sizes { steps, batch, inputs, hidden, constant_input } = sizes;
    let input_steps = if constant_input { 1 } else { steps };
    Example {
        sizes,
        input: numbers(input_steps * batch * inputs, 1),
        weight: numbers((inputs + hidden) * 4 * hidden, 2),
        bias: numbers(4 * hidden, 3),
        loss: numbers(steps * batch * hidden, 4),
    }
}

fn sizes(steps: usize, batch: usize, inputs: usize, hidden: usize) -> Sizes {
    Sizes { steps, batch, inputs, hidden, constant_input: false }
}

impl Example {
    fn forward(&self) -> (Vec<f32>, fused::Trace) {
        fused::forward(self.sizes, &self.input, &self.weight, &self.bias, true)
    }

    fn gradients(&self) -> backward::Gradients {
        let (output, trace) = self.forward();
        let arguments = (&self.input[..], &self.weight[..]);
        backward::gradients(self.sizes, arguments, &output, &trace, &self.loss, true)
    }

    /// The loss in double precision, written straight from the equations.
    fn loss_in_f64(&self, input: &[f64], weight: &[f64], bias: &[f64]) -> f64 {
        let Sizes { steps, batch, inputs, hidden, constant_input } = self.sizes;
        let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
        let mut loss = 0.0;
        for window in 0..batch {
            let (mut h, mut c) = (vec![0.0; hidden], vec![0.0; hidden]);
            for step in 0..steps {
                let from = (if constant_input { window } else { step * batch + window }) * inputs;
                let seen: Vec<f64> = input[from..from + inputs].iter().chain(&h).copied().collect();
                let gate = |column: usize| {
                    let products = seen.iter().enumerate();
                    bias[column]
                        + products.map(|(r, x)| x * weight[r * 4 * hidden + column]).sum::<f64>()
                };
                for j in 0..hidden {
                    let (i, f) = (logistic(gate(j)), logistic(gate(hidden + j)));
                    let (g, o) = (gate(2 * hidden + j).tanh(), logistic(gate(3 * hidden + j)));
                    c[j] = f * c[j] + i * g;
                    h[j] = o * c[j].tanh();
                }
                for (j, value) in h.iter().enumerate() {
                    loss += value * f64::from(self.loss[(step * batch + window) * hidden + j]);
                }
            }
        }
        loss
    }
}

fn doubles(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

#[test]
fn gradients_are_the_difference_quotients_of_the_loss() {
    for constant_input in [false, true] {
        let case = example(Sizes { constant_input, ..sizes(5, 18, 3, 4) });
        let found = case.gradients();
        let mut arguments = [doubles(&case.input), doubles(&case.weight), doubles(&case.bias)];
        for (argument, gradient) in
            [&found.input, &found.weight, &found.bias].into_iter().enumerate()
        {
            assert_eq!(gradient.len(), arguments[argument].len());
            for at in 0..gradient.len() {
                let kept = arguments[argument][at];
                let mut loss_at = |value: f64| {
                    arguments[argument][at] = value;
                    case.loss_in_f64(&arguments[0], &arguments[1], &arguments[2])
                };
                let quotient = (loss_at(kept + 1e-5) - loss_at(kept - 1e-5)) / 2e-5;
                loss_at(kept);
                // Single precision over a sum of 90 terms.
                assert!(
                    (f64::from(gradient[at]) - quotient).abs() < 1e-5,
                    "argument {argument}, place {at}: {} against {quotient}",
                    gradient[at]
                );
            }
        }
    }
}

/// burn's layer with weights of our own, and the same weights as one matrix.
fn burn_layer(inputs: usize, hidden: usize, device: &Device) -> (Lstm, Tensor<2>, Tensor<1>) {
    let mut layer = LstmConfig::new(inputs, hidden, true).with_batch_first(false).init(device);
    let mut columns = Vec::new();
    let mut biases = Vec::new();
    let gates = [
        &mut layer.input_gate,
        layer.forget_gate.as_mut().unwrap(),
        &mut layer.cell_gate,
        &mut layer.output_gate,
    ];
    for (seed, gate) in gates.into_iter().enumerate() {
        let seed = 10 * seed as u32 + 20;
        let matrix = |rows: usize, seed: u32| {
            let data = TensorData::new(numbers(rows * hidden, seed), [rows, hidden]);
            Tensor::<2>::from_data(data, device)
        };
        let vector = |seed: u32| {
            Tensor::<1>::from_data(TensorData::new(numbers(hidden, seed), [hidden]), device)
        };
        let GateController { input_transform, hidden_transform } = gate;
        let (x, h) = (matrix(inputs, seed), matrix(hidden, seed + 1));
        let (bx, bh) = (vector(seed + 2), vector(seed + 3));
        input_transform.weight = Param::from_tensor(x.clone());
        hidden_transform.weight = Param::from_tensor(h.clone());
        input_transform.bias = Some(Param::from_tensor(bx.clone()));
        hidden_transform.bias = Some(Param::from_tensor(bh.clone()));
        columns.push(Tensor::cat(vec![x, h], 0));
        biases.push(bx + bh);
    }
    (layer, Tensor::cat(columns, 1), Tensor::cat(biases, 0))
}

fn assert_close(ours: TensorData, theirs: TensorData, what: &str) {
    assert_eq!(ours.shape(), theirs.shape(), "{what}");
    for (a, b) in ours.iter::<f32>().zip(theirs.iter::<f32>()) {
        assert!((a - b).abs() < 1e-5, "{what}: {a} against {b}");
    }
}

#[test]
fn output_and_gradients_are_those_of_burns_own_layer() {
    let device = Device::ndarray().autodiff();
    let (steps, batch, inputs, hidden) = (7, 5, 3, 20);
    let (layer, weight, bias) = burn_layer(inputs, hidden, &device);
    let (weight, bias) = (weight.detach().require_grad(), bias.detach().require_grad());
    let data = TensorData::new(numbers(steps * batch * inputs, 9), [steps, batch, inputs]);
    let input = Tensor::<3>::from_data(data, &device).require_grad();
    let loss = numbers(steps * batch * hidden, 4);
    let loss = Tensor::<3>::from_data(TensorData::new(loss, [steps, batch, hidden]), &device);

    let ours = lstm_sequence(input.clone(), weight.clone(), bias.clone(), steps);
    let (theirs, _) = layer.forward(input.clone(), None);
    assert_close(ours.clone().into_data(), theirs.clone().into_data(), "output");

    let our_gradients = (ours * loss.clone()).sum().backward();
    let their_gradients = (theirs * loss).sum().backward();
    assert_close(
        input.grad(&our_gradients).unwrap().into_data(),
        input.grad(&their_gradients).unwrap().into_data(),
        "gradient by input",
    );
    let by_weight = weight.grad(&our_gradients).unwrap();
    let by_bias = bias.grad(&our_gradients).unwrap();
    let forget = layer.forget_gate.as_ref().unwrap();
    let gates = [&layer.input_gate, forget, &layer.cell_gate, &layer.output_gate];
    for (place, gate) in gates.into_iter().enumerate() {
        let columns = place * hidden..(place + 1) * hidden;
        let theirs = [&gate.input_transform, &gate.hidden_transform]
            .map(|linear| linear.weight.val().grad(&their_gradients).unwrap());
        let ours = by_weight.clone().slice([0..inputs + hidden, columns.clone()]);
        assert_close(
            ours.into_data(),
            Tensor::cat(theirs.to_vec(), 0).into_data(),
            "gradient by weight",
        );
        let bias = gate.input_transform.bias.as_ref().unwrap().val();
        assert_close(
            by_bias.clone().slice([columns]).into_data(),
            bias.grad(&their_gradients).unwrap().into_data(),
            "gradient by bias",
        );
    }
    assert_eq!(layer.num_params(), 4 * (inputs + hidden + 2) * hidden);
}

#[test]
fn the_composed_form_gives_the_same_output_and_gradients() {
    for constant_input in [false, true] {
        for steps in [1, 6] {
            let case = example(Sizes {
                constant_input: constant_input && steps > 1,
                ..sizes(steps, 20, 3, 5)
            });
            let input_steps = case.input.len() / (20 * 3);
            let (output, _) = case.forward();
            let found = case.gradients();

            let input = tensor(case.input.clone(), &[input_steps, 20, 3]);
            let weight = tensor(case.weight.clone(), &[8, 20]);
            let bias = tensor(case.bias.clone(), &[20]);
            let (composed_output, trace) = composed::forward::<burn::backend::NdArray>(
                case.sizes,
                input.clone(),
                weight.clone(),
                bias,
                true,
            );
            let grad = tensor(case.loss.clone(), &[steps, 20, 5]);
            let (by_input, by_weight, by_bias) =
                composed::gradients(case.sizes, (input, weight), trace, grad, true);
            for (ours, theirs) in [
                (output, composed_output),
                (found.input, by_input.unwrap()),
                (found.weight, by_weight),
                (found.bias, by_bias),
            ] {
                let theirs = super::Floats::of(theirs);
                assert_eq!(ours.len(), theirs.values().len());
                for (a, b) in ours.iter().zip(theirs.values()) {
                    assert!((a - b).abs() < 1e-5, "{a} against {b}");
                }
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let case = example(sizes(9, 70, 5, 24));
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let found = case.gradients();
            (case.forward().0, found.input, found.weight, found.bias)
        })
    };
    assert_eq!(on(1), on(3));
}

#[test]
fn a_constant_input_is_the_input_repeated() {
    let once = example(Sizes { constant_input: true, ..sizes(4, 3, 2, 6) });
    let repeated = Example {
        input: once.input.repeat(4),
        weight: once.weight.clone(),
        bias: once.bias.clone(),
        loss: once.loss.clone(),
        sizes: sizes(4, 3, 2, 6),
    };
    for (a, b) in once.forward().0.iter().zip(repeated.forward().0) {
        assert!((a - b).abs() < 1e-6, "{a} against {b}");
    }
}

#[test]
fn nan_in_the_weights_shows_in_the_output() {
    let mut case = example(sizes(3, 2, 2, 4));
    case.weight[0] = f32::NAN;
    assert!(case.forward().0.iter().any(|value| value.is_nan()));
}
