//! What the series of one panel share, and one series from its counts to its scores.

use rand_chacha::ChaCha8Rng;

use super::{
    calibration::{Calibration, draw, standard_normal},
    count_metrics,
    design::{Design, Terms},
    fit::{Counts, Fitter, Nb2Fit, Prediction, Room},
    fitted::{MetricOutcome, Nb2Series},
    model::{DispersionPrior, FitFailure, Prior},
    params::{Nb2Params, Scoring},
    pooling::{KeyEstimate, Pool},
    prequential::NewSteps,
    regimes::{Odds, Regimes},
    score::{Evidence, Row, Rules},
};
use crate::{
    detectors::{DetectorError, DetectorName, FitMask},
    math::linalg::Cholesky,
    panel::Panel,
};

/// Steps after a fit that are simulated for the calibration of scores one step ahead.
const NEXT_STEPS: usize = 40;

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

/// Everything that the series of one panel share.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub params: &'a Nb2Params,
    pub panel: &'a Panel,
    mask: &'a FitMask,
    /// Places of the metrics that are counts.
    pub metrics: Vec<usize>,
    pub period: f64,
    pub centre: f64,
    kinds: Vec<Kind>,
    rules: Rules,
    regimes: Regimes,
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
        mask: &'a FitMask,
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
            mask,
            metrics,
            period,
            centre,
            kinds,
            rules: Rules::new(params),
            regimes: params.regimes(period),
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
            row.fill(self.panel.series(series), &modelled, self.rules, |t, metric| {
                let place = modelled.iter().position(|m| *m == metric).unwrap_or(0);
                let (predictions, odds) = &evidence[place];
                // A metric that failed has a calibration, but no evidence.
                let number = self.metrics.iter().position(|m| *m == metric).unwrap_or(0);
                let curve = self.calibrations.get(number).and_then(|c| c.history.as_ref());
                let regime = curve
                    .zip(odds.get(t))
                    .filter(|_| self.mask.allows(series, t))
                    .map(|(curve, odds)| (curve.ln_p(odds.ln_odds), odds.side));
                Evidence {
                    prediction: predictions[t],
                    regime,
                    direction: self.params.direction,
                    event_share: self.params.event_share,
                }
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
                    |(fit, kind, _)| KeyEstimate::new(&fit, &kind.terms, &kind.prior),
                )
            })
            .collect()
    }

    /// The odds of the cells of a series drawn from the model of `series`, put through the same
    /// steps, and of some steps that follow. Empty where the fit fails.
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
        let truth = redrawn(&fit, rng);
        truth.draw(&kind.design, rng, &mut rooms.counts);
        let Ok((fit, kind, _)) = self.fit_loaded(series, place, true, rooms) else { return null };
        let number = self.kind_of(&rooms.counts);
        let Some(room) = &mut rooms.rooms[number] else { return null };
        let odds = &mut room.regimes.odds;
        let allowed = |t: &usize| rooms.counts.allowed[*t] > 0.0;
        let steps = rooms.counts.span.clone().filter(allowed);
        null.history.extend(steps.map(|t| odds[t].ln_odds));
        if self.params.scoring == Scoring::Prequential {
            self.regimes.open(fit.until, &mut room.regimes);
            let first = fit.until as f64;
            let next = truth.draw_next(&kind.terms, first, rng);
            let moving = self.params.moving(kind.terms, &self.regimes);
            if moving.score(&fit, first, &next, &mut room.regimes).is_ok() {
                let new = &room.regimes.odds[fit.until..];
                null.one_step_ahead.extend(new.iter().map(|odds| odds.ln_odds));
            }
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
    ) -> Result<(Nb2Fit, &Kind, &'r mut Room), String> {
        self.load(series, place, rooms);
        self.fit_loaded(series, place, scored, rooms)
    }

    /// The cross-fitted predictions of the first count metric of a series.
    #[cfg(test)]
    pub fn predictions(&self, series: usize, rooms: &mut Rooms) -> Vec<Prediction> {
        let (_, _, room) = self.metric(series, 0, true, rooms).expect("a fit");
        room.predictions.clone()
    }

    fn load(&self, series: usize, place: usize, rooms: &mut Rooms) {
        let values = self.panel.metric(series, self.metrics[place]);
        rooms.counts.fill(values.iter().copied(), |t| self.mask.allows(series, t));
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
        let events = rooms.counts.n_events();
        if events < self.params.min_events {
            return Err(format!(
                "too sparse: {events} events in {n} steps, {} are needed; count it in a wider group, or lower `min_events`",
                self.params.min_events
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

/// A model that counts are drawn from.
struct Truth(Nb2Fit);

/// The model of `fit`, whose coefficients are themselves drawn from what is known about them.
fn redrawn(fit: &Nb2Fit, rng: &mut ChaCha8Rng) -> Truth {
    let mut truth = fit.clone();
    let mut factor = Cholesky::new(truth.coefficients.len());
    if factor.factor(&fit.covariance) {
        let noise: Vec<f64> = truth.coefficients.iter().map(|_| standard_normal(rng)).collect();
        factor.add_product(&noise, &mut truth.coefficients);
    }
    Truth(truth)
}

impl Truth {
    fn count(&self, row: &[f64], rng: &mut ChaCha8Rng) -> f64 {
        let mean = self.0.predict(row, false).mean;
        draw(rng, mean, self.0.dispersion + self.0.excess_dispersion)
    }

    /// Replaces the counts of a series by draws.
    fn draw(&self, design: &Design, rng: &mut ChaCha8Rng, counts: &mut Counts) {
        let mut row = vec![0.0; design.n_columns];
        for t in 0..counts.values.len() {
            design.row(t, &mut row);
            if counts.observed[t] > 0.0 {
                counts.values[t] = self.count(&row, rng);
            }
        }
    }

    /// Draws the steps from `first` on.
    fn draw_next(&self, terms: &Terms, first: f64, rng: &mut ChaCha8Rng) -> NewSteps {
        let mut row = vec![0.0; terms.n_columns()];
        let count = |i: usize| {
            terms.row(first + i as f64, &mut row);
            self.count(&row, rng)
        };
        let values = (0..NEXT_STEPS).map(count).collect();
        NewSteps { values, normal: vec![true; NEXT_STEPS] }
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
    Prior::independent(&precision, true, DispersionPrior::Exponential(1.0))
}

fn reason_of(failure: FitFailure) -> String {
    let what = match failure {
        FitFailure::Singular => "the usable steps cannot tell the terms of the model apart",
        FitFailure::NotConverged => "the likelihood has no finite optimum",
    };
    format!("{what}; give `season_sd` and `trend_sd` finite values, or lower `fourier_k`")
}
