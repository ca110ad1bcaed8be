//! What a fitted model says about the steps of a later panel.
//!
//! Steps that the fit has learnt from are scored in sample, given all of them. Those that follow are
//! scored one step ahead by a fit that moves along, or, if `scoring` is not `prequential`, by the
//! fit as it stands: then each count is tested alone, because a level that has moved on since
//! the training would look like an event that never ends.

use std::borrow::Cow;

use ndarray::ArrayView1;

use super::{
    design::Terms,
    fit::{Nb2Fit, Prediction, is_count, is_exposure},
    job::MetricCalibration,
    model::FitFailure,
    params::{KnownEventRule, Nb2Params, Scoring},
    prequential::{NewLevel, NewSteps, Track},
    regimes::{RegimeRoom, Regimes, cell},
    score::Evidence,
    terms::{OwnTerm, OwnTerms},
};
use crate::detectors::{FitMask, KnownEvents};

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
    /// What the counts are taken per unit of, where there is such a thing.
    pub exposure: Option<ArrayView1<'a, f64>>,
    /// The shared regressors, `[time, column]`.
    pub regressors: &'a [f64],
    /// Which steps are normal enough to be learnt from.
    pub mask: &'a FitMask,
    pub known: &'a KnownEvents,
    /// The place of the series in both.
    pub series: usize,
}

/// What is known about the steps of one series.
#[derive(Debug, Default)]
pub(super) struct Testimony {
    /// One per step.
    pub evidence: Vec<Evidence>,
    /// The levels at which the baseline has started again.
    pub new_levels: Vec<NewLevel>,
}

impl Steps<'_> {
    /// Log exposure over that of the fit; 0 where there is none.
    fn offset(&self, t: usize, fit: &Nb2Fit) -> f64 {
        match self.exposure {
            Some(exposure) if is_exposure(exposure[t]) => exposure[t].ln() - fit.ln_exposure,
            _ => 0.0,
        }
    }

    fn is_exposed(&self, t: usize) -> bool {
        self.exposure.is_none_or(|exposure| is_exposure(exposure[t]))
    }

    fn is_normal(&self, t: usize) -> bool {
        self.mask.allows(self.series, t)
    }

    /// Observed, normal, and no zero by habit.
    fn is_learnt(&self, t: usize, fit: &Nb2Fit) -> bool {
        let habit = fit.zero_share > 0.0 && self.values[t] == 0.0;
        self.is_observed(t) && self.is_normal(t) && !habit
    }

    fn is_observed(&self, t: usize) -> bool {
        is_count(self.values[t]) && self.is_exposed(t)
    }

    /// The steps from `first` on.
    fn from(&self, first: usize, fit: &Nb2Fit, own: &OwnTerms) -> NewSteps {
        let mut new = NewSteps::default();
        for t in first..self.values.len() {
            let observed = self.is_observed(t);
            new.values.push(if observed { self.values[t].round() } else { 0.0 });
            new.normal.push(self.is_learnt(t, fit));
            new.offset.push(self.offset(t, fit));
        }
        new.own = own.predicted.iter().map(|column| column[first..].to_vec()).collect();
        new
    }
}

