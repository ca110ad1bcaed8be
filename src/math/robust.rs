//! Centres and spreads that a few wild values cannot move.

/// Standard deviation of a normal variable in units of its median absolute deviation.
pub const MAD_TO_SD: f64 = 1.482_602_218_505_602;

/// Cut-off of [`winsorised_variance`], in standard deviations.
const WINSOR: f64 = 2.5;

/// `E[min(Z², 2.5²)]` of a standard normal `Z`: makes [`winsorised_variance`] consistent there.
const WINSOR_CONSISTENCY: f64 = 0.977_454;

/// Median of the values, which are reordered; the mean of the two middle ones for an even number.
/// `None` for no values. NaN sorts last and must be left out by the caller.
pub fn median(values: &mut [f64]) -> Option<f64> {
    let n = values.len();
    if n == 0 {
        return None;
    }
    let (below, &mut upper, _) = values.select_nth_unstable_by(n / 2, f64::total_cmp);
    if n % 2 == 1 {
        return Some(upper);
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Some(0.5 * (lower + upper))
}

/// The `share`-quantile (0 to 1) of the values, which are reordered: linear between order
/// statistics, as type 7 of Hyndman and Fan (1996). `None` for no values.
pub fn quantile(values: &mut [f64], share: f64) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    let place = share.clamp(0.0, 1.0) * last as f64;
    let below = place.floor();
    let (_, &mut low, above) = values.select_nth_unstable_by(below as usize, f64::total_cmp);
    let next = above.iter().copied().fold(f64::INFINITY, f64::min);
    if above.is_empty() { Some(low) } else { Some(low + (place - below) * (next - low)) }
}

/// Median absolute value times [`MAD_TO_SD`]: the standard deviation of residuals whose centre is
/// known to be 0. `scratch` is overwritten. `None` for no values.
pub fn scale_about_zero(residuals: &[f64], scratch: &mut Vec<f64>) -> Option<f64> {
    scratch.clear();
    scratch.extend(residuals.iter().map(|r| r.abs()));
    median(scratch).map(|m| m * MAD_TO_SD)
}

/// Variance about 0 with residuals cut at 2.5 standard deviations (Huber's proposal 2 with a known
/// centre). Twice as efficient as the median absolute deviation, and not 0 where more than half of
/// the residuals are. `scratch` is overwritten. `None` for no values.
pub fn winsorised_variance(residuals: &[f64], scratch: &mut Vec<f64>) -> Option<f64> {
    let n = residuals.len() as f64;
    let start = scale_about_zero(residuals, scratch)?;
    let mean_abs = residuals.iter().map(|r| r.abs()).sum::<f64>() / n;
    // The mean absolute deviation stands in where the median one is 0 (sparse counts).
    let mut variance = if start > 1e-3 * mean_abs { start } else { 1.2533 * mean_abs }.powi(2);
    for _ in 0..8 {
        let cap = WINSOR * WINSOR * variance;
        variance = residuals.iter().map(|r| (r * r).min(cap)).sum::<f64>() / n / WINSOR_CONSISTENCY;
    }
    Some(variance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::random::stream;
    use rand_distr::{Distribution, StandardNormal};

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        assert_eq!(median(&mut [4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&mut [9.0, 1.0, 3.0]), Some(3.0));
        assert_eq!(median(&mut []), None);
    }

    #[test]
    fn quantiles_agree_with_numpy() {
        // numpy 2.4 quantile([1, 2, 4, 8], [0, .1, .5, .9, 1]), its default method.
        let of = |share| quantile(&mut [8.0, 1.0, 4.0, 2.0], share).unwrap();
        for (share, expected) in [(0.0, 1.0), (0.1, 1.3), (0.5, 3.0), (0.9, 6.8), (1.0, 8.0)] {
            assert!((of(share) - expected).abs() < 1e-12, "{share}: {}", of(share));
        }
        assert_eq!(quantile(&mut [], 0.5), None);
    }

    #[test]
    fn five_percent_of_wild_values_leave_the_variance_near_one() {
        let mut rng = stream(1, "robust", 0);
        let mut residuals: Vec<f64> =
            (0..20_000).map(|_| StandardNormal.sample(&mut rng)).collect();
        let mut scratch = Vec::new();
        let clean = winsorised_variance(&residuals, &mut scratch).unwrap();
        assert!((clean - 1.0).abs() < 0.03, "{clean}"); // its standard error is 0.011
        residuals[..1_000].fill(100.0);
        let dirty = winsorised_variance(&residuals, &mut scratch).unwrap();
        assert!((1.0..1.45).contains(&dirty), "{dirty}");
    }

    #[test]
    fn mostly_zero_residuals_still_have_a_spread() {
        let mut residuals = vec![0.0; 90];
        residuals.extend([1.0; 10]);
        assert!(winsorised_variance(&residuals, &mut Vec::new()).unwrap() > 0.0);
        assert_eq!(winsorised_variance(&[0.0; 5], &mut Vec::new()), Some(0.0));
    }
}
