//! `l1`: the sum of distances from a segment's median, for changes of the median among wild values.

use super::{Cost, retain};

/// Sums of absolute deviations from the segment's median.
///
/// A wavelet tree over the ranks of the values answers any segment in `log2(n)` steps: on each level the
/// values are split by one bit of their rank, with the number and the sum of those that go left so
/// far, and one walk down finds the median and the sum of what lies below. Memory: 16 bytes a value
/// and level.
#[derive(Clone, Debug)]
pub struct AbsoluteDeviation {
    /// Sums of the first values, less the median of all.
    sums: Vec<f64>,
    /// Different values, rising.
    sorted: Vec<f64>,
    /// The highest bit of the ranks first.
    levels: Vec<Level>,
    starts: Vec<usize>,
}

/// Number and sum of those of the first items that go left.
#[derive(Clone, Copy, Debug)]
struct Left {
    count: usize,
    sum: f64,
}

/// For each number of first items.
#[derive(Clone, Debug)]
struct Level(Vec<Left>);

impl AbsoluteDeviation {
    /// Of finite values.
    pub fn new(values: &[f64]) -> Self {
        let centre = crate::math::robust::median(&mut values.to_vec()).unwrap_or(0.0);
        let centred: Vec<f64> = values.iter().map(|value| value - centre).collect();
        let mut sorted = centred.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted.dedup();
        let rank = |value: &f64| sorted.partition_point(|other| other < value);
        let mut items: Vec<(usize, f64)> =
            centred.iter().map(|value| (rank(value), *value)).collect();
        let bits = usize::BITS - sorted.len().saturating_sub(1).leading_zeros();
        let levels = (0..bits).rev().map(|bit| Level::split(&mut items, bit)).collect();
        let mut sums = vec![0.0];
        let mut sum = 0.0;
        for value in &centred {
            sum += value;
            sums.push(sum);
        }
        Self { sums, sorted, levels, starts: Vec::new() }
    }

    /// The value of that rank within `start..end` (0: the smallest), and the sum of those below it.
    fn below(&self, start: usize, end: usize, mut rank: usize) -> (f64, f64) {
        let (mut from, mut to, mut code, mut sum) = (start, end, 0, 0.0);
        for level in &self.levels {
            let (before, until) = (level.0[from], level.0[to]);
            let n_left = until.count - before.count;
            code <<= 1;
            if rank < n_left {
                (from, to) = (before.count, until.count);
            } else {
                sum += until.sum - before.sum;
                rank -= n_left;
                code |= 1;
                let all_left = level.0.last().map_or(0, |left| left.count);
                (from, to) = (all_left + from - before.count, all_left + to - until.count);
            }
        }
        let value = self.sorted[code];
        (value, sum + rank as f64 * value)
    }
}

impl Level {
    /// Splits the items by a bit of their rank, those without it first, in their order.
    fn split(items: &mut Vec<(usize, f64)>, bit: u32) -> Self {
        let goes_left = |item: &&(usize, f64)| item.0 >> bit & 1 == 0;
        let mut so_far = Left { count: 0, sum: 0.0 };
        let mut left = vec![so_far];
        for item in items.iter() {
            if goes_left(&item) {
                so_far.count += 1;
                so_far.sum += item.1;
            }
            left.push(so_far);
        }
        let right = items.iter().filter(|item| !goes_left(item));
        *items = items.iter().filter(goes_left).chain(right).copied().collect();
        Self(left)
    }
}

impl Cost for AbsoluteDeviation {
    fn len(&self) -> usize {
        self.sums.len() - 1
    }

    fn push(&mut self, start: usize) {
        self.starts.push(start);
    }

    fn retain(&mut self, keep: &[bool]) {
        retain(&mut self.starts, keep);
    }

    fn totals(&mut self, end: usize, before: &[f64], out: &mut Vec<f64>) {
        let starts = self.starts.iter().zip(before);
        out.clear();
        out.extend(starts.map(|(start, before)| before + self.segment(*start, end)));
    }

    fn segment(&self, start: usize, end: usize) -> f64 {
        if start >= end {
            return 0.0;
        }
        let n = end - start;
        let (median, below) = self.below(start, end, n / 2);
        let all = self.sums[end] - self.sums[start];
        // Of an odd number the middle value itself has no distance.
        let middle = if n % 2 == 1 { median } else { 0.0 };
        (all - middle - 2.0 * below).max(0.0)
    }
}
