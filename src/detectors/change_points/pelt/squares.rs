//! `l2`: the sum of squares about a segment's mean, for changes of the mean.

use super::{Cost, retain};

/// Sums of squared deviations from the segment's mean, from running sums: each takes constant time.
#[derive(Clone, Debug)]
pub struct SquaredDeviation {
    /// Sums of the first values, less a centre, so that few digits cancel.
    sums: Vec<f64>,
    squares: Vec<f64>,
    starts: Vec<f64>,
    start_sums: Vec<f64>,
    start_squares: Vec<f64>,
}

impl SquaredDeviation {
    /// Of finite values.
    pub fn new(values: &[f64]) -> Self {
        Self::about(values, values.iter().sum::<f64>() / (values.len() as f64).max(1.0))
    }

    /// Of finite values near `centre`: the costs are the same, but the sums of the first values do not
    /// depend on the rest, not even by rounding.
    pub fn about(values: &[f64], centre: f64) -> Self {
        let (mut sums, mut squares) = (vec![0.0], vec![0.0]);
        let (mut sum, mut square) = (0.0, 0.0);
        for value in values.iter().map(|value| value - centre) {
            sum += value;
            square += value * value;
            sums.push(sum);
            squares.push(square);
        }
        let [starts, start_sums, start_squares] = [const { Vec::new() }; 3];
        Self { sums, squares, starts, start_sums, start_squares }
    }
}

impl Cost for SquaredDeviation {
    fn len(&self) -> usize {
        self.sums.len() - 1
    }

    fn push(&mut self, start: usize) {
        self.starts.push(start as f64);
        self.start_sums.push(self.sums[start]);
        self.start_squares.push(self.squares[start]);
    }

    fn retain(&mut self, keep: &[bool]) {
        retain(&mut self.starts, keep);
        retain(&mut self.start_sums, keep);
        retain(&mut self.start_squares, keep);
    }

    fn totals(&mut self, end: usize, before: &[f64], out: &mut Vec<f64>) {
        let (at, sum, square) = (end as f64, self.sums[end], self.squares[end]);
        let starts = self.starts.iter().zip(&self.start_sums).zip(&self.start_squares);
        out.clear();
        out.extend(starts.zip(before).map(|(((start, start_sum), start_square), before)| {
            let part = sum - start_sum;
            before + (square - start_square) - part * part / (at - start)
        }));
    }

    fn segment(&self, start: usize, end: usize) -> f64 {
        if start >= end {
            return 0.0;
        }
        let sum = self.sums[end] - self.sums[start];
        self.squares[end] - self.squares[start] - sum * sum / (end - start) as f64
    }
}
