//! The backward pass on the CPU: back-propagation through time (Werbos 1990) for the LSTM of
//! Hochreiter and Schmidhuber (1997) with the forget gate of Gers et al. (2000).
//!
//! It needs the activated gates and the cells of every step; tanh of a cell is computed again
//! instead of kept. Chunks, threads and instruction sets are those of `fused.rs`.

use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use super::gemm::{Avx, Avx512};
use super::{
    activation::{each, tanh},
    fused::{CHUNK, Sizes, Trace, Weights, join_chunks, per_instruction_set},
    gemm::{
        LANES, Panels, Portable, Rows, Start, Sums, add_transposed_product, block, multiply, put,
    },
};

/// The gradients of a loss by a layer's input and weights.
#[derive(Debug)]
pub(super) struct Gradients {
    /// As the input; empty where it was not asked for.
    pub(super) input: Vec<f32>,
    /// `[inputs + hidden, 4 * hidden]`.
    pub(super) weight: Vec<f32>,
    /// `[4 * hidden]`.
    pub(super) bias: Vec<f32>,
}

/// Back-propagates `grad`, `[steps, batch, hidden]`, the gradient of the loss by the output.
pub(super) fn gradients(
    sizes: Sizes,
    (input, weight): (&[f32], &[f32]),
    output: &[f32],
    trace: &Trace,
    grad: &[f32],
    need_input: bool,
) -> Gradients {
    let Sizes { steps, batch, inputs, hidden, .. } = sizes;
    let gates = sizes.gates();
    assert!(grad.len() == steps * batch * hidden && output.len() == grad.len());
    assert!(trace.gates.len() == steps * batch * gates);
    let weights = Weights {
        input: Panels::transposed(&weight[..inputs * gates], gates, inputs),
        recurrent: Panels::transposed(&weight[inputs * gates..], gates, hidden),
    };
    let parts: Vec<Gradients> = trace
        .gates
        .par_chunks(steps * CHUNK * gates)
        .zip(trace.cells.par_chunks(steps * CHUNK * hidden))
        .enumerate()
        .map(|(chunk, (gates, cells))| {
            let first = chunk * CHUNK;
            let backward = BackwardChunk {
                sizes,
                first,
                input,
                output,
                weights: &weights,
                gates,
                cells,
                grad,
            };
            chunk_gradients(&backward, need_input)
        })
        .collect();
    let mut total =
        Gradients { input: Vec::new(), weight: vec![0.0; weight.len()], bias: vec![0.0; gates] };
    let mut by_chunk = Vec::with_capacity(parts.len());
    for part in parts {
        add(&mut total.weight, &part.weight);
        add(&mut total.bias, &part.bias);
        by_chunk.push(part.input);
    }
    if need_input {
        let input_steps = if sizes.constant_input { 1 } else { steps };
        total.input = join_chunks(by_chunk, input_steps, batch, inputs);
    }
    total
}

fn add(total: &mut [f32], part: &[f32]) {
    for (sum, value) in total.iter_mut().zip(part) {
        *sum += value;
    }
}

struct BackwardChunk<'a> {
    sizes: Sizes,
    first: usize,
    input: &'a [f32],
    output: &'a [f32],
    weights: &'a Weights,
    gates: &'a [f32],
    cells: &'a [f32],
    grad: &'a [f32],
}

