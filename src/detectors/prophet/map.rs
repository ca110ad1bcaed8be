//! The posterior mode of a linear model with normal and Laplace priors and unknown noise.
//!
//! ```text
//! y = X b + e,  e ~ N(0, v),  sqrt(v) ~ half N(0, 1/2),
//! b_j ~ N(0, s_j^2)  or  b_j ~ Laplace(0, s_j)
//! ```
//!
//! Prophet hands this to a general optimiser, which walks over all rows at every step. But the rows
//! enter only through `X'X`, `X'y` and `y'y`, so here they are read once, and each step costs one
//! small Cholesky: the Laplace prior is replaced by the normal one that touches it from above at
//! the present value (majorise, then minimise), so the posterior rises at every step.

use ndarray::Array2;

use crate::math::linalg::Cholesky;

/// Laplace coefficients smaller than this, in the scaled unit, count as 0.
const TINY: f64 = 1e-9;
const MAX_ROUNDS: usize = 300;
/// The noise cannot fall below this share of the values' scale, squared.
const MIN_VARIANCE: f64 = 1e-14;

/// A coefficient's prior.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Prior {
    /// Standard deviation.
    Normal(f64),
    /// Scale: the mean absolute value.
    Laplace(f64),
}

/// What the rows say: `X'X` packed by rows of its lower triangle, `X'y`, `y'y`, and their number.
#[derive(Clone, Debug)]
pub(super) struct Moments {
    pub gram: Vec<f64>,
    pub cross: Vec<f64>,
    pub square: f64,
    pub rows: f64,
}

impl Moments {
    /// From rows `x` (row-major, `width` columns) and values `y`.
    pub fn of(x: &[f64], width: usize, y: &[f64]) -> Self {
        let rows = y.len();
        let matrix = Array2::from_shape_fn((rows, width), |(i, j)| x[i * width + j]);
        let product = matrix.t().dot(&matrix);
        let gram =
            (0..width).flat_map(|i| (0..=i).map(move |j| (i, j))).map(|at| product[at]).collect();
        let mut cross = vec![0.0; width];
        for (row, y) in x.chunks_exact(width.max(1)).zip(y) {
            cross.iter_mut().zip(row).for_each(|(sum, x)| *sum += x * y);
        }
        Self { gram, cross, square: y.iter().map(|y| y * y).sum(), rows: rows as f64 }
    }

    /// Residual sum of squares at `b`.
    fn rss(&self, b: &[f64]) -> f64 {
        let mut quadratic = 0.0;
        let mut place = 0;
        for i in 0..b.len() {
            for j in 0..i {
                quadratic += 2.0 * self.gram[place] * b[i] * b[j];
                place += 1;
            }
            quadratic += self.gram[place] * b[i] * b[i];
            place += 1;
        }
        let linear: f64 = self.cross.iter().zip(b).map(|(c, b)| c * b).sum();
        (self.square - 2.0 * linear + quadratic).max(0.0)
    }
}

/// The mode: coefficients and the noise's variance. `None` when no factorisation succeeds.
pub(super) fn mode(moments: &Moments, priors: &[Prior]) -> Option<(Vec<f64>, f64)> {
    let n = priors.len();
    let mut cholesky = Cholesky::new(n);
    // The first round takes Laplace for normal priors of the same spread.
    let mut b: Vec<f64> = priors
        .iter()
        .map(|p| match p {
            Prior::Normal(_) => 0.0,
            Prior::Laplace(s) => 2.0 * s,
        })
        .collect();
    let mut variance = (moments.square / moments.rows.max(1.0)).max(MIN_VARIANCE);
    let mut packed = vec![0.0; moments.gram.len()];
    let mut last = f64::INFINITY;
    for round in 0..MAX_ROUNDS {
        packed.copy_from_slice(&moments.gram);
        for (j, prior) in priors.iter().enumerate() {
            let weight = match prior {
                Prior::Normal(s) => variance / (s * s),
                Prior::Laplace(s) => variance / (s * (b[j].abs() + TINY)),
            };
            packed[j * (j + 3) / 2] += weight;
        }
        if !cholesky.factor(&packed) {
            return None;
        }
        let mut next = moments.cross.clone();
        cholesky.solve(&mut next);
        b = next;
        let rss = moments.rss(&b);
        // The root of 4 v^2 + n v - rss = 0: the mode of the noise given the residuals.
        let rows = moments.rows;
        variance = (2.0 * rss / (rows + (rows * rows + 16.0 * rss).sqrt())).max(MIN_VARIANCE);
        let now = objective(rss, variance, rows, &b, priors);
        if round > 5 && (last - now).abs() <= 1e-9 * (1.0 + now.abs()) {
            break;
        }
        last = now;
    }
    Some((b, variance))
}

/// Minus the log posterior, up to a constant.
fn objective(rss: f64, variance: f64, rows: f64, b: &[f64], priors: &[Prior]) -> f64 {
    let penalty: f64 = b
        .iter()
        .zip(priors)
        .map(|(b, prior)| match prior {
            Prior::Normal(s) => 0.5 * (b / s).powi(2),
            Prior::Laplace(s) => b.abs() / s,
        })
        .sum();
    0.5 * rows * variance.ln() + 0.5 * rss / variance + 2.0 * variance + penalty
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_noise_and_with_wide_priors_the_truth_comes_back() {
        let x: Vec<f64> = (0..40).flat_map(|i| [1.0, f64::from(i) / 40.0]).collect();
        let y: Vec<f64> = (0..40).map(|i| 0.3 - 0.8 * f64::from(i) / 40.0).collect();
        let moments = Moments::of(&x, 2, &y);
        let (b, variance) = mode(&moments, &[Prior::Normal(5.0), Prior::Normal(5.0)]).unwrap();
        assert!((b[0] - 0.3).abs() < 1e-4 && (b[1] + 0.8).abs() < 1e-4, "{b:?}");
        assert!(variance < 1e-6);
    }

    #[test]
    fn a_laplace_prior_takes_a_weak_effect_to_zero_and_keeps_a_strong_one() {
        // Orthogonal columns: the mode is the soft threshold of the least-squares solution.
        let rows = 200;
        let wave = |i: usize, k: f64| (std::f64::consts::TAU * k * i as f64 / rows as f64).cos();
        let x: Vec<f64> = (0..rows).flat_map(|i| [wave(i, 1.0), wave(i, 2.0)]).collect();
        let y: Vec<f64> = (0..rows)
            .map(|i| 0.5 * wave(i, 1.0) + 0.001 * wave(i, 2.0) + 0.1 * wave(i, 3.0))
            .collect();
        let moments = Moments::of(&x, 2, &y);
        let scale = 0.05;
        let (b, variance) =
            mode(&moments, &[Prior::Laplace(scale), Prior::Laplace(scale)]).unwrap();
        let threshold = variance / scale / (rows as f64 / 2.0);
        assert!((b[0] - (0.5 - threshold)).abs() < 1e-4, "{b:?}, threshold {threshold}");
        assert!(b[1].abs() < 1e-4, "{b:?}");
    }
}
