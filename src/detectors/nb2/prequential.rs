//! One step ahead: each new step is predicted by what came before it, then learnt from.
//!
//! What a fit knows is a normal distribution of its coefficients. That is the prior of the regression
//! over the steps that came after it, so a new step costs microseconds however long the history is.
//! The steps of a window behind the newest one are kept and fitted again with each new step; older
//! ones go into the prior. It is forgotten exponentially, like old steps, so that level and
//! dispersion are those of lately.
//!
//! The regimes take each count by the forward pass alone: an alarm uses no later step, and ends
//! when normal counts come back. A step that looks like an event is kept out of the fit; the steps
//! that follow may revise that, either way. An event that does not end within `lasting` steps is a
//! new level, if the parameters say so: its steps are learnt from after all, and the regimes start
//! again from normal.

use super::{
    design::{Design, Terms, dot},
    fit::{Nb2Fit, Prediction, widened},
    model::{
        Dispersion, DispersionPrior, Estimate, FitFailure, Observed, Prior, Regression, Workspace,
        diagonal,
    },
    regimes::{RegimeRoom, Regimes, cell},
};
use crate::math::linalg::{Cholesky, quadratic_form};

/// How many past steps a new one may move in or out of an event.
const REVISED_STEPS: usize = 12;

/// Newton steps of the coefficients after each new count.
const STEPS: usize = 2;

/// The most that is taken for known about a log dispersion: a standard deviation of this.
const MAX_LN_DISPERSION_SD: f64 = 1.5;

/// Steps that are fitted again with each new one; half of them go into the prior when it is full.
const WINDOW: usize = 64;

/// By how much, as a standard deviation of the log mean, a new level is unknown.
const NEW_LEVEL_SD: f64 = 0.5;

/// The steps that come after a fit.
#[derive(Clone, Debug, Default)]
pub(super) struct NewSteps {
    /// Whole numbers; 0 where nothing is observed.
    pub values: Vec<f64>,
    /// Observed, and normal enough to be learnt from once it is past.
    pub normal: Vec<bool>,
    /// Log exposure, over that of the fit.
    pub offset: Vec<f64>,
    /// `[term][step]`: the fit's own terms.
    pub own: Vec<Vec<f64>>,
}

/// How a fit moves on.
#[derive(Debug)]
pub(super) struct Moving<'a> {
    pub terms: Terms,
    pub regimes: &'a Regimes,
    pub dispersion: Dispersion,
    pub uncertain: bool,
    /// What is kept of the past from one step to the next.
    pub keep: f64,
    /// After so many steps an event is a new level; `None` = never.
    pub lasting: Option<usize>,
}

/// One step that comes after a fit.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewStep<'a> {
    pub value: f64,
    pub normal: bool,
    pub offset: f64,
    /// The fit's own terms at this step.
    pub own: &'a [f64],
}

/// A level that has moved and stayed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct NewLevel {
    /// Its first step, counted from the model's origin.
    pub at: i64,
    /// New level over old.
    pub factor: f64,
}

/// What became of a new step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Followed {
    pub prediction: Prediction,
    /// The level that this step has made certain.
    pub new_level: Option<NewLevel>,
}

/// A fit on its way through new steps.
#[derive(Clone, Debug)]
pub(super) struct Track {
    design: Design,
    work: Workspace,
    prior: Prior,
    estimate: Estimate,
    excess_dispersion: f64,
    /// The window; what lies behind its `n` steps is not yet seen.
    counts: Vec<f64>,
    used: Vec<f64>,
    offset: Vec<f64>,
    normal: Vec<bool>,
    n: usize,
    /// The window's first step, counted from the model's origin.
    first: i64,
    /// The first step of the window that may still be taken out of the fit, or put back.
    open: usize,
    /// Where the window starts among the regimes' steps.
    base: usize,
    row: Vec<f64>,
}

impl Track {
    /// A fit whose next step is `first` of the model's time and comes behind the `base` steps that
    /// the regimes have seen; `n_steps` is how many steps will come, if that is known.
    pub fn new(
        fit: &Nb2Fit,
        first: i64,
        base: usize,
        n_steps: Option<usize>,
    ) -> Result<Self, FitFailure> {
        let capacity = n_steps.unwrap_or(WINDOW).clamp(1, WINDOW);
        let design = Design::empty(fit.coefficients.len(), capacity);
        Ok(Self {
            work: Workspace::new(&design),
            prior: posterior(fit)?,
            estimate: Estimate { beta: fit.coefficients.clone(), dispersion: smallest(fit) },
            excess_dispersion: fit.excess_dispersion,
            counts: vec![0.0; capacity],
            used: vec![0.0; capacity],
            offset: vec![0.0; capacity],
            normal: vec![false; capacity],
            n: 0,
            first,
            open: 0,
            base,
            row: vec![0.0; design.n_columns],
            design,
        })
    }

    /// The next step of the model's time.
    pub fn next(&self) -> i64 {
        self.first + self.n as i64
    }

