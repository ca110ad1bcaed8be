//! Series that now and then report nothing: a store that was closed, a feed that was late.
//!
//! Zeros that come one by one, in many places, where the counts beside them leave no room for a zero,
//! are a habit of the series and no drop. Such a series gets a share of steps that report nothing
//! (zero-inflated counts: Lambert 1992): its zeros are kept out of the fit and of the search for
//! events, and a zero is only as unusual as that share. A few long gaps are no habit, and stay
//! events.

/// So many separate gaps are a habit …
const MIN_GAPS: usize = 6;

/// … if they last no longer than this on average (1.1 to 1.4 where each step has its own chance) …
const MAX_GAP_STEPS: f64 = 1.5;

/// … are at most this share of the steps …
const MAX_SHARE: f64 = 0.4;

/// … and at least so many times as many as the counts themselves would make.
const MIN_EXCESS: f64 = 10.0;

/// The share of the `allowed` steps that report nothing by habit; 0 without such a habit.
pub(super) fn habit(counts: &[f64], allowed: &[f64]) -> f64 {
    let (mut n, mut zeros, mut gaps) = (0.0, 0.0, 0);
    let (mut sum, mut squares) = (0.0, 0.0);
    let mut in_gap = false;
    for (&y, _) in counts.iter().zip(allowed).filter(|(_, allowed)| **allowed > 0.0) {
        n += 1.0;
        let zero = y == 0.0;
        if zero {
            zeros += 1.0;
            gaps += usize::from(!in_gap);
        } else {
            sum += y;
            squares += y * y;
        }
        in_gap = zero;
    }
    if gaps < MIN_GAPS || zeros > MAX_GAP_STEPS * gaps as f64 || zeros > MAX_SHARE * n {
        return 0.0;
    }
    let positive = n - zeros;
    let mean = sum / positive;
    let variance = (squares / positive - mean * mean).max(0.0);
    let dispersion = ((variance - mean) / (mean * mean)).max(1e-6);
    let expected = (-(dispersion * mean).ln_1p() / dispersion).exp();
    let share = zeros / n;
    if share < MIN_EXCESS * expected { 0.0 } else { (share - expected) / (1.0 - expected) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn habit_of(counts: &[f64]) -> f64 {
        habit(counts, &vec![1.0; counts.len()])
    }

    #[test]
    fn single_zeros_in_many_places_are_a_habit_and_long_or_few_gaps_are_none() {
        let steady = |t: usize| 20.0 + (t * 7 % 11) as f64;
        let with = |zero: fn(usize) -> bool| -> Vec<f64> {
            (0..104).map(|t| if zero(t) { 0.0 } else { steady(t) }).collect()
        };
        let found = habit_of(&with(|t| t % 10 == 3));
        assert!((found - 0.106).abs() < 0.01, "{found}");
        assert_eq!(habit_of(&with(|t| (40..52).contains(&t))), 0.0);
        assert_eq!(habit_of(&with(|t| t % 15 < 3)), 0.0);
        assert_eq!(habit_of(&with(|t| t % 25 == 3)), 0.0);
        assert_eq!(habit_of(&with(|_| true)), 0.0);
        assert_eq!(habit_of(&[]), 0.0);
    }

    #[test]
    fn small_counts_have_zeros_of_their_own() {
        let small: Vec<f64> =
            (0..104).map(|t| [0.0, 2.0, 1.0, 3.0, 1.0, 0.0, 4.0][t % 7]).collect();
        assert_eq!(habit_of(&small), 0.0);
    }
}
