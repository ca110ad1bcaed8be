//! Windows: stretches of one series that the network sees at once.

use ndarray::{Array2, ArrayView2};
use rand::{Rng, RngExt, seq::SliceRandom};

use super::input::Scaled;

/// `len` steps of a series from `start` on; what lies outside the panel counts as missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) series: usize,
    pub(super) start: isize,
}

/// The cells of a scaled panel, laid out for the network.
pub(super) struct Cells {
    /// `[series][time][metric]`, cut, 0 where missing.
    values: Vec<f32>,
    /// 1 where the value is there, else 0.
    there: Vec<f32>,
    n_times: usize,
    n_metrics: usize,
}

impl Cells {
    /// The cells that `allowed[series, time]` names; all others count as missing.
    pub(super) fn new(scaled: &Scaled, allowed: ArrayView2<bool>) -> Self {
        let (_, n_times, n_metrics) = scaled.z.dim();
        let (mut values, mut there) = (vec![0.0; scaled.z.len()], vec![0.0; scaled.z.len()]);
        for (place, ((series, time, metric), _)) in scaled.z.indexed_iter().enumerate() {
            if allowed[[series, time]]
                && let Some(value) = scaled.seen(series, time, metric)
            {
                (values[place], there[place]) = (value, 1.0);
            }
        }
        Self { values, there, n_times, n_metrics }
    }

    /// The metrics of one step: values, and whether they are there.
    fn at(&self, series: usize, time: isize) -> Option<(&[f32], &[f32])> {
        let time = usize::try_from(time).ok().filter(|&time| time < self.n_times)?;
        let first = (series * self.n_times + time) * self.n_metrics;
        let cells = first..first + self.n_metrics;
        Some((&self.values[cells.clone()], &self.there[cells]))
    }

    /// Whether any metric of the step is there: `[series, time]`.
    pub(super) fn usable(&self) -> Array2<bool> {
        let n_series = self.there.len() / (self.n_times * self.n_metrics).max(1);
        Array2::from_shape_fn((n_series, self.n_times), |(series, time)| {
            let first = (series * self.n_times + time) * self.n_metrics;
            self.there[first..first + self.n_metrics].iter().any(|&there| there > 0.0)
        })
    }

    pub(super) fn n_metrics(&self) -> usize {
        self.n_metrics
    }

    /// Cells of one metric: series times steps.
    pub(super) fn n_cells(&self) -> usize {
        self.values.len() / self.n_metrics.max(1)
    }

    /// All cells, `[series][time][value of each metric, then whether it is there]`, and one more
    /// that is missing.
    pub(super) fn rows(&self) -> Vec<f32> {
        let width = self.n_metrics.max(1);
        let mut out = Vec::with_capacity(2 * (self.values.len() + width));
        for (values, there) in self.values.chunks(width).zip(self.there.chunks(width)) {
            out.extend_from_slice(values);
            out.extend_from_slice(there);
        }
        out.resize(out.len() + 2 * self.n_metrics, 0.0);
        out
    }

    /// For each step of each window, `[len][window]`, its place among [`rows`](Self::rows), `ahead`
    /// steps later; the missing one's where the step is outside the panel or not in `counted`.
    pub(super) fn places(
        &self,
        windows: &[Window],
        len: usize,
        ahead: usize,
        counted: impl Fn(usize, isize) -> bool,
    ) -> Vec<i32> {
        let missing = self.n_cells();
        let mut out = Vec::with_capacity(len * windows.len());
        for step in 0..len {
            for window in windows {
                let time = window.start + (step + ahead) as isize;
                let inside = usize::try_from(time).ok().filter(|&time| time < self.n_times);
                let place = inside
                    .filter(|_| counted(window.series, time))
                    .map_or(missing, |time| window.series * self.n_times + time);
                out.push(place as i32);
            }
        }
        out
    }

