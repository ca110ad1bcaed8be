//! Residuals of a panel under its profiles, and the way back to the metric's own unit.

use std::{collections::BTreeMap, ops::Range};

use ndarray::{Array2, Array3, ArrayView1, ArrayView2};
use rayon::prelude::*;

use super::{
    SeasonalProfile, all_slots,
    clock::Clock,
    fit::{MetricProfile, TAIL_LEVELS},
    level::{CycleLevel, Sighting, cycle_levels, levels},
    noise::{Noise, Pool},
    size_of,
};
use crate::{math::special::normal_quantile, panel::Panel};

/// What is needed to go back from a residual to a value.
#[derive(Clone, Copy, Debug)]
struct Scale {
    noise: Noise,
    spread: f64,
    tails: [f64; TAIL_LEVELS.len()],
}

/// Standardised residuals and expectations of one panel.
#[derive(Clone, Debug)]
pub struct Residuals {
    /// `[series, time, metric]`, unit spread; NaN where the value, its denominator or the profile
    /// is missing.
    pub z: Array3<f64>,
    /// `[series, time, metric]`, in the metric's unit; NaN outside the span or without a profile.
    pub expected: Array3<f64>,
    /// For each metric that is a ratio, its denominator `[series, time]`.
    sizes: Vec<Option<Array2<f64>>>,
    /// `[series][metric]`.
    scales: Vec<Vec<Option<Scale>>>,
}

impl Residuals {
    /// The value whose residual would be `z`, in the metric's unit; NaN where nothing is expected.
    pub fn expected_from_z(&self, series: usize, time: usize, metric: usize, z: f64) -> f64 {
        let Some(scale) = self.scales[series][metric] else { return f64::NAN };
        let mean = self.expected[[series, time, metric]];
        let size = self.sizes[metric].as_ref().map_or(1.0, |s| s[[series, time]]);
        if mean.is_nan() || size.is_nan() || z.is_nan() {
            return f64::NAN;
        }
        scale.noise.value_at(z * scale.spread, mean, size)
    }

    /// Residuals of trailing windows of `width` steps, `[series, time, metric]`: the cells from
    /// `time - width + 1` to `time` tested as one (`panel` is the one that the residuals are of).
    /// NaN where fewer than half of them are there, or the newest is not. Independent cells give
    /// them about unit spread; where neighbours depend on each other it is wider. Cells that
    /// `allowed[series, time]` forbids count as missing.
    pub fn windows(
        &self,
        panel: &Panel,
        width: usize,
        allowed: Option<ArrayView2<bool>>,
    ) -> Array3<f64> {
        if width <= 1 && allowed.is_none() {
            return self.z.clone();
        }
        let (n, times, metrics) = self.z.dim();
        let mut out = Array3::from_elem((n, times, metrics), f64::NAN);
        let row = (times * metrics).max(1);
        if let Some(cells) = out.as_slice_mut() {
            cells.par_chunks_mut(row).enumerate().for_each(|(series, out)| {
                for metric in 0..metrics {
                    let allowed = allowed.as_ref().map(|a| a.row(series));
                    self.window_column(panel, width, (series, metric), allowed, out);
                }
            });
        }
        out
    }

    fn window_column(
        &self,
        panel: &Panel,
        width: usize,
        (series, metric): (usize, usize),
        allowed: Option<ArrayView1<bool>>,
        out: &mut [f64],
    ) {
        let Some(scale) = self.scales[series][metric] else { return };
        let (_, times, metrics) = self.z.dim();
        let mut ring = vec![None; width.max(1)];
        let mut sum = Pool::default();
        let mut present = 0_usize;
        for time in 0..times {
            if let Some(old) = ring[time % width.max(1)].take() {
                sum = sum.add(old, -1.0);
                present -= 1;
            }
            let own = self.z[[series, time, metric]];
            if own.is_nan() || allowed.is_some_and(|allowed| !allowed[time]) {
                continue;
            }
            if width <= 1 {
                out[time * metrics + metric] = own;
                continue;
            }
            let size = self.sizes[metric].as_ref().map_or(1.0, |s| s[[series, time]]);
            let value = panel.values()[[series, time, metric]];
            let cell = scale.noise.pool(value, self.expected[[series, time, metric]], size);
            sum = sum.add(cell, 1.0);
            present += 1;
            ring[time % width] = Some(cell);
            if time % width == 0 {
                // Once a window the sums start anew, so that rounding errors do not pile up.
                sum = ring.iter().flatten().fold(Pool::default(), |sum, cell| sum.add(*cell, 1.0));
            }
            if 2 * present >= width {
                out[time * metrics + metric] = scale.noise.pooled_z(sum) / scale.spread;
            }
        }
    }

    /// Lower and upper bound, `[series, time, metric]` each, of an interval that holds a share
    /// `level` (between 0 and 1) of normal values. Widened where the residuals that the profile was
    /// fitted on had heavier tails than a normal distribution. NaN outside of `at`.
    pub fn bounds(&self, level: f64, at: Range<usize>) -> (Array3<f64>, Array3<f64>) {
        let (n, times, metrics) = self.z.dim();
        let mut lower = Array3::from_elem((n, times, metrics), f64::NAN);
        let mut upper = lower.clone();
        let row = (times * metrics).max(1);
        if let (Some(low), Some(high)) = (lower.as_slice_mut(), upper.as_slice_mut()) {
            let rows = low.par_chunks_mut(row).zip(high.par_chunks_mut(row));
            rows.enumerate().for_each(|(series, (low, high))| {
                for metric in 0..metrics {
                    let Some(scale) = self.scales[series][metric] else { continue };
                    let z = scale.reach(level);
                    for time in at.start..at.end.min(times) {
                        let cell = time * metrics + metric;
                        low[cell] = self.expected_from_z(series, time, metric, -z);
                        high[cell] = self.expected_from_z(series, time, metric, z);
                    }
                }
            });
        }
        (lower, upper)
    }
}

