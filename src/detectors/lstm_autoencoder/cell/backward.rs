//! The backward pass on the CPU: back-propagation through time (Werbos 1990) for the LSTM of
//! Hochreiter and Schmidhuber (1997) with the forget gate of Gers et al. (2000).
//!
//! It needs the activated gates and the cells of every step; tanh of a cell is computed again
//! instead of kept. Chunks, threads, instruction sets and the order of gates are those of
//! `fused.rs`.

#[cfg(target_arch = "x86_64")]
use super::vector::{Avx, Avx512};
use super::{
    activation::tanh,
    fused::{CHUNK, ChunkTrace, Sizes, Trace, each_chunk, per_instruction_set, split_rows},
    gemm::{ByGates, Gates, Left, NO_GATES, Panels, TILE, add_products, block, by_gate, multiply},
    vector::{LANES, Portable, Vector},
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
    assert!(trace.0.len() == batch.div_ceil(CHUNK));
    let weights = Transposed {
        input: need_input.then(|| Panels::transposed(&weight[..inputs * gates], inputs, hidden)),
        recurrent: Panels::transposed(&weight[inputs * gates..], hidden, hidden),
    };
    let wanted = if need_input { sizes.input_steps() * batch * inputs } else { 0 };
    let mut by_input = vec![0.0; wanted];
    let mut rows_of_input = split_rows(&mut by_input, batch, inputs);
    rows_of_input.resize_with(trace.0.len(), Vec::new);
    let products = 2 * weight.len() * steps * batch;
    let chunks = trace.0.iter().zip(rows_of_input).collect();
    let parts: Vec<WeightGradients> = each_chunk(chunks, products, |chunk, (trace, by_input)| {
        let first = chunk * CHUNK;
        let mut found = WeightGradients {
            weight: vec![NO_GATES; sizes.blocks() * (inputs + hidden)],
            bias: vec![NO_GATES; sizes.blocks()],
        };
        let arrays = Arrays { input, output, trace, grad, weights: &weights };
        backward_chunk(BackwardChunk { sizes, first, arrays, by_input, found: &mut found });
        found
    });
    let (mut weight, mut bias) =
        (vec![NO_GATES; sizes.blocks() * (inputs + hidden)], vec![NO_GATES; sizes.blocks()]);
    for part in &parts {
        add(&mut weight, &part.weight);
        add(&mut bias, &part.bias);
    }
    Gradients {
        input: by_input,
        weight: by_gate(&weight, inputs + hidden, hidden),
        bias: by_gate(&bias, 1, hidden),
    }
}

pub(super) fn add(total: &mut [Gates], part: &[Gates]) {
    for (sum, value) in total
        .as_flattened_mut()
        .as_flattened_mut()
        .iter_mut()
        .zip(part.as_flattened().as_flattened())
    {
        *sum += value;
    }
}

struct Transposed {
    /// Only where the gradient by the input is asked for.
    input: Option<Panels>,
    recurrent: Panels,
}

/// By the weights of one layer, in blocks: `[block][input or unit]`, inputs first, and `[block]`.
struct WeightGradients {
    weight: Vec<Gates>,
    bias: Vec<Gates>,
}

/// What a chunk reads.
#[derive(Clone, Copy)]
struct Arrays<'a> {
    input: &'a [f32],
    output: &'a [f32],
    trace: &'a ChunkTrace,
    grad: &'a [f32],
    weights: &'a Transposed,
}

struct BackwardChunk<'a> {
    sizes: Sizes,
    first: usize,
    arrays: Arrays<'a>,
    /// This chunk's rows of every step of the input's gradient; none where it is not asked for.
    by_input: Vec<&'a mut [f32]>,
    found: &'a mut WeightGradients,
}

