//! What the detector can be told.

use serde::{Deserialize, Serialize};

use crate::{detectors::ParameterProblem, features::seasonal::ProfileParams, panel::Step};

/// A longer window takes more time than it adds: its median no longer moves.
const MAX_WINDOW: f64 = 10_000.0;

/// What a segment costs: which change is looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CostName {
    /// Squares about the mean.
    #[default]
    L2,
    /// Distances from the median: slower, and wild values count less.
    L1,
    /// Scatter under a Gaussian kernel: any change of the distribution. Slower still, for up to 50,000 values
    /// a series.
    Rbf,
    /// Negative-binomial likelihood for counts; other metrics have `l2`.
    Nb,
}

/// | name | default | purpose | range |
/// |---|---|---|---|
/// | `profile` | see [`ProfileParams`] | the seasonal profile that is taken out first; here its level is constant unless `level_window_days` is given, or it would swallow the changes | |
/// | `cost` | `l2` | what a segment costs | `l2`, `l1`, `rbf`, `nb` |
/// | `min_size_steps` | 6 below a day, else 4 | values of the shortest segment | 2 to 10,000 |
/// | `penalty` | 1 | what a change must gain, in units of the Schwarz criterion (2 ln n times the noise) | 0.1 to 100 |
/// | `min_change` | 0.15 | smallest relative change of the level that is one | 0 to 10 |
/// | `level_window_days` | 28 below a day, 112 for days, else 52 steps | history whose median is the long-run level, at most 10,000 steps; a change that lasts half of it becomes the new normal | above 0, to 36,525 |
/// | `online_steps` | 6 below a day, else 4 | newest values in which a change is looked for before a segment is long enough | 0 (off) to 1,000 |
/// | `steps_between_changes` | 500 below a day, else 50 | mean length of a run, for the online part | 2 to 1,000,000 |
/// | `look_ahead_steps` | 0 | values after a step that may decide on it; 0: every score is what could be known then | 0 to 10,000 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChangePointParams {
    pub profile: ProfileParams,
    pub cost: CostName,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_size_steps: Option<usize>,
    pub penalty: f64,
    pub min_change: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level_window_days: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub online_steps: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps_between_changes: Option<f64>,
    pub look_ahead_steps: usize,
}

impl Default for ChangePointParams {
    fn default() -> Self {
        Self {
            profile: ProfileParams::default(),
            cost: CostName::L2,
            min_size_steps: None,
            penalty: 1.0,
            min_change: 0.15,
            level_window_days: None,
            online_steps: None,
            steps_between_changes: None,
            look_ahead_steps: 0,
        }
    }
}

/// The parameters for a step of a known length: what the fitted detector works by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Setting {
    pub cost: CostName,
    pub min_size: usize,
    pub penalty: f64,
    pub min_change: f64,
    /// In steps.
    pub level_window: usize,
    pub online_steps: usize,
    pub steps_between_changes: f64,
    pub look_ahead: usize,
}

impl Setting {
    /// Everything that is out of its range: the same bounds as the parameters', for checkpoints.
    pub fn problems(&self) -> Vec<ParameterProblem> {
        let mut found = Vec::new();
        let mut expect = |fine: bool, name, value: String, range| {
            if !fine {
                found.push((name, value, range));
            }
        };
        let (size, online, ahead) = (self.min_size, self.online_steps, self.look_ahead);
        expect((2..=10_000).contains(&size), "min_size_steps", size.to_string(), "2 to 10000");
        let penalty = self.penalty;
        expect((0.1..=100.0).contains(&penalty), "penalty", penalty.to_string(), "0.1 to 100");
        let change = self.min_change;
        expect((0.0..=10.0).contains(&change), "min_change", change.to_string(), "0 to 10");
        expect(online <= 1_000, "online_steps", online.to_string(), "0 to 1000");
        let between = self.steps_between_changes;
        let fine = (2.0..=1e6).contains(&between);
        expect(fine, "steps_between_changes", between.to_string(), "2 to 1000000");
        expect(ahead <= 10_000, "look_ahead_steps", ahead.to_string(), "0 to 10000");
        found
    }
}

impl ChangePointParams {
    /// The parameters on a step.
    pub(super) fn on(&self, step: Step) -> Setting {
        let fine = !step.is_civil();
        let days = match (self.level_window_days, step) {
            (Some(days), _) => days,
            (None, Step::Seconds(_)) => 28.0,
            (None, Step::Days(1)) => 112.0,
            (None, _) => 52.0 * step.secs() as f64 / 86_400.0,
        };
        let window = (days * 86_400.0 / step.secs() as f64).round();
        let few = if fine { 6 } else { 4 };
        let between = if fine { 500.0 } else { 50.0 };
        Setting {
            cost: self.cost,
            min_size: self.min_size_steps.unwrap_or(few),
            penalty: self.penalty,
            min_change: self.min_change,
            level_window: window.clamp(1.0, MAX_WINDOW) as usize,
            online_steps: self.online_steps.unwrap_or(few),
            steps_between_changes: self.steps_between_changes.unwrap_or(between),
            look_ahead: self.look_ahead_steps,
        }
    }

    /// Every parameter that is out of its range but those of the profile.
    fn own_problems(&self) -> Vec<ParameterProblem> {
        let mut found = self.on(Step::HOUR).problems();
        if let Some(days) = self.level_window_days
            && !(days > 0.0 && days <= 36_525.0)
        {
            found.push(("level_window_days", days.to_string(), "above 0 and at most 36525 days"));
        }
        found
    }

    /// Every parameter that is out of its range.
    pub(super) fn problems(&self) -> Vec<ParameterProblem> {
        let mut found = self.own_problems();
        if let Some((name, rule)) = self.profile.check().into_iter().next() {
            found.push(("profile", format!("wrong (`{name}` {rule})"), "in its ranges"));
        }
        found
    }

    /// Every parameter that is out of its range: its key and what to write instead.
    pub fn check(&self) -> Vec<(String, String)> {
        let profile = self.profile.check().into_iter();
        let own = self.own_problems().into_iter();
        profile
            .map(|(key, text)| (format!("profile.{key}"), text))
            .chain(own.map(|(key, value, range)| {
                (key.into(), format!("is {value}, but must be {range}"))
            }))
            .collect()
    }
}
