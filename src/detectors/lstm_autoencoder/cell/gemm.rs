//! The small matrix products of a recurrent step.
//!
//! A recurrent step multiplies a few rows (the windows of a batch) by one weight matrix, 168
//! times in a row. A general library rearranges the weights on every call, which costs as much as
//! the product itself at these sizes. Here the weights are rearranged once per sequence, and every
//! step reuses them.
//!
//! Units of a layer go in blocks of [`LANES`]. A block holds its four gates side by side, so that
//! the sums of one row and block can be activated while they are in registers; see [`Gates`]. The
//! gradients by the gates lie in the same way.
//!
//! The inner loops are generic over [`Vector`], sixteen running sums held in registers. They are
//! written without closures: a closure is compiled for every processor and may stay a call where
//! the function around it is compiled for one.

use super::vector::{LANES, Vector};

/// The four gates of a block, for one row: input, forget, candidate, output.
pub(super) type Gates = [[f32; LANES]; 4];

/// Gates of one block before anything is added to them.
pub(super) const NO_GATES: Gates = [[0.0; LANES]; 4];

/// [`LANES`] values from `at` on, filled up with zeros. Arithmetic on such blocks becomes vector
/// instructions; on slices that might overlap it does not.
#[inline(always)]
pub(super) fn block(values: &[f32], at: usize) -> [f32; LANES] {
    let rest = &values[at..];
    if let Some(block) = rest.first_chunk::<LANES>() {
        return *block;
    }
    let mut block = [0.0; LANES];
    block[..rest.len()].copy_from_slice(rest);
    block
}

/// Writes as much of `block` as there is room for.
#[inline(always)]
pub(super) fn put(values: &mut [f32], at: usize, block: &[f32; LANES]) {
    let rest = &mut values[at..];
    if let Some(room) = rest.first_chunk_mut::<LANES>() {
        *room = *block;
    } else {
        let len = rest.len();
        rest.copy_from_slice(&block[..len]);
    }
}

/// `[k, 4 * hidden]`, gate by gate -> `[block][k]`, missing units filled up with zeros.
pub(super) fn by_block(matrix: &[f32], k: usize, hidden: usize) -> Vec<Gates> {
    assert!(matrix.len() == k * 4 * hidden);
    let blocks = hidden.div_ceil(LANES);
    let mut found = Vec::with_capacity(blocks * k);
    for first in (0..hidden).step_by(LANES) {
        for row in matrix.chunks_exact(4 * hidden) {
            let gate = |gate: usize| block(&row[gate * hidden..(gate + 1) * hidden], first);
            found.push(std::array::from_fn(gate));
        }
    }
    found
}

/// The way back from [`by_block`].
pub(super) fn by_gate(blocks: &[Gates], k: usize, hidden: usize) -> Vec<f32> {
    let mut matrix = vec![0.0; k * 4 * hidden];
    for (place, gates) in blocks.iter().enumerate() {
        let (row, first) = (place % k, place / k * LANES);
        let row = &mut matrix[row * 4 * hidden..(row + 1) * 4 * hidden];
        for (gate, values) in gates.iter().enumerate() {
            put(&mut row[gate * hidden..(gate + 1) * hidden], first, values);
        }
    }
    matrix
}

/// Rows whose sums [`add_products`] keeps in registers at once.
pub(super) const TILE: usize = 4;

/// The left side of a product: `data[offsets[r] + p * step]` for row `r` and place `p`.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    data: &'a [f32],
    offsets: [usize; TILE],
    step: usize,
}

impl<'a> Left<'a> {
    /// `height` rows of a row-major matrix, `stride` values apart, from row `top` on.
    #[inline(always)]
    pub(super) fn rows(data: &'a [f32], stride: usize, top: usize, height: usize) -> Self {
        // Rows past the last are read from the last: they are computed and dropped, so that the
        // loop has no branch.
        let mut offsets = [0; TILE];
        for (r, offset) in offsets.iter_mut().enumerate() {
            *offset = (top + r.min(height - 1)) * stride;
        }
        Self { data, offsets, step: 1 }
    }

    /// `height` columns of such a matrix, from column `first` on.
    #[inline(always)]
    pub(super) fn columns(data: &'a [f32], stride: usize, first: usize, height: usize) -> Self {
        let mut offsets = [0; TILE];
        for (r, offset) in offsets.iter_mut().enumerate() {
            *offset = first + r.min(height - 1);
        }
        Self { data, offsets, step: stride }
    }
}

