//! The LSTM on a GPU: one kernel per direction that walks the steps itself.
//!
//! The input of all steps is projected in one product; the gradients of the weights are one product
//! at the end, cut into groups of steps so that a GPU is full. Between them lies what cannot be
//! done for all steps at once, `4 hidden²` multiplications per window and step, and a launch for
//! each would take longer than they do. So one launch does them all:
//!
//! - a workgroup owns a few windows from the first step to the last; workgroups never wait for each
//!   other, which is what makes the kernel possible in WGSL, on every vendor's GPU;
//! - it has a unit for each of the `4 hidden` gate columns, which holds its column of the recurrent
//!   weights in registers, up to 64 values, and reads what is beyond them every step (at
//!   hidden 128: half of 256 KiB, from a first-level cache that has room for it);
//! - hidden states lie in shared memory and are read as broadcasts, four values at once;
//! - cells stay in the registers of the units that update them;
//! - a step has two barriers: states -> gates -> states;
//! - what a step reads from global memory is asked for one step ahead.
//!
//! The backward kernel is the mirror image: a unit for each pair of a gate and a hidden value,
//! which sums what the gate passes on to the value; deltas in shared memory; two barriers.
//!
//! `variant.rs` chooses from the adapter's limits; where a workgroup cannot have `4 hidden` units
//! (hidden above 256 on most GPUs, above 64 where only WebGPU's defaults are granted), `composed.rs`
//! runs in its place.
//!
//! # How fast it can be
//!
//! Per layer and direction, with T steps, batch B, hidden H, on an H200 (132 multiprocessors at
//! 1.98 GHz, 128 FMA each per cycle, 67 TFLOP/s in f32, 4.8 TB/s):
//!
//! - operations: `8 T B H²`, 5.6 GFLOP at (168, 1,024, 64): 84 µs;
//! - bytes, when training: 4 H read and 6 H written per window and step forward, 6 H read and 4 H
//!   written backward: 440 MB, 92 µs;
//! - latency: a step is 64 FMA per unit and row in four chains, some 16 broadcasts, an exponential, a
//!   division, two barriers and the state's update: by count 550 to 700 cycles for one row, so about
//!   55 µs for 168 steps at batch 64, where neither operations (5 µs) nor bytes (6 µs) matter; 320
//!   cycles more for each further pair of rows.
//!
//! At batch 1,024 a multiprocessor has two workgroups of 4 rows: 8 rows × 8 warps × (64 + 16)
//! instructions on 4 schedulers make 1,280 cycles a step, 110 µs. So the four layers' kernels take
//! about 0.25 ms forward and 0.3 ms backward at batch 64, 0.4 and 0.5 ms at 1,024, and the products
//! around them some 0.2 and 1 ms. These are estimates: the kernels have run on a software
//! rasteriser only.

mod kernels;
mod variant;

use burn::{
    backend::{Cube, TensorMetadata, ops::FloatTensorOps, tensor::FloatTensor},
    tensor::{DType, FloatDType, Shape, Slice},
};
use burn_cubecl::{
    cubecl::prelude::{CubeCount, CubeDim},
    kernel::into_contiguous,
    ops::numeric::empty_device_contiguous_dtype,
};

use super::fused::Sizes;
use variant::{Limits, Variant};

type Floats = FloatTensor<Cube>;

/// What the backward pass needs of the forward pass; `hidden` is padded to a multiple of 4.
#[derive(Clone, Debug)]
pub struct Trace {
    variant: Variant,
    /// `[steps, batch, 4 hidden]`, activated.
    gates: Floats,
    /// `[steps, batch, hidden]`.
    cells: Floats,
}

/// The variant for a layer on the device of `input`, if there is one.
pub(super) fn variant(sizes: Sizes, input: &Floats) -> Option<Variant> {
    let hardware = &input.client.properties().hardware;
    let limits = Limits {
        units: hardware.max_units_per_cube.min(hardware.max_cube_dim.0) as usize,
        shared_bytes: hardware.max_shared_memory_size,
        workgroups: hardware.max_cube_count.0 as usize,
    };
    let variant = Variant::new(limits, sizes.hidden, sizes.batch)?;
    (input.dtype() == DType::F32)
        .then_some(Variant { constant_input: sizes.constant_input, ..variant })
}

