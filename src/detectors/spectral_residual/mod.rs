//! Spectral residual: what stands out of a series' spectrum (Ren et al., "Time-Series Anomaly
//! Detection Service at Microsoft", KDD 2019).
//!
//! `saliency.rs` has the transform. It is taken of a metric's whole series, so a score knows the steps
//! after it, and hardly anything is learnt: only what saliency is usual on the cells that the mask
//! allows, so that metrics compare. That makes it cheap (a fast transform for each metric) and good
//! for series too short for a model, and it needs the history in the panel when it scores.
//!
//! Two things differ from the paper, both measured. The saliency counts itself, not its ratio to the
//! mean of the points before, which divides an event by its own beginning; and it is averaged over
//! [`smoothing_steps`](SpectralResidualParams::smoothing_steps), because a lasting event is salient at
//! its ends. Metrics combine by the root of their mean square.
//!
//! # What was measured
//!
//! Labelled sets of others, each series learnt on its training part (else its first 40 %), raw scores
//! on the rest, VUS-PR / AUC-PR as mean over series; settings were chosen on the first five.
//!
//! | | Numenta | cloud monitoring | web KPI | Merlion | application servers | server machines |
//! |---|---|---|---|---|---|---|
//! | as in the paper | .12 / .12 | .34 / .29 | .08 / .13 | .16 / .12 | .10 / .08 | .09 / .09 |
//! | saliency itself | .16 / .16 | .57 / .44 | .39 / .38 | .20 / .15 | | |
//! | **this detector** | .20 / .20 | **.77 / .58** | **.76 / .60** | .25 / .18 | **.57 / .54** | .33 / .32 |
//! | seasonal profile | **.22 / .21** | .58 / .50 | .07 / .11 | **.40 / .40** | .35 / .36 | **.35 / .35** |
//!
//! The width of the mean, 1, 4, 8, 16, 24 steps, on cloud monitoring: AUC-PR .44, .58, .58, .55, .44.
//! The largest metric in place of the mean square: application servers .47 / .46. Nine frequencies in
//! the local mean in place of the paper's three: AUC-PR .61 on cloud monitoring, .05 less on
//! application servers.
//! On the simulated funnel (seeds 1000-1007) its AUC-PR is .21 and the profile's .55: noisy counts by the
//! hour have no clean spectrum. No shipped config has it as a member.

mod params;
mod saliency;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use ndarray::{Array3, s};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use params::SpectralResidualParams;

use self::saliency::{MIN_LEN, bridged, saliency, smoothed};
use crate::{
    detectors::{
        Detector, DetectorError, DetectorName, DetectorState, FitContext, FitMask, FittedDetector,
        Scores, SeriesFailure,
    },
    math::robust,
    panel::{MetricKind, Panel, SeriesKey},
};

const NAME: DetectorName = DetectorName::SpectralResidual;
/// Scores stay finite where a constant series moves.
const MAX_SCORE: f64 = 1e6;

/// The detector before it has seen data.
#[derive(Clone, Debug)]
pub struct SpectralResidual {
    params: SpectralResidualParams,
}

/// How salient normal values of each series are.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FittedSpectralResidual {
    params: SpectralResidualParams,
    keys: Vec<SeriesKey>,
    metrics: Vec<String>,
    /// `[series][metric]`: median saliency of the cells that were learnt; `None` where there was too
    /// little to learn from.
    usual: Vec<Vec<Option<f64>>>,
}

/// Saliency of one metric of one series: size and sign by step, NaN where the value is missing.
struct Sheet {
    size: Vec<f64>,
    signed: Vec<f64>,
}

impl SpectralResidual {
    /// # Errors
    /// [`DetectorError::Parameter`] for the first parameter that is out of its range.
    pub fn new(params: SpectralResidualParams) -> Result<Self, DetectorError> {
        DetectorError::first_of(NAME, params.problems())?;
        Ok(Self { params })
    }
}

impl Sheet {
    /// `None` where the metric has too few values, or none that differ.
    fn of(
        panel: &Panel,
        series: usize,
        metric: usize,
        params: &SpectralResidualParams,
    ) -> Option<Self> {
        let span = panel.span(series);
        let span = span.start..span.end.min(panel.n_times());
        let roots = matches!(panel.metrics()[metric].kind, MetricKind::Count | MetricKind::Amount);
        let column = panel.values();
        let column = column.slice(s![series, span.clone(), metric]);
        if column.iter().filter(|v| v.is_finite()).count() < MIN_LEN {
            return None;
        }
        let scaled = |v: &f64| if roots { v.abs().sqrt().copysign(*v) } else { *v };
        let filled = bridged(column.iter().map(scaled))?;
        let signed = saliency(&filled, params.average_bins);
        let sizes: Vec<f64> = signed.iter().map(|x| x.abs()).collect();
        let place = |values: Vec<f64>| {
            let mut out = vec![f64::NAN; panel.n_times()];
            for ((out, value), cell) in out[span.clone()].iter_mut().zip(values).zip(&column) {
                if cell.is_finite() {
                    *out = value;
                }
            }
            out
        };
        Some(Self {
            size: place(smoothed(&sizes, params.smoothing_steps)),
            signed: place(smoothed(&signed, params.smoothing_steps)),
        })
    }
}

/// `[series][metric]`.
fn sheets(
    panel: &Panel,
    params: &SpectralResidualParams,
    context: &FitContext,
) -> Result<Vec<Vec<Option<Sheet>>>, DetectorError> {
    (0..panel.n_series())
        .into_par_iter()
        .map(|series| {
            context.check_cancelled()?;
            Ok((0..panel.n_metrics()).map(|m| Sheet::of(panel, series, m, params)).collect())
        })
        .collect()
}

