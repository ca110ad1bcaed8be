//! One new step of one series at a time, without a panel: for streams.
//!
//! [`FittedNb2::stream`] follows every series of a panel to its end and keeps where each stands: the
//! fit, a window of steps that it may still revise, and the regimes. From there on
//! [`Nb2Stream::update`] takes one new step in microseconds: two Newton steps from where the fit
//! stands and one step of the hidden Markov chain. It is the same computation that
//! [`score`](crate::detectors::FittedDetector::score) does on a panel with those steps at its end, so
//! the answers are the same.

use rayon::prelude::*;

use super::{
    design::Terms,
    evidence::Testimony,
    fit::{is_count, is_exposure},
    fitted::{FittedNb2, Later},
    prequential::{NewStep, Track},
    regimes::RegimeRoom,
    score::{Evidence, Recent},
    terms::OwnTerm,
};
use crate::{
    detectors::{DetectorError, FitContext, FitMask},
    panel::{Panel, SeriesKey},
};

/// A new step of one metric of one series.
#[derive(Clone, Copy, Debug)]
pub struct Nb2Step<'a> {
    /// The count; NaN where it is missing.
    pub value: f64,
    /// What the count is taken per unit of, where the parameters name an exposure.
    pub exposure: Option<f64>,
    /// The known events that cover the step. Under `known_events = "mask"` any of them keeps the
    /// step out of the fit; under `"regress"` they are expected to do what they did before, and a
    /// name that the fit has never seen does nothing.
    pub known_events: &'a [&'a str],
}

impl Nb2Step<'_> {
    /// A count, and nothing else to be said.
    pub fn count(value: f64) -> Self {
        Self { value, exposure: None, known_events: &[] }
    }
}

/// What a new step looks like to a fit that has seen all steps before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nb2Update {
    pub expected: f64,
    /// Bounds of the prediction interval.
    pub lower: f64,
    pub upper: f64,
    /// Natural log of the p-value.
    pub log_p: f64,
    /// +1 above the expected, -1 below.
    pub direction: i8,
    /// New level over old, when this step has made certain that the level has moved for good
    /// (`on_shift = "rebase"`): the baseline has started again `shift_steps` - 1 steps ago.
    pub new_level: Option<f64>,
}

/// One metric of one series, as it stands.
#[derive(Clone, Debug)]
struct Followed {
    terms: Terms,
    own: Vec<OwnTerm>,
    ln_exposure: f64,
    zero_share: f64,
    track: Track,
    room: RegimeRoom,
    recent: Recent,
}

/// Every series of a panel, ready for the steps that come after it.
#[derive(Clone, Debug)]
pub struct Nb2Stream<'a> {
    fitted: &'a FittedNb2,
    keys: Vec<SeriesKey>,
    /// `[series][modelled metric]`; `None` where there is no fit.
    series: Vec<Vec<Option<Followed>>>,
}

impl FittedNb2 {
    /// Follows every series of `panel` to its end.
    ///
    /// # Errors
    /// When the panel does not fit the detector, or somebody cancelled.
    pub fn stream(
        &self,
        panel: &Panel,
        mask: &FitMask,
        context: &FitContext,
    ) -> Result<Nb2Stream<'_>, DetectorError> {
        let places = self.places(panel)?;
        let exposure = self.params().exposure_in(panel)?;
        let regressors = self.regressors(panel);
        let follow = |series: usize| -> Result<Vec<Option<Followed>>, DetectorError> {
            context.check_cancelled()?;
            let Some(model) = self.series_of(&panel.keys()[series]) else {
                return Ok(vec![None; places.len()]);
            };
            let of = Later { panel, mask, context, series, places: &places, exposure };
            let metric = |place: usize| {
                let fit = model.metrics[place].fit()?;
                let steps = of.steps(place, fit, &regressors);
                let mut room = RegimeRoom::default();
                let witness = self.witness(place, panel);
                let seen = witness.testify(fit, self.terms(fit), &steps, &mut room);
                let mut track = witness.track(fit, self.terms(fit), &steps, &mut room).ok()?;
                track.trim(&mut room, witness.regimes.len());
                let fit = witness.with_new_events(fit, &steps);
                let recent = self.recent(&seen, panel, (series, places[place]));
                Some(Followed {
                    terms: self.terms(&fit),
                    own: fit.own_terms.clone(),
                    ln_exposure: fit.ln_exposure,
                    zero_share: fit.zero_share,
                    track,
                    room,
                    recent,
                })
            };
            Ok((0..places.len()).map(metric).collect())
        };
        let series = (0..panel.n_series()).into_par_iter().map(follow).collect::<Result<_, _>>()?;
        Ok(Nb2Stream { fitted: self, keys: panel.keys().to_vec(), series })
    }

    /// The newest cells of a series, for the rule of `min_cases`.
    fn recent(&self, seen: &Testimony, panel: &Panel, (series, metric): (usize, usize)) -> Recent {
        let mut recent = Recent::default();
        let first = panel.n_times().saturating_sub(self.params().min_cases_steps);
        for t in first..panel.n_times() {
            let y = panel.values()[[series, t, metric]];
            self.rules().judge(y, seen.evidence[t], &mut recent);
        }
        recent
    }
}

