//! Special functions that keep their digits in the tails.
//!
//! An anomaly lives far out, where `1 - cdf` is nothing but rounding error. So everything here that
//! is a probability comes as a natural logarithm, each tail computed on its own side, and every
//! difference of nearly equal logarithms is written as the function it really is
//! ([`log1p_minus_x`], [`deviance_term`], [`stirling_error`]). The standard library has no gamma
//! function, and the crates that have one return plain probabilities, which end at 1e-308.
//!
//! Reference values: mpmath 1.4.1 with 60 digits, `tests/golden/nb2_reference.py`.

use std::f64::consts::{LN_2, PI};

/// ln(2 pi) / 2.
pub const HALF_LN_2PI: f64 = 0.918_938_533_204_672_8;

/// Above this argument the asymptotic series below are exact to rounding.
const ASYMPTOTIC_FROM: f64 = 10.0;

/// `stirling_error(k)` for whole `k` from 1; the most frequent arguments by far are small counts.
const STIRLING_ERROR_OF_WHOLE: [f64; 10] = [
    0.081_061_466_795_327_26,
    0.041_340_695_955_409_29,
    0.027_677_925_684_998_34,
    0.020_790_672_103_765_093,
    0.016_644_691_189_821_193,
    0.013_876_128_823_070_748,
    0.011_896_709_945_891_77,
    0.010_411_265_261_972_096,
    0.009_255_462_182_712_733,
    0.008_330_563_433_362_87,
];

/// The series of `ln gamma(x) - [(x - 1/2) ln x - x + ln(2 pi)/2]` for `x >= 10`
/// (Abramowitz and Stegun 6.1.41).
fn stirling_series(x: f64) -> f64 {
    let inverse = 1.0 / x;
    let square = inverse * inverse;
    let tail = 1.0 / 1_188.0 - square * (691.0 / 360_360.0);
    let tail = 1.0 / 1_260.0 - square * (1.0 / 1_680.0 - square * tail);
    inverse * (1.0 / 12.0 - square * (1.0 / 360.0 - square * tail))
}

/// Natural log of the gamma function for `x > 0`; `+inf` at 0, NaN below.
///
/// The absolute error stays under 1e-14 up to 10, the relative error under 1e-15 beyond; close to
/// the zeros at 1 and 2 only the absolute one holds.
pub fn ln_gamma(x: f64) -> f64 {
    if x.is_nan() || x < 0.0 {
        return f64::NAN;
    }
    if x == 0.0 || x.is_infinite() {
        return f64::INFINITY;
    }
    let mut shifted = x;
    let mut product = 1.0;
    while shifted < ASYMPTOTIC_FROM {
        product *= shifted;
        shifted += 1.0;
    }
    let far = (shifted - 0.5) * shifted.ln() - shifted + HALF_LN_2PI + stirling_series(shifted);
    if product == 1.0 { far } else { far - product.ln() }
}

/// What Stirling's formula lacks: `ln gamma(x + 1) - [(x + 1/2) ln x - x + ln(2 pi)/2]`, `x > 0`
/// (Loader, "Fast and accurate computation of binomial probabilities", 2000).
pub fn stirling_error(x: f64) -> f64 {
    if x >= ASYMPTOTIC_FROM {
        return stirling_series(x);
    }
    let whole = x as usize;
    if whole >= 1 && whole as f64 == x {
        return STIRLING_ERROR_OF_WHOLE[whole - 1];
    }
    ln_gamma(x + 1.0) - (x + 0.5) * x.ln() + x - HALF_LN_2PI
}

/// The derivative of [`ln_gamma`], `x > 0`.
pub fn digamma(x: f64) -> f64 {
    if x.is_nan() || x <= 0.0 {
        return f64::NAN;
    }
    let mut shifted = x;
    let mut below = 0.0;
    while shifted < ASYMPTOTIC_FROM {
        below += 1.0 / shifted;
        shifted += 1.0;
    }
    let square = 1.0 / (shifted * shifted);
    let tail = 1.0 / 240.0 - square * (1.0 / 132.0 - square * (691.0 / 32_760.0 - square / 12.0));
    let tail = 1.0 / 12.0 - square * (1.0 / 120.0 - square * (1.0 / 252.0 - square * tail));
    shifted.ln() - 0.5 / shifted - square * tail - below
}

