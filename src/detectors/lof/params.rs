//! Parameters of the detector.

use serde::{Deserialize, Serialize};

use crate::{
    detectors::{ParameterProblem, residual_rows},
    features::residual_rows::RowParams,
};

/// Which rows are compared with which.
///
/// | name | default | purpose | range |
/// |---|---|---|---|
/// | `neighbours` | 20 | nearest rows that a row is compared with | 2 to 1,000 |
/// | `reference_rows` | 4,096 | learnt rows that are kept to compare with, drawn from all; time and checkpoint grow with them | 10 to 1,000,000 |
/// | `rows` | see [`RowParams`] | what a row is made of | |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LofParams {
    pub neighbours: usize,
    pub reference_rows: usize,
    pub rows: RowParams,
}

impl Default for LofParams {
    fn default() -> Self {
        Self { neighbours: 20, reference_rows: 4_096, rows: RowParams::default() }
    }
}

impl LofParams {
    /// Every parameter out of its range, with what it must be.
    pub fn check(&self) -> Vec<(String, String)> {
        residual_rows::check(self.own_problems(), &self.rows)
    }

    /// The same as name, value and rule, with one entry for all of `rows`.
    pub(super) fn problems(&self) -> Vec<ParameterProblem> {
        residual_rows::problems(self.own_problems(), &self.rows)
    }

    fn own_problems(&self) -> Vec<ParameterProblem> {
        let mut wrong = Vec::new();
        if !(2..=1_000).contains(&self.neighbours) {
            wrong.push(("neighbours", self.neighbours.to_string(), "from 2 to 1000"));
        }
        if !(10..=1_000_000).contains(&self.reference_rows) {
            wrong.push(("reference_rows", self.reference_rows.to_string(), "from 10 to 1000000"));
        }
        wrong
    }
}
