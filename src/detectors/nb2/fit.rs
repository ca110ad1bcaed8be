//! One series from counts to predictions: masking, cross-fitting, widening.
//!
//! *Cross-fitting.* A point is predicted by a fit without its block and without a guard on either
//! side, so that a sustained shift cannot pull its own baseline up. Each such fit starts from the
//! full one and takes two Newton steps: the rest of the way is shorter than the prediction's error.
//!
//! *Masking.* A past anomaly raises the dispersion and bends the season for all other points. The
//! run of steps around the most extreme point is taken out, everything is fitted again, and so on,
//! one run a round. Taking out everything extreme at once also takes out innocent points that a
//! bent fit made look extreme.
//!
//! *Widening.* The log mean of a prediction is off by `x' Cov x`, which a log-gamma error of the
//! same variance turns into a larger dispersion: `(1 + alpha)(1 + x' Cov x) - 1`. And if the
//! cross-fitted residuals of the unmasked points are still larger than that allows (local drift, a
//! season that the terms cannot follow), the dispersion is raised until they are not.

use super::{
    design::Design,
    model::{Estimate, FitFailure, MAX_LN_MEAN, Observed, Prior, Regression, Workspace},
    params::Nb2Params,
};
use serde::{Deserialize, Serialize};

use crate::math::{linalg::quadratic_form, nb::NegativeBinomial};

/// Newton steps of a fit that leaves a block out.
const REFINE_STEPS: usize = 2;

/// A run of masked steps grows over neighbours with a p-value up to this, on the same side, …
const GROW_P: f64 = 0.2;

/// … and over single steps that are not.
const GROW_OVER: usize = 1;

/// At least this share of the usable steps stays in the fit, whatever looks extreme.
const MIN_USED_SHARE: f64 = 0.7;

/// Cross-fitted Pearson residuals are cut here, so that single extremes do not decide …
const RESIDUAL_CUT: f64 = 2.5;

/// … and then should have this mean square (a normal's is 0.92, a skewed count's a little more).
const RESIDUAL_SQUARE: f64 = 0.95;

/// What a fit says about one point: the predictive distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Prediction {
    pub mean: f64,
    /// Of the prediction: the series' own dispersion, widened.
    pub dispersion: f64,
}

impl Prediction {
    /// No prediction.
    pub const NONE: Self = Self { mean: f64::NAN, dispersion: f64::NAN };
}

/// The fit of one metric of one series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nb2Fit {
    /// Harmonics of the season.
    pub fourier_k: usize,
    /// Intercept, sine and cosine of each harmonic, trend (if there is one): of the log mean.
    pub coefficients: Vec<f64>,
    /// `alpha` in the variance `mu + alpha mu^2`.
    pub dispersion: f64,
    /// Of the coefficients, its lower triangle packed by rows.
    pub covariance: Vec<f64>,
    /// What cross-fitting adds to every predictive dispersion.
    pub excess_dispersion: f64,
}

impl Nb2Fit {
    /// The predictive distribution at the regressors `x`.
    pub(super) fn predict(&self, x: &[f64], uncertain: bool) -> Prediction {
        let eta: f64 = x.iter().zip(&self.coefficients).map(|(x, b)| x * b).sum();
        let dispersion = if uncertain {
            widened(self.dispersion, quadratic_form(&self.covariance, x)) + self.excess_dispersion
        } else {
            self.dispersion
        };
        Prediction { mean: eta.clamp(-MAX_LN_MEAN, MAX_LN_MEAN).exp(), dispersion }
    }
}

/// The dispersion of a count whose mean is itself uncertain, with the relative variance `variance`.
fn widened(alpha: f64, variance: f64) -> f64 {
    (alpha + variance * (1.0 + alpha)).min(1e6)
}

/// The counts of one series on the panel's steps, ready for fitting.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// Whole numbers; 0 where nothing is observed.
    pub values: Vec<f64>,
    /// 1 where observed and allowed.
    pub allowed: Vec<f64>,
    /// First and one past the last step with an observation.
    pub span: std::ops::Range<usize>,
}

impl Counts {
    /// Takes over `values` (NaN = missing; negative or infinite = not a count, so missing too).
    pub fn fill(&mut self, values: impl Iterator<Item = f64>, allows: impl Fn(usize) -> bool) {
        self.values.clear();
        self.allowed.clear();
        let (mut first, mut end) = (usize::MAX, 0);
        for (t, y) in values.enumerate() {
            let observed = is_count(y);
            self.values.push(if observed { y.round() } else { 0.0 });
            self.allowed.push(if observed && allows(t) { 1.0 } else { 0.0 });
            if observed {
                first = first.min(t);
                end = t + 1;
            }
        }
        self.span = first.min(end)..end;
    }

