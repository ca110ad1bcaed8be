//! Location and scale of each series' scores, the scale shrunk to the pool's.
//!
//! Scores of different series are not on one scale: a reconstruction error depends on how noisy a
//! brand is. Medians and quartile distances make them comparable without minding a few percent of
//! anomalies. On a short series they are noisy themselves, and dividing by a noisy scale makes a
//! light tail heavy. So each scale is shrunk towards the pool's by how much the series really differ:
//! weight = between-series variance / (between-series variance + sampling variance), the sampling
//! variance taken from the two halves of each series, which feels serial correlation too.

use serde::{Deserialize, Serialize};

/// Fewer points than this say nothing about a series' own scale.
const FEWEST_POINTS: usize = 8;
/// Fewer series than this give no robust variance between them.
const FEWEST_SERIES: usize = 8;

/// Where a series' normal scores lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Standard {
    pub location: f64,
    /// Distance of the quartiles, positive.
    pub scale: f64,
}

impl Standard {
    pub fn apply(&self, score: f64) -> f64 {
        (score - self.location) / self.scale
    }

    pub fn is_sound(&self) -> bool {
        self.location.is_finite() && self.scale.is_finite() && self.scale > 0.0
    }
}

/// The standards of many series, and of the pool for series that are not known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Standards {
    pub series: Vec<Standard>,
    pub pool: Standard,
}

/// Quantile of a sorted, non-empty sample, linear between order statistics (type 7 of Hyndman and
/// Fan).
pub(super) fn quantile(sorted: &[f64], level: f64) -> f64 {
    let place = level * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (place - below as f64) * (sorted[above] - sorted[below])
}

pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    (!values.is_empty()).then(|| quantile(&values, 0.5))
}

/// The smallest scale of a series, in scales of the typical one. A series that hardly ever moves
/// (zeros, a meter that is switched off) has scores that differ by next to nothing; measured by
/// that nothing, a drift in the fourth digit would be its greatest anomaly.
const QUIETEST: f64 = 0.05;

/// A series' own location and ln of its own scale; the latter is not finite for ties.
#[derive(Clone, Copy)]
struct Summary {
    count: usize,
    location: f64,
    ln_scale: f64,
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Median and quartile distance.
fn summarise(values: &[f64]) -> Option<Summary> {
    if values.len() < FEWEST_POINTS {
        return None;
    }
    let sorted = sorted(values);
    Some(Summary {
        count: values.len(),
        location: quantile(&sorted, 0.5),
        ln_scale: (quantile(&sorted, 0.75) - quantile(&sorted, 0.25)).ln(),
    })
}

/// The central quantiles of the typical standardised series.
///
/// A quartile distance uses two numbers of a sample and wastes the rest. Once the quartiles have
/// told the common shape, a line through a series' central quantiles against those of the shape
/// gives its location and scale more precisely.
struct CommonShape {
    quantiles: Vec<f64>,
    mean: f64,
    variance: f64,
}

impl CommonShape {
    const LEVELS: usize = 32;
    const CENTRE: (f64, f64) = (0.05, 0.85);

    fn central(sorted: &[f64]) -> Vec<f64> {
        let (low, high) = Self::CENTRE;
        let level = |i| low + (high - low) * i as f64 / (Self::LEVELS - 1) as f64;
        (0..Self::LEVELS).map(|i| quantile(sorted, level(i))).collect()
    }

    /// `None` when no series has a scale.
    fn learn(series: &[Vec<f64>], summaries: &[Option<Summary>]) -> Option<Self> {
        let all: Vec<f64> = std::iter::zip(series, summaries)
            .filter_map(|(values, summary)| Some((values, summary.as_ref()?)))
            .filter(|(_, s)| s.ln_scale.is_finite())
            .flat_map(|(values, s)| values.iter().map(|v| (v - s.location) / s.ln_scale.exp()))
            .collect();
        if all.is_empty() {
            return None;
        }
        let quantiles = Self::central(&sorted(&all));
        let mean = quantiles.iter().sum::<f64>() / Self::LEVELS as f64;
        let variance: f64 = quantiles.iter().map(|q| (q - mean).powi(2)).sum();
        (variance > 0.0).then_some(Self { quantiles, mean, variance })
    }

