//! What the series of one panel share, and one series from its counts to its scores.

use rand_chacha::ChaCha8Rng;

use super::{
    calibration::{Calibration, draw, standard_normal},
    count_metrics,
    design::{Design, Terms},
    fit::{Counts, Fitter, Nb2Fit, Prediction, Room},
    fitted::{MetricOutcome, Nb2Series},
    model::{DispersionPrior, FitFailure, Prior},
    params::Nb2Params,
    pooling::{KeyEstimate, Pool},
    regimes::{Odds, Regimes},
    score::{Evidence, Interval, Row},
};
use crate::{
    detectors::{DetectorError, DetectorName, FitMask},
    math::linalg::Cholesky,
    panel::Panel,
};

/// One number of harmonics, with what its fits share.
#[derive(Debug)]
struct Kind {
    terms: Terms,
    design: Design,
    prior: Prior,
}

/// The pool of one count metric, with what every series put into it.
#[derive(Debug)]
pub(super) struct MetricPool {
    pub pool: Pool,
    pub keys: Vec<KeyEstimate>,
}

/// How the odds of one count metric become p-values: given all steps, and given the steps so far.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MetricCalibration {
    pub history: Option<Calibration>,
    pub one_step_ahead: Option<Calibration>,
}

/// The masks of a job: what may be learnt from at all, and what of it at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Masks<'a> {
    pub normal: &'a FitMask,
    pub train: &'a FitMask,
}

/// Everything that the series of one panel share.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub params: &'a Nb2Params,
    pub panel: &'a Panel,
    masks: Masks<'a>,
    /// Places of the metrics that are counts.
    pub metrics: Vec<usize>,
    pub period: f64,
    pub centre: f64,
    kinds: Vec<Kind>,
    interval: Interval,
    regimes: Regimes,
    /// Per series: the step from which on one step is scored at a time.
    pub ahead_from: Option<Vec<usize>>,
    /// One per count metric; none before the keys have been pooled.
    pub pools: Vec<MetricPool>,
    /// One per count metric; none before the odds have been calibrated.
    pub calibrations: Vec<MetricCalibration>,
}

/// Per thread: one room per kind, made when first needed, and the counts of the series at hand.
#[derive(Debug)]
pub(super) struct Rooms {
    rooms: Vec<Option<Room>>,
    counts: Counts,
}

/// Odds of simulated cells without events.
#[derive(Debug, Default)]
pub(super) struct NullOdds {
    pub history: Vec<f64>,
    pub one_step_ahead: Vec<f64>,
}

impl<'a> Job<'a> {
    pub fn new(
        params: &'a Nb2Params,
        panel: &'a Panel,
        masks: Masks<'a>,
    ) -> Result<Self, DetectorError> {
        let metrics = count_metrics(panel);
        if metrics.is_empty() {
            return Err(DetectorError::TooLittleData {
                detector: DetectorName::Nb2,
                reason: "no metric is of the kind `count`; give one that kind, or leave nb2 out of the detectors".into(),
            });
        }
        let period = params.period_steps.unwrap_or_else(|| panel.calendar().step().per_year());
        let centre = (panel.n_times() as f64 - 1.0) / 2.0;
        let most = params.harmonics(panel.n_times(), period);
        let fewest = params.harmonics(0, period);
        let kinds = (fewest..=most)
            .map(|fourier_k| {
                let terms = Terms { period, fourier_k, trend: params.trend, centre };
                let design = Design::new(&terms, panel.n_times());
                Kind { terms, design, prior: prior(params, fourier_k) }
            })
            .collect();
        Ok(Self {
            params,
            panel,
            masks,
            metrics,
            period,
            centre,
            kinds,
            interval: Interval::new(params.interval_level),
            regimes: params.regimes(period),
            ahead_from: None,
            pools: vec![],
            calibrations: vec![],
        })
    }

    pub fn rooms(&self) -> Rooms {
        Rooms { rooms: self.kinds.iter().map(|_| None).collect(), counts: Counts::default() }
    }

