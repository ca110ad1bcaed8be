//! From predictions to scores.
//!
//! Each count is tested against its own predictive distribution: exact tails, doubled and capped
//! for two sides, so that a p-value is valid for discrete counts too. The score is `-log10 p`; the
//! tails never underflow, so it keeps rising however far out a count lies. Where several metrics
//! are counts, the smallest p-value times their number is a valid p-value of them all (Bonferroni).

use std::collections::VecDeque;

use super::{
    fit::{Prediction, is_count},
    params::Nb2Params,
    regimes::Direction,
};
use crate::{
    detectors::Scores,
    math::{
        nb::NegativeBinomial,
        special::{ln_add_exp, normal_quantile},
    },
};

/// The share of the nominal false alarms that is given to the two tests of a cell, its event and its
/// count: the smaller of their p-values, each over its part, is a valid p-value (weighted
/// Bonferroni). The rest is kept for the normal steps at the edges of events.
const NOMINAL_SHARE: f64 = 0.9;

/// The interval's level, with what every cell needs of it.
#[derive(Clone, Copy, Debug)]
struct Interval {
    tail: f64,
    z: f64,
}

impl Interval {
    fn new(level: f64) -> Self {
        let tail = (1.0 - level) / 2.0;
        Self { tail, z: normal_quantile(tail) }
    }
}

/// How the cells of a panel are judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    interval: Interval,
    /// An alarm needs so many cases …
    min_cases: f64,
    /// … in so many steps, up to and with its own.
    min_cases_steps: usize,
}

impl Rules {
    pub fn new(params: &Nb2Params) -> Self {
        Self {
            interval: Interval::new(params.interval_level),
            min_cases: params.min_cases,
            min_cases_steps: params.min_cases_steps,
        }
    }

    /// True for an alarm on so few cases that nobody would act on it: observed ones above the
    /// expected count, expected ones below it.
    fn silences(&self, side: i8, (observed, expected): (f64, f64)) -> bool {
        self.min_cases > if side > 0 { observed } else { expected }
    }

    /// Judges the count `y`; `None` where there is no count or no prediction. `recent` holds the
    /// steps before of the same metric.
    pub fn judge(&self, y: f64, evidence: Evidence, recent: &mut Recent) -> Option<Verdict> {
        if !is_count(y) {
            return None;
        }
        let (model, ln_p, direction) = evidence.test(y)?;
        let (mut lower, upper) = model.interval_at(self.interval.tail, self.interval.z);
        if evidence.zero_share > self.interval.tail {
            lower = 0.0;
        }
        let expected = model.mean();
        let cases = recent.push((y, expected), self.min_cases_steps);
        let ln_p = if self.silences(direction, cases) { 0.0 } else { ln_p };
        Some(Verdict { expected, lower, upper, ln_p, direction })
    }
}

/// Observed and expected counts of the newest steps of one metric.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent(VecDeque<(f64, f64)>);

impl Recent {
    /// The sums, one more step included.
    fn push(&mut self, cell: (f64, f64), steps: usize) -> (f64, f64) {
        self.0.push_back(cell);
        if self.0.len() > steps {
            self.0.pop_front();
        }
        self.0.iter().fold((0.0, 0.0), |sum, cell| (sum.0 + cell.0, sum.1 + cell.1))
    }
}

/// The verdict on one count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Verdict {
    pub expected: f64,
    pub lower: f64,
    pub upper: f64,
    pub ln_p: f64,
    pub direction: i8,
}

/// What is known about one cell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evidence {
    pub prediction: Prediction,
    /// Share of steps that report nothing by habit.
    pub zero_share: f64,
    /// From the odds that the step lies in an event: log p-value and side.
    pub regime: Option<(f64, i8)>,
    /// Which deviations count.
    pub direction: Direction,
    /// The part of the false alarms that events may have beside single counts.
    pub event_share: f64,
}

impl Evidence {
    /// The log p-value of the count `y` and its side; `None` without a prediction.
    fn test(&self, y: f64) -> Option<(NegativeBinomial, f64, i8)> {
        let Prediction { mean, dispersion } = self.prediction;
        let model = NegativeBinomial::new(mean, dispersion)?;
        let mut tails = model.tails(y);
        let habit = self.zero_share > 0.0 && y == 0.0;
        if habit {
            // Of the counts that are no zeros by habit, each is judged by the model alone.
            let other = (-self.zero_share).ln_1p() + tails.ln_lower;
            tails.ln_lower = ln_add_exp(self.zero_share.ln(), other);
        }
        let (ln_two_sided, side) = tails.ln_two_sided();
        let point = match self.direction {
            Direction::Both => (ln_two_sided, side),
            Direction::AboveExpected => (tails.ln_upper, side),
            Direction::BelowExpected => (tails.ln_lower, side),
        };
        let Some(regime) = self.regime.filter(|_| !habit) else {
            return Some((model, point.0, point.1));
        };
        let share = NOMINAL_SHARE * self.event_share;
        let event = (regime.0 - share.ln(), regime.1);
        let point = (point.0 - (NOMINAL_SHARE - share).ln(), point.1);
        let (ln_p, side) = if event.0 < point.0 { event } else { point };
        Some((model, ln_p.min(0.0), side))
    }
}

