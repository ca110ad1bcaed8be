//! The arithmetic of [`project`](super::project) on the CPU: products of many rows with one small
//! matrix, and their gradients, over chunks of rows on the threads of the rayon pool. A chunk's
//! arithmetic does not depend on the thread that runs it, and partial weight gradients are added
//! in the order of the chunks.

#[cfg(target_arch = "x86_64")]
use super::vector::{Avx, Avx512};
use super::{
    backward::{add, add_outer_products},
    fused::{each_chunk, per_instruction_set},
    gemm::{Gates, Left, NO_GATES, TILE, add_products},
    vector::{LANES, Portable, Vector},
};

/// Rows per chunk. A constant: results must not depend on the machine's thread count.
const CHUNK: usize = 256;

/// Columns of a block: what [`add_products`] takes at once.
const COLUMNS: usize = 4 * LANES;

/// The sizes of a weight `[width, outputs]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) width: usize,
    pub(super) outputs: usize,
}

/// Gradients by the arguments of one call.
pub(super) struct Gradients {
    pub(super) input: Vec<f32>,
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

/// `[rows, columns]` -> `[columns / COLUMNS][rows]`, filled up with zeros.
fn in_blocks(matrix: &[f32], columns: usize) -> Vec<Gates> {
    let mut found = Vec::with_capacity(columns.div_ceil(COLUMNS) * (matrix.len() / columns.max(1)));
    for first in (0..columns).step_by(COLUMNS) {
        for row in matrix.chunks_exact(columns) {
            let part = &row[first..columns.min(first + COLUMNS)];
            let mut block = NO_GATES;
            block.as_flattened_mut()[..part.len()].copy_from_slice(part);
            found.push(block);
        }
    }
    found
}

/// The way back from [`in_blocks`].
fn in_rows(blocks: &[Gates], rows: usize, columns: usize) -> Vec<f32> {
    let mut matrix = vec![0.0; rows * columns];
    for (place, block) in blocks.iter().enumerate() {
        let (row, first) = (place % rows, place / rows * COLUMNS);
        let part = &mut matrix[row * columns..(row + 1) * columns][first..];
        let len = part.len().min(COLUMNS);
        part[..len].copy_from_slice(&block.as_flattened()[..len]);
    }
    matrix
}

/// `input · weight + bias`: `[rows, width]` -> `[rows, outputs]`.
pub(super) fn forward(sizes: Sizes, input: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
    let Sizes { width, outputs } = sizes;
    assert!(weight.len() == width * outputs && bias.len() == outputs);
    let (right, start) = (in_blocks(weight, outputs), in_blocks(bias, outputs));
    let mut out = vec![0.0; input.len() / width.max(1) * outputs];
    let chunks = out.chunks_mut((CHUNK * outputs).max(1));
    let chunks = chunks.zip(input.chunks((CHUNK * width).max(1))).collect();
    each_chunk(chunks, input.len() * outputs, |_, (out, left)| {
        multiply(Product { left, right: &right, start: &start, out });
    });
    out
}

/// Gradients by input, weight and bias, from that by the output, `grad`.
pub(super) fn gradients(sizes: Sizes, input: &[f32], weight: &[f32], grad: &[f32]) -> Gradients {
    let Sizes { width, outputs } = sizes;
    assert!(weight.len() == width * outputs && input.len() * outputs == grad.len() * width);
    let blocks = outputs.div_ceil(COLUMNS);
    let mut turned = vec![0.0; weight.len()];
    for (place, value) in weight.iter().enumerate() {
        turned[place % outputs * width + place / outputs] = *value;
    }
    let right = in_blocks(&turned, width);
    let start = vec![NO_GATES; width.div_ceil(COLUMNS)];
    let mut by_input = vec![0.0; input.len()];
    let chunks = by_input.chunks_mut((CHUNK * width).max(1));
    let chunks = chunks
        .zip(input.chunks((CHUNK * width).max(1)))
        .zip(grad.chunks((CHUNK * outputs).max(1)))
        .collect();
    let parts: Vec<(Vec<Gates>, Vec<Gates>)> =
        each_chunk(chunks, 2 * input.len() * outputs, |_, ((by_input, input), grad)| {
            multiply(Product { left: grad, right: &right, start: &start, out: by_input });
            let deltas = in_blocks(grad, outputs);
            let mut weight = vec![NO_GATES; blocks * width];
            add_outer(Outer { seen: input, width, deltas: &deltas, weight: &mut weight });
            let mut bias = vec![NO_GATES; blocks];
            for (bias, deltas) in bias.iter_mut().zip(deltas.chunks(deltas.len() / blocks)) {
                for delta in deltas {
                    add(std::slice::from_mut(bias), std::slice::from_ref(delta));
                }
            }
            (weight, bias)
        });
    let (mut by_weight, mut by_bias) = (vec![NO_GATES; blocks * width], vec![NO_GATES; blocks]);
    for (weight, bias) in &parts {
        add(&mut by_weight, weight);
        add(&mut by_bias, bias);
    }
    Gradients {
        input: by_input,
        weight: in_rows(&by_weight, width, outputs),
        bias: in_rows(&by_bias, 1, outputs),
    }
}

/// `out = left · right + start`, for the rows of one chunk.
struct Product<'a> {
    left: &'a [f32],
    /// `[block][place]`.
    right: &'a [Gates],
    /// `[block]`.
    start: &'a [Gates],
    out: &'a mut [f32],
}