    /// Fits all count metrics of one series, and scores it into `row`.
    pub fn series(&self, series: usize, rooms: &mut Rooms, row: Option<Row<'_>>) -> Nb2Series {
        let mut evidence: Vec<(Vec<Prediction>, Vec<Odds>)> = Vec::new();
        let mut modelled = Vec::new();
        let mut outcomes = Vec::with_capacity(self.metrics.len());
        for (place, &metric) in self.metrics.iter().enumerate() {
            let outcome = match self.metric(series, place, row.is_some(), rooms) {
                Ok((fit, _, room)) => {
                    if row.is_some() {
                        modelled.push(metric);
                        evidence.push((room.predictions.clone(), room.regimes.odds.clone()));
                    }
                    MetricOutcome::Fitted(fit)
                }
                Err(reason) => MetricOutcome::Failed(reason),
            };
            outcomes.push(outcome);
        }
        if let Some(mut row) = row {
            let from = self.ahead_from.as_ref().map_or(usize::MAX, |from| from[series]);
            row.fill(self.panel.series(series), &modelled, self.interval, |t, metric| {
                let place = modelled.iter().position(|m| *m == metric).unwrap_or(0);
                let (predictions, odds) = &evidence[place];
                let regime = self.calibrations.get(place).and_then(|calibration| {
                    let curve = if t < from {
                        calibration.history.as_ref()
                    } else {
                        calibration.one_step_ahead.as_ref()
                    };
                    let odds = odds.get(t)?;
                    Some((curve?.ln_p(odds.ln_odds), odds.side))
                });
                Evidence { prediction: predictions[t], regime, direction: self.params.direction }
            });
        }
        Nb2Series { key: self.panel.keys()[series].clone(), metrics: outcomes }
    }

    /// What every count metric of a series says by itself; nothing where the fit fails.
    pub fn estimates(&self, series: usize, rooms: &mut Rooms) -> Vec<KeyEstimate> {
        (0..self.metrics.len())
            .map(|place| {
                self.load(series, place, rooms);
                self.fit_loaded(series, place, false, rooms).map_or_else(
                    |_| KeyEstimate::default(),
                    |(fit, kind, room)| {
                        let Kind { terms, prior, .. } = kind;
                        KeyEstimate::new(&fit, terms, prior, &room.work.mean, &room.used)
                    },
                )
            })
            .collect()
    }

    /// The odds of the cells of a series drawn from the model of `series`, put through the same
    /// steps. Empty where the fit fails.
    pub fn null_odds(
        &self,
        series: usize,
        place: usize,
        rng: &mut ChaCha8Rng,
        rooms: &mut Rooms,
    ) -> NullOdds {
        let mut null = NullOdds::default();
        self.load(series, place, rooms);
        let Ok((fit, kind, _)) = self.fit_loaded(series, place, false, rooms) else { return null };
        redraw(&fit, &kind.design, rng, &mut rooms.counts);
        let Ok((fit, _, _)) = self.fit_loaded(series, place, true, rooms) else { return null };
        let from = self.ahead_from.as_ref().map_or(usize::MAX, |from| from[series]);
        let Ok((_, counts, room)) = self.one_step_ahead(series, place, fit, rooms) else {
            return null;
        };
        for t in counts.span.clone().filter(|&t| counts.observed[t] > 0.0) {
            let into = if t < from { &mut null.history } else { &mut null.one_step_ahead };
            into.push(room.regimes.odds[t].ln_odds);
        }
        null
    }

