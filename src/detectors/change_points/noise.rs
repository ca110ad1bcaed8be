//! How much a series moves about a level that may change.

use serde::{Deserialize, Serialize};

use crate::math::robust;

/// Neighbours that agree more than this are a level that wanders: no penalty would be enough.
const MAX_AUTOCORRELATION: f64 = 0.8;

/// A normal variable's absolute value is below the second in this share of cases. Heavier tails count.
const TAIL_SHARE: f64 = 0.95;
const TAIL_QUANTILE: f64 = 1.959_964;

/// Noise of one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Noise {
    /// Standard deviation, positive.
    pub sd: f64,
    /// Of neighbours, 0 to 0.8.
    pub autocorrelation: f64,
}

impl Noise {
    /// From the differences of values one and two apart, which changes of level now and then hardly touch:
    /// their variances are `2 sd^2 (1 - a)` and `2 sd^2 (1 - a^2)` where the noise is a first-order
    /// autoregression (as Chakar, Lebarbier, Levy-Leduc and Robin, 2017, Bernoulli 23, with medians;
    /// variances with cut tails do not vanish for sparse counts). `None` for fewer than four values.
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.len() < 4 {
            return None;
        }
        let mut scratch = Vec::new();
        let mut variance = |apart: usize| {
            let pairs = values.iter().zip(&values[apart..]);
            let mut differences: Vec<f64> = pairs.map(|(a, b)| b - a).collect();
            let variance = robust::winsorised_variance(&differences, &mut scratch)?;
            differences.iter_mut().for_each(|d| *d = d.abs());
            let wide = robust::quantile(&mut differences, TAIL_SHARE)? / TAIL_QUANTILE;
            Some(variance.max(wide * wide))
        };
        let (near, far) = (variance(1)?, variance(2)?);
        let autocorrelation =
            if near > 0.0 { (far / near - 1.0).clamp(0.0, MAX_AUTOCORRELATION) } else { 0.0 };
        let largest = values.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
        let sd = (near / (2.0 * (1.0 - autocorrelation))).sqrt();
        Some(Self { sd: sd.max(1e-6 * largest).max(1e-12), autocorrelation })
    }

    /// Variance of a long mean, in units of what independent values would have.
    pub fn inflation(&self) -> f64 {
        (1.0 + self.autocorrelation) / (1.0 - self.autocorrelation)
    }

    pub fn is_sound(&self) -> bool {
        self.sd > 0.0
            && self.sd.is_finite()
            && (0.0..=MAX_AUTOCORRELATION).contains(&self.autocorrelation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::random::stream;
    use rand_distr::{Distribution, StandardNormal};

    fn series(autocorrelation: f64, shifts: f64) -> Vec<f64> {
        let mut rng = stream(1, "noise", 0);
        let mut state = 0.0;
        let fresh = (1.0 - autocorrelation * autocorrelation).sqrt();
        (0..4_000)
            .map(|i| {
                let z: f64 = StandardNormal.sample(&mut rng);
                state = autocorrelation * state + fresh * z;
                2.0 * state + if i / 400 % 2 == 1 { shifts } else { 0.0 }
            })
            .collect()
    }

    #[test]
    fn shifts_widen_nothing() {
        for autocorrelation in [0.0, 0.3, 0.6] {
            for shifts in [0.0, 20.0] {
                let found = Noise::of(&series(autocorrelation, shifts)).unwrap();
                assert!((found.sd - 2.0).abs() < 0.2, "{found:?}");
                assert!((found.autocorrelation - autocorrelation).abs() < 0.08, "{found:?}");
            }
        }
    }

    #[test]
    fn constant_and_short_series_stay_sound() {
        assert_eq!(Noise::of(&[1.0, 2.0, 3.0]), None);
        assert!(Noise::of(&[5.0; 40]).unwrap().is_sound());
        assert!(Noise::of(&[0.0; 40]).unwrap().is_sound());
        let one_event: Vec<f64> = (0..40).map(|i| f64::from(u8::from(i == 20))).collect();
        assert!(Noise::of(&one_event).unwrap().is_sound());
    }
}
