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
    BuildError, Calendar, CutEdge, Edges, Level, Metric, MetricKind, Panel, SeriesKey, Step,
    calendar::bucket_start, clock_secs, edges::Extents, error::MAX_CELLS, label,
};

/// Name of the frame column that holds the time of a row, in UTC epoch seconds (`Int64`).
pub const TIME_COLUMN: &str = "__time";

/// A longer calendar of which hardly any step has a row is taken for a stray date.
const MIN_SPARSE_STEPS: usize = 500;

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
    pub edges: Edges,
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
    extents: Extents,
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
            extents: Extents::default(),
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
    /// When a column is missing or has another type, or a row has no time.
    pub fn push(&mut self, frame: &DataFrame) -> Result<Vec<usize>, BuildError> {
        let times = frame.column(TIME_COLUMN)?.i64()?;
        if times.null_count() > 0 {
            return Err(BuildError::NoTime);
        }
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
            if self.plan.edges == Edges::Trim {
                self.extents.see(start, clock);
            }
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

    /// The first and the last step, where [`build`](Self::build) leaves them out.
    pub fn cut_edges(&self) -> Vec<CutEdge> {
        self.extents.cut(self.plan.step)
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
        let cut: Vec<i64> = self.cut_edges().into_iter().map(|edge| edge.start).collect();
        let starts = || self.slots.keys().map(|&(_, start)| start).filter(|s| !cut.contains(s));
        let (first, last) = starts()
            .map(|start| (start, start))
            .reduce(|(lo, hi), (start, _)| (lo.min(start), hi.max(start)))
            .ok_or(BuildError::Empty)?;
        let step = self.plan.step;
        let len = ((last - first) / step.secs() + 1) as usize;
        let filled = starts().collect::<HashSet<_>>().len();
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
            let Some(place) = target[series as usize].filter(|_| !cut.contains(&start)) else {
                continue;
            };
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
mod tests;
