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
//! Within a step, the weights of one block of units (20 KiB at 80 inputs and units) stay in the
//! first-level cache while all rows pass, and a block's gates are activated as soon as their sums
//! are there.
//!
//! Arguments and results are time-major: `[step, window, value]`, the gates of a row as
//! `[input | forget | candidate | output]`, each `hidden` wide. Inside, gates lie in blocks, see
//! [`Gates`].

use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use super::vector::{Avx, Avx512};
use super::{
    activation::{sigmoid, tanh},
    gemm::{Gates, Left, TILE, add_products, by_block, put},
    vector::{LANES, Portable, Vector},
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
    /// Blocks of [`LANES`] units.
    pub(super) fn blocks(&self) -> usize {
        self.hidden.div_ceil(LANES)
    }
    pub(super) fn input_steps(&self) -> usize {
        if self.constant_input { 1 } else { self.steps }
    }
    fn input_len(&self) -> usize {
        self.input_steps() * self.batch * self.inputs
    }
    /// Windows of the chunk that begins at window `first`.
    pub(super) fn rows(&self, first: usize) -> usize {
        CHUNK.min(self.batch - first)
    }
    /// The rows of the input at `step`, from window `first` on.
    pub(super) fn input_at<'a>(&self, input: &'a [f32], step: usize, first: usize) -> &'a [f32] {
        let step = if self.constant_input { 0 } else { step };
        &input[(step * self.batch + first) * self.inputs..][..self.rows(first) * self.inputs]
    }
}

/// What the backward pass needs of the forward pass, a part for each chunk.
#[derive(Debug)]
pub struct Trace(pub(super) Vec<ChunkTrace>);

/// `[step][block][row]`, the rows of one chunk.
#[derive(Debug, Default)]
pub(super) struct ChunkTrace {
    /// After activation.
    pub(super) gates: Vec<Gates>,
    pub(super) cells: Vec<[f32; LANES]>,
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
        input: by_block(&weight[..inputs * gates], inputs, hidden),
        recurrent: by_block(&weight[inputs * gates..], hidden, hidden),
        bias: by_block(bias, 1, hidden),
    };
    let mut output = vec![0.0; steps * batch * hidden];
    let products = weight.len() * steps * batch;
    let traces = each_chunk(split_rows(&mut output, batch, hidden), products, |chunk, out| {
        let first = chunk * CHUNK;
        let kept = steps * sizes.blocks() * sizes.rows(first);
        let mut trace = ChunkTrace::default();
        if keep {
            trace.gates.reserve_exact(kept);
            trace.cells.reserve_exact(kept);
        }
        let trace_kept = keep.then_some(&mut trace);
        forward_chunk(ForwardChunk {
            sizes,
            first,
            input,
            weights: &weights,
            trace: trace_kept,
            out,
        });
        trace
    });
    (output, Trace(traces))
}

/// Products and sums up to which a call stays on its thread: a tenth of a millisecond, which is what
/// waking another takes.
const SMALL: usize = 1 << 22;

/// Does the same to every chunk, on all threads where there is enough to do; results in order.
pub(super) fn each_chunk<T: Send, R: Send>(
    chunks: Vec<T>,
    products: usize,
    work: impl Fn(usize, T) -> R + Sync + Send,
) -> Vec<R> {
    if chunks.len() == 1 || products <= SMALL {
        chunks.into_iter().enumerate().map(|(place, chunk)| work(place, chunk)).collect()
    } else {
        chunks.into_par_iter().enumerate().map(|(place, chunk)| work(place, chunk)).collect()
    }
}

/// Cuts a `[step, window, width]` buffer into the parts that belong to each chunk, step by step.
pub(super) fn split_rows(values: &mut [f32], batch: usize, width: usize) -> Vec<Vec<&mut [f32]>> {
    let steps = if values.is_empty() { 0 } else { values.len() / (batch * width) };
    let mut chunks: Vec<Vec<&mut [f32]>> =
        (0..batch.div_ceil(CHUNK)).map(|_| Vec::with_capacity(steps)).collect();
    for step in values.chunks_exact_mut((batch * width).max(1)) {
        for (chunk, rows) in chunks.iter_mut().zip(step.chunks_mut(CHUNK * width)) {
            chunk.push(rows);
        }
    }
    chunks
}

