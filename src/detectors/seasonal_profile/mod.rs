//! Residuals from a robust seasonal profile, tested over several widths at once.
//!
//! Placeholder.

mod params;
mod score;

#[cfg(test)]
mod tests;

use std::ops::Range;

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

    /// Fits on the cells of `mask`; the residuals that come back take their levels from `levels`.
    fn fit_profile(
        &self,
        panel: &Panel,
        mask: &FitMask,
        levels: &FitMask,
    ) -> (FittedSeasonalProfile, Residuals) {
        let allowed = mask.as_array();
        let profile = SeasonalProfile::fit(panel, allowed.view(), &self.params.profile);
        let residuals = profile.residuals_where(panel, levels.as_array().view());
        let widths = self.params.widths(panel.calendar().step());
        let spreads = score::spreads(&residuals, panel, &widths, allowed);
        let interval_level = self.params.interval_level;
        (FittedSeasonalProfile { profile, widths, spreads, interval_level }, residuals)
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
        Ok(Box::new(self.fit_profile(panel, mask, mask).0))
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
        let mut train = mask.clone();
        if let ScoringPlan::Split { train_len } = plan {
            train.forbid_times(train_len.min(times)..times);
        }
        let (fitted, residuals) = self.fit_profile(panel, &train, mask);
        let mut scores = fitted.score_residuals(panel, residuals, 0..times);
        if let ScoringPlan::CrossFitted { block } = plan {
            context.progress.start("seasonal profile, held-out blocks", times as u64);
            for start in (0..times).step_by(block.max(1)) {
                context.check_cancelled()?;
                let held_out = start..start.saturating_add(block.max(1)).min(times);
                let mut fold = mask.clone();
                fold.forbid_times(held_out.clone());
                let (of_fold, residuals) = self.fit_profile(panel, &fold, &fold);
                let of_fold = of_fold.score_residuals(panel, residuals, held_out.clone());
                context.progress.advance(held_out.len() as u64);
                scores.take_times(&of_fold, held_out);
            }
            context.progress.finish();
        }
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

    /// Scores the steps `times`; the others stay empty.
    fn score_residuals(&self, panel: &Panel, residuals: Residuals, times: Range<usize>) -> Scores {
        let (lower, upper) = residuals.bounds(self.interval_level, times.clone());
        let mut scores = Scores::empty(NAME, panel);
        score::combine(self, panel, &residuals, times, &mut scores);
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
        Ok(self.score_residuals(panel, self.profile.residuals(panel), 0..panel.n_times()))
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
