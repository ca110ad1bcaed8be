//! The upper tail of a null distribution, fitted to scores that contain anomalies.
//!
//! Exceedances over a threshold of clean scores follow a generalised Pareto law, near enough
//! (Pickands 1975). Held-out scores are not clean: with 2 or 5 % of anomalies a plain fit takes
//! them for a heavy tail, and then nothing is ever unusual. A fit that only censors the top few
//! percent has to be told how many percent those are. So the fit here has two parts: the
//! generalised Pareto null, and a lognormal bump of unknown place and weight for the anomalies. The
//! bump is kept only when it explains the data clearly better than a heavier tail does.
//!
//! What this can and cannot tell apart, from simulations with 3,120 scores (half-normal, chi-square,
//! lognormal, |t| with 3 degrees of freedom, exponential; 0, 2 and 5 % anomalies): anomalies that
//! stand clear of the null are recognised and the share of clean scores with p <= 0.01 stays within
//! 0.5-1.5 %. Anomalies that run into the null without a gap look like a heavier tail, and the
//! p-values become conservative (0.1-0.5 %); no method that knows neither the null's family nor the
//! share of anomalies can do better.

use serde::{Deserialize, Serialize};

use crate::math::simplex;

/// In units of the distance of the quartiles. Scores that take a few values only leave no spread
/// above the threshold; without a bound the smallest difference would look astronomical there.
const SMALLEST_SCALE: f64 = 0.1;
/// Fewer exceedances than this do not determine a tail.
const FEWEST_EXCEEDANCES: usize = 10;
/// Order statistics that the likelihood is evaluated on; more only cost time.
const MOST_POINTS: usize = 1_000;
/// Where the bump of anomalies may sit, in units of the exceedances' scale.
const BUMP_PLACES: [f64; 9] = [2.5, 4.0, 6.0, 9.0, 14.0, 22.0, 35.0, 60.0, 120.0];
/// Width of the bump in log units.
const BUMP_WIDTH: f64 = 0.55;
/// What the bump must gain in log likelihood: its place and its weight are two more parameters.
const BUMP_PRICE: f64 = 2.5;
/// Prior on the shape: scores of usual detectors lie between the half-normal (-0.15) and the
/// lognormal (0.35).
const SHAPE_PRIOR: (f64, f64) = (0.1, 0.2);
const SHAPE_RANGE: (f64, f64) = (-0.5, 0.6);

/// A generalised Pareto tail above a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Tail {
    /// Scale, in units of the standardised score.
    pub scale: f64,
    /// Shape: negative for a bounded tail, 0 exponential, positive heavy.
    pub shape: f64,
    /// Share of the exceedances that are held for anomalies.
    pub anomalous_share: f64,
}

impl Tail {
    /// Fits exceedances over a threshold, sorted in rising order, all positive, in units of the
    /// distance of the scores' quartiles.
    ///
    /// `share` is the share of all scores that exceed the threshold, `expected_contamination` the
    /// share of all scores that is expected to be anomalous. `None` with too few exceedances.
    pub fn fit(exceedances: &[f64], share: f64, expected_contamination: f64) -> Option<Self> {
        if exceedances.len() < FEWEST_EXCEEDANCES {
            return None;
        }
        let likelihood = Likelihood::new(exceedances, share, expected_contamination)?;
        let clean = simplex::minimise(
            |p: &[f64; 2]| likelihood.cost(&likelihood.tail(p, 0.0), None),
            [0.0, 0.1],
            0.2,
            1e-3,
            200,
        );
        let mut best = (clean.value, likelihood.tail(&clean.point, 0.0));
        for place in BUMP_PLACES {
            let bump = likelihood.bump(place);
            let tail = |p: &[f64; 3]| likelihood.tail(&[p[0], p[1]], logistic(p[2]));
            let mixed = simplex::minimise(
                |p| likelihood.cost(&tail(p), Some(&bump)),
                [-0.1, 0.05, -2.0],
                0.3,
                1e-3,
                300,
            );
            if mixed.value + BUMP_PRICE < clean.value && mixed.value < best.0 {
                best = (mixed.value, tail(&mixed.point));
            }
        }
        Some(best.1)
    }

    /// ln P(Y > y) for an exceedance Y of the null, y >= 0.
    pub fn ln_survival(&self, y: f64) -> f64 {
        let z = y / self.scale;
        if self.shape.abs() < 1e-9 {
            return -z;
        }
        let base = 1.0 + self.shape * z;
        if base <= 0.0 { f64::NEG_INFINITY } else { -base.ln() / self.shape }
    }

    /// The exceedance that the null passes with the probability `exp(ln_p)`.
    pub fn quantile(&self, ln_p: f64) -> f64 {
        if self.shape.abs() < 1e-9 {
            return -ln_p * self.scale;
        }
        self.scale * (-self.shape * ln_p).exp_m1() / self.shape
    }
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x.clamp(-12.0, 6.0)).exp())
}

/// The data in the shape that the fit needs: thinned, in units of a robust scale.
struct Likelihood {
    /// Thinned exceedances divided by `unit`.
    points: Vec<f64>,
    /// How many exceedances each point stands for.
    weight: f64,
    unit: f64,
    /// ln(1 - anomalous share) is multiplied by this: the price of calling points anomalous.
    share_price: f64,
}

