//! Where windows of normal values lie, and how far another window lies from there.
//!
//! A window of `w` steps and `d` metrics is a point with `w × d` coordinates, step by step. Principal
//! components with variances v_j turn it into t_j, and its distance is
//!
//! ```text
//! D² = sum over all components of t_j² / (v_j + r),    r = ridge × mean of the v_j
//! ```
//!
//! Rotations cancel: D² = x' (C + r I)^-1 x with the covariance C, so no component is ever computed,
//! and each coordinate's part in D² is at hand.

use ndarray::{Array2, ArrayView2, s};
use serde::{Deserialize, Serialize};

use crate::math::linalg::Cholesky;

/// Windows that go through one matrix product.
const BLOCK: usize = 256;
/// The covariance settles long before this many windows; more are thinned out evenly.
const MAX_LEARNT: usize = 8_000;
/// Sweeps that fill in missing coordinates. Each roughly halves what is left to go.
const SWEEPS: usize = 24;

/// Centre and inverse ridged covariance of windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowModel {
    window: usize,
    metrics: usize,
    centre: Vec<f64>,
    /// Lower triangle of `(C + r I)^-1`, packed by rows.
    precision: Vec<f64>,
}

/// What the windows that hold a step say about it.
#[derive(Clone, Debug)]
pub struct Distances {
    /// `[time]`: mean of sqrt(D² / coordinates) over the windows that hold the step; about 1 for
    /// normal data. NaN where no window could be judged.
    pub distance: Vec<f64>,
    /// `[time, metric]`: mean part of the cell in D².
    pub part: Array2<f64>,
    /// `[time, metric]`: mean of how far the cell lies above (positive) or below what the rest of
    /// the window lets expect, weighted by how sharply it does.
    pub lean: Array2<f64>,
}

impl WindowModel {
    /// Learns from the windows of `values[time, metric]` that begin at `starts`. Every value in them
    /// must be finite. `None` with fewer than two windows, or where nothing varies.
    pub fn fit(
        values: ArrayView2<f64>,
        starts: &[usize],
        window: usize,
        ridge: f64,
    ) -> Option<Self> {
        let metrics = values.ncols();
        let width = window * metrics;
        let thinned: Vec<usize> =
            starts.iter().copied().step_by(starts.len().div_ceil(MAX_LEARNT).max(1)).collect();
        if thinned.len() < 2 || width == 0 {
            return None;
        }
        let n = thinned.len() as f64;
        let mut centre = vec![0.0; width];
        for &start in &thinned {
            let cells = values.slice(s![start..start + window, ..]);
            centre.iter_mut().zip(cells).for_each(|(sum, x)| *sum += x);
        }
        centre.iter_mut().for_each(|sum| *sum /= n);
        let mut scatter = Array2::<f64>::zeros((width, width));
        for block in thinned.chunks(BLOCK) {
            let rows = centred(values, block, window, &centre);
            scatter += &rows.t().dot(&rows);
        }
        let precision = ridged_inverse(&(scatter / (n - 1.0)), ridge)?;
        Some(Self { window, metrics, centre, precision })
    }

