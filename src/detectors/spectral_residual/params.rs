//! What the detector can be told.

use serde::{Deserialize, Serialize};

use crate::detectors::ParameterProblem;

/// | name | default | purpose | range |
/// |---|---|---|---|
/// | `average_bins` | 3 | neighbouring frequencies of the local mean that is taken off the log spectrum | odd, 3 to 501 |
/// | `smoothing_steps` | 8 | steps of the centred mean over the saliency; 1 for none | 1 to 1,000 |
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpectralResidualParams {
    pub average_bins: usize,
    pub smoothing_steps: usize,
}

impl Default for SpectralResidualParams {
    fn default() -> Self {
        Self { average_bins: 3, smoothing_steps: 8 }
    }
}

impl SpectralResidualParams {
    pub(super) fn problems(&self) -> Vec<ParameterProblem> {
        let mut wrong = Vec::new();
        let bins = self.average_bins;
        if !(3..=501).contains(&bins) || bins.is_multiple_of(2) {
            wrong.push(("average_bins", bins.to_string(), "an odd number from 3 to 501"));
        }
        let steps = self.smoothing_steps;
        if !(1..=1_000).contains(&steps) {
            wrong.push(("smoothing_steps", steps.to_string(), "from 1 to 1000"));
        }
        wrong
    }

    /// Every parameter that is out of its range: its key and what to write instead.
    pub fn check(&self) -> Vec<(String, String)> {
        let problems = self.problems().into_iter();
        problems
            .map(|(key, value, rule)| (key.into(), format!("is {value}, but must be {rule}")))
            .collect()
    }
}