/// A layer's weights in blocks, `[block][input or unit]`.
struct Weights {
    input: Vec<Gates>,
    recurrent: Vec<Gates>,
    bias: Vec<Gates>,
}

struct ForwardChunk<'a> {
    sizes: Sizes,
    first: usize,
    input: &'a [f32],
    weights: &'a Weights,
    trace: Option<&'a mut ChunkTrace>,
    /// This chunk's rows of every step.
    out: Vec<&'a mut [f32]>,
}

/// Compiles `$generic` once per instruction set and calls the best that the processor has. The
/// generic function and all it calls are `inline(always)`, so each copy is built from the
/// instructions that its `target_feature` line allows. The numbers are the gates of
/// [`add_products`](super::gemm::add_products) and the rows and panels of
/// [`multiply`](super::gemm::multiply): 16 sums, with what they are made from, fill half of AVX-512's 32
/// registers; four sums of two registers each fill half of AVX's 16.
macro_rules! per_instruction_set {
    ($name:ident, $generic:ident, $argument:ty) => {
        fn $name(argument: $argument) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
                fn avx512(argument: $argument) {
                    // SAFETY: this function is compiled for what the vector needs.
                    unsafe { $generic::<Avx512, 4, 8, 2>(argument) }
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2(argument: $argument) {
                    // SAFETY: as above.
                    unsafe { $generic::<Avx, 1, 4, 1>(argument) }
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
            // SAFETY: the portable vector needs nothing.
            unsafe { $generic::<Portable, 1, 4, 1>(argument) }
        }
    };
}

pub(super) use per_instruction_set;

per_instruction_set!(forward_chunk, forward_rows, ForwardChunk<'_>);

/// # Safety
/// The processor has what `V` needs.
#[inline(always)]
unsafe fn forward_rows<V: Vector, const GATES: usize, const ROWS: usize, const WIDE: usize>(
    chunk: ForwardChunk<'_>,
) {
    let ForwardChunk { sizes, first, input, weights, mut trace, out } = chunk;
    let Sizes { inputs, hidden, .. } = sizes;
    let (blocks, rows) = (sizes.blocks(), sizes.rows(first));
    let mut cells = vec![[0.0f32; LANES]; blocks * rows];
    let (mut before, mut after) = (vec![0.0f32; rows * hidden], vec![0.0f32; rows * hidden]);
    // A constant input is projected once.
    let mut projected = Vec::new();
    if sizes.constant_input {
        let input = sizes.input_at(input, 0, first);
        for block in 0..blocks {
            let right = &weights.input[block * inputs..(block + 1) * inputs];
            for top in (0..rows).step_by(TILE) {
                let height = TILE.min(rows - top);
                let mut sums = [weights.bias[block]; TILE];
                let part = (Left::rows(input, inputs, top, height), right);
                // SAFETY: the caller answers for the processor.
                unsafe { add_products::<V, GATES, 1>(&mut sums, [part]) };
                projected.extend_from_slice(&sums[..height]);
            }
        }
    }
    for (step, out) in out.into_iter().enumerate() {
        let input = sizes.input_at(input, step, first);
        for block in 0..blocks {
            let by_input = &weights.input[block * inputs..(block + 1) * inputs];
            let by_state = &weights.recurrent[block * hidden..(block + 1) * hidden];
            for top in (0..rows).step_by(TILE) {
                let height = TILE.min(rows - top);
                let state = (Left::rows(&before, hidden, top, height), by_state);
                let mut sums = [weights.bias[block]; TILE];
                if sizes.constant_input {
                    let start = &projected[block * rows + top..][..height];
                    sums[..height].copy_from_slice(start);
                    // SAFETY: the caller answers for the processor.
                    unsafe { add_products::<V, GATES, 1>(&mut sums, [state]) };
                } else {
                    let input = (Left::rows(input, inputs, top, height), by_input);
                    // SAFETY: the caller answers for the processor.
                    unsafe { add_products::<V, GATES, 2>(&mut sums, [input, state]) };
                }
                let at = block * rows + top;
                // SAFETY: the caller answers for the processor.
                let states = unsafe { activate::<V>(&mut sums, &mut cells[at..at + height]) };
                for (r, state) in states.iter().enumerate().take(height) {
                    let row = &mut after[(top + r) * hidden..(top + r + 1) * hidden];
                    put(row, block * LANES, state);
                }
                if let Some(trace) = &mut trace {
                    trace.gates.extend_from_slice(&sums[..height]);
                    trace.cells.extend_from_slice(&cells[at..at + height]);
                }
            }
        }
        out.copy_from_slice(&after);
        std::mem::swap(&mut before, &mut after);
    }
}

/// Some rows of one block: gates before activation -> activated gates, new cells; the new hidden
/// states. `cells` may be fewer than [`TILE`]; the states past them mean nothing.
///
/// # Safety
/// The processor has what `V` needs.
#[inline(always)]
unsafe fn activate<V: Vector>(
    gates: &mut [Gates; TILE],
    cells: &mut [[f32; LANES]],
) -> [[f32; LANES]; TILE] {
    // SAFETY: the caller answers for the processor.
    unsafe {
        let mut lanes = [[V::splat(0.0); TILE]; 4];
        for r in 0..TILE {
            for gate in 0..4 {
                lanes[gate][r] = V::load(&gates[r][gate]);
            }
        }
        let [i, f, g, o] = lanes;
        let (i, f, g, o) = (sigmoid(i), sigmoid(f), tanh(g), sigmoid(o));
        let mut cell = [V::splat(0.0); TILE];
        for (cell, kept) in cell.iter_mut().zip(cells.iter()) {
            *cell = V::load(kept);
        }
        for r in 0..TILE {
            cell[r] = f[r].mul_add(cell[r], i[r].mul(g[r]));
        }
        let bent = tanh(cell);
        let mut states = [[0.0; LANES]; TILE];
        for r in 0..TILE {
            i[r].store(&mut gates[r][0]);
            f[r].store(&mut gates[r][1]);
            g[r].store(&mut gates[r][2]);
            o[r].store(&mut gates[r][3]);
            o[r].mul(bent[r]).store(&mut states[r]);
        }
        for (kept, cell) in cells.iter_mut().zip(cell) {
            cell.store(kept);
        }
        states
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a chunk of seven windows, which fill no tile, and 21 units, which fill no block.
    fn run(forward: fn(ForwardChunk<'_>)) -> Vec<f32> {
        let sizes = Sizes { steps: 6, batch: 7, inputs: 3, hidden: 21, constant_input: false };
        let numbers = |n: usize| -> Vec<f32> { (0..n).map(|i| (i as f32 * 0.7).sin()).collect() };
        let (input, weight, bias) = (numbers(6 * 7 * 3), numbers(24 * 84), numbers(84));
        let weights = Weights {
            input: by_block(&weight[..3 * 84], 3, 21),
            recurrent: by_block(&weight[3 * 84..], 21, 21),
            bias: by_block(&bias, 1, 21),
        };
        let mut output = vec![0.0; 6 * 7 * 21];
        let mut chunks = split_rows(&mut output, 7, 21);
        let out = chunks.remove(0);
        forward(ForwardChunk {
            sizes,
            first: 0,
            input: &input,
            weights: &weights,
            trace: None,
            out,
        });
        output
    }

    #[test]
    fn every_instruction_set_gives_the_same() {
        // SAFETY: the portable vector needs nothing.
        let portable = run(|chunk| unsafe { forward_rows::<Portable, 1, 4, 1>(chunk) });
        let mut others = vec![run(forward_chunk)];
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx2,fma")]
            fn avx2(chunk: ForwardChunk<'_>) {
                // SAFETY: this function is compiled for what the vector needs.
                unsafe { forward_rows::<Avx, 1, 4, 1>(chunk) }
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                // SAFETY: the processor has every feature that the function is compiled for.
                others.push(run(|chunk| unsafe { avx2(chunk) }));
            }
        }
        for other in others {
            for (a, b) in portable.iter().zip(other) {
                assert!((a - b).abs() < 1e-5, "{a} against {b}");
            }
        }
    }

    #[test]
    fn rows_are_split_by_chunk_and_step() {
        let mut values: Vec<f32> = (0..2 * 18 * 3).map(|i| i as f32).collect();
        let chunks = split_rows(&mut values, 18, 3);
        assert_eq!(chunks.len(), 2);
        assert_eq!((chunks[0][0].len(), chunks[1][0].len()), (CHUNK * 3, 2 * 3));
        assert_eq!(chunks[1][1][0], ((18 + CHUNK) * 3) as f32);
    }
}
