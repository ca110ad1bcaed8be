//! The value axis: its range, its ticks, and the mapping to pixels.

/// How values become heights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    Linear,
    Log,
}

/// A value axis over `low..=high` with `high > low`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis {
    pub low: f64,
    pub high: f64,
    pub scale: Scale,
}

/// The smallest and largest finite value.
pub fn extent<'a>(values: impl IntoIterator<Item = &'a f64>) -> Option<(f64, f64)> {
    values.into_iter().filter(|v| v.is_finite()).fold(None, |range, &v| match range {
        None => Some((v, v)),
        Some((low, high)) => Some((low.min(v), high.max(v))),
    })
}

impl Axis {
    /// A linear axis with some air. Data that do not go below zero get none below zero, and a
    /// foot at zero where that costs less than half of the height.
    pub fn linear(range: Option<(f64, f64)>) -> Self {
        let Some((low, high)) = range else { return Self::new(0.0, 1.0, Scale::Linear) };
        // Halved, because the difference of two finite numbers may be infinite.
        let half_span = high / 2.0 - low / 2.0;
        if half_span <= high.abs().max(low.abs()) * 1e-12 {
            // A constant series: its line in the middle, or on the ground if it is zero.
            let reach = if high == 0.0 { 1.0 } else { high.abs() };
            let low = if high >= 0.0 { 0.0 } else { high - reach };
            return Self::new(low, if high < 0.0 { 0.0 } else { high + reach }, Scale::Linear);
        }
        let air = half_span * 0.14;
        let foot = if low >= 0.0 && low < high * 0.5 {
            0.0
        } else if low >= 0.0 {
            (low - air).max(0.0)
        } else {
            low - air
        };
        Self::new(foot, high + air, Scale::Linear)
    }

    /// A logarithmic axis over the positive part of a range.
    pub fn log(low: f64, high: f64) -> Self {
        // Far enough from the ends of `f64` that air and ticks stay finite.
        let (low, high) = (low.clamp(1e-250, 1e250), high.clamp(1e-250, 1e250));
        let air = ((high.log10() - low.log10()) * 0.06).max(0.1);
        Self::new(low / 10_f64.powf(air), high * 10_f64.powf(air), Scale::Log)
    }

    fn new(low: f64, high: f64, scale: Scale) -> Self {
        Self { low: low.max(f64::MIN / 4.0), high: high.min(f64::MAX / 4.0), scale }
    }

    /// 0 at the foot, 1 at the top; values outside are moved to the edge.
    pub fn share(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log if value <= 0.0 => 0.0,
            Scale::Log => {
                let foot = self.low.log10();
                (value.log10() - foot) / (self.high.log10() - foot)
            }
        };
        share.clamp(0.0, 1.0)
    }

    /// Round values inside the axis, about `wanted` of them.
    pub fn ticks(&self, wanted: usize) -> Vec<f64> {
        match self.scale {
            Scale::Linear => self.linear_ticks(wanted),
            Scale::Log => self.log_ticks(wanted),
        }
    }

    fn linear_ticks(&self, wanted: usize) -> Vec<f64> {
        let rough = (self.high - self.low) / wanted.max(1) as f64;
        let power = 10_f64.powf(rough.log10().floor());
        let n_ticks = |step: f64| (self.high / step).floor() - (self.low / step).ceil() + 1.0;
        let off = |step: &f64| (n_ticks(*step) - wanted as f64).abs();
        // From coarse to fine: of two equally good steps the coarser wins.
        let step = [10.0, 5.0, 2.5, 2.0, 1.0, 0.5]
            .into_iter()
            .map(|factor| factor * power)
            .min_by(|a, b| off(a).total_cmp(&off(b)))
            .unwrap_or(rough);
        let first = (self.low / step).ceil();
        let mut ticks: Vec<f64> = (0..50)
            .map(|i| (first + f64::from(i)) * step)
            .take_while(|tick| *tick <= self.high)
            .collect();
        ticks.dedup();
        ticks
    }

    fn log_ticks(&self, wanted: usize) -> Vec<f64> {
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let inside = |factors: &[f64], stride: usize| -> Vec<f64> {
            (first..=last)
                .step_by(stride)
                .flat_map(|power| factors.iter().map(move |f| f * 10_f64.powi(power)))
                .filter(|tick| *tick >= self.low && *tick <= self.high)
                .collect()
        };
        let dense = [
            inside(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], 1),
            inside(&[1.0, 2.0, 5.0], 1),
            inside(&[1.0, 3.0], 1),
            inside(&[1.0], 1),
        ];
        let limit = wanted + 2;
        match dense.into_iter().find(|ticks| ticks.len() <= limit) {
            Some(ticks) if ticks.len() >= 2 => ticks,
            Some(_) => vec![self.low * 1.000_001, self.high * 0.999_999],
            None => inside(&[1.0], ((last - first) as usize).div_ceil(wanted.max(1)).max(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let axis = Axis::linear(Some((3.0, 97.0)));
        assert_eq!(axis.low, 0.0);
        assert_eq!(axis.ticks(5), [0.0, 25.0, 50.0, 75.0, 100.0]);
        assert_eq!(Axis::linear(Some((0.0, 5.3))).ticks(3), [0.0, 2.5, 5.0]);
        let axis = Axis::linear(Some((-1e12, 1e12)));
        assert!(axis.ticks(5).contains(&0.0));
        assert!(axis.ticks(5).iter().all(|t| *t >= axis.low && *t <= axis.high));
    }

    #[test]
    fn every_range_gives_a_usable_axis() {
        let ranges = [
            None,
            Some((0.0, 0.0)),
            Some((5.0, 5.0)),
            Some((-5.0, -5.0)),
            Some((f64::MIN, f64::MAX)),
            Some((1e300, 1e300)),
            Some((1.0, 1.0 + 1e-15)),
            Some((0.0, 1e-300)),
        ];
        for range in ranges {
            let axis = Axis::linear(range);
            assert!(axis.high > axis.low && (axis.high - axis.low).is_finite(), "{range:?}");
            let ticks = axis.ticks(5);
            assert!(ticks.len() <= 50 && !ticks.is_empty(), "{range:?} {ticks:?}");
            assert!(axis.share(axis.low) == 0.0 && axis.share(axis.high) == 1.0, "{range:?}");
        }
    }

    #[test]
    fn a_logarithmic_axis_ticks_at_powers_of_ten() {
        let axis = Axis::log(0.002, 40.0);
        let ticks = axis.ticks(5);
        assert!(ticks.iter().any(|t| (t - 1.0).abs() < 1e-9), "{ticks:?}");
        assert!(ticks.len() >= 2 && ticks.len() <= 7, "{ticks:?}");
        assert_eq!(axis.share(-1.0), 0.0);
        assert!(Axis::log(1.0, 1.2).ticks(5).len() >= 2);
        assert!(Axis::log(1e-200, 1e200).ticks(5).len() <= 12);
    }
}
