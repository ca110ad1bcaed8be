//! What the keys of a pair know about each other: empirical-Bayes priors.
//!
//! A year of one key says little about its season; seven keys of the same pair say a lot. Each
//! coefficient of season and trend is taken to be normal over the keys of a pair, with a mean and a
//! variance that the keys themselves tell (DerSimonian and Laird 1986, the variance shrunk towards
//! that of all pairs). A key's prior comes from the *other* keys of its pair, so that nothing is
//! used twice. The log dispersion is pooled over the whole panel in the same way: keys differ in
//! it, but not without bounds.
//!
//! What enters is the likelihood of each key alone: the prior under which its estimate was made is
//! taken out again.

use std::collections::HashMap;

use super::{
    design::Terms,
    fit::Nb2Fit,
    model::{DispersionPrior, Prior, diagonal},
};
use crate::panel::Panel;

/// Smallest standard deviation of a coefficient over the keys of a pair.
const MIN_COEFFICIENT_SD: f64 = 0.02;

/// How many degrees of freedom the variance over all pairs counts for beside a pair's own.
const PANEL_WEIGHT: f64 = 5.0;

/// A smaller dispersion cannot be told from none.
const LEAST_DISPERSION: f64 = 1e-3;

/// Bounds of the standard deviation of the log dispersion over keys, …
const DISPERSION_SD: (f64, f64) = (0.3, 1.5);

/// … which fewer well-determined keys than this do not tell.
const MIN_DISPERSIONS: usize = 5;

/// What a key's own fit says, without the prior that it was made with.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyEstimate {
    /// (estimate, information) of trend and harmonics, by [`slot`]; an information of 0 = nothing
    /// known.
    pub coefficients: Vec<(f64, f64)>,
    /// (estimate, information) of the log dispersion.
    pub ln_dispersion: (f64, f64),
}

impl KeyEstimate {
    /// From a fit under `prior`.
    pub fn new(fit: &Nb2Fit, terms: &Terms, prior: &Prior) -> Self {
        let mut coefficients = vec![(0.0, 0.0); 1 + 2 * fit.fourier_k];
        for j in 1..terms.n_columns() {
            let variance = fit.covariance[diagonal(j)];
            let precision = prior.precision[diagonal(j)];
            let information = 1.0 / variance - precision;
            if information * variance > 1e-6 {
                let total = fit.coefficients[j] / variance - precision * prior.mean[j];
                coefficients[slot(j, terms)] = (total / information, information);
            }
        }
        let alpha = fit.dispersion.max(LEAST_DISPERSION);
        Self { coefficients, ln_dispersion: (alpha.ln(), fit.dispersion_information) }
    }
}

/// The place of column `j` among all coefficients that keys may share: the trend, then the
/// harmonics, which are as many as a key's history bears.
fn slot(j: usize, terms: &Terms) -> usize {
    if terms.trend && j == terms.n_columns() - 1 { 0 } else { j }
}

/// Number of the pair of each series: its key without the last column.
pub(super) fn pairs(panel: &Panel) -> Vec<usize> {
    let mut numbers: HashMap<&[String], usize> = HashMap::new();
    panel
        .keys()
        .iter()
        .map(|key| {
            let pair = key.0.split_last().map_or(&[][..], |(_, pair)| pair);
            let next = numbers.len();
            *numbers.entry(pair).or_insert(next)
        })
        .collect()
}

/// Sums over the keys of a pair, for one coefficient.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    /// Keys that know something.
    n: f64,
    weight: f64,
    weight_square: f64,
    value: f64,
    value_square: f64,
}

impl Moments {
    fn add(&mut self, (value, weight): (f64, f64), sign: f64) {
        self.n += sign * f64::from(u8::from(weight > 0.0));
        self.weight += sign * weight;
        self.weight_square += sign * weight * weight;
        self.value += sign * weight * value;
        self.value_square += sign * weight * value * value;
    }

    /// Cochran's Q, less its degrees of freedom, and the factor of the variance in its mean.
    fn heterogeneity(&self) -> (f64, f64) {
        if self.n < 2.0 || self.weight <= 0.0 {
            return (0.0, 0.0);
        }
        let q = self.value_square - self.value * self.value / self.weight;
        (q - (self.n - 1.0), self.weight - self.weight_square / self.weight)
    }
}

