//! From errors to scores.
//!
//! An error is what was seen less what was expected, in scaled units. It is averaged with those of
//! the steps before it, over several widths and with linearly falling weights: a single wild step
//! shows at the narrowest, a small deviation that lasts at the widest. At each width every series is
//! judged by its own past: the errors are centred and scaled, metric by metric, and the distance is
//! either the mean of the absolute deviations or Mahalanobis', divided by the root of their number
//! ([`Distance`]), both of the metrics that are there, so that a missing metric does not lower it. A
//! distance has a unit, the 95 % quantile of the series' own training distances (a quiet shop with a
//! few orders a day has wilder errors than its spread tells, and would otherwise lead every list),
//! and the score is the largest distance of all widths in its unit.
//!
//! Everything is fitted robustly: the training cells hold anomalies too.

mod correlation;

use correlation::{Solver, correlation};
use ndarray::{Array2, Array3, ArrayView2, Axis};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::params::{Distance, LstmParams, MAX_WIDTH};
use crate::math::robust::{median, quantile, winsorised_variance};

/// Fewer errors than this do not describe a series: the pooled description stands in.
const MIN_ERRORS: usize = 30;

/// Errors up to this quantile are common. Higher, and the anomalies among the training cells would
/// set it.
const COMMON: f64 = 0.95;

/// The [`COMMON`] quantile of the absolute value of a standard normal variable.
const COMMON_NORMAL: f64 = 1.959_964;

/// In scaled units. A network that reproduces a metric more closely than this has not learnt that
/// smaller errors are anomalies.
const SMALLEST_SPREAD: f64 = 0.02;

/// Spreads beyond which an error says no more: the first change of a metric that never changed before
/// would otherwise outweigh all others for good.
const FAR: f64 = 30.0;

/// How the errors of one series lie when nothing is wrong, at one width.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ErrorShape {
    /// Per metric.
    center: Vec<f64>,
    /// Per metric.
    spread: Vec<f64>,
    /// Rows of the correlation matrix, shrunk; `None` where the distance does without.
    correlation: Option<Vec<Vec<f64>>>,
    /// The [`COMMON`] quantile of the distances: the unit of the score.
    unit: f64,
}

/// How the errors of all series lie, at one width.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WidthModel {
    /// Steps that an error is averaged over.
    steps: usize,
    /// `None` for series that had too few errors of their own.
    series: Vec<Option<ErrorShape>>,
    /// For those, and for series that the fit did not see.
    pooled: ErrorShape,
}

/// How the errors of all series lie.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ErrorModel {
    widths: Vec<WidthModel>,
}

/// How far a step is out.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Judged {
    /// In units of the series' common distances.
    pub(super) score: f64,
    /// Of every metric, in spreads, at the width that gave the score; NaN where it is missing.
    pub(super) deviations: Vec<f64>,
    /// Of every metric, what it adds to the distance; 0 where it is missing.
    pub(super) parts: Vec<f64>,
}

/// How a fit describes errors.
struct Recipe {
    steps: usize,
    /// How far correlations are drawn towards none; `None` for a distance without them.
    shrinkage: Option<f64>,
}

impl ErrorModel {
    /// Learns from the errors `[series, time, metric]` of the cells that `allowed` names.
    pub(super) fn fit(
        errors: &Array3<f64>,
        allowed: ArrayView2<bool>,
        params: &LstmParams,
        widths: &[usize],
    ) -> Self {
        let correlated = params.distance(errors.dim().2) == Distance::Mahalanobis;
        let shrinkage = correlated.then_some(params.shrinkage);
        let of = |&steps: &usize| WidthModel::fit(errors, allowed, &Recipe { steps, shrinkage });
        Self { widths: widths.iter().map(of).collect() }
    }

    /// What is wrong with a model that came out of a checkpoint, if anything is.
    pub(super) fn defect(&self, series: usize, metrics: usize) -> Option<String> {
        let sound = !self.widths.is_empty()
            && self.widths.iter().all(|width| width.is_sound(series, metrics));
        (!sound).then(|| "its error statistics do not fit its series and metrics".into())
    }

