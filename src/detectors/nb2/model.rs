//! The regression of one series: log link, seasonal terms, trend, and the dispersion.
//!
//! For counts `y(t)` with `ln mu(t) = x(t)' beta` and variance `mu + alpha mu^2` the
//! log-likelihood is concave in `beta` for any fixed `alpha`, so Newton's method with the observed
//! information finds its one optimum. `beta` and `alpha` are orthogonal in expectation: alternating
//! one step of each converges almost as fast as a joint Newton method and needs no cross terms.

use super::{
    design::{Design, dot},
    exceedances::{Exceedances, curvature},
};
use crate::math::linalg::Cholesky;

/// The linear predictor stays within this, so that no mean over- or underflows.
pub(super) const MAX_LN_MEAN: f64 = 40.0;

/// Largest change of any linear predictor in one step; Newton on an exponential overshoots far
/// from its optimum.
const MAX_STEP: f64 = 1.5;

/// Rounds of a fit before it is given up; almost all need fewer than ten.
const MAX_ROUNDS: usize = 300;

/// From this round on the steps are short ones.
const CAREFUL_FROM: usize = 25;

/// Below this a dispersion is on its way to 0.
const MIN_DISPERSION: f64 = 1e-8;

/// Largest dispersion that a fit answers with.
const MAX_DISPERSION: f64 = 1e3;

/// What pulls the coefficients towards plausible values.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Prior {
    /// One mean per column.
    pub mean: Vec<f64>,
    /// The inverse of the covariance, its lower triangle packed by rows; 0 = flat.
    pub precision: Vec<f64>,
    /// Adds half an event to what the intercept sees, so that a series of zeros has a finite fit.
    pub half_event: bool,
    pub dispersion: DispersionPrior,
}

impl Prior {
    /// Independent coefficients around 0, with one precision (1 / variance) per column.
    pub fn independent(precision: &[f64], half_event: bool, dispersion: DispersionPrior) -> Self {
        let n = precision.len();
        let mut prior = Self {
            mean: vec![0.0; n],
            precision: vec![0.0; n * (n + 1) / 2],
            half_event,
            dispersion,
        };
        for (j, &value) in precision.iter().enumerate() {
            prior.precision[diagonal(j)] = value;
        }
        prior
    }

    /// Adds the derivative of the log density by the coefficients.
    pub fn add_score(&self, beta: &[f64], out: &mut [f64]) {
        for i in 0..beta.len() {
            for j in 0..=i {
                let precision = self.precision[diagonal(i) - i + j];
                out[i] -= precision * (beta[j] - self.mean[j]);
                if j < i {
                    out[j] -= precision * (beta[i] - self.mean[i]);
                }
            }
        }
    }
}

/// The place of the `j`-th diagonal element in a triangle packed by rows.
pub(super) fn diagonal(j: usize) -> usize {
    j * (j + 3) / 2
}

/// What is known of the dispersion before a series is seen. Without it a series with a handful of
/// events can take any dispersion.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum DispersionPrior {
    /// Exponential with this rate; 0 = flat.
    Exponential(f64),
    /// The log dispersion is normal.
    LogNormal { centre: f64, sd: f64 },
}

impl DispersionPrior {
    /// First and second derivative of the log density by the dispersion.
    fn derivatives(self, alpha: f64) -> (f64, f64) {
        match self {
            Self::Exponential(rate) => (-rate, 0.0),
            Self::LogNormal { centre, sd } => {
                let alpha = alpha.max(MIN_DISPERSION);
                let distance = (alpha.ln() - centre) / (sd * sd);
                (-distance / alpha, (distance - 1.0 / (sd * sd)) / (alpha * alpha))
            }
        }
    }
}

/// How the dispersion is estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dispersion {
    /// By maximum likelihood: biased low on short series.
    Ml,
    /// By the likelihood adjusted for the fitted coefficients (Cox and Reid 1987).
    CoxReid,
}

/// One series and the room that its fits work in.
#[derive(Clone, Debug)]
pub(super) struct Workspace {
    /// The means of the last fit or refinement, at every step.
    pub mean: Vec<f64>,
    eta: Vec<f64>,
    residual: Vec<f64>,
    weight: Vec<f64>,
    fisher: Vec<f64>,
    gram: Vec<f64>,
    inverse: Vec<f64>,
    step: Vec<f64>,
    factor: Cholesky,
    exceedances: Exceedances,
}

