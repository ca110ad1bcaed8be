//! The fitted detector: coefficients per series, scoring of later panels, checkpoints.

use std::{any::Any, collections::HashMap};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    Nb2Fit,
    design::Terms,
    evidence::{Steps, Testimony, Witness},
    fit::Prediction,
    job::{Job, MetricCalibration},
    params::{KnownEventRule, Nb2Params},
    prequential::NewLevel,
    regimes::{RegimeRoom, Regimes},
    score::{self, Evidence, Rules},
};
use crate::{
    detectors::{
        DetectorError, DetectorName, DetectorState, FitContext, FitMask, FittedDetector, Scores,
        SeriesFailure, SeriesNote,
    },
    panel::{Panel, SeriesKey, Step},
};

/// Layout of the checkpoint's JSON.
const VERSION: u32 = 3;

/// What became of one metric of one series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricOutcome {
    Fitted(Nb2Fit),
    /// Why not.
    Failed(String),
}

impl MetricOutcome {
    /// The fit, if there is one.
    pub fn fit(&self) -> Option<&Nb2Fit> {
        match self {
            Self::Fitted(fit) => Some(fit),
            Self::Failed(_) => None,
        }
    }
}

/// One series that was fitted, or was tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nb2Series {
    pub key: SeriesKey,
    /// One per count metric, in the order of [`FittedNb2::metrics`].
    pub metrics: Vec<MetricOutcome>,
}

impl Nb2Series {
    /// Why nothing of the series could be fitted; `None` if something could.
    fn failure(&self) -> Option<&str> {
        self.metrics.iter().try_fold("no metric", |_, outcome| match outcome {
            MetricOutcome::Fitted(_) => None,
            MetricOutcome::Failed(reason) => Some(reason.as_str()),
        })
    }
}

/// NB2 after training.
#[derive(Clone, Debug)]
pub struct FittedNb2 {
    state: State,
    rules: Rules,
    params: Nb2Params,
    regimes: Regimes,
    index: HashMap<SeriesKey, usize>,
}

/// What a checkpoint keeps.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    version: u32,
    step: Step,
    /// Start of step 0 of the models' time, on the calendar's clock.
    origin: i64,
    period_steps: f64,
    centre: f64,
    /// The metric that counts are taken per unit of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exposure: Option<String>,
    metrics: Vec<String>,
    /// One per metric; empty when events were not looked for.
    calibrations: Vec<MetricCalibration>,
    series: Vec<Nb2Series>,
}

impl FittedNb2 {
    pub(super) fn new(job: &Job<'_>, series: Vec<Nb2Series>) -> Self {
        let panel = job.panel;
        let name = |&metric: &usize| panel.metrics()[metric].name.clone();
        let calendar = panel.calendar();
        let state = State {
            version: VERSION,
            step: calendar.step(),
            origin: calendar.origin(),
            period_steps: job.period,
            centre: job.centre,
            exposure: job.params.exposure.clone(),
            metrics: job.metrics.iter().map(name).collect(),
            calibrations: job.calibrations.clone(),
            series,
        };
        Self::from_state(job.params, state)
    }

    fn from_state(params: &Nb2Params, state: State) -> Self {
        let index = state.series.iter().enumerate().map(|(i, s)| (s.key.clone(), i)).collect();
        Self {
            rules: Rules::new(params),
            regimes: params.regimes(state.period_steps),
            params: params.clone(),
            index,
            state,
        }
    }

    /// Rebuilds the detector from a checkpoint, after checking all of it.
    pub(super) fn restore(params: &Nb2Params, state: DetectorState) -> Result<Self, DetectorError> {
        let refuse = |reason: String| DetectorError::State { detector: DetectorName::Nb2, reason };
        let state: State = serde_json::from_value(state.json)
            .map_err(|error| refuse(format!("{error}; train again")))?;
        state.check().map_err(refuse)?;
        if state.exposure != params.exposure {
            let name = |of: &Option<String>| of.clone().unwrap_or_else(|| "none".into());
            return Err(refuse(format!(
                "it was trained with the exposure {}, the parameters say {}; train again, or set `exposure` back",
                name(&state.exposure),
                name(&params.exposure)
            )));
        }
        Ok(Self::from_state(params, state))
    }

