//! The distribution of normal scores: an empirical bulk, a fitted tail, and a floor.

use serde::{Deserialize, Serialize};

use super::tail::Tail;

/// Points of the bulk's table; the bulk needs no more than a percent of accuracy.
const TABLE_POINTS: usize = 200;
/// From this multiple of the floor downwards p is squeezed, never to reach the floor: equal
/// p-values would be ties in the ranking.
const SQUEEZE: f64 = 1.2;

/// The distribution of normal, standardised scores.
///
/// Below the threshold p is the empirical survival, corrected for the share of anomalies; above it
/// comes from the fitted [`Tail`]. p falls strictly with the score, but never below
/// [`floor`](Null::floor), the smallest p that the sample supports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Null {
    /// Rising scores up to the threshold.
    scores: Vec<f64>,
    /// P(score >= `scores[i]`), falling.
    survival: Vec<f64>,
    threshold: f64,
    /// P(score > threshold) under the null.
    tail_share: f64,
    tail: Option<Tail>,
    /// Share of the sample that is held for anomalies.
    pub contamination: f64,
    /// 1 / (effective sample size + 1).
    pub floor: f64,
}

impl Null {
    /// Fits to finite standardised scores, sorted in rising order, at least one.
    ///
    /// `effective_share` in (0, 1]: how many independent scores one score is worth.
    pub fn fit(
        sorted: &[f64],
        tail_share: f64,
        expected_contamination: f64,
        effective_share: f64,
    ) -> Self {
        Self::with_tail(sorted, tail_share, effective_share, |exceedances, share| {
            Tail::fit(exceedances, share, expected_contamination)
        })
    }

    /// As [`fit`](Self::fit) with independent scores, of which at most the share `anomalous`, the
    /// highest, are anomalies: see [`Tail::fit_censored`].
    pub fn fit_censored(
        sorted: &[f64],
        tail_share: f64,
        expected_contamination: f64,
        anomalous: f64,
    ) -> Self {
        let censored = (sorted.len() as f64 * anomalous).round() as usize;
        // Half of the tail at least has to be seen.
        Self::with_tail(sorted, tail_share.max(2.0 * anomalous), 1.0, |exceedances, share| {
            Tail::fit_censored(exceedances, censored, share, expected_contamination)
        })
    }

    fn with_tail(
        sorted: &[f64],
        tail_share: f64,
        effective_share: f64,
        fit: impl Fn(&[f64], f64) -> Option<Tail>,
    ) -> Self {
        let count = sorted.len();
        let floor = 1.0 / (count as f64 * effective_share + 1.0);
        let tail_share = tail_share.min(0.9);
        let rank = ((count as f64 * (1.0 - tail_share)) as usize).min(count - 1);
        let threshold = sorted[rank];
        let above = sorted.partition_point(|&s| s <= threshold);
        let share = (count - above) as f64 / count as f64;
        let exceedances: Vec<f64> = sorted[above..].iter().map(|s| s - threshold).collect();
        match fit(&exceedances, share) {
            Some(tail) => Self::assemble(&sorted[..above], count, Some(tail), floor, share),
            // No tail to speak of: the table covers the whole sample.
            None => Self::assemble(sorted, count, None, floor, floor),
        }
    }

    fn assemble(bulk: &[f64], count: usize, tail: Option<Tail>, floor: f64, share: f64) -> Self {
        let contamination = tail.map_or(0.0, |t| t.anomalous_share * share);
        let corrected = |mixed: f64| (mixed - contamination) / (1.0 - contamination);
        let (mut scores, mut survival) = (Vec::new(), Vec::new());
        for i in 0..TABLE_POINTS {
            let score = bulk[i * (bulk.len() - 1) / (TABLE_POINTS - 1)];
            // Closer neighbours than this would fall together when a checkpoint is written as text
            // and read back.
            let apart = |last: &f64| score - last > 1e-9 * (1.0 + score.abs());
            if scores.last().is_none_or(apart) {
                let at_least = count - bulk.partition_point(|&s| s < score);
                scores.push(score);
                survival.push(corrected(at_least as f64 / count as f64));
            }
        }
        let last = survival.last().copied().unwrap_or(1.0);
        let tail_share = corrected(share).max(SQUEEZE * floor).min(last);
        let threshold = scores.last().copied().unwrap_or(0.0);
        Self { scores, survival, threshold, tail_share, tail, contamination, floor }
    }

    /// ln P(a normal score is at least this high); NaN for NaN.
    pub fn ln_p(&self, score: f64) -> f64 {
        if score.is_nan() {
            return f64::NAN;
        }
        if score <= self.threshold { self.bulk(score) } else { self.above(score - self.threshold) }
    }