    /// Fits the count metric at `place`; with `scored`, leaves predictions and odds in the room.
    fn metric<'r>(
        &self,
        series: usize,
        place: usize,
        scored: bool,
        rooms: &'r mut Rooms,
    ) -> Result<(Nb2Fit, &'r Counts, &'r Room), String> {
        self.load(series, place, rooms);
        let (fit, _, _) = self.fit_loaded(series, place, scored, rooms)?;
        self.one_step_ahead(series, place, fit, rooms)
    }

    fn load(&self, series: usize, place: usize, rooms: &mut Rooms) {
        let values = self.panel.metric(series, self.metrics[place]);
        rooms.counts.fill(
            values.iter().copied(),
            |t| self.masks.normal.allows(series, t),
            |t| self.masks.train.allows(series, t),
        );
    }

    fn kind_of(&self, counts: &Counts) -> usize {
        let wanted = self.params.harmonics(counts.history_steps(), self.period);
        self.kinds.iter().position(|kind| kind.terms.fourier_k == wanted).unwrap_or(0)
    }

    fn fit_loaded<'r>(
        &self,
        series: usize,
        place: usize,
        cross_fitted: bool,
        rooms: &'r mut Rooms,
    ) -> Result<(Nb2Fit, &Kind, &'r mut Room), String> {
        let n = rooms.counts.n_allowed();
        let min = self.params.min_steps;
        if n < min {
            return Err(format!(
                "{n} usable steps, {min} are needed; give it more history, or lower `min_steps`"
            ));
        }
        let number = self.kind_of(&rooms.counts);
        let kind = &self.kinds[number];
        let prior = self.prior_of(series, place, kind);
        let room = rooms.rooms[number].get_or_insert_with(|| Room::new(&kind.design));
        let fitter = self.fitter(kind, prior.as_ref());
        let fit = fitter.fit(&rooms.counts, cross_fitted, room).map_err(reason_of)?;
        Ok((fit, kind, room))
    }

    /// Goes on from the fit that [`Job::fit_loaded`] made last, if this job scores one step ahead.
    fn one_step_ahead<'r>(
        &self,
        series: usize,
        place: usize,
        fit: Nb2Fit,
        rooms: &'r mut Rooms,
    ) -> Result<(Nb2Fit, &'r Counts, &'r Room), String> {
        let number = self.kind_of(&rooms.counts);
        let kind = &self.kinds[number];
        let room = rooms.rooms[number].get_or_insert_with(|| Room::new(&kind.design));
        let Some(from) = &self.ahead_from else { return Ok((fit, &rooms.counts, room)) };
        let prior = self.prior_of(series, place, kind);
        let fitter = self.fitter(kind, prior.as_ref());
        let fit =
            fitter.one_step_ahead(&rooms.counts, from[series], fit, room).map_err(reason_of)?;
        Ok((fit, &rooms.counts, room))
    }

    fn prior_of(&self, series: usize, place: usize, kind: &Kind) -> Option<Prior> {
        let MetricPool { pool, keys } = self.pools.get(place)?;
        Some(pool.prior(series, &keys[series], &kind.terms, &kind.prior))
    }

    fn fitter<'f>(&'f self, kind: &'f Kind, prior: Option<&'f Prior>) -> Fitter<'f> {
        Fitter {
            params: self.params,
            fourier_k: kind.terms.fourier_k,
            design: &kind.design,
            prior: prior.unwrap_or(&kind.prior),
            regimes: &self.regimes,
        }
    }
}

/// Replaces the counts by draws from the model of `fit`, whose coefficients are themselves drawn.
fn redraw(fit: &Nb2Fit, design: &Design, rng: &mut ChaCha8Rng, counts: &mut Counts) {
    let mut coefficients = fit.coefficients.clone();
    let mut factor = Cholesky::new(coefficients.len());
    if factor.factor(&fit.covariance) {
        let noise: Vec<f64> = coefficients.iter().map(|_| standard_normal(rng)).collect();
        factor.add_product(&noise, &mut coefficients);
    }
    let drawn = Nb2Fit { coefficients, ..fit.clone() };
    let mut row = vec![0.0; design.n_columns];
    for t in 0..counts.values.len() {
        design.row(t, &mut row);
        let mean = drawn.predict(&row, false).mean;
        if counts.observed[t] > 0.0 {
            counts.values[t] = draw(rng, mean, fit.dispersion + fit.excess_dispersion);
        }
    }
}

/// The prior of a design with `fourier_k` harmonics: the k-th harmonic has 1/k of the first's
/// standard deviation, because real seasons are smooth. The dispersion's prior mean of 1 is far above
/// what series of counts have, and matters only to those with a handful of events.
fn prior(params: &Nb2Params, fourier_k: usize) -> Prior {
    let mut precision = vec![0.0];
    for k in 1..=fourier_k {
        precision.extend([(k as f64 / params.season_sd).powi(2); 2]);
    }
    if params.trend {
        precision.push(params.trend_sd.powi(-2));
    }
    Prior {
        mean: vec![0.0; precision.len()],
        precision,
        half_event: true,
        dispersion: DispersionPrior::Exponential(1.0),
    }
}

fn reason_of(failure: FitFailure) -> String {
    let what = match failure {
        FitFailure::Singular => "the usable steps cannot tell the terms of the model apart",
        FitFailure::NotConverged => "the likelihood has no finite optimum",
    };
    format!("{what}; give `season_sd` and `trend_sd` finite values, or lower `fourier_k`")
}
