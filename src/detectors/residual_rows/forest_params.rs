//! Parameters that both forests of rows have.

use serde::{Deserialize, Serialize};

use crate::{detectors::ParameterProblem, features::residual_rows::RowParams};

/// How a forest is grown.
///
/// | name | default | purpose | range |
/// |---|---|---|---|
/// | `trees` | 100 | trees; more make scores steadier | 1 to 10,000 |
/// | `sample_size` | 256 | rows that each tree is grown on; few are enough, and more hide clusters of anomalies | 2 to 65,536 |
/// | `rows` | see [`RowParams`] | what a row is made of | |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ForestParams {
    pub trees: usize,
    pub sample_size: usize,
    pub rows: RowParams,
}

impl Default for ForestParams {
    fn default() -> Self {
        Self { trees: 100, sample_size: 256, rows: RowParams::default() }
    }
}

impl ForestParams {
    /// Every parameter out of its range, with what it must be.
    pub fn check(&self) -> Vec<(String, String)> {
        super::check(self.own_problems(), &self.rows)
    }

    /// The same as name, value and rule, with one entry for all of `rows`.
    pub(in crate::detectors) fn problems(&self) -> Vec<ParameterProblem> {
        super::problems(self.own_problems(), &self.rows)
    }

    fn own_problems(&self) -> Vec<ParameterProblem> {
        let mut wrong = Vec::new();
        if !(1..=10_000).contains(&self.trees) {
            wrong.push(("trees", self.trees.to_string(), "from 1 to 10000"));
        }
        if !(2..=65_536).contains(&self.sample_size) {
            wrong.push(("sample_size", self.sample_size.to_string(), "from 2 to 65536"));
        }
        wrong
    }
}
