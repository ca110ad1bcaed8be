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
    design::{Design, Terms},
    model::{Estimate, FitFailure, MAX_LN_MEAN, Observed, Prior, Regression, Workspace},
    params::Nb2Params,
    prequential::NewLevel,
    regimes::{RegimeRoom, Regimes, cell},
    terms::{OwnTerm, OwnTerms},
    zeros,
};
use ndarray::ArrayView1;
use serde::{Deserialize, Serialize};

use crate::math::linalg::quadratic_form;

/// Newton steps of a fit that leaves a block out.
const REFINE_STEPS: usize = 2;

/// Blocks of a cross-fit at most.
const MAX_BLOCKS: usize = 16;

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
    /// Has a linear trend.
    pub trend: bool,
    /// The terms that this series has for itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own_terms: Vec<OwnTerm>,
    /// Log of the exposure that the intercept stands for; 0 without an exposure.
    pub ln_exposure: f64,
    /// Share of steps that report nothing by habit, and that the model leaves out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub zero_share: f64,
    /// Intercept, sine and cosine of each harmonic, trend (if there is one), own terms: of the log
    /// mean.
    pub coefficients: Vec<f64>,
    /// `alpha` in the variance `mu + alpha mu^2`.
    pub dispersion: f64,
    /// Of the coefficients, its lower triangle packed by rows.
    pub covariance: Vec<f64>,
    /// What cross-fitting adds to every predictive dispersion.
    pub excess_dispersion: f64,
    /// Fisher's information on the log of the dispersion.
    pub dispersion_information: f64,
    /// The step after the last one learnt from, counted from the model's origin.
    pub until: usize,
}

impl Nb2Fit {
    /// The predictive distribution at the regressors `x`; `offset` is the log exposure over that of
    /// the fit.
    pub(super) fn predict(&self, x: &[f64], offset: f64, uncertain: bool) -> Prediction {
        let eta: f64 = x.iter().zip(&self.coefficients).map(|(x, b)| x * b).sum::<f64>() + offset;
        let dispersion = if uncertain {
            widened(self.dispersion, quadratic_form(&self.covariance, x)) + self.excess_dispersion
        } else {
            self.dispersion
        };
        Prediction { mean: eta.clamp(-MAX_LN_MEAN, MAX_LN_MEAN).exp(), dispersion }
    }

    /// Adds a term of which nothing is known but its prior variance.
    pub(super) fn add_unseen(&mut self, term: OwnTerm, variance: f64) {
        self.covariance.extend(std::iter::repeat_n(0.0, self.coefficients.len()));
        self.covariance.push(variance);
        self.coefficients.push(0.0);
        self.own_terms.push(term);
    }

    /// The levels at which the baseline has started again.
    pub(super) fn new_levels(&self) -> impl Iterator<Item = NewLevel> {
        let n_shared = self.coefficients.len() - self.own_terms.len();
        let own = self.own_terms.iter().zip(&self.coefficients[n_shared..]);
        own.filter_map(|(term, coefficient)| match term {
            OwnTerm::LevelShift { at } => {
                Some(NewLevel { at: *at as i64, factor: coefficient.exp() })
            }
            OwnTerm::KnownEvent(_) => None,
        })
    }
}

/// The dispersion of a count whose mean is itself uncertain, with the relative variance `variance`.
pub(super) fn widened(alpha: f64, variance: f64) -> f64 {
    (alpha + variance * (1.0 + alpha)).min(1e6)
}

/// The counts of one series on the panel's steps, ready for fitting.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// Whole numbers; 0 where nothing is observed.
    pub values: Vec<f64>,
    /// 1 where observed.
    pub observed: Vec<f64>,
    /// 1 where observed and allowed.
    pub allowed: Vec<f64>,
    /// Log exposure of every step, over that of `ln_exposure`; empty without an exposure.
    pub offset: Vec<f64>,
    /// Mean log exposure of the steps that a fit may use; 0 without an exposure.
    pub ln_exposure: f64,
    /// Share of steps that report nothing by habit; their zeros are not allowed.
    pub zero_share: f64,
    /// First and one past the last step with an observation.
    pub span: std::ops::Range<usize>,
}

