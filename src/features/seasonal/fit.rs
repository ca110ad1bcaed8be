//! The profile of one metric of one series: fit, and what it expects.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    clock::{Clock, Season},
    level::{Action, CycleLevel, Sighting, cycle_levels, levels, spread_of},
    noise::{MIN_SHARE, Noise, variance_line},
    tables::{Points, Table, means, medians, merge_nested, wave},
};
use crate::{
    math::robust::{median, quantile, winsorised_variance},
    panel::{MetricKind, Step},
};

/// Rounds of profile, level, noise and outlier weights. The third changes expectations by under
/// 1 % of a standard deviation.
const ROUNDS: usize = 3;
/// Fewer usable values than this give no profile.
pub(super) const MIN_VALUES: usize = 4;
/// Up to this share of values may be out of a form's range (negative amounts, ratios above 1)
/// before the form is given up for a plain one.
const MAX_OUT_OF_RANGE: f64 = 0.01;
/// From this share of zeros on, counts and amounts start from means in place of medians.
const SPARSE: f64 = 0.3;
/// Levels of the two-sided normal tail at which the profile remembers how far residuals really go.
pub(super) const TAIL_LEVELS: [f64; 5] = [0.5, 0.8, 0.9, 0.95, 0.99];

/// The scale on which a metric's season is additive and its noise about even.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Form {
    /// `2 sqrt(x + 3/8)`, which gives Poisson counts variance 1 (Anscombe 1948).
    Count,
    /// `2 sqrt(x)`: sums of a random number of items.
    Amount,
    /// `x` itself.
    Plain,
    /// A count divided by a count that holds it.
    Share,
    /// Any other ratio.
    Quotient,
}

impl Form {
    pub fn action(self) -> Action {
        match self {
            Self::Count | Self::Amount => Action::Times,
            _ => Action::Plus,
        }
    }

    fn offset(self) -> f64 {
        if self == Self::Count { 0.375 } else { 0.0 }
    }

    pub fn is_ratio(self) -> bool {
        matches!(self, Self::Share | Self::Quotient)
    }

    /// Value -> working scale.
    pub fn stabilise(self, x: f64) -> f64 {
        match self {
            Self::Count | Self::Amount => 2.0 * (x.max(0.0) + self.offset()).sqrt(),
            Self::Share => x.min(1.0),
            _ => x,
        }
    }
}

/// A cell that a fit may learn from.
#[derive(Clone, Copy)]
pub(super) struct Value {
    pub time: usize,
    pub x: f64,
    /// Denominator of a ratio, else 1.
    pub size: f64,
}

/// What is known of one metric of one series.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MetricProfile {
    pub form: Form,
    /// Centre on the working scale.
    pub base: f64,
    pub tables: Vec<(Season, Vec<f64>)>,
    pub noise: Noise,
    /// Observed over expected mean, for what the way back from the working scale leaves over.
    pub correction: f64,
    /// Standard deviation of the residuals that `noise` leaves.
    pub spread: f64,
    /// Standard deviation of one cycle's level.
    pub level_spread: f64,
    /// Cycle, level and precision of the newest cycles, so that a short new batch starts right.
    pub recent: Vec<(i64, f64, f64)>,
    /// Absolute residuals at [`TAIL_LEVELS`], over those of a normal distribution; at least 1.
    pub tails: [f64; TAIL_LEVELS.len()],
}

/// What all metrics of all series share during a fit.
pub(super) struct FitSetting<'a> {
    pub clock: &'a Clock,
    /// Slots of every season that may be used.
    pub slots: &'a BTreeMap<u8, Vec<u32>>,
    pub seasons: &'a [Season],
    /// In cycles; 0 for a constant level.
    pub level_window: usize,
    pub outlier_cutoff: f64,
}

