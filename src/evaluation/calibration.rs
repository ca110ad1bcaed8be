//! What p-values and prediction intervals keep of what they promise.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::share;

/// What a detector's p-values and intervals keep of what they promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CalibrationFigures {
    pub cells: usize,
    /// Share of cells with p at or below 0.05, 0.01, 0.001.
    pub p05: f64,
    pub p01: f64,
    pub p001: f64,
    /// Share of cells inside the interval, of those that have one.
    pub coverage: Option<f64>,
}

/// Shares of the `clean` cells with small p, from ln p `[series, time]`; NaN cells are left out.
/// `inside` tells for a cell whether the observation lies in its prediction interval.
pub fn calibration_figures(
    log_p: &Array2<f64>,
    clean: &Array2<bool>,
    inside: impl Fn(usize, usize) -> Option<bool>,
) -> CalibrationFigures {
    let levels = [0.05_f64.ln(), 0.01_f64.ln(), 0.001_f64.ln()];
    let mut below = [0_usize; 3];
    let (mut cells, mut with_interval, mut covered) = (0, 0, 0);
    for ((s, t), &p) in log_p.indexed_iter() {
        if !clean[[s, t]] || p.is_nan() {
            continue;
        }
        cells += 1;
        for (count, level) in below.iter_mut().zip(levels) {
            // The tolerance keeps a p of exactly 0.01 on the side that it is on.
            *count += usize::from(p <= level + 1e-12);
        }
        if let Some(inside) = inside(s, t) {
            with_interval += 1;
            covered += usize::from(inside);
        }
    }
    let part = |count: usize| count as f64 / (cells as f64).max(1.0);
    CalibrationFigures {
        cells,
        p05: part(below[0]),
        p01: part(below[1]),
        p001: part(below[2]),
        coverage: share(covered, with_interval),
    }
}

/// For p at 1, 1/2, 1/4, ... down to about 1e-5: (p, share of the `clean` cells at or below it), from
/// ln p `[series, time]`; NaN cells are left out. An honest p-value lies on the diagonal, a
/// conservative one below it. Empty without a cell.
pub fn calibration_curve(log_p: &Array2<f64>, clean: &Array2<bool>) -> Vec<(f64, f64)> {
    let mut found: Vec<f64> = log_p
        .indexed_iter()
        .filter(|(cell, p)| clean[*cell] && !p.is_nan())
        .map(|(_, &p)| p)
        .collect();
    found.sort_unstable_by(f64::total_cmp);
    if found.is_empty() {
        return Vec::new();
    }
    (0..=17)
        .map(|power| {
            let log_level = -f64::from(power) * std::f64::consts::LN_2;
            let at_or_below = found.partition_point(|p| *p <= log_level + 1e-12);
            (log_level.exp(), at_or_below as f64 / found.len() as f64)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn calibration_counts_only_clean_scored_cells() {
        let log_p = array![[0.01_f64.ln(), 0.5_f64.ln(), f64::NAN, 1e-9_f64.ln()]];
        let clean = array![[true, true, true, false]];
        let figures = calibration_figures(&log_p, &clean, |_, t| (t < 2).then_some(t == 1));
        assert_eq!((figures.cells, figures.p01, figures.p001), (2, 0.5, 0.0));
        assert_eq!(figures.coverage, Some(0.5));
    }

    #[test]
    fn uniform_p_values_lie_on_the_diagonal() {
        let n = 4_096;
        let log_p = Array2::from_shape_fn((1, n), |(_, t)| ((t as f64 + 0.5) / n as f64).ln());
        let curve = calibration_curve(&log_p, &Array2::from_elem((1, n), true));
        for (p, achieved) in &curve[..8] {
            assert!((p - achieved).abs() < 1e-3, "{p} {achieved}");
        }
        assert!(calibration_curve(&log_p, &Array2::from_elem((1, n), false)).is_empty());
    }
}
