use super::*;

fn rows(table: &str) -> Vec<Vec<f64>> {
    let text = include_str!("../../../tests/golden/nb2_reference.json");
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
