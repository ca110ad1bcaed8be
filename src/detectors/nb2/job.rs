//! What the series of one panel share, and one series from its counts to its scores.

use rand_chacha::ChaCha8Rng;

use ndarray::ArrayView1;

use super::{
    calibration::Calibration,
    count_metrics,
    design::{Design, Terms},
    fit::{Counts, Fitter, Nb2Fit, Prediction, Room, is_exposure},
    fitted::{MetricOutcome, Nb2Series},
    model::{DispersionPrior, FitFailure, Prior},
    params::{KnownEventRule, Nb2Params, Scoring},
    pooling::{KeyEstimate, Pool},
    regimes::{Odds, Regimes},
    score::{Evidence, Row, Rules},
    selection::{Choice, Open},
    shifts::{self, with_own_terms},
    simulate::redrawn,
    terms::{FourierK, OwnTerm, OwnTerms, Trend},
};
use crate::{
    detectors::{DetectorError, DetectorName, FitMask, KnownEvents},
    panel::Panel,
};

/// Terms that series may share, with what their fits share.
#[derive(Debug)]
pub(super) struct Kind {
    pub terms: Terms,
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
    known: Option<&'a KnownEvents>,
    /// Place of the metric that the counts are taken per unit of.
    exposure: Option<usize>,
    /// Places of the metrics that are counts.
    pub metrics: Vec<usize>,
    pub period: f64,
    pub centre: f64,
    kinds: Vec<Kind>,
    rules: Rules,
    regimes: Regimes,
    /// `[count metric][series]`; none before the keys have been asked, or where nothing is open.
    pub choices: Vec<Vec<Choice>>,
    /// One per count metric; none before the keys have been pooled.
    pub pools: Vec<MetricPool>,
    /// One per count metric; none before the odds have been calibrated.
    pub calibrations: Vec<MetricCalibration>,
}

/// Per thread: the rooms that fits work in, and the counts of the series at hand.
#[derive(Debug)]
pub(super) struct Rooms {
    fits: FitRooms,
    counts: Counts,
}

/// One room per kind, made when first needed, and one for a series with terms of its own.
#[derive(Debug)]
struct FitRooms {
    of_kind: Vec<Option<Room>>,
    own: Option<Room>,
}

