//! The normal distribution's upper tail and its inverse in log form, for Stouffer's method: a large
//! z is a small p, the other way round than in [`crate::math::special`].

use crate::math::special::{ln_normal_cdf, normal_quantile_ln};

/// ln P(Z >= z) for a standard normal Z; no underflow however large z is.
pub(super) fn ln_upper(z: f64) -> f64 {
    ln_normal_cdf(-z)
}

/// The z whose upper tail has the probability `exp(ln_p)`; infinite at p = 0 and p = 1.
pub(super) fn upper_quantile(ln_p: f64) -> f64 {
    -normal_quantile_ln(ln_p)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_z_has_a_small_tail_and_comes_back() {
        // scipy 1.17.1, stats.norm.logsf(2.5)
        assert!((ln_upper(2.5) + 5.081_648_277_278_691).abs() < 1e-12);
        for z in [-6.0, -2.0, -0.1, 0.0, 0.5, 2.9, 8.0, 40.0, 1e4] {
            assert!((upper_quantile(ln_upper(z)) - z).abs() < 1e-9 * z.abs().max(1.0), "{z}");
        }
        assert_eq!(upper_quantile(0.0), f64::NEG_INFINITY);
        assert_eq!(upper_quantile(f64::NEG_INFINITY), f64::INFINITY);
    }
}
