//! The tables of a config file that belong to no single detector.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::{
    detectors::{DetectorName, ScoringPlan},
    ensemble::EnsembleParams,
    panel::{Duplicates, Edges, Level, Metric, MetricKind, Scope, SpanRule, Step},
    report::ChartFormat,
    source::{
        AmbiguousTime, Filter, Format, FunnelSpec, IdColumn, Layout, MetricColumn, RecordsSpec,
        SourceSpec, TimeFormat, WeeklySpec,
    },
};

pub(super) type Problems = Vec<(String, String)>;

pub(super) fn problem(key: &str, message: impl Into<String>) -> (String, String) {
    (key.to_string(), message.into())
}

/// How rows carry metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayoutName {
    /// One row an event.
    #[default]
    Events,
    /// One row a step, one column a metric.
    Wide,
    /// One row a step and metric.
    Long,
}

/// `[source]`: what to read and which column means what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourceSection {
    /// A file, a glob, or a folder (also a Hive-partitioned one). `--input`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Labelled intervals. `--labels`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,
    /// Known events. `--known-events`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_events: Option<String>,
    pub format: Format,
    /// Of CSV files; without one, it is found from the header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    pub layout: LayoutName,
    pub time_column: String,
    /// `auto | epoch_seconds | epoch_millis`, or a pattern such as `%d.%m.%Y %H:%M`.
    pub time_format: TimeFormat,
    /// IANA name: the clock of times without an offset, and of days and weeks.
    pub time_zone: String,
    pub ambiguous_time: AmbiguousTime,
    /// Layouts `events` and `long`: the column that holds the value; without one each row counts 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_column: Option<String>,
    /// Layout `long`: the column that holds the metric's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric_column: Option<String>,
    pub max_rejected_share: f64,
    /// Id columns that the file calls otherwise: name in the panel = column in the file.
    pub columns: BTreeMap<String, String>,
    /// Id columns that the file lacks: name in the panel = the value for every row.
    pub constants: BTreeMap<String, String>,
    /// Keep only rows whose column holds one of these values.
    pub filters: Vec<Filter>,
}

impl Default for SourceSection {
    fn default() -> Self {
        Self {
            path: None,
            labels: None,
            known_events: None,
            format: Format::Auto,
            delimiter: None,
            layout: LayoutName::Events,
            time_column: "insight_date_time".into(),
            time_format: TimeFormat::Auto,
            time_zone: "UTC".into(),
            ambiguous_time: AmbiguousTime::Earlier,
            value_column: None,
            metric_column: None,
            max_rejected_share: 0.01,
            columns: BTreeMap::new(),
            constants: BTreeMap::new(),
            filters: Vec::new(),
        }
    }
}

impl SourceSection {
    pub(super) fn check(&self) -> Problems {
        let mut problems = Vec::new();
        if TimeZone::get(&self.time_zone).is_err() {
            problems.push(problem(
                "time_zone",
                format!(
                    "`{}` is no IANA time zone: write \"UTC\" or \"Europe/Berlin\"",
                    self.time_zone
                ),
            ));
        }
        if self.layout == LayoutName::Long && self.metric_column.is_none() {
            problems.push(problem(
                "metric_column",
                "the layout \"long\" needs the column that holds the metric's name",
            ));
        }
        if !(0.0..=1.0).contains(&self.max_rejected_share) {
            problems.push(problem("max_rejected_share", "must be a share from 0 to 1"));
        }
        if self.delimiter.is_some_and(|c| !c.is_ascii() || c == '"' || c == '\n') {
            problems.push(problem("delimiter", "must be one ASCII character, no quote"));
        }
        problems
    }

    /// The zone; checked configs always have one.
    pub fn zone(&self) -> TimeZone {
        TimeZone::get(&self.time_zone).unwrap_or(TimeZone::UTC)
    }

    /// What the reader needs, for the given panel.
    pub fn spec(&self, pattern: &str, panel: &PanelSection) -> SourceSpec {
        let value_column = self.value_column.clone();
        let layout = match self.layout {
            LayoutName::Events => Layout::Events { value_column },
            LayoutName::Wide => Layout::Wide,
            LayoutName::Long => Layout::Long {
                metric_column: self.metric_column.clone().unwrap_or_default(),
                value_column,
            },
        };
        let id_columns = panel
            .id_columns()
            .into_iter()
            .map(|name| IdColumn {
                column: self.columns.get(&name).cloned(),
                value: self.constants.get(&name).cloned(),
                name,
            })
            .collect();
        let metrics = panel
            .metrics
            .iter()
            .filter(|metric| !matches!(metric.kind, MetricKind::Ratio { .. }))
            .map(|metric| MetricColumn {
                name: metric.name.clone(),
                column: self.columns.get(&metric.name).cloned(),
                count: metric.kind == MetricKind::Count,
            })
            .collect();
        SourceSpec {
            format: self.format,
            delimiter: self.delimiter.and_then(|c| u8::try_from(c).ok()),
            time_format: self.time_format.clone(),
            time_zone: self.zone(),
            ambiguous_time: self.ambiguous_time,
            id_columns,
            metrics,
            filters: self.filters.clone(),
            max_rejected_share: self.max_rejected_share,
            ..SourceSpec::new(pattern, self.time_column.clone(), layout)
        }
    }
}

