//! The negative binomial distribution NB2, by its mean and its dispersion.
//!
//! Counts with mean `mu` and dispersion `alpha` have the variance `mu + alpha mu^2`; `alpha = 0` is
//! Poisson. The textbook form needs the size `1 / alpha`, which is infinite there and loses all
//! digits on the way. Everything below is therefore written so that `alpha` only ever appears as
//! `1 + alpha * something`: one code path from Poisson to `alpha = 100`.
//!
//! *Probability.* Loader's form: Stirling errors and two deviances
//! ([`deviance_term`]), so that a mean of 1e7 keeps its digits.
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
        (valid && mean.is_finite() && dispersion.is_finite()).then_some(Self {
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
mod tests;