    /// The names of the metrics that are modelled.
    pub fn metrics(&self) -> &[String] {
        &self.state.metrics
    }

    /// All series of the training, in the panel's order.
    pub fn series(&self) -> &[Nb2Series] {
        &self.state.series
    }

    /// The fit of one metric of one series, by their names.
    pub fn fit_of(&self, key: &SeriesKey, metric: &str) -> Option<&Nb2Fit> {
        let place = self.state.metrics.iter().position(|m| m == metric)?;
        self.state.series[*self.index.get(key)?].metrics.get(place)?.fit()
    }

    /// `alpha` of one metric of one series, from which, with the expected count `mu`, the variance
    /// `mu + alpha mu^2` of a Pearson residual follows.
    pub fn dispersion(&self, key: &SeriesKey, metric: &str) -> Option<f64> {
        self.fit_of(key, metric).map(|fit| fit.dispersion)
    }

    pub(super) fn params(&self) -> &Nb2Params {
        &self.params
    }

    pub(super) fn rules(&self) -> Rules {
        self.rules
    }

    pub(super) fn regimes(&self) -> &Regimes {
        &self.regimes
    }

    /// How the odds of the modelled metric at `place` become p-values.
    pub(super) fn calibration(&self, place: usize) -> Option<&MetricCalibration> {
        self.state.calibrations.get(place)
    }

    pub(super) fn models_known_events(&self) -> bool {
        self.params.known_events == KnownEventRule::Regress
    }

    /// The series of the training with this key.
    pub(super) fn series_of(&self, key: &SeriesKey) -> Option<&Nb2Series> {
        self.index.get(key).map(|&place| &self.state.series[place])
    }

    pub(super) fn failures_of_training(&self) -> Vec<SeriesFailure> {
        let failed = |(series, s): (usize, &Nb2Series)| {
            s.failure().map(|reason| SeriesFailure { series, reason: reason.to_string() })
        };
        self.state.series.iter().enumerate().filter_map(failed).collect()
    }

    pub(super) fn notes_of_training(&self, panel: &Panel) -> Vec<SeriesNote> {
        let of_series = |(series, model): (usize, &Nb2Series)| {
            let levels = |outcome: &MetricOutcome| match outcome.fit() {
                Some(fit) => fit.new_levels().collect(),
                None => Vec::new(),
            };
            self.notes(panel, series, &model.metrics.iter().map(levels).collect::<Vec<_>>())
        };
        self.state.series.iter().enumerate().flat_map(of_series).collect()
    }

    pub(super) fn terms(&self, fit: &Nb2Fit) -> Terms {
        let State { period_steps, centre, .. } = self.state;
        Terms { period: period_steps, fourier_k: fit.fourier_k, trend: fit.trend, centre }
    }

    /// The places in `panel` of the modelled metrics.
    pub(super) fn places(&self, panel: &Panel) -> Result<Vec<usize>, DetectorError> {
        let refuse = |reason| DetectorError::State { detector: DetectorName::Nb2, reason };
        if panel.calendar().step() != self.state.step {
            return Err(refuse(format!(
                "it was trained on steps of one {}, the panel has steps of one {}; train again, or aggregate alike",
                String::from(self.state.step),
                String::from(panel.calendar().step()),
            )));
        }
        let place = |name: &String| {
            panel.find_metric(name).ok_or_else(|| {
                refuse(format!("it knows the metric `{name}`, which the panel lacks; train again"))
            })
        };
        self.state.metrics.iter().map(place).collect()
    }