impl Scale {
    /// Residuals of a share `level` of normal values lie within this.
    fn reach(&self, level: f64) -> f64 {
        let z = normal_quantile(0.5 * (1.0 + level.clamp(0.0, 1.0)));
        let next = TAIL_LEVELS.partition_point(|l| *l < level).min(TAIL_LEVELS.len() - 1);
        let last = next.saturating_sub(1);
        let (from, to) = (TAIL_LEVELS[last], TAIL_LEVELS[next]);
        let share = if to > from { ((level - from) / (to - from)).clamp(0.0, 1.0) } else { 1.0 };
        z * (self.tails[last] + share * (self.tails[next] - self.tails[last]))
    }
}

/// One metric of one series while its residuals are computed.
struct Column<'a> {
    profile: &'a MetricProfile,
    panel: &'a Panel,
    series: usize,
    metric: usize,
    level_window: usize,
}

pub(super) fn compute(
    fitted: &SeasonalProfile,
    panel: &Panel,
    allowed: ArrayView2<bool>,
) -> Residuals {
    let clock = Clock::new(panel.calendar());
    let slots = all_slots(&clock);
    let (n, times, metrics) = panel.values().dim();
    let (places, columns) = (fitted.series_places(panel), fitted.metric_places(panel));
    let same_step = panel.calendar().step() == fitted.step;
    let profile_of = |series: usize, metric: usize| {
        fitted.profiles[places[series].filter(|_| same_step)?][columns[metric]?].as_ref()
    };
    let mut z = Array3::from_elem((n, times, metrics), f64::NAN);
    let mut expected = z.clone();
    let row = (times * metrics).max(1);
    if let (Some(zs), Some(es)) = (z.as_slice_mut(), expected.as_slice_mut()) {
        let rows = zs.par_chunks_mut(row).zip(es.par_chunks_mut(row));
        rows.enumerate().for_each(|(series, (z, expected))| {
            for metric in 0..metrics {
                let Some(profile) = profile_of(series, metric) else { continue };
                let level_window = fitted.level_window;
                let column = Column { profile, panel, series, metric, level_window };
                column.fill(&clock, &slots, allowed, z, expected);
            }
        });
    }
    let scale = |p: &MetricProfile| Scale { noise: p.noise, spread: p.spread, tails: p.tails };
    Residuals {
        z,
        expected,
        sizes: (0..metrics)
            .map(|metric| {
                let parts = panel.ratio_parts(metric)?;
                Some(Array2::from_shape_fn((n, times), |(series, time)| {
                    size_of(panel, Some(parts), series, time).unwrap_or(f64::NAN)
                }))
            })
            .collect(),
        scales: (0..n)
            .map(|series| (0..metrics).map(|m| profile_of(series, m).map(scale)).collect())
            .collect(),
    }
}

impl Column<'_> {
    fn fill(
        &self,
        clock: &Clock,
        slots: &BTreeMap<u8, Vec<u32>>,
        allowed: ArrayView2<bool>,
        z: &mut [f64],
        expected: &mut [f64],
    ) {
        let Self { profile, panel, series, metric, .. } = *self;
        let (times, metrics) = (panel.n_times(), panel.n_metrics());
        let shape = profile.shape(slots, times);
        let parts = panel.ratio_parts(metric);
        let values = panel.metric(series, metric);
        let levels = self.levels(clock, &shape, allowed);
        let action = profile.form.action();
        for time in panel.span(series).start.min(times)..panel.span(series).end.min(times) {
            let mean = profile.mean(action.apply(levels[time], shape[time]));
            expected[time * metrics + metric] = mean;
            if let Some(size) = size_of(panel, parts, series, time)
                && values[time].is_finite()
            {
                z[time * metrics + metric] = profile.z(values[time], mean, size);
            }
        }
    }

    /// The level at every step of the panel; cycles before the panel come from the profile.
    fn levels(&self, clock: &Clock, shape: &[f64], allowed: ArrayView2<bool>) -> Vec<f64> {
        let Self { profile, panel, series, metric, level_window } = *self;
        let action = profile.form.action();
        if level_window == 0 || clock.cycle.is_empty() {
            return vec![action.neutral(); clock.cycle.len()];
        }
        let parts = panel.ratio_parts(metric);
        let values = panel.metric(series, metric);
        let sightings = values.iter().enumerate().filter_map(|(time, &x)| {
            let size = size_of(panel, parts, series, time)?;
            (x.is_finite() && allowed[[series, time]]).then(|| Sighting {
                cycle: clock.cycle[time],
                value: profile.form.stabilise(x),
                profile: shape[time],
                precision: 1.0 / profile.working_variance(shape[time], size),
            })
        });
        let seen = cycle_levels(sightings, action);
        let first = clock.cycle[0];
        let mut known: Vec<CycleLevel> = profile
            .recent
            .iter()
            .take_while(|(cycle, ..)| *cycle < first)
            .map(|&(cycle, level, precision)| CycleLevel { cycle, level, precision })
            .collect();
        known.extend(seen);
        let cycles = clock.cycle.iter().copied();
        levels(&known, cycles, level_window, action, profile.level_spread)
    }
}