/// Pooled estimates of all pairs of a panel.
#[derive(Debug)]
pub(super) struct Pool {
    pairs: Vec<usize>,
    /// `[pair][coefficient]`: variance over keys, and the sums at that variance.
    coefficients: Vec<Vec<(f64, Moments)>>,
    dispersion: Option<DispersionPrior>,
}

impl Pool {
    pub fn new(pairs: Vec<usize>, keys: &[KeyEstimate]) -> Self {
        let n_pairs = pairs.iter().max().map_or(0, |last| last + 1);
        let n_columns = keys.iter().map(|key| key.coefficients.len()).max().unwrap_or(0);
        let mut plain = vec![vec![Moments::default(); n_columns]; n_pairs];
        for (key, &pair) in keys.iter().zip(&pairs) {
            for (moments, &estimate) in plain[pair].iter_mut().zip(&key.coefficients) {
                moments.add(estimate, 1.0);
            }
        }
        let mut coefficients: Vec<Vec<(f64, Moments)>> = plain
            .iter()
            .map(|own| {
                (0..n_columns)
                    .map(|j| {
                        (variance(&own[j], plain.iter().map(|pair| &pair[j])), Moments::default())
                    })
                    .collect()
            })
            .collect();
        for (key, &pair) in keys.iter().zip(&pairs) {
            for ((variance, moments), &estimate) in
                coefficients[pair].iter_mut().zip(&key.coefficients)
            {
                moments.add(widened(estimate, *variance), 1.0);
            }
        }
        Self { pairs, coefficients, dispersion: dispersion_prior(keys) }
    }

    /// The prior of a series, whose own estimate is `key`, on top of the prior `default` that knows
    /// no other series.
    pub fn prior(&self, series: usize, key: &KeyEstimate, terms: &Terms, default: &Prior) -> Prior {
        let mut prior = default.clone();
        let pooled = &self.coefficients[self.pairs[series]];
        for j in 1..terms.n_columns() {
            let place = slot(j, terms);
            let Some((variance, moments)) = pooled.get(place) else { continue };
            let mut others = *moments;
            let own = key.coefficients.get(place).copied().unwrap_or_default();
            others.add(widened(own, *variance), -1.0);
            let least = default.precision[diagonal(j)];
            let weight = others.weight.max(0.0) + least;
            if others.n < 0.5 || weight <= 0.0 {
                continue;
            }
            prior.mean[j] = others.value / weight;
            prior.precision[diagonal(j)] = (1.0 / (variance + 1.0 / weight)).max(least);
        }
        if let Some(dispersion) = self.dispersion {
            prior.dispersion = dispersion;
        }
        prior
    }
}

/// An estimate whose information is `1 / (1 / information + variance)`.
fn widened((value, information): (f64, f64), variance: f64) -> (f64, f64) {
    (value, information / (1.0 + information * variance))
}

/// A coefficient's variance over the keys of one pair, shrunk towards that over all pairs.
fn variance<'a>(own: &Moments, all: impl Iterator<Item = &'a Moments>) -> f64 {
    let (mut excess, mut factor) = (0.0, 0.0);
    for pair in all {
        let (e, f) = pair.heterogeneity();
        excess += e;
        factor += f;
    }
    let panel = if factor > 0.0 { (excess / factor).max(0.0) } else { 0.0 };
    let (e, f) = own.heterogeneity();
    let mine = if f > 0.0 { (e / f).max(0.0) } else { panel };
    let freedom = (own.n - 1.0).max(0.0);
    let shrunk = (mine * freedom + panel * PANEL_WEIGHT) / (freedom + PANEL_WEIGHT);
    shrunk.max(MIN_COEFFICIENT_SD * MIN_COEFFICIENT_SD)
}

