//! The small matrix products of a recurrent step.
//!
//! A recurrent step multiplies a few rows (the windows of a batch) by one weight matrix, 168
//! times in a row. A general library rearranges the weights on every call, which costs as much as
//! the product itself at these sizes. Here the weights are rearranged once per sequence, into
//! panels of [`LANES`] columns, and every step reuses them.
//!
//! The inner loop is generic over [`Sums`], sixteen running sums held in registers: one AVX-512
//! register, two AVX registers, or an array that the compiler places as it can.

/// Columns per panel.
pub(super) const LANES: usize = 16;

/// Sixteen sums side by side, in registers.
///
/// # Safety
/// An implementation may use instructions that not every processor has. Its methods may be called
/// only where the caller has made sure of them; all are inlined into such a caller.
pub(super) trait Sums: Copy {
    unsafe fn load(values: &[f32; LANES]) -> Self;
    unsafe fn store(self, values: &mut [f32; LANES]);
    /// `self + factor * row`.
    unsafe fn add_scaled(self, factor: f32, row: Self) -> Self;
    /// 1 / value for each of the values, within a unit in the last place.
    #[inline(always)]
    unsafe fn reciprocals(values: &[f32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|lane| 1.0 / values[lane])
    }
}

/// Sums on any processor.
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; LANES]);

impl Sums for Portable {
    #[inline(always)]
    unsafe fn load(values: &[f32; LANES]) -> Self {
        Self(*values)
    }
    #[inline(always)]
    unsafe fn store(self, values: &mut [f32; LANES]) {
        *values = self.0;
    }
    #[inline(always)]
    unsafe fn add_scaled(mut self, factor: f32, row: Self) -> Self {
        for (sum, value) in self.0.iter_mut().zip(row.0) {
            *sum += factor * value;
        }
        self
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_storeu_ps,
        _mm512_fmadd_ps, _mm512_fnmadd_ps, _mm512_loadu_ps, _mm512_rcp14_ps, _mm512_set1_ps,
        _mm512_storeu_ps,
    };

    use super::{LANES, Sums};

    /// Needs AVX-512F.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512(__m512);

    // SAFETY of every call below: sixteen values lie behind each reference, unaligned access is
    // allowed, and the trait makes the caller answer for the instructions.
    impl Sums for Avx512 {
        #[inline(always)]
        unsafe fn load(values: &[f32; LANES]) -> Self {
            Self(unsafe { _mm512_loadu_ps(values.as_ptr()) })
        }
        #[inline(always)]
        unsafe fn store(self, values: &mut [f32; LANES]) {
            unsafe { _mm512_storeu_ps(values.as_mut_ptr(), self.0) }
        }
        #[inline(always)]
        unsafe fn add_scaled(self, factor: f32, row: Self) -> Self {
            Self(unsafe { _mm512_fmadd_ps(_mm512_set1_ps(factor), row.0, self.0) })
        }
        /// An approximation to 14 bits and one step of Newton's method: a division of sixteen
        /// values takes as long as eight of these.
        #[inline(always)]
        unsafe fn reciprocals(values: &[f32; LANES]) -> [f32; LANES] {
            let mut found = [0.0; LANES];
            unsafe {
                let values = _mm512_loadu_ps(values.as_ptr());
                let near = _mm512_rcp14_ps(values);
                let error = _mm512_fnmadd_ps(values, near, _mm512_set1_ps(1.0));
                Self(_mm512_fmadd_ps(near, error, near)).store(&mut found);
            }
            found
        }
    }

    /// Needs AVX and FMA.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx(__m256, __m256);

    impl Sums for Avx {
        #[inline(always)]
        unsafe fn load(values: &[f32; LANES]) -> Self {
            let half = values.as_ptr();
            unsafe { Self(_mm256_loadu_ps(half), _mm256_loadu_ps(half.add(8))) }
        }
        #[inline(always)]
        unsafe fn store(self, values: &mut [f32; LANES]) {
            let half = values.as_mut_ptr();
            unsafe {
                _mm256_storeu_ps(half, self.0);
                _mm256_storeu_ps(half.add(8), self.1);
            }
        }
        #[inline(always)]
        unsafe fn add_scaled(self, factor: f32, row: Self) -> Self {
            unsafe {
                let factor = _mm256_set1_ps(factor);
                Self(_mm256_fmadd_ps(factor, row.0, self.0), _mm256_fmadd_ps(factor, row.1, self.1))
            }
        }
    }
}

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

/// A matrix `[k, n]`, rearranged to panels of [`LANES`] columns: `[n / LANES][k][LANES]`, the
/// last panel filled up with zeros.
pub(super) struct Panels {
    data: Vec<f32>,
    k: usize,
    n: usize,
}

