//! The step-up procedures of Benjamini and Hochberg (1995) and Benjamini and Yekutieli (2001), on
//! ln p.

use super::FdrMethod;

/// How many of a family are rejected, and the threshold that does it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct StepUp {
    pub rejected: usize,
    /// ln of q max(R, 1) / (m c): exactly the R rejected lie at or below it. Without a rejection it
    /// is what a lone one would have needed.
    pub ln_threshold: f64,
}

/// Steps up through the `ln_p` of a family, which it sorts. At rank R a p-value is rejected when
/// p <= q R / (m c), with c = 1 (Benjamini-Hochberg) or the m-th harmonic number
/// (Benjamini-Yekutieli); the largest such R counts.
pub(super) fn step_up(ln_p: &mut [f64], q: f64, method: FdrMethod) -> StepUp {
    ln_p.sort_unstable_by(f64::total_cmp);
    let unit = q.ln() - (ln_p.len().max(1) as f64 * correction(ln_p.len(), method)).ln();
    let at = |rank: usize| unit + (rank as f64).ln();
    let rejected = ln_p
        .iter()
        .enumerate()
        .rev()
        .find(|(i, p)| **p <= at(i + 1) + super::ruling::TOLERANCE)
        .map_or(0, |(i, _)| i + 1);
    StepUp { rejected, ln_threshold: at(rejected.max(1)) }
}

/// How many series of a step must be at the smallest reachable p together before any of them is
/// rejected; `None` when even all m are not enough.
pub(in crate::ensemble) fn rejections_needed(
    smallest_p: f64,
    m: usize,
    q: f64,
    method: FdrMethod,
) -> Option<usize> {
    let needed = (smallest_p * m as f64 * correction(m, method) / q - 1e-9).ceil().max(1.0);
    (needed <= m as f64).then_some(needed as usize)
}

fn correction(m: usize, method: FdrMethod) -> f64 {
    match method {
        FdrMethod::BenjaminiHochberg => 1.0,
        FdrMethod::BenjaminiYekutieli => harmonic(m),
    }
}

/// 1 + 1/2 + … + 1/m; 1 for an empty family.
fn harmonic(m: usize) -> f64 {
    (1..=m.max(1)).map(|i| 1.0 / i as f64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::{random::stream, special::ln_normal_cdf};
    use rand_distr::{Distribution, StandardNormal};

    const METHODS: [FdrMethod; 2] = [FdrMethod::BenjaminiHochberg, FdrMethod::BenjaminiYekutieli];

    /// Adjusted p-values of `scipy.stats.false_discovery_control`: see tests/golden/fdr.py.
    #[derive(serde::Deserialize)]
    struct Golden {
        p: Vec<f64>,
        bh: Vec<f64>,
        by: Vec<f64>,
    }

    #[test]
    fn the_rejected_are_those_whose_adjusted_p_of_scipy_is_at_most_q() {
        let text = include_str!("../../../tests/golden/fdr.json");
        let families: Vec<Golden> = serde_json::from_str(text).unwrap();
        let mut rejections = 0;
        for Golden { p, bh, by } in &families {
            for (method, adjusted) in METHODS.into_iter().zip([bh, by]) {
                for q in [0.01, 0.05, 0.1, 0.3] {
                    let mut ln_p: Vec<f64> = p.iter().map(|p| p.ln()).collect();
                    let found = step_up(&mut ln_p, q, method);
                    let wanted = adjusted.iter().filter(|a| **a <= q).count();
                    assert_eq!(found.rejected, wanted, "{method:?} at {q}");
                    let below = ln_p.iter().filter(|p| **p <= found.ln_threshold + 1e-12).count();
                    assert_eq!(below, wanted, "the threshold says the same");
                    rejections += wanted;
                }
            }
        }
        assert!(rejections > 100, "the families must have something to reject");
    }

    /// Share of false alerts, averaged over families of 60 of which `shifted` are anomalous; `rho`
    /// is the correlation within a family.
    fn false_discovery_rate(method: FdrMethod, shifted: usize, rho: f64) -> f64 {
        let (m, families) = (60, 4_000);
        let mut rng = stream(1_000, "fdr", shifted as u64);
        let mut total = 0.0;
        for _ in 0..families {
            let common: f64 = StandardNormal.sample(&mut rng);
            let ln_p: Vec<f64> = (0..m)
                .map(|i| {
                    let own: f64 = StandardNormal.sample(&mut rng);
                    let z = rho.sqrt() * common + (1.0 - rho).sqrt() * own;
                    ln_normal_cdf(-(z + if i < shifted { 3.0 } else { 0.0 }))
                })
                .collect();
            let StepUp { rejected, ln_threshold } = step_up(&mut ln_p.clone(), 0.1, method);
            let is_false = |(i, p): &(usize, &f64)| *i >= shifted && **p <= ln_threshold + 1e-12;
            let wrong = ln_p.iter().enumerate().filter(is_false).count();
            total += wrong as f64 / rejected.max(1) as f64;
        }
        total / f64::from(families)
    }

    #[test]
    fn the_rate_is_q_times_the_share_of_clean_series_and_less_under_dependence() {
        // Independent: exactly q m0 / m, with a standard error of about 0.004.
        for shifted in [0, 10, 30] {
            let rate = false_discovery_rate(FdrMethod::BenjaminiHochberg, shifted, 0.0);
            let exact = 0.1 * (60 - shifted) as f64 / 60.0;
            assert!((rate - exact).abs() < 0.015, "{shifted}: {rate}, not {exact}");
        }
        for method in METHODS {
            for shifted in [0, 10] {
                let rate = false_discovery_rate(method, shifted, 0.5);
                assert!(rate < 0.11, "{method:?} {shifted}: {rate}");
            }
        }
    }

    #[test]
    fn a_floor_under_p_needs_company_to_be_rejected() {
        let bh = FdrMethod::BenjaminiHochberg;
        assert_eq!(rejections_needed(0.001, 60, 0.1, bh), Some(1));
        assert_eq!(rejections_needed(0.01, 60, 0.1, bh), Some(6));
        assert_eq!(rejections_needed(0.2, 60, 0.1, bh), None);
        assert_eq!(rejections_needed(0.01, 60, 0.1, FdrMethod::BenjaminiYekutieli), Some(29));
        assert_eq!(rejections_needed(0.0, 60, 0.1, bh), Some(1));
        let mut six = vec![0.01_f64.ln(); 6];
        six.resize(60, 0.0);
        assert_eq!(step_up(&mut six.clone(), 0.1, bh).rejected, 6);
        six[0] = 0.0;
        assert_eq!(step_up(&mut six, 0.1, bh).rejected, 0);
    }

    #[test]
    fn an_empty_family_rejects_nothing() {
        assert_eq!(step_up(&mut [], 0.1, FdrMethod::BenjaminiHochberg).rejected, 0);
        assert_eq!(harmonic(0), 1.0);
    }
}
