//! The scores that a percentile is taken of.

use serde::{Deserialize, Serialize};

/// Order statistics that are kept one by one; further down they are thinned out.
const EXACT: usize = 1_000;
/// Kept between there and the median.
const THINNED: usize = 200;

/// The upper half of the scores of one decider's reference cells, as ln p, strongest first.
///
/// Percentiles among the strongest thousand are exact; below them they are interpolated between two
/// hundred kept points. Small enough for a checkpoint, which keeps it so that `detect` judges by
/// what the training saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// Cells that it was taken from.
    count: usize,
    /// Places in the sorted sample, rising.
    places: Vec<usize>,
    /// ln p at those places, rising.
    ln_p: Vec<f64>,
}

impl Reference {
    /// Keeps what is needed of the ln p of the reference cells; NaN is left out.
    pub fn new(ln_p: impl Iterator<Item = f64>) -> Self {
        // JSON has no infinity, and a checkpoint must read back what it wrote.
        let mut all: Vec<f64> = ln_p.filter(|p| !p.is_nan()).map(|p| p.max(f64::MIN)).collect();
        all.sort_unstable_by(f64::total_cmp);
        let half = all.len() / 2 + 1;
        let mut places: Vec<usize> = (0..half.min(EXACT).min(all.len())).collect();
        let rest = half.min(all.len()).saturating_sub(EXACT);
        places.extend((1..=THINNED.min(rest)).map(|i| EXACT - 1 + i * rest / THINNED.min(rest)));
        let ln_p = places.iter().map(|&place| all[place]).collect();
        Self { count: all.len(), places, ln_p }
    }

    /// Cells that it was taken from.
    pub fn count(&self) -> usize {
        self.count
    }

    /// ln p at a percentile of the scores (50 to 100): the quantile of type 7, linear between order
    /// statistics; `None` for an empty reference.
    pub fn ln_p_at(&self, percentile: f64) -> Option<f64> {
        let place = (1.0 - percentile / 100.0).max(0.0) * self.count.checked_sub(1)? as f64;
        let right = self.places.partition_point(|&p| (p as f64) < place).min(self.ln_p.len() - 1);
        let left = right.saturating_sub(1);
        let (x0, x1) = (self.places[left] as f64, self.places[right] as f64);
        let share = if x1 > x0 { ((place - x0) / (x1 - x0)).clamp(0.0, 1.0) } else { 0.0 };
        Some(self.ln_p[left] + share * (self.ln_p[right] - self.ln_p[left]))
    }

    /// Whether the numbers are usable, for a reference that comes from a file.
    pub fn is_sound(&self) -> bool {
        self.places.len() == self.ln_p.len()
            && self.places.is_empty() == (self.count == 0)
            && self.places.windows(2).all(|w| w[0] < w[1])
            && self.places.last().is_none_or(|last| *last < self.count)
            && self.ln_p.windows(2).all(|w| w[0] <= w[1])
            && self.ln_p.iter().all(|p| p.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::{random::stream, robust::quantile};
    use rand::RngExt;

    #[test]
    fn percentiles_are_those_of_the_whole_sample() {
        for count in [1, 2, 5, 999, 1_001, 2_500, 100_000] {
            let mut rng = stream(3, "reference", count as u64);
            let sample: Vec<f64> = (0..count).map(|_| rng.random::<f64>().ln()).collect();
            let reference = Reference::new(sample.iter().copied());
            assert!(reference.is_sound() && reference.count() == count);
            for percentile in [50.0, 75.0, 90.0, 99.0, 99.9, 99.999] {
                let found = reference.ln_p_at(percentile).unwrap();
                let exact = quantile(&mut sample.clone(), 1.0 - percentile / 100.0).unwrap();
                // Thinned places are 245 apart at the most, a 400th of the sample.
                let tolerance = if count <= 2_000 || percentile > 99.0 { 1e-9 } else { 0.01 };
                assert!((found - exact).abs() < tolerance, "{count} at {percentile}");
            }
        }
    }

    #[test]
    fn nothing_has_no_percentile_and_zero_survives_a_file() {
        assert_eq!(Reference::default().ln_p_at(99.0), None);
        let reference = Reference::new([f64::NEG_INFINITY, f64::NAN, -1.0].into_iter());
        let text = serde_json::to_string(&reference).unwrap();
        let again: Reference = serde_json::from_str(&text).unwrap();
        assert!(again == reference && again.is_sound());
    }
}
