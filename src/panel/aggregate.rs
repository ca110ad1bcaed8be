//! Raw rows -> panels, in one pass and in memory bounded by the number of filled cells.
//!
//! Rows come in batches (polars frames) in any order. Each is added to its cell of the finest
//! aggregation; every level is then rolled up from there, so that 20 million events are read once.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use jiff::tz::TimeZone;
use ndarray::{Array2, Array3};
use polars::prelude::{DataFrame, PolarsError};
use serde::{Deserialize, Serialize};

use super::{
    Calendar, Level, Metric, MetricKind, Panel, SeriesKey, Step, calendar::bucket_start,
    clock_secs, label,
};

/// Name of the frame column that holds the time of a row, in UTC epoch seconds (`Int64`).
pub const TIME_COLUMN: &str = "__time";

/// More cells than this in one panel are taken for a mistake in the data (a year 0202, say).
const MAX_CELLS: usize = 400_000_000;

/// A longer calendar of which hardly any step has a row is taken for a stray date.
const MIN_SPARSE_STEPS: usize = 500;

/// Why rows or arrays do not make a panel.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("values have the shape {found:?}, the keys, calendar and metrics ask for {expected:?}")]
    Shape { found: (usize, usize, usize), expected: (usize, usize, usize) },
    #[error("the series `{0}` comes twice")]
    DuplicateKey(String),
    #[error("no usable row: nothing to build a panel from")]
    Empty,
    #[error(
        "{series} series from {first} to {last} make {cells} cells, more than {MAX_CELLS}: check the time column for wrong years, take a longer step, or limit the scope with --max-pairs and --max-keys"
    )]
    TooLarge { series: usize, first: String, last: String, cells: usize },
    #[error(
        "only {filled} of the {len} steps from {first} to {last} have any row: check the time column for a wrong year (sort the rows by time and look at both ends), or take a longer step"
    )]
    Sparse { filled: usize, len: usize, first: String, last: String },
    #[error("the ratio `{metric}` needs the metric `{part}`, which is not in the panel")]
    RatioPart { metric: String, part: String },
    #[error("the level `{level}` needs the id column `{column}`, which the rows do not have")]
    LevelColumn { level: String, column: String },
    #[error(transparent)]
    Frame(#[from] PolarsError),
}

/// What two rows for the same cell mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Duplicates {
    /// They are both part of the cell (raw events, finer-grained rows).
    Combine,
    /// The second is a mistake: rows are already aggregated.
    Reject,
}

/// From when to when a series exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpanRule {
    /// The whole calendar: a key without rows had none to count.
    Calendar,
    /// From its first row to the end of the calendar.
    FirstSeen,
    /// From its first to its last row.
    Observed,
}

/// How rows become cells.
#[derive(Clone, Debug)]
pub struct AggregationPlan {
    pub step: Step,
    pub time_zone: TimeZone,
    /// Every id column that any level uses.
    pub id_columns: Vec<String>,
    pub metrics: Vec<Metric>,
    pub duplicates: Duplicates,
    pub spans: SpanRule,
    /// A row without a value for a metric means that nobody measured it. False for long data, where
    /// a row speaks of one metric only.
    pub blank_is_missing: bool,
}

/// Limits to the largest groups and series, by the sum of the first metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Keep this many groups of the coarsest level.
    pub max_pairs: Option<usize>,
    /// Keep this many series in each group.
    pub max_keys: Option<usize>,
}

#[derive(Clone, Copy, Default)]
struct Cell {
    sum: f64,
    n: u32,
}

/// Adds up rows.
pub struct Aggregator {
    plan: AggregationPlan,
    /// Places in `plan.metrics` of the metrics that rows carry (ratios are derived).
    carried: Vec<usize>,
    dictionaries: Vec<HashMap<String, u32>>,
    series: HashMap<Vec<u32>, u32>,
    keys: Vec<SeriesKey>,
    slots: HashMap<(u32, i64), u32>,
    /// `carried.len()` cells per slot.
    cells: Vec<Cell>,
    n_rows: u64,
}

impl Aggregator {
    pub fn new(plan: AggregationPlan) -> Self {
        let carried = plan
            .metrics
            .iter()
            .enumerate()
            .filter(|(_, metric)| !matches!(metric.kind, MetricKind::Ratio { .. }))
            .map(|(i, _)| i)
            .collect();
        Self {
            dictionaries: vec![HashMap::new(); plan.id_columns.len()],
            carried,
            plan,
            series: HashMap::new(),
            keys: Vec::new(),
            slots: HashMap::new(),
            cells: Vec::new(),
            n_rows: 0,
        }
    }

