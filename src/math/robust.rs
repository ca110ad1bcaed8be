//! Medians and quantiles that leave missing values out.
//!
//! Quantiles are of type 7 (Hyndman and Fan 1996; the default of R and numpy): linear between the
//! order statistics, the smallest value at 0 and the largest at 1. NaN means missing everywhere in
//! this crate, so it is skipped here; an all-missing input has no quantile, and that is `None`.

/// A normal distribution's standard deviation over its median absolute deviation.
pub const MAD_TO_SIGMA: f64 = 1.482_602_218_505_602;

/// The quantile of type 7 of the values that are not NaN; `p` in `[0, 1]`, else `None`.
pub fn quantile(values: &[f64], p: f64) -> Option<f64> {
    let mut present: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
    quantile_mut(&mut present, p)
}

/// [`quantile`] of values without NaN, which it reorders instead of copying.
pub fn quantile_mut(values: &mut [f64], p: f64) -> Option<f64> {
    if values.is_empty() || !(0.0..=1.0).contains(&p) {
        return None;
    }
    let place = p * (values.len() - 1) as f64;
    let below = place.floor();
    let (_, &mut low, above) = values.select_nth_unstable_by(below as usize, f64::total_cmp);
    let share = place - below;
    if share == 0.0 {
        return Some(low);
    }
    let high = above.iter().copied().fold(f64::INFINITY, f64::min);
    Some(low + share * (high - low))
}

/// The median of the values that are not NaN.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The median absolute deviation from the median, in the values' own unit, not scaled:
/// times [`MAD_TO_SIGMA`] it estimates a normal standard deviation.
pub fn mad(values: &[f64]) -> Option<f64> {
    let centre = median(values)?;
    let mut distances: Vec<f64> =
        values.iter().filter(|v| !v.is_nan()).map(|v| (v - centre).abs()).collect();
    quantile_mut(&mut distances, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    // numpy 2.4.6: numpy.quantile([9, 1, 4, 7], [0, .1, .25, .5, .9, 1]).
    #[test]
    fn quantiles_are_those_of_numpy() {
        let values = [9.0, f64::NAN, 1.0, 4.0, 7.0];
        for (p, expected) in
            [(0.0, 1.0), (0.1, 1.9), (0.25, 3.25), (0.5, 5.5), (0.9, 8.4), (1.0, 9.0)]
        {
            let found = quantile(&values, p).unwrap();
            assert!((found - expected).abs() < 1e-14, "{p}: {found} is not {expected}");
        }
    }

    #[test]
    fn one_wild_value_moves_neither_median_nor_mad_far() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(mad(&[1.0, 2.0, 3.0, 4.0, 1e9]), Some(1.0));
    }

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(median(&[]), None);
        assert_eq!(mad(&[f64::NAN]), None);
        assert_eq!(quantile(&[1.0], 1.5), None);
        assert_eq!(quantile(&[1.0], f64::NAN), None);
    }
}