    /// What the network gets: `[len][window][value of each metric, then whether it is there]`.
    pub(super) fn inputs(&self, windows: &[Window], len: usize) -> Vec<f32> {
        let mut out = Vec::with_capacity(len * windows.len() * 2 * self.n_metrics);
        for step in 0..len {
            for window in windows {
                match self.at(window.series, window.start + step as isize) {
                    Some((values, there)) => {
                        out.extend_from_slice(values);
                        out.extend_from_slice(there);
                    }
                    None => out.resize(out.len() + 2 * self.n_metrics, 0.0),
                }
            }
        }
        out
    }

    /// What the network should give for `windows`, `horizon` steps later, and how much each value
    /// counts: both `[len][window][metric]`; the weights of the times in `counted` sum to 1.
    pub(super) fn targets(
        &self,
        windows: &[Window],
        len: usize,
        horizon: usize,
        counted: impl Fn(usize, isize) -> bool,
    ) -> (Vec<f32>, Vec<f32>) {
        let n = len * windows.len() * self.n_metrics;
        let (mut targets, mut weights) = (Vec::with_capacity(n), Vec::with_capacity(n));
        for step in 0..len {
            for window in windows {
                let time = window.start + (step + horizon) as isize;
                match self.at(window.series, time) {
                    Some((values, there)) if counted(window.series, time) => {
                        targets.extend_from_slice(values);
                        weights.extend_from_slice(there);
                    }
                    _ => {
                        targets.resize(targets.len() + self.n_metrics, 0.0);
                        weights.resize(weights.len() + self.n_metrics, 0.0);
                    }
                }
            }
        }
        let total: f32 = weights.iter().sum();
        if total > 0.0 {
            weights.iter_mut().for_each(|weight| *weight /= total);
        }
        (targets, weights)
    }
}

/// The starts of one series' training windows.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stretch {
    series: usize,
    starts: Vec<usize>,
}

/// Which windows are trained on, and which watch over the training.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    stretches: Vec<Stretch>,
    /// The windows that early stopping watches.
    pub(super) validation: Vec<Window>,
    /// For each series, the first step that early stopping watches and training never sees.
    pub(super) held_out_from: Vec<usize>,
}

/// Windows that watch over the training, at most.
const MAX_VALIDATION_WINDOWS: usize = 512;

impl Plan {
    /// Windows of `len` steps, with `horizon` more, over the steps that `usable[series, time]`
    /// names; at least half of a window must be usable. The newest `validation_share` of every
    /// series is held out. `series` says which series take part.
    pub(super) fn new(
        usable: &Array2<bool>,
        series: &[usize],
        len: usize,
        horizon: usize,
        validation_share: f64,
    ) -> Self {
        let n_times = usable.ncols();
        let reach = len + horizon;
        let mut plan = Self { held_out_from: vec![n_times; usable.nrows()], ..Self::default() };
        let mut watching = Vec::new();
        for &series in series {
            let row = usable.row(series);
            let Some(first) = row.iter().position(|&there| there) else { continue };
            let end = row.iter().rposition(|&there| there).map_or(0, |last| last + 1);
            let held_out = ((end - first) as f64 * validation_share).ceil() as usize;
            let cut = end - held_out;
            plan.held_out_from[series] = cut;
            let mut counts = vec![0usize; n_times + 1];
            for time in 0..n_times {
                counts[time + 1] = counts[time] + usize::from(row[time]);
            }
            let full = |start: usize| 2 * (counts[start + reach] - counts[start]) >= reach;
            let starts: Vec<usize> =
                (first..(cut + 1).saturating_sub(reach)).filter(|&start| full(start)).collect();
            let watched =
                (cut + 1).saturating_sub(reach).max(first)..(end + 1).saturating_sub(reach);
            watching.extend(
                watched
                    .filter(|&start| full(start))
                    .map(|start| Window { series, start: start as isize }),
            );
            if !starts.is_empty() {
                plan.stretches.push(Stretch { series, starts });
            }
        }
        let every = watching.len().div_ceil(MAX_VALIDATION_WINDOWS).max(1);
        plan.validation = watching.into_iter().step_by(every).collect();
        plan
    }

