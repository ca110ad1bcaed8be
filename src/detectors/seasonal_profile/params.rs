//! Parameters of the detector.

use serde::{Deserialize, Serialize};

use crate::{features::seasonal::ProfileParams, panel::Step};

/// A window of more steps than this would hold a whole history.
const MAX_WIDTH: usize = 10_000;

/// How residuals from the profile become a score.
///
/// | name | default | purpose | range |
/// |---|---|---|---|
/// | `profile` | see [`ProfileParams`] | the profile itself | |
/// | `widths_steps` | empty: 1, 3 and 6 below a day, 1, 2 and 4 from a day on | trailing windows that are tested, in steps; 1 is always among them | rising, 1 to 10,000 |
/// | `interval_level` | 0.99 | share of normal values between `lower` and `upper` | 0.5 to below 1 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SeasonalProfileParams {
    pub profile: ProfileParams,
    pub widths_steps: Vec<usize>,
    pub interval_level: f64,
}

impl Default for SeasonalProfileParams {
    fn default() -> Self {
        Self { profile: ProfileParams::default(), widths_steps: Vec::new(), interval_level: 0.99 }
    }
}

/// Whether widths rise and stay in range.
pub(super) fn are_widths(widths: &[usize]) -> bool {
    widths.is_sorted_by(|a, b| a < b) && widths.iter().all(|w| (1..=MAX_WIDTH).contains(w))
}

impl SeasonalProfileParams {
    /// Every parameter out of its range, with what it must be.
    pub fn check(&self) -> Vec<(String, String)> {
        let mut wrong: Vec<(String, String)> = self
            .profile
            .check()
            .into_iter()
            .map(|(name, rule)| (format!("profile.{name}"), rule))
            .collect();
        wrong.extend(
            self.own_problems().into_iter().map(|(name, value, rule)| {
                (name.into(), format!("is {value}, but must be {rule}"))
            }),
        );
        wrong
    }

    /// The same as name, value and rule, with one entry for the whole profile.
    pub(super) fn problems(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut wrong = self.own_problems();
        if let Some((name, rule)) = self.profile.check().into_iter().next() {
            wrong.push(("profile", format!("wrong (`{name}` {rule})"), "in its ranges"));
        }
        wrong
    }

    fn own_problems(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut wrong = Vec::new();
        if !are_widths(&self.widths_steps) {
            let value = format!("{:?}", self.widths_steps);
            wrong.push(("widths_steps", value, "rising numbers from 1 to 10000, or empty"));
        }
        if !(0.5..1.0).contains(&self.interval_level) {
            let value = self.interval_level.to_string();
            wrong.push(("interval_level", value, "at least 0.5 and below 1"));
        }
        wrong
    }

    /// The widths to use, beginning with 1.
    pub(super) fn widths(&self, step: Step) -> Vec<usize> {
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
