//! From errors to scores.
//!
//! An error is what was seen less what was expected, in scaled units. Errors of the newest few
//! steps are averaged with linearly falling weights: an anomaly that lasts stands out more, a
//! single step loses a fifth. Then each series is judged by its own past: the errors are centred
//! and scaled, metric by metric, and the score is their Mahalanobis distance under a correlation
//! drawn towards none, divided by the number of metrics that are there, so that a missing metric
//! does not lower the score. The unit of a score is the 95 % quantile of the series' own training
//! distances: a quiet shop with a few orders a day has wilder errors than its spread tells, and
//! would otherwise lead every list.
//!
//! Everything is fitted robustly: the training cells hold anomalies too.

use ndarray::{Array2, Array3, ArrayView2, s};
use serde::{Deserialize, Serialize};

use crate::{
    detectors::Scores,
    math::robust::{median, quantile, winsorised_variance},
};

/// Fewer errors than this do not describe a series: the pooled description stands in.
const MIN_ERRORS: usize = 30;

/// Errors beyond this many spreads are cut before they say anything about correlation.
const CUT: f64 = 4.0;

/// Errors up to this quantile are common. Higher, and the anomalies among the training cells would
/// set it.
const COMMON: f64 = 0.95;

/// The [`COMMON`] quantile of the absolute value of a standard normal variable.
const COMMON_NORMAL: f64 = 1.959_964;

/// In scaled units. A network that reproduces a metric more closely than this has not learnt that
/// smaller errors are anomalies.
const SMALLEST_SPREAD: f64 = 0.02;

/// How the errors of one series lie when nothing is wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ErrorShape {
    /// Per metric.
    center: Vec<f64>,
    /// Per metric.
    spread: Vec<f64>,
    /// Rows of the correlation matrix, shrunk.
    correlation: Vec<Vec<f64>>,
    /// The [`COMMON`] quantile of the distances: the unit of the score.
    unit: f64,
}

/// Where the errors of one step lie.
struct Placed {
    /// The metrics that are there.
    there: Vec<usize>,
    /// Of each of them, in spreads.
    deviations: Vec<f64>,
    /// What each adds to the squared distance, where it adds.
    shares: Vec<f64>,
    /// Mahalanobis distance per metric.
    distance: f64,
}

/// How the errors of all series lie.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ErrorModel {
    /// `None` for series that had too few errors of their own.
    series: Vec<Option<ErrorShape>>,
    /// For those, and for series that the fit did not see.
    pooled: ErrorShape,
    smoothing_steps: usize,
}

impl ErrorModel {
    /// Learns from the smoothed errors `[series, time, metric]` of the cells that `allowed` names.
    pub(super) fn fit(
        errors: &Array3<f64>,
        allowed: ArrayView2<bool>,
        shrinkage: f64,
        smoothing_steps: usize,
    ) -> Self {
        let metrics = errors.dim().2;
        let series: Vec<Option<ErrorShape>> = errors
            .outer_iter()
            .zip(allowed.outer_iter())
            .map(|(errors, allowed)| {
                let rows: Vec<Vec<f64>> = errors
                    .outer_iter()
                    .zip(allowed)
                    .filter(|(row, allowed)| **allowed && row.iter().any(|e| e.is_finite()))
                    .map(|(row, _)| row.to_vec())
                    .collect();
                (rows.len() >= MIN_ERRORS).then(|| ErrorShape::fit(&rows, metrics, shrinkage))
            })
            .collect();
        let pooled = match ErrorShape::pool(series.iter().flatten(), metrics) {
            Some(pooled) => pooled,
            None => {
                // No series has enough: one description from all errors together.
                let rows: Vec<Vec<f64>> = errors
                    .outer_iter()
                    .zip(allowed.outer_iter())
                    .flat_map(|(errors, allowed)| {
                        let rows = errors.outer_iter().map(|row| row.to_vec()).collect::<Vec<_>>();
                        rows.into_iter().zip(allowed.to_vec())
                    })
                    .filter_map(|(row, allowed)| allowed.then_some(row))
                    .collect();
                ErrorShape::fit(&rows, metrics, shrinkage)
            }
        };
        Self { series, pooled, smoothing_steps }
    }

    /// What is wrong with a model that came out of a checkpoint, if anything is.
    pub(super) fn defect(&self, series: usize, metrics: usize) -> Option<String> {
        let mut shapes = self.series.iter().flatten().chain([&self.pooled]);
        let sound = self.series.len() == series
            && (1..=48).contains(&self.smoothing_steps)
            && shapes.all(|shape| shape.is_sound(metrics));
        (!sound).then(|| "its error statistics do not fit its series and metrics".into())
    }