    fn bulk(&self, score: f64) -> f64 {
        let right = self.scores.partition_point(|&s| s < score);
        let p = if right == 0 {
            self.survival[0]
        } else {
            let (x0, x1) = (self.scores[right - 1], self.scores[right]);
            let (p0, p1) = (self.survival[right - 1], self.survival[right]);
            p0 + (p1 - p0) * (score - x0) / (x1 - x0)
        };
        p.min(1.0).ln()
    }

    fn above(&self, excess: f64) -> f64 {
        let ln_share = self.tail_share.ln();
        let ceiling = (SQUEEZE * self.floor).min(self.tail_share).ln();
        let (start, unit) = match &self.tail {
            Some(tail) => {
                let ln_p = ln_share + tail.ln_survival(excess);
                if ln_p > ceiling {
                    return ln_p;
                }
                (tail.quantile(ceiling - ln_share), tail.scale)
            }
            None => (0.0, 1.0),
        };
        // Falls from 1 to 0, so slowly that doubles still tell scores apart far out.
        let squeezed = 1.0 / (1.0 + ((excess - start).max(0.0) / unit).ln_1p());
        ceiling - SQUEEZE.ln() + ((SQUEEZE - 1.0) * squeezed).ln_1p()
    }

    /// Whether the numbers are usable, for a calibration that comes from a file.
    pub fn is_sound(&self) -> bool {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let share = |x: f64| positive(x) && x <= 1.0;
        self.scores.len() == self.survival.len()
            && !self.scores.is_empty()
            && self.scores.iter().all(|s| s.is_finite())
            && self.scores.windows(2).all(|w| w[0] < w[1])
            && self.survival.iter().all(|&p| share(p))
            && self.survival.windows(2).all(|w| w[0] >= w[1])
            && self.threshold == self.scores[self.scores.len() - 1]
            && share(self.tail_share)
            && share(self.floor)
            && (0.0..1.0).contains(&self.contamination)
            && self.tail.is_none_or(|t| positive(t.scale) && t.shape.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exponential(count: usize) -> Vec<f64> {
        (0..count).rev().map(|i| -((i as f64 + 0.5) / count as f64).ln()).collect()
    }

    #[test]
    fn p_is_the_survival_of_a_known_law() {
        let null = Null::fit(&exponential(10_000), 0.2, 0.02, 1.0);
        for score in [0.01_f64, 0.5, 1.0, 1.6, 1.62, 3.0, 4.6, 6.9] {
            let ln_p = null.ln_p(score);
            assert!((ln_p + score).abs() < 0.08, "{score}: {ln_p}");
        }
        assert!(null.ln_p(f64::NAN).is_nan());
        assert_eq!(null.ln_p(f64::NEG_INFINITY), null.ln_p(-5.0));
    }

    #[test]
    fn p_falls_strictly_above_the_sample_and_never_below_the_floor() {
        for count in [120, 5_000] {
            let null = Null::fit(&exponential(count), 0.2, 0.02, 0.5);
            assert!((null.floor - 1.0 / (0.5 * count as f64 + 1.0)).abs() < 1e-12);
            let mut last = 0.1;
            for step in 1..400 {
                let score = 1.08_f64.powi(step) * 0.2;
                let ln_p = null.ln_p(score);
                assert!(ln_p < last && ln_p >= null.floor.ln(), "{score}: {ln_p} after {last}");
                last = ln_p;
            }
        }
    }

    #[test]
    fn constant_scores_make_every_equal_score_normal_and_every_higher_one_unusual() {
        let null = Null::fit(&[2.0; 500], 0.2, 0.02, 1.0);
        assert_eq!(null.ln_p(2.0), 0.0);
        assert_eq!(null.ln_p(1.0), 0.0);
        assert!(null.ln_p(2.1) < 0.003_f64.ln());
        assert!(null.ln_p(3.0) < null.ln_p(2.1));
        assert!(null.is_sound());
    }

    #[test]
    fn ties_count_as_at_least_as_extreme() {
        let mut sample = vec![0.0; 700];
        sample.extend(vec![1.0; 200]);
        sample.extend(vec![2.0; 100]);
        let null = Null::fit(&sample, 0.2, 0.02, 1.0);
        assert_eq!(null.ln_p(0.0), 0.0);
        assert!((null.ln_p(1.0) - 0.3_f64.ln()).abs() < 1e-9, "{}", null.ln_p(1.0).exp());
    }
}