/// The derivative of [`digamma`], `x > 0`.
pub fn trigamma(x: f64) -> f64 {
    if x.is_nan() || x <= 0.0 {
        return f64::NAN;
    }
    let mut shifted = x;
    let mut below = 0.0;
    while shifted < ASYMPTOTIC_FROM {
        below += 1.0 / (shifted * shifted);
        shifted += 1.0;
    }
    let inverse = 1.0 / shifted;
    let square = inverse * inverse;
    let tail =
        1.0 / 30.0 - square * (5.0 / 66.0 - square * (691.0 / 2_730.0 - square * (7.0 / 6.0)));
    let tail = 1.0 / 6.0 - square * (1.0 / 30.0 - square * (1.0 / 42.0 - square * tail));
    inverse + 0.5 * square + inverse * square * tail + below
}

/// `1/3 + s/5 + s^2/7 + …` for `0 <= s <= 0.0225`: the tail of the series of the inverse
/// hyperbolic tangent, exact to rounding.
fn atanh_tail(s: f64) -> f64 {
    let mut sum = 1.0 / 21.0;
    for odd in [19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0] {
        sum = sum * s + 1.0 / odd;
    }
    sum
}

/// `ln(1 + x) - x` without cancellation, `x > -1`.
pub fn log1p_minus_x(x: f64) -> f64 {
    if x.abs() > 0.26 {
        return x.ln_1p() - x;
    }
    let s = x / (2.0 + x);
    2.0 * s * s * s * atanh_tail(s * s) - x * s
}

/// `(1 + u) ln(1 + u) - u` without cancellation, `u >= -1`: the deviance of an observation that is
/// `1 + u` times its expectation, per unit of expectation.
pub fn deviance_term(u: f64) -> f64 {
    if u <= -1.0 {
        return 1.0;
    }
    if u.abs() > 0.26 {
        return (1.0 + u) * u.ln_1p() - u;
    }
    let s = u / (2.0 + u);
    u * s + 2.0 * (1.0 + u) * s * s * s * atanh_tail(s * s)
}

/// `ln(1 - exp(x))` for `x <= 0`, exact at both ends (Mächler 2012).
pub fn ln_1m_exp(x: f64) -> f64 {
    if x >= 0.0 {
        f64::NEG_INFINITY
    } else if x > -LN_2 {
        (-x.exp_m1()).ln()
    } else {
        (-x.exp()).ln_1p()
    }
}

/// `ln(exp(a) + exp(b))`.
pub fn ln_add_exp(a: f64, b: f64) -> f64 {
    let (high, low) = if a >= b { (a, b) } else { (b, a) };
    if high == f64::NEG_INFINITY || high.is_nan() {
        high
    } else {
        high + (low - high).exp().ln_1p()
    }
}

/// The continued fraction `1 / (1 - k(1) / (1 - k(2) / (1 - …)))` by the modified Lentz method
/// (Thompson and Barnett 1986). `k` gets the place of the coefficient, from 1. Stops at a relative
/// change of 1e-15, or where a coefficient is 0 (the fraction ends there).
pub(crate) fn continued_fraction(mut k: impl FnMut(f64) -> f64) -> f64 {
    const TINY: f64 = 1e-300;
    const MAX_TERMS: u32 = 1_000_000;
    let guard = |v: f64| if v.abs() < TINY { TINY } else { v };
    let (mut value, mut c, mut d) = (1.0_f64, 1.0_f64, 0.0_f64);
    let mut place = 0.0;
    for _ in 0..MAX_TERMS {
        place += 1.0;
        let coefficient = k(place);
        if coefficient == 0.0 {
            break;
        }
        d = 1.0 / guard(1.0 - coefficient * d);
        c = guard(1.0 - coefficient / c);
        let change = c * d;
        value *= change;
        if (change - 1.0).abs() < 1e-15 {
            break;
        }
    }
    1.0 / value
}