/// Chooses the form of a metric from its kind and its values.
pub(super) fn form_of(kind: &MetricKind, of_counts: bool, values: &[Value]) -> Form {
    let share = |bad: fn(f64) -> bool| {
        values.iter().filter(|v| bad(v.x)).count() as f64 <= MAX_OUT_OF_RANGE * values.len() as f64
    };
    match kind {
        MetricKind::Count if share(|x| x < 0.0) => Form::Count,
        MetricKind::Amount if share(|x| x < 0.0) => Form::Amount,
        MetricKind::Ratio { .. } if of_counts && share(|x| !(0.0..=1.0).contains(&x)) => {
            Form::Share
        }
        MetricKind::Ratio { .. } => Form::Quotient,
        _ => Form::Plain,
    }
}

/// A fit in progress. All vectors run along the usable values.
struct Work<'a> {
    form: Form,
    setting: &'a FitSetting<'a>,
    values: &'a [Value],
    y: Vec<f64>,
    /// Variance of `y`.
    variance: Vec<f64>,
    /// Outlier weight, 0 to 1.
    trust: Vec<f64>,
    level: Vec<f64>,
    /// Profile on the working scale, before the level.
    shape: Vec<f64>,
    parameters: f64,
    /// So many zeros that a median says little.
    sparse: bool,
}

/// Fits one metric of one series; `None` where there is too little to learn from.
pub(super) fn fit_metric(
    values: &[Value],
    form: Form,
    setting: &FitSetting,
) -> Option<MetricProfile> {
    if values.len() < MIN_VALUES {
        return None;
    }
    let mut work = Work::start(values, form, setting);
    let mut profile = MetricProfile {
        form,
        base: 0.0,
        tables: Vec::new(),
        noise: Noise::Plain { variance: 1.0 },
        correction: 1.0,
        spread: 1.0,
        level_spread: 0.0,
        recent: Vec::new(),
        tails: [1.0; TAIL_LEVELS.len()],
    };
    for round in 0..ROUNDS {
        (profile.base, profile.tables) = work.shape(round == 0);
        let cycles = work.update_level();
        work.update_noise(&mut profile);
        if round + 1 == ROUNDS {
            let keep = cycles.len().saturating_sub(setting.level_window.max(1));
            profile.level_spread = spread_of(&cycles);
            profile.recent =
                cycles[keep..].iter().map(|c| (c.cycle, c.level, c.precision)).collect();
        }
    }
    work.finish(&mut profile);
    profile.is_sound().then_some(profile)
}

impl<'a> Work<'a> {
    fn start(values: &'a [Value], form: Form, setting: &'a FitSetting<'a>) -> Self {
        let y: Vec<f64> = values.iter().map(|v| form.stabilise(v.x)).collect();
        let n = y.len();
        let variance = values.iter().map(|v| if form.is_ratio() { 1.0 / v.size } else { 1.0 });
        Self {
            form,
            setting,
            values,
            variance: variance.collect(),
            trust: vec![1.0; n],
            level: vec![form.action().neutral(); n],
            shape: vec![0.0; n],
            parameters: 0.0,
            sparse: {
                let zeros = values.iter().filter(|v| v.x == 0.0).count() as f64;
                form.action() == Action::Times && zeros > SPARSE * n as f64
            },
            y,
        }
    }