    /// Number of steps that a fit may use.
    pub fn n_allowed(&self) -> usize {
        self.allowed.iter().filter(|w| **w > 0.0).count()
    }

    /// Steps from the first to the last that a fit may use.
    pub fn history_steps(&self) -> usize {
        let first = self.allowed.iter().position(|w| *w > 0.0);
        let last = self.allowed.iter().rposition(|w| *w > 0.0);
        first.zip(last).map_or(0, |(first, last)| last - first + 1)
    }
}

/// True for what the model takes: finite and not negative.
pub(super) fn is_count(y: f64) -> bool {
    y.is_finite() && y >= 0.0
}

/// Fits series of one design.
#[derive(Debug)]
pub(super) struct Fitter<'a> {
    pub params: &'a Nb2Params,
    pub fourier_k: usize,
    pub design: &'a Design,
    pub prior: &'a Prior,
    /// `ln(mask_p)`.
    pub ln_mask_p: f64,
}

/// The room that a [`Fitter`] works in, reused from series to series.
#[derive(Debug)]
pub(super) struct Room {
    work: Workspace,
    used: Vec<f64>,
    fold: Vec<f64>,
    row: Vec<f64>,
    extremes: Vec<(f64, i8)>,
    /// Cross-fitted, for every step of the last series' span; NaN outside.
    pub predictions: Vec<Prediction>,
}

impl Room {
    pub fn new(design: &Design) -> Self {
        let n = design.n_times();
        Self {
            work: Workspace::new(design),
            used: vec![0.0; n],
            fold: vec![0.0; n],
            row: vec![0.0; design.n_columns],
            extremes: vec![(0.0, 0); n],
            predictions: vec![Prediction::NONE; n],
        }
    }
}

impl Fitter<'_> {
    fn regression(&self) -> Regression<'_> {
        Regression { design: self.design, prior: self.prior, dispersion: self.params.dispersion }
    }

    /// Fits one series; `cross_fitted` predictions are left in `room`.
    pub fn fit(
        &self,
        counts: &Counts,
        cross_fitted: bool,
        room: &mut Room,
    ) -> Result<Nb2Fit, FitFailure> {
        room.predictions.fill(Prediction::NONE);
        room.used.copy_from_slice(&counts.allowed);
        let mut start = self.regression().start(data(counts, &room.used));
        let cross = cross_fitted || self.params.mask_rounds > 0;
        let mut round = 0;
        let estimate = loop {
            let used = data(counts, &room.used);
            let estimate = self.regression().fit(used, start, &mut room.work)?;
            if cross {
                self.cross_fit(counts, &estimate, room);
            }
            if round == self.params.mask_rounds || !self.mask_most_extreme(counts, room) {
                break estimate;
            }
            round += 1;
            start = estimate;
        };
        self.regression().predict(&estimate, &mut room.work);
        let covariance = self
            .regression()
            .covariance(data(counts, &room.used), estimate.dispersion, &mut room.work)?
            .to_vec();
        let mut excess_dispersion = 0.0;
        if cross && self.params.parameter_uncertainty {
            excess_dispersion = excess(counts, &room.used, &room.predictions);
            for prediction in &mut room.predictions {
                prediction.dispersion += excess_dispersion;
            }
        }
        let Estimate { beta: coefficients, dispersion } = estimate;
        let fourier_k = self.fourier_k;
        Ok(Nb2Fit { fourier_k, coefficients, dispersion, covariance, excess_dispersion })
    }

    /// Predicts every step of the span from a fit without its block. A block whose fit fails
    /// (nothing left to fit on) stays NaN.
    fn cross_fit(&self, counts: &Counts, full: &Estimate, room: &mut Room) {
        let span = counts.span.clone();
        // What is left out may be a third of the history at most.
        let block = self.params.block_steps.min(span.len().div_ceil(3).max(1));
        let guard = self.params.guard_steps.min((span.len() / 3).saturating_sub(block) / 2);
        for start in span.clone().step_by(block) {
            let end = (start + block).min(span.end);
            room.fold.copy_from_slice(&room.used);
            let left_out = start.saturating_sub(guard)..(end + guard).min(room.fold.len());
            room.fold[left_out].fill(0.0);
            let mut estimate = full.clone();
            if self.cross_fit_block(counts, &mut estimate, start..end, room).is_err() {
                room.predictions[start..end].fill(Prediction::NONE);
            }
        }
    }

    fn cross_fit_block(
        &self,
        counts: &Counts,
        estimate: &mut Estimate,
        block: std::ops::Range<usize>,
        room: &mut Room,
    ) -> Result<(), FitFailure> {
        let fold = data(counts, &room.fold);
        self.regression().refine(fold, estimate, REFINE_STEPS, &mut room.work)?;
        let alpha = estimate.dispersion;
        if !self.params.parameter_uncertainty {
            for t in block {
                room.predictions[t] = Prediction { mean: room.work.mean[t], dispersion: alpha };
            }
            return Ok(());
        }
        let covariance = self.regression().covariance(fold, alpha, &mut room.work)?;
        for t in block.clone() {
            self.design.row(t, &mut room.row);
            room.predictions[t].dispersion = widened(alpha, quadratic_form(covariance, &room.row));
        }
        for t in block {
            room.predictions[t].mean = room.work.mean[t];
        }
        Ok(())
    }

    /// Takes the run around the most extreme step out of `room.used`; false when no step is
    /// extreme enough, or nothing more may be taken.
    fn mask_most_extreme(&self, counts: &Counts, room: &mut Room) -> bool {
        let span = counts.span.clone();
        let mut worst: Option<usize> = None;
        for t in span.clone() {
            let Prediction { mean, dispersion } = room.predictions[t];
            room.extremes[t] = NegativeBinomial::new(mean, dispersion)
                .filter(|_| counts.allowed[t] > 0.0)
                .map_or((0.0, 0), |model| model.tails(counts.values[t]).ln_two_sided());
            let ln_p = room.extremes[t].0;
            if room.used[t] > 0.0
                && ln_p <= self.ln_mask_p
                && worst.is_none_or(|worst| ln_p < room.extremes[worst].0)
            {
                worst = Some(t);
            }
        }
        let Some(worst) = worst else { return false };
        let run = run_around(&room.extremes, worst, span);
        let taken = room.used[run.clone()].iter().sum::<f64>();
        let left = room.used.iter().sum::<f64>() - taken;
        if left < MIN_USED_SHARE * counts.n_allowed() as f64 {
            return false;
        }
        room.used[run].fill(0.0);
        true
    }
}