    /// Scores the smoothed errors of one series of a panel. `place` is its place in the fit.
    pub(super) fn score(
        &self,
        errors: ArrayView2<f64>,
        place: Option<usize>,
        series: usize,
        scores: &mut Scores,
    ) {
        let own = place.and_then(|place| self.series.get(place)).and_then(Option::as_ref);
        let shape = own.unwrap_or(&self.pooled);
        let mut solver = Solver::default();
        for (time, row) in errors.outer_iter().enumerate() {
            let Some(placed) = shape.place(&row.to_vec(), &mut solver) else { continue };
            let Placed { there, deviations, shares, distance } = placed;
            scores.score[[series, time]] = distance / shape.unit;
            let total: f64 = shares.iter().sum();
            let leading = (0..there.len()).max_by(|&a, &b| shares[a].total_cmp(&shares[b]));
            if let Some(leading) = leading {
                scores.direction[[series, time]] = match deviations[leading] {
                    d if d > 0.0 => 1,
                    d if d < 0.0 => -1,
                    _ => 0,
                };
            }
            if let Some(metric_share) = &mut scores.metric_share {
                for (place, &metric) in there.iter().enumerate() {
                    let even = 1.0 / there.len() as f64;
                    let share = if total > 0.0 { shares[place] / total } else { even };
                    metric_share[[series, time, metric]] = share as f32;
                }
            }
        }
    }
}

impl ErrorShape {
    fn fit(rows: &[Vec<f64>], metrics: usize, shrinkage: f64) -> Self {
        let (mut center, mut spread) = (vec![0.0; metrics], vec![1.0; metrics]);
        for metric in 0..metrics {
            let mut values: Vec<f64> =
                rows.iter().map(|row| row[metric]).filter(|e| e.is_finite()).collect();
            let Some(middle) = median(&mut values) else { continue };
            values.iter_mut().for_each(|value| *value = (*value - middle).abs());
            let variance = winsorised_variance(&values, &mut Vec::new()).unwrap_or(0.0);
            let common = quantile(&mut values, COMMON).unwrap_or(0.0) / COMMON_NORMAL;
            center[metric] = middle;
            spread[metric] = variance.sqrt().max(common).max(SMALLEST_SPREAD);
        }
        let standardised: Vec<Vec<f64>> = rows
            .iter()
            .map(|row| {
                let cut = |m: usize| ((row[m] - center[m]) / spread[m]).clamp(-CUT, CUT);
                (0..metrics).map(cut).collect()
            })
            .collect();
        let correlation: Vec<Vec<f64>> = (0..metrics)
            .map(|a| {
                let of = |b: usize| match a == b {
                    true => 1.0,
                    false => (1.0 - shrinkage) * correlate(&standardised, a, b),
                };
                (0..metrics).map(of).collect()
            })
            .collect();
        let mut shape = Self { center, spread, correlation, unit: 1.0 };
        let mut solver = Solver::default();
        let mut distances: Vec<f64> = rows
            .iter()
            .filter_map(|row| shape.place(row, &mut solver))
            .map(|p| p.distance)
            .collect();
        if let Some(unit) = quantile(&mut distances, COMMON) {
            shape.unit = unit.max(SMALLEST_SPREAD);
        }
        shape
    }

