//! What the fit keeps of one metric of one series, and the costs and models made of it.

use serde::{Deserialize, Serialize};

use super::{
    noise::Noise,
    online::{Exposed, NormalNoise, PoissonCounts, RunLengths},
    params::{CostName, Setting},
    pelt::{
        AbsoluteDeviation, Cost, CountLikelihood, GaussianKernel, MAX_KERNEL_VALUES,
        SquaredDeviation, dispersion, kernel_scatter, median_heuristic,
    },
};
use crate::math::robust;

/// Fewer usable values than this are no history.
pub(super) const MIN_VALUES: usize = 10;
/// Residuals have unit spread about a level that is constant. Where neighbours differ by next to nothing of
/// it, events are rare, and a single one must not be a thousand standard deviations.
const MIN_SD: f64 = 0.02;
/// Of normal noise, how much a needless change of the median gains in absolute deviations, in
/// units of the standard deviation and of a chi-squared variable: `sqrt(2 pi) / 4`, from the density at the
/// median.
const ABSOLUTE_GAIN: f64 = 0.626_657;
/// Prior of the online part: the level of a run is as sure as this many values, its variance as
/// twice the second number.
const LEVEL_VALUES: f64 = 0.1;
const VARIANCE_SHAPE: f64 = 10.0;
/// Runs less probable than this share of a change at one step are dropped.
const PRUNE: f64 = 0.25;

/// Counts beside their residuals.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Counts {
    dispersion: f64,
    /// What a typical step is expected to hold: exposures are in this unit.
    typical: f64,
}

/// Width of the Gaussian kernel and the scatter of noise under it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kernel {
    gamma: f64,
    scatter: f64,
}

/// One metric of one series.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Learnt {
    /// Median of the residuals.
    pub level: f64,
    pub noise: Noise,
    /// How many values they were: the penalty must not depend on what comes later.
    values: usize,
    counts: Option<Counts>,
    kernel: Option<Kernel>,
}

/// Values of one metric of one series side by side.
#[derive(Clone, Debug, Default)]
pub(super) struct Values {
    pub residuals: Vec<f64>,
    pub observed: Vec<f64>,
    pub expected: Vec<f64>,
}

impl Learnt {
    /// From what the fit may see. `None` where that is too little.
    pub fn of(values: &Values, is_count: bool, cost: CostName) -> Option<Self> {
        let n = values.residuals.len();
        if n < MIN_VALUES {
            return None;
        }
        let counts = (cost == CostName::Nb && is_count).then(|| {
            let typical = (values.expected.iter().sum::<f64>() / n as f64).max(1e-9);
            let exposures: Vec<f64> =
                values.expected.iter().map(|e| exposure(*e, typical)).collect();
            Counts { dispersion: dispersion(&values.observed, &exposures), typical }
        });
        let kernel = (cost == CostName::Rbf).then(|| {
            let gamma = median_heuristic(&values.residuals);
            Kernel { gamma, scatter: kernel_scatter(&values.residuals, gamma) }
        });
        let noise = Noise::of(&values.residuals)?;
        Some(Self {
            level: robust::median(&mut values.residuals.clone())?,
            noise: Noise { sd: noise.sd.max(MIN_SD), ..noise },
            values: n,
            counts,
            kernel,
        })
    }

    /// Whether numbers out of a checkpoint are in range and fit the cost.
    pub fn is_sound(&self, cost: CostName) -> bool {
        let counts = self.counts.is_none_or(|c| {
            c.dispersion >= 0.0
                && c.dispersion.is_finite()
                && c.typical > 0.0
                && c.typical.is_finite()
        });
        let kernel = self.kernel.is_none_or(|k| {
            k.gamma > 0.0 && k.gamma.is_finite() && (0.0..=1.0).contains(&k.scatter)
        });
        let level = self.level.is_finite() && self.values >= MIN_VALUES && self.noise.is_sound();
        level && counts && kernel && (cost != CostName::Rbf || self.kernel.is_some())
    }

