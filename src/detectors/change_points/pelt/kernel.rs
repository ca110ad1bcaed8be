//! `rbf`: scatter in the feature space of a Gaussian kernel, for changes of any part of the
//! distribution (Arlot, Celisse and Harchaoui 2019, JMLR 20, "A kernel multiple change-point algorithm").

use super::{Cost, retain};

/// More values than this take longer than a minute: the kernel is evaluated for every pair within a
/// segment that is still open.
pub const MAX_KERNEL_VALUES: usize = 50_000;

/// `(end - start) - (sum of k(x, y) over all pairs of the segment) / (end - start)`, with
/// `k(x, y) = exp(-gamma (x - y)^2)`.
///
/// Kept for each start: the sum over the pairs of `start..end`. A new value adds one row to all of
/// them, so memory stays in proportion to the number of values. As the reference implementation does,
/// the exponent of two different values is kept between 0.01 and 100.
#[derive(Clone, Debug)]
pub struct GaussianKernel {
    values: Vec<f64>,
    gamma: f64,
    /// For each start: the sum of the kernel over all pairs, itself included, of `start..seen`.
    pair_sums: Vec<f64>,
    seen: usize,
    starts: Vec<usize>,
}

impl GaussianKernel {
    /// Of finite values. `gamma` in the inverse square of their unit; `None`: [`median_heuristic`].
    pub fn new(values: &[f64], gamma: Option<f64>) -> Self {
        let gamma = gamma.unwrap_or_else(|| median_heuristic(values));
        let pair_sums = vec![0.0; values.len()];
        Self { values: values.to_vec(), gamma, pair_sums, seen: 0, starts: Vec::new() }
    }

    /// Inverse square of the kernel's width.
    pub fn gamma(&self) -> f64 {
        self.gamma
    }

    /// The kernel of two different values.
    fn kernel(&self, a: f64, b: f64) -> f64 {
        kernel(self.gamma, a, b)
    }

    fn add_row(&mut self, first: usize) {
        let newest = self.values[self.seen];
        let mut row = 0.0;
        for start in (first..self.seen).rev() {
            row += self.kernel(self.values[start], newest);
            self.pair_sums[start] += 1.0 + 2.0 * row;
        }
        self.pair_sums[self.seen] = 1.0;
        self.seen += 1;
    }
}

impl Cost for GaussianKernel {
    fn len(&self) -> usize {
        self.values.len()
    }

    fn push(&mut self, start: usize) {
        self.starts.push(start);
    }

    fn retain(&mut self, keep: &[bool]) {
        retain(&mut self.starts, keep);
    }

    fn totals(&mut self, end: usize, before: &[f64], out: &mut Vec<f64>) {
        let first = self.starts.first().copied().unwrap_or(self.seen);
        while self.seen < end {
            self.add_row(first);
        }
        out.clear();
        out.extend(self.starts.iter().zip(before).map(|(&start, before)| {
            let n = (end - start) as f64;
            before + n - self.pair_sums[start] / n
        }));
    }

    /// Takes time in proportion to the square of the length.
    fn segment(&self, start: usize, end: usize) -> f64 {
        if start >= end {
            return 0.0;
        }
        let values = &self.values[start..end];
        let n = values.len() as f64;
        let of_row = |(i, a): (usize, &f64)| -> f64 {
            values[..i].iter().map(|b| self.kernel(*a, *b)).sum()
        };
        let pairs: f64 = values.iter().enumerate().map(of_row).sum();
        n - (n + 2.0 * pairs) / n
    }
}

fn kernel(gamma: f64, a: f64, b: f64) -> f64 {
    (-(gamma * (a - b) * (a - b)).clamp(0.01, 100.0)).exp()
}

/// Scatter of one value under the noise alone: 1 less the mean kernel of neighbours, whose level is
/// the same but where it changes. It is the sum of the weights of the chi-squared variables whose weighted
/// sum the gain of a needless change is.
pub fn kernel_scatter(values: &[f64], gamma: f64) -> f64 {
    let pairs = values.len().saturating_sub(1).max(1) as f64;
    let near: f64 = values.windows(2).map(|pair| kernel(gamma, pair[0], pair[1])).sum();
    1.0 - near / pairs
}

/// One over the median of the squared distances of all pairs, as the reference implementation has
/// it; 1 where that is 0. Found by bisection, so no pair is stored: `O(n)` memory.
pub fn median_heuristic(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let pairs = sorted.len() * sorted.len().saturating_sub(1) / 2;
    if pairs == 0 {
        return 1.0;
    }
    let upper = distance_of_rank(&sorted, pairs / 2).powi(2);
    let lower = if pairs.is_multiple_of(2) {
        distance_of_rank(&sorted, pairs / 2 - 1).powi(2)
    } else {
        upper
    };
    let median = 0.5 * (lower + upper);
    if median > 0.0 { median.recip() } else { 1.0 }
}

/// The distance of a pair that has `rank` others below it, exactly: the bits of non-negative numbers
/// rise with them, so sixty-four bisections find it.
fn distance_of_rank(sorted: &[f64], rank: usize) -> f64 {
    let (mut low, mut high) = (0_u64, f64::INFINITY.to_bits());
    while low < high {
        let middle = low + (high - low) / 2;
        if pairs_within(sorted, f64::from_bits(middle)) > rank {
            high = middle
        } else {
            low = middle + 1
        }
    }
    f64::from_bits(low)
}

/// Number of pairs at most `distance` apart.
fn pairs_within(sorted: &[f64], distance: f64) -> usize {
    let (mut first, mut count) = (0, 0);
    for (place, value) in sorted.iter().enumerate() {
        while value - sorted[first] > distance {
            first += 1;
        }
        count += place - first;
    }
    count
}
