//! The LSTM layer against double precision: on the CPU always, on the first GPU adapter where there
//! is one, be it a software rasteriser. How near is near enough comes from PyTorch: norm-wise, an
//! error may be twice that of PyTorch's own single precision on the same case.
//!
//! Where there is no adapter the tests of the GPU say so and pass, unless `ANOMALIST_REQUIRE_GPU=1`
//! is set, as it is where they must not be skipped.

mod reference;

use anomalist::{
    detectors::lstm_autoencoder::lstm_sequence,
    device::{self, ComputeDevice, DeviceChoice},
};
use burn::tensor::{Device, Tensor, TensorData};
use proptest::{prelude::*, test_runner::RngSeed};
use serde_json::Value;

use reference::{Example, Size, relative_error};

const NAMES: [&str; 4] = ["output", "gradient by input", "gradient by weight", "gradient by bias"];

/// No single-precision result on a random shape may be further off. PyTorch's largest error in the
/// recorded cases is a fifth of it; sums that nearly cancel take the rest.
const RANDOM_SHAPES: f64 = 5e-6;

fn fixture() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/lstm_reference.json");
    let text = std::fs::read_to_string(path).expect("the fixture is there");
    serde_json::from_str(&text).expect("the fixture is JSON")
}

fn size_of(value: &Value) -> Size {
    let at = |place: usize| value[place].as_u64().expect("a size") as usize;
    Size { steps: at(0), batch: at(1), inputs: at(2), hidden: at(3), constant_input: false }
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number")).collect()
}

/// What the layer makes of an example on a device: output and gradients by input, weight and bias.
fn found(example: &Example, device: &Device) -> [Vec<f32>; 4] {
    let Size { steps, batch, inputs, hidden, .. } = example.size;
    let device = device.clone().autodiff();
    let data = |values: &[f64], shape: Vec<usize>| {
        TensorData::new(values.iter().map(|&v| v as f32).collect::<Vec<f32>>(), shape)
    };
    let input_shape = vec![example.size.input_steps(), batch, inputs];
    let input = Tensor::<3>::from_data(data(&example.input, input_shape), &device).require_grad();
    let weight = data(&example.weight, vec![inputs + hidden, 4 * hidden]);
    let weight = Tensor::<2>::from_data(weight, &device).require_grad();
    let bias = Tensor::<1>::from_data(data(&example.bias, vec![4 * hidden]), &device);
    let bias = bias.require_grad();
    let loss = Tensor::<3>::from_data(data(&example.loss, vec![steps, batch, hidden]), &device);
    let output = lstm_sequence(input.clone(), weight.clone(), bias.clone(), steps);
    let gradients = (output.clone() * loss).sum().backward();
    let numbers = |data: TensorData| data.iter::<f32>().collect::<Vec<f32>>();
    [
        numbers(output.into_data()),
        numbers(input.grad(&gradients).expect("by input").into_data()),
        numbers(weight.grad(&gradients).expect("by weight").into_data()),
        numbers(bias.grad(&gradients).expect("by bias").into_data()),
    ]
}

fn errors(example: &Example, device: &Device) -> [f64; 4] {
    let (found, exact) = (found(example, device), example.exact());
    std::array::from_fn(|place| relative_error(&found[place], &exact[place]))
}

/// The first adapter, or `None` where the machine has none and may have none.
fn gpu() -> Option<ComputeDevice> {
    if device::list().adapters.is_empty() {
        let required = std::env::var_os("ANOMALIST_REQUIRE_GPU").is_some_and(|value| value == "1");
        assert!(!required, "no GPU adapter: {:?}", device::list().no_gpu_reason);
        println!("skipped: no GPU adapter ({:?})", device::list().no_gpu_reason);
        return None;
    }
    let (device, warnings) = device::choose(DeviceChoice::Gpu).expect("the adapter starts");
    println!("on {}: {warnings:?}", device.name());
    Some(device)
}

fn assert_twice_pytorchs(device: &Device) {
    let fixture = fixture();
    let mut worse = Vec::new();
    for case in fixture["cases"].as_array().expect("cases") {
        let example = Example::new(size_of(&case["size"]));
        let pytorchs = floats(&case["single_precision_errors"]);
        let ours = errors(&example, device);
        println!("{:?}: {ours:?}, PyTorch {pytorchs:?}", example.size);
        for place in 0..4 {
            // An error below the spacing of single precision is luck, PyTorch's too.
            if ours[place] > 2.0 * pytorchs[place].max(f64::from(f32::EPSILON)) {
                worse.push((example.size, NAMES[place], ours[place], pytorchs[place]));
            }
        }
    }
    assert!(worse.is_empty(), "{worse:#?}");
}

