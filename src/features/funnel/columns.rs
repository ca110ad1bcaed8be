//! Which columns there are, and their values before they are scaled.

use ndarray::ArrayView1;

use super::{FeatureGroup, FunnelParams, day_of};
use crate::panel::{MetricKind, Panel, Step};

const HOUR_SECS: i64 = 3_600;
/// Hours of the lags.
const LAGS: [i64; 3] = [1, 24, 168];
/// Days of the rolling windows.
const SHORT_DAYS: i64 = 7;
const LONG_DAYS: i64 = 30;
/// Fewer steps than this in a window have no spread.
const MIN_STEPS: usize = 4;

/// One column; numbers are places of metrics, and steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Hour,
    Weekday,
    Weekend,
    Holiday,
    /// A later stage per an earlier one.
    Ratio(usize, usize),
    /// Metric, days, steps.
    Rolling(usize, i64, usize),
    /// Metric, steps of the short and of the long window.
    RollingSpread(usize, usize, usize),
    /// Metric, hours, steps.
    Lag(usize, i64, usize),
    Z(usize),
    Percentile(usize),
    Product(usize, usize),
}

/// The columns of a panel with these metrics, in a fixed order.
pub fn columns_of(params: &FunnelParams, metrics: &[String], step: Step) -> Vec<Column> {
    let all = 0..metrics.len();
    let steps = |secs: i64| {
        let whole = secs >= step.secs() && secs % step.secs() == 0;
        usize::try_from(secs / step.secs()).ok().filter(|_| whole)
    };
    let window = |days: i64| steps(days * 24 * HOUR_SECS).filter(|n| *n >= MIN_STEPS);
    let mut columns = Vec::new();
    for group in &params.groups {
        match group {
            FeatureGroup::Time => {
                columns.extend([Column::Hour, Column::Weekday, Column::Weekend, Column::Holiday]);
            }
            FeatureGroup::Ratios => {
                let find = |stage| metrics.iter().position(|metric| metric == stage);
                let stages: Vec<usize> = params.stages.iter().filter_map(find).collect();
                for (number, &later) in stages.iter().enumerate() {
                    columns.extend(stages[..number].iter().map(|&e| Column::Ratio(later, e)));
                }
            }
            FeatureGroup::Rolling => {
                for metric in all.clone() {
                    let (short, long) = (window(SHORT_DAYS), window(LONG_DAYS));
                    columns.extend(short.map(|n| Column::Rolling(metric, SHORT_DAYS, n)));
                    columns.extend(long.map(|n| Column::Rolling(metric, LONG_DAYS, n)));
                    let both = short.zip(long);
                    columns.extend(both.map(|(s, l)| Column::RollingSpread(metric, s, l)));
                }
            }
            FeatureGroup::Lags => {
                let lags = LAGS.map(|hours| (hours, steps(hours * HOUR_SECS)));
                for metric in all.clone() {
                    let lag =
                        |(hours, n): (i64, Option<usize>)| Some(Column::Lag(metric, hours, n?));
                    columns.extend(lags.into_iter().filter_map(lag));
                }
            }
            FeatureGroup::Scores => {
                columns.extend(all.clone().flat_map(|m| [Column::Z(m), Column::Percentile(m)]));
            }
            FeatureGroup::Interactions => {
                columns
                    .extend(all.clone().flat_map(|b| (0..b).map(move |a| Column::Product(a, b))));
            }
        }
    }
    columns
}

impl Column {
    /// The metric that the column is about: of a ratio or a product the later one.
    pub fn metric(&self) -> Option<usize> {
        match *self {
            Self::Hour | Self::Weekday | Self::Weekend | Self::Holiday => None,
            Self::Ratio(metric, _)
            | Self::Rolling(metric, ..)
            | Self::RollingSpread(metric, ..)
            | Self::Lag(metric, ..)
            | Self::Z(metric)
            | Self::Percentile(metric)
            | Self::Product(_, metric) => Some(metric),
        }
    }

    /// True where a centre and a spread are learnt.
    pub fn is_scaled(&self) -> bool {
        let clock = matches!(self, Self::Hour | Self::Weekday | Self::Weekend | Self::Holiday);
        !clock && !matches!(self, Self::Percentile(_) | Self::Product(..))
    }

    /// As in the module's table.
    pub fn name(&self, metrics: &[String]) -> String {
        match *self {
            Self::Hour => "hour".into(),
            Self::Weekday => "weekday".into(),
            Self::Weekend => "weekend".into(),
            Self::Holiday => "holiday".into(),
            Self::Ratio(later, earlier) => format!("{}_per_{}", metrics[later], metrics[earlier]),
            Self::Rolling(metric, days, _) => format!("{}_vs_{days}d", metrics[metric]),
            Self::RollingSpread(metric, ..) => {
                format!("{}_sd_{SHORT_DAYS}d_per_{LONG_DAYS}d", metrics[metric])
            }
            Self::Lag(metric, hours, _) => format!("{}_less_{hours}h", metrics[metric]),
            Self::Z(metric) => format!("{}_z", metrics[metric]),
            Self::Percentile(metric) => format!("{}_percentile", metrics[metric]),
            Self::Product(a, b) => format!("{}_x_{}", metrics[a], metrics[b]),
        }
    }
}

/// One series, ready to make columns of.
pub struct History<'a> {
    panel: &'a Panel,
    /// `[metric][time]` as given.
    plain: Vec<Vec<f64>>,
    /// `[metric][time]` on the columns' scale.
    values: Vec<Vec<f64>>,
    /// Cells that may be the past of others.
    past: ArrayView1<'a, bool>,
}

