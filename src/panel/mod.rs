//! Many series on one regular calendar.
//!
//! A [`Panel`] is what every detector sees: `values[series, time, metric]`, contiguous, with
//! `NaN` for what is missing, and for each series the span of steps in which it exists at all.
//! For event counts a step without rows is a zero, not a gap: zeros are filled inside the span.

mod aggregate;
mod calendar;
mod edges;
mod error;
mod records;

pub use aggregate::{AggregationPlan, Aggregator, Duplicates, Scope, SpanRule, TIME_COLUMN};
pub use calendar::{Calendar, Local, Step, bucket_start, clock_secs, label, to_civil_secs};
pub use edges::{CutEdge, Edges};
pub use error::BuildError;
pub use records::{MISSING_WORD, RecordBlock, WordColumn};

use std::{collections::HashMap, fmt, ops::Range};

use ndarray::{Array3, ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

/// The values of the level's id columns that name one series, in the level's column order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SeriesKey(pub Vec<String>);

impl fmt::Display for SeriesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" / "))
    }
}

/// A list of id columns to aggregate by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// Short name, used in file names: `key`, `pair`, `brand`.
    pub name: String,
    pub id_columns: Vec<String>,
}

/// How a metric's values behave, which decides how gaps and variances are treated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum MetricKind {
    /// A number of events per step: summed, a step without rows is 0.
    Count,
    /// A sum over a step that is no count (revenue): summed, a step without rows is 0.
    Amount,
    /// A measurement (temperature, latency): averaged, a step without rows is missing.
    Measure,
    /// `numerator / denominator`, two other metrics of the panel; missing where the denominator is 0.
    Ratio { numerator: String, denominator: String },
}

/// One metric of a panel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    pub name: String,
    #[serde(flatten)]
    pub kind: MetricKind,
}

/// Many series on one regular calendar.
#[derive(Clone, Debug)]
pub struct Panel {
    level: Level,
    calendar: Calendar,
    metrics: Vec<Metric>,
    keys: Vec<SeriesKey>,
    spans: Vec<Range<usize>>,
    values: Array3<f64>,
    index: HashMap<SeriesKey, usize>,
}

impl Panel {
    /// Builds a panel from `values[series, time, metric]`. Values outside a series' span become NaN.
    ///
    /// # Errors
    /// When the shape does not fit the keys, calendar, metrics and spans, or a key comes twice.
    pub fn new(
        level: Level,
        calendar: Calendar,
        metrics: Vec<Metric>,
        keys: Vec<SeriesKey>,
        spans: Vec<Range<usize>>,
        mut values: Array3<f64>,
    ) -> Result<Self, BuildError> {
        if values.dim() != (keys.len(), calendar.len(), metrics.len()) || spans.len() != keys.len()
        {
            return Err(BuildError::Shape {
                found: values.dim(),
                expected: (keys.len(), calendar.len(), metrics.len()),
            });
        }
        let mut index = HashMap::with_capacity(keys.len());
        for (i, key) in keys.iter().enumerate() {
            if index.insert(key.clone(), i).is_some() {
                return Err(BuildError::DuplicateKey(key.to_string()));
            }
        }
        let len = calendar.len();
        for (mut series, span) in values.outer_iter_mut().zip(&spans) {
            for t in (0..span.start.min(len)).chain(span.end.min(len)..len) {
                series.row_mut(t).fill(f64::NAN);
            }
        }
        Ok(Self { level, calendar, metrics, keys, spans, values, index })
    }

    /// The same series, steps and metrics with other values.
    ///
    /// # Errors
    /// When `values` has another shape.
    pub fn with_values(&self, values: Array3<f64>) -> Result<Self, BuildError> {
        Self::new(
            self.level.clone(),
            self.calendar.clone(),
            self.metrics.clone(),
            self.keys.clone(),
            self.spans.clone(),
            values,
        )
    }

    pub fn level(&self) -> &Level {
        &self.level
    }
    pub fn calendar(&self) -> &Calendar {
        &self.calendar
    }
    pub fn metrics(&self) -> &[Metric] {
        &self.metrics
    }
    pub fn keys(&self) -> &[SeriesKey] {
        &self.keys
    }
    /// Number of series.
    pub fn n_series(&self) -> usize {
        self.keys.len()
    }
    /// Number of steps.
    pub fn n_times(&self) -> usize {
        self.calendar.len()
    }
    pub fn n_metrics(&self) -> usize {
        self.metrics.len()
    }
    /// The steps in which the series exists.
    pub fn span(&self, series: usize) -> Range<usize> {
        self.spans[series].clone()
    }
    /// All values, `[series, time, metric]`.
    pub fn values(&self) -> &Array3<f64> {
        &self.values
    }
    /// One series, `[time, metric]`.
    pub fn series(&self, series: usize) -> ArrayView2<'_, f64> {
        self.values.index_axis(ndarray::Axis(0), series)
    }
    /// One metric of one series, `[time]`.
    pub fn metric(&self, series: usize, metric: usize) -> ArrayView1<'_, f64> {
        self.values.slice(ndarray::s![series, .., metric])
    }
    /// The place of a series by its key.
    pub fn find(&self, key: &SeriesKey) -> Option<usize> {
        self.index.get(key).copied()
    }
    /// The place of a metric by its name.
    pub fn find_metric(&self, name: &str) -> Option<usize> {
        self.metrics.iter().position(|m| m.name == name)
    }
    /// For a ratio metric, the places of its numerator and denominator.
    pub fn ratio_parts(&self, metric: usize) -> Option<(usize, usize)> {
        match &self.metrics[metric].kind {
            MetricKind::Ratio { numerator, denominator } => {
                Some((self.find_metric(numerator)?, self.find_metric(denominator)?))
            }
            _ => None,
        }
    }
}
