//! From a value and what was expected to a residual with unit spread, and back.
//!
//! Counts get signed deviance residuals of a negative binomial, conversions those of an
//! overdispersed binomial. Both are close to normal far into the tails (five purchases where 0.3 are
//! expected give z = 4.3, as the exact tail probability asks for), where a z on the square-root
//! scale gives 3.1 for the same five.

use serde::{Deserialize, Serialize};

use crate::math::robust::winsorised_variance;

/// Residuals stay finite however wild the input.
pub(super) const MAX_Z: f64 = 1e6;
/// Least probability that a share is expected to have.
pub(super) const MIN_SHARE: f64 = 1e-6;
/// Fewer points than this do not make a bin of their own when a variance is fitted to the level.
const BIN: usize = 40;

/// The spread of one metric of one series around what is expected.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Noise {
    /// variance = unit × mean + alpha × mean²
    Counts { unit: f64, alpha: f64 },
    /// variance = p (1 - p) (phi / denominator + rho)
    Shares { phi: f64, rho: f64 },
    /// variance = per_item / denominator + floor
    Quotients { per_item: f64, floor: f64 },
    /// One variance.
    Plain { variance: f64 },
}

/// Weighted sums over the cells of a window.
///
/// With the weight `mean / variance` of a cell, a window's weighted sum of counts has the variance
/// of its own mean (as a Poisson count), and a window's weighted share that of a binomial one: so
/// twelve quiet hours without a sale are tested as one count of the twelve, where adding up twelve
/// residuals of tiny counts would only add up their skewness. The same weights are the score test's
/// against a common factor on all cells.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pool {
    pub observed: f64,
    pub expected: f64,
    pub weight: f64,
}

impl Pool {
    /// The sums with `sign` times another cell.
    pub fn add(self, cell: Self, sign: f64) -> Self {
        Self {
            observed: self.observed + sign * cell.observed,
            expected: self.expected + sign * cell.expected,
            weight: self.weight + sign * cell.weight,
        }
    }
}

impl Noise {
    /// The standardised residual of `value`. `size` is the denominator of a ratio, else ignored.
    pub fn z(self, value: f64, mean: f64, size: f64) -> f64 {
        let z = match self {
            Self::Counts { unit, alpha } => count_z(value.max(0.0) / unit, mean / unit, alpha),
            Self::Shares { .. } => share_z(value, mean) * self.share_size(size).sqrt(),
            Self::Quotients { .. } | Self::Plain { .. } => {
                (value - mean) / self.variance(mean, size).sqrt()
            }
        };
        if z.is_nan() { z } else { z.clamp(-MAX_Z, MAX_Z) }
    }

    /// The value whose residual is `z`, as far as the metric's range has one.
    pub fn value_at(self, z: f64, mean: f64, size: f64) -> f64 {
        match self {
            Self::Counts { unit, alpha } => unit * count_at(z, mean / unit, alpha),
            Self::Shares { .. } => share_at(z / self.share_size(size).sqrt(), mean),
            Self::Quotients { .. } | Self::Plain { .. } => {
                mean + z * self.variance(mean, size).sqrt()
            }
        }
    }

    /// What one cell adds to a window: see [`Pool`].
    pub fn pool(self, value: f64, mean: f64, size: f64) -> Pool {
        match self {
            Self::Counts { unit, alpha } => {
                let weight = 1.0 / (unit + alpha * mean);
                Pool { observed: weight * value.max(0.0), expected: weight * mean, weight: 1.0 }
            }
            Self::Shares { phi, rho } => {
                let weight = size / (phi + rho * size);
                let observed = weight * value.clamp(0.0, 1.0);
                Pool { observed, expected: weight * mean, weight }
            }
            Self::Quotients { .. } | Self::Plain { .. } => {
                let weight = 1.0 / self.variance(mean, size);
                Pool { observed: weight * value, expected: weight * mean, weight }
            }
        }
    }

    /// The residual of a window.
    pub fn pooled_z(self, pool: Pool) -> f64 {
        let Pool { observed, expected, weight } = pool;
        let z = match self {
            Self::Counts { .. } => count_z(observed.max(0.0), expected, 0.0),
            Self::Shares { .. } => {
                let share = (expected / weight).clamp(MIN_SHARE, 1.0 - MIN_SHARE);
                share_z(observed / weight, share) * weight.sqrt()
            }
            Self::Quotients { .. } | Self::Plain { .. } => (observed - expected) / weight.sqrt(),
        };
        if z.is_nan() { z } else { z.clamp(-MAX_Z, MAX_Z) }
    }

    /// Variance in the metric's unit.
    pub fn variance(self, mean: f64, size: f64) -> f64 {
        match self {
            Self::Counts { unit, alpha } => mean * (unit + alpha * mean),
            Self::Shares { .. } => mean * (1.0 - mean) / self.share_size(size),
            Self::Quotients { per_item, floor } => per_item / size + floor,
            Self::Plain { variance } => variance,
        }
    }

    /// How many independent trials a denominator is worth.
    fn share_size(self, size: f64) -> f64 {
        match self {
            Self::Shares { phi, rho } => 1.0 / (phi / size + rho),
            _ => 1.0,
        }
    }