    /// What is wrong with a model that came out of a checkpoint, if anything is.
    pub fn defect(&self, metrics: usize) -> Option<&'static str> {
        let width = self.window.checked_mul(self.metrics).filter(|w| *w > 0);
        let Some(width) = width.filter(|_| self.metrics == metrics) else {
            return Some("a window has another shape than its metrics");
        };
        if self.centre.len() != width || self.precision.len() != width * (width + 1) / 2 {
            return Some("a window's numbers do not fit its shape");
        }
        let finite = self.centre.iter().chain(&self.precision).all(|x| x.is_finite());
        let definite = Cholesky::new(width).factor(&self.precision);
        (!finite || !definite).then_some("a covariance is out of range")
    }

    /// Judges every window of `values[time, metric]`. NaN is a missing value: it takes the value that
    /// the rest of the window lets expect, so that D² is that of the values that are there. Windows
    /// with fewer than half of their values are left out, and those that hold no step that `wanted`
    /// names.
    pub fn judge(&self, values: ArrayView2<f64>, wanted: impl Fn(usize) -> bool) -> Distances {
        let (times, metrics) = values.dim();
        let mut sums = Sums::new(times, metrics);
        if metrics == self.metrics && times >= self.window {
            let precision = self.full_precision();
            let judged: Vec<usize> = (0..=times - self.window)
                .filter(|&start| {
                    let mut steps = start..start + self.window;
                    let cells = values.slice(s![start..start + self.window, ..]);
                    2 * cells.iter().filter(|x| x.is_finite()).count() >= cells.len()
                        && steps.any(&wanted)
                })
                .collect();
            for block in judged.chunks(BLOCK) {
                self.judge_block(values, block, &precision, &mut sums);
            }
        }
        sums.means()
    }

    fn judge_block(
        &self,
        values: ArrayView2<f64>,
        starts: &[usize],
        precision: &Array2<f64>,
        sums: &mut Sums,
    ) {
        let mut rows = centred(values, starts, self.window, &self.centre);
        let mut present = vec![self.centre.len(); starts.len()];
        for (mut row, present) in rows.outer_iter_mut().zip(&mut present) {
            let missing: Vec<usize> = (0..row.len()).filter(|&i| !row[i].is_finite()).collect();
            *present -= missing.len();
            missing.iter().for_each(|&i| row[i] = 0.0);
            for _ in 0..if missing.is_empty() { 0 } else { SWEEPS } {
                for &i in &missing {
                    let pull = precision.row(i).dot(&row) - precision[[i, i]] * row[i];
                    row[i] = -pull / precision[[i, i]];
                }
            }
        }
        let leans = rows.dot(precision);
        for (number, &start) in starts.iter().enumerate() {
            let (row, lean) = (rows.row(number), leans.row(number));
            let squared: f64 = row.iter().zip(lean).map(|(x, g)| x * g).sum();
            let distance = (squared.max(0.0) / present[number] as f64).sqrt();
            for step in 0..self.window {
                let time = start + step;
                sums.distance[time] += distance;
                sums.windows[time] += 1.0;
                for metric in 0..self.metrics {
                    let place = step * self.metrics + metric;
                    sums.part[[time, metric]] += row[place] * lean[place];
                    sums.lean[[time, metric]] += lean[place];
                }
            }
        }
    }

    fn full_precision(&self) -> Array2<f64> {
        let width = self.centre.len();
        Array2::from_shape_fn((width, width), |(i, j)| {
            let (low, high) = (i.min(j), i.max(j));
            self.precision[high * (high + 1) / 2 + low]
        })
    }
}

/// Windows as rows, less the centre.
fn centred(
    values: ArrayView2<f64>,
    starts: &[usize],
    window: usize,
    centre: &[f64],
) -> Array2<f64> {
    let mut rows = Array2::zeros((starts.len(), centre.len()));
    for (mut row, &start) in rows.outer_iter_mut().zip(starts) {
        let cells = values.slice_move(s![start..start + window, ..]);
        for ((out, x), mean) in row.iter_mut().zip(cells).zip(centre) {
            *out = x - mean;
        }
    }
    rows
}

/// The packed inverse of a covariance with `ridge` times its mean variance on the diagonal.
fn ridged_inverse(covariance: &Array2<f64>, ridge: f64) -> Option<Vec<f64>> {
    let width = covariance.nrows();
    let added = ridge * covariance.diag().sum() / width as f64;
    let mut packed = Vec::with_capacity(width * (width + 1) / 2);
    for i in 0..width {
        for j in 0..=i {
            packed.push(covariance[[i, j]] + if i == j { added } else { 0.0 });
        }
    }
    let mut factor = Cholesky::new(width);
    if !factor.factor(&packed) {
        return None;
    }
    factor.inverse_packed(&mut packed);
    Some(packed)
}

/// Sums over the windows that hold each step.
struct Sums {
    distance: Vec<f64>,
    windows: Vec<f64>,
    part: Array2<f64>,
    lean: Array2<f64>,
}

impl Sums {
    fn new(times: usize, metrics: usize) -> Self {
        Self {
            distance: vec![0.0; times],
            windows: vec![0.0; times],
            part: Array2::zeros((times, metrics)),
            lean: Array2::zeros((times, metrics)),
        }
    }

    /// 0 / 0 is the NaN of a step that no window holds.
    fn means(mut self) -> Distances {
        for (time, &windows) in self.windows.iter().enumerate() {
            self.distance[time] /= windows;
            self.part.row_mut(time).mapv_inplace(|sum| sum / windows);
            self.lean.row_mut(time).mapv_inplace(|sum| sum / windows);
        }
        Distances { distance: self.distance, part: self.part, lean: self.lean }
    }
}