    /// The typical series: centred, with the median spread and the mean correlation.
    fn pool<'a>(shapes: impl Iterator<Item = &'a Self>, metrics: usize) -> Option<Self> {
        let shapes: Vec<&Self> = shapes.collect();
        if shapes.is_empty() {
            return None;
        }
        let mut spread = Vec::with_capacity(metrics);
        for metric in 0..metrics {
            let mut spreads: Vec<f64> = shapes.iter().map(|shape| shape.spread[metric]).collect();
            spread.push(median(&mut spreads)?);
        }
        let mut units: Vec<f64> = shapes.iter().map(|shape| shape.unit).collect();
        let unit = median(&mut units)?;
        let mean = |a: usize, b: usize| {
            shapes.iter().map(|shape| shape.correlation[a][b]).sum::<f64>() / shapes.len() as f64
        };
        let correlation =
            (0..metrics).map(|a| (0..metrics).map(|b| mean(a, b)).collect()).collect();
        Some(Self { center: vec![0.0; metrics], spread, correlation, unit })
    }

    /// Where the errors of one step lie; `None` where all are missing.
    fn place(&self, row: &[f64], solver: &mut Solver) -> Option<Placed> {
        let there: Vec<usize> = (0..row.len()).filter(|&m| row[m].is_finite()).collect();
        if there.is_empty() {
            return None;
        }
        let deviations: Vec<f64> =
            there.iter().map(|&m| (row[m] - self.center[m]) / self.spread[m]).collect();
        let solved = solver.solve(&self.correlation, &there, &deviations);
        let products = deviations.iter().zip(&solved).map(|(d, s)| d * s);
        let squared = products.clone().sum::<f64>().max(0.0);
        Some(Placed {
            distance: (squared / there.len() as f64).sqrt(),
            shares: products.map(|product| product.max(0.0)).collect(),
            there,
            deviations,
        })
    }

    fn is_sound(&self, metrics: usize) -> bool {
        let correlations = || self.correlation.iter().flatten();
        self.center.len() == metrics
            && self.spread.len() == metrics
            && self.correlation.len() == metrics
            && self.correlation.iter().all(|row| row.len() == metrics)
            && self.center.iter().all(|center| center.is_finite())
            && self.spread.iter().all(|spread| spread.is_finite() && *spread > 0.0)
            && self.unit.is_finite()
            && self.unit > 0.0
            && correlations().all(|value| (-1.0..=1.0).contains(value))
    }
}

/// Correlation of two columns over the rows that have both.
fn correlate(rows: &[Vec<f64>], a: usize, b: usize) -> f64 {
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for row in rows {
        if row[a].is_finite() && row[b].is_finite() {
            ab += row[a] * row[b];
            aa += row[a] * row[a];
            bb += row[b] * row[b];
        }
    }
    if aa > 0.0 && bb > 0.0 { (ab / (aa * bb).sqrt()).clamp(-1.0, 1.0) } else { 0.0 }
}

/// Solves with the part of a correlation matrix that belongs to the metrics that are there; the
/// factor of the last such part is kept, because it rarely changes from step to step.
#[derive(Default)]
struct Solver {
    there: Vec<usize>,
    /// Lower triangle of the Cholesky factor, by rows; empty where the part is not positive
    /// definite (pairwise correlations of gappy data need not be), and then counts as none.
    factor: Vec<Vec<f64>>,
}

impl Solver {
    fn solve(&mut self, matrix: &[Vec<f64>], there: &[usize], right: &[f64]) -> Vec<f64> {
        if self.there != there {
            self.there = there.to_vec();
            self.factor = cholesky(matrix, there).unwrap_or_default();
        }
        let mut x = right.to_vec();
        if self.factor.is_empty() {
            return x;
        }
        for i in 0..x.len() {
            for j in 0..i {
                x[i] -= self.factor[i][j] * x[j];
            }
            x[i] /= self.factor[i][i];
        }
        for i in (0..x.len()).rev() {
            for j in i + 1..x.len() {
                x[i] -= self.factor[j][i] * x[j];
            }
            x[i] /= self.factor[i][i];
        }
        x
    }
}

fn cholesky(matrix: &[Vec<f64>], there: &[usize]) -> Option<Vec<Vec<f64>>> {
    let n = there.len();
    let mut factor = vec![vec![0.0; n]; n];
    for i in 0..n {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|k| factor[i][k] * factor[j][k]).sum();
            let rest = matrix[there[i]][there[j]] - dot;
            factor[i][j] =
                if i == j { (rest > 1e-6).then(|| rest.sqrt())? } else { rest / factor[j][j] };
        }
    }
    Some(factor)
}

