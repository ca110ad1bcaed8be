//! Fits against statsmodels, scipy and R, and proofs that an optimum is one.

use serde::Deserialize;

use crate::{
    detectors::nb2::{
        design::{Design, Terms},
        model::{
            Dispersion, DispersionPrior, Estimate, FitFailure, Observed, Prior, Regression,
            Workspace,
        },
    },
    math::{
        nb::NegativeBinomial,
        special::{digamma, ln_gamma, trigamma},
    },
};

#[derive(Deserialize)]
struct Reference {
    period: f64,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    n: usize,
    fourier_k: usize,
    trend: bool,
    counts: Vec<f64>,
    statsmodels: Option<Expected>,
    ml: Expected,
    cox_reid: Option<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    beta: Vec<f64>,
    dispersion: f64,
    ln_likelihood: Option<f64>,
    covariance: Option<Vec<Vec<f64>>>,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("../../../../tests/golden/nb2_fits.json")).unwrap()
}

fn flat(n_columns: usize) -> Prior {
    Prior::independent(&vec![0.0; n_columns], false, DispersionPrior::Exponential(0.0))
}

fn design_of(case: &Case, period: f64) -> Design {
    let centre = (case.n as f64 - 1.0) / 2.0;
    let terms = Terms { period, fourier_k: case.fourier_k, trend: case.trend, centre };
    Design::new(&terms, case.n)
}

/// The log-likelihood by way of the distribution, which shares no code with the fit.
fn ln_likelihood(design: &Design, counts: &[f64], estimate: &Estimate) -> f64 {
    let mut row = vec![0.0; design.n_columns];
    (0..counts.len())
        .map(|t| {
            design.row(t, &mut row);
            let eta: f64 = row.iter().zip(&estimate.beta).map(|(x, b)| x * b).sum();
            NegativeBinomial::new(eta.exp(), estimate.dispersion).unwrap().ln_pmf(counts[t])
        })
        .sum()
}

fn fit(
    design: &Design,
    counts: &[f64],
    dispersion: Dispersion,
    prior: &Prior,
) -> Result<(Estimate, Workspace), FitFailure> {
    let used = vec![1.0; counts.len()];
    let data = Observed { counts, used: &used, offset: &[] };
    let regression = Regression { design, prior, dispersion };
    let mut work = Workspace::new(design);
    let estimate = regression.fit(data, regression.start(data), &mut work)?;
    Ok((estimate, work))
}

fn assert_estimate(found: &Estimate, expected: &Expected, tolerance: f64, what: &str) {
    for (b, e) in found.beta.iter().zip(&expected.beta) {
        assert!((b - e).abs() < tolerance, "{what}: coefficient {b} is not {e}");
    }
    let error = (found.dispersion - expected.dispersion).abs();
    assert!(
        error <= tolerance * expected.dispersion.max(0.1),
        "{what}: dispersion {} is not {}",
        found.dispersion,
        expected.dispersion
    );
}

#[derive(Deserialize)]
struct MassReference {
    period: f64,
    cases: Vec<MassCase>,
}

#[derive(Deserialize)]
struct MassCase {
    n: usize,
    fourier_k: usize,
    counts: Vec<f64>,
    coefficients: Vec<f64>,
    dispersion: f64,
    ln_likelihood: f64,
    standard_errors: Vec<f64>,
}