/// The distribution of the log dispersion over all keys that know theirs.
fn dispersion_prior(keys: &[KeyEstimate]) -> Option<DispersionPrior> {
    let known = || keys.iter().map(|key| key.ln_dispersion).filter(|d| d.1 > 1.0);
    if known().count() < MIN_DISPERSIONS {
        return None;
    }
    let mut plain = Moments::default();
    known().for_each(|estimate| plain.add(estimate, 1.0));
    let (excess, factor) = plain.heterogeneity();
    let variance = if factor > 0.0 { excess / factor } else { 0.0 };
    let sd = variance.max(0.0).sqrt().clamp(DISPERSION_SD.0, DISPERSION_SD.1);
    let mut moments = Moments::default();
    known().for_each(|estimate| moments.add(widened(estimate, sd * sd), 1.0));
    Some(DispersionPrior::LogNormal { centre: moments.value / moments.weight, sd })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms { period: 52.0, fourier_k: 1, trend: true, centre: 26.0 };

    fn default() -> Prior {
        Prior::independent(&[0.0, 4.0, 4.0, 25.0], true, DispersionPrior::Exponential(1.0))
    }

    /// A key whose first sine is `value`, known with `information`.
    fn key(value: f64, information: f64) -> KeyEstimate {
        KeyEstimate {
            coefficients: vec![(0.0, 0.0), (value, information), (0.0, 0.0)],
            ln_dispersion: (0.0, 0.0),
        }
    }

    #[test]
    fn a_prior_comes_from_the_other_keys_of_the_pair() {
        let keys = [key(0.4, 400.0), key(0.5, 400.0), key(0.6, 400.0), key(-9.0, 100.0)];
        let pool = Pool::new(vec![0, 0, 0, 1], &keys);
        let first = pool.prior(0, &keys[0], &TERMS, &default());
        assert!((0.5..0.56).contains(&first.mean[1]), "{:?}", first.mean);
        assert!(first.precision[diagonal(1)] > 20.0);
        assert_eq!(first.mean[2], 0.0);
        assert_eq!(first.precision[diagonal(2)], 4.0);
        // A key alone in its pair learns nothing from another pair.
        assert_eq!(pool.prior(3, &keys[3], &TERMS, &default()), default());
        // A key that differs widens the prior of the others, and of itself.
        let wild = [key(5.0, 400.0), key(0.5, 400.0), key(0.6, 400.0)];
        let moved = Pool::new(vec![0; 3], &wild).prior(0, &wild[0], &TERMS, &default());
        assert!(moved.precision[diagonal(1)] < first.precision[diagonal(1)]);
    }

    #[test]
    fn the_prior_is_taken_out_of_an_estimate_before_it_is_shared() {
        let covariance = {
            let mut packed = vec![0.0; 10];
            (0..4).for_each(|j| packed[diagonal(j)] = 0.05);
            packed
        };
        let fit = Nb2Fit {
            fourier_k: 1,
            trend: true,
            own_terms: vec![],
            ln_exposure: 0.0,
            zero_share: 0.0,
            coefficients: vec![3.0, 0.4, 0.0, 0.1],
            dispersion: 0.2,
            covariance,
            excess_dispersion: 0.0,
            dispersion_information: 9.0,
            until: 52,
        };
        let estimate = KeyEstimate::new(&fit, &TERMS, &default());
        // Precision 20, of which the prior has 4: 16 at 0.4 * 20 / 16; the trend's is all prior.
        assert!((estimate.coefficients[1].0 - 0.5).abs() < 1e-12);
        assert!((estimate.coefficients[1].1 - 16.0).abs() < 1e-9);
        assert_eq!(estimate.coefficients[0], (0.0, 0.0));
        assert_eq!(estimate.ln_dispersion, (0.2f64.ln(), 9.0));
    }

    #[test]
    fn dispersions_are_pooled_over_the_panel() {
        let with = |alpha: f64, information: f64| KeyEstimate {
            coefficients: vec![],
            ln_dispersion: (alpha.ln(), information),
        };
        let mut keys = vec![with(9.0, 0.1); 4];
        keys.extend([0.05, 0.1, 0.2, 0.1, 0.1].map(|alpha| with(alpha, 15.0)));
        let pool = Pool::new(vec![0; 9], &keys);
        let Some(DispersionPrior::LogNormal { centre, sd }) = pool.dispersion else {
            panic!("no prior")
        };
        assert!((centre - 0.1f64.ln()).abs() < 0.01, "{centre}");
        assert!((0.3..0.6).contains(&sd), "{sd}");
        assert_eq!(Pool::new(vec![0; 8], &keys[..8]).dispersion, None);
    }
}