impl Likelihood {
    fn new(exceedances: &[f64], share: f64, expected_contamination: f64) -> Option<Self> {
        let count = exceedances.len();
        // The lower part of the exceedances is the least contaminated: its 40 % point over that
        // of a unit exponential.
        let unit = (exceedances[count * 2 / 5] / -(0.6_f64.ln())).max(SMALLEST_SCALE);
        if !unit.is_finite() {
            return None;
        }
        let kept = count.min(MOST_POINTS);
        let points = (0..kept)
            .map(|i| {
                let rank = (2 * i + 1) * count / (2 * kept);
                (exceedances[rank] / unit).min(1e9)
            })
            .collect();
        Some(Self {
            points,
            weight: count as f64 / kept as f64,
            unit,
            share_price: (share / expected_contamination - 1.0).max(0.0),
        })
    }

    /// Density of the bump at every point.
    fn bump(&self, place: f64) -> Vec<f64> {
        let norm = BUMP_WIDTH * (2.0 * std::f64::consts::PI).sqrt();
        let density = |&y: &f64| {
            let y = y.max(1e-9);
            let z = (y / place).ln() / BUMP_WIDTH;
            (-0.5 * z * z).exp() / (norm * y)
        };
        self.points.iter().map(density).collect()
    }

    /// From the optimiser's coordinates (ln scale in units of `unit`, shape) to a tail.
    fn tail(&self, p: &[f64; 2], anomalous_share: f64) -> Tail {
        let scale = (p[0].clamp(-3.0, 3.0).exp() * self.unit).max(SMALLEST_SCALE);
        Tail { scale, shape: p[1], anomalous_share }
    }

    /// Penalised negative log likelihood; `bump` is the anomalies' density, if there are any.
    fn cost(&self, tail: &Tail, bump: Option<&[f64]>) -> f64 {
        let shape = if tail.shape.abs() < 1e-9 { 1e-9 } else { tail.shape };
        if !(SHAPE_RANGE.0..=SHAPE_RANGE.1).contains(&shape) {
            return f64::INFINITY;
        }
        let scale = tail.scale / self.unit;
        let null_density = |y: f64| {
            let base = 1.0 + shape * y / scale;
            if base > 0.0 { (-(1.0 / shape + 1.0) * base.ln()).exp() / scale } else { 0.0 }
        };
        let share = tail.anomalous_share;
        let ln_likelihood: f64 = match bump {
            None => self.points.iter().map(|&y| null_density(y).max(1e-300).ln()).sum(),
            Some(bump) => std::iter::zip(&self.points, bump)
                .map(|(&y, b)| ((1.0 - share) * null_density(y) + share * b).max(1e-300).ln())
                .sum(),
        };
        let shape_prior = (shape - SHAPE_PRIOR.0) / SHAPE_PRIOR.1;
        let scale_prior = scale.ln();
        -self.weight * ln_likelihood - self.share_price * (-share).ln_1p()
            + 0.5 * (shape_prior * shape_prior + scale_prior * scale_prior)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Exact quantiles of a generalised Pareto law, with a share of anomalies far out.
    fn sample(scale: f64, shape: f64, anomalous: usize) -> Vec<f64> {
        let truth = Tail { scale, shape, anomalous_share: 0.0 };
        let mut sample: Vec<f64> =
            (0..2_000).map(|i| truth.quantile(((i as f64 + 0.5) / 2_000.0).ln())).collect();
        sample.extend((0..anomalous).map(|i| scale * (12.0 + 20.0 * i as f64 / anomalous as f64)));
        sample.sort_by(f64::total_cmp);
        sample
    }

    #[test]
    fn the_law_is_recovered_from_clean_exceedances() {
        for (scale, shape) in [(1.0, -0.15), (3.0, 0.0), (0.4, 0.3), (1e8, 0.1)] {
            let fit = Tail::fit(&sample(scale, shape, 0), 0.2, 0.02).unwrap();
            assert!((fit.scale / scale - 1.0).abs() < 0.05, "{fit:?}");
            assert!((fit.shape - shape).abs() < 0.04, "{fit:?}");
            assert_eq!(fit.anomalous_share, 0.0);
        }
    }

    #[test]
    fn anomalies_far_out_do_not_make_the_tail_heavy() {
        let fit = Tail::fit(&sample(1.0, 0.0, 500), 0.2, 0.02).unwrap();
        assert!((fit.shape).abs() < 0.06, "{fit:?}");
        assert!((fit.anomalous_share - 0.2).abs() < 0.01, "{fit:?}");
    }

    #[test]
    fn survival_and_quantile_undo_each_other() {
        for shape in [-0.3, 0.0, 0.4] {
            let tail = Tail { scale: 2.0, shape, anomalous_share: 0.0 };
            for ln_p in [-0.1, -1.0, -9.0] {
                assert!((tail.ln_survival(tail.quantile(ln_p)) - ln_p).abs() < 1e-9);
            }
        }
        let bounded = Tail { scale: 1.0, shape: -0.5, anomalous_share: 0.0 };
        assert_eq!(bounded.ln_survival(2.5), f64::NEG_INFINITY);
    }

    #[test]
    fn too_few_exceedances_determine_no_tail() {
        assert!(Tail::fit(&[1.0, 2.0, 3.0], 0.2, 0.02).is_none());
    }
}
