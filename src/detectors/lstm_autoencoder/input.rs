//! From a panel to what the network sees, and back to the metric's unit.
//!
//! Scales are fitted once per series, on its training cells. A window is never centred or scaled
//! on its own: a level shift that fills the window would vanish.

use ndarray::{Array2, Array3, ArrayView2};
use serde::{Deserialize, Serialize};

use super::params::Input;
use crate::{
    features::seasonal::{ProfileParams, Residuals, SeasonalProfile},
    math::robust::{MAD_TO_SD, median},
    panel::{MetricKind, Panel},
};

/// Values beyond this many scales are cut before the network sees them, and before it learns from
/// them: one wild value must not saturate every gate. Errors are measured against the uncut value.
const CUT: f64 = 8.0;

/// Where a metric of a series lies, and how far it spreads, after its transformation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scale {
    center: f64,
    spread: f64,
}

impl Scale {
    /// Median and median absolute deviation; where that is nothing, the standard deviation.
    fn fit(mut values: Vec<f64>) -> Option<Self> {
        let center = median(&mut values)?;
        let mut deviations: Vec<f64> = values.iter().map(|v| (v - center).abs()).collect();
        let mut spread = median(&mut deviations)? * MAD_TO_SD;
        let floor = 1e-3 * center.abs().max(1e-3);
        if spread < floor {
            let square: f64 = values.iter().map(|v| (v - center).powi(2)).sum();
            spread = (square / values.len() as f64).sqrt();
        }
        // A constant metric: any change from it is far.
        Some(Self { center, spread: spread.max(floor) })
    }

    fn is_sound(&self) -> bool {
        self.center.is_finite() && self.spread.is_finite() && self.spread > 0.0
    }
}

/// How values become what the network sees, for the series of the fit.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Scaling {
    /// `[series][metric]`, `None` where there was nothing to learn from.
    LogScale(Vec<Vec<Option<Scale>>>),
    SeasonalResidual(SeasonalProfile),
}

/// A panel as the network sees it.
pub(super) struct Scaled {
    /// `[series, time, metric]`, NaN where missing.
    pub(super) z: Array3<f64>,
    back: Back,
}

/// The way back to the metric's unit.
enum Back {
    LogScale {
        scales: Vec<Vec<Option<Scale>>>,
        logarithmic: Vec<bool>,
    },
    /// The residuals of known series, and those of series that the fit did not see.
    Seasonal {
        known: Box<Residuals>,
        own: Option<Box<Residuals>>,
        is_known: Vec<bool>,
    },
}

impl Scaling {
    /// Learns from the cells that `allowed[series, time]` names.
    pub(super) fn fit(input: Input, panel: &Panel, allowed: ArrayView2<bool>) -> Self {
        match input {
            Input::LogScale => {
                let all = 0..panel.n_series();
                Self::LogScale(all.map(|series| log_scales(panel, allowed, series)).collect())
            }
            Input::SeasonalResidual => Self::SeasonalResidual(SeasonalProfile::fit(
                panel,
                allowed,
                &ProfileParams::default(),
            )),
        }
    }

    /// What is wrong with scales that came out of a checkpoint, if anything is.
    pub(super) fn defect(&self, series: usize, metrics: usize) -> Option<String> {
        match self {
            Self::LogScale(scales) => {
                let shaped = scales.len() == series && scales.iter().all(|s| s.len() == metrics);
                let sound = scales.iter().flatten().flatten().all(Scale::is_sound);
                (!shaped || !sound).then(|| "its scales do not fit its series and metrics".into())
            }
            Self::SeasonalResidual(profile) => {
                if profile.keys().len() != series || profile.metrics().len() != metrics {
                    return Some("its seasonal profile does not fit its series and metrics".into());
                }
                profile.defect()
            }
        }
    }

