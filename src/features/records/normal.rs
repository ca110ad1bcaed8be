//! From a number to the normal deviate of the same rank.
//!
//! Metrics of one interaction are skewed, bounded, or counts that are mostly 0, so a distance in
//! standard or absolute deviations means something else for each. Between the 2 % and the 98 %
//! quantile a number is mapped to the normal deviate of its rank, along straight lines between a
//! few quantiles; outside, where the anomalies of the training part would be the ranks, it goes on
//! along the slope from the median to that quantile. Equal quantiles (half of all holds are 0)
//! become one knot at the middle of their ranks.

use serde::{Deserialize, Serialize};

use crate::math::special::normal_quantile;

/// Where the quantiles are taken.
pub(super) const SHARES: [f64; 11] =
    [0.02, 0.06, 0.12, 0.25, 0.375, 0.5, 0.625, 0.75, 0.88, 0.94, 0.98];
/// The place of the median in [`SHARES`].
pub(super) const MEDIAN: usize = 5;
/// Quantiles closer than this, in units of the column's spread, count as equal.
const TIE: f64 = 0.02;
/// The least that one deviate is worth outside the knots, in units of the column's spread.
const LEAST_SLOPE: f64 = 0.1;
/// The same where all quantiles are equal.
const LONE_SLOPE: f64 = 0.5;
/// Deviates end here: what lies further out is not stranger, only larger.
pub(super) const FURTHEST: f64 = 8.0;

/// Quantiles at [`SHARES`].
pub(super) type Quantiles = [f64; SHARES.len()];

/// Quantiles (type 7 of Hyndman and Fan 1996) of sorted values; `None` without values.
pub(super) fn quantiles(sorted: &[f64]) -> Option<Quantiles> {
    let last = sorted.len().checked_sub(1)?;
    Some(SHARES.map(|share| {
        let place = share * last as f64;
        let below = place as usize;
        let next = sorted[(below + 1).min(last)];
        sorted[below] + (place - below as f64) * (next - sorted[below])
    }))
}

/// The map of one column in one context.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct NormalMap {
    /// Rising.
    values: Vec<f64>,
    /// The deviate of each value.
    deviates: Vec<f64>,
    /// What one deviate is worth below the first and above the last knot.
    below: f64,
    above: f64,
}

impl NormalMap {
    /// `spread` is that of the column over all contexts.
    pub(super) fn new(quantiles: &Quantiles, spread: f64) -> Self {
        let (mut values, mut deviates) = (Vec::new(), Vec::new());
        let mut first = 0;
        while first < quantiles.len() {
            let near = |q: &&f64| **q - quantiles[first] <= TIE * spread;
            let last = first + quantiles[first..].iter().take_while(near).count().max(1) - 1;
            let group = &quantiles[first..=last];
            values.push(group.iter().sum::<f64>() / group.len() as f64);
            deviates.push(normal_quantile(0.5 * (SHARES[first] + SHARES[last])));
            first = last + 1;
        }
        let centre = (0..values.len())
            .min_by(|&a, &b| deviates[a].abs().total_cmp(&deviates[b].abs()))
            .unwrap_or(0);
        let slope = |edge: usize| {
            // The knot nearest to the median may be the edge itself.
            let inner = if edge != centre {
                centre
            } else if edge == 0 {
                1.min(values.len() - 1)
            } else {
                edge - 1
            };
            if inner == edge {
                return LONE_SLOPE * spread;
            }
            let slope = (values[edge] - values[inner]) / (deviates[edge] - deviates[inner]);
            slope.max(LEAST_SLOPE * spread)
        };
        let (below, above) = (slope(0), slope(values.len() - 1));
        Self { values, deviates, below, above }
    }

    /// The deviate of a finite number.
    #[inline]
    pub(super) fn deviate(&self, x: f64) -> f64 {
        let last = self.values.len() - 1;
        let z = if x <= self.values[0] {
            self.deviates[0] - (self.values[0] - x) / self.below
        } else if x >= self.values[last] {
            self.deviates[last] + (x - self.values[last]) / self.above
        } else {
            let at = self.values.partition_point(|&v| v <= x) - 1;
            let share = (x - self.values[at]) / (self.values[at + 1] - self.values[at]);
            self.deviates[at] + share * (self.deviates[at + 1] - self.deviates[at])
        };
        z.clamp(-FURTHEST, FURTHEST)
    }

    /// Whether the numbers are usable, for a map that comes from a file.
    pub(super) fn is_sound(&self) -> bool {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        !self.values.is_empty()
            && self.values.len() == self.deviates.len()
            && self.values.iter().chain(&self.deviates).all(|x| x.is_finite())
            && self.values.windows(2).all(|pair| pair[0] < pair[1])
            && positive(self.below)
            && positive(self.above)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::random::stream;
    use rand_distr::{Distribution, StandardNormal};

    #[test]
    fn normal_numbers_keep_their_deviates() {
        let mut rng = stream(1, "normal map", 0);
        let mut values: Vec<f64> = (0..20_000)
            .map(|_| {
                let z: f64 = StandardNormal.sample(&mut rng);
                10.0 + 3.0 * z
            })
            .collect();
        values.sort_by(f64::total_cmp);
        let map = NormalMap::new(&quantiles(&values).unwrap(), 3.0);
        for z in [-4.0, -1.0, 0.0, 0.5, 2.0, 4.0] {
            assert!((map.deviate(10.0 + 3.0 * z) - z).abs() < 0.15, "{z}");
        }
        assert_eq!(map.deviate(1e9), FURTHEST);
    }

    #[test]
    fn a_column_that_is_mostly_zero_has_one_knot_there() {
        let mut values = vec![0.0; 900];
        values.extend([5.0; 100]);
        let map = NormalMap::new(&quantiles(&values).unwrap(), 1.5);
        assert!(map.deviate(0.0).abs() < 0.3);
        assert!((1.0..2.2).contains(&map.deviate(5.0)), "{}", map.deviate(5.0));
        assert!(map.deviate(20.0) > 4.0);
    }

    #[test]
    fn a_constant_column_gives_no_infinite_deviate() {
        let map = NormalMap::new(&quantiles(&[2.0; 50]).unwrap(), 1e-9);
        assert!(map.deviate(2.0).abs() < 1e-9);
        assert!(map.deviate(3.0).is_finite() && map.is_sound());
    }
}
