//! The negative binomial distribution NB2, by its mean and its dispersion.
//!
//! Counts with mean `mu` and dispersion `alpha` have the variance `mu + alpha mu^2`; `alpha = 0` is
//! Poisson. The textbook form needs the size `1 / alpha`, which is infinite there and loses all
//! digits on the way. Everything below is therefore written so that `alpha` only ever appears as
//! `1 + alpha * something`: one code path from Poisson to `alpha = 100`.
//!
//! *Probability.* Loader's form: Stirling errors and two deviances
//! ([`deviance_term`](super::special::deviance_term)), so that a mean of 1e7 keeps its digits.
//!
//! *Tails.* With `pmf = P(Y = y)`, the upper tail is `pmf * F`, where `F` is Gauss' continued
//! fraction for `2F1(1, y + 1/alpha; y + 1; alpha mu / (1 + alpha mu))`, and the lower tail is
//! `pmf * (1 + alpha y) * G`, where `G` is the one for `2F1(1, -y; 1 + 1/alpha; -1 / (alpha mu))`
//! (DLMF 15.7.5). In both the size cancels from every coefficient, and for `alpha = 0` they become
//! the fractions of the incomplete gamma function. The tail on the far side of the mean is
//! computed, the other one is its complement; as logs neither can underflow.
//!
//! Reference values: mpmath 1.4.1, `tests/golden/nb2_reference.py`.

use super::special::{
    HALF_LN_2PI, continued_fraction, deviance_term, ln_1m_exp, ln_normal_cdf, stirling_error,
};

/// Above this many effective events near-Poisson tails come from the saddlepoint, whose relative
/// error is then below 1e-8; the fractions would need tens of thousands of terms.
const NORMAL_FROM: f64 = 1e8;

/// Steps of the recurrence that a search for a quantile tries before it bisects.
const MAX_STEPS: u32 = 40;

/// A negative binomial distribution with mean and dispersion.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NegativeBinomial {
    mean: f64,
    dispersion: f64,
    /// `1 + dispersion * mean`.
    spread: f64,
}

/// Both tails at one value, as natural logs. Both contain the value itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tails {
    /// `ln P(Y <= y)`.
    pub ln_lower: f64,
    /// `ln P(Y >= y)`.
    pub ln_upper: f64,
    /// `ln P(Y = y)`.
    pub ln_pmf: f64,
}

impl Tails {
    /// Natural log of the two-sided p-value `min(1, 2 min(lower, upper))`, and the side on which
    /// the value lies: +1 above the middle of the distribution, -1 below.
    pub fn ln_two_sided(&self) -> (f64, i8) {
        let ln_p = (self.ln_lower.min(self.ln_upper) + std::f64::consts::LN_2).min(0.0);
        (ln_p, if self.ln_upper <= self.ln_lower { 1 } else { -1 })
    }

    /// `P(Y < y) + u P(Y = y)`: uniform on `[0, 1]` for `y` from the distribution and uniform `u`
    /// (`u = 1/2` gives the mid-p value). For calibration plots; a flag needs the valid
    /// [`Tails::ln_two_sided`].
    pub fn randomised(&self, u: f64) -> f64 {
        if self.ln_lower <= self.ln_upper {
            self.ln_lower.exp() - (1.0 - u) * self.ln_pmf.exp()
        } else {
            1.0 - self.ln_upper.exp() + u * self.ln_pmf.exp()
        }
        .clamp(0.0, 1.0)
    }
}

impl NegativeBinomial {
    /// `mean >= 0`, `dispersion >= 0`, both finite; else `None`.
    pub fn new(mean: f64, dispersion: f64) -> Option<Self> {
        let valid = mean >= 0.0 && dispersion >= 0.0 && (dispersion * mean).is_finite();
        (valid && mean.is_finite() && dispersion.is_finite()).then(|| Self {
            mean,
            dispersion,
            spread: 1.0 + dispersion * mean,
        })
    }

    pub fn mean(&self) -> f64 {
        self.mean
    }

    pub fn dispersion(&self) -> f64 {
        self.dispersion
    }

    /// `mu + alpha mu^2`.
    pub fn variance(&self) -> f64 {
        self.mean * self.spread
    }

    /// `ln P(Y = y)`; minus infinity where `y` is no count.
    pub fn ln_pmf(&self, y: f64) -> f64 {
        if y < 0.0 || y.fract() != 0.0 {
            return f64::NEG_INFINITY;
        }
        if self.mean == 0.0 {
            return if y == 0.0 { 0.0 } else { f64::NEG_INFINITY };
        }
        if y == 0.0 { self.ln_pmf_of_zero() } else { self.ln_pmf_of_positive(y) }
    }

