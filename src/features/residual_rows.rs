//! A panel as a matrix: one row for each step of each series, for detectors that know no calendar.
//!
//! The columns are seasonal residuals ([`SeasonalProfile`]) of every metric, over trailing windows of
//! several widths, each in units of its own spread on the learnt part. So a row holds what is
//! unusual now together with the short history that it belongs to, rows of all series and hours
//! compare with each other, and one model serves a whole panel. Nothing in a row comes from the
//! future of its step.
//!
//! Residuals are squashed, `sign(z) ln(1 + |z|)`: a wild value in the learnt part then neither
//! stretches the range that random cuts are drawn from nor outweighs every other column of a
//! distance.
//!
//! Engineered columns can stand beside them ([`super::funnel`]).

use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    funnel::{FunnelFeatures, FunnelParams},
    seasonal::{ProfileParams, Residuals, SeasonalProfile},
};
use crate::{
    math::robust,
    panel::{Panel, Step},
};

/// A window of more steps than this would hold a whole history.
const MAX_WIDTH: usize = 10_000;
/// As in the seasonal profile's own detector: shares of a normal variable's absolute value and their
/// quantiles. The larger of the two spreads counts.
const SHARES: [(f64, f64); 2] = [(0.5, 0.674_490), (0.95, 1.959_964)];

/// What the rows are made of.
///
/// | name | default | purpose | range |
/// |---|---|---|---|
/// | `profile` | see [`ProfileParams`] | the seasonal profile that residuals are taken from | |
/// | `widths_steps` | empty: 1, 3 and 6 below a day, 1, 2 and 4 from a day on | trailing windows whose residuals are columns, in steps; 1 is always among them | rising, 1 to 10,000 |
/// | `features` | no groups | engineered columns beside the residuals, see [`FunnelParams`] | |
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RowParams {
    pub profile: ProfileParams,
    pub widths_steps: Vec<usize>,
    pub features: FunnelParams,
}

impl RowParams {
    /// Every parameter out of its range, with what it must be.
    pub fn check(&self) -> Vec<(String, String)> {
        let profile = self.profile.check().into_iter();
        let mut wrong: Vec<_> =
            profile.map(|(name, rule)| (format!("profile.{name}"), rule)).collect();
        if !are_widths(&self.widths_steps) {
            let rule = "rising numbers from 1 to 10000, or empty";
            let found = &self.widths_steps;
            wrong.push(("widths_steps".into(), format!("is {found:?}, but must be {rule}")));
        }
        let features = self.features.check().into_iter();
        wrong.extend(features.map(|(name, rule)| (format!("features.{name}"), rule)));
        wrong
    }

    /// The widths to use, beginning with 1.
    fn widths(&self, step: Step) -> Vec<usize> {
        let mut widths = match (self.widths_steps.as_slice(), step.is_civil()) {
            ([], true) => vec![1, 2, 4],
            ([], false) => vec![1, 3, 6],
            (given, _) => given.to_vec(),
        };
        if widths.first() != Some(&1) {
            widths.insert(0, 1);
        }
        widths
    }
}

fn are_widths(widths: &[usize]) -> bool {
    widths.is_sorted_by(|a, b| a < b) && widths.iter().all(|w| (1..=MAX_WIDTH).contains(w))
}

/// What has been learnt about a panel's series, to make rows of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResidualRows {
    profile: SeasonalProfile,
    widths: Vec<usize>,
    /// `[series][metric][width]`: spread of the windows' residuals, at least 1.
    spreads: Vec<Vec<Vec<f64>>>,
    /// Engineered columns behind those of the residuals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    features: Option<FunnelFeatures>,
}

/// Rows of a panel.
#[derive(Clone, Debug)]
pub struct Rows {
    /// `[row, metric × width]`, the widths of a metric side by side, the narrowest first, then the
    /// engineered columns; NaN where a residual or feature is missing.
    pub values: Array2<f64>,
    /// For each row its series and step.
    pub cells: Vec<(usize, usize)>,
}

impl ResidualRows {
    /// Learns profiles and spreads from the cells that `allowed[series, time]` names.
    pub fn fit(panel: &Panel, allowed: ArrayView2<bool>, params: &RowParams) -> Self {
        let profile = SeasonalProfile::fit(panel, allowed, &params.profile);
        let residuals = profile.residuals_where(panel, allowed);
        let widths = params.widths(panel.calendar().step());
        let spreads = spreads(&residuals, panel, &widths, allowed);
        let features = (!params.features.groups.is_empty())
            .then(|| FunnelFeatures::fit(panel, allowed, &params.features));
        Self { profile, widths, spreads, features }
    }

    /// The profiles that the residuals come from.
    pub fn profile(&self) -> &SeasonalProfile {
        &self.profile
    }

    /// Number of columns.
    pub fn width(&self) -> usize {
        self.residual_columns() + self.features.as_ref().map_or(0, FunnelFeatures::width)
    }

    fn residual_columns(&self) -> usize {
        self.profile.metrics().len() * self.widths.len()
    }

    /// The metric, by its place in the profile, that each column is about; `None` for time.
    pub fn metrics_of(&self) -> Vec<Option<usize>> {
        let residuals = (0..self.residual_columns()).map(|column| Some(column / self.widths.len()));
        let features = self.features.iter().flat_map(FunnelFeatures::metrics_of);
        residuals.chain(features).collect()
    }