    /// The line of a series' quantiles against the shape's: its intercept is the location, its
    /// slope the scale.
    fn summarise(&self, values: &[f64]) -> Option<Summary> {
        if values.len() < FEWEST_POINTS {
            return None;
        }
        let own = Self::central(&sorted(values));
        let mean = own.iter().sum::<f64>() / Self::LEVELS as f64;
        let covariance: f64 =
            std::iter::zip(&own, &self.quantiles).map(|(x, q)| (x - mean) * (q - self.mean)).sum();
        let slope = covariance / self.variance;
        let location = mean - slope * self.mean;
        Some(Summary { count: values.len(), location, ln_scale: slope.ln() })
    }
}

impl Standards {
    /// From the usable, finite scores of each series, in the order of time. At least one score in
    /// all.
    pub fn fit(series: &[Vec<f64>]) -> Self {
        let rough: Vec<Option<Summary>> = series.iter().map(|s| summarise(s)).collect();
        match CommonShape::learn(series, &rough) {
            Some(shape) => Self::assemble(series, |values| shape.summarise(values)),
            None => Self::assemble(series, summarise),
        }
    }

    fn assemble(series: &[Vec<f64>], summarise: impl Fn(&[f64]) -> Option<Summary>) -> Self {
        let summaries: Vec<Option<Summary>> = series.iter().map(|s| summarise(s)).collect();
        let pool = pool(series, &summaries);
        let noise = sampling_variance(series, &summaries, summarise);
        let scales = shrink(&summaries, noise, pool.scale.ln());
        let series = std::iter::zip(&summaries, scales)
            .map(|(summary, ln_scale)| Standard {
                location: summary.as_ref().map_or(pool.location, |s| s.location),
                scale: ln_scale.exp().max(QUIETEST * pool.scale),
            })
            .collect();
        Self { series, pool }
    }
}

/// The typical series: medians of what the series have, or everything thrown together.
fn pool(series: &[Vec<f64>], summaries: &[Option<Summary>]) -> Standard {
    let all = || {
        let mut all: Vec<f64> = series.iter().flatten().copied().collect();
        all.sort_by(f64::total_cmp);
        all
    };
    let known = |of: fn(&Summary) -> f64| {
        median(summaries.iter().flatten().map(of).filter(|x| x.is_finite()).collect())
    };
    let location = known(|s| s.location).unwrap_or_else(|| quantile(&all(), 0.5));
    let scale = known(|s| s.ln_scale).map(f64::exp).unwrap_or_else(|| {
        let all = all();
        let spread = |low, high| quantile(&all, high) - quantile(&all, low);
        [spread(0.25, 0.75), spread(0.5, 0.9), spread(0.0, 1.0)]
            .into_iter()
            .find(|&s| s > 0.0)
            .unwrap_or(1.0)
    });
    Standard { location, scale }
}

/// Sampling variance of a ln scale times the number of points: from the halves of each series
/// where enough series have halves; else the normal distribution's, rounded up.
fn sampling_variance(
    series: &[Vec<f64>],
    summaries: &[Option<Summary>],
    summarise: impl Fn(&[f64]) -> Option<Summary>,
) -> f64 {
    let gap = |(values, summary): (&Vec<f64>, &Option<Summary>)| {
        let whole = summary.as_ref()?;
        let (first, second) = values.split_at(values.len() / 2);
        let gap = summarise(first)?.ln_scale - summarise(second)?.ln_scale;
        // The gap of two halves has four times the variance of the whole.
        (gap.is_finite() && whole.ln_scale.is_finite())
            .then(|| gap * (whole.count as f64).sqrt() / 2.0)
    };
    let gaps: Vec<f64> = std::iter::zip(series, summaries).filter_map(gap).collect();
    if gaps.len() < FEWEST_SERIES { 2.0 } else { robust_variance(&gaps, 0.0) }
}

/// Squared, scaled median of the absolute distances from `centre`.
fn robust_variance(values: &[f64], centre: f64) -> f64 {
    let distance = median(values.iter().map(|v| (v - centre).abs()).collect()).unwrap_or(0.0);
    (1.4826 * distance).powi(2)
}

/// Moves each series' ln scale towards the pool's by empirical Bayes; unknown ones become the
/// pool's.
fn shrink(summaries: &[Option<Summary>], noise_per_point: f64, pool: f64) -> Vec<f64> {
    let noise = |s: &Summary| noise_per_point / s.count as f64;
    let known: Vec<&Summary> =
        summaries.iter().flatten().filter(|s| s.ln_scale.is_finite()).collect();
    let values: Vec<f64> = known.iter().map(|s| s.ln_scale).collect();
    let total = if known.len() >= FEWEST_SERIES {
        robust_variance(&values, pool)
    } else {
        values.iter().map(|v| (v - pool).powi(2)).sum::<f64>() / (known.len().max(2) - 1) as f64
    };
    let typical_noise = median(known.iter().map(|s| noise(s)).collect()).unwrap_or(0.0);
    let between = (total - typical_noise).max(0.0);
    let shrunk = |summary: &Summary| {
        let weight = between / (between + noise(summary));
        if !summary.ln_scale.is_finite() || !weight.is_finite() {
            return pool;
        }
        pool + weight * (summary.ln_scale - pool)
    };
    summaries.iter().map(|s| s.as_ref().map_or(pool, shrunk)).collect()
}

#[cfg(test)]
mod tests {
    use rand_distr::{Distribution, StandardNormal};