// glm.nb alternates until the deviance moves by less than 1e-10 of itself, which leaves six digits;
// the likelihood at our optimum must not be below its own.
#[test]
fn maximum_likelihood_agrees_with_mass() {
    let text = include_str!("../../../../tests/golden/nb2_mass.json");
    let reference: MassReference = serde_json::from_str(text).unwrap();
    for (i, case) in reference.cases.iter().enumerate() {
        let centre = (case.n as f64 - 1.0) / 2.0;
        let MassCase { n, fourier_k, .. } = *case;
        let terms = Terms { period: reference.period, fourier_k, trend: true, centre };
        let design = Design::new(&terms, n);
        let prior = flat(design.n_columns);
        let (found, mut work) = fit(&design, &case.counts, Dispersion::Ml, &prior).unwrap();
        for (b, expected) in found.beta.iter().zip(&case.coefficients) {
            assert!((b - expected).abs() < 2e-6, "case {i}: {b} is not {expected}");
        }
        assert!((found.dispersion / case.dispersion - 1.0).abs() < 1e-5, "case {i}");
        let ours = ln_likelihood(&design, &case.counts, &found);
        assert!((ours - case.ln_likelihood).abs() < 1e-6, "case {i}");
        assert!(ours > case.ln_likelihood - 1e-9, "case {i}");
        let used = vec![1.0; n];
        let data = Observed { counts: &case.counts, used: &used, offset: &[] };
        let regression = Regression { design: &design, prior: &prior, dispersion: Dispersion::Ml };
        let covariance = regression.covariance(data, found.dispersion, &mut work).unwrap();
        for (j, expected) in case.standard_errors.iter().enumerate() {
            let error = covariance[j * (j + 3) / 2].sqrt();
            assert!((error / expected - 1.0).abs() < 1e-5, "case {i}: {error} is not {expected}");
        }
    }
}

// Both sides solve the same equations to rounding; 1e-8 is what the stopping rule (a last move
// under 1e-9) leaves. statsmodels' own stopping rule leaves its figures four to five digits.
#[test]
fn maximum_likelihood_agrees_with_statsmodels() {
    let reference = reference();
    for (i, case) in reference.cases.iter().enumerate() {
        let what = format!("case {i}");
        let design = design_of(case, reference.period);
        let prior = flat(design.n_columns);
        let (found, mut work) = fit(&design, &case.counts, Dispersion::Ml, &prior).unwrap();
        assert_estimate(&found, &case.ml, 1e-8, &what);
        if let Some(statsmodels) = &case.statsmodels {
            assert_estimate(&found, statsmodels, 3e-4, &what);
            let ours = ln_likelihood(&design, &case.counts, &found);
            let theirs = statsmodels.ln_likelihood.unwrap();
            assert!(
                (ours - theirs).abs() < 1e-5 && ours > theirs - 1e-9,
                "{what}: {ours} {theirs}"
            );
        }
        if let Some(covariance) = &case.ml.covariance {
            let used = vec![1.0; case.n];
            let data = Observed { counts: &case.counts, used: &used, offset: &[] };
            let regression =
                Regression { design: &design, prior: &prior, dispersion: Dispersion::Ml };
            let packed = regression.covariance(data, found.dispersion, &mut work).unwrap();
            for (place, (r, c)) in
                (0..design.n_columns).flat_map(|r| (0..=r).map(move |c| (r, c))).enumerate()
            {
                let error = (packed[place] - covariance[r][c]).abs();
                assert!(error < 1e-7 * covariance[r][r], "{what}: covariance of {r}, {c}");
            }
        }
    }
}

#[derive(Deserialize)]
struct ExposureReference {
    period: f64,
    cases: Vec<ExposureCase>,
}

#[derive(Deserialize)]
struct ExposureCase {
    exposure: Vec<f64>,
    counts: Vec<f64>,
    coefficients: Vec<f64>,
    dispersion: f64,
    glm_coefficients: Vec<f64>,
    glm_rates: Vec<f64>,
}

