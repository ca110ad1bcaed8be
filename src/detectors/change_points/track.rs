//! One metric of one series on its way through the panel: which values count, what the long-run
//! level was before each of them, what segments they form, how far those lie from that level.

use super::{
    ChangePoint,
    learnt::{Learnt, Newest, Values},
    params::Setting,
    pelt::{Cost, Path, search_within},
    running::RunningMedian,
};
use crate::{
    detectors::FitMask,
    features::seasonal::Residuals,
    panel::{MetricKind, Panel},
};

/// Beyond so many values back the starts of segments are thinned out.
const HORIZON: usize = 5_000;
/// Standard deviations from the long-run level, or from the newest values, beyond which a residual
/// tells no more: a single wild value is no segment.
const CLIP: f64 = 4.0;
/// Scores stay finite where a constant series moves.
const MAX_SCORE: f64 = 1e6;

/// Where a track lies.
#[derive(Clone, Copy)]
pub(super) struct Cells<'a> {
    pub panel: &'a Panel,
    pub residuals: &'a Residuals,
    pub mask: &'a FitMask,
    pub series: usize,
    pub metric: usize,
}

impl Cells<'_> {
    /// Steps with a residual: the step, and whether the mask allows it.
    fn steps(&self) -> impl Iterator<Item = (usize, bool)> + '_ {
        let span = self.panel.span(self.series);
        let known = |&t: &usize| self.residual(t).is_finite() && self.expected(t).is_finite();
        (span.start..span.end.min(self.panel.n_times()))
            .filter(known)
            .map(|t| (t, self.mask.allows(self.series, t)))
    }

    fn residual(&self, time: usize) -> f64 {
        self.residuals.z[[self.series, time, self.metric]]
    }

    fn expected(&self, time: usize) -> f64 {
        self.residuals.expected[[self.series, time, self.metric]]
    }

    fn observed(&self, time: usize) -> f64 {
        self.panel.values()[[self.series, time, self.metric]]
    }

    /// The value that a residual stands for, in the metric's unit.
    fn value_of(&self, time: usize, residual: f64) -> f64 {
        self.residuals.expected_from_z(self.series, time, self.metric, residual)
    }

    /// The values that the mask allows, and their steps.
    pub fn values(&self) -> (Vec<usize>, Values) {
        let mut values = Values::default();
        let allowed = self.steps().filter(|(_, allowed)| *allowed);
        let steps: Vec<usize> = allowed.map(|(time, _)| time).collect();
        for &time in &steps {
            values.residuals.push(self.residual(time));
            values.observed.push(self.observed(time));
            values.expected.push(self.expected(time));
        }
        (steps, values)
    }

    /// The value at a step for the online part, which a single wild one must not carry away.
    fn newest(&self, time: usize, level: f64, sd: f64) -> Newest {
        let residual = self.residual(time);
        let clipped = residual.clamp(level - CLIP * sd, level + CLIP * sd);
        let observed =
            if clipped == residual { self.observed(time) } else { self.value_of(time, clipped) };
        let (expected, usual) = (self.expected(time), self.value_of(time, level));
        Newest { residual: clipped, observed, expected, level, usual }
    }
}

/// Sums of the first values.
fn running(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut sums = vec![0.0];
    let mut sum = 0.0;
    for value in values {
        sum += value;
        sums.push(sum);
    }
    sums
}

/// The allowed values with all that scores and change points are made of.
pub(super) struct Track<'a> {
    cells: Cells<'a>,
    learnt: &'a Learnt,
    setting: &'a Setting,
    /// Of each value.
    steps: Vec<usize>,
    values: Values,
    /// Long-run level before each value, as a residual.
    levels: Vec<f64>,
    /// Residuals with their wild ones cut.
    clipped: Vec<f64>,
    /// Sums of `clipped`, of the observed values, of the long-run level in the metric's unit, of its
    /// size, and of one standard deviation about it.
    clipped_sums: Vec<f64>,
    observed_sums: Vec<f64>,
    usual_sums: Vec<f64>,
    usual_size_sums: Vec<f64>,
    noise_sums: Vec<f64>,
}

