//! What a run predicts.

use super::Model;
use crate::math::special::ln_gamma;

/// Normal values of unknown mean and variance, with a normal-inverse-gamma prior: the variance is
/// inverse gamma with `shape` and `scale`, the mean normal about `mean` with the variance over
/// `strength`. The next value has Student's t distribution with `2 shape` degrees of freedom.
#[derive(Clone, Debug)]
pub struct NormalNoise {
    mean: f64,
    strength: f64,
    shape: f64,
    scale: f64,
    /// By length of the run: `ln gamma(shape + 1/2) - ln gamma(shape)`, less half the log of
    /// `2 pi (strength + 1) / strength`, all as the run has them.
    constants: Vec<f64>,
}

/// Posterior mean and scale of a run.
#[derive(Clone, Copy, Debug)]
pub struct NormalSeen {
    mean: f64,
    scale: f64,
}

impl NormalNoise {
    /// `mean` is finite, the others are positive.
    pub fn new(mean: f64, strength: f64, shape: f64, scale: f64) -> Self {
        Self { mean, strength, shape, scale, constants: Vec::new() }
    }

    fn constant(&mut self, length: usize) -> f64 {
        for known in self.constants.len()..=length {
            let (strength, shape) = (self.strength + known as f64, self.shape + 0.5 * known as f64);
            let widened = std::f64::consts::TAU * (strength + 1.0) / strength;
            self.constants.push(ln_gamma(shape + 0.5) - ln_gamma(shape) - 0.5 * widened.ln());
        }
        self.constants[length]
    }
}

impl Model for NormalNoise {
    type Value = f64;
    type Seen = NormalSeen;

    fn empty(&self) -> NormalSeen {
        NormalSeen { mean: self.mean, scale: self.scale }
    }

    fn ln_predictive(&mut self, seen: &NormalSeen, length: usize, value: f64) -> f64 {
        let strength = self.strength + length as f64;
        let shape = self.shape + 0.5 * length as f64;
        let square = (value - seen.mean).powi(2) * strength / (2.0 * seen.scale * (strength + 1.0));
        self.constant(length) - 0.5 * seen.scale.ln() - (shape + 0.5) * square.ln_1p()
    }

    fn learn(&self, seen: &mut NormalSeen, length: usize, value: f64) {
        let strength = self.strength + length as f64;
        let distance = value - seen.mean;
        seen.scale += 0.5 * distance * distance * strength / (strength + 1.0);
        seen.mean += distance / (strength + 1.0);
    }

    fn level(&self, seen: &NormalSeen) -> f64 {
        seen.mean
    }
}

/// A count and its exposure: what a step of rate 1 is expected to hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exposed {
    pub count: f64,
    pub exposure: f64,
}

/// Poisson counts of unknown rate with a gamma prior of `shape` and `rate`. The next count is negative
/// binomial. Counts and exposures that are both divided by how much more than a Poisson's their
/// variance is (quasi-likelihood) need not be whole numbers.
#[derive(Clone, Debug)]
pub struct PoissonCounts {
    shape: f64,
    rate: f64,
}

/// Posterior shape and rate of a run.
#[derive(Clone, Copy, Debug)]
pub struct GammaSeen {
    shape: f64,
    rate: f64,
}

impl PoissonCounts {
    /// Both are positive.
    pub fn new(shape: f64, rate: f64) -> Self {
        Self { shape, rate }
    }
}

impl Model for PoissonCounts {
    type Value = Exposed;
    type Seen = GammaSeen;

    fn empty(&self) -> GammaSeen {
        GammaSeen { shape: self.shape, rate: self.rate }
    }

    fn ln_predictive(&mut self, seen: &GammaSeen, _length: usize, value: Exposed) -> f64 {
        let Exposed { count, exposure } = value;
        let share = exposure / seen.rate;
        ln_gamma(seen.shape + count)
            - ln_gamma(seen.shape)
            - ln_gamma(count + 1.0)
            - (seen.shape + count) * share.ln_1p()
            + if count > 0.0 { count * share.ln() } else { 0.0 }
    }

    fn learn(&self, seen: &mut GammaSeen, _length: usize, value: Exposed) {
        seen.shape += value.count;
        seen.rate += value.exposure;
    }

    fn level(&self, seen: &GammaSeen) -> f64 {
        seen.shape / seen.rate
    }
}
