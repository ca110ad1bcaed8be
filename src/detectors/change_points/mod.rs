//! Changes of level: PELT for what has lasted, Bayesian online detection for the newest values.
//!
//! Every metric of every series is taken apart into its season ([`crate::features::seasonal`], with a
//! constant level, so that changes stay in the residuals) and what is left. [`pelt`] segments the residuals;
//! [`online`] says after each value how probable it is that the level has just changed.
//!
//! **Score.** A step scores high along a sustained shift: the distance of its segment's mean from the
//! long-run level (the running median of `level_window_days`), in robust standard deviations of a value,
//! times the probability that the segment's change is one. Near a change, before a segment is long enough, the
//! distance that the online part believes in counts, if it is larger. A shift of less than `min_change` of the
//! level counts for less in proportion. A shift that lasts half of the level window becomes the new normal.
//!
//! **What a score may know.** By default nothing that comes later: one pass of PELT finds the
//! best segmentation of every beginning of the series, and a step is judged by the one that ends with it. With
//! `look_ahead_steps` it is judged by the one that ends so many values later: changes are dated
//! better, and the score of a step is final only after them. [`FittedChangePoints::change_points`], the list for
//! people, has the hindsight of the whole panel.
//!
//! **Penalty and confidence.** A change must gain `penalty × 2 ln n` (Schwarz's criterion for a place and
//! a level) in units of the noise of the series: its robust standard deviation and autocorrelation
//! from differences ([`noise`]), so neither the changes themselves nor a slow wander count as noise.
//! By the same criterion `1 / (1 + exp(-(gain - penalty) / 2))` approximates the probability of the change; it is
//! at least one half for what PELT keeps.
//!
//! **Missing and masked values** are left out and the rest keeps its place in time. Single wild values
//! are cut at four standard deviations before they are segmented. Means before and after are of the
//! metric itself with its season taken out, the relative change is of the level before, or of one standard
//! deviation where that is larger: near a level of zero nothing is a share of it.
//!
//! # What was measured
//!
//! Simulated funnel of the benches (24 brands × 90 days, five metrics, learnt on 60 %, hours outside
//! campaigns), raw scores, means over seeds 1000-1004; cells and events at a threshold that 0.3 % of the clean
//! hours pass:
//!
//! | | AUC-PR | spikes | drops | level shifts: cells | conversion collapses | outages | all events |
//! |---|---|---|---|---|---|---|---|
//! | seasonal profile | .600 | .90 | .88 | .21 | .67 | .94 | .845 |
//! | this detector | .493 | .80 | .75 | .38 | .30 | .90 | .660 |
//! | with `look_ahead_steps = 12` | .669 | .85 | .83 | .42 | .48 | .90 | .757 |
//! | `cost = "nb"` | .498 | .85 | .68 | .35 | .28 | .81 | .636 |
//!
//! So it covers level shifts best and ranks best with half a day of hindsight; as it is known, hour by hour,
//! the profile's windows are ahead. Seeds 1-3, AUC-PR: cutting at 3, **4** and 6 standard deviations .49,
//! .51, .48, not at all .39; without the online part .45, with it alone .26; segments of at least **6** and 12 hours
//! .51, .49; level windows of 14, **28** and 56 days .52, .51, .50; a level that follows over 28 days .52; `nb` .51.
//!
//! As a third member beside profile and z-score (`configs/funnel.toml` without the LSTM, hours outside known
//! events, generator and run seeds 1000, 1001, 1002): ensemble AUC-PR .598, .568, .578 become .630, .600, .612,
//! F1 .641, .630, .511 become .645, .630, .515, FPR .005, .005, .007 become .004, .004, .005, events
//! found .833, .852, .850 become .792, .852, .850. Known gap: its calibrated p-values do not go below 0.001
//! (and are at or below 0.01 on 1.1-1.8 % of the clean hours), so its own flag at a level of 0.997 hardly ever
//! shows (none on two of the three seeds); it adds to others rather than flags alone. So it is in no shipped config
//! yet: it has not been measured beside the LSTM.

mod learnt;
pub mod noise;
pub mod online;
mod params;
pub mod pelt;
mod running;
mod track;

#[cfg(test)]
mod tests;

use ndarray::Array3;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use params::{ChangePointParams, CostName};

use self::{
    learnt::{Learnt, MIN_VALUES},
    params::Setting,
    track::{Cells, Track},
};
use crate::{
    detectors::{
        Detector, DetectorError, DetectorName, DetectorState, FitContext, FitMask, FittedDetector,
        Scores, ScoringPlan, SeriesFailure, folds::CrossFit,
    },
    features::seasonal::{ProfileParams, Residuals, SeasonalProfile},
    panel::{MetricKind, Panel},
};

