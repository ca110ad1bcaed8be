//! The same LSTM out of a backend's own tensor operations: what a GPU runs where `persistent/` does
//! not fit its limits.
//!
//! The input of all steps is projected in one product; then each step takes one product for all
//! four gates. Nothing is recorded per step for automatic differentiation, and the output is put
//! together once, at the end. The backward pass is written by hand, as in `fused.rs`, with the
//! weight gradients of all steps in one product.

use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor};
use burn::tensor::{Shape, Slice};

use super::fused::Sizes;

/// One step, as the backward pass needs it; every tensor is `[batch, hidden]`.
#[derive(Clone, Debug)]
struct Step<B: Backend> {
    /// Activated gates: input, forget, candidate, output.
    gates: [FloatTensor<B>; 4],
    cell: FloatTensor<B>,
    hidden: FloatTensor<B>,
}

/// What the backward pass needs of the forward pass.
#[derive(Clone, Debug)]
pub struct Trace<B: Backend>(Vec<Step<B>>);

/// See [`super::LstmOps::lstm_sequence`]. The trace is empty unless `keep` is set.
pub(super) fn forward<B: Backend>(
    sizes: Sizes,
    input: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    keep: bool,
) -> (FloatTensor<B>, Trace<B>) {
    let Sizes { steps, batch, inputs, hidden, constant_input } = sizes;
    let input_steps = if constant_input { 1 } else { steps };
    let flat = B::float_reshape(input, Shape::new([input_steps * batch, inputs]));
    let projected = B::float_add(
        B::float_matmul(flat, rows::<B>(&weight, 0..inputs)),
        B::float_reshape(bias, Shape::new([1, 4 * hidden])),
    );
    let recurrent = rows::<B>(&weight, inputs..inputs + hidden);
    let mut kept = Vec::new();
    let mut outputs = Vec::with_capacity(steps);
    let mut state: Option<(FloatTensor<B>, FloatTensor<B>)> = None;
    for step in 0..steps {
        let at = if constant_input { 0 } else { step };
        let mut before = rows::<B>(&projected, at * batch..(at + 1) * batch);
        if let Some((hidden, _)) = &state {
            before = B::float_add(before, B::float_matmul(hidden.clone(), recurrent.clone()));
        }
        let part = |gate: usize| columns::<B>(&before, gate * hidden..(gate + 1) * hidden);
        let gates =
            [B::sigmoid(part(0)), B::sigmoid(part(1)), B::float_tanh(part(2)), B::sigmoid(part(3))];
        let mut cell = B::float_mul(gates[0].clone(), gates[2].clone());
        if let Some((_, previous)) = state {
            cell = B::float_add(cell, B::float_mul(gates[1].clone(), previous));
        }
        let bent = B::float_tanh(cell.clone());
        let new_hidden = B::float_mul(gates[3].clone(), bent);
        outputs.push(B::float_reshape(new_hidden.clone(), Shape::new([1, batch, hidden])));
        if keep {
            kept.push(Step { gates, cell: cell.clone(), hidden: new_hidden.clone() });
        }
        state = Some((new_hidden, cell));
    }
    (B::float_cat(outputs, 0), Trace(kept))
}