    /// Forgets the regimes' steps that nothing looks back on any more.
    pub fn trim(&mut self, room: &mut RegimeRoom, width: usize) {
        if self.base > 1 {
            room.drop_front(self.base - 1, width);
            self.base = 1;
        }
    }
}

impl Moving<'_> {
    /// Predicts each of `steps`, the first of which is the step `first` of the model's time. `room`
    /// holds the regimes of the steps before, and gets those of the new ones.
    pub fn score(
        &self,
        fit: &Nb2Fit,
        first: i64,
        steps: &NewSteps,
        room: &mut RegimeRoom,
    ) -> Result<Vec<Followed>, FitFailure> {
        let mut track = Track::new(fit, first, room.odds.len(), Some(steps.values.len()))?;
        self.follow(&mut track, steps, room)
    }

    /// Predicts each of `steps` and learns from it.
    pub fn follow(
        &self,
        track: &mut Track,
        steps: &NewSteps,
        room: &mut RegimeRoom,
    ) -> Result<Vec<Followed>, FitFailure> {
        let n = steps.values.len();
        let mut own = vec![0.0; steps.own.len()];
        (0..n)
            .map(|t| {
                for (value, column) in own.iter_mut().zip(&steps.own) {
                    *value = column[t];
                }
                let step = NewStep {
                    value: steps.values[t],
                    normal: steps.normal[t],
                    offset: steps.offset[t],
                    own: &own,
                };
                self.push(track, step, room)
            })
            .collect()
    }

    /// Predicts the next step, then learns from it.
    pub fn push(
        &self,
        track: &mut Track,
        step: NewStep<'_>,
        room: &mut RegimeRoom,
    ) -> Result<Followed, FitFailure> {
        if track.n == track.counts.len() {
            self.settle(track, track.n.saturating_sub(WINDOW / 2).max(1))?;
        }
        let t = track.n;
        let (shared, own) = track.row.split_at_mut(self.terms.n_columns());
        self.terms.row((track.first + t as i64) as f64, shared);
        own.copy_from_slice(step.own);
        track.design.set_row(t, &track.row);
        track.counts[t] = step.value;
        track.offset[t] = step.offset;
        track.normal[t] = step.normal;
        let past = track.prior.precision.iter_mut().chain(&mut track.used[..t]);
        past.for_each(|weight| *weight *= self.keep);
        let prediction = self.predict(track, t)?;
        let seen = cell(step.value, prediction.mean, prediction.dispersion);
        self.regimes.push(seen.filter(|_| step.normal), room);
        track.n += 1;
        let since = self.revise(track, room);
        let new_level = match since {
            Some(since) => Some(self.rebase(track, since, room)?),
            None => None,
        };
        Ok(Followed { prediction, new_level })
    }

    fn predict(&self, track: &mut Track, t: usize) -> Result<Prediction, FitFailure> {
        let Track { design, prior, estimate, work, counts, used, offset, .. } = track;
        let regression = Regression { design, prior, dispersion: self.dispersion };
        let data = Observed { counts, used, offset };
        regression.refine(data, estimate, STEPS, work)?;
        let covariance = regression.covariance(data, estimate.dispersion, work)?;
        let variance = quadratic_form(covariance, &track.row);
        let dispersion = if self.uncertain {
            widened(track.estimate.dispersion, variance) + track.excess_dispersion
        } else {
            track.estimate.dispersion
        };
        Ok(Prediction { mean: track.work.mean[t], dispersion })
    }

    /// Puts the newest steps into the fit, or takes them out, as the regimes now see them. Returns
    /// the first step of an event that has lasted so long that it is none, if there is one.
    fn revise(&self, track: &mut Track, room: &mut RegimeRoom) -> Option<usize> {
        let n = track.n;
        let steps = REVISED_STEPS.max(self.lasting.unwrap_or(0));
        let first = n.saturating_sub(steps).max(track.open);
        self.regimes.look_back(track.base + first, room);
        let mut weight = 1.0;
        let mut inside = 0;
        for t in (first..n).rev() {
            let odds = room.revised[t - first];
            let in_event = odds.ln_odds > 0.0;
            track.used[t] = if track.normal[t] && !in_event { weight } else { 0.0 };
            weight *= self.keep;
            if in_event && odds.side == room.revised[n - 1 - first].side && inside == n - 1 - t {
                inside += 1;
            }
        }
        let lasting = self.lasting?;
        let since = n.checked_sub(lasting)?;
        let known = || (since..n).filter(|&t| track.normal[t]).count();
        (inside >= lasting && 2 * known() > lasting).then_some(since)
    }

    /// Starts the baseline again at the level of the steps from `since` on.
    fn rebase(
        &self,
        track: &mut Track,
        since: usize,
        room: &mut RegimeRoom,
    ) -> Result<NewLevel, FitFailure> {
        let at = track.first + since as i64;
        self.settle(track, since)?;
        let new = || (0..track.n).filter(|&t| track.normal[t]);
        let observed: f64 = new().map(|t| track.counts[t]).sum();
        let expected: f64 = new().map(|t| track.work.mean[t]).sum();
        let factor = ((observed + 0.5) / (expected + 0.5)).clamp(1e-6, 1e6);
        track.prior.mean[0] += factor.ln();
        track.estimate.beta[0] += factor.ln();
        loosen(&mut track.prior.precision, NEW_LEVEL_SD * NEW_LEVEL_SD);
        let mut weight = 1.0;
        for t in (0..track.n).rev() {
            track.used[t] = if track.normal[t] { weight } else { 0.0 };
            weight *= self.keep;
        }
        track.open = track.n;
        self.regimes.restart(room);
        Ok(NewLevel { at, factor })
    }

    /// Moves the first `k` steps of the window into the prior: with it they have the same gradient
    /// and the same information at the estimate as before.
    fn settle(&self, track: &mut Track, k: usize) -> Result<(), FitFailure> {
        let mut settled = track.used.clone();
        settled[k..].fill(0.0);
        let alpha = track.estimate.dispersion;
        let mut gradient = vec![0.0; track.estimate.beta.len()];
        track.prior.add_score(&track.estimate.beta, &mut gradient);
        let share = |t: usize| 1.0 / (1.0 + alpha * track.work.mean[t]);
        let residual: Vec<f64> = (0..settled.len())
            .map(|t| settled[t] * (track.counts[t] - track.work.mean[t]) * share(t))
            .collect();
        let weights: Vec<f64> =
            (0..settled.len()).map(|t| settled[t] * track.work.mean[t] * share(t)).collect();
        for (j, g) in gradient.iter_mut().enumerate() {
            *g += dot(track.design.column(j), &residual);
        }
        let mut information = vec![0.0; track.design.n_pairs()];
        track.design.gram(&weights, &mut information);
        for (precision, more) in track.prior.precision.iter_mut().zip(&information) {
            *precision += more;
        }
        let mut factor = Cholesky::new(gradient.len());
        if !factor.factor(&track.prior.precision) {
            return Err(FitFailure::Singular);
        }
        factor.solve(&mut gradient);
        let centre = track.estimate.beta.iter().zip(&gradient).map(|(b, step)| b + step);
        track.prior.mean = centre.collect();
        if let DispersionPrior::LogNormal { centre, sd } = &mut track.prior.dispersion {
            let known: f64 = (0..settled.len())
                .map(|t| settled[t] * 0.5 * (alpha * track.work.mean[t] * share(t)).powi(2))
                .sum();
            let precision = sd.powi(-2);
            *centre = (precision * *centre + known * alpha.ln()) / (precision + known);
            *sd = (precision + known).sqrt().recip();
        }
        track.drop_front(k);
        Ok(())
    }
}