    /// Centre and season tables, given level, variance and trust.
    fn shape(&mut self, first: bool) -> (f64, Vec<(Season, Vec<f64>)>) {
        let action = self.form.action();
        let mut residual: Vec<f64> =
            self.y.iter().zip(&self.level).map(|(y, level)| action.remove(*level, *y)).collect();
        let precision: Vec<f64> = (0..residual.len())
            .map(|i| {
                let gain = if action == Action::Times { self.level[i].powi(2) } else { 1.0 };
                self.trust[i] * gain / self.variance[i]
            })
            .collect();
        // The first round knows no noise: medians, or weighted means of ratios, as they are.
        let by_median = first && !self.form.is_ratio() && !self.sparse;
        let base = if by_median {
            median(&mut residual.clone()).unwrap_or(0.0)
        } else {
            weighted_mean(&residual, &precision)
        };
        residual.iter_mut().for_each(|r| *r -= base);
        self.shape.fill(base);
        self.parameters = 1.0;
        let mut tables = Vec::new();
        for &season in self.setting.seasons {
            let all = &self.setting.slots[&(season as u8)];
            let slot: Vec<u32> = self.values.iter().map(|v| all[v.time]).collect();
            let points = Points { residual: &residual, precision: &precision, slot: &slot };
            let step = self.setting.clock.step;
            let Table { effect, parameters } = match season {
                Season::YearWave if first => continue, // its shrinkage needs the noise
                Season::YearWave => wave(&points, season, step),
                _ if by_median => medians(&points, season, step),
                _ => means(&points, season, step, !first),
            };
            for ((residual, shape), &slot) in residual.iter_mut().zip(&mut self.shape).zip(&slot) {
                *residual -= effect[slot as usize];
                *shape += effect[slot as usize];
            }
            self.parameters = if first { parameters } else { self.parameters + parameters };
            tables.push((season, effect));
        }
        if action == Action::Times {
            let least = least_shape(base);
            self.shape.iter_mut().for_each(|s| *s = s.max(least));
        }
        (base, tables)
    }

    fn update_level(&mut self) -> Vec<CycleLevel> {
        let action = self.form.action();
        let cycles = cycle_levels(
            self.values.iter().enumerate().map(|(i, v)| Sighting {
                cycle: self.setting.clock.cycle[v.time],
                value: self.y[i],
                profile: self.shape[i],
                precision: 1.0 / self.variance[i],
            }),
            action,
        );
        if self.setting.level_window > 0 {
            let wanted = self.values.iter().map(|v| self.setting.clock.cycle[v.time]);
            let spread = spread_of(&cycles);
            self.level = levels(&cycles, wanted, self.setting.level_window, action, spread);
        }
        cycles
    }

    /// Expectation on the working scale.
    fn expected(&self, i: usize) -> f64 {
        self.form.action().apply(self.level[i], self.shape[i])
    }

    /// Refits the noise, and from it variances and outlier weights.
    fn update_noise(&mut self, profile: &mut MetricProfile) {
        let n = self.y.len();
        let used = self.parameters.min(0.8 * n as f64);
        let inflation = n as f64 / (n as f64 - used);
        let expected: Vec<f64> = (0..n).map(|i| self.expected(i)).collect();
        profile.noise = self.fit_noise(&expected, inflation);
        profile.correction = 1.0;
        if self.form.action() == Action::Times {
            let (mut observed, mut promised) = (0.0, 0.0);
            for ((v, &e), &trust) in self.values.iter().zip(&expected).zip(&self.trust) {
                observed += trust * v.x.max(0.0);
                promised += trust * profile.mean(e);
            }
            if observed > 0.0 && promised > 0.0 {
                profile.correction = (observed / promised).clamp(0.5, 2.0);
            }
        }
        let z: Vec<f64> = self
            .values
            .iter()
            .zip(&expected)
            .map(|(v, &e)| profile.noise.z(v.x, profile.mean(e), v.size))
            .collect();
        let spread = (inflation * winsorised_variance(&z, &mut Vec::new()).unwrap_or(1.0)).sqrt();
        // Theory bounds the spread of counts from below; measured spreads of plain values are 1
        // already, but for a variance that had to be floored.
        let bounded = matches!(self.form, Form::Count | Form::Share);
        profile.spread = if bounded { spread.max(1.0) } else { spread.clamp(0.5, 1e3) };
        let cutoff = self.setting.outlier_cutoff;
        for (i, v) in self.values.iter().enumerate() {
            let far = z[i].abs() / profile.spread / cutoff;
            self.trust[i] = (2.0 - far).clamp(0.0, 1.0);
            self.variance[i] = profile.working_variance(expected[i], v.size);
        }
    }

