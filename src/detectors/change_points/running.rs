//! The median of the newest values of a sequence.

use std::collections::VecDeque;

/// A window of a fixed number of values, kept in order of time and in order of size.
#[derive(Clone, Debug)]
pub(super) struct RunningMedian {
    window: VecDeque<f64>,
    sorted: Vec<f64>,
}

impl RunningMedian {
    /// A window full of `value`, so that the beginning is as steady as the rest. `width` is at least 1.
    pub fn full_of(value: f64, width: usize) -> Self {
        let width = width.max(1);
        Self { window: VecDeque::from(vec![value; width]), sorted: vec![value; width] }
    }

    /// The newest value takes the place of the oldest.
    pub fn push(&mut self, value: f64) {
        if let Some(old) = self.window.pop_front() {
            let place = self.sorted.partition_point(|other| *other < old);
            self.sorted.remove(place);
        }
        self.window.push_back(value);
        let place = self.sorted.partition_point(|other| *other < value);
        self.sorted.insert(place, value);
    }

    pub fn median(&self) -> f64 {
        let n = self.sorted.len();
        0.5 * (self.sorted[(n - 1) / 2] + self.sorted[n / 2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_median_of_the_window() {
        let values = [3.0, 1.0, 1.0, 8.0, -2.0, 5.0, 1.0, 0.0, 9.0];
        for width in [1, 2, 5] {
            let mut running = RunningMedian::full_of(2.0, width);
            let mut all = vec![2.0; width];
            for value in values {
                running.push(value);
                all.push(value);
                let mut window = all[all.len() - width..].to_vec();
                assert_eq!(Some(running.median()), crate::math::robust::median(&mut window));
            }
        }
    }
}