    /// Transforms a panel. `places[series]` is the series' place in the fit; a series that the fit
    /// did not see is scaled by its own values. `allowed` names the cells that a slow level may be
    /// taken from.
    pub(super) fn apply(
        &self,
        panel: &Panel,
        places: &[Option<usize>],
        allowed: ArrayView2<bool>,
    ) -> Scaled {
        match self {
            Self::LogScale(fitted) => {
                let of = |(series, place): (usize, &Option<usize>)| match place {
                    Some(place) => fitted[*place].clone(),
                    None => log_scales(panel, allowed, series),
                };
                apply_log_scales(panel, places.iter().enumerate().map(of).collect())
            }
            Self::SeasonalResidual(profile) => seasonal(profile, panel, places, allowed),
        }
    }
}

impl Scaled {
    /// The value, in the metric's unit, that would have been seen as `z`.
    pub(super) fn value(&self, series: usize, time: usize, metric: usize, z: f64) -> f64 {
        match &self.back {
            Back::LogScale { scales, logarithmic } => match scales[series][metric] {
                None => f64::NAN,
                Some(scale) => {
                    let y = z * scale.spread + scale.center;
                    if logarithmic[metric] { y.signum() * y.abs().exp_m1() } else { y }
                }
            },
            Back::Seasonal { known, own, is_known } => match (is_known[series], own) {
                (false, Some(own)) => own.expected_from_z(series, time, metric, z),
                _ => known.expected_from_z(series, time, metric, z),
            },
        }
    }

    /// The cell as the network gets it: cut, and 0 where it is missing.
    pub(super) fn seen(&self, series: usize, time: usize, metric: usize) -> Option<f32> {
        let z = self.z[[series, time, metric]];
        z.is_finite().then(|| z.clamp(-CUT, CUT) as f32)
    }
}

fn is_logarithmic(panel: &Panel) -> Vec<bool> {
    let of = |kind: &MetricKind| matches!(kind, MetricKind::Count | MetricKind::Amount);
    panel.metrics().iter().map(|metric| of(&metric.kind)).collect()
}

/// Signed, so that refunds (negative amounts) have a place.
fn transform(value: f64, logarithmic: bool) -> f64 {
    if logarithmic { value.signum() * value.abs().ln_1p() } else { value }
}

fn log_scales(panel: &Panel, allowed: ArrayView2<bool>, series: usize) -> Vec<Option<Scale>> {
    let logarithmic = is_logarithmic(panel);
    (0..panel.n_metrics())
        .map(|metric| {
            let values = panel.metric(series, metric);
            let usable = values
                .iter()
                .enumerate()
                .filter(|(time, value)| value.is_finite() && allowed[[series, *time]])
                .map(|(_, &value)| transform(value, logarithmic[metric]));
            Scale::fit(usable.collect())
        })
        .collect()
}

fn apply_log_scales(panel: &Panel, scales: Vec<Vec<Option<Scale>>>) -> Scaled {
    let logarithmic = is_logarithmic(panel);
    let mut z = panel.values().clone();
    for ((series, _, metric), value) in z.indexed_iter_mut() {
        *value = match scales[series][metric] {
            Some(scale) => (transform(*value, logarithmic[metric]) - scale.center) / scale.spread,
            None => f64::NAN,
        };
    }
    Scaled { z, back: Back::LogScale { scales, logarithmic } }
}

fn seasonal(
    profile: &SeasonalProfile,
    panel: &Panel,
    places: &[Option<usize>],
    allowed: ArrayView2<bool>,
) -> Scaled {
    let known = profile.residuals_where(panel, allowed);
    let is_known: Vec<bool> = places.iter().map(Option::is_some).collect();
    let mut z = known.z.clone();
    let own = is_known.iter().any(|known| !known).then(|| {
        let strangers =
            Array2::from_shape_fn(allowed.dim(), |(s, t)| !is_known[s] && allowed[[s, t]]);
        let profile = SeasonalProfile::fit(panel, strangers.view(), &ProfileParams::default());
        let own = profile.residuals_where(panel, allowed);
        for (series, _) in is_known.iter().enumerate().filter(|(_, known)| !**known) {
            let of_series = ndarray::s![series, .., ..];
            z.slice_mut(of_series).assign(&own.z.slice(of_series));
        }
        Box::new(own)
    });
    Scaled { z, back: Back::Seasonal { known: Box::new(known), own, is_known } }
}