impl Track {
    /// Forgets the first `k` steps of the window.
    fn drop_front(&mut self, k: usize) {
        let n = self.n - k;
        for t in 0..n {
            self.design.row(k + t, &mut self.row);
            self.design.set_row(t, &self.row);
        }
        for cells in [&mut self.counts, &mut self.used, &mut self.offset, &mut self.work.mean] {
            cells.copy_within(k.., 0);
        }
        self.used[n..].fill(0.0);
        self.normal.copy_within(k.., 0);
        self.n = n;
        self.first += k as i64;
        self.base += k;
        self.open = self.open.saturating_sub(k);
    }
}

/// Adds `variance` to that of the intercept whose covariance is the inverse of `precision`
/// (Sherman and Morrison 1950).
fn loosen(precision: &mut [f64], variance: f64) {
    let n = (0..).take_while(|&j| diagonal(j) < precision.len()).count();
    let first: Vec<f64> = (0..n).map(|j| precision[diagonal(j) - j]).collect();
    let scale = 1.0 / (1.0 / variance + first[0]);
    for i in 0..n {
        for j in 0..=i {
            precision[diagonal(i) - i + j] -= scale * first[i] * first[j];
        }
    }
}

/// What a fit knows, as the prior of the next.
fn posterior(fit: &Nb2Fit) -> Result<Prior, FitFailure> {
    let mut factor = Cholesky::new(fit.coefficients.len());
    if !factor.factor(&fit.covariance) {
        return Err(FitFailure::Singular);
    }
    let mut precision = vec![0.0; fit.covariance.len()];
    factor.inverse_packed(&mut precision);
    let least = MAX_LN_DISPERSION_SD.powi(-2);
    let dispersion = DispersionPrior::LogNormal {
        centre: smallest(fit).ln(),
        sd: (fit.dispersion_information + least).sqrt().recip(),
    };
    Ok(Prior { mean: fit.coefficients.clone(), precision, half_event: false, dispersion })
}

/// The fit's dispersion, or where it is next to none, one that does not matter at its mean.
fn smallest(fit: &Nb2Fit) -> f64 {
    let mean = fit.coefficients.first().map_or(1.0, |intercept| intercept.clamp(-30.0, 30.0).exp());
    fit.dispersion.max(0.01 / (mean + 10.0))
}