    /// Whether every number is in its range: a checkpoint may come from anywhere.
    pub fn is_sound(self) -> bool {
        let fits = |v: f64, positive: bool| v.is_finite() && v >= 0.0 && (v > 0.0 || !positive);
        match self {
            Self::Counts { unit, alpha } => fits(unit, true) && fits(alpha, false),
            Self::Shares { phi, rho } => fits(phi, true) && fits(rho, false),
            Self::Quotients { per_item, floor } => fits(per_item, false) && fits(floor, true),
            Self::Plain { variance } => fits(variance, true),
        }
    }
}

/// `x ln(x / y)`, 0 at `x = 0`.
fn x_ln_ratio(x: f64, y: f64) -> f64 {
    if x > 0.0 { x * (x / y).ln() } else { 0.0 }
}

/// Signed deviance residual of a negative binomial (of a Poisson for `alpha` = 0).
fn count_z(x: f64, mean: f64, alpha: f64) -> f64 {
    let difference = x - mean;
    // Near the mean the deviance is a difference of large numbers; its own limit is exact there.
    if difference.abs() < 1e-4 * mean {
        return difference / (mean * (1.0 + alpha * mean)).sqrt();
    }
    let half = if alpha * mean.max(x) < 1e-6 {
        x_ln_ratio(x, mean) - difference
    } else {
        let shift = alpha * difference / (1.0 + alpha * mean);
        x_ln_ratio(x, mean) - (x + 1.0 / alpha) * shift.ln_1p()
    };
    (2.0 * half).max(0.0).sqrt().copysign(difference)
}

/// Inverse of [`count_z`] in `x`, not below 0: Newton from a square-root guess.
fn count_at(z: f64, mean: f64, alpha: f64) -> f64 {
    if z <= count_z(0.0, mean, alpha) {
        return 0.0;
    }
    let spread = (mean * (1.0 + alpha * mean)).sqrt();
    let guess = mean.sqrt() + 0.5 * z * (1.0 + alpha * mean).sqrt();
    let mut x = if guess > 0.0 { guess * guess } else { 0.01 * mean };
    for _ in 0..20 {
        let at = count_z(x, mean, alpha);
        let slope = if (x - mean).abs() < 1e-4 * mean {
            1.0 / spread
        } else {
            ((x / mean).ln() - (alpha * (x - mean) / (1.0 + alpha * mean)).ln_1p()) / at
        };
        let next = (x + (z - at) / slope).clamp(0.1 * x, 10.0 * x + 1.0);
        let done = (next - x).abs() <= 1e-8 * next;
        x = next;
        if done {
            break;
        }
    }
    x
}

/// Signed root of twice the Kullback-Leibler divergence of a share from the expected one.
fn share_z(share: f64, expected: f64) -> f64 {
    let share = share.clamp(0.0, 1.0);
    let half = x_ln_ratio(share, expected) + x_ln_ratio(1.0 - share, 1.0 - expected);
    (2.0 * half).max(0.0).sqrt().copysign(share - expected)
}

/// Inverse of [`share_z`]: Newton inside a shrinking bracket, since the share has two hard ends.
fn share_at(z: f64, expected: f64) -> f64 {
    let (mut low, mut high) = if z < 0.0 { (0.0, expected) } else { (expected, 1.0) };
    if share_z(low, expected) >= z {
        return low;
    }
    if share_z(high, expected) <= z {
        return high;
    }
    let mut share = expected + z * (expected * (1.0 - expected)).sqrt();
    for _ in 0..60 {
        if !(low < share && share < high) {
            share = 0.5 * (low + high);
        }
        let at = share_z(share, expected);
        if at < z {
            low = share
        } else {
            high = share
        }
        let slope = ((share / expected).ln() - ((1.0 - share) / (1.0 - expected)).ln()) / at;
        let next = share + (z - at) / slope;
        let done = (next - share).abs() <= 1e-9 * share.min(1.0 - share);
        share = next;
        if done || high - low <= f64::EPSILON * high {
            break;
        }
    }
    share.clamp(low, high)
}