fn data<'a>(counts: &'a Counts, used: &'a [f64]) -> Observed<'a> {
    Observed { counts: &counts.values, used }
}

/// The steps around `worst` that lie on its side with a p-value up to [`GROW_P`].
fn run_around(
    extremes: &[(f64, i8)],
    worst: usize,
    span: std::ops::Range<usize>,
) -> std::ops::Range<usize> {
    let ln_grow = GROW_P.ln();
    let belongs = |t: &usize| extremes[*t].0 <= ln_grow && extremes[*t].1 == extremes[worst].1;
    let reach = |steps: &mut dyn Iterator<Item = usize>| {
        let (mut last, mut misses) = (worst, 0);
        for t in steps {
            if belongs(&t) {
                (last, misses) = (t, 0);
            } else if misses == GROW_OVER {
                break;
            } else {
                misses += 1;
            }
        }
        last
    };
    let first = reach(&mut (span.start..worst).rev());
    let last = reach(&mut (worst + 1..span.end));
    first..last + 1
}

/// What has to be added to the predictive dispersions so that the cross-fitted residuals of the
/// points in use have the size that they should; 0 if they are small enough already.
fn excess(counts: &Counts, used: &[f64], predictions: &[Prediction]) -> f64 {
    let points = || {
        counts.span.clone().filter(|&t| used[t] > 0.0 && predictions[t].mean.is_finite()).map(|t| {
            let Prediction { mean, dispersion } = predictions[t];
            ((counts.values[t] - mean).powi(2), mean * (1.0 + dispersion * mean), mean * mean)
        })
    };
    let n = points().count() as f64;
    let too_large = |excess: f64| {
        let cut = RESIDUAL_CUT * RESIDUAL_CUT;
        let sum: f64 = points()
            .map(|(square, variance, per_excess)| {
                (square / (variance + excess * per_excess)).min(cut)
            })
            .sum();
        sum > RESIDUAL_SQUARE * n
    };
    if n == 0.0 || !too_large(0.0) {
        return 0.0;
    }
    let (mut low, mut high) = (0.0, 0.01);
    while too_large(high) && high < 1e3 {
        low = high;
        high *= 2.0;
    }
    for _ in 0..10 {
        let middle = 0.5 * (low + high);
        if too_large(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}
