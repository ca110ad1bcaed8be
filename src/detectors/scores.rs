//! What a detector hands over.

use std::ops::Range;

use ndarray::{Array2, Array3, s};

use crate::{detectors::DetectorName, panel::Panel};

/// One series that a detector could not score, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesFailure {
    /// Place of the series in the panel.
    pub series: usize,
    /// Ends with what to do, where something can be done.
    pub reason: String,
}

/// Something that happened to one series and that explains its scores.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesNote {
    /// Place of the series in the panel.
    pub series: usize,
    /// The step that it is about, where it is about one.
    pub time: Option<usize>,
    pub text: String,
}

/// Scores of one detector on one panel. `NaN` where a cell could not be scored (missing value,
/// warm-up, outside the span, failed series).
#[derive(Clone, Debug)]
pub struct Scores {
    pub detector: DetectorName,
    /// `[series, time]`, higher = more anomalous.
    pub score: Array2<f64>,
    /// `[series, time]`: natural log of a valid two-sided p-value, for parametric detectors.
    pub log_p: Option<Array2<f64>>,
    /// `[series, time]`: +1 above the expected, -1 below, 0 unknown; of the metric that deviates most.
    pub direction: Array2<i8>,
    /// `[series, time, metric]`, in the metric's own unit; `None` for a detector that predicts nothing.
    pub expected: Option<Array3<f64>>,
    /// Lower bound of the prediction interval, as `expected`.
    pub lower: Option<Array3<f64>>,
    /// Upper bound of the prediction interval, as `expected`.
    pub upper: Option<Array3<f64>>,
    /// `[series, time, metric]`: each metric's share of the score, non-negative, summing to 1;
    /// `None` for a single metric.
    pub metric_share: Option<Array3<f32>>,
    pub failures: Vec<SeriesFailure>,
    pub notes: Vec<SeriesNote>,
}

impl Scores {
    /// All cells unscored.
    pub fn empty(detector: DetectorName, panel: &Panel) -> Self {
        let shape = (panel.n_series(), panel.n_times());
        Self {
            detector,
            score: Array2::from_elem(shape, f64::NAN),
            log_p: None,
            direction: Array2::zeros(shape),
            expected: None,
            lower: None,
            upper: None,
            metric_share: None,
            failures: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Score, direction and shares from signed distances `z[series, time, metric]`: the metric that
    /// deviates most speaks for the cell, the shares go by the squares. NaN says nothing. Steps
    /// outside of `at` stay as they are.
    pub fn take_strongest(&mut self, z: &Array3<f64>, at: Range<usize>) {
        let (n, _, metrics) = z.dim();
        let mut share = (metrics > 1).then(|| Array3::<f32>::zeros(z.dim()));
        for series in 0..n {
            for time in at.clone() {
                let cells = z.slice(s![series, time, ..]);
                let known = || cells.iter().enumerate().filter(|(_, z)| !z.is_nan());
                let Some((_, &top)) = known().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())) else {
                    continue;
                };
                self.score[[series, time]] = top.abs();
                self.direction[[series, time]] = if top == 0.0 { 0 } else { top.signum() as i8 };
                if let Some(share) = &mut share {
                    // In units of the largest, so that no square overflows.
                    let total: f64 = known().map(|(_, z)| (z / top).powi(2)).sum();
                    for (metric, z) in known() {
                        let even = 1.0 / known().count() as f64;
                        let part = if top == 0.0 { even } else { (z / top).powi(2) / total };
                        share[[series, time, metric]] = part as f32;
                    }
                }
            }
        }
        self.metric_share = share;
    }

    /// Takes over one series of another detector's scores on the same panel (a fallback). Fields
    /// that only one of the two has become missing for that series.
    pub fn take_series(&mut self, other: &Scores, series: usize) {
        self.take_series_from(other, series, 0);
    }

    /// [`Scores::take_series`] for the steps from `first` on.
    pub fn take_series_from(&mut self, other: &Scores, series: usize, first: usize) {
        let first = first.min(self.score.ncols());
        let row = s![series, first..];
        self.score.slice_mut(row).assign(&other.score.slice(row));
        self.direction.slice_mut(row).assign(&other.direction.slice(row));
        if let Some(mine) = &mut self.log_p {
            match &other.log_p {
                Some(theirs) => mine.slice_mut(row).assign(&theirs.slice(row)),
                None => mine.slice_mut(row).fill(f64::NAN),
            }
        }
        let sheet = s![series, first.., ..];
        for (mine, theirs) in [
            (&mut self.expected, &other.expected),
            (&mut self.lower, &other.lower),
            (&mut self.upper, &other.upper),
        ] {
            if let Some(mine) = mine {
                match theirs {
                    Some(theirs) => mine.slice_mut(sheet).assign(&theirs.slice(sheet)),
                    None => mine.slice_mut(sheet).fill(f64::NAN),
                }
            }
        }
        if let (Some(mine), Some(theirs)) = (&mut self.metric_share, &other.metric_share) {
            mine.slice_mut(sheet).assign(&theirs.slice(sheet));
        }
    }

    /// Takes over the columns `times` of `other` (same panel, same detector).
    pub fn take_times(&mut self, other: &Scores, times: Range<usize>) {
        let cells = s![.., times.clone()];
        self.score.slice_mut(cells).assign(&other.score.slice(cells));
        self.direction.slice_mut(cells).assign(&other.direction.slice(cells));
        if let (Some(mine), Some(theirs)) = (&mut self.log_p, &other.log_p) {
            mine.slice_mut(cells).assign(&theirs.slice(cells));
        }
        let cube = s![.., times, ..];
        for (mine, theirs) in [
            (&mut self.expected, &other.expected),
            (&mut self.lower, &other.lower),
            (&mut self.upper, &other.upper),
        ] {
            if let (Some(mine), Some(theirs)) = (mine, theirs) {
                mine.slice_mut(cube).assign(&theirs.slice(cube));
            }
        }
        if let (Some(mine), Some(theirs)) = (&mut self.metric_share, &other.metric_share) {
            mine.slice_mut(cube).assign(&theirs.slice(cube));
        }
        for failure in &other.failures {
            if !self.failures.iter().any(|f| f.series == failure.series) {
                self.failures.push(failure.clone());
            }
        }
    }
}
