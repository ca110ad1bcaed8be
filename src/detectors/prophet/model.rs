//! One series: a trend that bends, seasons, holidays and noise.
//!
//! Taylor and Letham (2018), Forecasting at Scale, The American Statistician 72(1), in the form
//! that the reference implementation (Prophet 1.1 and later) fits: values divided by their largest
//! absolute value, time by the history's length, `n_changepoints` possible bends spread evenly over
//! the first `changepoint_range` of the history's rows.

use serde::{Deserialize, Serialize};

use super::{
    design::Columns,
    map::{Moments, Prior, mode},
    params::{Growth, ProphetParams},
};

/// Standard deviation of the priors of the first slope and the offset.
const TREND_PRIOR: f64 = 5.0;

/// A fitted series. Times are seconds on the panel's wall clock since 1970-01-01.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    start: f64,
    span: f64,
    /// Largest absolute value of the history.
    scale: f64,
    columns: Columns,
    /// Offset, then (unless the growth is flat) the first slope; per unit of scaled time.
    trend: Vec<f64>,
    /// Scaled times of the bends.
    bends: Vec<f64>,
    /// Changes of slope at the bends.
    deltas: Vec<f64>,
    /// Coefficients of `columns`.
    effects: Vec<f64>,
    /// Standard deviation of the noise, scaled.
    noise: f64,
}

/// What a model says of one moment, in the values' unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    pub mean: f64,
    /// Standard deviation of a value: noise, and beyond the history also bends to come.
    pub sd: f64,
}

/// Rows to learn from: wall-clock seconds, rising, and values without NaN.
pub(super) struct History<'a> {
    pub times: &'a [f64],
    pub values: &'a [f64],
    /// The shortest step between two rows.
    pub step_secs: f64,
}

impl Model {
    /// Fits the posterior mode. `None` for fewer than two rows, or rows that defy factorisation.
    pub(super) fn fit(history: &History<'_>, params: &ProphetParams) -> Option<Self> {
        let (first, last) = (*history.times.first()?, *history.times.last()?);
        let span = last - first;
        if span <= 0.0 {
            return None;
        }
        let scale = history.values.iter().fold(0.0_f64, |most, v| most.max(v.abs()));
        let mut model = Self {
            start: first,
            span,
            scale: if scale > 0.0 { scale } else { 1.0 },
            columns: Columns::choose(params, span, history.step_secs),
            trend: vec![0.0; if params.growth == Growth::Flat { 1 } else { 2 }],
            bends: Vec::new(),
            deltas: Vec::new(),
            effects: Vec::new(),
            noise: 0.0,
        };
        model.bends = model.place_bends(history.times, params);
        let width = model.width();
        let mut x = Vec::with_capacity(width * history.times.len());
        for &time in history.times {
            model.push_row(time, &mut x);
        }
        let y: Vec<f64> = history.values.iter().map(|v| v / model.scale).collect();
        let (b, variance) = mode(&Moments::of(&x, width, &y), &model.priors(params))?;
        let (trend, rest) = b.split_at(model.trend.len());
        let (deltas, effects) = rest.split_at(model.bends.len());
        model.trend = trend.to_vec();
        model.deltas = deltas.to_vec();
        model.effects = effects.to_vec();
        model.noise = variance.sqrt();
        Some(model)
    }

    /// Scaled times of the bends: rows spread evenly over the first part of the history.
    fn place_bends(&self, times: &[f64], params: &ProphetParams) -> Vec<f64> {
        let rows = (times.len() as f64 * params.changepoint_range).floor() as usize;
        if self.trend.len() < 2 || rows < 2 {
            return Vec::new();
        }
        let n = params.n_changepoints.min(rows - 1);
        (1..=n)
            .map(|i| {
                let row = ((rows - 1) as f64 * i as f64 / n as f64).round_ties_even();
                (times[row as usize] - self.start) / self.span
            })
            .collect()
    }

    fn priors(&self, params: &ProphetParams) -> Vec<Prior> {
        let seasonal = self.columns.seasonal_width();
        let holidays = self.columns.width() - seasonal;
        let repeat = std::iter::repeat_n::<Prior>;
        repeat(Prior::Normal(TREND_PRIOR), self.trend.len())
            .chain(repeat(Prior::Laplace(params.changepoint_prior_scale), self.bends.len()))
            .chain(repeat(Prior::Normal(params.seasonality_prior_scale), seasonal))
            .chain(repeat(Prior::Normal(params.holidays_prior_scale), holidays))
            .collect()
    }

    fn width(&self) -> usize {
        self.trend.len() + self.bends.len() + self.columns.width()
    }

    /// Appends the regression's row at a moment.
    fn push_row(&self, time: f64, row: &mut Vec<f64>) {
        let t = (time - self.start) / self.span;
        row.push(1.0);
        if self.trend.len() > 1 {
            row.push(t);
        }
        row.extend(self.bends.iter().map(|bend| (t - bend).max(0.0)));
        self.columns.push(time, row);
    }

    /// The forecast for a moment. `row` is room for the regression's row, so that it is made once.
    pub(super) fn forecast(&self, time: f64, row: &mut Vec<f64>) -> Forecast {
        row.clear();
        self.push_row(time, row);
        let coefficients = self.trend.iter().chain(&self.deltas).chain(&self.effects);
        let mean: f64 = row.iter().zip(coefficients).map(|(x, b)| x * b).sum();
        let t = (time - self.start) / self.span;
        let variance = self.noise * self.noise + self.bends_to_come(t);
        Forecast { mean: self.scale * mean, sd: self.scale * variance.sqrt() }
    }

    /// Standard deviation of the noise, in the values' unit.
    pub(super) fn noise_sd(&self) -> f64 {
        self.scale * self.noise
    }

    /// Variance of the trend from bends after the history, scaled: as many per unit of time as the
    /// history has places for, each Laplace with the mean absolute bend of the history as its scale.
    /// Prophet simulates this; the variance of that simulation is `S · 2λ² (t - 1)³ / 3`.
    fn bends_to_come(&self, t: f64) -> f64 {
        if t <= 1.0 || self.deltas.is_empty() {
            return 0.0;
        }
        let n = self.deltas.len() as f64;
        let scale = self.deltas.iter().map(|d| d.abs()).sum::<f64>() / n;
        n * 2.0 * scale * scale * (t - 1.0).powi(3) / 3.0
    }

    /// Whether the numbers, read from a file, make a model.
    pub(super) fn is_sound(&self) -> bool {
        let numbers = [self.start, self.span, self.scale, self.noise];
        let lists = [&self.trend, &self.bends, &self.deltas, &self.effects];
        self.span > 0.0
            && self.scale > 0.0
            && self.noise >= 0.0
            && (1..=2).contains(&self.trend.len())
            && self.bends.len() == self.deltas.len()
            && self.effects.len() == self.columns.width()
            && numbers.iter().chain(lists.into_iter().flatten()).all(|v| v.is_finite())
            && self.columns.seasons.iter().all(|s| s.period_days > 0.0 && s.terms <= 50)
    }
}