/// Fits `variance = a + b × q` to residuals, robustly: winsorised variances of bins over `q`, then
/// least squares on relative errors, with `a >= least` and `b >= 0`. `inflation` makes up for the
/// parameters that the residuals have already paid for.
pub(super) fn variance_line(residual: &[f64], q: &[f64], inflation: f64, least: f64) -> (f64, f64) {
    let mut order: Vec<u32> = (0..residual.len() as u32).collect();
    order.sort_unstable_by(|&i, &j| q[i as usize].total_cmp(&q[j as usize]));
    let bins = (residual.len() / BIN).clamp(1, 12);
    let size = residual.len().div_ceil(bins).max(1);
    let (mut scratch, mut group) = (Vec::new(), Vec::new());
    // Sums of 1/v², q/v², q²/v², 1/v and q/v over bins.
    let (mut s0, mut s1, mut s2, mut t0, mut t1) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for bin in order.chunks(size) {
        group.clear();
        group.extend(bin.iter().map(|&i| residual[i as usize]));
        let centre = bin.iter().map(|&i| q[i as usize]).sum::<f64>() / bin.len() as f64;
        let v = inflation * winsorised_variance(&group, &mut scratch).unwrap_or(0.0);
        if v > 0.0 && v.is_finite() && centre.is_finite() {
            let w = bin.len() as f64 / (v * v);
            s0 += w;
            s1 += w * centre;
            s2 += w * centre * centre;
            t0 += w * v;
            t1 += w * centre * v;
        }
    }
    if s0 <= 0.0 {
        return (least, 0.0);
    }
    let determinant = s0 * s2 - s1 * s1;
    let (a, b) = if determinant > 1e-6 * s0 * s2 {
        ((s2 * t0 - s1 * t1) / determinant, (s0 * t1 - s1 * t0) / determinant)
    } else {
        (t0 / s0, 0.0)
    };
    if b < 0.0 {
        ((t0 / s0).max(least), 0.0)
    } else if a < least {
        (least, if s2 > 0.0 { ((t1 - least * s1) / s2).max(0.0) } else { 0.0 })
    } else {
        (a, b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::random::stream;
    use rand_distr::{Distribution, StandardNormal};

    #[test]
    fn residuals_of_counts_match_the_exact_tail() {
        let poisson = Noise::Counts { unit: 1.0, alpha: 0.0 };
        // scipy 1.17.1: norm.isf(poisson.sf(4, .3)) = 4.16, norm.isf(poisson.sf(5, .3)) = 4.80:
        // the residual lies between the strict and the wide tail.
        let z = poisson.z(5.0, 0.3, f64::NAN);
        assert!((4.16..4.80).contains(&z), "{z}");
        assert!(poisson.z(0.0, 9.0, f64::NAN) < -4.0);
        assert_eq!(poisson.z(9.0, 9.0, f64::NAN), 0.0);
    }

    #[test]
    fn overdispersion_makes_the_same_count_less_surprising() {
        let z = |alpha| Noise::Counts { unit: 1.0, alpha }.z(150.0, 100.0, f64::NAN);
        assert!(z(0.1) < 0.5 * z(0.0));
        assert!((z(1e-9) - z(0.0)).abs() < 1e-6);
    }

    #[test]
    fn values_come_back_from_their_residuals() {
        let cases = [
            (Noise::Counts { unit: 1.0, alpha: 0.0 }, [0.05, 3.0, 4e5], f64::NAN),
            (Noise::Counts { unit: 1.0, alpha: 0.2 }, [0.05, 3.0, 4e5], f64::NAN),
            (Noise::Counts { unit: 35.0, alpha: 0.01 }, [1.0, 300.0, 4e5], f64::NAN),
            (Noise::Shares { phi: 1.2, rho: 1e-4 }, [0.01, 0.3, 0.97], 400.0),
            (Noise::Quotients { per_item: 4.0, floor: 0.1 }, [-3.0, 0.0, 8.0], 12.0),
            (Noise::Plain { variance: 2.0 }, [-3.0, 0.0, 8.0], f64::NAN),
        ];
        for (noise, means, size) in cases {
            for mean in means {
                for z in [-30.0, -3.0, -0.7, -1e-5, 0.0, 1e-5, 0.7, 3.0, 30.0] {
                    let value = noise.value_at(z, mean, size);
                    let back = noise.z(value, mean, size);
                    let at_end = match noise {
                        Noise::Counts { .. } => value == 0.0 && z <= back,
                        Noise::Shares { .. } => !(1e-9..1.0 - 1e-9).contains(&value),
                        _ => false,
                    };
                    assert!(
                        at_end || (back - z).abs() < 1e-4,
                        "{noise:?} at {mean}: {z} -> {value} -> {back}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_variance_line_finds_both_parts_despite_outliers() {
        let mut rng = stream(5, "noise", 0);
        let q: Vec<f64> = (0..4_000).map(|i| f64::from(i % 100)).collect();
        let residual: Vec<f64> = q
            .iter()
            .enumerate()
            .map(|(i, q)| {
                let z: f64 = StandardNormal.sample(&mut rng);
                if i % 50 == 0 { 500.0 } else { z * (1.0 + 0.05 * q).sqrt() }
            })
            .collect();
        let (a, b) = variance_line(&residual, &q, 1.0, 0.0);
        assert!((0.8..1.5).contains(&a), "{a}");
        assert!((0.04..0.07).contains(&b), "{b}");
    }

    #[test]
    fn wild_input_gives_finite_residuals() {
        let noises = [
            Noise::Counts { unit: 1.0, alpha: 0.3 },
            Noise::Shares { phi: 1.0, rho: 0.0 },
            Noise::Plain { variance: 1e-18 },
        ];
        for noise in noises {
            for value in [0.0, 1e-300, 1.0, 1e12, 1e300] {
                for mean in [MIN_SHARE, 0.5, 1.0 - MIN_SHARE] {
                    assert!(noise.z(value, mean, 10.0).is_finite(), "{noise:?} {value} {mean}");
                }
            }
        }
    }
}
