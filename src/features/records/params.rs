//! Which columns records have, and which features are made of them.

use serde::{Deserialize, Serialize};

/// A group of features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureGroup {
    /// Each number against its own context, given the other numbers of the row.
    Context,
    /// How much better the row fits another context than its own.
    Mismatch,
    /// How far the last rows of the context have moved together, this one included.
    Burst,
    /// Each number, imputed and scaled over all rows.
    Plain,
    /// One 0/1 feature per word; a word that the fit never saw is 0 everywhere.
    OneHot,
    /// One 0/1 feature per number column: 1 where it is missing.
    Missing,
}

/// How plain numbers are scaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// Median and quartiles.
    #[default]
    Robust,
    /// Mean and standard deviation.
    Standard,
}

/// Columns and features of records.
///
/// | Name | Default | Purpose | Range |
/// |---|---|---|---|
/// | `numeric` | the six metrics of customer experience | number columns | at least one |
/// | `categorical` | `channel`, `language`, `queue` | word columns | |
/// | `log` | the two durations | numbers taken as ln(1 + x) | of `numeric` |
/// | `context` | `channel`, `queue` | what a row is compared within | of `categorical` |
/// | `groups` | `context`, `mismatch`, `burst` | see [`FeatureGroup`] | at least one |
/// | `scaling` | `robust` | of `plain` numbers: `robust` or `standard` | |
/// | `context_prior_rows` | 30 | rows that all contexts together weigh in each of them; one of fewer than ten rows has no say of its own | > 0 |
/// | `burst_rows` | 6, 12 | last rows of a context that are pooled, one feature each | 2 to 1000 |
/// | `burst_hours` | 24 | older rows are not pooled | > 0 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecordFeatureParams {
    pub numeric: Vec<String>,
    pub categorical: Vec<String>,
    pub log: Vec<String>,
    pub context: Vec<String>,
    pub groups: Vec<FeatureGroup>,
    pub scaling: Scaling,
    pub context_prior_rows: f64,
    pub burst_rows: Vec<usize>,
    pub burst_hours: f64,
}

impl Default for RecordFeatureParams {
    fn default() -> Self {
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        Self {
            numeric: names(&[
                "csat",
                "ies",
                "complaints",
                "aht_seconds",
                "hold_time_seconds",
                "transfers",
            ]),
            categorical: names(&["channel", "language", "queue"]),
            log: names(&["aht_seconds", "hold_time_seconds"]),
            context: names(&["channel", "queue"]),
            groups: vec![FeatureGroup::Context, FeatureGroup::Mismatch, FeatureGroup::Burst],
            scaling: Scaling::Robust,
            context_prior_rows: 30.0,
            burst_rows: vec![6, 12],
            burst_hours: 24.0,
        }
    }
}

impl RecordFeatureParams {
    /// Every parameter that is out of its range: its key and what to write instead.
    pub fn check(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        let mut add = |key: &str, text: String| wrong.push((key.to_string(), text));
        if self.numeric.is_empty() {
            add("numeric", "name at least one number column".into());
        }
        let columns: Vec<&String> = self.numeric.iter().chain(&self.categorical).collect();
        for (i, name) in columns.iter().enumerate() {
            if columns[..i].contains(name) {
                add("numeric", format!("the column `{name}` is named twice; name it once"));
            }
        }
        for name in self.log.iter().filter(|name| !self.numeric.contains(name)) {
            add("log", format!("`{name}` is none of `numeric`; add it there or leave it out"));
        }
        for name in self.context.iter().filter(|name| !self.categorical.contains(name)) {
            add("context", format!("`{name}` is none of `categorical`; add it there"));
        }
        if self.groups.is_empty() {
            add("groups", "name at least one group, \"context\" say".into());
        }
        for (i, group) in self.groups.iter().enumerate() {
            if self.groups[..i].contains(group) {
                add("groups", format!("{group:?} comes twice; name it once"));
            }
        }
        if self.context.is_empty() && self.groups.contains(&FeatureGroup::Mismatch) {
            add("groups", "`mismatch` needs a `context` to compare; leave it out".into());
        }
        let positive = |x: f64| x.is_finite() && x > 0.0;
        if !positive(self.context_prior_rows) {
            add("context_prior_rows", "must be a positive number of rows".into());
        }
        if self.burst_rows.is_empty() || self.burst_rows.iter().any(|k| !(2..=1_000).contains(k)) {
            let text = format!("is {:?}, but must be numbers from 2 to 1000", self.burst_rows);
            add("burst_rows", text);
        }
        if !positive(self.burst_hours) {
            add("burst_hours", "must be a positive number of hours".into());
        }
        wrong
    }
}
