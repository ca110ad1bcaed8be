//! Counts drawn from a fitted model: what the calibration learns the odds of normal steps from.

use rand_chacha::ChaCha8Rng;

use super::{
    calibration::{draw, standard_normal},
    design::{Design, Terms},
    fit::{Counts, Nb2Fit},
    prequential::NewSteps,
    terms::OwnTerms,
};
use crate::math::linalg::Cholesky;

/// Steps after a fit that are simulated for the calibration of scores one step ahead.
const NEXT_STEPS: usize = 40;

/// A model that counts are drawn from.
pub(super) struct Truth(Nb2Fit);

/// The model of `fit` with the shared terms alone, whose coefficients are themselves drawn from
/// what is known about them.
pub(super) fn redrawn(fit: &Nb2Fit, terms: &Terms, rng: &mut ChaCha8Rng) -> Truth {
    let mut truth = fit.clone();
    let n = terms.n_columns();
    truth.own_terms.clear();
    truth.coefficients.truncate(n);
    truth.covariance.truncate(n * (n + 1) / 2);
    let mut factor = Cholesky::new(n);
    if factor.factor(&truth.covariance) {
        let noise: Vec<f64> = truth.coefficients.iter().map(|_| standard_normal(rng)).collect();
        factor.add_product(&noise, &mut truth.coefficients);
    }
    Truth(truth)
}

impl Truth {
    fn count(&self, row: &[f64], offset: f64, rng: &mut ChaCha8Rng) -> f64 {
        let mean = self.0.predict(row, offset, false).mean;
        draw(rng, mean, self.0.dispersion + self.0.excess_dispersion)
    }

    /// Replaces the counts of a series by draws.
    pub fn draw(&self, design: &Design, rng: &mut ChaCha8Rng, counts: &mut Counts) {
        let mut row = vec![0.0; design.n_columns];
        for t in 0..counts.values.len() {
            design.row(t, &mut row);
            if counts.observed[t] > 0.0 {
                let offset = counts.offset.get(t).copied().unwrap_or_default();
                counts.values[t] = self.count(&row, offset, rng);
            }
        }
    }

    /// Draws the steps that follow `fit`, at the exposure that it stands for and without events.
    pub fn draw_next(
        &self,
        terms: &Terms,
        (fit, lasting): (&Nb2Fit, usize),
        rng: &mut ChaCha8Rng,
    ) -> NewSteps {
        let first = fit.until as f64;
        let mut row = vec![0.0; terms.n_columns()];
        let count = |i: usize| {
            terms.row(first + i as f64, &mut row);
            self.count(&row, 0.0, rng)
        };
        let values = (0..NEXT_STEPS).map(count).collect();
        let steps = (fit.until as i64, NEXT_STEPS);
        let own = OwnTerms::on(&fit.own_terms, steps, lasting, |_| vec![0.0; NEXT_STEPS]);
        let (normal, offset) = (vec![true; NEXT_STEPS], vec![0.0; NEXT_STEPS]);
        NewSteps { values, normal, offset, own: own.predicted }
    }
}