/// Both tails of the regularised incomplete beta function, as logs: `(ln I_x(a, b), ln I_{1-x}(b, a))`
/// for `a, b > 0` and `0 <= x <= 1`. The smaller tail comes from the continued fraction
/// (DLMF 8.17.22), the larger as its complement, so neither under- nor overflows.
/// NaN where the arguments are outside.
pub fn ln_incomplete_beta(a: f64, b: f64, x: f64) -> (f64, f64) {
    if !(a > 0.0 && b > 0.0 && (0.0..=1.0).contains(&x)) {
        return (f64::NAN, f64::NAN);
    }
    if x == 0.0 {
        return (f64::NEG_INFINITY, 0.0);
    }
    if x == 1.0 {
        return (0.0, f64::NEG_INFINITY);
    }
    let front = a * x.ln() + b * (-x).ln_1p() - ln_beta(a, b);
    if x < (a + 1.0) / (a + b + 2.0) {
        let lower = front - a.ln() + beta_fraction(a, b, x).ln();
        (lower, ln_1m_exp(lower))
    } else {
        let upper = front - b.ln() + beta_fraction(b, a, 1.0 - x).ln();
        (ln_1m_exp(upper), upper)
    }
}

fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    continued_fraction(|place| {
        let m = (place / 2.0).floor();
        let denominator = (a + place - 1.0) * (a + place);
        if place % 2.0 == 1.0 {
            (a + m) * (a + b + m) * x / denominator
        } else {
            -m * (b - m) * x / denominator
        }
    })
}

/// Natural log of the beta function, `a, b > 0`.
pub fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

/// Natural log of the standard normal density.
pub fn ln_normal_pdf(z: f64) -> f64 {
    -0.5 * z * z - HALF_LN_2PI
}

/// Natural log of the standard normal distribution function, for any `z`: `ln Phi(-40)` is
/// -804.6, not minus infinity.
pub fn ln_normal_cdf(z: f64) -> f64 {
    if z.is_nan() {
        return f64::NAN;
    }
    if z < -2.0 {
        return ln_normal_pdf(z) + ln_mills(-z);
    }
    if z > 2.0 {
        return (-(ln_normal_pdf(z) + ln_mills(z)).exp()).ln_1p();
    }
    (0.5 + central_area(z)).ln()
}

/// `Phi(z) - 1/2` for moderate `z`, by the series of positive terms `pdf(z) (z + z^3/3 + z^5/15 + …)`.
fn central_area(z: f64) -> f64 {
    let square = z * z;
    let (mut term, mut sum, mut odd) = (z, z, 1.0);
    while term.abs() > 1e-17 * sum.abs() {
        odd += 2.0;
        term *= square / odd;
        sum += term;
    }
    sum * (-0.5 * square).exp() / (2.0 * PI).sqrt()
}

/// ln of Mills' ratio `(1 - Phi(z)) / pdf(z)` for `z >= 2` (Laplace's continued fraction).
fn ln_mills(z: f64) -> f64 {
    let square = z * z;
    continued_fraction(|place| -place / square).ln() - z.ln()
}

/// The standard normal quantile of `exp(ln_p)`, for `ln_p <= 0`; exact down to `ln_p` = -1e15.
/// `-inf` and `+inf` at the ends, NaN for a positive argument.
pub fn normal_quantile_ln(ln_p: f64) -> f64 {
    if ln_p.is_nan() || ln_p > 0.0 {
        return f64::NAN;
    }
    if ln_p == 0.0 {
        return f64::INFINITY;
    }
    if ln_p == f64::NEG_INFINITY {
        return f64::NEG_INFINITY;
    }
    if ln_p > -LN_2 {
        return -normal_quantile_ln(ln_1m_exp(ln_p));
    }
    // Newton on ln Phi, which is concave and rising: from the left of the root it cannot overshoot.
    let mut z = -(-2.0 * ln_p).sqrt();
    for _ in 0..60 {
        let value = ln_normal_cdf(z);
        let step = (ln_p - value) * (value - ln_normal_pdf(z)).exp();
        z += step;
        if step.abs() <= 1e-15 * z.abs().max(1e-3) {
            break;
        }
    }
    z
}

