//! Made-up data whose anomalies are known.
//!
//! Detection can only be measured where the truth is known, so every generator writes its
//! anomalies into a labels file: all of them, the undetectable ones too. Every series draws from
//! its own random stream and files are written in order, so the same seed gives the same bytes
//! whatever the number of threads. Rows are made and written a block of time at a time.

mod events;
mod funnel;
mod funnel_model;
mod records;
mod records_model;
mod table;
mod weekly;

pub use funnel::{FunnelSpec, generate_funnel};
pub use records::{RecordsSpec, generate_records};
pub use weekly::{WeeklySpec, generate_weekly};

use std::collections::BTreeMap;

use rand::Rng;
use rand_distr::{Distribution, Gamma, Poisson};
use serde::Serialize;

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GeneratedSummary {
    pub rows: u64,
    pub series: usize,
    /// Labelled events by kind.
    pub events: BTreeMap<String, usize>,
    /// Known events (campaigns), which are no anomalies.
    pub known_events: usize,
}

/// A Poisson count whose rate varies by a gamma factor: NB2 with variance mean + dispersion × mean²
/// (Greenwood and Yule 1920). A dispersion of 0 is Poisson.
fn negative_binomial<R: Rng>(rng: &mut R, mean: f64, dispersion: f64) -> u64 {
    let rate = if mean > 0.0 && dispersion > 0.0 {
        Gamma::new(1.0 / dispersion, mean * dispersion).map_or(mean, |gamma| gamma.sample(rng))
    } else {
        mean
    };
    // An error means a rate of 0 or below: no event.
    Poisson::new(rate).map_or(0, |poisson| poisson.sample(rng) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::random::stream;

    #[test]
    fn counts_have_the_mean_and_variance_of_nb2() {
        for (number, &(mean, dispersion)) in
            [(0.3, 0.5), (5.0, 0.1), (200.0, 0.02), (40.0, 0.0)].iter().enumerate()
        {
            let n = 40_000;
            let mut rng = stream(7, "moments", number as u64);
            let draws: Vec<f64> =
                (0..n).map(|_| negative_binomial(&mut rng, mean, dispersion) as f64).collect();
            let average = draws.iter().sum::<f64>() / n as f64;
            let variance =
                draws.iter().map(|x| (x - average).powi(2)).sum::<f64>() / (n - 1) as f64;
            let expected = mean + dispersion * mean * mean;
            // Four standard errors of the mean; the variance's own error is below 3 % at this n.
            let tolerance = 4.0 * (expected / n as f64).sqrt();
            assert!((average - mean).abs() < tolerance, "mean {average} for {mean}");
            assert!((variance / expected - 1.0).abs() < 0.06, "variance {variance} for {expected}");
        }
    }

    #[test]
    fn a_mean_of_zero_gives_no_event() {
        let mut rng = stream(1, "moments", 9);
        assert_eq!(negative_binomial(&mut rng, 0.0, 0.3), 0);
        assert_eq!(negative_binomial(&mut rng, f64::NAN, 0.3), 0);
    }
}
