//! The mean of the last few steps, plus and minus some standard deviations.
//!
//! The window trails and leaves the judged step out. A window of eight that holds its own point can
//! never fire at three standard deviations: the largest z of one point among n is
//! `(n - 1) / sqrt(n)`, which is 2.47 for eight (Shiffler 1988).
//!
//! With the mean and the standard deviation s of n values that do not hold it, the next normal
//! value lies `t × s × sqrt(1 + 1/n)` away, with Student's t of n - 1 degrees of freedom: so `log_p`
//! comes from there. (Three standard deviations of eight values are p = 0.025, not the 0.0027 of a
//! normal table.) Counts are neither continuous nor symmetric, so their `log_p` is the larger of
//! that and of the exact predictive tail of a Poisson count whose rate the window tells; and their s
//! is at least that of a Poisson count, so that a quiet series neither divides by zero nor alarms at
//! its first event. Over several metrics the smallest p is multiplied by their number (Bonferroni),
//! which holds however they depend on each other.
//!
//! The detector learns nothing, it needs no more than the steps before the judged one. That makes it
//! the fallback for series that are too short for a model, and it scores series that it has never
//! seen. Cells that the mask forbids (known events) stay out of the windows under `fit_score`, which
//! is one step ahead whatever the plan; `score` knows no mask and uses every step before the judged
//! one.

use ndarray::{Array2, Array3};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    detectors::{
        Detector, DetectorError, DetectorName, DetectorState, FitContext, FitMask, FittedDetector,
        Scores, ScoringPlan, SeriesFailure,
    },
    math::{nb::NegativeBinomial, student::ln_student_two_sided},
    panel::{MetricKind, Panel},
};

const NAME: DetectorName = DetectorName::Rolling;
/// Fewer values in the window than this judge nothing.
const MIN_VALUES: usize = 4;
/// Scores stay finite where a constant series moves.
const MAX_SCORE: f64 = 1e6;
/// A longer window is a global mean in all but name, and slow.
const MAX_WINDOW: usize = 10_000;

/// | name | default | purpose | range |
/// |---|---|---|---|
/// | `window_steps` | 8 | steps before the judged one that mean and spread come from | 4 to 10,000 |
/// | `sigmas` | 3 | standard deviations from the mean to `lower` and `upper` | above 0, to 100 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RollingParams {
    pub window_steps: usize,
    pub sigmas: f64,
}

impl Default for RollingParams {
    fn default() -> Self {
        Self { window_steps: 8, sigmas: 3.0 }
    }
}

impl RollingParams {
    /// Every parameter out of its range, with what it must be.
    pub fn check(&self) -> Vec<(String, String)> {
        self.problems()
            .into_iter()
            .map(|(name, value, rule)| (name.into(), format!("is {value}, but must be {rule}")))
            .collect()
    }

    fn problems(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut wrong = Vec::new();
        if !(MIN_VALUES..=MAX_WINDOW).contains(&self.window_steps) {
            wrong.push(("window_steps", self.window_steps.to_string(), "between 4 and 10000"));
        }
        if !(self.sigmas > 0.0 && self.sigmas <= 100.0) {
            wrong.push(("sigmas", self.sigmas.to_string(), "above 0 and at most 100"));
        }
        wrong
    }
}

/// The detector: it has nothing to learn.
#[derive(Clone, Debug)]
pub struct RollingDetector {
    params: RollingParams,
}

/// The same, as the pipeline asks for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FittedRolling {
    params: RollingParams,
}

impl RollingDetector {
    /// # Errors
    /// [`DetectorError::Parameter`] for the first parameter that is out of its range.
    pub fn new(params: RollingParams) -> Result<Self, DetectorError> {
        DetectorError::first_of(NAME, params.problems())?;
        Ok(Self { params })
    }
}

impl Detector for RollingDetector {
    fn name(&self) -> DetectorName {
        NAME
    }

    fn fit(
        &self,
        _panel: &Panel,
        _mask: &FitMask,
        context: &FitContext,
    ) -> Result<Box<dyn FittedDetector>, DetectorError> {
        context.check_cancelled()?;
        Ok(Box::new(FittedRolling { params: self.params.clone() }))
    }

    fn fit_score(
        &self,
        panel: &Panel,
        mask: &FitMask,
        _plan: ScoringPlan,
        context: &FitContext,
    ) -> Result<(Box<dyn FittedDetector>, Scores), DetectorError> {
        context.check_cancelled()?;
        let fitted = FittedRolling { params: self.params.clone() };
        let scores = fitted.score_where(panel, mask);
        Ok((Box::new(fitted), scores))
    }

    fn restore(
        &self,
        state: DetectorState,
        _context: &FitContext,
    ) -> Result<Box<dyn FittedDetector>, DetectorError> {
        let defect = |fitted: &FittedRolling| {
            let problem = fitted.params.check().into_iter().next();
            problem.map(|(name, rule)| format!("`{name}` {rule}"))
        };
        Ok(Box::new(state.read(NAME, defect)?))
    }
}

/// What the window before a step says about it.
#[derive(Clone, Copy)]
struct Judgement {
    mean: f64,
    sd: f64,
    /// Signed distance in units of the predictive spread, and its log p-value; for a missing
    /// value `None`.
    verdict: Option<(f64, f64)>,
}

