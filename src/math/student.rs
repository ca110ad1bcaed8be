//! Student's t distribution: the logarithm of its two-sided tail, for honest p-values of windows of
//! eight points.

use super::special::ln_beta;

/// Natural log of `P(|T| >= |t|)` for Student's t with `df` degrees of freedom, without underflow.
///
/// `P = I_x(df/2, 1/2)` with `x = df / (df + t²)` (Abramowitz and Stegun 26.7.1); the incomplete
/// beta function by its continued fraction (26.5.8, evaluated by Lentz's method), with the prefactor
/// kept as a logarithm. NaN for NaN or `df <= 0`.
pub fn ln_student_two_sided(t: f64, df: f64) -> f64 {
    if t.is_nan() || df.is_nan() || df <= 0.0 {
        return f64::NAN;
    }
    if t == 0.0 {
        return 0.0;
    }
    let (a, b) = (0.5 * df, 0.5);
    // Logs of x and 1 - x, exact for |t| far beyond where t² overflows.
    let ratio = t.abs() / df.sqrt();
    let (ln_x, ln_rest) = if ratio > 1.0 {
        let q = ratio.recip().powi(2);
        (-2.0 * ratio.ln() - q.ln_1p(), -q.ln_1p())
    } else {
        let q = ratio * ratio;
        (-q.ln_1p(), 2.0 * ratio.ln() - q.ln_1p())
    };
    let ln_front = a * ln_x + b * ln_rest - ln_beta(a, b);
    let x = ln_x.exp();
    if x < (a + 1.0) / (a + b + 2.0) {
        (ln_front + (beta_fraction(a, b, x) / a).ln()).min(0.0)
    } else {
        let below = (ln_front.exp() * beta_fraction(b, a, ln_rest.exp()) / b).min(1.0);
        (-below).ln_1p()
    }
}

/// The continued fraction of the incomplete beta function, by Lentz's method.
fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away = |v: f64| if v.abs() < TINY { TINY } else { v };
    let mut d = 1.0 / away(1.0 - (a + b) * x / (a + 1.0));
    let (mut c, mut h) = (1.0, d);
    for m in 1..500 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / away(1.0 + even * d);
        c = away(1.0 + even / c);
        h *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / away(1.0 + odd * d);
        c = away(1.0 + odd / c);
        h *= d * c;
        if (d * c - 1.0).abs() < 1e-15 {
            break;
        }
    }
    h
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn students_tail_agrees_with_mpmath_far_into_the_tail() {
        // mpmath 1.4.1 at 50 digits: log(betainc(df/2, 1/2, 0, df/(df+t^2), regularized=True)).
        for (t, df, expected) in [
            (0.5, 7.0, -0.458_221_890_204_336_3),
            (1.0, 1.0, -std::f64::consts::LN_2),
            (5.0, 7.0, -6.459_691_864_898_844),
            (30.0, 7.0, -18.256_143_996_756_383),
            (1e6, 7.0, -91.132_230_428_617_19),
            (1e200, 7.0, -3_218.042_786_714_509_4),
            (3.0, 1_000.0, -5.890_096_735_770_474),
            (60.0, 1_000.0, -766.585_786_542_521_2),
            (1e-8, 3.0, -7.351_051_965_976_21e-9),
        ] {
            let found = ln_student_two_sided(t, df);
            // 1e-9 relative: the log-gamma of half a thousand loses six digits to cancellation.
            assert!((found / expected - 1.0).abs() < 1e-9, "t {t}, df {df}: {found}");
            assert_eq!(found, ln_student_two_sided(-t, df));
        }
        assert_eq!(ln_student_two_sided(0.0, 7.0), 0.0);
        assert!(ln_student_two_sided(f64::NAN, 7.0).is_nan());
    }
}
