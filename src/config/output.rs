//! `[output]`: the shape of the files that a run leaves.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::sections::{PanelSection, Problems, problem};

/// The columns of a flags file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputSchema {
    /// `counts` for one count metric by day or week, `metrics` otherwise.
    #[default]
    Auto,
    /// `week_start, …, count, mu_hat, pi_low, pi_high, is_anom`.
    Counts,
    /// `window_start, …, every metric, …, is_anomaly, expected_value`.
    Metrics,
}

/// `[output]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutputSection {
    pub schema: OutputSchema,
    /// Write Parquet, partitioned by day or week, beside the CSV.
    pub parquet: bool,
    /// Columns to rename: name here = name in the files.
    pub rename: BTreeMap<String, String>,
}

impl OutputSection {
    /// New names that clash with each other, or with the panel's own columns.
    pub(super) fn check(&self, panel: &PanelSection) -> Problems {
        let mut problems = Vec::new();
        let own =
            panel.id_columns().into_iter().chain(panel.metrics.iter().map(|m| m.name.clone()));
        let kept: Vec<String> = own.filter(|name| !self.rename.contains_key(name)).collect();
        for (i, (from, to)) in self.rename.iter().enumerate() {
            let key = format!("rename.{from}");
            if to.is_empty() {
                problems.push(problem(&key, "must not be empty"));
            }
            if self.rename.values().take(i).any(|other| other == to) {
                problems
                    .push(problem(&key, format!("`{to}` is the new name of another column too")));
            }
            if kept.contains(to) {
                problems.push(problem(&key, format!("`{to}` is a column of the data already")));
            }
        }
        problems
    }
}

impl Default for OutputSection {
    fn default() -> Self {
        Self { schema: OutputSchema::Auto, parquet: true, rename: BTreeMap::new() }
    }
}