    /// Judges every step of one series by its errors `[time, metric]`; `None` where all are missing.
    /// `place` is the series' place in the fit.
    pub(super) fn judge(
        &self,
        errors: ArrayView2<f64>,
        place: Option<usize>,
    ) -> Vec<Option<Judged>> {
        let mut out: Vec<Option<Judged>> = vec![None; errors.nrows()];
        for width in &self.widths {
            let (shape, mut solver) = (width.shape(place), Solver::default());
            for (row, out) in smooth(errors, width.steps).outer_iter().zip(&mut out) {
                // A stream's newest step comes with a whole window of steps that nobody predicted.
                if row.iter().all(|error| error.is_nan()) {
                    continue;
                }
                let Some(placed) = shape.place(&row.to_vec(), &mut solver) else { continue };
                let score = placed.distance / shape.unit;
                if out.as_ref().is_none_or(|found| found.score < score) {
                    let Placed { deviations, parts, .. } = placed;
                    *out = Some(Judged { score, deviations, parts });
                }
            }
        }
        out
    }
}

impl Judged {
    /// +1 where the metric that adds most is above what was expected, -1 below, 0 for neither.
    pub(super) fn direction(&self) -> i8 {
        let known = (0..self.parts.len()).filter(|&metric| !self.deviations[metric].is_nan());
        let leading = known.max_by(|&a, &b| self.parts[a].total_cmp(&self.parts[b]));
        match leading.map(|metric| self.deviations[metric]) {
            Some(deviation) if deviation > 0.0 => 1,
            Some(deviation) if deviation < 0.0 => -1,
            _ => 0,
        }
    }

    /// Each metric's share of the score; they sum to 1.
    pub(super) fn shares(&self) -> Vec<f32> {
        let total: f64 = self.parts.iter().sum();
        if total > 0.0 {
            return self.parts.iter().map(|part| (part / total) as f32).collect();
        }
        let there = self.deviations.iter().filter(|d| !d.is_nan()).count().max(1);
        let even = |d: &f64| if d.is_nan() { 0.0 } else { 1.0 / there as f32 };
        self.deviations.iter().map(even).collect()
    }
}

impl WidthModel {
    fn fit(errors: &Array3<f64>, allowed: ArrayView2<bool>, recipe: &Recipe) -> Self {
        let metrics = errors.dim().2;
        let rows: Vec<Vec<Vec<f64>>> = (0..errors.dim().0)
            .into_par_iter()
            .map(|series| {
                let smoothed = smooth(errors.index_axis(Axis(0), series), recipe.steps);
                let known = smoothed.outer_iter().zip(allowed.row(series));
                known
                    .filter(|(row, allowed)| **allowed && row.iter().any(|e| e.is_finite()))
                    .map(|(row, _)| row.to_vec())
                    .collect()
            })
            .collect();
        let own = |rows: &Vec<Vec<f64>>| {
            (rows.len() >= MIN_ERRORS).then(|| ErrorShape::fit(rows, metrics, recipe))
        };
        let series: Vec<Option<ErrorShape>> = rows.par_iter().map(own).collect();
        // Where no series has enough: one description from all errors together.
        let pooled = ErrorShape::pool(series.iter().flatten(), metrics)
            .unwrap_or_else(|| ErrorShape::fit(&rows.concat(), metrics, recipe));
        Self { steps: recipe.steps, series, pooled }
    }

    fn shape(&self, place: Option<usize>) -> &ErrorShape {
        let own = place.and_then(|place| self.series.get(place)).and_then(Option::as_ref);
        own.unwrap_or(&self.pooled)
    }

    fn is_sound(&self, series: usize, metrics: usize) -> bool {
        let mut shapes = self.series.iter().flatten().chain([&self.pooled]);
        self.series.len() == series
            && (1..=MAX_WIDTH).contains(&self.steps)
            && shapes.all(|shape| shape.is_sound(metrics))
    }
}

/// Where the errors of one step lie.
struct Placed {
    deviations: Vec<f64>,
    parts: Vec<f64>,
    distance: f64,
}

impl ErrorShape {
    fn fit(rows: &[Vec<f64>], metrics: usize, recipe: &Recipe) -> Self {
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
        let mut shape = Self { center, spread, correlation: None, unit: 1.0 };
        if let Some(shrinkage) = recipe.shrinkage {
            let rows: Vec<Vec<f64>> = rows.iter().map(|row| shape.deviations(row)).collect();
            shape.correlation = Some(correlation(&rows, metrics, shrinkage));
        }
        let mut solver = Solver::default();
        let distance = |row: &Vec<f64>| Some(shape.place(row, &mut solver)?.distance);
        let mut distances: Vec<f64> = rows.iter().filter_map(distance).collect();
        if let Some(unit) = quantile(&mut distances, COMMON) {
            shape.unit = unit.max(SMALLEST_SPREAD);
        }
        shape
    }

