//! What a fitted model says about the steps of a later panel.
//!
//! Steps that the fit has learnt from are scored in sample, given all of them. Those that follow are
//! scored one step ahead by a fit that moves along, or, if `scoring` is not `prequential`, by the
//! fit as it stands: then each count is tested alone, because a level that has moved on since
//! the training would look like an event that never ends.

use ndarray::ArrayView1;

use super::{
    design::Terms,
    fit::{Nb2Fit, Prediction, is_count},
    job::MetricCalibration,
    params::{Nb2Params, Scoring},
    prequential::NewSteps,
    regimes::{RegimeRoom, Regimes, cell},
    score::Evidence,
};

/// What all series of one metric share.
#[derive(Debug)]
pub(super) struct Witness<'a> {
    pub params: &'a Nb2Params,
    pub regimes: &'a Regimes,
    /// `None` when events were not looked for.
    pub calibration: Option<&'a MetricCalibration>,
    /// The step of the models' time at which the panel starts.
    pub first: i64,
}

/// The steps of one series.
pub(super) struct Steps<'a> {
    pub values: ArrayView1<'a, f64>,
    /// The regressors, `[time, column]`.
    pub regressors: &'a [f64],
    /// Which steps are normal enough to be learnt from.
    pub normal: &'a dyn Fn(usize) -> bool,
}

impl Witness<'_> {
    /// One entry per step.
    pub fn testify(
        &self,
        fit: &Nb2Fit,
        terms: Terms,
        steps: &Steps<'_>,
        room: &mut RegimeRoom,
    ) -> Vec<Evidence> {
        let width = fit.coefficients.len();
        let uncertain = self.params.parameter_uncertainty;
        let mut predictions: Vec<Prediction> =
            steps.regressors.chunks_exact(width).map(|row| fit.predict(row, uncertain)).collect();
        let n_known = (fit.until as i64 - self.first).clamp(0, predictions.len() as i64) as usize;
        let cells = (0..n_known).map(|t| {
            let (Prediction { mean, dispersion }, y) = (predictions[t], steps.values[t]);
            cell(y.round(), mean, dispersion).filter(|_| is_count(y) && (steps.normal)(t))
        });
        self.regimes.smooth(cells, room);
        if self.params.scoring == Scoring::Prequential && n_known < predictions.len() {
            let first = (self.first + n_known as i64) as f64;
            let moving = self.params.moving(terms, self.regimes);
            // A fit that cannot move on stays as it is.
            match moving.score(fit, first, &new_steps(steps, n_known), room) {
                Ok(ahead) => predictions[n_known..].copy_from_slice(&ahead),
                Err(_) => room.odds.truncate(n_known),
            }
        }
        let evidence = |(t, &prediction): (usize, &Prediction)| Evidence {
            prediction,
            regime: self.regime(t, n_known, room).filter(|_| (steps.normal)(t)),
            direction: self.params.direction,
            event_share: self.params.event_share,
        };
        predictions.iter().enumerate().map(evidence).collect()
    }

    /// The log p-value of the odds of step `t`, and their side.
    fn regime(&self, t: usize, n_known: usize, room: &RegimeRoom) -> Option<(f64, i8)> {
        let calibration = self.calibration?;
        let curve = if t < n_known { &calibration.history } else { &calibration.one_step_ahead };
        let odds = room.odds.get(t)?;
        Some((curve.as_ref()?.ln_p(odds.ln_odds), odds.side))
    }
}

/// The steps from `first` on.
fn new_steps(steps: &Steps<'_>, first: usize) -> NewSteps {
    let mut new = NewSteps::default();
    for t in first..steps.values.len() {
        let y = steps.values[t];
        let observed = is_count(y);
        new.values.push(if observed { y.round() } else { 0.0 });
        new.normal.push(observed && (steps.normal)(t));
    }
    new
}
