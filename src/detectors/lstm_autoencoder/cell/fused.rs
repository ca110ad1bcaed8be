//! The LSTM over all steps of a batch, forward and backward, on the CPU.
//!
//! A framework that records one graph node per gate and step spends most of its time on
//! book-keeping: buffers, copies, products of a few hundred numbers. Here one call runs the whole
//! sequence. The batch is cut into chunks of [`CHUNK`] windows; a chunk's state and the weights
//! stay in the second-level cache while it runs through time; chunks go to the threads of the
//! rayon pool. A chunk's arithmetic does not depend on the thread that runs it, and partial weight
//! gradients are added in the order of the chunks, so the result is the same, bit for bit,
//! whatever the number of threads.
//!
//! Everything is time-major: `[step, window, value]`. The gates of a row lie as
//! `[input | forget | candidate | output]`, each `hidden` wide.
//!
//! The backward pass is back-propagation through time (Werbos 1990) for the LSTM of Hochreiter
//! and Schmidhuber (1997) with the forget gate of Gers et al. (2000). It needs the activated gates
//! and the cells of every step; tanh of a cell is computed again instead of kept.

#[cfg(target_arch = "x86_64")]
use super::gemm::{Avx, Avx512};
use rayon::prelude::*;

use super::{
    activation::{sigmoid, tanh},
    gemm::{
        LANES, Panels, Portable, Rows, Start, Sums, add_transposed_product, block, multiply, put,
    },
};

/// Windows per chunk. A constant: results must not depend on the machine's thread count.
const CHUNK: usize = 16;

/// The sizes of one layer's run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) steps: usize,
    pub(super) batch: usize,
    pub(super) inputs: usize,
    pub(super) hidden: usize,
    /// One input `[1, batch, inputs]` for every step, instead of one per step.
    pub(super) constant_input: bool,
}

impl Sizes {
    fn gates(&self) -> usize {
        4 * self.hidden
    }
    fn input_len(&self) -> usize {
        let steps = if self.constant_input { 1 } else { self.steps };
        steps * self.batch * self.inputs
    }
    /// Windows of the chunk that begins at window `first`.
    fn rows(&self, first: usize) -> usize {
        CHUNK.min(self.batch - first)
    }
    /// The rows of the input at `step`, from window `first` on.
    fn input_at<'a>(&self, input: &'a [f32], step: usize, first: usize) -> Rows<'a> {
        let step = if self.constant_input { 0 } else { step };
        let data = &input[(step * self.batch + first) * self.inputs..];
        Rows { data, stride: self.inputs }
    }
}

/// What the backward pass needs of the forward pass, chunk by chunk: `[chunk][step][row][..]`.
#[derive(Debug)]
pub struct Trace {
    /// Activated gates, `4 * hidden` per row.
    pub(super) gates: Vec<f32>,
    /// Cells, `hidden` per row.
    pub(super) cells: Vec<f32>,
}

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

/// Runs the layer. `input` is `[steps or 1, batch, inputs]`, `weight` `[inputs + hidden, 4 hidden]`
/// (input rows first), `bias` `[4 hidden]`; the output is `[steps, batch, hidden]`. With `keep`,
/// also what [`gradients`] needs.
pub(super) fn forward(
    sizes: Sizes,
    input: &[f32],
    weight: &[f32],
    bias: &[f32],
    keep: bool,
) -> (Vec<f32>, Trace) {
    let Sizes { steps, batch, inputs, hidden, .. } = sizes;
    let gates = sizes.gates();
    assert!(input.len() == sizes.input_len() && bias.len() == gates);
    assert!(weight.len() == (inputs + hidden) * gates);
    let weights = Weights {
        input: Panels::new(&weight[..inputs * gates], inputs, gates),
        recurrent: Panels::new(&weight[inputs * gates..], hidden, gates),
    };
    let kept = if keep { steps * batch } else { 0 };
    let mut trace = Trace { gates: vec![0.0; kept * gates], cells: vec![0.0; kept * hidden] };
    let run = |first: usize, gates_kept: &mut [f32], cells_kept: &mut [f32]| {
        let mut out = vec![0.0; steps * sizes.rows(first) * hidden];
        let kept = keep.then_some((gates_kept, cells_kept));
        forward_chunk(ForwardChunk {
            sizes,
            first,
            input,
            weights: &weights,
            bias,
            kept,
            out: &mut out,
        });
        out
    };
    let chunks: Vec<Vec<f32>> = if keep {
        trace
            .gates
            .par_chunks_mut(steps * CHUNK * gates)
            .zip(trace.cells.par_chunks_mut(steps * CHUNK * hidden))
            .enumerate()
            .map(|(chunk, (gates_kept, cells_kept))| run(chunk * CHUNK, gates_kept, cells_kept))
            .collect()
    } else {
        let n_chunks = batch.div_ceil(CHUNK);
        (0..n_chunks).into_par_iter().map(|chunk| run(chunk * CHUNK, &mut [], &mut [])).collect()
    };
    (join_chunks(chunks, steps, batch, hidden), trace)
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

/// `[chunk][step][row][width]` -> `[step][window][width]`.
fn join_chunks(mut chunks: Vec<Vec<f32>>, steps: usize, batch: usize, width: usize) -> Vec<f32> {
    if chunks.len() == 1
        && let Some(only) = chunks.pop()
    {
        return only;
    }
    let mut joined = Vec::with_capacity(steps * batch * width);
    for step in 0..steps {
        for chunk in &chunks {
            let len = chunk.len() / steps;
            joined.extend_from_slice(&chunk[step * len..(step + 1) * len]);
        }
    }
    joined
}

fn add(total: &mut [f32], part: &[f32]) {
    for (sum, value) in total.iter_mut().zip(part) {
        *sum += value;
    }
}

struct Weights {
    input: Panels,
    recurrent: Panels,
}

struct ForwardChunk<'a> {
    sizes: Sizes,
    first: usize,
    input: &'a [f32],
    weights: &'a Weights,
    bias: &'a [f32],
    kept: Option<(&'a mut [f32], &'a mut [f32])>,
    out: &'a mut [f32],
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

/// Compiles `$generic` once per instruction set and calls the best that the processor has. The
/// generic function and all it calls are `inline(always)`, so each copy is built from the
/// instructions that its `target_feature` line allows.
macro_rules! per_instruction_set {
    ($name:ident, $generic:ident, $argument:ty) => {
        fn $name(argument: $argument) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
                fn avx512(argument: $argument) {
                    // SAFETY: this function is compiled for what the sums need.
                    unsafe { $generic::<Avx512, 16, true>(argument) }
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2(argument: $argument) {
                    // SAFETY: as above.
                    unsafe { $generic::<Avx, 4, true>(argument) }
                }
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("fma")
                {
                    // SAFETY: the processor has every feature that the function is compiled for.
                    return unsafe { avx512(argument) };
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: as above.
                    return unsafe { avx2(argument) };
                }
            }
            // SAFETY: the portable sums need nothing.
            unsafe { $generic::<Portable, 4, { cfg!(target_arch = "aarch64") }>(argument) }
        }
    };
}