per_instruction_set!(backward_chunk, backward_rows, BackwardChunk<'_>);

/// Steps whose gradients are kept before they become weight gradients: at 16 rows, 32 KiB for each
/// block of units, which the first-level cache holds.
const SPAN: usize = 8;

/// Gradients by the gates before activation of a few steps, and what the gates saw.
struct Span {
    sizes: Sizes,
    rows: usize,
    /// `[block][step of the span][row]`.
    deltas: Vec<Gates>,
    /// `[step of the span][row][input | hidden state of the step before]`; without the input where
    /// that is constant.
    seen: Vec<f32>,
    /// The sum over all steps, where the input is constant: `[block][row]`.
    summed: Vec<Gates>,
}

impl Span {
    fn new(sizes: Sizes, rows: usize) -> Self {
        let width = sizes.inputs + sizes.hidden;
        Self {
            sizes,
            rows,
            deltas: vec![NO_GATES; sizes.blocks() * SPAN * rows],
            seen: Vec::with_capacity(SPAN * rows * width),
            summed: vec![NO_GATES; if sizes.constant_input { sizes.blocks() * rows } else { 0 }],
        }
    }

    /// The gradients of one step, as the left side of a product.
    fn of_step(&self, place: usize) -> ByGates<'_> {
        ByGates { data: &self.deltas[place * self.rows..], stride: SPAN * self.rows }
    }

    /// Turns the gradients of `steps`, which lie at the front of each block, into weight gradients.
    ///
    /// # Safety
    /// The processor has what `V` needs.
    #[inline(always)]
    unsafe fn finish<V: Vector, const GATES: usize>(
        &mut self,
        steps: std::ops::Range<usize>,
        arrays: Arrays<'_>,
        first: usize,
        found: &mut WeightGradients,
    ) {
        let Sizes { batch, inputs, hidden, constant_input, .. } = self.sizes;
        let (n_rows, n_steps) = (self.rows, steps.len());
        self.seen.clear();
        for step in steps {
            for row in 0..n_rows {
                if !constant_input {
                    let input = self.sizes.input_at(arrays.input, step, first);
                    self.seen.extend_from_slice(&input[row * inputs..(row + 1) * inputs]);
                }
                if step == 0 {
                    self.seen.resize(self.seen.len() + hidden, 0.0);
                } else {
                    let at = ((step - 1) * batch + first + row) * hidden;
                    self.seen.extend_from_slice(&arrays.output[at..at + hidden]);
                }
            }
        }
        // A constant input meets the sum over all steps, at the end.
        let (skipped, width) = if constant_input { (inputs, hidden) } else { (0, inputs + hidden) };
        for block in 0..self.sizes.blocks() {
            let deltas = &self.deltas[block * SPAN * n_rows..][..n_steps * n_rows];
            for delta in deltas {
                add(&mut found.bias[block..=block], std::slice::from_ref(delta));
            }
            if constant_input {
                let summed = &mut self.summed[block * n_rows..(block + 1) * n_rows];
                for step in deltas.chunks_exact(n_rows) {
                    add(summed, step);
                }
            }
            let weight = &mut found.weight[block * (inputs + hidden) + skipped..][..width];
            // SAFETY: the caller answers for the processor.
            unsafe { add_outer_products::<V, GATES>(&self.seen, width, deltas, weight) };
        }
    }

    /// The part of a constant input, which meets the sum of all steps' gradients.
    ///
    /// # Safety
    /// The processor has what `V` needs.
    #[inline(always)]
    unsafe fn finish_constant_input<V: Vector, const GATES: usize>(
        &self,
        input: &[f32],
        found: &mut WeightGradients,
    ) {
        let Sizes { inputs, hidden, .. } = self.sizes;
        for (block, summed) in self.summed.chunks_exact(self.rows).enumerate() {
            let weight = &mut found.weight[block * (inputs + hidden)..][..inputs];
            // SAFETY: the caller answers for the processor.
            unsafe { add_outer_products::<V, GATES>(input, inputs, summed, weight) };
        }
    }
}

/// `weight[w] += sum over rows r of seen[r, w] * deltas[r]`: how the gradients of all steps become
/// the gradient of one weight matrix.
///
/// # Safety
/// The processor has what `V` needs.
#[inline(always)]
pub(super) unsafe fn add_outer_products<V: Vector, const GATES: usize>(
    seen: &[f32],
    width: usize,
    deltas: &[Gates],
    weight: &mut [Gates],
) {
    let mut rest = [NO_GATES; TILE];
    for top in (0..width).step_by(TILE) {
        let height = TILE.min(width - top);
        let part = (Left::columns(seen, width, top, height), deltas);
        let tile = &mut weight[top..top + height];
        // SAFETY: the caller answers for the processor.
        match <&mut [Gates; TILE]>::try_from(&mut *tile) {
            Ok(tile) => unsafe { add_products::<V, GATES, 1>(tile, [part]) },
            Err(_) => {
                rest[..height].copy_from_slice(tile);
                unsafe { add_products::<V, GATES, 1>(&mut rest, [part]) };
                tile.copy_from_slice(&rest[..height]);
            }
        }
    }
}