// statsmodels' Newton stops at a gradient that leaves six digits of the dispersion; its GLM, given
// that dispersion, agrees with its own coefficients to 1e-6.
#[test]
fn rates_per_exposure_agree_with_statsmodels() {
    let text = include_str!("../../../../tests/golden/nb2_exposure.json");
    let reference: ExposureReference = serde_json::from_str(text).unwrap();
    for (i, case) in reference.cases.iter().enumerate() {
        let n = case.counts.len();
        let centre = (n as f64 - 1.0) / 2.0;
        let terms = Terms { period: reference.period, fourier_k: 1, trend: true, centre };
        let design = Design::new(&terms, n);
        let prior = flat(design.n_columns);
        let regression = Regression { design: &design, prior: &prior, dispersion: Dispersion::Ml };
        let offset: Vec<f64> = case.exposure.iter().map(|e| e.ln()).collect();
        let used = vec![1.0; n];
        let data = Observed { counts: &case.counts, used: &used, offset: &offset };
        let mut work = Workspace::new(&design);
        let found = regression.fit(data, regression.start(data), &mut work).unwrap();
        for (expected, name) in [(&case.coefficients, "ML"), (&case.glm_coefficients, "GLM")] {
            for (b, e) in found.beta.iter().zip(expected) {
                assert!((b - e).abs() < 2e-6, "case {i}, {name}: {b} is not {e}");
            }
        }
        assert!((found.dispersion / case.dispersion - 1.0).abs() < 2e-5, "case {i}");
        regression.predict(&found, &offset, &mut work);
        for ((mean, exposure), rate) in work.mean.iter().zip(&case.exposure).zip(&case.glm_rates) {
            assert!((mean / exposure / rate - 1.0).abs() < 5e-6, "case {i}");
        }
    }
}

#[test]
fn the_cox_reid_fit_agrees_with_scipy_and_lies_above_maximum_likelihood() {
    let reference = reference();
    let mut compared = 0;
    for (i, case) in reference.cases.iter().enumerate() {
        let Some(expected) = &case.cox_reid else { continue };
        let design = design_of(case, reference.period);
        let prior = flat(design.n_columns);
        let (found, _) = fit(&design, &case.counts, Dispersion::CoxReid, &prior).unwrap();
        assert_estimate(&found, expected, 1e-7, &format!("case {i}"));
        assert!(found.dispersion > case.ml.dispersion);
        compared += 1;
    }
    assert!(compared >= 6);
}

/// Gradient of the log-likelihood by digammas, which the fit does not use, over its natural scale.
fn standardised_gradient(design: &Design, counts: &[f64], at: &Estimate) -> Vec<f64> {
    let n = design.n_columns;
    let (mut gradient, mut scale) = (vec![0.0; n + 1], vec![0.0; n + 1]);
    let mut row = vec![0.0; n];
    let (alpha, size) = (at.dispersion, 1.0 / at.dispersion);
    for (t, &y) in counts.iter().enumerate() {
        design.row(t, &mut row);
        let mu = row.iter().zip(&at.beta).map(|(x, b)| x * b).sum::<f64>().exp();
        let weight = mu / (1.0 + alpha * mu);
        for j in 0..n {
            gradient[j] += (y - mu) / (1.0 + alpha * mu) * row[j];
            scale[j] += weight * row[j] * row[j];
        }
        let by_size = digamma(y + size) - digamma(size) - (alpha * mu).ln_1p() + 1.0
            - (y + size) / (mu + size);
        gradient[n] -= size * size * by_size;
        scale[n] += 0.5 * weight * weight;
    }
    gradient.iter().zip(scale).map(|(g, s)| g / s.sqrt()).collect()
}

// In units of standard errors: 1e-7 of one is nothing.
#[test]
fn the_gradient_vanishes_at_the_fit_and_at_the_reference() {
    let reference = reference();
    for (i, case) in reference.cases.iter().enumerate().filter(|(_, c)| c.ml.dispersion > 0.0) {
        let design = design_of(case, reference.period);
        let prior = flat(design.n_columns);
        let (found, _) = fit(&design, &case.counts, Dispersion::Ml, &prior).unwrap();
        let theirs = Estimate { beta: case.ml.beta.clone(), dispersion: case.ml.dispersion };
        for estimate in [&found, &theirs] {
            for g in standardised_gradient(&design, &case.counts, estimate) {
                assert!(g.abs() < 1e-7, "case {i}: gradient {g:e}");
            }
        }
    }
}