/// Averages every error with the `steps - 1` before it, weights falling linearly from the newest;
/// missing errors have no weight, and a missing newest error stays missing.
pub(super) fn smooth(errors: &Array3<f64>, steps: usize) -> Array3<f64> {
    let mut out = Array3::from_elem(errors.dim(), f64::NAN);
    let (n_series, n_times, n_metrics) = errors.dim();
    for series in 0..n_series {
        let rows: ArrayView2<f64> = errors.slice(s![series, .., ..]);
        let mut smoothed = Array2::from_elem((n_times, n_metrics), f64::NAN);
        for ((time, metric), cell) in smoothed.indexed_iter_mut() {
            if rows[[time, metric]].is_nan() {
                continue;
            }
            let (mut sum, mut weights) = (0.0, 0.0);
            for back in 0..steps.min(time + 1) {
                let error = rows[[time - back, metric]];
                if error.is_finite() {
                    let weight = (steps - back) as f64;
                    sum += weight * error;
                    weights += weight;
                }
            }
            *cell = sum / weights;
        }
        out.slice_mut(s![series, .., ..]).assign(&smoothed);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::random::stream;
    use rand_distr::{Distribution, StandardNormal};

    /// Errors of one series: two metrics with a correlation of 0.8, and a third on its own.
    fn errors(n: usize) -> Array3<f64> {
        let mut rng = stream(3, "errors", 0);
        let mut out = Array3::zeros((1, n, 3));
        for time in 0..n {
            let [a, b, c]: [f64; 3] = std::array::from_fn(|_| StandardNormal.sample(&mut rng));
            out[[0, time, 0]] = 2.0 * a + 1.0;
            out[[0, time, 1]] = 0.8 * a + 0.6 * b;
            out[[0, time, 2]] = c;
        }
        out
    }

    fn score_of(model: &ErrorModel, row: [f64; 3]) -> (f64, Vec<f32>) {
        let mut scores = Scores {
            detector: crate::detectors::DetectorName::LstmAutoencoder,
            score: Array2::from_elem((1, 1), f64::NAN),
            log_p: None,
            direction: Array2::zeros((1, 1)),
            expected: None,
            lower: None,
            upper: None,
            metric_share: Some(Array3::zeros((1, 1, 3))),
            failures: Vec::new(),
            notes: Vec::new(),
        };
        let errors = ndarray::arr2(&[row]);
        model.score(errors.view(), Some(0), 0, &mut scores);
        let share = scores.metric_share.unwrap();
        (scores.score[[0, 0]], share.iter().copied().collect())
    }

    fn model() -> ErrorModel {
        let errors = errors(4_000);
        let allowed = Array2::from_elem((1, 4_000), true);
        ErrorModel::fit(&errors, allowed.view(), 0.0, 1)
    }

    #[test]
    fn the_score_is_the_mahalanobis_distance_per_metric() {
        let (a, b, c) = (2.0, -1.0, 0.5);
        let (score, share) = score_of(&model(), [2.0 * a + 1.0, b, c]);
        // Closed form for a correlation of 0.8 between the first two.
        let squared = (a * a - 2.0 * 0.8 * a * b + b * b) / (1.0 - 0.64) + c * c;
        // In units of the 95 % quantile: that of chi-squared with 3 degrees of freedom is 7.815.
        let expected = (squared / 7.815f64).sqrt();
        assert!((score / expected - 1.0).abs() < 0.05, "{score} against {expected}");
        assert!((share.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!(share[0] > share[2]);
    }

    #[test]
    fn breaking_a_correlation_is_worse_than_following_it() {
        let model = model();
        assert!(score_of(&model, [5.0, -2.0, 0.0]).0 > 2.0 * score_of(&model, [5.0, 2.0, 0.0]).0);
    }

    #[test]
    fn a_missing_metric_leaves_the_score_of_the_others() {
        let (score, share) = score_of(&model(), [f64::NAN, f64::NAN, 3.0]);
        let expected = 3.0 / (7.815f64 / 3.0).sqrt();
        assert!((score / expected - 1.0).abs() < 0.05, "{score} against {expected}");
        assert_eq!(share, [0.0, 0.0, 1.0]);
        assert!(score_of(&model(), [f64::NAN; 3]).0.is_nan());
    }

    #[test]
    fn anomalies_among_the_training_errors_hardly_widen_the_spread() {
        let clean = model();
        let mut errors = errors(4_000);
        errors.slice_mut(s![0, ..100, ..]).fill(50.0);
        let allowed = Array2::from_elem((1, 4_000), true);
        let dirty = ErrorModel::fit(&errors, allowed.view(), 0.0, 1);
        let ratio = score_of(&dirty, [1.0, 0.0, 4.0]).0 / score_of(&clean, [1.0, 0.0, 4.0]).0;
        // 2.5 % of the errors are wild, so that the spread is taken at the 97.5 % quantile.
        assert!((0.75..1.05).contains(&ratio), "{ratio}");
    }

    #[test]
    fn smoothing_weighs_the_newest_most_and_skips_gaps() {
        let mut errors = Array3::zeros((1, 5, 1));
        errors[[0, 2, 0]] = 6.0;
        errors[[0, 3, 0]] = f64::NAN;
        let smoothed = smooth(&errors, 3);
        assert_eq!(smoothed[[0, 1, 0]], 0.0);
        assert_eq!(smoothed[[0, 2, 0]], 3.0);
        assert!(smoothed[[0, 3, 0]].is_nan());
        assert_eq!(smoothed[[0, 4, 0]], 1.5);
        assert_eq!(smooth(&errors, 1)[[0, 2, 0]], 6.0);
    }
}