/// `[generate]`: what to make when there is nothing to read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GenerateSection {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weekly: Option<WeeklySpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub funnel: Option<FunnelSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<RecordsSpec>,
}

impl GenerateSection {
    /// Nothing to generate.
    pub fn is_empty(&self) -> bool {
        !self.is_panel() && self.records.is_none()
    }
    /// Something that makes a panel.
    pub fn is_panel(&self) -> bool {
        self.weekly.is_some() || self.funnel.is_some()
    }

    pub(super) fn check(&self) -> Problems {
        let mut problems = Vec::new();
        if self.weekly.is_some() && self.funnel.is_some() {
            problems.push(problem("funnel", "keep one of `weekly` and `funnel`"));
        }
        let mut add = |table: &str, found: Vec<(String, String)>| {
            problems.extend(found.into_iter().map(|(key, text)| (format!("{table}.{key}"), text)));
        };
        add("weekly", self.weekly.as_ref().map(WeeklySpec::check).unwrap_or_default());
        add("funnel", self.funnel.as_ref().map(FunnelSpec::check).unwrap_or_default());
        add("records", self.records.as_ref().map(RecordsSpec::check).unwrap_or_default());
        problems
    }
}

/// `[panel]`: step, levels, metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PanelSection {
    pub step: Step,
    /// What two rows for the same cell mean: `combine` or `reject`.
    pub duplicates: Duplicates,
    /// From when to when a series exists: `calendar | first_seen | observed`.
    pub spans: SpanRule,
    /// What becomes of a first and last day or week that raw events cover in part: `trim | keep`.
    pub edges: Edges,
    /// Keep the largest groups of the coarsest level. `--max-pairs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_pairs: Option<usize>,
    /// Keep the largest series of each group. `--max-keys`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_keys: Option<usize>,
    pub levels: Vec<Level>,
    pub metrics: Vec<Metric>,
}

impl Default for PanelSection {
    fn default() -> Self {
        let level = |name: &str, columns: &[&str]| Level {
            name: name.into(),
            id_columns: columns.iter().map(|c| c.to_string()).collect(),
        };
        Self {
            step: Step::Week,
            duplicates: Duplicates::Combine,
            spans: SpanRule::Calendar,
            edges: Edges::Trim,
            max_pairs: None,
            max_keys: None,
            levels: vec![
                level("key", &["target_type", "insight_type", "target_key"]),
                level("pair", &["target_type", "insight_type"]),
            ],
            metrics: vec![Metric { name: "count".into(), kind: MetricKind::Count }],
        }
    }
}

impl PanelSection {
    /// Every id column of any level, once.
    pub fn id_columns(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for name in self.levels.iter().flat_map(|level| &level.id_columns) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }

    /// The coarsest level: the groups of `--max-pairs`.
    pub fn groups(&self) -> Level {
        let coarsest = self.levels.iter().min_by_key(|level| level.id_columns.len());
        coarsest.cloned().unwrap_or(Level { name: String::new(), id_columns: Vec::new() })
    }

    pub fn scope(&self) -> Scope {
        Scope { max_pairs: self.max_pairs, max_keys: self.max_keys }
    }

