//! The distance from one centre, in units of one spread, for each metric of each series.
//!
//! The plainest thing that can be called a detector, kept as the yardstick that the others must
//! beat. By default centre and spread are the median and the median absolute deviation, which the
//! anomalies in the learnt part cannot move; with `robust = false` they are mean and standard
//! deviation, which is what a first dashboard does. It knows no season and no trend.
//!
//! A series that the fit has never seen is a failure, not a guess: its own history would have to
//! stand in, and that may be the very anomaly.

use ndarray::{Array3, Zip};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    detectors::{
        Detector, DetectorError, DetectorName, DetectorState, FitContext, FitMask, FittedDetector,
        Scores, SeriesFailure,
    },
    math::{robust, special::normal_quantile},
    panel::{Panel, SeriesKey},
};

const NAME: DetectorName = DetectorName::Zscore;
/// Fewer values than this have no spread worth the name.
const MIN_VALUES: usize = 4;
/// Scores stay finite where a constant series moves.
const MAX_SCORE: f64 = 1e6;

/// | name | default | purpose | range |
/// |---|---|---|---|
/// | `robust` | true | median and median absolute deviation, else mean and standard deviation | |
/// | `interval_level` | 0.99 | share of normal values between `lower` and `upper` | 0.5 to below 1 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ZscoreParams {
    pub robust: bool,
    pub interval_level: f64,
}

impl Default for ZscoreParams {
    fn default() -> Self {
        Self { robust: true, interval_level: 0.99 }
    }
}

impl ZscoreParams {
    /// Every parameter out of its range, with what it must be.
    pub fn check(&self) -> Vec<(String, String)> {
        if (0.5..1.0).contains(&self.interval_level) {
            return Vec::new();
        }
        let found = self.interval_level;
        vec![("interval_level".into(), format!("is {found}, but must be at least 0.5 and below 1"))]
    }
}

/// The detector before it has seen data.
#[derive(Clone, Debug)]
pub struct ZscoreDetector {
    params: ZscoreParams,
}

/// Centre and spread of one metric of one series.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    pub centre: f64,
    pub spread: f64,
}

/// Centres and spreads of all series.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FittedZscore {
    keys: Vec<SeriesKey>,
    metrics: Vec<String>,
    /// `[series][metric]`; `None` where there was too little to learn from.
    spreads: Vec<Vec<Option<Spread>>>,
    interval_level: f64,
}

impl ZscoreDetector {
    /// # Errors
    /// [`DetectorError::Parameter`] when the interval level is out of its range.
    pub fn new(params: ZscoreParams) -> Result<Self, DetectorError> {
        let level = params.interval_level;
        let problem = ("interval_level", level.to_string(), "at least 0.5 and below 1");
        let wrong = !params.check().is_empty();
        DetectorError::first_of(NAME, wrong.then_some(problem).into_iter().collect())?;
        Ok(Self { params })
    }
}