/// See [`super::LstmOps::lstm_sequence`]. There is a trace where `keep` is set.
pub(super) fn forward(
    sizes: Sizes,
    variant: Variant,
    (input, weight, bias): (Floats, Floats, Floats),
    keep: bool,
) -> (Floats, Option<Trace>) {
    let Sizes { steps, batch, inputs, hidden, .. } = sizes;
    let variant = Variant { keep, ..variant };
    let padded = variant.hidden;
    let pad = padded - hidden;
    let input_steps = input.shape()[0];
    let flat = Cube::float_reshape(input, Shape::new([input_steps * batch, inputs]));
    let by_input = pad_gates(rows(&weight, 0..inputs), hidden, pad);
    let projected = Cube::float_matmul(flat, by_input);
    let bias = pad_gates(Cube::float_reshape(bias, Shape::new([1, 4 * hidden])), hidden, pad);
    // [hidden / 4, 4, 4 hidden] -> [hidden / 4, 4 hidden, 4]
    let quads = Shape::new([padded / 4, 4, 4 * padded]);
    let quads = Cube::float_reshape(recurrent(sizes, variant, &weight), quads);
    let quads = Cube::float_permute(quads, &[0, 2, 1]);

    let kept = if keep { [steps, batch] } else { [1, 1] };
    let output = like(&projected, [steps, batch, padded]);
    let gates = like(&projected, [kept[0], kept[1], 4 * padded]);
    let cells = like(&projected, [kept[0], kept[1], padded]);
    let client = projected.client.clone();
    // SAFETY: the buffers have the shapes that the kernel's documentation asks for, all contiguous;
    // it guards or clamps every window past the batch, and `Variant::new` saw to it that the
    // workgroup and its shared memory are within the device's limits.
    unsafe {
        kernels::forward_kernel::launch_unchecked(
            &client,
            CubeCount::Static(variant.workgroups(batch) as u32, 1, 1),
            CubeDim::new_1d(variant.units() as u32),
            into_contiguous(projected).into_buffer_arg(),
            into_contiguous(bias).into_buffer_arg(),
            into_contiguous(quads).into_buffer_arg(),
            output.clone().into_buffer_arg(),
            gates.clone().into_buffer_arg(),
            cells.clone().into_buffer_arg(),
            steps as u32,
            batch as u32,
            variant,
        );
    }
    let output = narrow(output, hidden);
    (output, keep.then_some(Trace { variant, gates, cells }))
}

/// Gradients by input (where asked for), weight and bias.
pub(super) fn gradients(
    sizes: Sizes,
    (input, weight): (Floats, Floats),
    output: Floats,
    trace: Trace,
    grad: Floats,
    need_input: bool,
) -> (Option<Floats>, Floats, Floats) {
    let Sizes { steps, batch, inputs, hidden, constant_input } = sizes;
    let (deltas, summed) = walk_back(sizes, &weight, trace, grad);
    let by_bias =
        Cube::float_reshape(Cube::float_sum_dim(summed.clone(), 0), Shape::new([4 * hidden]));

    let none = Cube::float_zeros(Shape::new([1, batch, hidden]), &output.device, FloatDType::F32);
    let before = if steps > 1 {
        let all = [0..steps - 1, 0..batch, 0..hidden].map(Slice::from);
        Cube::float_cat(vec![none, Cube::float_slice(output, &all)], 0)
    } else {
        none
    };
    let by_recurrent = product_over_steps(before, deltas.clone());
    let shape = input.shape();
    // A constant input meets the sum of all steps' gradients.
    let (by_projection, by_input_rows) = if constant_input {
        let flat = Cube::float_reshape(input, Shape::new([batch, inputs]));
        let product = Cube::float_matmul(Cube::float_swap_dims(flat, 0, 1), summed.clone());
        (summed, product)
    } else {
        let product = product_over_steps(input, deltas.clone());
        (Cube::float_reshape(deltas, Shape::new([steps * batch, 4 * hidden])), product)
    };
    let by_input = need_input.then(|| {
        let turned = Cube::float_swap_dims(rows(&weight, 0..inputs), 0, 1);
        Cube::float_reshape(Cube::float_matmul(by_projection, turned), shape)
    });
    (by_input, Cube::float_cat(vec![by_input_rows, by_recurrent], 0), by_bias)
}

/// Gradients by the gates before activation, `[steps, batch, 4 hidden]`, and their sum over the
/// steps, `[batch, 4 hidden]`.
fn walk_back(sizes: Sizes, weight: &Floats, trace: Trace, grad: Floats) -> (Floats, Floats) {
    let Sizes { steps, batch, hidden, .. } = sizes;
    let Trace { variant, gates, cells } = trace;
    let padded = variant.hidden;
    let grad = pad_last(grad, padded - hidden);
    // [hidden, 4, hidden / 4, 4] -> [4, hidden / 4, hidden, 4]
    let quads = Shape::new([padded, 4, padded / 4, 4]);
    let quads = Cube::float_reshape(recurrent(sizes, variant, weight), quads);
    let quads = Cube::float_permute(quads, &[1, 2, 0, 3]);
    let deltas = like(&grad, [steps, batch, 4, padded]);
    let summed = like(&grad, [batch, 4, padded]);
    let client = grad.client.clone();
    // SAFETY: as in `forward`.
    unsafe {
        kernels::backward_kernel::launch_unchecked(
            &client,
            CubeCount::Static(variant.workgroups(batch) as u32, 1, 1),
            CubeDim::new_1d(variant.units() as u32),
            gates.into_buffer_arg(),
            cells.into_buffer_arg(),
            into_contiguous(grad).into_buffer_arg(),
            into_contiguous(quads).into_buffer_arg(),
            deltas.clone().into_buffer_arg(),
            summed.clone().into_buffer_arg(),
            steps as u32,
            batch as u32,
            variant,
        );
    }
    let columns = 4 * hidden;
    (
        Cube::float_reshape(narrow(deltas, hidden), Shape::new([steps, batch, columns])),
        Cube::float_reshape(narrow(summed, hidden), Shape::new([batch, columns])),
    )
}