    use super::*;
    use crate::math::random::stream;

    fn normal(number: u64, count: usize, location: f64, scale: f64) -> Vec<f64> {
        let mut rng = stream(1, "standardise", number);
        let draw = |_| {
            let z: f64 = StandardNormal.sample(&mut rng);
            location + scale * z
        };
        (0..count).map(draw).collect()
    }

    #[test]
    fn alike_series_share_one_standard() {
        let series: Vec<_> = (0..60).map(|i| normal(i, 52, 3.0, 2.0)).collect();
        let standards = Standards::fit(&series);
        let spread = |of: fn(&Standard) -> f64| {
            let all: Vec<f64> = standards.series.iter().map(of).collect();
            all.iter().fold(f64::MIN, |a, &b| a.max(b))
                / all.iter().fold(f64::MAX, |a, &b| a.min(b))
        };
        assert!(spread(|s| s.scale) < 1.25, "{}", spread(|s| s.scale));
        assert!((standards.pool.scale / (1.349 * 2.0) - 1.0).abs() < 0.1);
        assert!((standards.pool.location - 3.0).abs() < 0.2);
    }

    #[test]
    fn series_that_differ_keep_their_own() {
        let series: Vec<_> = (0..20)
            .map(|i| normal(i, 100, 10_f64.powi(i as i32 % 4), 10_f64.powi(i as i32 % 4)))
            .collect();
        for (i, standard) in Standards::fit(&series).series.iter().enumerate() {
            let scale = 10_f64.powi(i as i32 % 4);
            assert!((standard.scale / (1.349 * scale)).ln().abs() < 0.5, "{i} {standard:?}");
            assert!((standard.location - scale).abs() < 0.5 * scale, "{i} {standard:?}");
        }
    }

    #[test]
    fn constant_and_empty_series_fall_back_to_the_pool() {
        let standards = Standards::fit(&[vec![5.0; 30], vec![], normal(1, 100, 0.0, 1.0)]);
        assert_eq!(standards.series[0].scale, standards.pool.scale);
        assert_eq!(standards.series[1], standards.pool);
        assert!(standards.series.iter().all(Standard::is_sound));
        assert!(Standards::fit(&[vec![5.0; 30]]).pool.is_sound());
    }
}