const NAME: DetectorName = DetectorName::ChangePoints;

/// A place where the level of a metric changes.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangePoint {
    /// Places in the panel.
    pub series: usize,
    pub metric: usize,
    /// The first step of the new level.
    pub time: usize,
    /// Mean of the segment before, in the metric's unit, with the season taken out.
    pub before: f64,
    /// Mean of the segment that begins here.
    pub after: f64,
    /// `(after - before) / before`; over one standard deviation of a value where `before` is nearer to 0.
    pub relative_change: f64,
    /// Probability that it is a change, above one half.
    pub confidence: f64,
}

/// The detector before it has seen data.
#[derive(Clone, Debug)]
pub struct ChangePointDetector {
    params: ChangePointParams,
}

/// Profiles and noise of all series.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FittedChangePoints {
    profile: SeasonalProfile,
    setting: Setting,
    /// `[series][metric]`; `None` where there was too little to learn from.
    learnt: Vec<Vec<Option<Learnt>>>,
}

impl ChangePointDetector {
    /// # Errors
    /// [`DetectorError::Parameter`] for the first parameter that is out of its range.
    pub fn new(params: ChangePointParams) -> Result<Self, DetectorError> {
        DetectorError::first_of(NAME, params.problems())?;
        Ok(Self { params })
    }

    fn learn(
        &self,
        panel: &Panel,
        mask: &FitMask,
        context: &FitContext,
    ) -> Result<FittedChangePoints, DetectorError> {
        let constant = self.params.profile.level_window_days.unwrap_or(0.0);
        let params =
            ProfileParams { level_window_days: Some(constant), ..self.params.profile.clone() };
        let allowed = mask.as_array().view();
        let profile = SeasonalProfile::fit(panel, allowed, &params);
        let residuals = &profile.residuals_where(panel, allowed);
        let setting = self.params.on(panel.calendar().step());
        let learnt = (0..panel.n_series())
            .into_par_iter()
            .map(|series| {
                context.check_cancelled()?;
                let of_metric = |metric: usize| {
                    let cells = Cells { panel, residuals, mask, series, metric };
                    let is_count = panel.metrics()[metric].kind == MetricKind::Count;
                    Learnt::of(&cells.values().1, is_count, setting.cost)
                };
                Ok((0..panel.n_metrics()).map(of_metric).collect())
            })
            .collect::<Result<_, DetectorError>>()?;
        Ok(FittedChangePoints { profile, setting, learnt })
    }
}

impl Detector for ChangePointDetector {
    fn name(&self) -> DetectorName {
        NAME
    }

    fn fit(
        &self,
        panel: &Panel,
        mask: &FitMask,
        context: &FitContext,
    ) -> Result<Box<dyn FittedDetector>, DetectorError> {
        Ok(Box::new(self.learn(panel, mask, context)?))
    }

    /// As the trait says, except that a held-out block teaches neither profile nor noise but is
    /// segmented with the rest: a change is where values are, not in what was learnt from them.
    fn fit_score(
        &self,
        panel: &Panel,
        mask: &FitMask,
        plan: ScoringPlan,
        context: &FitContext,
    ) -> Result<(Box<dyn FittedDetector>, Scores), DetectorError> {
        let fitted = self.learn(panel, &plan.train_mask(panel, mask), context)?;
        let mut scores = fitted.score(panel, mask, context)?;
        if let ScoringPlan::CrossFitted { block } = plan {
            let plan = CrossFit { what: "change points", block, most_fits: usize::MAX };
            plan.run(panel, mask, context, &mut scores, |fold| {
                self.learn(panel, &fold.mask, context)?.score(panel, mask, context)
            })?;
        }
        Ok((Box::new(fitted), scores))
    }

    fn restore(
        &self,
        state: DetectorState,
        _context: &FitContext,
    ) -> Result<Box<dyn FittedDetector>, DetectorError> {
        Ok(Box::new(state.read(NAME, FittedChangePoints::defect)?))
    }
}