#[test]
fn no_other_dispersion_is_likelier_even_for_counts_beyond_the_table() {
    let design = Design::new(&Terms { period: 52.0, fourier_k: 0, trend: false, centre: 0.0 }, 24);
    let prior = flat(1);
    for scale in [6.0, 40.0, 300.0, 5e3, 1e6, 1e9] {
        let counts: Vec<f64> =
            (0..24).map(|t| (scale * (1.0 + 0.8 * f64::sin(f64::from(t) * 2.1))).round()).collect();
        let (found, _) = fit(&design, &counts, Dispersion::Ml, &prior).unwrap();
        assert!(found.dispersion > 0.0, "{scale}");
        let best = ln_likelihood(&design, &counts, &found);
        for factor in [0.2, 0.9, 0.999, 1.001, 1.1, 5.0] {
            let other = Estimate { dispersion: found.dispersion * factor, ..found.clone() };
            let there = ln_likelihood(&design, &counts, &other);
            assert!(there < best + 1e-9, "scale {scale}, factor {factor}: {there} above {best}");
        }
    }
}

#[test]
fn counts_under_their_poisson_variance_end_on_the_boundary() {
    let design = Design::new(&Terms { period: 52.0, fourier_k: 0, trend: false, centre: 0.0 }, 30);
    let counts: Vec<f64> = (0..30).map(|t| f64::from(9 + t % 3)).collect();
    let (found, _) = fit(&design, &counts, Dispersion::Ml, &flat(1)).unwrap();
    assert_eq!(found.dispersion, 0.0);
    assert!((found.beta[0] - 10f64.ln()).abs() < 1e-12);
}

#[test]
fn without_a_prior_a_series_of_zeros_and_a_separated_season_are_failures_not_answers() {
    let terms = Terms { period: 52.0, fourier_k: 0, trend: true, centre: 20.0 };
    let design = Design::new(&terms, 40);
    let zeros = vec![0.0; 40];
    assert!(fit(&design, &zeros, Dispersion::Ml, &flat(2)).is_err());
    // One event at the very end: the trend may be as steep as it likes.
    let mut last = zeros.clone();
    last[39] = 5.0;
    assert!(fit(&design, &last, Dispersion::Ml, &flat(2)).is_err());
    let pulled = Prior::independent(&[0.0, 25.0], true, DispersionPrior::Exponential(1.0));
    for counts in [zeros, last] {
        let (found, _) = fit(&design, &counts, Dispersion::CoxReid, &pulled).unwrap();
        assert!(found.beta.iter().all(|b| b.is_finite()) && found.dispersion.is_finite());
    }
}

#[test]
fn steps_left_out_do_not_touch_the_fit() {
    let reference = reference();
    let case = &reference.cases[0];
    let design = design_of(case, reference.period);
    let prior = flat(design.n_columns);
    let regression = Regression { design: &design, prior: &prior, dispersion: Dispersion::CoxReid };
    let mut used = vec![1.0; case.n];
    used[10..20].fill(0.0);
    let mut wild = case.counts.clone();
    wild[10..20].fill(1e6);
    let mut work = Workspace::new(&design);
    let mut answers = [&case.counts, &wild].map(|counts| {
        let data = Observed { counts, used: &used, offset: &[] };
        regression.fit(data, regression.start(data), &mut work).unwrap()
    });
    assert_eq!(answers[0], answers[1]);
    // And two steps from the fit on everything come close to it.
    let all = vec![1.0; case.n];
    let everything = Observed { counts: &case.counts, used: &all, offset: &[] };
    let mut warm = regression.fit(everything, answers[0].clone(), &mut work).unwrap();
    let data = Observed { counts: &case.counts, used: &used, offset: &[] };
    regression.refine(data, &mut warm, 2, &mut work).unwrap();
    let exact = &mut answers[0];
    for (a, b) in warm.beta.iter().zip(&exact.beta) {
        assert!((a - b).abs() < 5e-3, "{a} {b}");
    }
}

#[test]
fn the_special_functions_that_the_references_use_are_consistent() {
    // digamma and trigamma are the derivatives of ln_gamma; the gradient tests lean on them.
    for x in [0.3, 2.0, 7.7, 40.0] {
        let h = 1e-5 * x;
        let slope = (ln_gamma(x + h) - ln_gamma(x - h)) / (2.0 * h);
        assert!((slope - digamma(x)).abs() < 1e-7);
        let slope = (digamma(x + h) - digamma(x - h)) / (2.0 * h);
        assert!((slope - trigamma(x)).abs() < 1e-6);
    }
}