impl Counts {
    /// Takes over `values` (NaN = missing; negative or infinite = not a count, so missing too). With
    /// an exposure, a step without a positive one is missing as well.
    pub fn fill(
        &mut self,
        values: impl Iterator<Item = f64>,
        exposure: Option<ArrayView1<'_, f64>>,
        allows: impl Fn(usize) -> bool,
    ) {
        for cells in [&mut self.values, &mut self.observed, &mut self.allowed, &mut self.offset] {
            cells.clear();
        }
        let (mut first, mut end) = (usize::MAX, 0);
        for (t, y) in values.enumerate() {
            let exposed = exposure.is_none_or(|exposure| is_exposure(exposure[t]));
            let observed = is_count(y) && exposed;
            let one_if = |holds: bool| f64::from(u8::from(holds));
            self.values.push(if observed { y.round() } else { 0.0 });
            self.observed.push(one_if(observed));
            self.allowed.push(one_if(observed && allows(t)));
            if observed {
                first = first.min(t);
                end = t + 1;
            }
        }
        self.span = first.min(end)..end;
        self.ln_exposure = 0.0;
        if let Some(exposure) = exposure {
            self.fill_offset(exposure);
        }
        self.zero_share = zeros::habit(&self.values, &self.allowed);
        if self.zero_share > 0.0 {
            for (allowed, y) in self.allowed.iter_mut().zip(&self.values) {
                *allowed *= f64::from(u8::from(*y > 0.0));
            }
        }
    }

    fn fill_offset(&mut self, exposure: ArrayView1<'_, f64>) {
        let used = || exposure.iter().zip(&self.allowed).filter(|(_, allowed)| **allowed > 0.0);
        let n = used().count() as f64;
        self.ln_exposure = used().map(|(e, _)| e.ln()).sum::<f64>() / n.max(1.0);
        let offset = |e: &f64| if is_exposure(*e) { e.ln() - self.ln_exposure } else { 0.0 };
        self.offset = exposure.iter().map(offset).collect();
    }

    /// Number of steps that a fit may use.
    pub fn n_allowed(&self) -> usize {
        self.allowed.iter().filter(|w| **w > 0.0).count()
    }

    /// Events in the steps that a fit may use.
    pub fn n_events(&self) -> f64 {
        self.values.iter().zip(&self.allowed).map(|(y, allowed)| y * allowed).sum()
    }

    /// Steps from the first to the last that a fit may use.
    pub fn history_steps(&self) -> usize {
        let first = self.allowed.iter().position(|w| *w > 0.0);
        let last = self.allowed.iter().rposition(|w| *w > 0.0);
        first.zip(last).map_or(0, |(first, last)| last - first + 1)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

/// True for what the model takes: finite and not negative.
pub(super) fn is_count(y: f64) -> bool {
    y.is_finite() && y >= 0.0
}

/// True for an exposure that a rate can be taken of.
pub(super) fn is_exposure(exposure: f64) -> bool {
    exposure.is_finite() && exposure > 0.0
}

/// Fits series of one design.
#[derive(Debug)]
pub(super) struct Fitter<'a> {
    pub params: &'a Nb2Params,
    pub terms: Terms,
    /// The last columns of the design.
    pub own: &'a OwnTerms,
    pub design: &'a Design,
    pub prior: &'a Prior,
    pub regimes: &'a Regimes,
}

/// The room that a [`Fitter`] works in, reused from series to series.
#[derive(Debug)]
pub(super) struct Room {
    pub work: Workspace,
    /// 1 for the steps that the last fit used; less for those that it has begun to forget.
    pub used: Vec<f64>,
    fold: Vec<f64>,
    pub row: Vec<f64>,
    pub regimes: RegimeRoom,
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
            regimes: RegimeRoom::default(),
            predictions: vec![Prediction::NONE; n],
        }
    }
}