/// The cells of one series in [`Scores`]; those per metric are `[time, metric]`.
#[derive(Debug)]
pub(super) struct Row<'a> {
    score: &'a mut [f64],
    log_p: &'a mut [f64],
    direction: &'a mut [i8],
    expected: &'a mut [f64],
    lower: &'a mut [f64],
    upper: &'a mut [f64],
    /// Empty for a single metric.
    share: &'a mut [f32],
}

/// Adds to empty scores the arrays that this detector fills.
pub(super) fn prepare(scores: &mut Scores, n_metrics: usize) {
    let (n_series, n_times) = scores.score.dim();
    let cube = ndarray::Array3::from_elem((n_series, n_times, n_metrics), f64::NAN);
    scores.log_p = Some(scores.score.clone());
    scores.lower = Some(cube.clone());
    scores.upper = Some(cube.clone());
    scores.expected = Some(cube);
    if n_metrics > 1 {
        scores.metric_share = Some(ndarray::Array3::zeros((n_series, n_times, n_metrics)));
    }
}

/// The rows of all series, in order; empty when there is no cell. Call [`prepare`] before.
pub(super) fn rows(scores: &mut Scores, n_metrics: usize) -> Vec<Row<'_>> {
    let n_times = scores.score.ncols();
    let n_cells = n_times * n_metrics;
    if n_cells == 0 {
        return Vec::new();
    }
    let mut score = flat(scores.score.as_slice_mut()).chunks_mut(n_times);
    let mut direction = flat(scores.direction.as_slice_mut()).chunks_mut(n_times);
    let mut log_p = flat(scores.log_p.as_mut().and_then(|a| a.as_slice_mut())).chunks_mut(n_times);
    let mut expected =
        flat(scores.expected.as_mut().and_then(|a| a.as_slice_mut())).chunks_mut(n_cells);
    let mut lower = flat(scores.lower.as_mut().and_then(|a| a.as_slice_mut())).chunks_mut(n_cells);
    let mut upper = flat(scores.upper.as_mut().and_then(|a| a.as_slice_mut())).chunks_mut(n_cells);
    let mut share =
        flat(scores.metric_share.as_mut().and_then(|a| a.as_slice_mut())).chunks_mut(n_cells);
    let mut rows = Vec::new();
    while let (
        Some(score),
        Some(log_p),
        Some(direction),
        Some(expected),
        Some(lower),
        Some(upper),
    ) =
        (score.next(), log_p.next(), direction.next(), expected.next(), lower.next(), upper.next())
    {
        let share = share.next().unwrap_or_default();
        rows.push(Row { score, log_p, direction, expected, lower, upper, share });
    }
    rows
}

/// The cells of an array that may be missing; ours are always in standard order.
fn flat<T>(cells: Option<&mut [T]>) -> &mut [T] {
    cells.unwrap_or_default()
}

impl Row<'_> {
    /// Tests `observed[time, metric]` by `evidence(time, metric)`; `metrics` lists those that are
    /// modelled.
    pub fn fill(
        &mut self,
        observed: ndarray::ArrayView2<'_, f64>,
        metrics: &[usize],
        rules: Rules,
        mut evidence: impl FnMut(usize, usize) -> Evidence,
    ) {
        let n_metrics = observed.ncols();
        let mut tests: Vec<(usize, f64, i8)> = Vec::with_capacity(metrics.len());
        let mut recent = vec![Recent::default(); n_metrics];
        for t in 0..observed.nrows() {
            tests.clear();
            for &metric in metrics {
                let y = observed[[t, metric]];
                let found = rules.judge(y, evidence(t, metric), &mut recent[metric]);
                let Some(Verdict { expected, lower, upper, ln_p, direction }) = found else {
                    continue;
                };
                let cell = t * n_metrics + metric;
                self.expected[cell] = expected;
                self.lower[cell] = lower;
                self.upper[cell] = upper;
                tests.push((metric, ln_p, direction));
            }
            self.combine(t, n_metrics, &tests);
        }
    }

    /// Writes the joint result of the metrics' tests `(metric, ln p, direction)` at step `t`.
    fn combine(&mut self, t: usize, n_metrics: usize, tests: &[(usize, f64, i8)]) {
        let Some(&(_, smallest, direction)) = tests.iter().min_by(|a, b| a.1.total_cmp(&b.1))
        else {
            return;
        };
        let ln_p = (smallest + (tests.len() as f64).ln()).min(0.0);
        self.log_p[t] = ln_p;
        // 0 - x, so that p = 1 scores 0 and not -0.
        self.score[t] = 0.0 - ln_p * std::f64::consts::LOG10_E;
        self.direction[t] = direction;
        if self.share.is_empty() {
            return;
        }
        let total: f64 = tests.iter().map(|test| -test.1).sum();
        for &(metric, ln_p, _) in tests {
            let share = if total > 0.0 { -ln_p / total } else { 1.0 / tests.len() as f64 };
            self.share[t * n_metrics + metric] = share as f32;
        }
    }
}
