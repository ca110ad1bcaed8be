//! What is learnt about one column of one series.

use serde::{Deserialize, Serialize};

use crate::math::robust;

/// Quantiles that a percentile is read off.
const GRID: usize = 101;

/// Centre and spread: median and median absolute deviation, or the standard deviation where more
/// than half of the values are the same.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    centre: f64,
    spread: f64,
}

impl Scale {
    pub const UNIT: Self = Self { centre: 0.0, spread: 1.0 };

    /// Of finite values, in any order; [`Self::UNIT`] without any.
    pub fn of(mut values: Vec<f64>) -> Self {
        let Some(centre) = robust::median(&mut values) else { return Self::UNIT };
        values.iter_mut().for_each(|x| *x = (*x - centre).abs());
        let square = values.iter().map(|x| x * x).sum::<f64>() / values.len() as f64;
        let sd = square.sqrt();
        let mad = robust::MAD_TO_SD * robust::median(&mut values).unwrap_or(0.0);
        let spread = if mad > 1e-6 * sd { mad } else { sd };
        Self { centre, spread: if spread > 1e-12 { spread } else { 1.0 } }
    }

    /// NaN for NaN.
    pub fn apply(&self, value: f64) -> f64 {
        (value - self.centre) / self.spread
    }

    pub fn is_sound(&self) -> bool {
        self.centre.is_finite() && self.spread.is_finite() && self.spread > 0.0
    }
}

/// Rising quantiles of the learnt values, at equal shares; empty without any.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Percentiles(Vec<f64>);

impl Percentiles {
    /// Of finite values, in any order.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let Some(last) = values.len().checked_sub(1) else { return Self(Vec::new()) };
        Self((0..GRID).map(|i| values[(i * last + (GRID - 1) / 2) / (GRID - 1)]).collect())
    }

    /// Share of the learnt values below this one, those alike by half; NaN for NaN or without any.
    pub fn rank(&self, value: f64) -> f64 {
        if value.is_nan() || self.0.is_empty() {
            return f64::NAN;
        }
        let below = self.0.partition_point(|x| *x < value);
        let not_above = self.0.partition_point(|x| *x <= value);
        0.5 * (below + not_above) as f64 / self.0.len() as f64
    }

    pub fn is_sound(&self) -> bool {
        (self.0.is_empty() || self.0.len() == GRID)
            && self.0.iter().all(|x| x.is_finite())
            && self.0.is_sorted()
    }
}
