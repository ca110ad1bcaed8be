//! From residuals of several widths and metrics to one score.

use std::ops::Range;

use ndarray::{Array2, Array3, Axis};
use rayon::prelude::*;

use super::FittedSeasonalProfile;
use crate::{
    detectors::{Scores, SeriesFailure},
    features::seasonal::Residuals,
    math::robust,
    panel::Panel,
};

/// Shares of a normal variable's absolute value and their quantiles, from which the spread of a
/// window is taken: the larger of the two, so that neither a wide core nor heavy shoulders pass for
/// anomalies. One in twenty learnt values may be anomalous before the second is moved by much.
const SHARES: [(f64, f64); 2] = [(0.5, 0.674_490), (0.95, 1.959_964)];

/// `[series][metric][width]`: spread of the windows, of allowed cells only.
pub(super) fn spreads(
    residuals: &Residuals,
    panel: &Panel,
    widths: &[usize],
    allowed: &Array2<bool>,
) -> Vec<Vec<Vec<f64>>> {
    let (n, _, metrics) = residuals.z.dim();
    let mut out = vec![vec![Vec::with_capacity(widths.len()); metrics]; n];
    for &width in widths {
        let windows = residuals.windows(panel, width, Some(allowed.view()));
        out.par_iter_mut().enumerate().for_each(|(series, out)| {
            for (out, column) in out.iter_mut().zip(windows.index_axis(Axis(0), series).columns()) {
                let mut sizes: Vec<f64> =
                    column.iter().filter(|z| !z.is_nan()).map(|z| z.abs()).collect();
                let spread = SHARES
                    .iter()
                    .filter_map(|(share, z)| Some(robust::quantile(&mut sizes, *share)? / z))
                    .fold(1.0, f64::max);
                out.push(spread);
            }
        });
    }
    out
}

/// A window's evidence, weighed by whether its newest cell still shows it.
///
/// A trailing window goes on accusing for as long as it holds one wild cell. Its evidence counts in
/// full while the newest residual is at least half of the window's mean, and falls to nothing when
/// that residual is back at 0 or on the other side.
pub(super) fn still_on(window: f64, width: usize, newest: f64) -> f64 {
    if width == 1 || window == 0.0 {
        return 1.0;
    }
    (2.0 * newest * (width as f64).sqrt() / window).clamp(0.0, 1.0)
}

/// Fills score, direction and shares of the steps `at`.
pub(super) fn combine(
    fitted: &FittedSeasonalProfile,
    panel: &Panel,
    residuals: &Residuals,
    at: Range<usize>,
    scores: &mut Scores,
) {
    let top = strongest_widths(fitted, panel, residuals);
    scores.take_strongest(&top, at);
}

/// The strongest evidence of each metric over all widths, with its sign.
fn strongest_widths(
    fitted: &FittedSeasonalProfile,
    panel: &Panel,
    residuals: &Residuals,
) -> Array3<f64> {
    let series_places = fitted.profile.series_places(panel);
    let metric_places = fitted.profile.metric_places(panel);
    let spread_of = |series: usize, metric: usize, width: usize| {
        Some(fitted.spreads[series_places[series]?][metric_places[metric]?][width])
    };
    let mut top = Array3::from_elem(residuals.z.dim(), f64::NAN);
    for (place, &width) in fitted.widths.iter().enumerate() {
        let windows = residuals.windows(panel, width, None);
        for ((series, time, metric), &window) in windows.indexed_iter() {
            let Some(spread) = spread_of(series, metric, place) else { continue };
            let newest = residuals.z[[series, time, metric]];
            if window.is_nan() || newest.is_nan() {
                continue;
            }
            let evidence = window / spread * still_on(window, width, newest);
            let best = &mut top[[series, time, metric]];
            if best.is_nan() || evidence.abs() > best.abs() {
                *best = evidence;
            }
        }
    }
    top
}

/// Series that got no score, with the reason.
pub(super) fn failures(fitted: &FittedSeasonalProfile, panel: &Panel) -> Vec<SeriesFailure> {
    let places = fitted.profile.series_places(panel);
    let same_step = panel.calendar().step() == fitted.profile.step();
    (0..panel.n_series())
        .filter_map(|series| {
            let reason = match places[series] {
                _ if !same_step => {
                    "the profile was fitted on another step: fit it on this panel".to_string()
                }
                None => "the fit has not seen this series: fit again with it".to_string(),
                Some(place) if !fitted.profile.knows(place) => {
                    "fewer than four usable values to learn from: give it a longer history".into()
                }
                Some(_) => return None,
            };
            Some(SeriesFailure { series, reason })
        })
        .collect()
}