/// The standard normal quantile of `p`.
pub fn normal_quantile(p: f64) -> f64 {
    if p > 0.5 { -normal_quantile_ln((1.0 - p).ln()) } else { normal_quantile_ln(p.ln()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference() -> serde_json::Value {
        let text = include_str!("../../tests/golden/nb2_reference.json");
        serde_json::from_str(text).unwrap()
    }

    /// The rows of one table: arguments, then the value.
    fn rows(table: &str) -> Vec<Vec<f64>> {
        serde_json::from_value(reference()["special"][table].clone()).unwrap()
    }

    /// Absolute below 1, relative above: what follows multiplies or adds these.
    fn assert_close(found: f64, expected: f64, tolerance: f64, what: &str) {
        let error = (found - expected).abs() / expected.abs().max(1.0);
        assert!(error <= tolerance, "{what}: {found:e} is not {expected:e} (error {error:e})");
    }

    // The shift up to 10 costs one product of ten factors and one difference near 13: a few ulps of 13.
    #[test]
    fn the_gamma_family_agrees_with_mpmath() {
        type Function = fn(f64) -> f64;
        let functions: [(&str, Function); 4] = [
            ("ln_gamma", ln_gamma),
            ("stirling_error", stirling_error),
            ("digamma", digamma),
            ("trigamma", trigamma),
        ];
        for (name, function) in functions {
            for row in rows(name) {
                assert_close(function(row[0]), row[1], 1e-14, &format!("{name}({})", row[0]));
            }
        }
        // Alone it is small, and in a probability it is what is left: its relative error counts.
        for row in rows("stirling_error").iter().filter(|row| row[0] >= 10.0) {
            assert!((stirling_error(row[0]) / row[1] - 1.0).abs() < 1e-13, "{row:?}");
        }
        assert!(ln_gamma(-1.0).is_nan() && digamma(0.0).is_nan() && trigamma(-2.0).is_nan());
        assert_eq!(ln_gamma(0.0), f64::INFINITY);
    }

    // Relative: these are the differences whose leading digits would cancel.
    #[test]
    fn differences_of_near_equals_keep_their_digits() {
        for (name, function) in
            [("log1p_minus_x", log1p_minus_x as fn(f64) -> f64), ("deviance_term", deviance_term)]
        {
            for row in rows(name) {
                let error = (function(row[0]) / row[1] - 1.0).abs();
                assert!(error < 2e-15, "{name}({}): relative error {error:e}", row[0]);
            }
        }
        assert_eq!(deviance_term(0.0), 0.0);
        assert_eq!(deviance_term(-1.0), 1.0);
        assert!((ln_1m_exp(-1e-20) - 1e-20f64.ln()).abs() < 1e-13);
        assert_eq!(ln_1m_exp(-800.0), -(-800f64).exp());
        assert!((ln_add_exp(-1000.0, -1000.0) - (-1000.0 + LN_2)).abs() < 1e-12);
        assert_eq!(ln_add_exp(f64::NEG_INFINITY, -3.0), -3.0);
    }

    #[test]
    fn the_normal_distribution_keeps_both_tails() {
        for row in rows("ln_normal_cdf") {
            let (z, expected) = (row[0], row[1]);
            let error = (ln_normal_cdf(z) / expected - 1.0).abs();
            assert!(error < 1e-14, "z = {z}: relative error {error:e}");
            if z > -1e3 {
                let back = normal_quantile_ln(expected);
                // Above 0 the argument itself has only the digits of 1 - p.
                let tolerance = if z > 2.5 { 1e-8 } else { 1e-13 };
                assert!((back - z).abs() <= tolerance * z.abs().max(1.0), "{back} is not {z}");
            }
        }
        assert!((normal_quantile(0.995) - 2.575_829_303_548_900_4).abs() < 1e-14);
        assert_eq!(normal_quantile_ln(0.0), f64::INFINITY);
        assert!(normal_quantile_ln(0.1).is_nan());
    }

    #[test]
    fn the_incomplete_beta_function_keeps_both_tails() {
        for row in rows("ln_incomplete_beta") {
            let (lower, upper) = ln_incomplete_beta(row[0], row[1], row[2]);
            assert_close(lower, row[3], 2e-13, &format!("lower {row:?}"));
            assert_close(upper, row[4], 2e-13, &format!("upper {row:?}"));
        }
        assert!(ln_incomplete_beta(0.0, 1.0, 0.5).0.is_nan());
        assert_eq!(ln_incomplete_beta(1.0, 2.0, 1.0), (0.0, f64::NEG_INFINITY));
    }
}