    fn ln_pmf_of_zero(&self) -> f64 {
        let z = self.dispersion * self.mean;
        if z == 0.0 { -self.mean } else { -self.mean * (z.ln_1p() / z) }
    }

    fn ln_pmf_of_positive(&self, y: f64) -> f64 {
        let (of_count, of_size) = self.half_deviances(y);
        let mut stirling = -stirling_error(y);
        // Beyond a size of 1e16 the two errors are equal to the last digit.
        if self.dispersion > 1e-16 {
            let size = 1.0 / self.dispersion;
            stirling += stirling_error(size + y) - stirling_error(size);
        }
        let widened = 1.0 + self.dispersion * y;
        stirling - of_count - of_size - 0.5 * (widened * y).ln() - HALF_LN_2PI
    }

    /// Half the deviance of `y` in two parts: the count against its share of all trials, and the
    /// size `1 / dispersion` against its own share.
    fn half_deviances(&self, y: f64) -> (f64, f64) {
        let (mu, alpha) = (self.mean, self.dispersion);
        let widened = 1.0 + alpha * y;
        let of_count = mu * widened / self.spread * deviance_term((y - mu) / (mu * widened));
        if alpha == 0.0 {
            return (of_count, 0.0);
        }
        let of_size = widened / (alpha * self.spread) * deviance_term(alpha * (mu - y) / widened);
        (of_count, of_size)
    }

    /// Both tails at `y`. Between whole numbers: `P(Y <= floor y)` and `P(Y >= ceil y)`.
    /// All NaN for a NaN.
    pub fn tails(&self, y: f64) -> Tails {
        if y.is_nan() {
            return Tails { ln_lower: f64::NAN, ln_upper: f64::NAN, ln_pmf: f64::NAN };
        }
        if y < 0.0 {
            return Tails { ln_lower: f64::NEG_INFINITY, ln_upper: 0.0, ln_pmf: f64::NEG_INFINITY };
        }
        if y.fract() != 0.0 {
            return Tails {
                ln_lower: self.tails(y.floor()).ln_lower,
                ln_upper: self.tails(y.ceil()).ln_upper,
                ln_pmf: f64::NEG_INFINITY,
            };
        }
        self.tails_at_whole(y)
    }

    fn tails_at_whole(&self, y: f64) -> Tails {
        let ln_pmf = self.ln_pmf(y);
        if y == 0.0 {
            return Tails { ln_lower: ln_pmf, ln_upper: 0.0, ln_pmf };
        }
        if self.mean == 0.0 {
            return Tails { ln_lower: 0.0, ln_upper: f64::NEG_INFINITY, ln_pmf };
        }
        if y.min(1.0 / self.dispersion) > NORMAL_FROM {
            return self.normal_tails(y, ln_pmf);
        }
        let upper_is_near = y > self.mean;
        let ratio = if upper_is_near { self.upper_over_pmf(y) } else { self.lower_over_pmf(y) };
        let near = (ln_pmf + ratio.ln()).min(0.0);
        // The other tail is 1 - near + pmf.
        let far = ln_1m_exp((ln_pmf + (ratio - 1.0).ln()).min(0.0));
        let (ln_lower, ln_upper) = if upper_is_near { (far, near) } else { (near, far) };
        Tails { ln_lower, ln_upper, ln_pmf }
    }

    /// `P(Y >= y) / P(Y = y)`, `y >= 1`; quick for `y` above the mean.
    fn upper_over_pmf(&self, y: f64) -> f64 {
        let (alpha, mu) = (self.dispersion, self.mean / self.spread);
        let mut m = 0.0;
        let mut odd = true;
        continued_fraction(|place| {
            let denominator = (y + place - 1.0) * (y + place);
            let coefficient = if odd {
                (1.0 + alpha * (y + m)) * (y + m) * mu / denominator
            } else {
                -m * (1.0 - alpha * m) * mu / denominator
            };
            if odd {
                m += 1.0;
            }
            odd = !odd;
            coefficient
        })
    }