/// # Safety
/// The processor has what `V` needs.
#[inline(always)]
unsafe fn backward_rows<V: Vector, const GATES: usize, const ROWS: usize, const WIDE: usize>(
    chunk: BackwardChunk<'_>,
) {
    let BackwardChunk { sizes, first, arrays, mut by_input, found } = chunk;
    let Sizes { steps, batch, hidden, constant_input, .. } = sizes;
    let (blocks, rows) = (sizes.blocks(), sizes.rows(first));
    let per_step = blocks * rows;
    let zeros = vec![[0.0f32; LANES]; per_step];
    let mut by_hidden = vec![0.0f32; rows * hidden];
    let mut by_cell = vec![[0.0f32; LANES]; per_step];
    let mut span = Span::new(sizes, rows);
    for step in (0..steps).rev() {
        let cells = &arrays.trace.cells[step * per_step..(step + 1) * per_step];
        let before = match step {
            0 => &zeros[..],
            _ => &arrays.trace.cells[(step - 1) * per_step..step * per_step],
        };
        let gates = &arrays.trace.gates[step * per_step..(step + 1) * per_step];
        let grad = &arrays.grad[(step * batch + first) * hidden..][..rows * hidden];
        // Spans are aligned to multiples of their length, so that each ends at its first step.
        let place = step % SPAN;
        for unit in 0..blocks {
            for top in (0..rows).step_by(TILE) {
                let height = TILE.min(rows - top);
                let at = unit * rows + top..unit * rows + top + height;
                let seen = Step {
                    gates: &gates[at.clone()],
                    cells: &cells[at.clone()],
                    before: &before[at.clone()],
                    grad: &grad[top * hidden..],
                    by_hidden: &by_hidden[top * hidden..],
                    hidden,
                    unit: unit * LANES,
                };
                let first = (unit * SPAN + place) * rows + top;
                let deltas = &mut span.deltas[first..first + height];
                // SAFETY: the caller answers for the processor.
                unsafe { differentiate::<V>(seen, &mut by_cell[at], deltas) };
            }
        }
        let deltas = span.of_step(place);
        // SAFETY: the caller answers for the processor.
        unsafe {
            if step > 0 {
                multiply::<V, ROWS, WIDE>(deltas, &arrays.weights.recurrent, rows, &mut by_hidden);
            }
            if let (Some(panels), false) = (&arrays.weights.input, constant_input) {
                multiply::<V, ROWS, WIDE>(deltas, panels, rows, by_input[step]);
            }
            if place == 0 {
                span.finish::<V, GATES>(step..(step + SPAN).min(steps), arrays, first, found);
            }
        }
    }
    if constant_input {
        // SAFETY: the caller answers for the processor.
        unsafe {
            span.finish_constant_input::<V, GATES>(sizes.input_at(arrays.input, 0, first), found);
            if let Some(panels) = &arrays.weights.input {
                let summed = ByGates { data: &span.summed, stride: rows };
                multiply::<V, ROWS, WIDE>(summed, panels, rows, by_input[0]);
            }
        }
    }
}

/// At most [`TILE`] rows of one block of one step, as the backward pass needs them.
struct Step<'a> {
    gates: &'a [Gates],
    cells: &'a [[f32; LANES]],
    /// The cells of the step before.
    before: &'a [[f32; LANES]],
    /// Gradient by this step's output, from outside the layer; rows of `hidden` values.
    grad: &'a [f32],
    /// The same, from the next step.
    by_hidden: &'a [f32],
    hidden: usize,
    /// First unit of the block.
    unit: usize,
}

/// Gradients below this are no gradients: they are 17 digits below what an optimiser tells from
/// nothing. Those that vanish on their way back through time would otherwise become subnormal
/// numbers, with which a processor is ten times slower.
const SMALLEST: f32 = 1e-25;

/// Gradients by the gates before activation; `by_cell` goes in as the gradient by this step's cell
/// from the next step and comes out as the gradient by the cell before.
///
/// # Safety
/// The processor has what `V` needs.
#[inline(always)]
unsafe fn differentiate<V: Vector>(
    step: Step<'_>,
    by_cell: &mut [[f32; LANES]],
    deltas: &mut [Gates],
) {
    let height = deltas.len();
    let Step { gates, cells, before, grad, by_hidden, hidden, unit } = step;
    // SAFETY: the caller answers for the processor.
    unsafe {
        let one = V::splat(1.0);
        // Rows past the last are computed from the last and dropped.
        let mut cell = [one; TILE];
        for (r, cell) in cell.iter_mut().enumerate() {
            *cell = V::load(&cells[r.min(height - 1)]);
        }
        let bent = tanh(cell);
        for r in 0..height {
            let [i, f, g, o] = &gates[r];
            let (i, f, g, o) = (V::load(i), V::load(f), V::load(g), V::load(o));
            let row = r * hidden..(r + 1) * hidden;
            let outside = V::load(&block(&grad[row.clone()], unit));
            let inside = V::load(&block(&by_hidden[row], unit));
            let by_h = outside.add(inside).zero_below(SMALLEST);
            let bend = bent[r].neg_mul_add(bent[r], one);
            let by_c = by_h.mul(o).mul_add(bend, V::load(&by_cell[r])).zero_below(SMALLEST);
            // The slope of the logistic function is y (1 - y), that of tanh 1 - y².
            let found = [
                by_c.mul(g).mul(i.neg_mul_add(i, i)),
                by_c.mul(V::load(&before[r])).mul(f.neg_mul_add(f, f)),
                by_c.mul(i).mul(g.neg_mul_add(g, one)),
                by_h.mul(bent[r]).mul(o.neg_mul_add(o, o)),
            ];
            for (found, delta) in found.into_iter().zip(&mut deltas[r]) {
                found.store(delta);
            }
            by_c.mul(f).store(&mut by_cell[r]);
        }
    }
}