impl Panels {
    /// From a row-major `[k, n]` matrix.
    pub(super) fn new(matrix: &[f32], k: usize, n: usize) -> Self {
        Self::gather(k, n, |p, column| matrix[p * n + column])
    }

    /// From the transpose of a row-major `[n, k]` matrix.
    pub(super) fn transposed(matrix: &[f32], k: usize, n: usize) -> Self {
        Self::gather(k, n, |p, column| matrix[column * k + p])
    }

    fn gather(k: usize, n: usize, at: impl Fn(usize, usize) -> f32) -> Self {
        let mut data = vec![0.0; n.div_ceil(LANES) * k * LANES];
        for column in 0..n {
            let panel = &mut data[column / LANES * k * LANES..];
            for p in 0..k {
                panel[p * LANES + column % LANES] = at(p, column);
            }
        }
        Self { data, k, n }
    }
}

/// Rows of a matrix: row `r` starts at `r * stride` and has as many values as the product needs.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) data: &'a [f32],
    pub(super) stride: usize,
}

/// What a product is added to.
#[derive(Clone, Copy)]
pub(super) enum Start<'a> {
    Zero,
    /// The same `n` values for every row.
    Bias(&'a [f32]),
    /// `[rows, n]`, one row each.
    Rows(&'a [f32]),
}

/// `out[r, ..n] = start + sum over parts of rows[r] · panels`, for `r` in `0..rows`; all parts
/// have the same `n`, and `out` is a contiguous `[rows, n]`.
///
/// Works on tiles of `TILE` rows by `WIDE` panels whose sums stay in registers: each value that is
/// read from a row serves `WIDE` panels, each from a panel `TILE` rows.
///
/// # Safety
/// The processor has what `S` needs.
#[inline(always)]
pub(super) unsafe fn multiply<S: Sums, const TILE: usize, const WIDE: usize, const PARTS: usize>(
    parts: [(Rows<'_>, &Panels); PARTS],
    start: Start<'_>,
    rows: usize,
    out: &mut [f32],
) {
    let n = parts[0].1.n;
    for (a, panels) in &parts {
        assert!(panels.n == n && (rows == 0 || a.data.len() >= (rows - 1) * a.stride + panels.k));
    }
    assert!(out.len() == rows * n);
    for top in (0..rows).step_by(TILE) {
        let mut column = 0;
        // SAFETY: the assertions above cover all rows and columns; the caller answers for the
        // processor.
        unsafe {
            while column + WIDE * LANES <= n {
                tile::<S, TILE, WIDE, PARTS>(&parts, start, (rows, top, column), out);
                column += WIDE * LANES;
            }
            while column < n {
                tile::<S, TILE, 1, PARTS>(&parts, start, (rows, top, column), out);
                column += LANES;
            }
        }
    }
}

/// The sums of the rows from `top` and of `WIDE` panels from `column` on.
///
/// # Safety
/// Every part has `rows` rows and a panel at `column` and the `WIDE - 1` after it, and the processor
/// has what `S` needs.
#[inline(always)]
unsafe fn tile<S: Sums, const TILE: usize, const WIDE: usize, const PARTS: usize>(
    parts: &[(Rows<'_>, &Panels); PARTS],
    start: Start<'_>,
    (rows, top, column): (usize, usize, usize),
    out: &mut [f32],
) {
    let n = parts[0].1.n;
    let height = TILE.min(rows - top);
    let mut sums = [[[0.0f32; LANES]; WIDE]; TILE];
    for (r, sums) in sums.iter_mut().enumerate().take(height) {
        for (place, sum) in sums.iter_mut().enumerate() {
            let from = column + place * LANES;
            let width = LANES.min(n - from);
            *sum = match start {
                Start::Zero => [0.0; LANES],
                Start::Bias(bias) => block(&bias[from..from + width], 0),
                Start::Rows(base) => {
                    let at = (top + r) * n + from;
                    block(&base[at..at + width], 0)
                }
            };
        }
    }
    for (a, panels) in parts {
        let panels: [&[f32]; WIDE] = std::array::from_fn(|place| {
            let first = column + place * LANES;
            &panels.data[first * panels.k..(first + LANES) * panels.k]
        });
        // Rows past the last are read from the last: they are computed and dropped, so that the
        // loop below has no branch.
        let mut offsets = [0; TILE];
        for (r, offset) in offsets.iter_mut().enumerate() {
            *offset = (top + r.min(height - 1)) * a.stride;
        }
        // SAFETY: the caller answers for the rows, whose starts the offsets are, and for the
        // processor; the panels are all of the same length.
        unsafe { accumulate::<S, TILE, WIDE>(&mut sums, a.data, &offsets, &panels) };
    }
    for (r, sums) in sums.iter().enumerate().take(height) {
        for (place, sum) in sums.iter().enumerate() {
            let from = column + place * LANES;
            let (at, width) = ((top + r) * n + from, LANES.min(n - from));
            put(&mut out[at..at + width], 0, sum);
        }
    }
}

/// # Safety
/// `offsets[r] + k <= a.len()` for all rows, with `k` the number of rows in the panels, which have
/// the same length, and the processor has what `S` needs.
#[inline(always)]
unsafe fn accumulate<S: Sums, const TILE: usize, const WIDE: usize>(
    sums: &mut [[[f32; LANES]; WIDE]; TILE],
    a: &[f32],
    offsets: &[usize; TILE],
    panels: &[&[f32]; WIDE],
) {
    // SAFETY: the caller answers for both conditions above.
    unsafe {
        let mut local: [[S; WIDE]; TILE] =
            std::array::from_fn(|r| std::array::from_fn(|place| S::load(&sums[r][place])));
        let panels = panels.map(|panel| panel.as_chunks::<LANES>().0);
        for p in 0..panels[0].len() {
            let row: [S; WIDE] =
                std::array::from_fn(|place| S::load(panels[place].get_unchecked(p)));
            for r in 0..TILE {
                let factor = *a.get_unchecked(offsets[r] + p);
                for place in 0..WIDE {
                    local[r][place] = local[r][place].add_scaled(factor, row[place]);
                }
            }
        }
        for r in 0..TILE {
            for place in 0..WIDE {
                local[r][place].store(&mut sums[r][place]);
            }
        }
    }
}

/// `out[m, n] += aᵀ · b` with `a` `[rows, m]` and `b` `[rows, n]`, both contiguous: how the
/// gradients of all steps become the gradient of one weight matrix, in one product.
pub(super) fn add_transposed_product(a: &[f32], b: &[f32], m: usize, n: usize, out: &mut [f32]) {
    if m == 0 || n == 0 {
        return;
    }
    let rows = a.len() / m;
    assert!(a.len() == rows * m && b.len() == rows * n && out.len() == m * n);
    // SAFETY: the assertion above says that each matrix has as many values as its dimensions and
    // strides let the product touch.
    unsafe {
        matrixmultiply::sgemm(
            m,
            rows,
            n,
            1.0,
            a.as_ptr(),
            1,
            m as isize,
            b.as_ptr(),
            n as isize,
            1,
            1.0,
            out.as_mut_ptr(),
            n as isize,
            1,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        (0..n as u32)
            .map(|i| {
                (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 16) as f32 / 65_536.0 - 0.5
            })
            .collect()
    }

    #[test]
    fn a_product_in_panels_is_the_product_whatever_the_remainders() {
        for (rows, k, n) in [(1, 1, 1), (5, 3, 17), (16, 24, 32), (18, 7, 40), (3, 4, 64)] {
            let (a, b, bias) = (numbers(rows * k, 1), numbers(k * n, 2), numbers(n, 3));
            let part = (Rows { data: &a, stride: k }, &Panels::new(&b, k, n));
            let mut out = vec![0.0; rows * n];
            // SAFETY: the portable sums need nothing.
            unsafe { multiply::<Portable, 4, 2, 1>([part], Start::Bias(&bias), rows, &mut out) };
            for r in 0..rows {
                for c in 0..n {
                    let exact: f64 = f64::from(bias[c])
                        + (0..k)
                            .map(|p| f64::from(a[r * k + p]) * f64::from(b[p * n + c]))
                            .sum::<f64>();
                    assert!((f64::from(out[r * n + c]) - exact).abs() < 1e-6, "{rows} {k} {n}");
                }
            }
        }
    }

    #[test]
    fn a_transposed_matrix_makes_the_same_panels() {
        let matrix = numbers(6 * 5, 4);
        let mut turned = vec![0.0; 30];
        for p in 0..6 {
            for c in 0..5 {
                turned[c * 6 + p] = matrix[p * 5 + c];
            }
        }
        assert_eq!(Panels::new(&matrix, 6, 5).data, Panels::transposed(&turned, 6, 5).data);
    }

    #[test]
    fn the_transposed_product_adds_to_what_is_there() {
        let (a, b) = ([1.0, 2.0, 3.0, 4.0], [1.0, 0.0, 0.0, 1.0]);
        let mut out = [10.0; 4];
        add_transposed_product(&a, &b, 2, 2, &mut out);
        assert_eq!(out, [11.0, 13.0, 12.0, 14.0]);
    }
}