    /// Rows taken so far.
    pub fn n_rows(&self) -> u64 {
        self.n_rows
    }

    /// Adds a frame: the id columns as `String`, [`TIME_COLUMN`] as `Int64`, every carried metric
    /// as `Float64` under its name (null or NaN: missing). Returns the places of the rows that it
    /// refused as duplicates.
    ///
    /// # Errors
    /// When a column is missing or has another type.
    pub fn push(&mut self, frame: &DataFrame) -> Result<Vec<usize>, BuildError> {
        let times = frame.column(TIME_COLUMN)?.i64()?;
        let ids = self
            .plan
            .id_columns
            .iter()
            .map(|name| frame.column(name)?.str())
            .collect::<Result<Vec<_>, PolarsError>>()?;
        let values = self
            .carried
            .iter()
            .map(|&m| frame.column(&self.plan.metrics[m].name)?.f64())
            .collect::<Result<Vec<_>, PolarsError>>()?;
        let mut refused = Vec::new();
        let mut codes = vec![0_u32; ids.len()];
        let mut row_values: Vec<Option<f64>> = Vec::with_capacity(values.len());
        let mut id_rows: Vec<_> = ids.iter().map(|column| column.iter()).collect();
        let mut value_rows: Vec<_> = values.iter().map(|column| column.iter()).collect();
        for (row, time) in times.iter().enumerate() {
            for ((code, column), dictionary) in
                codes.iter_mut().zip(&mut id_rows).zip(&mut self.dictionaries)
            {
                *code = encode(dictionary, column.next().flatten().unwrap_or(""));
            }
            let series = match self.series.get(&codes) {
                Some(&series) => series,
                None => self.new_series(&codes, &ids, row),
            };
            let clock = clock_secs(self.plan.step, time.unwrap_or(0), &self.plan.time_zone);
            let start = bucket_start(self.plan.step, clock);
            let width = self.carried.len();
            let next = (self.cells.len() / width.max(1)) as u32;
            let slot = *self.slots.entry((series, start)).or_insert(next);
            if slot == next {
                self.cells.resize(self.cells.len() + width, Cell::default());
            }
            row_values.clear();
            row_values
                .extend(value_rows.iter_mut().map(|c| c.next().flatten().filter(|v| !v.is_nan())));
            let cells = &mut self.cells[slot as usize * width..][..width];
            // By metric, because in long data each metric of a cell has a row of its own.
            let taken = cells.iter().zip(&row_values).any(|(cell, v)| v.is_some() && cell.n > 0);
            let keep = self.plan.duplicates == Duplicates::Combine || !taken;
            if !keep {
                refused.push(row);
            }
            for (cell, value) in cells.iter_mut().zip(&row_values).filter(|_| keep) {
                if let Some(value) = value {
                    cell.sum += value;
                    cell.n += 1;
                }
            }
            self.n_rows += u64::from(keep);
        }
        Ok(refused)
    }

    fn new_series(
        &mut self,
        codes: &[u32],
        ids: &[&polars::prelude::StringChunked],
        row: usize,
    ) -> u32 {
        let place = self.keys.len() as u32;
        self.series.insert(codes.to_vec(), place);
        self.keys.push(SeriesKey(
            ids.iter().map(|column| column.get(row).unwrap_or("").to_string()).collect(),
        ));
        place
    }