    /// `P(Y <= y) / P(Y = y)`; quick for `y` below the mean.
    fn lower_over_pmf(&self, y: f64) -> f64 {
        let (alpha, mu) = (self.dispersion, self.mean);
        let mut m = 0.0;
        let mut odd = true;
        let fraction = continued_fraction(|place| {
            let denominator = mu * (1.0 + alpha * (place - 1.0)) * (1.0 + alpha * place);
            let coefficient = if odd {
                (y - m) * (1.0 + alpha * m) / denominator
            } else {
                -m * (1.0 + alpha * (y + m)) / denominator
            };
            if odd {
                m += 1.0;
            }
            odd = !odd;
            coefficient
        });
        (1.0 + alpha * y) * fraction
    }

    /// For huge counts near Poisson: the modified signed root of the deviance is normal
    /// (Barndorff-Nielsen's form of Daniels' saddlepoint tail, second continuity correction).
    fn normal_tails(&self, y: f64, ln_pmf: f64) -> Tails {
        Tails {
            ln_lower: ln_normal_cdf(self.modified_root(y + 0.5)),
            ln_upper: ln_normal_cdf(-self.modified_root(y - 0.5)),
            ln_pmf,
        }
    }

    fn modified_root(&self, y: f64) -> f64 {
        let root = self.root_deviance(y);
        // The correction is smooth through 0, where its formula is 0 / 0: step aside.
        let aside = if root.abs() < 0.01 { self.mean + 0.01 * self.variance().sqrt() } else { y };
        let side = if root.abs() < 0.01 { self.root_deviance(aside) } else { root };
        let tilt = ((aside / self.mean - 1.0) / (1.0 + self.dispersion * aside)).ln_1p();
        let scaled = 2.0 * (0.5 * tilt).sinh() * (aside * (1.0 + self.dispersion * aside)).sqrt();
        root + (scaled / side).ln() / side
    }

    fn root_deviance(&self, y: f64) -> f64 {
        let (of_count, of_size) = self.half_deviances(y);
        (2.0 * (of_count + of_size)).sqrt().copysign(y - self.mean)
    }

    /// The smallest `y` with `P(Y <= y) >= p`, for `0 <= p < 1`; infinity for 1, NaN outside.
    pub fn quantile(&self, p: f64) -> f64 {
        if !(0.0..=1.0).contains(&p) {
            return f64::NAN;
        }
        if p == 1.0 {
            return if self.mean == 0.0 { 0.0 } else { f64::INFINITY };
        }
        let guess = self.guess(super::special::normal_quantile(p));
        if p <= 0.5 {
            let ln_p = p.ln();
            self.first_where(guess, |tails| tails.ln_lower >= ln_p)
        } else {
            // P(Y > y) <= 1 - p, with P(Y > y) = P(Y >= y + 1): seen from the upper side, where
            // a p close to 1 has kept its digits.
            let ln_rest = (1.0 - p).ln();
            self.first_where(guess + 1.0, |tails| tails.ln_upper <= ln_rest) - 1.0
        }
    }

    /// The values that a two-sided test at `1 - level` does not reject, as `(lowest, highest)`:
    /// `y` lies outside exactly when its two-sided p-value is at most `1 - level`.
    pub fn interval(&self, level: f64) -> (f64, f64) {
        let tail = (1.0 - level) / 2.0;
        let z = super::special::normal_quantile(tail);
        self.interval_at(tail, z)
    }

    /// [`NegativeBinomial::interval`] with the tail `(1 - level) / 2` and its normal quantile
    /// already known: for callers who ask for the same level many times.
    pub fn interval_at(&self, tail: f64, z: f64) -> (f64, f64) {
        if self.mean == 0.0 {
            return (0.0, 0.0);
        }
        (self.lowest_above(tail, z), self.highest_above(tail, z))
    }

    /// The smallest `y` with `P(Y <= y) > tail`.
    fn lowest_above(&self, tail: f64, z: f64) -> f64 {
        let ln_tail = tail.ln();
        if self.ln_pmf_of_zero() > ln_tail {
            return 0.0;
        }
        let mut y = self.guess(z);
        let tails = self.tails_at_whole(y);
        let (mut below, mut pmf) = (tails.ln_lower.exp(), tails.ln_pmf.exp());
        if below > 1e-250 {
            for _ in 0..MAX_STEPS {
                if below > tail {
                    if below - pmf <= tail {
                        return y;
                    }
                    below -= pmf;
                    pmf /= self.pmf_step(y - 1.0);
                    y -= 1.0;
                } else {
                    pmf *= self.pmf_step(y);
                    below += pmf;
                    y += 1.0;
                    if below > tail {
                        return y;
                    }
                }
            }
        }
        self.first_where(y, |tails| tails.ln_lower > ln_tail)
    }