impl<'a> Track<'a> {
    pub fn new(cells: Cells<'a>, learnt: &'a Learnt, setting: &'a Setting) -> Self {
        let (steps, values) = cells.values();
        let (levels, clipped) = levels_and_clipped(&values.residuals, learnt, setting);
        let usual: Vec<f64> =
            steps.iter().zip(&levels).map(|(t, level)| cells.value_of(*t, *level)).collect();
        let sd = learnt.noise.sd;
        let noise = steps
            .iter()
            .zip(&levels)
            .zip(&usual)
            .map(|((t, level), usual)| (cells.value_of(*t, level + sd) - usual).abs());
        Self {
            clipped_sums: running(clipped.iter().copied()),
            observed_sums: running(values.observed.iter().copied()),
            usual_sums: running(usual.iter().copied()),
            usual_size_sums: running(usual.iter().map(|value| value.abs())),
            noise_sums: running(noise),
            cells,
            learnt,
            setting,
            steps,
            values,
            levels,
            clipped,
        }
    }

    /// Number of allowed values.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    fn search(&self) -> Path {
        let Setting { cost, min_size, .. } = *self.setting;
        let penalty = self.learnt.penalty(self.setting) * self.learnt.unit(cost);
        let mut costs = self.learnt.cost(cost, &self.clipped, &self.values);
        search_within(costs.as_mut(), penalty, min_size, HORIZON)
    }

    /// Signed score of every step with a residual: standard deviations of a value.
    pub fn scores(&self) -> Vec<(usize, f64)> {
        let sustained = self.sustained(&self.search());
        let mut online = self.learnt.online(self.setting);
        let online_steps = self.setting.online_steps;
        let mut place = 0;
        let mut scores = Vec::with_capacity(self.steps.len());
        for (time, allowed) in self.cells.steps() {
            // What the mask forbids is judged by what was known before it, and leaves no trace.
            let known = place.min(self.len().saturating_sub(1));
            let level = self.levels.get(known).copied().unwrap_or(self.learnt.level);
            let newest = self.cells.newest(time, level, self.learnt.noise.sd);
            let moved = match (online_steps, allowed) {
                (0, _) => 0.0,
                (steps, true) => online.observe(newest, steps) * self.share_of_recent(place),
                (steps, false) => online.clone().observe(newest, steps),
            };
            let last = if allowed { Some(place) } else { place.checked_sub(1) };
            let held = last.map_or(0.0, |place| sustained[place]);
            let score = if moved.abs() > held.abs() { moved } else { held };
            scores.push((time, score.clamp(-MAX_SCORE, MAX_SCORE)));
            place += usize::from(allowed);
        }
        scores
    }

    /// For each value: how far the mean of its segment lies from the long-run level, weighted by how
    /// sure the segment is.
    fn sustained(&self, path: &Path) -> Vec<f64> {
        let n = self.len();
        let of_value = |place: usize| {
            let known = (place + self.setting.look_ahead).min(n - 1) + 1;
            let (start, end) = segment_at(path, place, known);
            if start == 0 {
                return 0.0;
            }
            let margin = path.margin(end) / self.learnt.unit(self.setting.cost);
            let mean = (self.clipped_sums[end] - self.clipped_sums[start]) / (end - start) as f64;
            let distance = (mean - self.levels[place]) / self.learnt.noise.sd;
            confidence(margin) * distance * self.share_of_change(start, end)
        };
        (0..n).map(of_value).collect()
    }

    /// Up to 1: how far the values `start..end` lie from their long-run level, relative to it, in units of the
    /// smallest change that counts.
    fn share_of_change(&self, start: usize, end: usize) -> f64 {
        let of = |sums: &[f64]| sums[end] - sums[start];
        let change = (of(&self.observed_sums) - of(&self.usual_sums)).abs();
        let size = of(&self.usual_size_sums).max(of(&self.noise_sums));
        let needed = self.setting.min_change * size;
        if change < needed { change / needed } else { 1.0 }
    }

    fn share_of_recent(&self, place: usize) -> f64 {
        let start = (place + 1).saturating_sub(self.setting.online_steps);
        self.share_of_change(start, place + 1)
    }

    /// Changes of the level among all values, with hindsight.
    pub fn change_points(&self) -> Vec<ChangePoint> {
        let n = self.len();
        let cost = self.learnt.cost(self.setting.cost, &self.clipped, &self.values);
        let mut bounds = vec![0];
        bounds.extend(self.search().changes(n));
        bounds.push(n);
        loop {
            let change = |b: &[usize]| self.change_point(cost.as_ref(), b[0], b[1], b[2]);
            let found: Vec<ChangePoint> = bounds.windows(3).map(change).collect();
            let sizes = found.iter().map(|change| change.relative_change.abs()).enumerate();
            match sizes.min_by(|a, b| a.1.total_cmp(&b.1)) {
                // Without the smallest its neighbours are another size.
                Some((place, size)) if size < self.setting.min_change => bounds.remove(place + 1),
                _ => return found,
            };
        }
    }

    fn change_point(
        &self,
        cost: &dyn Cost,
        start: usize,
        change: usize,
        end: usize,
    ) -> ChangePoint {
        let (before, after) = (self.mean_value(start, change), self.mean_value(change, end));
        let noise = (self.noise_sums[end] - self.noise_sums[start]) / (end - start) as f64;
        let size = before.abs().max(noise).max(f64::MIN_POSITIVE);
        let apart = cost.segment(start, change) + cost.segment(change, end);
        let gain = (cost.segment(start, end) - apart) / self.learnt.unit(self.setting.cost);
        ChangePoint {
            series: self.cells.series,
            metric: self.cells.metric,
            time: self.steps[change],
            before,
            after,
            relative_change: (after - before) / size,
            confidence: confidence(gain - self.learnt.penalty(self.setting)),
        }
    }

    /// Mean of the values `start..end` with their season taken out.
    fn mean_value(&self, start: usize, end: usize) -> f64 {
        let all = self.values.expected.iter().sum::<f64>() / self.len() as f64;
        let expected: f64 = self.values.expected[start..end].iter().sum();
        let observed = self.observed_sums[end] - self.observed_sums[start];
        let additive =
            matches!(self.cells.panel.metrics()[self.cells.metric].kind, MetricKind::Measure);
        if additive || expected <= 0.0 {
            all + (observed - expected) / (end - start) as f64
        } else {
            all * observed / expected
        }
    }
}

