//! The difference between two runs on the same data, with a paired bootstrap interval.
//!
//! Points of one series depend on each other, and so do the runs of several seeds on the same
//! series. What is drawn with replacement is therefore a whole series of a data set, with every
//! step of it and every seed that ran on it, and the same draw is applied to both runs (Efron and
//! Tibshirani 1993, chapters 8 and 14). Data generated anew for each seed are data sets of their
//! own, so there a block is one (seed, series). Each data set keeps its number of series.
//!
//! A figure is computed per run from the drawn series and averaged over the runs; the interval is
//! that of the percentiles of the differences of these averages. Percentile intervals are too
//! narrow when a data set has few series (below about twenty): callers say so.

mod figures;

use rand::RngExt;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::math::random::stream;

pub use figures::{Figure, RunSample};

/// How often to resample, and the interval's level.
#[derive(Clone, Copy, Debug)]
pub struct Bootstrap {
    pub resamples: usize,
    /// Of the two-sided interval: 0.95.
    pub level: f64,
    pub seed: u64,
}

/// A difference `other - baseline` of a figure averaged over runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// On the data as they are.
    pub estimate: f64,
    /// Percentile interval; `None` where too few resamples have the figure.
    pub interval: Option<(f64, f64)>,
}

impl Difference {
    /// The interval leaves zero out.
    pub fn is_clear(&self) -> bool {
        self.interval.is_some_and(|(low, high)| low > 0.0 || high < 0.0)
    }
}

/// Share of resamples that must have a figure for its interval to be given.
const MIN_DEFINED: f64 = 0.9;

impl Bootstrap {
    /// The difference of every figure, `None` where no pair of runs has it.
    ///
    /// `series[d]` is the number of series of data set `d`; `pairs` are the runs of the baseline
    /// and of the other config on the same data and seed.
    pub fn differences(
        &self,
        series: &[usize],
        pairs: &[(&RunSample, &RunSample)],
    ) -> Vec<(Figure, Option<Difference>)> {
        let ones: Vec<Vec<u32>> = series.iter().map(|n| vec![1; *n]).collect();
        let observed = mean_differences(pairs, &ones);
        let replicates: Vec<Vec<f64>> = (0..self.resamples as u64)
            .into_par_iter()
            .map(|number| mean_differences(pairs, &self.draw(series, number)))
            .collect();
        Figure::ALL
            .iter()
            .enumerate()
            .map(|(place, figure)| {
                let estimate = observed[place];
                let mut values: Vec<f64> =
                    replicates.iter().map(|r| r[place]).filter(|x| x.is_finite()).collect();
                let enough = values.len() as f64 >= MIN_DEFINED * self.resamples as f64;
                let interval =
                    if enough { percentile_interval(&mut values, self.level) } else { None };
                (*figure, estimate.is_finite().then_some(Difference { estimate, interval }))
            })
            .collect()
    }

    /// How often each series of each data set is in resample `number`.
    fn draw(&self, series: &[usize], number: u64) -> Vec<Vec<u32>> {
        let mut rng = stream(self.seed, "paired bootstrap", number);
        series
            .iter()
            .map(|&n| {
                let mut weights = vec![0; n];
                for _ in 0..n {
                    weights[rng.random_range(0..n)] += 1;
                }
                weights
            })
            .collect()
    }
}

/// For each figure, the mean of `other - baseline` over the pairs that both have it; NaN if none.
fn mean_differences(pairs: &[(&RunSample, &RunSample)], weights: &[Vec<u32>]) -> Vec<f64> {
    let mut sums = vec![(0.0, 0.0); Figure::ALL.len()];
    for (baseline, other) in pairs {
        let a = baseline.figures(&weights[baseline.data_set]);
        let b = other.figures(&weights[other.data_set]);
        for (sum, (a, b)) in sums.iter_mut().zip(a.into_iter().zip(b)) {
            if let (Some(a), Some(b)) = (a, b) {
                *sum = (sum.0 + b - a, sum.1 + 1.0);
            }
        }
    }
    sums.into_iter().map(|(sum, n)| sum / n).collect()
}

/// The central interval of `values` at `level`, by linear interpolation between order statistics
/// (type 7 of Hyndman and Fan 1996); `None` without values. Sorts `values`, which must be finite.
pub fn percentile_interval(values: &mut [f64], level: f64) -> Option<(f64, f64)> {
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    let quantile = |share: f64| {
        let place = share * last as f64;
        let below = place.floor() as usize;
        let above = (below + 1).min(last);
        values[below] + (place - below as f64) * (values[above] - values[below])
    };
    Some((quantile((1.0 - level) / 2.0), quantile((1.0 + level) / 2.0)))
}

#[cfg(test)]
mod tests;