impl Witness<'_> {
    /// Scores every step.
    pub fn testify(
        &self,
        fit: &Nb2Fit,
        terms: Terms,
        steps: &Steps<'_>,
        room: &mut RegimeRoom,
    ) -> Testimony {
        let n_known = self.n_known(fit, steps);
        let fit = &*self.with_new_events(fit, steps);
        let n = steps.values.len();
        let own = self.own_terms(fit, steps);
        let uncertain = self.params.parameter_uncertainty;
        let mut row = vec![0.0; fit.coefficients.len()];
        let predict = |(t, shared): (usize, &[f64])| {
            row[..shared.len()].copy_from_slice(shared);
            for (x, column) in row[shared.len()..].iter_mut().zip(&own.predicted) {
                *x = column[t];
            }
            fit.predict(&row, steps.offset(t, fit), uncertain)
        };
        let mut predictions: Vec<Prediction> =
            steps.regressors.chunks_exact(terms.n_columns()).enumerate().map(predict).collect();
        let cells = (0..n_known).map(|t| {
            let (Prediction { mean, dispersion }, y) = (predictions[t], steps.values[t]);
            cell(y.round(), mean, dispersion).filter(|_| steps.is_learnt(t, fit))
        });
        self.regimes.smooth(cells, room);
        let mut new_levels = self.levels_of(fit, n);
        if self.params.scoring == Scoring::Prequential && n_known < n {
            let first = self.first + n_known as i64;
            let moving = self.params.moving(terms, self.regimes);
            // A fit that cannot move on stays as it is.
            match moving.score(fit, first, &steps.from(n_known, fit, &own), room) {
                Ok(followed) => {
                    for (prediction, step) in predictions[n_known..].iter_mut().zip(&followed) {
                        *prediction = step.prediction;
                    }
                    new_levels.extend(followed.iter().filter_map(|step| step.new_level));
                }
                Err(_) => room.odds.truncate(n_known),
            }
        }
        let evidence = |(t, &prediction): (usize, &Prediction)| Evidence {
            prediction: if steps.is_exposed(t) { prediction } else { Prediction::NONE },
            zero_share: fit.zero_share,
            regime: self.regime(t, n_known, room).filter(|_| steps.is_normal(t)),
            direction: self.params.direction,
            event_share: self.params.event_share,
        };
        let evidence = predictions.iter().enumerate().map(evidence).collect();
        Testimony { evidence, new_levels }
    }

    /// How many of the steps the fit has learnt from.
    fn n_known(&self, fit: &Nb2Fit, steps: &Steps<'_>) -> usize {
        (fit.until as i64 - self.first).clamp(0, steps.values.len() as i64) as usize
    }

    /// A fit that has followed the steps to their end. `room` holds the regimes of all of them, as
    /// [`testify`](Self::testify) leaves them.
    pub fn track(
        &self,
        fit: &Nb2Fit,
        terms: Terms,
        steps: &Steps<'_>,
        room: &mut RegimeRoom,
    ) -> Result<Track, FitFailure> {
        let n_known = self.n_known(fit, steps);
        let fit = &*self.with_new_events(fit, steps);
        self.regimes.open(n_known, room);
        let mut track = Track::new(fit, self.first + n_known as i64, n_known, None)?;
        let new = steps.from(n_known, fit, &self.own_terms(fit, steps));
        self.params.moving(terms, self.regimes).follow(&mut track, &new, room)?;
        Ok(track)
    }

    /// The fit, with what its prior says of known events that it has not seen.
    pub fn with_new_events<'f>(&self, fit: &'f Nb2Fit, steps: &Steps<'_>) -> Cow<'f, Nb2Fit> {
        let mut fit = Cow::Borrowed(fit);
        if self.params.known_events == KnownEventRule::Regress {
            for name in steps.known.names(steps.series) {
                let term = OwnTerm::KnownEvent(name.to_string());
                if !fit.own_terms.contains(&term) {
                    fit.to_mut().add_unseen(term, self.params.known_event_sd.powi(2));
                }
            }
        }
        fit
    }

    fn own_terms(&self, fit: &Nb2Fit, steps: &Steps<'_>) -> OwnTerms {
        let n = steps.values.len();
        OwnTerms::on(&fit.own_terms, (self.first, n), self.params.shift_steps, |name| {
            steps.known.column(steps.series, name, n)
        })
    }

    /// The shifts that the fit has found within `n` steps of the panel.
    fn levels_of(&self, fit: &Nb2Fit, n: usize) -> Vec<NewLevel> {
        let within = |level: &NewLevel| (self.first..self.first + n as i64).contains(&level.at);
        fit.new_levels().filter(within).collect()
    }

    /// The log p-value of the odds of step `t`, and their side.
    fn regime(&self, t: usize, n_known: usize, room: &RegimeRoom) -> Option<(f64, i8)> {
        let calibration = self.calibration?;
        let curve = if t < n_known { &calibration.history } else { &calibration.one_step_ahead };
        let odds = room.odds.get(t)?;
        Some((curve.as_ref()?.ln_p(odds.ln_odds), odds.side))
    }
}