/// A fit, the terms that it shares with other series, and the room that it was made in.
type Made<'k, 'r> = (Nb2Fit, &'k Kind, &'r mut Room);

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
        known: &'a KnownEvents,
    ) -> Result<Self, DetectorError> {
        let exposure = params.exposure_in(panel)?;
        let metrics: Vec<usize> =
            count_metrics(panel).into_iter().filter(|m| Some(*m) != exposure).collect();
        if metrics.is_empty() {
            return Err(DetectorError::TooLittleData {
                detector: DetectorName::Nb2,
                reason: "no metric beside the exposure is of the kind `count`; give one that kind, or leave nb2 out of the detectors".into(),
            });
        }
        let period = params.period_steps.unwrap_or_else(|| panel.calendar().step().per_year());
        let centre = (panel.n_times() as f64 - 1.0) / 2.0;
        let most = params.harmonics(panel.n_times(), period);
        let fewest = params.harmonics(0, period);
        let kind = |(fourier_k, &trend): (usize, &bool)| {
            let terms = Terms { period, fourier_k, trend, centre };
            let design = Design::new(&terms, panel.n_times());
            Kind { terms, design, prior: prior(params, &terms) }
        };
        let kinds = (fewest..=most)
            .flat_map(|k| params.trends().iter().map(move |trend| (k, trend)))
            .map(kind)
            .collect();
        Ok(Self {
            params,
            panel,
            mask,
            known: (params.known_events == KnownEventRule::Regress).then_some(known),
            exposure,
            metrics,
            period,
            centre,
            kinds,
            rules: Rules::new(params),
            regimes: params.regimes(period),
            choices: vec![],
            pools: vec![],
            calibrations: vec![],
        })
    }

    pub fn rooms(&self) -> Rooms {
        let of_kind = self.kinds.iter().map(|_| None).collect();
        Rooms { fits: FitRooms { of_kind, own: None }, counts: Counts::default() }
    }

    /// The metric that `exposure` names, for one series.
    pub fn exposure_of(&self, series: usize) -> Option<ArrayView1<'a, f64>> {
        self.exposure.map(|metric| self.panel.metric(series, metric))
    }

    /// Fits all count metrics of one series, and scores it into `row`.
    pub fn series(&self, series: usize, rooms: &mut Rooms, row: Option<Row<'_>>) -> Nb2Series {
        let mut evidence: Vec<(Vec<Prediction>, Vec<Odds>, f64)> = Vec::new();
        let mut modelled = Vec::new();
        let mut outcomes = Vec::with_capacity(self.metrics.len());
        for (place, &metric) in self.metrics.iter().enumerate() {
            let outcome = match self.metric(series, place, row.is_some(), rooms) {
                Ok((fit, _, room)) => {
                    if row.is_some() {
                        modelled.push(metric);
                        let odds = room.regimes.odds.clone();
                        evidence.push((room.predictions.clone(), odds, fit.zero_share));
                    }
                    MetricOutcome::Fitted(fit)
                }
                Err(reason) => MetricOutcome::Failed(reason),
            };
            outcomes.push(outcome);
        }
        if let Some(mut row) = row {
            let exposure = self.exposure_of(series);
            row.fill(self.panel.series(series), &modelled, self.rules, |t, metric| {
                let place = modelled.iter().position(|m| *m == metric).unwrap_or(0);
                let (predictions, odds, zero_share) = &evidence[place];
                // A metric that failed has a calibration, but no evidence.
                let number = self.metrics.iter().position(|m| *m == metric).unwrap_or(0);
                let curve = self.calibrations.get(number).and_then(|c| c.history.as_ref());
                let regime = curve
                    .zip(odds.get(t))
                    .filter(|_| self.mask.allows(series, t))
                    .map(|(curve, odds)| (curve.ln_p(odds.ln_odds), odds.side));
                let exposed = exposure.is_none_or(|exposure| is_exposure(exposure[t]));
                Evidence {
                    prediction: if exposed { predictions[t] } else { Prediction::NONE },
                    zero_share: *zero_share,
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
                self.fit_loaded((series, place), false, &rooms.counts, &mut rooms.fits).map_or_else(
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
        let Rooms { fits, counts } = rooms;
        let of = (series, place);
        let Ok((fit, kind, _)) = self.fit_loaded(of, false, counts, fits) else { return null };
        let truth = redrawn(&fit, &kind.terms, rng);
        truth.draw(&kind.design, rng, counts);
        let Ok((fit, kind, room)) = self.fit_loaded(of, true, counts, fits) else { return null };
        let odds = &room.regimes.odds;
        let steps = counts.span.clone().filter(|t| counts.allowed[*t] > 0.0);
        null.history.extend(steps.map(|t| odds[t].ln_odds));
        if self.params.scoring == Scoring::Prequential {
            self.regimes.open(fit.until, &mut room.regimes);
            let next = truth.draw_next(&kind.terms, (&fit, self.params.shift_steps), rng);
            let moving = self.params.moving(kind.terms, &self.regimes);
            if moving.score(&fit, fit.until as i64, &next, &mut room.regimes).is_ok() {
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
    ) -> Result<Made<'_, 'r>, String> {
        self.load(series, place, rooms);
        self.fit_loaded((series, place), scored, &rooms.counts, &mut rooms.fits)
    }

    /// The cross-fitted predictions of the first count metric of a series.
    #[cfg(test)]
    pub fn predictions(&self, series: usize, rooms: &mut Rooms) -> Vec<Prediction> {
        let (_, _, room) = self.metric(series, 0, true, rooms).expect("a fit");
        room.predictions.clone()
    }

    fn load(&self, series: usize, place: usize, rooms: &mut Rooms) {
        let values = self.panel.metric(series, self.metrics[place]);
        let allows = |t| self.mask.allows(series, t);
        rooms.counts.fill(values.iter().copied(), self.exposure_of(series), allows);
    }

    /// The terms that a series shares with others: as many as its history bears, of those that were
    /// chosen for its pair.
    fn kind_of(&self, (series, place): (usize, usize), counts: &Counts) -> usize {
        let chosen = self.choices.get(place).map(|choices| choices[series]);
        let most = self.params.harmonics(counts.history_steps(), self.period);
        let wanted = chosen.map_or(most, |choice| choice.fourier_k.min(most));
        let trend = match self.params.trend {
            Trend::Fixed(on) => on,
            Trend::Auto => chosen.is_none_or(|choice| choice.trend),
        };
        let fits = |kind: &Kind| kind.terms.fourier_k == wanted && kind.terms.trend == trend;
        self.kinds.iter().position(fits).unwrap_or(0)
    }

    /// Which terms the data decide on; `None` when all is said.
    pub fn open(&self) -> Option<Open> {
        let fourier_k = self.params.fourier_k == FourierK::Auto;
        let trend = self.params.trend == Trend::Auto;
        (fourier_k || trend).then_some(Open { fourier_k, trend })
    }

    fn fit_loaded<'r>(
        &self,
        (series, place): (usize, usize),
        cross_fitted: bool,
        counts: &Counts,
        rooms: &'r mut FitRooms,
    ) -> Result<Made<'_, 'r>, String> {
        self.check_amount(series, counts)?;
        let number = self.kind_of((series, place), counts);
        let kind = &self.kinds[number];
        let prior = self.prior_of(series, place, kind);
        let nothing = OwnTerms::default();
        let fitter = Fitter {
            params: self.params,
            terms: kind.terms,
            own: &nothing,
            design: &kind.design,
            prior: prior.as_ref().unwrap_or(&kind.prior),
            regimes: &self.regimes,
        };
        let own = self.own_terms(series, &fitter, counts).map_err(reason_of)?;
        if own.is_empty() {
            let room = rooms.of_kind[number].get_or_insert_with(|| Room::new(&kind.design));
            let fit = fitter.fit(counts, cross_fitted, room).map_err(reason_of)?;
            return Ok((fit, kind, room));
        }
        let design = kind.design.with_columns(&own.columns);
        let prior = with_own_terms(fitter.prior, &own.precisions);
        let room = rooms.own.insert(Room::new(&design));
        let fitter = Fitter { own: &own, design: &design, prior: &prior, ..fitter };
        let fit = fitter.fit(counts, cross_fitted, room).map_err(reason_of)?;
        Ok((fit, kind, room))
    }

    /// Enough steps and events to fit?
    fn check_amount(&self, series: usize, counts: &Counts) -> Result<(), String> {
        let (n, min) = (counts.n_allowed(), self.params.min_steps);
        if n < min {
            let unexposed = self.exposure_of(series).map_or(0, |exposure| {
                exposure.iter().filter(|value| !is_exposure(**value)).count()
            });
            let why = match unexposed {
                0 => String::new(),
                _ => format!(" ({unexposed} steps have no exposure above 0)"),
            };
            return Err(format!(
                "{n} usable steps{why}, {min} are needed; give it more history, or lower `min_steps`"
            ));
        }
        let events = counts.n_events();
        if events < self.params.min_events {
            return Err(format!(
                "too sparse: {events} events in {n} steps, {} are needed; count it in a wider group, or lower `min_events`",
                self.params.min_events
            ));
        }
        Ok(())
    }

    /// Known events that the fit can see, and shifts of the level, as the parameters ask for them.
    fn own_terms(
        &self,
        series: usize,
        fitter: &Fitter<'_>,
        counts: &Counts,
    ) -> Result<OwnTerms, FitFailure> {
        let mut own = OwnTerms::default();
        if let Some(known) = self.known {
            for name in known.names(series) {
                let column = known.column(series, name, counts.values.len());
                if column.iter().zip(&counts.allowed).any(|(on, allowed)| on * allowed > 0.0) {
                    let term = OwnTerm::KnownEvent(name.to_string());
                    own.push(term, column, self.params.known_event_sd);
                }
            }
        }
        if self.params.rebases() {
            shifts::find(fitter, counts, self.params.shift_steps, &mut own)?;
        }
        Ok(own)
    }

    fn prior_of(&self, series: usize, place: usize, kind: &Kind) -> Option<Prior> {
        let MetricPool { pool, keys } = self.pools.get(place)?;
        Some(pool.prior(series, &keys[series], &kind.terms, &kind.prior))
    }
}

/// The prior of some terms: the k-th harmonic has 1/k of the first's standard deviation, because
/// real seasons are smooth. The dispersion's prior mean of 1 is far above what series of counts
/// have, and matters only to those with a handful of events.
fn prior(params: &Nb2Params, terms: &Terms) -> Prior {
    let mut precision = vec![0.0];
    for k in 1..=terms.fourier_k {
        precision.extend([(k as f64 / params.season_sd).powi(2); 2]);
    }
    if terms.trend {
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