per_instruction_set!(multiply, multiply_rows, Product<'_>);

/// # Safety
/// The processor has what `V` needs.
#[inline(always)]
unsafe fn multiply_rows<V: Vector, const GATES: usize, const ROWS: usize, const WIDE: usize>(
    product: Product<'_>,
) {
    let Product { left, right, start, out } = product;
    let terms = right.len() / start.len().max(1);
    let rows = left.len() / terms.max(1);
    let columns = out.len() / rows.max(1);
    for (block, start) in start.iter().enumerate() {
        let right = &right[block * terms..(block + 1) * terms];
        let first = block * COLUMNS;
        let len = COLUMNS.min(columns - first);
        for top in (0..rows).step_by(TILE) {
            let height = TILE.min(rows - top);
            let mut sums = [*start; TILE];
            let part = (Left::rows(left, terms, top, height), right);
            // SAFETY: the caller answers for the processor.
            unsafe { add_products::<V, GATES, 1>(&mut sums, [part]) };
            for (r, sums) in sums.iter().enumerate().take(height) {
                let at = (top + r) * columns + first;
                out[at..at + len].copy_from_slice(&sums.as_flattened()[..len]);
            }
        }
    }
}

/// `weight += seenᵀ · deltas`, for the rows of one chunk.
struct Outer<'a> {
    seen: &'a [f32],
    width: usize,
    /// `[block][row]`.
    deltas: &'a [Gates],
    /// `[block][place]`.
    weight: &'a mut [Gates],
}

per_instruction_set!(add_outer, add_outer_rows, Outer<'_>);

/// # Safety
/// The processor has what `V` needs.
#[inline(always)]
unsafe fn add_outer_rows<V: Vector, const GATES: usize, const ROWS: usize, const WIDE: usize>(
    outer: Outer<'_>,
) {
    let Outer { seen, width, deltas, weight } = outer;
    let rows = seen.len() / width.max(1);
    for (deltas, weight) in deltas.chunks_exact(rows.max(1)).zip(weight.chunks_exact_mut(width)) {
        // SAFETY: the caller answers for the processor.
        unsafe { add_outer_products::<V, GATES>(seen, width, deltas, weight) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 101.0 - 0.5).collect()
    }

    #[test]
    fn the_product_and_its_gradients_are_the_sums_they_should_be() {
        for (rows, width, outputs) in [(1, 1, 1), (300, 7, 3), (5, 70, 65), (257, 64, 16)] {
            let sizes = Sizes { width, outputs };
            let (x, w, b) =
                (numbers(rows * width, 1), numbers(width * outputs, 2), numbers(outputs, 3));
            let grad = numbers(rows * outputs, 4);
            let near = |found: f32, exact: f64| {
                assert!((f64::from(found) - exact).abs() < 1e-4, "{rows} {width} {outputs}");
            };
            let dot = |n: usize, a: &dyn Fn(usize) -> f32, b: &dyn Fn(usize) -> f32| -> f64 {
                (0..n).map(|i| f64::from(a(i)) * f64::from(b(i))).sum()
            };
            for (at, found) in forward(sizes, &x, &w, &b).into_iter().enumerate() {
                let (r, o) = (at / outputs, at % outputs);
                let product = dot(width, &|k| x[r * width + k], &|k| w[k * outputs + o]);
                near(found, product + f64::from(b[o]));
            }
            let found = gradients(sizes, &x, &w, &grad);
            for (at, found) in found.input.into_iter().enumerate() {
                let (r, k) = (at / width, at % width);
                near(found, dot(outputs, &|o| grad[r * outputs + o], &|o| w[k * outputs + o]));
            }
            for (at, found) in found.weight.into_iter().enumerate() {
                let (k, o) = (at / outputs, at % outputs);
                near(found, dot(rows, &|r| x[r * width + k], &|r| grad[r * outputs + o]));
            }
            for (o, found) in found.bias.into_iter().enumerate() {
                near(found, dot(rows, &|r| grad[r * outputs + o], &|_| 1.0));
            }
        }
    }
}