    fn fit_noise(&self, expected: &[f64], inflation: f64) -> Noise {
        let residual: Vec<f64> = self.y.iter().zip(expected).map(|(y, e)| y - e).collect();
        match self.form {
            Form::Count | Form::Amount => {
                let mean: Vec<f64> = expected.iter().map(|e| 0.25 * e * e).collect();
                let least = if self.form == Form::Count { 1.0 } else { self.least_unit() };
                let (unit, alpha) = variance_line(&residual, &mean, inflation, least);
                Noise::Counts { unit, alpha }
            }
            Form::Share => {
                let (mut standard, mut per_size) = (Vec::new(), Vec::new());
                for ((r, e), v) in residual.iter().zip(expected).zip(self.values) {
                    let p = e.clamp(MIN_SHARE, 1.0 - MIN_SHARE);
                    // Fewer than two expected successes say nothing about overdispersion.
                    if v.size * p.min(1.0 - p) >= 2.0 {
                        standard.push(r / (p * (1.0 - p)).sqrt());
                        per_size.push(1.0 / v.size);
                    }
                }
                // variance = rho + phi / size, with phi >= 1: swap the roles to bound the slope.
                let (rho, phi) = variance_line(&standard, &per_size, inflation, 0.0);
                Noise::Shares { phi: phi.max(1.0), rho }
            }
            Form::Quotient => {
                let per_size: Vec<f64> = self.values.iter().map(|v| 1.0 / v.size).collect();
                let least = self.least_variance();
                let (floor, per_item) = variance_line(&residual, &per_size, inflation, least);
                Noise::Quotients { per_item, floor }
            }
            Form::Plain => {
                let variance = winsorised_variance(&residual, &mut Vec::new()).unwrap_or(0.0);
                Noise::Plain { variance: (inflation * variance).max(self.least_variance()) }
            }
        }
    }

    /// Least variance over mean of an amount. Where zeros prevail, the spread of square roots says
    /// nothing about the size of an item, and the moments of the values themselves step in (cut at
    /// three times the middle item).
    fn least_unit(&self) -> f64 {
        let largest = self.values.iter().fold(0.0_f64, |top, v| top.max(v.x));
        let floor = (1e-6 * largest).max(1e-12);
        let mut items: Vec<f64> = self.values.iter().map(|v| v.x).filter(|x| *x > 0.0).collect();
        let cap = 3.0 * median(&mut items).unwrap_or(0.0);
        if !self.sparse || cap <= 0.0 {
            return floor;
        }
        let n = self.values.len() as f64;
        let cut =
            |power: i32| self.values.iter().map(|v| v.x.clamp(0.0, cap).powi(power)).sum::<f64>();
        let mean = cut(1) / n;
        ((cut(2) / n - mean * mean) / mean).max(floor)
    }

    /// A series that never moves has no spread; a thousandth of its size stands in.
    fn least_variance(&self) -> f64 {
        let size = self.y.iter().fold(0.0_f64, |top, y| top.max(y.abs()));
        let moves = self.y.iter().any(|y| (y - self.y[0]).abs() > 1e-9 * size);
        let least = if moves { 1e-6 * size } else { 1e-3 * size };
        least.max(1e-9).powi(2)
    }

    fn finish(&self, profile: &mut MetricProfile) {
        let mut z: Vec<f64> = self
            .values
            .iter()
            .enumerate()
            .map(|(i, v)| profile.z(v.x, profile.mean(self.expected(i)), v.size).abs())
            .collect();
        // Fewer than a hundred residuals have no tail to speak of.
        if z.len() >= 100 {
            for (tail, level) in profile.tails.iter_mut().zip(TAIL_LEVELS) {
                let normal = crate::math::special::normal_quantile(0.5 * (1.0 + level));
                *tail = (quantile(&mut z, level).unwrap_or(normal) / normal).clamp(1.0, 1e3);
            }
        }
        merge_nested(&mut profile.tables);
    }
}

/// A shape on a multiplicative scale stays above a hundredth of its centre.
fn least_shape(base: f64) -> f64 {
    (0.01 * base).max(1e-6)
}

