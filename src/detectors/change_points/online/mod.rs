//! How long the newest level has lasted: Bayesian online change-point detection (Adams and MacKay
//! 2007, arXiv:0710.3742).
//!
//! After each value there is a distribution over the **run length**, the number of newest values that
//! share one level. A run goes on with probability `1 - hazard`; the levels of two runs are
//! independent, and each run predicts the next value from its own values alone, in closed form:
//! Student's t for normal noise ([`NormalNoise`]), negative binomial for counts ([`PoissonCounts`]).
//! A step takes time in proportion to the number of runs that are kept; runs below `prune` are
//! dropped and the rest is scaled to 1.
//!
//! As in the paper, a run of length 0 holds no value yet: its probability is the hazard, whatever the
//! data, and a change shows from length 1 on.

mod models;

#[cfg(test)]
mod tests;

pub use models::{Exposed, NormalNoise, PoissonCounts};

/// How values of one run are spread, with a conjugate prior over what the run does not share with
/// others.
pub trait Model: Clone {
    type Value: Copy;
    /// What a run has seen.
    type Seen: Clone;

    /// A run without values.
    fn empty(&self) -> Self::Seen;

    /// Natural log of the density of the next value of a run of `length` values.
    fn ln_predictive(&mut self, seen: &Self::Seen, length: usize, value: Self::Value) -> f64;

    /// The run of `length` values gets one more.
    fn learn(&self, seen: &mut Self::Seen, length: usize, value: Self::Value);

    /// Posterior mean of the run's level.
    fn level(&self, seen: &Self::Seen) -> f64;
}

/// One candidate for the newest run.
#[derive(Clone, Debug)]
struct Run<S> {
    /// Number of values that the sequence had before the run.
    start: usize,
    probability: f64,
    seen: S,
}

/// The distribution over run lengths.
#[derive(Clone, Debug)]
pub struct RunLengths<M: Model> {
    model: M,
    hazard: f64,
    prune: f64,
    n_values: usize,
    /// The longest first.
    runs: Vec<Run<M::Seen>>,
}

impl<M: Model> RunLengths<M> {
    /// Before the first value. `hazard`: probability of a change at any step, between 0 and 1;
    /// `prune`: runs with less probability are dropped, 0 keeps all.
    pub fn new(model: M, hazard: f64, prune: f64) -> Self {
        let first = Run { start: 0, probability: 1.0, seen: model.empty() };
        Self { model, hazard, prune, n_values: 0, runs: vec![first] }
    }

    /// Takes the next value.
    pub fn observe(&mut self, value: M::Value) {
        let now = self.n_values;
        let model = &mut self.model;
        let logs: Vec<f64> = self
            .runs
            .iter()
            .map(|run| model.ln_predictive(&run.seen, now - run.start, value))
            .collect();
        let top = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut total = 0.0;
        for (run, ln_p) in self.runs.iter_mut().zip(&logs) {
            // Where no run can tell (all densities are nothing), what was believed stays.
            let likelihood = if top.is_finite() { (ln_p - top).exp() } else { 1.0 };
            run.probability *= likelihood;
            total += run.probability;
            model.learn(&mut run.seen, now - run.start, value);
        }
        for run in &mut self.runs {
            run.probability *= (1.0 - self.hazard) / total;
        }
        self.n_values += 1;
        let seen = self.model.empty();
        self.runs.push(Run { start: self.n_values, probability: self.hazard, seen });
        self.drop_unlikely();
    }

    fn drop_unlikely(&mut self) {
        let prune = self.prune;
        let before = self.runs.len();
        // The run that begins now stays, or there would be none where the hazard is tiny.
        let now = self.n_values;
        self.runs.retain(|run| run.probability >= prune || run.start == now);
        if self.runs.len() < before {
            let total: f64 = self.runs.iter().map(|run| run.probability).sum();
            self.runs.iter_mut().for_each(|run| run.probability /= total);
        }
    }

    /// Length and probability of each run that is kept, the longest first.
    pub fn lengths(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.runs.iter().map(|run| (self.n_values - run.start, run.probability))
    }

    /// Probability that the newest level began within the newest `steps` values.
    pub fn changed_within(&self, steps: usize) -> f64 {
        self.recent(steps).map(|run| run.probability).sum()
    }

    /// Sum over the runs that began within the newest `steps` values of their probability times the
    /// distance of their level from `level`: how far the newest values are believed to have moved.
    pub fn moved_from(&self, level: f64, steps: usize) -> f64 {
        self.recent(steps).map(|run| run.probability * (self.model.level(&run.seen) - level)).sum()
    }

    fn recent(&self, steps: usize) -> impl Iterator<Item = &Run<M::Seen>> {
        let now = self.n_values;
        // A run of everything has not begun: nothing was there before it.
        self.runs
            .iter()
            .filter(move |run| run.start > 0 && (1..=steps).contains(&(now - run.start)))
    }
}