impl Nb2Stream<'_> {
    /// The place of a series, for [`update`](Self::update).
    pub fn find(&self, key: &SeriesKey) -> Option<usize> {
        self.keys.iter().position(|known| known == key)
    }

    /// Judges the next step of one series, then learns from it; `metric` is a place in
    /// [`FittedNb2::metrics`]. Steps come without gaps: a missing one has the value NaN.
    ///
    /// `None` for a missing count, one without exposure, or a series that has no fit.
    pub fn update(&mut self, series: usize, metric: usize, step: Nb2Step<'_>) -> Option<Nb2Update> {
        let fitted = self.fitted;
        let params = fitted.params();
        let followed = self.series.get_mut(series)?.get_mut(metric)?.as_mut()?;
        let exposed = params.exposure.is_none() || step.exposure.is_some_and(is_exposure);
        let observed = is_count(step.value) && exposed;
        let offset = match step.exposure {
            Some(exposure) if params.exposure.is_some() && exposed => {
                exposure.ln() - followed.ln_exposure
            }
            _ => 0.0,
        };
        let known = !fitted.models_known_events() && !step.known_events.is_empty();
        let habit = followed.zero_share > 0.0 && step.value == 0.0;
        let own: Vec<f64> = followed.own_values(step.known_events, params.shift_steps);
        let moving = params.moving(followed.terms, fitted.regimes());
        let new = NewStep {
            value: if observed { step.value.round() } else { 0.0 },
            normal: observed && !known && !habit,
            offset,
            own: &own,
        };
        let found = moving.push(&mut followed.track, new, &mut followed.room).ok()?;
        let odds = followed.room.odds.last().copied();
        followed.track.trim(&mut followed.room, fitted.regimes().len());
        let curve = fitted.calibration(metric).and_then(|c| c.one_step_ahead.as_ref());
        let evidence = Evidence {
            prediction: found.prediction,
            zero_share: followed.zero_share,
            regime: curve
                .zip(odds)
                .filter(|_| !known)
                .map(|(curve, odds)| (curve.ln_p(odds.ln_odds), odds.side)),
            direction: params.direction,
            event_share: params.event_share,
        };
        let value = if observed { step.value } else { f64::NAN };
        let verdict = fitted.rules().judge(value, evidence, &mut followed.recent)?;
        Some(Nb2Update {
            expected: verdict.expected,
            lower: verdict.lower,
            upper: verdict.upper,
            log_p: verdict.ln_p,
            direction: verdict.direction,
            new_level: found.new_level.map(|level| level.factor),
        })
    }
}

impl Followed {
    /// The series' own terms at the next step.
    fn own_values(&self, known_events: &[&str], lasting: usize) -> Vec<f64> {
        let next = self.track.next();
        let value = |term: &OwnTerm| match term {
            OwnTerm::KnownEvent(name) => known_events.contains(&name.as_str()),
            OwnTerm::LevelShift { at } => next >= (at + lasting) as i64,
        };
        self.own.iter().map(|term| f64::from(u8::from(value(term)))).collect()
    }
}