impl<'a> History<'a> {
    /// `places`: for each metric of the columns its place in the panel. A metric that the panel has not
    /// is missing throughout.
    pub fn new(
        panel: &'a Panel,
        series: usize,
        past: ArrayView1<'a, bool>,
        places: &[Option<usize>],
    ) -> Self {
        let missing = || vec![f64::NAN; panel.n_times()];
        let plain: Vec<Vec<f64>> = places
            .iter()
            .map(|place| place.map_or_else(missing, |m| panel.metric(series, m).to_vec()))
            .collect();
        let scaled = |(column, place): (&Vec<f64>, &Option<usize>)| {
            let kind = place.map(|place| &panel.metrics()[place].kind);
            let roots = matches!(kind, Some(MetricKind::Count | MetricKind::Amount));
            let value = |v: &f64| if roots { v.abs().sqrt().copysign(*v) } else { *v };
            column.iter().map(value).collect()
        };
        let values = plain.iter().zip(places).map(scaled).collect();
        Self { panel, plain, values, past }
    }

    /// A metric on the columns' scale, `[time]`.
    pub fn values(&self, metric: usize) -> &[f64] {
        &self.values[metric]
    }

    /// A column before it is scaled; percentiles and products are made from [`Self::values`].
    pub fn raw(&self, column: &Column) -> Vec<f64> {
        let calendar = self.panel.calendar();
        let local = |t: usize| calendar.local(t as i64);
        let times = 0..self.panel.n_times();
        match *column {
            Column::Hour => times.map(|t| local(t).second_of_day as f64 / 86_400.0).collect(),
            Column::Weekday => times.map(|t| local(t).weekday as f64 / 7.0).collect(),
            Column::Weekend => times.map(|t| f64::from(u8::from(local(t).weekday >= 5))).collect(),
            Column::Ratio(later, earlier) => {
                let (later, earlier) = (&self.plain[later], &self.plain[earlier]);
                later.iter().zip(earlier).map(|(a, b)| log_odds(*a, *b)).collect()
            }
            Column::Rolling(metric, _, steps) => {
                let moments = self.rolling(metric, steps);
                let values = self.values[metric].iter().zip(moments);
                values.map(|(x, (mean, sd))| (x - mean) / sd).collect()
            }
            Column::RollingSpread(metric, short, long) => {
                let (short, long) = (self.rolling(metric, short), self.rolling(metric, long));
                short.iter().zip(long).map(|(short, long)| (short.1 / long.1).ln()).collect()
            }
            Column::Lag(metric, _, steps) => {
                let values = &self.values[metric];
                let then = |t: usize| t.checked_sub(steps).filter(|&then| self.past[then]);
                times.map(|t| then(t).map_or(f64::NAN, |then| values[t] - values[then])).collect()
            }
            Column::Z(metric) | Column::Percentile(metric) | Column::Product(_, metric) => {
                self.values[metric].clone()
            }
            Column::Holiday => vec![0.0; times.len()],
        }
    }

    /// 1 on the given dates.
    pub fn holiday(&self, dates: &[String]) -> Vec<f64> {
        let days: Vec<i64> = dates.iter().filter_map(|date| day_of(date)).collect();
        let calendar = self.panel.calendar();
        let is = |t: usize| days.contains(&calendar.local(t as i64).day);
        (0..self.panel.n_times()).map(|t| f64::from(u8::from(is(t)))).collect()
    }

    /// Mean and standard deviation of the `steps` steps before each step; NaN where fewer than a
    /// quarter of them are there, or they do not vary.
    fn rolling(&self, metric: usize, steps: usize) -> Vec<(f64, f64)> {
        let values = &self.values[metric];
        let usable = |t: usize| self.past[t] && values[t].is_finite();
        // Less the first value, so that squares of large levels keep their digits.
        let origin = (0..values.len()).find(|&t| usable(t)).map_or(0.0, |t| values[t]);
        let (mut n, mut sum, mut squares) = (0_usize, 0.0, 0.0);
        let mut out = Vec::with_capacity(values.len());
        for t in 0..values.len() {
            let enough = n >= MIN_STEPS.max(steps / 4);
            let mean = sum / n as f64;
            let variance = (squares / n as f64 - mean * mean) * n as f64 / (n as f64 - 1.0);
            let varies = enough && variance > 1e-9 * (1.0 + mean * mean);
            let sd = if varies { variance.sqrt() } else { f64::NAN };
            out.push((origin + mean, sd));
            if usable(t) {
                let x = values[t] - origin;
                (n, sum, squares) = (n + 1, sum + x, squares + x * x);
            }
            if let Some(old) = t.checked_sub(steps).filter(|&old| usable(old)) {
                let x = values[old] - origin;
                (n, sum, squares) = (n - 1, sum - x, squares - x * x);
            }
        }
        out
    }
}

/// Log-odds of `part` out of `whole` with half a case added to both sides; NaN where there is no case.
/// Parts larger than the whole, which events of different hours can give, count as the whole.
fn log_odds(part: f64, whole: f64) -> f64 {
    if whole.is_nan() || part.is_nan() || whole <= 0.0 {
        return f64::NAN;
    }
    let part = part.clamp(0.0, whole);
    ((part + 0.5) / (whole - part + 0.5)).ln()
}