    /// Rolls the rows up to one level. Series are sorted by key.
    ///
    /// # Errors
    /// When there is no row, the level or a ratio names what is not there, or the panel would be
    /// absurdly large.
    pub fn build(&self, level: &Level, groups: &Level, scope: Scope) -> Result<Panel, BuildError> {
        let columns = self.columns_of(level)?;
        // A group's total is of all its keys, however few of them are looked at one by one.
        let is_group = level.id_columns.len() <= groups.id_columns.len();
        let scope = if is_group { Scope { max_keys: None, ..scope } } else { scope };
        let kept = self.in_scope(&self.columns_of(groups)?, scope);
        let (first, last) = self
            .slots
            .keys()
            .map(|&(_, start)| (start, start))
            .reduce(|(lo, hi), (start, _)| (lo.min(start), hi.max(start)))
            .ok_or(BuildError::Empty)?;
        let step = self.plan.step;
        let len = ((last - first) / step.secs() + 1) as usize;
        let filled = self.slots.keys().map(|&(_, start)| start).collect::<HashSet<_>>().len();
        if len > MIN_SPARSE_STEPS && filled * 20 < len {
            return Err(BuildError::Sparse {
                filled,
                len,
                first: label(step, first),
                last: label(step, last),
            });
        }

        let mut keys: Vec<SeriesKey> = self
            .keys
            .iter()
            .zip(&kept)
            .filter(|(_, kept)| **kept)
            .map(|(key, _)| project(key, &columns))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let n_metrics = self.plan.metrics.len();
        let cells = keys.len().saturating_mul(len).saturating_mul(n_metrics);
        if cells > MAX_CELLS {
            return Err(BuildError::TooLarge {
                series: keys.len(),
                first: label(step, first),
                last: label(step, last),
                cells,
            });
        }
        let target: Vec<Option<usize>> = self
            .keys
            .iter()
            .zip(&kept)
            .map(|(key, kept)| {
                kept.then(|| keys.binary_search(&project(key, &columns)).ok()).flatten()
            })
            .collect();

        let mut sums = Array3::<f64>::zeros((keys.len(), len, n_metrics));
        let mut counts = Array3::<u32>::zeros(sums.raw_dim());
        let mut touched = Array2::from_elem((keys.len(), len), false);
        let mut seen: Vec<Range<usize>> = vec![len..0; keys.len()];
        let width = self.carried.len();
        for (&(series, start), &slot) in &self.slots {
            let Some(place) = target[series as usize] else { continue };
            let t = ((start - first) / step.secs()) as usize;
            touched[[place, t]] = true;
            let span = &mut seen[place];
            *span = span.start.min(t)..span.end.max(t + 1);
            for (i, &metric) in self.carried.iter().enumerate() {
                let cell = self.cells[slot as usize * width + i];
                sums[[place, t, metric]] += cell.sum;
                counts[[place, t, metric]] += cell.n;
            }
        }
        if self.plan.blank_is_missing {
            for &metric in &self.carried {
                for ((place, t), _) in touched.indexed_iter().filter(|(_, touched)| **touched) {
                    if counts[[place, t, metric]] == 0 {
                        sums[[place, t, metric]] = f64::NAN;
                    }
                }
            }
        }
        self.finish_values(&mut sums, &counts)?;
        let spans = match self.plan.spans {
            SpanRule::Calendar => vec![0..len; keys.len()],
            SpanRule::FirstSeen => seen.into_iter().map(|span| span.start..len).collect(),
            SpanRule::Observed => seen,
        };
        let calendar = Calendar::new(step, first, len, self.plan.time_zone.clone());
        Panel::new(level.clone(), calendar, self.plan.metrics.clone(), keys, spans, sums)
    }

    /// Sums -> values: means for measures, NaN for what nobody measured, quotients for ratios.
    fn finish_values(
        &self,
        sums: &mut Array3<f64>,
        counts: &Array3<u32>,
    ) -> Result<(), BuildError> {
        let metrics = &self.plan.metrics;
        for &metric in &self.carried {
            if metrics[metric].kind == MetricKind::Measure {
                let n = counts.slice(ndarray::s![.., .., metric]);
                let mut sum = sums.slice_mut(ndarray::s![.., .., metric]);
                sum.zip_mut_with(&n, |sum, &n| *sum /= f64::from(n)); // 0/0 is NaN: missing
            }
        }
        let place = |metric: &Metric, part: &String| {
            metrics.iter().position(|m| m.name == *part).ok_or_else(|| BuildError::RatioPart {
                metric: metric.name.clone(),
                part: part.clone(),
            })
        };
        for (m, metric) in metrics.iter().enumerate() {
            if let MetricKind::Ratio { numerator, denominator } = &metric.kind {
                let (top, bottom) = (place(metric, numerator)?, place(metric, denominator)?);
                for mut cell in sums.lanes_mut(ndarray::Axis(2)) {
                    cell[m] = if cell[bottom] > 0.0 { cell[top] / cell[bottom] } else { f64::NAN };
                }
            }
        }
        Ok(())
    }

    fn columns_of(&self, level: &Level) -> Result<Vec<usize>, BuildError> {
        level
            .id_columns
            .iter()
            .map(|name| {
                self.plan.id_columns.iter().position(|c| c == name).ok_or_else(|| {
                    BuildError::LevelColumn { level: level.name.clone(), column: name.clone() }
                })
            })
            .collect()
    }