impl Workspace {
    pub fn new(design: &Design) -> Self {
        let n = design.n_times();
        Self {
            mean: vec![0.0; n],
            eta: vec![0.0; n],
            residual: vec![0.0; n],
            weight: vec![0.0; n],
            fisher: vec![0.0; n],
            gram: vec![0.0; design.n_pairs()],
            inverse: vec![0.0; design.n_pairs()],
            step: vec![0.0; design.n_columns],
            factor: Cholesky::new(design.n_columns),
            exceedances: Exceedances::default(),
        }
    }
}

/// How a fit moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// Full Newton steps.
    Newton,
    /// With at least the expected curvature, where the observed one is next to nothing because a
    /// mean is far above its count: ends the rare cycle between two overshoots.
    Careful,
}

/// Where a fit stands: coefficients and dispersion.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Estimate {
    pub beta: Vec<f64>,
    pub dispersion: f64,
}

/// Why a fit ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FitFailure {
    Singular,
    NotConverged,
}

/// The counts of one series, and the weight of each: 1 for those that a fit may use, 0 for those
/// that it may not, less than 1 for those that it begins to forget.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observed<'a> {
    pub counts: &'a [f64],
    pub used: &'a [f64],
    /// Log exposure of each step, added to the linear predictor; empty = none.
    pub offset: &'a [f64],
}

/// A regression problem: everything but the data.
#[derive(Clone, Copy, Debug)]
pub(super) struct Regression<'a> {
    pub design: &'a Design,
    pub prior: &'a Prior,
    pub dispersion: Dispersion,
}

