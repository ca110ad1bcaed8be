//! The LSTM over all steps of a batch on the CPU: sizes, chunks, and the forward pass.
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

#[cfg(target_arch = "x86_64")]
use super::gemm::{Avx, Avx512};
use rayon::prelude::*;

use super::{
    activation::{each, sigmoid, tanh},
    gemm::{LANES, Panels, Portable, Rows, Start, Sums, block, multiply, put},
};

/// Windows per chunk. A constant: results must not depend on the machine's thread count.
pub(super) const CHUNK: usize = 16;

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
    pub(super) fn gates(&self) -> usize {
        4 * self.hidden
    }
    fn input_len(&self) -> usize {
        let steps = if self.constant_input { 1 } else { self.steps };
        steps * self.batch * self.inputs
    }
    /// Windows of the chunk that begins at window `first`.
    pub(super) fn rows(&self, first: usize) -> usize {
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

/// Runs the layer. `input` is `[steps or 1, batch, inputs]`, `weight` `[inputs + hidden, 4 hidden]`
/// (input rows first), `bias` `[4 hidden]`; the output is `[steps, batch, hidden]`. With `keep`,
/// also what `backward.rs` needs.
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

/// `[chunk][step][row][width]` -> `[step][window][width]`.
pub(super) fn join_chunks(
    mut chunks: Vec<Vec<f32>>,
    steps: usize,
    batch: usize,
    width: usize,
) -> Vec<f32> {
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

pub(super) struct Weights {
    pub(super) input: Panels,
    pub(super) recurrent: Panels,
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
                    unsafe { $generic::<Avx512, 8, 2, true>(argument) }
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2(argument: $argument) {
                    // SAFETY: as above.
                    unsafe { $generic::<Avx, 4, 1, true>(argument) }
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
            unsafe { $generic::<Portable, 4, 1, { cfg!(target_arch = "aarch64") }>(argument) }
        }
    };
}

pub(super) use per_instruction_set;

per_instruction_set!(forward_chunk, forward_rows, ForwardChunk<'_>);

/// # Safety
/// The processor has what `S` needs.
#[inline(always)]
unsafe fn forward_rows<S: Sums, const TILE: usize, const WIDE: usize, const FMA: bool>(
    chunk: ForwardChunk<'_>,
) {
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
        unsafe { multiply::<S, TILE, WIDE, 1>([part], Start::Bias(bias), rows, &mut projected) };
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
                unsafe { multiply::<S, TILE, WIDE, 1>([recurrent], start, rows, activated) };
            }
            (false, true) => {
                // SAFETY: the caller answers for the processor.
                unsafe {
                    multiply::<S, TILE, WIDE, 1>([current], Start::Bias(bias), rows, activated)
                };
            }
            (false, false) => {
                let parts = [current, recurrent];
                // SAFETY: the caller answers for the processor.
                unsafe { multiply::<S, TILE, WIDE, 2>(parts, Start::Bias(bias), rows, activated) };
            }
        }
        for row in 0..rows {
            let at = row * hidden;
            let (gates, cell) =
                (&mut activated[row * gates..(row + 1) * gates], &mut cell[at..at + hidden]);
            // SAFETY: the caller answers for the processor.
            unsafe { activate::<S, FMA>(gates, cell, &mut after[at..at + hidden]) };
        }
        if let Some((_, cells_kept)) = &mut kept {
            cells_kept[step * width..(step + 1) * width].copy_from_slice(&cell);
        }
    }
}

/// One row of one step: gates before activation -> activated gates, new cell, new hidden state.
///
/// # Safety
/// The processor has what `S` needs.
#[inline(always)]
unsafe fn activate<S: Sums, const FMA: bool>(
    gates: &mut [f32],
    cell: &mut [f32],
    hidden: &mut [f32],
) {
    let n = cell.len();
    let (input, rest) = gates.split_at_mut(n);
    let (forget, rest) = rest.split_at_mut(n);
    let (candidate, output) = rest.split_at_mut(n);
    for at in (0..n).step_by(LANES) {
        // SAFETY: the caller answers for the processor.
        let [i, f, g, o] = unsafe {
            [
                each::<S>(&block(input, at), sigmoid::<FMA>),
                each::<S>(&block(forget, at), sigmoid::<FMA>),
                each::<S>(&block(candidate, at), tanh::<FMA>),
                each::<S>(&block(output, at), sigmoid::<FMA>),
            ]
        };
        let mut c = block(cell, at);
        for l in 0..LANES {
            c[l] = f[l] * c[l] + i[l] * g[l];
        }
        // SAFETY: as above.
        let bent = unsafe { each::<S>(&c, tanh::<FMA>) };
        let h = std::array::from_fn(|l| o[l] * bent[l]);
        put(input, at, &i);
        put(forget, at, &f);
        put(candidate, at, &g);
        put(output, at, &o);
        put(cell, at, &c);
        put(hidden, at, &h);
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
        let portable = run(|chunk| unsafe { forward_rows::<Portable, 4, 1, false>(chunk) });
        for (a, b) in portable.iter().zip(run(forward_chunk)) {
            assert!((a - b).abs() < 1e-5, "{a} against {b}");
        }
    }
}