fn spread_of(values: &mut [f64], robust: bool) -> Option<Spread> {
    if values.len() < MIN_VALUES {
        return None;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let square = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let (mut centre, mut spread) = (mean, square.sqrt());
    if robust {
        centre = robust::median(values)?;
        values.iter_mut().for_each(|v| *v = (*v - centre).abs());
        let middle = robust::MAD_TO_SD * robust::median(values)?;
        // More than half of the values are the same: the standard deviation stands in.
        if middle > 1e-6 * spread {
            spread = middle;
        }
    }
    // A constant series: a thousandth of its size stands in.
    let least = (1e-9 * centre.abs()).max(1e-12);
    if spread <= least {
        spread = (1e-3 * centre.abs()).max(1e-9);
    }
    (centre.is_finite() && spread.is_finite()).then_some(Spread { centre, spread })
}

impl Detector for ZscoreDetector {
    fn name(&self) -> DetectorName {
        NAME
    }

    fn fit(
        &self,
        panel: &Panel,
        mask: &FitMask,
        context: &FitContext,
    ) -> Result<Box<dyn FittedDetector>, DetectorError> {
        context.check_cancelled()?;
        let spreads = (0..panel.n_series())
            .into_par_iter()
            .map(|series| {
                (0..panel.n_metrics())
                    .map(|metric| {
                        let column = panel.metric(series, metric);
                        let allowed = |t: &usize| mask.allows(series, *t);
                        let times = (0..panel.n_times()).filter(allowed);
                        let mut values: Vec<f64> =
                            times.map(|t| column[t]).filter(|v| v.is_finite()).collect();
                        spread_of(&mut values, self.params.robust)
                    })
                    .collect()
            })
            .collect();
        Ok(Box::new(FittedZscore {
            keys: panel.keys().to_vec(),
            metrics: panel.metrics().iter().map(|m| m.name.clone()).collect(),
            spreads,
            interval_level: self.params.interval_level,
        }))
    }

    fn restore(
        &self,
        state: DetectorState,
        _context: &FitContext,
    ) -> Result<Box<dyn FittedDetector>, DetectorError> {
        let defect = |fitted: &FittedZscore| fitted.defect().map(str::to_string);
        Ok(Box::new(state.read(NAME, defect)?))
    }
}

impl FittedZscore {
    fn defect(&self) -> Option<&'static str> {
        let sound = |s: &Spread| s.centre.is_finite() && s.spread.is_finite() && s.spread > 0.0;
        if self.spreads.len() != self.keys.len()
            || self.spreads.iter().any(|metrics| metrics.len() != self.metrics.len())
        {
            return Some("it does not have one spread for each metric of each series");
        }
        if !self.spreads.iter().flatten().flatten().all(sound) {
            return Some("a centre or a spread is out of range");
        }
        (!(0.5..1.0).contains(&self.interval_level)).then_some("the interval level is out of range")
    }

    /// Centre and spread of each metric of each series of a panel.
    fn aligned(&self, panel: &Panel) -> Vec<Vec<Option<Spread>>> {
        let columns: Vec<Option<usize>> = panel
            .metrics()
            .iter()
            .map(|metric| self.metrics.iter().position(|name| *name == metric.name))
            .collect();
        let places: std::collections::HashMap<&SeriesKey, usize> =
            self.keys.iter().enumerate().map(|(i, key)| (key, i)).collect();
        panel
            .keys()
            .iter()
            .map(|key| {
                let known = places.get(key).map(|&place| &self.spreads[place]);
                columns.iter().map(|column| known?[(*column)?]).collect()
            })
            .collect()
    }
}

impl FittedDetector for FittedZscore {
    fn score(
        &self,
        panel: &Panel,
        _mask: &FitMask,
        context: &FitContext,
    ) -> Result<Scores, DetectorError> {
        context.check_cancelled()?;
        let aligned = self.aligned(panel);
        let reach = normal_quantile(0.5 * (1.0 + self.interval_level));
        let mut z = Array3::from_elem(panel.values().dim(), f64::NAN);
        let (mut expected, mut lower, mut upper) = (z.clone(), z.clone(), z.clone());
        for (series, metrics) in aligned.iter().enumerate() {
            for (metric, spread) in metrics.iter().enumerate() {
                let Some(Spread { centre, spread }) = *spread else { continue };
                let span = panel.span(series);
                let column = ndarray::s![series, span.start..span.end.min(panel.n_times()), metric];
                Zip::from(z.slice_mut(column)).and(panel.values().slice(column)).for_each(
                    |z, v| {
                        if v.is_finite() {
                            *z = ((v - centre) / spread).clamp(-MAX_SCORE, MAX_SCORE);
                        }
                    },
                );
                expected.slice_mut(column).fill(centre);
                lower.slice_mut(column).fill(centre - reach * spread);
                upper.slice_mut(column).fill(centre + reach * spread);
            }
        }
        let mut scores = Scores::empty(NAME, panel);
        scores.take_strongest(&z, 0..panel.n_times());
        scores.expected = Some(expected);
        scores.lower = Some(lower);
        scores.upper = Some(upper);
        scores.failures = aligned
            .iter()
            .enumerate()
            .filter(|(_, metrics)| metrics.iter().all(Option::is_none))
            .map(|(series, _)| SeriesFailure {
                series,
                reason: "fewer than four usable values in the fit, or a series that it has not \
                         seen: fit again with a longer history of it"
                    .into(),
            })
            .collect();
        Ok(scores)
    }

    fn state(&self) -> Result<DetectorState, DetectorError> {
        DetectorState::of(NAME, self)
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

#[cfg(test)]
mod tests;
