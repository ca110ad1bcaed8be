//! The parameters of NB2, and what makes them valid.

use serde::{Deserialize, Serialize};

use crate::{
    detectors::{DetectorError, DetectorName},
    panel::Panel,
};

pub use super::model::Dispersion;
use super::{
    design::Terms,
    infinite,
    prequential::Moving,
    regimes::{Direction, Regimes},
    terms::{FourierK, Trend},
};

/// Which fit scores a point of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scoring {
    /// The history by fits that left the point and its neighbours out, so that a point cannot hide
    /// itself; what comes after the training one step ahead, by a fit that moves along.
    Prequential,
    /// The history as above; what comes after the training by the fit as it stands.
    CrossFitted,
    /// The fit on everything, which bends towards the anomalies that it should flag.
    InSample,
}

/// What becomes of the steps that a known event covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KnownEventRule {
    /// They are kept out of the fit.
    Mask,
    /// They are fitted, with a term of the log mean for each kind of event.
    Regress,
}

/// What becomes of the baseline when the level of a series has moved and stays there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnShift {
    /// It stays, and moves on as fast as `half_life_steps` lets it.
    Keep,
    /// It starts again at the new level once that has lasted `shift_steps`.
    Rebase,
}

/// One parameter that is out of its range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Finding {
    pub key: &'static str,
    pub value: f64,
    pub expected: &'static str,
}

/// Parameters of the NB2 detector. Steps are those of the panel: weeks on a weekly panel.
///
/// | name | default | purpose | range |
/// |---|---|---|---|
/// | `fourier_k` | `"auto"` | harmonics of the season; `"auto"`: see [`FourierK`] | 0-6 |
/// | `trend` | `true` | a linear trend of the log mean; `"auto"`: see [`Trend`] | |
/// | `exposure` | none | a metric of the panel, visitors or open hours say, that the counts are taken per unit of: its log is an offset of the log mean; a step where it is missing or not above 0 is not scored | |
/// | `known_events` | `"mask"` | what becomes of the steps that a known event covers: see [`KnownEventRule`] | |
/// | `known_event_sd` | 0.5 | under `"regress"`: prior standard deviation of an event's effect on the log mean, so that one that was seen once does not explain all that it was seen with | above 0 |
/// | `on_shift` | `"keep"` | what becomes of the baseline when the level has moved and stays there: see [`OnShift`] | |
/// | `shift_steps` | 8 | under `"rebase"`: how many steps a new level has to last | 4-26 |
/// | `period_steps` | a year | steps per season, 52.18 for weeks | above 2 |
/// | `interval_level` | 0.99 | level of the prediction interval | 0.5 to below 1 |
/// | `dispersion` | `"cox_reid"` | how the dispersion is estimated; `"ml"` is biased low on a year of weeks | |
/// | `parameter_uncertainty` | `true` | widen predictions by what the coefficients may be off, and by what cross-fitting shows they are | |
/// | `season_sd` | 0.3 | prior standard deviation of each coefficient of the first harmonic, on the log scale; the k-th has 1/k of it; `inf` = none | above 0 |
/// | `trend_sd` | 0.2 | prior standard deviation of the trend, log change per period; `inf` = none | above 0 |
/// | `pooling` | `true` | season, trend and dispersion borrow strength from the other keys of the pair (the series that share all id columns but the last) | |
/// | `event_scan` | `true` | look for events of some length besides single steps; without it each count is tested alone | |
/// | `event_share` | 0.5 | the part of the false alarms that events of some length may have; the rest is for single counts, which alone see small outbreaks on large steady counts (0.2 suits those) | above 0 and below 1 |
/// | `events_per_period` | 1 | how many events a series has in a season, about | above 0, at most 12 |
/// | `direction` | `"both"` | which deviations count: `"above_expected"` and `"below_expected"` test one side, with more power | |
/// | `scoring` | `"prequential"` | which fit scores what: see [`Scoring`] | |
/// | `newest_steps` | 0 | under a cross-fitted plan: how many of the newest steps are scored one step ahead all the same; at most half of a series | |
/// | `half_life_steps` | two periods | one step ahead: after so many steps a count weighs half; `inf` = nothing is forgotten | at least 4 |
/// | `block_steps` | 4 | cross-fitting: steps scored by one fit | at least 1 |
/// | `guard_steps` | 5 | cross-fitting: steps on either side of the block that the fit leaves out too; fewer on a short history | |
/// | `mask_rounds` | 2 | how often steps that lie in an event are taken out and the rest is fitted again | up to 20 |
/// | `min_steps` | 12 | a series with fewer usable steps is not modelled | at least 4 |
/// | `min_events` | 0 | a series with fewer events in all is too sparse and not modelled | at least 0 |
/// | `min_cases` | 0 | no alarm above the expected count with fewer cases than this, none below it with fewer expected, … | at least 0 |
/// | `min_cases_steps` | 4 | … in so many steps up to the alarm's own | at least 1 |
///
/// ```
/// use anomalist::detectors::nb2::{Nb2, Nb2Params};
///
/// let params = Nb2Params { interval_level: 0.997, ..Nb2Params::default() };
/// assert!(Nb2::new(params).is_ok());
/// let wrong = Nb2Params { season_sd: 0.0, ..Nb2Params::default() };
/// assert_eq!(wrong.check()[0].0, "season_sd");
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Nb2Params {
    pub fourier_k: FourierK,
    pub trend: Trend,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposure: Option<String>,
    pub known_events: KnownEventRule,
    pub known_event_sd: f64,
    pub on_shift: OnShift,
    pub shift_steps: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period_steps: Option<f64>,
    pub interval_level: f64,
    pub dispersion: Dispersion,
    pub parameter_uncertainty: bool,
    #[serde(with = "infinite")]
    pub season_sd: f64,
    #[serde(with = "infinite")]
    pub trend_sd: f64,
    pub pooling: bool,
    pub event_scan: bool,
    pub event_share: f64,
    pub events_per_period: f64,
    pub direction: Direction,
    pub scoring: Scoring,
    pub newest_steps: usize,
    #[serde(skip_serializing_if = "Option::is_none", with = "infinite::option")]
    pub half_life_steps: Option<f64>,
    pub block_steps: usize,
    pub guard_steps: usize,
    pub mask_rounds: usize,
    pub min_steps: usize,
    pub min_events: f64,
    pub min_cases: f64,
    pub min_cases_steps: usize,
}