impl Detector for SpectralResidual {
    fn name(&self) -> DetectorName {
        NAME
    }

    fn fit(
        &self,
        panel: &Panel,
        mask: &FitMask,
        context: &FitContext,
    ) -> Result<Box<dyn FittedDetector>, DetectorError> {
        let sheets = sheets(panel, &self.params, context)?;
        let usual = sheets
            .iter()
            .enumerate()
            .map(|(series, metrics)| {
                let of_metric = |sheet: &Option<Sheet>| {
                    let cells = sheet.as_ref()?.size.iter().enumerate();
                    let mut learnt: Vec<f64> = cells
                        .filter(|(t, size)| mask.allows(series, *t) && size.is_finite())
                        .map(|(_, size)| *size)
                        .collect();
                    robust::median(&mut learnt)
                };
                metrics.iter().map(of_metric).collect()
            })
            .collect();
        Ok(Box::new(FittedSpectralResidual {
            params: self.params.clone(),
            keys: panel.keys().to_vec(),
            metrics: panel.metrics().iter().map(|m| m.name.clone()).collect(),
            usual,
        }))
    }

    fn restore(
        &self,
        state: DetectorState,
        _context: &FitContext,
    ) -> Result<Box<dyn FittedDetector>, DetectorError> {
        Ok(Box::new(state.read(NAME, FittedSpectralResidual::defect)?))
    }
}

impl FittedSpectralResidual {
    fn defect(&self) -> Option<String> {
        if self.usual.len() != self.keys.len()
            || self.usual.iter().any(|metrics| metrics.len() != self.metrics.len())
        {
            return Some("it does not have one saliency for each metric of each series".into());
        }
        if !self.usual.iter().flatten().flatten().all(|usual| usual.is_finite() && *usual >= 0.0) {
            return Some("a saliency is out of range".into());
        }
        self.params.check().into_iter().next().map(|(key, rule)| format!("`{key}` {rule}"))
    }

    /// Saliency in units of the usual one, signed, `[series, time, metric]`; NaN where unknown.
    fn relative(&self, panel: &Panel, sheets: &[Vec<Option<Sheet>>]) -> (Array3<f64>, Array3<f64>) {
        let places: HashMap<&SeriesKey, usize> =
            self.keys.iter().enumerate().map(|(i, key)| (key, i)).collect();
        let columns: Vec<Option<usize>> = panel
            .metrics()
            .iter()
            .map(|metric| self.metrics.iter().position(|name| *name == metric.name))
            .collect();
        let mut sizes = Array3::from_elem(panel.values().dim(), f64::NAN);
        let mut leans = sizes.clone();
        for (series, sheets) in sheets.iter().enumerate() {
            let Some(&place) = places.get(&panel.keys()[series]) else { continue };
            for (metric, sheet) in sheets.iter().enumerate() {
                let usual = columns[metric].and_then(|column| self.usual[place][column]);
                let (Some(sheet), Some(usual)) = (sheet, usual) else { continue };
                let unit = if usual > 1e-9 { usual } else { 1.0 };
                for time in 0..panel.n_times() {
                    let cell = [series, time, metric];
                    sizes[cell] = (sheet.size[time] / unit).clamp(0.0, MAX_SCORE);
                    leans[cell] = sheet.signed[time];
                }
            }
        }
        (sizes, leans)
    }
}

/// Score, direction and shares of each cell: root of the mean square over the metrics that are there.
fn combine(sizes: &Array3<f64>, leans: &Array3<f64>, scores: &mut Scores) {
    let (n, times, metrics) = sizes.dim();
    let mut shares = (metrics > 1).then(|| Array3::<f32>::zeros(sizes.dim()));
    for (series, time) in (0..n).flat_map(|s| (0..times).map(move |t| (s, t))) {
        let cells = sizes.slice(s![series, time, ..]);
        let known = || cells.iter().enumerate().filter(|(_, x)| x.is_finite());
        let Some((top, _)) = known().max_by(|a, b| a.1.total_cmp(b.1)) else { continue };
        let count = known().count() as f64;
        let total: f64 = known().map(|(_, x)| x * x).sum();
        scores.score[[series, time]] = (total / count).sqrt();
        let lean = leans[[series, time, top]];
        scores.direction[[series, time]] = i8::from(lean > 0.0) - i8::from(lean < 0.0);
        if let Some(shares) = &mut shares {
            for (metric, x) in known() {
                let share = if total > 0.0 { x * x / total } else { 1.0 / count };
                shares[[series, time, metric]] = share as f32;
            }
        }
    }
    scores.metric_share = shares;
}

impl FittedDetector for FittedSpectralResidual {
    fn score(
        &self,
        panel: &Panel,
        _mask: &FitMask,
        context: &FitContext,
    ) -> Result<Scores, DetectorError> {
        let sheets = sheets(panel, &self.params, context)?;
        let (sizes, leans) = self.relative(panel, &sheets);
        let mut scores = Scores::empty(NAME, panel);
        combine(&sizes, &leans, &mut scores);
        scores.failures = (0..panel.n_series())
            .filter(|&series| sizes.slice(s![series, .., ..]).iter().all(|x| x.is_nan()))
            .map(|series| SeriesFailure {
                series,
                reason: format!(
                    "fewer than {MIN_LEN} values, none that may be learnt from, or a series that the fit has not seen: fit again with a longer history of it"
                ),
            })
            .collect();
        Ok(scores)
    }

    fn state(&self) -> Result<DetectorState, DetectorError> {
        DetectorState::of(NAME, self)
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