    /// The typical series: centred, with the median spread and unit and the mean correlation.
    fn pool<'a>(shapes: impl Iterator<Item = &'a Self>, metrics: usize) -> Option<Self> {
        let shapes: Vec<&Self> = shapes.collect();
        let typical = |of: &dyn Fn(&Self) -> f64| {
            median(&mut shapes.iter().map(|shape| of(shape)).collect::<Vec<f64>>())
        };
        let unit = typical(&|shape| shape.unit)?;
        let spread: Option<Vec<f64>> =
            (0..metrics).map(|metric| typical(&|shape| shape.spread[metric])).collect();
        let matrices: Option<Vec<_>> = shapes.iter().map(|s| s.correlation.as_ref()).collect();
        let correlation = matrices.map(|matrices| {
            let mean = |a: usize, b: usize| {
                matrices.iter().map(|matrix| matrix[a][b]).sum::<f64>() / matrices.len() as f64
            };
            (0..metrics).map(|a| (0..metrics).map(|b| mean(a, b)).collect()).collect()
        });
        Some(Self { center: vec![0.0; metrics], spread: spread?, correlation, unit })
    }

    /// Of every metric, in spreads, cut; NaN where it is missing.
    fn deviations(&self, row: &[f64]) -> Vec<f64> {
        let scale = self.center.iter().zip(&self.spread);
        let of = |(error, (center, spread)): (&f64, (&f64, &f64))| (error - center) / spread;
        row.iter().zip(scale).map(|at| of(at).clamp(-FAR, FAR)).collect()
    }

    /// Where the errors of one step lie; `None` where all are missing.
    fn place(&self, row: &[f64], solver: &mut Solver) -> Option<Placed> {
        let deviations = self.deviations(row);
        let there: Vec<usize> = (0..row.len()).filter(|&m| !deviations[m].is_nan()).collect();
        if there.is_empty() {
            return None;
        }
        let n = there.len() as f64;
        let mut parts = vec![0.0; row.len()];
        let distance = match &self.correlation {
            None => {
                there.iter().for_each(|&metric| parts[metric] = deviations[metric].abs());
                parts.iter().sum::<f64>() / n
            }
            Some(matrix) => {
                let known: Vec<f64> = there.iter().map(|&metric| deviations[metric]).collect();
                let products = solver.products(matrix, &there, &known);
                let squared = products.iter().sum::<f64>().max(0.0);
                there.iter().zip(products).for_each(|(&metric, p)| parts[metric] = p.max(0.0));
                (squared / n).sqrt()
            }
        };
        Some(Placed { deviations, parts, distance })
    }

    fn is_sound(&self, metrics: usize) -> bool {
        self.center.len() == metrics
            && self.spread.len() == metrics
            && self.center.iter().all(|center| center.is_finite())
            && self.spread.iter().all(|spread| spread.is_finite() && *spread > 0.0)
            && self.unit.is_finite()
            && self.unit > 0.0
            && self.correlation.as_ref().is_none_or(|matrix| {
                matrix.len() == metrics
                    && matrix.iter().all(|row| row.len() == metrics)
                    && matrix.iter().flatten().all(|value| (-1.0..=1.0).contains(value))
            })
    }
}

/// Averages every error with the `steps - 1` before it, weights falling linearly from the newest;
/// missing errors have no weight, and a missing newest error stays missing. `[time, metric]`.
fn smooth(errors: ArrayView2<f64>, steps: usize) -> Array2<f64> {
    Array2::from_shape_fn(errors.dim(), |(time, metric)| {
        if errors[[time, metric]].is_nan() {
            return f64::NAN;
        }
        let (mut sum, mut weights) = (0.0, 0.0);
        for back in 0..steps.min(time + 1) {
            let error = errors[[time - back, metric]];
            if error.is_finite() {
                let weight = (steps - back) as f64;
                sum += weight * error;
                weights += weight;
            }
        }
        sum / weights
    })
}

#[cfg(test)]
mod tests;
