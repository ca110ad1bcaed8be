//! What the detector can be told.

use serde::{Deserialize, Serialize};

use crate::{detectors::ParameterProblem, features::seasonal::ProfileParams, panel::Step};

/// What windows are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowInput {
    /// Residuals from a robust seasonal profile.
    #[default]
    Residuals,
    /// The values themselves, counts and amounts by their square root. For metrics without a season
    /// that stay at a value or two for long, such as states and commands.
    Values,
}

/// | name | default | purpose | range |
/// |---|---|---|---|
/// | `window_steps` | 0: 12 below a day, 7 for days, 8 for weeks | steps of a window; at most a quarter of the steps that are learnt | 0, or 2 to 256 |
/// | `max_columns` | 256 | steps × metrics that a window may have; a panel with more metrics gets shorter windows | 8 to 1,024 |
/// | `ridge` | 0.05 | what is added to the variance of every component, in mean variances: more silences the components in which normal windows hardly differ | 0.0001 to 10 |
/// | `input` | `residuals` | what windows are made of | `residuals`, `values` |
/// | `profile` | see [`ProfileParams`] | the seasonal profile that residuals are taken from | |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SubsequencePcaParams {
    pub window_steps: usize,
    pub max_columns: usize,
    pub ridge: f64,
    pub input: WindowInput,
    pub profile: ProfileParams,
}

impl Default for SubsequencePcaParams {
    fn default() -> Self {
        Self {
            window_steps: 0,
            max_columns: 256,
            ridge: 0.05,
            input: WindowInput::default(),
            profile: ProfileParams::default(),
        }
    }
}

impl SubsequencePcaParams {
    fn own_problems(&self) -> Vec<ParameterProblem> {
        let mut wrong = Vec::new();
        let window = self.window_steps;
        if window != 0 && !(2..=256).contains(&window) {
            wrong.push(("window_steps", window.to_string(), "0, or from 2 to 256"));
        }
        if !(8..=1_024).contains(&self.max_columns) {
            wrong.push(("max_columns", self.max_columns.to_string(), "from 8 to 1024"));
        }
        if !(1e-4..=10.0).contains(&self.ridge) {
            wrong.push(("ridge", self.ridge.to_string(), "from 0.0001 to 10"));
        }
        wrong
    }

    /// Every parameter out of its range, with one entry for all of `profile`.
    pub(super) fn problems(&self) -> Vec<ParameterProblem> {
        let mut wrong = self.own_problems();
        if let Some((name, rule)) = self.profile.check().into_iter().next() {
            wrong.push(("profile", format!("wrong (`{name}` {rule})"), "in its ranges"));
        }
        wrong
    }

    /// Every parameter that is out of its range: its key and what to write instead.
    pub fn check(&self) -> Vec<(String, String)> {
        let own = self.own_problems().into_iter();
        let own =
            own.map(|(key, value, rule)| (key.into(), format!("is {value}, but must be {rule}")));
        let profile = self.profile.check().into_iter();
        own.chain(profile.map(|(key, rule)| (format!("profile.{key}"), rule))).collect()
    }

    /// Steps of a window for a panel of `metrics` metrics, of which `learnt` steps can be learnt from.
    pub(super) fn window(&self, step: Step, metrics: usize, learnt: usize) -> usize {
        let wished = match (self.window_steps, step) {
            (0, Step::Week) => 8,
            (0, Step::Days(_)) => 7,
            (0, Step::Seconds(_)) => 12,
            (given, _) => given,
        };
        wished.min(self.max_columns / metrics.max(1)).min(learnt / 4).max(1)
    }
}