per_instruction_set!(backward_chunk, backward_rows, (&BackwardChunk<'_>, &mut Gradients));

/// Steps whose gradients are kept before they become weight gradients, in one product.
const BLOCK: usize = 16;

fn chunk_gradients(chunk: &BackwardChunk<'_>, need_input: bool) -> Gradients {
    let Sizes { steps, inputs, hidden, constant_input, .. } = chunk.sizes;
    let (gates, rows) = (chunk.sizes.gates(), chunk.sizes.rows(chunk.first));
    let input_steps = if constant_input { 1 } else { steps };
    let mut found = Gradients {
        input: vec![0.0; if need_input { input_steps * rows * inputs } else { 0 }],
        weight: vec![0.0; (inputs + hidden) * gates],
        bias: vec![0.0; gates],
    };
    backward_chunk((chunk, &mut found));
    found
}

/// Gradients by the gates before activation of a few steps, and what the gates saw.
struct Block<'a> {
    chunk: &'a BackwardChunk<'a>,
    /// `[step in block][row][4 * hidden]`.
    deltas: Vec<f32>,
    /// `[step in block][row][input | hidden state of the step before]`; without the input where
    /// that is constant.
    seen: Vec<f32>,
    /// The sum over all steps, where the input is constant: `[row][4 * hidden]`.
    summed: Vec<f32>,
}

impl<'a> Block<'a> {
    fn new(chunk: &'a BackwardChunk<'a>) -> Self {
        let sizes = chunk.sizes;
        let (gates, rows) = (sizes.gates(), sizes.rows(chunk.first));
        Self {
            chunk,
            deltas: vec![0.0; BLOCK * rows * gates],
            seen: Vec::with_capacity(BLOCK * rows * (sizes.inputs + sizes.hidden)),
            summed: vec![0.0; if sizes.constant_input { rows * gates } else { 0 }],
        }
    }

    /// Turns the gradients of `steps`, which lie at the front of `deltas`, into weight gradients.
    fn finish(&mut self, steps: std::ops::Range<usize>, found: &mut Gradients) {
        let Sizes { batch, inputs, hidden, constant_input, .. } = self.chunk.sizes;
        let (gates, rows) = (self.chunk.sizes.gates(), self.chunk.sizes.rows(self.chunk.first));
        let deltas = &self.deltas[..steps.len() * rows * gates];
        for row in deltas.chunks_exact(gates) {
            add(&mut found.bias, row);
        }
        self.seen.clear();
        for step in steps {
            for window in self.chunk.first..self.chunk.first + rows {
                if !constant_input {
                    let at = (step * batch + window) * inputs;
                    self.seen.extend_from_slice(&self.chunk.input[at..at + inputs]);
                }
                if step == 0 {
                    self.seen.resize(self.seen.len() + hidden, 0.0);
                } else {
                    let at = ((step - 1) * batch + window) * hidden;
                    self.seen.extend_from_slice(&self.chunk.output[at..at + hidden]);
                }
            }
        }
        if constant_input {
            for step in deltas.chunks_exact(rows * gates) {
                add(&mut self.summed, step);
            }
            let by_hidden = &mut found.weight[inputs * gates..];
            add_transposed_product(&self.seen, deltas, hidden, gates, by_hidden);
        } else {
            let width = inputs + hidden;
            add_transposed_product(&self.seen, deltas, width, gates, &mut found.weight);
        }
    }

    /// The part of a constant input, which meets the sum of all steps' gradients.
    fn finish_constant_input(&self, found: &mut Gradients) {
        let Sizes { inputs, .. } = self.chunk.sizes;
        let (gates, rows) = (self.chunk.sizes.gates(), self.chunk.sizes.rows(self.chunk.first));
        let first = self.chunk.first * inputs;
        let x = &self.chunk.input[first..first + rows * inputs];
        let by_input = &mut found.weight[..inputs * gates];
        add_transposed_product(x, &self.summed, inputs, gates, by_input);
    }
}

/// # Safety
/// The processor has what `S` needs.
#[inline(always)]
unsafe fn backward_rows<S: Sums, const TILE: usize, const WIDE: usize, const FMA: bool>(
    (chunk, found): (&BackwardChunk<'_>, &mut Gradients),
) {
    let Sizes { steps, batch, inputs, hidden, constant_input } = chunk.sizes;
    let (gates, rows) = (chunk.sizes.gates(), chunk.sizes.rows(chunk.first));
    let width = rows * hidden;
    let zeros = vec![0.0f32; width];
    let mut by_hidden = vec![0.0f32; width];
    let mut by_cell = vec![0.0f32; width];
    let mut block = Block::new(chunk);
    for step in (0..steps).rev() {
        let cells = &chunk.cells[step * width..(step + 1) * width];
        let before =
            if step == 0 { &zeros[..] } else { &chunk.cells[(step - 1) * width..step * width] };
        let grad = &chunk.grad[(step * batch + chunk.first) * hidden..][..width];
        let activated = &chunk.gates[step * rows * gates..(step + 1) * rows * gates];
        // Blocks are aligned to multiples of their length, so that each ends at its first step.
        let in_block = step % BLOCK;
        let delta = &mut block.deltas[in_block * rows * gates..(in_block + 1) * rows * gates];
        for row in 0..rows {
            let at = row * hidden..(row + 1) * hidden;
            let seen = Step {
                gates: &activated[row * gates..(row + 1) * gates],
                cell: &cells[at.clone()],
                cell_before: &before[at.clone()],
                grad: &grad[at.clone()],
                by_hidden: &by_hidden[at.clone()],
            };
            let delta = &mut delta[row * gates..(row + 1) * gates];
            // SAFETY: the caller answers for the processor.
            unsafe { differentiate::<S, FMA>(seen, &mut by_cell[at], delta) };
        }
        let delta = Rows { data: delta, stride: gates };
        if step > 0 {
            let part = (delta, &chunk.weights.recurrent);
            // SAFETY: the caller answers for the processor.
            unsafe { multiply::<S, TILE, WIDE, 1>([part], Start::Zero, rows, &mut by_hidden) };
        }
        if !found.input.is_empty() && !constant_input {
            let out = &mut found.input[step * rows * inputs..(step + 1) * rows * inputs];
            let part = (delta, &chunk.weights.input);
            // SAFETY: the caller answers for the processor.
            unsafe { multiply::<S, TILE, WIDE, 1>([part], Start::Zero, rows, out) };
        }
        if in_block == 0 {
            block.finish(step..(step + BLOCK).min(steps), found);
        }
    }
    if constant_input {
        block.finish_constant_input(found);
    }
    if !found.input.is_empty() && constant_input {
        let part = (Rows { data: &block.summed, stride: gates }, &chunk.weights.input);
        // SAFETY: the caller answers for the processor.
        unsafe { multiply::<S, TILE, WIDE, 1>([part], Start::Zero, rows, &mut found.input) };
    }
}

/// One row of one step, as the backward pass needs it.
struct Step<'a> {
    gates: &'a [f32],
    cell: &'a [f32],
    cell_before: &'a [f32],
    /// Gradient by this step's output, from outside the layer.
    grad: &'a [f32],
    /// Gradient by this step's output, from the next step.
    by_hidden: &'a [f32],
}

/// Gradients below this are no gradients: they are 17 digits below what an optimiser tells from
/// nothing. Those that vanish on their way back through time would otherwise become subnormal
/// numbers, with which a processor is ten times slower.
const SMALLEST: f32 = 1e-25;

/// Gradient by the gates before activation; `by_cell` goes in as the gradient by this step's cell
/// from the next step and comes out as the gradient by the cell before.
///
/// # Safety
/// The processor has what `S` needs.
#[inline(always)]
unsafe fn differentiate<S: Sums, const FMA: bool>(
    step: Step<'_>,
    by_cell: &mut [f32],
    delta: &mut [f32],
) {
    let n = by_cell.len();
    let (input, rest) = step.gates.split_at(n);
    let (forget, rest) = rest.split_at(n);
    let (candidate, output) = rest.split_at(n);
    let (by_input, rest) = delta.split_at_mut(n);
    let (by_forget, rest) = rest.split_at_mut(n);
    let (by_candidate, by_output) = rest.split_at_mut(n);
    for at in (0..n).step_by(LANES) {
        let (i, f) = (block(input, at), block(forget, at));
        let (g, o) = (block(candidate, at), block(output, at));
        let (cell, before) = (block(step.cell, at), block(step.cell_before, at));
        let (grad, by_hidden) = (block(step.grad, at), block(step.by_hidden, at));
        // SAFETY: the caller answers for the processor.
        let bent = unsafe { each::<S>(&cell, tanh::<FMA>) };
        let mut by_c = block(by_cell, at);
        let mut by_i = [0.0; LANES];
        let mut by_f = [0.0; LANES];
        let mut by_g = [0.0; LANES];
        let mut by_o = [0.0; LANES];
        for l in 0..LANES {
            let by_h = flushed(grad[l] + by_hidden[l]);
            by_c[l] = flushed(by_c[l] + by_h * o[l] * (1.0 - bent[l] * bent[l]));
            by_i[l] = by_c[l] * g[l] * i[l] * (1.0 - i[l]);
            by_f[l] = by_c[l] * before[l] * f[l] * (1.0 - f[l]);
            by_g[l] = by_c[l] * i[l] * (1.0 - g[l] * g[l]);
            by_o[l] = by_h * bent[l] * o[l] * (1.0 - o[l]);
            by_c[l] *= f[l];
        }
        put(by_input, at, &by_i);
        put(by_forget, at, &by_f);
        put(by_candidate, at, &by_g);
        put(by_output, at, &by_o);
        put(by_cell, at, &by_c);
    }
}

#[inline(always)]
fn flushed(gradient: f32) -> f32 {
    if gradient.abs() < SMALLEST { 0.0 } else { gradient }
}