/// Gradients by input (where asked for), weight and bias.
pub(super) fn gradients<B: Backend>(
    sizes: Sizes,
    (input, weight): (FloatTensor<B>, FloatTensor<B>),
    trace: Trace<B>,
    grad: FloatTensor<B>,
    need_input: bool,
) -> (Option<FloatTensor<B>>, FloatTensor<B>, FloatTensor<B>) {
    let Sizes { steps, batch, inputs, hidden, constant_input } = sizes;
    let grad = B::float_reshape(grad, Shape::new([steps * batch, hidden]));
    let recurrent = B::float_swap_dims(rows::<B>(&weight, inputs..inputs + hidden), 0, 1);
    let mut deltas = Vec::with_capacity(steps);
    let mut later: Option<(FloatTensor<B>, FloatTensor<B>)> = None;
    for (at, step) in trace.0.iter().enumerate().rev() {
        let mut by_hidden = rows::<B>(&grad, at * batch..(at + 1) * batch);
        let mut from_later = None;
        if let Some((delta, by_cell)) = later {
            by_hidden = B::float_add(by_hidden, B::float_matmul(delta, recurrent.clone()));
            from_later = Some(by_cell);
        }
        let before = at.checked_sub(1).map(|before| trace.0[before].cell.clone());
        let (delta, by_cell) = differentiate::<B>(step, before, by_hidden, from_later);
        deltas.push(delta.clone());
        later = Some((delta, by_cell));
    }
    deltas.reverse();
    let joined = B::float_cat(deltas, 0);
    let by_bias = B::float_reshape(B::float_sum_dim(joined.clone(), 0), Shape::new([4 * hidden]));
    let by_recurrent = if steps > 1 {
        let states = trace.0[..steps - 1].iter().map(|step| step.hidden.clone()).collect();
        let states = B::float_swap_dims(B::float_cat(states, 0), 0, 1);
        B::float_matmul(states, rows::<B>(&joined, batch..steps * batch))
    } else {
        let rows = rows::<B>(&weight, inputs..inputs + hidden);
        B::float_mul_scalar(rows, 0.0f32.into())
    };
    // A constant input meets the sum of all steps' gradients.
    let by_projection = if constant_input {
        let all = B::float_reshape(joined, Shape::new([steps, batch, 4 * hidden]));
        B::float_reshape(B::float_sum_dim(all, 0), Shape::new([batch, 4 * hidden]))
    } else {
        joined
    };
    let shape = input.shape();
    let flat = B::float_reshape(input, Shape::new([shape.num_elements() / inputs, inputs]));
    let by_weight = B::float_matmul(B::float_swap_dims(flat, 0, 1), by_projection.clone());
    let by_input = need_input.then(|| {
        let turned = B::float_swap_dims(rows::<B>(&weight, 0..inputs), 0, 1);
        B::float_reshape(B::float_matmul(by_projection, turned), shape)
    });
    (by_input, B::float_cat(vec![by_weight, by_recurrent], 0), by_bias)
}

/// Gradients by the gates before activation, `[batch, 4 hidden]`, and by the cell before.
fn differentiate<B: Backend>(
    step: &Step<B>,
    cell_before: Option<FloatTensor<B>>,
    by_hidden: FloatTensor<B>,
    by_cell_from_later: Option<FloatTensor<B>>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let [i, f, g, o] = step.gates.clone();
    let bent = B::float_tanh(step.cell.clone());
    let through_output = B::float_mul(by_hidden.clone(), o.clone());
    let mut by_cell = B::float_mul(through_output, one_minus_square::<B>(bent.clone()));
    if let Some(later) = by_cell_from_later {
        by_cell = B::float_add(by_cell, later);
    }
    let by_input = B::float_mul(B::float_mul(by_cell.clone(), g.clone()), slope::<B>(i.clone()));
    let by_forget = match cell_before {
        Some(before) => B::float_mul(B::float_mul(by_cell.clone(), before), slope::<B>(f.clone())),
        None => B::float_mul_scalar(f.clone(), 0.0f32.into()),
    };
    let by_candidate = B::float_mul(B::float_mul(by_cell.clone(), i), one_minus_square::<B>(g));
    let by_output = B::float_mul(B::float_mul(by_hidden, bent), slope::<B>(o));
    let delta = B::float_cat(vec![by_input, by_forget, by_candidate, by_output], 1);
    (delta, B::float_mul(by_cell, f))
}

/// y - y², the slope of the logistic function at its value y.
fn slope<B: Backend>(value: FloatTensor<B>) -> FloatTensor<B> {
    B::float_sub(value.clone(), B::float_mul(value.clone(), value))
}

/// 1 - y², the slope of tanh at its value y.
fn one_minus_square<B: Backend>(value: FloatTensor<B>) -> FloatTensor<B> {
    let square = B::float_mul(value.clone(), value);
    B::float_add_scalar(B::float_neg(square), 1.0f32.into())
}

fn rows<B: Backend>(matrix: &FloatTensor<B>, rows: std::ops::Range<usize>) -> FloatTensor<B> {
    let width = matrix.shape()[1];
    B::float_slice(matrix.clone(), &[Slice::from(rows), Slice::from(0..width)])
}

fn columns<B: Backend>(matrix: &FloatTensor<B>, columns: std::ops::Range<usize>) -> FloatTensor<B> {
    let height = matrix.shape()[0];
    B::float_slice(matrix.clone(), &[Slice::from(0..height), Slice::from(columns)])
}