impl Regression<'_> {
    /// A start: the mean count, no season, no trend, dispersion by moments.
    pub fn start(&self, data: Observed<'_>) -> Estimate {
        let exposure = |t: usize| data.offset.get(t).map_or(1.0, |offset| offset.exp());
        let n: f64 = data.used.iter().enumerate().map(|(t, w)| w * exposure(t)).sum();
        let total = dot(data.counts, data.used);
        let rate = (total + 0.5) / if data.offset.is_empty() { n.max(1.0) } else { n.max(1e-9) };
        let (mut excess, mut square) = (0.0, 0.0);
        for (t, (y, w)) in data.counts.iter().zip(data.used).enumerate() {
            let mean = rate * exposure(t);
            excess += w * ((y - mean).powi(2) - y);
            square += w * mean * mean;
        }
        let mut beta = vec![0.0; self.design.n_columns];
        beta[0] = rate.ln();
        Estimate { beta, dispersion: (excess / square.max(1e-300)).clamp(0.0, 5.0) }
    }

    /// The joint optimum, from `start`. `work` then holds its means.
    ///
    /// # Errors
    /// Without a prior: when the terms cannot be told apart, or when no finite optimum exists
    /// (all counts zero, or zero through a part of the season that one term can single out).
    pub fn fit(
        &self,
        data: Observed<'_>,
        start: Estimate,
        work: &mut Workspace,
    ) -> Result<Estimate, FitFailure> {
        let mut estimate = start;
        work.exceedances.fill(data.counts, data.used);
        self.predict(&estimate, data.offset, work);
        for round in 0..MAX_ROUNDS {
            let pace = if round < CAREFUL_FROM { Pace::Newton } else { Pace::Careful };
            let moved = self.step_beta(data, &mut estimate, pace, work)?;
            let before = estimate.dispersion;
            estimate.dispersion = self.step_dispersion(data, before, pace, work)?;
            let drift =
                (estimate.dispersion - before).abs() / (before + estimate.dispersion).max(1e-6);
            // Counts beyond 1e10 leave so few digits to the dispersion's derivative that rounding
            // keeps it moving.
            let tolerance = if round < MAX_ROUNDS / 2 { 1e-9 } else { 1e-2 };
            if moved.max(drift) < tolerance {
                return Ok(estimate);
            }
        }
        Err(FitFailure::NotConverged)
    }

    /// Moves an estimate from the fit on all points to the one on the points that `data` still
    /// uses: `steps` steps of the coefficients with steps of the dispersion between them. Two are
    /// enough where the points that were left out are a small part. `work` then holds the means.
    pub fn refine(
        &self,
        data: Observed<'_>,
        estimate: &mut Estimate,
        steps: usize,
        work: &mut Workspace,
    ) -> Result<(), FitFailure> {
        work.exceedances.fill(data.counts, data.used);
        self.predict(estimate, data.offset, work);
        for step in 0..steps {
            if step > 0 {
                estimate.dispersion =
                    self.step_dispersion(data, estimate.dispersion, Pace::Newton, work)?;
            }
            self.step_beta(data, estimate, Pace::Newton, work)?;
        }
        Ok(())
    }

    /// Fills `work.mean`.
    pub fn predict(&self, estimate: &Estimate, offset: &[f64], work: &mut Workspace) {
        if offset.is_empty() {
            work.eta.fill(0.0);
        } else {
            work.eta.copy_from_slice(offset);
        }
        for (j, &b) in estimate.beta.iter().enumerate() {
            for (eta, x) in work.eta.iter_mut().zip(self.design.column(j)) {
                *eta += b * x;
            }
        }
        for (mean, eta) in work.mean.iter_mut().zip(&work.eta) {
            *mean = eta.clamp(-MAX_LN_MEAN, MAX_LN_MEAN).exp();
        }
    }

    /// One Newton step of the coefficients at a fixed dispersion; returns the largest change of a
    /// linear predictor.
    fn step_beta(
        &self,
        data: Observed<'_>,
        estimate: &mut Estimate,
        pace: Pace,
        work: &mut Workspace,
    ) -> Result<f64, FitFailure> {
        let alpha = estimate.dispersion;
        for t in 0..work.mean.len() {
            let (mu, y, used) = (work.mean[t], data.counts[t], data.used[t]);
            let inverse = used / (1.0 + alpha * mu);
            work.residual[t] = (y - mu) * inverse;
            let share = (1.0 + alpha * y) / (1.0 + alpha * mu);
            work.weight[t] =
                mu * inverse * if pace == Pace::Newton { share } else { share.max(1.0) };
        }
        self.design.gram(&work.weight, &mut work.gram);
        for (gram, precision) in work.gram.iter_mut().zip(&self.prior.precision) {
            *gram += precision;
        }
        for (j, step) in work.step.iter_mut().enumerate() {
            *step = dot(self.design.column(j), &work.residual);
        }
        self.prior.add_score(&estimate.beta, &mut work.step);
        if self.prior.half_event {
            work.step[0] += 0.5;
        }
        if !work.factor.factor(&work.gram) {
            return Err(FitFailure::Singular);
        }
        work.factor.solve(&mut work.step);
        let change = self.largest_change(data, work);
        if !change.is_finite() {
            return Err(FitFailure::NotConverged);
        }
        let scale = if change > MAX_STEP { MAX_STEP / change } else { 1.0 };
        for (b, step) in estimate.beta.iter_mut().zip(&work.step) {
            *b += scale * step;
        }
        self.predict(estimate, data.offset, work);
        Ok(change)
    }

    /// The largest change of a linear predictor that the step makes at a used point.
    fn largest_change(&self, data: Observed<'_>, work: &mut Workspace) -> f64 {
        // `fisher` is free until the dispersion's step.
        let change = &mut work.fisher;
        change.fill(0.0);
        for (j, &s) in work.step.iter().enumerate() {
            for (c, x) in change.iter_mut().zip(self.design.column(j)) {
                *c += s * x;
            }
        }
        change.iter().zip(data.used).fold(0.0, |m: f64, (c, w)| m.max(c.abs() * w))
    }

    /// One Newton step of the log dispersion at fixed means.
    fn step_dispersion(
        &self,
        data: Observed<'_>,
        alpha: f64,
        pace: Pace,
        work: &mut Workspace,
    ) -> Result<f64, FitFailure> {
        let (score, curvature) = self.dispersion_score(data, alpha, work)?;
        if alpha == 0.0 {
            if score <= 0.0 {
                return Ok(0.0);
            }
            // Leave the boundary by a parabola through it; the expected curvature is safe there.
            let expected: f64 =
                work.mean.iter().zip(data.used).map(|(mu, w)| w * 0.5 * mu * mu).sum();
            return Ok((score / expected.max(1e-300)).clamp(MIN_DISPERSION, 1.0));
        }
        // By ln(alpha), in which the likelihood is closer to a parabola.
        let first = alpha * score;
        let second = alpha * alpha * curvature + first;
        let step = if second < 0.0 { (-first / second).clamp(-1.5, 1.5) } else { first.signum() };
        let step = if pace == Pace::Newton { step } else { 0.5 * step };
        let next = (alpha * step.exp()).min(MAX_DISPERSION);
        if next < MIN_DISPERSION {
            // Heading for the boundary, if the likelihood falls from there.
            let (at_zero, _) = self.dispersion_score(data, 0.0, work)?;
            return Ok(if at_zero <= 0.0 { 0.0 } else { MIN_DISPERSION });
        }
        Ok(next)
    }

    /// First and second derivative of the (adjusted) log-likelihood by the dispersion, at the means
    /// in `work`.
    fn dispersion_score(
        &self,
        data: Observed<'_>,
        alpha: f64,
        work: &mut Workspace,
    ) -> Result<(f64, f64), FitFailure> {
        let (mut first, mut second) = work.exceedances.derivatives(alpha);
        for t in 0..work.mean.len() {
            let used = data.used[t];
            if used == 0.0 {
                work.fisher[t] = 0.0;
                work.residual[t] = 0.0;
                continue;
            }
            let (mu, y) = (work.mean[t], data.counts[t]);
            let z = alpha * mu;
            let share = mu / (1.0 + z);
            let (value, slope) = curvature(z, (1.0 + z).ln());
            first += used * (mu * mu * value - y * share);
            second += used * (mu * mu * mu * slope + y * share * share);
            work.fisher[t] = used * share;
            // Free until the coefficients' next step.
            work.residual[t] = share;
        }
        let (f, s) = self.prior.dispersion.derivatives(alpha);
        first += f;
        second += s;
        if self.dispersion == Dispersion::CoxReid {
            let (f, s) = self.cox_reid(work)?;
            first += f;
            second += s;
        }
        Ok((first, second))
    }

    /// Derivatives of `-1/2 ln det X'WX` by the dispersion, with the Fisher weights
    /// `W = used mu / (1 + alpha mu)` in `work.fisher`, for which `dW/d alpha` is minus `W` times
    /// `mu / (1 + alpha mu)`, which is in `work.residual`. The second one
    /// leaves out the change of the inverse, which only slows the last step a little.
    fn cox_reid(&self, work: &mut Workspace) -> Result<(f64, f64), FitFailure> {
        self.fisher_inverse(work)?;
        let (mut first, mut second) = (0.0, 0.0);
        for (pair, &value) in work.inverse.iter().enumerate() {
            let products = self.design.product(pair);
            let twice = if is_diagonal(pair) { 1.0 } else { 2.0 };
            let (mut squares, mut cubes) = (0.0, 0.0);
            for ((x, w), share) in products.iter().zip(&work.fisher).zip(&work.residual) {
                let square = w * share * x;
                squares += square;
                cubes += square * share;
            }
            first += 0.5 * twice * value * squares;
            second -= twice * value * cubes;
        }
        Ok((first, second))
    }

    /// Fills `work.inverse` with the inverse of `X'WX` plus the prior's precision, `W` from
    /// `work.fisher`.
    fn fisher_inverse(&self, work: &mut Workspace) -> Result<(), FitFailure> {
        self.design.gram(&work.fisher, &mut work.gram);
        for (gram, precision) in work.gram.iter_mut().zip(&self.prior.precision) {
            *gram += precision;
        }
        if !work.factor.factor(&work.gram) {
            return Err(FitFailure::Singular);
        }
        work.factor.inverse_packed(&mut work.inverse);
        Ok(())
    }

    /// The covariance of the coefficients (inverse Fisher information and prior), packed, at the
    /// means in `work`.
    pub fn covariance<'w>(
        &self,
        data: Observed<'_>,
        dispersion: f64,
        work: &'w mut Workspace,
    ) -> Result<&'w [f64], FitFailure> {
        for ((fisher, mean), used) in work.fisher.iter_mut().zip(&work.mean).zip(data.used) {
            *fisher = used * mean / (1.0 + dispersion * mean);
        }
        self.fisher_inverse(work)?;
        Ok(&work.inverse)
    }
}

/// True for the packed places 0, 2, 5, 9, …
fn is_diagonal(pair: usize) -> bool {
    let root = ((8 * pair + 9) as f64).sqrt() as usize;
    root * root == 8 * pair + 9
}
