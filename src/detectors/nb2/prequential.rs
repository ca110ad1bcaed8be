//! One step ahead: each new step is predicted by what came before it, then learnt from.
//!
//! What a fit knows is a normal distribution of its coefficients. That is the prior of the regression
//! over the steps that came after it, so a new step costs microseconds however long the history is,
//! and no old count has to be kept. The prior is forgotten exponentially, like old steps, so that
//! level and dispersion are those of lately.
//!
//! The regimes take each count by the forward pass alone: an alarm uses no later step, and ends
//! when normal counts come back. A step that looks like an event is kept out of the fit; the steps
//! that follow may revise that, either way.

use super::{
    design::{Design, Terms},
    fit::{Nb2Fit, Prediction, widened},
    model::{
        Dispersion, DispersionPrior, Estimate, FitFailure, Observed, Prior, Regression, Workspace,
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

/// The steps that come after a fit.
#[derive(Clone, Debug, Default)]
pub(super) struct NewSteps {
    /// Whole numbers; 0 where nothing is observed.
    pub values: Vec<f64>,
    /// Observed, and normal enough to be learnt from once it is past.
    pub normal: Vec<bool>,
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
}

impl Moving<'_> {
    /// Predicts each of `steps`, the first of which is the step `first` of the model's time. `room`
    /// holds the regimes of the steps before, and gets those of the new ones.
    pub fn score(
        &self,
        fit: &Nb2Fit,
        first: f64,
        steps: &NewSteps,
        room: &mut RegimeRoom,
    ) -> Result<Vec<Prediction>, FitFailure> {
        let n = steps.values.len();
        let design = Design::starting_at(&self.terms, first, n);
        let mut work = Workspace::new(&design);
        let mut prior = posterior(fit)?;
        let mut estimate = Estimate { beta: fit.coefficients.clone(), dispersion: smallest(fit) };
        let mut used = vec![0.0; n];
        let mut row = vec![0.0; design.n_columns];
        let mut predictions = Vec::with_capacity(n);
        let base = room.odds.len();
        for t in 0..n {
            self.forget(&mut prior, &mut used[..t]);
            let regression =
                Regression { design: &design, prior: &prior, dispersion: self.dispersion };
            let data = Observed { counts: &steps.values, used: &used };
            regression.refine(data, &mut estimate, STEPS, &mut work)?;
            let covariance = regression.covariance(data, estimate.dispersion, &mut work)?;
            design.row(t, &mut row);
            let variance = quadratic_form(covariance, &row);
            let prediction = self.prediction(work.mean[t], &estimate, variance, fit);
            predictions.push(prediction);
            let seen = cell(steps.values[t], prediction.mean, prediction.dispersion);
            self.regimes.push(seen.filter(|_| steps.normal[t]), room);
            self.revise(base, steps, &mut used[..=t], room);
        }
        Ok(predictions)
    }

    fn prediction(
        &self,
        mean: f64,
        estimate: &Estimate,
        variance: f64,
        fit: &Nb2Fit,
    ) -> Prediction {
        let dispersion = if self.uncertain {
            widened(estimate.dispersion, variance) + fit.excess_dispersion
        } else {
            estimate.dispersion
        };
        Prediction { mean, dispersion }
    }

    fn forget(&self, prior: &mut Prior, used: &mut [f64]) {
        prior.precision.iter_mut().chain(used).for_each(|weight| *weight *= self.keep);
    }

    /// Puts the newest steps into the fit, or takes them out, as the regimes now see them.
    fn revise(&self, base: usize, steps: &NewSteps, used: &mut [f64], room: &mut RegimeRoom) {
        let n = used.len();
        let first = n.saturating_sub(REVISED_STEPS);
        self.regimes.look_back(base + first, room);
        let mut weight = 1.0;
        for t in (first..n).rev() {
            let in_event = room.revised[t - first].ln_odds > 0.0;
            used[t] = if steps.normal[t] && !in_event { weight } else { 0.0 };
            weight *= self.keep;
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
