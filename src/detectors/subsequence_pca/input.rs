//! From a panel to the values that windows are made of.

use std::ops::Range;

use ndarray::{Array2, Array3, ArrayView1, ArrayView2, s};
use serde::{Deserialize, Serialize};

use crate::{
    features::seasonal::SeasonalProfile,
    panel::{MetricKind, Panel},
};

/// Values further from the centre count as this many standard deviations.
const MAX_Z: f64 = 20.0;
/// A metric that varies less than this share of its size counts as constant.
const LEAST_SPREAD: f64 = 1e-9;

/// Centre and spread of a metric on the scale that windows are made on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standard {
    pub centre: f64,
    pub spread: f64,
}

/// What windows are made of, `[series, time, metric]`. Slow levels of a profile come from the cells
/// that `levels` allows.
pub fn of_panel(
    panel: &Panel,
    profile: Option<&SeasonalProfile>,
    levels: ArrayView2<bool>,
) -> Array3<f64> {
    if let Some(profile) = profile {
        return profile.residuals_where(panel, levels).z;
    }
    let mut values = panel.values().clone();
    for (metric, about) in panel.metrics().iter().enumerate() {
        if matches!(about.kind, MetricKind::Count | MetricKind::Amount) {
            let mut column = values.slice_mut(s![.., .., metric]);
            column.mapv_inplace(|v| v.abs().sqrt().copysign(v));
        }
    }
    values
}

/// The steps of a series `[time, metric]` that may be learnt from: allowed, and with some value.
pub fn usable(values: ArrayView2<f64>, span: Range<usize>, allowed: ArrayView1<bool>) -> Vec<bool> {
    let known = |t: usize| values.row(t).iter().any(|x| x.is_finite());
    (0..values.nrows()).map(|t| span.contains(&t) && allowed[t] && known(t)).collect()
}

impl Standard {
    /// Of each metric of `values[time, metric]`, by mean and standard deviation: a metric that is
    /// mostly 0 has a spread too. A constant one has a spread of 1.
    pub fn of(values: ArrayView2<f64>, usable: &[bool]) -> Vec<Self> {
        let of_column = |column: ArrayView1<f64>| {
            let cells = column.iter().zip(usable).filter(|(x, usable)| **usable && x.is_finite());
            let known: Vec<f64> = cells.map(|(x, _)| *x).collect();
            let n = known.len().max(1) as f64;
            let centre = known.iter().sum::<f64>() / n;
            let spread = (known.iter().map(|x| (x - centre).powi(2)).sum::<f64>() / n).sqrt();
            let varies = spread > LEAST_SPREAD * centre.abs().max(1.0);
            Self { centre, spread: if varies { spread } else { 1.0 } }
        };
        values.columns().into_iter().map(of_column).collect()
    }

    pub fn is_sound(&self) -> bool {
        self.centre.is_finite() && self.spread.is_finite() && self.spread > 0.0
    }
}

/// `values[time, metric]` less the centre, in spreads, cut at [`MAX_Z`].
pub fn standardise(values: ArrayView2<f64>, standards: &[Standard]) -> Array2<f64> {
    let mut z = values.to_owned();
    for (mut column, standard) in z.columns_mut().into_iter().zip(standards) {
        column.mapv_inplace(|x| ((x - standard.centre) / standard.spread).clamp(-MAX_Z, MAX_Z));
    }
    z
}

/// Where windows begin that can be learnt from: every step usable and at most a quarter of the
/// values missing.
pub fn starts(z: ArrayView2<f64>, usable: &[bool], window: usize) -> Vec<usize> {
    let most = window * z.ncols() / 4;
    let fine = |start: &usize| {
        let steps = *start..start + window;
        let gaps = || z.slice(s![steps.clone(), ..]).iter().filter(|x| !x.is_finite()).count();
        usable[steps.clone()].iter().all(|usable| *usable) && gaps() <= most
    };
    (0..(z.nrows() + 1).saturating_sub(window)).filter(fine).collect()
}

/// Missing values are carried forward, at the start backward; 0 where there is none.
pub fn fill(z: &mut Array2<f64>) {
    for mut column in z.columns_mut() {
        let mut last = column.iter().copied().find(|x| x.is_finite()).unwrap_or(0.0);
        column.mapv_inplace(|x| {
            if x.is_finite() {
                last = x;
            }
            last
        });
    }
}