#[test]
fn the_reference_is_pytorchs_double_precision() {
    let fixture = fixture();
    let example = Example::new(size_of(&fixture["small"]["size"]));
    for (place, exact) in example.exact().iter().enumerate() {
        let pytorchs = floats(&fixture["small"]["values"][place]);
        assert_eq!(exact.len(), pytorchs.len());
        for (ours, theirs) in exact.iter().zip(pytorchs) {
            assert!((ours - theirs).abs() < 1e-13, "{}: {ours} against {theirs}", NAMES[place]);
        }
    }
}

#[test]
fn the_references_gradients_are_difference_quotients() {
    for constant_input in [false, true] {
        let size = Size { steps: 4, batch: 2, inputs: 3, hidden: 5, constant_input };
        let example = Example::new(size);
        let [_, by_input, by_weight, by_bias] = example.exact();
        let quotient = |change: &dyn Fn(&mut Example, f64)| {
            let at = |by: f64| {
                let mut moved = example.clone();
                change(&mut moved, by);
                moved.exact_loss()
            };
            (at(1e-5) - at(-1e-5)) / 2e-5
        };
        for (place, gradient) in by_input.iter().enumerate() {
            assert!((gradient - quotient(&|e, by| e.input[place] += by)).abs() < 1e-8);
        }
        for (place, gradient) in by_weight.iter().enumerate() {
            assert!((gradient - quotient(&|e, by| e.weight[place] += by)).abs() < 1e-8);
        }
        for (place, gradient) in by_bias.iter().enumerate() {
            assert!((gradient - quotient(&|e, by| e.bias[place] += by)).abs() < 1e-8);
        }
    }
}

#[test]
fn errors_on_the_cpu_are_at_most_twice_pytorchs() {
    assert_twice_pytorchs(ComputeDevice::cpu().burn());
}

#[test]
fn errors_on_a_gpu_are_at_most_twice_pytorchs() {
    let Some(gpu) = gpu() else { return };
    assert_twice_pytorchs(gpu.burn());
}

/// Shapes on both sides of every choice that the kernels make: one, two, four and eight windows per
/// workgroup; weights held, and held in part; hidden that needs padding; units past the columns; a
/// layer too wide for a workgroup.
#[test]
fn a_gpu_agrees_on_odd_shapes() {
    let Some(gpu) = gpu() else { return };
    let size =
        |steps, batch, inputs, hidden| Size { steps, batch, inputs, hidden, constant_input: false };
    for size in [
        size(1, 1, 1, 1),
        size(1, 3, 2, 6),
        size(5, 1, 3, 7),
        Size { constant_input: true, ..size(4, 5, 3, 20) },
        size(2, 523, 2, 5),
        size(2, 1_030, 1, 4),
        size(2, 2_051, 1, 3),
        size(3, 261, 2, 68),
        Size { constant_input: true, ..size(2, 3, 1, 100) },
        size(2, 2, 1, 259),
    ] {
        let errors = errors(&Example::new(size), gpu.burn());
        println!("{size:?}: {errors:?}");
        assert!(errors.iter().all(|error| *error < RANDOM_SHAPES), "{size:?}: {errors:?}");
    }
}

proptest! {
    // Seeded: whether sums cancel, and how much of an error that leaves, is the shape's luck.
    #![proptest_config(ProptestConfig {
        cases: 60,
        rng_seed: RngSeed::Fixed(6),
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_cpu_agrees_on_random_shapes(
        steps in 1usize..40,
        batch in 1usize..40,
        inputs in 1usize..20,
        hidden in 1usize..70,
        constant_input: bool,
    ) {
        let size = Size { steps, batch, inputs, hidden, constant_input: constant_input && steps > 1 };
        let errors = errors(&Example::new(size), ComputeDevice::cpu().burn());
        prop_assert!(errors.iter().all(|error| *error < RANDOM_SHAPES), "{size:?}: {errors:?}");
    }
}