impl FittedRolling {
    fn score_where(&self, panel: &Panel, mask: &FitMask) -> Scores {
        let (n, times, metrics) = panel.values().dim();
        let judged: Vec<Vec<Option<Judgement>>> = (0..n)
            .into_par_iter()
            .map(|series| {
                let columns = (0..metrics).map(|m| self.judge(panel, mask, series, m));
                columns.flatten().collect()
            })
            .collect();
        let mut scores = Scores::empty(NAME, panel);
        let mut log_p = Array2::from_elem((n, times), f64::NAN);
        let mut expected = Array3::from_elem((n, times, metrics), f64::NAN);
        let (mut lower, mut upper) = (expected.clone(), expected.clone());
        let mut share = (metrics > 1).then(|| Array3::<f32>::zeros((n, times, metrics)));
        for (series, judged) in judged.iter().enumerate() {
            for time in 0..times {
                let at = |metric: usize| judged[metric * times + time];
                for metric in 0..metrics {
                    let Some(judgement) = at(metric) else { continue };
                    let cell = [series, time, metric];
                    let reach = self.params.sigmas * judgement.sd;
                    let is_count = is_summed(&panel.metrics()[metric].kind);
                    expected[cell] = judgement.mean;
                    lower[cell] = judgement.mean - reach;
                    upper[cell] = judgement.mean + reach;
                    if is_count && judgement.mean >= 0.0 {
                        lower[cell] = lower[cell].max(0.0);
                    }
                }
                let verdict = |m: usize| at(m).and_then(|j| j.verdict);
                let known = || (0..metrics).filter_map(|m| verdict(m).map(|v| (m, v)));
                let count = known().count();
                let Some((_, (t, p))) = known().min_by(|a, b| a.1.1.total_cmp(&b.1.1)) else {
                    continue;
                };
                scores.score[[series, time]] = t.abs();
                scores.direction[[series, time]] = if t == 0.0 { 0 } else { t.signum() as i8 };
                log_p[[series, time]] = (p + (count as f64).ln()).min(0.0);
                if let Some(share) = &mut share {
                    let total: f64 = known().map(|(_, (_, p))| -p).sum();
                    for (metric, (_, p)) in known() {
                        let part = if total > 0.0 { -p / total } else { 1.0 / count as f64 };
                        share[[series, time, metric]] = part as f32;
                    }
                }
            }
        }
        scores.failures = (0..n)
            .filter(|&series| scores.score.row(series).iter().all(|s| s.is_nan()))
            .map(|series| SeriesFailure {
                series,
                reason: "fewer than five usable values: give it a longer history".into(),
            })
            .collect();
        scores.log_p = Some(log_p);
        scores.expected = Some(expected);
        scores.lower = Some(lower);
        scores.upper = Some(upper);
        scores.metric_share = share;
        scores
    }

    /// Every step of one metric of one series.
    fn judge(
        &self,
        panel: &Panel,
        mask: &FitMask,
        series: usize,
        metric: usize,
    ) -> Vec<Option<Judgement>> {
        let kind = &panel.metrics()[metric].kind;
        let values = panel.metric(series, metric);
        let span = panel.span(series);
        let mut window = std::collections::VecDeque::with_capacity(self.params.window_steps);
        (0..panel.n_times())
            .map(|time| {
                let value = values[time];
                let judgement = span.contains(&time).then(|| judgement(&window, kind, value));
                if value.is_finite() && mask.allows(series, time) {
                    if window.len() == self.params.window_steps {
                        window.pop_front();
                    }
                    window.push_back(value);
                }
                judgement.flatten()
            })
            .collect()
    }
}

/// Whether a metric cannot fall below 0.
fn is_summed(kind: &MetricKind) -> bool {
    matches!(kind, MetricKind::Count | MetricKind::Amount)
}

fn judgement(
    window: &std::collections::VecDeque<f64>,
    kind: &MetricKind,
    value: f64,
) -> Option<Judgement> {
    if window.len() < MIN_VALUES {
        return None;
    }
    let n = window.len() as f64;
    let sum: f64 = window.iter().sum();
    let mean = sum / n;
    let mut variance = window.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let is_count = *kind == MetricKind::Count;
    if is_count {
        variance = variance.max(mean).max(1.0 / n);
    } else {
        let least = if variance > 0.0 { 1e-9 } else { 1e-3 };
        variance = variance.max((least * mean.abs()).max(1e-12).powi(2));
    }
    let sd = variance.sqrt();
    let verdict = value.is_finite().then(|| {
        let t = (value - mean) / (sd * (1.0 + 1.0 / n).sqrt());
        let mut log_p = ln_student_two_sided(t, n - 1.0);
        // Large counts are normal enough, and summing their tails would take long.
        if is_count && value >= 0.0 && (0.0..1e4).contains(&mean) {
            log_p = log_p.max(ln_poisson_predictive_two_sided(value, sum, n));
        }
        (t.clamp(-MAX_SCORE, MAX_SCORE), log_p)
    });
    Some(Judgement { mean, sd, verdict })
}

/// Natural log of the two-sided p-value (twice the smaller tail, at most 1) of a count `x`, when `n`
/// counts of the same rate came to `sum`: the predictive distribution of a Poisson count under
/// Jeffreys' prior, a negative binomial of size `sum + 1/2` and mean `(sum + 1/2) / n`.
fn ln_poisson_predictive_two_sided(x: f64, sum: f64, n: f64) -> f64 {
    let size = sum + 0.5;
    let predictive = NegativeBinomial::new(size / n, size.recip());
    predictive.map_or(f64::NAN, |predictive| predictive.tails(x.round()).ln_two_sided().0)
}

impl FittedDetector for FittedRolling {
    fn score(
        &self,
        panel: &Panel,
        mask: &FitMask,
        context: &FitContext,
    ) -> Result<Scores, DetectorError> {
        context.check_cancelled()?;
        Ok(self.score_where(panel, mask))
    }

    fn state(&self) -> Result<DetectorState, DetectorError> {
        DetectorState::of(NAME, self)
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

#[cfg(test)]
mod tests;