    pub(super) fn check(&self) -> Problems {
        let mut problems = Vec::new();
        if self.levels.is_empty() {
            problems.push(problem("levels", "name at least one level with its id columns"));
        }
        if self.metrics.is_empty() {
            problems.push(problem("metrics", "name at least one metric"));
        }
        for (key, names) in [
            ("levels", self.levels.iter().map(|l| &l.name).collect::<Vec<_>>()),
            ("metrics", self.metrics.iter().map(|m| &m.name).collect()),
        ] {
            for (i, name) in names.iter().enumerate() {
                if names[..i].contains(name) {
                    problems.push(problem(key, format!("`{name}` comes twice")));
                }
                if name.is_empty() || name.contains(['/', '\\', '.']) {
                    problems.push(problem(key, format!("`{name}` cannot be part of a file name")));
                }
            }
        }
        for level in self.levels.iter().filter(|level| level.id_columns.is_empty()) {
            problems.push(problem("levels", format!("`{}` has no id columns", level.name)));
        }
        for metric in &self.metrics {
            let MetricKind::Ratio { numerator, denominator } = &metric.kind else { continue };
            for part in [numerator, denominator] {
                let found = self.metrics.iter().find(|m| m.name == *part);
                if !found.is_some_and(|m| !matches!(m.kind, MetricKind::Ratio { .. })) {
                    problems.push(problem(
                        "metrics",
                        format!(
                            "the ratio `{}` needs `{part}` as a metric of its own",
                            metric.name
                        ),
                    ));
                }
            }
        }
        for (key, limit) in [("max_pairs", self.max_pairs), ("max_keys", self.max_keys)] {
            if limit == Some(0) {
                problems.push(problem(key, "must be at least 1"));
            }
        }
        problems
    }
}

/// Which part of the data scores which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanName {
    /// Fit on the first `train_share` of each series, score everything.
    Split,
    /// Every block of `block_steps` is scored by a fit that left it out.
    #[default]
    CrossFitted,
    /// Fit and score on everything: masks the anomalies it learns from; for comparison.
    InSample,
}

/// `[split]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SplitSection {
    pub plan: PlanName,
    /// `split`: share of each series' steps that is fitted on.
    pub train_share: f64,
    /// `cross_fitted`: steps in a block.
    pub block_steps: usize,
}

impl Default for SplitSection {
    fn default() -> Self {
        Self { plan: PlanName::CrossFitted, train_share: 0.6, block_steps: 4 }
    }
}

impl SplitSection {
    pub(super) fn check(&self) -> Problems {
        let mut problems = Vec::new();
        if !(self.train_share > 0.0 && self.train_share < 1.0) {
            problems.push(problem("train_share", "must lie between 0 and 1, both excluded"));
        }
        if self.block_steps == 0 {
            problems.push(problem("block_steps", "must be at least 1"));
        }
        problems
    }

    /// How detectors fit and score.
    pub fn plan(&self) -> ScoringPlan {
        match self.plan {
            PlanName::Split => ScoringPlan::SplitShare { train_share: self.train_share },
            PlanName::CrossFitted => ScoringPlan::CrossFitted { block: self.block_steps },
            PlanName::InSample => ScoringPlan::InSample,
        }
    }
}

/// `[ensemble]`: who is in it, and how they combine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EnsembleSection {
    pub members: Vec<DetectorName>,
    /// Weights of members; 1 for those not named. A weight may wait for a member that is left out.
    /// With weight 0 a member is watched: it has its columns and figures, and no say.
    pub weights: BTreeMap<DetectorName, f64>,
    /// Strategy and its parameters.
    pub combination: EnsembleParams,
}

impl Default for EnsembleSection {
    fn default() -> Self {
        Self {
            members: vec![
                DetectorName::Nb2,
                DetectorName::SeasonalProfile,
                DetectorName::LstmAutoencoder,
            ],
            weights: BTreeMap::new(),
            combination: EnsembleParams::default(),
        }
    }
}

impl EnsembleSection {
    pub(super) fn check(&self) -> Problems {
        let mut problems = Vec::new();
        if self.members.is_empty() {
            problems.push(problem("members", "name at least one detector"));
        }
        for (i, name) in self.members.iter().enumerate() {
            if self.members[..i].contains(name) {
                problems.push(problem("members", format!("`{name}` comes twice")));
            }
        }
        for (name, weight) in &self.weights {
            if !(weight.is_finite() && *weight >= 0.0) {
                problems
                    .push(problem(&format!("weights.{name}"), "must be 0 or a positive number"));
            }
        }
        let silent = |name| self.weights.get(name) == Some(&0.0);
        if !self.members.is_empty() && self.members.iter().all(silent) {
            problems.push(problem("weights", "leave at least one member a weight above 0"));
        }
        let inner = self.combination.check();
        problems.extend(inner.into_iter().map(|(key, text)| (format!("combination.{key}"), text)));
        problems
    }
}

/// `[report]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReportSection {
    /// Charts of the top series of each level.
    pub top: usize,
    /// `png | svg | both`.
    pub format: ChartFormat,
}

impl Default for ReportSection {
    fn default() -> Self {
        Self { top: 10, format: ChartFormat::Png }
    }
}

impl ReportSection {
    pub(super) fn check(&self) -> Problems {
        if self.top > 1_000 {
            return vec![problem("top", "must be at most 1000: each is a picture")];
        }
        Vec::new()
    }
}
