//! One step ahead: each of the newest steps is predicted by what came before it, then learnt from.
//!
//! The fit moves along with the series: a step is predicted, the regimes are updated by its count
//! (the forward pass alone, so that an alarm uses no later week, and ends when normal counts come
//! back), and the coefficients take two Newton steps from where they stood. A step that looks like
//! an event is kept out of the fit; the weeks that follow may revise that, either way. Old steps
//! are forgotten exponentially, so that the level and the dispersion are those of lately.

use super::{
    fit::{Counts, Fitter, Nb2Fit, Prediction, Room, data, widened},
    model::{Estimate, FitFailure},
    regimes::cell,
};
use crate::math::linalg::quadratic_form;

/// How many past steps a new one may move in or out of an event.
const REVISED_STEPS: usize = 12;

/// Newton steps of the coefficients after each new count.
const STEPS: usize = 2;

impl Fitter<'_> {
    /// Scores the steps from `from` on one step ahead: their predictions and odds replace those in
    /// `room`, which holds what [`Fitter::fit`] left there for the steps before. Returns the fit
    /// that has seen everything.
    pub fn one_step_ahead(
        &self,
        counts: &Counts,
        from: usize,
        fit: Nb2Fit,
        room: &mut Room,
    ) -> Result<Nb2Fit, FitFailure> {
        let excess = fit.excess_dispersion;
        let mut estimate = Estimate { beta: fit.coefficients, dispersion: fit.dispersion };
        let keep = self.params.half_life_steps.map_or(1.0, |half| 0.5f64.powf(1.0 / half));
        for (t, used) in room.used.iter_mut().enumerate() {
            *used = if t < from { *used * keep.powi((from - t) as i32) } else { 0.0 };
        }
        let from = from.max(counts.span.start);
        self.regimes.open(from, &mut room.regimes);
        self.learn(counts, &mut estimate, room)?;
        for t in from..counts.span.end {
            let prediction = self.predict_next(t, excess, &estimate, room);
            room.predictions[t] = prediction;
            let seen = cell(counts.values[t], prediction.mean, prediction.dispersion)
                .filter(|_| counts.observed[t] > 0.0);
            self.regimes.push(seen, &mut room.regimes);
            for used in &mut room.used[..t] {
                *used *= keep;
            }
            self.revise(counts, t, keep, room);
            self.learn(counts, &mut estimate, room)?;
        }
        let Estimate { beta: coefficients, dispersion } = estimate;
        let covariance = room.work.covariance_of_last().to_vec();
        Ok(Nb2Fit { coefficients, dispersion, covariance, ..fit })
    }

    fn predict_next(&self, t: usize, excess: f64, estimate: &Estimate, room: &mut Room) -> Prediction {
        let mean = room.work.mean[t];
        if !self.params.parameter_uncertainty {
            return Prediction { mean, dispersion: estimate.dispersion };
        }
        self.design.row(t, &mut room.row);
        let variance = quadratic_form(room.work.covariance_of_last(), &room.row);
        Prediction { mean, dispersion: widened(estimate.dispersion, variance) + excess }
    }

    /// Puts the newest steps up to `t` into the fit, or takes them out, as the regimes now see them.
    fn revise(&self, counts: &Counts, t: usize, keep: f64, room: &mut Room) {
        let first = (t + 1).saturating_sub(REVISED_STEPS);
        self.regimes.look_back(first, &mut room.regimes);
        for (back, step) in (first..=t).rev().enumerate() {
            let normal = room.regimes.revised[step - first].ln_odds <= 0.0;
            room.used[step] =
                if normal { counts.normal[step] * keep.powi(back as i32) } else { 0.0 };
        }
    }

    fn learn(
        &self,
        counts: &Counts,
        estimate: &mut Estimate,
        room: &mut Room,
    ) -> Result<(), FitFailure> {
        let used = data(counts, &room.used);
        let regression = self.regression();
        regression.refine(used, estimate, STEPS, &mut room.work)?;
        regression.covariance(used, estimate.dispersion, &mut room.work)?;
        Ok(())
    }
}
