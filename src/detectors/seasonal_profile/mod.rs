//! Residuals from a robust seasonal profile, tested over several widths at once.
//!
//! Placeholder.

mod params;
mod score;

#[cfg(test)]
mod tests;

use ndarray::{Array2, Array3};
use serde::{Deserialize, Serialize};

pub use params::SeasonalProfileParams;

use crate::{
    detectors::{
        Detector, DetectorError, DetectorName, DetectorState, FitContext, FitMask, FittedDetector,
        Scores, ScoringPlan,
    },
    features::seasonal::{Residuals, SeasonalProfile},
    panel::Panel,
};

const NAME: DetectorName = DetectorName::SeasonalProfile;

/// The detector before it has seen data.
#[derive(Clone, Debug)]
pub struct SeasonalProfileDetector {
    params: SeasonalProfileParams,
}

/// Profiles, and how far windows of each width go on normal data.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FittedSeasonalProfile {
    profile: SeasonalProfile,
    widths: Vec<usize>,
    /// `[series][metric][width]`: spread of the windows' residuals, at least 1.
    spreads: Vec<Vec<Vec<f64>>>,
    interval_level: f64,
}

impl SeasonalProfileDetector {
    /// # Errors
    /// [`DetectorError::Parameter`] for the first parameter that is out of its range.
    pub fn new(params: SeasonalProfileParams) -> Result<Self, DetectorError> {
        match params.problems().into_iter().next() {
            None => Ok(Self { params }),
            Some((parameter, value, expected)) => {
                Err(DetectorError::Parameter { detector: NAME, parameter, value, expected })
            }
        }
    }

    fn fit_profile(&self, panel: &Panel, mask: &FitMask) -> FittedSeasonalProfile {
        let allowed = mask.as_array();
        let profile = SeasonalProfile::fit(panel, allowed.view(), &self.params.profile);
        let mut residuals = profile.residuals_where(panel, allowed.view());
        for ((series, time, _), z) in residuals.z.indexed_iter_mut() {
            if !allowed[[series, time]] {
                *z = f64::NAN;
            }
        }
        let widths = self.params.widths(panel.calendar().step());
        let spreads = score::spreads(&residuals, panel, &widths);
        FittedSeasonalProfile {
            profile,
            widths,
            spreads,
            interval_level: self.params.interval_level,
        }
    }
}

impl Detector for SeasonalProfileDetector {
    fn name(&self) -> DetectorName {
        NAME
    }

    fn fit(
        &self,
        panel: &Panel,
        mask: &FitMask,
        context: &FitContext,
    ) -> Result<Box<dyn FittedDetector>, DetectorError> {
        context.check_cancelled()?;
        Ok(Box::new(self.fit_profile(panel, mask)))
    }

    /// As the trait says, and beyond it: the slow level at a cell never comes from cells that the
    /// mask forbids, nor, when cross-fitting, from the cell's own block.
    fn fit_score(
        &self,
        panel: &Panel,
        mask: &FitMask,
        plan: ScoringPlan,
        context: &FitContext,
    ) -> Result<(Box<dyn FittedDetector>, Scores), DetectorError> {
        let times = panel.n_times();
        let (fitted, scores) = match plan {
            ScoringPlan::InSample => {
                let fitted = self.fit_profile(panel, mask);
                let scores = fitted.score_where(panel, mask.as_array());
                (fitted, scores)
            }
            ScoringPlan::Split { train_len } => {
                let mut train = mask.clone();
                train.forbid_times(train_len.min(times)..times);
                let fitted = self.fit_profile(panel, &train);
                let scores = fitted.score_where(panel, mask.as_array());
                (fitted, scores)
            }
            ScoringPlan::CrossFitted { block } => {
                let fitted = self.fit_profile(panel, mask);
                let mut scores = fitted.score_where(panel, mask.as_array());
                let block = block.max(1);
                context.progress.start("seasonal profile, held-out blocks", times as u64);
                for start in (0..times).step_by(block) {
                    context.check_cancelled()?;
                    let held_out = start..(start + block).min(times);
                    let mut fold = mask.clone();
                    fold.forbid_times(held_out.clone());
                    let of_fold = self.fit_profile(panel, &fold);
                    scores.take_times(&of_fold.score_where(panel, fold.as_array()), held_out);
                    context.progress.advance(block as u64);
                }
                context.progress.finish();
                (fitted, scores)
            }
        };
        Ok((Box::new(fitted), scores))
    }

    fn restore(
        &self,
        state: DetectorState,
        _context: &FitContext,
    ) -> Result<Box<dyn FittedDetector>, DetectorError> {
        let wrong = |reason| DetectorError::State { detector: NAME, reason };
        let fitted: FittedSeasonalProfile =
            serde_json::from_value(state.json).map_err(|e| wrong(e.to_string()))?;
        match fitted.defect() {
            Some(reason) => Err(wrong(format!("{reason}; train again to write a sound one"))),
            None => Ok(Box::new(fitted)),
        }
    }
}

impl FittedSeasonalProfile {
    /// The profiles that the scores stand on.
    pub fn profile(&self) -> &SeasonalProfile {
        &self.profile
    }

    fn defect(&self) -> Option<String> {
        let sound = |spread: &f64| spread.is_finite() && *spread > 0.0;
        let shaped = self.spreads.len() == self.profile.keys().len()
            && self.spreads.iter().all(|metrics| {
                metrics.len() == self.profile.metrics().len()
                    && metrics.iter().all(|s| s.len() == self.widths.len() && s.iter().all(sound))
            });
        if !shaped {
            return Some("the spreads of its windows do not fit its series".into());
        }
        if self.widths.first() != Some(&1) || !params::are_widths(&self.widths) {
            return Some(format!("{:?} are no window widths", self.widths));
        }
        if !(0.5..1.0).contains(&self.interval_level) {
            return Some(format!("{} is no interval level", self.interval_level));
        }
        self.profile.defect()
    }

    /// Scores a panel, with levels from the cells that `allowed` names.
    fn score_where(&self, panel: &Panel, allowed: &Array2<bool>) -> Scores {
        let residuals = self.profile.residuals_where(panel, allowed.view());
        self.score_residuals(panel, residuals)
    }

    fn score_residuals(&self, panel: &Panel, residuals: Residuals) -> Scores {
        let (lower, upper) = residuals.bounds(self.interval_level);
        let mut scores = Scores::empty(NAME, panel);
        let shape = residuals.z.dim();
        let mut share = (shape.2 > 1).then(|| Array3::<f32>::zeros(shape));
        score::combine(self, panel, &residuals, &mut scores, share.as_mut());
        scores.metric_share = share;
        scores.failures = score::failures(self, panel);
        scores.lower = Some(lower);
        scores.upper = Some(upper);
        scores.expected = Some(residuals.expected);
        scores
    }
}

impl FittedDetector for FittedSeasonalProfile {
    fn score(&self, panel: &Panel, context: &FitContext) -> Result<Scores, DetectorError> {
        context.check_cancelled()?;
        Ok(self.score_residuals(panel, self.profile.residuals(panel)))
    }

    fn state(&self) -> Result<DetectorState, DetectorError> {
        let json = serde_json::to_value(self)
            .map_err(|e| DetectorError::State { detector: NAME, reason: e.to_string() })?;
        Ok(DetectorState { json, weights: None })
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