/// `sums[r] += sum over parts and places p of left[r, p] * right[p]`.
///
/// Works on `GATES` gates at a time, whose sums stay in registers: each value that is read on the
/// left serves `GATES` of them, each on the right [`TILE`] rows.
///
/// # Safety
/// The processor has what `V` needs.
#[inline(always)]
pub(super) unsafe fn add_products<V: Vector, const GATES: usize, const PARTS: usize>(
    sums: &mut [Gates; TILE],
    parts: [(Left<'_>, &[Gates]); PARTS],
) {
    for (left, right) in &parts {
        let last = left.offsets.iter().max().unwrap_or(&0) + right.len().max(1) * left.step;
        assert!(right.is_empty() || last - left.step < left.data.len());
    }
    for first in (0..4).step_by(GATES) {
        // SAFETY: the assertion covers the greatest index; the caller answers for the processor.
        unsafe {
            let mut local = [[V::splat(0.0); GATES]; TILE];
            for (local, sums) in local.iter_mut().zip(&*sums) {
                for (g, local) in local.iter_mut().enumerate() {
                    *local = V::load(&sums[first + g]);
                }
            }
            for (left, right) in &parts {
                let mut at = left.data.as_ptr();
                for gates in *right {
                    let mut row = [V::splat(0.0); GATES];
                    for (g, row) in row.iter_mut().enumerate() {
                        *row = V::load(&gates[first + g]);
                    }
                    for (local, offset) in local.iter_mut().zip(left.offsets) {
                        let factor = V::splat(*at.add(offset));
                        for g in 0..GATES {
                            local[g] = row[g].mul_add(factor, local[g]);
                        }
                    }
                    at = at.wrapping_add(left.step);
                }
            }
            for r in 0..TILE {
                for g in 0..GATES {
                    local[r][g].store(&mut sums[r][first + g]);
                }
            }
        }
    }
}

/// The transpose of a matrix `[n, 4 * hidden]`, for products with gradients by gates: panels of
/// [`LANES`] of its `n` columns, `[n / LANES][block][gate][unit][LANES]`, filled up with zeros.
pub(super) struct Panels {
    data: Vec<[f32; LANES]>,
    /// Rows of a panel: gates of all blocks.
    k: usize,
    n: usize,
}

impl Panels {
    /// From a row-major `[n, 4 * hidden]` matrix.
    pub(super) fn transposed(matrix: &[f32], n: usize, hidden: usize) -> Self {
        let k = hidden.div_ceil(LANES) * 4 * LANES;
        let mut data = vec![[0.0; LANES]; n.div_ceil(LANES) * k];
        for (column, row) in matrix.chunks_exact(4 * hidden).enumerate() {
            let panel = &mut data[column / LANES * k..][..k];
            for (place, value) in row.iter().enumerate() {
                let (gate, unit) = (place / hidden, place % hidden);
                let at = (unit / LANES * 4 + gate) * LANES + unit % LANES;
                panel[at][column % LANES] = *value;
            }
        }
        Self { data, k, n }
    }
}

/// Gradients by the gates of some rows: block `b` of row `r` lies at `b * stride + r`.
#[derive(Clone, Copy)]
pub(super) struct ByGates<'a> {
    pub(super) data: &'a [Gates],
    pub(super) stride: usize,
}

/// `out[r, ..n] = rows[r] · panels`, for `r` in `0..rows`; `out` is a contiguous `[rows, n]`.
///
/// Works on tiles of `ROWS` rows by `WIDE` panels whose sums stay in registers.
///
/// # Safety
/// The processor has what `V` needs.
#[inline(always)]
pub(super) unsafe fn multiply<V: Vector, const ROWS: usize, const WIDE: usize>(
    left: ByGates<'_>,
    panels: &Panels,
    rows: usize,
    out: &mut [f32],
) {
    let (n, blocks) = (panels.n, panels.k / (4 * LANES));
    assert!(rows <= left.stride && left.data.len() + left.stride >= blocks * left.stride + rows);
    assert!(out.len() == rows * n);
    let mut column = 0;
    // SAFETY: the assertions above cover all rows and columns; the caller answers for the
    // processor.
    unsafe {
        while column + WIDE * LANES <= n {
            for top in (0..rows).step_by(ROWS) {
                tile::<V, ROWS, WIDE>(left, panels, (rows, top, column), out);
            }
            column += WIDE * LANES;
        }
        while column < n {
            for top in (0..rows).step_by(ROWS) {
                tile::<V, ROWS, 1>(left, panels, (rows, top, column), out);
            }
            column += LANES;
        }
    }
}

/// The sums of the rows from `top` and of `WIDE` panels from `column` on.
///
/// # Safety
/// `left` is as [`multiply`] asserts, `top < rows`, there is a panel at `column` and at the `WIDE - 1`
/// after it, and the processor has what `V` needs.
#[inline(always)]
unsafe fn tile<V: Vector, const ROWS: usize, const WIDE: usize>(
    left: ByGates<'_>,
    panels: &Panels,
    (rows, top, column): (usize, usize, usize),
    out: &mut [f32],
) {
    let height = ROWS.min(rows - top);
    let right: [&[[f32; LANES]]; WIDE] = std::array::from_fn(|place| {
        &panels.data[(column / LANES + place) * panels.k..][..panels.k]
    });
    let mut found = [[[0.0f32; LANES]; WIDE]; ROWS];
    // SAFETY: a panel has 4 * LANES rows for each block, and `left` a value for each of them in every
    // row, because rows past the last are read from the last.
    unsafe {
        let zero = V::load(&[0.0; LANES]);
        let mut sums = [[zero; WIDE]; ROWS];
        for block in 0..panels.k / (4 * LANES) {
            let first = left.data.as_ptr().add(block * left.stride + top).cast::<f32>();
            let mut starts = [first; ROWS];
            for (r, start) in starts.iter_mut().enumerate() {
                *start = first.add(r.min(height - 1) * 4 * LANES);
            }
            for p in 0..4 * LANES {
                let mut row = [zero; WIDE];
                for (row, right) in row.iter_mut().zip(&right) {
                    *row = V::load(right.get_unchecked(block * 4 * LANES + p));
                }
                for r in 0..ROWS {
                    let factor = V::splat(*starts[r].add(p));
                    for place in 0..WIDE {
                        sums[r][place] = row[place].mul_add(factor, sums[r][place]);
                    }
                }
            }
        }
        for r in 0..ROWS {
            for place in 0..WIDE {
                sums[r][place].store(&mut found[r][place]);
            }
        }
    }
    for (r, found) in found.iter().enumerate().take(height) {
        let row = &mut out[(top + r) * panels.n..(top + r + 1) * panels.n];
        for (place, values) in found.iter().enumerate() {
            put(row, column + place * LANES, values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::vector::Portable;
    use super::*;

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        (0..n as u32)
            .map(|i| {
                (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 16) as f32 / 65_536.0 - 0.5
            })
            .collect()
    }

    #[test]
    fn blocks_hold_every_gate_of_every_unit_and_zeros_besides() {
        for hidden in [1, 15, 16, 17, 40] {
            let matrix = numbers(3 * 4 * hidden, 1);
            let blocks = by_block(&matrix, 3, hidden);
            assert_eq!(by_gate(&blocks, 3, hidden), matrix);
            let there = blocks.as_flattened().as_flattened().iter().filter(|v| **v != 0.0);
            assert_eq!(there.count(), matrix.iter().filter(|v| **v != 0.0).count());
        }
    }

    #[test]
    fn rows_times_gates_are_the_product() {
        let (a, weights) = (numbers(3 * 5, 1), by_block(&numbers(5 * 4 * 16, 2), 5, 16));
        let mut sums = [[[0.25; LANES]; 4]; TILE];
        // SAFETY: the portable vector needs nothing.
        unsafe {
            add_products::<Portable, 2, 1>(&mut sums, [(Left::rows(&a, 5, 1, 2), &weights)]);
        }
        for (r, gates) in sums.iter().enumerate().take(2) {
            for (place, found) in gates.as_flattened().iter().enumerate() {
                let terms = (0..5).map(|p| a[(1 + r) * 5 + p] * weights[p].as_flattened()[place]);
                let exact = 0.25 + terms.sum::<f32>();
                assert!((found - exact).abs() < 1e-6, "{found} against {exact}");
            }
        }
    }

    #[test]
    fn columns_times_gates_are_the_transposed_product() {
        let (a, deltas) = (numbers(7 * 6, 3), by_block(&numbers(7 * 4 * 16, 4), 7, 16));
        let mut sums = [NO_GATES; TILE];
        // SAFETY: the portable vector needs nothing.
        unsafe {
            add_products::<Portable, 4, 1>(&mut sums, [(Left::columns(&a, 6, 2, 4), &deltas)]);
        }
        for (c, gates) in sums.iter().enumerate() {
            for (place, found) in gates.as_flattened().iter().enumerate() {
                let terms = (0..7).map(|r| a[r * 6 + 2 + c] * deltas[r].as_flattened()[place]);
                let exact: f32 = terms.sum();
                assert!((found - exact).abs() < 1e-6, "{found} against {exact}");
            }
        }
    }

    #[test]
    fn gradients_times_the_transposed_weights_are_the_product_whatever_the_remainders() {
        for (rows, n, hidden) in [(1, 1, 1), (5, 17, 3), (16, 32, 24), (18, 40, 16), (3, 64, 33)] {
            let (deltas, weights) = (numbers(rows * 4 * hidden, 5), numbers(n * 4 * hidden, 6));
            let panels = Panels::transposed(&weights, n, hidden);
            let left = ByGates { data: &by_block(&deltas, rows, hidden), stride: rows };
            let mut out = vec![0.0; rows * n];
            // SAFETY: the portable vector needs nothing.
            unsafe { multiply::<Portable, 4, 2>(left, &panels, rows, &mut out) };
            for (at, found) in out.iter().enumerate() {
                let (r, c) = (at / n, at % n);
                let of = |values: &[f32], row: usize, p: usize| values[row * 4 * hidden + p];
                let exact: f32 =
                    (0..4 * hidden).map(|p| of(&deltas, r, p) * of(&weights, c, p)).sum();
                assert!((found - exact).abs() < 1e-5, "{rows} {n} {hidden}: {found}, {exact}");
            }
        }
    }
}
