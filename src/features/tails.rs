//! The two distribution functions that profiles and baselines need: the normal quantile for
//! interval bounds, and the logarithm of Student's two-sided tail for honest p-values of windows
//! of eight points.

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

/// Natural log of the two-sided p-value (twice the smaller tail, at most 1) of a count `x`, when `n`
/// counts of the same rate came to `sum`: the predictive distribution of a Poisson count under
/// Jeffreys' prior, a negative binomial of size `sum + 1/2` and probability `n / (n + 1)`.
pub fn ln_poisson_predictive_two_sided(x: f64, sum: f64, n: f64) -> f64 {
    let x = x.round();
    let (size, q) = (sum + 0.5, 1.0 / (n + 1.0));
    let ln_mass = |k: f64| {
        ln_gamma(k + size) - ln_gamma(size) - ln_gamma(k + 1.0) + k * q.ln() + size * (-q).ln_1p()
    };
    let above = x > size * q / (1.0 - q);
    // The sum over the tail in units of its first term, which is the largest.
    let (mut k, mut term, mut total) = (x, 1.0, 1.0);
    while term > 1e-14 * total && (above || k > 0.0) {
        if above {
            term *= (k + size) / (k + 1.0) * q;
            k += 1.0;
        } else {
            term *= k / ((k - 1.0 + size) * q);
            k -= 1.0;
        }
        total += term;
    }
    (ln_mass(x) + f64::ln(total) + std::f64::consts::LN_2).min(0.0)
}

/// The `p`-quantile of the standard normal distribution, for `0 < p < 1`; infinite at 0 and 1.
///
/// The rational start of Abramowitz and Stegun 26.2.23 (error under 4.5e-4), sharpened by three
/// Newton steps in the logarithm of the tail.
pub fn normal_quantile(p: f64) -> f64 {
    if p.is_nan() || !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    if p > 0.5 {
        return -normal_quantile(1.0 - p);
    }
    if p == 0.0 {
        return f64::NEG_INFINITY;
    }
    let r = (-2.0 * p.ln()).sqrt();
    let top = 2.515_517 + r * (0.802_853 + r * 0.010_328);
    let bottom = 1.0 + r * (1.432_788 + r * (0.189_269 + r * 0.001_308));
    let mut z = r - top / bottom; // the upper quantile
    for _ in 0..3 {
        let ln_tail = ln_normal_upper_tail(z);
        let hazard = (-0.5 * z * z - 0.5 * std::f64::consts::TAU.ln() - ln_tail).exp();
        z += (ln_tail - p.ln()) / hazard;
    }
    -z
}

/// Natural log of the normal upper tail at `z >= -1`: the continued fraction of Abramowitz and
/// Stegun 26.2.14 beyond 2, the series 26.2.10 before.
fn ln_normal_upper_tail(z: f64) -> f64 {
    let ln_density = -0.5 * z * z - 0.5 * std::f64::consts::TAU.ln();
    if z > 2.0 {
        let mut fraction = z;
        for k in (1..=60).rev() {
            fraction = z + f64::from(k) / fraction;
        }
        return ln_density - fraction.ln();
    }
    let (mut term, mut sum) = (z, z);
    for k in 1..60 {
        term *= z * z / f64::from(2 * k + 1);
        sum += term;
    }
    (0.5 - ln_density.exp() * sum).ln()
}

fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

/// Natural log of the gamma function for positive arguments: Stirling's series (Abramowitz and
/// Stegun 6.1.41) after the argument has been raised above 10.
fn ln_gamma(x: f64) -> f64 {
    let (mut y, mut product) = (x, 1.0);
    while y < 10.0 {
        product *= y;
        y += 1.0;
    }
    let i = 1.0 / (y * y);
    let series = (1.0 / 12.0 - i * (1.0 / 360.0 - i * (1.0 / 1_260.0 - i / 1_680.0))) / y;
    (y - 0.5) * y.ln() - y + 0.5 * std::f64::consts::TAU.ln() + series - f64::ln(product)
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

    #[test]
    fn predictive_counts_agree_with_mpmath() {
        // mpmath 1.4.1 at 40 digits, sums of exp(log-gamma) terms; scipy 1.17.1 nbinom agrees.
        for (x, sum, n, expected) in [
            (0.0, 0.0, 8.0, 0.0),
            (1.0, 0.0, 8.0, -2.1682122821473),
            (2.0, 0.0, 8.0, -4.6433543439012),
            (9.0, 16.0, 8.0, -6.3902900138431),
            (40.0, 16.0, 8.0, -58.233780035093),
            (2.0, 160.0, 8.0, -13.024549881265),
            (1300.0, 8000.0, 8.0, -38.426165005989),
            (300.0, 16.0, 8.0, -600.74366651505),
        ] {
            let found = ln_poisson_predictive_two_sided(x, sum, n);
            assert!((found - expected).abs() < 1e-7 * (1.0 + expected.abs()), "{x} {sum}: {found}");
        }
    }

    #[test]
    fn normal_quantiles_agree_with_mpmath() {
        // mpmath 1.4.1 at 50 digits: root of log(erfc(z/sqrt(2))/2) - log(p).
        for (p, expected) in [
            (0.4, -0.253_347_103_135_8),
            (0.025, -1.959_963_984_540_05),
            (0.000_5, -3.290_526_731_491_89),
            (1e-10, -6.361_340_902_404_06),
            (1e-300, -37.047_096_299_36),
        ] {
            let found = normal_quantile(p);
            assert!((found - expected).abs() < 1e-9, "{p}: {found}");
        }
        assert!(normal_quantile(0.5).abs() < 1e-12);
        assert!((normal_quantile(0.975) + normal_quantile(0.025)).abs() < 1e-12);
        assert!(normal_quantile(-0.1).is_nan());
    }
}