impl FittedChangePoints {
    fn defect(&self) -> Option<String> {
        if let Some((name, value, range)) = self.setting.problems().into_iter().next() {
            return Some(format!("`{name}` is {value}, but must be {range}"));
        }
        let shaped = self.learnt.len() == self.profile.keys().len()
            && self.learnt.iter().all(|metrics| metrics.len() == self.profile.metrics().len());
        if !shaped || self.setting.level_window == 0 {
            return Some("what it has learnt does not fit its series".into());
        }
        let sound = |learnt: &Learnt| learnt.is_sound(self.setting.cost);
        if !self.learnt.iter().flatten().flatten().all(sound) {
            return Some("the noise of a series is out of range".into());
        }
        self.profile.defect()
    }

    /// For each series of a panel, what was learnt of the panel's metrics.
    fn aligned(&self, panel: &Panel) -> Vec<Vec<Option<&Learnt>>> {
        let metrics = self.profile.metric_places(panel);
        let of_series = |place: Option<usize>| {
            let known = place.map(|place| &self.learnt[place]);
            metrics.iter().map(|metric| known?[(*metric)?].as_ref()).collect()
        };
        self.profile.series_places(panel).into_iter().map(of_series).collect()
    }

    /// Every change of level in a panel, with hindsight: by series, metric and time. Cells that `mask` forbids are
    /// left out.
    pub fn change_points(&self, panel: &Panel, mask: &FitMask) -> Vec<ChangePoint> {
        let residuals = &self.profile.residuals_where(panel, mask.as_array().view());
        let of_series = |(series, metrics): (usize, &Vec<Option<&Learnt>>)| {
            let mut found = Vec::new();
            for (metric, learnt) in metrics.iter().enumerate() {
                let Some(learnt) = learnt else { continue };
                let cells = Cells { panel, residuals, mask, series, metric };
                let track = Track::new(cells, learnt, &self.setting);
                if learnt.refuses(track.len()).is_none() {
                    found.extend(track.change_points());
                }
            }
            found
        };
        let aligned = self.aligned(panel);
        aligned.par_iter().enumerate().map(of_series).collect::<Vec<_>>().concat()
    }

    /// Why a series has no score, if it has none.
    fn failure(&self, known: &[Option<&Learnt>], same_step: bool) -> Option<String> {
        if !same_step {
            return Some("the profile was fitted on another step: fit it on this panel".into());
        }
        known.iter().all(Option::is_none).then(|| {
            format!(
                "fewer than {MIN_VALUES} usable values in the fit, or a series that it has not seen: fit again with a longer history of it"
            )
        })
    }
}

/// Signed scores `[time, metric]` of one series, and why a metric cannot be segmented, if one cannot.
struct SeriesScores {
    z: Vec<f64>,
    refused: Option<String>,
}

impl SeriesScores {
    fn of(known: &[Option<&Learnt>], setting: &Setting, cells: Cells) -> Self {
        let (times, metrics) = (cells.panel.n_times(), cells.panel.n_metrics());
        let mut found = Self { z: vec![f64::NAN; times * metrics], refused: None };
        for (metric, learnt) in known.iter().enumerate() {
            let Some(learnt) = learnt else { continue };
            let track = Track::new(Cells { metric, ..cells }, learnt, setting);
            if let Some(reason) = learnt.refuses(track.len()) {
                found.refused = Some(reason);
                continue;
            }
            for (time, score) in track.scores() {
                found.z[time * metrics + metric] = score;
            }
        }
        found
    }
}

impl FittedDetector for FittedChangePoints {
    fn score(
        &self,
        panel: &Panel,
        mask: &FitMask,
        context: &FitContext,
    ) -> Result<Scores, DetectorError> {
        context.check_cancelled()?;
        let residuals: &Residuals = &self.profile.residuals_where(panel, mask.as_array().view());
        let same_step = panel.calendar().step() == self.profile.step();
        let aligned = self.aligned(panel);
        let series = aligned
            .par_iter()
            .enumerate()
            .map(|(series, known)| {
                context.check_cancelled()?;
                let cells = Cells { panel, residuals, mask, series, metric: 0 };
                Ok(SeriesScores::of(known, &self.setting, cells))
            })
            .collect::<Result<Vec<SeriesScores>, DetectorError>>()?;
        let metrics = panel.n_metrics();
        let z =
            Array3::from_shape_fn(panel.values().dim(), |(s, t, m)| series[s].z[t * metrics + m]);
        let mut scores = Scores::empty(NAME, panel);
        scores.take_strongest(&z, 0..panel.n_times());
        let failures =
            series.into_iter().zip(&aligned).enumerate().map(|(place, (found, known))| {
                (place, self.failure(known, same_step).or(found.refused))
            });
        scores.failures = failures
            .filter_map(|(series, reason)| Some(SeriesFailure { series, reason: reason? }))
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