    /// The largest `y` with `P(Y >= y) > tail`.
    fn highest_above(&self, tail: f64, z: f64) -> f64 {
        let mut y = self.guess(-z);
        let tails = self.tails_at_whole(y);
        let (mut above, mut pmf) = (tails.ln_upper.exp(), tails.ln_pmf.exp());
        if above > 1e-250 {
            for _ in 0..MAX_STEPS {
                if above > tail {
                    if above - pmf <= tail {
                        return y;
                    }
                    above -= pmf;
                    pmf *= self.pmf_step(y);
                    y += 1.0;
                } else {
                    pmf /= self.pmf_step(y - 1.0);
                    above += pmf;
                    y -= 1.0;
                    if above > tail {
                        return y;
                    }
                }
            }
        }
        let ln_tail = tail.ln();
        self.first_where(y, |tails| tails.ln_upper <= ln_tail) - 1.0
    }

    /// `P(Y = y + 1) / P(Y = y)`.
    fn pmf_step(&self, y: f64) -> f64 {
        (1.0 + self.dispersion * y) * self.mean / ((y + 1.0) * self.spread)
    }

    /// Where the normal quantile `z` lies after the Cornish-Fisher correction for skewness; a
    /// start, no result.
    fn guess(&self, z: f64) -> f64 {
        let deviation = self.variance().sqrt();
        let skewness = (1.0 + 2.0 * self.dispersion * self.mean) / deviation;
        let start = self.mean + deviation * (z + skewness * (z * z - 1.0) / 6.0);
        if start.is_finite() { start.floor().max(0.0) } else { self.mean.floor() }
    }