    /// Which of the finest series the scope keeps.
    fn in_scope(&self, group_columns: &[usize], scope: Scope) -> Vec<bool> {
        if scope == Scope::default() {
            return vec![true; self.keys.len()];
        }
        let width = self.carried.len();
        let mut volume = vec![0.0; self.keys.len()];
        for (&(series, _), &slot) in &self.slots {
            volume[series as usize] += self.cells.get(slot as usize * width).map_or(0.0, |c| c.sum);
        }
        let mut groups: HashMap<SeriesKey, (f64, Vec<usize>)> = HashMap::new();
        for (i, key) in self.keys.iter().enumerate() {
            let group = groups.entry(project(key, group_columns)).or_default();
            group.0 += volume[i];
            group.1.push(i);
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by(|a, b| b.1.0.total_cmp(&a.1.0).then_with(|| a.0.cmp(&b.0)));
        let mut kept = vec![false; self.keys.len()];
        for (_, (_, mut members)) in groups.into_iter().take(scope.max_pairs.unwrap_or(usize::MAX))
        {
            members.sort_by(|&a, &b| {
                volume[b].total_cmp(&volume[a]).then_with(|| self.keys[a].cmp(&self.keys[b]))
            });
            for member in members.into_iter().take(scope.max_keys.unwrap_or(usize::MAX)) {
                kept[member] = true;
            }
        }
        kept
    }
}

fn encode(dictionary: &mut HashMap<String, u32>, text: &str) -> u32 {
    if let Some(&code) = dictionary.get(text) {
        return code;
    }
    let code = dictionary.len() as u32;
    dictionary.insert(text.to_string(), code);
    code
}

fn project(key: &SeriesKey, columns: &[usize]) -> SeriesKey {
    SeriesKey(columns.iter().map(|&c| key.0[c].clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars::prelude::{Column, df};

    fn level(name: &str, columns: &[&str]) -> Level {
        Level { name: name.into(), id_columns: columns.iter().map(|c| c.to_string()).collect() }
    }

    fn plan(metrics: Vec<Metric>, duplicates: Duplicates, spans: SpanRule) -> AggregationPlan {
        AggregationPlan {
            step: Step::Week,
            time_zone: TimeZone::UTC,
            id_columns: vec!["pair".into(), "key".into()],
            metrics,
            duplicates,
            spans,
            blank_is_missing: true,
        }
    }

    fn count(name: &str) -> Metric {
        Metric { name: name.into(), kind: MetricKind::Count }
    }

    fn frame(pair: &[&str], key: &[&str], week: &[i64], value: &[f64]) -> DataFrame {
        let time: Vec<i64> = week.iter().map(|w| w * 604_800 + 345_600).collect(); // Mondays
        df!("pair" => pair, "key" => key, TIME_COLUMN => time, "count" => value).unwrap()
    }

    #[test]
    fn events_are_counted_at_every_level_and_quiet_weeks_are_zero() {
        let mut rows =
            Aggregator::new(plan(vec![count("count")], Duplicates::Combine, SpanRule::Calendar));
        rows.push(&frame(&["p", "p", "q"], &["b", "a", "a"], &[2, 0, 1], &[1.0; 3])).unwrap();
        rows.push(&frame(&["p"], &["a"], &[0], &[1.0])).unwrap();
        let pair = level("pair", &["pair"]);
        let keys = rows.build(&level("key", &["pair", "key"]), &pair, Scope::default()).unwrap();
        assert_eq!(keys.n_series(), 3);
        assert_eq!(keys.metric(0, 0).to_vec(), [2.0, 0.0, 0.0]);
        let pairs = rows.build(&pair, &pair, Scope::default()).unwrap();
        assert_eq!(pairs.metric(0, 0).to_vec(), [2.0, 0.0, 1.0]);
        assert_eq!(rows.n_rows(), 4);
    }

    #[test]
    fn a_second_row_for_an_aggregated_cell_is_refused() {
        let mut rows =
            Aggregator::new(plan(vec![count("count")], Duplicates::Reject, SpanRule::Observed));
        let refused = rows.push(&frame(&["p", "p"], &["a", "a"], &[0, 0], &[5.0, 7.0])).unwrap();
        assert_eq!(refused, [1]);
        let level = level("key", &["pair", "key"]);
        assert_eq!(rows.build(&level, &level, Scope::default()).unwrap().metric(0, 0)[0], 5.0);
    }

    #[test]
    fn long_rows_of_two_metrics_share_a_cell_without_being_duplicates() {
        let mut plan =
            plan(vec![count("count"), count("other")], Duplicates::Reject, SpanRule::Observed);
        plan.blank_is_missing = false;
        let mut rows = Aggregator::new(plan);
        let nan = f64::NAN;
        let frame = df!(
            "pair" => ["p", "p", "p"], "key" => ["a", "a", "a"], TIME_COLUMN => [345_600_i64; 3],
            "count" => [5.0, nan, 6.0], "other" => [nan, 7.0, nan]
        )
        .unwrap();
        assert_eq!(rows.push(&frame).unwrap(), [2]);
        let level = level("key", &["pair", "key"]);
        let panel = rows.build(&level, &level, Scope::default()).unwrap();
        assert_eq!(panel.series(0).row(0).to_vec(), [5.0, 7.0]);
    }

    #[test]
    fn measures_are_averaged_and_gaps_stay_missing() {
        let metric = Metric { name: "count".into(), kind: MetricKind::Measure };
        let mut rows =
            Aggregator::new(plan(vec![metric], Duplicates::Combine, SpanRule::FirstSeen));
        rows.push(&frame(&["p"; 3], &["a", "a", "b"], &[1, 1, 3], &[2.0, 4.0, 1.0])).unwrap();
        let level = level("key", &["pair", "key"]);
        let panel = rows.build(&level, &level, Scope::default()).unwrap();
        assert_eq!(panel.metric(0, 0)[0], 3.0);
        assert!(panel.metric(0, 0)[1].is_nan());
        assert_eq!(panel.span(1), 2..3);
    }

    #[test]
    fn a_blank_count_is_missing_and_a_week_without_rows_is_zero() {
        let mut rows =
            Aggregator::new(plan(vec![count("count")], Duplicates::Combine, SpanRule::Calendar));
        rows.push(&frame(&["p", "p"], &["a", "a"], &[0, 2], &[f64::NAN, 3.0])).unwrap();
        let level = level("key", &["pair", "key"]);
        let panel = rows.build(&level, &level, Scope::default()).unwrap();
        assert!(panel.metric(0, 0)[0].is_nan());
        assert_eq!(panel.metric(0, 0).to_vec()[1..], [0.0, 3.0]);
    }

    #[test]
    fn limiting_the_keys_leaves_the_total_of_their_pair() {
        let mut rows =
            Aggregator::new(plan(vec![count("count")], Duplicates::Combine, SpanRule::Calendar));
        rows.push(&frame(&["p", "p"], &["a", "b"], &[0; 2], &[1.0, 5.0])).unwrap();
        let scope = Scope { max_pairs: None, max_keys: Some(1) };
        let pair = level("pair", &["pair"]);
        assert_eq!(rows.build(&pair, &pair, scope).unwrap().metric(0, 0)[0], 6.0);
        assert_eq!(
            rows.build(&level("key", &["pair", "key"]), &pair, scope).unwrap().n_series(),
            1
        );
    }

    #[test]
    fn a_stray_date_is_an_error_that_names_both_ends() {
        let mut rows =
            Aggregator::new(plan(vec![count("count")], Duplicates::Combine, SpanRule::Calendar));
        rows.push(&frame(&["p", "p"], &["a", "a"], &[0, 2_900], &[1.0; 2])).unwrap();
        let level = level("key", &["pair", "key"]);
        let error = rows.build(&level, &level, Scope::default()).unwrap_err().to_string();
        assert!(error.contains("1970-01-05") && error.contains("2025-08-04"), "{error}");
    }

    #[test]
    fn the_scope_keeps_the_largest() {
        let mut rows =
            Aggregator::new(plan(vec![count("count")], Duplicates::Combine, SpanRule::Calendar));
        rows.push(&frame(&["p", "p", "q"], &["a", "b", "c"], &[0; 3], &[1.0, 5.0, 3.0])).unwrap();
        let scope = Scope { max_pairs: Some(1), max_keys: Some(1) };
        let panel =
            rows.build(&level("key", &["pair", "key"]), &level("pair", &["pair"]), scope).unwrap();
        assert_eq!(panel.keys(), [SeriesKey(vec!["p".into(), "b".into()])]);
    }

    #[test]
    fn a_ratio_without_its_denominator_is_missing() {
        let ratio = Metric {
            name: "rate".into(),
            kind: MetricKind::Ratio { numerator: "count".into(), denominator: "count".into() },
        };
        let plan = plan(vec![count("count"), ratio], Duplicates::Combine, SpanRule::Calendar);
        let mut rows = Aggregator::new(plan);
        rows.push(&frame(&["p", "p"], &["a", "a"], &[0, 1], &[4.0, 0.0])).unwrap();
        let level = level("key", &["pair", "key"]);
        let panel = rows.build(&level, &level, Scope::default()).unwrap();
        assert_eq!(panel.metric(0, 1)[0], 1.0);
        assert!(panel.metric(0, 1)[1].is_nan());
    }

    #[test]
    fn a_missing_column_is_an_error() {
        let mut rows =
            Aggregator::new(plan(vec![count("count")], Duplicates::Combine, SpanRule::Calendar));
        let frame = DataFrame::new_infer_height(vec![Column::new("pair".into(), ["p"])]).unwrap();
        assert!(rows.push(&frame).is_err());
    }
}