impl Fitter<'_> {
    pub fn regression(&self) -> Regression<'_> {
        Regression { design: self.design, prior: self.prior, dispersion: self.params.dispersion }
    }

    /// Fits one series. Cross-fitted predictions and the regimes under them are left in `room` if
    /// asked for, or if masking needs them.
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
                self.find_regimes(counts, room);
            }
            if round == self.params.mask_rounds || !self.mask_events(counts, room) {
                break estimate;
            }
            round += 1;
            start = estimate;
        };
        self.regression().predict(&estimate, &counts.offset, &mut room.work);
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
            if excess_dispersion > 0.0 {
                self.find_regimes(counts, room);
            }
        }
        self.regression().predict(&estimate, &counts.offset, &mut room.work);
        let Estimate { beta: coefficients, dispersion } = estimate;
        Ok(Nb2Fit {
            fourier_k: self.terms.fourier_k,
            trend: self.terms.trend,
            own_terms: self.own.terms.clone(),
            ln_exposure: counts.ln_exposure,
            zero_share: counts.zero_share,
            coefficients,
            dispersion,
            covariance,
            excess_dispersion,
            dispersion_information: ln_dispersion_information(dispersion, room),
            until: counts.allowed.iter().rposition(|w| *w > 0.0).map_or(0, |last| last + 1),
        })
    }

    /// Predicts every step of the span from a fit without its block. A block whose fit fails
    /// (nothing left to fit on) stays NaN.
    fn cross_fit(&self, counts: &Counts, full: &Estimate, room: &mut Room) {
        let span = counts.span.clone();
        // What is left out may be a third of the history at most.
        // A long history is cut into no more than so many blocks: the rest knows the season anyway.
        let block = self.params.block_steps.max(span.len().div_ceil(MAX_BLOCKS));
        let block = block.min(span.len().div_ceil(3).max(1));
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
                let mean = room.work.mean[t] * self.factor(t, estimate);
                room.predictions[t] = Prediction { mean, dispersion: alpha };
            }
            return Ok(());
        }
        let covariance = self.regression().covariance(fold, alpha, &mut room.work)?;
        for t in block.clone() {
            self.design.row(t, &mut room.row);
            let first_own = self.terms.n_columns();
            for (x, column) in room.row[first_own..].iter_mut().zip(&self.own.predicted) {
                *x = column[t];
            }
            room.predictions[t].dispersion = widened(alpha, quadratic_form(covariance, &room.row));
        }
        for t in block {
            room.predictions[t].mean = room.work.mean[t] * self.factor(t, estimate);
        }
        Ok(())
    }

    /// From the mean that the fit has at step `t` to the one that is predicted there.
    fn factor(&self, t: usize, estimate: &Estimate) -> f64 {
        if !self.own.is_late(t) {
            return 1.0;
        }
        let own = estimate.beta[self.terms.n_columns()..].iter().enumerate();
        own.map(|(j, b)| b * (self.own.predicted[j][t] - self.own.columns[j][t])).sum::<f64>().exp()
    }

    /// Takes the steps that more likely than not lie in an event out of `room.used`; false when
    /// that changes nothing.
    fn mask_events(&self, counts: &Counts, room: &mut Room) -> bool {
        self.find_regimes(counts, room);
        let least = MIN_USED_SHARE * counts.n_allowed() as f64;
        // The first steps of a new level are an event to the reader, but the fit has a term for them.
        let inside = |t: usize| {
            let odds = room.regimes.odds[t].ln_odds;
            counts.allowed[t] > 0.0 && odds > 0.0 && !self.own.is_late(t)
        };
        let mut worst: Vec<usize> = counts.span.clone().filter(|&t| inside(t)).collect();
        worst.sort_by(|a, b| {
            room.regimes.odds[*b].ln_odds.total_cmp(&room.regimes.odds[*a].ln_odds)
        });
        worst.truncate((counts.n_allowed() as f64 - least) as usize);
        room.fold.copy_from_slice(&counts.allowed);
        for t in worst {
            room.fold[t] = 0.0;
        }
        let changed = room.fold != room.used;
        room.used.copy_from_slice(&room.fold);
        changed
    }

    /// The regimes of all steps under the predictions, into `room.regimes`. A forbidden step tells
    /// nothing about its neighbours.
    pub fn find_regimes(&self, counts: &Counts, room: &mut Room) {
        let predictions = &room.predictions;
        let cells = (0..predictions.len()).map(|t| {
            let Prediction { mean, dispersion } = predictions[t];
            cell(counts.values[t], mean, dispersion).filter(|_| counts.allowed[t] > 0.0)
        });
        self.regimes.smooth(cells, &mut room.regimes);
    }
}

pub(super) fn data<'a>(counts: &'a Counts, used: &'a [f64]) -> Observed<'a> {
    Observed { counts: &counts.values, used, offset: &counts.offset }
}

/// Fisher's information on the log dispersion where counts are not tiny; there is a little more.
fn ln_dispersion_information(alpha: f64, room: &Room) -> f64 {
    let share = |mean: f64| alpha * mean / (1.0 + alpha * mean);
    room.used.iter().zip(&room.work.mean).map(|(used, &mu)| used * 0.5 * share(mu).powi(2)).sum()
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