    /// How many training windows there are.
    pub(super) fn len(&self) -> usize {
        self.stretches.iter().map(|stretch| stretch.starts.len()).sum()
    }

    /// The windows of one epoch, shuffled: all of them, or `most` drawn at random.
    pub(super) fn draw(&self, most: usize, rng: &mut impl Rng) -> Vec<Window> {
        let window = |stretch: &Stretch, place: usize| Window {
            series: stretch.series,
            start: stretch.starts[place] as isize,
        };
        if self.len() <= most {
            let all = self.stretches.iter();
            let mut all: Vec<Window> = all
                .flat_map(|stretch| (0..stretch.starts.len()).map(|place| window(stretch, place)))
                .collect();
            all.shuffle(rng);
            return all;
        }
        let mut ends = Vec::with_capacity(self.stretches.len());
        let mut total = 0;
        for stretch in &self.stretches {
            total += stretch.starts.len();
            ends.push(total);
        }
        (0..most)
            .map(|_| {
                let drawn = rng.random_range(0..total);
                let stretch = ends.partition_point(|&end| end <= drawn);
                let before = if stretch == 0 { 0 } else { ends[stretch - 1] };
                window(&self.stretches[stretch], drawn - before)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::random::stream;

    impl Cells {
        /// Cells of which every fifth is missing.
        pub(in super::super) fn for_test(
            n_series: usize,
            n_times: usize,
            n_metrics: usize,
        ) -> Self {
            let n = n_series * n_times * n_metrics;
            let there: Vec<f32> = (0..n).map(|i| f32::from(i % 5 != 0)).collect();
            let values = there.iter().enumerate().map(|(i, t)| t * (i as f32).sin()).collect();
            Self { values, there, n_times, n_metrics }
        }
    }

    #[test]
    fn training_windows_end_before_the_steps_that_validation_watches() {
        let usable = Array2::from_elem((2, 100), true);
        let plan = Plan::new(&usable, &[0, 1], 10, 0, 0.2);
        assert_eq!(plan.held_out_from, [80, 80]);
        assert_eq!(plan.len(), 2 * 71);
        let drawn = plan.draw(1_000, &mut stream(1, "test", 0));
        assert!(drawn.iter().all(|window| window.start + 10 <= 80));
        assert!(plan.validation.iter().all(|window| window.start + 10 > 80));
        assert!(plan.validation.iter().any(|window| window.start + 10 == 100));
    }

    #[test]
    fn a_window_that_is_half_missing_is_left_out() {
        let mut usable = Array2::from_elem((1, 40), true);
        usable.slice_mut(ndarray::s![0, 10..20]).fill(false);
        let plan = Plan::new(&usable, &[0], 8, 0, 0.0);
        let drawn = plan.draw(1_000, &mut stream(1, "test", 0));
        assert!(drawn.iter().any(|window| window.start == 6));
        assert!(!drawn.iter().any(|window| (7..=15).contains(&window.start)));
        assert!(plan.validation.is_empty());
    }

    #[test]
    fn a_draw_takes_as_many_as_asked_from_every_series() {
        let usable = Array2::from_elem((3, 500), true);
        let plan = Plan::new(&usable, &[0, 1, 2], 10, 5, 0.1);
        let drawn = plan.draw(300, &mut stream(1, "test", 0));
        assert_eq!(drawn.len(), 300);
        for series in 0..3 {
            assert!(drawn.iter().filter(|window| window.series == series).count() > 60);
        }
        assert_ne!(drawn, plan.draw(300, &mut stream(1, "test", 1)));
    }

    #[test]
    fn a_series_too_short_for_a_window_has_none() {
        let plan = Plan::new(&Array2::from_elem((1, 9), true), &[0], 10, 0, 0.0);
        assert_eq!(plan.len(), 0);
    }
}