impl Default for Nb2Params {
    fn default() -> Self {
        Self {
            fourier_k: FourierK::Auto,
            trend: Trend::Fixed(true),
            exposure: None,
            known_events: KnownEventRule::Mask,
            known_event_sd: 0.5,
            on_shift: OnShift::Keep,
            shift_steps: 8,
            period_steps: None,
            interval_level: 0.99,
            dispersion: Dispersion::CoxReid,
            parameter_uncertainty: true,
            season_sd: 0.3,
            trend_sd: 0.2,
            pooling: true,
            event_scan: true,
            event_share: 0.5,
            events_per_period: 1.0,
            direction: Direction::Both,
            scoring: Scoring::Prequential,
            newest_steps: 0,
            half_life_steps: None,
            block_steps: 4,
            guard_steps: 5,
            mask_rounds: 2,
            min_steps: 12,
            min_events: 0.0,
            min_cases: 0.0,
            min_cases_steps: 4,
        }
    }
}

impl Nb2Params {
    /// Everything that is wrong, as (key, message); empty when valid.
    pub fn check(&self) -> Vec<(String, String)> {
        self.findings()
            .into_iter()
            .map(|f| (f.key.to_string(), format!("is {}, but must be {}", f.value, f.expected)))
            .collect()
    }

    /// Everything that is wrong.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let period = self.period_steps.unwrap_or(52.18);
        let k = if let FourierK::Fixed(k) = self.fourier_k { k } else { 0 };
        let (event_sd, shift) = (self.known_event_sd, self.shift_steps);
        let level = self.interval_level;
        let (events, share) = (self.events_per_period, self.event_share);
        let case_steps = self.min_cases_steps as f64;
        let half_life = self.half_life_steps.unwrap_or(f64::INFINITY);
        let rules = [
            (k <= 6, "fourier_k", k as f64, "a whole number from 0 to 6"),
            (period > 2.0 && period.is_finite(), "period_steps", period, "above 2"),
            ((0.5..1.0).contains(&level), "interval_level", level, "at least 0.5 and below 1"),
            (self.season_sd > 0.0, "season_sd", self.season_sd, "above 0 (inf for no prior)"),
            // Without a prior, an event that was seen once would explain all of its step.
            (event_sd > 0.0 && event_sd.is_finite(), "known_event_sd", event_sd, "above 0"),
            ((4..=26).contains(&shift), "shift_steps", shift as f64, "from 4 to 26"),
            (self.trend_sd > 0.0, "trend_sd", self.trend_sd, "above 0 (inf for no prior)"),
            (share > 0.0 && share < 1.0, "event_share", share, "above 0 and below 1"),
            (events > 0.0 && events <= 12.0, "events_per_period", events, "above 0, at most 12"),
            (half_life >= 4.0, "half_life_steps", half_life, "at least 4 (inf to forget nothing)"),
            (self.block_steps >= 1, "block_steps", self.block_steps as f64, "at least 1"),
            (self.mask_rounds <= 20, "mask_rounds", self.mask_rounds as f64, "at most 20"),
            (self.min_events >= 0.0, "min_events", self.min_events, "at least 0"),
            (self.min_cases >= 0.0, "min_cases", self.min_cases, "at least 0"),
            (case_steps >= 1.0, "min_cases_steps", case_steps, "at least 1"),
            (self.min_steps >= 4, "min_steps", self.min_steps as f64, "at least 4"),
        ];
        rules
            .into_iter()
            .filter(|(valid, ..)| !valid)
            .map(|(_, key, value, expected)| Finding { key, value, expected })
            .collect()
    }

    /// The place in `panel` of the metric that `exposure` names.
    ///
    /// # Errors
    /// When the panel has no such metric.
    pub(super) fn exposure_in(&self, panel: &Panel) -> Result<Option<usize>, DetectorError> {
        let Some(name) = &self.exposure else { return Ok(None) };
        let wrong = || DetectorError::Parameter {
            detector: DetectorName::Nb2,
            parameter: "exposure",
            value: format!("\"{name}\""),
            expected: "the name of a metric of the panel ([panel] metrics)",
        };
        panel.find_metric(name).map(Some).ok_or_else(wrong)
    }

    /// The regimes that events are looked for with, `period` steps a season.
    pub(super) fn regimes(&self, period: f64) -> Regimes {
        Regimes::new(self.events_per_period / period, self.direction)
    }

    /// How a fit with these terms moves on, one step at a time.
    pub(super) fn moving<'a>(&self, terms: Terms, regimes: &'a Regimes) -> Moving<'a> {
        let half_life = self.half_life_steps.unwrap_or(2.0 * terms.period);
        Moving {
            terms,
            regimes,
            dispersion: self.dispersion,
            uncertain: self.parameter_uncertainty,
            keep: 0.5f64.powf(1.0 / half_life),
            lasting: self.rebases().then_some(self.shift_steps),
        }
    }

    /// True when a level that has moved starts the baseline again.
    pub(super) fn rebases(&self) -> bool {
        self.on_shift == OnShift::Rebase
    }

    /// Harmonics that a history of so many steps bears.
    pub(super) fn harmonics(&self, history_steps: usize, period: f64) -> usize {
        if let FourierK::Fixed(k) = self.fourier_k {
            return k;
        }
        // Rounded to a hundredth of a period, so that 39 and 104 weeks count as 3/4 and 2 of
        // 52.18; and never so many that the shortest wave has under four steps.
        let periods = (history_steps as f64 / period * 100.0).round() / 100.0;
        let wanted = if periods < 0.75 {
            0
        } else if periods < 1.99 {
            1
        } else {
            2
        };
        wanted.min((period / 4.0) as usize)
    }

    /// Whether a fit may have a trend, and whether it may do without one.
    pub(super) fn trends(&self) -> &'static [bool] {
        match self.trend {
            Trend::Auto => &[true, false],
            Trend::Fixed(true) => &[true],
            Trend::Fixed(false) => &[false],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_every_bound_is_held_at_its_edge_at_nan_and_at_infinity() {
        assert_eq!(Nb2Params::default().check(), []);
        let wrong = |change: fn(&mut Nb2Params), key: &str| {
            let mut params = Nb2Params::default();
            change(&mut params);
            let keys: Vec<String> = params.check().into_iter().map(|(key, _)| key).collect();
            assert_eq!(keys, [key]);
        };
        wrong(|p| p.fourier_k = FourierK::Fixed(7), "fourier_k");
        wrong(|p| p.period_steps = Some(2.0), "period_steps");
        wrong(|p| p.period_steps = Some(f64::INFINITY), "period_steps");
        wrong(|p| p.interval_level = 1.0, "interval_level");
        wrong(|p| p.interval_level = f64::NAN, "interval_level");
        wrong(|p| p.season_sd = f64::NAN, "season_sd");
        wrong(|p| p.trend_sd = 0.0, "trend_sd");
        wrong(|p| p.known_event_sd = f64::NAN, "known_event_sd");
        wrong(|p| p.known_event_sd = f64::INFINITY, "known_event_sd");
        wrong(|p| p.shift_steps = 3, "shift_steps");
        wrong(|p| p.shift_steps = 27, "shift_steps");
        wrong(|p| p.event_share = 1.0, "event_share");
        wrong(|p| p.event_share = f64::NAN, "event_share");
        wrong(|p| p.events_per_period = 0.0, "events_per_period");
        wrong(|p| p.events_per_period = f64::NAN, "events_per_period");
        wrong(|p| p.half_life_steps = Some(3.9), "half_life_steps");
        wrong(|p| p.half_life_steps = Some(f64::NAN), "half_life_steps");
        wrong(|p| p.block_steps = 0, "block_steps");
        wrong(|p| p.mask_rounds = 21, "mask_rounds");
        wrong(|p| p.min_steps = 3, "min_steps");
        wrong(|p| p.min_events = f64::NAN, "min_events");
        wrong(|p| p.min_cases = -1.0, "min_cases");
        wrong(|p| p.min_cases_steps = 0, "min_cases_steps");
        let flat = Nb2Params {
            season_sd: f64::INFINITY,
            trend_sd: f64::INFINITY,
            interval_level: 0.5,
            ..Nb2Params::default()
        };
        assert_eq!(flat.check(), []);
    }

    #[test]
    fn parameters_come_back_from_toml_and_unknown_keys_are_refused() {
        let params = Nb2Params {
            fourier_k: FourierK::Fixed(2),
            exposure: Some("visitors".into()),
            on_shift: OnShift::Rebase,
            season_sd: f64::INFINITY,
            scoring: Scoring::InSample,
            ..Nb2Params::default()
        };
        let text = toml::to_string(&params).unwrap();
        assert_eq!(toml::from_str::<Nb2Params>(&text).unwrap(), params);
        assert_eq!(toml::from_str::<Nb2Params>("").unwrap(), Nb2Params::default());
        let plain = toml::from_str::<Nb2Params>("season_sd = inf\ntrend_sd = 1").unwrap();
        assert_eq!((plain.season_sd, plain.trend_sd), (f64::INFINITY, 1.0));
        assert!(toml::from_str::<Nb2Params>("fourier = 1").is_err());
    }

    #[test]
    fn what_is_infinite_comes_back_from_json_too() {
        let params = Nb2Params {
            season_sd: f64::INFINITY,
            trend_sd: f64::INFINITY,
            half_life_steps: Some(f64::INFINITY),
            ..Nb2Params::default()
        };
        let text = serde_json::to_string(&params).unwrap();
        assert!(!text.contains("null"), "{text}");
        assert_eq!(serde_json::from_str::<Nb2Params>(&text).unwrap(), params);
        let wrong = serde_json::from_str::<Nb2Params>("{\"season_sd\": \"wide\"}").unwrap_err();
        assert!(wrong.to_string().contains("a number or \"inf\""), "{wrong}");
        let error = serde_json::from_str::<Nb2Params>("{\"season_sd\": null}");
        assert!(error.is_err(), "nothing is no number");
    }

    #[test]
    fn harmonics_follow_the_length_of_the_history() {
        let params = Nb2Params::default();
        let weeks = 365.2425 / 7.0;
        let found: Vec<usize> =
            [38, 39, 103, 104, 260].iter().map(|&n| params.harmonics(n, weeks)).collect();
        assert_eq!(found, [0, 1, 1, 2, 2]);
        assert_eq!(params.harmonics(1_000, 5.0), 1);
        assert_eq!(Nb2Params { fourier_k: FourierK::Fixed(3), ..params }.harmonics(10, weeks), 3);
    }
}