fn weighted_mean(values: &[f64], weights: &[f64]) -> f64 {
    let total: f64 = weights.iter().sum();
    let sum: f64 = values.iter().zip(weights).map(|(v, w)| v * w).sum();
    if total > 0.0 { sum / total } else { 0.0 }
}

impl MetricProfile {
    /// The seasonal shape of every step on the working scale, before the level.
    pub fn shape(&self, slots: &BTreeMap<u8, Vec<u32>>, n_times: usize) -> Vec<f64> {
        let mut shape = vec![self.base; n_times];
        for (season, effect) in &self.tables {
            if let Some(slot) = slots.get(&(*season as u8)) {
                for (shape, &slot) in shape.iter_mut().zip(slot) {
                    *shape += effect[slot as usize];
                }
            }
        }
        if self.form.action() == Action::Times {
            let least = least_shape(self.base);
            shape.iter_mut().for_each(|s| *s = s.max(least));
        }
        shape
    }

    /// Expected value in the metric's unit from the expectation on the working scale.
    ///
    /// `E[y²] = E[y]² + Var[y]` undoes the square root without bias. For few counts the variance
    /// of `y` falls short of its limit; `1 - exp(-1.255 m)` follows it to 2 %.
    pub fn mean(&self, expected: f64) -> f64 {
        match (self.form, self.noise) {
            (Form::Count | Form::Amount, Noise::Counts { unit, alpha }) => {
                let square = 0.25 * expected * expected - self.form.offset();
                let mut mean = square.max(0.0);
                if self.form == Form::Count {
                    for _ in 0..3 {
                        let events = mean.max(0.05) / unit;
                        // From 30 on the exponential is lost beside the 1: exp(-37) < 2^-53.
                        let short = if events < 30.0 { 1.0 - (-1.255 * events).exp() } else { 1.0 };
                        mean = square + 0.25 * short * (unit + alpha * mean);
                    }
                } else {
                    mean = square + (0.25 * (unit + alpha * square)).min(square);
                }
                (self.correction * mean).max(1e-3 * unit)
            }
            (Form::Share, _) => expected.clamp(MIN_SHARE, 1.0 - MIN_SHARE),
            _ => expected,
        }
    }

    /// Variance on the working scale.
    pub fn working_variance(&self, expected: f64, size: f64) -> f64 {
        let mean = self.mean(expected);
        match self.noise {
            Noise::Counts { unit, alpha } => unit + alpha * mean,
            other => other.variance(mean, size),
        }
    }

    /// The standardised residual of a value.
    pub fn z(&self, x: f64, mean: f64, size: f64) -> f64 {
        self.noise.z(x, mean, size) / self.spread
    }

    /// Whether a profile out of a checkpoint can be used.
    pub fn is_sound(&self) -> bool {
        let finite = |values: &[f64]| values.iter().all(|v| v.is_finite());
        self.base.is_finite()
            && self.noise.is_sound()
            && self.fits_noise()
            && self.correction.is_finite()
            && self.correction > 0.0
            && self.spread.is_finite()
            && self.spread > 0.0
            && self.level_spread.is_finite()
            && self.level_spread >= 0.0
            && finite(&self.tails)
            && self.tables.iter().all(|(_, effect)| finite(effect))
            && self.recent.iter().all(|(_, level, p)| level.is_finite() && *p > 0.0)
            && self.recent.is_sorted_by(|a, b| a.0 < b.0)
    }

    /// Whether every table has the slots that `step` asks for.
    pub fn fits_step(&self, step: Step) -> bool {
        self.tables.iter().all(|(season, effect)| effect.len() == season.slots(step))
    }

    fn fits_noise(&self) -> bool {
        matches!(
            (self.form, self.noise),
            (Form::Count | Form::Amount, Noise::Counts { .. })
                | (Form::Share, Noise::Shares { .. })
                | (Form::Quotient, Noise::Quotients { .. })
                | (Form::Plain, Noise::Plain { .. })
        )
    }
}
