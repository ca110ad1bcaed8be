//! Rows of one context that move together for a while: each only moderately odd, all in the same
//! direction.
//!
//! The mean deviate of the last rows of a context is small when they are independent, however odd
//! some of them are in their own ways, and large when something has happened to all of them. A row
//! is part of that only if its own deviates point the same way, so the first rows after a burst are
//! not blamed for what the window still remembers.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Deviates are cut here before they are pooled: a burst is many rows, not one wild one.
const CUT: f64 = 3.0;

/// The last rows of one context, oldest first: time and standardised deviates.
type Window = VecDeque<(i64, Vec<f64>)>;

/// What the deviates of the training part look like once they are cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct BurstScale {
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

/// The last rows of every context: all that scoring remembers from one row to the next.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BurstState {
    windows: Vec<Window>,
}

impl BurstScale {
    /// `deviates[row * n + column]` of the training rows.
    pub(super) fn fit(deviates: &[f64], n: usize) -> Self {
        let rows = (deviates.len() / n).max(1) as f64;
        let column = |c: usize| deviates.iter().skip(c).step_by(n).map(|z| z.clamp(-CUT, CUT));
        let mean: Vec<f64> = (0..n).map(|c| column(c).sum::<f64>() / rows).collect();
        let deviation = (0..n)
            .map(|c| {
                let variance = column(c).map(|z| (z - mean[c]).powi(2)).sum::<f64>() / rows;
                variance.sqrt().max(1e-6)
            })
            .collect();
        Self { mean, deviation }
    }

    pub(super) fn is_sound(&self, n: usize) -> bool {
        self.mean.len() == n
            && self.deviation.len() == n
            && self.mean.iter().all(|x| x.is_finite())
            && self.deviation.iter().all(|x| x.is_finite() && *x > 0.0)
    }

    fn standardise(&self, deviates: &[f64]) -> Vec<f64> {
        std::iter::zip(deviates, std::iter::zip(&self.mean, &self.deviation))
            .map(|(z, (mean, deviation))| (z.clamp(-CUT, CUT) - mean) / deviation)
            .collect()
    }
}

impl BurstState {
    /// Takes the next row of a context and writes, for each of the windows' lengths, how far the
    /// last rows have moved together: the root of `k |m|²`, where `m` is the mean of the `k` deviates
    /// in the window (`k |m|²` is chi-square where rows are independent), times the odds, logistic in
    /// `x·m - |m|²/2`, that this row has moved along.
    ///
    /// No row older than `seconds` is pooled. `out` has one place per length.
    pub(super) fn push(
        &mut self,
        context: usize,
        time: i64,
        deviates: &[f64],
        scale: &BurstScale,
        (lengths, seconds): (&[usize], i64),
        out: &mut [f64],
    ) {
        if self.windows.len() <= context {
            self.windows.resize_with(context + 1, Window::new);
        }
        let window = &mut self.windows[context];
        window.push_back((time, scale.standardise(deviates)));
        let longest = lengths.iter().copied().max().unwrap_or(1);
        while window.len() > longest
            || window.front().is_some_and(|(then, _)| time.saturating_sub(*then) > seconds)
        {
            window.pop_front();
        }
        for (out, &length) in out.iter_mut().zip(lengths) {
            *out = moved_together(window, length);
        }
    }
}

/// [`BurstState::push`] for the newest row over the last `length` rows.
fn moved_together(window: &Window, length: usize) -> f64 {
    let Some((_, newest)) = window.back() else { return 0.0 };
    let from = window.len().saturating_sub(length);
    let k = (window.len() - from) as f64;
    let (mut squared, mut along) = (0.0, 0.0);
    for (column, own) in newest.iter().enumerate() {
        let mean = window.range(from..).map(|(_, row)| row[column]).sum::<f64>() / k;
        squared += mean * mean;
        along += own * mean;
    }
    let odds = 1.0 / (1.0 + (0.5 * squared - along).exp());
    (k * squared * odds).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::random::stream;
    use rand_distr::{Distribution, StandardNormal};

    fn push(state: &mut BurstState, context: usize, time: i64, z: &[f64], seconds: i64) -> f64 {
        let mut out = [0.0];
        state.push(context, time, z, &unit(z.len()), (&[8], seconds), &mut out);
        out[0]
    }

    fn unit(n: usize) -> BurstScale {
        BurstScale { mean: vec![0.0; n], deviation: vec![1.0; n] }
    }

    #[test]
    fn rows_that_move_together_stand_out_and_the_first_after_them_do_not() {
        let mut rng = stream(2, "burst", 0);
        let mut state = BurstState::default();
        let mut scores = Vec::new();
        for row in 0..300 {
            let shift = if (200..220).contains(&row) { 1.5 } else { 0.0 };
            let z: Vec<f64> = (0..4)
                .map(|_| {
                    let z: f64 = StandardNormal.sample(&mut rng);
                    z + shift
                })
                .collect();
            scores.push(push(&mut state, 0, row, &z, 1_000));
        }
        let calm = scores[20..200].iter().copied().fold(0.0, f64::max);
        let inside = scores[206..220].iter().filter(|s| **s > calm).count();
        assert!(inside >= 11, "{inside} of 14 above {calm}");
        let after = scores[220..228].iter().filter(|s| **s > calm).count();
        assert!(after <= 2, "{after} of 8 above {calm}");
    }

    #[test]
    fn contexts_do_not_mix_and_old_rows_leave() {
        let mut state = BurstState::default();
        let odd = [3.0, 3.0];
        for time in 0..8 {
            push(&mut state, 1, time, &odd, 100);
        }
        let alone = push(&mut state, 0, 8, &odd, 100);
        let pooled = push(&mut state, 1, 8, &odd, 100);
        assert!(pooled > 2.5 * alone, "{pooled} {alone}");
        assert_eq!(push(&mut state, 1, 500, &odd, 100), alone);
    }
}