/// Sums the products of `left`, `[steps, batch, m]`, transposed, and `right`, `[steps, batch, n]`,
/// over steps and batch: `[m, n]`. The long sum is cut into groups of steps that are summed side by
/// side: one small product would leave most of a large GPU idle.
fn product_over_steps(left: Floats, right: Floats) -> Floats {
    let (left_shape, right_shape) = (left.shape(), right.shape());
    let (steps, batch) = (left_shape[0], left_shape[1]);
    let (m, n) = (left_shape[2], right_shape[2]);
    let groups = groups_of_steps(steps, batch, m);
    let terms = steps / groups * batch;
    let left = Cube::float_reshape(left, Shape::new([groups, terms, m]));
    let right = Cube::float_reshape(right, Shape::new([groups, terms, n]));
    let parts = Cube::float_matmul(Cube::float_swap_dims(left, 1, 2), right);
    Cube::float_reshape(Cube::float_sum_dim(parts, 0), Shape::new([m, n]))
}

/// The least divisor of `steps` that makes 16 groups or more, where their sums, `m` rows each, are
/// no larger than what is summed; else 1.
fn groups_of_steps(steps: usize, batch: usize, m: usize) -> usize {
    let most = (steps * batch / m).min(steps);
    (16.min(most).max(1)..=most).find(|groups| steps.is_multiple_of(*groups)).unwrap_or(1)
}

/// The recurrent part of a weight, padded: `[hidden, 4 hidden]`.
fn recurrent(sizes: Sizes, variant: Variant, weight: &Floats) -> Floats {
    let Sizes { inputs, hidden, .. } = sizes;
    let pad = variant.hidden - hidden;
    let weight = pad_gates(rows(weight, inputs..inputs + hidden), hidden, pad);
    if pad == 0 {
        return weight;
    }
    let none = zeros_like(&weight, [pad, 4 * variant.hidden]);
    Cube::float_cat(vec![weight, none], 0)
}

/// `[n, 4 hidden]` -> `[n, 4 (hidden + pad)]`. A hidden value without weights and bias stays 0.
fn pad_gates(tensor: Floats, hidden: usize, pad: usize) -> Floats {
    let n = tensor.shape()[0];
    let by_gate = Cube::float_reshape(tensor, Shape::new([n, 4, hidden]));
    Cube::float_reshape(pad_last(by_gate, pad), Shape::new([n, 4 * (hidden + pad)]))
}

/// `[a, b, c]` -> `[a, b, c + pad]`, with zeros.
fn pad_last(tensor: Floats, pad: usize) -> Floats {
    if pad == 0 {
        return tensor;
    }
    let shape = tensor.shape();
    let none = zeros_like(&tensor, [shape[0], shape[1], pad]);
    Cube::float_cat(vec![tensor, none], 2)
}

/// The first `len` places of the last dimension.
fn narrow(tensor: Floats, len: usize) -> Floats {
    let shape = tensor.shape();
    let last = shape.num_dims() - 1;
    if shape[last] == len {
        return tensor;
    }
    let mut slices: Vec<Slice> = (0..last).map(|dim| Slice::from(0..shape[dim])).collect();
    slices.push(Slice::from(0..len));
    Cube::float_slice(tensor, &slices)
}

fn rows(matrix: &Floats, rows: std::ops::Range<usize>) -> Floats {
    let width = matrix.shape()[1];
    Cube::float_slice(matrix.clone(), &[Slice::from(rows), Slice::from(0..width)])
}

fn zeros_like<const D: usize>(tensor: &Floats, shape: [usize; D]) -> Floats {
    Cube::float_zeros(Shape::new(shape), &tensor.device, FloatDType::F32)
}

/// A contiguous buffer without values, on the device of `tensor`.
fn like<const D: usize>(tensor: &Floats, shape: [usize; D]) -> Floats {
    let (client, device) = (tensor.client.clone(), tensor.device.clone());
    empty_device_contiguous_dtype(client, device, Shape::new(shape), DType::F32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_cut_into_equal_groups() {
        assert_eq!(groups_of_steps(168, 64, 64), 21);
        assert_eq!(groups_of_steps(336, 256, 128), 16);
        assert_eq!(groups_of_steps(167, 64, 64), 167);
        assert_eq!(groups_of_steps(6, 64, 64), 6);
        assert_eq!(groups_of_steps(168, 1, 64), 2);
        assert_eq!(groups_of_steps(1, 1, 64), 1);
    }
}
