//! What to read: files, their layout, and which column means what.

use std::collections::HashSet;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// What the files are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Each file says so itself, by name and first bytes, which must agree.
    #[default]
    Auto,
    Csv,
    Parquet,
}

/// How rows carry metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Layout {
    /// A row is one event of the only metric and weighs 1, or what `value_column` says.
    Events {
        #[serde(default)]
        value_column: Option<String>,
    },
    /// One column per metric.
    Wide,
    /// One row per metric: its name in one column, its value in another (without one: 1). Rows
    /// with a name that no metric has are left out.
    Long {
        metric_column: String,
        #[serde(default)]
        value_column: Option<String>,
    },
}

/// How the text or number in the time column is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TimeFormat {
    /// ISO 8601 dates and times with or without an offset, and ISO weeks (`2025-W07`).
    #[default]
    Auto,
    /// Seconds since 1970-01-01 UTC.
    EpochSeconds,
    /// Milliseconds since 1970-01-01 UTC.
    EpochMillis,
    /// A `strptime` pattern, `%d.%m.%Y %H:%M` say.
    Custom(String),
}

impl TryFrom<String> for TimeFormat {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "auto" => Ok(Self::Auto),
            "epoch_seconds" => Ok(Self::EpochSeconds),
            "epoch_millis" => Ok(Self::EpochMillis),
            custom if custom.contains('%') => Ok(Self::Custom(text)),
            _ => Err(format!(
                "`{text}` is not a time format: write \"auto\", \"epoch_seconds\", \"epoch_millis\" or a pattern such as \"%d.%m.%Y %H:%M\""
            )),
        }
    }
}

impl From<TimeFormat> for String {
    fn from(format: TimeFormat) -> String {
        match format {
            TimeFormat::Auto => "auto".into(),
            TimeFormat::EpochSeconds => "epoch_seconds".into(),
            TimeFormat::EpochMillis => "epoch_millis".into(),
            TimeFormat::Custom(pattern) => pattern,
        }
    }
}

/// What a wall-clock time means that a change of the clocks made to come twice or not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AmbiguousTime {
    /// The first of the two.
    #[default]
    Earlier,
    /// The second of the two.
    Later,
    /// The row is rejected.
    Reject,
}

/// Where one id column of the panel comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdColumn {
    /// Its name in the panel.
    pub name: String,
    /// The file's column; without one, the column of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// One value for every row, for data that have no such column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

impl IdColumn {
    /// The column `name`, under the same name.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), column: None, value: None }
    }

    /// The file's column.
    pub fn source(&self) -> &str {
        self.column.as_deref().unwrap_or(&self.name)
    }
}

/// Where one metric that rows carry comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricColumn {
    /// Its name in the panel.
    pub name: String,
    /// [`Layout::Wide`]: the file's column; [`Layout::Long`]: its name in the metric column.
    /// Without one, the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// A count cannot be negative: a row that says so is rejected.
    #[serde(default)]
    pub count: bool,
}

impl MetricColumn {
    /// The file's column, or the metric's name in the metric column.
    pub fn source(&self) -> &str {
        self.column.as_deref().unwrap_or(&self.name)
    }
}

/// Keeps the rows whose `column` holds one of `values`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    pub column: String,
    pub values: Vec<String>,
}

/// What to read and how.
#[derive(Clone, Debug)]
pub struct SourceSpec {
    /// A file, a glob, or a folder (read with its subfolders; `column=value` folders add columns).
    pub pattern: String,
    pub format: Format,
    /// Of CSV files. `None`: the one of `,` `;` `|` and tab that fits the header.
    pub delimiter: Option<u8>,
    pub layout: Layout,
    pub time_column: String,
    pub time_format: TimeFormat,
    /// The clock of times that carry no offset.
    pub time_zone: TimeZone,
    pub ambiguous_time: AmbiguousTime,
    pub id_columns: Vec<IdColumn>,
    /// Names of id columns that a row may leave empty; without a value in another it is rejected.
    pub optional_ids: Vec<String>,
    /// The metrics that rows carry (ratios are derived later).
    pub metrics: Vec<MetricColumn>,
    /// All of them must hold.
    pub filters: Vec<Filter>,
    /// Between 0 and 1. Reading stops when more of the rows were rejected.
    pub max_rejected_share: f64,
}

impl SourceSpec {
    /// A spec with the default for everything that has one.
    pub fn new(pattern: impl Into<String>, time_column: impl Into<String>, layout: Layout) -> Self {
        Self {
            pattern: pattern.into(),
            format: Format::Auto,
            delimiter: None,
            layout,
            time_column: time_column.into(),
            time_format: TimeFormat::Auto,
            time_zone: TimeZone::UTC,
            ambiguous_time: AmbiguousTime::Earlier,
            id_columns: Vec::new(),
            optional_ids: Vec::new(),
            metrics: Vec::new(),
            filters: Vec::new(),
            max_rejected_share: 0.01,
        }
    }

    /// Every problem that can be seen without the data, as (key, message).
    pub fn check(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut add = |key: &str, text: String| problems.push((key.to_string(), text));
        if self.pattern.trim().is_empty() {
            add("pattern", "is empty; give a file, a glob or a folder".into());
        }
        if self.time_column.is_empty() {
            add("time_column", "is empty; name the column that holds the time".into());
        }
        if !(0.0..=1.0).contains(&self.max_rejected_share) {
            add(
                "max_rejected_share",
                format!("is {}; take a share from 0 to 1", self.max_rejected_share),
            );
        }
        if let Some(byte) = self.delimiter
            && (!byte.is_ascii() || matches!(byte, b'"' | b'\n' | b'\r' | 0))
        {
            add("delimiter", "must be one ASCII character, no quote and no line end".into());
        }
        let mut names = HashSet::new();
        let ids = self.id_columns.iter().map(|id| &id.name);
        for name in ids.chain(self.metrics.iter().map(|metric| &metric.name)) {
            if name == crate::panel::TIME_COLUMN {
                add("id_columns", format!("`{name}` is a reserved name; take another"));
            } else if !names.insert(name) {
                add("id_columns", format!("the name `{name}` is used twice; names must differ"));
            }
        }
        for id in &self.id_columns {
            if id.column.is_some() && id.value.is_some() {
                add("id_columns", format!("`{}` has a column and a value; keep one", id.name));
            }
            if id.value.as_deref() == Some("") {
                add("id_columns", format!("`{}` has an empty value; give it one", id.name));
            }
        }
        if self.metrics.is_empty() {
            add("metrics", "there is none; name at least one metric".into());
        }
        if matches!(self.layout, Layout::Events { .. }) && self.metrics.len() > 1 {
            add(
                "metrics",
                format!(
                    "the layout `events` carries one metric, not {}; use `wide` or `long`",
                    self.metrics.len()
                ),
            );
        }
        for filter in self.filters.iter().filter(|filter| filter.values.is_empty()) {
            add("filters", format!("`{}` allows no value; name at least one", filter.column));
        }
        problems
    }
}