    /// The shared regressors of every step of `panel`, `[time, column]` flat, per shared terms in use.
    pub(super) fn regressors(&self, panel: &Panel) -> Regressors {
        let first = self.first_step(panel);
        let mut by_terms = HashMap::new();
        let fits = self.state.series.iter().flat_map(|s| &s.metrics).filter_map(MetricOutcome::fit);
        for fit in fits {
            by_terms.entry((fit.fourier_k, fit.trend)).or_insert_with(|| {
                let terms = self.terms(fit);
                let mut rows = vec![0.0; panel.n_times() * terms.n_columns()];
                for (t, row) in rows.chunks_mut(terms.n_columns()).enumerate() {
                    terms.row(first as f64 + t as f64, row);
                }
                rows
            });
        }
        by_terms
    }

    /// The step of the models' time at which `panel` starts.
    pub(super) fn first_step(&self, panel: &Panel) -> i64 {
        -panel.calendar().offset_of(self.state.origin)
    }
}

/// The shared regressors by harmonics and trend.
pub(super) type Regressors = HashMap<(usize, bool), Vec<f64>>;

/// One series of a later panel.
#[derive(Clone, Copy)]
pub(super) struct Later<'a> {
    pub panel: &'a Panel,
    pub mask: &'a FitMask,
    pub context: &'a FitContext,
    pub series: usize,
    /// Places of the modelled metrics, and of the exposure.
    pub places: &'a [usize],
    pub exposure: Option<usize>,
}

impl<'a> Later<'a> {
    /// The steps of the modelled metric at `place`.
    pub fn steps(&self, place: usize, fit: &Nb2Fit, regressors: &'a Regressors) -> Steps<'a> {
        Steps {
            values: self.panel.metric(self.series, self.places[place]),
            exposure: self.exposure.map(|exposure| self.panel.metric(self.series, exposure)),
            regressors: &regressors[&(fit.fourier_k, fit.trend)],
            mask: self.mask,
            known: &self.context.known_events,
            series: self.series,
        }
    }
}

impl FittedNb2 {
    /// What is known about the steps of one series, per modelled metric.
    fn evidence(
        &self,
        of: Later<'_>,
        model: &Nb2Series,
        regressors: &Regressors,
        room: &mut RegimeRoom,
    ) -> Vec<Testimony> {
        let panel = of.panel;
        let nothing = Evidence {
            prediction: Prediction::NONE,
            zero_share: 0.0,
            regime: None,
            direction: self.params.direction,
            event_share: self.params.event_share,
        };
        let of_metric = |(place, outcome): (usize, &MetricOutcome)| {
            let Some(fit) = outcome.fit() else {
                return Testimony { evidence: vec![nothing; panel.n_times()], new_levels: vec![] };
            };
            let steps = of.steps(place, fit, regressors);
            self.witness(place, panel).testify(fit, self.terms(fit), &steps, room)
        };
        model.metrics.iter().enumerate().map(of_metric).collect()
    }

    /// What the series of the modelled metric at `place` share.
    pub(super) fn witness(&self, place: usize, panel: &Panel) -> Witness<'_> {
        Witness {
            params: &self.params,
            regimes: &self.regimes,
            calibration: self.calibration(place),
            first: self.first_step(panel),
        }
    }

    /// What a reader must know of the levels of the series at `series` of a panel.
    pub(super) fn notes(
        &self,
        panel: &Panel,
        series: usize,
        levels: &[Vec<NewLevel>],
    ) -> Vec<SeriesNote> {
        let first = self.first_step(panel);
        let note = |(place, level): (usize, &NewLevel)| SeriesNote {
            series,
            time: usize::try_from(level.at - first).ok(),
            text: format!(
                "{}: the level moved by a factor of {:.2} and stayed for {} steps; the baseline starts again there",
                self.state.metrics[place], level.factor, self.params.shift_steps
            ),
        };
        levels
            .iter()
            .enumerate()
            .flat_map(|(place, levels)| levels.iter().map(move |level| (place, level)))
            .map(note)
            .collect()
    }
}

