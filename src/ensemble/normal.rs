//! The normal distribution's upper tail and its inverse in log form, for Stouffer's method.

use std::f64::consts::{LN_2, PI};

/// ln P(Z >= z) for a standard normal Z; no underflow however large z is.
pub(super) fn ln_upper(z: f64) -> f64 {
    if z < 0.0 {
        return (-ln_upper(-z).exp()).ln_1p();
    }
    let ln_density = -0.5 * z * z - 0.5 * (2.0 * PI).ln();
    if z < 3.0 {
        // P(0 < Z < z) = density * (z + z^3/3 + z^5/(3*5) + ...), Abramowitz and Stegun 26.2.11.
        let (mut term, mut sum, mut odd) = (z, z, 1.0);
        while term > sum * 1e-17 {
            odd += 2.0;
            term *= z * z / odd;
            sum += term;
        }
        return (0.5 - ln_density.exp() * sum).ln();
    }
    // Mills' ratio as a continued fraction, Abramowitz and Stegun 26.2.14.
    let fraction = (1..=60).rev().fold(z, |below, k| z + f64::from(k) / below);
    ln_density - fraction.ln()
}

/// The z whose upper tail has the probability `exp(ln_p)`; infinite at p = 0 and p = 1.
pub(super) fn upper_quantile(ln_p: f64) -> f64 {
    if ln_p > -LN_2 {
        let complement = (-ln_p.exp_m1()).ln();
        return if complement == f64::NEG_INFINITY {
            f64::NEG_INFINITY
        } else {
            -upper_quantile(complement)
        };
    }
    if ln_p == f64::NEG_INFINITY {
        return f64::INFINITY;
    }
    // Newton on the log tail, which is concave: it comes in from the left and never overshoots far.
    let mut z = (-2.0 * (ln_p + LN_2)).max(0.0).sqrt();
    for _ in 0..50 {
        let ln_tail = ln_upper(z);
        let hazard = (-0.5 * z * z - 0.5 * (2.0 * PI).ln() - ln_tail).exp();
        let step = (ln_tail - ln_p) / hazard;
        z += step;
        if step.abs() < 1e-14 * z.abs().max(1.0) {
            break;
        }
    }
    z
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_match_scipy() {
        // scipy 1.17.1, stats.norm.logsf; 1e-13 relative is what the series and fraction hold.
        for (z, expected) in GOLDEN {
            assert!((ln_upper(z) / expected - 1.0).abs() < 1e-13, "{z}: {}", ln_upper(z));
        }
    }

    #[test]
    fn the_quantile_undoes_the_tail() {
        for z in [-6.0, -2.0, -0.1, 0.0, 0.5, 2.9, 3.1, 8.0, 40.0, 1e4] {
            assert!((upper_quantile(ln_upper(z)) - z).abs() < 1e-9 * z.abs().max(1.0), "{z}");
        }
        assert_eq!(upper_quantile(0.0), f64::NEG_INFINITY);
        assert_eq!(upper_quantile(f64::NEG_INFINITY), f64::INFINITY);
    }

    const GOLDEN: [(f64, f64); 13] = [
        (-5.0, -2.8665161296376294e-07),
        (-1.0, -0.1727537790234499),
        (0.0, -0.6931471805599453),
        (0.1, -0.7761545927302733),
        (1.0, -1.8410216450092634),
        (2.5, -5.081648277278691),
        (2.999, -6.6044435875705805),
        (3.0, -6.60772622151035),
        (3.001, -6.611009784890932),
        (5.0, -15.064998393988727),
        (10.0, -53.23128515051248),
        (38.0, -726.5572160188201),
        (1000.0, -500007.8266948122),
    ];
}