    /// Why the values cannot be segmented, if they cannot.
    pub fn refuses(&self, n_values: usize) -> Option<String> {
        (self.kernel.is_some() && n_values > MAX_KERNEL_VALUES).then(|| {
            format!("{n_values} values are too many for cost rbf: take cost = \"l1\" or \"l2\"")
        })
    }

    /// The cost of `values`, with `clipped` in place of their residuals.
    pub fn cost(&self, cost: CostName, clipped: &[f64], values: &Values) -> Box<dyn Cost> {
        match (self.counts, self.kernel, cost) {
            (Some(counts), ..) => {
                let exposures: Vec<f64> =
                    values.expected.iter().map(|e| exposure(*e, counts.typical)).collect();
                Box::new(CountLikelihood::new(&values.observed, &exposures, counts.dispersion))
            }
            (_, Some(kernel), _) => Box::new(GaussianKernel::new(clipped, Some(kernel.gamma))),
            (_, _, CostName::L1) => Box::new(AbsoluteDeviation::new(clipped)),
            _ => Box::new(SquaredDeviation::about(clipped, self.level)),
        }
    }

    /// What one unit of a chi-squared variable is in the cost's unit: twice the gain in log-likelihood of
    /// a needless change, autocorrelation included.
    pub fn unit(&self, cost: CostName) -> f64 {
        let own = match (self.counts, self.kernel, cost) {
            (Some(_), ..) => 1.0,
            (_, Some(kernel), _) => kernel.scatter.max(1e-9),
            (_, _, CostName::L1) => ABSOLUTE_GAIN * self.noise.sd,
            _ => self.noise.sd.powi(2),
        };
        own * self.noise.inflation()
    }

    /// What a change must gain, in the unit of a chi-squared variable: two parameters by the Schwarz
    /// criterion.
    pub fn penalty(&self, setting: &Setting) -> f64 {
        setting.penalty * 2.0 * (self.values as f64).ln()
    }

    /// The online part before the first value.
    pub fn online(&self, setting: &Setting) -> Online {
        let hazard = setting.steps_between_changes.recip();
        let prune = PRUNE * hazard;
        match self.counts {
            Some(counts) => {
                let model = PoissonCounts::new(1.0, 1.0 / counts.typical);
                Online::Counts(RunLengths::new(model, hazard, prune), counts)
            }
            None => {
                let scale = VARIANCE_SHAPE * self.noise.sd.powi(2);
                let model = NormalNoise::new(self.level, LEVEL_VALUES, VARIANCE_SHAPE, scale);
                Online::Residuals(RunLengths::new(model, hazard, prune), self.noise.sd)
            }
        }
    }
}

/// An expectation of next to nothing is some, or a single event would be infinitely much.
fn exposure(expected: f64, typical: f64) -> f64 {
    (expected / typical).max(1e-3)
}

/// The newest level by [`super::online`].
#[derive(Clone, Debug)]
pub(super) enum Online {
    /// And their standard deviation.
    Residuals(RunLengths<NormalNoise>, f64),
    Counts(RunLengths<PoissonCounts>, Counts),
}

/// One value for [`Online`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Newest {
    pub residual: f64,
    pub observed: f64,
    pub expected: f64,
    /// The long-run level, as a residual and in the metric's unit.
    pub level: f64,
    pub usual: f64,
}

impl Online {
    /// Takes a value; says how far the level is believed to have moved from the long-run one within the
    /// newest `steps` values, in standard deviations of a value.
    pub fn observe(&mut self, newest: Newest, steps: usize) -> f64 {
        match self {
            Self::Residuals(runs, sd) => {
                runs.observe(newest.residual);
                runs.moved_from(newest.level, steps) / *sd
            }
            Self::Counts(runs, counts) => {
                let exposure = exposure(newest.expected, counts.typical);
                let usual = newest.usual.max(0.0) / exposure;
                // Quasi-likelihood: as many Poisson events as tell as much as these do.
                let excess = 1.0 + counts.dispersion * newest.usual.max(0.0);
                let value =
                    Exposed { count: newest.observed / excess, exposure: exposure / excess };
                runs.observe(value);
                let sd = (usual.max(1e-3) * excess / exposure).sqrt();
                runs.moved_from(usual, steps) / sd
            }
        }
    }
}