    /// The column of a metric's newest residual alone.
    pub fn newest_of(&self, metric: usize) -> usize {
        metric * self.widths.len()
    }

    /// What is wrong with rows that came out of a checkpoint, if anything is.
    pub fn defect(&self) -> Option<String> {
        let sound = |spread: &f64| spread.is_finite() && *spread > 0.0;
        let shaped = self.spreads.len() == self.profile.keys().len()
            && self.spreads.iter().all(|metrics| {
                metrics.len() == self.profile.metrics().len()
                    && metrics.iter().all(|s| s.len() == self.widths.len() && s.iter().all(sound))
            });
        if !shaped {
            return Some("the spreads of its windows do not fit its series".into());
        }
        if self.widths.first() != Some(&1) || !are_widths(&self.widths) {
            return Some(format!("{:?} are no window widths", self.widths));
        }
        self.features.as_ref().and_then(FunnelFeatures::defect).or_else(|| self.profile.defect())
    }

    /// The rows to learn from: of the cells that `allowed[series, time]` names, whose windows hold no
    /// other cells either.
    pub fn learnt_rows(&self, panel: &Panel, allowed: ArrayView2<bool>) -> Rows {
        self.make(panel, allowed, Some(allowed), |series, time| allowed[[series, time]])
    }

    /// The rows of the steps that `wanted` names. Slow levels come from the cells that
    /// `levels[series, time]` allows.
    pub fn rows(
        &self,
        panel: &Panel,
        levels: ArrayView2<bool>,
        wanted: impl Fn(usize) -> bool,
    ) -> Rows {
        self.make(panel, levels, None, |_, time| wanted(time))
    }

    /// Rows of the wanted cells in which some metric has a residual.
    fn make(
        &self,
        panel: &Panel,
        levels: ArrayView2<bool>,
        in_windows: Option<ArrayView2<bool>>,
        wanted: impl Fn(usize, usize) -> bool,
    ) -> Rows {
        let residuals = self.profile.residuals_where(panel, levels);
        let (series, metrics) = (self.profile.series_places(panel), self.places_in(panel));
        let mut cells = Vec::new();
        for (place, _) in series.iter().enumerate().filter(|(_, known)| known.is_some()) {
            for time in panel.span(place).filter(|&time| time < panel.n_times()) {
                let newest = residuals.z.slice(ndarray::s![place, time, ..]);
                if wanted(place, time) && newest.iter().any(|z| z.is_finite()) {
                    cells.push((place, time));
                }
            }
        }
        let mut values = Array2::from_elem((cells.len(), self.width()), f64::NAN);
        for (number, &width) in self.widths.iter().enumerate() {
            let windows = residuals.windows(panel, width, in_windows);
            for (metric, place) in metrics.iter().enumerate() {
                let Some(place) = *place else { continue };
                let column = metric * self.widths.len() + number;
                for (value, &(of, time)) in values.column_mut(column).iter_mut().zip(&cells) {
                    let Some(known) = series[of] else { continue };
                    let spread = self.spreads[known][metric][number];
                    *value = squash(windows[[of, time, place]] / spread);
                }
            }
        }
        self.fill_features(panel, levels, &cells, &mut values);
        Rows { values, cells }
    }

    /// The engineered columns of the rows `cells`, which come series by series.
    fn fill_features(
        &self,
        panel: &Panel,
        past: ArrayView2<bool>,
        cells: &[(usize, usize)],
        values: &mut Array2<f64>,
    ) {
        let Some(features) = &self.features else { return };
        let of_series: Vec<Option<Array2<f64>>> = (0..panel.n_series())
            .into_par_iter()
            .map(|series| features.of_series(panel, series, past.row(series)))
            .collect();
        let from = self.residual_columns();
        for (mut row, &(series, time)) in values.outer_iter_mut().zip(cells) {
            if let Some(columns) = &of_series[series] {
                row.slice_mut(ndarray::s![from..]).assign(&columns.row(time));
            }
        }
    }

    /// For each of the profile's metrics, its place in a panel.
    pub fn places_in(&self, panel: &Panel) -> Vec<Option<usize>> {
        self.profile.metrics().iter().map(|name| panel.find_metric(name)).collect()
    }
}

fn squash(z: f64) -> f64 {
    z.abs().ln_1p().copysign(z)
}

/// `[series][metric][width]`: spread of the windows, of allowed cells only.
fn spreads(
    residuals: &Residuals,
    panel: &Panel,
    widths: &[usize],
    allowed: ArrayView2<bool>,
) -> Vec<Vec<Vec<f64>>> {
    let (n, _, metrics) = residuals.z.dim();
    let mut out = vec![vec![Vec::with_capacity(widths.len()); metrics]; n];
    for &width in widths {
        let windows = residuals.windows(panel, width, Some(allowed));
        out.par_iter_mut().enumerate().for_each(|(series, out)| {
            for (out, column) in out.iter_mut().zip(windows.index_axis(Axis(0), series).columns()) {
                let sizes = column.iter().filter(|z| z.is_finite()).map(|z| z.abs());
                let mut sizes: Vec<f64> = sizes.collect();
                let of_share =
                    |(share, z): &(f64, f64)| Some(robust::quantile(&mut sizes, *share)? / z);
                out.push(SHARES.iter().filter_map(of_share).fold(1.0, f64::max));
            }
        });
    }
    out
}