impl FittedDetector for FittedNb2 {
    /// In sample for the steps of the training, one step ahead (or by the fit as it stands, if
    /// `scoring` says so) for later ones.
    fn score(
        &self,
        panel: &Panel,
        mask: &FitMask,
        context: &FitContext,
    ) -> Result<Scores, DetectorError> {
        let places = self.places(panel)?;
        let exposure = self.params.exposure_in(panel)?;
        let regressors = self.regressors(panel);
        let mut scores = Scores::empty(DetectorName::Nb2, panel);
        score::prepare(&mut scores, panel.n_metrics());
        let answers: Result<Vec<Answer>, DetectorError> =
            score::rows(&mut scores, panel.n_metrics())
                .into_par_iter()
                .enumerate()
                .map_init(RegimeRoom::default, |room, (series, mut row)| {
                    context.check_cancelled()?;
                    let Some(model) = self.series_of(&panel.keys()[series]) else {
                        return Ok(Answer::failed("not seen in training; train again to cover it"));
                    };
                    let of = Later { panel, mask, context, series, places: &places, exposure };
                    let found = self.evidence(of, model, &regressors, room);
                    row.fill(panel.series(series), &places, self.rules, |t, metric| {
                        let place = places.iter().position(|p| *p == metric).unwrap_or(0);
                        found[place].evidence[t]
                    });
                    let levels: Vec<_> = found.into_iter().map(|of| of.new_levels).collect();
                    let notes = self.notes(panel, series, &levels);
                    Ok(Answer { failure: model.failure().map(str::to_string), notes })
                })
                .collect();
        for (series, answer) in answers?.into_iter().enumerate() {
            let failure = answer.failure.map(|reason| SeriesFailure { series, reason });
            scores.failures.extend(failure);
            scores.notes.extend(answer.notes);
        }
        Ok(scores)
    }

    fn state(&self) -> Result<DetectorState, DetectorError> {
        let json = serde_json::to_value(&self.state).map_err(|error| DetectorError::State {
            detector: DetectorName::Nb2,
            reason: error.to_string(),
        })?;
        Ok(DetectorState { json, weights: None })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What one series has to say beside its scores.
struct Answer {
    failure: Option<String>,
    notes: Vec<SeriesNote>,
}

impl Answer {
    fn failed(reason: &str) -> Self {
        Self { failure: Some(reason.to_string()), notes: Vec::new() }
    }
}

impl State {
    /// The first thing that is wrong with what a checkpoint says.
    fn check(&self) -> Result<(), String> {
        if self.version != VERSION {
            return Err(format!(
                "it has version {}, this program reads version {VERSION}; train again",
                self.version
            ));
        }
        if !(self.period_steps > 2.0 && self.period_steps.is_finite() && self.centre.is_finite()) {
            return Err("its period or centre is no valid number; train again".into());
        }
        let curves =
            self.calibrations.iter().flat_map(|c| [&c.history, &c.one_step_ahead]).flatten();
        let n_curves = self.calibrations.len();
        if !(n_curves == 0 || n_curves == self.metrics.len())
            || !curves.into_iter().all(|c| c.is_sound())
        {
            return Err("its calibration is damaged; train again".into());
        }
        let mut keys = std::collections::HashSet::new();
        for series in &self.series {
            let fits = series.metrics.iter().filter_map(MetricOutcome::fit);
            let sound = series.metrics.len() == self.metrics.len()
                && fits.into_iter().all(|fit| self.is_sound(fit));
            if !sound || !keys.insert(&series.key) {
                return Err(format!("its series `{}` is damaged; train again", series.key));
            }
        }
        Ok(())
    }

    fn is_sound(&self, fit: &Nb2Fit) -> bool {
        let n = 1 + 2 * fit.fourier_k + usize::from(fit.trend) + fit.own_terms.len();
        let numbers = fit.coefficients.iter().chain(&fit.covariance);
        fit.fourier_k <= 6
            && fit.coefficients.len() == n
            && fit.covariance.len() == n * (n + 1) / 2
            && numbers.into_iter().all(|v| v.is_finite())
            && fit.ln_exposure.is_finite()
            && (0.0..1.0).contains(&fit.zero_share)
            && fit.dispersion >= 0.0
            && fit.dispersion.is_finite()
            && fit.excess_dispersion >= 0.0
            && fit.excess_dispersion.is_finite()
            && fit.dispersion_information >= 0.0
            && fit.dispersion_information.is_finite()
    }
}