per_instruction_set!(forward_chunk, forward_rows, ForwardChunk<'_>);
per_instruction_set!(backward_chunk, backward_rows, (&BackwardChunk<'_>, &mut Gradients));

/// # Safety
/// The processor has what `S` needs.
#[inline(always)]
unsafe fn forward_rows<S: Sums, const TILE: usize, const FMA: bool>(chunk: ForwardChunk<'_>) {
    let ForwardChunk { sizes, first, input, weights, bias, mut kept, out } = chunk;
    let (hidden, gates, rows) = (sizes.hidden, sizes.gates(), sizes.rows(first));
    let width = rows * hidden;
    let mut scratch = vec![0.0f32; rows * gates];
    let mut cell = vec![0.0f32; width];
    // A constant input is projected once.
    let mut projected = vec![0.0f32; if sizes.constant_input { rows * gates } else { 0 }];
    if sizes.constant_input {
        let part = (sizes.input_at(input, 0, first), &weights.input);
        // SAFETY: the caller answers for the processor.
        unsafe { multiply::<S, TILE, 1>([part], Start::Bias(bias), rows, &mut projected) };
    }
    for step in 0..sizes.steps {
        let (before, after) = out.split_at_mut(step * width);
        let previous = &before[before.len() - if step == 0 { 0 } else { width }..];
        let activated = match &mut kept {
            Some((gates_kept, _)) => {
                &mut gates_kept[step * rows * gates..(step + 1) * rows * gates]
            }
            None => &mut scratch[..],
        };
        let recurrent = (Rows { data: previous, stride: hidden }, &weights.recurrent);
        let current = (sizes.input_at(input, step, first), &weights.input);
        match (sizes.constant_input, step == 0) {
            (true, true) => activated.copy_from_slice(&projected),
            (true, false) => {
                let start = Start::Rows(&projected);
                // SAFETY: the caller answers for the processor.
                unsafe { multiply::<S, TILE, 1>([recurrent], start, rows, activated) };
            }
            (false, true) => {
                // SAFETY: the caller answers for the processor.
                unsafe { multiply::<S, TILE, 1>([current], Start::Bias(bias), rows, activated) };
            }
            (false, false) => {
                let parts = [current, recurrent];
                // SAFETY: the caller answers for the processor.
                unsafe { multiply::<S, TILE, 2>(parts, Start::Bias(bias), rows, activated) };
            }
        }
        for row in 0..rows {
            let at = row * hidden;
            activate::<FMA>(
                &mut activated[row * gates..(row + 1) * gates],
                &mut cell[at..at + hidden],
                &mut after[at..at + hidden],
            );
        }
        if let Some((_, cells_kept)) = &mut kept {
            cells_kept[step * width..(step + 1) * width].copy_from_slice(&cell);
        }
    }
}

/// One row of one step: gates before activation -> activated gates, new cell, new hidden state.
#[inline(always)]
fn activate<const FMA: bool>(gates: &mut [f32], cell: &mut [f32], hidden: &mut [f32]) {
    let n = cell.len();
    let (input, rest) = gates.split_at_mut(n);
    let (forget, rest) = rest.split_at_mut(n);
    let (candidate, output) = rest.split_at_mut(n);
    for at in (0..n).step_by(LANES) {
        let (mut i, mut f) = (block(input, at), block(forget, at));
        let (mut g, mut o) = (block(candidate, at), block(output, at));
        let (mut c, mut h) = (block(cell, at), [0.0; LANES]);
        for l in 0..LANES {
            i[l] = sigmoid::<FMA>(i[l]);
            f[l] = sigmoid::<FMA>(f[l]);
            g[l] = tanh::<FMA>(g[l]);
            o[l] = sigmoid::<FMA>(o[l]);
            c[l] = f[l] * c[l] + i[l] * g[l];
            h[l] = o[l] * tanh::<FMA>(c[l]);
        }
        put(input, at, &i);
        put(forget, at, &f);
        put(candidate, at, &g);
        put(output, at, &o);
        put(cell, at, &c);
        put(hidden, at, &h);
    }
}

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
unsafe fn backward_rows<S: Sums, const TILE: usize, const FMA: bool>(
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
            differentiate::<FMA>(
                Step {
                    gates: &activated[row * gates..(row + 1) * gates],
                    cell: &cells[at.clone()],
                    cell_before: &before[at.clone()],
                    grad: &grad[at.clone()],
                    by_hidden: &by_hidden[at.clone()],
                },
                &mut by_cell[at],
                &mut delta[row * gates..(row + 1) * gates],
            );
        }
        let delta = Rows { data: delta, stride: gates };
        if step > 0 {
            let part = (delta, &chunk.weights.recurrent);
            // SAFETY: the caller answers for the processor.
            unsafe { multiply::<S, TILE, 1>([part], Start::Zero, rows, &mut by_hidden) };
        }
        if !found.input.is_empty() && !constant_input {
            let out = &mut found.input[step * rows * inputs..(step + 1) * rows * inputs];
            let part = (delta, &chunk.weights.input);
            // SAFETY: the caller answers for the processor.
            unsafe { multiply::<S, TILE, 1>([part], Start::Zero, rows, out) };
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
        unsafe { multiply::<S, TILE, 1>([part], Start::Zero, rows, &mut found.input) };
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

/// Gradient by the gates before activation; `by_cell` goes in as the gradient by this step's cell
/// from the next step and comes out as the gradient by the cell before.
#[inline(always)]
fn differentiate<const FMA: bool>(step: Step<'_>, by_cell: &mut [f32], delta: &mut [f32]) {
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
        let mut by_c = block(by_cell, at);
        let mut by_i = [0.0; LANES];
        let mut by_f = [0.0; LANES];
        let mut by_g = [0.0; LANES];
        let mut by_o = [0.0; LANES];
        for l in 0..LANES {
            let bent = tanh::<FMA>(cell[l]);
            let by_h = grad[l] + by_hidden[l];
            by_c[l] += by_h * o[l] * (1.0 - bent * bent);
            by_i[l] = by_c[l] * g[l] * i[l] * (1.0 - i[l]);
            by_f[l] = by_c[l] * before[l] * f[l] * (1.0 - f[l]);
            by_g[l] = by_c[l] * i[l] * (1.0 - g[l] * g[l]);
            by_o[l] = by_h * bent * o[l] * (1.0 - o[l]);
            by_c[l] *= f[l];
        }
        put(by_input, at, &by_i);
        put(by_forget, at, &by_f);
        put(by_candidate, at, &by_g);
        put(by_output, at, &by_o);
        put(by_cell, at, &by_c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_portable_code_gives_what_the_best_instruction_set_gives() {
        let sizes = Sizes { steps: 6, batch: 7, inputs: 3, hidden: 21, constant_input: false };
        let numbers = |n: usize| -> Vec<f32> { (0..n).map(|i| (i as f32 * 0.7).sin()).collect() };
        let (input, weight, bias) = (numbers(6 * 7 * 3), numbers(24 * 84), numbers(84));
        let weights = Weights {
            input: Panels::new(&weight[..3 * 84], 3, 84),
            recurrent: Panels::new(&weight[3 * 84..], 21, 84),
        };
        let run = |forward: fn(ForwardChunk<'_>)| {
            let mut out = vec![0.0; 6 * 7 * 21];
            let (input, bias, out_rows) = (&input[..], &bias[..], &mut out[..]);
            let chunk = ForwardChunk {
                sizes,
                first: 0,
                input,
                weights: &weights,
                bias,
                kept: None,
                out: out_rows,
            };
            forward(chunk);
            out
        };
        // SAFETY: the portable sums need nothing.
        let portable = run(|chunk| unsafe { forward_rows::<Portable, 4, false>(chunk) });
        for (a, b) in portable.iter().zip(run(forward_chunk)) {
            assert!((a - b).abs() < 1e-5, "{a} against {b}");
        }
    }
}