/// Probability of a change by Schwarz's approximation of the odds, from its gain beyond the
/// penalty in the unit of a chi-squared variable.
fn confidence(margin: f64) -> f64 {
    1.0 / (1.0 + (-0.5 * margin).exp())
}

/// Start and end of the segment that holds a value when the first `known` values are.
fn segment_at(path: &Path, place: usize, known: usize) -> (usize, usize) {
    let mut end = known;
    loop {
        let start = path.last_start(end);
        if start <= place {
            return (start, end);
        }
        end = start;
    }
}

/// The long-run level before each residual, and the residuals with the wild ones cut.
fn levels_and_clipped(
    residuals: &[f64],
    learnt: &Learnt,
    setting: &Setting,
) -> (Vec<f64>, Vec<f64>) {
    let reach = CLIP * learnt.noise.sd;
    let mut long = RunningMedian::full_of(learnt.level, setting.level_window);
    let mut short = RunningMedian::full_of(learnt.level, 2 * setting.min_size);
    residuals
        .iter()
        .map(|&residual| {
            let (usual, newest) = (long.median(), short.median());
            long.push(residual);
            short.push(residual);
            let clipped = residual.clamp(usual.min(newest) - reach, usual.max(newest) + reach);
            (usual, clipped)
        })
        .unzip()
}
