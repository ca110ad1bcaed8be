//! From the odds of an event to a p-value: by simulation from the fitted models.
//!
//! The odds depend on everything that made them: means, dispersions, pooling, masking, the length of
//! the history. So series without any event are drawn from the fitted models (coefficients from
//! their normal approximation, so that what the fits may be off by is there too) and put through the
//! very same steps. The share of their cells with odds at least so high is the p-value. Beyond
//! what the simulation has seen it falls off exponentially, never faster than the odds themselves:
//! odds are likelihood ratios, so `P(odds >= c)` can be bounded by `1 / c` (Ville 1939).

use rand::Rng;
use rand_distr::{Distribution, Gamma, Poisson, StandardNormal};
use serde::{Deserialize, Serialize};

/// Shares of the simulated cells at which the curve is kept; the last one begins the tail.
const KNOTS: [f64; 10] = [0.9, 0.7, 0.5, 0.3, 0.2, 0.12, 0.07, 0.04, 0.025, 0.015];

/// Cells that a simulation needs before its tail is believed.
const MIN_CELLS: usize = 2_000;

/// The p-value of log odds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Calibration {
    /// (log odds, log p-value), rising in the odds and falling in p.
    knots: Vec<(f64, f64)>,
    /// How fast the log p-value falls per unit of log odds beyond the last knot.
    tail_rate: f64,
}

impl Calibration {
    /// From the log odds of simulated cells without events; `None` if they are too few.
    pub fn new(mut null: Vec<f64>) -> Option<Self> {
        null.retain(|value| value.is_finite());
        if null.len() < MIN_CELLS {
            return None;
        }
        null.sort_by(|a, b| b.total_cmp(a));
        let n = null.len() as f64;
        let at = |share: f64| null[((share * n) as usize).min(null.len() - 1)];
        let mut knots: Vec<(f64, f64)> = Vec::with_capacity(KNOTS.len());
        for share in KNOTS {
            let value = at(share);
            if knots.last().is_none_or(|last| value > last.0) {
                knots.push((value, share.ln()));
            }
        }
        let &(start, _) = knots.last()?;
        let beyond: Vec<f64> = null.iter().map(|v| v - start).take_while(|v| *v > 0.0).collect();
        let mean = beyond.iter().sum::<f64>() / (beyond.len() as f64).max(1.0);
        let tail_rate = if mean > 1.0 { 1.0 / mean } else { 1.0 };
        Some(Self { knots, tail_rate })
    }

    /// The log p-value of log odds.
    pub fn ln_p(&self, ln_odds: f64) -> f64 {
        let after = self.knots.partition_point(|knot| knot.0 <= ln_odds);
        let Some(last) = after.checked_sub(1) else { return 0.0 };
        let (x, y) = self.knots[last];
        match self.knots.get(after) {
            Some(&(next_x, next_y)) => y + (next_y - y) * (ln_odds - x) / (next_x - x),
            None => y - self.tail_rate * (ln_odds - x),
        }
    }

    /// True for what [`Calibration::new`] can have made.
    pub fn is_sound(&self) -> bool {
        let finite = |knot: &(f64, f64)| knot.0.is_finite() && knot.1.is_finite() && knot.1 <= 0.0;
        !self.knots.is_empty()
            && self.knots.iter().all(finite)
            && self.knots.is_sorted_by(|a, b| a.0 < b.0 && a.1 >= b.1)
            && self.tail_rate > 0.0
            && self.tail_rate <= 1.0
    }
}

/// A draw of mean `mean` and variance `mean + dispersion mean^2` (Greenwood and Yule 1920).
pub(super) fn draw(rng: &mut impl Rng, mean: f64, dispersion: f64) -> f64 {
    let rate = if mean > 0.0 && dispersion > 0.0 {
        Gamma::new(1.0 / dispersion, mean * dispersion).map_or(mean, |gamma| gamma.sample(rng))
    } else {
        mean
    };
    // An error means a rate of 0 or below: no event. Counts beyond 2^53 are no whole numbers.
    Poisson::new(rate).map_or(0.0, |poisson| poisson.sample(rng))
}

/// A standard normal draw.
pub(super) fn standard_normal(rng: &mut impl Rng) -> f64 {
    StandardNormal.sample(rng)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::random::stream;

    /// Log odds whose p-value is `exp(-x / 2)`.
    fn exponential(n: u64) -> Vec<f64> {
        let mut rng = stream(3, "calibration", 0);
        (0..n).map(|_| -2.0 * (1.0 - rand::RngExt::random::<f64>(&mut rng)).ln()).collect()
    }

    #[test]
    fn the_curve_is_the_share_of_cells_beyond_and_goes_on_where_they_end() {
        let curve = Calibration::new(exponential(40_000)).unwrap();
        for (x, tolerance) in [(1.0, 0.03), (4.0, 0.1), (8.0, 0.2), (40.0, 2.0)] {
            let found = curve.ln_p(x);
            assert!((found + x / 2.0).abs() < tolerance, "{x}: {found}");
        }
        assert_eq!(curve.ln_p(f64::NEG_INFINITY), 0.0);
        let mut last = 0.0;
        for i in 0..1_000 {
            let p = curve.ln_p(f64::from(i) * 0.05);
            assert!(p <= last);
            last = p;
        }
        assert!(curve.is_sound());
    }

    #[test]
    fn a_tail_is_never_lighter_than_odds_can_have() {
        let light = exponential(40_000).into_iter().map(|x| x / 20.0).collect();
        let curve = Calibration::new(light).unwrap();
        assert!((curve.ln_p(101.0) - curve.ln_p(100.0) + 1.0).abs() < 1e-9);
    }

    #[test]
    fn too_few_cells_make_no_curve_and_ties_make_a_sound_one() {
        assert_eq!(Calibration::new(exponential(1_999)), None);
        let curve = Calibration::new(vec![-3.0; 5_000]).unwrap();
        assert!(curve.is_sound());
        assert!(curve.ln_p(-2.0) < curve.ln_p(-3.0));
    }
}