    /// The smallest whole `y >= 0` for which `holds`, which turns true once and stays so:
    /// galloping from `guess`, then bisection.
    fn first_where(&self, guess: f64, holds: impl Fn(&Tails) -> bool) -> f64 {
        let at = |y: f64| holds(&self.tails_at_whole(y));
        let (mut low, mut high) = (guess, guess);
        let mut width = 1.0;
        if at(guess) {
            loop {
                if low <= 0.0 {
                    low = -1.0;
                    break;
                }
                low = (low - width).max(0.0);
                if !at(low) {
                    break;
                }
                high = low;
                width *= 2.0;
            }
        } else {
            loop {
                low = high;
                high += width;
                width *= 2.0;
                if at(high) || high > 1e300 {
                    break;
                }
            }
        }
        // `low` fails (or is -1), `high` holds.
        while high - low > 1.0 {
            let middle = ((low + high) / 2.0).floor();
            if middle <= low || middle >= high {
                break;
            }
            if at(middle) {
                high = middle;
            } else {
                low = middle;
            }
        }
        high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(table: &str) -> Vec<Vec<f64>> {
        let text = include_str!("../../tests/golden/nb2_reference.json");
        let all: serde_json::Value = serde_json::from_str(text).unwrap();
        serde_json::from_value(all[table].clone()).unwrap()
    }

    fn nb(mean: f64, dispersion: f64) -> NegativeBinomial {
        NegativeBinomial::new(mean, dispersion).unwrap()
    }

    /// A log's absolute error is the probability's relative one. 1e-13 of the log's size is what
    /// adding up terms of that size costs; 5e-12 outright is what the fraction leaves where it
    /// converges slowest (dispersion 100).
    fn assert_log(found: f64, expected: f64, what: &str) {
        let error = (found - expected).abs();
        assert!(
            error <= 1e-13 * expected.abs() + 5e-12,
            "{what}: {found:e} is not {expected:e} (error {error:e})"
        );
    }

    #[test]
    fn logs_of_probabilities_and_of_both_tails_agree_with_mpmath_from_poisson_to_dispersion_100() {
        let table = rows("tails");
        assert!(table.len() > 300);
        assert!(table.iter().any(|row| row[5] < -700.0), "no tail beyond the smallest double");
        for row in &table {
            let what = format!("mean {:e}, dispersion {:e}, y {}", row[0], row[1], row[2]);
            let tails = nb(row[0], row[1]).tails(row[2]);
            assert_log(tails.ln_pmf, row[3], &format!("pmf, {what}"));
            assert_log(tails.ln_lower, row[4], &format!("lower tail, {what}"));
            assert_log(tails.ln_upper, row[5], &format!("upper tail, {what}"));
        }
        for row in rows("ln_pmf") {
            assert_log(nb(row[0], row[1]).ln_pmf(row[2]), row[3], &format!("pmf, {row:?}"));
        }
    }

    #[test]
    fn quantiles_are_exact() {
        for row in rows("quantiles") {
            assert_eq!(nb(row[0], row[1]).quantile(row[2]), row[3], "{row:?}");
        }
        assert_eq!(nb(1.0, 0.1).quantile(1.0), f64::INFINITY);
        assert!(nb(1.0, 0.1).quantile(1.1).is_nan());
    }

    #[test]
    fn a_value_lies_outside_the_interval_exactly_when_its_p_value_is_at_most_one_minus_level() {
        for mean in [1e-6, 0.3, 2.0, 17.0, 200.0, 1e5, 1e9] {
            for dispersion in [0.0, 1e-9, 0.02, 0.5, 3.0, 100.0] {
                for level in [0.5, 0.99, 0.999_999] {
                    let model = nb(mean, dispersion);
                    let (low, high) = model.interval(level);
                    let ln_alpha = f64::ln(1.0 - level);
                    let outside = |y: f64| model.tails(y).ln_two_sided().0 <= ln_alpha;
                    let what = format!("mean {mean}, dispersion {dispersion}, level {level}");
                    assert!(low <= high && !outside(low) && !outside(high), "{what}");
                    assert!(outside(high + 1.0), "{what}");
                    assert!(low == 0.0 || outside(low - 1.0), "{what}");
                }
            }
        }
    }

    #[test]
    fn huge_near_poisson_counts_join_the_exact_tails_smoothly() {
        // At 1e8 the exact fraction and the normal form both work.
        let mean = 1.2e8;
        for z in [-6.0, -1.0, 0.0, 2.0, 5.0] {
            let y = (mean + z * f64::sqrt(mean)).round();
            let model = nb(mean, 0.0);
            let normal = model.normal_tails(y, model.ln_pmf(y));
            let exact = if y > mean {
                model.ln_pmf(y) + model.upper_over_pmf(y).ln()
            } else {
                model.ln_pmf(y) + model.lower_over_pmf(y).ln()
            };
            let near = if y > mean { normal.ln_upper } else { normal.ln_lower };
            assert!((near - exact).abs() < 1e-8, "z {z}: {near} is not {exact}");
        }
    }

    #[test]
    fn a_two_sided_p_value_is_valid_and_a_randomised_one_uniform() {
        // Exact, by summing over all counts that matter.
        for (mean, dispersion) in [(0.4, 0.3), (6.0, 0.0), (40.0, 0.4)] {
            let model = nb(mean, dispersion);
            let tails: Vec<Tails> = (0..2_000).map(|y| model.tails(f64::from(y))).collect();
            for alpha in [0.001, 0.01, 0.05, 0.3] {
                let rejected: f64 = tails
                    .iter()
                    .filter(|t| t.ln_two_sided().0 <= f64::ln(alpha))
                    .map(|t| t.ln_pmf.exp())
                    .sum();
                assert!(rejected <= alpha * (1.0 + 1e-12), "{mean} {dispersion}: {rejected}");
            }
            let mean_mid: f64 = tails.iter().map(|t| t.ln_pmf.exp() * t.randomised(0.5)).sum();
            assert!((mean_mid - 0.5).abs() < 1e-12, "{mean_mid}");
            assert!(tails.windows(2).all(|w| w[0].randomised(1.0) <= w[1].randomised(0.0) + 1e-12));
        }
    }

    #[test]
    fn what_is_no_count_and_no_parameter_is_answered_for() {
        for (mean, dispersion) in
            [(-1.0, 0.1), (f64::NAN, 0.1), (1.0, -0.1), (f64::INFINITY, 0.0), (1e300, 1e300)]
        {
            assert!(NegativeBinomial::new(mean, dispersion).is_none());
        }
        let model = nb(3.0, 0.2);
        assert_eq!(model.ln_pmf(1.5), f64::NEG_INFINITY);
        assert_eq!(model.tails(-1.0).ln_upper, 0.0);
        assert_eq!(model.tails(1.5).ln_lower, model.tails(1.0).ln_lower);
        assert_eq!(model.tails(1.5).ln_upper, model.tails(2.0).ln_upper);
        assert!(model.tails(f64::NAN).ln_lower.is_nan());
        let nothing = nb(0.0, 0.2);
        assert_eq!(nothing.tails(0.0).ln_two_sided().0, 0.0);
        assert_eq!(nothing.tails(1.0).ln_upper, f64::NEG_INFINITY);
        assert_eq!(nothing.interval(0.99), (0.0, 0.0));
    }
}
